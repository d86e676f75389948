//! Asking n parties at once.
//!
//! Connections are made when first needed and again after they broke; a party that is down costs the others nothing.

mod channel;
mod keygen;
mod outcome;
mod user;

pub use crate::tls::Identity;
pub use keygen::{FileError, KeyGenState};
pub use kms_proto::node::{HealthResponse, NotYetReason, RefusedReason};
pub use outcome::{Outcome, PartyError};
pub use user::Read;

use crate::{
    quorum::{Decryption, Quorum},
    tls::TlsError,
    verify::{self, Question},
};
use alloy_primitives::B256;
use futures::{
    FutureExt, Stream, StreamExt,
    future::join_all,
    stream::{BoxStream, FuturesUnordered},
};
use kms_chain::manifest::{Committee, DecryptionDomain, Manifest};
use kms_proto::{
    bounds::{self, MAX_CLIENT_MESSAGE},
    node::{self, node_client::NodeClient},
};
use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Response, Status, transport::Channel};
use tracing::Instrument;

/// How long a party is asked to hold a `Decrypt` call before it says NotYet.
pub const DECRYPT_WAIT: Duration = Duration::from_secs(10);
/// How long any call may take on top of that.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest pause between two calls to one party for one question.
pub const MAX_RETRY: Duration = Duration::from_secs(10);

/// The parties of one committee. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Parties {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    committee: Committee,
    domain: DecryptionDomain,
    /// Party i at place i − 1.
    clients: Vec<NodeClient<Channel>>,
}

/// Parties that can't be prepared for calls.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The TLS configuration can't be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The URL of a party can't be used.
    #[error("the client URL of party {0} is not usable")]
    Url(u32),
}

/// What became of a question that was put to all parties until a deadline.
#[derive(Debug)]
pub struct Collected {
    /// The decryption, if a quorum said the same.
    pub decryption: Option<Decryption>,
    /// The last outcome of every party that was heard of or failed.
    pub outcomes: BTreeMap<u32, Result<Outcome, PartyError>>,
    /// Parties that signed other cleartexts than the quorum.
    pub dissenters: Vec<u32>,
}

impl Parties {
    /// Prepares a client for every party. No connection is made yet.
    ///
    /// # Errors
    /// An unusable root, URL or client identity. The manifest is expected to be checked ([`Manifest::parse`]).
    pub fn connect(manifest: &Manifest, identity: &Identity) -> Result<Self, ConnectError> {
        let committee = manifest.committee.clone();
        let clients = committee
            .parties
            .iter()
            .map(|party| {
                let url = manifest.endpoints(party.index).map(|endpoints| endpoints.client_url.as_str());
                let channel = channel::lazy(&committee, party.index, url.unwrap_or_default(), identity)?;
                Ok(NodeClient::new(channel)
                    .max_decoding_message_size(MAX_CLIENT_MESSAGE)
                    .max_encoding_message_size(MAX_CLIENT_MESSAGE))
            })
            .collect::<Result<_, ConnectError>>()?;
        Ok(Self { inner: Arc::new(Inner { committee, domain: manifest.decryption_domain, clients }) })
    }

    /// The committee.
    #[must_use]
    pub fn committee(&self) -> &Committee {
        &self.inner.committee
    }

    /// The domain that answers are signed in.
    #[must_use]
    pub fn domain(&self) -> &DecryptionDomain {
        &self.inner.domain
    }

    /// Indices of all parties.
    pub fn indices(&self) -> impl Iterator<Item = u32> + use<> {
        1..=self.inner.committee.n
    }

