//! Ciphertexts that one computes on, and their noise-squashed form.

use kms_encoding::{FheType, ParamsId};
use tfhe::conformance::ParameterSetConformant;
use tfhe::integer::IntegerCiphertext;
use tfhe::shortint::Ciphertext as Block;
use tfhe::{
    FheBool, FheUint8, FheUint16, FheUint32, FheUint64, FheUint128, FheUint160, FheUint256, SquashedNoiseFheBool,
    SquashedNoiseFheUint,
};

use crate::params::numbers;
use crate::{FormatError, serial};

/// No serialised ciphertext is larger: a `uint256` under the production parameters has 2.1 MB.
pub const MAX_BYTES: usize = 4 << 20;

/// A ciphertext under the compute key.
#[derive(Clone)]
pub struct Ciphertext(pub(crate) Inner);

#[derive(Clone)]
pub(crate) enum Inner {
    Bool(FheBool),
    Uint8(FheUint8),
    Uint16(FheUint16),
    Uint32(FheUint32),
    Uint64(FheUint64),
    Uint128(FheUint128),
    Address(FheUint160),
    Uint256(FheUint256),
}

/// Evaluates an expression on the integer inside; `None` for a boolean.
macro_rules! on_uint {
    ($value:expr, |$x:ident, $wrap:ident| $body:expr) => {
        $crate::ciphertext::dispatch!($value, |$x, $wrap| $body, [Uint8 Uint16 Uint32 Uint64 Uint128 Address Uint256])
    };
}
macro_rules! dispatch {
    ($value:expr, |$x:ident, $wrap:ident| $body:expr, [$($variant:ident)*]) => {
        match $value {
            $($crate::ciphertext::Inner::$variant($x) => {
                #[allow(unused_variables, reason = "not every body makes a value of the same type")]
                let $wrap = $crate::ciphertext::Inner::$variant;
                Some($body)
            })*
            $crate::ciphertext::Inner::Bool(_) => None,
        }
    };
}
/// Evaluates an expression on two integers of the same type; `None` for booleans and for different types.
macro_rules! on_uints {
    ($pair:expr, |$x:ident, $y:ident, $wrap:ident| $body:expr) => {
        $crate::ciphertext::dispatch_pair!(
            $pair, |$x, $y, $wrap| $body, [Uint8 Uint16 Uint32 Uint64 Uint128 Address Uint256]
        )
    };
}
macro_rules! dispatch_pair {
    ($pair:expr, |$x:ident, $y:ident, $wrap:ident| $body:expr, [$($variant:ident)*]) => {
        match $pair {
            $(($crate::ciphertext::Inner::$variant($x), $crate::ciphertext::Inner::$variant($y)) => {
                #[allow(unused_variables, reason = "not every body makes a value of the same type")]
                let $wrap = $crate::ciphertext::Inner::$variant;
                Some($body)
            })*
            _ => None,
        }
    };
}
/// A new integer of the given type: the expression is evaluated with `$id` naming tfhe's type; `None` for booleans.
macro_rules! make_uint {
    ($ty:expr, $id:ident => $uint:expr) => {
        $crate::ciphertext::dispatch_type!($ty, $id => $uint, [
            Uint8 FheUint8, Uint16 FheUint16, Uint32 FheUint32, Uint64 FheUint64, Uint128 FheUint128,
            Address FheUint160, Uint256 FheUint256
        ])
    };
}
macro_rules! dispatch_type {
    ($ty:expr, $id:ident => $uint:expr, [$($variant:ident $tfhe:ident),*]) => {
        match $ty {
            ::kms_encoding::FheType::Bool => None,
            $(::kms_encoding::FheType::$variant => Some({
                type $id = ::tfhe::$tfhe;
                $crate::ciphertext::Inner::$variant($uint)
            }),)*
        }
    };
}
/// A new value of the given type: as `make_uint`, with an expression for booleans.
macro_rules! make {
    ($ty:expr, $id:ident => $uint:expr, bool => $bool:expr) => {
        match $crate::ciphertext::make_uint!($ty, $id => $uint) {
            Some(inner) => inner,
            None => $crate::ciphertext::Inner::Bool($bool),
        }
    };
}
pub(crate) use {dispatch, dispatch_pair, dispatch_type, make, make_uint, on_uint, on_uints};

