//! What was asked, and whether an answer answers it.

use alloy_primitives::{Address, B256, Bytes, U256};
use kms_chain::{
    cleartexts::{self, CleartextError},
    eip712::{self, DecryptionReceipt, Eip712Domain, SignatureError},
    extra_data::{ExtraData, ExtraDataError},
    handle::{Handle, HandleError, check_request_handles},
    manifest::{Committee, DecryptionDomain},
    proof::SignatureBytes,
    request::{Request, pull_request_id, request_id},
};
use kms_encoding::user::{Envelope, EnvelopeError, Kem, OpenError};
use kms_proto::{
    bounds::{self, BoundsError},
    node,
};

use crate::user::{self, Fault, Foreign, Group, HandleContract, Rejected, Unusable, UserRequest, UserResponse};

/// A question that can't be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuestionError {
    /// The handles can't be one request.
    #[error(transparent)]
    Handles(#[from] HandleError),
    /// The extra data doesn't parse.
    #[error(transparent)]
    ExtraData(#[from] ExtraDataError),
    /// The question is for another committee.
    #[error("the question names context {0}, which is not this committee's")]
    Context(B256),
    /// The extra data names another epoch than the one to ask for: no party could answer.
    #[error("the extra data names epoch {named}, but epoch {asked} is asked for")]
    Epoch {
        /// In the extra data.
        named: B256,
        /// To be asked for.
        asked: B256,
    },
    /// Extra data of version 3 on a pull: its answers would pass for answers to a request that nobody has checked.
    #[error("the extra data binds to request {0}, which a pull is not")]
    BoundToRequest(B256),
}

/// A decryption to ask a committee for, and all that its answers must agree with.
#[derive(Clone, Debug)]
pub struct Question {
    chain_id: u64,
    epoch: B256,
    id: B256,
    handles: Vec<B256>,
    parsed: Vec<Handle>,
    extra_data: Bytes,
    source: node::decrypt_request::Source,
}

impl Question {
    /// A request that a gateway has recorded. Its answers carry extra data v3: context, epoch and request id.
    ///
    /// # Errors
    /// Handles that can't be a request, or another context than the committee's.
    pub fn on_chain(
        committee: &Committee,
        chain_id: u64,
        gateway: Address,
        request: &Request,
        epoch: B256,
    ) -> Result<Self, QuestionError> {
        let parsed = check_request_handles(&request.handles, chain_id)?;
        let context = request.contextId;
        if context != committee.context_id {
            return Err(QuestionError::Context(context));
        }
        let id = request_id(chain_id, gateway, request);
        let source = node::decrypt_request::Source::Request(node::OnChainRequest {
            requester: request.requester.to_vec(),
            nonce: request.nonce,
            handles: request.handles.iter().map(|handle| handle.to_vec()).collect(),
            selector: request.selector.to_vec(),
            gas_limit: request.gasLimit,
            finality: request.finality.into(),
            deadline: request.deadline,
            context_id: context.to_vec(),
        });
        let extra_data = ExtraData::V3 { context, epoch, request_id: id }.encode();
        Ok(Self { chain_id, epoch, id, handles: request.handles.clone(), parsed, extra_data, source })
    }

    /// Publicly decryptable handles (pull). The answers carry `extra_data` as given; v1 of the committee is usual. If it
    /// names an epoch, `epoch` must be that one.
    ///
    /// # Errors
    /// Handles that can't be a request, extra data that doesn't parse or binds to a request, another context than the
    /// committee's, or another epoch than the one named.
    pub fn public(
        committee: &Committee,
        chain_id: u64,
        handles: &[B256],
        extra_data: &[u8],
        epoch: B256,
    ) -> Result<Self, QuestionError> {
        let parsed = check_request_handles(handles, chain_id)?;
        let named = ExtraData::parse(extra_data)?;
        if let Some(request) = named.request_id() {
            return Err(QuestionError::BoundToRequest(request));
        }
        if let Some(context) = named.context()
            && context != committee.context_id
        {
            return Err(QuestionError::Context(context));
        }
        if let Some(named) = named.epoch()
            && named != epoch
        {
            return Err(QuestionError::Epoch { named, asked: epoch });
        }
        let id = pull_request_id(chain_id, handles, extra_data);
        let source = node::decrypt_request::Source::Public(node::PublicRequest {
            handles: handles.iter().map(|handle| handle.to_vec()).collect(),
            extra_data: extra_data.to_vec(),
        });
        let extra_data = Bytes::copy_from_slice(extra_data);
        Ok(Self { chain_id, epoch, id, handles: handles.to_vec(), parsed, extra_data, source })
    }

    /// Id of the request.
    #[must_use]
    pub fn id(&self) -> B256 {
        self.id
    }

    /// The handles.
    #[must_use]
    pub fn handles(&self) -> &[Handle] {
        &self.parsed
    }

    /// Extra data that an answer must carry.
    #[must_use]
    pub fn extra_data(&self) -> &Bytes {
        &self.extra_data
    }

    /// Epoch whose shares are to be used.
    #[must_use]
    pub fn epoch(&self) -> B256 {
        self.epoch
    }

    /// The message for a party; `wait_ms` is how long it may hold the call, 0 for its default.
    #[must_use]
    pub fn message(&self, wait_ms: u32) -> node::DecryptRequest {
        let source = Some(self.source.clone());
        node::DecryptRequest { chain_id: self.chain_id, source, epoch_id: self.epoch.to_vec(), wait_ms }
    }

    /// What a party signs when it answers with these cleartexts.
    ///
    /// # Errors
    /// Never for a question made by the constructors, whose extra data parses.
    pub fn digest(&self, domain: &Eip712Domain, cleartexts: &[u8]) -> Result<B256, ExtraDataError> {
        eip712::public_decrypt_digest(domain, &self.handles, cleartexts, &self.extra_data)
    }
}

/// An answer whose content fits the question and whose signature is that of the party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedAnswer {
    /// Index of the party.
    pub index: u32,
    /// Its address.
    pub signer: Address,
    /// One word per handle.
    pub cleartexts: Bytes,
    /// Its signature.
    pub signature: SignatureBytes,
    /// Extra data as it belongs into a proof.
    pub extra_data: Bytes,
}

