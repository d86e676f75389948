use super::testing::{Scene, domain, signing_key, word};
use super::*;
use kms_encoding::{
    Plaintext, Word,
    user::{Header, SharePayload, seal},
};
use proptest::prelude::*;
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};

fn scene() -> Scene {
    Scene::new(4, 1, Kem::MlKem768, &[(FheType::Uint64, Word::from(42u64)), (FheType::Bool, Word::from(true))], 1)
}

fn indices(set: PartySet) -> Vec<usize> {
    set.iter().map(|party| usize::from(party.index())).collect()
}

fn culprits(progress: &Progress) -> Vec<(usize, &'static str)> {
    progress.wrong.iter().map(|w| (usize::from(w.party.index()), w.fault.label())).collect()
}

fn values(result: &Reconstruction) -> Vec<Plaintext> {
    result.values.iter().map(|(_, value)| *value).collect()
}

fn party(index: usize) -> PartyId {
    PartyId::new(index as u8).expect("an index")
}

fn undecided(reader: &UserDecryption) -> Progress {
    match reader.reconstruct() {
        Err(ReconstructError::Undecided(progress)) => *progress,
        other => panic!("{other:?}"),
    }
}

#[test]
fn any_2t_plus_1_responses_give_the_values() {
    for kem in [Kem::MlKem768, Kem::MlKem512] {
        let scene = Scene { kem, ..Scene::new(4, 1, kem, &[(FheType::Address, Word([0xab; 32]))], 2) };
        for absent in 1..=4 {
            let mut reader = scene.reader();
            for i in (1..=4).filter(|i| *i != absent) {
                assert_eq!(reader.add(&scene.response(i)), Ok(Added::Share(party(i))));
            }
            let result = reader.reconstruct().expect("three are enough");
            assert_eq!(values(&result), scene.values);
            assert_eq!(indices(result.progress.missing), [absent]);
            assert!(result.progress.wrong.is_empty() && result.progress.elsewhere.is_empty());
        }
    }
}

#[test]
fn envelopes_of_the_library_are_read_too() {
    let scene = scene();
    let mut reader = scene.reader();
    for i in 1..=3 {
        let header = scene.header(i);
        let handles: Vec<[u8; 32]> = scene.request.pairs.iter().map(|pair| pair.handle.0).collect();
        let binding = Binding {
            host_chain_id: scene.request.host_chain_id,
            domain_chain_id: domain().chain_id,
            verifying_contract: domain().verifying_contract.into(),
            extra_data: &scene.request.permit.extra_data,
            handles: &handles,
        };
        let types = binding.types().expect("types");
        let payload = SharePayload::new(scene.degree(), &types, scene.words[i - 1].clone()).expect("words");
        let share = seal(scene.pair().public_key(), &header, &binding, &payload).expect("sealed");
        assert_eq!(reader.add(&scene.signed(i, share)), Ok(Added::Share(party(i))));
    }
    assert_eq!(values(&reader.reconstruct().expect("decided")), scene.values);
}

#[test]
fn a_tampered_response_is_rejected_and_blames_nobody() {
    let scene = scene();
    let mut reader = scene.reader();
    let good = scene.response(1);
    for at in [0, 6, 40, 160, 300, good.share.len() - 1] {
        let mut share = good.share.to_vec();
        share[at] ^= 1;
        let response = UserResponse { share: share.into(), ..good.clone() };
        assert!(matches!(reader.add(&response), Err(Rejected::Stranger(_))), "byte {at}");
    }
    let with_signature = |signature: Vec<u8>| UserResponse { signature: signature.into(), ..good.clone() };
    assert_eq!(reader.add(&with_signature(vec![0; 64])), Err(Rejected::SignatureLength(64)));
    let mut v = good.signature.to_vec();
    v[64] = 1;
    assert_eq!(reader.add(&with_signature(v)).unwrap_err().label(), "BadV");
    assert_eq!(reader.add(&with_signature([vec![0; 64], vec![27]].concat())).unwrap_err().label(), "Unrecoverable");
    let extra = UserResponse { extra_data: Bytes::new(), ..good.clone() };
    assert_eq!(reader.add(&extra), Err(Rejected::ExtraData(Bytes::new())));
    let large = UserResponse { share: vec![0; MAX_ENVELOPE_BYTES + 1].into(), ..good };
    assert_eq!(reader.add(&large), Err(Rejected::TooLarge(MAX_ENVELOPE_BYTES + 1)));
    for i in 2..=4 {
        reader.add(&scene.response(i)).expect("authentic");
    }
    let result = reader.reconstruct().expect("three good ones");
    assert_eq!(indices(result.progress.missing), [1]);
    assert!(result.progress.wrong.is_empty());
}

