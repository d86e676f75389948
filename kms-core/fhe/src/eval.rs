//! Computing on ciphertexts.
//!
//! tfhe's high-level operations take the server key from a thread local and split their work over the rayon pool they run
//! in. So the keys come with a pool of their own, whose threads got the key at their start and keep it: an operation may be
//! called from anywhere, rayon workers of other pools included, and a task that a waiting thread picks up meanwhile finds
//! the same key. (Setting the key per operation would panic there, where it is in use.)

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kms_encoding::{FheType, ParamsId, Plaintext, Word};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tfhe::integer::U256;
use tfhe::prelude::*;
use tfhe::{CompressedSquashedNoiseCiphertextList, FheBool, ServerKey, set_server_key};

use crate::ciphertext::{Inner, SquashedInner, make, make_uint, on_uint, on_uints};
use crate::{BundleError, Ciphertext, EvalError, Squashed};

/// The keys to compute and to squash with, ready to use: about 1 GB under the production parameters. Clones share them.
#[derive(Clone)]
pub struct EvalKeys {
    params: ParamsId,
    has_compression: bool,
    pool: Arc<ThreadPool>,
}

/// An operation on two ciphertexts of the same type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// Sum modulo 2^bits.
    Add,
    /// Difference modulo 2^bits.
    Sub,
    /// Equality, also of booleans and addresses.
    Eq,
    /// Greater or equal, unsigned.
    Ge,
}

impl BinaryOp {
    const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Eq => "eq",
            Self::Ge => "ge",
        }
    }
}

impl EvalKeys {
    pub(crate) fn new(params: ParamsId, key: ServerKey) -> Result<Self, BundleError> {
        let has_compression = key.supports_noise_squashing_compression();
        let pool = ThreadPoolBuilder::new()
            .thread_name(|i| format!("fhe-{i}"))
            .start_handler(move |_| set_server_key(key.clone()))
            .build()
            .map_err(|e| BundleError::Threads(e.to_string()))?;
        Ok(Self { params, has_compression, pool: Arc::new(pool) })
    }

    /// Parameter set of the key.
    #[must_use]
    pub const fn params(&self) -> ParamsId {
        self.params
    }

    /// Whether compressed squashed lists can be made: the key is there and was loaded.
    #[must_use]
    pub const fn has_compression(&self) -> bool {
        self.has_compression
    }

    /// Runs `f` in the pool that has the server key.
    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, EvalError> {
        catch_unwind(AssertUnwindSafe(|| self.pool.install(f))).map_err(|_| EvalError::Panicked)
    }

    /// A ciphertext of a public constant, under no randomness at all: what `trivialEncrypt` and scalar operands are.
    ///
    /// # Errors
    /// tfhe failed.
    pub fn trivial(&self, value: Plaintext) -> Result<Ciphertext, EvalError> {
        let number = to_u256(value.value());
        self.run(|| {
            Ok(Ciphertext(make!(value.ty(), Uint => Uint::try_encrypt_trivial(number).map_err(tfhe)?, bool => {
                FheBool::try_encrypt_trivial(value.value() != Word::ZERO).map_err(tfhe)?
            })))
        })?
    }

    /// An operation on two ciphertexts of the same type. A scalar operand is a [`Self::trivial`] one.
    ///
    /// # Errors
    /// The types differ or don't have the operation (booleans and addresses only compare for equality), or tfhe failed.
    pub fn binary(&self, op: BinaryOp, lhs: &Ciphertext, rhs: &Ciphertext) -> Result<Ciphertext, EvalError> {
        let types = || EvalError::Types { op: op.name(), lhs: lhs.ty(), rhs: rhs.ty() };
        if op != BinaryOp::Eq && lhs.ty() == FheType::Address {
            return Err(types());
        }
        let pair = (&lhs.0, &rhs.0);
        let result = self.run(|| match op {
            BinaryOp::Add => on_uints!(pair, |x, y, wrap| wrap(x + y)),
            BinaryOp::Sub => on_uints!(pair, |x, y, wrap| wrap(x - y)),
            BinaryOp::Ge => on_uints!(pair, |x, y, wrap| Inner::Bool(x.ge(y))),
            BinaryOp::Eq => match pair {
                (Inner::Bool(x), Inner::Bool(y)) => Some(Inner::Bool(x.eq(y))),
                _ => on_uints!(pair, |x, y, wrap| Inner::Bool(x.eq(y))),
            },
        })?;
        result.map(Ciphertext).ok_or_else(types)
    }

