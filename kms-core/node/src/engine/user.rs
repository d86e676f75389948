//! One user decryption: permit, guard, ciphertexts, this party's masked share, sealed for the user and signed.
//!
//! Nothing goes to the other parties, and no verdict is kept: every call is checked from the permit's signature on, and its
//! words, a function of keys and ciphertexts, are sealed anew. What is sealed is [`kms_mpc::OwnShare`]'s message, which exists
//! only with the mask in it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes};
use kms_chain::eip712::{sign_digest, user_decrypt_response_digest};
use kms_chain::extra_data::ExtraData;
use kms_chain::handle::Handle;
use kms_chain::permit::{HandleContract, Permit, UserRequest};
use kms_chain::user_view::UserQuestion;
use kms_encoding::user::{Binding, Header, SharePayload, seal};
use kms_mpc::DecryptError;
use kms_proto::bounds::{self, BoundsError};
use kms_proto::node::{
    self, NotYetReason, RefusedReason, decrypt_response::Outcome, user_decrypt_response::Outcome as UserOutcome,
};

use kms_telemetry::TraceParent;
use tracing::Instrument;

use super::reply::{LATER, epoch_not_live, in_progress, internal, not_yet_reason, refused_reason, user_reason};
use super::weight::Purpose;
use super::{EngineError, Inner, not_yet, refused, to_user};
use crate::guard::{Grant, HandleGrant, Refusal, Verdict};
use crate::keys::KeyMaterial;
use crate::party::Party;
use crate::pool::compute;
use crate::store::UserAnswer;

/// User decryptions under way at the same time. They hold no more than their ciphertexts, which are weighed besides.
pub(super) const MAX_USERS: usize = 512;

/// Reads whose words are kept: at most 16 KiB of words and 64 KiB of names each, mostly some hundred bytes.
pub(super) const READS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// What the words of a read depend on. The party's context and index are always the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Read {
    key_id: B256,
    epoch_id: B256,
    /// Handles with the digests of their objects, in request order.
    handles: Vec<(B256, B256)>,
}

/// A `UserDecrypt` call whose form and permit are right, as far as no chain is needed for that.
#[derive(Clone, Debug)]
pub(super) struct UserCall {
    named_epoch: Option<B256>,
    question: UserQuestion,
}

impl UserCall {
    /// Reads a call and checks all rules that need neither the chain nor the clock. Takes some tenths of a millisecond:
    /// there is a signature to recover and a key to expand.
    ///
    /// # Errors
    /// A field is malformed, the chain is not served, or a rule of permits is broken.
    pub(super) fn parse(party: &Party, raw: node::UserDecryptRequest) -> Result<Self, node::Refused> {
        let malformed = |error: BoundsError| refused(RefusedReason::Malformed, error.to_string());
        bounds::check_user_decrypt(&raw).map_err(malformed)?;
        let chain_id = raw.chain_id;
        if party.chain(chain_id).is_none() {
            let detail = format!("this party does not serve chain {chain_id}");
            return Err(refused(RefusedReason::UnknownChain, detail));
        }
        let request = request(raw).ok_or_else(|| malformed(BoundsError::Missing("permit")))?;
        let contract = party.manifest.decryption_domain.verifying_contract;
        let question = UserQuestion::new(request, party.context(), contract)
            .map_err(|refusal| refused(user_reason(&refusal), Refusal::User(refusal).to_string()))?;
        let named = ExtraData::parse(&question.request().permit.extra_data);
        Ok(Self { named_epoch: named.ok().and_then(|extra_data| extra_data.epoch()), question })
    }
}

/// The request of a call whose fields have their lengths.
fn request(raw: node::UserDecryptRequest) -> Option<UserRequest> {
    let address = |bytes: &[u8]| Address::try_from(bytes).ok();
    let permit = raw.permit?;
    let pair = |pair: &node::HandleContractPair| {
        Some(HandleContract {
            handle: B256::try_from(pair.handle.as_slice()).ok()?,
            contract: address(&pair.contract)?,
        })
    };
    Some(UserRequest {
        host_chain_id: raw.chain_id,
        permit: Permit {
            user: address(&permit.user)?,
            delegator: if permit.delegator.is_empty() { None } else { Some(address(&permit.delegator)?) },
            public_key: permit.public_key.into(),
            contracts: permit.contracts.iter().map(|contract| address(contract)).collect::<Option<_>>()?,
            start: permit.start,
            days: permit.days,
            extra_data: permit.extra_data.into(),
        },
        signature: raw.signature.into(),
        pairs: raw.pairs.iter().map(pair).collect::<Option<_>>()?,
    })
}

