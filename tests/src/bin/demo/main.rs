//! The whole system at work: four parties, a chain, a coprocessor, a relayer, a vote that nobody can look into, and a balance
//! that only its holder reads.

mod token;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use alloy::primitives::{B256, U256};
use anyhow::{Context, Result, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kms_tests::{
    anvil::Role,
    ballot::Encryptor,
    cluster::{Cluster, Options},
    paths, relayer,
    relayer::Timeline,
    vote::{self, Vote},
};
use serde_json::json;

use crate::token::Balance;

#[derive(Debug, Parser)]
#[command(
    about = "Encrypted votes, counted on ciphertexts, the tally opened by four parties; a balance for its holder alone"
)]
struct Args {
    /// Insecure test parameters: everything is quick, nothing is safe.
    #[arg(long)]
    quick: bool,
    /// Leave everything running until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Serve the page on which a holder reads its encrypted balance, and leave everything running until Ctrl-C.
    #[arg(long)]
    page: bool,
}

const VOTES: [bool; 3] = [true, false, true];
/// What the closing pays whoever posts the answer.
const FEE: u64 = 1_000_000_000_000;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match demo(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(args: &Args) -> Result<()> {
    let params = if args.quick { "insecure-test" } else { "production" };
    let home = paths::root().join(".demo").join(params);
    if args.quick {
        // Everything anew, the key too: with these parameters it takes seconds.
        let _ = fs::remove_dir_all(&home);
    } else {
        forget_last_chain(&home)?;
        if !home.join("keygen/public/key.json").exists() {
            println!("The parties have no key yet: they make one together, once, in about a quarter of an hour.");
        }
    }
    println!("A decentralised key management service for FHE: 4 parties, 1 may be malicious, parameters {params}.");
    if args.quick {
        println!(
            "WARNING: these parameters are INSECURE. They show the ways of the data, not the strength of the cryptography."
        );
    }

    let screen = Screen::new();
    let options = Options { params: params.to_owned(), ..Options::insecure_test(&home) };
    let setup = screen.spinner("starting");
    let cluster = Cluster::start(options, &|line| setup.set_message(line.to_owned())).await?;
    setup.done("chain, contracts, four parties, coprocessor and relayer are up");

    let step = screen.spinner("deploying ConfidentialVote");
    let vote = Vote::deploy(&cluster).await?;
    step.done(&format!("ConfidentialVote at {}", vote.address));

    let public_dir = cluster.public_dir();
    let step = screen.spinner("loading the public key and the reference string");
    let encryptor = tokio::task::spawn_blocking(move || Encryptor::load(&public_dir)).await??;
    step.done("public key and reference string loaded");
    for (index, choice) in VOTES.into_iter().enumerate() {
        cast(&screen, &cluster, &vote, &encryptor, index, choice).await?;
    }
    let expected = VOTES.iter().filter(|yes| **yes).count() as u64;

    let step = screen.spinner("closing the vote: the contract asks for the tally's decryption");
    let closed = Instant::now();
    let request_id = vote.close(&cluster, U256::from(FEE)).await?;
    step.done(&format!("decryption requested: {request_id}"));
    let timeline = follow(&screen, &cluster, request_id).await?;
    let tally = vote.wait_for_result(&cluster, Duration::from_secs(60)).await?;

    print_timeline(&timeline);
    ensure!(tally == expected, "the tally is {tally}, expected {expected}");
    println!("\nThe tally is {tally} yes of {}, as expected; no ballot was ever opened.", VOTES.len());
    println!("Closing to callback took {:.1} s.\n", closed.elapsed().as_secs_f64());

    let balance = Balance::show(&screen, &cluster).await?;
    balance.print();
    let mut summary = summary(&cluster, params, request_id, &timeline, tally, expected)?;
    summary["user_decryption"] = balance.summary();
    let path = paths::root().join(".demo/summary.json");
    fs::write(&path, serde_json::to_string_pretty(&summary)? + "\n")?;
    println!("Summary: {}", path.display());
    if args.keep || args.page {
        stay(args, &cluster, &balance).await?;
    }
    Ok(())
}

/// Leaves everything running until Ctrl-C.
async fn stay(args: &Args, cluster: &Cluster, balance: &Balance) -> Result<()> {
    let page = if args.page { Some(balance.serve(cluster).await?) } else { None };
    println!(
        "Relayer {}  coprocessor {}  chain {}  (Ctrl-C ends)",
        cluster.relayer_url,
        cluster.coprocessor_url,
        cluster.anvil.url()
    );
    if let Some(page) = &page {
        println!("\nAlice's page: {}", page.url);
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}

async fn cast(
    screen: &Screen,
    cluster: &Cluster,
    vote: &Vote,
    encryptor: &Encryptor,
    index: usize,
    choice: bool,
) -> Result<()> {
    let voter = Role::Voter(index);
    let user = voter.wallet().address();
    let step = screen.spinner(&format!("voter {}: encrypting and proving", index + 1));
    let clock = Instant::now();
    let acl = cluster.contracts.access_control;
    let (encryptor, contract) = (encryptor.clone(), vote.address);
    let ciphertext = tokio::task::spawn_blocking(move || encryptor.encrypt_bool(choice, acl, contract, user)).await??;
    let proved = clock.elapsed();
    step.say(&format!("voter {}: the coprocessor checks the proof", index + 1));
    let input = vote::post_input(cluster, vote.address, user, &ciphertext).await?;
    step.say(&format!("voter {}: casting", index + 1));
    vote.cast(cluster, voter, &input).await?;
    step.done(&format!(
        "voter {}: encrypted ballot cast ({} bytes, proof made in {:.2} s)",
        index + 1,
        ciphertext.len(),
        proved.as_secs_f64()
    ));
    Ok(())
}

/// Follows the request through the relayer's public timeline, one line per stage.
async fn follow(screen: &Screen, cluster: &Cluster, request_id: B256) -> Result<Timeline> {
    let step = screen.spinner("waiting for the relayer to see the request");
    let deadline = Instant::now() + Duration::from_secs(600);
    let id = request_id.to_string();
    loop {
        if let Ok(Some(timeline)) = relayer::timeline(&cluster.relayer_url, &id).await {
            match timeline.stage.as_str() {
                "done" => {
                    step.done("callback delivered");
                    return Ok(timeline);
                }
                "expired" | "cancelled" | "refused" | "orphaned" => {
                    anyhow::bail!("the request ended as {}: {timeline:#?}", timeline.stage)
                }
                stage => step.say(&match &timeline.waiting_for {
                    Some(waiting) => format!("{stage}: waiting for {waiting}"),
                    None => stage.to_owned(),
                }),
            }
        }
        ensure!(Instant::now() < deadline, "no answer within ten minutes\n{}", cluster.log_tails(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn print_timeline(timeline: &Timeline) {
    println!("\nRequest {}", timeline.request_id);
    let first = timeline.timeline.first().map_or(0, |entry| entry.at);
    for entry in &timeline.timeline {
        println!("  {:>7} ms  {:<11} {}", entry.at - first, entry.stage, entry.detail.as_deref().unwrap_or(""));
    }
    for party in &timeline.parties {
        println!("  party {}     {:<11} {}", party.index, party.status, party.detail.as_deref().unwrap_or(""));
    }
}

fn summary(
    cluster: &Cluster,
    params: &str,
    request_id: B256,
    timeline: &Timeline,
    tally: u64,
    expected: u64,
) -> Result<serde_json::Value> {
    let at = |stage: &str| timeline.timeline.iter().find(|entry| entry.stage == stage).map(|entry| entry.at);
    let seen = at("seen").context("no stage seen")?;
    // Mined means that the callback has run; done, that the block is deep enough.
    let called_back = at("mined").context("no stage mined")?;
    Ok(json!({
        "params": params,
        "parties": cluster.options.n,
        "threshold": 2 * cluster.options.t + 1,
        "request_id": request_id,
        "cleartexts": timeline.cleartexts,
        "tally": tally,
        "expected": expected,
        "signers": timeline.signers,
        "mpc_ms": timeline.mpc_ms,
        "request_to_callback_ms": called_back - seen,
        "fulfil_gas": timeline.transactions.iter().find_map(|transaction| transaction.gas_used),
    }))
}

/// A new run has a new chain: identities and keys stay, everything that speaks of the old chain goes. A generation of the
/// key that was interrupted goes on.
fn forget_last_chain(home: &Path) -> Result<()> {
    for name in ["objects", "logs"] {
        let _ = fs::remove_dir_all(home.join(name));
    }
    let mut databases: Vec<PathBuf> = vec![home.to_owned()];
    databases.extend((1..=4).map(|index| home.join(format!("party-{index}"))));
    for folder in databases {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry?.path();
            if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains(".db")) {
                fs::remove_file(&path)?;
            }
        }
    }
    Ok(())
}

/// Bars on a terminal, plain lines elsewhere.
struct Screen {
    terminal: bool,
}

struct Step {
    bar: ProgressBar,
    terminal: bool,
    started: Instant,
}

impl Screen {
    fn new() -> Self {
        Self { terminal: std::io::IsTerminal::is_terminal(&std::io::stdout()) }
    }

    fn spinner(&self, message: &str) -> Step {
        let bar = ProgressBar::new_spinner();
        if self.terminal {
            bar.set_style(ProgressStyle::default_spinner());
            bar.enable_steady_tick(Duration::from_millis(100));
        } else {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_message(message.to_owned());
        Step { bar, terminal: self.terminal, started: Instant::now() }
    }
}

impl Step {
    fn say(&self, message: &str) {
        self.bar.set_message(message.to_owned());
    }

    fn set_message(&self, message: String) {
        if !self.terminal {
            println!("  … {message}");
        }
        self.bar.set_message(message);
    }

    fn done(&self, message: &str) {
        self.bar.finish_and_clear();
        println!("✓ {message} ({:.1} s)", self.started.elapsed().as_secs_f64());
    }
}
