//! A whole committee in one process: every party runs the real protocol and sends the real bytes; only sockets are
//! missing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kms_encoding::{FheType, LweBlocks, Plaintext, SecretKeyKind, ShareVector, Word, rounding};
use kms_mpc::{Closed, Committee, Epoch, Item, JobId, Network, PartyId, SessionId, decrypt, insecure_dealt};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::DIMENSION;
use crate::report::{Figure, median};

/// Requests in flight at a time.
const REQUESTS: usize = 8;
/// Bursts of requests that are timed, in windows: the figure is the best window's median, as for the loops.
const BURSTS: usize = 11;
const WINDOWS: usize = 9;

type Message = (PartyId, Bytes);

/// The queue of one (job, round) at one party.
struct Mailbox {
    sender: mpsc::UnboundedSender<Message>,
    receiver: Arc<AsyncMutex<mpsc::UnboundedReceiver<Message>>>,
}

type Hub = Vec<Mutex<HashMap<(JobId, u8), Mailbox>>>;

/// One party's end of a network in memory.
struct Direct {
    own: PartyId,
    hub: Arc<Hub>,
}

impl Direct {
    fn mailbox<T>(&self, party: PartyId, key: (JobId, u8), with: impl FnOnce(&Mailbox) -> T) -> T {
        let mut mailboxes = self.hub[party.slot()].lock().unwrap_or_else(PoisonError::into_inner);
        with(mailboxes.entry(key).or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            Mailbox { sender, receiver: Arc::new(AsyncMutex::new(receiver)) }
        }))
    }

    fn close(&self, job: JobId, round: u8) {
        self.hub[self.own.slot()].lock().unwrap_or_else(PoisonError::into_inner).remove(&(job, round));
    }
}

impl Network for Direct {
    fn own(&self) -> PartyId {
        self.own
    }

    fn n(&self) -> usize {
        self.hub.len()
    }

    fn send(&self, job: JobId, round: u8, to: PartyId, payload: Bytes) {
        let _ = self.mailbox(to, (job, round), |mailbox| mailbox.sender.send((self.own, payload)));
    }

    async fn recv(&self, job: JobId, round: u8) -> Result<Message, Closed> {
        let receiver = self.mailbox(self.own, (job, round), |mailbox| Arc::clone(&mailbox.receiver));
        receiver.lock().await.recv().await.ok_or(Closed)
    }
}

/// One party of the committee, with its keys.
struct Party {
    net: Direct,
    epoch: Epoch,
    shares: Vec<ShareVector>,
}

impl Party {
    /// Decrypts one request, from its ciphertext to the last peer's share.
    async fn decrypt(self: Arc<Self>, item: Item) -> Result<Plaintext> {
        let party = Arc::clone(&self);
        let own = self.net.compute(move || party.epoch.partial_decrypt(&party.shares, &[item])).await?;
        let decryption = decrypt(&self.net, &self.epoch, &own).await?;
        let outcome = decryption.tail.collect(&self.net, Duration::from_secs(60)).await;
        ensure!(outcome.wrong.is_empty() && outcome.late.is_empty(), "everybody is honest");
        self.net.close(own.job(), decrypt::ROUND);
        decryption.values?.into_iter().next().context("a value")
    }
}

/// An encryption of `value` under `secret` without noise: the flooding hides that.
fn encrypt(value: Plaintext, secret: &[u128], rng: &mut StdRng) -> Result<LweBlocks> {
    let (mut masks, mut bodies) = (Vec::new(), Vec::new());
    for message in value.block_messages() {
        let mask: Vec<u128> = secret.iter().map(|_| rng.random()).collect();
        let phase = u128::from(message) << rounding::DELTA_LOG2;
        bodies.push(mask.iter().zip(secret).fold(phase, |b, (a, s)| b.wrapping_add(a.wrapping_mul(*s))));
        masks.extend(mask);
    }
    Ok(LweBlocks::new(SecretKeyKind::Squashing, secret.len(), 0, masks, bodies)?)
}

/// Blocks per second that the whole committee decrypts.
///
/// # Errors
/// A wrong value, or a committee out of range.
pub(super) fn run(name: &str, n: usize, t: usize) -> Result<Vec<Figure>> {
    let committee = Committee::new(n, t)?;
    let mut rng = StdRng::seed_from_u64(4);
    let secret: Vec<u128> = (0..DIMENSION).map(|_| u128::from(rng.random::<bool>())).collect();
    let keys = insecure_dealt::prss_keys(&committee, &mut rng);
    let shares = insecure_dealt::key_shares(&committee, SecretKeyKind::Squashing, &secret, &mut rng);
    let hub: Arc<Hub> = Arc::new((0..n).map(|_| Mutex::default()).collect());
    let parties: Vec<Arc<Party>> = committee
        .parties()
        .zip(keys.iter().zip(shares))
        .map(|(own, (keys, share))| {
            let net = Direct { own, hub: Arc::clone(&hub) };
            Ok(Arc::new(Party { net, epoch: Epoch::new(committee, own, keys)?, shares: vec![share] }))
        })
        .collect::<Result<_>>()?;
    let ty = FheType::Uint64;
    let requests: Vec<(Plaintext, Arc<LweBlocks>)> = (0..REQUESTS)
        .map(|_| {
            let value = Plaintext::truncated(ty, Word(rng.random()));
            Ok((value, Arc::new(encrypt(value, &secret, &mut rng)?)))
        })
        .collect::<Result<_>>()?;

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_time().build()?;
    let blocks = REQUESTS * ty.squashed_blocks();
    let before = cpu_seconds();
    let rates = (0..BURSTS * WINDOWS)
        .map(|_| {
            let clock = Instant::now();
            runtime.block_on(async {
                let mut running = Vec::with_capacity(REQUESTS * n);
                for (value, ciphertext) in &requests {
                    // A session of its own each time: no key is derived twice.
                    let session = SessionId::from_bytes(rng.random());
                    for party in &parties {
                        let item = Item { session, ty, blocks: Arc::clone(ciphertext) };
                        running.push((*value, tokio::spawn(Arc::clone(party).decrypt(item))));
                    }
                }
                for (expected, task) in running {
                    ensure!(task.await?? == expected, "a wrong value");
                }
                Ok(())
            })?;
            #[expect(clippy::cast_precision_loss, reason = "small counts")]
            Ok(blocks as f64 / clock.elapsed().as_secs_f64())
        })
        .collect::<Result<Vec<f64>>>()?;
    let seconds = cpu_seconds().zip(before).map(|(after, before)| after - before);
    let (partial, bursts) = (n * blocks, rates.len());
    let value = rates.chunks(BURSTS).map(|window| median(window.to_vec())).fold(0.0, f64::max);
    let mut figures = vec![Figure::new(
        name,
        value,
        "blocks/s",
        format!(
            "{n} parties in one process on {cores} cores, network in memory, {REQUESTS} uint64 requests at a time ({partial} partial decryptions), dimension {DIMENSION}, from ciphertext to the last share at every party"
        ),
    )];
    if let Some(seconds) = seconds {
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let value = (blocks * bursts) as f64 / seconds;
        let note = format!(
            "the same per second of processor time: deaf to what else runs; {cores} cores of their own do {cores} times as much"
        );
        figures.push(Figure::new(&format!("{name}.cpu"), value, "blocks/s/core", note));
    }
    Ok(figures)
}

/// Processor time of this process so far, in seconds, where the system says it in ticks of 10 ms.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name in parentheses: utime and stime are the 12th and 13th fields.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}
