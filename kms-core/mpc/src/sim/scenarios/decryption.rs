//! Several decryption jobs at once: values of all types, malformed ciphertexts, liars in every job.

use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kms_encoding::rounding::{DELTA_LOG2, NOISE_LOG2};
use kms_encoding::{DecodeError, FheType, Plaintext, SecretKeyKind, Word};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha20Rng;

use super::judge::{Judge, Lies, PATIENCE, draw_lies};
use crate::malicious::{LIES, Malicious, REPLAY_EPOCH, REPLAY_SESSION};
use crate::sim::dealt::{Dealt, phase};
use crate::sim::{Breach, Cast, Report, Run, Scenario, Sim, SimNet, Summary, Timing, Violation, Weather};
use crate::{DecryptError, Epoch, Item, Network, Outcome, OwnShare, PartyId, Refusal, decrypt, wire};

/// See the module.
pub(super) struct DecryptionScenario;

type Values = Result<Vec<Plaintext>, Refusal>;

/// One job: what is opened and what must come out.
struct Job {
    items: Vec<Item>,
    expected: Values,
}

impl Job {
    fn draw(dealt: &Dealt, earlier: &[Self], rng: &mut ChaCha20Rng) -> Self {
        let mut job = Self { items: Vec::new(), expected: Ok(Vec::new()) };
        let types: Vec<FheType> = match rng.random_range(0..10) {
            0 => FheType::ALL.to_vec(),
            1..4 => (0..rng.random_range(1..=12)).map(|_| FheType::Bool).collect(),
            _ => (0..rng.random_range(1..=4)).filter_map(|_| FheType::ALL.choose(rng).copied()).collect(),
        };
        let bad = rng.random_bool(0.2).then(|| rng.random_range(0..types.len()));
        for (index, ty) in types.into_iter().enumerate() {
            job.add(dealt, ty, bad == Some(index), rng);
        }
        // A ciphertext that another job opens, too: same session, same masks, another job.
        if let Some(other) = earlier.choose(rng).filter(|_| rng.random_bool(0.3))
            && let (Ok(values), Ok(known)) = (&mut job.expected, &other.expected)
        {
            let shared = rng.random_range(0..known.len());
            values.push(known[shared]);
            job.items.push(other.items[shared].clone());
        }
        job
    }

    fn add(&mut self, dealt: &Dealt, ty: FheType, bad: bool, rng: &mut ChaCha20Rng) {
        let mut bytes = [0; 32];
        rng.fill(&mut bytes);
        let value = Plaintext::truncated(ty, Word(bytes));
        let kind = if rng.random() { SecretKeyKind::Squashing } else { SecretKeyKind::SquashedCompression };
        let mut phases: Vec<u128> = value.block_messages().map(phase).collect();
        let flaw = bad.then(|| spoil(ty, &mut phases, rng));
        let item = self.items.len();
        self.items.push(dealt.encrypt(rng, kind, ty, phases, 1 << NOISE_LOG2));
        match (&mut self.expected, flaw) {
            (Ok(values), None) => values.push(value),
            (expected @ Ok(_), Some(reason)) => *expected = Err(Refusal { item, reason }),
            (Err(_), _) => {}
        }
    }
}

/// Makes a ciphertext one that no honest computation gives; why it must be refused.
fn spoil(ty: FheType, phases: &mut [u128], rng: &mut ChaCha20Rng) -> DecodeError {
    let block = rng.random_range(0..phases.len());
    match rng.random_range(0..3) {
        0 if ty == FheType::Bool => {
            phases[0] = phase(rng.random_range(2..16));
            DecodeError::Width { ty }
        }
        1 => {
            phases[block] = phases[block].wrapping_add(phase(16));
            DecodeError::Padding { block }
        }
        // In the middle between two messages: whatever the masks, the residual is too large.
        _ => {
            phases[block] = phases[block].wrapping_add(1 << (DELTA_LOG2 - 1));
            DecodeError::Residual { block }
        }
    }
}

