//! `tests/golden/user_decryption.json`: known answers for every client. `KMS_UPDATE_GOLDEN=1` writes them anew; without it
//! they must be what the code says. All randomness is given, so the bytes are the same every time.

use super::testing::{CHAIN, START, Scene, domain, handle, random_word, word};
use super::*;
use kms_encoding::{Word, user::PublicKey};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

fn check(cases: &[Value]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/user_decryption.json");
    let text = serde_json::to_string_pretty(cases).expect("golden cases are JSON") + "\n";
    if std::env::var_os("KMS_UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).expect("write the golden file");
    }
    let stored: Value = serde_json::from_str(&fs::read_to_string(&path).expect("read the golden file")).expect("JSON");
    let stored = stored.as_array().expect("a golden file is a list");
    for (stored, case) in stored.iter().zip(cases) {
        assert_eq!(stored, case, "case {}", case["name"]);
    }
    assert_eq!(stored.len(), cases.len(), "number of cases");
}

fn bytes(bytes: impl AsRef<[u8]>) -> Value {
    json!(Bytes::copy_from_slice(bytes.as_ref()))
}

fn kem_name(kem: Kem) -> &'static str {
    match kem {
        Kem::MlKem768 => "ML-KEM-768",
        Kem::MlKem512 => "ML-KEM-512",
    }
}

fn case(cases: &mut Vec<Value>, kind: &str, name: &str, input: Value, outcome: Result<Value, &str>) {
    let mut case = json!({ "kind": kind, "name": format!("{kind}: {name}") });
    let fields = case.as_object_mut().expect("an object");
    fields.extend(input.as_object().expect("inputs are an object").clone());
    match outcome {
        Ok(expect) => fields.insert("expect".to_owned(), expect),
        Err(error) => fields.insert("error".to_owned(), error.into()),
    };
    cases.push(case);
}

fn domain_json() -> Value {
    json!({ "chainId": domain().chain_id.to_string(), "verifyingContract": domain().verifying_contract })
}

fn permit_json(permit: &Permit) -> Value {
    json!({
        "user": permit.user, "delegator": permit.delegator, "publicKey": permit.public_key, "contracts": permit.contracts,
        "start": permit.start.to_string(), "days": permit.days, "extraData": permit.extra_data,
    })
}

fn request_json(request: &UserRequest) -> Value {
    let pairs: Vec<Value> =
        request.pairs.iter().map(|pair| json!({ "handle": pair.handle, "contract": pair.contract })).collect();
    json!({
        "hostChainId": request.host_chain_id.to_string(), "permit": permit_json(&request.permit),
        "signature": request.signature, "pairs": pairs,
    })
}

fn keys(cases: &mut Vec<Value>) {
    for (name, kem, fill) in [("768", Kem::MlKem768, 1), ("another 768", Kem::MlKem768, 2), ("512", Kem::MlKem512, 1)] {
        let pair = KeyPair::from_seed(kem, &[fill; 64]);
        let input = json!({ "kem": kem_name(kem), "seed": bytes(pair.seed()) });
        case(cases, "key", name, input, Ok(bytes(pair.public_key().as_bytes())));
    }
    let good = KeyPair::from_seed(Kem::MlKem512, &[1; 64]).public_key().as_bytes().to_vec();
    let with = |at: usize, new: [u8; 2]| {
        let mut key = good.clone();
        key[at..at + 2].copy_from_slice(&new);
        key
    };
    for (name, key) in [
        ("as it should be", good.clone()),
        ("empty", vec![]),
        ("a byte short", good[1..].to_vec()),
        ("first coefficient q", with(0, [0x01, good[1] & 0xf0 | 0x0d])),
        ("first coefficient 4095", with(0, [0xff, good[1] | 0x0f])),
        ("last coefficient 4095", with(766, [good[766] | 0xf0, 0xff])),
    ] {
        let outcome = PublicKey::parse(&key).map(|key| json!(kem_name(key.kem())));
        case(
            cases,
            "public key",
            name,
            json!({ "publicKey": bytes(&key) }),
            outcome.as_ref().cloned().map_err(|e| e.label()),
        );
    }
}

