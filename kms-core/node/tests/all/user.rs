//! The guard and user decryptions, against a real chain: the real lens, real smart accounts, real delegations.

use alloy::sol_types::SolValue;
use alloy_primitives::{Address, B256, Bytes, U256};
use k256::ecdsa::SigningKey;
use kms_chain::eip712::{sign_digest, signer_address};
use kms_chain::extra_data::ExtraData;
use kms_chain::permit::{HandleContract, Permit, PermitError, UserRequest, UserRequestError};
use kms_chain::user_view::{UserQuestion, UserRefusal};
use kms_encoding::user::{Kem, KeyPair};
use kms_node::guard::{NotYetReason, Refusal, Verdict};

use crate::chain::{ALICE, BOB, CHAIN_ID, DIGEST, KEY, World, mined};
use crate::guard::{allowed, guard, waits};

const DAY: u64 = 86_400;
const WILDCARD: Address = Address::repeat_byte(0xff);

fn key(hex: &str) -> SigningKey {
    SigningKey::from_slice(&alloy_primitives::hex::decode(hex).unwrap()).unwrap()
}

fn address(hex: &str) -> Address {
    signer_address(&key(hex))
}

#[track_caller]
fn refused(verdict: Verdict) -> UserRefusal {
    match verdict {
        Verdict::Refused(Refusal::User(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// A chain on which Alice has an encrypted balance.
struct Scene {
    world: World,
    token: Address,
    handle: B256,
}

impl Scene {
    async fn new(floor: u16) -> Self {
        let world = World::with_floor(floor).await;
        let token = world.token().await;
        let handle = world.balance(token, address(ALICE)).await;
        world.commit(handle).await;
        Self { world, token, handle }
    }

    /// Alice's permit for her balance from now on for a day, and whoever's signature over it.
    async fn request(&self, signer: &str, change: impl FnOnce(&mut UserRequest)) -> UserRequest {
        let mut request = UserRequest {
            host_chain_id: CHAIN_ID,
            permit: Permit {
                user: address(ALICE),
                delegator: None,
                public_key: KeyPair::from_seed(Kem::MlKem768, &[1; 64]).public_key().as_bytes().to_vec().into(),
                contracts: vec![self.token],
                start: self.world.now().await,
                days: 1,
                extra_data: Bytes::new(),
            },
            signature: Bytes::new(),
            pairs: vec![HandleContract { handle: self.handle, contract: self.token }],
        };
        change(&mut request);
        self.sign(&mut request, signer, CHAIN_ID);
        request
    }

    fn sign(&self, request: &mut UserRequest, signer: &str, chain_id: u64) {
        let contract = self.world.manifest.decryption_domain.verifying_contract;
        request.signature = sign_digest(&key(signer), request.permit.digest(chain_id, contract)).to_vec().into();
    }

    async fn check(&self, request: &UserRequest) -> Verdict {
        let (own, domain) = (self.world.manifest.committee.context_id, self.world.manifest.decryption_domain);
        let question = UserQuestion::new(request.clone(), own, domain.verifying_contract).unwrap();
        guard(&self.world, &[self.world.anvil.url()]).check_user(&question).await
    }

    /// Bob reads for Alice.
    async fn for_alice(&self) -> UserRequest {
        let (alice, bob) = (address(ALICE), address(BOB));
        self.request(BOB, |r| (r.permit.user, r.permit.delegator) = (bob, Some(alice))).await
    }
}

#[tokio::test]
async fn a_holder_reads_its_balance_and_nobody_else_does() {
    let scene = Scene::new(0).await;
    let grant = allowed(scene.check(&scene.request(ALICE, |_| ()).await).await);
    assert_eq!((grant.handles[0].handle.raw(), grant.handles[0].key_id), (scene.handle, KEY));
    assert_eq!((grant.handles[0].digest, grant.request_id), (DIGEST, None));

    // Bob's own permit, right in every way but for the right.
    let bob = address(BOB);
    let stolen = scene.request(BOB, |r| r.permit.user = bob).await;
    let (account, handle) = (bob, scene.handle);
    assert_eq!(refused(scene.check(&stolen).await), UserRefusal::UserNotAllowed { account, handle });
    // In the name of a contract that has none, although the permit names it.
    let other = Address::repeat_byte(0x77);
    let through = |r: &mut UserRequest| (r.permit.contracts, r.pairs[0].contract) = (vec![other], other);
    let through = scene.request(ALICE, through).await;
    let contract = other;
    assert_eq!(refused(scene.check(&through).await), UserRefusal::ContractNotAllowed { contract, handle });
    // Signed by somebody else, or for another chain: Alice's wallet has no code to ask.
    let forged = scene.request(BOB, |_| ()).await;
    let user = address(ALICE);
    assert_eq!(refused(scene.check(&forged).await), UserRefusal::WrongSigner(user));
    let mut foreign = scene.request(ALICE, |_| ()).await;
    scene.sign(&mut foreign, ALICE, CHAIN_ID + 1);
    assert_eq!(refused(scene.check(&foreign).await), UserRefusal::WrongSigner(user));
    let elsewhere = scene.request(ALICE, |r| r.host_chain_id = 5).await;
    let (own, domain) = (scene.world.manifest.committee.context_id, scene.world.manifest.decryption_domain);
    let elsewhere = UserQuestion::new(elsewhere, own, domain.verifying_contract).unwrap_err();
    assert_eq!(elsewhere.label(), "ForeignChain");
}

#[tokio::test]
async fn a_context_in_the_extra_data_is_this_partys() {
    let scene = Scene::new(0).await;
    let (own, domain) = (scene.world.manifest.committee.context_id, scene.world.manifest.decryption_domain);
    let naming = async |context| {
        let extra_data = ExtraData::V1 { context }.encode();
        scene.request(ALICE, |r| r.permit.extra_data = extra_data).await
    };
    allowed(scene.check(&naming(own).await).await);
    let requested = B256::repeat_byte(9);
    let other = UserQuestion::new(naming(requested).await, own, domain.verifying_contract);
    assert_eq!(other, Err(UserRefusal::WrongContext { requested, own }));
}

#[tokio::test]
async fn a_permit_holds_from_its_first_second_to_its_last() {
    let scene = Scene::new(0).await;
    let now = scene.world.now().await;
    let request = scene.request(ALICE, |r| r.permit.start = now + 1000).await;
    let (start, end) = (now + 1000, now + 1000 + DAY);
    let early = UserRefusal::Request(UserRequestError::Permit(PermitError::NotYetValid { start, now }));
    assert_eq!(refused(scene.check(&request).await), early);
    scene.world.at(start - 1).await;
    waits(scene.check(&request).await, NotYetReason::Behind);
    for time in [start, end] {
        scene.world.at(time).await;
        allowed(scene.check(&request).await);
    }
    scene.world.at(end + 1).await;
    let late = UserRefusal::Request(UserRequestError::Permit(PermitError::Expired { end, now: end + 1 }));
    assert_eq!(refused(scene.check(&request).await), late);
}

#[tokio::test]
async fn an_invalidated_permit_opens_nothing_any_more_whatever_is_final() {
    let scene = Scene::new(2).await;
    scene.world.anvil.mine(2).await;
    let request = scene.request(ALICE, |_| ()).await;
    allowed(scene.check(&request).await);
    let before = request.permit.start + 1;
    mined(scene.world.acl(ALICE).invalidateDecryptionSignaturesBefore(before).send().await.unwrap()).await;
    let gone = UserRefusal::PermitInvalidated { start: request.permit.start, before };
    assert_eq!(refused(scene.check(&request).await), gone);
    scene.world.at(before).await;
    allowed(scene.check(&scene.request(ALICE, |r| r.permit.start = before).await).await);
}

#[tokio::test]
async fn rights_and_commitments_have_to_be_final() {
    let scene = Scene::new(2).await;
    let request = scene.request(ALICE, |_| ()).await;
    waits(scene.check(&request).await, NotYetReason::NotFinal);
    // The right is final now, the commitment is not.
    scene.world.anvil.mine(1).await;
    waits(scene.check(&request).await, NotYetReason::NotCommitted);
    scene.world.anvil.mine(1).await;
    allowed(scene.check(&request).await);
}

#[tokio::test]
async fn a_delegate_reads_while_its_delegation_holds() {
    let scene = Scene::new(0).await;
    let (delegator, user, contract) = (address(ALICE), address(BOB), scene.token);
    let none = UserRefusal::NotDelegated { delegator, delegate: user, contract };
    let request = scene.for_alice().await;
    assert_eq!(refused(scene.check(&request).await), none);
    let acl = scene.world.acl(ALICE);
    let until = scene.world.now().await + 1000;
    // For another contract: of no use here.
    let delegate = async |contract, until| {
        mined(acl.delegateForUserDecryption(user, contract, until).send().await.unwrap()).await;
    };
    delegate(Address::repeat_byte(0x77), until).await;
    assert_eq!(refused(scene.check(&request).await), none);
    delegate(scene.token, until).await;
    allowed(scene.check(&request).await);
    // The delegate's own permit is not one for Alice's values, and Alice's is not one for the delegate.
    let own = scene.request(BOB, |r| r.permit.user = user).await;
    let (account, handle) = (user, scene.handle);
    assert_eq!(refused(scene.check(&own).await), UserRefusal::UserNotAllowed { account, handle });
    // It holds before its expiration date and not at it.
    scene.world.at(until - 1).await;
    allowed(scene.check(&request).await);
    scene.world.at(until).await;
    assert_eq!(refused(scene.check(&request).await), UserRefusal::DelegationExpired { contract, until });
    // For every contract, until it is revoked.
    delegate(WILDCARD, u64::MAX).await;
    allowed(scene.check(&request).await);
    mined(acl.revokeDelegationForUserDecryption(user, WILDCARD).send().await.unwrap()).await;
    assert_eq!(refused(scene.check(&request).await), UserRefusal::DelegationExpired { contract, until });
    mined(acl.revokeDelegationForUserDecryption(user, contract).send().await.unwrap()).await;
    assert_eq!(refused(scene.check(&request).await), none);
}

#[tokio::test]
async fn a_delegation_is_given_when_it_is_final_and_taken_at_once() {
    let scene = Scene::new(2).await;
    let (user, until) = (address(BOB), scene.world.now().await + 1000);
    let acl = scene.world.acl(ALICE);
    mined(acl.delegateForUserDecryption(user, scene.token, until).send().await.unwrap()).await;
    scene.world.anvil.mine(1).await;
    let request = scene.for_alice().await;
    waits(scene.check(&request).await, NotYetReason::NotFinal);
    scene.world.anvil.mine(1).await;
    allowed(scene.check(&request).await);
    mined(acl.revokeDelegationForUserDecryption(user, scene.token).send().await.unwrap()).await;
    assert!(matches!(refused(scene.check(&request).await), UserRefusal::NotDelegated { .. }));
}

#[tokio::test]
async fn a_smart_account_signs_in_its_own_way() {
    let scene = Scene::new(0).await;
    let account = scene.world.create("Wallets", "Wallet", address(ALICE).abi_encode()).await;
    let handle = scene.world.balance(scene.token, account).await;
    scene.world.commit(handle).await;
    let of_account = |r: &mut UserRequest| (r.permit.user, r.pairs[0].handle) = (account, handle);
    allowed(scene.check(&scene.request(ALICE, of_account).await).await);
    let by_bob = scene.request(BOB, of_account).await;
    assert_eq!(refused(scene.check(&by_bob).await), UserRefusal::SignatureRejected(account));
    // Bytes that no wallet makes are for the account to judge, and this one says no.
    for signature in [vec![1], vec![0xff; 65], vec![7; 4096]] {
        let request = UserRequest { signature: signature.into(), ..scene.request(ALICE, of_account).await };
        assert_eq!(refused(scene.check(&request).await), UserRefusal::SignatureRejected(account));
    }
    // Magic; wrong magic; less than a word; a revert; all the gas there is. By the order in `OddWallet.Answer`.
    let rows: [(u8, Option<fn(Address) -> UserRefusal>); 5] = [
        (0, None),
        (1, Some(UserRefusal::SignatureRejected)),
        (7, Some(UserRefusal::SignatureAnswer)),
        (9, Some(UserRefusal::SignatureReverted)),
        (11, Some(UserRefusal::SignatureReverted)),
    ];
    for (answer, expected) in rows {
        let odd = scene.world.create("Wallets", "OddWallet", U256::from(answer).abi_encode()).await;
        let handle = scene.world.balance(scene.token, odd).await;
        scene.world.commit(handle).await;
        let of_odd = |r: &mut UserRequest| (r.permit.user, r.pairs[0].handle) = (odd, handle);
        let verdict = scene.check(&scene.request(BOB, of_odd).await).await;
        match expected {
            None => drop(allowed(verdict)),
            Some(refusal) => assert_eq!(refused(verdict), refusal(odd)),
        }
    }
}

#[tokio::test]
async fn an_account_that_is_not_final_yet_has_not_signed_yet() {
    let scene = Scene::new(4).await;
    let account = scene.world.create("Wallets", "Wallet", address(ALICE).abi_encode()).await;
    let request = scene.request(ALICE, |r| r.permit.user = account).await;
    // It accepts, but has no right: that is said first.
    assert!(matches!(refused(scene.check(&request).await), UserRefusal::UserNotAllowed { .. }));
    let handle = scene.world.balance(scene.token, account).await;
    scene.world.commit(handle).await;
    let request = scene.request(ALICE, |r| (r.permit.user, r.pairs[0].handle) = (account, handle)).await;
    let verdict = scene.check(&request).await;
    let Verdict::NotYet(not_yet) = &verdict else { panic!("{verdict:?}") };
    assert!(not_yet.detail.ends_with(&UserRefusal::WrongSigner(account).to_string()), "{}", not_yet.detail);
    waits(verdict, NotYetReason::NotFinal);
    scene.world.anvil.mine(4).await;
    allowed(scene.check(&request).await);
}
