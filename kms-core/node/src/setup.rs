//! The pseudorandom keys of an epoch, made by the parties themselves: no dealer ever knows them.
//!
//! A party that holds a share of a key whose epoch has no pseudorandom keys takes part in their set-up
//! ([`kms_mpc::prss_setup`]) with its peers, over the peer links. What stands here is everything around the protocol run:
//!
//! 1. *Start.* Parties tell each other that they are ready for an attempt and start when all are; after a long patience
//!    with n − t of them, without the rest. One that comes when the others are in the middle sits the attempt out.
//! 2. *Run.* The seed of the dealing is sealed before the first message and erased at the end. A party that restarts in the
//!    middle has failed in this attempt: it never deals twice.
//! 3. *Agreement.* Each party seals what its run gave it and tells commitments to its keys. What t + 1 members of a set
//!    claim is agreed. A party that has keys that fit seals that it *holds* them; n − t holders make them the epoch's.
//!    Where too few made keys the parties *give up* the attempt, and the next one follows. Both are sealed before they are
//!    told, once, and exclude each other: two different key sets of one epoch can't both come to be, whatever crashes,
//!    is late, or lies (see `board`).
//! 4. *Taking over.* A party without keys that fit takes them from other members of its sets: the agreed commitments tell
//!    right keys from wrong ones, so one honest member suffices. That is how a late party, or one that was down for the
//!    whole set-up, comes to its keys, also long after.
//!
//! Nothing is used before it is the epoch's. What led to it is erased then.
//!
//! The generation of a key has pseudorandom keys of its own, made in the same way: for the set-up its run is an epoch with
//! an id of its own ([`Setup::take_part`]), whose keys are destroyed when the run is over ([`Setup::destroy`]).

mod adopt;
mod board;
mod record;
mod stored;
mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use kms_encoding::{FloodBoundError, PrssKeys};
use kms_mpc::Committee;
use kms_mpc::prss_setup::malicious::SetupLie;
use kms_proto::peer::{self, setup::Body};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use stored::{load_agreed, object_name};

use crate::error::KeysError;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::party::Party;
use crate::peer::{Hub, SetupNotices};
use crate::sealed::Vault;
use crate::store::Store;
use stored::{Cabinet, Moment};
use task::Task;

/// Times of the set-up, and what tests change.
#[derive(Clone, Copy, Debug)]
pub struct SetupOptions {
    /// How long n − t parties wait for the others before they start without them.
    pub patience: Duration,
    /// Longest time of a round: difference of the parties' starts and delay of a message together.
    pub bound: Duration,
    /// A lie in the protocol, in tests.
    pub lie: Option<SetupLie>,
    /// Where a test kills this party.
    #[cfg(test)]
    pub(crate) dies_at: Option<Moment>,
}

impl Default for SetupOptions {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(600),
            bound: kms_mpc::prss_setup::DEFAULT_BOUND,
            lie: None,
            #[cfg(test)]
            dies_at: None,
        }
    }
}

/// What the set-up works with.
#[derive(Clone, Debug)]
pub struct SetupParts {
    /// This party.
    pub party: Arc<Party>,
    /// Its keys: epochs without pseudorandom keys are those that are waited for.
    pub keys: Arc<Keys>,
    /// Where the keys are sealed.
    pub vault: Arc<Vault>,
    /// Where the journal is.
    pub store: Store,
    /// The links to the others.
    pub hub: Hub,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Ends all set-ups.
    pub cancel: CancellationToken,
}

/// The pseudorandom keys of an epoch, from when they are there.
pub type Made = watch::Receiver<Option<Arc<PrssKeys>>>;

