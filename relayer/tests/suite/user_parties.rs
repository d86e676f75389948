//! Parties that sign for real and do what they are told to, for tests of user decryptions.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::primitives::{B256, Bytes, keccak256};
use kms_chain::FheType;
use kms_chain::eip712::{sign_digest, signer_address, user_decrypt_response_digest};
use kms_chain::handle::Handle;
use kms_chain::manifest::{Committee as Members, CommitteeParty};
use kms_chain::permit::UserRequest;
use kms_client::transport::{NotYetReason, Outcome, PartyError, RefusedReason};
use kms_client::user::UserResponse;
use kms_client::verify::user_answer;
use kms_encoding::user::{Binding, Header, PublicKey, SharePayload, packed_elements, seal};
use kms_relayer::dispatch::{Committee, Question, Receipt, Said};
use kms_relayer::job::Payload;
use kms_relayer::parties::user_said;
use tokio::sync::mpsc;

use crate::support::CONTEXT;
use crate::user_support::{DOMAIN, key};

/// What a party does when it is asked.
#[derive(Debug, Clone)]
pub(crate) enum Line {
    /// Its share, from the epoch of that number.
    Share(u8),
    /// The same with a byte changed.
    Tampered,
    /// What another party answers.
    Of(u32),
    /// Its own answer to another request.
    OtherRequest,
    NotYet,
    Refuse(RefusedReason, &'static str),
    Silent,
}

/// Parties that seal and sign; what they answer is verified as the real ones' answers are.
#[derive(Debug)]
pub(crate) struct Stub {
    members: Members,
    script: Mutex<HashMap<u32, VecDeque<Line>>>,
    asked: Mutex<Vec<u32>>,
}

impl Stub {
    pub(crate) fn new(lines: [Line; 4]) -> Arc<Self> {
        let party =
            |index: u32| CommitteeParty { index, signer: signer_address(&key(index as u8)), tls_root: String::new() };
        let members = Members {
            context_id: CONTEXT,
            previous: B256::ZERO,
            salt: B256::ZERO,
            n: 4,
            t: 1,
            threshold: 3,
            parties: (1..=4).map(party).collect(),
        };
        let script = (1..).zip(lines.map(|line| VecDeque::from([line]))).collect();
        Arc::new(Self { members, script: Mutex::new(script), asked: Mutex::default() })
    }

    pub(crate) fn honest() -> Arc<Self> {
        Self::new([const { Line::Share(1) }; 4])
    }

    /// From now on the party says these, the last of them again and again.
    pub(crate) fn set(&self, party: u32, lines: impl Into<VecDeque<Line>>) {
        self.script.lock().expect("script").insert(party, lines.into());
    }

    pub(crate) fn times_asked(&self, party: u32) -> usize {
        self.asked.lock().expect("asked").iter().filter(|p| **p == party).count()
    }

    /// A party's answer.
    pub(crate) fn answer(&self, party: u32, request: &UserRequest, epoch: u8) -> UserResponse {
        let permit = &request.permit;
        let types: Vec<FheType> =
            request.pairs.iter().map(|pair| Handle::parse(pair.handle).expect("handle").fhe_type()).collect();
        let words = vec![u128::from(party); 4 * packed_elements(4, &types)];
        let handles: Vec<[u8; 32]> = request.pairs.iter().map(|pair| pair.handle.0).collect();
        let header = Header {
            party: party as u8,
            context_id: CONTEXT.0,
            epoch_id: [epoch; 32],
            key_id: [7; 32],
            user: permit.user.into(),
            permit_hash: permit.digest(request.host_chain_id, DOMAIN.verifying_contract).0,
            digests: handles.iter().map(|handle| keccak256(handle).0).collect(),
        };
        let binding = Binding {
            host_chain_id: request.host_chain_id,
            domain_chain_id: DOMAIN.chain_id,
            verifying_contract: DOMAIN.verifying_contract.into(),
            extra_data: &permit.extra_data,
            handles: &handles,
        };
        let payload = SharePayload::new(4, &types, words).expect("words");
        let public_key = PublicKey::parse(&permit.public_key).expect("key");
        let share: Bytes = seal(&public_key, &header, &binding, &payload).expect("sealed").into();
        let digest = user_decrypt_response_digest(
            &DOMAIN.eip712(),
            &permit.public_key,
            &request.handles(),
            &share,
            &permit.extra_data,
        );
        let signature = sign_digest(&key(party as u8), digest.expect("extra data")).to_vec().into();
        UserResponse { share, signature, extra_data: permit.extra_data.clone() }
    }

    /// The party whose answer to the request this is.
    pub(crate) fn author(&self, request: &UserRequest, response: &UserResponse) -> u32 {
        (1..=4)
            .find(|party| user_answer(request, &self.members, &DOMAIN, *party, response.clone()).is_ok())
            .expect("a share that no party has signed")
    }

    fn say(&self, party: u32, request: &UserRequest) -> Option<Said> {
        self.asked.lock().expect("asked").push(party);
        let mut script = self.script.lock().expect("script");
        let lines = script.entry(party).or_default();
        let line = if lines.len() > 1 { lines.pop_front() } else { lines.front().cloned() };
        let response = match line? {
            Line::Share(epoch) => self.answer(party, request, epoch),
            Line::Tampered => {
                let mut response = self.answer(party, request, 1);
                let mut share = response.share.to_vec();
                *share.last_mut().expect("a tag") ^= 1;
                response.share = share.into();
                response
            }
            Line::Of(other) => self.answer(other, request, 1),
            Line::OtherRequest => {
                let mut other = request.clone();
                other.pairs[0].handle.0[0] ^= 1;
                self.answer(party, &other, 1)
            }
            Line::NotYet => {
                let reason = NotYetReason::NotFinal;
                let (detail, retry_after) = ("two more blocks".to_owned(), Duration::from_millis(1));
                return Some(user_said(Ok(Outcome::NotYet { reason, detail, retry_after })));
            }
            Line::Refuse(reason, detail) => {
                return Some(user_said(Ok(Outcome::Refused { reason, detail: detail.to_owned() })));
            }
            Line::Silent => return Some(user_said(Err(PartyError::Unreachable("connection refused".into())))),
        };
        let verified = user_answer(request, &self.members, &DOMAIN, party, response);
        Some(user_said(verified.map(Outcome::Answer).map_err(PartyError::Bad)))
    }
}

#[async_trait::async_trait]
impl Committee for Stub {
    fn parties(&self) -> Vec<u32> {
        (1..=4).collect()
    }
    fn threshold(&self) -> usize {
        3
    }
    fn faults(&self) -> usize {
        1
    }
    fn context(&self) -> B256 {
        CONTEXT
    }
    fn ask(&self, question: Question) -> mpsc::Receiver<(u32, Said)> {
        let (send, receive) = mpsc::channel(8);
        let Payload::UserDecrypt(payload) = &question.payload else { panic!("{question:?}") };
        let request = payload.request(question.chain);
        assert_eq!(request.id(DOMAIN.verifying_contract), question.job);
        for party in question.parties {
            if let Some(said) = self.say(party, &request) {
                send.try_send((party, said)).expect("room");
            }
        }
        receive
    }
    async fn receipt(&self, _: u32, _: B256) -> Option<Receipt> {
        None
    }
}
