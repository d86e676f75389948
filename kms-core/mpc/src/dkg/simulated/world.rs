//! The parties and what lies between them.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::{Either, select};
use kms_algebra::{PartyId, PartySet, Word};
use kms_encoding::PrssKey;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::lies::Lie;
use super::{InsecureSigner, MemoryJournal};
use crate::dkg::exchange::{AskError, Exchange};
use crate::dkg::message::{Ask, Question, VoteAnswer};
#[cfg(test)]
use crate::dkg::plan::Plan;
use crate::dkg::statement::Vote;
use crate::dkg::{Finished, Public, Run, RunConfig, RunError, Seed};
use crate::prss::Prss;
use crate::sim::{BOUND, Sim, SimNet};
use crate::{Committee, KeygenRun, Network, insecure_dealt};
use kms_encoding::key_spec::{Component, KeySpec, Masks, Secret, Shape, Width};

/// Longest time that a party holds a question.
const HOLD: Duration = Duration::from_secs(10);

type Party<const D: usize> = Run<D, InsecureSigner, MemoryJournal>;

/// A key generation among simulated parties.
pub(crate) struct Keygen<const D: usize>(Arc<Shared<D>>);

impl<const D: usize> Clone for Keygen<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What lies between the parties.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// Longest time that a question or an answer takes on an ordinary day.
    pub(crate) usual: Duration,
    /// The same on a bad day.
    pub(crate) longest: Duration,
    /// How often a day is bad.
    pub(crate) bad: f64,
    /// Who can't be reached by the others, from when until when.
    pub(crate) cuts: Vec<(PartySet, Duration, Duration)>,
    /// The parties' patience.
    pub(crate) patience: Duration,
}

impl Default for Links {
    fn default() -> Self {
        let [usual, longest] = [50, 2000].map(Duration::from_millis);
        Self { usual, longest, bad: 0.02, cuts: Vec::new(), patience: BOUND }
    }
}

struct Shared<const D: usize> {
    committee: Committee,
    spec: Arc<KeySpec>,
    run: KeygenRun,
    prss: Vec<Vec<PrssKey>>,
    journals: Vec<Arc<MemoryJournal>>,
    /// Who can be asked.
    parties: Mutex<Vec<Option<Arc<Party<D>>>>>,
    lies: BTreeMap<PartyId, Lie>,
    links: Links,
    window: usize,
    seed: u64,
    seen: Mutex<Seen>,
    /// Parties that are done and serve those that are not.
    done: Mutex<PartySet>,
    /// Whose frames C of the last chunk get lost until it goes down.
    #[cfg(test)]
    loses: Mutex<Option<PartyId>>,
    /// Honest parties that have not finished: liars give up when there are none.
    unfinished: watch::Sender<PartySet>,
}

/// What an observer of all messages sees.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Votes that honest parties told.
    votes: BTreeMap<(PartyId, u32, u32), Vote>,
    /// Honest parties that told two.
    pub(crate) two_votes: PartySet,
    /// Times that a disk was full.
    pub(crate) disk_full: u32,
    /// Attempts whose stream keys an honest party gave away, and those that were certified final.
    pub(crate) revealed: BTreeSet<(u32, u32)>,
    pub(crate) certified: BTreeSet<(u32, u32)>,
    /// The newest chunk that each party asked for frames C of, and how far behind it somebody asked for one.
    newest: BTreeMap<PartyId, u32>,
    pub(crate) lag: u32,
}

impl Seen {
    fn asked_for_c(&mut self, party: PartyId, chunk: u32) {
        let newest = self.newest.entry(party).or_default();
        *newest = chunk.max(*newest);
        self.lag = self.lag.max(*newest - chunk);
    }

