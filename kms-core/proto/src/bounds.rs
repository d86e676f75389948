//! Bounds of all fields, and the checks of whole messages.
//!
//! The transport cuts messages at [`MAX_CLIENT_MESSAGE`] and [`MAX_PEER_MESSAGE`] before it allocates; the checks here
//! then hold each field to its own bound. They say nothing about meaning: whether a handle is a good handle is the
//! business of the `chain` crate.

use crate::{node, peer};

/// Length of ids, hashes and handles.
pub const ID: usize = 32;
/// Length of an address.
pub const ADDRESS: usize = 20;
/// Length of a signature r ‖ s ‖ v.
pub const SIGNATURE: usize = 65;
/// Length of a selector.
pub const SELECTOR: usize = 4;
/// Handles of one request: 2,048 bits of the smallest type (2 bits).
pub const MAX_HANDLES: usize = 1024;
/// Length of extraData (version 3).
pub const MAX_EXTRA_DATA: usize = 97;
/// Length of a sentence for people.
pub const MAX_TEXT: usize = 512;
/// Live epochs that a party lists.
pub const MAX_EPOCHS: usize = 64;
/// Keys that a party lists.
pub const MAX_KEYS: usize = 256;
/// Host chains that a party lists.
pub const MAX_CHAINS: usize = 256;
/// Parties of a committee.
pub const MAX_PARTIES: usize = 255;
/// Frames that support the evidence against one party.
pub const MAX_EVIDENCE_FRAMES: usize = 8;
/// Largest message of the client API.
pub const MAX_CLIENT_MESSAGE: usize = 256 * 1024;
/// Public key of a permit (ML-KEM-768).
pub const MAX_PUBLIC_KEY: usize = 1184;
/// Contracts of a permit.
pub const MAX_CONTRACTS: usize = 10;
/// Signature of a permit: a smart account's may be long.
pub const MAX_PERMIT_SIGNATURE: usize = 4096;
/// Sealed share of a user decryption.
pub const MAX_SHARE: usize = 64 * 1024;
/// Bytes of one call of a client: a decryption of as many handles as there may be has 36 KiB, a user decryption 64 KiB less
/// a little.
pub const MAX_CLIENT_CALL: usize = 64 * 1024;
/// Payload of one peer message, or of all messages of a frame.
pub const MAX_PAYLOAD: usize = 256 * 1024;
/// Messages of a frame.
pub const MAX_BUNDLE: usize = 64;
/// Largest frame between peers.
pub const MAX_PEER_MESSAGE: usize = MAX_PAYLOAD + 8 * 1024;
/// Steps of the path from a message to the signed root of its frame: log2 of [`MAX_BUNDLE`].
pub const MAX_PATH: usize = 6;
/// Sets of parties that share a pseudorandom key.
pub const MAX_PRSS_SETS: usize = 2000;
/// A set's bitmap and its key.
pub const PRSS_KEY: usize = 20;
/// Sessions that one `Open` or `Resend` frame lists.
pub const MAX_SESSIONS: usize = 1024;

/// Largest question of a key generation: it is told by its kind and a few numbers.
pub const MAX_KEYGEN_QUESTION: usize = 256;
/// Largest answer of a key generation.
pub const MAX_KEYGEN_ANSWER: usize = 16 << 20;
/// Types of public parts of a key.
pub const MAX_KEY_PARTS: usize = 16;
/// Bytes of one piece of a file.
pub const MAX_PIECE: usize = 128 * 1024;

/// A message breaks a bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundsError {
    /// A required field or branch is absent.
    Missing(&'static str),
    /// A field has not the one length that it may have.
    Length {
        /// Field.
        field: &'static str,
        /// Length it must have.
        expected: usize,
        /// Length it has.
        got: usize,
    },
    /// A field, or the number of its entries, is above its bound.
    TooLong {
        /// Field.
        field: &'static str,
        /// Bound.
        max: usize,
        /// Length it has.
        got: usize,
    },
}

