//! Ids that no contract computes, handles of inputs, and what the proof of an input is bound to.

use super::{address, bytes, case, check, handle, word};
use crate::{FheType, extra_data::ExtraData, ids, request::pull_request_id};
use alloy_primitives::{Address, B256, U256};
use kms_encoding::InputMetadata;
use serde_json::{Value, json};

const CHAIN: u64 = 31337;

fn add(cases: &mut Vec<Value>, kind: &str, name: &str, mut input: Value, expect: Value) {
    input["kind"] = kind.into();
    let stands_already = cases.iter().any(|case| case["kind"] == kind && case["expect"] == expect);
    assert!(!stands_already, "{kind}, {name}: every input counts");
    cases.push(case(&format!("{kind}: {name}"), input, Ok::<_, ()>(expect), |()| ""));
}

#[test]
fn ids_golden() {
    let cases = &mut Vec::new();

    for (name, digest) in [("a bundle", word("bundle")), ("another bundle", word("other")), ("zero", B256::ZERO)] {
        let id = B256::from(ids::key_id(&digest));
        add(cases, "key", name, json!({ "bundleDigest": digest }), json!(id));
    }

    let (context, key) = (word("context"), word("key"));
    for (name, context, key, counter) in [
        ("dealt", context, key, 1),
        ("second sharing", context, key, 2),
        ("last counter", context, key, u64::MAX),
        ("another context", word("other"), key, 1),
        ("another key", context, word("other"), 1),
        ("context and key swapped", key, context, 1),
    ] {
        let id = B256::from(ids::epoch_id(&context, &key, counter));
        let input = json!({ "contextId": context, "keyId": key, "counter": counter.to_string() });
        add(cases, "epoch", name, input, json!(id));
    }

    let (list, acl) = (word("list"), address(1));
    for (name, list, acl, chain_id, index, fhe_type) in [
        ("first of a list", list, acl, CHAIN, 0, FheType::Bool),
        ("last of the longest list", list, acl, CHAIN, 254, FheType::Uint64),
        ("another list", word("other"), acl, CHAIN, 0, FheType::Bool),
        ("another ACL", list, address(2), CHAIN, 0, FheType::Bool),
        ("another chain", list, acl, 1, 0, FheType::Bool),
        ("largest chain id", list, acl, u64::MAX, 0, FheType::Bool),
        ("another type", list, acl, CHAIN, 0, FheType::Uint256),
    ] {
        let handle = ids::input_handle(list, acl, chain_id, index, fhe_type);
        let input = json!({
            "ciphertextHash": list, "acl": acl, "chainId": chain_id.to_string(), "index": index, "type": fhe_type.to_u8(),
        });
        add(cases, "input", name, input, json!(handle.raw()));
    }

    let (contract, user) = (address(3), address(4));
    for (name, chain_id, acl, contract, user) in [
        ("a user's input", CHAIN, acl, contract, user),
        ("another chain", u64::MAX, acl, contract, user),
        ("another ACL", CHAIN, address(2), contract, user),
        ("contract and user swapped", CHAIN, acl, user, contract),
        ("nobody's", 0, Address::ZERO, Address::ZERO, Address::ZERO),
    ] {
        let metadata = InputMetadata {
            chain_id: U256::from(chain_id).to_be_bytes(),
            acl: acl.into(),
            contract: contract.into(),
            user: user.into(),
        };
        let input = json!({ "chainId": chain_id.to_string(), "acl": acl, "contract": contract, "user": user });
        add(cases, "metadata", name, input, bytes(metadata.to_bytes()));
    }

    let two = [handle("a", 0xff, CHAIN, FheType::Uint64), handle("b", 0, CHAIN, FheType::Bool)];
    let v1 = ExtraData::V1 { context }.encode();
    for (name, chain_id, handles, extra_data) in [
        ("v1", CHAIN, &two[..], &v1[..]),
        ("empty extra data", CHAIN, &two, &[]),
        ("0x00", CHAIN, &two, &[0]),
        ("another chain", u64::MAX, &two, &v1),
        ("one handle", CHAIN, &two[..1], &v1),
        ("handles swapped", CHAIN, &[two[1], two[0]], &v1),
    ] {
        let id = pull_request_id(chain_id, handles, extra_data);
        let input = json!({ "chainId": chain_id.to_string(), "handles": handles, "extraData": bytes(extra_data) });
        add(cases, "pull", name, input, json!(id));
    }

    check("ids", std::mem::take(cases));
}
