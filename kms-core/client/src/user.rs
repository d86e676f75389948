//! User decryption: from the parties' sealed shares to values that only the user sees.
//!
//! A client makes a key pair ([`KeyPair`]), builds a permit ([`Permit`]) and has the wallet sign its digest, collects the
//! responses of the parties by whatever way, and feeds them to a [`UserDecryption`], which
//! 1. authenticates each response: its signature must be that of a party of the context over this very request;
//! 2. opens its envelope and groups it by epoch, key and ciphertext digests (context and handles are the request's);
//! 3. decodes a group robustly once 2t + 1 shares are there, and rounds as the parties do.
//!
//! With r wrong responses 2t + 1 + r are needed: add more and try again. A response that is not authentic blames nobody,
//! since anybody may have made it. One that is authentic and wrong names its party. Who sent nothing is missing, not wrong.
//!
//! Specified in `docs/spec/user-decryption.md`.

mod decoding;
mod outcome;

use alloy_primitives::{Address, B256, Bytes};
use kms_algebra::{PartyId, PartySet};
use kms_chain::{
    context::Context,
    eip712::{self, Eip712Domain},
    extra_data::ExtraData,
    handle::Handle,
    manifest::{self, DecryptionDomain},
    proof::SignatureBytes,
};
use kms_encoding::{
    FheType, FloodBound,
    user::{Binding, Envelope, Header, MAX_ENVELOPE_BYTES, OpenError, SharePayload, open},
};
use std::collections::BTreeMap;

use decoding::Decoder;

pub use kms_chain::permit::{HandleContract, Permit, PermitError, UserRequest, UserRequestError};
pub use kms_encoding::user::{Kem, KeyPair};
pub use outcome::{
    Added, Fault, Foreign, Group, Progress, ReconstructError, Reconstruction, Rejected, SetUpError, Wrong,
};

/// Groups in which one party may stand, and faults aside: an honest party has one per epoch, key and view of the chain.
const MAX_GROUPS_OF_A_PARTY: usize = 8;

/// The committee that is asked: read it from the chain, never from a relayer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parties {
    /// Context id.
    pub context_id: B256,
    /// Signers; party i is at place i − 1.
    pub signers: Vec<Address>,
    /// Parties that may be malicious.
    pub t: u32,
}

impl From<&manifest::Committee> for Parties {
    fn from(committee: &manifest::Committee) -> Self {
        let signers = committee.parties.iter().map(|party| party.signer).collect();
        Self { context_id: committee.context_id, signers, t: committee.t }
    }
}

impl From<&Context> for Parties {
    fn from(context: &Context) -> Self {
        Self { context_id: context.id(), signers: context.signers.clone(), t: context.t }
    }
}

/// What a party answered, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserResponse {
    /// The envelope.
    pub share: Bytes,
    /// The party's signature over `UserDecryptResponseVerification`.
    pub signature: Bytes,
    /// Extra data of the response: that of the permit.
    pub extra_data: Bytes,
}

/// Shares of one group, one per party.
#[derive(Default)]
struct Shares {
    shares: BTreeMap<PartyId, SharePayload>,
}

/// One user decryption at the client. Holds shares, which are erased on drop.
pub struct UserDecryption {
    parties: Parties,
    bound: FloodBound,
    decoder: Decoder,
    response_domain: Eip712Domain,
    domain: DecryptionDomain,
    pair: KeyPair,
    request: UserRequest,
    permit_hash: B256,
    handles: Vec<Handle>,
    raw_handles: Vec<[u8; 32]>,
    types: Vec<FheType>,
    groups: BTreeMap<Group, Shares>,
    wrong: BTreeMap<PartyId, Fault>,
    foreign: BTreeMap<PartyId, Foreign>,
}

impl std::fmt::Debug for UserDecryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserDecryption").field("permit_hash", &self.permit_hash).finish_non_exhaustive()
    }
}

