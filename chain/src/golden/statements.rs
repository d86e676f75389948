//! EIP-712 digests, signatures, contexts and the manifest.

use super::{address, bytes, case, check, handle, key, word};
use crate::{
    FheType, U256,
    context::Context,
    eip712::{self, CiphertextCommitment, DecryptionReceipt, Eip712Domain, KeyDigest},
    manifest::{Card, Contracts, DecryptionDomain, HostChain, Manifest},
};
use alloy_primitives::{Address, B256, Bytes};
use serde_json::{Value, json};

const CHAIN: u64 = 31337;

fn committee() -> Context {
    let signers = (1..=4).map(address).collect();
    Context { previous: B256::ZERO, signers, t: 1, threshold: 3, salt: word("salt") }
}

fn domain_json(domain: &Eip712Domain) -> Value {
    let mut json = json!({ "name": domain.name, "version": domain.version });
    if let (Some(chain_id), Some(contract)) = (domain.chain_id, domain.verifying_contract) {
        json["chainId"] = json!(chain_id.to::<u64>());
        json["verifyingContract"] = json!(contract);
    }
    json
}

#[test]
fn eip712_golden() {
    let contract = address(9);
    let handles = [handle("a", 0xff, CHAIN, FheType::Uint64), handle("b", 0, CHAIN, FheType::Bool)];
    let cleartexts = [U256::from(42).to_be_bytes::<32>(), U256::ONE.to_be_bytes::<32>()].concat();
    let (context, epoch, key_id) = (word("context"), word("epoch"), word("key"));
    let v1 = crate::extra_data::ExtraData::V1 { context }.encode();
    let v2 = crate::extra_data::ExtraData::V2 { context, epoch }.encode();
    let decryption = eip712::decryption_domain(CHAIN, contract);
    let mut cases = Vec::new();
    let mut add = |name: &str, statement: &str, domain: &Eip712Domain, message: Value, digest: B256| {
        let input = json!({ "statement": statement, "domain": domain_json(domain), "message": message });
        let expect = json!({ "domainSeparator": domain.separator(), "digest": digest });
        cases.push(case(name, input, Ok::<_, ()>(expect), |()| ""));
    };
    for (name, extra_data) in [("v1", v1.clone()), ("empty", Bytes::new()), ("0x00", vec![0].into())] {
        let digest = eip712::public_decrypt_digest(&decryption, &handles, &cleartexts, &extra_data).expect("parses");
        let message = json!({ "ctHandles": handles, "decryptedResult": bytes(&cleartexts), "extraData": extra_data });
        add(
            &format!("public decryption, extra data {name}"),
            "PublicDecryptVerification",
            &decryption,
            message,
            digest,
        );
    }
    let public_key = [7u8; 40];
    let digest = eip712::user_decrypt_response_digest(&decryption, &public_key, &handles, &[1, 2, 3], &v1);
    let message = json!({
        "publicKey": bytes(public_key), "ctHandles": handles, "userDecryptedShare": "0x010203", "extraData": v1,
    });
    add("user decryption", "UserDecryptResponseVerification", &decryption, message, digest.expect("parses"));
    let permit = eip712::UserDecryptRequestVerification {
        publicKey: public_key.to_vec().into(),
        contractAddresses: vec![address(5), address(6)],
        startTimestamp: U256::from(1_700_000_000),
        durationDays: U256::from(10),
        extraData: v1.clone(),
    };
    let message = json!({
        "publicKey": permit.publicKey, "contractAddresses": permit.contractAddresses, "startTimestamp": 1_700_000_000,
        "durationDays": 10, "extraData": v1,
    });
    let digest = eip712::permit_digest(&decryption, &permit);
    add("permit", "UserDecryptRequestVerification", &decryption, message, digest);
    let delegated = eip712::DelegatedUserDecryptRequestVerification {
        publicKey: permit.publicKey.clone(),
        contractAddresses: permit.contractAddresses.clone(),
        delegatorAddress: address(7),
        startTimestamp: permit.startTimestamp,
        durationDays: permit.durationDays,
        extraData: v1.clone(),
    };
    let message = json!({
        "publicKey": permit.publicKey, "contractAddresses": permit.contractAddresses, "delegatorAddress": address(7),
        "startTimestamp": 1_700_000_000, "durationDays": 10, "extraData": v1,
    });
    let digest = eip712::delegated_permit_digest(&decryption, &delegated);
    add("delegated permit", "DelegatedUserDecryptRequestVerification", &decryption, message, digest);

    let input = eip712::input_domain(CHAIN, contract);
    let digest = eip712::input_digest(&input, &handles, address(5), address(6), CHAIN, &[0]);
    let message = json!({
        "ctHandles": handles, "userAddress": address(5), "contractAddress": address(6), "contractChainId": CHAIN,
        "extraData": "0x00",
    });
    add("verified inputs", "CiphertextVerification", &input, message, digest);

    let registry = eip712::registry_domain(CHAIN, contract);
    let items: Vec<_> = handles
        .iter()
        .map(|handle| CiphertextCommitment { handle: *handle, keyId: key_id, digest: word("object") })
        .collect();
    for count in 0..=items.len() {
        let list: Vec<Value> = items[..count]
            .iter()
            .map(|item| json!({ "handle": item.handle, "keyId": item.keyId, "digest": item.digest }))
            .collect();
        let digest = eip712::commitment_digest(&registry, &items[..count]);
        add(&format!("{count} commitments"), "CommitmentBatch", &registry, json!({ "items": list }), digest);
    }

    let key_management = eip712::key_management_domain(CHAIN, contract);
    let digests: Vec<_> = (0..4u8)
        .map(|key_type| KeyDigest { keyType: key_type, digest: word(&format!("part {key_type}")).to_vec().into() })
        .collect();
    let list: Vec<Value> = digests.iter().map(|d| json!({ "keyType": d.keyType, "digest": d.digest })).collect();
    let digest = eip712::keygen_digest(&key_management, U256::from(3), key_id, &digests, &v2);
    let message = json!({ "prepKeygenId": 3, "keyId": key_id, "keyDigests": list, "extraData": v2 });
    add("key registration", "KeygenVerification", &key_management, message, digest);

    let receipt = DecryptionReceipt {
        requestId: word("request"),
        contextId: context,
        epochId: epoch,
        keyId: key_id,
        arrived: U256::from(0b0111),
        late: U256::from(0b1000),
        wrong: U256::ZERO,
        mpcMicros: 12_345,
    };
    let message = json!({
        "requestId": receipt.requestId, "contextId": context, "epochId": epoch, "keyId": key_id, "arrived": 7, "late": 8,
        "wrong": 0, "mpcMicros": 12_345,
    });
    let digest = eip712::receipt_digest(&decryption, &receipt);
    add("receipt", "DecryptionReceipt", &decryption, message, digest);

    let successor = Context { previous: context, ..committee() };
    let message = json!({
        "previous": context, "signers": successor.signers, "t": 1, "threshold": 3, "salt": successor.salt,
    });
    add("successor", "ContextSuccession", &eip712::context_domain(), message, eip712::succession_digest(&successor));
    let digest = eip712::destruction_digest(context, word("old"));
    let message = json!({ "contextId": context, "destroyed": word("old") });
    add("destruction", "ContextDestruction", &eip712::context_domain(), message, digest);

    let digest = word("signed");
    let good = eip712::sign_digest(&key(1), digest);
    let high_s = {
        let order: U256 = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141".parse().expect("hex");
        let mut twin = good;
        let s = order - U256::from_be_slice(&good[32..64]);
        twin[32..64].copy_from_slice(&s.to_be_bytes::<32>());
        twin[64] = 55 - good[64];
        twin
    };
    let with_v = |v: u8| {
        let mut changed = good;
        changed[64] = v;
        changed
    };
    let zero = {
        let mut zero = [0u8; 65];
        zero[64] = 27;
        zero
    };
    for (name, signature) in [
        ("good signature", good),
        ("another recovery id", with_v(55 - good[64])),
        ("high s", high_s),
        ("v 0", with_v(0)),
        ("v 1", with_v(1)),
        ("v 29", with_v(29)),
        ("zero", zero),
    ] {
        let outcome = eip712::recover(digest, &signature).map(|signer| json!({ "signer": signer }));
        let input = json!({ "statement": "signature", "digest": digest, "signature": bytes(signature) });
        cases.push(case(name, input, outcome, |error| error.label()));
    }
    check("eip712", cases);
}

