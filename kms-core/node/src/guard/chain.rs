//! One host chain through all of its endpoints.

use std::sync::Arc;

use alloy_primitives::{Address, Bytes};
use kms_chain::manifest::HostChain;
use kms_chain::request::Finality;

use super::endpoint::{BlockRef, Endpoint, EndpointError};
use super::reader::{self, Waiting};
use super::verdict::NotYetReason;
use super::view::Stop;
use crate::error::ConfigError;

/// What all endpoints say to one question.
#[derive(Clone, Debug)]
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
    pub(super) waiting: Waiting,
}

impl Chain {
    pub(super) fn new(host: &HostChain, urls: &[String]) -> Result<Self, ConfigError> {
        let endpoint = |url: &String| {
            Endpoint::new(host.chain_id, url)
                .map_err(|problem| ConfigError::Value { key: format!("rpc of chain {}", host.chain_id), problem })
        };
        let endpoints = urls.iter().map(endpoint).collect::<Result<_, _>>()?;
        Ok(Self { host: host.clone(), endpoints, waiting: Waiting::default() })
    }

    /// The gateway whose requests this chain records.
    pub(super) fn gateway(&self) -> Address {
        self.host.contracts.decryption_gateway
    }

    /// Asks the lens at one block hash that satisfies `asked` and the floor, and at the latest blocks.
    pub(super) async fn read<V>(
        self: &Arc<Self>,
        asked: Finality,
        question: Bytes,
        answer: impl Fn(&Bytes) -> Result<V, String>,
    ) -> Result<Reading<V>, Stop> {
        let raw = reader::ask(self, asked, question).await?;
        let answer =
            |bytes: &Bytes| answer(bytes).map_err(|problem| Stop::Wait(NotYetReason::ChainUnavailable, problem));
        Ok(Reading {
            block: raw.block,
            at_final: answer(&raw.at_final)?,
            at_latest: raw.at_latest.iter().map(answer).collect::<Result<_, _>>()?,
        })
    }
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