fn permits(cases: &mut Vec<Value>) {
    let scene = Scene::new(4, 1, Kem::MlKem512, &[(FheType::Uint64, Word::ZERO), (FheType::Bool, Word::ZERO)], 1);
    let base = scene.request;
    type Change = fn(&mut UserRequest);
    let changes: [(&str, Change); 31] = [
        ("plain", |_| ()),
        ("delegated", |r| r.permit.delegator = Some(Address::repeat_byte(0x55))),
        ("one handle", |r| r.pairs.truncate(1)),
        ("handles swapped", |r| r.pairs.swap(0, 1)),
        ("two contracts", |r| r.pairs[1].contract = Address::repeat_byte(0x44)),
        ("extra data 0x00", |r| r.permit.extra_data = vec![0].into()),
        ("no extra data", |r| r.permit.extra_data = Bytes::new()),
        ("ten contracts, 365 days", |r| {
            r.permit.contracts.extend((1..=8).map(Address::repeat_byte));
            r.permit.days = 365;
        }),
        ("a smart account's signature", |r| r.signature = vec![1; 4096].into()),
        ("no public key", |r| r.permit.public_key = vec![0; 32].into()),
        ("no contract", |r| r.permit.contracts.clear()),
        ("eleven contracts", |r| r.permit.contracts.extend((1..=9).map(Address::repeat_byte))),
        ("user among the contracts", |r| r.permit.contracts.push(r.permit.user)),
        ("delegator among the contracts", |r| r.permit.delegator = Some(r.permit.contracts[1])),
        ("its own delegate", |r| r.permit.delegator = Some(r.permit.user)),
        ("zero days", |r| r.permit.days = 0),
        ("366 days", |r| r.permit.days = 366),
        ("a start beyond time", |r| r.permit.start = u64::MAX),
        ("extra data of a request", |r| r.permit.extra_data = [vec![3], vec![0; 96]].concat().into()),
        ("unknown extra data", |r| r.permit.extra_data = vec![4].into()),
        ("short extra data", |r| r.permit.extra_data = vec![1, 2].into()),
        ("no handle", |r| r.pairs.clear()),
        ("a handle of another chain", |r| r.host_chain_id = 1),
        ("a handle of an unsupported type", |r| r.pairs[0].handle[30] = 1),
        ("a handle of an unknown type", |r| r.pairs[0].handle[30] = 84),
        ("a handle of another version", |r| r.pairs[0].handle[31] = 1),
        ("nine uint256", |r| {
            let contract = r.pairs[0].contract;
            let of = |seed| HandleContract { handle: handle(seed, FheType::Uint256), contract };
            r.pairs = (1..=9).map(of).collect();
        }),
        ("a handle twice", |r| r.pairs[1] = r.pairs[0]),
        ("a contract that the permit does not name", |r| r.pairs[1].contract = Address::repeat_byte(9)),
        ("no signature", |r| r.signature = Bytes::new()),
        ("too long a signature", |r| r.signature = vec![1; 4097].into()),
    ];
    let contract = domain().verifying_contract;
    for (name, change) in changes {
        let mut request = base.clone();
        change(&mut request);
        let input = json!({ "domain": domain_json(), "request": request_json(&request) });
        let expect = json!({
            "permitHash": request.permit.digest(request.host_chain_id, contract), "requestId": request.id(contract),
        });
        let outcome = request.check().map(|_| expect);
        case(cases, "request", name, input, outcome.as_ref().cloned().map_err(|e| e.label()));
    }
    let permit = base.permit;
    let end = START + 10 * 86_400;
    for (name, now) in
        [("first second", START), ("a second before", START - 1), ("last second", end), ("a second after", end + 1)]
    {
        let input = json!({ "start": START.to_string(), "days": 10, "now": now.to_string() });
        let outcome = permit.check_time(now).map(|()| json!("valid"));
        case(cases, "time", name, input, outcome.as_ref().cloned().map_err(|e| e.label()));
    }
}