    fn look(&mut self, committee: &Committee, honest: PartyId, asked: &Question, answer: &Bytes) {
        let key = (asked.chunk, asked.attempt);
        match asked.ask {
            Ask::Vote { .. } => {
                let Some(told) = VoteAnswer::decode(answer, committee) else { return };
                if let Some((vote, _)) = told.vote
                    && *self.votes.entry((honest, key.0, key.1)).or_insert(vote) != vote
                {
                    self.two_votes.insert(honest);
                }
                if told.certificate.is_some_and(|certificate| matches!(certificate.vote, Vote::Final(_))) {
                    self.certified.insert(key);
                }
            }
            Ask::Keys => _ = self.revealed.insert(key),
            _ => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What comes out at a party.
pub(crate) type Outcome<const D: usize> = Result<Finished<D>, RunError>;

impl<const D: usize> Keygen<D> {
    /// A run; everything random comes from the seed.
    pub(crate) fn new(committee: Committee, spec: KeySpec, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed ^ 0x006b_6579_6765_6e00);
        let mut id = || {
            let mut id = [0; 32];
            rng.fill_bytes(&mut id);
            id
        };
        let run = KeygenRun { context_id: id(), run_id: id(), params_hash: id(), manifest_hash: id() };
        Self(Arc::new(Shared {
            committee,
            spec: Arc::new(spec),
            run,
            prss: insecure_dealt::prss_keys(&committee, &mut rng),
            journals: (0..committee.n() as u64).map(|slot| Arc::new(MemoryJournal::new(seed ^ slot))).collect(),
            parties: Mutex::new((0..committee.n()).map(|_| None).collect()),
            lies: BTreeMap::new(),
            links: Links::default(),
            window: 3,
            seen: Mutex::default(),
            done: Mutex::new(PartySet::EMPTY),
            #[cfg(test)]
            loses: Mutex::new(None),
            seed,
            unfinished: watch::Sender::new(PartySet::all(committee.n())),
        }))
    }

    /// Lets some parties lie, before anybody starts.
    pub(crate) fn with_lies(self, lies: BTreeMap<PartyId, Lie>, links: Links) -> Self {
        let Ok(mut shared) = Arc::try_unwrap(self.0) else { unreachable!("nobody has started") };
        let liars = lies.keys().copied().collect();
        shared.unfinished.send_replace(PartySet::all(shared.committee.n()).without(liars));
        (shared.lies, shared.links) = (lies, links);
        Self(Arc::new(shared))
    }

    /// The parties' patience.
    pub(super) fn patience(&self) -> Duration {
        self.0.links.patience
    }

    /// The lie that a party tells.
    pub(crate) fn lie(&self, party: PartyId) -> Option<Lie> {
        self.0.lies.get(&party).copied()
    }

    /// Those that lie.
    pub(super) fn liars(&self) -> impl Iterator<Item = PartyId> {
        self.0.committee.parties().filter(|party| self.0.lies.contains_key(party))
    }

    /// Those that don't.
    pub(super) fn honest(&self) -> impl Iterator<Item = PartyId> {
        self.0.committee.parties().filter(|party| !self.0.lies.contains_key(party))
    }

    /// Says that honest parties that are gone for good are not waited for.
    pub(crate) fn without(&self, gone: PartySet) {
        self.0.unfinished.send_modify(|unfinished| *unfinished = unfinished.without(gone));
    }

    pub(crate) fn spec(&self) -> &KeySpec {
        &self.0.spec
    }

    #[cfg(test)]
    pub(crate) fn committee(&self) -> Committee {
        self.0.committee
    }

    pub(crate) fn journal(&self, party: PartyId) -> &Arc<MemoryJournal> {
        &self.0.journals[party.slot()]
    }

    /// Lets the last frames C of a party get lost until it goes down.
    #[cfg(test)]
    pub(crate) fn loses_its_last_frames(&self, party: PartyId) {
        *lock(&self.0.loses) = Some(party);
    }

    #[cfg(test)]
    fn loses(&self, party: PartyId, asked: &[u8]) -> bool {
        let last = Plan::new::<D>(&self.0.spec).map_or(0, |plan| plan.chunks.len() as u32 - 1);
        *lock(&self.0.loses) == Some(party)
            && Question::decode(asked).is_some_and(|q| q.ask == Ask::FrameC && q.chunk == last)
    }

    #[cfg(not(test))]
    fn loses(&self, _: PartyId, _: &[u8]) -> bool {
        false
    }

    /// A party as it is after a restart with what its journal has, without a life of its own.
    #[cfg(test)]
    pub(crate) fn restarted(&self, own: PartyId) -> Party<D> {
        self.machine(own).unwrap()
    }

    /// The run of a party that is up, or has finished.
    pub(crate) fn party(&self, party: PartyId) -> Option<Arc<Party<D>>> {
        self.parties()[party.slot()].clone()
    }

    /// What is public, once a party knows the seed.
    pub(crate) fn parties_public(&self) -> Option<Public<D>> {
        self.parties().iter().flatten().find_map(|party| party.public())
    }

    fn parties(&self) -> MutexGuard<'_, Vec<Option<Arc<Party<D>>>>> {
        lock(&self.0.parties)
    }

    /// What was seen on the way.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.0.seen)
    }

