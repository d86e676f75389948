//! A run from its journal to the key.

use core::iter;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{Either, select};
use futures::stream::{FuturesUnordered, StreamExt};
use kms_algebra::{GrVec, PartyId, PartySet};
use sha2::{Digest, Sha256};
use sha3::Shake256;
use sha3::digest::{ExtendableOutput, Update, XofReader};

use super::agree::Try;
use super::ask::alongside;
use super::error::RunError;
use super::evidence::{Culprit, Misdeed};
use super::exchange::{Exchange, Signer};
use super::journal::Journal;
use super::message::{Ask, Question};
use super::plan::{self, Chunk, Work};
use super::progress::Phase;
use super::record::Record;
use super::run::{Finished, Inner, Seed};
use super::state::Done;
use super::work::{self, Opened, Secrets};
use kms_encoding::key_spec::{Component, KeySpec};

impl<const D: usize, S: Signer + 'static, J: Journal + 'static> Inner<D, S, J> {
    pub(super) async fn drive<E: Exchange>(&self, ex: &E) -> Result<Finished<D>, RunError> {
        self.resume().await?;
        alongside(self.make(ex), iter::once(self.serve(ex)).collect()).await
    }

    async fn make<E: Exchange>(&self, ex: &E) -> Result<Finished<D>, RunError> {
        self.report(Phase::Coin, PartySet::EMPTY);
        let seed = self.coin(ex).await?;
        self.masks()?;
        self.chunks(ex).await?;
        if self.secrets.get().is_none() {
            self.make_secrets(ex).await?;
        }
        self.report(Phase::Done, PartySet::EMPTY);
        let secrets = self.secrets()?.vectors().to_vec();
        let (late, culprits) = self.found();
        Ok(Finished { seed, secrets, late, culprits })
    }

    /// Parties that were late, and those that were wrong, so far.
    pub(super) fn found(&self) -> (PartySet, Vec<Culprit>) {
        let state = self.state();
        let late = state.exclusions.iter().filter(|e| e.late).map(|e| e.party).collect();
        let mut culprits = state.culprits.clone();
        culprits.sort_by_key(|culprit| (culprit.party, culprit.misdeed.code()));
        (late, culprits)
    }

    /// Reads the journal.
    async fn resume(&self) -> Result<(), RunError> {
        let config = &self.config;
        let (n, t) = (config.committee.n() as u8, config.committee.t() as u8);
        let start = Record::Start { own: config.own, n, t, run: digest(config.spec.as_ref(), &config.run) };
        let records = self.journal.records().await?;
        let Some((first, records)) = records.split_first() else {
            return Ok(self.journal.append(start.encode(), true).await?);
        };
        if *first != start.encode() {
            return Err(RunError::ForeignJournal("it begins with another run, party or committee"));
        }
        let mut state = self.state();
        for bytes in records {
            let damaged = RunError::ForeignJournal("a record is none");
            match Record::decode(bytes).ok_or(damaged)? {
                Record::Start { .. } => return Err(RunError::ForeignJournal("it begins twice")),
                Record::Seed(seed) => {
                    if state.seed.is_some_and(|known| known != seed) {
                        return Err(RunError::ForeignJournal("it has two seeds"));
                    }
                    state.seed = Some(seed);
                }
                Record::Vote { chunk, attempt, vote } => {
                    if state.votes.insert((chunk, attempt), vote).is_some_and(|known| known != vote) {
                        return Err(RunError::ForeignJournal("it has two votes on one attempt"));
                    }
                }
                Record::Dropped { chunk, attempt } => {
                    state.current.insert(chunk, attempt + 1);
                    state.dropped.insert((chunk, attempt));
                }
                Record::Excluded(exclusion) => {
                    state.exclusions.insert(exclusion);
                }
                Record::Done { chunk, attempt, hash, values } => {
                    state.done.insert(chunk, Done { attempt, hash });
                    state.current.insert(chunk, attempt);
                    if !values.is_empty() {
                        state.values.insert(chunk, values);
                    }
                }
                Record::Culprit(culprit) => {
                    if culprit.misdeed == Misdeed::Equivocated {
                        state.proofs.insert(culprit.party, culprit.evidence.clone());
                    }
                    state.blame(culprit);
                    state.culprits_written = state.culprits.len();
                }
            }
        }
        state.advance();
        Ok(())
    }

    /// Opens the seed of the masks: a hash of a random ring element that no t parties know before it is opened.
    async fn coin<E: Exchange>(&self, ex: &E) -> Result<Seed, RunError> {
        if let Some(seed) = self.seed() {
            return Ok(seed);
        }
        let question = Question { chunk: 0, attempt: 0, ask: Ask::Coin };
        let one = |peer| async move {
            let read = |answer: &Bytes| (answer.len() == Self::COIN_BYTES).then(|| answer.clone());
            Ok::<_, RunError>((peer, self.ask(ex, peer, question, read).await?))
        };
        let mut asks: FuturesUnordered<_> = self.peers().map(one).collect();
        let mut shares: Vec<(PartyId, GrVec<u128, D>)> = Vec::new();
        let mut take = |party, share: &Bytes| {
            shares.extend(GrVec::from_words(work::words(share)).map(|share| (party, share)));
            let list: Vec<_> = shares.iter().map(|(party, share)| (*party, share)).collect();
            self.decoders.wide.decode(&list).ok()
        };
        let mut decoded = take(self.config.own, &self.coin_share());
        while decoded.is_none() {
            // With all shares in and no decision more than t are wrong.
            let excluded = PartySet::EMPTY;
            let (party, share) = asks.next().await.ok_or(RunError::TooManyExcluded { excluded })??;
            decoded = take(party, &share);
        }
        let mut hash = Shake256::default();
        hash.update(b"KMS-DKG-SEED-1");
        hash.update(plan::coin_session(&self.config.run).as_bytes());
        hash.update(&work::to_bytes(decoded.map(|d| d.values).unwrap_or_else(|| GrVec::zeros(1)).words()));
        let mut seed = [0; 32];
        hash.finalize_xof().read(&mut seed);
        // Durable before its first use: with another seed under the same streams the key would be known.
        self.journal.append(Record::Seed(seed).encode(), true).await?;
        self.change(|state| state.seed = Some(seed));
        Ok(seed)
    }