fn envelopes(cases: &mut Vec<Value>) {
    for (name, n, t, kem, ty) in [
        ("uint64 of 4, ML-KEM-768", 4, 1, Kem::MlKem768, FheType::Uint64),
        ("bool of 4, ML-KEM-512", 4, 1, Kem::MlKem512, FheType::Bool),
        ("uint128 of 16", 16, 3, Kem::MlKem768, FheType::Uint128),
    ] {
        let scene = Scene::new(n, t, kem, &[(ty, Word([0x7b; 32])), (FheType::Uint8, Word::from(200u64))], 11);
        let header = scene.header(2);
        let payload = scene.payload(scene.words[1].clone());
        let m = [0x3c; 32];
        let envelope = scene.seal(&header, &payload, m);
        let words: Vec<String> = scene.words[1].iter().map(ToString::to_string).collect();
        let input = json!({
            "kem": kem_name(kem), "seed": bytes(scene.seed), "m": bytes(m), "degree": scene.degree(), "domain": domain_json(),
            "request": request_json(&scene.request), "party": 2, "contextId": scene.parties.context_id,
            "epochId": scene.epoch, "keyId": word("key"), "digests": scene.digests, "words": words,
        });
        let expect = json!({
            "payload": bytes(payload), "associatedData": bytes(scene.associated_data(&header)), "envelope": bytes(envelope),
        });
        case(cases, "envelope", name, input, Ok(expect));
    }
}

fn added_label(added: &Result<Added, Rejected>) -> String {
    match added {
        Ok(Added::Share(party)) => format!("share {party}"),
        Ok(Added::Repeated(party)) => format!("repeated {party}"),
        Ok(Added::Foreign { party, foreign }) => format!("foreign {party} {}", foreign.label()),
        Ok(Added::Wrong(wrong)) => format!("wrong {} {}", wrong.party, wrong.fault.label()),
        Ok(Added::Ignored(party)) => format!("ignored {party}"),
        Err(rejected) => format!("rejected {}", rejected.label()),
    }
}

fn list(parties: PartySet) -> Vec<u8> {
    parties.iter().map(PartyId::index).collect()
}

fn progress_json(progress: &Progress) -> Value {
    let wrong: Vec<Value> =
        progress.wrong.iter().map(|w| json!({ "party": w.party.index(), "fault": w.fault.label() })).collect();
    let elsewhere: Vec<Value> =
        progress.elsewhere.iter().map(|(p, f)| json!({ "party": p.index(), "kind": f.label() })).collect();
    json!({
        "needed": progress.needed, "shares": list(progress.shares), "wrong": wrong, "elsewhere": elsewhere,
        "missing": list(progress.missing),
    })
}

fn decryption(cases: &mut Vec<Value>, name: &str, scene: &Scene, responses: &[UserResponse]) {
    let mut reader = scene.reader();
    let added: Vec<String> = responses.iter().map(|response| added_label(&reader.add(response))).collect();
    let expect = match reader.reconstruct() {
        Ok(result) => {
            let values: Vec<Value> = result
                .values
                .iter()
                .map(|(handle, value)| {
                    json!({ "handle": handle, "type": value.ty().name(), "value": B256::from(value.value().0) })
                })
                .collect();
            let group =
                json!({ "epoch": result.group.epoch, "key": result.group.key, "digests": result.group.digests });
            json!({
                "values": values, "group": group, "agreeing": list(result.agreeing), "added": added,
                "progress": progress_json(&result.progress),
            })
        }
        Err(ReconstructError::Undecided(progress)) => {
            json!({ "undecided": true, "added": added, "progress": progress_json(&progress) })
        }
        Err(ReconstructError::Refused { handle, reason, progress }) => {
            let reason = match reason {
                kms_encoding::DecodeError::Residual { .. } => "Residual",
                kms_encoding::DecodeError::Padding { .. } => "Padding",
                _ => "Width",
            };
            json!({ "refused": reason, "handle": handle, "added": added, "progress": progress_json(&progress) })
        }
    };
    let responses: Vec<Value> = responses
        .iter()
        .map(|r| json!({ "share": r.share, "signature": r.signature, "extraData": r.extra_data }))
        .collect();
    let parties = json!({
        "contextId": scene.parties.context_id, "signers": scene.parties.signers, "t": scene.parties.t,
    });
    let input = json!({
        "kem": kem_name(scene.kem), "seed": bytes(scene.seed), "domain": domain_json(), "parties": parties,
        "request": request_json(&scene.request), "responses": responses,
    });
    case(cases, "decryption", name, input, Ok(expect));
}

