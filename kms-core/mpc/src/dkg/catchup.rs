//! Taking over chunks that others have finished.
//!
//! t + 1 equal claims about a chunk contain an honest one; what it gave then comes from any of them, checked against the
//! hash.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use kms_algebra::PartyId;
use sha2::{Digest, Sha256};

use super::error::RunError;
use super::exchange::{AskError, Exchange, Signer};
use super::journal::Journal;
use super::message::{Ask, Claim, Question};
use super::plan::Chunk;
use super::run::{Inner, MAX_ATTEMPTS};

impl<const D: usize, S: Signer + 'static, J: Journal + 'static> Inner<D, S, J> {
    /// Ends when the chunk could be taken over.
    pub(super) async fn catch_up<E: Exchange>(&self, ex: &E, chunk: Chunk) -> Result<(), RunError> {
        loop {
            if !self.state().behind {
                ex.sleep(self.config.patience / 8).await;
            }
            if let Some((claim, claimants)) = self.claims(ex, chunk).await?
                && let Some(result) = self.result(ex, chunk, &claim, &claimants).await?
            {
                return self.take_over(chunk, claim, result).await;
            }
            self.state().behind = false;
        }
    }

    /// Asks everybody once. A claim that t + 1 make, and who they are.
    async fn claims<E: Exchange>(&self, ex: &E, chunk: Chunk) -> Result<Option<(Claim, Vec<PartyId>)>, RunError> {
        let question = Question { chunk: chunk.index, attempt: 0, ask: Ask::Claim }.encode();
        let mut answers: FuturesUnordered<_> = self
            .peers()
            .map(|peer| {
                let question = question.clone();
                async move { (peer, ex.ask(peer, question).await) }
            })
            .collect();
        let mut claims: BTreeMap<(u32, [u8; 32]), Vec<(PartyId, Claim)>> = BTreeMap::new();
        while let Some((peer, answer)) = answers.next().await {
            let answer = match answer {
                Ok(answer) => answer,
                Err(AskError::Closed) => return Err(RunError::Closed),
                Err(_) => continue,
            };
            let claim = Claim::decode(&answer, &self.config.committee).filter(|claim| claim.attempt < MAX_ATTEMPTS);
            let Some(claim) = claim else {
                self.malformed(peer, chunk.index);
                continue;
            };
            let equal = claims.entry((claim.attempt, claim.hash)).or_default();
            equal.push((peer, claim));
            if equal.len() > self.config.committee.t()
                && let Some((_, mut claim)) = equal.first().cloned()
            {
                // What all of them say an honest one says.
                claim.exclusions.retain(|e| equal.iter().all(|(_, claim)| claim.exclusions.contains(e)));
                return Ok(Some((claim, equal.iter().map(|(peer, _)| *peer).collect())));
            }
        }
        Ok(None)
    }

    /// What the chunk gave, from one of these.
    async fn result<E: Exchange>(
        &self,
        ex: &E,
        chunk: Chunk,
        claim: &Claim,
        claimants: &[PartyId],
    ) -> Result<Option<Bytes>, RunError> {
        let question = Question { chunk: chunk.index, attempt: claim.attempt, ask: Ask::Result };
        let check = |peer, result: Bytes| async move {
            let copy = result.clone();
            let right = result.len() == chunk.result_bytes()
                && ex.compute(move || <[u8; 32]>::from(Sha256::digest(&copy))).await == claim.hash;
            if !right {
                self.malformed(peer, chunk.index);
            }
            right.then_some(result)
        };
        self.first_of(ex, claimants.iter().copied(), question, check).await
    }

    async fn take_over(&self, chunk: Chunk, claim: Claim, result: Bytes) -> Result<(), RunError> {
        self.adopt(claim.exclusions.into_iter()).await?;
        let internal = RunError::Internal { chunk: chunk.index, what: "there is no seed" };
        let at = self.try_of(chunk, claim.attempt).ok_or(internal)?;
        {
            let mut state = self.state();
            state.behind = true;
            state.current.insert(chunk.index, at.attempt);
        }
        self.done(&at, result).await
    }
}