impl UserDecryption {
    /// Starts reading the responses to a request. `pair` is the key pair whose public key stands in the permit.
    ///
    /// # Errors
    /// The request breaks a rule, the committee is impossible, or they don't fit each other; see [`SetUpError`].
    pub fn new(
        parties: Parties,
        domain: &DecryptionDomain,
        request: UserRequest,
        pair: KeyPair,
    ) -> Result<Self, SetUpError> {
        let (key, handles) = request.check()?;
        if &key != pair.public_key() {
            return Err(SetUpError::OtherKey);
        }
        let n = u32::try_from(parties.signers.len()).unwrap_or(u32::MAX);
        let bound = FloodBound::new(n, parties.t)?;
        let decoder = Decoder::new(parties.signers.len(), parties.t as usize)?;
        for (place, signer) in parties.signers.iter().enumerate() {
            if parties.signers[..place].contains(signer) {
                return Err(SetUpError::RepeatedSigner(*signer));
            }
        }
        let named =
            ExtraData::parse(&request.permit.extra_data).map_err(PermitError::from).map_err(UserRequestError::from)?;
        if let Some(context) = named.context()
            && context != parties.context_id
        {
            return Err(SetUpError::Context { named: context, asked: parties.context_id });
        }
        Ok(Self {
            bound,
            decoder,
            response_domain: domain.eip712(),
            domain: *domain,
            pair,
            permit_hash: request.permit.digest(request.host_chain_id, domain.verifying_contract),
            raw_handles: request.pairs.iter().map(|pair| pair.handle.0).collect(),
            types: handles.iter().map(Handle::fhe_type).collect(),
            handles,
            parties,
            request,
            groups: BTreeMap::new(),
            wrong: BTreeMap::new(),
            foreign: BTreeMap::new(),
        })
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> &UserRequest {
        &self.request
    }

    /// Takes one response. Order and repetition don't matter.
    ///
    /// # Errors
    /// The response is not authentic: no party of the context has signed it for this request. Nobody is blamed.
    pub fn add(&mut self, response: &UserResponse) -> Result<Added, Rejected> {
        let party = self.authenticate(response)?;
        Ok(match self.open(party, response) {
            Ok((group, share)) => self.insert(party, group, share),
            Err(Unusable::Foreign(foreign)) => {
                self.foreign.entry(party).or_insert_with(|| foreign.clone());
                Added::Foreign { party, foreign }
            }
            Err(Unusable::Wrong(fault)) => {
                self.wrong.entry(party).or_insert(fault);
                Added::Wrong(Wrong { party, fault })
            }
        })
    }

    /// The party that signed a response to this request.
    fn authenticate(&self, response: &UserResponse) -> Result<PartyId, Rejected> {
        let signer = signer_of(&self.response_domain, &self.request, response)?;
        let place = self.parties.signers.iter().position(|s| *s == signer).ok_or(Rejected::Stranger(signer))?;
        u8::try_from(place + 1).ok().and_then(PartyId::new).ok_or(Rejected::Stranger(signer))
    }

    /// Checks the content of an authentic response and opens it.
    fn open(&self, party: PartyId, response: &UserResponse) -> Result<(Group, SharePayload), Unusable> {
        let envelope = Envelope::parse(&response.share).map_err(|error| Fault::Opening(error.into()))?;
        let group =
            group_of(&envelope.header, party.index(), &self.request, self.permit_hash, self.parties.context_id)?;
        let binding = Binding {
            host_chain_id: self.request.host_chain_id,
            domain_chain_id: self.domain.chain_id,
            verifying_contract: self.domain.verifying_contract.into(),
            extra_data: &self.request.permit.extra_data,
            handles: &self.raw_handles,
        };
        let share = open(&self.pair, &envelope, &binding, self.decoder.degree()).map_err(Fault::Opening)?;
        Ok((group, share))
    }

    fn insert(&mut self, party: PartyId, group: Group, share: SharePayload) -> Added {
        let known = self.groups.values().filter(|shares| shares.shares.contains_key(&party)).count();
        if !self.groups.contains_key(&group) && known >= MAX_GROUPS_OF_A_PARTY {
            return Added::Ignored(party);
        }
        let shares = &mut self.groups.entry(group).or_default().shares;
        match shares.get(&party) {
            None => {
                shares.insert(party, share);
                Added::Share(party)
            }
            Some(first) if *first == share => Added::Repeated(party),
            Some(_) => {
                // Shares are a function of keys and ciphertexts: who signs two different ones lies in one of them.
                self.wrong.entry(party).or_insert(Fault::Conflicting);
                Added::Wrong(Wrong { party, fault: Fault::Conflicting })
            }
        }
    }

    /// Where things stand.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress_of(None, PartySet::EMPTY)
    }

    fn progress_of(&self, group: Option<&Group>, culprits: PartySet) -> Progress {
        let all = PartySet::all(self.parties.signers.len());
        let mut wrong: Vec<Wrong> =
            self.wrong.iter().map(|(party, fault)| Wrong { party: *party, fault: *fault }).collect();
        let known: PartySet = self.wrong.keys().copied().collect();
        wrong.extend(culprits.without(known).iter().map(|party| Wrong { party, fault: Fault::Share }));
        wrong.sort_by_key(|wrong| wrong.party);
        let named: PartySet = wrong.iter().map(|wrong| wrong.party).collect();
        let mut heard = named;
        let mut shares = PartySet::EMPTY;
        let mut elsewhere = Vec::new();
        let chosen = group.or_else(|| self.ranked().first().copied());
        for (candidate, held) in &self.groups {
            for party in held.shares.keys().copied() {
                heard.insert(party);
                if Some(candidate) == chosen {
                    shares.insert(party);
                }
            }
        }
        for (candidate, held) in &self.groups {
            let here = |party: &PartyId| shares.contains(*party) || named.contains(*party);
            elsewhere.extend(
                held.shares.keys().filter(|p| !here(p)).map(|party| (*party, Foreign::Group(candidate.clone()))),
            );
        }
        for (party, foreign) in &self.foreign {
            if !heard.contains(*party) {
                elsewhere.push((*party, foreign.clone()));
            }
        }
        elsewhere.iter().for_each(|(party, _)| {
            heard.insert(*party);
        });
        elsewhere.sort_by_key(|(party, _)| *party);
        Progress {
            needed: self.decoder.needed(),
            shares: shares.without(named),
            wrong,
            elsewhere,
            missing: all.without(heard),
        }
    }

