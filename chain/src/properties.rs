//! Properties of the parsers: bytes from outside give a value or a typed error, and what parses is what was written.

use crate::{
    B256, FheType, U256, cleartexts,
    context::Context,
    eip712::{recover, sign_digest, signer_address},
    extra_data::ExtraData,
    handle::{Handle, check_request_handles},
    manifest::{Card, Manifest, PartyName},
    proof::{DecryptionProof, InputProof},
    request::Finality,
};
use alloy_primitives::Address;
use k256::ecdsa::SigningKey;
use proptest::{collection::vec, prelude::*};

fn any_type() -> impl Strategy<Value = FheType> {
    prop::sample::select(FheType::ALL.to_vec())
}

fn any_word() -> impl Strategy<Value = B256> {
    any::<[u8; 32]>().prop_map(B256::from)
}

proptest! {
    #[test]
    fn what_parses_encodes_to_the_same_bytes(
        mut bytes in vec(any::<u8>(), 400), counts in (0u8..4, 0u8..4), version in 0u8..5, length in 0usize..100,
        miss in -1isize..=1
    ) {
        // Half of the counts and lengths fit.
        let (handles, signatures) = (usize::from(counts.0), usize::from(counts.1));
        let extra = if length % 2 == 0 { 1 + 32 * usize::from(version) } else { length };
        for (header, body) in [(vec![counts.1], 65 * signatures), (vec![counts.0, counts.1], 32 * handles + 65 * signatures)] {
            let place = header.len() + body;
            let mut proof = bytes.clone();
            proof[..header.len()].copy_from_slice(&header);
            proof.resize((place + extra).saturating_add_signed(miss), version);
            if let Some(first) = proof.get_mut(place) {
                *first = version;
            }
            let fits = miss == 0 && signatures > 0 && version < 4 && extra == 1 + 32 * usize::from(version);
            if header.len() == 1 {
                let parsed = DecryptionProof::parse(&proof);
                prop_assert!(parsed.is_ok() || !fits);
                if let Ok(parsed) = parsed {
                    prop_assert_eq!(&parsed.encode().unwrap()[..], &proof[..]);
                }
            } else {
                let parsed = InputProof::parse(&proof);
                prop_assert!(parsed.is_ok() || !fits || handles == 0);
                if let Ok(parsed) = parsed {
                    prop_assert_eq!(&parsed.encode().unwrap()[..], &proof[..]);
                }
            }
        }
        bytes.truncate(length);
        let mut extra_data = bytes;
        extra_data.resize(length, 0);
        if let Some(first) = extra_data.first_mut() {
            *first = version;
        }
        if let Ok(parsed) = ExtraData::parse(&extra_data) {
            let same: &[u8] = if parsed == ExtraData::Current { &[] } else { &extra_data };
            prop_assert_eq!(&parsed.encode()[..], same);
        }
    }

    #[test]
    fn proofs_are_parsed_back(
        signatures in vec(vec(any::<u8>(), 65), 1..20), handles in vec(any_word(), 1..20), context in any_word()
    ) {
        let signatures: Vec<[u8; 65]> = signatures.into_iter().map(|s| s.try_into().unwrap()).collect();
        let extra_data = ExtraData::V1 { context }.encode();
        let proof = DecryptionProof { signatures: signatures.clone(), extra_data: extra_data.clone() };
        prop_assert_eq!(DecryptionProof::parse(&proof.encode().unwrap()), Ok(proof));
        let proof = InputProof { handles, signatures, extra_data };
        prop_assert_eq!(InputProof::parse(&proof.encode().unwrap()), Ok(proof));
    }

    #[test]
    fn handles_keep_their_parts(hash in any::<[u8; 21]>(), index in any::<u8>(), chain_id in any::<u64>(), ty in any_type()) {
        let handle = Handle::parse(Handle::new(hash, index, chain_id, ty).raw()).unwrap();
        prop_assert_eq!((handle.index(), handle.chain_id(), handle.fhe_type()), (index, chain_id, ty));
        prop_assert_eq!(&handle.raw()[..21], &hash[..]);
    }

    #[test]
    fn a_request_holds_at_most_2048_bits(types in vec(any_type(), 1..40)) {
        let handles: Vec<B256> = types.iter().map(|ty| Handle::new([1; 21], 0xff, 1, *ty).raw()).collect();
        let bits: u32 = types.iter().map(|ty| ty.bits()).sum();
        prop_assert_eq!(check_request_handles(&handles, 1).is_ok(), bits <= 2048);
    }

    #[test]
    fn cleartexts_are_read_back(values in vec((any_type(), any::<[u8; 32]>()), 0..20)) {
        let values: Vec<(FheType, U256)> = values
            .into_iter()
            .map(|(ty, bytes)| (ty, U256::from_be_bytes(bytes) >> (256 - ty.value_bits() as usize)))
            .collect();
        let (types, numbers): (Vec<FheType>, Vec<U256>) = values.iter().copied().unzip();
        prop_assert_eq!(cleartexts::decode(&cleartexts::encode(&values).unwrap(), &types), Ok(numbers));
    }

    #[test]
    fn json_from_outside_never_panics(bytes in vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
        prop_assert!(Manifest::parse(&bytes).is_err() && Card::parse(&bytes).is_err());
        prop_assert!(text.parse::<PartyName>().is_err());
    }

    #[test]
    fn accepted_contexts_obey_the_rules(n in 0u8..20, t in 0u32..8, threshold in 0u32..20) {
        let signers = (1..=n).map(Address::repeat_byte).collect();
        let context = Context { previous: B256::ZERO, signers, t, threshold, salt: B256::ZERO };
        let n = u32::from(n);
        prop_assert_eq!(context.check().is_ok(), n > 3 * t && threshold > t && threshold <= n - t);
    }

    #[test]
    fn finality_codes_are_read_back(
        code in prop_oneof![0..=1001u16, 0xfffd..=0xffffu16, any::<u16>()], number in 0u64..3000, latest in 0u64..3000
    ) {
        let (safe, finalized) = (latest / 2, latest / 4);
        let (known, reached) = match code {
            0..=1000 => (true, number + u64::from(code) <= latest),
            0xfffe => (true, number <= safe),
            0xffff => (true, number <= finalized),
            _ => (false, false),
        };
        let finality = Finality::parse(code);
        prop_assert_eq!(finality.is_ok(), known);
        if let Ok(finality) = finality {
            prop_assert_eq!(finality.code(), code);
            prop_assert_eq!(finality.reached(number, latest, safe, finalized), reached);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_signature_names_its_signer_for_its_digest_only(
        secret in 1u64.., digest in any_word(), other in any_word(), place in 0usize..65, bit in 0u8..8
    ) {
        let key = SigningKey::from_slice(&U256::from(secret).to_be_bytes::<32>()).unwrap();
        let signature = sign_digest(&key, digest);
        prop_assert_eq!(recover(digest, &signature), Ok(signer_address(&key)));
        prop_assert!(digest == other || recover(other, &signature) != Ok(signer_address(&key)));
        let mut altered = signature;
        altered[place] ^= 1 << bit;
        prop_assert_ne!(recover(digest, &altered), Ok(signer_address(&key)));
    }
}
