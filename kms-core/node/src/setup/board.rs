//! What is known of where every party is in the set-up of an epoch, and what follows from it. No clocks, no messages, no
//! disk: the rules alone.
//!
//! In an attempt every party first comes to keys or fails, and says so (*claims*). Then it either *holds* keys that fit
//! what was agreed or *gives up* the attempt; an honest party never does both. n − t holders of the same digest make the
//! attempt the epoch's; 2t + 1 that gave up make it dead. Both can't be: of 2t + 1 that gave up t + 1 are honest, and
//! n − t − 1 parties are all that remain.
//!
//! *Agreed* are, for each set, the commitment that t + 1 of its members claim: one of them is honest. Within the model
//! that is enough, for n − t parties get the same keys from a run. Outside it (a power cut in the last round) fewer may:
//! once all n claims are known, the only claim there is for a set counts. That is as secret: a set with a wrong member is
//! known to the adversary anyhow, and the others' claims are honest. It is as safe: whatever parties think was agreed,
//! n − t must hold the same digest. With t + 1 parties that made keys, every set has a member who did.

use std::collections::BTreeMap;
use std::time::Duration;

use kms_encoding::prss_keys::sets;
use kms_proto::peer::{SetupReport, SetupStage};

/// Commitment to the key of a set.
pub(super) type Commitment = [u8; 32];
/// Digest of the commitments of all sets.
pub(super) type Digest = [u8; 32];

/// Where a party is in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Ready to start.
    Ready,
    /// It wants to start.
    Going,
    /// At work.
    Running,
    /// Its run has ended, with keys if it claims some.
    Claimed,
    /// It holds keys that fit what was agreed.
    Holds,
    /// It has given the attempt up.
    GaveUp,
    /// The epoch has its keys.
    Done,
}

impl Stage {
    /// Order of life: holding and giving up exclude each other.
    const fn rank(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::Going => 1,
            Self::Running => 2,
            Self::Claimed => 3,
            Self::Holds | Self::GaveUp => 4,
            Self::Done => 5,
        }
    }
}

/// What one party says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) attempt: u32,
    pub(super) stage: Stage,
    /// How long it runs.
    pub(super) running: Duration,
    /// Commitments to the keys of its own sets, by ascending bitmap, if its run gave it keys.
    pub(super) claim: Option<Vec<Commitment>>,
    /// At [`Stage::Holds`] and [`Stage::Done`].
    pub(super) digest: Option<Digest>,
}

impl View {
    /// Reads a report of a party with `sets` sets; none if it makes no sense.
    pub(super) fn read(attempt: u32, report: &SetupReport, sets: usize) -> Option<Self> {
        let claim: Vec<Commitment> = report.claim.as_chunks().0.to_vec();
        if attempt == 0 || claim.len() * size_of::<Commitment>() != report.claim.len() {
            return None;
        }
        let stage = match report.stage() {
            SetupStage::Unspecified => return None,
            SetupStage::Ready => Stage::Ready,
            SetupStage::Going => Stage::Going,
            SetupStage::Running => Stage::Running,
            SetupStage::Made | SetupStage::Failed => Stage::Claimed,
            SetupStage::Holds => Stage::Holds,
            SetupStage::GaveUp => Stage::GaveUp,
            SetupStage::Done => Stage::Done,
        };
        let settled = matches!(stage, Stage::Holds | Stage::Done);
        let digest = report.digest.as_slice().try_into().ok().filter(|_| settled);
        let claims = match report.stage() {
            SetupStage::Made => claim.len() == sets,
            SetupStage::Ready | SetupStage::Going | SetupStage::Running | SetupStage::Failed => claim.is_empty(),
            _ => claim.is_empty() || claim.len() == sets,
        };
        if !claims || digest.is_some() != settled || (!settled && !report.digest.is_empty()) {
            return None;
        }
        let claim = Some(claim).filter(|claim| !claim.is_empty());
        Some(Self { attempt, stage, running: Duration::from_millis(report.running_ms.into()), claim, digest })
    }

    /// The report that says this.
    pub(super) fn report(&self) -> SetupReport {
        let stage = match self.stage {
            Stage::Ready => SetupStage::Ready,
            Stage::Going => SetupStage::Going,
            Stage::Running => SetupStage::Running,
            Stage::Claimed if self.claim.is_some() => SetupStage::Made,
            Stage::Claimed => SetupStage::Failed,
            Stage::Holds => SetupStage::Holds,
            Stage::GaveUp => SetupStage::GaveUp,
            Stage::Done => SetupStage::Done,
        };
        SetupReport {
            stage: stage.into(),
            running_ms: u32::try_from(self.running.as_millis()).unwrap_or(u32::MAX),
            claim: self.claim.as_ref().map(|claim| claim.concat()).unwrap_or_default(),
            digest: self.digest.map(Vec::from).unwrap_or_default(),
        }
    }

