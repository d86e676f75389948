//! Handles, request ids, extra data, proofs and cleartexts.

use super::{address, bytes, case, check, handle, key, word};
use crate::{
    FheType, U256, cleartexts,
    eip712::sign_digest,
    extra_data::ExtraData,
    handle::check_request_handles,
    proof::{DecryptionProof, InputProof},
    request::{Request, request_id},
};
use alloy_primitives::{B256, FixedBytes};
use serde_json::{Value, json};

const CHAIN: u64 = 31337;

#[test]
fn handle_golden() {
    let with = |position: usize, value: u8| {
        let mut raw = handle("changed", 0xff, CHAIN, FheType::Uint64);
        raw.0[position] = value;
        raw
    };
    let one = |fhe_type| vec![handle("one", 0xff, CHAIN, fhe_type)];
    let many = |count: usize, fhe_type| -> Vec<B256> {
        (0..count).map(|i| handle(&format!("many {i}"), 0xff, CHAIN, fhe_type)).collect()
    };
    let mut lists: Vec<(String, Vec<B256>)> = FheType::ALL.iter().map(|ty| (format!("one {ty}"), one(*ty))).collect();
    lists.extend([
        ("an input, index 3".to_owned(), vec![handle("input", 3, CHAIN, FheType::Uint8)]),
        ("several types in order".to_owned(), FheType::ALL.iter().flat_map(|ty| one(*ty)).collect()),
        ("the same handle twice".to_owned(), [one(FheType::Bool), one(FheType::Bool)].concat()),
        ("2048 bits in uint256".to_owned(), many(8, FheType::Uint256)),
        ("2048 bits in booleans".to_owned(), many(1024, FheType::Bool)),
        ("one boolean too many".to_owned(), many(1025, FheType::Bool)),
        ("2048 bits and one boolean more".to_owned(), [many(8, FheType::Uint256), one(FheType::Bool)].concat()),
        ("empty list".to_owned(), vec![]),
        ("version 1".to_owned(), vec![with(31, 1)]),
        ("uint4 is not supported".to_owned(), vec![with(30, 1)]),
        ("uint512 is not supported".to_owned(), vec![with(30, 9)]),
        ("last known type is not supported".to_owned(), vec![with(30, 83)]),
        ("first unknown type".to_owned(), vec![with(30, 84)]),
        ("type 255".to_owned(), vec![with(30, 255)]),
        ("another chain".to_owned(), vec![handle("foreign", 0xff, CHAIN + 1, FheType::Bool)]),
        ("another chain in the highest byte".to_owned(), vec![with(22, 1)]),
        ("second handle foreign".to_owned(), vec![one(FheType::Bool)[0], handle("foreign", 0, 1, FheType::Bool)]),
        ("version before type before chain".to_owned(), vec![B256::repeat_byte(0xff)]),
        (
            "type before chain".to_owned(),
            vec![{
                let mut raw = handle("foreign", 0xff, CHAIN + 1, FheType::Bool);
                raw.0[30] = 84;
                raw
            }],
        ),
    ]);
    let cases = lists.into_iter().map(|(name, list)| {
        let outcome = check_request_handles(&list, CHAIN).map(|parsed| {
            let types: Vec<u8> = parsed.iter().map(|h| h.fhe_type().to_u8()).collect();
            let indexes: Vec<u8> = parsed.iter().map(|h| h.index()).collect();
            let bits: u32 = parsed.iter().map(|h| h.fhe_type().bits()).sum();
            json!({ "types": types, "indexes": indexes, "bits": bits })
        });
        case(&name, json!({ "chainId": CHAIN, "handles": list }), outcome, |error| error.label())
    });
    check("handle", cases.collect());
}

