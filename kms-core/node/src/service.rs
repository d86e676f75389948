//! The client API: relayers and operators, over mutual TLS, each within the limits of its certificate's authority.

mod keygen;
mod user;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use kms_proto::bounds::{self, MAX_CHAINS, MAX_CLIENT_CALL, MAX_CLIENT_MESSAGE, MAX_KEYS};
use kms_proto::node::node_server::{Node, NodeServer};
use kms_proto::node::{
    self, DecryptRequest, DecryptResponse, GetKeysRequest, GetKeysResponse, GetStatusRequest, GetStatusResponse,
    HealthRequest, HealthResponse, NotYetReason, decrypt_response::Outcome,
};
use kms_telemetry::TraceParent;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use crate::chains::Chains;
use crate::config::Permission;
use crate::dkg::Dkg;
use crate::engine::{Call, Engine, EngineError, not_yet};
use crate::identity::Leaf;
use crate::keys::Keys;
use crate::lifecycle::{Call as Route, Lifecycle};
use crate::party::Party;
use crate::peer::Hub;
use crate::tls::{Client, Clients, Limits, OpenPlace, TlsError, incoming, server_config};

/// Connections of one certificate at the same time.
const CONNECTIONS: usize = 8;
/// Calls of one connection at the same time.
const STREAMS: u32 = 256;
/// How long `Decrypt` holds a call that names no wait.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
/// How long `Decrypt` holds any call.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Pause that a client within no limit should make.
const BUSY: Duration = Duration::from_secs(1);

/// Pause before a chain that is not up is asked for again.
const CHAIN: Duration = Duration::from_secs(2);

/// What the client API needs.
#[derive(Clone, Debug)]
pub struct Api {
    /// Answers.
    pub engine: Engine,
    /// Links to the peers.
    pub hub: Hub,
    /// Generations of keys.
    pub dkg: Dkg,
    /// Folder of the public keys.
    pub public: PathBuf,
    /// Keys.
    pub keys: Arc<Keys>,
    /// This party.
    pub party: Arc<Party>,
    /// Phase.
    pub lifecycle: Arc<Lifecycle>,
    /// Who may call.
    pub clients: Arc<Clients>,
    /// Which chains are up.
    pub chains: Arc<Chains>,
    /// What this party shows.
    pub leaf: Arc<Leaf>,
}

/// The listener can't serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server ended.
    #[error("client listener: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves clients until cancelled; calls that are held get their answer first.
///
/// # Errors
/// The TLS configuration can't be made, or the server ends on its own.
pub async fn serve(listener: TcpListener, api: Api, cancel: CancellationToken) -> Result<(), ServeError> {
    let config = server_config(api.leaf.clone(), api.clients.clone())?;
    let clients = api.clients.clone();
    // What the calls of one certificate can hold before they are whole: connections × streams × bytes.
    let limits = Limits { each: CONNECTIONS, ..Limits::default() };
    let connections = incoming(listener, config, limits, move |chain| clients.identify(chain), cancel.clone());
    let service = NodeServer::new(Service { api })
        .max_decoding_message_size(MAX_CLIENT_CALL)
        .max_encoding_message_size(MAX_CLIENT_MESSAGE);
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .max_concurrent_streams(STREAMS)
        .add_service(service)
        .serve_with_incoming_shutdown(connections, cancel.cancelled_owned())
        .await?;
    Ok(())
}

struct Service {
    api: Api,
}

impl Service {
    /// The client behind a call, if it may make it now.
    fn admit<T>(&self, request: &Request<T>, permission: Permission) -> Result<Client, Status> {
        let client = request.extensions().get::<Client>();
        let client = client.ok_or_else(|| Status::unauthenticated("the connection has no certificate"))?;
        if !client.may(permission) {
            return Err(Status::permission_denied(format!("{} may not do this", client.name())));
        }
        Ok(client.clone())
    }

    /// The same, for calls that have no answer of their own for a client that is too quick.
    fn admit_query<T>(&self, request: &Request<T>, route: Route) -> Result<(), Status> {
        self.admit_call(request, Permission::Status, route).map(drop)
    }

    fn admit_call<T>(&self, request: &Request<T>, permission: Permission, route: Route) -> Result<Client, Status> {
        let client = self.admit(request, permission)?;
        if !client.take() {
            return Err(Status::resource_exhausted("too many calls per second"));
        }
        self.api.lifecycle.require(route).map_err(|e| Status::failed_precondition(e.to_string()))?;
        Ok(client)
    }

    /// A place for a decryption of this client, if its limits and the state of this party allow one now.
    fn place(&self, client: &Client, route: Route, chain_id: u64) -> Result<OpenPlace, Outcome> {
        if let Err(error) = self.api.lifecycle.require(route) {
            return Err(not_yet(NotYetReason::Phase, error.to_string(), BUSY));
        }
        if !client.take() {
            return Err(not_yet(NotYetReason::Busy, "too many calls per second", BUSY));
        }
        let place = client.open();
        let place = place.ok_or_else(|| not_yet(NotYetReason::Busy, "too many open requests of this client", BUSY))?;
        match self.api.chains.waits_for(chain_id) {
            Some(problem) => Err(not_yet(NotYetReason::ChainUnavailable, problem, CHAIN)),
            None => Ok(place),
        }
    }

