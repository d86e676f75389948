//! The real committee: n parties over mutual TLS.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, Keccak256};
use futures::StreamExt;
use futures::stream::BoxStream;
use kms_chain::{extra_data::ExtraData, manifest::Manifest};
use kms_client::transport::{HealthResponse, Outcome, PartyError};
use kms_client::user::Group;
use kms_client::verify::{self, VerifiedShare};
use kms_telemetry::TraceParent;
use prost::Message;
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::config::Tls;
use crate::dispatch::{Committee, Question, Receipt, Said};
use crate::error::Error;
use crate::job::Payload;
use crate::store::{NewAnswer, NewShare};

/// The certificate by which the parties know this relayer.
#[derive(Debug)]
pub struct Identity(kms_client::transport::Identity);

impl Identity {
    /// Reads the two PEM files.
    ///
    /// # Errors
    /// A file that can't be read, or holds something else.
    pub fn load(tls: &Tls) -> Result<Self, Error> {
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|e| Error::Config(format!("{} can't be read: {e}", path.display())))
        };
        let (cert, key) = (read(&tls.cert)?, zeroize::Zeroizing::new(read(&tls.key)?));
        let identity = kms_client::transport::Identity::from_pem(&cert, &key)
            .map_err(|e| Error::Config(format!("client certificate: {e}")))?;
        Ok(Self(identity))
    }
}

/// The parties of the manifest.
#[derive(Debug, Clone)]
pub struct Parties {
    parties: kms_client::transport::Parties,
    manifest: Arc<Manifest>,
}

impl Parties {
    /// Prepares the connections; they are made when they are needed.
    ///
    /// # Errors
    /// A certificate or an address that can't be used.
    pub fn connect(manifest: &Manifest, identity: &Identity) -> Result<Self, Error> {
        let parties = kms_client::transport::Parties::connect(manifest, &identity.0)
            .map_err(|e| Error::Parties(e.to_string()))?;
        Ok(Self { parties, manifest: Arc::new(manifest.clone()) })
    }

    /// Indices of all parties.
    pub fn all(&self) -> impl Iterator<Item = u32> + use<> {
        self.parties.indices()
    }

    /// How a party is.
    ///
    /// # Errors
    /// It can't be reached, breaks the protocol, or is not who it should be.
    pub async fn health(&self, party: u32) -> Result<HealthResponse, PartyError> {
        self.parties.health(party).await
    }

    /// What the parties of a question say, as they say it.
    fn answers(&self, question: &Question) -> Result<BoxStream<'static, (u32, Said)>, String> {
        let parties = question.parties.clone();
        if let Payload::UserDecrypt(payload) = &question.payload {
            let request = payload.request(question.chain);
            if request.id(self.manifest.decryption_domain.verifying_contract) != question.job {
                return Err("the stored permit does not have its id".into());
            }
            let outcomes = self.parties.user_decrypt_some(parties, &request);
            return Ok(outcomes.map(|(party, outcome)| (party, user_said(outcome))).boxed());
        }
        let outcomes = self.parties.decrypt_some(parties, &self.question(question)?);
        Ok(outcomes.map(|(party, outcome)| (party, said(outcome))).boxed())
    }

    fn question(&self, question: &Question) -> Result<verify::Question, String> {
        let committee = &self.manifest.committee;
        let asked = match &question.payload {
            Payload::OnChain(request) => {
                let chain = self.manifest.chain(question.chain).ok_or("the chain is not in the manifest")?;
                let gateway = chain.contracts.decryption_gateway;
                verify::Question::on_chain(committee, question.chain, gateway, &request.clone().into(), question.epoch)
            }
            Payload::PublicPull { handles, extra_data } => {
                // An epoch that the caller named is the one to ask for.
                let named = ExtraData::parse(extra_data).ok().and_then(|data| data.epoch());
                let epoch = named.unwrap_or(question.epoch);
                verify::Question::public(committee, question.chain, handles, extra_data, epoch)
            }
            Payload::UserDecrypt(_) => return Err("a user decryption has no cleartexts".into()),
        };
        let asked = asked.map_err(|e| e.to_string())?;
        if asked.id() == question.job { Ok(asked) } else { Err("the stored request does not have its id".into()) }
    }
}

#[async_trait::async_trait]
impl Committee for Parties {
    fn parties(&self) -> Vec<u32> {
        self.parties.indices().collect()
    }

    fn threshold(&self) -> usize {
        self.manifest.committee.threshold as usize
    }

