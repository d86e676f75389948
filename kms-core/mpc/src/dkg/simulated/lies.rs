//! What liars tell. A liar runs the honest protocol; what it answers is changed on its way, so all it computes is what it
//! *should* have said.

use core::time::Duration;

use bytes::Bytes;
use kms_algebra::PartyId;

use super::{InsecureSigner, Keygen};
use crate::dkg::exchange::{AskError, Signer};
use crate::dkg::insecure_lie::{self, Change};
use crate::dkg::message::{Ask, Question, VoteAnswer};
use crate::dkg::statement::{self, Vote};
use crate::dkg::{plan, relay};

/// One kind of lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// The same wrong frame A to everybody.
    WrongFrame,
    /// The same, wrong by a multiple of a high power of two: what most syndromes of a wrong share would hide.
    WrongTopBit,
    /// The right frame A to some and a wrong one, signed as well, to others.
    Equivocate,
    /// No frame A for some.
    SilentToSome,
    /// No frame A for anybody but other liars, which relay it in complaints, with its bytes to some.
    Hidden,
    /// No answers at all.
    Silent,
    /// No answers for longer than the bound.
    Stall,
    /// Complaints without a reason.
    FalseComplaint,
    /// One vote to some, another one to others.
    BothVotes,
    /// Votes for revealing without a reason.
    FalseReveal,
    /// No votes.
    NoVotes,
    /// Wrong frames B.
    WrongB,
    /// Wrong frames C.
    WrongC,
    /// A wrong frame A, and wrong keys when they are to be revealed.
    WrongKeys,
    /// Claims that chunks are done that gave something else.
    WrongClaims,
    /// A wrong frame A in the last moment, for all honest parties but one, and a vote for revealing: that one may miss who was
    /// wrong. Then a wrong frame for that one alone, and no votes.
    Turncoat,
    /// The first liar gives a wrong frame A to liars only, and the others relay it to one honest party only, in the last moment,
    /// and nothing to the rest, at once. No votes.
    Uneven,
    /// Results of chunks that are done, and frames of others, as late as can be.
    SlowResults,
    /// Bytes that are no answers.
    Garbage,
    /// Answers that are much too long.
    Oversized,
}

/// All lies.
pub(crate) const LIES: [Lie; 20] = [
    Lie::WrongFrame,
    Lie::WrongTopBit,
    Lie::Equivocate,
    Lie::SilentToSome,
    Lie::Hidden,
    Lie::Silent,
    Lie::Stall,
    Lie::FalseComplaint,
    Lie::BothVotes,
    Lie::FalseReveal,
    Lie::NoVotes,
    Lie::WrongB,
    Lie::WrongC,
    Lie::WrongKeys,
    Lie::WrongClaims,
    Lie::Turncoat,
    Lie::Uneven,
    Lie::SlowResults,
    Lie::Garbage,
    Lie::Oversized,
];

type Answer = Result<Bytes, AskError>;