    async fn answer(
        &self,
        client: &Client,
        call: DecryptRequest,
        caller: Option<TraceParent>,
    ) -> Result<Outcome, EngineError> {
        let place = match self.place(client, Route::Decrypt, call.chain_id) {
            Ok(place) => place,
            Err(not_yet) => return Ok(not_yet),
        };
        let wait = match call.wait_ms {
            0 => DEFAULT_WAIT,
            ms => Duration::from_millis(ms.into()).min(MAX_WAIT),
        };
        match Call::parse(&self.api.party, call) {
            Ok(call) => {
                let span = tracing::info_span!("decrypt", request = %call.id(), otel.kind = "server");
                kms_telemetry::adopt(&span, call.id(), caller);
                self.api.engine.decrypt(call, wait, place).instrument(span).await
            }
            Err(refused) => Ok(Outcome::Refused(refused)),
        }
    }
}

fn internal(error: &EngineError) -> Status {
    // Details are the operator's business.
    tracing::error!(%error, "a call failed inside");
    Status::internal("this party has a fault of its own")
}

#[tonic::async_trait]
impl Node for Service {
    type GetKeyFileStream = BoxStream<'static, Result<node::KeyFilePiece, Status>>;

    async fn key_gen(&self, request: Request<node::KeyGenRequest>) -> Result<Response<node::KeyGenResponse>, Status> {
        self.open_key_gen(request).await
    }

    async fn key_gen_status(
        &self,
        request: Request<node::KeyGenStatusRequest>,
    ) -> Result<Response<node::KeyGenResponse>, Status> {
        self.show_key_gen(&request)
    }

    async fn key_gen_abort(
        &self,
        request: Request<node::KeyGenAbortRequest>,
    ) -> Result<Response<node::KeyGenResponse>, Status> {
        self.abort_key_gen(request).await
    }

    async fn get_key_file(
        &self,
        request: Request<node::GetKeyFileRequest>,
    ) -> Result<Response<Self::GetKeyFileStream>, Status> {
        self.send_key_file(request).await
    }

    async fn decrypt(&self, request: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        let client = self.admit(&request, Permission::Decrypt)?;
        let caller = TraceParent::of(request.metadata());
        let outcome = self.answer(&client, request.into_inner(), caller).await.map_err(|e| internal(&e))?;
        if let Outcome::Refused(refused) = &outcome {
            tracing::warn!(client = client.name(), reason = refused.detail, "a call was refused");
        }
        Ok(Response::new(DecryptResponse { outcome: Some(outcome) }))
    }

    async fn user_decrypt(
        &self,
        request: Request<node::UserDecryptRequest>,
    ) -> Result<Response<node::UserDecryptResponse>, Status> {
        self.answer_user(request).await
    }

    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        self.admit_query(&request, Route::GetStatus)?;
        let id = bounds::id("request_id", &request.into_inner().request_id)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let mut status = self.api.engine.status(id.into()).await.map_err(|e| internal(&e))?;
        status.waiting_for = bounds::text(status.waiting_for);
        Ok(Response::new(status))
    }

    async fn get_keys(&self, request: Request<GetKeysRequest>) -> Result<Response<GetKeysResponse>, Status> {
        self.admit_query(&request, Route::GetKeys)?;
        let known = self.api.keys.known().into_iter().take(MAX_KEYS);
        let keys = known.map(|key| node::KeyInfo {
            key_id: key.key_id.to_vec(),
            epoch_id: key.epoch_id.to_vec(),
            context_id: key.context_id.to_vec(),
            params: key.params.into(),
            state: key.state.name().into(),
        });
        Ok(Response::new(GetKeysResponse { keys: keys.collect() }))
    }

    async fn health(&self, request: Request<HealthRequest>) -> Result<Response<HealthResponse>, Status> {
        self.admit_query(&request, Route::Health)?;
        let api = &self.api;
        let peers = api.hub.peers().into_iter().map(|peer| {
            let count = api.engine.count(peer.index);
            node::PeerInfo {
                index: peer.index.into(),
                connected: peer.connected,
                last_seen_ms: peer.last_seen_ms,
                wrong: count.wrong,
                late: count.late,
                problem: bounds::text(peer.problem.unwrap_or_default()),
            }
        });
        let chains = api.chains.all().into_iter().map(|chain| node::ChainInfo {
            chain_id: chain.chain_id,
            ready: chain.ready,
            problem: bounds::text(chain.problem.unwrap_or_default()),
        });
        Ok(Response::new(HealthResponse {
            phase: api.lifecycle.phase().name().into(),
            index: api.party.index.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            committee_hash: api.party.committee_hash.to_vec(),
            peers: peers.collect(),
            waiting_for: bounds::text(api.lifecycle.waiting_for()),
            chains: chains.take(MAX_CHAINS).collect(),
            usable_keys: api.keys.usable_ids().into_iter().take(MAX_KEYS).map(|id| id.to_vec()).collect(),
        }))
    }
}

#[cfg(test)]
mod tests;
