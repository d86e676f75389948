//! Panics inside, and a chain that changes its mind.

use std::sync::atomic::Ordering::SeqCst;

use kms_encoding::ParamsId;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_panics_ends_and_can_be_made_again() {
    let cluster = Cluster::new(&values()).await;
    let nodes = cluster.start_all(&[]).await;
    cluster.world.fetches.panics.store(1, SeqCst);
    let outcome = settled(&nodes[0], cluster.call(1, cluster.v1())).await;
    let Outcome::NotYet(fault) = outcome else { panic!("{outcome:?}") };
    assert_eq!(fault.reason(), NotYetReason::Internal);
    assert_eq!((nodes[0].engine.running(), nodes[0].engine.inner.scales.taken()), (0, 0));
    let all: Vec<_> = (1u16..).zip(&nodes).collect();
    cluster.ask(&all, &cluster.v1()).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_panics_ends_and_can_be_joined_again() {
    let cluster = Cluster::new(&values()).await;
    let nodes = cluster.start_all(&[]).await;
    let inner = &nodes[0].engine.inner;
    let Verdict::Allowed(grant) = cluster.world.check_public(CHAIN, &cluster.handles).await else { unreachable!() };
    let material = inner.material([KEY], EPOCH).unwrap();
    assert_eq!(material.params, ParamsId::InsecureTest);
    let work = inner.work(material, &grant.handles, weight::Purpose::Other).await.unwrap().unwrap();
    let own = inner.share(work).await.unwrap();
    // A request waits for this job when it dies.
    let (die, dies) = tokio::sync::oneshot::channel::<()>();
    let job = inner.join_with(own, |_| async move {
        let _ = dies.await;
        panic!("as the test wants it");
    });
    let mut asked = inner.start(cluster.call(1, cluster.v1()), None, ()).unwrap();
    let opening = async || inner.parts.store.request(cluster.call(1, cluster.v1()).key()).await.unwrap();
    until(async || opening().await.filter(|row| row.stage == Stage::Opening)).await;
    die.send(()).unwrap();
    assert!(matches!(job.opened().await, job::Opened::Nothing(_)));
    assert!(job.findings().await.is_none());
    assert!(matches!(*asked.wait_for(Option::is_some).await.unwrap(), Some(Outcome::NotYet(_))));
    assert!(inner.jobs.lock().is_empty());
    let all: Vec<_> = (1u16..).zip(&nodes).collect();
    cluster.ask(&all, &cluster.v1()).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_took_long_is_permitted_again_before_it_leaves() {
    let cluster = Cluster::new(&values()).await;
    let store = cluster.store(1).await;
    let old = EngineOptions { verdict_age: Duration::ZERO, ..EngineOptions::default() };
    let one = cluster.start_with(1, None, old).await;
    // While the ciphertexts were fetched the chain came to show another one.
    let call = || cluster.call(1, Vec::new());
    let changed = cluster.world.allows(CHAIN, cluster.handles.iter().map(|handle| (*handle, B256::ZERO)));
    *cluster.world.says_next.lock() = Some(changed);
    let outcome = settled(&one, call()).await;
    let Outcome::NotYet(waits) = outcome else { panic!("{outcome:?}") };
    assert_eq!(waits.reason(), NotYetReason::BlockUnknown);
    assert_eq!(store.request(call().key()).await.unwrap().unwrap().stage, Stage::Received);
    // Or the request was cancelled.
    *cluster.world.says.lock() = None;
    *cluster.world.says_next.lock() = Some(Verdict::Refused(Refusal::Cancelled));
    let outcome = settled(&one, call()).await;
    let Outcome::Refused(refused) = outcome else { panic!("{outcome:?}") };
    assert_eq!(refused.reason(), RefusedReason::NotOpen);
    let row = store.request(call().key()).await.unwrap().unwrap();
    assert_eq!((row.stage, store.shared_in_job(row.job_id).await.unwrap()), (Stage::Refused, None));
    assert!(one.engine.inner.jobs.lock().is_empty() && one.engine.inner.shares.lock().is_empty());
    one.stop().await;
    // A young verdict is not asked for again.
    *cluster.world.says.lock() = None;
    let mut nodes = Vec::new();
    for index in 1..=3 {
        let hour = EngineOptions { verdict_age: Duration::from_secs(3600), ..EngineOptions::default() };
        nodes.push(cluster.start_with(index, None, hour).await);
    }
    *cluster.world.says_next.lock() = Some(Verdict::Refused(Refusal::Cancelled));
    let first = settled(&nodes[0], cluster.call(1, cluster.v1()));
    let others = async {
        // Not before the first has its verdict; afterwards the chain is as it was for these.
        until(async || cluster.world.says.lock().take()).await;
        let asking = [(2, &nodes[1]), (3, &nodes[2])].map(|(i, node)| settled(node, cluster.call(i, cluster.v1())));
        futures::future::join_all(asking).await
    };
    let (outcome, _) = tokio::join!(first, others);
    cluster.check(1, &cluster.v1(), &outcome);
    for node in nodes {
        node.stop().await;
    }
}
