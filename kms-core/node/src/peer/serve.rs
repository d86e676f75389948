//! The listening side.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kms_proto::bounds::{MAX_KEYGEN_ANSWER, MAX_KEYGEN_QUESTION, MAX_PEER_MESSAGE};
use kms_proto::peer::Frame;
use kms_proto::peer::keygen_server::KeygenServer;
use kms_proto::peer::peer_server::{Peer, PeerServer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{CONNECTION_WINDOW, Inner, STREAM_WINDOW, keygen, link};
use crate::tls::{Limits, TlsError, incoming, party_of, server_config};

/// Connections of one party: its stream and its questions about key generations, and some that are being replaced.
const CONNECTIONS: usize = 6;
/// Calls of one connection: its stream, or questions about key generations.
const CALLS: u32 = 64;

/// Who is on the other end of a connection, by its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Dialler(u16);

/// Who makes a call.
///
/// # Errors
/// Never behind this listener: it lets nobody in who has no certificate.
pub(super) fn dialler<T>(request: &Request<T>) -> Result<u16, Status> {
    let dialler = request.extensions().get::<Dialler>();
    dialler.map(|dialler| dialler.0).ok_or_else(|| Status::unauthenticated("the connection has no certificate"))
}

struct Service {
    inner: Arc<Inner>,
}

#[tonic::async_trait]
impl Peer for Service {
    type LinkStream = BoxStream<'static, Result<Frame, Status>>;

    async fn link(&self, request: Request<Streaming<Frame>>) -> Result<Response<Self::LinkStream>, Status> {
        let peer = dialler(&request)?;
        if peer >= self.inner.own {
            return Err(Status::permission_denied("the party with the smaller index dials"));
        }
        let (inner, frames) = (self.inner.clone(), request.into_inner());
        let (out, queued) = link::queue(&inner);
        let (ended, end) = oneshot::channel();
        self.inner.tasks.spawn(async move {
            let error = link::run(&inner, peer, out, frames).await;
            inner.problem(peer, &error.to_string());
            let _ = ended.send(error.status());
        });
        // Frames go out on their own: a peer that does not read must not keep this party from reading.
        let queued = ReceiverStream::new(queued).map(Ok);
        let end = futures::stream::once(end).filter_map(|status| async { status.ok().map(Err) });
        Ok(Response::new(Box::pin(futures::stream::select(queued, end))))
    }
}

/// Serves peers until cancelled.
pub(super) fn start(inner: &Arc<Inner>, listener: TcpListener) -> Result<(), TlsError> {
    let config = server_config(inner.leaf.clone(), inner.parties.clone())?;
    let limits = Limits { each: CONNECTIONS, ..Limits::default() };
    let identify = |chain: &[rustls_pki_types::CertificateDer<'_>]| {
        let name = party_of(chain.first()?)?;
        u16::try_from(name.index).ok().map(Dialler)
    };
    let connections = incoming(listener, config, limits, identify, inner.cancel.clone());
    let service = PeerServer::new(Service { inner: inner.clone() })
        .max_decoding_message_size(MAX_PEER_MESSAGE)
        .max_encoding_message_size(MAX_PEER_MESSAGE);
    let keygen = KeygenServer::new(keygen::Service::new(inner.clone()))
        .max_decoding_message_size(MAX_KEYGEN_QUESTION + 1024)
        .max_encoding_message_size(MAX_KEYGEN_ANSWER + 1024);
    let cancel = inner.cancel.clone();
    inner.tasks.spawn(async move {
        let served = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .max_concurrent_streams(CALLS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .add_service(service)
            .add_service(keygen)
            .serve_with_incoming_shutdown(connections, cancel.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the peer listener ended");
        }
    });
    Ok(())
}
