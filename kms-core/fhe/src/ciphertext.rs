//! Ciphertexts that one computes on, and their noise-squashed form.

use kms_encoding::{FheType, ParamsId};
use tfhe::conformance::ParameterSetConformant;
use tfhe::{
    FheBool, FheBoolConformanceParams, FheUint, FheUint8, FheUint16, FheUint32, FheUint64, FheUint128, FheUint160,
    FheUint256, FheUintId, SquashedNoiseFheBool, SquashedNoiseFheUint,
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
/// A new value of the given type: the expression is evaluated with `$id` naming tfhe's integer type.
macro_rules! make {
    ($ty:expr, $id:ident => $uint:expr, bool => $bool:expr) => {
        match $ty {
            ::kms_encoding::FheType::Bool => $crate::ciphertext::Inner::Bool($bool),
            ::kms_encoding::FheType::Uint8 => $crate::ciphertext::Inner::Uint8({ type $id = ::tfhe::FheUint8; $uint }),
            ::kms_encoding::FheType::Uint16 => $crate::ciphertext::Inner::Uint16({ type $id = ::tfhe::FheUint16; $uint }),
            ::kms_encoding::FheType::Uint32 => $crate::ciphertext::Inner::Uint32({ type $id = ::tfhe::FheUint32; $uint }),
            ::kms_encoding::FheType::Uint64 => $crate::ciphertext::Inner::Uint64({ type $id = ::tfhe::FheUint64; $uint }),
            ::kms_encoding::FheType::Uint128 => $crate::ciphertext::Inner::Uint128({ type $id = ::tfhe::FheUint128; $uint }),
            ::kms_encoding::FheType::Address => $crate::ciphertext::Inner::Address({ type $id = ::tfhe::FheUint160; $uint }),
            ::kms_encoding::FheType::Uint256 => $crate::ciphertext::Inner::Uint256({ type $id = ::tfhe::FheUint256; $uint }),
        }
    };
}
pub(crate) use {dispatch, dispatch_pair, make, on_uint, on_uints};

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

    /// Reads a ciphertext of a known type and checks its dimensions, moduli and block count.
    ///
    /// # Errors
    /// See [`FormatError`].
    pub fn from_bytes(bytes: &[u8], ty: FheType, params: ParamsId) -> Result<Self, FormatError> {
        Ok(Self(make!(ty, Uint => read_uint::<<Uint as UintId>::Id>(bytes, params)?, bool => {
            let expected = FheBoolConformanceParams::from(numbers(params).compute);
            serial::read_conformant::<FheBool>(bytes, MAX_BYTES, &expected)?
        })))
    }
}

/// The type parameter of one of tfhe's integers.
trait UintId {
    type Id: FheUintId;
}

impl<I: FheUintId> UintId for FheUint<I> {
    type Id = I;
}

fn read_uint<I: FheUintId>(bytes: &[u8], params: ParamsId) -> Result<FheUint<I>, FormatError> {
    let expected = <FheUint<I> as ParameterSetConformant>::ParameterSet::from(numbers(params).compute);
    serial::read_conformant(bytes, MAX_BYTES, &expected)
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