impl Ciphertext {
    /// The type.
    #[must_use]
    pub const fn ty(&self) -> FheType {
        match self.0 {
            Inner::Bool(_) => FheType::Bool,
            Inner::Uint8(_) => FheType::Uint8,
            Inner::Uint16(_) => FheType::Uint16,
            Inner::Uint32(_) => FheType::Uint32,
            Inner::Uint64(_) => FheType::Uint64,
            Inner::Uint128(_) => FheType::Uint128,
            Inner::Address(_) => FheType::Address,
            Inner::Uint256(_) => FheType::Uint256,
        }
    }

    /// Bytes for the coprocessor's own store: tfhe's safe serialisation; the type is not part of it.
    ///
    /// # Errors
    /// Larger than [`MAX_BYTES`], which no ciphertext of our parameters is.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        if let Inner::Bool(x) = &self.0 {
            return serial::write(x, MAX_BYTES);
        }
        on_uint!(&self.0, |x, wrap| serial::write(x, MAX_BYTES)).unwrap_or(Err(FormatError::OtherParameters))
    }

    /// Reads a ciphertext of a known type and checks its dimensions, moduli, degrees, noise level and block count.
    ///
    /// # Errors
    /// See [`FormatError`].
    pub fn from_bytes(bytes: &[u8], ty: FheType, params: ParamsId) -> Result<Self, FormatError> {
        Ok(Self(make!(ty, Uint => {
            let value: Uint = serial::read(bytes, MAX_BYTES)?;
            let (radix, ..) = value.clone().into_raw_parts();
            check(radix.blocks(), ty, params)?;
            value
        }, bool => {
            let value: FheBool = serial::read(bytes, MAX_BYTES)?;
            check(&[value.clone().into_raw_parts()], ty, params)?;
            value
        })))
    }
}

/// tfhe's own conformance is that of fresh encryptions: it refuses constants (no noise) and results of smaller degree. What
/// every operation here returns, and needs, are blocks without carry and with at most the nominal noise.
fn check(blocks: &[Block], ty: FheType, params: ParamsId) -> Result<(), FormatError> {
    let fresh = numbers(params).compute.to_shortint_conformance_param();
    let max_degree = if ty == FheType::Bool { 1 } else { fresh.degree.get() };
    let usable = |block: &Block| {
        block.ct.is_conformant(&fresh.ct_params)
            && block.message_modulus == fresh.message_modulus
            && block.carry_modulus == fresh.carry_modulus
            && block.atomic_pattern == fresh.atomic_pattern
            && block.degree.get() <= max_degree
            && block.noise_level() <= fresh.noise_level
    };
    if blocks.len() == ty.radix_blocks() && blocks.iter().all(usable) {
        Ok(())
    } else {
        Err(FormatError::OtherParameters)
    }
}

impl std::fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ciphertext").field("ty", &self.ty()).finish_non_exhaustive()
    }
}

/// A ciphertext with squashed noise, under the squashing key: what parties decrypt.
#[derive(Clone)]
pub struct Squashed {
    pub(crate) ty: FheType,
    pub(crate) inner: SquashedInner,
}

#[derive(Clone)]
pub(crate) enum SquashedInner {
    Bool(SquashedNoiseFheBool),
    Uint(SquashedNoiseFheUint),
}

impl Squashed {
    /// The type.
    #[must_use]
    pub const fn ty(&self) -> FheType {
        self.ty
    }
}

impl std::fmt::Debug for Squashed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Squashed").field("ty", &self.ty).finish_non_exhaustive()
    }
}
