//! Runs jobs that stand in the database, so many at once. A job is known by a key; jobs with equal keys never run together.

use std::{collections::HashSet, sync::Arc, time::Duration};

use alloy_primitives::B256;
use async_trait::async_trait;
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// How long a crew sleeps when nobody wakes it, and after a failure of its own.
const IDLE: Duration = Duration::from_secs(2);

/// A kind of work.
#[async_trait]
pub trait Trade: Send + Sync + 'static {
    /// One piece of it.
    type Job: Send + 'static;
    /// Name, for the log.
    const NAME: &'static str;

    /// Jobs that could start now, best first, each with its key; those of `busy` keys may be among them.
    async fn next(&self, busy: &HashSet<B256>) -> Result<Vec<(B256, Self::Job)>>;

    /// Does one job. An error is our own fault (database, object store): the job stays and is tried again.
    async fn work(&self, job: Self::Job) -> Result<()>;
}

/// Runs a computation on a thread of its own. A panic in it is its failure, not ours: what panicked once would again.
///
/// # Errors
/// When the process is about to end.
pub(crate) async fn apart<T: Send + 'static>(
    task: &'static str,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<Result<T, String>> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result),
        Err(error) if error.is_panic() => Ok(Err(format!("{task} panicked"))),
        Err(_) => Err(Error::Task(task)),
    }
}

/// Works until `cancel`, `places` jobs at once; running jobs are finished first. `next` is told of every finished job.
pub async fn drive<T: Trade>(trade: Arc<T>, places: usize, wake: &Notify, cancel: CancellationToken) {
    let mut running: JoinSet<(B256, Result<()>)> = JoinSet::new();
    let mut busy: HashSet<B256> = HashSet::new();
    let mut paused_until = Instant::now();
    loop {
        if Instant::now() >= paused_until && running.len() < places {
            match trade.next(&busy).await {
                Ok(jobs) => {
                    for (key, job) in jobs {
                        if running.len() == places {
                            break;
                        }
                        if busy.insert(key) {
                            let trade = trade.clone();
                            running.spawn(async move { (key, trade.work(job).await) });
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(%error, trade = T::NAME, "can't look for work");
                    paused_until = Instant::now() + IDLE;
                }
            }
        }
        tokio::select! {
            () = cancel.cancelled() => break,
            Some(done) = running.join_next(), if !running.is_empty() => match done {
                Ok((key, result)) => {
                    busy.remove(&key);
                    if let Err(error) = result {
                        tracing::error!(%error, trade = T::NAME, "a job failed and is tried again");
                        paused_until = Instant::now() + IDLE;
                    }
                }
                Err(error) => {
                    // Its key stays busy: what panicked once would panic again.
                    tracing::error!(%error, trade = T::NAME, "a job panicked");
                }
            },
            () = wake.notified() => {}
            () = tokio::time::sleep(IDLE) => {}
        }
    }
    while running.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failure_of_its_job_alone() {
        assert_eq!(apart("sum", || Ok(1 + 1)).await.unwrap(), Ok(2));
        let lost: Result<(), String> = apart("sum", || panic!("no such number")).await.unwrap();
        assert_eq!(lost, Err("sum panicked".into()));
    }
}