impl Inner {
    /// This party's share of a user decryption, or why there is none now. Dropping the future gives up.
    pub(super) async fn user_decrypt(
        &self,
        raw: node::UserDecryptRequest,
        wait: Duration,
        caller: Option<TraceParent>,
    ) -> Result<UserOutcome, EngineError> {
        let started = Instant::now();
        let mut chain = Duration::ZERO;
        let outcome = match self.users.try_acquire() {
            Err(_) => Err(not_yet(NotYetReason::Busy, "too many user decryptions are under way", LATER)),
            Ok(_place) => match tokio::time::timeout(wait, self.user_share(raw, caller, &mut chain)).await {
                Ok(outcome) => outcome?,
                Err(_) => Err(in_progress()),
            },
        };
        let outcome = outcome.map_or_else(to_user, UserOutcome::Answer);
        self.parts.metrics.user_decryption(&outcome, started.elapsed().saturating_sub(chain));
        Ok(outcome)
    }

    async fn user_share(
        &self,
        raw: node::UserDecryptRequest,
        caller: Option<TraceParent>,
        chain: &mut Duration,
    ) -> Result<Result<node::UserAnswer, Outcome>, EngineError> {
        let party = self.parts.party.clone();
        let call = match compute(move || UserCall::parse(&party, raw)).await {
            Ok(call) => call,
            Err(refusal) => return Ok(Err(Outcome::Refused(refusal))),
        };
        let id = call.question.id();
        let span = tracing::info_span!("user decrypt", request = %id, otel.kind = "server");
        kms_telemetry::adopt(&span, id, caller);
        self.share_of(call, chain).instrument(span).await
    }

    async fn share_of(
        &self,
        call: UserCall,
        chain: &mut Duration,
    ) -> Result<Result<node::UserAnswer, Outcome>, EngineError> {
        let live = self.parts.keys.live_epochs();
        if call.named_epoch.is_some_and(|named| !live.contains(&named)) {
            return Ok(Err(epoch_not_live(&live)));
        }
        let asked = Instant::now();
        let grant = match self.user_permitted(&call, chain).await {
            Ok(grant) => grant,
            Err(no) => return Ok(Err(no)),
        };
        let held = grant.handles.first().and_then(|first| self.parts.keys.usable(first.key_id));
        let epoch_id = call.named_epoch.or_else(|| held.map(|key| key.epoch_id)).unwrap_or_default();
        let material = match self.material(grant.handles.iter().map(|g| g.key_id), epoch_id) {
            Ok(material) => material,
            Err(none) => return Ok(Err(none.outcome())),
        };
        let key_id = material.key_id;
        let words = match self.words_of(&call, material, &grant.handles).await? {
            Ok(words) => words,
            Err(no) => return Ok(Err(no)),
        };
        // Fetching may have taken long, and waiting for room.
        if asked.elapsed() >= self.options.verdict_age {
            match self.user_permitted(&call, chain).await {
                Ok(again) if again.handles == grant.handles => {}
                Ok(_) => {
                    let detail = "the chain says something else than a moment ago";
                    return Ok(Err(not_yet(NotYetReason::BlockUnknown, detail, LATER)));
                }
                Err(no) => return Ok(Err(no)),
            }
        }
        let row = audit(&call, &grant, epoch_id, key_id);
        let Some(answer) = self.seal(call, &grant, epoch_id, key_id, words).await? else {
            return Ok(Err(in_progress()));
        };
        // The share leaves this party only after this line is written.
        let (request, user) = (row.id, row.user);
        self.parts.store.user_answer(row).await?;
        self.parts.metrics.own_share_used();
        tracing::info!(%request, %user, handles = grant.handles.len(), block = grant.block_number, "sealed for a user");
        Ok(Ok(answer))
    }

    /// This party's words for what was granted. Those of the last reads are kept, so that who reads again costs no fetching
    /// and no arithmetic: they are a function of keys and ciphertexts.
    async fn words_of(
        &self,
        call: &UserCall,
        material: Arc<KeyMaterial>,
        handles: &[HandleGrant],
    ) -> Result<Result<Vec<u128>, Outcome>, EngineError> {
        let read = Read {
            key_id: material.key_id,
            epoch_id: material.epoch_id,
            handles: handles.iter().map(|g| (g.handle.raw(), g.digest)).collect(),
        };
        if let Some(words) = self.words.lock().get(&read) {
            return Ok(Ok(words.clone()));
        }
        let work = match self.work(material, handles, Purpose::Other).await? {
            Ok(work) => work,
            Err(error) if error.is_final() => {
                return Ok(Err(Outcome::Refused(refused(RefusedReason::Ciphertext, error.to_string()))));
            }
            Err(error) => return Ok(Err(not_yet(NotYetReason::CiphertextUnavailable, error.to_string(), LATER))),
        };
        match self.share(work).await {
            Ok(own) => {
                let words = own.words();
                self.words.lock().put(read, words.clone());
                Ok(Ok(words))
            }
            Err(error @ DecryptError::BlockCount { .. }) => {
                Ok(Err(Outcome::Refused(refused(RefusedReason::Ciphertext, error.to_string()))))
            }
            Err(error) => {
                tracing::error!(request = %call.question.id(), %error, "this party can't compute its share");
                Ok(Err(internal()))
            }
        }
    }

