//! The acceptor in front of tonic: bounds on connections and handshakes, a time limit on each handshake.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time, handshakes included.
    pub connections: usize,
    /// Handshakes at the same time.
    pub handshakes: usize,
    /// Time for one handshake.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1024, handshakes: 128, handshake: Duration::from_secs(5) }
    }
}

/// An accepted connection; handlers find a clone of `who` in the extensions of each request.
#[derive(Debug)]
pub struct Accepted<W> {
    stream: TlsStream<TcpStream>,
    who: W,
    _place: OwnedSemaphorePermit,
}

impl<W: Clone + Send + Sync + 'static> Connected for Accepted<W> {
    type ConnectInfo = W;

    fn connect_info(&self) -> W {
        self.who.clone()
    }
}

impl<W: Unpin> AsyncRead for Accepted<W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<W: Unpin> AsyncWrite for Accepted<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Accepts connections until cancelled. `identify` names whoever has passed the handshake by the certificate chain; a
/// connection that it can't name is closed.
pub fn incoming<W, F>(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    limits: Limits,
    identify: F,
    cancel: CancellationToken,
) -> ReceiverStream<io::Result<Accepted<W>>>
where
    W: Send + 'static,
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
    W: Send + 'static,
    F: Fn(&[CertificateDer<'_>]) -> Option<W> + Send + Sync + 'static,
{
    let acceptor = TlsAcceptor::from(config);
    let connections = Arc::new(Semaphore::new(limits.connections));
    let handshakes = Arc::new(Semaphore::new(limits.handshakes));
    loop {
        // Neither semaphore is ever closed; full ones leave newcomers in the kernel's backlog.
        let (Ok(place), Ok(shaking)) =
            (connections.clone().acquire_owned().await, handshakes.clone().acquire_owned().await)
        else {
            return;
        };
        let (tcp, from) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                // Out of file descriptors, or a connection that was reset in the backlog: neither ends the listener.
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, identify, accepted) = (acceptor.clone(), identify.clone(), accepted.clone());
        tokio::spawn(async move {
            let _shaking = shaking;
            if let Err(error) = tcp.set_nodelay(true) {
                tracing::debug!(%error, %from, "TCP_NODELAY");
            }
            match tokio::time::timeout(limits.handshake, acceptor.accept(tcp)).await {
                Err(_) => tracing::debug!(%from, "TLS handshake took too long"),
                Ok(Err(error)) => tracing::warn!(%error, %from, "TLS handshake refused"),
                Ok(Ok(stream)) => match identify(stream.get_ref().1.peer_certificates().unwrap_or_default()) {
                    None => tracing::warn!(%from, "certificate names nobody known"),
                    Some(who) => drop(accepted.send(Ok(Accepted { stream, who, _place: place })).await),
                },
            }
        });
    }
}
