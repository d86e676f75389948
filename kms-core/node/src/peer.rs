//! The peer transport: one bidirectional stream per pair of parties, multiplexed by session. A session of a link is a
//! job: its id is the job id.
//!
//! The party with the smaller index dials. After both have said hello (protocol version, committee hash) each lists the
//! sessions that it has open, and the other sends its messages of those again, recomputing them for sessions that are
//! long finished; later it is asked again for what is still missing. So nothing has to be stored in queues for a party
//! that is away: what it lacks is what it asks for. All queues are bounded; a full one drops a frame, and the receiver
//! will ask.
//!
//! Key generation does not use the streams: its parties ask each other ([`Hub::ask`]) over connections of their own, each
//! party dialling all others, so that megabytes of it never stand in the way of a decryption's kilobytes.

mod dial;
mod frame;
mod inbox;
mod kept;
mod keygen;
mod link;
mod outbox;
mod serve;
mod session;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy_primitives::Address;
use bytes::Bytes;
use k256::ecdsa::SigningKey;
use kms_mpc::{JobId, PartyId};
use kms_proto::peer::{self, Frame, frame::Body};
use parking_lot::Mutex;
use sha3::{Digest, Sha3_256};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use frame::{FrameProof, Message, SessionId};
pub use inbox::InboxLimits;
pub use kept::Keeping;
pub use keygen::{KeygenAnswers, Unanswered};
pub use session::Session;

use crate::identity::Leaf;
use crate::metrics::Metrics;
use crate::misbehave::Misbehave;
use crate::party::Party;
use crate::tls::{Parties, TlsError};
use frame::{ForeignFrame, Outgoing, Unchecked};
use inbox::{Delivery, Inbox};
use kept::Kept;
use outbox::Outbox;

/// Frames that wait for one peer's stream.
const QUEUE: usize = 512;
/// Bytes under way on one stream, and on its connection: a slow link must not stall a burst of small jobs.
const STREAM_WINDOW: u32 = 4 << 20;
/// See [`STREAM_WINDOW`].
const CONNECTION_WINDOW: u32 = 8 << 20;
/// How often open sessions are looked over for missing messages.
const TICK: Duration = Duration::from_millis(500);
/// A session this old asks for what it lacks; every further time after twice the pause.
const ASK_AFTER: Duration = Duration::from_secs(1);

/// Recomputes this party's messages of a session that is not open: (round, payload). They are the same bytes as the
/// first time. Empty if this party does not know the session or has never sent anything in it.
#[tonic::async_trait]
pub trait Recompute: Send + Sync {
    /// The messages of one session, for `peer`. May take its time: the next question of the same stream waits for it.
    async fn messages(&self, peer: u16, session: SessionId) -> Vec<(u8, Bytes)>;
}

/// Takes what peers say about the set-up of pseudorandom keys.
pub trait SetupNotices: Send + Sync {
    /// A notice of `peer`, within its bounds. Must not wait: the stream of the peer does.
    fn notice(&self, peer: u16, notice: peer::Setup);
}

/// Settings of the transport.
#[derive(Clone, Copy, Debug, Default)]
pub struct HubOptions {
    /// Bounds of early messages.
    pub inbox: InboxLimits,
    /// A lie, in tests.
    pub misbehave: Option<Misbehave>,
}

/// The link to one peer, as seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Index.
    pub index: u16,
    /// Whether a stream with a completed handshake is up.
    pub connected: bool,
    /// Last frame received, milliseconds since 1970; 0 = never.
    pub last_seen_ms: u64,
    /// Why there is no stream.
    pub problem: Option<String>,
}

/// All links of this party.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    own: u16,
    t: usize,
    committee_hash: [u8; 32],
    manifest_hash: [u8; 32],
    key: SigningKey,
    /// Signer and URL by index − 1.
    members: Vec<(Address, String)>,
    leaf: Arc<Leaf>,
    parties: Arc<Parties>,
    links: Vec<Link>,
    inbox: Mutex<Inbox>,
    outbox: Outbox,
    recompute: OnceLock<Arc<dyn Recompute>>,
    kept: Arc<Kept>,
    notices: OnceLock<Arc<dyn SetupNotices>>,
    keygen: keygen::Keygen,
    misbehave: Option<Misbehave>,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

/// One peer.
#[derive(Default)]
struct Link {
    up: Mutex<Up>,
    last_seen_ms: AtomicU64,
}

#[derive(Default)]
struct Up {
    generation: u64,
    queue: Option<mpsc::Sender<Frame>>,
    end: CancellationToken,
    problem: Option<String>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("own", &self.inner.own).finish_non_exhaustive()
    }
}