/// The set-ups of all epochs that this party holds shares of, and of runs under way; clones share them.
#[derive(Clone, Debug)]
pub struct Setup {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

impl Setup {
    /// Takes part in the set-ups of all epochs that lack pseudorandom keys, and helps others with those that have them.
    ///
    /// # Errors
    /// The committee can't have pseudorandom keys, or what is sealed can't be read.
    pub async fn start(parts: SetupParts, options: SetupOptions) -> Result<Self, KeysError> {
        let impossible = |e: FloodBoundError| KeysError::Prss(e.to_string());
        let committee = Committee::new(parts.party.n() as usize, parts.party.t() as usize).map_err(impossible)?;
        let setup = Self { shared: Arc::new(Shared::new(&parts, committee, options)), tasks: TaskTracker::new() };
        let waiting = parts.keys.waiting().into_iter().map(|epoch| (epoch, None));
        let agreed = parts.keys.prss().into_iter().map(|keys| (B256::from(keys.run.epoch_id), Some(keys)));
        for (epoch, done) in waiting.chain(agreed) {
            setup.spawn(epoch, done).await?;
        }
        setup.tasks.close();
        parts.hub.notices_to(setup.shared.members.clone());
        Ok(setup)
    }

    /// Takes part in the set-up of an epoch from now on, or goes on with it. It may be repeated.
    ///
    /// # Errors
    /// What is sealed can't be read; [`crate::error::SealedError::Destroyed`] if [`Self::destroy`] was called for it.
    pub async fn take_part(&self, epoch: B256) -> Result<Made, KeysError> {
        let _one = self.shared.changing.lock().await;
        if let Some(member) = self.shared.members.0.lock().get(&epoch) {
            return Ok(member.made.clone());
        }
        let (party, vault) = (self.shared.party.clone(), self.shared.vault.clone());
        let done = tokio::task::spawn_blocking(move || load_agreed(&party, &vault, epoch)).await;
        let done = done.map_err(|e| KeysError::Prss(e.to_string()))??;
        self.spawn(epoch, done.map(Arc::new)).await
    }

    /// Ends the part that this party takes in the set-up of a run, and destroys the keys and all that led to them: they
    /// can't be made again, nor others in their place.
    ///
    /// # Errors
    /// The disk.
    pub async fn destroy(&self, epoch: B256) -> Result<(), KeysError> {
        let _one = self.shared.changing.lock().await;
        let member = self.shared.members.0.lock().remove(&epoch);
        if let Some(Member { cancel, task, .. }) = member {
            cancel.cancel();
            // It ends between two steps, so nothing is written to the disk any more.
            let _ = task.await;
        }
        self.shared.status(epoch, None);
        let cabinet = self.shared.cabinet(epoch);
        let done = tokio::task::spawn_blocking(move || cabinet.destroy()).await;
        done.map_err(|e| KeysError::Prss(e.to_string()))?
    }

    async fn spawn(&self, epoch: B256, done: Option<Arc<PrssKeys>>) -> Result<Made, KeysError> {
        let shared = self.shared.clone();
        let (cancel, sender) = (shared.cancel.child_token(), watch::Sender::new(done.clone()));
        let (made, inbox) = (sender.subscribe(), Arc::new(Inbox::default()));
        let task = Task::new(shared.clone(), shared.cabinet(epoch), cancel.clone(), done, sender).await?;
        let notices = inbox.clone();
        let task = self.tasks.spawn(async move {
            if let Err(error) = task.run(&notices).await {
                tracing::error!(%epoch, %error, "the set-up of pseudorandom keys has stopped");
                shared.status(epoch, Some((format!("PRSS set-up: stopped: {error}"), Vec::new())));
            }
        });
        let member = Member { inbox, made: made.clone(), cancel, task };
        self.shared.members.0.lock().insert(epoch, member);
        Ok(made)
    }

    /// What the first unfinished set-up waits for, in words.
    pub fn waiting_for(&self) -> Option<String> {
        self.shared.status.lock().values().next().map(|(text, _)| text.clone())
    }

    /// What the set-up of an epoch waits for, in words; none if for nothing.
    pub fn waits_for(&self, epoch: B256) -> Option<String> {
        self.shared.status.lock().get(&epoch).map(|(text, _)| text.clone())
    }

    /// Ends when all set-ups have ended after cancellation.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }

