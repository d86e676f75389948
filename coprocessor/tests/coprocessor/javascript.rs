//! Lists that the TypeScript client encrypts with the npm package `node-tfhe`, whose tfhe is older than ours.

use std::{io::Write, path::Path, process::Stdio};

use alloy_primitives::{Address, B256, U256};
use kms_coprocessor::event::{Event, Kind, Operation};

use crate::fixture::{ACL, Bench, CHAIN, Recipient, handles, key};

/// Encrypts and posts `values` by the program that users have for it.
async fn encrypt(url: String, to: Recipient, values: serde_json::Value) -> Vec<B256> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/typescript");
    assert!(folder.join("dist/src/index.js").exists(), "npm --prefix clients/typescript run build");
    let task = serde_json::json!({
        "coprocessors": [url],
        "hostChainId": to.chain_id.to_string(),
        "accessControl": to.acl,
        "keyId": B256::from(key().public.info().key_id()),
        "contract": to.contract,
        "user": to.user,
        "values": values,
    });
    let output = tokio::task::spawn_blocking(move || {
        let mut node = std::process::Command::new("node")
            .arg("script/encrypt.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        node.stdin.take().unwrap().write_all(task.to_string().as_bytes()).unwrap();
        node.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    handles(&serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_every_type_from_javascript_holds_its_values() {
    let bench = Bench::start().await;
    let to = Recipient::default();
    assert_eq!((to.chain_id, to.acl), (CHAIN, ACL));
    let account = Address::repeat_byte(0x9e);
    let wide = U256::MAX - U256::from(5);
    let half = U256::from(u128::MAX);
    // The test parameters have room for 512 bits: two lists hold one value of every type.
    let first = serde_json::json!([
        ["bool", true],
        ["uint8", "250"],
        ["uint16", "65535"],
        ["uint32", "4294967290"],
        ["uint64", "18446744073709551610"],
        ["uint128", half.to_string()],
        ["address", account],
    ]);
    let second = serde_json::json!([["uint256", wide.to_string()], ["bool", false]]);
    let (mut results, rest) = tokio::join!(encrypt(bench.url(""), to, first), encrypt(bench.url(""), to, second));
    results.extend(rest);
    let expected = [
        U256::from(1),
        U256::from(250),
        U256::from(65_535),
        U256::from(4_294_967_290_u64),
        U256::from(18_446_744_073_709_551_610_u64),
        half,
        account.into_word().into(),
        wide,
        U256::ZERO,
    ];
    assert_eq!(results.len(), expected.len());
    let mut events: Vec<Event> = results
        .iter()
        .map(|result| Operation { result: *result, kind: Kind::Input, operands: Vec::new(), plain: None })
        .map(Event::Operation)
        .collect();
    events.push(Event::Wanted(results.clone()));
    bench.say(1, events).await;
    for (handle, value) in results.into_iter().zip(expected) {
        assert_eq!(bench.value(handle).await, value, "{handle}");
    }
}