impl std::fmt::Display for BoundsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(field) => write!(f, "{field} is missing"),
            Self::Length { field, expected, got } => write!(f, "{field} has {got} bytes instead of {expected}"),
            Self::TooLong { field, max, got } => {
                write!(f, "{field} has {got} bytes or entries, at most {max} are allowed")
            }
        }
    }
}

impl std::error::Error for BoundsError {}

fn exact(field: &'static str, bytes: &[u8], expected: usize) -> Result<(), BoundsError> {
    if bytes.len() == expected { Ok(()) } else { Err(BoundsError::Length { field, expected, got: bytes.len() }) }
}

fn at_most(field: &'static str, got: usize, max: usize) -> Result<(), BoundsError> {
    if got <= max { Ok(()) } else { Err(BoundsError::TooLong { field, max, got }) }
}

fn ids(field: &'static str, ids: &[Vec<u8>], max: usize) -> Result<(), BoundsError> {
    at_most(field, ids.len(), max)?;
    ids.iter().try_for_each(|id| exact(field, id, ID))
}

/// Reads a field of exactly 32 bytes.
///
/// # Errors
/// [`BoundsError::Length`] names the field.
pub fn id(field: &'static str, bytes: &[u8]) -> Result<[u8; ID], BoundsError> {
    bytes.try_into().map_err(|_| BoundsError::Length { field, expected: ID, got: bytes.len() })
}

/// Reads a signature of exactly 65 bytes.
///
/// # Errors
/// [`BoundsError::Length`] names the field.
pub fn signature(field: &'static str, bytes: &[u8]) -> Result<[u8; SIGNATURE], BoundsError> {
    bytes.try_into().map_err(|_| BoundsError::Length { field, expected: SIGNATURE, got: bytes.len() })
}

/// Checks a `Decrypt` call.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_decrypt(request: &node::DecryptRequest) -> Result<(), BoundsError> {
    use node::decrypt_request::Source;
    exact("epoch_id", &request.epoch_id, ID)?;
    match &request.source {
        None => Err(BoundsError::Missing("source")),
        Some(Source::Request(r)) => {
            exact("requester", &r.requester, ADDRESS)?;
            ids("handles", &r.handles, MAX_HANDLES)?;
            exact("selector", &r.selector, SELECTOR)?;
            if r.finality > u32::from(u16::MAX) {
                return Err(BoundsError::TooLong {
                    field: "finality",
                    max: usize::from(u16::MAX),
                    got: r.finality as usize,
                });
            }
            exact("context_id", &r.context_id, ID)
        }
        Some(Source::Public(r)) => {
            ids("handles", &r.handles, MAX_HANDLES)?;
            at_most("extra_data", r.extra_data.len(), MAX_EXTRA_DATA)
        }
    }
}

/// Checks an answer.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_answer(answer: &node::Answer) -> Result<(), BoundsError> {
    exact("request_id", &answer.request_id, ID)?;
    at_most("cleartexts", answer.cleartexts.len(), MAX_HANDLES * ID)?;
    exact("signature", &answer.signature, SIGNATURE)?;
    at_most("extra_data", answer.extra_data.len(), MAX_EXTRA_DATA)?;
    exact("signer", &answer.signer, ADDRESS)
}

/// Checks what a party answered to a `Decrypt` call.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_decrypt_response(response: &node::DecryptResponse) -> Result<(), BoundsError> {
    use node::decrypt_response::Outcome;
    match &response.outcome {
        None => Err(BoundsError::Missing("outcome")),
        Some(Outcome::Answer(a)) => check_answer(a),
        Some(Outcome::NotYet(n)) => at_most("detail", n.detail.len(), MAX_TEXT),
        Some(Outcome::Refused(r)) => at_most("detail", r.detail.len(), MAX_TEXT),
        Some(Outcome::EpochNotLive(e)) => ids("live", &e.live, MAX_EPOCHS),
    }
}

