//! A `Decrypt` call, parsed.

use alloy_primitives::{Address, B256, Bytes, FixedBytes};
use kms_chain::extra_data::ExtraData;
use kms_chain::handle::check_request_handles;
use kms_chain::request::{Finality, Request, pull_request_id, request_id};
use kms_proto::bounds::{self, BoundsError};
use kms_proto::node::{self, RefusedReason, decrypt_request};

use super::refused;
use super::weight::Purpose;
use crate::party::Party;
use crate::store::RequestKey;

/// A `Decrypt` call whose form is right, with the id that its content gives it.
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) id: B256,
    pub(super) chain_id: u64,
    pub(super) epoch_id: B256,
    pub(super) source: Source,
    pub(super) handles: Vec<B256>,
    /// extraData that will be signed and given back.
    pub(super) extra_data: Bytes,
    /// As it came, for the record.
    pub(super) raw: node::DecryptRequest,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    Request(Request),
    Public,
}

impl Call {
    /// Reads a call. Everything that is wrong with it for good is a refusal.
    ///
    /// # Errors
    /// A field is malformed, the chain is not served, a handle is not valid, or the extra data is not for this call.
    pub fn parse(party: &Party, raw: node::DecryptRequest) -> Result<Self, node::Refused> {
        let malformed = |problem: String| refused(RefusedReason::Malformed, problem);
        let bounds = |error: BoundsError| malformed(error.to_string());
        bounds::check_decrypt(&raw).map_err(bounds)?;
        let epoch_id: B256 = bounds::id("epoch_id", &raw.epoch_id).map_err(bounds)?.into();
        let chain_id = raw.chain_id;
        let chain = party.chain(chain_id).ok_or_else(|| {
            refused(RefusedReason::UnknownChain, format!("this party does not serve chain {chain_id}"))
        })?;
        let list = |handles: &[Vec<u8>]| {
            let handles: Vec<_> = handles.iter().map(|h| B256::try_from(h.as_slice()).unwrap_or_default()).collect();
            match check_request_handles(&handles, chain_id) {
                Ok(_) => Ok(handles),
                Err(error) => Err(malformed(error.to_string())),
            }
        };
        let own = party.context();
        let (id, source, handles, extra_data) = match &raw.source {
            None => return Err(malformed("source is missing".into())),
            Some(decrypt_request::Source::Request(r)) => {
                let request = on_chain(r, list(&r.handles)?).ok_or_else(|| malformed("request".into()))?;
                Finality::parse(request.finality).map_err(|e| malformed(e.to_string()))?;
                if request.contextId != own {
                    let detail = format!("context {} is to answer, this party is of {own}", request.contextId);
                    return Err(refused(RefusedReason::Context, detail));
                }
                let id = request_id(chain_id, chain.contracts.decryption_gateway, &request);
                let extra = ExtraData::V3 { context: own, epoch: epoch_id, request_id: id }.encode();
                let handles = request.handles.clone();
                (id, Source::Request(request), handles, extra)
            }
            Some(decrypt_request::Source::Public(r)) => {
                let handles = list(&r.handles)?;
                let extra = ExtraData::parse(&r.extra_data).map_err(|e| malformed(e.to_string()))?;
                if extra.context().is_some_and(|context| context != own) {
                    return Err(refused(RefusedReason::Context, "the extra data names another context"));
                }
                if extra.epoch().is_some_and(|epoch| epoch != epoch_id) {
                    return Err(malformed("the extra data names another epoch than the call".into()));
                }
                if extra.request_id().is_some() {
                    // It would be an answer to a gateway request that nobody has checked.
                    return Err(malformed("a pull answer can't be bound to a request of the gateway".into()));
                }
                let id = pull_request_id(chain_id, &handles, &r.extra_data);
                (id, Source::Public, handles, Bytes::copy_from_slice(&r.extra_data))
            }
        };
        Ok(Self { id, chain_id, epoch_id, source, handles, extra_data, raw })
    }

    /// Id of the request.
    pub fn id(&self) -> B256 {
        self.id
    }

    pub(super) fn key(&self) -> RequestKey {
        RequestKey { id: self.id, epoch_id: self.epoch_id }
    }

    pub(super) const fn purpose(&self) -> Purpose {
        match self.source {
            Source::Request(_) => Purpose::OnChain,
            Source::Public => Purpose::Other,
        }
    }
}

fn on_chain(r: &node::OnChainRequest, handles: Vec<B256>) -> Option<Request> {
    Some(Request {
        requester: Address::try_from(r.requester.as_slice()).ok()?,
        nonce: r.nonce,
        handles,
        selector: FixedBytes::<4>::try_from(r.selector.as_slice()).ok()?,
        gasLimit: r.gas_limit,
        finality: u16::try_from(r.finality).ok()?,
        deadline: r.deadline,
        contextId: B256::try_from(r.context_id.as_slice()).ok()?,
    })
}
