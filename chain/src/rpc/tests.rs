//! Against real anvil.

use super::*;
use crate::{
    faults::{Answer, Fault, FaultyRpc, Wire},
    testing::{Anvil, CHAIN, SENDER},
};
use alloy::{
    eips::{BlockNumberOrTag, Encodable2718},
    network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder},
    primitives::Address,
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
    sol,
    sol_types::SolCall,
};

sol! {
    function decimals() external view returns (uint8);
}

async fn connect(urls: &[Url]) -> Result<Chain, RpcError> {
    Chain::connect(urls, CHAIN).await
}

/// Puts code that returns `value` at an address.
async fn returning(anvil: &Anvil, value: u8) -> Address {
    let to = Address::repeat_byte(0x77);
    // PUSH1 value PUSH0 MSTORE PUSH1 32 PUSH0 RETURN
    let code = format!("0x60{value:02x}5f5260205ff3");
    let _: serde_json::Value = anvil.rpc("anvil_setCode", serde_json::json!([to, code])).await;
    to
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_never_used() {
    let (right, wrong) = (Anvil::start().await, Anvil::with(&["--chain-id", "5"]).await);
    let error = connect(&[wrong.url()]).await.expect_err("wrong chain");
    assert!(matches!(error, RpcError::WrongChain { expected: CHAIN, found: 5, .. }), "{error}");
    let chain = connect(&[wrong.url(), right.url()]).await.expect("one is right");
    assert_eq!(chain.heights().await.expect("heights").latest.hash, right.head().await);
    let reports = chain.survey(1).await;
    assert!(reports[0].head.as_ref().is_err_and(|error| error.contains("serves chain 5")));
    assert!(reports[1].head.is_ok());
}

#[tokio::test]
async fn urls_are_checked_and_their_secrets_never_shown() {
    assert!(matches!(connect(&[]).await, Err(RpcError::NoEndpoints)));
    let ftp = "ftp://user:secret@example.org/key".parse().expect("a URL");
    let error = connect(&[ftp]).await.expect_err("ftp");
    assert_eq!(error.to_string(), "RPC endpoint ftp://example.org is neither http(s) nor ws(s)");
    let unreachable = "http://user:secret@127.0.0.1:1/key?token=secret".parse().expect("a URL");
    let chain = connect(&[unreachable]).await.expect("being down is no reason not to start");
    let error = chain.heights().await.expect_err("nobody listens");
    assert!(error.is_endpoint_failure());
    let shown = format!("{error} {error:?} {chain:?} {:?}", chain.survey(1).await);
    assert!(!shown.contains("secret") && !shown.contains("key"), "{shown}");
}

#[tokio::test]
async fn an_answer_of_the_node_is_no_failure_of_the_endpoint() {
    let anvil = Anvil::start().await;
    let chain = anvil.chain().await;
    let to = Address::repeat_byte(0x66);
    // PUSH1 0xab PUSH0 MSTORE PUSH1 1 PUSH1 31 REVERT
    let _: serde_json::Value = anvil.rpc("anvil_setCode", serde_json::json!([to, "0x60ab5f526001601ffd"])).await;
    let error = chain.call(to, &decimalsCall {}, BlockId::latest()).await.expect_err("it reverts");
    assert!(!error.is_endpoint_failure());
    assert_eq!(error.revert_data().expect("revert data")[..], [0xab]);
    let nobody = Address::repeat_byte(0x55);
    let error = chain.call(nobody, &decimalsCall {}, BlockId::latest()).await.expect_err("no code");
    assert!(matches!(error, RpcError::Decode(decimalsCall::SIGNATURE)), "{error}");
    let error = chain.send_raw(&[1, 2, 3]).await.expect_err("no transaction");
    assert!(matches!(error, RpcError::Answer { .. }), "{error}");
}

#[tokio::test]
async fn endpoints_that_disagree_are_noticed() {
    let (one, other) = (Anvil::start().await, Anvil::start().await);
    let chain = connect(&[one.url(), other.url()]).await.expect("both up");
    let to = returning(&one, 6).await;
    returning(&other, 18).await;
    let error = chain.call_agreed(to, &decimalsCall {}, BlockId::latest()).await.expect_err("6 is not 18");
    assert!(matches!(error, RpcError::Disagreement { .. }), "{error}");
    returning(&other, 6).await;
    assert_eq!(chain.call_agreed(to, &decimalsCall {}, BlockId::latest()).await.expect("agreed"), 6);
    one.log(1).await;
    other.log(2).await;
    let reports = chain.survey(100).await;
    assert_eq!(reports.iter().map(|report| report.disagrees).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn one_of_several_is_enough_for_an_agreed_call() {
    let anvil = Anvil::start().await;
    let proxy = Wire::to(anvil.port).await.expect("a port");
    let chain = connect(&[proxy.url(), anvil.url()]).await.expect("both up");
    let to = returning(&anvil, 9).await;
    proxy.cut();
    assert_eq!(chain.call_agreed(to, &decimalsCall {}, BlockId::latest()).await.expect("one answers"), 9);
    assert_eq!(chain.call(to, &decimalsCall {}, BlockId::latest()).await.expect("failover"), 9);
}

#[tokio::test]
async fn a_lagging_active_endpoint_is_left() {
    let (behind, ahead) = (Anvil::start().await, Anvil::start().await);
    let chain = connect(&[behind.url(), ahead.url()]).await.expect("both up");
    // Two anvils make different blocks: only the genesis block is common, so the lagging one is put back to it.
    behind.rollback(1).await;
    ahead.mine(10).await;
    let reports = chain.survey(3).await;
    assert!(reports.iter().all(|report| !report.disagrees), "{reports:?}");
    assert_eq!(chain.heights().await.expect("heights").latest.hash, ahead.head().await);
}

#[tokio::test]
async fn calls_read_at_one_canonical_block() {
    let anvil = Anvil::start().await;
    let chain = anvil.chain().await;
    let to = returning(&anvil, 3).await;
    anvil.mine(1).await;
    let block = chain.heights().await.expect("heights").latest;
    let at = BlockId::hash_canonical(block.hash);
    assert_eq!(chain.call(to, &decimalsCall {}, at).await.expect("canonical"), 3);
    assert_eq!(chain.block_by_hash(block.hash).await.expect("block"), Some(block));
    assert_eq!(chain.block_by_number(block.number).await.expect("block"), Some(block));
    assert_eq!(chain.block_by_number(block.number + 1).await.expect("no block"), None);
    let unknown = BlockId::hash_canonical(B256::repeat_byte(1));
    let error = chain.call(to, &decimalsCall {}, unknown).await.expect_err("no such block");
    assert!(!error.is_endpoint_failure(), "{error}");
    assert_eq!(BlockId::from(BlockNumberOrTag::Latest), BlockId::latest());
}

#[tokio::test]
async fn no_answer_is_larger_than_it_may_be() {
    let anvil = Anvil::start().await;
    let server = FaultyRpc::with(anvil.port, |request| match request {
        request if request.contains("eth_chainId") => Answer::Forward(request),
        request if request.contains("eth_getTransactionCount") => Answer::Announced(1 << 40),
        _ => Answer::Endless,
    });
    let server = server.await.expect("a port");
    let limits = AnswerLimits { ordinary: 1 << 20, bulk: 4 << 20, ..AnswerLimits::default() };
    let chain = Chain::with_limits(&[server.url()], CHAIN, limits).expect("a URL");
    let error = chain.block_by_number(1).await.expect_err("endless");
    assert!(matches!(error, RpcError::TooLarge { limit, .. } if limit == limits.ordinary), "{error}");
    let error = chain.logs(&Filter::new()).await.expect_err("endless");
    assert!(matches!(error, RpcError::TooLarge { limit, .. } if limit == limits.bulk), "{error}");
    let error = chain.transaction_count(Address::ZERO, BlockId::latest()).await.expect_err("announced");
    assert!(matches!(error, RpcError::TooLarge { .. }), "{error}");
    // What the sockets hold between the two sides is taken from the server, too.
    assert!(server.taken() < 64 << 20);
    // An honest endpoint takes over.
    let chain = Chain::with_limits(&[server.url(), anvil.url()], CHAIN, limits).expect("URLs");
    assert_eq!(chain.heights().await.expect("heights").latest.hash, anvil.head().await);
}

#[tokio::test]
async fn no_message_of_a_websocket_is_larger_than_it_may_be() {
    let anvil = Anvil::start().await;
    let to = Address::repeat_byte(0x77);
    // PUSH2 0x4000 PUSH0 RETURN: 32 KiB of hex.
    let _: serde_json::Value = anvil.rpc("anvil_setCode", serde_json::json!([to, "0x6140005ff3"])).await;
    for (bulk, passes) in [(64 << 10, true), (16 << 10, false)] {
        let limits = AnswerLimits { bulk, ..AnswerLimits::default() };
        let chain = Chain::with_limits(&[anvil.ws_url()], CHAIN, limits).expect("a URL");
        let result = chain.simulate(&TransactionRequest::default().to(to), BlockId::latest()).await;
        assert_eq!(result.is_ok(), passes, "{result:?}");
    }
}

/// An endpoint that says this height is the final one.
async fn finalized_at(anvil: &Anvil, number: u64) -> FaultyRpc {
    let block = format!(
        r#"{{"number":"{number:#x}","hash":"{hash}","parentHash":"{hash}","timestamp":"0x1"}}"#,
        hash = B256::repeat_byte(7)
    );
    let answer = move |request: String| {
        if request.contains("\"finalized\"") { Answer::Result(block.clone()) } else { Answer::Forward(request) }
    };
    FaultyRpc::with(anvil.port, answer).await.expect("a port")
}

#[tokio::test]
async fn a_final_block_above_the_head_is_none() {
    let anvil = Anvil::start().await;
    anvil.mine(10).await;
    for (said, believed) in [(5, 5), (11, 11), (12, 0), (u64::MAX, 0)] {
        let server = finalized_at(&anvil, said).await;
        let heights = connect(&[server.url()]).await.expect("up").heights().await.expect("heights");
        assert_eq!((heights.latest.number, heights.finalized), (11, believed));
    }
}

#[tokio::test]
async fn of_several_endpoints_two_must_call_a_block_final() {
    let anvil = Anvil::start().await;
    anvil.mine(10).await;
    let (low, high) = (finalized_at(&anvil, 4).await, finalized_at(&anvil, 9).await);
    let proxy = Wire::to(anvil.port).await.expect("a port");
    for urls in [[high.url(), low.url()], [low.url(), high.url()]] {
        let chain = connect(&urls).await.expect("up");
        assert_eq!(chain.heights().await.expect("heights").finalized, 4);
    }
    let third = finalized_at(&anvil, 8).await;
    let chain = connect(&[high.url(), low.url(), third.url()]).await.expect("up");
    assert_eq!(chain.heights().await.expect("heights").finalized, 8);
    // Nobody confirms.
    proxy.cut();
    let chain = connect(&[high.url(), proxy.url()]).await.expect("one is up");
    let heights = chain.heights().await.expect("heights");
    assert_eq!((heights.latest.number, heights.finalized), (11, 0));
}

#[tokio::test]
async fn when_the_other_endpoints_are_gone_for_good_the_last_one_is_believed() {
    let anvil = Anvil::start().await;
    anvil.mine(10).await;
    let (said, gone) = (finalized_at(&anvil, 9).await, Wire::to(anvil.port).await.expect("a port"));
    gone.cut();
    let chain = connect(&[said.url(), gone.url()]).await.expect("one is up");
    let mut looks = 0;
    while chain.heights().await.expect("heights").finalized == 0 {
        looks += 1;
    }
    assert!((10..100).contains(&looks), "{looks}");
    // Somebody else is back, and has its say about what comes.
    let (low, high) = (finalized_at(&anvil, 4).await, finalized_at(&anvil, 9).await);
    let chain = connect(&[high.url(), low.url()]).await.expect("both up");
    for _ in 0..100 {
        assert_eq!(chain.heights().await.expect("heights").finalized, 4);
    }
}

#[tokio::test]
async fn an_endpoint_that_limits_the_rate_is_left_alone_for_as_long_as_it_wants() {
    let anvil = Anvil::start().await;
    let rpc = FaultyRpc::start(anvil.port).await.expect("a port");
    let chain = connect(&[rpc.url()]).await.expect("up");
    rpc.set(Fault::Status(429, Some(3600)));
    let limited = |error: RpcError| match error {
        RpcError::RateLimited { retry_after, .. } => retry_after.expect("a time").as_secs(),
        other => panic!("{other}"),
    };
    assert_eq!(limited(chain.block_by_number(0).await.expect_err("limited")), 3600);
    let asked = rpc.asked();
    rpc.set(Fault::None);
    for _ in 0..5 {
        let left = limited(chain.block_by_number(0).await.expect_err("still limited"));
        assert!(left <= 60, "nobody is waited for longer than a minute");
    }
    assert_eq!(rpc.asked(), asked, "and in that time it is not asked");
    // Another one is.
    let chain = connect(&[rpc.url(), anvil.url()]).await.expect("up");
    rpc.set(Fault::Status(429, Some(3600)));
    assert!(chain.block_by_number(0).await.expect("the other one").is_some());
}

#[tokio::test]
async fn a_node_with_nothing_but_errors_is_left_for_another() {
    let anvil = Anvil::start().await;
    let rpc = FaultyRpc::start(anvil.port).await.expect("a port");
    let chain = connect(&[rpc.url(), anvil.url()]).await.expect("up");
    rpc.set(Fault::Error(-32601, "the method is not available"));
    let asked = rpc.asked();
    assert!(chain.heights().await.expect("the other one").latest.number > 0);
    let to = returning(&anvil, 5).await;
    assert_eq!(chain.call(to, &decimalsCall {}, BlockId::latest()).await.expect("the other one"), 5);
    assert!(rpc.asked() > asked);
    // Alone, its word is what there is.
    let chain = Chain::new(&[rpc.url()], CHAIN).expect("a URL");
    let error = chain.block_by_number(0).await.expect_err("an error");
    assert!(matches!(error, RpcError::Answer { code: -32601, .. }), "{error}");
}

async fn signed(anvil: &Anvil, nonce: u64) -> Vec<u8> {
    let key = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    let wallet = EthereumWallet::from(key.parse::<PrivateKeySigner>().expect("a key"));
    let request = TransactionRequest::default()
        .with_to(anvil.logger)
        .with_chain_id(CHAIN)
        .with_nonce(nonce)
        .with_gas_limit(100_000)
        .with_max_fee_per_gas(10_000_000_000)
        .with_max_priority_fee_per_gas(1);
    request.build(&wallet).await.expect("signed").encoded_2718()
}

#[tokio::test]
async fn a_transaction_reaches_the_chain_through_any_endpoint() {
    let anvil = Anvil::start().await;
    let rpc = FaultyRpc::start(anvil.port).await.expect("a port");
    let limits = AnswerLimits { patience: std::time::Duration::from_secs(2), ..AnswerLimits::default() };
    let chain = Chain::with_limits(&[rpc.url(), anvil.url()], CHAIN, limits).expect("URLs");
    let faults = [Fault::Drop, Fault::Lose, Fault::Cut, Fault::Twice, Fault::Status(503, None), Fault::Silence];
    let faults = faults.into_iter().chain([Fault::Error(-32601, "the method is not available")]);
    for (nonce, fault) in (1..).zip(faults) {
        chain.heights().await.expect("connected");
        rpc.set(fault.clone());
        let raw = signed(&anvil, nonce).await;
        // Whether the node has it from one endpoint or the other: it has it.
        match chain.send_raw(&raw).await {
            Ok(hash) => assert_eq!(hash, alloy::primitives::keccak256(&raw), "{fault:?}"),
            Err(error) => assert!(error.to_string().contains("already"), "{fault:?}: {error}"),
        }
        let pending = chain.transaction_count(SENDER, BlockId::pending()).await.expect("a count");
        assert_eq!(pending, nonce + 1, "{fault:?}");
        rpc.set(Fault::None);
    }
    let stranger = Anvil::with(&["--chain-id", "5"]).await;
    rpc.set(Fault::Elsewhere(stranger.port));
    let chain = Chain::new(&[rpc.url(), anvil.url()], CHAIN).expect("URLs");
    chain.send_raw(&signed(&anvil, 8).await).await.expect("the right chain has it");
}

#[tokio::test]
async fn a_count_that_decides_about_nonces_is_the_lowest_of_the_right_chain() {
    let (anvil, other) = (Anvil::start().await, Anvil::with(&["--chain-id", "5"]).await);
    for topic in 0..3 {
        anvil.log(topic).await;
        other.log(topic).await;
        other.log(topic).await;
    }
    let rpc = FaultyRpc::start(anvil.port).await.expect("a port");
    let chain = connect(&[rpc.url(), anvil.url()]).await.expect("up");
    let lowest = || chain.lowest_transaction_count(SENDER, BlockId::latest());
    assert_eq!(lowest().await.expect("a count"), 4);
    rpc.set(Fault::StaleCounts(2));
    assert_eq!(lowest().await.expect("a count"), 2);
    rpc.set(Fault::Elsewhere(other.port));
    assert_eq!(lowest().await.expect("a count"), 4);
    rpc.set(Fault::None);
    assert!(lowest().await.is_ok());
    let chain = connect(&[rpc.url()]).await.expect("up");
    rpc.set(Fault::Elsewhere(other.port));
    let error = chain.lowest_transaction_count(SENDER, BlockId::latest()).await.expect_err("another chain");
    assert!(matches!(error, RpcError::WrongChain { found: 5, .. }), "{error}");
}