#[test]
fn request_id_golden() {
    let plain = Request {
        requester: address(1),
        nonce: 0,
        handles: vec![handle("a", 0xff, CHAIN, FheType::Uint64)],
        selector: FixedBytes([0xde, 0xad, 0xbe, 0xef]),
        gasLimit: 200_000,
        finality: 0xfffe,
        deadline: 1_800_000_000,
        contextId: word("context"),
    };
    let gateway = address(2);
    let requests = [
        ("one handle", CHAIN, gateway, plain.clone()),
        ("another chain", 1, gateway, plain.clone()),
        ("another gateway", CHAIN, address(3), plain.clone()),
        ("next nonce", CHAIN, gateway, Request { nonce: 1, ..plain.clone() }),
        ("no callback", CHAIN, gateway, Request { selector: FixedBytes::ZERO, gasLimit: 0, ..plain.clone() }),
        ("two handles", CHAIN, gateway, Request { handles: vec![word("x"), word("y")], ..plain.clone() }),
        ("two handles swapped", CHAIN, gateway, Request { handles: vec![word("y"), word("x")], ..plain.clone() }),
        (
            "largest values",
            u64::MAX,
            gateway,
            Request { nonce: u64::MAX, gasLimit: u32::MAX, finality: u16::MAX, deadline: u64::MAX, ..plain.clone() },
        ),
        ("no handles", CHAIN, gateway, Request { handles: vec![], ..plain }),
    ];
    let cases = requests.iter().map(|(name, chain_id, gateway, r)| {
        // Numbers as decimal strings: the largest don't fit a JSON number of every reader.
        let request = json!({
            "requester": r.requester, "nonce": r.nonce.to_string(), "handles": r.handles, "selector": r.selector,
            "gasLimit": r.gasLimit.to_string(), "finality": r.finality.to_string(), "deadline": r.deadline.to_string(),
            "contextId": r.contextId,
        });
        let id = request_id(*chain_id, *gateway, r);
        let input = json!({ "chainId": chain_id.to_string(), "gateway": gateway, "request": request });
        case(name, input, Ok::<_, ()>(json!(id)), |()| "")
    });
    check("request_id", cases.collect());
}

#[test]
fn extra_data_golden() {
    let (context, epoch, request_id) = (word("context"), word("epoch"), word("request"));
    let v1 = ExtraData::V1 { context }.encode();
    let v2 = ExtraData::V2 { context, epoch }.encode();
    let v3 = ExtraData::V3 { context, epoch, request_id }.encode();
    let relabelled = |version: u8, data: &[u8]| [&[version], &data[1..]].concat();
    let data: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("0x00", vec![0]),
        ("v1", v1.to_vec()),
        ("v2", v2.to_vec()),
        ("v3", v3.to_vec()),
        ("0x0000", vec![0, 0]),
        ("0x00 with a context", relabelled(0, &v1)),
        ("v1 alone", vec![1]),
        ("v1 one byte short", v1[..32].to_vec()),
        ("v1 one byte long", [&v1[..], &[0]].concat()),
        ("v1 as long as v2", relabelled(1, &v2)),
        ("v2 as long as v1", relabelled(2, &v1)),
        ("v2 as long as v3", relabelled(2, &v3)),
        ("v3 one byte short", v3[..96].to_vec()),
        ("v3 one byte long", [&v3[..], &[0]].concat()),
        ("v4", relabelled(4, &v3)),
        ("v255", vec![255]),
    ];
    let cases = data.iter().map(|(name, data)| {
        let outcome = ExtraData::parse(data).map(|parsed| {
            let version = match parsed {
                ExtraData::Current => 0,
                ExtraData::V1 { .. } => 1,
                ExtraData::V2 { .. } => 2,
                ExtraData::V3 { .. } => 3,
            };
            json!({
                "version": version,
                "contextId": parsed.context().unwrap_or_default(),
                "epochId": parsed.epoch().unwrap_or_default(),
                "requestId": parsed.request_id().unwrap_or_default(),
                "signed": parsed.encode(),
            })
        });
        case(name, json!({ "bytes": bytes(data) }), outcome, |error| error.label())
    });
    check("extra_data", cases.collect());
}