    fn faults(&self) -> usize {
        self.manifest.committee.t as usize
    }

    fn context(&self) -> B256 {
        self.manifest.committee.context_id
    }

    fn ask(&self, question: Question) -> mpsc::Receiver<(u32, Said)> {
        let (send, receive) = mpsc::channel(question.parties.len().max(1));
        let this = self.clone();
        // Late answers come when the asking is over.
        let span =
            tracing::info_span!(parent: None, "parties", request = %question.job, asked = question.parties.len());
        kms_telemetry::adopt(&span, question.job, TraceParent::current());
        let asking = async move {
            let mut answers = match this.answers(&question) {
                Ok(answers) => answers,
                Err(why) => {
                    for party in question.parties {
                        let said = Said::Refused { reason: "malformed".into(), why: why.clone() };
                        let _ = send.send((party, said)).await;
                    }
                    return;
                }
            };
            let limit = tokio::time::sleep(question.patience);
            tokio::pin!(limit);
            let mut missing = question.parties;
            loop {
                tokio::select! {
                    // Nobody listens any more: the calls end with the stream.
                    () = send.closed() => return,
                    () = &mut limit => break,
                    next = answers.next() => {
                        let Some((party, said)) = next else { return };
                        missing.retain(|m| *m != party);
                        if send.send((party, said)).await.is_err() {
                            return;
                        }
                    }
                }
            }
            for party in missing {
                let _ = send.send((party, Said::Unreachable("no answer in time".into()))).await;
            }
        };
        tokio::spawn(asking.instrument(span));
        receive
    }

    async fn receipt(&self, party: u32, request: B256) -> Option<Receipt> {
        let status = self.parties.get_status(party, request).await.ok()?;
        let receipt = status.receipt?;
        let manifest = &self.manifest;
        match verify::receipt(request, &manifest.committee, &manifest.decryption_domain, party, &receipt) {
            Ok(statement) => Some(Receipt { bytes: receipt.encode_to_vec(), mpc_micros: statement.mpcMicros }),
            Err(error) => {
                tracing::error!(party, %request, %error, "a receipt does not verify");
                None
            }
        }
    }
}

/// What a party says about a public decryption. An answer in the outcome is verified.
fn said(outcome: Result<Outcome, PartyError>) -> Said {
    as_said(outcome, |answer| {
        Said::Answer(NewAnswer {
            signer: answer.signer,
            cleartexts: answer.cleartexts,
            extra_data: answer.extra_data,
            signature: answer.signature,
        })
    })
}

/// What a party says about a user decryption. A share in the outcome is authenticated.
#[must_use]
pub fn user_said(outcome: Result<Outcome<VerifiedShare>, PartyError>) -> Said {
    as_said(outcome, |share| {
        Said::Share(NewShare {
            group: group_id(&share.group),
            share: share.response.share,
            signature: share.response.signature,
            extra_data: share.response.extra_data,
        })
    })
}

fn as_said<Answer>(outcome: Result<Outcome<Answer>, PartyError>, answer: impl FnOnce(Answer) -> Said) -> Said {
    match outcome {
        Ok(Outcome::Answer(given)) => answer(given),
        Ok(Outcome::NotYet { reason, detail, retry_after }) => Said::NotYet {
            why: format!("{}: {detail}", label(reason.as_str_name(), "NOT_YET_REASON_")),
            retry_after_ms: retry_after_ms(retry_after),
        },
        Ok(Outcome::Refused { reason, detail }) => {
            Said::Refused { reason: label(reason.as_str_name(), "REFUSED_REASON_"), why: detail }
        }
        Ok(Outcome::EpochNotLive { live }) => Said::EpochNotLive(live),
        Err(error @ PartyError::Bad(_)) => Said::Invalid(error.to_string()),
        Err(error) => Said::Unreachable(error.to_string()),
    }
}

/// Names a group by one word: shares are put together if epoch, key and digests are the same.
fn group_id(group: &Group) -> B256 {
    let mut hash = Keccak256::new();
    hash.update(group.epoch);
    hash.update(group.key);
    for digest in &group.digests {
        hash.update(digest);
    }
    hash.finalize()
}

/// At least a little, so that a party can't make us ask without pause.
fn retry_after_ms(retry_after: Duration) -> u64 {
    u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).max(50)
}

/// `NOT_YET_REASON_IN_PROGRESS` → `in-progress`.
fn label(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', "-")
}
