//! What a key consists of, in numbers: secrets, and public components that are linear in them.
//!
//! Words of all components stand in the order of tfhe-rs's containers, so that a finished component is a container of
//! bodies and nothing has to be moved.

/// Width of the words of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Z_2^64.
    W64,
    /// Z_2^128.
    W128,
}

impl Width {
    /// Bits of a word.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::W64 => 64,
            Self::W128 => 128,
        }
    }

    /// Bytes of a word.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.bits() as usize / 8
    }
}

/// One secret key: a vector of uniformly random bits, shared over GR(2^128); mod 2^64 the same share is one of the same
/// bits for components with words of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Name for people and for the hash of the parameters.
    pub name: &'static str,
    /// Number of bits.
    pub bits: usize,
}

/// How the bodies of a component come from its public masks a, its secrets and its noise e. `from` and `to` are positions
/// in [`KeySpec::secrets`]; l is the level of a row, L − q for index q of L; w the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One row of N = length of the secret: b(X) = a(X)·rev(s)(X) + e mod X^N + 1, rev(s)_i = s_(N−1−i).
    CompactPublic {
        /// The secret.
        secret: usize,
    },
    /// Rows (i, q), one body each: b = ⟨a, s_to⟩ + e + s_from\[i\]·2^(w − base·l).
    KeySwitch {
        /// Key of the input.
        from: usize,
        /// Key of the output.
        to: usize,
        /// log2 of the base.
        base_log: u32,
        /// L.
        levels: usize,
    },
    /// Rows (i, q) of N bodies: b(X) = Σ_j a_j·S_j + e + s_from\[i\]·2^(w − base·l), S_j the polynomials of `to`.
    Packing {
        /// Key of the input.
        from: usize,
        /// Key of the output.
        to: usize,
        /// N.
        polynomial: usize,
        /// log2 of the base.
        base_log: u32,
        /// L.
        levels: usize,
    },
    /// Rows (i, q, r), r = 0..=k, of N bodies: for r < k b(X) = Σ_j a_j·S_j + e − s_from\[i\]·S_r·2^(w − base·l), for r = k
    /// b(X) = Σ_j a_j·S_j + e + s_from\[i\]·2^(w − base·l).
    Bootstrap {
        /// The encrypted bits.
        from: usize,
        /// Key of the ciphertexts.
        to: usize,
        /// N.
        polynomial: usize,
        /// log2 of the base.
        base_log: u32,
        /// L.
        levels: usize,
    },
}

/// One public component of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// Name for people and for the hash of the parameters.
    pub name: &'static str,
    /// Width of its words.
    pub width: Width,
    /// b of its noise TUniform(b).
    pub noise: u32,
    /// Its bodies.
    pub shape: Shape,
}

/// A whole key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// The secret keys.
    pub secrets: Vec<Secret>,
    /// The public components, in the order of their masks in the stream of the seed.
    pub components: Vec<Component>,
}

impl KeySpec {
    /// Rows of a component.
    #[must_use]
    pub fn rows(&self, component: usize) -> usize {
        match self.components[component].shape {
            Shape::CompactPublic { .. } => 1,
            Shape::KeySwitch { from, levels, .. } | Shape::Packing { from, levels, .. } => {
                self.secrets[from].bits * levels
            }
            Shape::Bootstrap { from, to, polynomial, levels, .. } => {
                self.secrets[from].bits * levels * (self.secrets[to].bits / polynomial + 1)
            }
        }
    }

    /// Bodies of a row.
    #[must_use]
    pub fn row_len(&self, component: usize) -> usize {
        match self.components[component].shape {
            Shape::CompactPublic { secret } => self.secrets[secret].bits,
            Shape::KeySwitch { .. } => 1,
            Shape::Packing { polynomial, .. } | Shape::Bootstrap { polynomial, .. } => polynomial,
        }
    }

    /// Words of mask of a row.
    #[must_use]
    pub fn mask_len(&self, component: usize) -> usize {
        match self.components[component].shape {
            Shape::CompactPublic { secret } => self.secrets[secret].bits,
            Shape::KeySwitch { to, .. } | Shape::Packing { to, .. } | Shape::Bootstrap { to, .. } => {
                self.secrets[to].bits
            }
        }
    }

    /// Bytes of the bodies of a component.
    #[must_use]
    pub fn body_bytes(&self, component: usize) -> usize {
        self.rows(component) * self.row_len(component) * self.components[component].width.bytes()
    }
}

/// The public masks of a key, from its seed.
pub trait Masks: Send + Sync {
    /// Masks of `rows` rows of a component with words of 64 bits from row `first`, [`KeySpec::mask_len`] words each.
    fn words64(&self, component: usize, first: usize, rows: usize) -> Vec<u64>;

    /// Masks of `rows` rows of a component with words of 128 bits from row `first`, [`KeySpec::mask_len`] words each.
    fn words128(&self, component: usize, first: usize, rows: usize) -> Vec<u128>;
}
