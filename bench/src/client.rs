//! What a user's client costs: reconstruction in Rust and in JavaScript, and the size of a page that decrypts.

use std::{fs, path::Path, process::Command, time::Instant};

use alloy_primitives::{B256, Bytes};
use anyhow::{Context, Result, ensure};
use kms_chain::manifest::DecryptionDomain;
use kms_client::user::{HandleContract, Kem, KeyPair, Parties, Permit, UserDecryption, UserRequest, UserResponse};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::report::{Figure, median};

/// The known answer that is reconstructed: 13 responses, 4 of them signed but wrong.
const CASE: &str = "decryption: uint256 of thirteen, four lies";
const RUNS: usize = 50;

/// Measures both clients. JavaScript is measured by `clients/typescript`, built before.
///
/// # Errors
/// A known answer is missing or comes out wrong, or a program of the TypeScript client fails.
pub(crate) fn run(root: &Path) -> Result<Vec<Figure>> {
    let mut figures = vec![rust(root)?];
    for script in ["dist/bench/reconstruct.js", "script/size.mjs"] {
        figures.extend(javascript(root, script)?);
    }
    Ok(figures)
}

/// The figures that a program prints with `--json`.
fn javascript(root: &Path, script: &str) -> Result<Vec<Figure>> {
    let folder = root.join("clients/typescript");
    let output = Command::new("node").args([script, "--json"]).current_dir(&folder).output().context("node")?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    let figures: Vec<Figure> = serde_json::from_slice(&output.stdout).with_context(|| script.to_owned())?;
    Ok(figures.into_iter().map(|figure| Figure::new(&figure.name, figure.value, &figure.unit, figure.note)).collect())
}

fn rust(root: &Path) -> Result<Figure> {
    let text = fs::read_to_string(root.join("tests/golden/user_decryption.json"))?;
    let cases: Vec<Value> = serde_json::from_str(&text)?;
    let case = cases.iter().find(|case| case["name"] == CASE).with_context(|| CASE.to_owned())?;
    let responses = list(&case["responses"])?.iter().map(response).collect::<Result<Vec<_>>>()?;
    let expected: B256 = read(&case["expect"]["values"][0]["value"])?;
    let mut milliseconds = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let (parties, domain, request, pair) = question(case)?;
        let clock = Instant::now();
        let mut decryption = UserDecryption::new(parties, &domain, request, pair)?;
        for response in &responses {
            decryption.add(response)?;
        }
        let result = decryption.reconstruct()?;
        milliseconds.push(clock.elapsed().as_secs_f64() * 1000.0);
        ensure!(responses.len() == 13 && result.progress.wrong.len() == 4, "{:?}", result.progress);
        ensure!(result.values.first().is_some_and(|(_, value)| value.value().0 == expected.0), "wrong value");
    }
    let note = "a uint256 from 13 responses, 4 of them signed but wrong: signatures, ML-KEM, AES-GCM and robust decoding, \
                one thread";
    Ok(Figure::new("client.reconstruct.uint256.n13.rust", median(milliseconds), "ms", note))
}

/// Committee, domain, request and key pair of a case.
fn question(case: &Value) -> Result<(Parties, DecryptionDomain, UserRequest, KeyPair)> {
    let (parties, domain, request) = (&case["parties"], &case["domain"], &case["request"]);
    let permit = &request["permit"];
    let pairs = list(&request["pairs"])?;
    let pair = |pair: &Value| Ok(HandleContract { handle: read(&pair["handle"])?, contract: read(&pair["contract"])? });
    let seed: Bytes = read(&case["seed"])?;
    ensure!(case["kem"] == "ML-KEM-768", "another KEM");
    Ok((
        Parties {
            context_id: read(&parties["contextId"])?,
            signers: read(&parties["signers"])?,
            t: read(&parties["t"])?,
        },
        DecryptionDomain {
            chain_id: number(&domain["chainId"])?,
            verifying_contract: read(&domain["verifyingContract"])?,
        },
        UserRequest {
            host_chain_id: number(&request["hostChainId"])?,
            permit: Permit {
                user: read(&permit["user"])?,
                delegator: read(&permit["delegator"])?,
                public_key: read(&permit["publicKey"])?,
                contracts: read(&permit["contracts"])?,
                start: number(&permit["start"])?,
                days: read(&permit["days"])?,
                extra_data: read(&permit["extraData"])?,
            },
            signature: read(&request["signature"])?,
            pairs: pairs.iter().map(pair).collect::<Result<_>>()?,
        },
        KeyPair::from_seed(Kem::MlKem768, seed.as_ref().try_into()?),
    ))
}

fn response(json: &Value) -> Result<UserResponse> {
    Ok(UserResponse {
        share: read(&json["share"])?,
        signature: read(&json["signature"])?,
        extra_data: read(&json["extraData"])?,
    })
}

fn read<T: DeserializeOwned>(json: &Value) -> Result<T> {
    serde_json::from_value(json.clone()).with_context(|| json.to_string())
}

fn number(json: &Value) -> Result<u64> {
    Ok(json.as_str().context("no number")?.parse()?)
}

fn list(json: &Value) -> Result<&Vec<Value>> {
    json.as_array().context("no list")
}
