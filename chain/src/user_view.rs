//! What the chain says about a user decryption, and the conclusion from it: one table for parties and relayers.
//!
//! The question goes to `GuardLens.viewUserDecryption`, at a block that is final enough and at the latest one. Rights and
//! commitments must stand in the final block; that nothing was taken back since (delegation, permit, the smart account's
//! mind, the context, the key) and that the permit is valid now must hold at the latest block too. Time is block time. No
//! I/O here.

use crate::{
    abi::{GuardLens, IGuardLens},
    eip712::SignatureError,
    handle::Handle,
    permit::{PermitError, UserRequest, UserRequestError},
};
use alloy_primitives::{Address, B256, Bytes};
use kms_encoding::user::PublicKey;

/// The view, as the contract returns it.
pub type UserView = IGuardLens::UserDecryptionView;

/// A permit that starts at most so many seconds after the latest block is waited for: the clock of whoever signed it may be
/// ahead of the chain's.
pub const START_AHEAD: u64 = 60;

/// A well-formed user decryption and what to ask the chain about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserQuestion {
    request: UserRequest,
    handles: Vec<Handle>,
    public_key: PublicKey,
    context: B256,
    permit_hash: B256,
    id: B256,
    wallet: Wallet,
}

/// What the signature says without the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wallet {
    /// It is the user's own.
    Signed,
    /// It is somebody else's, or of another form: the user's code must accept it.
    Other,
    /// 65 bytes that are nobody's signature: the user's code must accept it.
    Malformed(SignatureError),
}

/// The decision about one user decryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserVerdict {
    /// Shares of these handles may be sealed to the user, in request order.
    Allowed(Vec<UserGrant>),
    /// Not now; the same question may get another answer later.
    NotYet {
        /// Class of the reason.
        reason: UserWait,
        /// One sentence for people.
        detail: String,
    },
    /// No.
    Refused {
        /// Why.
        refusal: UserRefusal,
        /// No later block takes it back, and the final block says the same. Other refusals answer the call, which can be
        /// made again: rights are given late, delegations renewed, and an endpoint may lag behind both.
        lasts: bool,
    },
}

/// One handle that the user may read, and the ciphertext that is committed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserGrant {
    /// The handle.
    pub handle: Handle,
    /// Key that it is encrypted under.
    pub key_id: B256,
    /// SHA-256 of the ciphertext object.
    pub digest: B256,
}

/// Why there is no decision yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UserWait {
    /// Permitted at the latest block, but not in a block that is final enough.
    NotFinal,
    /// The digest of a ciphertext is not committed, or its key is not active yet.
    NotCommitted,
    /// The permit starts within [`START_AHEAD`].
    NotStarted,
    /// The two blocks contradict each other: one of them has been replaced.
    BlockUnknown,
    /// The endpoint's answer makes no sense, or it gives calls too little gas.
    ChainUnavailable,
}

/// Why the answer is no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserRefusal {
    /// A rule that needs no chain; of those, the permit's times come from here too.
    #[error(transparent)]
    Request(#[from] UserRequestError),
    /// Another committee: named by the extra data, or, when that names none, the chain's current one.
    #[error("context {requested} is to answer, this is {own}")]
    WrongContext {
        /// Context that is to answer.
        requested: B256,
        /// Own context.
        own: B256,
    },
    /// The context was destroyed, or the chain has never known it.
    #[error("context {0} was destroyed, or the chain does not know it")]
    ContextNotLive(B256),
    /// The user has ended all permits that start so early.
    #[error("the permit starts at {start}, the user has ended those that start before {before}")]
    PermitInvalidated {
        /// First second of validity.
        start: u64,
        /// Permits count from this start on.
        before: u64,
    },
    /// Not the user's signature, and the user is no contract that could accept it.
    #[error("the signature is not that of {0}")]
    WrongSigner(Address),
    /// Nobody's signature, and the user is no contract that could accept it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The user's contract does not accept the signature (ERC-1271).
    #[error("contract {0} does not accept the signature")]
    SignatureRejected(Address),
    /// The user's contract reverts when it is asked, or takes too much gas.
    #[error("contract {0} reverts when it is asked for the signature, or takes too much gas")]
    SignatureReverted(Address),
    /// The user's contract answers something that is no answer.
    #[error("contract {0} does not answer as ERC-1271 says")]
    SignatureAnswer(Address),
    /// Whose value it is holds no lasting right on the handle.
    #[error("{account} may not decrypt {handle}")]
    UserNotAllowed {
        /// The user, or the delegator.
        account: Address,
        /// The handle.
        handle: B256,
    },
    /// The contract of the pair holds no lasting right on the handle.
    #[error("contract {contract} has no right on {handle}")]
    ContractNotAllowed {
        /// The contract.
        contract: Address,
        /// The handle.
        handle: B256,
    },
    /// There is no delegation, or it was revoked.
    #[error("{delegate} may not read for {delegator} in {contract}")]
    NotDelegated {
        /// Whose values they are.
        delegator: Address,
        /// Who signed.
        delegate: Address,
        /// In this contract.
        contract: Address,
    },
    /// The delegation is over.
    #[error("the delegation of {contract} ended at {until}")]
    DelegationExpired {
        /// In this contract.
        contract: Address,
        /// When it ended.
        until: u64,
    },
    /// The key of the handle must not be used any more.
    #[error("key {key_id} of {handle} is {state}")]
    KeyState {
        /// The handle.
        handle: B256,
        /// Its key.
        key_id: B256,
        /// State of the key.
        state: &'static str,
    },
}

