//! The acceptor in front of tonic: bounds on the connections of each identity, on handshakes in total and of each
//! address, a time limit on each handshake.

use std::hash::Hash;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::places::{Knocking, Place, Places};

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections of one identity at the same time; a newer one ends the oldest.
    pub each: usize,
    /// Handshakes at the same time.
    pub handshakes: usize,
    /// Handshakes of one address at the same time; more are closed at once. Parties may share an address.
    pub handshakes_per_address: usize,
    /// Time for one handshake.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { each: 128, handshakes: 256, handshakes_per_address: 64, handshake: Duration::from_secs(5) }
    }
}

/// An accepted connection; handlers find a clone of `who` in the extensions of each request.
#[derive(Debug)]
pub struct Accepted<W> {
    stream: TlsStream<TcpStream>,
    who: W,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: Place,
}

impl<W> Accepted<W> {
    fn new(stream: TlsStream<TcpStream>, who: W, place: Place) -> Self {
        let evicted = Box::pin(CancellationToken::clone(&place).cancelled_owned());
        Self { stream, who, evicted, _place: place }
    }

    /// Fails from when a newer connection has taken the place; wakes the task that is told this is not so yet.
    fn held(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.evicted.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "a newer connection came")),
        }
    }
}

impl<W: Clone + Send + Sync + 'static> Connected for Accepted<W> {
    type ConnectInfo = W;

    fn connect_info(&self) -> W {
        self.who.clone()
    }
}

impl<W: Unpin> AsyncRead for Accepted<W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.held(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<W: Unpin> AsyncWrite for Accepted<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.held(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.held(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Accepts connections until cancelled; together at most [`Limits::each`] per identity. `identify` names whoever has passed the handshake by the certificate chain; a
/// connection that it can't name is closed.
pub fn incoming<W, F>(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    limits: Limits,
    identify: F,
    cancel: CancellationToken,
) -> ReceiverStream<io::Result<Accepted<W>>>
where
    W: Clone + Eq + Hash + Send + Sync + 'static,
    F: Fn(&[CertificateDer<'_>]) -> Option<W> + Send + Sync + 'static,
{
    let (accepted, stream) = mpsc::channel(16);
    tokio::spawn(cancel.run_until_cancelled_owned(accept(listener, config, limits, Arc::new(identify), accepted)));
    ReceiverStream::new(stream)
}

async fn accept<W, F>(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    limits: Limits,
    identify: Arc<F>,
    accepted: mpsc::Sender<io::Result<Accepted<W>>>,
) where
    W: Clone + Eq + Hash + Send + Sync + 'static,
    F: Fn(&[CertificateDer<'_>]) -> Option<W> + Send + Sync + 'static,
{
    let acceptor = TlsAcceptor::from(config);
    let places = Arc::new(Places::new(limits.each));
    let knocking = Arc::new(Knocking::new(limits.handshakes_per_address));
    let handshakes = Arc::new(Semaphore::new(limits.handshakes));
    loop {
        // The semaphore is never closed; a full one leaves newcomers in the kernel's backlog.
        let Ok(shaking) = handshakes.clone().acquire_owned().await else { return };
        let (tcp, from) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                // Out of file descriptors, or a connection that was reset in the backlog: neither ends the listener.
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(knock) = knocking.take(from.ip()) else {
            tracing::debug!(%from, "too many handshakes of this address");
            continue;
        };
        let (acceptor, identify, accepted, places) =
            (acceptor.clone(), identify.clone(), accepted.clone(), places.clone());
        tokio::spawn(async move {
            let _until_identified = (shaking, knock);
            if let Err(error) = tcp.set_nodelay(true) {
                tracing::debug!(%error, %from, "TCP_NODELAY");
            }
            match tokio::time::timeout(limits.handshake, acceptor.accept(tcp)).await {
                Err(_) => tracing::debug!(%from, "TLS handshake took too long"),
                Ok(Err(error)) => tracing::warn!(%error, %from, "TLS handshake refused"),
                Ok(Ok(stream)) => match identify(stream.get_ref().1.peer_certificates().unwrap_or_default()) {
                    None => tracing::warn!(%from, "certificate names nobody known"),
                    Some(who) => {
                        let place = places.take(&who);
                        drop(accepted.send(Ok(Accepted::new(stream, who, place))).await);
                    }
                },
            }
        });
    }
}