    /// Groups with the most shares first; equal ones in the order of their content.
    fn ranked(&self) -> Vec<&Group> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, held)| std::cmp::Reverse(held.shares.len()));
        groups.into_iter().map(|(group, _)| group).collect()
    }

    /// The values, if the responses so far decide them. Try again after more responses have been added: that can also
    /// name more wrong parties, but never change a value.
    ///
    /// # Errors
    /// [`ReconstructError::Undecided`]: more responses are needed. [`ReconstructError::Refused`]: 2t + 1 parties agree on a
    /// value that no honest ciphertext has.
    pub fn reconstruct(&self) -> Result<Reconstruction, ReconstructError> {
        for group in self.ranked() {
            let Some(held) = self.groups.get(group) else { continue };
            let shares: Vec<(PartyId, &SharePayload)> = held
                .shares
                .iter()
                .filter(|(party, _)| !self.wrong.contains_key(party))
                .map(|(party, share)| (*party, share))
                .collect();
            let Some(opened) = self.decoder.decode(&shares, &self.types) else { continue };
            let mut rest: &mut [u128] = &mut opened.blocks.clone();
            let progress = self.progress_of(Some(group), opened.culprits);
            let mut values = Vec::with_capacity(self.types.len());
            for (handle, ty) in self.handles.iter().zip(&self.types) {
                let (blocks, tail) = rest.split_at_mut(ty.squashed_blocks());
                rest = tail;
                match kms_encoding::decode(*ty, blocks, self.bound) {
                    Ok(value) => values.push((handle.raw(), value)),
                    Err(reason) => {
                        let handle = handle.raw();
                        return Err(ReconstructError::Refused { handle, reason, progress: Box::new(progress) });
                    }
                }
            }
            return Ok(Reconstruction { values, group: group.clone(), agreeing: opened.agreeing, progress });
        }
        Err(ReconstructError::Undecided(Box::new(self.progress())))
    }
}

/// Who signed a response to a request. No response is larger than an envelope, or carries other extra data than the permit.
pub(crate) fn signer_of(
    domain: &Eip712Domain,
    request: &UserRequest,
    response: &UserResponse,
) -> Result<Address, Rejected> {
    if response.share.len() > MAX_ENVELOPE_BYTES {
        return Err(Rejected::TooLarge(response.share.len()));
    }
    let signature = SignatureBytes::try_from(response.signature.as_ref())
        .map_err(|_| Rejected::SignatureLength(response.signature.len()))?;
    let same = |bytes: &[u8]| ExtraData::parse(bytes).map(|extra| extra.encode()).ok();
    let wrong = || Rejected::ExtraData(response.extra_data.clone());
    if same(&response.extra_data).is_none() || same(&response.extra_data) != same(&request.permit.extra_data) {
        return Err(wrong());
    }
    let (key, handles) = (&request.permit.public_key, request.handles());
    let digest = eip712::user_decrypt_response_digest(domain, key, &handles, &response.share, &response.extra_data)
        .map_err(|_| wrong())?;
    Ok(eip712::recover(digest, &signature)?)
}

/// The group that the header of a party's envelope puts it into.
pub(crate) fn group_of(
    header: &Header,
    party: u8,
    request: &UserRequest,
    permit_hash: B256,
    context_id: B256,
) -> Result<Group, Unusable> {
    if header.party != party {
        return Err(Fault::Index(header.party).into());
    }
    let named = ExtraData::parse(&request.permit.extra_data).map_err(|_| Fault::ExtraData)?;
    let (context, epoch) = (B256::from(header.context_id), B256::from(header.epoch_id));
    if named.context().is_some_and(|named| named != context) || named.epoch().is_some_and(|named| named != epoch) {
        return Err(Fault::ExtraData.into());
    }
    if context != context_id {
        return Err(Unusable::Foreign(Foreign::Context(context)));
    }
    if header.user != request.permit.user.0 || header.permit_hash != permit_hash.0 {
        return Err(Unusable::Foreign(Foreign::Permit(header.permit_hash.into())));
    }
    let digests = header.digests.iter().map(|digest| B256::from(*digest)).collect();
    Ok(Group { epoch, key: header.key_id.into(), digests })
}

/// Why an authentic response gives no share.
pub(crate) enum Unusable {
    Foreign(Foreign),
    Wrong(Fault),
}

impl From<Fault> for Unusable {
    fn from(fault: Fault) -> Self {
        Self::Wrong(fault)
    }
}

impl From<OpenError> for Fault {
    fn from(error: OpenError) -> Self {
        Self::Opening(error)
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
