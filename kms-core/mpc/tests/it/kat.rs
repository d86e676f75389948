//! Known-answer vectors under `kat/`, for other implementations. `KMS_UPDATE_KAT=1` rewrites them; `kat/verify.py` is
//! such an implementation.

use std::path::Path;

use kms_algebra::{Gr, Word};
use kms_encoding::{FheType, Plaintext, SecretKeyKind, Word as Value256};
use kms_mpc::prss::Prss;
use kms_mpc::{Committee, JobId, Part, PartyId, SessionId, insecure_dealt};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};

use crate::setting::Setting;

fn check(file: &str, vectors: Vec<Value>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kat").join(file);
    let vectors = Value::from(vectors);
    if std::env::var_os("KMS_UPDATE_KAT").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&vectors).unwrap() + "\n").unwrap();
    }
    let stored: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(stored, vectors, "{file}");
}

fn words(words: &[u128]) -> Value {
    words.iter().map(|w| format!("{w:#x}")).collect()
}

fn element<W: Word, const D: usize>(element: Gr<W, D>) -> Value {
    words(&element.0.map(Word::widen))
}

#[test]
fn sessions_and_jobs() {
    let [context, epoch, key, digest] = [0x11, 0x22, 0x33, 0x44].map(|byte| [byte; 32]);
    let session = |format, version| SessionId::decryption(&context, &epoch, &key, format, version, &digest);
    let vector = |format, version| {
        json!({
            "context": hex::encode(context), "epoch": hex::encode(epoch), "key": hex::encode(key),
            "format": format, "decoder_version": version, "digest": hex::encode(digest),
            "session": session(format, version).to_string(),
        })
    };
    let parts = [
        Part { session: session(1, 1), first: 0, blocks: 16 },
        Part { session: session(2, 1), first: 0x0102_0304, blocks: 64 },
    ];
    let job: Vec<Value> = parts
        .iter()
        .map(|p| json!({ "session": p.session.to_string(), "first": p.first, "blocks": p.blocks }))
        .collect();
    let job = json!({ "parts": job, "job": JobId::new(&parts).to_string() });
    check("session.json", vec![vector(1, 1), vector(2, 1), vector(1, 2), job]);
}

fn prss<const D: usize>(n: usize, t: usize, own: u8) -> Value {
    let committee = Committee::new(n, t).unwrap();
    let mut dealt = insecure_dealt::prss_keys(&committee, &mut ChaCha20Rng::seed_from_u64(7));
    let keys = dealt.swap_remove(usize::from(own) - 1);
    let prss = Prss::<D>::new(&committee, PartyId::new(own).unwrap(), &keys).unwrap();
    let session = SessionId::from_bytes([0xA5; 32]);
    let first = 1000;
    let mut mask = [Gr::ZERO];
    prss.add_masks(&session, first, &mut mask);
    let at = u64::from(first);
    json!({
        "n": n, "t": t, "degree": D, "party": own, "session": session.to_string(), "index": first,
        "keys": keys.iter().map(|k| json!({ "set": k.set, "key": hex::encode(k.key) })).collect::<Vec<_>>(),
        "uniform_64": element(prss.uniform::<u64>(&session, at, 1).get(0)),
        "uniform_128": element(prss.uniform::<u128>(&session, at, 1).get(0)),
        "uniform_z_64": element(prss.uniform_z::<u64>(&session, at, 1).get(0)),
        "uniform_z_128": element(prss.uniform_z::<u128>(&session, at, 1).get(0)),
        "zero_64": element(prss.zero::<u64>(&session, at, 1).get(0)),
        "zero_128": element(prss.zero::<u128>(&session, at, 1).get(0)),
        "mask": element(mask[0]),
        "triple_64": element(prss.triple::<u64>(&session, at, 1).get(0)),
        "triple_128": element(prss.triple::<u128>(&session, at, 1).get(0)),
    })
}

#[test]
fn pseudorandom_sharings() {
    // Index 1000 in a stream of 40-byte values starts inside a block.
    let vectors =
        vec![prss::<4>(4, 1, 1), prss::<4>(4, 1, 4), prss::<4>(7, 2, 5), prss::<5>(16, 1, 16), prss::<4>(10, 3, 8)];
    check("prss.json", vectors);
}

#[test]
fn decryptions() {
    let (n, t) = (4, 1);
    let mut setting = Setting::new(n, t, 21);
    let value = Plaintext::truncated(FheType::Uint16, Value256([0xC3; 32]));
    let flag = Plaintext::truncated(FheType::Bool, Value256([1; 32]));
    let items = [setting.encrypt(SecretKeyKind::Squashing, value), setting.encrypt(SecretKeyKind::Squashing, flag)];
    let dealt = insecure_dealt::prss_keys(&setting.dealt.committee, &mut ChaCha20Rng::seed_from_u64(21));
    let parties: Vec<Value> = setting
        .dealt
        .committee
        .parties()
        .map(|p| {
            let shares = &setting.dealt.shares[p.slot()];
            let own = setting.own(p.slot(), &items);
            json!({
                "party": p.index(),
                "prss": dealt[p.slot()].iter().map(|k| json!({ "set": k.set, "key": hex::encode(k.key) })).collect::<Vec<_>>(),
                "share": (0..4).map(|c| words(shares[0].coordinate(c))).collect::<Vec<_>>(),
                "message": hex::encode(own.message()),
            })
        })
        .collect();
    let ciphertexts: Vec<Value> = items
        .iter()
        .map(|item| {
            json!({
                "session": item.session.to_string(), "first": item.blocks.first(),
                "masks": item.blocks.iter().map(|(a, _)| words(a)).collect::<Vec<_>>(),
                "bodies": words(item.blocks.bodies()),
            })
        })
        .collect();
    let messages: Vec<Vec<u8>> = [value, flag].iter().map(|v| v.block_messages().collect()).collect();
    check(
        "decryption.json",
        vec![json!({
            "n": n, "t": t, "degree": 4, "ciphertexts": ciphertexts, "parties": parties, "block_messages": messages,
        })],
    );
}
