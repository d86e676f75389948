//! Relayers over real chains, real databases and stub parties: nothing is lost, nothing is paid twice.
//!
//! `cargo test --workspace --test relayers -- NAME` runs the tests whose name contains NAME. With `KMS_TEST_POSTGRES` set
//! (`script/with-postgres`) the relayers keep their jobs in PostgreSQL, without it in SQLite.

mod basics;

use std::{process::ExitCode, time::Duration};

use kms_tests::{harness, tests};

/// No test may hang the run.
const PATIENCE: Duration = Duration::from_secs(120);

const TESTS: &[harness::Test] = tests![
    basics::requests_are_answered_once_and_paid_once,
    basics::parties_that_are_down_slow_lying_or_not_ready_are_worked_around,
    basics::one_relayer_serves_two_chains,
];

fn main() -> ExitCode {
    harness::main(TESTS, PATIENCE)
}
