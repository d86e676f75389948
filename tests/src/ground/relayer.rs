//! Relayers as operators run them: the program, its configuration, its account, its database.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use alloy::primitives::{Address, hex};
use anyhow::{Result, bail};

use super::{Database, Ground};
use crate::{
    cluster::{answers_ok, strings},
    paths,
    process::Process,
};

/// Environment variable with a relayer's key.
const KEY: &str = "KMS_RELAYER_KEY";

/// A relayer. Killed when dropped.
#[derive(Debug)]
pub struct Relayer {
    /// Its process.
    pub process: Process,
    /// Its account.
    pub account: Address,
    /// Base URL of its HTTP API.
    pub url: String,
    /// Its database.
    pub database: Database,
}

/// A relayer that is not started yet.
#[derive(Debug)]
pub struct Candidate<'a> {
    ground: &'a Ground,
    name: String,
    account: String,
    database: Database,
    endpoints: BTreeMap<u64, Vec<String>>,
    settings: Vec<(String, String)>,
}

impl Ground {
    /// A relayer of that name, with an account and a database of its own.
    ///
    /// # Errors
    /// The database server does not answer.
    pub async fn relayer(&self, name: &str) -> Result<Candidate<'_>> {
        let database = Database::of_this_run(self.home(), name).await?;
        let endpoints = self.chains.iter().map(|chain| (chain.id, vec![chain.anvil.url()])).collect();
        let account = name.to_owned();
        let settings = Vec::new();
        Ok(Candidate { ground: self, name: name.to_owned(), account, database, endpoints, settings })
    }
}

impl Candidate<'_> {
    /// With this database.
    #[must_use]
    pub fn with_database(mut self, database: &Database) -> Self {
        self.database = database.clone();
        self
    }

    /// With the account of this name ([`Ground::account`]) instead of its own.
    #[must_use]
    pub fn with_account(mut self, name: &str) -> Self {
        name.clone_into(&mut self.account);
        self
    }

    /// With these endpoints of a chain, the preferred one first.
    #[must_use]
    pub fn with_endpoints(mut self, chain: u64, urls: &[String]) -> Self {
        self.endpoints.insert(chain, urls.to_vec());
        self
    }

    /// With a setting, as in `set("tx.depth", 3)`. Texts carry their quotation marks only in lists.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        let variable = format!("KMS_RELAYER__{}", name.to_uppercase().replace('.', "__"));
        self.settings.push((variable, value.to_string()));
        self
    }

    /// The configuration file, and the environment that goes with it; for whoever starts the relayer by other means.
    ///
    /// # Errors
    /// A chain does not answer, or the file can't be written.
    pub async fn configure(&self, port: u16) -> Result<(std::path::PathBuf, Vec<(String, String)>)> {
        let key = self.ground.account(&self.account).await?;
        let home = self.ground.home().display();
        let mut text = format!(
            "database = \"{}\"\ninstance = \"{}\"\nlisten = \"127.0.0.1:{port}\"\nmanifest = \"{home}/manifest.json\"\n\n\
             [tls]\ncert = \"{home}/cert.pem\"\nkey = \"{home}/key.pem\"\n\n[signer]\nenv = \"{KEY}\"\n\n\
             # It posts at its own cost, whatever a test offers.\n[tx]\nfee_cover_percent = 0\n\n\
             [log]\nlevel = \"warn\"\n",
            self.database.url, self.name
        );
        for (chain, urls) in &self.endpoints {
            write!(text, "\n[[chains]]\nchain_id = {chain}\nrpc = {urls:?}\npoll_ms = 100\n")?;
        }
        let config = self.ground.home().join(format!("{}.toml", self.name));
        fs::write(&config, text)?;
        let mut environment = self.settings.clone();
        environment.push((KEY.to_owned(), hex::encode(key.to_bytes())));
        Ok((config, environment))
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready after a minute.
    pub async fn start(self) -> Result<Relayer> {
        let mut relayer = self.start_as(&paths::binary("kms-relayer")?, &["run", "--config"], &[]).await?;
        relayer.ready().await?;
        Ok(relayer)
    }

    /// Starts a program as this relayer: with these arguments and the path of the configuration, and more in its environment.
    /// Does not wait for it.
    ///
    /// # Errors
    /// It can't be started.
    pub async fn start_as(self, program: &Path, args: &[&str], told: &[(String, String)]) -> Result<Relayer> {
        let port = paths::free_port()?;
        let (config, mut environment) = self.configure(port).await?;
        environment.extend(told.iter().cloned());
        let mut args = strings(args);
        args.push(config.display().to_string());
        let process = Process::start(&self.name, program, &args, &environment, &self.ground.home().join("logs"))?;
        let account = self.ground.account(&self.account).await?.address();
        Ok(Relayer { process, account, url: format!("http://127.0.0.1:{port}"), database: self.database })
    }
}

impl Relayer {
    /// Waits until it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready after a minute.
    pub async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !answers_ok(&format!("{}/readyz", self.url)).await {
            if !self.process.is_running() || Instant::now() > deadline {
                bail!("the relayer is not ready\n{}", self.process.log_tail(30));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Kills it and starts it again, without waiting until it is ready.
    ///
    /// # Errors
    /// It can't be started.
    pub fn kill_and_restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process.restart()
    }
}
