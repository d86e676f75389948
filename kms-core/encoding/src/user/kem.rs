//! The user's ML-KEM keys.

use core::fmt;

use ml_kem::kem::{Decapsulate, KeyExport};
use ml_kem::{B32, Ciphertext, DecapsulationKey, EncapsulationKey, Key, MlKem512, MlKem768, Seed};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of the seed d ‖ z of a key pair (FIPS 203 §7.1).
pub const SEED_BYTES: usize = 64;

/// A parameter set of ML-KEM. The length of a public key tells which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kem {
    /// ML-KEM-768: what a client should use.
    MlKem768 = 1,
    /// ML-KEM-512: accepted for compatibility.
    MlKem512 = 2,
}

impl Kem {
    /// The parameter set with this identifier.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::MlKem768),
            2 => Some(Self::MlKem512),
            _ => None,
        }
    }

    /// The identifier.
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        self as u8
    }

    /// Bytes of a public key.
    #[must_use]
    pub const fn public_key_bytes(self) -> usize {
        match self {
            Self::MlKem768 => 1184,
            Self::MlKem512 => 800,
        }
    }

    /// Bytes of a ciphertext.
    #[must_use]
    pub const fn ciphertext_bytes(self) -> usize {
        match self {
            Self::MlKem768 => 1088,
            Self::MlKem512 => 768,
        }
    }
}

/// Why bytes are no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicKeyError {
    /// No parameter set that is accepted has public keys of this length.
    #[error("a public key has 1184 bytes (ML-KEM-768) or 800 (ML-KEM-512), not {0}")]
    Length(usize),
    /// A coefficient is not reduced: the modulus check of FIPS 203 §7.2 fails.
    #[error("the public key fails the modulus check of FIPS 203")]
    Modulus,
}

impl PublicKeyError {
    /// Stable label, the same in the golden file.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Length(_) => "Length",
            Self::Modulus => "Modulus",
        }
    }
}

/// The operating system gave no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no randomness: {0}")]
pub struct RandomError(getrandom::Error);

pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, RandomError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut()).map_err(RandomError)?;
    Ok(bytes)
}

#[derive(Clone)]
enum Encapsulator {
    MlKem768(Box<EncapsulationKey<MlKem768>>),
    MlKem512(Box<EncapsulationKey<MlKem512>>),
}

/// A checked public key.
#[derive(Clone)]
pub struct PublicKey {
    bytes: Vec<u8>,
    hash: [u8; 32],
    key: Encapsulator,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kem", &self.kem()).finish_non_exhaustive()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for PublicKey {}

impl PublicKey {
    /// Reads an encapsulation key as FIPS 203 writes it, with the checks of §7.2.
    ///
    /// # Errors
    /// Another length, or a coefficient that is not reduced.
    pub fn parse(bytes: &[u8]) -> Result<Self, PublicKeyError> {
        let length = PublicKeyError::Length(bytes.len());
        let key = if bytes.len() == Kem::MlKem768.public_key_bytes() {
            let bytes = Key::<EncapsulationKey<MlKem768>>::try_from(bytes).map_err(|_| length)?;
            Encapsulator::MlKem768(Box::new(EncapsulationKey::new(&bytes).map_err(|_| PublicKeyError::Modulus)?))
        } else {
            let bytes = Key::<EncapsulationKey<MlKem512>>::try_from(bytes).map_err(|_| length)?;
            Encapsulator::MlKem512(Box::new(EncapsulationKey::new(&bytes).map_err(|_| PublicKeyError::Modulus)?))
        };
        Ok(Self { bytes: bytes.to_vec(), hash: Sha256::digest(bytes).into(), key })
    }

    /// The parameter set.
    #[must_use]
    pub const fn kem(&self) -> Kem {
        match self.key {
            Encapsulator::MlKem768(_) => Kem::MlKem768,
            Encapsulator::MlKem512(_) => Kem::MlKem512,
        }
    }

    /// The bytes that stand in a permit.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the bytes.
    #[must_use]
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Ciphertext and shared secret for the randomness `m`, which must be fresh.
    pub(super) fn encapsulate(&self, m: &[u8; 32]) -> (Vec<u8>, Zeroizing<[u8; 32]>) {
        let m = Zeroizing::new(B32::from(*m));
        let (ciphertext, mut secret) = match &self.key {
            Encapsulator::MlKem768(key) => {
                let (ciphertext, secret) = key.encapsulate_deterministic(&m);
                (ciphertext.to_vec(), secret)
            }
            Encapsulator::MlKem512(key) => {
                let (ciphertext, secret) = key.encapsulate_deterministic(&m);
                (ciphertext.to_vec(), secret)
            }
        };
        let shared = Zeroizing::new(secret.into());
        secret.zeroize();
        (ciphertext, shared)
    }
}

enum Decapsulator {
    MlKem768(Box<DecapsulationKey<MlKem768>>),
    MlKem512(Box<DecapsulationKey<MlKem512>>),
}

/// A user's key pair. Make one per permit. Erased on drop.
pub struct KeyPair {
    seed: Zeroizing<[u8; SEED_BYTES]>,
    key: Decapsulator,
    public: PublicKey,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("kem", &self.public.kem()).finish_non_exhaustive()
    }
}

