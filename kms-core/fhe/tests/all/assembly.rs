//! Keys made of opened bodies.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use kms_algebra::{Gr, GrVec, PartyId, Word, shamir};
use kms_encoding::key_spec::{KeySpec, Masks, Shape, Width};
use kms_encoding::{FheType, Plaintext};
use kms_fhe::dkg::{AssemblyError, XofMasks, assemble, key_spec};
use kms_fhe::{BinaryOp, Ciphertext, EvalKeys, KeyInfo, Object, PublicKeys, inputs, object};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tfhe::prelude::*;
use tfhe::safe_serialization::safe_serialize;
use tfhe::{CompactCiphertextList, CompressedCiphertextListBuilder, FheUint64};

use crate::by_hand::{Inputs, Key, SEED, keys, to_bytes, truncate};
use crate::fixture::{METADATA, PARAMS, fixture, handle};
use crate::raw::{self, Rows};

const A: u64 = 0xdead_beef_0123_4567;
const B: u64 = 0x1111_2222_3333_4444;

fn key() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(|| Key::new(true))
}

/// What a value opens to: by itself, and in a compressed list of squashed values.
fn open(key: &Key, folder: &Path, eval: &EvalKeys, value: &Ciphertext) -> [Option<u64>; 2] {
    let (key_id, handle) = (KeyInfo::load(folder).unwrap().key_id(), handle(FheType::Uint64, 0));
    let squashed = eval.squash(value).unwrap();
    let single = object::encode_integer(PARAMS, &key_id, &handle, &squashed).unwrap();
    let list = object::encode_list(eval, &key_id, &[(handle, &squashed)]).unwrap();
    [single, list].map(|bytes| {
        let blocks = Object::parse(&bytes, PARAMS, &key_id).unwrap().blocks(&handle).unwrap();
        key.open(FheType::Uint64, &blocks)
    })
}

/// A + B, encrypted and added with tfhe alone: opened as [`open`] does, and after it was in a compressed list of
/// ciphertexts that one can compute on.
fn open_with_tfhe(key: &Key, folder: &Path) -> [Option<u64>; 3] {
    let (public_key, server_key) = raw::keyset(folder).decompress().into_raw_parts();
    let (sum, again) = tfhe::with_server_key_as_context(server_key, || {
        let mut list = CompactCiphertextList::builder(&public_key);
        let expanded = list.push(A).push(B).build().expand().unwrap();
        let value = |at| -> FheUint64 { expanded.get(at).unwrap().unwrap() };
        let sum = value(0) + value(1);
        let list = CompressedCiphertextListBuilder::new().push(sum.clone()).build().unwrap();
        (sum, list.get::<FheUint64>(0).unwrap().unwrap())
    });
    let eval = EvalKeys::load_with_lists(folder).unwrap();
    let ours = |value: &FheUint64| {
        let mut bytes = Vec::new();
        safe_serialize(value, &mut bytes, 1 << 24).unwrap();
        Ciphertext::from_bytes(&bytes, FheType::Uint64, PARAMS).unwrap()
    };
    let [single, list] = open(key, folder, &eval, &ours(&sum));
    [single, list, open(key, folder, &eval, &ours(&again))[0]]
}

#[test]
fn a_key_made_of_bodies_encrypts_computes_squashes_and_compresses() {
    let key = key();
    let (folder, _) = key.write(&key.bodies);
    let folder = folder.path();
    let public = PublicKeys::load(folder).unwrap();
    let eval = EvalKeys::load_with_lists(folder).unwrap();
    assert!(eval.has_compression() && !EvalKeys::load(folder).unwrap().has_compression());
    let plain = [A, B].map(|value| Plaintext::new(FheType::Uint64, value).unwrap());
    let input = inputs::build(&public, &plain, &METADATA).unwrap();
    let values = inputs::verify_and_expand(&public, &eval, &input, &METADATA).unwrap();
    let sum = eval.binary(BinaryOp::Add, &values[0], &values[1]).unwrap();
    assert_eq!(open(key, folder, &eval, &sum), [Some(A + B); 2]);
    assert_eq!(open_with_tfhe(key, folder), [Some(A + B); 3]);
}

/// The highest bit of the last word. (The first would often make no difference: when it is used the accumulator of the
/// bootstrapping is still without a mask.)
fn spoilt(key: &Key, component: usize) -> Vec<Vec<u8>> {
    let mut bodies = key.bodies.clone();
    *bodies[component].last_mut().unwrap() ^= 0x80;
    bodies
}

#[test]
fn one_wrong_word_makes_wrong_results() {
    let key = key();
    for (component, part) in key.spec.components.iter().enumerate() {
        let (folder, _) = key.write(&spoilt(key, component));
        let right = match part.name {
            "compression key" | "decompression key" => [true, true, false],
            "squashed-compression key" => [true, false, true],
            _ => [false; 3],
        };
        assert_eq!(open_with_tfhe(key, folder.path()).map(|sum| sum == Some(A + B)), right, "{}", part.name);
    }
}