    /// Adds the party to a simulation. It can crash and restart.
    pub(crate) fn spawn(&self, sim: &mut Sim<Outcome<D>>, party: PartyId, start: Duration) {
        let (net, keygen) = (sim.net(party), self.clone());
        sim.spawn_durable(party, move || keygen.clone().live(net.clone(), party, start));
    }

    async fn live(self, net: SimNet, own: PartyId, start: Duration) -> Outcome<D> {
        if let Some(wait) = start.checked_sub(net.now()) {
            net.sleep(wait).await;
        }
        loop {
            let result = self.life(net.clone(), own).await;
            match result {
                // Somebody makes room on the disk and starts the party again.
                Err(RunError::Journal(error)) if error.kind() == io::ErrorKind::StorageFull => {
                    lock(&self.0.seen).disk_full += 1;
                    net.sleep(self.0.links.patience / 4).await;
                    self.journal(own).full_after(None);
                }
                result => return result,
            }
        }
    }

    fn machine(&self, own: PartyId) -> Result<Party<D>, RunError> {
        let shared = &*self.0;
        let prss = Prss::<D>::new(&shared.committee, own, &shared.prss[own.slot()])?;
        let config = RunConfig {
            committee: shared.committee,
            own,
            spec: Arc::clone(&shared.spec),
            run: shared.run,
            patience: shared.links.patience,
            window: shared.window,
        };
        let journal = Arc::clone(&shared.journals[own.slot()]);
        let spec = Arc::clone(&shared.spec);
        let masks = move |seed: &Seed| {
            let lens = (0..spec.components.len()).map(|component| spec.mask_len(component)).collect();
            Arc::new(SimMasks(*seed, lens)) as Arc<dyn Masks>
        };
        Run::new(config, prss, Arc::new(InsecureSigner(own)), journal, masks)
    }

    async fn life(&self, net: SimNet, own: PartyId) -> Outcome<D> {
        let shared = &*self.0;
        let run = Arc::new(self.machine(own)?);
        let mut up = Up { keygen: self, own, done: false };
        self.parties()[own.slot()] = Some(Arc::clone(&run));
        let exchange = SimExchange { net, keygen: self.clone(), asked: Mutex::default() };
        let result = if shared.lies.contains_key(&own) {
            let mut unfinished = shared.unfinished.subscribe();
            let over = core::pin::pin!(unfinished.wait_for(|unfinished| unfinished.is_empty()));
            match select(core::pin::pin!(run.drive(&exchange)), over).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(RunError::Closed),
            }
        } else {
            run.drive(&exchange).await
        };
        // Who is done still answers, and serves.
        up.done = result.is_ok();
        if up.done {
            lock(&shared.done).insert(own);
            shared.unfinished.send_modify(|unfinished| unfinished.remove(own));
        }
        result
    }
}

/// Leaves when its party goes down.
struct Up<'a, const D: usize> {
    keygen: &'a Keygen<D>,
    own: PartyId,
    done: bool,
}

