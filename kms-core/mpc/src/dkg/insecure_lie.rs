//! A lie with a signature, for tests of those who must find it and prove it: **whoever tells it is named and excluded.**

use bytes::Bytes;
use kms_algebra::PartyId;

use super::exchange::Signer;
use super::journal::Journal;
use super::message::{Ask, Question, SignedFrame};
use super::run::{Public, Run};
use super::{plan, statement, work};

/// The bit of a frame that is wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// The lowest bit of the first word.
    LowestBit,
    /// Its highest one.
    TopBit,
}

/// The signed frame A in `answer`, changed and signed again; `None` if `asked` is about something else, or there is none.
pub(super) fn wrong_frame<const D: usize>(
    public: &Public<D>,
    signer: &impl Signer,
    own: PartyId,
    asked: &Question,
    answer: &Bytes,
    change: Change,
) -> Option<Bytes> {
    let chunk = public.plan.get(asked.chunk).filter(|_| asked.ask == Ask::FrameA)?;
    let session = plan::session(&public.run, &public.seed, chunk, asked.attempt);
    let mut frame = SignedFrame::decode(answer, chunk.bytes_a::<D>())?.frame.to_vec();
    // Words are little-endian.
    let (at, mask) = match change {
        Change::LowestBit => (0, 1),
        Change::TopBit => (chunk.width.bytes() - 1, 0x80),
    };
    *frame.get_mut(at)? ^= mask;
    let frame = Bytes::from(frame);
    let hash = statement::hash_of_parts(&work::part_hashes::<D>(chunk, &frame));
    let signature = signer.sign(&statement::frame(&session, own, &hash));
    Some(SignedFrame { hash, signature, frame }.encode())
}

impl<const D: usize, S: Signer + 'static, J: Journal + 'static> Run<D, S, J> {
    /// Another frame A than the one in `answer`, with this party's signature; `None` if `question` asks for something else.
    /// For parties that lie on purpose.
    #[must_use]
    pub fn insecure_wrong_frame(&self, question: &[u8], answer: &Bytes) -> Option<Bytes> {
        let (public, asked) = (self.public()?, Question::decode(question)?);
        wrong_frame(&public, &*self.0.signer, self.0.config.own, &asked, answer, Change::LowestBit)
    }
}
