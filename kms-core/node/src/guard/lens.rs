//! Questions to `GuardLens` and its answers.

use alloy::sol_types::SolCall;
use alloy_primitives::{Address, B256, Bytes};
use kms_chain::abi::{GuardLens, IGuardLens};
use kms_chain::request::Request;
use kms_chain::user_view::{UserQuestion, UserView};

use super::view::{HandleView, PublicView, RequestView};

/// `viewRequest(request)`.
pub(super) fn request_call(request: &Request) -> Bytes {
    GuardLens::viewRequestCall { request: request.into() }.abi_encode().into()
}

/// What `viewRequest` returned.
pub(super) fn request_answer(bytes: &Bytes) -> Result<RequestView, String> {
    let view = GuardLens::viewRequestCall::abi_decode_returns_validate(bytes).map_err(malformed)?;
    Ok(RequestView {
        state: view.state,
        effective_deadline: view.effectiveDeadline,
        timestamp: view.blockTimestamp,
        context_live: view.contextLive,
        handles: view.handles.into_iter().map(handle_view).collect(),
    })
}

/// `viewHandles(0, handles)`: rights of the public.
pub(super) fn handles_call(handles: &[B256]) -> Bytes {
    GuardLens::viewHandlesCall { account: Address::ZERO, handles: handles.to_vec() }.abi_encode().into()
}

/// What `viewHandles` returned.
pub(super) fn handles_answer(bytes: &Bytes) -> Result<PublicView, String> {
    let view = GuardLens::viewHandlesCall::abi_decode_returns_validate(bytes).map_err(malformed)?;
    Ok(PublicView { current_context: view._2, handles: view._3.into_iter().map(handle_view).collect() })
}

/// `viewUserDecryption(query)`.
pub(super) fn user_call(question: &UserQuestion) -> Bytes {
    question.call().abi_encode().into()
}

/// What `viewUserDecryption` returned.
pub(super) fn user_answer(bytes: &Bytes) -> Result<UserView, String> {
    GuardLens::viewUserDecryptionCall::abi_decode_returns_validate(bytes).map_err(malformed)
}

fn handle_view(view: IGuardLens::HandleView) -> HandleView {
    HandleView {
        persist_allowed: view.persistAllowed,
        public: view.allowedForDecryption,
        key_id: view.keyId,
        digest: view.digest,
        key_state: view.keyState,
    }
}

fn malformed(error: alloy::sol_types::Error) -> String {
    format!("the answer of the lens makes no sense: {error}")
}
