//! Keys and arithmetic: what this crate needs of `kms_fhe`, in terms of handles and stored bytes.

use std::path::Path;

use alloy_primitives::{Address, B256, U256};
use kms_chain::handle::Handle;
use kms_encoding::{FheType, ParamsId, Plaintext, Word};
use kms_fhe::{
    BinaryOp, Ciphertext, EvalKeys, InputError, PublicKeys,
    inputs::{self, InputMetadata},
    object,
};

use crate::{
    error::{Error, Result},
    event::{Kind, Operation},
};

/// What the workers need of the keys, as a trait: tests put arithmetic of their own behind it.
pub trait Arithmetic: std::fmt::Debug + Send + Sync {
    /// Id of the key.
    fn key_id(&self) -> B256;

    /// Checks form and proof of a list and returns the types of its members. Nothing is expanded: a post of 24 KB must not
    /// cost 16 MB before the chain has seen it.
    ///
    /// # Errors
    /// What is wrong with it; all but [`InputError::Eval`] is the poster's fault.
    fn check_input(&self, list: &[u8], metadata: &InputMetadata) -> Result<Vec<FheType>, InputError>;

    /// Expands a list into the bytes of its members. Its proof is checked again: the bytes come from a file.
    ///
    /// # Errors
    /// As [`Arithmetic::check_input`].
    fn expand_input(&self, list: &[u8], metadata: &InputMetadata) -> Result<Vec<Vec<u8>>, InputError>;

    /// Evaluates an operation on the stored bytes of its operands.
    ///
    /// # Errors
    /// Why it can't be evaluated; it never can.
    fn compute(&self, operation: &Operation, operands: &[Vec<u8>]) -> Result<Vec<u8>, String>;

    /// Squashes a stored ciphertext and returns the bytes of its object.
    ///
    /// # Errors
    /// Why it can't be squashed.
    fn squash_object(&self, handle: B256, bytes: &[u8]) -> Result<Vec<u8>, String>;
}

/// The keys of one bundle, ready for use: about 1 GB with production parameters.
#[derive(Clone, Debug)]
pub struct Engine {
    public: PublicKeys,
    eval: EvalKeys,
}

impl Engine {
    /// Loads and checks the bundle in `folder`. Takes seconds and about 1 GB with production parameters.
    ///
    /// # Errors
    /// When a file is absent, damaged or not what `key.json` says.
    pub fn load(folder: &Path) -> Result<Self> {
        let public = PublicKeys::load(folder).map_err(|error| Error::Keys(error.to_string()))?;
        let eval = EvalKeys::load(folder).map_err(|error| Error::Keys(error.to_string()))?;
        Ok(Self { public, eval })
    }

    /// Its parameter set.
    #[must_use]
    pub fn params(&self) -> ParamsId {
        self.eval.params()
    }

    fn read(&self, handle: B256, bytes: &[u8]) -> Result<Ciphertext, String> {
        Ciphertext::from_bytes(bytes, fhe_type(handle)?, self.params()).map_err(|error| format!("{handle}: {error}"))
    }

    fn trivial(&self, fhe_type: FheType, plain: U256) -> Result<Ciphertext, String> {
        let plain = Plaintext::new(fhe_type, Word(plain.to_be_bytes())).map_err(|error| error.to_string())?;
        self.eval.trivial(plain).map_err(|error| error.to_string())
    }

    fn binary(&self, kind: Kind, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, String> {
        let op = match kind {
            Kind::Add => BinaryOp::Add,
            Kind::Sub => BinaryOp::Sub,
            Kind::Eq => BinaryOp::Eq,
            Kind::Ge => BinaryOp::Ge,
            Kind::Input | Kind::Trivial | Kind::Cast | Kind::Select => {
                return Err(format!("{} with the wrong operands", kind.name()));
            }
        };
        self.eval.binary(op, a, b).map_err(|error| error.to_string())
    }
}

impl Arithmetic for Engine {
    fn key_id(&self) -> B256 {
        self.public.info().key_id().into()
    }

    fn check_input(&self, list: &[u8], metadata: &InputMetadata) -> Result<Vec<FheType>, InputError> {
        inputs::verify(&self.public, list, metadata)
    }

    fn expand_input(&self, list: &[u8], metadata: &InputMetadata) -> Result<Vec<Vec<u8>>, InputError> {
        let members = inputs::verify_and_expand(&self.public, &self.eval, list, metadata)?;
        members.iter().map(|member| Ok(member.to_bytes()?)).collect()
    }

    fn compute(&self, operation: &Operation, operands: &[Vec<u8>]) -> Result<Vec<u8>, String> {
        let wanted = fhe_type(operation.result)?;
        let operands = operation
            .operands
            .iter()
            .zip(operands)
            .map(|(handle, bytes)| self.read(*handle, bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let result = match (operation.kind, operands.as_slice(), operation.plain) {
            (Kind::Trivial, [], Some(plain)) => self.trivial(wanted, plain),
            (Kind::Cast, [a], None) => self.eval.cast(a, wanted).map_err(|error| error.to_string()),
            (Kind::Select, [control, a, b], None) => {
                self.eval.if_then_else(control, a, b).map_err(|error| error.to_string())
            }
            (kind, [a, b], None) => self.binary(kind, a, b),
            (kind, [a], Some(plain)) => self.binary(kind, a, &self.trivial(a.ty(), plain)?),
            (kind, ..) => Err(format!("{} with the wrong operands", kind.name())),
        }?;
        if result.ty() != wanted {
            return Err(format!("the result is a {}, its handle a {wanted}", result.ty()));
        }
        result.to_bytes().map_err(|error| error.to_string())
    }

    fn squash_object(&self, handle: B256, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let value = self.read(handle, bytes)?;
        let squashed = self.eval.squash(&value).map_err(|error| error.to_string())?;
        object::encode_integer(self.params(), &self.key_id().0, &handle.0, &squashed).map_err(|error| error.to_string())
    }
}

fn fhe_type(handle: B256) -> Result<FheType, String> {
    Handle::parse(handle).map(|handle| handle.fhe_type()).map_err(|error| error.to_string())
}

/// What a list's proof is bound to.
#[must_use]
pub fn input_metadata(chain_id: u64, access_control: Address, contract: Address, user: Address) -> InputMetadata {
    InputMetadata {
        chain_id: U256::from(chain_id).to_be_bytes(),
        acl: access_control.into_array(),
        contract: contract.into_array(),
        user: user.into_array(),
    }
}

/// Stable name of a fault, for callers and metrics.
#[must_use]
pub fn fault_label(fault: &InputError) -> &'static str {
    match fault {
        InputError::Proof => "invalid_proof",
        InputError::Count(_) => "wrong_count",
        InputError::Bits { .. } => "too_many_bits",
        InputError::Type { .. } => "unsupported_type",
        InputError::Eval(_) => "internal",
        _ => "malformed_ciphertext",
    }
}
