//! One job: this party's share, the opening, the tail.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kms_encoding::Plaintext;
use kms_mpc::{DecryptError, JobId, Network, decrypt};
use tokio::sync::watch;

use super::Inner;
use super::open::Work;
use crate::peer::Session;
use crate::receipts::Findings;

/// What a job came to.
#[derive(Clone)]
pub(super) enum Opened {
    /// The values, the time from the first share sent to the opening, and when that was.
    Values { values: Arc<Vec<Plaintext>>, mpc: Duration, at: Instant },
    /// The ciphertexts open to no value: final, and the same at every party.
    Refused(String),
    /// No result; the next call tries again.
    Nothing(String),
}

/// A job under way or in its tail.
pub(super) struct Job {
    message: OnceLock<Bytes>,
    opened: watch::Sender<Option<Opened>>,
    findings: watch::Sender<Option<Option<Arc<Findings>>>>,
}

impl Job {
    /// This party's message, once it is computed.
    pub(super) fn message(&self) -> Option<Bytes> {
        self.message.get().cloned()
    }

    /// Waits for the result.
    pub(super) async fn opened(&self) -> Opened {
        settled(&self.opened).await.unwrap_or_else(|| Opened::Nothing("the job has ended".into()))
    }

    /// Waits for the end of the tail. `None` if there was no result.
    pub(super) async fn findings(&self) -> Option<Arc<Findings>> {
        settled(&self.findings).await.flatten()
    }
}

async fn settled<T: Clone>(value: &watch::Sender<Option<T>>) -> Option<T> {
    value.subscribe().wait_for(Option::is_some).await.ok().and_then(|v| v.clone())
}

impl Inner {
    /// The running job of these ciphertexts, or a new one.
    pub(super) fn join(self: &Arc<Self>, work: Work) -> Arc<Job> {
        let id = work.job();
        let mut jobs = self.jobs.lock();
        if let Some(job) = jobs.get(&id) {
            return job.clone();
        }
        let job = Arc::new(Job {
            message: OnceLock::new(),
            opened: watch::Sender::new(None),
            findings: watch::Sender::new(None),
        });
        jobs.insert(id, job.clone());
        self.parts.metrics.open_jobs(jobs.len());
        drop(jobs);
        let (inner, running) = (self.clone(), job.clone());
        self.tasks.spawn(async move {
            let findings = inner.run(id, work, &running).await;
            {
                let mut jobs = inner.jobs.lock();
                jobs.remove(&id);
                inner.parts.metrics.open_jobs(jobs.len());
            }
            if let Some(message) = running.message() {
                inner.shares.lock().put(id, message);
            }
            running.opened.send_if_modified(|opened| {
                opened.get_or_insert(Opened::Nothing("the job has ended".into()));
                true
            });
            running.findings.send_replace(Some(findings.map(Arc::new)));
        });
        job
    }

    async fn run(&self, id: JobId, work: Work, job: &Job) -> Option<Findings> {
        let nothing = |why: String| drop(job.opened.send_replace(Some(Opened::Nothing(why))));
        let Some(session) = self.parts.hub.open(id, kms_mpc::decrypt::ROUND) else {
            nothing("the session is open already".into());
            return None;
        };
        let epoch = work.epoch.clone();
        let own = match session.compute(move || work.share()).await {
            Ok(own) => own,
            // The object holds another number of blocks than the type of its handle has: the same at every party.
            Err(error @ DecryptError::BlockCount { .. }) => {
                job.opened.send_replace(Some(Opened::Refused(error.to_string())));
                return None;
            }
            // The ciphertexts are good, so what is missing is this party's.
            Err(error) => {
                tracing::error!(job = %id, %error, "this party can't compute its share");
                nothing(error.to_string());
                return None;
            }
        };
        // Set once, by this task.
        let _ = job.message.set(own.message().clone());
        let started = Instant::now();
        let deciding = tokio::time::timeout(self.options.patience, decrypt(&session, &epoch, &own));
        let decision = match self.parts.cancel.run_until_cancelled(deciding).await {
            None => {
                nothing("this party is shutting down".into());
                return None;
            }
            Some(Err(_)) => {
                nothing("not enough shares of the other parties have come".into());
                return None;
            }
            Some(Ok(Err(error))) => {
                tracing::error!(job = %id, %error, "no result");
                nothing(error.to_string());
                return None;
            }
            Some(Ok(Ok(decision))) => decision,
        };
        let mpc = started.elapsed();
        self.parts.metrics.mpc(mpc.as_secs_f64());
        self.parts.metrics.own_share_used();
        job.opened.send_replace(Some(match decision.values {
            Ok(values) => Opened::Values { values: Arc::new(values), mpc, at: Instant::now() },
            Err(refusal) => Opened::Refused(refusal.to_string()),
        }));
        let outcome = decision.tail.collect(&session, self.options.tail).await;
        Some(self.judge(id, &session, &outcome))
    }

    fn judge(&self, id: JobId, session: &Session, outcome: &kms_mpc::Outcome) -> Findings {
        let mut counts = self.counts.lock();
        for party in outcome.late.iter().map(|p| u16::from(p.index())) {
            counts.entry(party).or_default().late += 1;
            self.parts.metrics.peer_late(party);
        }
        for fault in &outcome.wrong {
            let party = u16::from(fault.party.index());
            counts.entry(party).or_default().wrong += 1;
            self.parts.metrics.peer_wrong(party);
            tracing::warn!(job = %id, party, evidence = ?fault.evidence, "a wrong share");
        }
        Findings::new(outcome, id.as_bytes(), |party| session.frames(party))
    }
}
