//! Committees with dealt keys, and ciphertexts under them, for scenarios and tests. **Whoever deals knows every key.**

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kms_encoding::rounding::DELTA_LOG2;
use kms_encoding::{FheType, LweBlocks, SecretKeyKind, ShareVector};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::{Committee, Epoch, Item, SessionId, insecure_dealt};

/// Keys and their dimensions. Small: nothing in the protocols depends on the dimension.
pub const DIMENSIONS: [(SecretKeyKind, usize); 2] =
    [(SecretKeyKind::Squashing, 24), (SecretKeyKind::SquashedCompression, 40)];

/// A committee with PRSS keys and with shares of two secret keys.
pub struct Dealt {
    /// The committee.
    pub committee: Committee,
    /// Each party's PRSS of the epoch, by slot.
    pub epochs: Vec<Epoch>,
    /// Each party's shares of the secret keys, by slot.
    pub shares: Vec<Vec<ShareVector>>,
    secrets: Vec<(SecretKeyKind, Vec<u128>)>,
}

impl core::fmt::Debug for Dealt {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Dealt").field("committee", &self.committee).finish_non_exhaustive()
    }
}

impl Dealt {
    /// Deals keys.
    pub fn new(committee: Committee, rng: &mut ChaCha20Rng) -> Self {
        let prss = insecure_dealt::prss_keys(&committee, rng);
        let epochs = committee
            .parties()
            .zip(&prss)
            .map(|(party, keys)| Epoch::new(committee, party, keys).expect("keys dealt for this party"))
            .collect();
        let mut shares = vec![Vec::new(); committee.n()];
        let mut secrets = Vec::new();
        for (kind, dimension) in DIMENSIONS {
            let secret: Vec<u128> = (0..dimension).map(|_| u128::from(rng.random::<bool>())).collect();
            for (all, share) in shares.iter_mut().zip(insecure_dealt::key_shares(&committee, kind, &secret, rng)) {
                all.push(share);
            }
            secrets.push((kind, secret));
        }
        Self { committee, epochs, shares, secrets }
    }

    /// The keys of one epoch of a committee, dealt once per process and a function of both.
    #[must_use]
    pub fn cached(committee: Committee, epoch: u8) -> Arc<Self> {
        static CACHE: Mutex<BTreeMap<(usize, usize, u8), Arc<Dealt>>> = Mutex::new(BTreeMap::new());
        let (n, t) = (committee.n(), committee.t());
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        let deal = || {
            let mut seed = [0; 32];
            seed[..3].copy_from_slice(&[n as u8, t as u8, epoch]);
            Arc::new(Self::new(committee, &mut ChaCha20Rng::from_seed(seed)))
        };
        Arc::clone(cache.entry((n, t, epoch)).or_insert_with(deal))
    }

    /// An encryption of blocks of these phases (m·Δ, or something that no honest ciphertext has) with noise
    /// |e| < `noise`, in a session and at a position of its own.
    pub fn encrypt(
        &self,
        rng: &mut ChaCha20Rng,
        kind: SecretKeyKind,
        ty: FheType,
        phases: impl IntoIterator<Item = u128>,
        noise: u128,
    ) -> Item {
        let secret = self.secrets.iter().find(|(k, _)| *k == kind).map_or(&[][..], |(_, secret)| secret);
        let (mut masks, mut bodies) = (Vec::new(), Vec::new());
        for phase in phases {
            let mask: Vec<u128> = secret.iter().map(|_| rng.random()).collect();
            let e = (rng.random::<u128>() % (2 * noise - 1)).wrapping_sub(noise - 1);
            let phase = phase.wrapping_add(e);
            bodies.push(mask.iter().zip(secret).fold(phase, |b, (a, s)| b.wrapping_add(a.wrapping_mul(*s))));
            masks.extend(mask);
        }
        let mut session = [0; 32];
        rng.fill_bytes(&mut session);
        let blocks = LweBlocks::new(kind, secret.len(), rng.random::<u32>() >> 8, masks, bodies)
            .expect("whole blocks of a key that was dealt");
        Item { session: SessionId::from_bytes(session), ty, blocks: Arc::new(blocks) }
    }
}

/// The phase of a block that holds `message`: m·Δ.
#[must_use]
pub fn phase(message: u8) -> u128 {
    u128::from(message) << DELTA_LOG2
}