impl<const D: usize> Drop for Up<'_, D> {
    fn drop(&mut self) {
        if !self.done {
            self.keygen.parties()[self.own.slot()] = None;
            self.keygen.journal(self.own).crash();
            #[cfg(test)]
            let _ = lock(&self.keygen.0.loses).take_if(|party| *party == self.own);
        }
    }
}

/// Questions over the simulated clock.
struct SimExchange<const D: usize> {
    net: SimNet,
    keygen: Keygen<D>,
    /// How many delays each question to each peer has had.
    asked: Mutex<BTreeMap<(PartyId, Bytes), u64>>,
}

impl<const D: usize> SimExchange<D> {
    /// A function of the seed and the question, not of the order in which tasks that wait for one change are woken: that is
    /// tokio's secret.
    fn delay(&self, peer: PartyId, question: &Bytes) -> Duration {
        let count = {
            let mut asked = lock(&self.asked);
            let count = asked.entry((peer, question.clone())).or_default();
            *count += 1;
            *count
        };
        let hash = Sha256::new()
            .chain_update(self.keygen.0.seed.to_be_bytes())
            .chain_update([self.net.own().index(), peer.index()])
            .chain_update(count.to_be_bytes())
            .chain_update(question)
            .finalize();
        let mut rng = ChaCha20Rng::from_seed(hash.into());
        let links = &self.keygen.0.links;
        let most = if rng.random_bool(links.bad) { links.longest } else { links.usual };
        rng.random_range(Duration::from_millis(1)..=most)
    }

    /// Whether a peer can be reached now.
    fn reaches(&self, peer: PartyId) -> bool {
        let (own, now) = (self.net.own(), self.net.now());
        let apart = |side: &PartySet| side.contains(own) != side.contains(peer);
        !self.keygen.0.links.cuts.iter().any(|(side, from, until)| apart(side) && *from <= now && now < *until)
    }
}

impl<const D: usize> Exchange for SimExchange<D> {
    async fn ask(&self, peer: PartyId, question: Bytes) -> Result<Bytes, AskError> {
        let shared = &*self.keygen.0;
        let own = self.net.own();
        let question = match self.keygen.lie(own) {
            Some(lie) => lie.ask(question),
            None => question,
        };
        if let Some(asked) = Question::decode(&question).filter(|asked| asked.ask == Ask::FrameC) {
            self.keygen.seen().asked_for_c(own, asked.chunk);
        }
        self.net.sleep(self.delay(peer, &question)).await;
        if !self.reaches(peer) {
            return Err(AskError::Unreachable);
        }
        let party = self.keygen.party(peer).ok_or(AskError::Unreachable)?;
        if self.keygen.loses(peer, &question) {
            self.net.sleep(HOLD).await;
            return Err(AskError::NotYet);
        }
        let answer = core::pin::pin!(party.answer(own, question.clone()));
        let held = core::pin::pin!(self.net.sleep(HOLD));
        // While it is asked, which is as good as always.
        let serves = core::pin::pin!(async {
            if lock(&shared.done).contains(peer) {
                let _ = party.serve(self).await;
            }
            core::future::pending::<()>().await;
        });
        let answer = match select(answer, select(held, serves)).await {
            Either::Left((answer, _)) => answer.map_err(|_| AskError::NotYet),
            Either::Right(_) => Err(AskError::NotYet),
        };
        let asked = Question::decode(&question);
        let (answer, late) = match (self.keygen.lie(peer), &asked, &answer) {
            (Some(lie), _, _) => lie.tell(&self.keygen, peer, own, asked, answer),
            (_, Some(asked), Ok(told)) => {
                self.keygen.seen().look(&shared.committee, peer, asked, told);
                (answer, Duration::ZERO)
            }
            _ => (answer, Duration::ZERO),
        };
        self.net.sleep(self.delay(peer, &question) + late).await;
        // Who went down in the meantime has not answered.
        self.keygen.party(peer).filter(|_| self.reaches(peer)).ok_or(AskError::Unreachable)?;
        answer
    }

