use std::time::Duration;

use alloy::{eips::BlockNumberOrTag, providers::Provider};
use alloy_primitives::{Address, B256, Bytes, U256};
use kms_chain::abi::CiphertextRegistry;
use kms_coprocessor::{Error, service::Service};
use kms_encoding::FheType;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    anvil::{ConfidentialVote, World, wallet},
    fixture::{CHAIN, Recipient, client, handles, key, post},
};

/// A running coprocessor.
pub(crate) struct Running {
    pub(crate) base: String,
    cancel: CancellationToken,
    task: JoinHandle<kms_coprocessor::Result<()>>,
}

impl Running {
    pub(crate) async fn start(world: &World) -> Self {
        let service = Service::prepare(world.config()).await.unwrap();
        let base = format!("http://{}", service.address());
        let cancel = CancellationToken::new();
        let task = tokio::spawn(service.run(cancel.clone()));
        Self { base, cancel, task }
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }

    async fn handle(&self, handle: B256) -> serde_json::Value {
        client().get(format!("{}/v1/handles/{handle}", self.base)).send().await.unwrap().json().await.unwrap()
    }

    pub(crate) async fn wait_for(&self, handle: B256, state: &str) -> serde_json::Value {
        for _ in 0..6_000 {
            let status = self.handle(handle).await;
            if status["state"] == state {
                return status;
            }
            assert_ne!(status["state"], "failed", "{status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{handle} never became {state}: {}", self.handle(handle).await);
    }

    /// Encrypts a value of an account for a contract; returns handle and proof.
    pub(crate) async fn encrypt(
        &self,
        world: &World,
        account: usize,
        contract: Address,
        value: (FheType, u64),
    ) -> (B256, Bytes) {
        let recipient = Recipient {
            chain_id: CHAIN,
            acl: world.contracts.access_control,
            contract,
            user: wallet(account).address(),
        };
        let list = key().encrypt(&[value], &recipient);
        let (status, answer) = post(&format!("{}/v1/inputs", self.base), &recipient, &list).await;
        assert_eq!(status, 200, "{answer}");
        (handles(&answer)[0], answer["inputProof"].as_str().unwrap().parse().unwrap())
    }

    /// Encrypts a ballot for a voter and casts it.
    async fn cast(&self, world: &World, account: usize, ballot: u64) {
        let (handle, proof) = self.encrypt(world, account, world.vote, (FheType::Bool, ballot)).await;
        let vote = ConfidentialVote::new(world.vote, world.provider(account));
        let receipt = vote.vote(handle, proof).send().await.unwrap().get_receipt().await.unwrap();
        assert!(receipt.status(), "the contract takes the ballot");
    }

    /// The plaintext behind a committed handle.
    pub(crate) async fn value(&self, handle: B256) -> U256 {
        let status = self.wait_for(handle, "committed").await;
        let digest: B256 = status["digest"].as_str().unwrap().parse().unwrap();
        let object = client().get(format!("{}/ct/{}", self.base, hex::encode(digest))).send().await.unwrap();
        key().decrypt(&object.bytes().await.unwrap(), handle)
    }
}

/// Closes the vote; returns the block of the request.
async fn close(world: &World) -> u64 {
    let provider = world.provider(0);
    let now = provider.get_block_by_number(BlockNumberOrTag::Latest).await.unwrap().unwrap().header.timestamp;
    let vote = ConfidentialVote::new(world.vote, provider);
    let receipt = vote.close(0, now + 3_600).send().await.unwrap().get_receipt().await.unwrap();
    assert!(receipt.status());
    receipt.block_number.unwrap()
}

async fn registered(world: &World, handle: B256) -> (B256, B256) {
    let registry = CiphertextRegistry::new(world.contracts.ciphertext_registry, world.provider(0));
    let found = registry.commitmentOf(handle).call().await.unwrap();
    (found.keyId, found.digest)
}

/// The digest is on the chain, and the served bytes hash to it and hold the tally.
async fn check_tally(world: &World, coprocessor: &Running, tally: B256, value: u64) -> B256 {
    let status = coprocessor.wait_for(tally, "committed").await;
    let digest: B256 = status["digest"].as_str().unwrap().parse().unwrap();
    assert_eq!(registered(world, tally).await, (key().public.info().key_id().into(), digest));
    let object = client().get(format!("{}/ct/{}", coprocessor.base, hex::encode(digest))).send().await.unwrap();
    let object = object.bytes().await.unwrap();
    assert_eq!(Sha256::digest(&object).as_slice(), digest.as_slice());
    assert_eq!(key().decrypt(&object, tally), U256::from(value));
    digest
}

#[tokio::test(flavor = "multi_thread")]
async fn from_ballots_to_a_digest_on_the_chain_through_a_restart_and_a_reorg() {
    let world = World::start().await;
    let coprocessor = Running::start(&world).await;
    for (account, ballot) in [(1, 1), (2, 0), (3, 1)] {
        coprocessor.cast(&world, account, ballot).await;
    }
    coprocessor.stop().await;

    // Everything that the chain said while nobody listened is found again.
    let requested = close(&world).await;
    let coprocessor = Running::start(&world).await;
    let tally = ConfidentialVote::new(world.vote, world.provider(0)).tally().call().await.unwrap();
    let digest = check_tally(&world, &coprocessor, tally, 2).await;

    // A reorg takes request and commitment; the votes stay.
    let provider = world.provider(0);
    let every = async |seconds: u64| {
        provider.raw_request::<_, ()>("evm_setIntervalMining".into(), [seconds]).await.unwrap();
    };
    // No block comes in between.
    every(0).await;
    let head = provider.get_block_number().await.unwrap();
    let parameters = (head - requested + 1, Vec::<()>::new());
    provider.raw_request::<_, ()>("anvil_reorg".into(), parameters).await.unwrap();
    every(1).await;
    assert_eq!(registered(&world, tally).await.1, B256::ZERO);
    close(&world).await;
    coprocessor.wait_for(tally, "committed").await;
    while registered(&world, tally).await.1.is_zero() {
        // The status above may still be that of the old branch.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(check_tally(&world, &coprocessor, tally, 2).await, digest, "one handle, one digest, for ever");

    let health: serde_json::Value =
        client().get(format!("{}/healthz", coprocessor.base)).send().await.unwrap().json().await.unwrap();
    assert_eq!((&health["status"], &health["chains"][0]["chainId"]), (&"ok".into(), &CHAIN.into()));
    coprocessor.stop().await;

    // A signer that the contracts don't know is told so at once.
    let mut config = world.config();
    config.signer.keystore = None;
    config.signer.password_file = None;
    config.signer.env = Some("KMS_TEST_NO_SUCH_KEY".into());
    assert!(matches!(Service::prepare(config).await, Err(Error::Signer(_))));
}