    async fn call<T, F>(
        &self,
        index: u32,
        limit: Duration,
        call: impl FnOnce(NodeClient<Channel>) -> F,
    ) -> Result<T, PartyError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let client = (index as usize).checked_sub(1).and_then(|place| self.inner.clients.get(place));
        let client = client.ok_or(verify::AnswerError::NoParty(index))?.clone();
        match timeout(limit, call(client)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(PartyError::from_status(&status)),
            Err(_) => Err(PartyError::Timeout),
        }
    }

    /// Asks one party once. An answer in the outcome is verified.
    ///
    /// # Errors
    /// The party could not be reached, broke the protocol, or its answer does not verify.
    pub async fn decrypt(&self, index: u32, question: &Question) -> Result<Outcome, PartyError> {
        traced(index, self.decrypt_once(index, question)).await
    }

    async fn decrypt_once(&self, index: u32, question: &Question) -> Result<Outcome, PartyError> {
        let wait = u32::try_from(DECRYPT_WAIT.as_millis()).unwrap_or(u32::MAX);
        let request = about(question.message(wait), question.id());
        let response = self
            .call(index, DECRYPT_WAIT + CALL_TIMEOUT, |mut client| async move { client.decrypt(request).await })
            .await?;
        Outcome::read(&self.inner.committee, &self.inner.domain, index, question, response)
    }

    /// Asks all n parties once, concurrently; yields what each says as it arrives.
    pub fn decrypt_all(
        &self,
        question: &Question,
    ) -> impl Stream<Item = (u32, Result<Outcome, PartyError>)> + Send + Unpin + use<> {
        self.decrypt_some(self.indices(), question)
    }

    /// Asks some parties once, concurrently; yields what each says as it arrives.
    pub fn decrypt_some(
        &self,
        indices: impl IntoIterator<Item = u32>,
        question: &Question,
    ) -> BoxStream<'static, (u32, Result<Outcome, PartyError>)> {
        let question = Arc::new(question.clone());
        indices
            .into_iter()
            .map(|index| {
                let (parties, question) = (self.clone(), question.clone());
                async move { (index, parties.decrypt(index, &question).await) }.boxed()
            })
            .collect::<FuturesUnordered<_>>()
            .boxed()
    }

    /// Asks all parties, again and again where they say NotYet or can't be reached, until a quorum says the same, nobody is
    /// left to ask, or `deadline`.
    pub async fn collect(&self, question: &Question, deadline: Instant) -> Collected {
        let mut quorum = Quorum::new(question, &self.inner.committee);
        let mut outcomes = BTreeMap::new();
        let question = Arc::new(question.clone());
        let ask = |index: u32, pause: Duration| {
            let (parties, question) = (self.clone(), question.clone());
            async move {
                sleep(pause).await;
                (index, parties.decrypt(index, &question).await)
            }
            .boxed()
        };
        let mut asked: FuturesUnordered<_> = self.indices().map(|index| ask(index, Duration::ZERO)).collect();
        while let Ok(Some((index, outcome))) = tokio::time::timeout_at(deadline, asked.next()).await {
            let mut reached = false;
            match &outcome {
                Ok(Outcome::Answer(answer)) => reached = quorum.add(answer.clone()),
                Ok(Outcome::NotYet { retry_after, .. }) => {
                    asked.push(ask(index, (*retry_after).clamp(Duration::from_millis(50), MAX_RETRY)));
                }
                Err(error) if error.is_transient() => asked.push(ask(index, Duration::from_secs(1))),
                Ok(Outcome::Refused { .. } | Outcome::EpochNotLive { .. }) | Err(_) => {}
            }
            outcomes.insert(index, outcome);
            if reached {
                break;
            }
        }
        Collected { decryption: quorum.decryption(), dissenters: quorum.dissenters(), outcomes }
    }

    /// Status of a request at one party, within bounds. Verify its answer or receipt before use.
    ///
    /// # Errors
    /// The party could not be reached or broke the protocol.
    pub async fn get_status(&self, index: u32, request_id: B256) -> Result<node::GetStatusResponse, PartyError> {
        let request = node::GetStatusRequest { request_id: request_id.to_vec() };
        let response =
            self.call(index, CALL_TIMEOUT, |mut client| async move { client.get_status(request).await }).await?;
        bounds::check_status(&response).map_err(verify::AnswerError::from)?;
        Ok(response)
    }

    /// Keys of one party.
    ///
    /// # Errors
    /// The party could not be reached or broke the protocol.
    pub async fn get_keys(&self, index: u32) -> Result<node::GetKeysResponse, PartyError> {
        let call = |mut client: NodeClient<Channel>| async move { client.get_keys(node::GetKeysRequest {}).await };
        let response = self.call(index, CALL_TIMEOUT, call).await?;
        bounds::check_keys(&response).map_err(verify::AnswerError::from)?;
        Ok(response)
    }

    /// Condition of one party. Also refused: a party that says it is another one, or of another committee.
    ///
    /// # Errors
    /// The party could not be reached, broke the protocol, or is not who it should be.
    pub async fn health(&self, index: u32) -> Result<node::HealthResponse, PartyError> {
        let call = |mut client: NodeClient<Channel>| async move { client.health(node::HealthRequest {}).await };
        let response = self.call(index, CALL_TIMEOUT, call).await?;
        bounds::check_health(&response).map_err(verify::AnswerError::from)?;
        if response.index != index {
            return Err(PartyError::OtherParty(response.index));
        }
        if response.committee_hash != self.inner.committee.hash() {
            return Err(PartyError::OtherCommittee);
        }
        Ok(response)
    }

    /// Condition of all parties, asked at once, in order of index.
    pub async fn health_all(&self) -> Vec<(u32, Result<node::HealthResponse, PartyError>)> {
        join_all(self.indices().map(|index| async move { (index, self.health(index).await) })).await
    }
}

/// A call about a request: it names the request, for whoever logs calls on the way, and the span that it is made in.
fn about<T>(message: T, id: B256) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(id) = id.to_string().parse() {
        request.metadata_mut().insert("kms-request-id", id);
    }
    kms_telemetry::inject(request.metadata_mut());
    request
}

/// A span around a question to one party, with what became of it.
async fn traced<Answer>(
    index: u32,
    asking: impl Future<Output = Result<Outcome<Answer>, PartyError>>,
) -> Result<Outcome<Answer>, PartyError> {
    let span = tracing::info_span!("ask party", party = index, otel.kind = "client", said = tracing::field::Empty);
    let outcome = asking.instrument(span.clone()).await;
    match &outcome {
        Ok(outcome) => span.record("said", outcome.name()),
        Err(error) => span.record("said", tracing::field::display(error)),
    };
    outcome
}

#[cfg(test)]
mod tests;
