//! One trace for what relayer and parties do for a request.

use std::time::{Duration, Instant};

use alloy::primitives::U256;
use anyhow::{Result, ensure};
use kms_chain::FheType;
use kms_telemetry::{
    collector::{Collector, Received},
    trace_id,
};
use kms_tests::{
    cluster::{Cluster, Key, Options},
    probe::Probe,
};

const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) async fn relayer_and_parties_meet_in_the_trace_of_a_request(_: &mut Cluster) -> Result<()> {
    let collector = Collector::start().await?;
    let home = tempfile::Builder::new().prefix("kms-traces-").tempdir()?;
    let url = Some(collector.url.clone());
    let options = Options { key: Key::Dealt, collector: url, ..Options::insecure_test(home.path()) };
    let cluster = Cluster::start(options, &|_| {}).await?;
    let mut probe = Probe::deploy(&cluster).await?;
    let value = U256::from(4_711);
    let handles = probe.make(&cluster, &[value], FheType::Uint32).await?;
    let asked = probe.ask(&cluster, &handles, 3).await?;
    ensure!(probe.wait_for_answer(&cluster, asked.id, PATIENCE).await? == [value], "wrong value");

    let trace = trace_id(asked.id).to_bytes();
    let of_request = |name: &str| -> Vec<Received> {
        collector.named(name).into_iter().filter(|received| received.span.trace_id == trace).collect()
    };
    // Spans come in batches, and those of late parties when the request is long answered.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (calls, served, answers) = (of_request("ask party"), of_request("decrypt"), of_request("answer"));
        // Whoever is not heard before the quorum is done without.
        let joined = (1..=4).filter(|party| {
            let name = ("kms-node".to_owned(), format!("party {party}"));
            let of_party = |received: &&Received| received.from == name;
            let called = |served: &Received| calls.iter().any(|call| call.span.span_id == served.span.parent_span_id);
            served.iter().filter(of_party).any(called) && answers.iter().any(|answer| of_party(&answer))
        });
        if joined.count() >= 3 {
            ensure!(calls.iter().all(|call| call.from.0 == "kms-relayer"), "{calls:?}");
            break;
        }
        ensure!(Instant::now() < deadline, "no common trace: {calls:#?}\n{served:#?}\n{answers:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Told when it was over.
    while of_request("transaction").is_empty() {
        ensure!(Instant::now() < deadline, "nothing tells of its way into a block");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
