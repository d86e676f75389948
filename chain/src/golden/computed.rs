//! Handles of computed results, one case per operation of the executor and per part of where and when it ran.

use super::{address, case, check, handle, word};
use crate::{
    FheType,
    computed::{Origin, computed_handle, operation_hash},
};
use alloy_primitives::{B256, U256, hex, keccak256};
use serde_json::json;

const CHAIN: u64 = 31337;

fn selector(signature: &str) -> [u8; 4] {
    let hash = keccak256(signature);
    [hash[0], hash[1], hash[2], hash[3]]
}

fn number(value: u64) -> B256 {
    U256::from(value).into()
}

#[test]
fn computed_golden() {
    let of = |seed, fhe_type| handle(seed, 0xff, CHAIN, fhe_type);
    let (a, b) = (of("a", FheType::Uint64), of("b", FheType::Uint64));
    let (plain, encrypted) = (B256::right_padding_from(&[1]), B256::ZERO);
    let uint = FheType::Uint64;
    let operations = [
        ("fheAdd(bytes32,bytes32,bytes1)", vec![a, b, encrypted], uint),
        ("fheAdd(bytes32,bytes32,bytes1)", vec![a, number(7), plain], uint),
        ("fheSub(bytes32,bytes32,bytes1)", vec![a, b, encrypted], uint),
        ("fheEq(bytes32,bytes32,bytes1)", vec![a, b, encrypted], FheType::Bool),
        ("fheGe(bytes32,bytes32,bytes1)", vec![a, b, encrypted], FheType::Bool),
        ("fheIfThenElse(bytes32,bytes32,bytes32)", vec![of("c", FheType::Bool), a, b], uint),
        ("cast(bytes32,uint8)", vec![a, number(FheType::Uint8.to_u8().into())], FheType::Uint8),
        ("trivialEncrypt(uint256,uint8)", vec![number(300), number(FheType::Uint16.to_u8().into())], FheType::Uint16),
    ];
    let usual = Origin {
        chain_id: CHAIN,
        executor: address(5),
        acl: address(6),
        parent: word("parent"),
        timestamp: 1_700_000_000,
    };
    let elsewhere = [
        Origin { chain_id: 1, ..usual },
        Origin { executor: address(7), ..usual },
        Origin { acl: address(8), ..usual },
        Origin { parent: word("other"), ..usual },
        Origin { timestamp: 1_700_000_001, ..usual },
    ];
    let runs = operations.iter().map(|operation| (usual, operation));
    let runs = runs.chain(elsewhere.into_iter().map(|origin| (origin, &operations[7])));
    let mut cases = Vec::new();
    for (origin, (signature, arguments, fhe_type)) in runs {
        let operation = operation_hash(selector(signature), arguments);
        let expect = json!(computed_handle(&origin, operation, *fhe_type).raw());
        assert!(
            cases.iter().all(|case: &serde_json::Value| case["expect"] != expect),
            "{signature}: everything counts"
        );
        let input = json!({
            "chainId": origin.chain_id.to_string(), "executor": origin.executor, "acl": origin.acl,
            "parent": origin.parent, "timestamp": origin.timestamp,
            "call": hex::encode_prefixed([&selector(signature)[..], &arguments.concat()].concat()),
        });
        cases.push(case(signature, input, Ok::<_, ()>(expect), |()| ""));
    }
    check("computed", cases);
}
