//! From single answers to one proof.

use crate::verify::{Question, VerifiedAnswer};
use alloy_primitives::{Address, B256, Bytes, U256};
use kms_chain::{manifest::Committee, proof::DecryptionProof};
use std::collections::BTreeMap;

/// Collects verified answers to one question until enough parties say the same.
#[derive(Clone, Debug)]
pub struct Quorum {
    request_id: B256,
    extra_data: Bytes,
    threshold: usize,
    answers: BTreeMap<u32, VerifiedAnswer>,
}

/// A decryption that a quorum has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decryption {
    /// Id of the request.
    pub request_id: B256,
    /// One word per handle.
    pub cleartexts: Bytes,
    /// Exactly the signatures that the contract needs.
    pub proof: DecryptionProof,
    /// Signers, in the order of the signatures.
    pub signers: Vec<Address>,
    /// Their indices.
    pub indices: Vec<u32>,
}

impl Decryption {
    /// The values, in order of the handles.
    #[must_use]
    pub fn values(&self) -> Vec<U256> {
        self.cleartexts.as_chunks::<32>().0.iter().map(|word| U256::from_be_bytes(*word)).collect()
    }
}

impl Quorum {
    /// An empty quorum for a question to a committee.
    #[must_use]
    pub fn new(question: &Question, committee: &Committee) -> Self {
        Self {
            request_id: question.id(),
            extra_data: question.extra_data().clone(),
            threshold: committee.threshold as usize,
            answers: BTreeMap::new(),
        }
    }

    /// Adds the answer of a party; a second one of the same party changes nothing. Returns whether the quorum is reached.
    pub fn add(&mut self, answer: VerifiedAnswer) -> bool {
        self.answers.entry(answer.index).or_insert(answer);
        self.winner().is_some()
    }

    /// Parties that have answered.
    pub fn answered(&self) -> impl Iterator<Item = u32> + '_ {
        self.answers.keys().copied()
    }

    /// Parties whose cleartexts differ from those of the quorum; empty before there is one. They signed a wrong statement.
    #[must_use]
    pub fn dissenters(&self) -> Vec<u32> {
        let Some(winner) = self.winner() else { return Vec::new() };
        self.answers.values().filter(|answer| answer.cleartexts != winner).map(|answer| answer.index).collect()
    }

    /// Signatures that are still missing for the most common cleartexts.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.threshold.saturating_sub(self.groups().into_values().max().unwrap_or(0))
    }

    /// The proof, once enough parties say the same: `threshold` signatures in order of the parties.
    #[must_use]
    pub fn decryption(&self) -> Option<Decryption> {
        let winner = self.winner()?;
        let agreeing: Vec<_> =
            self.answers.values().filter(|answer| answer.cleartexts == winner).take(self.threshold).collect();
        Some(Decryption {
            request_id: self.request_id,
            cleartexts: winner,
            proof: DecryptionProof {
                signatures: agreeing.iter().map(|answer| answer.signature).collect(),
                extra_data: self.extra_data.clone(),
            },
            signers: agreeing.iter().map(|answer| answer.signer).collect(),
            indices: agreeing.iter().map(|answer| answer.index).collect(),
        })
    }

    fn groups(&self) -> BTreeMap<&Bytes, usize> {
        let mut groups = BTreeMap::new();
        for answer in self.answers.values() {
            *groups.entry(&answer.cleartexts).or_default() += 1;
        }
        groups
    }

    /// At most one group can be this large among honest parties: threshold > t, so it contains an honest party.
    fn winner(&self) -> Option<Bytes> {
        self.groups().into_iter().find(|(_, count)| *count >= self.threshold).map(|(cleartexts, _)| cleartexts.clone())
    }
}

#[cfg(test)]
mod tests;
