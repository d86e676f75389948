//! One epoch's set-up at one party: a task that takes notices, runs the protocol and seals what comes out.

use std::sync::Arc;
use std::time::Duration;

use kms_encoding::PrssKeys;
use kms_mpc::lockstep::Culprit;
use kms_mpc::prss_setup::{self, DealingSeed, PrssSetup, SetupRunError};
use kms_mpc::{Committee, JobId, SessionId};
use kms_proto::peer::{self, setup::Body};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::adopt::{Adoption, keys_for};
use super::board::{Board, Digest, Stage, Start, View};
use super::stored::{Cabinet, Moment, Seed, Vote};
use super::{Inbox, Shared, record};
use crate::error::KeysError;
use crate::peer::{FrameProof, Keeping};

/// How often a party says where it is, and looks whether it may go on.
const TICK: Duration = Duration::from_millis(500);
/// Least time between two answers with keys to one peer.
const PACE: Duration = Duration::from_millis(250);

/// What a run came to, and the signed frames of those it names.
type Ended = (Result<PrssSetup, SetupRunError>, Vec<(Culprit, Vec<FrameProof>)>);

/// A run under way.
struct Running {
    since: Instant,
    handle: AbortOnDropHandle<Ended>,
}

/// What this party votes in the attempt.
enum Choice {
    None,
    Holds(Arc<PrssKeys>),
    GaveUp,
    /// Its vote can't be read.
    Unreadable,
}

/// The set-up of one epoch.
pub(super) struct Task {
    shared: Arc<Shared>,
    cabinet: Cabinet,
    /// Ends this set-up.
    cancel: CancellationToken,
    committee: Committee,
    board: Board,
    attempt: u32,
    /// Whether this party has said that it wants to start.
    going: bool,
    /// Whether this party takes part in the attempt, or has decided not to.
    began: bool,
    running: Option<Running>,
    /// Keeps the messages of the run for peers that ask for them again.
    keeping: Option<Keeping>,
    made: Option<PrssKeys>,
    choice: Choice,
    done: Option<Arc<PrssKeys>>,
    /// Who waits for the keys.
    told: watch::Sender<Option<Arc<PrssKeys>>>,
    adoption: Option<Adoption>,
    /// Since when n − t parties could start.
    able_since: Option<Instant>,
    /// By index − 1: when keys may be sent again.
    paced: Vec<Option<Instant>>,
}

impl Task {
    /// The task of an epoch that has keys, or waits for some.
    pub(super) async fn new(
        shared: Arc<Shared>,
        cabinet: Cabinet,
        cancel: CancellationToken,
        done: Option<Arc<PrssKeys>>,
        told: watch::Sender<Option<Arc<PrssKeys>>>,
    ) -> Result<Self, KeysError> {
        let committee = shared.committee;
        let attempt = match &done {
            Some(keys) => keys.run.attempt,
            None => sealing(&cabinet, Cabinet::attempt).await?,
        };
        let view = View { attempt, stage: Stage::Ready, running: Duration::ZERO, claim: None, digest: None };
        let party = &cabinet.party;
        let board = Board::new(committee.n() as u16, committee.t() as u16, party.index, view);
        let paced = vec![None; committee.n()];
        let mut task = Self {
            shared,
            cabinet,
            cancel,
            committee,
            board,
            attempt,
            going: false,
            began: false,
            running: None,
            keeping: None,
            made: None,
            choice: Choice::None,
            done,
            told,
            adoption: None,
            able_since: None,
            paced,
        };
        if task.done.is_some() {
            // What a kill between sealing the keys and erasing the rest has left.
            sealing(&task.cabinet, Cabinet::clear).await?;
        } else {
            task.enter(attempt).await?;
        }
        task.board.set_own(task.view());
        Ok(task)
    }