#[test]
fn t_signed_but_wrong_responses_first_only_delay() {
    let scene = Scene::new(13, 4, Kem::MlKem768, &[(FheType::Uint256, Word([0x5a; 32]))], 3);
    let mut reader = scene.reader();
    for i in [2, 5, 7, 11] {
        assert_eq!(reader.add(&scene.wrong(i, i as u64)), Ok(Added::Share(party(i))));
    }
    let rest: Vec<usize> = (1..=13).filter(|i| ![2, 5, 7, 11].contains(i)).collect();
    for (count, i) in (5..).zip(&rest) {
        reader.add(&scene.response(*i)).expect("authentic");
        if count < 13 {
            let progress = undecided(&reader);
            assert_eq!((progress.shares.len(), progress.needed), (count, 9));
            assert!(progress.wrong.is_empty(), "nobody is blamed before the values are known");
        }
    }
    let result = reader.reconstruct().expect("nine agree");
    assert_eq!(values(&result), scene.values);
    assert_eq!(culprits(&result.progress), [(2, "Share"), (5, "Share"), (7, "Share"), (11, "Share")]);
    assert_eq!(indices(result.agreeing), rest);
}

#[test]
fn two_copies_count_once_and_two_versions_are_evidence() {
    let scene = scene();
    let mut reader = scene.reader();
    assert_eq!(reader.add(&scene.response(1)), Ok(Added::Share(party(1))));
    assert_eq!(reader.add(&scene.response(1)), Ok(Added::Repeated(party(1))));
    // The same share in another envelope.
    let payload = scene.payload(scene.words[0].clone());
    let again = scene.signed(1, scene.seal(&scene.header(1), &payload, [77; 32]));
    assert_eq!(reader.add(&again), Ok(Added::Repeated(party(1))));
    reader.add(&scene.response(2)).expect("authentic");
    assert_eq!(undecided(&reader).shares.len(), 2);
    let wrong = Wrong { party: party(2), fault: Fault::Conflicting };
    assert_eq!(reader.add(&scene.wrong(2, 9)), Ok(Added::Wrong(wrong)));
    reader.add(&scene.response(3)).expect("authentic");
    assert_eq!(culprits(&undecided(&reader)), [(2, "Conflicting")]);
    reader.add(&scene.response(4)).expect("authentic");
    let result = reader.reconstruct().expect("three honest ones");
    assert_eq!((values(&result), culprits(&result.progress)), (scene.values.clone(), vec![(2, "Conflicting")]));
}

#[test]
fn responses_of_other_places_are_not_wrong() {
    let scene = scene();
    let mut reader = scene.reader();
    // Another epoch has other shares of the same values, another fork other digests.
    let epoch = Scene { epoch: word("next epoch"), ..scene.clone() };
    assert_eq!(reader.add(&epoch.response(1)), Ok(Added::Share(party(1))));
    let fork = Scene { digests: vec![word("fork"), word("fork")], ..scene.clone() };
    assert_eq!(reader.add(&fork.response(2)), Ok(Added::Share(party(2))));
    // An older answer to another permit with the same key.
    let mut other = scene.clone();
    other.request.permit.days = 11;
    other.sign_permit();
    let Ok(Added::Foreign { party: who, foreign }) = reader.add(&other.response(3)) else { panic!() };
    assert_eq!((who, foreign.label()), (party(3), "Permit"));
    let progress = undecided(&reader);
    assert_eq!((progress.shares.len(), progress.elsewhere.len()), (1, 2));
    assert_eq!(indices(progress.missing), [4]);
    for i in 2..=4 {
        reader.add(&scene.response(i)).expect("authentic");
    }
    let result = reader.reconstruct().expect("three in one place");
    assert_eq!(values(&result), scene.values);
    assert_eq!(result.group.epoch, scene.epoch);
    assert!(result.progress.wrong.is_empty() && result.progress.missing.is_empty());
    let elsewhere: Vec<_> = result.progress.elsewhere.iter().map(|(p, f)| (p.index(), f.label())).collect();
    assert_eq!(elsewhere, [(1, "Group")]);
}

#[test]
fn a_party_can_move_to_another_epoch_but_not_fill_the_memory() {
    let scene = scene();
    let mut reader = scene.reader();
    for i in 0..20 {
        let moved = Scene { epoch: word(&format!("epoch {i}")), ..scene.clone() };
        let added = reader.add(&moved.response(1)).expect("authentic");
        assert_eq!(added, if i < 8 { Added::Share(party(1)) } else { Added::Ignored(party(1)) });
    }
}

