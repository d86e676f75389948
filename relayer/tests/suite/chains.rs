//! Several host chains at once: each with its own node, all with one database and one key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolEvent;
use kms_chain::abi::DecryptionGateway::DecryptionRequested;
use kms_chain::follower::{Follower, FollowerConfig};
use kms_chain::request::{Request, request_id};
use kms_relayer::dispatch::DispatchRules;
use kms_relayer::pipeline::{Destination, Pipeline, PipelineRules};
use kms_relayer::ranks::Ranks;
use kms_relayer::state::State;
use kms_relayer::store::{ChainRules, Store};
use kms_relayer::tx::TxManager;
use kms_relayer::watch::ChainSink;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::outbox::patient;
use crate::support::{Anvil, CHAIN, GATEWAY, Scripted, TempStore, request, rules, signer, store};

/// Code that logs: three topics are the first three words of the call, the rest is the data.
const EMITTER: &str = "0x606036038060605f376040356020355f35835fa300";
const OTHER: u64 = 31_338;

/// A chain whose gateway records whatever it is told.
async fn host(id: u64) -> Anvil {
    let anvil = Anvil::of_chain(id).await;
    anvil.rpc("anvil_setCode", json!([GATEWAY, EMITTER])).await;
    anvil.mine(1).await;
    anvil
}

/// Makes the gateway of a chain record a request, whose deadline is as late as a number of the database can say.
async fn ask(anvil: &Anvil, id: u64, nonce: u64) -> B256 {
    let request = Request::from(request(nonce, 0, i64::MAX as u64).1);
    let job = request_id(id, GATEWAY, &request);
    let event = DecryptionRequested {
        requestId: job,
        requester: request.requester,
        request: (&request).into(),
        fee: U256::from(7),
    };
    let log = event.encode_log_data();
    let data: Vec<u8> = log.topics().iter().flat_map(|topic| topic.0).chain(log.data.to_vec()).collect();
    let from: Address = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8".parse().expect("anvil's second account");
    let call = json!([{ "from": from, "to": GATEWAY, "gas": "0xf4240", "data": alloy::primitives::Bytes::from(data) }]);
    anvil.rpc("eth_sendTransaction", call).await;
    job
}

fn follow(anvil: &Anvil, rules: ChainRules, store: &Store, tasks: &TaskTracker, cancel: &CancellationToken) {
    let config =
        FollowerConfig { addresses: vec![GATEWAY], start_block: 0, max_window: 100, tick: Duration::from_millis(20) };
    let follower = Follower::new(anvil.chain.clone(), config, ChainSink::new(store.clone(), GATEWAY, rules));
    tasks.spawn(follower.run(cancel.clone()));
}

fn pipeline_rules() -> PipelineRules {
    PipelineRules {
        concurrency: 8,
        reserved: 2,
        lease: Duration::from_secs(60),
        dispatch: DispatchRules {
            patience: Duration::from_secs(5),
            tail: Duration::from_millis(20),
            longest_pause: Duration::from_millis(100),
            grace: Duration::ZERO,
            last_call: Duration::from_secs(2),
            collect: Duration::ZERO,
        },
        ranks: Ranks::default(),
        tick: Duration::from_millis(20),
    }
}

#[tokio::test]
async fn requests_of_two_chains_are_answered_on_their_own_chain_with_one_key() {
    let (one, other) = (host(CHAIN).await, host(OTHER).await);
    let TempStore { store, dir: _dir } = store().await;
    let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
    let mut destinations = BTreeMap::new();
    let mut managers = Vec::new();
    for (anvil, id) in [(&one, CHAIN), (&other, OTHER)] {
        follow(anvil, ChainRules { chain: id, ..rules(2) }, &store, &tasks, &cancel);
        let node = Arc::new(anvil.chain.clone());
        let manager = Arc::new(TxManager::new(store.clone(), node, signer(), id, patient()));
        managers.push(manager.clone());
        // Not the gateway: what counts is that the answer arrives on the right chain.
        let destination = Destination { gateway: Address::repeat_byte(0x99), lens: Address::ZERO, manager };
        destinations.insert(id, destination);
    }
    let pipeline = Pipeline::new(store.clone(), Scripted::honest(), destinations, pipeline_rules());
    tasks.spawn(pipeline.run(cancel.clone()));

    let mut asked = Vec::new();
    for nonce in 0..3 {
        asked.push((CHAIN, ask(&one, CHAIN, nonce).await));
    }
    // The same content on the other chain is another request.
    for nonce in 0..2 {
        asked.push((OTHER, ask(&other, OTHER, nonce).await));
    }
    one.mine(1).await;
    other.mine(1).await;
    for (chain, job) in &asked {
        loop {
            match store.job(*job).await.unwrap() {
                Some(job) if job.state == State::Submitting => {
                    assert_eq!(job.chain, *chain);
                    break;
                }
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
    for (anvil, manager) in [(&one, &managers[0]), (&other, &managers[1])] {
        // What is stored may be broadcast a moment later.
        while store.pending_count(manager.account()).await.unwrap() > 0 {
            anvil.mine(1).await;
            manager.tick().await.unwrap();
        }
    }
    // Each chain has its own nonces, from the first on.
    assert_eq!(store.next_nonce(managers[0].account()).await.unwrap(), Some(3));
    assert_eq!(store.next_nonce(managers[1].account()).await.unwrap(), Some(2));

    // A reorganisation of one chain is none of the other's business.
    let states = async || {
        let mut states = Vec::new();
        for (chain, job) in &asked {
            states.push((*chain, store.job(*job).await.unwrap().unwrap().state));
        }
        states
    };
    let before = states().await;
    other.rpc("anvil_reorg", json!([2, []])).await;
    while states().await.iter().any(|(chain, state)| *chain == OTHER && *state != State::Orphaned) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(states().await[..3], before[..3]);
    cancel.cancel();
    tasks.close();
    tasks.wait().await;
}
