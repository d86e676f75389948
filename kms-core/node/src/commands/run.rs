//! `kms-node run`: the party at work, from the first listener to the last answer.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kms_chain::manifest::tls_root_der;
use rustix::fs::{FlockOperation, flock};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Booted, CommandError, boot};
use crate::chains::{Chains, Pace};
use crate::config::{ClientConfig, Config, read_bounded};
use crate::dkg::{Dkg, DkgOptions, DkgParts, PUBLIC};
use crate::engine::{Engine, EngineOptions, Parts};
use crate::error::ConfigError;
use crate::identity::Leaf;
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::{self, Metrics};
use crate::misbehave::Misbehave;
use crate::peer::{Hub, HubOptions};
use crate::service::{self, Api};
use crate::setup::{Setup, SetupOptions, SetupParts};
use crate::tls::{ClientRules, Clients};

/// How often a party that is not ready looks whether it is.
const LOOK: Duration = Duration::from_millis(250);
/// How long jobs and calls may take to end when the process is told to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// Largest certificate file of a client authority.
const MAX_CA_BYTES: u64 = 64 << 10;

/// Arguments of `kms-node run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Configuration of the party.
    #[arg(long)]
    pub config: PathBuf,
    /// Lie to the peers: for tests of the others only.
    #[arg(long, value_enum, hide = true)]
    pub insecure_misbehave: Option<Misbehave>,
}

/// Runs the party until it is told to stop.
///
/// # Errors
/// What a party can't run without, a listener that can't be opened, or a service that failed.
pub async fn run(config: &Config, misbehave: Option<Misbehave>) -> Result<(), CommandError> {
    let _alone = lock(&config.data_dir)?;
    let metrics = Arc::new(Metrics::new().map_err(|e| CommandError::Internal(e.to_string()))?);
    let lifecycle = Arc::new(Lifecycle::new());
    let cancel = CancellationToken::new();
    let shown = listen(config.listen_metrics).await?;
    let shown = tokio::spawn(metrics::serve(shown, metrics.clone(), lifecycle.clone(), cancel.clone()));

    let booted = boot(config, metrics.clone()).await?;
    booted.table.log();
    booted.store.journal("start", env!("CARGO_PKG_VERSION"), booted.table.to_string()).await?;

    let (running, service) = Running::start(config, booted, metrics, lifecycle, misbehave, cancel).await?;
    let outcome = running.until_told(service).await;
    if let Err(e) = shown.await {
        tracing::warn!(error = %e, "the metrics listener ended badly");
    }
    outcome
}

/// The client API at work.
type Service = tokio::task::JoinHandle<Result<(), service::ServeError>>;

/// All other parts at work.
struct Running {
    booted: Booted,
    lifecycle: Arc<Lifecycle>,
    hub: Hub,
    engine: Engine,
    setup: Setup,
    dkg: Dkg,
    chains: Arc<Chains>,
    cancel: CancellationToken,
}

impl Running {
    async fn start(
        config: &Config,
        booted: Booted,
        metrics: Arc<Metrics>,
        lifecycle: Arc<Lifecycle>,
        misbehave: Option<Misbehave>,
        cancel: CancellationToken,
    ) -> Result<(Self, Service), CommandError> {
        if let Some(lie) = misbehave {
            lie.announce();
        }
        let party = &booted.party;
        let name = party.manifest.committee.party_name(party.index.into()).to_string();
        let leaf = Arc::new(Leaf::new(party.tls_root.clone(), name)?);
        let options = HubOptions { misbehave, ..HubOptions::default() };
        let hub = Hub::new(party, leaf.clone(), metrics.clone(), options, cancel.clone())?;
        let parts = Parts {
            party: party.clone(),
            keys: booted.keys.clone(),
            permission: booted.guard.clone(),
            objects: booted.ciphertexts.clone(),
            store: booted.store.clone(),
            hub: hub.clone(),
            metrics: metrics.clone(),
            misbehave,
            cancel: cancel.clone(),
        };
        let in_flight = usize::from(config.work.in_flight_mib) << 20;
        let engine = Engine::new(parts, EngineOptions { in_flight, ..EngineOptions::default() })?;
        let chains = Arc::new(Chains::new(party.manifest.chains.iter().map(|chain| chain.chain_id), Pace::default()));

        let clients = Arc::new(Clients::new(client_rules(&config.clients)?)?);
        let (peers, callers) = (listen(config.listen_peer).await?, listen(config.listen_client).await?);
        hub.start(peers)?;
        let next = if booted.keys.usable_ids().is_empty() { Phase::Initialising } else { Phase::Recovering };
        lifecycle.advance(next)?;
        booted.store.journal("phase", next.name(), "").await?;
        let setup = start_setup(config, &booted, &hub, &metrics, &cancel).await?;
        let parts = DkgParts {
            party: party.clone(),
            keys: booted.keys.clone(),
            vault: booted.vault.clone(),
            store: booted.store.clone(),
            hub: hub.clone(),
            setup: setup.clone(),
            ciphertexts: booted.ciphertexts.clone(),
            metrics,
            data_dir: config.data_dir.clone(),
            cancel: cancel.clone(),
        };
        let options = DkgOptions {
            patience: Duration::from_secs(config.keygen.patience_seconds),
            linger: Duration::from_secs(config.keygen.linger_seconds),
            misbehave,
        };
        let dkg = Dkg::start(parts, options).await?;
        let api = Api {
            engine: engine.clone(),
            hub: hub.clone(),
            dkg: dkg.clone(),
            public: config.data_dir.join(PUBLIC),
            keys: booted.keys.clone(),
            party: party.clone(),
            lifecycle: lifecycle.clone(),
            clients,
            chains: chains.clone(),
            leaf,
        };
        let service = tokio::spawn(service::serve(callers, api, cancel.clone()));
        let interrupted = engine.resume().await?;
        tracing::info!(requests = interrupted, "taken up again");
        Ok((Self { booted, lifecycle, hub, engine, setup, dkg, chains, cancel }, service))
    }