/// Checks a `UserDecrypt` call.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_user_decrypt(request: &node::UserDecryptRequest) -> Result<(), BoundsError> {
    let permit = request.permit.as_ref().ok_or(BoundsError::Missing("permit"))?;
    exact("permit.user", &permit.user, ADDRESS)?;
    if !permit.delegator.is_empty() {
        exact("permit.delegator", &permit.delegator, ADDRESS)?;
    }
    at_most("permit.public_key", permit.public_key.len(), MAX_PUBLIC_KEY)?;
    at_most("permit.contracts", permit.contracts.len(), MAX_CONTRACTS)?;
    permit.contracts.iter().try_for_each(|contract| exact("permit.contracts", contract, ADDRESS))?;
    at_most("permit.extra_data", permit.extra_data.len(), MAX_EXTRA_DATA)?;
    at_most("signature", request.signature.len(), MAX_PERMIT_SIGNATURE)?;
    at_most("pairs", request.pairs.len(), MAX_HANDLES)?;
    request.pairs.iter().try_for_each(|pair| {
        exact("pairs.handle", &pair.handle, ID)?;
        exact("pairs.contract", &pair.contract, ADDRESS)
    })
}

/// Checks what a party answered to a `UserDecrypt` call.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_user_decrypt_response(response: &node::UserDecryptResponse) -> Result<(), BoundsError> {
    use node::user_decrypt_response::Outcome;
    match &response.outcome {
        None => Err(BoundsError::Missing("outcome")),
        Some(Outcome::Answer(a)) => {
            at_most("share", a.share.len(), MAX_SHARE)?;
            exact("signature", &a.signature, SIGNATURE)?;
            at_most("extra_data", a.extra_data.len(), MAX_EXTRA_DATA)
        }
        Some(Outcome::NotYet(n)) => at_most("detail", n.detail.len(), MAX_TEXT),
        Some(Outcome::Refused(r)) => at_most("detail", r.detail.len(), MAX_TEXT),
        Some(Outcome::EpochNotLive(e)) => ids("live", &e.live, MAX_EPOCHS),
    }
}

/// Checks a receipt.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_receipt(receipt: &node::Receipt) -> Result<(), BoundsError> {
    for (field, bytes) in [
        ("request_id", &receipt.request_id),
        ("context_id", &receipt.context_id),
        ("epoch_id", &receipt.epoch_id),
        ("key_id", &receipt.key_id),
        ("arrived", &receipt.arrived),
        ("late", &receipt.late),
        ("wrong", &receipt.wrong),
    ] {
        exact(field, bytes, ID)?;
    }
    exact("signature", &receipt.signature, SIGNATURE)?;
    at_most("evidence", receipt.evidence.len(), MAX_PARTIES)?;
    for evidence in &receipt.evidence {
        at_most("evidence.detail", evidence.detail.len(), MAX_TEXT)?;
        at_most("evidence.frames", evidence.frames.len(), MAX_EVIDENCE_FRAMES)?;
        for frame in &evidence.frames {
            at_most("evidence.frames.path", frame.path.len(), MAX_PATH)?;
            frame.path.iter().try_for_each(|step| exact("evidence.frames.path", step, 1 + ID))?;
            exact("session", &frame.session, ID)?;
            exact("payload_hash", &frame.payload_hash, ID)?;
            exact("signature", &frame.signature, SIGNATURE)?;
        }
    }
    Ok(())
}

/// Checks what a party answered to a `GetStatus` call.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_status(response: &node::GetStatusResponse) -> Result<(), BoundsError> {
    at_most("waiting_for", response.waiting_for.len(), MAX_TEXT)?;
    response.answer.as_ref().map_or(Ok(()), check_answer)?;
    response.receipt.as_ref().map_or(Ok(()), check_receipt)?;
    response.refused.as_ref().map_or(Ok(()), |r| at_most("refused.detail", r.detail.len(), MAX_TEXT))
}

