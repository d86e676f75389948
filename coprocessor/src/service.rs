//! Puts the parts together.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use alloy::{eips::BlockId, signers::local::PrivateKeySigner};
use alloy_primitives::Address;
use kms_chain::{
    abi::{CiphertextRegistry, InputVerifier, KeyManagement},
    eip712,
    follower::{Follower, FollowerConfig},
    manifest::{HostChain, Manifest},
    rpc::{Chain, RpcError},
};
use kms_encoding::ParamsId;
use kms_fhe::KeyInfo;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Admission,
    commit::{Committer, CommitterSetup},
    compute::Compute,
    config::{ChainConfig, Config},
    crew,
    error::{Error, Result},
    fhe::Engine,
    http::{self, Api},
    inputs::{self, InputChain, Inputs},
    keys::Bundle,
    ledger::RpcLedger,
    metrics::Metrics,
    objects::Objects,
    signals::Signals,
    squash::Squash,
    store::Store,
    watch::{ChainSink, addresses},
};

/// Blocks asked for in one go while catching up.
const MAX_WINDOW: u64 = 2_000;

/// One chain, connected.
#[derive(Debug)]
struct Link {
    host: HostChain,
    chain: Chain,
    tick: Duration,
}

/// A coprocessor that is ready to run.
#[derive(Debug)]
pub struct Service {
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
    links: Vec<Link>,
    signer: PrivateKeySigner,
    account: PrivateKeySigner,
    store: Store,
    objects: Objects,
    bundle: Bundle,
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
}

impl Service {
    /// Opens everything that a coprocessor needs and takes its port. A chain that is down is no reason not to start.
    ///
    /// # Errors
    /// What is wrong with configuration, manifest, keys, database, object store, port, or this signer's standing.
    pub async fn prepare(config: Config) -> Result<Self> {
        let (signer, account) = signers(&config)?;
        let links = connect(&config).await?;
        for link in &links {
            check_standing(link, signer.address()).await?;
        }
        let bundle = Bundle::open(&config.public_keys)?;
        let folder = config.public_keys.clone();
        tracing::info!(key_id = %bundle.key_id(), "loading keys");
        let engine =
            tokio::task::spawn_blocking(move || Engine::load(&folder)).await.map_err(|_| Error::Task("keys"))??;
        warn_of_parameters(engine.params());
        for link in &links {
            check_key(link, &bundle).await;
        }
        let store = Store::open(&config.database).await?;
        let objects = Objects::open(&config.object_store)?;
        let metrics = Metrics::new().map_err(|error| Error::Config(format!("metrics: {error}")))?;
        let io = |source| Error::Io { what: format!("listening at {}", config.listen), source };
        let listener = TcpListener::bind(config.listen).await.map_err(io)?;
        let address = listener.local_addr().map_err(io)?;
        Ok(Self {
            listener,
            address,
            links,
            signer,
            account,
            store,
            objects,
            bundle,
            engine: Arc::new(engine),
            metrics: Arc::new(metrics),
            config,
        })
    }