fn decryptions(cases: &mut Vec<Value>) {
    let four = Scene::new(
        4,
        1,
        Kem::MlKem512,
        &[(FheType::Uint64, Word::from(123_456_789_000u64)), (FheType::Bool, Word::from(true))],
        21,
    );
    let good = |parties: &[usize]| -> Vec<UserResponse> { parties.iter().map(|i| four.response(*i)).collect() };
    decryption(cases, "three of four", &four, &good(&[4, 1, 2]));
    decryption(cases, "two of four", &four, &good(&[1, 3]));
    let lied = [four.wrong(2, 5), four.response(1), four.response(3)];
    decryption(cases, "a lie first, then two good ones", &four, &lied);
    decryption(cases, "a lie first, then three good ones", &four, &[&lied[..], &good(&[4])].concat());

    let all = Scene::new(
        7,
        2,
        Kem::MlKem768,
        &[(FheType::Address, Word([0xcd; 32])), (FheType::Uint8, Word::from(7u64))],
        22,
    );
    let mut tampered = all.response(1);
    tampered.share = {
        let mut share = tampered.share.to_vec();
        share[500] ^= 0x80;
        share.into()
    };
    let mut other_permit = all.clone();
    other_permit.request.permit.start += 1;
    other_permit.sign_permit();
    let moved = Scene { epoch: word("next epoch"), ..all.clone() };
    let unsigned = UserResponse { signature: Bytes::new(), ..all.response(1) };
    let other_extra = UserResponse { extra_data: Bytes::new(), ..all.response(1) };
    let conflicting = all.wrong(6, 8);
    let responses = [
        vec![tampered, unsigned, other_extra, all.response(2), all.response(2), moved.response(3)],
        vec![other_permit.response(4), all.response(4), all.response(5), all.response(6), conflicting, all.response(7)],
    ]
    .concat();
    decryption(cases, "all kinds of trouble, one share short", &all, &responses);
    let more = [responses, vec![all.response(3), all.response(1)]].concat();
    decryption(cases, "all kinds of trouble", &all, &more);

    let payload = four.payload(four.words[0].clone());
    let seal = |party: usize, payload: &[u8]| four.seal(&four.header(party), payload, [9; 32]);
    let nonsense = [
        four.signed(1, b"nonsense".to_vec()),
        four.signed(2, seal(1, &payload)),
        four.signed(3, seal(3, &payload[1..])),
        four.with_header(4, |header| header.context_id[0] ^= 1),
    ];
    decryption(cases, "four kinds of nonsense", &four, &nonsense);
    let mut flipped = four.response(2).share.to_vec();
    *flipped.last_mut().expect("bytes") ^= 1;
    let more = [
        four.signed(2, flipped),
        four.signed(1, seal(1, &[b"KMSX".as_slice(), &payload[4..]].concat())),
        four.with_header(3, |header| header.digests.truncate(1)),
        four.signed(4, four.response(4).share[..600].to_vec()),
    ];
    decryption(cases, "four other kinds of nonsense", &four, &more);

    let thirteen =
        Scene::new(13, 4, Kem::MlKem768, &[(FheType::Uint256, Word(std::array::from_fn(|i| i as u8 * 7)))], 23);
    let responses: Vec<_> = (1..=13)
        .rev()
        .map(|i| if [3, 4, 9, 12].contains(&i) { thirteen.wrong(i, i as u64) } else { thirteen.response(i) })
        .collect();
    decryption(cases, "uint256 of thirteen, four lies", &thirteen, &responses);

    let sixteen = Scene::new(16, 3, Kem::MlKem512, &[(FheType::Uint32, Word::from(0xdead_beef_u64))], 24);
    let responses: Vec<_> =
        (1..=10).map(|i| if i % 4 == 0 { sixteen.wrong(i, i as u64) } else { sixteen.response(i) }).collect();
    decryption(cases, "uint32 of sixteen, two lies in ten", &sixteen, &responses);

    let mut rng = ChaCha20Rng::seed_from_u64(25);
    let delta = 1u128 << 123;
    for (name, block) in [
        ("too much noise", delta + (delta >> 1) + (random_word(&mut rng) >> 10)),
        ("padding bit", 17 * delta),
        ("wider than its type", 3 * delta),
    ] {
        let mut scene = Scene::new(4, 1, Kem::MlKem512, &[(FheType::Bool, Word::ZERO)], 26);
        scene.share(&[block], &mut rng);
        decryption(cases, name, &scene, &[scene.response(1), scene.response(2), scene.response(3)]);
    }
}

#[test]
fn user_decryption_golden() {
    let mut cases = Vec::new();
    keys(&mut cases);
    permits(&mut cases);
    envelopes(&mut cases);
    decryptions(&mut cases);
    assert_eq!(CHAIN, 31337);
    check(&cases);
}