#[test]
fn proof_golden() {
    let signatures: Vec<_> = (1..=3).map(|number| sign_digest(&key(number), word("proof"))).collect();
    let extra_data = ExtraData::V1 { context: word("context") }.encode();
    let proof = |count: usize, extra_data: &[u8]| {
        let signatures = signatures[..count].to_vec();
        DecryptionProof { signatures, extra_data: extra_data.to_vec().into() }.encode().expect("valid").to_vec()
    };
    let three = proof(3, &extra_data);
    let full = DecryptionProof { signatures: vec![signatures[0]; 255], extra_data: Default::default() };
    let decryption = vec![
        ("three signatures, v1", three.clone()),
        ("one signature, empty extra data", proof(1, &[])),
        ("one signature, 0x00", proof(1, &[0])),
        ("255 signatures", full.encode().expect("valid").to_vec()),
        ("empty", vec![]),
        ("no signatures", vec![0]),
        ("no signatures, v1", [&[0][..], &extra_data].concat()),
        ("signature cut short", proof(1, &[])[..65].to_vec()),
        ("one more announced than there are", [&[2], &proof(1, &[])[1..]].concat()),
        ("one byte after v1", [&three[..], &[0]].concat()),
        ("v1 cut short", three[..three.len() - 1].to_vec()),
        ("unknown extra data", proof(1, &[]).into_iter().chain([9]).collect()),
    ];
    let mut cases: Vec<Value> = decryption
        .iter()
        .map(|(name, data)| {
            let outcome = DecryptionProof::parse(data).map(|proof| {
                assert_eq!(proof.encode().expect("a parsed proof encodes"), data[..]);
                let signatures: Vec<Value> = proof.signatures.iter().map(bytes).collect();
                json!({ "signatures": signatures, "extraData": proof.extra_data })
            });
            case(name, json!({ "kind": "decryption", "bytes": bytes(data) }), outcome, |error| error.label())
        })
        .collect();

    let handles: Vec<B256> = (0..2).map(|i| handle(&format!("input {i}"), i, CHAIN, FheType::Bool)).collect();
    let input = InputProof { handles, signatures: signatures[..2].to_vec(), extra_data: vec![0].into() };
    let two = input.encode().expect("valid").to_vec();
    let with = |extra_data: &[u8]| [&two[..two.len() - 1], extra_data].concat();
    let (context, epoch) = (word("context"), word("epoch"));
    let v2 = ExtraData::V2 { context, epoch }.encode();
    let v3 = ExtraData::V3 { context, epoch, request_id: word("request") }.encode();
    let inputs = [
        ("two handles, two signatures", two.clone()),
        ("without extra data", two[..two.len() - 1].to_vec()),
        ("empty", vec![]),
        ("one byte", vec![1]),
        ("no handles", [&[0, 2], &two[66..]].concat()),
        ("no signatures", [&[2, 0], &two[2..66]].concat()),
        ("handles cut short", two[..65].to_vec()),
        ("signatures cut short", two[..two.len() - 2].to_vec()),
        ("v1", with(&extra_data)),
        ("v2", with(&v2)),
        ("v3", with(&v3)),
        ("one byte after v1", [&with(&extra_data)[..], &[0]].concat()),
        ("v1 cut short", with(&extra_data[..32])),
        ("two zero bytes", with(&[0, 0])),
        ("unknown extra data", with(&[9])),
    ];
    cases.extend(inputs.iter().map(|(name, data)| {
        let outcome = InputProof::parse(data).map(|proof| {
            assert_eq!(proof.encode().expect("a parsed proof encodes"), data[..]);
            let signatures: Vec<Value> = proof.signatures.iter().map(bytes).collect();
            json!({ "handles": proof.handles, "signatures": signatures, "extraData": proof.extra_data })
        });
        case(name, json!({ "kind": "input", "bytes": bytes(data) }), outcome, |error| error.label())
    }));
    check("proof", cases);
}

#[test]
fn cleartexts_golden() {
    let largest = |ty: FheType| U256::MAX >> (256 - ty.value_bits() as usize);
    let mut lists: Vec<(String, Vec<(FheType, U256)>)> = vec![
        ("true and false".to_owned(), vec![(FheType::Bool, U256::ONE), (FheType::Bool, U256::ZERO)]),
        ("every type, largest value".to_owned(), FheType::ALL.map(|ty| (ty, largest(ty))).to_vec()),
        ("every type, zero".to_owned(), FheType::ALL.map(|ty| (ty, U256::ZERO)).to_vec()),
    ];
    for ty in FheType::ALL.into_iter().filter(|ty| *ty != FheType::Uint256) {
        lists.push((format!("{ty} one too large"), vec![(FheType::Bool, U256::ZERO), (ty, largest(ty) + U256::ONE)]));
    }
    let mut cases: Vec<Value> = lists
        .iter()
        .map(|(name, values)| {
            let types: Vec<u8> = values.iter().map(|(ty, _)| ty.to_u8()).collect();
            let words: Vec<B256> = values.iter().map(|(_, value)| B256::from(value.to_be_bytes())).collect();
            let outcome = cleartexts::encode(values).map(bytes);
            case(name, json!({ "types": types, "values": words }), outcome, |error| error.label())
        })
        .collect();
    let types = [FheType::Bool, FheType::Uint64];
    let type_bytes = types.map(FheType::to_u8);
    for (name, data) in [
        ("one word missing", vec![0; 32]),
        ("one byte missing", vec![0; 63]),
        ("one byte more", vec![0; 65]),
        ("nothing", vec![]),
        ("boolean out of range", [[0xff; 32], [0; 32]].concat()),
    ] {
        let outcome = cleartexts::decode(&data, &types).map(|_| Value::Null);
        cases.push(case(name, json!({ "types": type_bytes, "bytes": bytes(&data) }), outcome, |error| error.label()));
    }
    check("cleartexts", cases);
}
