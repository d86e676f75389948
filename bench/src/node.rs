//! Four party processes over mutual TLS on this machine, and the whole way from request to callback.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use alloy::primitives::{B256, U256};
use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use kms_chain::FheType;
use kms_client::{
    Quorum,
    transport::{Outcome, Parties},
};
use kms_tests::{
    cluster::{Cluster, Options},
    parties,
    probe::Probe,
    relayer,
};

use crate::report::{Figure, median, percentile};

/// Decryptions per type.
const ROUNDS: usize = 40;
/// Requests for the way from event to callback.
const REQUESTS: usize = 12;

/// All figures of the area, in a deployment of their own.
///
/// # Errors
/// The deployment does not start or does not answer.
pub(crate) fn run_blocking(root: &Path, params: &str) -> Result<Vec<Figure>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let home = root.join(".demo").join(format!("bench-{params}"));
    // An old run may have left one; there is none on the first.
    let _ = std::fs::remove_dir_all(&home);
    tokio::runtime::Runtime::new()?.block_on(run(&home, params))
}

async fn run(home: &Path, params: &str) -> Result<Vec<Figure>> {
    let options = Options { params: params.to_owned(), ..Options::insecure_test(home) };
    let cluster = Cluster::start(options, &|line| eprintln!("  {line}")).await?;
    let clients = parties::operator(&cluster)?;
    let mut probe = Probe::deploy(&cluster).await?;
    let mut figures = Vec::new();
    for (name, ty) in [("bool", FheType::Bool), ("uint64", FheType::Uint64), ("uint256", FheType::Uint256)] {
        let mut times = decryptions(&cluster, &clients, &mut probe, ty).await?;
        let note = format!(
            "four processes over mTLS, client call to third verified signature, chain reads and ciphertext fetch included, parameters {params}"
        );
        figures.push(Figure::new(&format!("node.decrypt.{name}.p50"), median(times.clone()), "ms", &note));
        figures.push(Figure::new(&format!("node.decrypt.{name}.p99"), percentile(&mut times, 0.99), "ms", &note));
    }
    figures.extend(requests(&cluster, &mut probe, params).await?);
    Ok(figures)
}

async fn decryptions(cluster: &Cluster, clients: &Parties, probe: &mut Probe, ty: FheType) -> Result<Vec<f64>> {
    let values: Vec<U256> = (0..ROUNDS).map(|value| U256::from(value % 2)).collect();
    let handles = probe.make(cluster, &values, ty).await?;
    probe.publish(cluster, &handles).await?;
    for handle in &handles {
        committed(cluster, *handle).await?;
    }
    let mut times = Vec::with_capacity(ROUNDS);
    for (handle, value) in handles.iter().zip(&values) {
        let question = parties::public_question(cluster, &[*handle]).await?;
        let mut quorum = Quorum::new(&question, clients.committee());
        let clock = Instant::now();
        let mut answers = std::pin::pin!(clients.decrypt_all(&question));
        while let Some((index, outcome)) = answers.next().await {
            match outcome {
                Ok(Outcome::Answer(answer)) => {
                    if quorum.add(answer) {
                        break;
                    }
                }
                other => eprintln!("  party {index}: {other:?}"),
            }
        }
        times.push(clock.elapsed().as_secs_f64() * 1e3);
        let decryption = quorum.decryption().context("no quorum")?;
        ensure!(decryption.values() == [*value], "wrong value");
    }
    Ok(times)
}

/// Waits until a handle's digest is committed, so that its squashing is not measured.
async fn committed(cluster: &Cluster, handle: B256) -> Result<()> {
    let provider = cluster.anvil.provider()?;
    let registry = kms_chain::abi::CiphertextRegistry::new(cluster.contracts.ciphertext_registry, &provider);
    let deadline = Instant::now() + Duration::from_secs(900);
    while registry.commitmentOf(handle).call().await?.digest.is_zero() {
        ensure!(Instant::now() < deadline, "{handle} is not committed\n{}", cluster.log_tails(10));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn requests(cluster: &Cluster, probe: &mut Probe, params: &str) -> Result<Vec<Figure>> {
    let (mut whole, mut mpc) = (Vec::new(), Vec::new());
    for value in 0..REQUESTS {
        let handles = probe.make(cluster, &[U256::from(value)], FheType::Uint64).await?;
        // Squashing belongs to the coprocessor's throughput, not to this figure.
        probe.publish(cluster, &handles).await?;
        committed(cluster, handles[0]).await?;
        let asked = probe.ask(cluster, &handles, 1).await?;
        let id = asked.id.to_string();
        let timeline = relayer::wait_for_stage(&cluster.relayer_url, &id, &["done"], Duration::from_secs(120)).await?;
        let at = |stage: &str| timeline.timeline.iter().find(|entry| entry.stage == stage).map(|entry| entry.at);
        let (seen, called_back) = (at("seen").context("not seen")?, at("mined").context("not mined")?);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
        whole.push((called_back - seen) as f64);
        mpc.extend(timeline.mpc_ms);
    }
    let note = format!("uint64, digest committed, finality latest, one block a second, parameters {params}");
    Ok(vec![
        Figure::new("e2e.request_to_callback.p50", median(whole), "ms", note.clone()),
        Figure::new("e2e.mpc.p50", median(mpc), "ms", format!("first share sent to quorum of signatures; {note}")),
    ])
}