impl VerifiedAnswer {
    /// The values, in order of the handles.
    #[must_use]
    pub fn values(&self) -> Vec<U256> {
        self.cleartexts.as_chunks::<32>().0.iter().map(|word| U256::from_be_bytes(*word)).collect()
    }
}

/// An answer or receipt that does not count. All of them are the fault of the party that gave it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// A field breaks its bound.
    #[error(transparent)]
    Bounds(#[from] BoundsError),
    /// The committee has no such party.
    #[error("no party {0} in the committee")]
    NoParty(u32),
    /// It is for another request.
    #[error("the answer is for request {0}")]
    RequestId(B256),
    /// A receipt of another committee.
    #[error("the receipt is of context {0}")]
    Context(B256),
    /// The bitmaps of a receipt are no partition of the committee.
    #[error("arrived {arrived:#x}, late {late:#x} and wrong {wrong:#x} do not name each of the {n} parties once")]
    Bitmaps {
        /// Right shares.
        arrived: U256,
        /// None in time.
        late: U256,
        /// Wrong shares.
        wrong: U256,
        /// Parties.
        n: u32,
    },
    /// It carries other extra data than asked.
    #[error("the answer carries extra data {0}")]
    ExtraData(Bytes),
    /// The extra data does not parse.
    #[error(transparent)]
    BadExtraData(#[from] ExtraDataError),
    /// The cleartexts don't fit the handles.
    #[error(transparent)]
    Cleartexts(#[from] CleartextError),
    /// The signature is malformed.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A sealed share that can't be anybody's answer.
    #[error("a sealed share that answers nothing: {0}")]
    Share(#[from] Rejected),
    /// A sealed share whose envelope does not say what it must.
    #[error("the envelope of its share is wrong: {}", .0.label())]
    Envelope(Fault),
    /// A sealed share for another context or permit.
    #[error("its share belongs elsewhere: {}", .0.label())]
    Elsewhere(Foreign),
    /// The signature, or the stated signer, is not the party's.
    #[error("signed by {found}, but party {index} is {expected}")]
    Signer {
        /// Party.
        index: u32,
        /// Its address.
        expected: Address,
        /// Who signed.
        found: Address,
    },
}

fn signer_of(committee: &Committee, index: u32) -> Result<Address, AnswerError> {
    committee.party(index).map(|party| party.signer).ok_or(AnswerError::NoParty(index))
}

fn require_signer(index: u32, expected: Address, found: Address) -> Result<(), AnswerError> {
    if found == expected { Ok(()) } else { Err(AnswerError::Signer { index, expected, found }) }
}

/// Checks the answer of party `index`.
///
/// # Errors
/// Whatever is wrong with it; see [`AnswerError`].
pub fn answer(
    question: &Question,
    committee: &Committee,
    domain: &DecryptionDomain,
    index: u32,
    answer: &node::Answer,
) -> Result<VerifiedAnswer, AnswerError> {
    bounds::check_answer(answer)?;
    let signer = signer_of(committee, index)?;
    require_signer(index, signer, Address::from_slice(&answer.signer))?;
    let id = B256::from(bounds::id("request_id", &answer.request_id)?);
    if id != question.id {
        return Err(AnswerError::RequestId(id));
    }
    // Empty and 0x00 mean and sign the same; any other difference is another statement.
    if ExtraData::parse(&answer.extra_data)? != ExtraData::parse(&question.extra_data)? {
        return Err(AnswerError::ExtraData(answer.extra_data.clone().into()));
    }
    let types: Vec<_> = question.parsed.iter().map(Handle::fhe_type).collect();
    cleartexts::decode(&answer.cleartexts, &types)?;
    let signature = bounds::signature("signature", &answer.signature)?;
    let digest = question.digest(&domain.eip712(), &answer.cleartexts)?;
    require_signer(index, signer, eip712::recover(digest, &signature)?)?;
    Ok(VerifiedAnswer {
        index,
        signer,
        cleartexts: answer.cleartexts.clone().into(),
        signature,
        extra_data: question.extra_data.clone(),
    })
}

/// The message that asks a party for its share of a user decryption.
#[must_use]
pub fn user_message(request: &UserRequest) -> node::UserDecryptRequest {
    let permit = &request.permit;
    let pair = |pair: &HandleContract| node::HandleContractPair {
        handle: pair.handle.to_vec(),
        contract: pair.contract.to_vec(),
    };
    node::UserDecryptRequest {
        chain_id: request.host_chain_id,
        permit: Some(node::Permit {
            user: permit.user.to_vec(),
            delegator: permit.delegator.map(|delegator| delegator.to_vec()).unwrap_or_default(),
            public_key: permit.public_key.to_vec(),
            contracts: permit.contracts.iter().map(|contract| contract.to_vec()).collect(),
            start: permit.start,
            days: permit.days,
            extra_data: permit.extra_data.to_vec(),
        }),
        signature: request.signature.to_vec(),
        pairs: request.pairs.iter().map(pair).collect(),
    }
}

/// A sealed share that a party has signed for one request, and that says so. Whether it is right only the user can find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedShare {
    /// Index of the party.
    pub index: u32,
    /// What it can be put together with.
    pub group: Group,
    /// As it goes to the user.
    pub response: UserResponse,
}

/// Checks the answer of party `index` to a user decryption: everything that can be seen without the user's key.
///
/// # Errors
/// Whatever is wrong with it; see [`AnswerError`].
pub fn user_answer(
    request: &UserRequest,
    committee: &Committee,
    domain: &DecryptionDomain,
    index: u32,
    response: UserResponse,
) -> Result<VerifiedShare, AnswerError> {
    let expected = signer_of(committee, index)?;
    require_signer(index, expected, user::signer_of(&domain.eip712(), request, &response)?)?;
    let opening = |error: OpenError| AnswerError::Envelope(Fault::Opening(error));
    let envelope = Envelope::parse(&response.share).map_err(|error| opening(error.into()))?;
    let party = u8::try_from(index).map_err(|_| AnswerError::NoParty(index))?;
    let permit_hash = request.permit.digest(request.host_chain_id, domain.verifying_contract);
    let group = user::group_of(&envelope.header, party, request, permit_hash, committee.context_id)?;
    let (handles, digests) = (request.pairs.len(), group.digests.len());
    if handles != digests {
        return Err(opening(EnvelopeError::Digests { handles, digests }.into()));
    }
    let found = envelope.kem;
    match [Kem::MlKem768, Kem::MlKem512].into_iter().find(|k| k.public_key_bytes() == request.permit.public_key.len()) {
        Some(expected) if expected != found => Err(opening(OpenError::Kem { expected, found })),
        _ => Ok(VerifiedShare { index, group, response }),
    }
}

impl From<Unusable> for AnswerError {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Foreign(foreign) => Self::Elsewhere(foreign),
            Unusable::Wrong(fault) => Self::Envelope(fault),
        }
    }
}

