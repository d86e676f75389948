//! The TypeScript client as programs in Node and pages use it: `clients/typescript`, built before (`npm run build`, `npm run page`).

use std::{io::Write, path::PathBuf, process::Stdio, time::Duration};

use alloy::primitives::{Address, B256};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    anvil::{CHAIN_ID, Role},
    cluster::{Cluster, answers_ok},
    parties, paths,
    process::Process,
    token::Token,
    vote::AcceptedInput,
};

fn folder() -> PathBuf {
    paths::root().join("clients/typescript")
}

/// Runs a program of `clients/typescript/script` with `input` on its standard input; returns the JSON that it prints.
///
/// # Errors
/// The client is not built, or the program fails; the error carries what it says.
pub async fn run(script: &str, input: &Value, envs: &[(&str, String)]) -> Result<Value> {
    let folder = folder();
    let built = folder.join("dist/src/index.js");
    ensure!(built.exists(), "{} is missing: npm --prefix clients/typescript run build", built.display());
    let input = input.to_string();
    let envs: Vec<(String, String)> = envs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let script = script.to_owned();
    let output = tokio::task::spawn_blocking(move || -> Result<_> {
        let mut child = std::process::Command::new("node")
            .arg(format!("script/{script}"))
            .current_dir(&folder)
            .envs(envs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("node script/{script}"))?;
        child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{script} ended with {}\n{stdout}{stderr}", output.status);
        serde_json::from_str(&stdout).with_context(|| format!("{script} printed {stdout}"))
    });
    output.await?
}

/// Encrypts `values` (pairs of type and value, numbers as text) for `user` and `contract`, and posts them to the coprocessor.
///
/// # Errors
/// The program fails.
pub async fn encrypt(cluster: &Cluster, contract: Address, user: Address, values: &Value) -> Result<AcceptedInput> {
    let input = json!({
        "coprocessors": [cluster.coprocessor_url],
        "hostChainId": CHAIN_ID.to_string(),
        "accessControl": cluster.contracts.access_control,
        "keyId": parties::key(cluster).await?,
        "contract": contract,
        "user": user,
        "values": values,
    });
    serde_json::from_value(run("encrypt.mjs", &input, &[]).await?).context("encrypt.mjs")
}

/// What a user's client says of a decryption.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decrypted {
    /// Id of the request, by which the relayer tells its timeline.
    pub request_id: B256,
    /// The values, in the order of the handles.
    pub values: Vec<ClearValue>,
    /// Parties whose shares agree.
    pub agreeing: Vec<u32>,
    /// Parties that are wrong, with what speaks against them.
    pub wrong: Vec<Value>,
    /// Milliseconds until the permit was signed: the chain's answers, the key pair.
    pub permit_ms: u64,
    /// Milliseconds from there to the value.
    pub answer_ms: u64,
}

/// A decrypted value.
#[derive(Debug, Clone, Deserialize)]
pub struct ClearValue {
    /// Its type, as Solidity spells it.
    #[serde(rename = "type")]
    pub fhe_type: String,
    /// A boolean, or the number or address as text.
    pub value: Value,
}

/// Decrypts `handle` for `user`, who reads it in the name of `contract`, by a permit through the relayer.
///
/// # Errors
/// The program fails; its words are in the error.
pub async fn decrypt(cluster: &Cluster, user: Role, handle: B256, contract: Address) -> Result<Decrypted> {
    let input = json!({
        "rpcUrl": cluster.anvil.url(),
        "relayerUrl": cluster.relayer_url,
        "kmsVerifier": cluster.contracts.kms_verifier,
        "pairs": [{ "handle": handle, "contract": contract }],
    });
    let key = [("USER_KEY", format!("0x{}", user.insecure_key()))];
    serde_json::from_value(run("decrypt.mjs", &input, &key).await?).context("decrypt.mjs")
}

/// The example page, served to this machine.
#[derive(Debug)]
pub struct Page {
    /// The server. The page is gone with it.
    pub server: Process,
    /// Where the page is.
    pub url: String,
}

impl Page {
    /// Serves the page of `token` for `holder`, whose development key stands in it.
    ///
    /// # Errors
    /// The page is not built, or the server does not come up.
    pub async fn serve(cluster: &Cluster, token: &Token, holder: (&str, Role), friend: (&str, Role)) -> Result<Self> {
        let built = folder().join("dist/page/page.js");
        ensure!(built.exists(), "{} is missing: npm --prefix clients/typescript run page", built.display());
        let config = cluster.path("page.json");
        let content = json!({
            "chainId": CHAIN_ID,
            "rpcUrl": cluster.anvil.url(),
            "relayerUrl": cluster.relayer_url,
            "coprocessorUrl": cluster.coprocessor_url,
            "contracts": {
                "accessControl": cluster.contracts.access_control,
                "kmsVerifier": cluster.contracts.kms_verifier,
                "keyManagement": cluster.contracts.key_management,
            },
            "token": token.address,
            "testWallet": { "name": holder.0, "insecureKey": format!("0x{}", holder.1.insecure_key()) },
            "friend": { "name": friend.0, "address": friend.1.wallet().address() },
        });
        std::fs::write(&config, serde_json::to_string_pretty(&content)? + "\n")?;
        let port = paths::free_port()?;
        let script = folder().join("example/serve.mjs").display().to_string();
        let args = [script, config.display().to_string(), port.to_string()];
        let mut server = Process::start("page", &paths::program("node")?, &args, &[], &cluster.path("logs"))?;
        let url = format!("http://127.0.0.1:{port}/");
        for _ in 0..100 {
            if answers_ok(&url).await {
                return Ok(Self { server, url });
            }
            ensure!(server.is_running(), "the page's server ended\n{}", server.log_tail(20));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the page's server does not answer\n{}", server.log_tail(20))
    }
}
