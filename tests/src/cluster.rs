//! A whole deployment on this machine: anvil, n parties, relayer, coprocessor, each its own process.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use alloy::primitives::Address;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::{
    anvil::{Anvil, CHAIN_ID, Role},
    keygen, paths,
    process::{self, Process},
};

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Parties.
    pub n: usize,
    /// Tolerated corruptions.
    pub t: usize,
    /// `production` or `insecure-test`.
    pub params: String,
    /// Where everything lives. Identities and keys found there are used again.
    pub home: PathBuf,
    /// Folder for common reference strings, shared by clusters.
    pub crs_cache: PathBuf,
    /// Whether relayer and coprocessor are started.
    pub services: bool,
    /// Where the key comes from.
    pub key: Key,
    /// How long the parties wait for one that is silent, in seconds; their own default if absent.
    pub patience: Option<u64>,
    /// Extra arguments for party i (1-based), for instance misbehaviour.
    pub party_args: Vec<(usize, Vec<String>)>,
    /// Where relayer and parties send their traces; nowhere if absent.
    pub collector: Option<String>,
}

/// Where the key of a deployment comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The parties make it together.
    Generated,
    /// A dealer makes it: quicker, and the dealer knew it.
    Dealt,
    /// There is none yet; the parties run without.
    None,
}

impl Options {
    /// Four parties with insecure test parameters in `home`.
    pub fn insecure_test(home: &Path) -> Self {
        Self {
            n: 4,
            t: 1,
            params: "insecure-test".to_owned(),
            home: home.to_owned(),
            crs_cache: paths::root().join(".cache/crs"),
            services: true,
            key: Key::Generated,
            patience: None,
            party_args: Vec::new(),
            collector: None,
        }
    }

    /// The section of the configurations.
    fn traces(&self) -> String {
        self.collector.as_ref().map_or_else(String::new, |url| format!("\n[traces]\nendpoint = \"{url}\"\n"))
    }
}

/// Addresses of a deployment, as `script/deploy` writes them.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contracts {
    /// `AccessControl`.
    pub access_control: Address,
    /// `FheExecutor`.
    pub fhe_executor: Address,
    /// `InputVerifier`.
    pub input_verifier: Address,
    /// `CiphertextRegistry`.
    pub ciphertext_registry: Address,
    /// `KmsVerifier`.
    pub kms_verifier: Address,
    /// `DecryptionGateway`.
    pub decryption_gateway: Address,
    /// `GuardLens`.
    pub guard_lens: Address,
    /// `KeyManagement`.
    pub key_management: Address,
}

#[derive(Debug, Deserialize)]
struct Deployment {
    contracts: Contracts,
}

/// A running deployment. Everything dies with it.
#[derive(Debug)]
pub struct Cluster {
    /// How it was made.
    pub options: Options,
    /// The chain.
    pub anvil: Anvil,
    /// Party i is at index i−1.
    pub parties: Vec<Process>,
    /// Watches and posts; absent without services.
    pub relayer: Option<Process>,
    /// Verifies, computes, commits; absent without services.
    pub coprocessor: Option<Process>,
    /// Contract addresses.
    pub contracts: Contracts,
    /// Base URL of the relayer's HTTP API.
    pub relayer_url: String,
    /// Base URL of the coprocessor's HTTP API.
    pub coprocessor_url: String,
    /// Metrics URLs of the parties.
    pub party_metrics: Vec<String>,
    /// gRPC client URLs of the parties.
    pub party_urls: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    peer: u16,
    client: u16,
    metrics: u16,
}

/// Called with a line for each step of the set-up.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