impl Hub {
    /// The transport of `party`; nothing is sent or accepted before [`Hub::start`].
    ///
    /// # Errors
    /// The party's TLS identity, or a root of the manifest, can't be used.
    pub fn new(
        party: &Party,
        leaf: Arc<Leaf>,
        metrics: Arc<Metrics>,
        options: HubOptions,
        cancel: CancellationToken,
    ) -> Result<Self, TlsError> {
        let committee = &party.manifest.committee;
        let members: Vec<_> = committee
            .parties
            .iter()
            .zip(&party.manifest.parties)
            .map(|(member, endpoints)| (member.signer, endpoints.peer_url.clone()))
            .collect();
        let manifest = party.manifest.to_json().unwrap_or_default();
        Ok(Self {
            inner: Arc::new(Inner {
                own: party.index,
                t: party.t() as usize,
                committee_hash: party.committee_hash,
                manifest_hash: Sha3_256::digest(manifest).into(),
                key: party.signing_key.clone(),
                links: members.iter().map(|_| Link::default()).collect(),
                outbox: Outbox::new(members.len()),
                keygen: keygen::Keygen::new(members.len()),
                members,
                leaf,
                parties: Arc::new(Parties::new(committee, party.index)?),
                inbox: Mutex::new(Inbox::new(options.inbox)),
                recompute: OnceLock::new(),
                kept: Arc::default(),
                notices: OnceLock::new(),
                misbehave: options.misbehave,
                metrics,
                cancel,
                tasks: TaskTracker::new(),
            }),
        })
    }

    /// Who recomputes messages of finished sessions. Once, before [`Hub::start`]; without it nothing is sent again
    /// after a session has ended.
    pub fn recompute_with(&self, recompute: Arc<dyn Recompute>) {
        if self.inner.recompute.set(recompute).is_err() {
            tracing::warn!("the transport has its recomputation already");
        }
    }

    /// Who takes notices about set-ups. Once, before [`Hub::start`]; without it they are ignored.
    pub fn notices_to(&self, notices: Arc<dyn SetupNotices>) {
        if self.inner.notices.set(notices).is_err() {
            tracing::warn!("the transport has its taker of notices already");
        }
    }

    /// Tells a peer something about a set-up. `false` if there is no stream or its queue is full: nothing is sent later.
    pub fn tell(&self, peer: u16, notice: peer::Setup) -> bool {
        self.inner.send(peer, Frame { body: Some(Body::Setup(notice)) })
    }

    /// Keeps all messages of a session from now on, so that peers may ask for them again.
    pub fn keep(&self, job: JobId) -> Keeping {
        Keeping::new(self.inner.kept.clone(), *job.as_bytes())
    }

    /// Serves the peers that dial this party and dials the others, until cancelled.
    ///
    /// # Errors
    /// The TLS configuration can't be made.
    pub fn start(&self, listener: TcpListener) -> Result<(), TlsError> {
        let inner = &self.inner;
        serve::start(inner, listener)?;
        for peer in inner.peers().filter(|peer| *peer > inner.own) {
            dial::start(inner, peer)?;
        }
        inner.tasks.spawn(keep_house(inner.clone()));
        inner.tasks.spawn(outbox::run(inner.clone()));
        inner.tasks.close();
        Ok(())
    }

    /// Ends when all tasks of the transport have ended after cancellation.
    pub async fn stopped(&self) {
        self.inner.tasks.wait().await;
    }

    /// Opens the session of a job with `rounds` rounds, counted from 1. Messages that came early are delivered at once. `None` if
    /// this party has it open already.
    pub fn open(&self, job: JobId, rounds: u8) -> Option<Session> {
        let own = PartyId::new(u8::try_from(self.inner.own).ok()?)?;
        let id = *job.as_bytes();
        let queues = self.inner.inbox.lock().open(id, rounds, Instant::now())?;
        Some(Session::new(self.inner.clone(), id, own, queues))
    }

    /// Number of peers with a stream.
    pub fn connected(&self) -> usize {
        self.inner.links.iter().filter(|link| link.up.lock().queue.is_some()).count()
    }

    /// All other parties.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.inner
            .peers()
            .filter_map(|index| {
                let link = self.inner.link(index)?;
                let up = link.up.lock();
                Some(PeerStatus {
                    index,
                    connected: up.queue.is_some(),
                    last_seen_ms: link.last_seen_ms.load(Ordering::Relaxed),
                    problem: up.problem.clone(),
                })
            })
            .collect()
    }
}

impl Inner {
    fn peers(&self) -> impl Iterator<Item = u16> + use<> {
        let (own, n) = (self.own, u16::try_from(self.members.len()).unwrap_or(u16::MAX));
        (1..=n).filter(move |index| *index != own)
    }

    fn link(&self, peer: u16) -> Option<&Link> {
        self.links.get(usize::from(peer).checked_sub(1)?)
    }

    /// Puts a frame into the peer's queue. `false` if there is no stream or the queue is full; the peer will ask.
    fn send(&self, peer: u16, frame: Frame) -> bool {
        let queue = self.link(peer).and_then(|link| link.up.lock().queue.clone());
        queue.is_some_and(|queue| queue.try_send(frame).is_ok())
    }

