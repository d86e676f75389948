//! Wakes for the workers. A wake is a hint: every worker also looks by itself now and then, so a lost one costs only time.

use tokio::sync::Notify;

/// One wake per worker.
#[derive(Debug, Default)]
pub struct Signals {
    /// There may be something to compute.
    pub compute: Notify,
    /// There may be something to squash.
    pub squash: Notify,
    /// There may be something to commit.
    pub commit: Notify,
}

impl Signals {
    /// Wakes everybody.
    pub fn all(&self) {
        self.compute.notify_one();
        self.squash.notify_one();
        self.commit.notify_waiters();
    }
}
