//! User decryptions by four party processes, in the deployment of the area of processes.

use std::time::{Duration, Instant};

use alloy::primitives::{B256, U256};
use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, stream};
use kms_client::{
    transport::{Outcome, Parties},
    user::{ReconstructError, UserDecryption},
};
use kms_tests::{anvil::Role, cluster::Cluster, parties, probe::Probe, user::Asking};

use crate::{
    node::{Sizes, all_parties},
    report::{Figure, median, percentile},
};

/// User decryptions at the same time.
const CONCURRENT: usize = 100;
/// How often each handle is read.
const PASSES: usize = 3;
const ALICE: Role = Role::Voter(0);

/// Both figures, for handles of uint64 that are squashed and committed.
pub(crate) async fn run(
    cluster: &Cluster,
    probe: &Probe,
    handles: &[(B256, U256)],
    sizes: &Sizes,
) -> Result<Vec<Figure>> {
    let handles = handles.get(..CONCURRENT.min(handles.len())).context("no handles")?;
    let raw: Vec<B256> = handles.iter().map(|(handle, _)| *handle).collect();
    probe.share(cluster, &raw, ALICE.wallet().address()).await?;
    // The relayer's certificate: an operator's may not ask that much at once.
    let clients = parties::connect(cluster, &cluster.path("clients/relayer"))?;
    let mut figures = answers(cluster, &clients, probe, raw[0], sizes).await?;
    figures.push(throughput(cluster, &clients, probe, handles, sizes).await?);
    Ok(figures)
}

/// One party at a time, one call at a time, a new permit each: from the call to the verified signature, less what the party
/// has spent in its chain guard.
async fn answers(
    cluster: &Cluster,
    clients: &Parties,
    probe: &Probe,
    handle: B256,
    sizes: &Sizes,
) -> Result<Vec<Figure>> {
    let mut times = Vec::new();
    for round in 0..=sizes.rounds {
        for (party, place) in (1..).zip(0..cluster.parties.len()) {
            let asking = Asking::new(cluster, ALICE, probe.address, &[handle], |_| ()).await?;
            let before = all_parties(cluster, "kms_node_guard_seconds_sum").await?;
            let clock = Instant::now();
            let outcome = clients.user_decrypt(party, &asking.request).await?;
            let whole = clock.elapsed().as_secs_f64();
            ensure!(matches!(outcome, Outcome::Answer(_)), "party {party}: {outcome:?}");
            let after = all_parties(cluster, "kms_node_guard_seconds_sum").await?;
            // The first round fetches the ciphertext.
            if round > 0 {
                times.push((whole - (after[place] - before[place])) * 1e3);
            }
        }
    }
    let note = format!(
        "one call at a time for one uint64 whose object is cached, a new permit and key each, call over mTLS to verified signature at the client, less the time in the party's chain guard; {} rounds with each of four parties, parameters {}",
        sizes.rounds, sizes.params
    );
    let p50 = Figure::new("node.user_decrypt.uint64.p50", median(times.clone()), "ms", &note);
    Ok(vec![p50, Figure::new("node.user_decrypt.uint64.p99", percentile(&mut times, 0.99), "ms", &note)])
}

/// Whole user decryptions, each of all four parties, to the value.
async fn throughput(
    cluster: &Cluster,
    clients: &Parties,
    probe: &Probe,
    handles: &[(B256, U256)],
    sizes: &Sizes,
) -> Result<Figure> {
    let mut readers = Vec::with_capacity(PASSES * handles.len());
    for (handle, value) in handles.iter().cycle().take(PASSES * handles.len()) {
        let asking = Asking::new(cluster, ALICE, probe.address, &[*handle], |_| ()).await?;
        readers.push((asking.reader(cluster)?, *value));
    }
    let count = readers.len();
    let clock = Instant::now();
    let mut reading =
        stream::iter(readers).map(|(reader, value)| read(clients, reader, value)).buffer_unordered(CONCURRENT);
    while let Some(outcome) = reading.next().await {
        outcome?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let rate = count as f64 / clock.elapsed().as_secs_f64();
    let note = format!(
        "{count} user decryptions of one uint64, {CONCURRENT} at a time, {} different ciphertexts, a new permit and key each; every one asks all four processes, verifies, and puts the value together; chain, object folder and callers on the same machine, chain reads included, parameters {}",
        handles.len(),
        sizes.params
    );
    Ok(Figure::new("node.user_throughput.uint64", rate, "uint64/s", note))
}

async fn read(clients: &Parties, mut reader: UserDecryption, value: U256) -> Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(300);
    let read = clients.read(&mut reader, deadline, Duration::ZERO).await;
    let result = match read.result {
        Ok(result) => result,
        Err(ReconstructError::Undecided(_)) => bail!("no value: {:?}", read.outcomes),
        Err(error) => return Err(error.into()),
    };
    let (_, got) = result.values.first().context("no value")?;
    ensure!(U256::from_be_bytes(got.value().0) == value, "wrong value");
    Ok(())
}