    /// Makes all chunks, a few at a time.
    async fn chunks<E: Exchange>(&self, ex: &E) -> Result<(), RunError> {
        let total = self.plan.chunks.len() as u32;
        let mut running = FuturesUnordered::new();
        let mut changes = self.version.subscribe();
        let mut next = 0;
        loop {
            changes.borrow_and_update();
            let frontier = self.state().frontier;
            if frontier >= total {
                return Ok(());
            }
            let mut limit = total.min(frontier + self.config.window as u32);
            if frontier < self.plan.secret_chunks {
                limit = limit.min(self.plan.secret_chunks);
            } else if self.secrets.get().is_none() {
                self.make_secrets(ex).await?;
            }
            for chunk in self.plan.chunks.iter().take(limit as usize).skip(next as usize) {
                if !self.state().done.contains_key(&chunk.index) {
                    running.push(self.chunk(ex, *chunk));
                }
                next = chunk.index + 1;
            }
            if let Either::Left((Some(ended), _)) = select(running.next(), core::pin::pin!(changes.changed())).await {
                ended?;
            }
        }
    }

    /// Shares of the secret bits from their opened values.
    async fn make_secrets<E: Exchange>(&self, ex: &E) -> Result<(), RunError> {
        let mut vectors: Vec<GrVec<u128, D>> =
            self.config.spec.secrets.iter().map(|secret| GrVec::zeros(secret.bits)).collect();
        for chunk in self.plan.chunks.iter().take(self.plan.secret_chunks as usize) {
            let Work::Bits { secret, first, .. } = chunk.work else { continue };
            let internal = |what| RunError::Internal { chunk: chunk.index, what };
            let (values, attempt) = {
                let state = self.state();
                (state.values.get(&chunk.index).cloned(), state.attempt_of(chunk.index))
            };
            let Try { session, .. } = self.try_of(*chunk, attempt).ok_or_else(|| internal("there is no seed"))?;
            let values = values.filter(|values| values.len() == chunk.result_bytes());
            let values = values.ok_or_else(|| internal("the journal lacks opened values"))?;
            let (prss, chunk) = (Arc::clone(&self.prss), *chunk);
            let bits = ex
                .compute(move || {
                    let a = work::prepare::<u128, D>(&prss, &chunk, &session).a;
                    let values: Vec<u128> = work::words(&values);
                    let v = chunk.pieces().map(|(first, count)| values[first..first + count].to_vec()).collect();
                    work::solve(a, &Opened { v, d: Vec::new(), hash: [0; 32] })
                })
                .await
                .map_err(|_| internal("an opened value of a random bit is odd"))?;
            let vector = &mut vectors[secret];
            for c in 0..D {
                vector.coefficient_mut(c)[first..first + bits.len()].copy_from_slice(bits.coefficient(c));
            }
        }
        let _ = self.secrets.set(Arc::new(Secrets::new(vectors)));
        self.touch();
        Ok(())
    }

    /// Makes frames again that peers ask for, of chunks that are done. Never ends well.
    pub(super) async fn serve<E: Exchange>(&self, ex: &E) -> Result<(), RunError> {
        let mut changes = self.version.subscribe();
        loop {
            changes.borrow_and_update();
            // Frames B and C need the secrets.
            let able = |chunk: &&Chunk| chunk.component().is_none() || self.secrets.get().is_some();
            let wanted = self.state().wanted.iter().filter_map(|index| self.plan.get(*index)).find(able).copied();
            if let Some(chunk) = wanted {
                self.state().wanted.remove(&chunk.index);
                self.serve_again(ex, chunk).await?;
            } else {
                let _ = changes.changed().await;
            }
        }
    }
}

/// What a journal is of.
fn digest(spec: &KeySpec, run: &crate::KeygenRun) -> [u8; 32] {
    let mut hash = Sha256::new();
    Digest::update(&mut hash, b"KMS-DKG-RUN-1");
    for field in [&run.context_id, &run.run_id, &run.params_hash, &run.manifest_hash] {
        Digest::update(&mut hash, field);
    }
    for secret in &spec.secrets {
        Digest::update(&mut hash, format!("{}/{};", secret.name, secret.bits));
    }
    for Component { name, width, noise, shape } in &spec.components {
        Digest::update(&mut hash, format!("{name}/{}/{noise}/{shape:?};", width.bits()));
    }
    hash.finalize().into()
}
