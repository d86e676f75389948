//! What can go wrong.

use std::io;
use std::path::PathBuf;

use kms_encoding::{BlocksError, FheType, ParamsId};

/// Bytes that are not the object they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// More bytes than an honest object has.
    #[error("{bytes} bytes are more than the limit of {limit}")]
    TooLarge {
        /// Given.
        bytes: usize,
        /// Allowed.
        limit: usize,
    },
    /// tfhe can't read it.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Bytes after the end of the object.
    #[error("{bytes} bytes after the end of the object")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// Right type, other dimensions or moduli.
    #[error("the object belongs to other parameters, or is malformed inside")]
    OtherParameters,
}

impl FormatError {
    /// tfhe's message, shortened: it may quote its input.
    pub(crate) fn malformed(message: &str) -> Self {
        Self::Malformed(message.chars().filter(|c| !c.is_control()).take(200).collect())
    }
}

/// Why a public key bundle can't be written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `key.json` is not what it should be.
    #[error("key.json: {0}")]
    Info(String),
    /// A file has another digest or size than `key.json` says.
    #[error("{file} is not the file that key.json describes: wrong {what}")]
    File {
        /// Name.
        file: &'static str,
        /// "size" or "digest".
        what: &'static str,
    },
    /// A file with the right digest can't be used.
    #[error("{file}: {source}")]
    Format {
        /// Name.
        file: &'static str,
        /// Why.
        source: FormatError,
    },
    /// Users would encrypt under a key that nobody can compute with.
    #[error("public_key.bin is not the public key of keyset.bin")]
    OtherPublicKey,
    /// The threads to compute on can't be started.
    #[error("starting threads: {0}")]
    Threads(String),
    /// The common reference string can't be made or used.
    #[error("the CRS: {0}")]
    Crs(String),
}

/// Why an encrypted input is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// Not a proven list of these parameters.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// No value, or more than 255.
    #[error("an input has 1 to 255 values, this has {0}")]
    Count(usize),
    /// More bits than one proof covers.
    #[error("an input has at most {limit} bits, this has {bits}")]
    Bits {
        /// Of the values; a boolean counts 2.
        bits: usize,
        /// Of the parameter set.
        limit: usize,
    },
    /// A value of a type that handles don't have.
    #[error("value {index} has an unsupported type")]
    Type {
        /// Position in the list.
        index: usize,
    },
    /// The proof does not hold for this list, key and metadata (chain, ACL, contract, user).
    #[error("the proof is not valid for this key, chain, contract and user")]
    Proof,
    /// tfhe failed.
    #[error(transparent)]
    Eval(#[from] EvalError),
}

/// Why an operation was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The operation does not exist for these types.
    #[error("{op} is not defined for {lhs} and {rhs}")]
    Types {
        /// Operation.
        op: &'static str,
        /// Type of the first operand.
        lhs: FheType,
        /// Type of the second operand.
        rhs: FheType,
    },
    /// The key bundle has no squashed-compression key.
    #[error("the key has no squashed-compression key: lists can't be made")]
    NoCompressionKey,
    /// tfhe returned an error.
    #[error("tfhe: {0}")]
    Tfhe(String),
    /// tfhe panicked; the message went to the panic hook.
    #[error("tfhe panicked")]
    Panicked,
    /// A stored ciphertext can't be used.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// Why ciphertext object bytes are refused. Final: the digest on chain names exactly these bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// Larger than any honest object.
    #[error("an object has at most {limit} bytes, this has {bytes}")]
    TooLarge {
        /// Given.
        bytes: usize,
        /// Allowed.
        limit: usize,
    },
    /// Ends inside the header or before the end of the payload.
    #[error("the object is truncated")]
    Truncated,
    /// Bytes after the payload.
    #[error("{bytes} bytes after the end of the object")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// Not a ciphertext object.
    #[error("this is not a ciphertext object")]
    Magic,
    /// A version from the future.
    #[error("object version {0} is not supported")]
    Version(u8),
    /// Unknown payload format.
    #[error("object format {0} is not supported")]
    Format(u8),
    /// Another parameter set than the key's.
    #[error("the object has parameter set 0x{got:02x}, the key {expected}")]
    Params {
        /// In the object.
        got: u8,
        /// Of the key.
        expected: ParamsId,
    },
    /// Under another key.
    #[error("the object belongs to another key")]
    Key,
    /// No handle, too many, or more than one in an integer object.
    #[error("{0} handles are not possible in this format")]
    HandleCount(usize),
    /// A handle with a type that does not exist.
    #[error("handle {index} has the unsupported type {ty}")]
    HandleType {
        /// Position.
        index: usize,
        /// Type byte.
        ty: u8,
    },
    /// The same handle twice.
    #[error("handle {index} repeats an earlier one")]
    HandleRepeated {
        /// Position.
        index: usize,
    },
    /// The handle asked for is not in the object.
    #[error("the object does not hold the handle")]
    HandleMissing,
    /// The payload can't be read.
    #[error("payload: {0}")]
    Payload(#[from] FormatError),
    /// The payload has other types or block counts than the handles.
    #[error("the payload of handle {index} is not a {ty}")]
    PayloadType {
        /// Position.
        index: usize,
        /// The handle's type.
        ty: FheType,
    },
    /// The payload has blocks that no handle names, or too few.
    #[error("the payload has {got} blocks, the handles need {expected}")]
    BlockCount {
        /// By the handles.
        expected: usize,
        /// In the payload.
        got: usize,
    },
    /// A block has an unexpected modulus, dimension or degree.
    #[error("block {index} has an unexpected modulus, dimension or degree")]
    Block {
        /// Position in the object.
        index: usize,
    },
    /// The blocks can't be put together.
    #[error(transparent)]
    Blocks(#[from] BlocksError),
}
