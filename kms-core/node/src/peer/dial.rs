//! The dialling side.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use hyper_util::rt::TokioIo;
use kms_proto::bounds::MAX_PEER_MESSAGE;
use kms_proto::peer::peer_client::PeerClient;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::{Service, service_fn};

use super::link::{self, LinkError};
use super::{CONNECTION_WINDOW, Inner, STREAM_WINDOW};
use crate::tls::{TlsError, client_config};

/// Time for TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(5);
/// A stream that lived this long was a good one: the next pause is short again.
const GOOD: Duration = Duration::from_secs(10);

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Keeps a stream to `peer` until cancelled.
pub(super) fn start(inner: &Arc<Inner>, peer: u16) -> Result<(), TlsError> {
    let (config, name) = client_config(inner.leaf.clone(), &inner.parties, peer)?;
    let connector = TlsConnector::from(config);
    let inner = inner.clone();
    inner.clone().tasks.spawn(async move {
        let mut pause = pauses();
        while !inner.cancel.is_cancelled() {
            let since = tokio::time::Instant::now();
            let problem = match attempt(&inner, peer, connector.clone(), name.clone()).await {
                Ok(ended) => ended.to_string(),
                Err(problem) => problem,
            };
            inner.problem(peer, &problem);
            if since.elapsed() > GOOD {
                pause = pauses();
            }
            let wait = pause.next().unwrap_or(CONNECT);
            inner.cancel.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
    });
    Ok(())
}

async fn attempt(
    inner: &Arc<Inner>,
    peer: u16,
    connector: TlsConnector,
    name: ServerName<'static>,
) -> Result<LinkError, String> {
    let url = inner.members.get(usize::from(peer) - 1).map(|(_, url)| url.clone()).unwrap_or_default();
    let connecting = inner.cancel.run_until_cancelled(connect(&url, connector, name));
    let Some(channel) = connecting.await else { return Ok(LinkError::Shutdown) };
    let mut client = PeerClient::new(channel?)
        .max_decoding_message_size(MAX_PEER_MESSAGE)
        .max_encoding_message_size(MAX_PEER_MESSAGE);
    let (out, queued) = link::queue(inner);
    let calling = inner.cancel.run_until_cancelled(client.link(ReceiverStream::new(queued)));
    let Some(frames) = calling.await else { return Ok(LinkError::Shutdown) };
    let frames = frames.map_err(|status| status.message().to_owned())?.into_inner();
    Ok(link::run(inner, peer, out, frames).await)
}

pub(super) async fn connect(url: &str, connector: TlsConnector, name: ServerName<'static>) -> Result<Channel, String> {
    let endpoint = endpoint(&name, STREAM_WINDOW, CONNECTION_WINDOW)?;
    let connecting = tokio::time::timeout(CONNECT, endpoint.connect_with_connector(over_tls(url, connector, name)));
    match connecting.await {
        Err(_) => Err(format!("no connection to {url} within {} s", CONNECT.as_secs())),
        Ok(Err(error)) => Err(format!("{url}: {}", chain(&error))),
        Ok(Ok(channel)) => Ok(channel),
    }
}

/// A channel that connects when it is used, and again after it broke.
pub(super) fn lazy(
    url: &str,
    connector: TlsConnector,
    name: ServerName<'static>,
    (stream_window, connection_window): (u32, u32),
) -> Result<Channel, String> {
    let endpoint = endpoint(&name, stream_window, connection_window)?;
    Ok(endpoint.connect_with_connector_lazy(over_tls(url, connector, name)))
}

/// TLS is ours, below tonic; the authority it sees is the name that the certificate must have.
fn endpoint(name: &ServerName<'static>, stream_window: u32, connection_window: u32) -> Result<Endpoint, String> {
    Ok(Endpoint::try_from(format!("http://{}", name.to_str()))
        .map_err(|e| e.to_string())?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(connection_window))
}

/// What connects to a URL.
fn over_tls(
    url: &str,
    connector: TlsConnector,
    name: ServerName<'static>,
) -> impl Service<
    Uri,
    Response = TokioIo<TlsStream<TcpStream>>,
    Error = io::Error,
    Future: Future<Output = io::Result<TokioIo<TlsStream<TcpStream>>>> + Send + 'static,
> + Send
+ 'static {
    let address = url.strip_prefix("https://").unwrap_or(url).to_owned();
    service_fn(move |_: Uri| {
        let (address, connector, name) = (address.clone(), connector.clone(), name.clone());
        async move {
            let connecting = async {
                let tcp = TcpStream::connect(&address).await?;
                tcp.set_nodelay(true)?;
                connector.connect(name, tcp).await
            };
            tokio::time::timeout(CONNECT, connecting).await.map_err(io::Error::from)?.map(TokioIo::new)
        }
    })
}

/// An error with its causes: tonic's own says only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