/// What a party keeps of a job whatever happens to it: every decision it ever came to.
type Decisions = Arc<Mutex<Vec<Values>>>;

/// One party's side of one job.
#[derive(Clone)]
struct Side {
    net: SimNet,
    dealt: Arc<Dealt>,
    items: Arc<Vec<Item>>,
    start: Duration,
    patience: Duration,
    decisions: Decisions,
}

type Answer = Result<Outcome, DecryptError>;

impl Side {
    fn own(&self, dealt: &Dealt, items: &[Item]) -> Result<OwnShare, DecryptError> {
        let slot = self.net.own().slot();
        dealt.epochs[slot].partial_decrypt(&dealt.shares[slot], items)
    }

    async fn run<N: Network>(&self, net: &N) -> Answer {
        net.sleep(self.start).await;
        let own = self.own(&self.dealt, &self.items)?;
        let epoch: &Epoch = &self.dealt.epochs[self.net.own().slot()];
        let decryption = decrypt(net, epoch, &own).await?;
        let values = decryption.values;
        self.net.say(|| format!("job {} is decided: {}", own.job(), if values.is_ok() { "values" } else { "refused" }));
        self.decisions.lock().unwrap_or_else(PoisonError::into_inner).push(values);
        let outcome = decryption.tail.collect(net, self.patience).await;
        self.net.say(|| format!("job {}: late {{{}}}, wrong {:?}", own.job(), outcome.late, outcome.culprits()));
        Ok(outcome)
    }

    /// What a replaying liar sends: right in form, made for something else.
    fn stock(&self, lie: &str, committee: &crate::Committee) -> Option<Bytes> {
        if lie == REPLAY_EPOCH {
            return Some(self.own(&Dealt::cached(*committee, 1), &self.items).ok()?.message().clone());
        }
        // The same ciphertexts in another session.
        let other = |item: &Item| {
            let session = crate::SessionId::from_bytes(item.session.as_bytes().map(|byte| !byte));
            Item { session, ..item.clone() }
        };
        let items: Vec<Item> = self.items.iter().map(other).collect();
        (lie == REPLAY_SESSION).then(|| self.own(&self.dealt, &items).ok().map(|own| own.message().clone()))?
    }
}

impl Scenario for DecryptionScenario {
    fn name(&self) -> &'static str {
        "decryption"
    }

    fn timings(&self) -> &'static [Timing] {
        &[Timing::Asynchronous, Timing::BoundViolated]
    }

    fn lies(&self) -> Vec<&'static str> {
        LIES.iter().map(|lie| lie.name).collect()
    }

    fn play(&self, run: &Run) -> Result<Summary, Violation> {
        let committee = run.committee;
        let dealt = Dealt::cached(committee, 0);
        let cast = Cast::draw(&committee, run.timing, run.lie.is_some(), &mut run.rng(1));
        let weather = Weather::draw(&committee, run.timing, &cast, true, &mut run.rng(2));
        let lies = draw_lies(run, &cast, &mut run.rng(3));
        let mut rng = run.rng(4);
        let mut jobs: Vec<Job> = Vec::new();
        for _ in 0..rng.random_range(1..=3) {
            jobs.push(Job::draw(&dealt, &jobs, &mut rng));
        }
        let patience = match rng.random_range(0..4) {
            _ if run.lie.is_some() => PATIENCE,
            0 => Duration::ZERO,
            1 => Duration::from_secs(1),
            _ => PATIENCE,
        };

        let mut sim: Sim<Answer> = Sim::new(committee.n(), run.seed, weather.profile);
        if run.log {
            sim.keep_log();
        }
        weather.apply(&mut sim);
        let mut kept: Vec<(PartyId, usize, Decisions)> = Vec::new();
        for party in committee.parties() {
            for (index, job) in jobs.iter().enumerate() {
                let side = Side {
                    net: sim.net(party),
                    dealt: Arc::clone(&dealt),
                    items: Arc::new(job.items.clone()),
                    start: weather.starts[party.slot()],
                    patience,
                    decisions: Decisions::default(),
                };
                kept.push((party, index, Arc::clone(&side.decisions)));
                let Some((name, lie)) = lies.get(&party) else {
                    sim.spawn_durable(party, move || {
                        let side = side.clone();
                        async move { side.run(&side.net).await }
                    });
                    continue;
                };
                let mut net = Malicious::new(side.net.clone(), *lie);
                if let Some(stock) = side.stock(name, &committee) {
                    net = net.with_stock(stock);
                }
                sim.spawn(party, async move {
                    let answer = side.run(&net).await;
                    net.linger().await;
                    answer
                });
            }
        }
        let report = sim.report();
        let within = run.timing != Timing::BoundViolated;
        let play = Play { run, cast: &cast, weather: &weather, lies: &lies, jobs: &jobs, patience, within };
        play.judge(&report, &kept).map_err(|mut violation| {
            violation.setting = format!("{cast:?}\n{lies:?}\n{weather:?}\npatience {patience:?}");
            violation.log = report.log.clone();
            violation
        })
    }
}