impl Cluster {
    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// A step failed; the error says which, with the end of the failing process's log.
    pub async fn start(options: Options, progress: Progress<'_>) -> Result<Self> {
        put_away_old(&options.home)?;
        fs::create_dir_all(&options.home)?;
        let logs = options.home.join("logs");
        progress("anvil: a private chain");
        let anvil = Anvil::start(&logs, &[]).await?;
        let setup = Setup::new(&options, &anvil)?;
        progress("parties: identities");
        setup.init_parties()?;
        progress("contracts: deploying");
        let contracts = setup.deploy()?;
        setup.client_certificate("relayer")?;
        setup.client_certificate("operator")?;
        if options.key == Key::Dealt {
            progress("key: the dealer makes shares (development only: a dealer knew the key)");
            setup.deal()?;
            progress("key: parties seal their shares and the committee registers the key");
            setup.import()?;
            setup.register()?;
        }
        let generated = setup.key_is_there();
        if options.key == Key::Generated && generated {
            progress("key: the parties have the one they made; the committee registers it on the new chain");
            setup.register()?;
        }
        progress("parties: starting; they make their pseudorandom keys among themselves, without a dealer");
        let mut parties = Vec::new();
        for index in 1..=options.n {
            parties.push(setup.start_party(index)?);
        }
        let party_metrics = setup.ports.iter().map(|p| format!("http://127.0.0.1:{}", p.metrics));
        let party_metrics: Vec<String> = party_metrics.collect();
        let alive: Vec<String> = party_metrics.iter().map(|url| format!("{url}/healthz")).collect();
        wait_for(&alive, &mut parties.iter_mut().collect::<Vec<_>>()).await?;
        if options.key == Key::Generated && !generated {
            progress("key: the parties make it together, nobody ever has it");
            keygen::generate(&options, &setup.rpc, progress).await?;
        }
        let coprocessor_port = paths::free_port()?;
        let relayer_port = paths::free_port()?;
        let mut cluster = Self {
            anvil,
            parties,
            relayer: None,
            coprocessor: None,
            contracts,
            relayer_url: format!("http://127.0.0.1:{relayer_port}"),
            coprocessor_url: format!("http://127.0.0.1:{coprocessor_port}"),
            party_metrics,
            party_urls: setup.ports.iter().map(|p| format!("https://127.0.0.1:{}", p.client)).collect(),
            options: options.clone(),
        };
        if options.services {
            progress("coprocessor and relayer: starting");
            cluster.coprocessor = Some(cluster.start_coprocessor(coprocessor_port)?);
            cluster.relayer = Some(cluster.start_relayer(relayer_port)?);
        }
        cluster.wait_ready().await?;
        Ok(cluster)
    }