impl Lie {
    /// The name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::WrongFrame => "wrong-frame",
            Self::WrongTopBit => "wrong-top-bit",
            Self::Equivocate => "equivocate",
            Self::SilentToSome => "silent-to-some",
            Self::Hidden => "hidden",
            Self::Silent => "silent",
            Self::Stall => "stall",
            Self::FalseComplaint => "false-complaint",
            Self::BothVotes => "both-votes",
            Self::FalseReveal => "false-reveal",
            Self::NoVotes => "no-votes",
            Self::WrongB => "wrong-b",
            Self::WrongC => "wrong-c",
            Self::WrongKeys => "wrong-keys",
            Self::WrongClaims => "wrong-claims",
            Self::Turncoat => "turncoat",
            Self::Uneven => "uneven",
            Self::SlowResults => "slow-results",
            Self::Garbage => "garbage",
            Self::Oversized => "oversized",
        }
    }

    /// What the liar asks instead.
    pub(super) fn ask(self, question: Bytes) -> Bytes {
        match Question::decode(&question) {
            Some(asked @ Question { ask: Ask::Vote { known: true }, .. }) if self == Self::FalseComplaint => {
                Question { ask: Ask::Relay { instance: 1, round: 1 }, ..asked }.encode()
            }
            _ => question,
        }
    }

    /// What the liar answers instead, and how much later.
    pub(super) fn tell<const D: usize>(
        self,
        keygen: &Keygen<D>,
        liar: PartyId,
        to: PartyId,
        asked: Option<Question>,
        answer: Answer,
    ) -> (Answer, Duration) {
        let now = |answer| (answer, Duration::ZERO);
        let Some(asked) = asked else { return now(answer) };
        let odd = to.index() % 2 == 1;
        match (self, asked.ask) {
            (Self::Silent, _) | (Self::SilentToSome, Ask::FrameA) if self == Self::Silent || odd => {
                (Err(AskError::NotYet), Duration::from_secs(10))
            }
            (Self::Hidden, Ask::FrameA) if keygen.lie(to).is_none() => now(Err(AskError::NotYet)),
            (Self::Hidden, Ask::Held { sender, hash }) if hash.is_none() || (odd && keygen.lie(sender).is_some()) => {
                now(Err(AskError::NotYet))
            }
            (Self::Stall, _) => (answer, keygen.patience() * 4),
            (Self::WrongFrame | Self::WrongTopBit | Self::WrongKeys, Ask::FrameA) => {
                now(answer.map(|answer| self.wrong_frame(keygen, liar, &asked, &answer)))
            }
            (Self::Equivocate, Ask::FrameA) if odd => {
                now(answer.map(|answer| self.wrong_frame(keygen, liar, &asked, &answer)))
            }
            // Its own, right frame would give it away.
            (Self::WrongFrame | Self::WrongTopBit | Self::WrongKeys | Self::NoVotes, Ask::Relay { .. }) => {
                now(Err(AskError::NotYet))
            }
            (Self::BothVotes, Ask::Vote { .. }) if odd => now(reveal_vote(keygen, liar, &asked, answer)),
            (Self::FalseReveal, Ask::Vote { .. }) => now(reveal_vote(keygen, liar, &asked, answer)),
            (Self::NoVotes, Ask::Vote { .. }) => now(Err(AskError::NotYet)),
            (Self::WrongB, Ask::FrameB) | (Self::WrongC, Ask::FrameC) => now(answer.map(|answer| flip(&answer, 0))),
            (Self::WrongKeys, Ask::Keys) => now(answer.map(|answer| wrong_keys(keygen, liar, &asked, &answer))),
            (Self::WrongClaims, Ask::Claim) => {
                now(Ok(Bytes::from([&0u32.to_be_bytes()[..], &[liar.index(); 32], &[0]].concat())))
            }
            (Self::Turncoat, ask) => self.turn(keygen, liar, to, &asked, ask, answer),
            (Self::Uneven, ask) => self.divide(keygen, liar, to, &asked, ask, answer),
            (Self::SlowResults, Ask::Result | Ask::Held { .. }) => (answer, keygen.patience() * 2),
            (Self::Garbage, _) => {
                now(Ok(answer.map_or_else(|_| Bytes::from_static(b"garbage"), |a| flip(&a, 0).slice(1..))))
            }
            (Self::Oversized, _) => now(Ok(Bytes::from(vec![0; 1 << 18]))),
            _ => now(answer),
        }
    }

    fn turn<const D: usize>(
        self,
        keygen: &Keygen<D>,
        liar: PartyId,
        to: PartyId,
        asked: &Question,
        ask: Ask,
        answer: Answer,
    ) -> (Answer, Duration) {
        let victim = keygen.honest().next() == Some(to);
        let now = |answer| (answer, Duration::ZERO);
        match (ask, asked.attempt, victim) {
            (Ask::FrameA, 0, true) | (Ask::Keys | Ask::Held { .. }, ..) => now(Err(AskError::NotYet)),
            (Ask::FrameA, 0, false) => {
                let late = keygen.patience() - Duration::from_millis(300);
                (answer.map(|answer| self.wrong_frame(keygen, liar, asked, &answer)), late)
            }
            (Ask::FrameA, ..) => now(answer.map(|answer| self.wrong_frame(keygen, liar, asked, &answer))),
            (Ask::Vote { .. }, 0, _) => now(reveal_vote(keygen, liar, asked, answer)),
            (Ask::Vote { .. }, ..) => now(Err(AskError::NotYet)),
            (Ask::Relay { .. }, ..) => now(Ok(relay::nothing())),
            _ => now(answer),
        }
    }

    fn divide<const D: usize>(
        self,
        keygen: &Keygen<D>,
        liar: PartyId,
        to: PartyId,
        asked: &Question,
        ask: Ask,
        answer: Answer,
    ) -> (Answer, Duration) {
        let (hides, friend) = (keygen.liars().next() == Some(liar), keygen.lie(to).is_some());
        let chosen = keygen.honest().last() == Some(to);
        let now = |answer| (answer, Duration::ZERO);
        match ask {
            Ask::FrameA if hides && friend => now(answer.map(|answer| self.wrong_frame(keygen, liar, asked, &answer))),
            Ask::FrameA if hides => now(Err(AskError::NotYet)),
            Ask::Relay { .. } if hides => now(Err(AskError::NotYet)),
            Ask::Relay { round: 1, .. } if chosen => (answer, keygen.patience() * 3 - Duration::from_secs(2)),
            Ask::Relay { .. } => now(Ok(relay::nothing())),
            Ask::Held { hash: None, .. } | Ask::Vote { .. } => now(Err(AskError::NotYet)),
            _ => now(answer),
        }
    }

    fn wrong_frame<const D: usize>(self, keygen: &Keygen<D>, liar: PartyId, asked: &Question, answer: &Bytes) -> Bytes {
        let change = if self == Self::WrongTopBit { Change::TopBit } else { Change::LowestBit };
        let lie = keygen
            .parties_public()
            .and_then(|public| insecure_lie::wrong_frame(&public, &InsecureSigner(liar), liar, asked, answer, change));
        lie.unwrap_or_else(|| answer.clone())
    }
}

fn session_of<const D: usize>(keygen: &Keygen<D>, asked: &Question) -> Option<crate::SessionId> {
    let public = keygen.parties_public()?;
    Some(plan::session(&public.run, &public.seed, public.plan.get(asked.chunk)?, asked.attempt))
}

fn flip(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    bytes.into()
}

fn reveal_vote<const D: usize>(keygen: &Keygen<D>, liar: PartyId, asked: &Question, answer: Answer) -> Answer {
    let Some(session) = session_of(keygen, asked) else { return answer };
    let signature = InsecureSigner(liar).sign(&Vote::Reveal.digest(&session));
    Ok(VoteAnswer { vote: Some((Vote::Reveal, signature)), certificate: None }.encode())
}

fn wrong_keys<const D: usize>(keygen: &Keygen<D>, liar: PartyId, asked: &Question, answer: &Bytes) -> Bytes {
    let Some(session) = session_of(keygen, asked) else { return answer.clone() };
    let claims = flip(&answer.slice(statement::SIGNATURE_BYTES..), 0);
    let signature = InsecureSigner(liar).sign(&statement::claim(&session, liar, &claims));
    [&signature[..], &claims].concat().into()
}