/// Checks what a party answered to a `GetKeys` call.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_keys(response: &node::GetKeysResponse) -> Result<(), BoundsError> {
    at_most("keys", response.keys.len(), MAX_KEYS)?;
    for key in &response.keys {
        exact("key_id", &key.key_id, ID)?;
        exact("epoch_id", &key.epoch_id, ID)?;
        exact("context_id", &key.context_id, ID)?;
        at_most("params", key.params.len(), MAX_TEXT)?;
        at_most("state", key.state.len(), MAX_TEXT)?;
    }
    Ok(())
}

/// Checks what a party answered to a `Health` call.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_health(response: &node::HealthResponse) -> Result<(), BoundsError> {
    at_most("phase", response.phase.len(), MAX_TEXT)?;
    at_most("version", response.version.len(), MAX_TEXT)?;
    exact("committee_hash", &response.committee_hash, ID)?;
    at_most("peers", response.peers.len(), MAX_PARTIES)?;
    response.peers.iter().try_for_each(|peer| at_most("peers.problem", peer.problem.len(), MAX_TEXT))?;
    at_most("waiting_for", response.waiting_for.len(), MAX_TEXT)?;
    at_most("chains", response.chains.len(), MAX_CHAINS)?;
    response.chains.iter().try_for_each(|chain| at_most("chains.problem", chain.problem.len(), MAX_TEXT))?;
    ids("usable_keys", &response.usable_keys, MAX_KEYS)
}

/// Checks a `KeyGen` call.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_key_gen(request: &node::KeyGenRequest) -> Result<(), BoundsError> {
    exact("run_id", &request.run_id, ID)?;
    at_most("params", request.params as usize, usize::from(u8::MAX))?;
    exact("crs_digest", &request.crs_digest, ID)
}

/// Checks what a party says about the generation of a key.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_key_gen_response(response: &node::KeyGenResponse) -> Result<(), BoundsError> {
    let optional = |field, bytes: &[u8]| if bytes.is_empty() { Ok(()) } else { exact(field, bytes, ID) };
    for (field, bytes) in [
        ("run_id", &response.run_id),
        ("late", &response.late),
        ("wrong", &response.wrong),
        ("crs_digest", &response.crs_digest),
        ("key_id", &response.key_id),
        ("epoch_id", &response.epoch_id),
    ] {
        optional(field, bytes)?;
    }
    at_most("phase", response.phase.len(), MAX_TEXT)?;
    at_most("problem", response.problem.len(), MAX_TEXT)?;
    at_most("params", response.params as usize, usize::from(u8::MAX))?;
    at_most("signatures", response.signatures.len(), MAX_CHAINS)?;
    for signature in &response.signatures {
        at_most("signatures.digests", signature.digests.len(), MAX_KEY_PARTS)?;
        for part in &signature.digests {
            at_most("signatures.digests.key_type", part.key_type as usize, usize::from(u8::MAX))?;
            exact("signatures.digests.digest", &part.digest, ID)?;
        }
        at_most("signatures.extra_data", signature.extra_data.len(), MAX_EXTRA_DATA)?;
        exact("signatures.signature", &signature.signature, SIGNATURE)?;
    }
    Ok(())
}

/// Checks a call for a file of a key.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_get_key_file(request: &node::GetKeyFileRequest) -> Result<(), BoundsError> {
    exact("key_id", &request.key_id, ID)?;
    at_most("file", request.file.len(), MAX_TEXT)
}

/// Checks a question of a key generation.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_keygen_question(question: &peer::KeygenQuestion) -> Result<(), BoundsError> {
    exact("run", &question.run, ID)?;
    at_most("question", question.question.len(), MAX_KEYGEN_QUESTION)
}

/// Checks an answer of a key generation.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_keygen_answer(answer: &peer::KeygenAnswer) -> Result<(), BoundsError> {
    at_most("answer", answer.answer.len(), MAX_KEYGEN_ANSWER)
}