    /// A path inside the cluster's home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.options.home.join(name)
    }

    /// The key bundle folder.
    pub fn public_dir(&self) -> PathBuf {
        self.path(if self.options.key == Key::Dealt { "dealer/public" } else { "keygen/public" })
    }

    /// Runs the operator's tool and returns what it printed.
    ///
    /// # Errors
    /// The tool failed.
    pub fn kms(&self, args: &[&str]) -> Result<String> {
        process::run(&paths::binary("kms")?, args, &[], &self.options.home)
    }

    fn start_coprocessor(&self, port: u16) -> Result<Process> {
        let config = self.path("coprocessor.toml");
        let text = format!(
            "database = \"sqlite://{home}/coprocessor.db\"\nlisten = \"127.0.0.1:{port}\"\n\
             public_keys = \"{keys}\"\nobject_store = \"file://{home}/objects\"\nmanifest = \"{home}/manifest.json\"\n\n\
             [[chains]]\nchain_id = {CHAIN_ID}\nrpc = [\"{rpc}\"]\n\n[signer]\nenv = \"KMS_COPROCESSOR_KEY\"\n",
            home = self.options.home.display(),
            keys = self.public_dir().display(),
            rpc = self.anvil.url(),
        );
        write_if_changed(&config, &text)?;
        fs::create_dir_all(self.path("objects"))?;
        Process::start(
            "coprocessor",
            &paths::binary("kms-coprocessor")?,
            &strings(&["run", "--config", &config.display().to_string()]),
            &[("KMS_COPROCESSOR_KEY".to_owned(), Role::Coprocessor.insecure_key().to_owned())],
            &self.path("logs"),
        )
    }

    fn start_relayer(&self, port: u16) -> Result<Process> {
        let config = self.path("relayer.toml");
        let text = format!(
            "database = \"sqlite://{home}/relayer.db\"\nlisten = \"127.0.0.1:{port}\"\nmanifest = \"{home}/manifest.json\"\n\n\
             [tls]\ncert = \"{home}/clients/relayer/cert.pem\"\nkey = \"{home}/clients/relayer/key.pem\"\n\n\
             [[chains]]\nchain_id = {CHAIN_ID}\nrpc = [\"{rpc}\"]\npoll_ms = 100\n\n[signer]\nenv = \"KMS_RELAYER_KEY\"\n\n\
             # This relayer posts at its own cost, whatever a test offers.\n[tx]\nfee_cover_percent = 0\n\n\
             # Only this machine reaches the port.\n[access]\nconsole = \"open\"\n{traces}",
            home = self.options.home.display(),
            rpc = self.anvil.url(),
            traces = self.options.traces(),
        );
        write_if_changed(&config, &text)?;
        Process::start(
            "relayer",
            &paths::binary("kms-relayer")?,
            &strings(&["run", "--config", &config.display().to_string()]),
            &[("KMS_RELAYER_KEY".to_owned(), Role::Relayer.insecure_key().to_owned())],
            &self.path("logs"),
        )
    }

    async fn wait_ready(&mut self) -> Result<()> {
        // Without a key a party is not ready for anybody, but it lives.
        let sign = if self.options.key == Key::None { "healthz" } else { "readyz" };
        let mut urls: Vec<String> = self.party_metrics.iter().map(|url| format!("{url}/{sign}")).collect();
        if self.options.services {
            urls.push(format!("{}/healthz", self.coprocessor_url));
            urls.push(format!("{}/readyz", self.relayer_url));
        }
        let outcome = wait_for(&urls, &mut self.processes()).await;
        outcome.map_err(|error| error.context(self.log_tails(15)))
    }

    /// Starts again whatever is down, wakes what is paused, and waits until all is ready.
    ///
    /// # Errors
    /// Something does not come back.
    pub async fn heal(&mut self) -> Result<()> {
        for process in self.processes() {
            process.resume();
            if !process.is_running() {
                process.restart()?;
            }
        }
        self.wait_ready().await
    }

    fn processes(&mut self) -> Vec<&mut Process> {
        self.parties.iter_mut().chain(self.relayer.as_mut()).chain(self.coprocessor.as_mut()).collect()
    }

    /// The ends of all logs, for failure messages.
    pub fn log_tails(&self, lines: usize) -> String {
        self.parties
            .iter()
            .chain(self.relayer.as_ref())
            .chain(self.coprocessor.as_ref())
            .map(|process| process.log_tail(lines))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Waits until a GET of all these answers 200. None of the processes may end meanwhile.
async fn wait_for(urls: &[String], processes: &mut [&mut Process]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(180);
    for url in urls {
        while !answers_ok(url).await {
            if let Some(dead) = processes.iter_mut().find_map(|p| (!p.is_running()).then(|| p.log_tail(30))) {
                bail!("a process ended during start-up\n{dead}");
            }
            ensure!(Instant::now() < deadline, "{url} is not ready after 180 s");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// Whether a GET answers 200.
pub async fn answers_ok(url: &str) -> bool {
    reqwest::get(url).await.is_ok_and(|response| response.status().is_success())
}

struct Setup<'a> {
    options: &'a Options,
    rpc: String,
    home: String,
    ports: Vec<Ports>,
}

impl<'a> Setup<'a> {
    fn new(options: &'a Options, anvil: &Anvil) -> Result<Self> {
        Ok(Self { options, rpc: anvil.url(), home: options.home.display().to_string(), ports: ports(options)? })
    }

    fn kms(&self, args: &[&str]) -> Result<String> {
        process::run(&paths::binary("kms")?, args, &[], &self.options.home)
    }

    fn party(&self, index: usize) -> String {
        format!("{}/party-{index}", self.home)
    }

    fn init_parties(&self) -> Result<()> {
        let node = paths::binary("kms-node")?;
        let seal = self.options.home.join("insecure-passphrase");
        write_if_changed(&seal, "an insecure passphrase for development\n")?;
        let mut args = vec!["manifest".to_owned(), "new".to_owned()];
        for index in 1..=self.options.n {
            let dir = self.party(index);
            if !Path::new(&dir).join("card.json").exists() {
                let ports = self.ports[index - 1];
                process::run(
                    &node,
                    &[
                        "init",
                        "--dir",
                        &dir,
                        "--name",
                        &format!("party-{index}"),
                        "--peer-url",
                        &format!("https://127.0.0.1:{}", ports.peer),
                        "--client-url",
                        &format!("https://127.0.0.1:{}", ports.client),
                        "--seal",
                        &seal.display().to_string(),
                    ],
                    &[],
                    &self.options.home,
                )?;
            }
            args.extend(["--card".to_owned(), format!("{dir}/card.json")]);
        }
        let manifest = self.options.home.join("committee.json");
        if !manifest.exists() {
            args.extend(strings(&["--t", &self.options.t.to_string(), "--out", &manifest.display().to_string()]));
            self.kms(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn deploy(&self) -> Result<Contracts> {
        let deployment = self.options.home.join("deployment.json");
        process::run(
            &paths::root().join("script/deploy"),
            &["--manifest", &format!("{}/committee.json", self.home), "--out", &deployment.display().to_string()],
            &[
                ("KMS_RPC_URL", self.rpc.clone()),
                ("KMS_DEPLOYER_KEY", format!("0x{}", Role::Deployer.insecure_key())),
                ("KMS_COPROCESSORS", Role::Coprocessor.wallet().address().to_string()),
            ],
            &paths::root(),
        )?;
        let manifest = format!("{}/manifest.json", self.home);
        self.kms(&[
            "manifest",
            "add-chain",
            "--manifest",
            &format!("{}/committee.json", self.home),
            "--deployment",
            &deployment.display().to_string(),
            "--finality-floor",
            "0",
            "--out",
            &manifest,
        ])?;
        let parsed: Deployment = serde_json::from_str(&fs::read_to_string(&deployment)?).context("deployment.json")?;
        Ok(parsed.contracts)
    }

    fn client_certificate(&self, name: &str) -> Result<()> {
        let out = format!("{}/clients/{name}", self.home);
        if !Path::new(&out).join("cert.pem").exists() {
            self.kms(&["client-cert", "--name", name, "--out", &out])?;
        }
        Ok(())
    }

    fn deal(&self) -> Result<()> {
        if self.options.home.join("dealer/public/key.json").exists() {
            return Ok(());
        }
        fs::create_dir_all(&self.options.crs_cache)?;
        self.kms(&[
            "dealer",
            "--manifest",
            &format!("{}/committee.json", self.home),
            "--params",
            &self.options.params,
            "--crs-cache",
            &self.options.crs_cache.display().to_string(),
            "--out",
            &format!("{}/dealer", self.home),
        ])?;
        Ok(())
    }

    fn import(&self) -> Result<()> {
        let node = paths::binary("kms-node")?;
        for index in 1..=self.options.n {
            let share = format!("{}/dealer/party-{index}.share", self.home);
            if Path::new(&share).exists() {
                process::run(
                    &node,
                    &[
                        "import",
                        "--dir",
                        &self.party(index),
                        "--manifest",
                        &format!("{}/manifest.json", self.home),
                        "--share",
                        &share,
                        "--public",
                        &format!("{}/dealer/public", self.home),
                        "--seal",
                        &format!("{}/insecure-passphrase", self.home),
                    ],
                    &[],
                    &self.options.home,
                )?;
            }
        }
        Ok(())
    }

    /// What each party has signed of its key.
    fn signatures(&self) -> Vec<String> {
        (1..=self.options.n).map(|index| format!("{}/keygen-signature.json", self.party(index))).collect()
    }

    /// Whether all parties have a key that they made, and its public part is here.
    fn key_is_there(&self) -> bool {
        let bundle = self.options.home.join("keygen/public/key.json");
        bundle.exists() && self.signatures().iter().all(|path| Path::new(path).exists())
    }

    fn register(&self) -> Result<()> {
        let mut args =
            strings(&["register-key", "--manifest", &format!("{}/manifest.json", self.home), "--rpc", &self.rpc]);
        for signature in self.signatures() {
            args.extend(["--signature".to_owned(), signature]);
        }
        process::run(
            &paths::binary("kms")?,
            &args.iter().map(String::as_str).collect::<Vec<_>>(),
            &[("KMS_SENDER_KEY", Role::Deployer.insecure_key().to_owned())],
            &self.options.home,
        )?;
        Ok(())
    }

    fn start_party(&self, index: usize) -> Result<Process> {
        let ports = self.ports[index - 1];
        let config = self.options.home.join(format!("party-{index}.toml"));
        let patience = self.options.patience.map_or_else(String::new, |seconds| {
            format!(
                "\n[prss_setup]\npatience_seconds = {seconds}\nbound_seconds = {seconds}\n\n\
                 [keygen]\npatience_seconds = {seconds}\n"
            )
        });
        let text = format!(
            "data_dir = \"{dir}\"\nmanifest = \"{home}/manifest.json\"\nindex = {index}\n\
             listen_peer = \"127.0.0.1:{}\"\nlisten_client = \"127.0.0.1:{}\"\nlisten_metrics = \"127.0.0.1:{}\"\n\n\
             [sealing]\nkind = \"passphrase-file\"\npath = \"{home}/insecure-passphrase\"\n\n\
             [[chains]]\nchain_id = {CHAIN_ID}\nrpc = [\"{rpc}\"]\n\n\
             [[object_stores]]\nurl = \"file://{home}/objects\"\n\n\
             [[clients]]\nname = \"relayer\"\nca = \"{home}/clients/relayer/ca.pem\"\npermissions = [\"decrypt\", \"user-decrypt\", \"status\"]\n\
             requests_per_second = 1000\nmax_open = 2000\n\n\
             [[clients]]\nname = \"operator\"\nca = \"{home}/clients/operator/ca.pem\"\npermissions = [\"decrypt\", \"user-decrypt\", \"status\", \"keygen\"]\n\
             requests_per_second = 100\nmax_open = 100\n{patience}{traces}",
            ports.peer,
            ports.client,
            ports.metrics,
            dir = self.party(index),
            home = self.home,
            rpc = self.rpc,
            traces = self.options.traces(),
        );
        write_if_changed(&config, &text)?;
        fs::create_dir_all(self.options.home.join("objects"))?;
        let mut args = strings(&["run", "--config", &config.display().to_string()]);
        if let Some((_, extra)) = self.options.party_args.iter().find(|(party, _)| *party == index) {
            args.extend(extra.iter().cloned());
        }
        Process::start(
            &format!("party-{index}"),
            &paths::binary("kms-node")?,
            &args,
            &[],
            &self.options.home.join("logs"),
        )
    }
}

/// Ports are chosen once per home: the parties' URLs stand in their cards.
fn ports(options: &Options) -> Result<Vec<Ports>> {
    let file = options.home.join("ports.json");
    if let Ok(text) = fs::read_to_string(&file) {
        let kept: Vec<[u16; 3]> = serde_json::from_str(&text).context("ports.json")?;
        return Ok(kept.into_iter().map(|[peer, client, metrics]| Ports { peer, client, metrics }).collect());
    }
    let ports: Vec<Ports> = (0..options.n)
        .map(|_| Ok(Ports { peer: paths::free_port()?, client: paths::free_port()?, metrics: paths::free_port()? }))
        .collect::<Result<_>>()?;
    let list: Vec<[u16; 3]> = ports.iter().map(|p| [p.peer, p.client, p.metrics]).collect();
    fs::write(&file, serde_json::to_string(&list)?)?;
    Ok(ports)
}

/// What identities and keys of a home are written as. A home of an older format is of no use to these programs.
const FORMAT: &str = "3";

/// Renames a home of another format to `<home>.old`, so that a new one is made; an older `<home>.old` goes.
fn put_away_old(home: &Path) -> Result<()> {
    let stamp = home.join("format");
    let used = home.join("dealer").exists() || home.join("keygen").exists();
    if used && fs::read_to_string(&stamp).ok().as_deref() != Some(FORMAT) {
        let old = home.with_extension("old");
        if old.exists() {
            fs::remove_dir_all(&old)?;
        }
        fs::rename(home, &old).with_context(|| format!("put {} away", home.display()))?;
    }
    fs::create_dir_all(home)?;
    write_if_changed(&stamp, FORMAT)
}

pub(crate) fn write_if_changed(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::write(path, text)?;
    }
    Ok(())
}

pub(crate) fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}