/// The same bodies, computed by four parties on shares of secrets, products and noise, and opened by two of them.
fn from_shares<W: Word>(key: &Key, component: usize, masks: &[W]) -> Vec<W> {
    let mut rng = StdRng::seed_from_u64(component as u64);
    let plain = Inputs::<W>::new(&key.spec, component, &key.secrets, &key.noise[component]);
    let (from, to) = keys(&key.spec.components[component].shape);
    // Secrets are shared once, over the wide ring.
    let mut secret = |at: usize| shamir::share_words::<u128, 4>(&key.secrets[at], 4, 1, &mut rng);
    let (from, to) = (secret(from), secret(to));
    let mut narrow = |words: &[W]| shamir::share_words::<W, 4>(words, 4, 1, &mut rng);
    let (products, noise) = (narrow(&plain.products), narrow(&plain.noise));
    let shares: Vec<GrVec<W, 4>> = (0..4)
        .map(|party| {
            let coefficient = |c| {
                let inputs = Inputs {
                    from: truncate(from[party].coefficient(c)),
                    to: truncate(to[party].coefficient(c)),
                    products: products[party].coefficient(c).to_vec(),
                    noise: noise[party].coefficient(c).to_vec(),
                };
                inputs.bodies(&key.spec, component, masks)
            };
            GrVec::from_words((0..4).flat_map(coefficient).collect()).unwrap()
        })
        .collect();
    let parties = [2, 4].map(|index| PartyId::new(index).unwrap());
    let weights = shamir::lagrange::<W, 4>(&parties, Gr::ZERO);
    let open = |i| {
        let value = weights[0] * shares[1].get(i) + weights[1] * shares[3].get(i);
        assert_eq!(value, Gr::constant(value.0[0]));
        value.0[0]
    };
    (0..plain.noise.len()).map(open).collect()
}

#[test]
fn shares_of_four_parties_open_to_the_bodies_of_the_same_key() {
    let key = Key::new(false);
    let masks = XofMasks::new(&key.spec, &SEED);
    let mut opened = Vec::new();
    for component in 0..key.spec.components.len() {
        let rows = key.spec.rows(component);
        opened.push(match key.spec.components[component].width {
            Width::W64 => to_bytes(&from_shares(&key, component, &masks.words64(component, 0, rows))),
            Width::W128 => to_bytes(&from_shares(&key, component, &masks.words128(component, 0, rows))),
        });
    }
    assert!(opened == key.bodies);
    let (ours, theirs) = (key.write(&key.bodies), key.write(&opened));
    assert_eq!(ours.1, theirs.1);
    for (file, _) in ours.1.files() {
        assert!(fs::read(ours.0.path().join(file)).unwrap() == fs::read(theirs.0.path().join(file)).unwrap());
    }
    assert!(!EvalKeys::load_with_lists(ours.0.path()).unwrap().has_compression());
}

/// Noise of a component, as it is in tfhe's own decompressed object; its masks must be those of the seed.
fn noise_of<W: Word>(spec: &KeySpec, component: usize, rows: &[W], masks: &[W], secrets: &[Vec<u128>]) -> Vec<i128> {
    let (mask_len, row_len) = (spec.mask_len(component), spec.row_len(component));
    assert_eq!(rows.len(), spec.rows(component) * (mask_len + row_len));
    let bodies: Vec<W> = rows
        .chunks(mask_len + row_len)
        .zip(masks.chunks(mask_len))
        .flat_map(|(row, mask)| {
            assert!(row[..mask_len] == *mask, "masks of component {component}");
            &row[mask_len..]
        })
        .copied()
        .collect();
    let silent = Inputs::<W>::new(spec, component, secrets, &vec![0; bodies.len()]).bodies(spec, component, masks);
    let shift = 128 - W::BITS;
    bodies.iter().zip(silent).map(|(body, s)| (body.minus(s).widen() << shift).cast_signed() >> shift).collect()
}

fn noise(spec: &KeySpec, component: usize, rows: &Rows, seed: &[u8; 32], secrets: &[Vec<u128>]) -> Vec<i128> {
    let masks = XofMasks::new(spec, seed);
    let count = spec.rows(component);
    match rows {
        Rows::W64(rows) => noise_of(spec, component, rows, &masks.words64(component, 0, count), secrets),
        Rows::W128(rows) => noise_of(spec, component, rows, &masks.words128(component, 0, count), secrets),
    }
}

/// Variance (2^(2b+1) + 1) / 6 within an eighth, and no sample beyond 2^b.
fn is_tuniform(samples: &[i128], b: u32) -> bool {
    let expected = ((1u64 << (2 * b + 1)) + 1) as f64 / 6.0;
    let variance = samples.iter().map(|e| (e * e) as f64).sum::<f64>() / samples.len() as f64;
    samples.iter().all(|e| e.unsigned_abs() <= 1 << b) && (variance / expected - 1.0).abs() < 0.125
}

