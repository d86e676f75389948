//! From an attempt at a chunk to its bodies.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::{self, Either};
use futures::stream::{FuturesUnordered, Stream, StreamExt};
use kms_algebra::{GrVec, PartyId};
use sha2::{Digest, Sha256};

use super::agree::{Try, Verdict};
use super::error::RunError;
use super::evidence::{Culprit, Misdeed};
use super::exchange::{Exchange, Signer};
use super::journal::Journal;
use super::message::{Ask, SignedFrame};
use super::plan::{self, Chunk};
use super::record::Record;
use super::run::{Inner, MAX_ATTEMPTS};
use super::state::Done;
use super::statement;
use super::work::{self, Inputs, KeyWord, Opened, Prepared, Values};
use kms_encoding::key_spec::Width;

/// Bytes before a frame C in the scratch space of the journal: u32 chunk ‖ u32 attempt ‖ SHA-256 of these and the frame, for
/// a slot that is written again when the power fails may be left half old and half new.
const SLOT_HEADER: usize = 8 + 32;

impl<const D: usize, S: Signer + 'static, J: Journal + 'static> Inner<D, S, J> {
    /// Makes a chunk, or takes it over from peers that are ahead.
    pub(super) async fn chunk<E: Exchange>(&self, ex: &E, chunk: Chunk) -> Result<(), RunError> {
        let live = core::pin::pin!(self.live(ex, chunk));
        let taken = core::pin::pin!(self.catch_up(ex, chunk));
        match future::select(live, taken).await {
            Either::Left((result, _)) | Either::Right((result, _)) => result,
        }
    }

    async fn live<E: Exchange>(&self, ex: &E, chunk: Chunk) -> Result<(), RunError> {
        match chunk.width {
            Width::W64 => self.attempts::<u64, E>(ex, chunk).await,
            Width::W128 => self.attempts::<u128, E>(ex, chunk).await,
        }
    }

    pub(super) fn try_of(&self, chunk: Chunk, attempt: u32) -> Option<Try> {
        let session = plan::session(&self.config.run, &self.seed()?, &chunk, attempt);
        Some(Try { chunk, attempt, session })
    }

    async fn attempts<W: KeyWord, E: Exchange>(&self, ex: &E, chunk: Chunk) -> Result<(), RunError> {
        let internal = |what| RunError::Internal { chunk: chunk.index, what };
        loop {
            let attempt = self.state().attempt_of(chunk.index);
            if attempt >= MAX_ATTEMPTS {
                return Err(internal("nobody is wrong, but the frames are"));
            }
            let at = self.try_of(chunk, attempt).ok_or_else(|| internal("there is no seed"))?;
            let a = self.show_a::<W, E>(ex, &at).await;
            let told = self.state().votes.get(&at.key()).copied();
            if let Some(vote) = told {
                self.tell_vote(&at, vote);
            }
            match self.agree::<W, E>(ex, &at).await? {
                Verdict::Final(opened) => {
                    let opened = Arc::new(opened);
                    self.forget_others(&at, opened.clone());
                    return self.finish(ex, &at, a, opened).await;
                }
                Verdict::Reveal => {
                    drop(a);
                    self.reveal::<W, E>(ex, &at).await?;
                }
            }
        }
    }

    /// Computes this party's frame A and publishes it.
    async fn show_a<W: KeyWord, E: Exchange>(&self, ex: &E, at: &Try) -> Vec<GrVec<W, D>> {
        let (prss, tried) = (Arc::clone(&self.prss), *at);
        let prepared: Prepared<W, D> = ex.compute(move || work::prepare(&prss, &tried.chunk, &tried.session)).await;
        let Prepared { a, frame, hash } = prepared;
        let signature = self.signer.sign(&statement::frame(&at.session, self.config.own, &hash));
        self.keep_frame(at, self.config.own, SignedFrame { hash, signature, frame });
        a
    }