/// Each party stands in exactly one bitmap, and nobody else does.
fn check_bitmaps(n: u32, receipt: &DecryptionReceipt) -> Result<(), AnswerError> {
    let DecryptionReceipt { arrived, late, wrong, .. } = *receipt;
    let all = if n < 256 { (U256::ONE << n) - U256::ONE } else { U256::MAX };
    let once = (arrived & late).is_zero() && (arrived & wrong).is_zero() && (late & wrong).is_zero();
    if once && arrived | late | wrong == all { Ok(()) } else { Err(AnswerError::Bitmaps { arrived, late, wrong, n }) }
}

/// Checks the final receipt of party `index` for `request_id`.
///
/// # Errors
/// A broken bound, another request or context, bitmaps in which a party stands twice, nowhere, or is none, or a signature
/// that is not the party's.
pub fn receipt(
    request_id: B256,
    committee: &Committee,
    domain: &DecryptionDomain,
    index: u32,
    receipt: &node::Receipt,
) -> Result<DecryptionReceipt, AnswerError> {
    bounds::check_receipt(receipt)?;
    let signer = signer_of(committee, index)?;
    let statement = DecryptionReceipt {
        requestId: bounds::id("request_id", &receipt.request_id)?.into(),
        contextId: bounds::id("context_id", &receipt.context_id)?.into(),
        epochId: bounds::id("epoch_id", &receipt.epoch_id)?.into(),
        keyId: bounds::id("key_id", &receipt.key_id)?.into(),
        arrived: U256::from_be_bytes(bounds::id("arrived", &receipt.arrived)?),
        late: U256::from_be_bytes(bounds::id("late", &receipt.late)?),
        wrong: U256::from_be_bytes(bounds::id("wrong", &receipt.wrong)?),
        mpcMicros: receipt.mpc_micros,
    };
    if statement.requestId != request_id {
        return Err(AnswerError::RequestId(statement.requestId));
    }
    if statement.contextId != committee.context_id {
        return Err(AnswerError::Context(statement.contextId));
    }
    check_bitmaps(committee.n, &statement)?;
    let signature = bounds::signature("signature", &receipt.signature)?;
    let digest = eip712::receipt_digest(&domain.eip712(), &statement);
    require_signer(index, signer, eip712::recover(digest, &signature)?)?;
    Ok(statement)
}

#[cfg(test)]
mod tests;
