//! Four party processes over mutual TLS on this machine, and the whole way from request to callback.

use std::{
    collections::HashSet,
    path::Path,
    time::{Duration, Instant},
};

use alloy::primitives::{B256, U256};
use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use kms_chain::FheType;
use kms_client::{
    Question, Quorum,
    transport::{Outcome, Parties},
};
use kms_tests::{
    cluster::{Cluster, Key, Options},
    parties,
    probe::Probe,
    relayer,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    report::{Figure, median, percentile},
    user,
};

/// Requests for the way from event to callback, at most.
const REQUESTS: usize = 12;

/// How much is measured. Every value has to be squashed before.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    /// Parameter set.
    pub(crate) params: String,
    /// Decryptions per type.
    pub(crate) rounds: usize,
    /// Requests at the same time.
    pub(crate) burst: usize,
}

/// All figures of the area, in a deployment of their own.
///
/// # Errors
/// The deployment does not start or does not answer.
pub(crate) fn run_blocking(root: &Path, sizes: &Sizes) -> Result<Vec<Figure>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let home = root.join(".demo").join(format!("bench-{}", sizes.params));
    // An old run may have left one; there is none on the first.
    let _ = std::fs::remove_dir_all(&home);
    tokio::runtime::Runtime::new()?.block_on(run(&home, sizes))
}

async fn run(home: &Path, sizes: &Sizes) -> Result<Vec<Figure>> {
    let (params, rounds) = (&sizes.params, sizes.rounds);
    // A dealt key costs a minute and decrypts like one that nobody dealt; and the peak of memory is that of decryptions.
    let options = Options { params: params.clone(), key: Key::Dealt, ..Options::insecure_test(home) };
    let cluster = Cluster::start(options, &|line| eprintln!("  {line}")).await?;
    let clients = parties::operator(&cluster)?;
    let mut probe = Probe::deploy(&cluster).await?;
    let mut figures = Vec::new();
    for (name, ty) in [("bool", FheType::Bool), ("uint64", FheType::Uint64), ("uint256", FheType::Uint256)] {
        let mut times = decryptions(&cluster, &clients, &mut probe, ty, rounds).await?;
        let note = format!(
            "four processes over mTLS, client call to third verified signature, chain reads and ciphertext fetch included, {rounds} rounds, parameters {params}"
        );
        figures.push(Figure::new(&format!("node.decrypt.{name}.p50"), median(times.clone()), "ms", &note));
        figures.push(Figure::new(&format!("node.decrypt.{name}.p99"), percentile(&mut times, 0.99), "ms", &note));
    }
    figures.extend(without_chain(&cluster, &clients, &mut probe, sizes).await?);
    let (made, handles) = burst(&cluster, &mut probe, sizes).await?;
    figures.extend(made);
    figures.extend(user::run(&cluster, &probe, &handles, sizes).await?);
    figures.extend(requests(&cluster, &mut probe, sizes).await?);
    Ok(figures)
}

/// Handles of these values, squashed and committed, that everybody may have decrypted.
async fn public(cluster: &Cluster, probe: &mut Probe, values: &[U256], ty: FheType) -> Result<Vec<B256>> {
    // Equal values of one block have one handle: of booleans there are two at a time.
    let together = if ty == FheType::Bool { 2 } else { values.len() };
    let mut handles = Vec::with_capacity(values.len());
    for part in values.chunks(together) {
        handles.extend(probe.make(cluster, part, ty).await?);
    }
    // A transaction holds what fits a block.
    for part in handles.chunks(100) {
        probe.publish(cluster, part).await?;
    }
    for handle in &handles {
        committed(cluster, *handle).await?;
    }
    let distinct: HashSet<_> = handles.iter().collect();
    ensure!(distinct.len() == handles.len(), "a handle that was answered before measures the database");
    Ok(handles)
}

async fn decryptions(
    cluster: &Cluster,
    clients: &Parties,
    probe: &mut Probe,
    ty: FheType,
    rounds: usize,
) -> Result<Vec<f64>> {
    let values: Vec<U256> =
        (0..rounds).map(|value| U256::from(if ty == FheType::Bool { value % 2 } else { value })).collect();
    let handles = public(cluster, probe, &values, ty).await?;
    let mut times = Vec::with_capacity(rounds);
    for (handle, value) in handles.iter().zip(&values) {
        let question = parties::public_question(cluster, &[*handle]).await?;
        times.push(ask(clients, &question, *value).await?);
    }
    Ok(times)
}

