//! What `GuardLens` says, as plain values, and the conclusions from it. No I/O: everything here is tested by tables.

use alloy_primitives::B256;
use kms_chain::handle::Handle;
use kms_chain::request::Request;
use kms_chain::user_view::{KeyUse, key_use};

use super::verdict::{HandleGrant, NotYetReason, Refusal};

/// A handle at some block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HandleView {
    /// The requester has a lasting right to it.
    pub(super) persist_allowed: bool,
    /// Everybody may have it decrypted.
    pub(super) public: bool,
    /// Its key; zero: no ciphertext is committed yet.
    pub(super) key_id: B256,
    /// SHA-256 of the ciphertext object.
    pub(super) digest: B256,
    /// `IKeyManagement.KeyState`.
    pub(super) key_state: u8,
}

/// A request at some block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestView {
    /// 0 unknown, 1 open, 2 fulfilled, 3 delivered, 4 delivery failed, 5 expired.
    pub(super) state: u8,
    /// Deadline, as cancelling may have shortened it.
    pub(super) effective_deadline: u64,
    /// Time of the block.
    pub(super) timestamp: u64,
    /// Whether the request's context is known and not destroyed.
    pub(super) context_live: bool,
    /// The handles, in request order.
    pub(super) handles: Vec<HandleView>,
}

/// Handles at some block, rights of the public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicView {
    /// The chain's current context.
    pub(super) current_context: B256,
    /// The handles, in order.
    pub(super) handles: Vec<HandleView>,
}

/// Why there is no grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Maybe later.
    Wait(NotYetReason, String),
    /// Never.
    Refuse(Refusal),
}

impl Stop {
    /// Equal but for times and heights, which differ between endpoints without any of them lying.
    pub(super) fn same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Wait(a, _), Self::Wait(b, _)) => a == b,
            (Self::Refuse(a), Self::Refuse(b)) => a.name() == b.name(),
            _ => false,
        }
    }
}