#[test]
fn a_response_of_another_context_is_elsewhere_or_a_contradiction() {
    let mut scene = scene();
    let other = |h: &mut Header| h.context_id = word("other").0;
    // The permit names the context: signing that and another one in the header contradicts itself.
    let wrong = scene.reader().add(&scene.with_header(1, other)).expect("authentic");
    assert_eq!(wrong, Added::Wrong(Wrong { party: party(1), fault: Fault::ExtraData }));
    scene.request.permit.extra_data = vec![0].into();
    scene.sign_permit();
    let mut reader = scene.reader();
    let added = reader.add(&scene.with_header(1, other)).expect("authentic");
    assert!(matches!(added, Added::Foreign { foreign: Foreign::Context(_), .. }));
    // 0x00 and nothing mean the same, and are signed the same.
    let empty = UserResponse { extra_data: Bytes::new(), ..scene.response(2) };
    assert_eq!(reader.add(&empty), Ok(Added::Share(party(2))));
}

#[test]
fn an_epoch_in_the_permit_binds() {
    let mut scene = scene();
    scene.request.permit.extra_data = ExtraData::V2 { context: scene.parties.context_id, epoch: scene.epoch }.encode();
    scene.sign_permit();
    let mut reader = scene.reader();
    assert_eq!(reader.add(&scene.response(1)), Ok(Added::Share(party(1))));
    let moved = Scene { epoch: word("next"), ..scene.clone() };
    let added = reader.add(&moved.response(2)).expect("authentic");
    assert_eq!(added, Added::Wrong(Wrong { party: party(2), fault: Fault::ExtraData }));
}

#[test]
fn signed_nonsense_names_its_party() {
    let scene = scene();
    let payload = scene.payload(scene.words[0].clone());
    let sealed = |header: &Header, payload: &[u8]| scene.seal(header, payload, [1; 32]);
    let header = scene.header(1);
    let good = sealed(&header, &payload);
    let mut version = good.clone();
    version[4] = 2;
    let mut flipped = good.clone();
    flipped[900] ^= 1;
    let mut short = scene.header(1);
    short.digests.pop();
    let stranger_key = {
        let mut other = scene.clone();
        other.request.permit.public_key =
            KeyPair::from_seed(scene.kem, &[3; 64]).public_key().as_bytes().to_vec().into();
        other.seal(&header, &payload, [1; 32])
    };
    let small = {
        let mut other = scene.clone();
        other.kem = Kem::MlKem512;
        other.request.permit.public_key =
            KeyPair::from_seed(Kem::MlKem512, &[3; 64]).public_key().as_bytes().to_vec().into();
        other.seal(&header, &payload, [1; 32])
    };
    for (expected, share) in [
        ("Magic", b"nonsense".to_vec()),
        ("Truncated", vec![]),
        ("Version", version),
        ("Truncated", good[..1000].to_vec()),
        ("Index", sealed(&scene.header(2), &payload)),
        ("Sealed", flipped),
        ("Sealed", stranger_key),
        ("OtherKem", small),
        ("Digests", sealed(&short, &payload)),
        ("PayloadLength", sealed(&header, &payload[1..])),
        ("PayloadLength", sealed(&header, &[])),
        ("PayloadHeader", sealed(&header, &[b"KMSX", &payload[4..]].concat())),
    ] {
        let mut reader = scene.reader();
        let Ok(Added::Wrong(wrong)) = reader.add(&scene.signed(1, share)) else { panic!("{expected}") };
        assert_eq!((wrong.party, wrong.fault.label()), (party(1), expected));
        // What it sends later does not count.
        for i in 1..=3 {
            reader.add(&scene.response(i)).expect("authentic");
        }
        assert_eq!(culprits(&undecided(&reader)), [(1, expected)]);
        reader.add(&scene.response(4)).expect("authentic");
        assert_eq!(values(&reader.reconstruct().expect("three")), scene.values);
    }
}