    /// Goes to an attempt, as far as this party has come in it before.
    async fn enter(&mut self, attempt: u32) -> Result<(), KeysError> {
        let sealed = sealing(&self.cabinet, move |cabinet| Ok(cabinet.sealed(attempt))).await?;
        (self.running, self.keeping, self.adoption, self.able_since) = (None, None, None, None);
        (self.attempt, self.began, self.made) = (attempt, sealed.began, sealed.made);
        self.going = false;
        self.choice = match sealed.vote {
            None => Choice::None,
            Some(Vote::Holds(keys)) => Choice::Holds(Arc::new(keys)),
            Some(Vote::GaveUp) => Choice::GaveUp,
            Some(Vote::Unreadable) => Choice::Unreadable,
        };
        if self.began {
            // This party was in the middle of it. What it had sent is gone, so it must not deal again.
            sealing(&self.cabinet, move |cabinet| cabinet.erase_seed(attempt)).await?;
        }
        Ok(())
    }

    /// Works until the party stops. An error of the disk ends it: the next start goes on.
    pub(super) async fn run(mut self, inbox: &Inbox) -> Result<(), KeysError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.settle().await?;
            tokio::select! {
                () = self.cancel.cancelled() => return Ok(()),
                notices = inbox.take() => notices.iter().for_each(|(peer, notice)| self.take(*peer, notice)),
                ended = end_of(&mut self.running) => self.ended(ended).await?,
                _ = tick.tick() => self.remind(),
            }
        }
    }

    /// Where this party is.
    fn view(&self) -> View {
        let claim = self.made.as_ref().map(|made| made.keys.iter().map(|key| made.run.commitment(key)).collect());
        let (stage, digest) = match (&self.done, &self.choice) {
            (Some(keys), _) => (Stage::Done, Some(digest(keys))),
            (None, Choice::Holds(keys)) => (Stage::Holds, Some(digest(keys))),
            (None, Choice::GaveUp) => (Stage::GaveUp, None),
            _ if self.running.is_some() => (Stage::Running, None),
            _ if self.began => (Stage::Claimed, None),
            _ if self.going => (Stage::Going, None),
            _ => (Stage::Ready, None),
        };
        let running = self.running.as_ref().map_or(Duration::ZERO, |running| running.since.elapsed());
        let claim = claim.filter(|_| self.done.is_none());
        View { attempt: self.attempt, stage, running, claim, digest }
    }

    /// Applies the rules until they change nothing, and tells the others what has changed.
    async fn settle(&mut self) -> Result<(), KeysError> {
        let before = self.board.view(self.cabinet.party.index).map(|view| (view.attempt, view.stage));
        while self.step().await? {
            self.board.set_own(self.view());
        }
        self.board.set_own(self.view());
        let now = self.view();
        if before != Some((now.attempt, now.stage)) {
            tracing::info!(epoch = %self.cabinet.epoch, attempt = now.attempt, stage = ?now.stage, "PRSS set-up");
            self.tell_all();
        }
        self.shared.status(self.cabinet.epoch, self.status());
        Ok(())
    }

    /// One rule; whether it changed anything.
    async fn step(&mut self) -> Result<bool, KeysError> {
        if self.done.is_some() {
            return Ok(false);
        }
        // What an honest party calls the epoch's is the epoch's.
        if let Some((attempt, digest)) = self.board.done() {
            let own = match &self.choice {
                Choice::Holds(keys) if keys.run.attempt == attempt && self::digest(keys) == digest => {
                    Some(keys.clone())
                }
                _ => self.adopted(attempt, digest, None).map(Arc::new),
            };
            return match own {
                Some(keys) => self.finish(keys).await.map(|()| true),
                None => Ok(false),
            };
        }
        if let Choice::Holds(keys) = &self.choice
            && self.board.complete(self.attempt, digest(keys))
        {
            let keys = keys.clone();
            self.shared.at(Moment::Agreed).await;
            return self.finish(keys).await.map(|()| true);
        }
        let beyond = self.board.beyond(self.attempt);
        let dead = self.board.dead(self.attempt).then(|| self.attempt.saturating_add(1));
        if let Some(next) = beyond.or(dead) {
            return self.abandon(next).await.map(|()| true);
        }
        if self.running.is_some() || !matches!(self.choice, Choice::None) {
            return Ok(false);
        }
        if self.began { self.vote().await } else { self.start().await }
    }

    /// Starts the attempt, or sits it out, if it is time.
    async fn start(&mut self) -> Result<bool, KeysError> {
        let connected = self.shared.connected();
        self.able_since =
            self.board.able(self.attempt, &connected).then(|| self.able_since.unwrap_or_else(Instant::now));
        let options = &self.shared.options;
        let patient = self.able_since.is_none_or(|since| since.elapsed() < options.patience);
        match self.board.start(self.attempt, &connected, patient, options.bound / 4) {
            Start::Wait(_) => Ok(false),
            Start::Go(_) if self.going => Ok(false),
            Start::Go(missing) => {
                for party in missing {
                    tracing::warn!(party, "the set-up starts without it: it is late");
                }
                self.going = true;
                Ok(true)
            }
            Start::Begin => {
                let attempt = self.attempt;
                let seed = sealing(&self.cabinet, move |cabinet| cabinet.begin(attempt)).await?;
                self.shared.at(Moment::Seeded).await;
                self.began = true;
                self.launch(seed);
                Ok(true)
            }
            Start::SitOut => {
                let attempt = self.attempt;
                tracing::warn!(
                    attempt,
                    "the others are in the middle of the set-up: this party takes their result over"
                );
                sealing(&self.cabinet, move |cabinet| cabinet.sit_out(attempt)).await?;
                self.began = true;
                Ok(true)
            }
        }
    }

    /// Runs the protocol.
    fn launch(&mut self, seed: Seed) {
        let session_id = SessionId::prss_setup(&self.cabinet.party.context().0, &self.cabinet.epoch.0, self.attempt);
        let job = JobId::of_session(&session_id);
        let hub = &self.shared.hub;
        self.keeping = Some(hub.keep(job));
        let Some(session) = hub.open(job, prss_setup::channels(&self.committee)).map(Arc::new) else {
            // Never: the job is this attempt's, and the attempt is run once.
            tracing::error!(%job, "the session of the set-up is open already");
            return;
        };
        let (committee, bound) = (self.committee, self.shared.options.bound);
        let lie = self.shared.options.lie;
        let handle = tokio::spawn(async move {
            let seed = Some(DealingSeed::from_bytes(*seed));
            let ended = match lie {
                None => prss_setup::run(&session, committee, session_id, seed, bound).await,
                Some(lie) => {
                    prss_setup::run(&lie.network(session.clone(), &committee), committee, session_id, seed, bound).await
                }
            };
            let report = ended.as_ref().map_or_else(|error| &error.report, |setup| &setup.report);
            let frames = |culprit: &Culprit| (*culprit, session.frames(culprit.party.index().into()));
            let named = report.culprits.iter().map(frames).collect();
            (ended, named)
        });
        self.running = Some(Running { since: Instant::now(), handle: AbortOnDropHandle::new(handle) });
    }

    /// The run has ended.
    async fn ended(&mut self, ended: Option<Ended>) -> Result<(), KeysError> {
        self.running = None;
        let (attempt, epoch) = (self.attempt, self.cabinet.epoch);
        self.shared.at(Moment::Ran).await;
        match ended {
            Some((Ok(setup), named)) => {
                record::run(&self.shared, epoch, attempt, &setup.report, &named, "keys were made").await;
                let made = self.made_of(&setup);
                let sealed = made.clone();
                sealing(&self.cabinet, move |cabinet| cabinet.made(&sealed)).await?;
                self.made = Some(made);
                self.shared.at(Moment::Made).await;
            }
            Some((Err(error), named)) => {
                let came_to = format!("no keys: {error}");
                record::run(&self.shared, epoch, attempt, &error.report, &named, &came_to).await;
            }
            None => tracing::error!(%epoch, attempt, "the run of the set-up has panicked"),
        }
        sealing(&self.cabinet, move |cabinet| cabinet.erase_seed(attempt)).await?;
        self.shared.at(Moment::Erased).await;
        Ok(())
    }

    fn made_of(&self, setup: &PrssSetup) -> PrssKeys {
        let (n, t) = (self.committee.n() as u16, self.committee.t() as u16);
        let (run, index) = (self.cabinet.run(self.attempt), self.cabinet.party.index);
        PrssKeys { run, n, t, index, commitments: Vec::new(), keys: setup.keys.clone() }
    }

    /// Holds or gives up, if it can be told which.
    async fn vote(&mut self) -> Result<bool, KeysError> {
        let attempt = self.attempt;
        let agreed = self.board.agreed(attempt);
        let goal = agreed.as_ref().map(|all| self.cabinet.run(attempt).digest(all)).or(self.board.held(attempt));
        if let Some(goal) = goal {
            let Some(keys) = self.adopted(attempt, goal, agreed) else { return Ok(false) };
            let keys = Arc::new(keys);
            let vote = keys.clone();
            sealing(&self.cabinet, move |cabinet| cabinet.hold(&vote)).await?;
            self.choice = Choice::Holds(keys);
        } else if self.board.hopeless(attempt) {
            sealing(&self.cabinet, move |cabinet| cabinet.give_up(attempt)).await?;
            self.choice = Choice::GaveUp;
        } else {
            return Ok(false);
        }
        self.shared.at(Moment::Voted).await;
        Ok(true)
    }

    /// Keys that fit a digest, if they are all there; else it asks for them.
    fn adopted(&mut self, attempt: u32, goal: Digest, agreed: Option<Vec<Digest>>) -> Option<PrssKeys> {
        if self.adoption.as_ref().is_none_or(|adoption| !adoption.is_of(attempt, goal)) {
            let sizes = (self.committee.n() as u16, self.committee.t() as u16, self.cabinet.party.index);
            let run = self.cabinet.run(attempt);
            self.adoption = Some(Adoption::new(run, goal, sizes, agreed, self.made.as_ref()));
            self.ask(attempt, goal);
        }
        self.adoption.as_ref()?.keys()
    }

    fn ask(&self, attempt: u32, goal: Digest) {
        for peer in self.board.holders(attempt, goal) {
            self.send(peer, attempt, Body::Want(peer::SetupWant { digest: goal.to_vec() }));
        }
    }

    /// The keys of the epoch are there, for good.
    async fn finish(&mut self, keys: Arc<PrssKeys>) -> Result<(), KeysError> {
        let sealed = keys.clone();
        sealing(&self.cabinet, move |cabinet| cabinet.done(&sealed)).await?;
        self.shared.at(Moment::Done).await;
        let late = self.board.behind(keys.run.attempt, Stage::Claimed);
        (self.running, self.keeping, self.adoption) = (None, None, None);
        (self.attempt, self.made, self.choice) = (keys.run.attempt, None, Choice::None);
        record::done(&self.shared, self.cabinet.epoch, &keys, &late).await;
        for key in self.shared.keys.complete(&keys) {
            self.shared.metrics.usable_share(key, true);
        }
        self.told.send_replace(Some(keys.clone()));
        self.done = Some(keys);
        sealing(&self.cabinet, Cabinet::clear).await?;
        self.shared.at(Moment::Cleared).await;
        Ok(())
    }

    /// This attempt can't become the epoch's.
    async fn abandon(&mut self, next: u32) -> Result<(), KeysError> {
        let (attempt, epoch) = (self.attempt, self.cabinet.epoch);
        record::abandoned(&self.shared, epoch, attempt).await;
        if self.began {
            self.running = None;
            sealing(&self.cabinet, move |cabinet| cabinet.erase_seed(attempt)).await?;
        }
        self.enter(next).await
    }

    fn take(&mut self, peer: u16, notice: &peer::Setup) {
        match &notice.body {
            Some(Body::Report(report)) => {
                let sets = kms_encoding::prss_keys::sets(self.committee.n() as u16, self.committee.t() as u16);
                let sets = sets.filter(|set| set >> (peer - 1) & 1 == 1).count();
                let Some(view) = View::read(notice.attempt, report, sets) else {
                    tracing::warn!(peer, "a report about a set-up that makes no sense");
                    return;
                };
                // Whoever is done no longer reminds the others; those who are not say so themselves.
                if self.done.is_some() && view.stage != Stage::Done {
                    self.tell(peer);
                }
                self.board.take(peer, view);
            }
            Some(Body::Want(want)) => self.give(peer, notice.attempt, &want.digest),
            Some(Body::Keys(keys)) => {
                // A late answer to what was asked in an earlier attempt is no lie.
                let Some(adoption) = self.adoption.as_mut().filter(|_| notice.attempt == self.attempt) else { return };
                if let Err(wrong) = adoption.take(keys) {
                    tracing::warn!(peer, %wrong, "keys of a set-up were refused");
                    self.shared.metrics.peer_wrong(peer);
                }
            }
            None => {}
        }
    }

    /// Gives a peer the keys that it is entitled to.
    fn give(&mut self, peer: u16, attempt: u32, wanted: &[u8]) {
        let held = match (&self.done, &self.choice) {
            (Some(keys), _) | (None, Choice::Holds(keys)) => keys.clone(),
            _ => return,
        };
        if held.run.attempt != attempt || digest(&held) != wanted {
            return;
        }
        let Some(paced) = self.paced.get_mut(usize::from(peer) - 1) else { return };
        if paced.is_none_or(|until| Instant::now() >= until) {
            *paced = Some(Instant::now() + PACE);
            self.send(peer, attempt, Body::Keys(keys_for(peer, &held)));
        }
    }

    /// What is repeated until it is not needed any more.
    fn remind(&self) {
        if self.done.is_some() {
            return;
        }
        self.tell_all();
        if let Some((attempt, goal)) = self.adoption.as_ref().and_then(Adoption::lacks) {
            self.ask(attempt, goal);
        }
    }

    fn tell_all(&self) {
        let own = self.cabinet.party.index;
        (1..=self.committee.n() as u16).filter(|peer| *peer != own).for_each(|peer| self.tell(peer));
    }

    fn tell(&self, peer: u16) {
        let view = self.view();
        self.send(peer, view.attempt, Body::Report(view.report()));
    }

    fn send(&self, peer: u16, attempt: u32, body: Body) {
        let notice = peer::Setup { epoch_id: self.cabinet.epoch.to_vec(), attempt, body: Some(body) };
        // Whoever does not get it now is told again.
        let _ = self.shared.hub.tell(peer, notice);
    }

    /// What the set-up waits for, in words, and which parties; none when there is nothing to wait for.
    fn status(&self) -> Option<(String, Vec<u16>)> {
        let attempt = self.attempt;
        let (waits, parties) = match self.board.view(self.cabinet.party.index)?.stage {
            Stage::Done => return None,
            Stage::Ready | Stage::Going => {
                let joinable = self.shared.options.bound / 4;
                let missing = match self.board.start(attempt, &self.shared.connected(), true, joinable) {
                    Start::Wait(missing) | Start::Go(missing) => missing,
                    Start::Begin | Start::SitOut => Vec::new(),
                };
                ("", missing)
            }
            Stage::Running => ("the protocol run", Vec::new()),
            Stage::Claimed => ("the results of ", self.board.behind(attempt, Stage::Claimed)),
            Stage::Holds | Stage::GaveUp => ("the votes of ", self.board.behind(attempt, Stage::Holds)),
        };
        let list = parties.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let text = match (parties.is_empty(), self.adoption.as_ref().and_then(Adoption::lacks)) {
            (_, Some(_)) => "waiting for keys from the others".to_owned(),
            (false, None) => format!("waiting for {waits}parties {list}"),
            (true, None) => format!("waiting for {}", if waits.starts_with("the p") { waits } else { "agreement" }),
        };
        Some((format!("PRSS set-up, attempt {attempt}: {text}"), parties))
    }
}

fn digest(keys: &PrssKeys) -> Digest {
    keys.run.digest(&keys.commitments)
}

/// The end of the run under way, if there is one; `None` if it panicked.
async fn end_of(running: &mut Option<Running>) -> Option<Ended> {
    match running {
        Some(running) => (&mut running.handle).await.ok(),
        None => std::future::pending().await,
    }
}

/// Does something on the disk, away from the async runtime.
async fn sealing<T: Send + 'static>(
    cabinet: &Cabinet,
    work: impl FnOnce(&Cabinet) -> Result<T, KeysError> + Send + 'static,
) -> Result<T, KeysError> {
    let cabinet = cabinet.clone();
    let done = tokio::task::spawn_blocking(move || work(&cabinet)).await;
    done.unwrap_or_else(|e| Err(KeysError::Prss(format!("sealing was interrupted: {e}"))))
}
