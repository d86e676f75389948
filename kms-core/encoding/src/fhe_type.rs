//! The types of encrypted values.

use core::fmt;

/// Message bits in one noise-squashed block (two radix blocks of two bits each).
pub const BITS_PER_BLOCK: u32 = 4;

/// Type of an encrypted value. The discriminant is the type byte of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FheType {
    /// One bit. Counts as 2 bits in the gateway's limit per request.
    Bool = 0,
    /// 8 bits.
    Uint8 = 2,
    /// 16 bits.
    Uint16 = 3,
    /// 32 bits.
    Uint32 = 4,
    /// 64 bits.
    Uint64 = 5,
    /// 128 bits.
    Uint128 = 6,
    /// 160 bits.
    Address = 7,
    /// 256 bits.
    Uint256 = 8,
}

impl FheType {
    /// Every supported type, in the order of the type bytes.
    pub const ALL: [Self; 8] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Uint128,
        Self::Address,
        Self::Uint256,
    ];

    /// The type with this type byte; `None` for bytes that name no supported type.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Bool,
            2 => Self::Uint8,
            3 => Self::Uint16,
            4 => Self::Uint32,
            5 => Self::Uint64,
            6 => Self::Uint128,
            7 => Self::Address,
            8 => Self::Uint256,
            _ => return None,
        })
    }

    /// The type byte of a handle.
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        self as u8
    }

    /// Bits that a value of this type counts in the limit of bits per request: a boolean counts 2.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bool => 2,
            other => other.value_bits(),
        }
    }

    /// Bits that a value of this type can have: 1 for a boolean.
    #[must_use]
    pub const fn value_bits(self) -> u32 {
        match self {
            Self::Bool => 1,
            Self::Uint8 => 8,
            Self::Uint16 => 16,
            Self::Uint32 => 32,
            Self::Uint64 => 64,
            Self::Uint128 => 128,
            Self::Address => 160,
            Self::Uint256 => 256,
        }
    }

    /// Noise-squashed blocks of a value of this type: ceil(bits / 4).
    #[must_use]
    pub const fn squashed_blocks(self) -> usize {
        self.bits().div_ceil(BITS_PER_BLOCK) as usize
    }

    /// Radix blocks (2 message bits each) of a value of this type before squashing.
    #[must_use]
    pub const fn radix_blocks(self) -> usize {
        self.bits().div_ceil(2) as usize
    }

    /// Lower-case name, as Solidity spells the cleartext type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Uint128 => "uint128",
            Self::Address => "address",
            Self::Uint256 => "uint256",
        }
    }
}

impl fmt::Display for FheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_bytes_round_trip_and_nothing_else_parses() {
        let known: Vec<u8> = (0..=u8::MAX).filter(|b| FheType::from_u8(*b).is_some()).collect();
        assert_eq!(known, FheType::ALL.map(FheType::to_u8));
        for ty in FheType::ALL {
            assert_eq!(FheType::from_u8(ty.to_u8()), Some(ty));
        }
    }

    #[test]
    fn widths_and_blocks() {
        let table = FheType::ALL.map(|t| (t.bits(), t.value_bits(), t.squashed_blocks(), t.radix_blocks()));
        assert_eq!(
            table,
            [
                (2, 1, 1, 1),
                (8, 8, 2, 4),
                (16, 16, 4, 8),
                (32, 32, 8, 16),
                (64, 64, 16, 32),
                (128, 128, 32, 64),
                (160, 160, 40, 80),
                (256, 256, 64, 128)
            ]
        );
    }
}