/// Checks a frame of a peer.
///
/// # Errors
/// The first field that breaks its bound.
pub fn check_frame(frame: &peer::Frame) -> Result<(), BoundsError> {
    use peer::frame::Body;
    match &frame.body {
        None => Err(BoundsError::Missing("body")),
        Some(Body::Hello(h)) => {
            exact("committee_hash", &h.committee_hash, ID)?;
            exact("manifest_hash", &h.manifest_hash, ID)
        }
        Some(Body::Share(s)) => {
            exact("session", &s.session, ID)?;
            at_most("payload", s.payload.len(), MAX_PAYLOAD)?;
            exact("signature", &s.signature, SIGNATURE)
        }
        Some(Body::Shares(s)) => {
            // The number first, so that a long list is not walked.
            at_most("shares.messages", s.messages.len(), MAX_BUNDLE)?;
            exact("signature", &s.signature, SIGNATURE)?;
            s.messages.iter().try_for_each(|m| exact("session", &m.session, ID))?;
            at_most("payload", s.messages.iter().map(|m| m.payload.len()).sum(), MAX_PAYLOAD)
        }
        Some(Body::Open(o)) => ids("sessions", &o.sessions, MAX_SESSIONS),
        Some(Body::Resend(r)) => ids("sessions", &r.sessions, MAX_SESSIONS),
        Some(Body::Dropped(d)) => exact("session", &d.session, ID),
        Some(Body::Ping(_)) => Ok(()),
        Some(Body::Setup(s)) => check_setup(s),
    }
}

fn check_setup(setup: &peer::Setup) -> Result<(), BoundsError> {
    use peer::setup::Body;
    exact("epoch_id", &setup.epoch_id, ID)?;
    match &setup.body {
        None => Err(BoundsError::Missing("setup.body")),
        Some(Body::Report(r)) => {
            at_most("claim", r.claim.len(), MAX_PRSS_SETS * ID)?;
            if r.digest.is_empty() { Ok(()) } else { exact("digest", &r.digest, ID) }
        }
        Some(Body::Want(w)) => exact("digest", &w.digest, ID),
        Some(Body::Keys(k)) => {
            at_most("commitments", k.commitments.len(), MAX_PRSS_SETS * ID)?;
            at_most("keys", k.keys.len(), MAX_PRSS_SETS * PRSS_KEY)
        }
    }
}