    /// Whether its run is over and gave it nothing.
    fn failed(&self) -> bool {
        self.stage.rank() >= Stage::Claimed.rank() && self.stage != Stage::Done && self.claim.is_none()
    }
}

/// What a party that is ready does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Wait for these parties.
    Wait(Vec<u16>),
    /// Say that it wants to start, if need be without these.
    Go(Vec<u16>),
    /// Start.
    Begin,
    /// Take no part in this attempt: it is too late.
    SitOut,
}

/// What all parties say.
#[derive(Clone, Debug)]
pub(super) struct Board {
    n: u16,
    t: u16,
    own: u16,
    /// By index − 1.
    views: Vec<Option<View>>,
}

impl Board {
    pub(super) fn new(n: u16, t: u16, own: u16, view: View) -> Self {
        let mut views = vec![None; usize::from(n)];
        if let Some(place) = views.get_mut(usize::from(own) - 1) {
            *place = Some(view);
        }
        Self { n, t, own, views }
    }

    /// What this party itself says.
    pub(super) fn set_own(&mut self, view: View) {
        if let Some(place) = self.views.get_mut(usize::from(self.own) - 1) {
            *place = Some(view);
        }
    }

    /// Takes what another party says. The first claim, vote and digest of an attempt count; whether it was news.
    pub(super) fn take(&mut self, peer: u16, view: View) -> bool {
        let Some(place) = self.views.get_mut(usize::from(peer).wrapping_sub(1)) else { return false };
        if let Some(known) = place {
            let (old, new) = ((known.attempt, known.stage.rank()), (view.attempt, view.stage.rank()));
            if new < old || (new == old && view.stage != Stage::Running) {
                return false;
            }
            if known.attempt == view.attempt && known.stage.rank() >= Stage::Claimed.rank() {
                // What it claimed first stands.
                let claim = known.claim.take();
                *place = Some(View { claim, ..view });
                return true;
            }
        }
        *place = Some(view);
        true
    }

    pub(super) fn view(&self, party: u16) -> Option<&View> {
        self.views.get(usize::from(party).wrapping_sub(1))?.as_ref()
    }

    fn all(&self) -> impl Iterator<Item = (u16, &View)> {
        (1u16..).zip(&self.views).filter_map(|(party, view)| Some((party, view.as_ref()?)))
    }

    fn others(&self) -> impl Iterator<Item = (u16, &View)> {
        self.all().filter(|(party, _)| *party != self.own)
    }

    fn count(&self, attempt: u32, test: impl Fn(&View) -> bool) -> usize {
        self.all().filter(|(_, view)| view.attempt == attempt && test(view)).count()
    }

    /// Parties that must be right if n − t parties are.
    fn most(&self) -> usize {
        usize::from(self.n - self.t)
    }

    fn some_honest(&self) -> usize {
        usize::from(self.t) + 1
    }

    /// Values that t + 1 others say.
    fn said<T: Ord + Copy>(&self, what: impl Fn(&View) -> Option<T>) -> Option<T> {
        let mut counts: BTreeMap<T, usize> = BTreeMap::new();
        for value in self.others().filter_map(|(_, view)| what(view)) {
            *counts.entry(value).or_default() += 1;
        }
        counts.into_iter().find(|(_, count)| *count >= self.some_honest()).map(|(value, _)| value)
    }

    /// The attempt and digest that the others say are the epoch's: at least one of them is honest.
    pub(super) fn done(&self) -> Option<(u32, Digest)> {
        self.said(|view| Some((view.attempt, view.digest.filter(|_| view.stage == Stage::Done)?)))
    }

    /// The digest that others hold, at least one honest one.
    pub(super) fn held(&self, attempt: u32) -> Option<Digest> {
        self.said(|view| view.digest.filter(|_| view.attempt == attempt))
    }

    /// An attempt beyond this one that an honest party has come to: this one is dead.
    pub(super) fn beyond(&self, attempt: u32) -> Option<u32> {
        let mut attempts: Vec<u32> = self.others().map(|(_, view)| view.attempt).collect();
        attempts.sort_unstable_by(|a, b| b.cmp(a));
        attempts.get(usize::from(self.t)).copied().filter(|next| *next > attempt)
    }

    /// Whether so many have given the attempt up that it can't become the epoch's.
    pub(super) fn dead(&self, attempt: u32) -> bool {
        self.count(attempt, |view| view.stage == Stage::GaveUp) > 2 * usize::from(self.t)
    }

