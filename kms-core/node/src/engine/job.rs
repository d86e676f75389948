//! One job: the opening with this party's share, and the tail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kms_encoding::Plaintext;
use kms_mpc::{Epoch, JobId, OwnShare, decrypt};
use tokio::sync::watch;

use super::Inner;
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
    own: OwnShare,
    opened: watch::Sender<Option<Opened>>,
    findings: watch::Sender<Option<Option<Arc<Findings>>>>,
}

impl Job {
    /// This party's share.
    pub(super) const fn own(&self) -> &OwnShare {
        &self.own
    }

    /// Waits for the result.
    #[tracing::instrument(name = "opening", skip_all)]
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

/// A job's place in the table. However its task ends, even by a panic: the job is out of the table and whoever waits for
/// it is told.
struct Listed {
    inner: Arc<Inner>,
    job: Arc<Job>,
    found: Option<Findings>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let id = self.job.own.job();
        // Before it is out of the table: a peer that asks in between must find the share in one of the two places.
        self.inner.shares.lock().put(id, self.job.own.clone());
        {
            let mut jobs = self.inner.jobs.lock();
            jobs.remove(&id);
            self.inner.parts.metrics.open_jobs(jobs.len());
        }
        self.job.opened.send_if_modified(|opened| {
            let none = opened.is_none();
            opened.get_or_insert_with(|| Opened::Nothing("the job has ended without a result".into()));
            none
        });
        self.job.findings.send_replace(Some(self.found.take().map(Arc::new)));
    }
}

impl Inner {
    /// The running job of this share, or a new one. The share leaves this party.
    pub(super) fn join(self: &Arc<Self>, epoch: Epoch, own: OwnShare) -> Arc<Job> {
        let inner = self.clone();
        self.join_with(own, move |job| async move { inner.run(&epoch, &job).await })
    }

    /// The running job of this share, or a new one with this as its task.
    pub(super) fn join_with<F>(self: &Arc<Self>, own: OwnShare, task: impl FnOnce(Arc<Job>) -> F) -> Arc<Job>
    where
        F: Future<Output = Option<Findings>> + Send + 'static,
    {
        let mut jobs = self.jobs.lock();
        if let Some(job) = jobs.get(&own.job()) {
            return job.clone();
        }
        let id = own.job();
        let job = Arc::new(Job { own, opened: watch::Sender::new(None), findings: watch::Sender::new(None) });
        jobs.insert(id, job.clone());
        self.parts.metrics.open_jobs(jobs.len());
        drop(jobs);
        let listed = Listed { inner: self.clone(), job: job.clone(), found: None };
        let running = task(job.clone());
        self.tasks.spawn(async move {
            // The whole of it, not one field.
            let mut listed = listed;
            listed.found = running.await;
            drop(listed);
        });
        job
    }

    async fn run(&self, epoch: &Epoch, job: &Job) -> Option<Findings> {
        let id = job.own.job();
        let nothing = |why: String| drop(job.opened.send_replace(Some(Opened::Nothing(why))));
        let Some(session) = self.parts.hub.open(id, kms_mpc::decrypt::ROUND) else {
            nothing("the session is open already".into());
            return None;
        };
        let started = Instant::now();
        let deciding = tokio::time::timeout(self.options.patience, decrypt(&session, epoch, &job.own));
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
