//! One stream, from the first hello to its end; the same on both sides.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kms_proto::bounds;
use kms_proto::peer::{self, Frame, frame::Body};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::frame::SessionId;
use super::{Inner, QUEUE, Up};
use crate::pool::compute;

/// Version of the protocol between peers.
const VERSION: u32 = 1;
/// Time for the other side's hello.
const HELLO: Duration = Duration::from_secs(5);
/// A sign of life is sent this often …
const PING: Duration = Duration::from_secs(10);
/// … and a stream without any frame for this long is dead.
const IDLE: Duration = Duration::from_secs(35);
/// Requests to send again that wait for one peer.
const RESENDS: usize = bounds::MAX_SESSIONS;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the peer said no hello")]
    NoHello,
    #[error("the peer speaks version {0} of the protocol, this party {VERSION}")]
    Version(u32),
    #[error("the certificate is that of party {certificate}, the hello says {hello}")]
    Index { certificate: u16, hello: u32 },
    #[error("the peer is of committee {theirs}, this party of {ours}")]
    Committee { theirs: String, ours: String },
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    #[error("the stream broke: {0}")]
    Stream(Status),
    #[error("no sign of life for {} s", IDLE.as_secs())]
    Idle,
    #[error("the stream ended")]
    Ended,
    #[error("a newer stream has taken over")]
    Replaced,
    #[error("this party is shutting down")]
    Shutdown,
}

impl LinkError {
    /// What the other side is told.
    pub(super) fn status(&self) -> Status {
        match self {
            Self::NoHello | Self::Version(_) | Self::Index { .. } | Self::Committee { .. } => {
                Status::failed_precondition(self.to_string())
            }
            Self::Protocol(_) => Status::invalid_argument(self.to_string()),
            _ => Status::unavailable(self.to_string()),
        }
    }
}

/// The first frame of this party.
fn hello(inner: &Inner) -> Frame {
    let hello = peer::Hello {
        version: VERSION,
        index: inner.own.into(),
        committee_hash: inner.committee_hash.to_vec(),
        manifest_hash: inner.manifest_hash.to_vec(),
    };
    Frame { body: Some(Body::Hello(hello)) }
}

/// Runs the stream with `peer` until it ends; `out` already carries this party's hello.
pub(super) async fn run(
    inner: &Arc<Inner>,
    peer: u16,
    out: mpsc::Sender<Frame>,
    frames: impl Stream<Item = Result<Frame, Status>> + Unpin,
) -> LinkError {
    let mut frames = frames;
    if let Err(error) = greet(inner, peer, &mut frames).await {
        return error;
    }
    let (generation, end) = inner.up(peer, out.clone());
    tracing::info!(peer, "peer connected");
    let (resends, asked) = mpsc::channel(RESENDS);
    let resending = tokio::spawn(resend(inner.clone(), peer, out.clone(), asked));
    let error = tokio::select! {
        error = read(inner, peer, &mut frames, &resends) => error,
        error = live(&out) => error,
        () = end.cancelled() => LinkError::Replaced,
        () = inner.cancel.cancelled() => LinkError::Shutdown,
    };
    resending.abort();
    inner.down(peer, generation, &error);
    tracing::info!(peer, %error, "peer disconnected");
    error
}

async fn greet(
    inner: &Inner,
    peer: u16,
    frames: &mut (impl Stream<Item = Result<Frame, Status>> + Unpin),
) -> Result<(), LinkError> {
    let first = tokio::time::timeout(HELLO, frames.next()).await.map_err(|_| LinkError::NoHello)?;
    let frame = first.ok_or(LinkError::Ended)?.map_err(LinkError::Stream)?;
    bounds::check_frame(&frame).map_err(|e| LinkError::Protocol(e.to_string()))?;
    let Some(Body::Hello(hello)) = frame.body else { return Err(LinkError::NoHello) };
    if hello.version != VERSION {
        return Err(LinkError::Version(hello.version));
    }
    if hello.index != u32::from(peer) {
        return Err(LinkError::Index { certificate: peer, hello: hello.index });
    }
    if hello.committee_hash != inner.committee_hash {
        return Err(LinkError::Committee {
            theirs: hex::encode(hello.committee_hash),
            ours: hex::encode(inner.committee_hash),
        });
    }
    let differs = hello.manifest_hash != inner.manifest_hash;
    inner.metrics.peer_manifest_differs(peer, differs);
    if differs {
        tracing::warn!(peer, "the peer's manifest differs outside the committee part");
    }
    inner.seen(peer);
    Ok(())
}

