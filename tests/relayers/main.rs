//! Relayers over real chains, real databases and stub parties: nothing is lost, nothing is paid twice.
//!
//! `cargo test --workspace --test relayers -- NAME` runs the tests whose name contains NAME. With `KMS_TEST_POSTGRES` set
//! (`script/with-postgres`) the relayers keep their jobs in PostgreSQL, without it in SQLite.

mod basics;
mod books;
mod doomed;
mod endpoints;
mod kills;
mod load;
mod races;
mod reorgs;
mod ticker;

use std::{process::ExitCode, time::Duration};

use kms_tests::{harness, tests};

/// No test may hang the run: seconds that each may take, unless `KMS_TEST_PATIENCE` says more.
const PATIENCE: u64 = 600;

const TESTS: &[harness::Test] = tests![
    basics::requests_are_answered_once_and_paid_once,
    basics::parties_that_are_down_slow_lying_or_not_ready_are_worked_around,
    basics::one_relayer_serves_two_chains,
    endpoints::an_endpoint_that_misbehaves_in_turns_costs_nothing_but_time,
    endpoints::the_first_endpoint_is_gone_for_good_and_then_all_are_gone_for_a_while,
    endpoints::another_chain_behind_the_endpoint_is_none_of_ours,
    reorgs::of_every_depth_over_requests_and_fulfilments,
    reorgs::while_the_relayer_is_cut_off_and_while_it_is_down,
    load::a_thousand_requests_at_once,
    load::so_many_a_second_for_a_while,
    kills::at_every_commit_once,
    kills::at_any_moment,
    races::three_relayers_on_one_database_share_the_work,
    races::on_one_database_any_of_three_may_die_at_any_time,
    races::on_one_database_and_account_any_of_three_may_die_at_any_time,
    races::three_rivals_pay_once_for_each_answer,
    races::any_of_three_rivals_may_die_at_any_time,
];

/// A number from the environment, for longer forms of a test.
fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn main() -> ExitCode {
    if let Some(end) = doomed::called() {
        return end;
    }
    harness::main(TESTS, Duration::from_secs(number("KMS_TEST_PATIENCE", PATIENCE)))
}