    /// Forgets the frames of others: what they opened to is all that anybody still needs.
    fn forget_others(&self, at: &Try, opened: Arc<dyn Values>) {
        let own = self.config.own;
        self.change(|state| {
            if let Some(attempt) = state.attempts.get_mut(&at.key()) {
                attempt.forget_others(own);
                attempt.opened = Some(opened);
            }
        });
    }

    async fn finish<W: KeyWord, E: Exchange>(
        &self,
        ex: &E,
        at: &Try,
        a: Vec<GrVec<W, D>>,
        opened: Arc<Opened<W>>,
    ) -> Result<(), RunError> {
        let chunk = at.chunk;
        if chunk.component().is_none() {
            let values: Bytes = ex.compute(move || opened.v.iter().flat_map(|v| work::to_bytes(v)).collect()).await;
            return self.done(at, values).await;
        }
        let masked = self.open_b::<W, E>(ex, at).await?;
        let own = self.share_c(ex, at, a, opened, masked).await?;
        self.keep_c(at, &own).await?;
        self.change(|state| state.attempts.entry(at.key()).or_default().c = Some(own.clone()));
        let parts: Vec<usize> = chunk.parts_c().collect();
        let mut frames = vec![(self.config.own, own)];
        let mut asks = self.ask_all(ex, at, Ask::FrameC, chunk.bytes_c::<D>());
        let values = self.values::<W, E>(ex, at, &parts, &mut frames, &mut asks).await?;
        let bodies: Bytes = ex.compute(move || work::to_bytes(&values).into()).await;
        self.done(at, bodies).await?;
        // The chunk is done; what is still to come is judged, so that who was wrong is named. Not for long: who is slow has
        // better to do than to answer about what is done.
        let judged = core::pin::pin!(self.judge_rest::<W, E>(ex, at, &parts, frames, asks));
        let patience = core::pin::pin!(ex.sleep(self.config.patience));
        let overtaken = core::pin::pin!(self.overtaken(chunk.index));
        match future::select(judged, future::select(patience, overtaken)).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Ok(()),
        }
    }

    /// Ends when a chunk and as many behind it as are in flight at a time are done.
    async fn overtaken(&self, chunk: u32) {
        let mut changes = self.version.subscribe();
        while self.state().frontier <= chunk.saturating_add(self.config.window as u32) {
            let _ = changes.changed().await;
        }
    }

    /// ε and ρ of a chunk with products.
    async fn open_b<W: KeyWord, E: Exchange>(&self, ex: &E, at: &Try) -> Result<Vec<W>, RunError> {
        if at.chunk.products == 0 {
            return Ok(Vec::new());
        }
        let own = self.share_b::<W, E>(ex, at).await?;
        self.change(|state| state.attempts.entry(at.key()).or_default().b = Some(own.clone()));
        let mut frames = vec![(self.config.own, own)];
        let mut asks = self.ask_all(ex, at, Ask::FrameB, at.chunk.bytes_b::<D>());
        self.values::<W, E>(ex, at, &[at.chunk.products + 1], &mut frames, &mut asks).await
    }

    async fn share_b<W: KeyWord, E: Exchange>(&self, ex: &E, at: &Try) -> Result<Bytes, RunError> {
        let (prss, spec, secrets, tried) =
            (Arc::clone(&self.prss), Arc::clone(&self.config.spec), self.secrets()?, *at);
        Ok(ex.compute(move || work::share_b::<W, D>(&prss, &spec, &secrets, &tried.chunk, &tried.session)).await)
    }

    async fn share_c<W: KeyWord, E: Exchange>(
        &self,
        ex: &E,
        at: &Try,
        a: Vec<GrVec<W, D>>,
        opened: Arc<Opened<W>>,
        masked: Vec<W>,
    ) -> Result<Bytes, RunError> {
        let (prss, spec, secrets, tried) =
            (Arc::clone(&self.prss), Arc::clone(&self.config.spec), self.secrets()?, *at);
        let masks = self.masks()?;
        let work = move || {
            let (chunk, session) = (&tried.chunk, &tried.session);
            let inputs =
                Inputs { prss: &prss, spec: &spec, secrets: &secrets, masks: &*masks, chunk, session, opened, masked };
            work::share_c(a, &inputs)
        };
        let odd = |_| RunError::Internal { chunk: at.chunk.index, what: "an opened value of a random bit is odd" };
        ex.compute(work).await.map_err(odd)
    }

    /// Asks all peers for a frame of degree t.
    fn ask_all<E: Exchange>(
        &self,
        ex: &E,
        at: &Try,
        ask: Ask,
        len: usize,
    ) -> FuturesUnordered<impl Future<Output = Result<(PartyId, Bytes), RunError>> + Send> {
        let one = move |peer| async move {
            let read = |answer: &Bytes| (answer.len() == len).then(|| answer.clone());
            Ok((peer, self.ask(ex, peer, at.question(ask), read).await?))
        };
        self.peers().map(one).collect()
    }

    /// Values of degree t, decoded as frames come.
    async fn values<W: KeyWord, E: Exchange>(
        &self,
        ex: &E,
        at: &Try,
        parts: &[usize],
        frames: &mut Vec<(PartyId, Bytes)>,
        asks: &mut (impl Stream<Item = Result<(PartyId, Bytes), RunError>> + Unpin + Send),
    ) -> Result<Vec<W>, RunError> {
        loop {
            if frames.len() > 2 * self.config.committee.t()
                && let Some(values) = self.decode(ex, at, parts, frames).await
            {
                return Ok(values);
            }
            match asks.next().await {
                Some(frame) => frames.push(frame?),
                // Everybody has answered, and no 2t + 1 agree. Peers that are done may have what is right.
                None => future::pending().await,
            }
        }
    }

    /// Decodes, and names who was wrong. Wrong frames are dropped.
    async fn decode<W: KeyWord, E: Exchange>(
        &self,
        ex: &E,
        at: &Try,
        parts: &[usize],
        frames: &mut Vec<(PartyId, Bytes)>,
    ) -> Option<Vec<W>> {
        let (decoders, chunk, list, parts) = (Arc::clone(&self.decoders), at.chunk, frames.clone(), parts.to_vec());
        let work = move || work::decode::<W, D>(W::codec(&decoders), &chunk, &parts, &list);
        let (values, wrong) = ex.compute(work).await?;
        frames.retain(|(party, _)| !wrong.contains(*party));
        for party in wrong.iter() {
            let culprit =
                Culprit { party, misdeed: Misdeed::WrongShare, chunk: at.chunk.index, evidence: Bytes::new() };
            self.change(|state| state.blame(culprit));
        }
        Some(values)
    }

    /// Judges frames that come when the values are known.
    async fn judge_rest<W: KeyWord, E: Exchange>(
        &self,
        ex: &E,
        at: &Try,
        parts: &[usize],
        mut frames: Vec<(PartyId, Bytes)>,
        mut asks: impl Stream<Item = Result<(PartyId, Bytes), RunError>> + Unpin + Send,
    ) -> Result<(), RunError> {
        let needed = 2 * self.config.committee.t() + 1;
        while let Some(frame) = asks.next().await {
            frames.truncate(needed);
            frames.push(frame?);
            self.decode::<W, E>(ex, at, parts, &mut frames).await;
        }
        Ok(())
    }

    /// Records what a chunk gave, and that it is done. Bodies are durable then.
    pub(super) async fn done(&self, at: &Try, result: Bytes) -> Result<(), RunError> {
        let hash: [u8; 32] = Sha256::digest(&result).into();
        let (chunk, attempt) = at.key();
        let values = match at.chunk.component() {
            Some(component) => {
                self.journal.write_bodies(component, at.chunk.offset, result).await?;
                Bytes::new()
            }
            None => result,
        };
        self.write_culprits().await?;
        self.journal.append(Record::Done { chunk, attempt, hash, values: values.clone() }.encode(), true).await?;
        let keep = self.kept_chunks();
        self.change(|state| {
            state.done.insert(chunk, Done { attempt, hash });
            if let Some(attempt) = state.attempts.get_mut(&at.key()) {
                attempt.opened = None;
            }
            if !values.is_empty() {
                state.values.insert(chunk, values);
            }
            state.advance();
            state.prune(state.frontier.saturating_sub(keep));
        });
        self.advance(&at.chunk);
        Ok(())
    }

    /// How many chunks behind the frontier peers may still need frames of. Each chunk that is done somewhere took frames C of
    /// t + 1 honest parties, which had done all that are more than a window older: those are taken over.
    pub(super) const fn kept_chunks(&self) -> u32 {
        2 * self.config.window as u32
    }

    /// Keeps frame C on disk: peers that are behind may need it after this party has restarted, when the random bits are
    /// gone. Durable with the record that the chunk is done.
    async fn keep_c(&self, at: &Try, frame: &Bytes) -> Result<(), RunError> {
        let mut slot = BytesMut::with_capacity(SLOT_HEADER + frame.len());
        slot.put_slice(&slot_header(at.key(), frame));
        slot.put_slice(frame);
        let (component, offset) = self.slot(at.chunk.index);
        Ok(self.journal.write_bodies(component, offset, slot.freeze()).await?)
    }

    /// Frame C of a chunk that is done, unless its place was taken by another one's, or it was taken over and never made:
    /// then peers take the bodies over from those that have them.
    pub(super) async fn kept_c(&self, chunk: u32, attempt: u32) -> Option<Bytes> {
        let len = SLOT_HEADER + self.plan.get(chunk)?.bytes_c::<D>();
        let (component, offset) = self.slot(chunk);
        let slot = self.journal.read_bodies(component, offset, len).await.ok()?;
        let (header, frame) = slot.split_at_checked(SLOT_HEADER)?;
        (header == slot_header((chunk, attempt), frame)).then(|| slot.slice(SLOT_HEADER..))
    }

    /// Where frame C of a chunk is kept.
    fn slot(&self, chunk: u32) -> (usize, usize) {
        let slots = 2 * self.config.window + 1;
        (self.config.spec.components.len(), chunk as usize % slots * (SLOT_HEADER + self.plan.largest_c))
    }

    /// Makes frames A and B of a chunk again that is done, for peers that are behind.
    pub(super) async fn serve_again<E: Exchange>(&self, ex: &E, chunk: Chunk) -> Result<(), RunError> {
        let done = self.state().done.get(&chunk.index).copied();
        let Some(at) = done.and_then(|done| self.try_of(chunk, done.attempt)) else { return Ok(()) };
        let b = match chunk.width {
            Width::W64 => {
                self.show_a::<u64, E>(ex, &at).await;
                if chunk.products > 0 { Some(self.share_b::<u64, E>(ex, &at).await?) } else { None }
            }
            Width::W128 => {
                self.show_a::<u128, E>(ex, &at).await;
                if chunk.products > 0 { Some(self.share_b::<u128, E>(ex, &at).await?) } else { None }
            }
        };
        self.change(|state| state.attempts.entry(at.key()).or_default().b = b);
        Ok(())
    }
}

fn slot_header((chunk, attempt): (u32, u32), frame: &[u8]) -> [u8; SLOT_HEADER] {
    let mut header = [0; SLOT_HEADER];
    let (name, hash) = header.split_at_mut(8);
    name[..4].copy_from_slice(&chunk.to_be_bytes());
    name[4..].copy_from_slice(&attempt.to_be_bytes());
    hash.copy_from_slice(&Sha256::new().chain_update(&*name).chain_update(frame).finalize());
    header
}