impl Stop {
    /// What remains of a conclusion at the latest block when the final block leads to another one.
    pub(super) fn confirmed_by(self, at_final: Result<(), Self>) -> Self {
        match self {
            Self::Refuse(refusal) if refusal.lasts() => {
                let sure = at_final.is_err_and(|stop| matches!(&stop, Self::Refuse(r) if r.name() == refusal.name()));
                Self::Refuse(if sure { refusal } else { Refusal::Unconfirmed(Box::new(refusal)) })
            }
            other => other,
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

/// Whether a request is open at the latest block and nothing forbids to start on it.
pub(super) fn open_at_latest(request: &Request, handles: &[Handle], view: &RequestView) -> Result<(), Stop> {
    same_length(handles, &view.handles)?;
    let deadline = if view.state == 0 { request.deadline } else { view.effective_deadline };
    match view.state {
        0 | 1 if view.timestamp >= deadline => {
            let cancelled = deadline < request.deadline;
            return Err(if cancelled {
                Refusal::Cancelled.into()
            } else {
                Refusal::DeadlinePassed { deadline, now: view.timestamp }.into()
            });
        }
        // The request, and the requester's right with it, may stand in a block that this party's endpoint lacks.
        0 => return Err(Stop::Wait(NotYetReason::Behind, "this party's chain does not know the request".into())),
        1 => {}
        2 => return Err(Refusal::NotOpen("fulfilled").into()),
        3 => return Err(Refusal::NotOpen("delivered").into()),
        4 => return Err(Refusal::NotOpen("fulfilled, its delivery failed").into()),
        5 => return Err(Refusal::NotOpen("expired").into()),
        _ => return Err(Refusal::NotOpen("in a state that this program does not know").into()),
    }
    if !view.context_live {
        return Err(Refusal::ContextDestroyed(request.contextId).into());
    }
    key_states(handles, &view.handles)
}

/// What may be decrypted, read at the block that is final enough.
pub(super) fn grants_at_final(
    request: &Request,
    handles: &[Handle],
    view: &RequestView,
) -> Result<Vec<HandleGrant>, Stop> {
    same_length(handles, &view.handles)?;
    match view.state {
        0 => return Err(Stop::Wait(NotYetReason::NotFinal, "the request's block is not final enough yet".into())),
        1 => {}
        // Open at the latest block: the endpoint contradicts itself or the chain was reorganised in between.
        _ => {
            let detail = "the request is open at the latest block but not at the final one";
            return Err(Stop::Wait(NotYetReason::BlockUnknown, detail.into()));
        }
    }
    if !view.context_live {
        return Err(Refusal::ContextDestroyed(request.contextId).into());
    }
    permitted(request, handles, &view.handles)?;
    grants(handles, &view.handles)
}

/// Whether handles are public at the latest block and nothing forbids to start on them.
pub(super) fn public_at_latest(own_context: B256, handles: &[Handle], view: &PublicView) -> Result<(), Stop> {
    same_length(handles, &view.handles)?;
    if view.current_context != own_context {
        return Err(Refusal::WrongContext { requested: view.current_context, own: own_context }.into());
    }
    if let Some((handle, _)) = handles.iter().zip(&view.handles).find(|(_, view)| !view.public) {
        return Err(Refusal::NotPermitted { account: alloy_primitives::Address::ZERO, handle: handle.raw() }.into());
    }
    key_states(handles, &view.handles)
}

/// What may be decrypted of public handles, read at the chain's floor.
pub(super) fn public_grants_at_final(handles: &[Handle], view: &PublicView) -> Result<Vec<HandleGrant>, Stop> {
    same_length(handles, &view.handles)?;
    if let Some((handle, _)) = handles.iter().zip(&view.handles).find(|(_, view)| !view.public) {
        let detail =
            format!("{} is marked publicly decryptable, but not in a block that is final enough", handle.raw());
        return Err(Stop::Wait(NotYetReason::NotFinal, detail));
    }
    grants(handles, &view.handles)
}

fn same_length(handles: &[Handle], views: &[HandleView]) -> Result<(), Stop> {
    if handles.len() == views.len() {
        return Ok(());
    }
    let detail = format!("the lens answered for {} handles instead of {}", views.len(), handles.len());
    Err(Stop::Wait(NotYetReason::ChainUnavailable, detail))
}

fn permitted(request: &Request, handles: &[Handle], views: &[HandleView]) -> Result<(), Stop> {
    match handles.iter().zip(views).find(|(_, view)| !(view.persist_allowed || view.public)) {
        None => Ok(()),
        Some((handle, _)) => Err(Refusal::NotPermitted { account: request.requester, handle: handle.raw() }.into()),
    }
}

fn grants(handles: &[Handle], views: &[HandleView]) -> Result<Vec<HandleGrant>, Stop> {
    key_states(handles, views)?;
    handles
        .iter()
        .zip(views)
        .map(|(handle, view)| {
            if view.key_id.is_zero() {
                let detail = format!("no ciphertext is committed to {} yet", handle.raw());
                return Err(Stop::Wait(NotYetReason::NotCommitted, detail));
            }
            Ok(HandleGrant { handle: *handle, key_id: view.key_id, digest: view.digest })
        })
        .collect()
}

/// What may be done with the keys.
fn key_states(handles: &[Handle], views: &[HandleView]) -> Result<(), Stop> {
    for (handle, view) in handles.iter().zip(views).filter(|(_, view)| !view.key_id.is_zero()) {
        let (handle, key_id) = (handle.raw(), view.key_id);
        let wait =
            |what: &str| Err(Stop::Wait(NotYetReason::NotCommitted, format!("key {key_id} of {handle} is {what}")));
        let refuse = |state| Err(Refusal::KeyState { handle, key_id, state }.into());
        match key_use(view.key_state) {
            KeyUse::Opens => {}
            KeyUse::Wait(what) => return wait(what),
            KeyUse::Never(state) => return refuse(state),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