impl KeyPair {
    /// A fresh key pair.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn generate(kem: Kem) -> Result<Self, RandomError> {
        let seed = random()?;
        Ok(Self::from_seed(kem, &seed))
    }

    /// The key pair of the seed d ‖ z: how a stored one is read again.
    #[must_use]
    pub fn from_seed(kem: Kem, seed: &[u8; SEED_BYTES]) -> Self {
        let array = Zeroizing::new(Seed::from(*seed));
        let (key, bytes, encapsulator) = match kem {
            Kem::MlKem768 => {
                let key = DecapsulationKey::<MlKem768>::from_seed(*array);
                let public = key.encapsulation_key().clone();
                let bytes = public.to_bytes().to_vec();
                (Decapsulator::MlKem768(Box::new(key)), bytes, Encapsulator::MlKem768(Box::new(public)))
            }
            Kem::MlKem512 => {
                let key = DecapsulationKey::<MlKem512>::from_seed(*array);
                let public = key.encapsulation_key().clone();
                let bytes = public.to_bytes().to_vec();
                (Decapsulator::MlKem512(Box::new(key)), bytes, Encapsulator::MlKem512(Box::new(public)))
            }
        };
        let hash = Sha256::digest(&bytes).into();
        Self { seed: Zeroizing::new(*seed), key, public: PublicKey { bytes, hash, key: encapsulator } }
    }

    /// The seed, to store the key pair. Secret.
    #[must_use]
    pub fn seed(&self) -> &[u8; SEED_BYTES] {
        &self.seed
    }

    /// The public key.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The shared secret; pseudorandom for a ciphertext that was not made for this key (implicit rejection). `None` for a
    /// wrong length.
    pub(super) fn decapsulate(&self, ciphertext: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let mut secret = match &self.key {
            Decapsulator::MlKem768(key) => key.decapsulate(&Ciphertext::<MlKem768>::try_from(ciphertext).ok()?),
            Decapsulator::MlKem512(key) => key.decapsulate(&Ciphertext::<MlKem512>::try_from(ciphertext).ok()?),
        };
        let shared = Zeroizing::new(secret.into());
        secret.zeroize();
        Some(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parameter_sets_agree_on_a_secret() {
        for kem in [Kem::MlKem768, Kem::MlKem512] {
            let pair = KeyPair::generate(kem).unwrap();
            let public = PublicKey::parse(pair.public_key().as_bytes()).unwrap();
            assert_eq!((public.kem(), public.as_bytes().len()), (kem, kem.public_key_bytes()));
            assert_eq!(&public, pair.public_key());
            let (ciphertext, secret) = public.encapsulate(&[7; 32]);
            assert_eq!(ciphertext.len(), kem.ciphertext_bytes());
            assert_eq!(pair.decapsulate(&ciphertext), Some(secret.clone()));
            assert_eq!(pair.decapsulate(&ciphertext[1..]), None);
            let again = KeyPair::from_seed(kem, pair.seed());
            assert_eq!(again.decapsulate(&ciphertext), Some(secret.clone()));
            let mut other = ciphertext;
            other[0] ^= 1;
            assert_ne!(pair.decapsulate(&other), Some(secret));
            assert_eq!(Kem::from_u8(kem.to_u8()), Some(kem));
        }
        assert_eq!(Kem::from_u8(0), None);
    }

    #[test]
    fn malformed_public_keys_are_refused() {
        let pair = KeyPair::from_seed(Kem::MlKem768, &[1; SEED_BYTES]);
        let good = pair.public_key().as_bytes();
        for length in [0, 1, 32, 799, 801, 1183, 1185, 1568] {
            assert_eq!(PublicKey::parse(&vec![0; length]), Err(PublicKeyError::Length(length)));
        }
        // The first coefficient 0xfff is not below q = 3329.
        let mut bad = good.to_vec();
        bad[0] = 0xff;
        bad[1] |= 0x0f;
        assert_eq!(PublicKey::parse(&bad), Err(PublicKeyError::Modulus));
        // q itself.
        let mut bad = good.to_vec();
        bad[0] = 0x01;
        bad[1] = bad[1] & 0xf0 | 0x0d;
        assert_eq!(PublicKey::parse(&bad), Err(PublicKeyError::Modulus));
    }

    #[test]
    fn debug_shows_no_secret() {
        let pair = KeyPair::from_seed(Kem::MlKem512, &[0xab; SEED_BYTES]);
        let text = format!("{pair:?}");
        assert!(!text.contains("171") && !text.to_lowercase().contains("ab,"), "{text}");
    }
}