    /// Where the HTTP server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Works until `cancel`; operations under way are finished first.
    ///
    /// # Errors
    /// When the HTTP server or a worker ends by itself.
    pub async fn run(self, cancel: CancellationToken) -> Result<()> {
        let Self { config, listener, links, signer, account, store, objects, bundle, engine, metrics, .. } = self;
        let signals = Arc::new(Signals::default());
        let input_chains: BTreeMap<u64, InputChain> =
            links.iter().map(|link| (link.host.chain_id, input_chain(&link.host))).collect();
        let mut tasks: JoinSet<&'static str> = JoinSet::new();
        let mut statuses = Vec::with_capacity(links.len());
        for link in links {
            let chain_id = link.host.chain_id;
            let registry = link.host.contracts.ciphertext_registry;
            let sink = ChainSink {
                chain_id,
                contracts: link.host.contracts,
                store: store.clone(),
                signals: signals.clone(),
                metrics: metrics.clone(),
            };
            let follow = FollowerConfig {
                addresses: addresses(&link.host.contracts),
                start_block: link.host.deployment_block,
                max_window: MAX_WINDOW,
                tick: link.tick,
            };
            let follower = Follower::new(link.chain.clone(), follow, sink);
            statuses.push((chain_id, follower.status()));
            let stop = cancel.clone();
            tasks.spawn(async move {
                Box::pin(follower.run(stop)).await;
                "follower"
            });
            let setup = CommitterSetup {
                chain_id,
                registry,
                signer: signer.clone(),
                account: account.clone(),
                config: config.commit.clone(),
                metrics: metrics.clone(),
            };
            let committer = Committer::new(RpcLedger::new(link.chain, registry), store.clone(), setup);
            let (wake, stop) = (signals.clone(), cancel.clone());
            tasks.spawn(async move {
                committer.run(&wake.commit, stop).await;
                "committer"
            });
        }
        let compute = Arc::new(Compute {
            store: store.clone(),
            engine: engine.clone(),
            chains: input_chains.clone(),
            signals: signals.clone(),
            metrics: metrics.clone(),
        });
        let (wake, stop, places) = (signals.clone(), cancel.clone(), config.compute.operations);
        tasks.spawn(async move {
            crew::drive(compute, places, &wake.compute, stop).await;
            "compute"
        });
        let squash =
            Arc::new(Squash::new(store.clone(), engine.clone(), objects.clone(), signals.clone(), metrics.clone()));
        let (wake, stop, places) = (signals.clone(), cancel.clone(), config.compute.squashes);
        tasks.spawn(async move {
            crew::drive(squash, places, &wake.squash, stop).await;
            "squash"
        });

        let waiting = config.inputs.waiting();
        let (db, chains) = (store.clone(), input_chains.keys().copied().collect());
        let (metrics_of_inputs, stop) = (metrics.clone(), cancel.clone());
        tasks.spawn(async move {
            inputs::prune(db, chains, waiting.max_age, metrics_of_inputs, stop).await;
            "prune"
        });
        let api = Api {
            inputs: Inputs::new(input_chains, store.clone(), engine, signer, signals, waiting),
            admission: Admission::new(config.inputs.workers, config.inputs.queue, config.inputs.per_client),
            bundle,
            objects,
            store: store.clone(),
            chains: statuses,
            metrics,
        };
        let app = http::router(Arc::new(api)).into_make_service_with_connect_info::<SocketAddr>();
        let stop = cancel.clone();
        tasks.spawn(async move {
            let server = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
            if let Err(error) = server.await {
                tracing::error!(%error, "the HTTP server failed");
            }
            "http"
        });

        let mut outcome = Ok(());
        while let Some(ended) = tasks.join_next().await {
            if !cancel.is_cancelled() {
                // Nothing may go on half: a coprocessor that serves but does not follow looks healthy and is not.
                outcome = Err(Error::Task(ended.unwrap_or("a worker")));
                cancel.cancel();
            }
        }
        store.close().await;
        outcome
    }
}

/// Checks a configuration as far as that goes without loading the keys: files, signer, chains and this signer's standing.
///
/// # Errors
/// The first thing that is wrong.
pub async fn check(config: &Config) -> Result<()> {
    let (signer, _) = signers(config)?;
    let bundle = Bundle::open(&config.public_keys)?;
    Objects::open(&config.object_store)?;
    for link in connect(config).await? {
        check_standing(&link, signer.address()).await?;
        check_key(&link, &bundle).await;
    }
    let info = KeyInfo::load(&config.public_keys).map_err(|error| Error::Keys(error.to_string()))?;
    warn_of_parameters(info.params());
    Ok(())
}

fn signers(config: &Config) -> Result<(PrivateKeySigner, PrivateKeySigner)> {
    let signer = config.signer.load()?;
    let account = config.submitter.as_ref().map_or_else(|| Ok(signer.clone()), |submitter| submitter.load())?;
    Ok((signer, account))
}

async fn connect(config: &Config) -> Result<Vec<Link>> {
    let manifest = read_manifest(&config.manifest)?;
    let mut links = Vec::with_capacity(config.chains.len());
    for chain in &config.chains {
        links.push(connect_chain(&manifest, chain).await?);
    }
    Ok(links)
}