#[test]
fn context_golden() {
    let base = committee();
    let of = |n: u8| -> Vec<Address> { (1..=n).map(address).collect() };
    let contexts = [
        ("four parties", base.clone()),
        ("with a predecessor", Context { previous: word("previous"), ..base.clone() }),
        ("another order of signers", Context { signers: (1..=4).rev().map(address).collect(), ..base.clone() }),
        ("another salt", Context { salt: word("pepper"), ..base.clone() }),
        ("lowest threshold", Context { threshold: 2, ..base.clone() }),
        ("one party", Context { signers: of(1), t: 0, threshold: 1, ..base.clone() }),
        ("thirteen parties", Context { signers: of(13), t: 4, threshold: 9, ..base.clone() }),
        ("255 parties", Context { signers: of(255), t: 84, threshold: 169, ..base.clone() }),
        ("no party", Context { signers: vec![], t: 0, threshold: 0, ..base.clone() }),
        ("t of a larger committee", Context { signers: of(3), t: 1, threshold: 2, ..base.clone() }),
        ("t beyond any committee", Context { t: 85, ..base.clone() }),
        ("threshold t", Context { threshold: 1, ..base.clone() }),
        ("threshold n", Context { threshold: 4, ..base.clone() }),
        ("zero signer", Context { signers: [of(3), vec![Address::ZERO]].concat(), ..base.clone() }),
        ("duplicate signer", Context { signers: [of(3), of(1)].concat(), ..base.clone() }),
    ];
    let mut cases: Vec<Value> = Vec::new();
    for (name, context) in contexts {
        let input = json!({
            "previous": context.previous, "signers": context.signers, "t": context.t, "threshold": context.threshold,
            "salt": context.salt,
        });
        cases.push(case(name, input, context.check().map(|()| json!(context.id())), |error| error.label()));
    }
    check("context", cases);
}