/// What may be done with a key in a state of `IKeyManagement.KeyState` (NIST SP 800-57): a deactivated key still opens what
/// it has encrypted, a suspended one may come back, a compromised or destroyed one opens nothing any more.
#[must_use]
pub const fn key_use(state: u8) -> KeyUse {
    match state {
        2 | 4 => KeyUse::Opens,
        0 => KeyUse::Wait("not registered"),
        1 => KeyUse::Wait("not active yet"),
        3 => KeyUse::Wait("suspended"),
        5 => KeyUse::Never("compromised"),
        6 => KeyUse::Never("destroyed"),
        _ => KeyUse::Never("in a state that this program does not know"),
    }
}

/// What may be done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// It opens what it has encrypted.
    Opens,
    /// Nothing now.
    Wait(&'static str),
    /// Nothing any more.
    Never(&'static str),
}

impl UserWait {
    /// Stable label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotFinal => "not-final",
            Self::NotCommitted => "not-committed",
            Self::NotStarted => "not-started",
            Self::BlockUnknown => "block-unknown",
            Self::ChainUnavailable => "chain-unavailable",
        }
    }
}

impl UserRefusal {
    /// Stable label, and what an API says.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Request(error) => error.label(),
            Self::WrongContext { .. } => "WrongContext",
            Self::ContextNotLive(_) => "ContextNotLive",
            Self::PermitInvalidated { .. } => "PermitInvalidated",
            Self::WrongSigner(_) => "WrongSigner",
            Self::Signature(error) => error.label(),
            Self::SignatureRejected(_) => "SignatureRejected",
            Self::SignatureReverted(_) => "SignatureReverted",
            Self::SignatureAnswer(_) => "SignatureAnswer",
            Self::UserNotAllowed { .. } => "UserNotAllowed",
            Self::ContractNotAllowed { .. } => "ContractNotAllowed",
            Self::NotDelegated { .. } => "NotDelegated",
            Self::DelegationExpired { .. } => "DelegationExpired",
            Self::KeyState { .. } => "KeyState",
        }
    }

    /// Whether no block that follows can take it back. Accounts may be deployed and change their mind, rights and
    /// delegations be given, contexts follow each other, and a permit's time come.
    #[must_use]
    pub const fn is_irrevocable(&self) -> bool {
        match self {
            Self::Request(error) => !matches!(error, UserRequestError::Permit(PermitError::NotYetValid { .. })),
            Self::PermitInvalidated { .. } | Self::KeyState { .. } => true,
            _ => false,
        }
    }
}

/// Why a view does not permit.
enum Stop {
    Wait(UserWait, String),
    Refuse(UserRefusal),
}

impl From<UserRefusal> for Stop {
    fn from(refusal: UserRefusal) -> Self {
        Self::Refuse(refusal)
    }
}