    async fn sleep(&self, duration: Duration) {
        self.net.sleep(duration).await;
    }

    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        work()
    }
}

/// Masks out of a hash.
struct SimMasks(Seed, Vec<usize>);

/// The mask of one row.
pub(super) fn masks_of<W: Word>(seed: &Seed, component: usize, row: usize, len: usize) -> Vec<W> {
    let hash = Sha256::new()
        .chain_update(seed)
        .chain_update((component as u64).to_be_bytes())
        .chain_update((row as u64).to_be_bytes())
        .finalize();
    let mut bytes = vec![0; len * W::BYTES];
    ChaCha20Rng::from_seed(hash.into()).fill_bytes(&mut bytes);
    bytes.chunks_exact(W::BYTES).map(W::read_le).collect()
}

impl SimMasks {
    fn words<W: Word>(&self, component: usize, first: usize, rows: usize) -> Vec<W> {
        (first..first + rows).flat_map(|row| masks_of::<W>(&self.0, component, row, self.1[component])).collect()
    }
}

impl Masks for SimMasks {
    fn words64(&self, component: usize, first: usize, rows: usize) -> Vec<u64> {
        self.words(component, first, rows)
    }

    fn words128(&self, component: usize, first: usize, rows: usize) -> Vec<u128> {
        self.words(component, first, rows)
    }
}

/// A key with every shape and both widths, as small as the ring allows.
pub(crate) fn small_spec() -> KeySpec {
    let secrets = [("small", 5), ("glwe", 64), ("squash", 128)].map(|(name, bits)| Secret { name, bits }).to_vec();
    let component = |name, width, noise, shape| Component { name, width, noise, shape };
    let components = vec![
        component("public", Width::W64, 6, Shape::CompactPublic { secret: 1 }),
        component("switch", Width::W64, 9, Shape::KeySwitch { from: 1, to: 0, base_log: 4, levels: 2 }),
        component(
            "packing",
            Width::W128,
            3,
            Shape::Packing { from: 0, to: 2, polynomial: 64, base_log: 20, levels: 2 },
        ),
        component(
            "bootstrap",
            Width::W64,
            4,
            Shape::Bootstrap { from: 0, to: 1, polynomial: 64, base_log: 23, levels: 1 },
        ),
        component(
            "squash",
            Width::W128,
            2,
            Shape::Bootstrap { from: 0, to: 2, polynomial: 64, base_log: 24, levels: 2 },
        ),
    ];
    KeySpec { secrets, components }
}

/// The dimensions and gadgets of the test parameters, with noise that has a distribution worth looking at.
#[cfg(test)]
pub(crate) fn test_spec() -> KeySpec {
    let secrets = [("pke", 256), ("lwe", 16), ("glwe", 256), ("squashing", 256)];
    let secrets = secrets.map(|(name, bits)| Secret { name, bits }).to_vec();
    let component = |name, width, noise, shape| Component { name, width, noise, shape };
    let switch = |from, to| Shape::KeySwitch { from, to, base_log: 16, levels: 1 };
    let bootstrap = |to, base_log, levels| Shape::Bootstrap { from: 1, to, polynomial: 256, base_log, levels };
    let components = vec![
        component("public", Width::W64, 17, Shape::CompactPublic { secret: 0 }),
        component("switch", Width::W64, 45, switch(2, 1)),
        component("bootstrap", Width::W64, 17, bootstrap(2, 23, 1)),
        component("squash", Width::W128, 30, bootstrap(3, 33, 2)),
        component("cast", Width::W64, 45, switch(0, 1)),
    ];
    KeySpec { secrets, components }
}

/// Bits only.
pub(crate) fn bits_spec() -> KeySpec {
    let secrets = [("a", 10), ("b", 4), ("c", 7)].map(|(name, bits)| Secret { name, bits }).to_vec();
    KeySpec { secrets, components: Vec::new() }
}
