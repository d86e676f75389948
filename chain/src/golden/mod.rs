//! The golden files in `tests/golden`, which the Solidity tests read too. `KMS_UPDATE_GOLDEN=1` writes them anew; without
//! it they must be what the code says.

mod computed;
mod formats;
mod ids;
mod statements;

use crate::{FheType, handle::Handle};
use alloy_primitives::{B256, Bytes, keccak256};
use k256::ecdsa::SigningKey;
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

fn check(name: &str, cases: Vec<Value>) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(&cases).expect("golden cases are JSON") + "\n";
    if std::env::var_os("KMS_UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().expect("the path has a folder")).expect("create the golden folder");
        fs::write(&path, &text).expect("write the golden file");
    }
    let stored: Value = serde_json::from_str(&fs::read_to_string(&path).expect("read the golden file")).expect("JSON");
    let stored = stored.as_array().expect("a golden file is a list");
    for (stored, case) in stored.iter().zip(&cases) {
        assert_eq!(stored, case, "{name}.json: case {}", case["name"]);
    }
    assert_eq!(stored.len(), cases.len(), "{name}.json: number of cases");
}

/// A case with `expect`, or with `error`.
fn case<E>(name: &str, input: Value, outcome: Result<Value, E>, label: impl Fn(&E) -> &'static str) -> Value {
    let mut case = json!({ "name": name });
    let fields = case.as_object_mut().expect("an object");
    fields.extend(input.as_object().expect("inputs are an object").clone());
    match outcome {
        Ok(expect) => fields.insert("expect".to_owned(), expect),
        Err(error) => fields.insert("error".to_owned(), label(&error).into()),
    };
    case
}

fn bytes(bytes: impl AsRef<[u8]>) -> Value {
    json!(Bytes::copy_from_slice(bytes.as_ref()))
}

fn word(seed: &str) -> B256 {
    keccak256(seed)
}

fn key(number: u8) -> SigningKey {
    let mut secret = [0u8; 32];
    secret[31] = number;
    SigningKey::from_slice(&secret).expect("small numbers are valid keys")
}

fn address(number: u8) -> alloy_primitives::Address {
    crate::eip712::signer_address(&key(number))
}

fn handle(seed: &str, index: u8, chain_id: u64, fhe_type: FheType) -> B256 {
    let mut hash = [0u8; 21];
    hash.copy_from_slice(&word(seed)[..21]);
    Handle::new(hash, index, chain_id, fhe_type).raw()
}