/// Cuts a sentence to [`MAX_TEXT`] bytes at a character boundary.
#[must_use]
pub fn text(mut sentence: String) -> String {
    if sentence.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|&i| sentence.is_char_boundary(i)).unwrap_or(0);
        sentence.truncate(end);
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{DecryptRequest, OnChainRequest, PublicRequest, decrypt_request::Source};

    fn on_chain() -> OnChainRequest {
        OnChainRequest {
            requester: vec![1; ADDRESS],
            nonce: 1,
            handles: vec![vec![2; ID]; 3],
            selector: vec![3; SELECTOR],
            gas_limit: 100_000,
            finality: 0xffff,
            deadline: 5,
            context_id: vec![4; ID],
        }
    }

    fn call(source: Option<Source>) -> DecryptRequest {
        DecryptRequest { chain_id: 1, source, epoch_id: vec![5; ID], wait_ms: 0 }
    }

    #[test]
    fn good_calls_pass() {
        assert_eq!(check_decrypt(&call(Some(Source::Request(on_chain())))), Ok(()));
        let public = PublicRequest { handles: vec![vec![1; ID]; MAX_HANDLES], extra_data: vec![0; MAX_EXTRA_DATA] };
        assert_eq!(check_decrypt(&call(Some(Source::Public(public)))), Ok(()));
    }

    #[test]
    fn each_bound_of_a_call_is_held() {
        assert_eq!(check_decrypt(&call(None)), Err(BoundsError::Missing("source")));
        let bad: Vec<(&str, Box<dyn Fn(&mut OnChainRequest)>)> = vec![
            ("requester", Box::new(|r| r.requester.push(0))),
            ("handles", Box::new(|r| r.handles = vec![vec![0; ID]; MAX_HANDLES + 1])),
            ("handles", Box::new(|r| r.handles[1] = vec![0; 31])),
            ("selector", Box::new(|r| r.selector.clear())),
            ("finality", Box::new(|r| r.finality = 0x1_0000)),
            ("context_id", Box::new(|r| r.context_id = Vec::new())),
        ];
        for (name, spoil) in bad {
            let mut request = on_chain();
            spoil(&mut request);
            match check_decrypt(&call(Some(Source::Request(request)))) {
                Err(BoundsError::Length { field, .. } | BoundsError::TooLong { field, .. }) => assert_eq!(field, name),
                other => panic!("{name}: {other:?}"),
            }
        }
        let public = PublicRequest { handles: vec![], extra_data: vec![0; MAX_EXTRA_DATA + 1] };
        assert!(check_decrypt(&call(Some(Source::Public(public)))).is_err());
        let mut epoch = call(Some(Source::Request(on_chain())));
        epoch.epoch_id.pop();
        assert!(check_decrypt(&epoch).is_err());
    }

    fn user() -> node::UserDecryptRequest {
        node::UserDecryptRequest {
            chain_id: u64::MAX,
            permit: Some(node::Permit {
                user: vec![1; ADDRESS],
                delegator: vec![2; ADDRESS],
                public_key: vec![3; MAX_PUBLIC_KEY],
                contracts: vec![vec![4; ADDRESS]; MAX_CONTRACTS],
                start: u64::MAX,
                days: u64::MAX,
                extra_data: vec![5; MAX_EXTRA_DATA],
            }),
            signature: vec![6; MAX_PERMIT_SIGNATURE],
            pairs: vec![node::HandleContractPair { handle: vec![7; ID], contract: vec![8; ADDRESS] }; MAX_HANDLES],
        }
    }

    #[test]
    fn the_largest_user_decryption_is_a_call() {
        use prost::Message;
        assert_eq!(check_user_decrypt(&user()), Ok(()));
        assert!(user().encoded_len() <= MAX_CLIENT_CALL);
    }

    #[test]
    fn each_bound_of_a_user_decryption_is_held() {
        use node::user_decrypt_response::Outcome;
        type Spoil = fn(&mut node::UserDecryptRequest, &mut node::Permit);
        let bad: [(&str, Spoil); 11] = [
            ("permit.user", |_, p| p.user.clear()),
            ("permit.delegator", |_, p| p.delegator.truncate(19)),
            ("permit.public_key", |_, p| p.public_key.push(0)),
            ("permit.contracts", |_, p| p.contracts.push(vec![0; ADDRESS])),
            ("permit.contracts", |_, p| p.contracts[3].push(0)),
            ("permit.extra_data", |_, p| p.extra_data.push(0)),
            ("signature", |r, _| r.signature.push(0)),
            ("pairs", |r, _| r.pairs.push(node::HandleContractPair::default())),
            ("pairs.handle", |r, _| r.pairs[1].handle.truncate(31)),
            ("pairs.contract", |r, _| r.pairs[1].contract.push(0)),
            ("pairs.contract", |r, _| r.pairs[1].contract.clear()),
        ];
        for (name, spoil) in bad {
            let mut request = user();
            let mut permit = request.permit.take().unwrap();
            spoil(&mut request, &mut permit);
            request.permit = Some(permit);
            match check_user_decrypt(&request) {
                Err(BoundsError::Length { field, .. } | BoundsError::TooLong { field, .. }) => assert_eq!(field, name),
                other => panic!("{name}: {other:?}"),
            }
        }
        let none = node::UserDecryptRequest { permit: None, ..user() };
        assert_eq!(check_user_decrypt(&none), Err(BoundsError::Missing("permit")));

        let check = |outcome| check_user_decrypt_response(&node::UserDecryptResponse { outcome });
        let answer = |share, signature, extra| {
            let (share, signature, extra_data) = (vec![0; share], vec![0; signature], vec![0; extra]);
            check(Some(Outcome::Answer(node::UserAnswer { share, signature, extra_data })))
        };
        assert!(answer(MAX_SHARE, SIGNATURE, MAX_EXTRA_DATA).is_ok());
        assert!(answer(MAX_SHARE + 1, SIGNATURE, 0).is_err());
        assert!(answer(0, SIGNATURE + 1, 0).is_err());
        assert!(answer(0, SIGNATURE, MAX_EXTRA_DATA + 1).is_err());
        assert!(check(None).is_err());
        let refused = node::Refused { reason: 1, detail: "x".repeat(MAX_TEXT + 1) };
        assert!(check(Some(Outcome::Refused(refused))).is_err());
    }

    #[test]
    fn each_bound_of_a_setup_is_held() {
        use peer::setup::Body;
        let setup = |epoch: usize, body| {
            let setup = peer::Setup { epoch_id: vec![0; epoch], attempt: 1, body };
            check_frame(&peer::Frame { body: Some(peer::frame::Body::Setup(setup)) })
        };
        let report = |claim, digest| {
            let report = peer::SetupReport { claim: vec![0; claim], digest: vec![0; digest], ..Default::default() };
            setup(ID, Some(Body::Report(report)))
        };
        assert!(setup(ID, None).is_err());
        assert!(report(0, 0).is_ok());
        assert!(report(MAX_PRSS_SETS * ID, ID).is_ok());
        assert!(report(MAX_PRSS_SETS * ID + 1, ID).is_err());
        assert!(report(0, 31).is_err());
        let want = |digest| Body::Want(peer::SetupWant { digest: vec![0; digest] });
        assert!(setup(ID, Some(want(ID))).is_ok());
        assert!(setup(ID - 1, Some(want(ID))).is_err());
        assert!(setup(ID, Some(want(0))).is_err());
        let keys = |commitments, keys| {
            setup(ID, Some(Body::Keys(peer::SetupKeys { commitments: vec![0; commitments], keys: vec![0; keys] })))
        };
        assert!(keys(MAX_PRSS_SETS * ID, MAX_PRSS_SETS * PRSS_KEY).is_ok());
        assert!(keys(MAX_PRSS_SETS * ID + 1, 0).is_err());
        assert!(keys(0, MAX_PRSS_SETS * PRSS_KEY + 1).is_err());
    }

    #[test]
    fn each_bound_of_a_key_generation_is_held() {
        use node::{KeyGenRequest, KeyGenResponse, KeyPartDigest, KeySignature};
        let call = KeyGenRequest { run_id: vec![1; ID], params: 1, with_compression: true, crs_digest: vec![2; ID] };
        assert_eq!(check_key_gen(&call), Ok(()));
        let bad: [fn(&mut KeyGenRequest); 3] = [|c| c.run_id.clear(), |c| c.params = 256, |c| c.crs_digest.push(0)];
        for spoil in bad {
            let mut call = call.clone();
            spoil(&mut call);
            assert!(check_key_gen(&call).is_err());
        }
        assert_eq!(check_key_gen_response(&KeyGenResponse::default()), Ok(()));
        let part = KeyPartDigest { key_type: 1, digest: vec![3; ID] };
        let signature =
            KeySignature { chain_id: 1, digests: vec![part], extra_data: vec![0; 65], signature: vec![0; SIGNATURE] };
        let done = KeyGenResponse {
            run_id: vec![1; ID],
            late: vec![0; ID],
            wrong: vec![0; ID],
            key_id: vec![4; ID],
            signatures: vec![signature],
            ..Default::default()
        };
        assert_eq!(check_key_gen_response(&done), Ok(()));
        let bad: [fn(&mut KeyGenResponse); 8] = [
            |r| r.run_id.truncate(31),
            |r| r.late.push(0),
            |r| r.phase = "x".repeat(MAX_TEXT + 1),
            |r| r.problem = "x".repeat(MAX_TEXT + 1),
            |r| r.signatures = vec![KeySignature::default()],
            |r| r.signatures[0].digests = vec![KeyPartDigest { key_type: 1, digest: vec![3; ID] }; MAX_KEY_PARTS + 1],
            |r| r.signatures[0].digests[0].key_type = 256,
            |r| r.signatures[0].extra_data = vec![0; MAX_EXTRA_DATA + 1],
        ];
        for (i, spoil) in bad.iter().enumerate() {
            let mut done = done.clone();
            spoil(&mut done);
            assert!(check_key_gen_response(&done).is_err(), "{i}");
        }
        let question = |run, question| peer::KeygenQuestion { run: vec![0; run], question: vec![0; question].into() };
        assert!(check_keygen_question(&question(ID, MAX_KEYGEN_QUESTION)).is_ok());
        assert!(check_keygen_question(&question(ID - 1, 1)).is_err());
        assert!(check_keygen_question(&question(ID, MAX_KEYGEN_QUESTION + 1)).is_err());
        let file = |key, file: &str| node::GetKeyFileRequest { key_id: vec![0; key], file: file.into() };
        assert!(check_get_key_file(&file(ID, "crs.bin")).is_ok());
        assert!(check_get_key_file(&file(0, "crs.bin")).is_err());
        assert!(check_get_key_file(&file(ID, &"x".repeat(MAX_TEXT + 1))).is_err());
    }

    #[test]
    fn each_bound_of_a_frame_is_held() {
        use peer::frame::Body;
        let frame = |body| check_frame(&peer::Frame { body });
        assert!(frame(None).is_err());
        let share =
            peer::Share { session: vec![0; ID], round: 0, payload: vec![0; 8].into(), signature: vec![0; SIGNATURE] };
        assert!(frame(Some(Body::Share(share.clone()))).is_ok());
        let message =
            |payload: usize| peer::Message { session: vec![0; ID], round: 1, payload: vec![0; payload].into() };
        let shares = |messages| frame(Some(Body::Shares(peer::Shares { messages, signature: vec![0; SIGNATURE] })));
        assert!(shares(vec![message(MAX_PAYLOAD / MAX_BUNDLE); MAX_BUNDLE]).is_ok());
        assert!(shares(vec![message(0); MAX_BUNDLE + 1]).is_err());
        assert!(shares(vec![message(MAX_PAYLOAD), message(1)]).is_err());
        assert!(shares(vec![peer::Message { session: vec![0; 31], ..message(1) }]).is_err());
        assert!(
            frame(Some(Body::Shares(peer::Shares { messages: vec![message(1)], signature: vec![0; 64] }))).is_err()
        );
        assert!(frame(Some(Body::Share(peer::Share { session: vec![], ..share.clone() }))).is_err());
        assert!(frame(Some(Body::Share(peer::Share { signature: vec![0; 64], ..share.clone() }))).is_err());
        assert!(frame(Some(Body::Share(peer::Share { payload: vec![0; MAX_PAYLOAD + 1].into(), ..share }))).is_err());
        assert!(frame(Some(Body::Open(peer::Open { sessions: vec![vec![0; ID]; MAX_SESSIONS + 1] }))).is_err());
        assert!(frame(Some(Body::Resend(peer::Resend { sessions: vec![vec![0; 33]] }))).is_err());
    }

    #[test]
    fn text_is_cut_at_a_character() {
        let cut = text("é".repeat(MAX_TEXT));
        assert!(cut.len() <= MAX_TEXT && cut.chars().all(|c| c == 'é'));
        assert_eq!(text("short".into()), "short");
    }
}