#[test]
fn values_that_no_honest_ciphertext_has_are_refused() {
    let delta = 1u128 << 123;
    for (block, expected) in
        [(3 * delta + delta / 2 - 1, "larger"), (16 * delta, "padding"), (2 * delta, "above the width")]
    {
        let mut scene = Scene::new(4, 1, Kem::MlKem768, &[(FheType::Bool, Word::from(true))], 4);
        scene.share(&[block], &mut ChaCha20Rng::seed_from_u64(5));
        let mut reader = scene.reader();
        (1..=4).for_each(|i| drop(reader.add(&scene.response(i))));
        let error = reader.reconstruct().unwrap_err();
        assert!(matches!(error, ReconstructError::Refused { .. }) && error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    let scene = scene();
    let new = |parties: Parties, request: UserRequest, pair: KeyPair| {
        UserDecryption::new(parties, &domain(), request, pair).map(|_| ()).unwrap_err()
    };
    let stranger = KeyPair::from_seed(Kem::MlKem768, &[1; 64]);
    assert_eq!(new(scene.parties.clone(), scene.request.clone(), stranger), SetUpError::OtherKey);
    let other = Parties { context_id: word("other"), ..scene.parties.clone() };
    assert!(matches!(new(other, scene.request.clone(), scene.pair()), SetUpError::Context { .. }));
    let small = Parties { signers: scene.parties.signers[..3].to_vec(), ..scene.parties.clone() };
    assert!(matches!(new(small, scene.request.clone(), scene.pair()), SetUpError::FloodBound(_)));
    let mut twice = scene.parties.clone();
    twice.signers[1] = twice.signers[0];
    assert!(matches!(new(twice, scene.request.clone(), scene.pair()), SetUpError::RepeatedSigner(_)));
    let mut malformed = scene.request.clone();
    malformed.permit.public_key = [&[0xff; 3], &malformed.permit.public_key[3..]].concat().into();
    let error = new(scene.parties.clone(), malformed, scene.pair());
    assert!(matches!(&error, SetUpError::Request(error) if error.label() == "PublicKey"), "{error}");
    let mut empty = scene.request.clone();
    empty.pairs.clear();
    assert!(matches!(new(scene.parties.clone(), empty, scene.pair()), SetUpError::Request(_)));
}

#[test]
fn signers_that_are_no_parties_are_strangers() {
    let mut scene = scene();
    let mut reader = scene.reader();
    scene.parties.signers[0] = kms_chain::eip712::signer_address(&signing_key(50));
    assert!(matches!(reader.add(&scene.signed(50, scene.response(1).share.to_vec())), Err(Rejected::Stranger(_))));
    assert!(reader.progress().missing.contains(party(1)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn at_most_t_liars_never_change_a_value(seed: u64, which in 0..3usize, bytes: [u8; 32], types in proptest::collection::vec(0..8usize, 1..4)) {
        let (n, t) = [(4, 1), (7, 2), (16, 3)][which];
        let values: Vec<_> = types.iter().map(|i| (FheType::ALL[*i], Word(bytes))).collect();
        let scene = Scene::new(n, t, Kem::MlKem512, &values, seed);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut order: Vec<usize> = (1..=n).collect();
        for i in (1..n).rev() {
            order.swap(i, rng.next_u32() as usize % (i + 1));
        }
        let mut liars = order[..rng.next_u32() as usize % (t + 1)].to_vec();
        liars.sort_unstable();
        order.rotate_left(rng.next_u32() as usize % n);
        let mut reader = scene.reader();
        let (mut wrong, mut heard) = (0, 0);
        for i in order {
            if liars.contains(&i) {
                reader.add(&scene.wrong(i, seed)).expect("authentic");
                wrong += 1;
            } else {
                reader.add(&scene.response(i)).expect("authentic");
            }
            heard += 1;
            match reader.reconstruct() {
                Ok(result) => {
                    prop_assert_eq!(values_of(&result), scene.values.clone());
                    prop_assert_eq!(result.progress.wrong.len(), wrong);
                }
                Err(_) => prop_assert!(heard < 2 * t + 1 + wrong),
            }
        }
        let result = reader.reconstruct().expect("all are in");
        prop_assert_eq!(indices(result.progress.culprits()), liars);
    }

    #[test]
    fn garbage_is_rejected(share in proptest::collection::vec(any::<u8>(), 0..2000), signature: [u8; 32], v in 27u8..29) {
        let scene = scene();
        let signature = [signature, signature].concat();
        let signature = [signature, vec![v]].concat().into();
        let response = UserResponse { share: share.into(), signature, extra_data: scene.request.permit.extra_data.clone() };
        prop_assert!(scene.reader().add(&response).is_err());
    }
}

fn values_of(result: &Reconstruction) -> Vec<Plaintext> {
    values(result)
}

#[test]
fn a_uint256_comes_out_of_thirteen_of_which_four_are_wrong() {
    let word = Word([0x5a; 32]);
    let scene = Scene::new(13, 4, Kem::MlKem768, &[(FheType::Uint256, word)], 3);
    let mut reader = scene.reader();
    for i in 1..=13 {
        let response = if i % 3 == 1 && i < 13 { scene.wrong(i, 1) } else { scene.response(i) };
        reader.add(&response).unwrap();
    }
    let result = reader.reconstruct().expect("nine agree");
    assert_eq!(values_of(&result), [Plaintext::new(FheType::Uint256, word).unwrap()]);
    assert_eq!(result.progress.wrong.len(), 4);
}