/// One decryption: milliseconds from the call to the third verified signature.
async fn ask(clients: &Parties, question: &Question, value: U256) -> Result<f64> {
    let mut quorum = Quorum::new(question, clients.committee());
    let clock = Instant::now();
    let mut answers = std::pin::pin!(clients.decrypt_all(question));
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
    let time = clock.elapsed().as_secs_f64() * 1e3;
    let decryption = quorum.decryption().context("no quorum")?;
    ensure!(decryption.values() == [value], "wrong value");
    Ok(time)
}

/// The same for a uint64 from the moment when three parties had read the chain: less the third shortest of the four times
/// in the chain guard, by the parties' own metrics before and after. An opening needs three shares, so none begins earlier.
async fn without_chain(cluster: &Cluster, clients: &Parties, probe: &mut Probe, sizes: &Sizes) -> Result<Vec<Figure>> {
    let (params, rounds) = (&sizes.params, sizes.rounds);
    let values: Vec<U256> = (0..rounds).map(U256::from).collect();
    let handles = public(cluster, probe, &values, FheType::Uint64).await?;
    let mut times = Vec::with_capacity(rounds);
    for (handle, value) in handles.iter().zip(&values) {
        let question = parties::public_question(cluster, &[*handle]).await?;
        let before = all_parties(cluster, "kms_node_guard_seconds_sum").await?;
        let whole = ask(clients, &question, *value).await?;
        let after = all_parties(cluster, "kms_node_guard_seconds_sum").await?;
        let mut guard: Vec<f64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
        guard.sort_by(f64::total_cmp);
        times.push(whole - guard.get(2).context("three parties")? * 1e3);
    }
    let note = format!(
        "one uint64 at a time, four processes over mTLS, client call to third verified signature, less the third shortest of the parties' four times in the chain guard; ciphertext fetch included, {rounds} rounds, parameters {params}"
    );
    let p50 = Figure::new("node.decrypt_mpc.uint64.p50", median(times.clone()), "ms", &note);
    Ok(vec![p50, Figure::new("node.decrypt_mpc.uint64.p99", percentile(&mut times, 0.99), "ms", &note)])
}

/// Many uint64 at the same time, and what the parties' processes took at most until then; the handles and their values.
async fn burst(cluster: &Cluster, probe: &mut Probe, sizes: &Sizes) -> Result<(Vec<Figure>, Vec<(B256, U256)>)> {
    let (params, burst) = (&sizes.params, sizes.burst);
    let values: Vec<U256> = (0..burst).map(U256::from).collect();
    let handles = public(cluster, probe, &values, FheType::Uint64).await?;
    // The relayer's certificate: an operator's may not ask that much at once.
    let clients = parties::connect(cluster, &cluster.path("clients/relayer"))?;
    let mut questions = Vec::with_capacity(burst);
    for handle in &handles {
        questions.push(parties::public_question(cluster, &[*handle]).await?);
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(300);
    let clock = Instant::now();
    let asking = questions.iter().map(|question| clients.collect(question, deadline));
    let collected = futures::future::join_all(asking).await;
    let seconds = clock.elapsed().as_secs_f64();
    for (collected, value) in collected.iter().zip(&values) {
        let decryption = collected.decryption.as_ref().context("no quorum")?;
        ensure!(decryption.values() == [*value], "wrong value");
    }
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let rate = burst as f64 / seconds;
    let peak = all_parties(cluster, "kms_node_peak_memory_bytes").await?.into_iter().fold(0.0, f64::max);
    let note = format!(
        "{burst} concurrent requests for one uint64 each, first call to last quorum, four processes, chain and caller on the same machine, ciphertexts in a local folder, chain reads included, parameters {params}"
    );
    let rss =
        format!("largest peak of a party's resident memory, after {burst} concurrent uint64; parameters {params}");
    let figures = vec![
        Figure::new("node.throughput.uint64", rate, "uint64/s", note),
        Figure::new("node.rss", peak / 1e6, "MB", rss),
    ];
    Ok((figures, handles.into_iter().zip(values).collect()))
}

/// A metric without labels at all parties.
pub(crate) async fn all_parties(cluster: &Cluster, name: &str) -> Result<Vec<f64>> {
    let mut values = Vec::new();
    for url in &cluster.party_metrics {
        let address = url.strip_prefix("http://").context("metrics address")?;
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.push(value.with_context(|| format!("{name} at {url}"))?.trim().parse()?);
    }
    Ok(values)
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

async fn requests(cluster: &Cluster, probe: &mut Probe, sizes: &Sizes) -> Result<Vec<Figure>> {
    let params = &sizes.params;
    let (mut whole, mut mpc) = (Vec::new(), Vec::new());
    for value in 0..REQUESTS.min(sizes.rounds) {
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