    /// `if_true` where `control` is true, else `if_false`; both of the same type.
    ///
    /// # Errors
    /// The control is not a boolean, the branches differ in type, or tfhe failed.
    pub fn if_then_else(
        &self,
        control: &Ciphertext,
        if_true: &Ciphertext,
        if_false: &Ciphertext,
    ) -> Result<Ciphertext, EvalError> {
        let types =
            |lhs: &Ciphertext, rhs: &Ciphertext| EvalError::Types { op: "if_then_else", lhs: lhs.ty(), rhs: rhs.ty() };
        let Inner::Bool(c) = &control.0 else { return Err(types(control, if_true)) };
        let pair = (&if_true.0, &if_false.0);
        let result = self.run(|| match pair {
            (Inner::Bool(x), Inner::Bool(y)) => Some(Inner::Bool(c.if_then_else(x, y))),
            _ => on_uints!(pair, |x, y, wrap| wrap(c.if_then_else(x, y))),
        })?;
        result.map(Ciphertext).ok_or_else(|| types(if_true, if_false))
    }

    /// The value as another type: reduced modulo 2^bits, or extended with zeros; as a boolean, whether it is not zero.
    ///
    /// # Errors
    /// tfhe failed.
    pub fn cast(&self, value: &Ciphertext, to: FheType) -> Result<Ciphertext, EvalError> {
        if value.ty() == to {
            return Ok(value.clone());
        }
        let unsupported = || EvalError::Types { op: "cast", lhs: value.ty(), rhs: to };
        let result = self.run(|| match (&value.0, to) {
            (Inner::Bool(b), _) => Some(make!(to, Uint => Uint::cast_from(b.clone()), bool => b.clone())),
            (uint, FheType::Bool) => on_uint!(uint, |x, wrap| Inner::Bool(x.ne(U256::from(0u64)))),
            (uint, _) => on_uint!(uint, |x, wrap| make_uint!(to, Uint => Uint::cast_from(x.clone()))).flatten(),
        })?;
        result.map(Ciphertext).ok_or_else(unsupported)
    }

    /// Squashes the noise: seconds of work for wide types under the production parameters.
    ///
    /// # Errors
    /// tfhe failed.
    pub fn squash(&self, value: &Ciphertext) -> Result<Squashed, EvalError> {
        let inner = self.run(|| match &value.0 {
            Inner::Bool(b) => Some(b.squash_noise().map(SquashedInner::Bool)),
            uint => on_uint!(uint, |x, wrap| x.squash_noise().map(SquashedInner::Uint)),
        })?;
        match inner {
            Some(inner) => Ok(Squashed { ty: value.ty(), inner: inner.map_err(tfhe)? }),
            None => Err(EvalError::Types { op: "squash", lhs: value.ty(), rhs: value.ty() }),
        }
    }

    /// Packs squashed values into one compressed list.
    pub(crate) fn compress(&self, values: &[&Squashed]) -> Result<CompressedSquashedNoiseCiphertextList, EvalError> {
        if !self.has_compression() {
            return Err(EvalError::NoCompressionKey);
        }
        self.run(|| {
            let mut builder = CompressedSquashedNoiseCiphertextList::builder();
            for value in values {
                match &value.inner {
                    SquashedInner::Bool(b) => builder.push(b.clone()),
                    SquashedInner::Uint(x) => builder.push(x.clone()),
                };
            }
            builder.build().map_err(tfhe)
        })?
    }
}

impl std::fmt::Debug for EvalKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EvalKeys").field("params", &self.params).finish_non_exhaustive()
    }
}

/// tfhe's 256-bit number.
pub(crate) fn to_u256(word: Word) -> U256 {
    let half = |at: usize| word.0[at..at + 16].iter().fold(0u128, |x, b| x << 8 | u128::from(*b));
    U256::from((half(16), half(0)))
}

fn tfhe(error: ::tfhe::Error) -> EvalError {
    EvalError::Tfhe(error.to_string())
}