#[test]
fn manifest_golden() {
    let roots = [
        include_str!("../../testdata/root-1.pem"),
        include_str!("../../testdata/root-2.pem"),
        include_str!("../../testdata/root-3.pem"),
        include_str!("../../testdata/root-4.pem"),
    ];
    let cards: Vec<Card> = (1u8..)
        .zip(roots)
        .map(|(index, root)| Card {
            version: 1,
            name: format!("operator {index}"),
            signer: address(index),
            tls_root: root.to_owned(),
            peer_url: format!("https://127.0.0.1:{}", 7000 + u16::from(index)),
            client_url: format!("https://party-{index}.example.org:443"),
        })
        .collect();
    for card in &cards {
        let json = serde_json::to_vec(card).expect("cards are JSON");
        assert_eq!(&Card::parse(&json).expect("a good card"), card);
    }
    let domain = DecryptionDomain { chain_id: CHAIN, verifying_contract: address(9) };
    let mut good = Manifest::from_cards(&cards, 1, 3, word("salt"), domain).expect("a good committee");
    good.chains.push(HostChain {
        chain_id: CHAIN,
        contracts: Contracts {
            access_control: address(11),
            fhe_executor: address(12),
            input_verifier: address(13),
            ciphertext_registry: address(14),
            kms_verifier: address(15),
            decryption_gateway: address(16),
            guard_lens: address(17),
            key_management: address(18),
        },
        deployment_block: 1,
        finality_floor: 0xfffe,
    });
    type Change = Box<dyn Fn(&mut Value)>;
    let set = |pointer: &'static str, value: Value| -> Change {
        Box::new(move |manifest| *manifest.pointer_mut(pointer).expect("the pointer exists") = value.clone())
    };
    let changes: Vec<(&str, Change)> = vec![
        ("four parties", Box::new(|_| ())),
        (
            "other URLs and chains, same committee",
            Box::new(|manifest| {
                manifest["chains"] = json!([]);
                manifest["parties"][0]["peerUrl"] = json!("https://[::1]:7001");
            }),
        ),
        ("version 2", set("/version", json!(2))),
        ("unknown field", Box::new(|manifest| manifest["extra"] = json!(1))),
        ("t = 0", set("/committee/t", json!(0))),
        ("t too large", set("/committee/t", json!(2))),
        ("the largest t", set("/committee/t", json!(u32::MAX))),
        ("another threshold", set("/committee/threshold", json!(2))),
        ("another signer", set("/committee/parties/0/signer", json!(address(99)))),
        ("duplicate signer", set("/committee/parties/0/signer", json!(address(2)))),
        ("n and parties differ", set("/committee/n", json!(5))),
        ("parties out of order", set("/committee/parties/0/index", json!(2))),
        ("URLs out of order", set("/parties/3/index", json!(1))),
        ("TLS root is no certificate", set("/committee/parties/2/tlsRoot", json!("root"))),
        ("shared TLS root", set("/committee/parties/1/tlsRoot", json!(roots[0]))),
        ("two certificates in a root", set("/committee/parties/1/tlsRoot", json!(roots[1].repeat(2)))),
        ("plain http", set("/parties/0/clientUrl", json!("http://127.0.0.1:1"))),
        ("URL without port", set("/parties/0/clientUrl", json!("https://127.0.0.1"))),
        ("URL with a path", set("/parties/0/clientUrl", json!("https://127.0.0.1:1/x"))),
        ("unknown finality floor", set("/chains/0/finalityFloor", json!(1001))),
        (
            "a chain twice",
            Box::new(|manifest| {
                let chain = manifest["chains"][0].clone();
                manifest["chains"].as_array_mut().expect("a list").push(chain);
            }),
        ),
    ];
    let mut cases: Vec<Value> = Vec::new();
    for (name, change) in changes {
        let mut manifest = serde_json::to_value(&good).expect("manifests are JSON");
        change(&mut manifest);
        let outcome = Manifest::parse(manifest.to_string().as_bytes()).map(|parsed| {
            let name = parsed.committee.party_name(1);
            assert_eq!(name.to_string().parse(), Ok(name));
            json!({
                "contextId": parsed.committee.context_id,
                "committeeHash": bytes(parsed.committee_hash()),
                "firstParty": name.to_string(),
            })
        });
        cases.push(case(name, json!({ "manifest": manifest }), outcome, |error| error.label()));
    }
    check("manifest", cases);
}

#[test]
fn certificate_names_are_parsed_strictly() {
    let name = crate::manifest::PartyName { index: 3, context: word("context") };
    let text = name.to_string();
    assert_eq!(text.parse(), Ok(name));
    assert!(text.split('.').all(|label| label.len() < 64));
    for bad in [
        text.to_uppercase(),
        text.replace("party-3", "party-03"),
        text.replace("party-3", "party-+3"),
        text.replace("party-3", "party-0"),
        text.replace("party-3", "party-256"),
        format!("{text}."),
        format!("x{text}"),
        text[..text.len() - 1].to_owned(),
        text.replacen('.', "", 2),
        String::new(),
    ] {
        assert!(bad.parse::<crate::manifest::PartyName>().is_err(), "{bad}");
    }
}
