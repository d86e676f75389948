//! Key material from a dealer: for development and tests only. **Whoever deals knows every key.** Replaced by the
//! dealerless set-up.

use kms_algebra::{GrVec, PartyId, shamir};
use kms_encoding::{PrssKey, SecretKeyKind, ShareVector};
use rand::CryptoRng;

use crate::Committee;

/// PRSS keys dealt by one party that knows them all: for party 1..=n the keys of its sets, by ascending bitmap.
pub fn prss_keys(committee: &Committee, rng: &mut impl CryptoRng) -> Vec<Vec<PrssKey>> {
    let mut all: Vec<Vec<PrssKey>> = vec![Vec::new(); committee.n()];
    for set in committee.prss_sets() {
        let mut key = PrssKey { set: set.bits(), key: [0; 16] };
        rng.fill_bytes(&mut key.key);
        for party in set.iter() {
            all[party.slot()].push(key.clone());
        }
    }
    all
}

/// Shares of a secret key dealt by one party that knows it: one vector per party 1..=n.
pub fn key_shares(
    committee: &Committee,
    kind: SecretKeyKind,
    secret: &[u128],
    rng: &mut impl CryptoRng,
) -> Vec<ShareVector> {
    match committee.degree() {
        4 => deal::<4>(committee, kind, secret, rng),
        _ => deal::<5>(committee, kind, secret, rng),
    }
}

fn deal<const D: usize>(
    committee: &Committee,
    kind: SecretKeyKind,
    secret: &[u128],
    rng: &mut impl CryptoRng,
) -> Vec<ShareVector> {
    let shares: Vec<GrVec<u128, D>> = shamir::share_words(secret, committee.n(), committee.t(), rng);
    PartyId::all(committee.n())
        .zip(&shares)
        .map(|(_, share)| {
            ShareVector::new(kind, D as u8, share.words().to_vec()).expect("a non-empty vector of whole coordinates")
        })
        .collect()
}