impl UserQuestion {
    /// Checks all rules that need neither chain nor clock, the committee that is named, and the signature as a wallet's.
    ///
    /// `context`: one's own. `verifying_contract`: that of the canonical decryption domain.
    ///
    /// # Errors
    /// [`UserRefusal::Request`] or [`UserRefusal::WrongContext`]. A signature that is not the user's is no error yet: the
    /// user's code may accept it.
    pub fn new(request: UserRequest, context: B256, verifying_contract: Address) -> Result<Self, UserRefusal> {
        let (public_key, handles) = request.check()?;
        if let Some(requested) = request.named_context().filter(|named| *named != context) {
            return Err(UserRefusal::WrongContext { requested, own: context });
        }
        let permit_hash = request.permit.digest(request.host_chain_id, verifying_contract);
        let wallet = match request.permit.is_signed_by_wallet(permit_hash, &request.signature) {
            Ok(true) => Wallet::Signed,
            Ok(false) => Wallet::Other,
            Err(error) => Wallet::Malformed(error),
        };
        let id = request.id(verifying_contract);
        Ok(Self { request, handles, public_key, context, permit_hash, id, wallet })
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> &UserRequest {
        &self.request
    }

    /// Its handles, parsed.
    #[must_use]
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// The key that answers are sealed to.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Digest of the permit: what the user signed.
    #[must_use]
    pub fn permit_hash(&self) -> B256 {
        self.permit_hash
    }

    /// Id of the request ([`UserRequest::id`]).
    #[must_use]
    pub fn id(&self) -> B256 {
        self.id
    }

    /// Whether the signature is the user's own, so that no contract needs to be asked.
    #[must_use]
    pub fn is_signed_by_wallet(&self) -> bool {
        self.wallet == Wallet::Signed
    }

    /// Whose values are read: the user's, or the delegator's.
    #[must_use]
    pub fn owner(&self) -> Address {
        self.request.permit.delegator.unwrap_or(self.request.permit.user)
    }

    /// What to ask `GuardLens`, at both blocks.
    #[must_use]
    pub fn call(&self) -> GuardLens::viewUserDecryptionCall {
        let ask = !self.is_signed_by_wallet();
        let pair = |pair: &crate::permit::HandleContract| IGuardLens::HandleContractPair {
            handle: pair.handle,
            contractAddress: pair.contract,
        };
        GuardLens::viewUserDecryptionCall {
            query: IGuardLens::UserDecryptionQuery {
                user: self.owner(),
                signer: self.request.permit.user,
                contextId: self.context,
                pairs: self.request.pairs.iter().map(pair).collect(),
                askSigner: ask,
                permitDigest: self.permit_hash,
                signature: if ask { self.request.signature.clone() } else { Bytes::new() },
            },
        }
    }

    /// The verdict, from the answers at the block that is final enough and at the latest one. With several endpoints: one
    /// verdict per latest view, which must be of one kind ([`UserVerdict::same_kind`]).
    #[must_use]
    pub fn judge(&self, at_final: &UserView, at_latest: &UserView) -> UserVerdict {
        match (self.holds(at_latest), self.permits(at_final)) {
            (Ok(()), Ok(grants)) => UserVerdict::Allowed(grants),
            (Ok(()), Err(Stop::Wait(reason, detail))) | (Err(Stop::Wait(reason, detail)), _) => {
                UserVerdict::NotYet { reason, detail }
            }
            (Ok(()), Err(Stop::Refuse(refusal))) if refusal.is_irrevocable() => UserVerdict::NotYet {
                reason: UserWait::BlockUnknown,
                detail: format!("the final block says what the latest one does not: {refusal}"),
            },
            (Ok(()), Err(Stop::Refuse(refusal))) => UserVerdict::NotYet {
                reason: UserWait::NotFinal,
                detail: format!("permitted, but not in a block that is final enough; there: {refusal}"),
            },
            (Err(Stop::Refuse(refusal)), at_final_block) => {
                let says_so = |stop: Stop| matches!(stop, Stop::Refuse(other) if other.label() == refusal.label());
                let sure = self.in_time(at_final).is_err_and(says_so) || at_final_block.is_err_and(says_so);
                UserVerdict::Refused { lasts: sure && refusal.is_irrevocable(), refusal }
            }
        }
    }

    /// Time and everything else, at the latest block. A refusal goes before a reason to wait: whoever waits has been found
    /// to be who it says, and in the right, as far as one can see now.
    fn holds(&self, view: &UserView) -> Result<(), Stop> {
        match (self.in_time(view), self.permits(view).map(|_| ())) {
            (Err(Stop::Wait(..)), Err(refused @ Stop::Refuse(_))) => Err(refused),
            (Ok(()), permits) => permits,
            (time, _) => time,
        }
    }

    /// The permit's time.
    fn in_time(&self, view: &UserView) -> Result<(), Stop> {
        let (permit, now) = (&self.request.permit, view.blockTimestamp);
        match permit.check_time(now) {
            Err(error @ PermitError::NotYetValid { .. }) if permit.start - now <= START_AHEAD => {
                Err(Stop::Wait(UserWait::NotStarted, error.to_string()))
            }
            other => other.map_err(|error| UserRefusal::from(UserRequestError::from(error)).into()),
        }
    }

    /// Everything but time, at one block.
    fn permits(&self, view: &UserView) -> Result<Vec<UserGrant>, Stop> {
        let permit = &self.request.permit;
        if view.pairs.len() != self.request.pairs.len() {
            let detail =
                format!("the lens answered for {} pairs instead of {}", view.pairs.len(), self.request.pairs.len());
            return Err(Stop::Wait(UserWait::ChainUnavailable, detail));
        }
        if self.request.named_context().is_none() && view.currentContextId != self.context {
            return Err(UserRefusal::WrongContext { requested: view.currentContextId, own: self.context }.into());
        }
        if !view.contextLive {
            return Err(UserRefusal::ContextNotLive(self.context).into());
        }
        let before = view.signaturesInvalidBefore;
        if permit.start < before {
            return Err(UserRefusal::PermitInvalidated { start: permit.start, before }.into());
        }
        self.signed(view.signature)?;
        let pairs = || self.request.pairs.iter().zip(&view.pairs);
        for (pair, seen) in pairs() {
            let (handle, contract) = (pair.handle, pair.contract);
            if !seen.userAllowed {
                return Err(UserRefusal::UserNotAllowed { account: self.owner(), handle }.into());
            }
            if !seen.contractAllowed {
                return Err(UserRefusal::ContractNotAllowed { contract, handle }.into());
            }
            if !seen.delegated {
                return Err(match seen.delegatedUntil {
                    0 => UserRefusal::NotDelegated { delegator: self.owner(), delegate: permit.user, contract },
                    until => UserRefusal::DelegationExpired { contract, until },
                }
                .into());
            }
        }
        self.handles.iter().zip(&view.pairs).map(|(handle, seen)| grant(*handle, seen)).collect()
    }

    /// What the user's code said.
    fn signed(&self, answer: u8) -> Result<(), Stop> {
        let user = self.request.permit.user;
        let unavailable = |detail: &str| Err(Stop::Wait(UserWait::ChainUnavailable, detail.to_owned()));
        match (self.wallet, answer) {
            (Wallet::Signed, _) | (_, 1) => Ok(()),
            (_, 2) => Err(UserRefusal::SignatureRejected(user).into()),
            (_, 3) => Err(UserRefusal::SignatureReverted(user).into()),
            (_, 4) => Err(UserRefusal::SignatureAnswer(user).into()),
            (Wallet::Malformed(error), 5) => Err(UserRefusal::from(error).into()),
            (Wallet::Other, 5) => Err(UserRefusal::WrongSigner(user).into()),
            (_, 6) => unavailable("the endpoint gives calls too little gas to ask the user's contract"),
            _ => unavailable("the lens does not say whether the user's contract accepts the signature"),
        }
    }
}

fn grant(handle: Handle, seen: &IGuardLens::PairView) -> Result<UserGrant, Stop> {
    let (raw, key_id) = (handle.raw(), seen.keyId);
    let wait = |detail| Err(Stop::Wait(UserWait::NotCommitted, detail));
    if key_id.is_zero() {
        return wait(format!("no ciphertext is committed to {raw} yet"));
    }
    match key_use(seen.keyState) {
        KeyUse::Opens => Ok(UserGrant { handle, key_id, digest: seen.digest }),
        KeyUse::Wait(what) => wait(format!("key {key_id} of {raw} is {what}")),
        KeyUse::Never(state) => Err(UserRefusal::KeyState { handle: raw, key_id, state }.into()),
    }
}

impl UserVerdict {
    /// Equal but for times and heights, which differ between endpoints without any of them lying.
    #[must_use]
    pub fn same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Allowed(a), Self::Allowed(b)) => a == b,
            (Self::NotYet { reason: a, .. }, Self::NotYet { reason: b, .. }) => a == b,
            (Self::Refused { refusal: a, .. }, Self::Refused { refusal: b, .. }) => a.label() == b.label(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
