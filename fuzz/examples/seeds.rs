//! Writes the seeds of the corpus: valid encodings, made here or taken from the golden files, and the golden files' refused
//! ones. What a run of the fuzzer has found stands beside them under the name of its hash.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --example seeds`

use std::fs;
use std::path::{Path, PathBuf};

use alloy_primitives::{B256, hex};
use alloy_sol_types::SolValue;
use kms_algebra::{GrVec, PartyId, PartySet};
use kms_chain::FheType;
use kms_chain::eip712::sign_digest;
use kms_chain::manifest::Manifest;
use kms_chain::request::Request;
use kms_encoding::prss_keys::{PrssRun, sets};
use kms_encoding::{ParamsId, PrssKey, PrssKeys, SecretKeyKind, ShareFile, ShareVector};
use kms_fuzz::committee::{COMMITTEE, KEYS};
use kms_fuzz::peer;
use kms_mpc::Committee;
use kms_mpc::broadcast::wire::{self as broadcast, Question, Votes, encode_bits, encode_hashes, encode_votes};
use kms_mpc::vss::wire::{self as vss, Table, encode_reveal, encode_table, encode_vector};
use kms_proto::{node, peer as api};
use prost::Message;
use serde_json::Value;

/// Larger seeds slow the fuzzer down and show it nothing new.
const LARGEST: usize = 2048;

fn main() {
    share_files();
    share_messages();
    opened_blocks();
    proofs();
    requests();
    manifests();
    node_api();
    peer_frames();
    broadcasts();
    sharings();
    prss_keys();
    user_envelopes();
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let folder = root().join("corpus").join(target);
    fs::create_dir_all(&folder).expect("create the corpus");
    fs::write(folder.join(format!("seed-{name}")), bytes).expect("write a seed");
}

fn golden(file: &str) -> Vec<Value> {
    let path = root().join("../tests/golden").join(file);
    serde_json::from_slice(&fs::read(path).expect("read a golden file")).expect("golden files are lists")
}

fn name(case: &Value) -> &str {
    case["name"].as_str().expect("every case has a name")
}

fn unhex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("hex")).expect("hex")
}

fn share_files() {
    let params = ParamsId::InsecureTest;
    let vector = |kind| {
        let words = vec![0x0102_0304; 4 * params.dimension(kind)];
        ShareVector::new(kind, 4, words).expect("whole elements")
    };
    for (name, kinds) in [
        ("one key", &[SecretKeyKind::Squashing][..]),
        ("two keys", &[SecretKeyKind::Squashing, SecretKeyKind::SquashedCompression]),
    ] {
        let file = ShareFile {
            params,
            context_id: [1; 32],
            key_id: [2; 32],
            epoch_id: [3; 32],
            n: 4,
            t: 1,
            index: 2,
            degree: 4,
            vectors: kinds.iter().map(|kind| vector(*kind)).collect(),
        };
        let bytes = file.to_bytes().expect("a whole file");
        write("share_file", name, &bytes);
        write("share_file", &format!("{name} header"), &bytes[..160]);
    }
}

fn share_messages() {
    for (elements, degree) in [(0u8, 4u8), (1, 4), (2, 5), (9, 4)] {
        let mut seed = vec![elements << 1 | u8::from(degree == 5)];
        seed.extend_from_slice(b"KMSP\x01");
        seed.extend_from_slice(&[degree, 16, 0, 0, 0, 0, elements]);
        seed.extend((0..16 * usize::from(elements) * usize::from(degree)).map(|i| i as u8));
        write("share_message", &format!("{elements} of degree {degree}"), &seed);
    }
}

fn opened_blocks() {
    for (at, ty) in FheType::ALL.into_iter().enumerate() {
        for (name, word) in
            [("exact", 1u128 << 123), ("noisy", 1 << 123 | 1 << 60), ("padded", 17 << 123), ("mid", 3 << 122)]
        {
            let mut seed = vec![at as u8, 4, 1];
            (0..ty.squashed_blocks()).for_each(|_| seed.extend_from_slice(&word.to_be_bytes()));
            write("opened_blocks", &format!("{ty} {name}"), &seed);
        }
    }
}

