//! The listening side.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kms_proto::bounds::MAX_PEER_MESSAGE;
use kms_proto::peer::Frame;
use kms_proto::peer::peer_server::{Peer, PeerServer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{CONNECTION_WINDOW, Inner, STREAM_WINDOW, link};
use crate::tls::{Limits, TlsError, incoming, party_of, server_config};

/// Connections of one party: the one in use, and some for those that are being replaced.
const CONNECTIONS: usize = 3;

/// Who is on the other end of a connection, by its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Dialler(u16);

struct Service {
    inner: Arc<Inner>,
}

#[tonic::async_trait]
impl Peer for Service {
    type LinkStream = BoxStream<'static, Result<Frame, Status>>;

    async fn link(&self, request: Request<Streaming<Frame>>) -> Result<Response<Self::LinkStream>, Status> {
        let Some(Dialler(peer)) = request.extensions().get::<Dialler>().copied() else {
            return Err(Status::unauthenticated("the connection has no certificate"));
        };
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
    let cancel = inner.cancel.clone();
    inner.tasks.spawn(async move {
        let served = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .max_concurrent_streams(4)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .add_service(service)
            .serve_with_incoming_shutdown(connections, cancel.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the peer listener ended");
        }
    });
    Ok(())
}
