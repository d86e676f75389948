//! A lazily connected channel to one party.

use super::ConnectError;
use crate::tls::{self, Identity};
use hyper_util::rt::TokioIo;
use kms_chain::manifest::Committee;
use std::{io, sync::Arc, time::Duration};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// TCP and TLS handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which the connection is probed, and how long the probe may take.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) fn lazy(committee: &Committee, index: u32, url: &str, identity: &Identity) -> Result<Channel, ConnectError> {
    let uri: Uri = url.parse().map_err(|_| ConnectError::Url(index))?;
    let authority: Arc<str> = uri.authority().ok_or(ConnectError::Url(index))?.as_str().into();
    let (config, name) = tls::client_config(committee, index, identity)?;
    let connector = TlsConnector::from(config);
    // TLS is the connector's business; tonic must not look for its own.
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|_| ConnectError::Url(index))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
        let (connector, name, authority) = (connector.clone(), name.clone(), authority.clone());
        async move {
            let tcp = TcpStream::connect(&*authority).await?;
            tcp.set_nodelay(true)?;
            Ok::<_, io::Error>(TokioIo::new(connector.connect(name, tcp).await?))
        }
    })))
}