fn proofs() {
    for file in ["proof.json", "extra_data.json"] {
        for case in golden(file) {
            let bytes = unhex(&case["bytes"]);
            if bytes.len() <= LARGEST {
                write("proofs", &format!("{} {}", file.trim_end_matches(".json"), name(&case)), &bytes);
            }
        }
    }
    let digest = B256::repeat_byte(9);
    write("proofs", "signature", &[digest.as_slice(), &sign_digest(&KEYS[0], digest)].concat());
}

fn requests() {
    for case in golden("request_id.json") {
        let r = &case["request"];
        let number = |field: &str| r[field].as_str().expect("a number in a string").parse::<u64>().expect("a number");
        let handles = r["handles"].as_array().expect("a list");
        let request = Request {
            requester: r["requester"].as_str().expect("an address").parse().expect("an address"),
            nonce: number("nonce"),
            handles: handles.iter().map(|h| B256::from_slice(&unhex(h))).collect(),
            selector: unhex(&r["selector"])[..].try_into().expect("a selector"),
            gasLimit: number("gasLimit") as u32,
            finality: number("finality") as u16,
            deadline: number("deadline"),
            contextId: B256::from_slice(&unhex(&r["contextId"])),
        };
        let bytes = request.abi_encode();
        if bytes.len() <= LARGEST {
            write("request", &format!("event {}", name(&case)), &bytes);
        }
    }
    for case in golden("handle.json") {
        let list: Vec<u8> = case["handles"].as_array().expect("a list").iter().flat_map(unhex).collect();
        if list.len() <= LARGEST {
            write("request", &format!("handles {}", name(&case)), &list);
        }
    }
}

fn manifests() {
    let cases = golden("manifest.json");
    for case in cases.iter().filter(|case| ["four parties", "version 2", "t too large"].contains(&name(case))) {
        let json = serde_json::to_vec(&case["manifest"]).expect("JSON");
        write("manifest", name(case), &json);
    }
    let first = serde_json::to_vec(&cases[0]["manifest"]).expect("JSON");
    let manifest = Manifest::parse(&first).expect("the first case is good");
    let chain = &cases[0]["manifest"]["chains"][0];
    let deployment = serde_json::json!({
        "chainId": 31337, "deploymentBlock": 1, "contracts": chain["contracts"], "contextId": COMMITTEE.context_id,
        "decryptionDomain": cases[0]["manifest"]["decryptionDomain"],
    });
    write("manifest", "deployment", deployment.to_string().as_bytes());
    let party = &manifest.committee.parties[0];
    let card = serde_json::json!({
        "version": 1, "name": "party-1", "signer": party.signer, "tlsRoot": party.tls_root,
        "peerUrl": manifest.parties[0].peer_url, "clientUrl": manifest.parties[0].client_url,
    });
    write("manifest", "card", card.to_string().as_bytes());
    write("manifest", "name", manifest.committee.party_name(1).to_string().as_bytes());
}