    /// Whether so few made keys in the attempt that it is to be given up.
    pub(super) fn hopeless(&self, attempt: u32) -> bool {
        self.count(attempt, |view| view.failed() && view.stage != Stage::Holds) >= self.most()
    }

    /// Whether enough parties hold this digest.
    pub(super) fn complete(&self, attempt: u32, digest: Digest) -> bool {
        self.count(attempt, |view| view.digest == Some(digest)) >= self.most()
    }

    /// The commitments of all sets that the claims of an attempt agree on.
    pub(super) fn agreed(&self, attempt: u32) -> Option<Vec<Commitment>> {
        let claims: Vec<(u16, &View)> =
            self.all().filter(|(_, view)| view.attempt == attempt && (view.claim.is_some() || view.failed())).collect();
        let all_known = claims.len() == usize::from(self.n);
        // Where each party is in its own list.
        let mut places = vec![0usize; usize::from(self.n)];
        let agree = |set: u32| {
            let mut counts: BTreeMap<Commitment, usize> = BTreeMap::new();
            for party in (1..=self.n).filter(|party| set >> (party - 1) & 1 == 1) {
                let place = places.get_mut(usize::from(party) - 1)?;
                let claim = claims.iter().find(|(claimant, _)| *claimant == party);
                if let Some(commitment) = claim.and_then(|(_, view)| view.claim.as_ref()?.get(*place)) {
                    *counts.entry(*commitment).or_default() += 1;
                }
                *place += 1;
            }
            let decided = counts.iter().find(|(_, count)| **count >= self.some_honest());
            let only = counts.iter().next().filter(|_| all_known && counts.len() == 1);
            decided.or(only).map(|(commitment, _)| *commitment)
        };
        sets(self.n, self.t).map(agree).collect()
    }

    /// Whether a party that has not begun starts. `connected` are the parties with a stream, `patient` whether it still
    /// waits for all, `joinable` how long a run may be under way for a party to join it.
    ///
    /// What a party is told that it is alone to see starts nothing: it says that it wants to go when all are there, when
    /// its patience with n − t ends, or when t + 1 others want to; and it begins when 2t + 1 have said so. Of these t + 1
    /// are honest, so all honest parties come to want it, and begin within two messages of one another.
    pub(super) fn start(&self, attempt: u32, connected: &[u16], patient: bool, joinable: Duration) -> Start {
        let here = |view: &View| view.attempt == attempt;
        let over = |(_, view): &(u16, &View)| {
            let running = view.stage == Stage::Running && view.running >= joinable;
            here(view) && (running || view.stage.rank() > Stage::Running.rank())
        };
        if self.others().filter(over).count() >= self.some_honest() {
            return Start::SitOut;
        }
        let going = |(_, view): &(u16, &View)| here(view) && view.stage.rank() >= Stage::Going.rank();
        if self.all().filter(going).count() > 2 * usize::from(self.t)
            && self.view(self.own).is_some_and(|own| going(&(self.own, own)))
        {
            return Start::Begin;
        }
        let present = |party: &u16| connected.contains(party) && self.view(*party).is_some_and(here);
        let missing: Vec<u16> = (1..=self.n).filter(|party| *party != self.own && !present(party)).collect();
        let called = self.others().filter(going).count() >= self.some_honest();
        if called || self.able(attempt, connected) && (missing.is_empty() || !patient) {
            Start::Go(missing)
        } else {
            Start::Wait(missing)
        }
    }

    /// Whether n − t parties, this one among them, can take part now.
    pub(super) fn able(&self, attempt: u32, connected: &[u16]) -> bool {
        let able = |(party, view): &(u16, &View)| {
            let there = *party == self.own || connected.contains(party);
            there && view.attempt == attempt && view.stage.rank() <= Stage::Running.rank()
        };
        self.all().filter(able).count() >= self.most()
    }

    /// Others that have not come to this stage of the attempt.
    pub(super) fn behind(&self, attempt: u32, stage: Stage) -> Vec<u16> {
        let there =
            |view: &View| view.attempt > attempt || (view.attempt == attempt && view.stage.rank() >= stage.rank());
        (1..=self.n).filter(|party| *party != self.own && !self.view(*party).is_some_and(there)).collect()
    }

    /// Others that hold this digest: they have the keys.
    pub(super) fn holders(&self, attempt: u32, digest: Digest) -> Vec<u16> {
        let holds = |view: &View| view.attempt == attempt && view.digest == Some(digest);
        self.others().filter(|(_, view)| holds(view)).map(|(party, _)| party).collect()
    }
}

#[cfg(test)]
mod tests;