    /// Whether nothing of it writes any more: it has ended, or was killed where a test wanted it.
    #[cfg(test)]
    fn is_still(&self) -> bool {
        self.tasks.is_empty() || self.shared.killed.load(std::sync::atomic::Ordering::Acquire)
    }
}

/// Notices of one epoch that wait: the last of each kind and peer, so that nobody can take another's place.
#[derive(Debug, Default)]
struct Inbox {
    waiting: Mutex<BTreeMap<(u16, u8), peer::Setup>>,
    bell: Notify,
}

impl Inbox {
    fn put(&self, peer: u16, notice: peer::Setup) {
        let kind = match &notice.body {
            Some(Body::Report(_)) => 0,
            Some(Body::Want(_)) => 1,
            Some(Body::Keys(_)) => 2,
            None => return,
        };
        self.waiting.lock().insert((peer, kind), notice);
        self.bell.notify_one();
    }

    /// Waits for notices and takes all.
    async fn take(&self) -> Vec<(u16, peer::Setup)> {
        self.bell.notified().await;
        std::mem::take(&mut *self.waiting.lock()).into_iter().map(|((peer, _), notice)| (peer, notice)).collect()
    }
}

/// One epoch that this party takes part in.
#[derive(Debug)]
struct Member {
    inbox: Arc<Inbox>,
    made: Made,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

/// By epoch: where its notices go.
#[derive(Debug, Default)]
struct Members(Mutex<HashMap<B256, Member>>);

impl SetupNotices for Members {
    fn notice(&self, peer: u16, notice: peer::Setup) {
        let epoch = B256::try_from(notice.epoch_id.as_slice()).unwrap_or_default();
        // Epochs that this party holds no share of are none of its business.
        let inbox = self.0.lock().get(&epoch).map(|member| member.inbox.clone());
        if let Some(inbox) = inbox {
            inbox.put(peer, notice);
        }
    }
}

/// What the tasks of all epochs share.
#[derive(Debug)]
struct Shared {
    party: Arc<Party>,
    vault: Arc<Vault>,
    committee: Committee,
    keys: Arc<Keys>,
    store: Store,
    hub: Hub,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
    options: SetupOptions,
    /// Set where a test kills this party.
    #[cfg(test)]
    killed: std::sync::atomic::AtomicBool,
    /// What unfinished set-ups wait for: in words, and which parties.
    status: Mutex<BTreeMap<B256, (String, Vec<u16>)>>,
    members: Arc<Members>,
    /// One epoch comes or goes at a time.
    changing: tokio::sync::Mutex<()>,
}

impl Shared {
    fn new(parts: &SetupParts, committee: Committee, options: SetupOptions) -> Self {
        Self {
            party: parts.party.clone(),
            vault: parts.vault.clone(),
            committee,
            keys: parts.keys.clone(),
            store: parts.store.clone(),
            hub: parts.hub.clone(),
            metrics: parts.metrics.clone(),
            cancel: parts.cancel.clone(),
            options,
            #[cfg(test)]
            killed: std::sync::atomic::AtomicBool::new(false),
            status: Mutex::default(),
            members: Arc::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    fn cabinet(&self, epoch: B256) -> Cabinet {
        Cabinet { party: self.party.clone(), vault: self.vault.clone(), epoch }
    }

    /// Peers with a stream.
    fn connected(&self) -> Vec<u16> {
        self.hub.peers().into_iter().filter(|peer| peer.connected).map(|peer| peer.index).collect()
    }

    fn status(&self, epoch: B256, status: Option<(String, Vec<u16>)>) {
        let mut all = self.status.lock();
        match status {
            Some(status) => all.insert(epoch, status),
            None => all.remove(&epoch),
        };
        let missing = |peer: u16| all.values().any(|(_, parties)| parties.contains(&peer));
        for peer in self.hub.peers() {
            self.metrics.prss_setup_waits_for(peer.index, missing(peer.index));
        }
        self.metrics.prss_setups_open(all.len());
    }

    async fn journal(&self, kind: &'static str, epoch: B256, detail: String) {
        if let Err(error) = self.store.journal(kind, epoch.to_string(), detail).await {
            tracing::error!(%error, "the journal can't be written");
        }
    }

    /// Where tests kill a party: nothing of it goes on, as after a kill −9.
    async fn at(&self, moment: Moment) {
        #[cfg(test)]
        if self.options.dies_at == Some(moment) {
            self.cancel.cancel();
            self.killed.store(true, std::sync::atomic::Ordering::Release);
            std::future::pending::<()>().await;
        }
        tracing::trace!(?moment, "set-up");
    }
}
