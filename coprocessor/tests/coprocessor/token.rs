use alloy::{network::Ethereum, providers::PendingTransactionBuilder};
use alloy_primitives::{B256, U256};
use kms_encoding::FheType;

use crate::{
    anvil::{ConfidentialToken, World, wallet},
    chain::Running,
};

async fn mined(sent: alloy::contract::Result<PendingTransactionBuilder<Ethereum>>) {
    assert!(sent.unwrap().get_receipt().await.unwrap().status());
}

async fn balance(world: &World, account: usize) -> B256 {
    let token = ConfidentialToken::new(world.token, world.provider(0));
    token.confidentialBalanceOf(wallet(account).address()).call().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn balances_of_a_token_are_computed_and_committed_without_being_asked_for() {
    let world = World::start().await;
    let coprocessor = Running::start(&world).await;
    let (alice, bob) = (1, 2);
    let token = |account| ConfidentialToken::new(world.token, world.provider(account));
    mined(token(0).mint(wallet(alice).address(), 100).send().await).await;
    let minted = balance(&world, alice).await;
    assert_eq!(coprocessor.value(minted).await, U256::from(100));

    // What she has moves; more than that moves nothing.
    for amount in [30, 71] {
        let (handle, proof) = coprocessor.encrypt(&world, alice, world.token, (FheType::Uint64, amount)).await;
        let hers = token(alice);
        mined(hers.confidentialTransfer(wallet(bob).address(), handle, proof).send().await).await;
        assert_eq!(coprocessor.value(balance(&world, alice).await).await, U256::from(70));
        assert_eq!(coprocessor.value(balance(&world, bob).await).await, U256::from(30));
    }
    assert_eq!(coprocessor.value(minted).await, U256::from(100), "who could read it can for ever");
    coprocessor.stop().await;
}
