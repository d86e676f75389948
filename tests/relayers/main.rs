//! Relayers over real chains, real databases and stub parties: nothing is lost, nothing is paid twice.
//!
//! `cargo test --workspace --test relayers -- NAME` runs the tests whose name contains NAME. With `KMS_TEST_POSTGRES` set
//! (`script/with-postgres`) the relayers keep their jobs in PostgreSQL, without it in SQLite.

mod basics;
mod load;

use std::{process::ExitCode, time::Duration};

use kms_tests::{harness, tests};

/// No test may hang the run: seconds that each may take, unless `KMS_TEST_PATIENCE` says more.
const PATIENCE: u64 = 120;

const TESTS: &[harness::Test] = tests![
    basics::requests_are_answered_once_and_paid_once,
    basics::parties_that_are_down_slow_lying_or_not_ready_are_worked_around,
    basics::one_relayer_serves_two_chains,
    load::a_thousand_requests_at_once,
    load::so_many_a_second_for_a_while,
];

fn main() -> ExitCode {
    let patience = std::env::var("KMS_TEST_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(PATIENCE);
    harness::main(TESTS, Duration::from_secs(patience))
}
