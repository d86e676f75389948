//! The final receipt of a request: who was there, who was late, who was wrong, signed by this party.
//!
//! Shares never stand in a receipt: 2t + 1 of them would be an equation in the key. Evidence names signed frames by the
//! hash of their payload; two different frames of one round prove an equivocation to anybody, one is an observation.

use alloy_primitives::{B256, U256};
use kms_chain::eip712::{DecryptionReceipt, receipt_digest, sign_digest};
use kms_mpc::{Evidence, Outcome, PartySet};
use kms_proto::node;

use crate::party::Party;
use crate::peer::FrameProof;

/// What the opening of one job has shown; the same for all requests that share the job.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// Right shares, bit (index − 1).
    pub arrived: U256,
    /// Absent shares.
    pub late: U256,
    /// Wrong shares.
    pub wrong: U256,
    /// What supports `wrong`.
    pub evidence: Vec<node::Evidence>,
}

impl Findings {
    /// From the outcome of an opening; `frames` are the signed frames of a party in session `session`.
    pub fn new(outcome: &Outcome, session: &[u8; 32], frames: impl Fn(u16) -> Vec<FrameProof>) -> Self {
        let wrong = outcome.culprits();
        let evidence = outcome
            .wrong
            .iter()
            .map(|fault| {
                let party = u16::from(fault.party.index());
                let frames = frames(party);
                node::Evidence {
                    party: party.into(),
                    detail: describe(&fault.evidence),
                    proved: conflicting(&frames),
                    frames: frames
                        .iter()
                        .take(kms_proto::bounds::MAX_EVIDENCE_FRAMES)
                        .map(|frame| node::SignedFrame {
                            session: session.to_vec(),
                            round: frame.round.into(),
                            payload_hash: frame.payload_hash.to_vec(),
                            signature: frame.signature.to_vec(),
                            path: frame.path.iter().map(|s| [&[u8::from(s.left)], &s.neighbour[..]].concat()).collect(),
                        })
                        .collect(),
                }
            })
            .collect();
        Self {
            arrived: bitmap(outcome.arrived.without(wrong)),
            late: bitmap(outcome.late),
            wrong: bitmap(wrong),
            evidence,
        }
    }

    /// The findings of another request of the same job.
    pub fn of_receipt(receipt: node::Receipt) -> Self {
        let number = |bytes: &[u8]| U256::try_from_be_slice(bytes).unwrap_or_default();
        Self {
            arrived: number(&receipt.arrived),
            late: number(&receipt.late),
            wrong: number(&receipt.wrong),
            evidence: receipt.evidence,
        }
    }
}

fn bitmap(set: PartySet) -> U256 {
    U256::from(set.bits())
}

/// Whether two frames of one round differ.
fn conflicting(frames: &[FrameProof]) -> bool {
    frames
        .iter()
        .enumerate()
        .any(|(i, a)| frames[..i].iter().any(|b| a.round == b.round && a.payload_hash != b.payload_hash))
}

fn describe(evidence: &Evidence) -> String {
    match evidence {
        Evidence::WrongShare { element, .. } => {
            format!("its share is not on the polynomial of the others (element {element})")
        }
        Evidence::Malformed { reason, .. } => format!("its message is no share of this job: {reason}"),
        Evidence::Conflicting { .. } => "it sent two different messages".into(),
        other => format!("{other:?}"),
    }
}

/// What a receipt is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Request.
    pub request_id: B256,
    /// Epoch that answered.
    pub epoch_id: B256,
    /// Key of the ciphertexts.
    pub key_id: B256,
    /// First share sent to answer signed.
    pub mpc_micros: u64,
}

/// Writes and signs a receipt.
pub fn sign(party: &Party, subject: Subject, findings: &Findings) -> node::Receipt {
    let statement = DecryptionReceipt {
        requestId: subject.request_id,
        contextId: party.context(),
        epochId: subject.epoch_id,
        keyId: subject.key_id,
        arrived: findings.arrived,
        late: findings.late,
        wrong: findings.wrong,
        mpcMicros: subject.mpc_micros,
    };
    let digest = receipt_digest(&party.manifest.decryption_domain.eip712(), &statement);
    node::Receipt {
        request_id: subject.request_id.to_vec(),
        context_id: party.context().to_vec(),
        epoch_id: subject.epoch_id.to_vec(),
        key_id: subject.key_id.to_vec(),
        arrived: findings.arrived.to_be_bytes_vec(),
        late: findings.late.to_be_bytes_vec(),
        wrong: findings.wrong.to_be_bytes_vec(),
        mpc_micros: subject.mpc_micros,
        signature: sign_digest(&party.signing_key, digest).to_vec(),
        evidence: findings.evidence.clone(),
    }
}

#[cfg(test)]
mod tests {
    use kms_mpc::{Fault, PartyId};

    use super::*;

    fn set(indices: &[u8]) -> PartySet {
        indices.iter().filter_map(|i| PartyId::new(*i)).collect()
    }

    #[test]
    fn every_party_is_in_one_bitmap_and_only_conflicts_prove() {
        let fault = |index, evidence| Fault { party: PartyId::new(index).unwrap(), evidence };
        let outcome = Outcome {
            arrived: set(&[1, 2, 3]),
            late: set(&[4]),
            wrong: vec![
                fault(2, Evidence::WrongShare { element: 0, message: [1; 32] }),
                fault(3, Evidence::Conflicting { first: [1; 32], second: [2; 32] }),
            ],
        };
        let frame = |hash| FrameProof { round: 1, payload_hash: [hash; 32], path: Vec::new(), signature: [0; 65] };
        let findings = Findings::new(&outcome, &[9; 32], |party| match party {
            2 => vec![frame(1)],
            _ => vec![frame(1), frame(2)],
        });
        assert_eq!((findings.arrived, findings.late, findings.wrong), (U256::from(1), U256::from(8), U256::from(6)));
        let proved: Vec<_> = findings.evidence.iter().map(|e| (e.party, e.proved, e.frames.len())).collect();
        assert_eq!(proved, [(2, false, 1), (3, true, 2)]);
    }
}
