//! Contract bindings, made from the compiled ABI in `chain/abi`.
//!
//! Each contract stands in a module of its own because each ABI carries its own copy of the structs that it uses; the
//! copies of [`Request`] convert into the one of [`crate::request`].

use crate::request::Request;

macro_rules! binding {
    ($module:ident, $name:ident, $path:literal) => {
        #[allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all)]
        mod $module {
            alloy::sol!(
                #[sol(rpc, all_derives)]
                $name,
                $path
            );
        }
    };
}

binding!(access_control, AccessControl, "abi/AccessControl.json");
binding!(ciphertext_registry, CiphertextRegistry, "abi/CiphertextRegistry.json");
binding!(decryption_gateway, DecryptionGateway, "abi/DecryptionGateway.json");
binding!(fhe_executor, FheExecutor, "abi/FheExecutor.json");
binding!(guard_lens, GuardLens, "abi/GuardLens.json");
binding!(input_verifier, InputVerifier, "abi/InputVerifier.json");
binding!(key_management, KeyManagement, "abi/KeyManagement.json");
binding!(kms_verifier, KmsVerifier, "abi/KmsVerifier.json");

pub use access_control::AccessControl;
pub use ciphertext_registry::{CiphertextRegistry, ICiphertextRegistry};
pub use decryption_gateway::{DecryptionGateway, IDecryptionGateway};
pub use fhe_executor::FheExecutor;
pub use guard_lens::{GuardLens, IGuardLens};
pub use input_verifier::{IInputVerifier, InputVerifier};
pub use key_management::{IKeyManagement, KeyManagement};
pub use kms_verifier::{IKmsVerifier, KmsVerifier};

macro_rules! request_copies {
    ($($copy:ty),*) => { $(
        impl From<&Request> for $copy {
            fn from(request: &Request) -> Self {
                let Request { requester, nonce, handles, selector, gasLimit, finality, deadline, contextId } =
                    request.clone();
                Self { requester, nonce, handles, selector, gasLimit, finality, deadline, contextId }
            }
        }

        impl From<$copy> for Request {
            fn from(copy: $copy) -> Self {
                let requester = copy.requester;
                Self {
                    requester,
                    nonce: copy.nonce,
                    handles: copy.handles,
                    selector: copy.selector,
                    gasLimit: copy.gasLimit,
                    finality: copy.finality,
                    deadline: copy.deadline,
                    contextId: copy.contextId,
                }
            }
        }
    )* };
}

request_copies!(decryption_gateway::IDecryptionGateway::Request, guard_lens::IDecryptionGateway::Request);

impl From<crate::eip712::CiphertextCommitment> for ICiphertextRegistry::Commitment {
    fn from(item: crate::eip712::CiphertextCommitment) -> Self {
        Self { handle: item.handle, keyId: item.keyId, digest: item.digest }
    }
}

impl From<crate::eip712::KeyDigest> for IKeyManagement::KeyDigest {
    fn from(item: crate::eip712::KeyDigest) -> Self {
        Self { keyType: item.keyType, digest: item.digest }
    }
}