fn node_api() {
    use node::decrypt_request::Source;
    use node::decrypt_response::Outcome;
    let id = vec![7; 32];
    let request = node::OnChainRequest {
        requester: vec![1; 20],
        nonce: 1,
        handles: vec![id.clone(), id.clone()],
        selector: vec![2; 4],
        gas_limit: 100_000,
        finality: 0xfffe,
        deadline: 1_800_000_000,
        context_id: id.clone(),
    };
    let public = node::PublicRequest { handles: vec![id.clone()], extra_data: vec![0] };
    for (name, source) in [("request", Source::Request(request)), ("public", Source::Public(public))] {
        let call = node::DecryptRequest { chain_id: 31337, source: Some(source), epoch_id: id.clone(), wait_ms: 5000 };
        message(0, name, &call);
    }
    let answer = node::Answer {
        request_id: id.clone(),
        cleartexts: vec![0; 64],
        signature: vec![27; 65],
        extra_data: vec![3; 97],
        signer: vec![5; 20],
    };
    let refused = node::Refused { reason: 1, detail: "no".to_owned() };
    for (name, outcome) in [
        ("answer", Outcome::Answer(answer.clone())),
        ("not yet", Outcome::NotYet(node::NotYet { reason: 1, detail: "wait".to_owned(), retry_after_ms: 100 })),
        ("refused", Outcome::Refused(refused.clone())),
        ("epoch", Outcome::EpochNotLive(node::EpochNotLive { live: vec![id.clone()] })),
    ] {
        message(1, name, &node::DecryptResponse { outcome: Some(outcome) });
    }
    let step = [&[1][..], &id].concat();
    let frame = node::SignedFrame {
        session: id.clone(),
        round: 1,
        payload_hash: id.clone(),
        signature: vec![28; 65],
        path: vec![step; 2],
    };
    let evidence = node::Evidence { party: 2, detail: "wrong".to_owned(), proved: true, frames: vec![frame; 2] };
    let receipt = node::Receipt {
        request_id: id.clone(),
        context_id: id.clone(),
        epoch_id: id.clone(),
        key_id: id.clone(),
        arrived: id.clone(),
        late: id.clone(),
        wrong: id.clone(),
        mpc_micros: 1234,
        signature: vec![27; 65],
        evidence: vec![evidence],
    };
    let status = node::GetStatusResponse {
        stage: 4,
        since_ms: 1,
        waiting_for: "nothing".to_owned(),
        answer: Some(answer),
        receipt: Some(receipt.clone()),
        refused: Some(refused),
    };
    message(2, "status", &status);
    let key = node::KeyInfo {
        key_id: id.clone(),
        epoch_id: id.clone(),
        context_id: id.clone(),
        params: "production".to_owned(),
        state: "active".to_owned(),
    };
    message(3, "keys", &node::GetKeysResponse { keys: vec![key; 2] });
    let peer =
        node::PeerInfo { index: 2, connected: true, last_seen_ms: 5, wrong: 0, late: 1, problem: "late".to_owned() };
    let health = node::HealthResponse {
        phase: "ready".to_owned(),
        index: 1,
        version: "0.1.0".to_owned(),
        committee_hash: id.clone(),
        peers: vec![peer; 3],
        usable_keys: vec![id.clone()],
        waiting_for: "PRSS set-up, attempt 1: waiting for parties 2, 3".to_owned(),
        chains: vec![node::ChainInfo { chain_id: 31337, ready: false, problem: "no answer".to_owned() }],
    };
    message(4, "health", &health);
    message(5, "receipt", &receipt);
    message(6, "question", &node::GetStatusRequest { request_id: id });
}

fn message(which: u8, name: &str, message: &impl Message) {
    write("node_api", name, &[&[which][..], &message.encode_to_vec()].concat());
}

fn peer_frames() {
    use api::frame::Body;
    let id = vec![7; 32];
    let share = peer::sign(&KEYS[1], &[1; 32], 2, &[7; 32], 1, b"a message".to_vec());
    for (name, body) in [
        (
            "hello",
            Body::Hello(api::Hello { version: 1, index: 2, committee_hash: id.clone(), manifest_hash: id.clone() }),
        ),
        ("share", Body::Share(share.clone())),
        ("impossible round", Body::Share(api::Share { round: 257, ..share })),
        ("open", Body::Open(api::Open { sessions: vec![id.clone(); 3] })),
        ("resend", Body::Resend(api::Resend { sessions: vec![id.clone()] })),
        ("dropped", Body::Dropped(api::Dropped { session: id, reason: 1 })),
        ("ping", Body::Ping(api::Ping {})),
    ] {
        write("peer_frame", name, &api::Frame { body: Some(body) }.encode_to_vec());
    }
}