/// A run that is to be judged.
struct Play<'a> {
    run: &'a Run,
    cast: &'a Cast,
    weather: &'a Weather,
    lies: &'a Lies,
    jobs: &'a [Job],
    patience: Duration,
    /// Whether the run stayed within the model: everything must end.
    within: bool,
}

impl Play<'_> {
    fn judge(&self, report: &Report<Answer>, kept: &[(PartyId, usize, Decisions)]) -> Result<Summary, Violation> {
        let truthful = self.cast.truthful();
        let mut summary = Summary { delivered: report.delivered, trace: report.trace, ..Summary::default() };
        let committee = &self.run.committee;
        let (within, patient) = (self.within, self.patience == PATIENCE);
        let judge = Judge { committee, cast: self.cast, lies: self.lies, within, patient, first: true };
        for ((party, index, decisions), (_, answer)) in kept.iter().zip(&report.results) {
            if !truthful.contains(*party) {
                continue;
            }
            let expected = &self.jobs[*index].expected;
            let decisions = decisions.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(other) = decisions.iter().find(|values| *values != expected) {
                let text = format!("P{party} decides {other:?} in job {index}, right is {expected:?}");
                return Err(Violation::new(Breach::WrongResult, text));
            }
            match answer {
                Some(Ok(outcome)) => {
                    judge.judge(*party, outcome)?;
                    let count = if expected.is_ok() { &mut summary.results } else { &mut summary.refusals };
                    *count += 1;
                    summary.named += outcome.wrong.len() as u64;
                }
                Some(Err(error)) => {
                    return Err(Violation::new(Breach::Hang, format!("P{party} gives job {index} up: {error}")));
                }
                None if self.within && self.cast.honest.contains(*party) => {
                    let text = format!("P{party} waits for ever in job {index} ({:?} at {:?})", report.end, report.at);
                    return Err(Violation::new(Breach::Hang, text));
                }
                None => summary.unfinished += 1,
            }
        }
        // What a party may have to hold: every job's message from every other party, as often as liars repeat theirs.
        let blocks = |job: &Job| job.items.iter().map(|item| item.blocks.len()).sum::<usize>();
        let longest = |job: &Job| match committee.degree() {
            4 => wire::message_len::<4>(blocks(job).div_ceil(4)),
            _ => wire::message_len::<5>(blocks(job).div_ceil(5)),
        };
        let fair: usize = self.jobs.iter().map(|job| committee.n() * longest(job)).sum();
        let extra = self.lies.len() * self.jobs.iter().map(|job| 50 * longest(job) + (1 << 17)).sum::<usize>();
        if let Some((party, peak)) = self.weather.over_memory(report, truthful, fair + extra) {
            return Err(Violation::new(Breach::Memory, format!("{peak} bytes wait at P{party}")));
        }
        summary.peak = truthful.iter().map(|p| report.peaks[p.slot()]).max().unwrap_or(0);
        summary.log = report.log.clone();
        Ok(summary)
    }
}