async fn read(
    inner: &Arc<Inner>,
    peer: u16,
    frames: &mut (impl Stream<Item = Result<Frame, Status>> + Unpin),
    resends: &mpsc::Sender<SessionId>,
) -> LinkError {
    // Frames of one peer are handled one after the other: a peer that floods waits for itself.
    loop {
        let frame = match tokio::time::timeout(IDLE, frames.next()).await {
            Err(_) => return LinkError::Idle,
            Ok(None) => return LinkError::Ended,
            Ok(Some(Err(status))) => return LinkError::Stream(status),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Err(error) = bounds::check_frame(&frame) {
            return LinkError::Protocol(error.to_string());
        }
        inner.seen(peer);
        match frame.body {
            Some(body @ (Body::Share(_) | Body::Shares(_))) => {
                let Some((signer, _)) = inner.members.get(usize::from(peer) - 1) else { return LinkError::Ended };
                let (taker, signer) = (inner.clone(), *signer);
                let taken = compute(move || match body {
                    Body::Share(share) => taker.take(share, peer, signer),
                    Body::Shares(shares) => taker.take_all(shares, peer, signer),
                    _ => Ok(()),
                });
                if let Err(error) = taken.await {
                    return LinkError::Protocol(error.to_string());
                }
            }
            Some(Body::Open(peer::Open { sessions }) | Body::Resend(peer::Resend { sessions })) => {
                let sessions: BTreeSet<_> = sessions.iter().filter_map(|s| bounds::id("session", s).ok()).collect();
                for session in sessions {
                    // A full queue: the peer asks again.
                    let _ = resends.try_send(session);
                }
            }
            Some(Body::Dropped(dropped)) => {
                tracing::debug!(peer, session = %hex::encode(&dropped.session), reason = dropped.reason, "dropped there");
                inner.metrics.peer_dropped(peer);
            }
            Some(Body::Setup(notice)) => {
                if let Some(notices) = inner.notices.get() {
                    notices.notice(peer, notice);
                }
            }
            Some(Body::Ping(_)) => {}
            Some(Body::Hello(_)) | None => return LinkError::Protocol("a second hello".into()),
        }
    }
}

/// Signs of life.
async fn live(out: &mpsc::Sender<Frame>) -> LinkError {
    loop {
        tokio::time::sleep(PING).await;
        if out.is_closed() {
            return LinkError::Ended;
        }
        // A full queue is a sign of life itself, or the stream is dead and the other side's silence will tell.
        let _ = out.try_send(Frame { body: Some(Body::Ping(peer::Ping {})) });
    }
}

/// Sends again what the peer asks for, one session after the other.
async fn resend(inner: Arc<Inner>, peer: u16, out: mpsc::Sender<Frame>, mut asked: mpsc::Receiver<SessionId>) {
    while let Some(session) = asked.recv().await {
        let messages = match (inner.kept.messages(&session, peer), inner.recompute.get().cloned()) {
            (Some(kept), _) => kept,
            (None, Some(recompute)) => recompute.messages(peer, session).await,
            (None, None) => continue,
        };
        for (round, payload) in messages {
            if let Some(lie) = inner.misbehave {
                inner.lie(lie, peer, session, round, &payload);
                continue;
            }
            let signer = inner.clone();
            let frame = compute(move || signer.share(&session, round, payload)).await;
            if out.send(frame).await.is_err() {
                return;
            }
        }
    }
}

impl Inner {
    /// Registers a stream; an older one of the same peer ends. Lists the open sessions first of all.
    fn up(&self, peer: u16, out: mpsc::Sender<Frame>) -> (u64, CancellationToken) {
        let end = CancellationToken::new();
        let Some(link) = self.link(peer) else { return (0, end) };
        let open = self.inbox.lock().open_ids();
        for sessions in open.chunks(bounds::MAX_SESSIONS) {
            let sessions = sessions.iter().map(|id| id.to_vec()).collect();
            let _ = out.try_send(Frame { body: Some(Body::Open(peer::Open { sessions })) });
        }
        let mut up = link.up.lock();
        up.end.cancel();
        *up = Up { generation: up.generation + 1, queue: Some(out), end: end.clone(), problem: None };
        self.metrics.peer_connected(peer, true);
        let generation = up.generation;
        drop(up);
        self.headroom();
        (generation, end)
    }

    fn down(&self, peer: u16, generation: u64, error: &LinkError) {
        let Some(link) = self.link(peer) else { return };
        let mut up = link.up.lock();
        if up.generation == generation {
            up.queue = None;
            up.problem = Some(error.to_string());
            self.metrics.peer_connected(peer, false);
        }
        drop(up);
        self.headroom();
    }

    /// 2t + 1 parties decide an opening, this one included.
    fn headroom(&self) {
        let up = 1 + self.links.iter().filter(|link| link.up.lock().queue.is_some()).count();
        let signed = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.quorum_headroom(signed(up) - signed(2 * self.t + 1));
    }
}

/// A queue for one stream, with this party's hello in it.
pub(super) fn queue(inner: &Inner) -> (mpsc::Sender<Frame>, mpsc::Receiver<Frame>) {
    let (out, frames) = mpsc::channel(QUEUE);
    // An empty queue has room.
    let _ = out.try_send(hello(inner));
    (out, frames)
}