    /// Sends a message with whatever else goes to that peer now.
    fn post(&self, peer: u16, session: SessionId, round: u8, payload: Bytes) {
        if !self.outbox.post(peer, Outgoing { session, round, payload }) {
            self.metrics.peer_unsent(peer);
        }
    }

    /// A signed message.
    fn share(&self, session: &SessionId, round: u8, payload: Bytes) -> Frame {
        let share = frame::sign(&self.key, &self.committee_hash, self.own, session, round, payload);
        Frame { body: Some(Body::Share(share)) }
    }

    /// Sends the lie that a test wants to go out instead of a message, when it wants it.
    fn lie(self: &Arc<Self>, lie: Misbehave, peer: u16, session: SessionId, round: u8, payload: &Bytes) {
        let Some(payload) = lie.apply(peer, payload) else { return };
        let (frame, inner) = (self.share(&session, round, payload), self.clone());
        self.tasks.spawn(async move {
            inner.cancel.run_until_cancelled(tokio::time::sleep(lie.delay())).await;
            inner.send(peer, frame);
        });
    }

    /// Takes the messages of one frame off the link of `peer`. Their signature is checked only if one of them has a chance
    /// to be of use.
    fn take_all(&self, shares: peer::Shares, peer: u16, signer: Address) -> Result<(), ForeignFrame> {
        let signature = kms_proto::bounds::signature("signature", &shares.signature).map_err(|_| ForeignFrame)?;
        let (list, root) = Unchecked::read_all(shares, peer, &self.committee_hash)?;
        let mut useful = Vec::new();
        for message in list {
            let session = message.claim().session;
            let screened = self.inbox.lock().screen(message.claim(), Instant::now());
            match screened {
                Some(decided) => self.delivered(peer, session, decided),
                None => useful.push(message),
            }
        }
        if !useful.is_empty() {
            frame::check(root, &signature, signer)?;
        }
        for message in useful {
            let session = message.claim().session;
            let delivery = self.inbox.lock().deliver(message.checked(), Instant::now());
            self.delivered(peer, session, delivery);
        }
        Ok(())
    }

    /// Takes a message off the link of `peer`. Its signature is checked only if the message has a chance to be of use.
    fn take(&self, share: peer::Share, peer: u16, signer: Address) -> Result<(), ForeignFrame> {
        let unchecked = Unchecked::read(share, peer)?;
        let session = unchecked.claim().session;
        let screened = self.inbox.lock().screen(unchecked.claim(), Instant::now());
        let delivery = match screened {
            Some(decided) => decided,
            None => {
                let message = unchecked.check(&self.committee_hash, signer)?;
                self.inbox.lock().deliver(message, Instant::now())
            }
        };
        self.delivered(peer, session, delivery);
        Ok(())
    }

    fn delivered(&self, peer: u16, session: SessionId, delivery: Delivery) {
        match delivery {
            Delivery::Delivered | Delivery::Kept | Delivery::Ignored => {}
            Delivery::Conflict => {
                tracing::warn!(peer, session = %hex::encode(session), "two different messages of one round");
            }
            Delivery::TooMany | Delivery::TooOften => self.dropped(peer, session, peer::DropReason::PeerBound),
        }
    }

    fn dropped(&self, peer: u16, session: SessionId, reason: peer::DropReason) {
        let notice = peer::Dropped { session: session.to_vec(), reason: reason.into() };
        self.send(peer, Frame { body: Some(Body::Dropped(notice)) });
    }

    fn seen(&self, peer: u16) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        if let Some(link) = self.link(peer) {
            link.last_seen_ms.store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Remembers why there is no stream to `peer`.
    fn problem(&self, peer: u16, problem: &str) {
        if let Some(link) = self.link(peer) {
            let mut up = link.up.lock();
            if up.queue.is_none() && up.problem.as_deref() != Some(problem) {
                tracing::warn!(peer, problem, "no stream to the peer");
                up.problem = Some(problem.into());
            }
        }
    }
}

/// Expires early messages and asks for what open sessions lack.
async fn keep_house(inner: Arc<Inner>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asked = session::Asked::default();
    while inner.cancel.run_until_cancelled(tick.tick()).await.is_some() {
        let now = Instant::now();
        let expired = inner.inbox.lock().expire(now);
        for (peer, session) in expired {
            inner.dropped(peer, session, peer::DropReason::Expired);
        }
        for peer in inner.peers() {
            let missing = inner.inbox.lock().missing(peer, ASK_AFTER, now);
            for sessions in asked.due(peer, missing, now).chunks(kms_proto::bounds::MAX_SESSIONS) {
                let sessions = sessions.iter().map(|id| id.to_vec()).collect();
                inner.send(peer, Frame { body: Some(Body::Resend(peer::Resend { sessions })) });
            }
        }
        asked.forget(|id| inner.inbox.lock().is_open(id));
    }
}

#[cfg(test)]
mod tests;