fn read_manifest(path: &Path) -> Result<Manifest> {
    let bytes = std::fs::read(path).map_err(|error| Error::Manifest(format!("{}: {error}", path.display())))?;
    Manifest::parse(&bytes).map_err(|error| Error::Manifest(format!("{}: {error}", path.display())))
}

async fn connect_chain(manifest: &Manifest, config: &ChainConfig) -> Result<Link> {
    let chain_id = config.chain_id;
    let host = manifest.chains.iter().find(|host| host.chain_id == chain_id);
    let host = host.ok_or_else(|| Error::Manifest(format!("it has no chain {chain_id}")))?.clone();
    let urls = config
        .rpc
        .iter()
        .map(|url| url.parse())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Error::Config(format!("chain {chain_id}: an rpc address is not a URL")))?;
    let failed = |error: RpcError| Error::Chain { chain_id, reason: error.to_string() };
    let chain = Chain::connect(&urls, chain_id).await.map_err(failed)?;
    Ok(Link { host, chain, tick: Duration::from_millis(config.tick_ms) })
}

fn input_chain(host: &HostChain) -> InputChain {
    InputChain {
        access_control: host.contracts.access_control,
        domain: eip712::input_domain(host.chain_id, host.contracts.input_verifier),
    }
}

/// Whether the contracts know this signer, and how many more there are. A chain that does not answer is only reported.
async fn check_standing(link: &Link, signer: Address) -> Result<()> {
    let chain_id = link.host.chain_id;
    match standing(link, signer).await {
        Ok(result) => result,
        Err(error) => {
            tracing::warn!(chain_id, %error, "the chain does not answer: this signer's standing is not checked");
            Ok(())
        }
    }
}

async fn standing(link: &Link, signer: Address) -> Result<Result<()>, RpcError> {
    let (chain_id, contracts, latest) = (link.host.chain_id, &link.host.contracts, BlockId::latest());
    let verifier = contracts.input_verifier;
    let registry = contracts.ciphertext_registry;
    let of_inputs = link.chain.call(verifier, &InputVerifier::getCoprocessorSignersCall {}, latest).await?;
    let of_registry = link.chain.call(registry, &CiphertextRegistry::getCoprocessorSignersCall {}, latest).await?;
    let threshold = link.chain.call(registry, &CiphertextRegistry::getThresholdCall {}, latest).await?;
    for (contract, known) in [("InputVerifier", of_inputs), ("CiphertextRegistry", of_registry)] {
        if !known.contains(&signer) {
            return Ok(Err(Error::UnknownSigner { chain_id, contract, signer }));
        }
    }
    let threshold = u64::try_from(threshold).unwrap_or(u64::MAX);
    if threshold > 1 {
        return Ok(Err(Error::QuorumTooLarge { chain_id, threshold }));
    }
    tracing::warn!(
        chain_id,
        "SINGLE COPROCESSOR: one signature is enough for inputs and commitments on this chain. Whoever holds this key can \
         bring false results and open every ciphertext. Fine for development; production needs a quorum of at least 2 \
         independent operators."
    );
    Ok(Ok(()))
}

/// Says so when the committee's active key is another one. It may be registered later, so this is no error.
async fn check_key(link: &Link, bundle: &Bundle) {
    let chain_id = link.host.chain_id;
    let call = KeyManagement::activeKeyCall {};
    match link.chain.call(link.host.contracts.key_management, &call, BlockId::latest()).await {
        Ok(active) if active.keyId == bundle.key_id() => {}
        Ok(active) if active.keyId.is_zero() => tracing::warn!(chain_id, "no key is registered on this chain yet"),
        Ok(active) => {
            tracing::warn!(chain_id, active = %active.keyId, ours = %bundle.key_id(), "the active key is not ours");
        }
        Err(error) => tracing::warn!(chain_id, %error, "the active key is not checked"),
    }
}

fn warn_of_parameters(params: ParamsId) {
    if params == ParamsId::InsecureTest {
        tracing::warn!("INSECURE TEST PARAMETERS: anyone can decrypt everything. Never use this key for real data.");
    }
}