#[test]
fn tfhe_finds_the_masks_of_the_seed_and_the_noise_that_was_put_in() {
    let key = key();
    let (folder, _) = key.write(&key.bodies);
    let keyset = raw::keyset(folder.path());
    assert_eq!(raw::seed(&keyset), SEED);
    for (component, rows) in raw::components(keyset).iter().enumerate() {
        let found = noise(&key.spec, component, rows, &SEED, &key.secrets);
        let put_in: Vec<i128> = key.noise[component].iter().map(|e| e.cast_signed()).collect();
        assert!(found == put_in);
        // The smallest component has 256 samples: a standard deviation of 6 %.
        assert!(found.len() < 1000 || is_tuniform(&found, key.spec.components[component].noise));
    }
}

/// A dealer's key is made by tfhe; its last component, whose secrets are known here, stands behind the masks of all others.
#[test]
fn a_dealt_key_has_the_same_form() {
    let f = fixture();
    let keyset = raw::keyset(&f.folder);
    let (spec, seed) = (key_spec(PARAMS, true), raw::seed(&keyset));
    let masks = XofMasks::new(&spec, &seed);
    let components = raw::components(keyset);
    assert_eq!(components.len(), spec.components.len());
    for (component, rows) in components.iter().enumerate() {
        let (mask_len, len) = (spec.mask_len(component), spec.mask_len(component) + spec.row_len(component));
        for row in [0, spec.rows(component) - 1] {
            match rows {
                Rows::W64(rows) => assert!(rows[row * len..][..mask_len] == masks.words64(component, row, 1)),
                Rows::W128(rows) => assert!(rows[row * len..][..mask_len] == masks.words128(component, row, 1)),
            }
        }
    }
    let last = spec.components.len() - 1;
    let Shape::Packing { from, to, .. } = spec.components[last].shape else { panic!("a packing key") };
    let mut secrets = vec![Vec::new(); spec.secrets.len()];
    for (kind, at) in kms_fhe::dkg::shared_secrets(true) {
        secrets[at] = f.secrets.bits(kind).unwrap().iter().map(|bit| u128::from(*bit)).collect();
    }
    assert!(!secrets[from].is_empty() && !secrets[to].is_empty());
    assert!(is_tuniform(&noise(&spec, last, &components[last], &seed, &secrets), spec.components[last].noise));
}

#[test]
fn masks_of_some_rows_are_a_part_of_all() {
    let spec = key_spec(PARAMS, true);
    let masks = XofMasks::new(&spec, &SEED);
    for component in 0..spec.components.len() {
        let (rows, len) = (spec.rows(component), spec.mask_len(component));
        let (first, count) = (rows / 3, (rows / 3).max(1));
        match spec.components[component].width {
            Width::W64 => {
                let all = masks.words64(component, 0, rows);
                assert!(masks.words64(component, first, count) == all[first * len..][..count * len]);
            }
            Width::W128 => {
                let all = masks.words128(component, 0, rows);
                assert!(masks.words128(component, first, count) == all[first * len..][..count * len]);
            }
        }
    }
    assert!(XofMasks::new(&spec, &[1; 32]).words64(0, 0, 1) != masks.words64(0, 0, 1));
}

#[test]
fn both_ways_to_decompress_agree() {
    let (folder, _) = key().write(&key().bodies);
    let keyset = raw::keyset(folder.path());
    let bytes = |key: &tfhe::ServerKey| {
        let mut bytes = Vec::new();
        safe_serialize(key, &mut bytes, 1 << 30).unwrap();
        bytes
    };
    let (_, _, server_key) = keyset.clone().into_raw_parts();
    let (_, by_stream) = keyset.decompress().into_raw_parts();
    assert!(bytes(&server_key.decompress()) == bytes(&by_stream));
}

/// Gives an error after some bytes.
struct Broken<'a>(&'a [u8]);

impl io::Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("broken")),
            count => Ok(count),
        }
    }
}

#[test]
fn bodies_that_are_not_those_of_a_key_are_refused() {
    let key = key();
    for (at, component) in key.spec.components.iter().enumerate() {
        let refused = |size: usize| {
            let mut bodies = key.bodies.clone();
            bodies[at].resize(size, 0);
            assemble(PARAMS, true, &SEED, |c| Ok(&bodies[c][..])).unwrap_err()
        };
        let size = key.spec.body_bytes(at);
        for wrong in [size - 1, size + 1, 0] {
            match refused(wrong) {
                AssemblyError::Size { component: named, expected } => {
                    assert_eq!((named, expected), (component.name, size));
                }
                other => panic!("{other}"),
            }
        }
    }
    let broken = assemble(PARAMS, true, &SEED, |c| Ok(Broken(&key.bodies[c][..100]))).unwrap_err();
    assert!(matches!(broken, AssemblyError::Read { component: "compact public key", .. }));
    let missing = assemble(PARAMS, true, &SEED, |_| Err::<&[u8], _>(io::Error::other("missing"))).unwrap_err();
    assert!(matches!(missing, AssemblyError::Read { .. }));
}
