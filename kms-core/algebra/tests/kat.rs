//! Known-answer vectors under `kat/`, for other implementations. `KMS_UPDATE_KAT=1` rewrites them.

use std::path::Path;

use kms_algebra::{Gr, PartyId, Word, shamir};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};

fn check(file: &str, vectors: Vec<Value>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kat").join(file);
    let vectors = Value::from(vectors);
    if std::env::var_os("KMS_UPDATE_KAT").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&vectors).unwrap() + "\n").unwrap();
    }
    let stored: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(stored, vectors, "{file}");
}

/// Coefficients in ascending order of powers, as hexadecimal integers.
fn hex<W: Word, const D: usize>(element: &Gr<W, D>) -> Value {
    element.0.iter().map(|c| format!("{:#x}", c.widen())).collect()
}

fn ring<W: Word, const D: usize>(rng: &mut ChaCha20Rng) -> Vec<Value> {
    let mut pairs: Vec<(Gr<W, D>, Gr<W, D>)> = (0..3).map(|_| (Gr::random(rng), Gr::random(rng))).collect();
    pairs.push((Gr([W::ZERO.minus(W::ONE); D]), Gr::point(PartyId::new(13).unwrap())));
    pairs.push((Gr::constant(W::ONE.plus(W::ONE)), Gr::random(rng)));
    pairs
        .iter()
        .map(|(a, b)| {
            json!({
                "k": W::BITS, "degree": D, "a": hex(a), "b": hex(b),
                "sum": hex(&(*a + *b)), "product": hex(&(*a * *b)),
                "inverse_of_a": a.inverse().map(|inverse| hex(&inverse)),
            })
        })
        .collect()
}

#[test]
fn ring_arithmetic() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let vectors =
        [ring::<u64, 4>(&mut rng), ring::<u128, 4>(&mut rng), ring::<u64, 5>(&mut rng), ring::<u128, 5>(&mut rng)];
    check("ring.json", vectors.concat());
}

fn lagrange<const D: usize>(parties: &[u8], at: u8) -> Value {
    let ids: Vec<PartyId> = parties.iter().map(|i| PartyId::new(*i).unwrap()).collect();
    let point = PartyId::new(at).map_or(Gr::ZERO, Gr::point);
    let coefficients = shamir::lagrange::<u128, D>(&ids, point);
    json!({
        "k": 128, "degree": D, "parties": parties, "at": at,
        "coefficients": coefficients.iter().map(hex).collect::<Vec<_>>(),
    })
}

#[test]
fn lagrange_coefficients() {
    check(
        "lagrange.json",
        vec![
            lagrange::<4>(&[1, 2], 0),
            lagrange::<4>(&[2, 4], 3),
            lagrange::<4>(&[1, 3, 7], 0),
            lagrange::<4>(&[1, 2, 3, 4, 5], 0),
            lagrange::<4>(&[2, 5, 8, 11, 13], 1),
            lagrange::<5>(&[1, 16, 31], 0),
            lagrange::<5>(&[3, 17, 20, 30], 31),
        ],
    );
}