/// The committee that `kms_fuzz::targets` chooses for a zero.
fn four() -> Committee {
    Committee::new(4, 1).expect("it is possible")
}

fn broadcasts() {
    let hashes = vec![Some([1; 32]), None, Some([3; 32]), None];
    let question = Question { sender: PartyId::new(2).expect("a party"), hash: [5; 32], askees: PartySet::all(4) };
    let votes = Votes { hashes: hashes.clone(), questions: vec![question; 2] };
    let bits: Vec<bool> = (0..9).map(|i| i % 2 == 0).collect();
    for (name, head, message) in [
        ("echo", [0, 0], encode_hashes(broadcast::Kind::Echo, four(), &hashes)),
        ("hashes of a vote", [4, 0], encode_hashes(broadcast::Kind::Vote, four(), &hashes)),
        ("vote", [8, 0], encode_votes(four(), &votes)),
        ("bits", [12, 3 << 3 | 1], encode_bits(four(), 1, &bits)),
    ] {
        write("broadcast", name, &[&head[..], &message].concat());
    }
}

fn sharings() {
    let row = GrVec::<u64, 4>::from_words((0..32).collect()).expect("whole elements");
    let share = GrVec::<u128, 5>::from_words((0..10).collect()).expect("whole elements");
    let table = Table { digests: vec![Some([1; 32]), None, Some([2; 32]), None], pairs: Some(vec![[9; 32]; 6]) };
    let short = Table { digests: vec![None; 4], pairs: None };
    for (name, head, message) in [
        ("row", [0, 7], encode_vector(vss::Kind::Row, &row)),
        ("share", [0x34, 1], encode_vector(vss::Kind::Share, &share)),
        ("table", [8, 0], encode_table::<u64, 4>(&four(), &table)),
        ("table without a dealing", [8, 0], encode_table::<u64, 4>(&four(), &short)),
        ("reveal", [0x8c, 7], encode_reveal(&[&row, &row])),
        ("nothing revealed", [0x0c, 7], encode_reveal::<u64, 4>(&[])),
    ] {
        write("vss", name, &[&head[..], &message].concat());
    }
}

fn prss_keys() {
    let run = PrssRun { context_id: [1; 32], epoch_id: [2; 32], attempt: 1 };
    let key = |set: u32| PrssKey { set, key: [set as u8; 16] };
    let own = sets(4, 1).filter(|set| set & 2 != 0).map(key).collect();
    let mut keys = PrssKeys { run, n: 4, t: 1, index: 2, commitments: Vec::new(), keys: own };
    write("prss_keys", "not agreed", &keys.to_bytes().expect("whole"));
    keys.commitments = sets(4, 1).map(|set| run.commitment(&key(set))).collect();
    write("prss_keys", "agreed", &keys.to_bytes().expect("whole"));
    for at in 0..4 {
        write("prss_keys", &format!("built {at}"), &[6, 2, 1, 1, at]);
    }
}

fn user_envelopes() {
    for case in golden("user_decryption.json") {
        if case["kind"] == "envelope" {
            write("user_envelope", name(&case), &unhex(&case["expect"]["envelope"]));
            // Degree and types stand before the payload, as the target reads them.
            let handles = case["request"]["pairs"].as_array().expect("pairs");
            let mut bytes = vec![u8::from(case["degree"] == 5), handles.len() as u8];
            for pair in handles {
                let byte = unhex(&pair["handle"])[30];
                let place = FheType::ALL.iter().position(|ty| ty.to_u8() == byte).expect("a type");
                bytes.push(place as u8);
            }
            bytes.extend(unhex(&case["expect"]["payload"]));
            write("user_envelope", &format!("payload {}", name(&case)), &bytes);
        } else if case["kind"] == "public key" && case["expect"].is_string() {
            write("user_envelope", name(&case), &unhex(&case["publicKey"]));
        }
    }
}
