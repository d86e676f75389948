//! What moves, for those who follow it. Read from the database, so that moves made by other relayers of it are seen, too,
//! and only while somebody follows.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::store::{Store, Transition};

/// Pause between two reads, however busy the database is.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest time between two reads: other processes wake nobody here.
const TICK: Duration = Duration::from_secs(1);
/// Moves in one read.
const STEP: usize = 1_000;
/// Steps that a slow follower may be behind before it loses some.
const BACKLOG: usize = 16;

/// Tells followers what moves.
#[derive(Debug)]
pub struct Feed {
    sender: broadcast::Sender<Arc<[Transition]>>,
    wanted: Arc<Notify>,
    stop: CancellationToken,
}

impl Feed {
    /// Starts to tell, as soon as somebody follows.
    #[must_use]
    pub fn start(store: Store) -> Self {
        let feed = Self {
            sender: broadcast::Sender::new(BACKLOG),
            wanted: Arc::new(Notify::new()),
            stop: CancellationToken::new(),
        };
        let (sender, wanted, stop) = (feed.sender.clone(), feed.wanted.clone(), feed.stop.clone());
        tokio::spawn(async move { stop.run_until_cancelled_owned(tell(store, sender, wanted)).await });
        feed
    }

    /// Moves from about now on. PostgreSQL may show two that happen at once in the other order, and the second never: who
    /// follows one request looks at it from time to time all the same.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<[Transition]>> {
        let receiver = self.sender.subscribe();
        self.wanted.notify_one();
        receiver
    }

    /// Ends all following.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Cancelled at the end.
    pub(crate) fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn tell(store: Store, sender: broadcast::Sender<Arc<[Transition]>>, wanted: Arc<Notify>) {
    loop {
        while sender.receiver_count() == 0 {
            wanted.notified().await;
        }
        if let Err(error) = tell_while_followed(&store, &sender).await {
            tracing::warn!(%error, "what moves can't be told");
            tokio::time::sleep(TICK).await;
        }
    }
}

async fn tell_while_followed(store: &Store, sender: &broadcast::Sender<Arc<[Transition]>>) -> Result<(), Error> {
    let mut stirred = store.stirred();
    let mut last = store.newest_transition().await?;
    while sender.receiver_count() > 0 {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = async { let _ = stirred.changed().await; tokio::time::sleep(PAUSE).await } => {}
        }
        let moves = store.transitions(last, STEP).await?;
        if let Some(newest) = moves.last() {
            last = newest.position;
            // Nobody left to hear it is no error.
            let _ = sender.send(moves.into());
        }
    }
    Ok(())
}
