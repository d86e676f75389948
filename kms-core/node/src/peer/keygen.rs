//! Questions of key generations and their answers: calls of their own, on connections of their own.
//!
//! Whoever asks is named by its certificate. Of one peer so many questions are worked on at a time and no more, so that
//! none takes what the others need; further ones wait in the streams of its own connection.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use kms_proto::bounds::{self, MAX_KEYGEN_ANSWER, MAX_KEYGEN_QUESTION};
use kms_proto::peer::keygen_client::KeygenClient;
use kms_proto::peer::{
    KeygenAbsence, KeygenAnswer, KeygenOutcome, KeygenOutcomeQuestion, KeygenQuestion, keygen_server,
};
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::serve::dialler;
use super::{Hub, Inner, dial};
use crate::tls::client_config;

/// Questions of one peer that are worked on, or wait for their answer to come to be, at the same time.
const PLACES: usize = 24;
/// How long a question waits for its answer to come to be.
const HOLD: Duration = Duration::from_secs(10);
/// How long a call may take: being held, and megabytes over a slow line.
const CALL: Duration = Duration::from_secs(120);
/// Bytes under way of one answer, and of all answers of a connection: several answers come at the same time.
const WINDOWS: (u32, u32) = (MAX_KEYGEN_ANSWER as u32, 4 * MAX_KEYGEN_ANSWER as u32);

/// Who answers the questions of peers.
#[tonic::async_trait]
pub trait KeygenAnswers: Send + Sync {
    /// The answer to a question of `peer`, once there is one: the caller limits the time by dropping the future.
    ///
    /// # Errors
    /// Why there is none.
    async fn answer(&self, peer: u16, run: [u8; 32], question: Bytes) -> Result<Bytes, KeygenAbsence>;

    /// Where a run stands.
    fn outcome(&self, run: [u8; 32]) -> KeygenOutcome;
}

/// Why a peer gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// It has none yet.
    NotYet,
    /// It will never have one.
    Over,
    /// It takes the question for none.
    Refused,
    /// It can't be reached, or broke the call off.
    Unreachable,
}

/// The part of the transport that is about key generation.
pub(super) struct Keygen {
    answers: OnceLock<Arc<dyn KeygenAnswers>>,
    /// By index − 1, made at the first question.
    clients: Vec<OnceLock<KeygenClient<Channel>>>,
    /// By index − 1.
    places: Vec<Semaphore>,
}

impl Keygen {
    pub(super) fn new(members: usize) -> Self {
        Self {
            answers: OnceLock::new(),
            clients: (0..members).map(|_| OnceLock::new()).collect(),
            places: (0..members).map(|_| Semaphore::new(PLACES)).collect(),
        }
    }
}

impl Hub {
    /// Who answers the peers' questions about key generations. Once; without it they get none.
    pub fn keygen_answers(&self, answers: Arc<dyn KeygenAnswers>) {
        if self.inner.keygen.answers.set(answers).is_err() {
            tracing::warn!("the transport has its answers for key generations already");
        }
    }

    /// Asks a peer a question of a run.
    ///
    /// # Errors
    /// It gave no answer.
    pub async fn ask(&self, peer: u16, run: [u8; 32], question: Bytes) -> Result<Bytes, Unanswered> {
        let mut client = self.inner.keygen_client(peer)?;
        let asked = KeygenQuestion { run: run.to_vec(), question };
        let calling = tokio::time::timeout(CALL, client.ask(asked));
        let answered = self.inner.cancel.run_until_cancelled(calling).await;
        let Some(Ok(Ok(answer))) = answered else {
            if let Some(Ok(Err(status))) = answered {
                tracing::debug!(peer, %status, "a question about a key generation");
                if status.code() == tonic::Code::InvalidArgument {
                    return Err(Unanswered::Refused);
                }
            }
            return Err(Unanswered::Unreachable);
        };
        let answer = answer.into_inner();
        bounds::check_keygen_answer(&answer).map_err(|_| Unanswered::Refused)?;
        match answer.absence() {
            KeygenAbsence::None => Ok(answer.answer),
            KeygenAbsence::NotYet => Err(Unanswered::NotYet),
            KeygenAbsence::Over => Err(Unanswered::Over),
            KeygenAbsence::Refused => Err(Unanswered::Refused),
        }
    }