    /// Becomes ready, works, and stops on a signal or when a part fails.
    async fn until_told(self, mut service: Service) -> Result<(), CommandError> {
        let signals = |kind| signal(kind).map_err(|e| CommandError::Internal(format!("signals: {e}")));
        let (mut term, mut int) = (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
        let ended = tokio::select! {
            _ = term.recv() => None,
            _ = int.recv() => None,
            ended = &mut service => Some(ended),
            never = self.become_ready() => match never {},
            () = self.follow_chains() => None,
        };
        self.lifecycle.advance(Phase::Draining)?;
        self.cancel.cancel();
        let stopped = async {
            self.engine.stopped().await;
            self.dkg.stopped().await;
            self.setup.stopped().await;
            self.hub.stopped().await;
            match ended {
                Some(ended) => ended,
                None => service.await,
            }
        };
        let Ok(service) = tokio::time::timeout(DRAIN, stopped).await else {
            tracing::warn!("stopped with work under way; it is taken up again at the next start");
            return Ok(());
        };
        self.booted.store.journal("stop", env!("CARGO_PKG_VERSION"), "").await?;
        service.map_err(|e| CommandError::Internal(format!("the client listener: {e}")))??;
        Ok(())
    }

    /// Goes on to ready once nothing is missing; a ready party stays so.
    async fn become_ready(&self) -> std::convert::Infallible {
        let mut told = String::new();
        while self.lifecycle.phase() != Phase::Ready {
            match self.missing() {
                None => {
                    self.lifecycle.waits_for("");
                    if let Err(error) = self.lifecycle.advance(Phase::Ready) {
                        tracing::error!(%error, "can't become ready");
                    }
                    if let Err(error) = self.booted.store.journal("phase", Phase::Ready.name(), "").await {
                        tracing::error!(%error, "the journal can't be written");
                    }
                }
                Some(missing) => {
                    if missing != told {
                        tracing::info!(%missing, "not ready yet");
                        self.lifecycle.waits_for(&missing);
                        told = missing;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
        std::future::pending().await
    }

    /// Looks after the chains until the process ends.
    async fn follow_chains(&self) {
        let (guard, keys) = (self.booted.guard.clone(), self.booted.keys.clone());
        self.chains.follow(guard, keys, self.cancel.clone()).await;
    }

    /// What keeps this party from being ready: peers, key material, or that not a single chain is up.
    fn missing(&self) -> Option<String> {
        let party = &self.booted.party;
        let (needed, connected) = ((party.n() - party.t() - 1) as usize, self.hub.connected());
        if connected < needed {
            let links = format!("{connected} peers are connected, {needed} are needed");
            return Some(self.setup.waiting_for().map_or_else(|| links.clone(), |setup| format!("{links}; {setup}")));
        }
        if self.booted.keys.usable_ids().is_empty() {
            let making = self.dkg.waiting_for().or_else(|| self.setup.waiting_for());
            return Some(making.unwrap_or_else(|| "there is no key material".into()));
        }
        let why = self.chains.none_up()?;
        Some(self.setup.waiting_for().map_or_else(|| why.clone(), |setup| format!("{why}; {setup}")))
    }
}

async fn start_setup(
    config: &Config,
    booted: &Booted,
    hub: &Hub,
    metrics: &Arc<Metrics>,
    cancel: &CancellationToken,
) -> Result<Setup, CommandError> {
    let parts = SetupParts {
        party: booted.party.clone(),
        keys: booted.keys.clone(),
        vault: booted.vault.clone(),
        store: booted.store.clone(),
        hub: hub.clone(),
        metrics: metrics.clone(),
        cancel: cancel.clone(),
    };
    let options = SetupOptions {
        patience: Duration::from_secs(config.prss_setup.patience_seconds),
        bound: Duration::from_secs(config.prss_setup.bound_seconds),
        ..SetupOptions::default()
    };
    Ok(Setup::start(parts, options).await?)
}

/// Two processes with one data folder would be one party twice.
pub(super) fn lock(data_dir: &Path) -> Result<File, CommandError> {
    let path = data_dir.join("lock");
    let io = |source| CommandError::Io { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(CommandError::Internal(format!("another process runs this party ({})", path.display())))
        }
        Err(e) => Err(io(e.into())),
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, CommandError> {
    TcpListener::bind(address).await.map_err(|source| CommandError::Listen { address, source })
}

fn client_rules(clients: &[ClientConfig]) -> Result<Vec<ClientRules>, ConfigError> {
    let rules = clients.iter().map(|client| {
        let pem = read_bounded(&client.ca, MAX_CA_BYTES)?;
        let ca = std::str::from_utf8(&pem).ok().and_then(tls_root_der).ok_or_else(|| ConfigError::Value {
            key: format!("clients.{}.ca", client.name),
            problem: format!("{} is not one PEM certificate", client.ca.display()),
        })?;
        let [group, each] = client.limits();
        Ok(ClientRules { name: client.name.clone(), ca, permissions: client.permissions.clone(), group, each })
    });
    rules.collect()
}
