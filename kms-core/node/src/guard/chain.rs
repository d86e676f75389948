//! One host chain through all of its endpoints.

use alloy_primitives::{Address, Bytes};
use futures::future::try_join_all;
use kms_chain::manifest::HostChain;
use kms_chain::request::Finality;

use super::endpoint::{BlockRef, Endpoint, EndpointError};
use super::verdict::NotYetReason;
use super::view::Stop;
use crate::error::ConfigError;

/// What all endpoints say to one question.
#[derive(Debug)]
pub(super) struct Reading<V> {
    /// The block that is final enough.
    pub(super) block: BlockRef,
    /// The answer there: the same from all.
    pub(super) at_final: V,
    /// The answers at the latest block of each endpoint.
    pub(super) at_latest: Vec<V>,
}

/// A chain and its endpoints.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) host: HostChain,
    pub(super) endpoints: Vec<Endpoint>,
}

impl Chain {
    pub(super) fn new(host: &HostChain, urls: &[String]) -> Result<Self, ConfigError> {
        let endpoint = |url: &String| {
            Endpoint::new(host.chain_id, url)
                .map_err(|problem| ConfigError::Value { key: format!("rpc of chain {}", host.chain_id), problem })
        };
        let endpoints = urls.iter().map(endpoint).collect::<Result<_, _>>()?;
        Ok(Self { host: host.clone(), endpoints })
    }

    /// The gateway whose requests this chain records.
    pub(super) fn gateway(&self) -> Address {
        self.host.contracts.decryption_gateway
    }

    /// Asks the lens at one block hash that satisfies `asked` and the floor, and at the latest blocks.
    pub(super) async fn read<V: Clone + PartialEq>(
        &self,
        asked: Finality,
        question: Bytes,
        answer: impl Fn(&Bytes) -> Result<V, String>,
    ) -> Result<Reading<V>, Stop> {
        let finalities = [asked, self.host.floor()];
        let heads = try_join_all(self.endpoints.iter().map(|e| e.heads(finalities))).await?;
        // The lowest height: every endpoint has to know the block.
        let target = heads.iter().map(|h| h.target).min().flatten().ok_or_else(|| {
            Stop::Wait(NotYetReason::NotFinal, "the chain is shorter than the finality asked for".into())
        })?;
        let blocks = try_join_all(self.endpoints.iter().zip(&heads).map(async |(endpoint, head)| {
            if head.latest.number == target { Ok(head.latest) } else { endpoint.block_at(target).await }
        }))
        .await?;
        let block = same(&blocks).ok_or_else(|| {
            Stop::Wait(NotYetReason::BlockUnknown, format!("the endpoints disagree about block {target}"))
        })?;

        let views = try_join_all(self.endpoints.iter().zip(&heads).map(async |(endpoint, head)| {
            let ask = async |hash| {
                let bytes = endpoint.call(self.host.contracts.guard_lens, question.clone(), hash).await?;
                answer(&bytes)
                    .map_err(|problem| EndpointError::Unavailable { endpoint: endpoint.name().into(), problem })
            };
            if head.latest.hash == block.hash {
                let view = ask(block.hash).await?;
                Ok::<_, EndpointError>((view.clone(), view))
            } else {
                futures::try_join!(ask(block.hash), ask(head.latest.hash))
            }
        }))
        .await?;

        let (mut finals, at_latest): (Vec<_>, Vec<_>) = views.into_iter().unzip();
        let at_final = finals.swap_remove(0);
        if finals.iter().any(|other| *other != at_final) {
            let detail = format!("the endpoints disagree about the state of block {target}");
            return Err(Stop::Wait(NotYetReason::BlockUnknown, detail));
        }
        Ok(Reading { block, at_final, at_latest })
    }
}

fn same(blocks: &[BlockRef]) -> Option<BlockRef> {
    let first = blocks.first()?;
    blocks.iter().all(|b| b.hash == first.hash).then_some(*first)
}

impl From<EndpointError> for Stop {
    fn from(error: EndpointError) -> Self {
        let reason = match &error {
            EndpointError::Unavailable { .. } | EndpointError::WrongChain { .. } => NotYetReason::ChainUnavailable,
            EndpointError::BlockUnknown { .. } => NotYetReason::BlockUnknown,
        };
        Self::Wait(reason, error.to_string())
    }
}