    /// Where a run stands at a peer; none if it can't be reached.
    pub async fn keygen_outcome(&self, peer: u16, run: [u8; 32]) -> Option<KeygenOutcome> {
        let mut client = self.inner.keygen_client(peer).ok()?;
        let asking = tokio::time::timeout(HOLD, client.outcome(KeygenOutcomeQuestion { run: run.to_vec() }));
        Some(self.inner.cancel.run_until_cancelled(asking).await?.ok()?.ok()?.into_inner())
    }
}

impl Inner {
    fn keygen_client(&self, peer: u16) -> Result<KeygenClient<Channel>, Unanswered> {
        let slot = usize::from(peer).checked_sub(1).ok_or(Unanswered::Unreachable)?;
        let (Some(place), Some((_, url))) = (self.keygen.clients.get(slot), self.members.get(slot)) else {
            return Err(Unanswered::Unreachable);
        };
        if let Some(client) = place.get() {
            return Ok(client.clone());
        }
        let channel = client_config(self.leaf.clone(), &self.parties, peer)
            .map_err(|e| e.to_string())
            .and_then(|(config, name)| dial::lazy(url, TlsConnector::from(config), name, WINDOWS));
        let channel = channel.map_err(|problem| {
            tracing::error!(peer, problem, "no channel for key generation");
            Unanswered::Unreachable
        })?;
        let client = KeygenClient::new(channel)
            .max_decoding_message_size(MAX_KEYGEN_ANSWER + 1024)
            .max_encoding_message_size(MAX_KEYGEN_QUESTION + 1024);
        Ok(place.get_or_init(|| client).clone())
    }
}

/// The answering side.
pub(super) struct Service {
    inner: Arc<Inner>,
}

impl Service {
    pub(super) const fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }
}

#[tonic::async_trait]
impl keygen_server::Keygen for Service {
    async fn ask(&self, request: Request<KeygenQuestion>) -> Result<Response<KeygenAnswer>, Status> {
        let peer = dialler(&request)?;
        let question = request.into_inner();
        bounds::check_keygen_question(&question).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let run = bounds::id("run", &question.run).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let keygen = &self.inner.keygen;
        let place = keygen.places.get(usize::from(peer).wrapping_sub(1));
        let (Some(place), Some(answers)) = (place, keygen.answers.get()) else {
            return Ok(Response::new(absent(KeygenAbsence::NotYet)));
        };
        // Never an error: the semaphore is not closed.
        let _place = place.acquire().await.ok();
        let answering = tokio::time::timeout(HOLD, answers.answer(peer, run, question.question));
        let answered = match self.inner.cancel.run_until_cancelled(answering).await {
            Some(Ok(answered)) => answered,
            // Not within the time, or never: this party shuts down.
            Some(Err(_)) => Err(KeygenAbsence::NotYet),
            None => return Err(Status::unavailable("this party is shutting down")),
        };
        Ok(Response::new(match answered {
            Ok(answer) => KeygenAnswer { absence: KeygenAbsence::None.into(), answer },
            Err(absence) => absent(absence),
        }))
    }

    async fn outcome(&self, request: Request<KeygenOutcomeQuestion>) -> Result<Response<KeygenOutcome>, Status> {
        let run = bounds::id("run", &request.into_inner().run).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let answers = self.inner.keygen.answers.get();
        Ok(Response::new(answers.map(|answers| answers.outcome(run)).unwrap_or_default()))
    }
}

fn absent(absence: KeygenAbsence) -> KeygenAnswer {
    KeygenAnswer { absence: absence.into(), answer: Bytes::new() }
}