    /// What the chain says; `spent` grows by the time that it took.
    #[tracing::instrument(name = "chain guard", skip_all)]
    async fn user_permitted(&self, call: &UserCall, spent: &mut Duration) -> Result<Grant, Outcome> {
        let asked = Instant::now();
        let verdict = self.parts.permission.check_user(&call.question).await;
        *spent += asked.elapsed();
        match verdict {
            Verdict::Allowed(grant)
                if grant.handles.iter().map(|g| g.handle).eq(call.question.handles().iter().copied()) =>
            {
                Ok(grant)
            }
            Verdict::Allowed(_) => {
                tracing::error!(request = %call.question.id(), "the guard has granted something else");
                Err(internal())
            }
            Verdict::NotYet(n) => Err(not_yet(not_yet_reason(n.reason), n.detail, n.retry_after)),
            Verdict::Refused(no) => Err(Outcome::Refused(refused(refused_reason(&no), no.to_string()))),
        }
    }

    /// Seals and signs a share, on the pool. `None`: a party that lies has nothing to say.
    #[tracing::instrument(name = "seal and sign", skip_all)]
    async fn seal(
        &self,
        call: UserCall,
        grant: &Grant,
        epoch_id: B256,
        key_id: B256,
        mut words: Vec<u128>,
    ) -> Result<Option<node::UserAnswer>, EngineError> {
        if let Some(lie) = self.parts.misbehave {
            tokio::time::sleep(lie.delay()).await;
            match lie.apply_for_user(words) {
                Some(other) => words = other,
                None => return Ok(None),
            }
        }
        let digests: Vec<[u8; 32]> = grant.handles.iter().map(|g| g.digest.0).collect();
        let (party, degree, own_index) = (self.parts.party.clone(), self.committee.degree() as u8, self.own.index());
        compute(move || {
            let request = call.question.request();
            let permit = &request.permit;
            let header = Header {
                party: own_index,
                context_id: party.context().0,
                epoch_id: epoch_id.0,
                key_id: key_id.0,
                user: permit.user.into(),
                permit_hash: call.question.permit_hash().0,
                digests,
            };
            let domain = party.manifest.decryption_domain;
            let handles = request.handles();
            let raw: Vec<[u8; 32]> = handles.iter().map(|handle| handle.0).collect();
            let binding = Binding {
                host_chain_id: request.host_chain_id,
                domain_chain_id: domain.chain_id,
                verifying_contract: domain.verifying_contract.into(),
                extra_data: &permit.extra_data,
                handles: &raw,
            };
            let types: Vec<_> = call.question.handles().iter().map(Handle::fhe_type).collect();
            let payload = SharePayload::new(degree, &types, words).map_err(|error| EngineError::Seal(error.into()))?;
            let share = seal(call.question.public_key(), &header, &binding, &payload)?;
            let extra_data: &Bytes = &permit.extra_data;
            let digest =
                user_decrypt_response_digest(&domain.eip712(), &permit.public_key, &handles, &share, extra_data)
                    // The request's rules have been checked, and this is one of them.
                    .map_err(|_| EngineError::Stored(call.question.id()))?;
            let signature = sign_digest(&party.signing_key, digest).to_vec();
            Ok(Some(node::UserAnswer { share, signature, extra_data: extra_data.to_vec() }))
        })
        .await
    }
}

/// What stays of an answer.
fn audit(call: &UserCall, grant: &Grant, epoch_id: B256, key_id: B256) -> UserAnswer {
    let request = call.question.request();
    UserAnswer {
        id: call.question.id(),
        epoch_id,
        key_id,
        chain_id: request.host_chain_id,
        user: request.permit.user,
        delegator: request.permit.delegator,
        permit_hash: call.question.permit_hash(),
        handles: request.handles(),
        block_number: grant.block_number,
    }
}
