//! End-to-end stories over real processes: one deployment, one story after the other.
//!
//! A harness of its own, because a story kills and restarts parts of the deployment that the next one uses, and because the
//! processes must die with the run. `cargo test --workspace --test stories -- NAME` runs the stories whose name contains NAME.

mod bulk;
mod ecosystem;
mod faults;
mod inputs;
mod keygen;
mod kills;
mod liars;
mod network;
mod page;
mod relayed;
mod rogue;
mod setup;
mod traces;
mod user;
mod votes;

use std::{
    future::Future,
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use kms_tests::cluster::{Cluster, Options};

type StoryFuture<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;
type Story = for<'a> fn(&'a mut Cluster) -> StoryFuture<'a>;

/// No story may hang the run.
const PATIENCE: Duration = Duration::from_secs(300);

macro_rules! stories {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), |cluster| Box::pin($module::$name(cluster)))),*]
    };
}

const STORIES: &[(&str, Story)] = stories![
    keygen::the_parties_made_the_key_and_it_decrypts,
    votes::a_vote_is_counted_on_ciphertexts_and_opened_once,
    votes::a_ballot_counts_once_however_often_it_is_posted,
    ecosystem::a_contract_of_the_ecosystem_package_runs_unchanged,
    page::a_program_in_node_encrypts_sends_and_reads,
    page::a_holder_reads_its_balance_in_a_browser,
    inputs::an_input_serves_nobody_but_its_user_contract_and_chain,
    inputs::garbage_is_refused_in_words,
    rogue::a_party_asked_directly_refuses_what_the_chain_does_not_show,
    rogue::a_client_that_is_not_on_the_list_gets_nothing,
    rogue::a_cancelled_request_is_not_started,
    rogue::a_request_for_a_handle_of_another_contract_reverts,
    bulk::every_type_comes_back_as_it_was,
    bulk::a_thousand_and_twenty_four_booleans_fit_one_request,
    faults::one_party_down_and_everything_is_answered,
    faults::two_parties_down_and_requests_wait_until_one_returns,
    liars::a_lying_party_is_outvoted_and_named,
    network::a_cut_link_makes_nobody_wrong_and_mends_itself,
    network::a_party_cut_off_in_the_middle_finishes_when_the_wire_is_mended,
    user::a_balance_is_read_although_one_party_lies_and_another_comes_late,
    user::nobody_else_reads_it_and_what_was_given_is_taken_back,
    user::the_tool_reads_with_a_keystore_wallet,
    relayed::shares_outlive_the_relayer_that_collected_them,
    traces::relayer_and_parties_meet_in_the_trace_of_a_request,
    setup::parties_made_their_pseudorandom_keys_themselves,
    setup::a_party_that_lost_its_pseudorandom_keys_takes_them_over,
    kills::a_killed_relayer_finishes_after_restart,
    kills::a_killed_coprocessor_finishes_after_restart,
    kills::a_killed_party_catches_up,
    keygen::killed_parties_go_on_and_all_come_to_the_same_key,
    keygen::an_aborted_run_never_starts_again_and_a_new_one_does,
    keygen::a_party_that_is_gone_for_good_is_not_missed,
    keygen::a_full_disk_makes_a_party_wait_and_costs_nothing,
    keygen::a_liar_is_named_and_the_key_is_right,
    keygen::two_signed_frames_are_proved_to_anybody,
    keygen::nobody_ever_has_the_key,
];

fn main() -> ExitCode {
    let filter: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if std::env::args().any(|arg| arg == "--list") {
        STORIES.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let chosen: Vec<_> =
        STORIES.iter().filter(|(name, _)| filter.is_empty() || filter.iter().any(|part| name.contains(part))).collect();
    println!("\nrunning {} tests", chosen.len());
    if chosen.is_empty() {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; {} filtered out", STORIES.len());
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(run(&chosen))
}

async fn run(chosen: &[&(&str, Story)]) -> ExitCode {
    let clock = Instant::now();
    let home = match tempfile::Builder::new().prefix("kms-stories-").tempdir() {
        Ok(home) => home,
        Err(error) => {
            eprintln!("no temporary folder: {error}");
            return ExitCode::FAILURE;
        }
    };
    let start = Cluster::start(Options::insecure_test(home.path()), &|line| println!("  {line}")).await;
    let mut cluster = match start {
        Ok(cluster) => cluster,
        Err(error) => {
            println!("test cluster_start ... FAILED\n{error:?}");
            println!("\ntest result: FAILED. 0 passed; {} failed; 0 ignored; 0 measured; 0 filtered out", chosen.len());
            return ExitCode::FAILURE;
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for (name, story) in chosen {
        let begin = Instant::now();
        let outcome = tokio::time::timeout(PATIENCE, story(&mut cluster)).await;
        let seconds = begin.elapsed().as_secs_f64();
        match outcome {
            Ok(Ok(())) => {
                passed += 1;
                println!("test {name} ... ok ({seconds:.1} s)");
            }
            Ok(Err(error)) => {
                failed += 1;
                println!("test {name} ... FAILED ({seconds:.1} s)\n{error:?}");
            }
            Err(_) => {
                failed += 1;
                println!("test {name} ... FAILED (still running after {PATIENCE:?})\n{}", cluster.log_tails(20));
            }
        }
        // A story that failed in the middle may have left something down.
        if let Err(error) = cluster.heal().await {
            println!("the deployment can't be healed after {name}: {error:?}");
        }
    }
    if failed > 0 {
        let kept = home.keep();
        println!("logs stay in {}", kept.join("logs").display());
    }
    let filtered = STORIES.len() - chosen.len();
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {filtered} filtered out; finished in {:.2}s",
        if failed == 0 { "ok" } else { "FAILED" },
        clock.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
