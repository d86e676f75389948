//! Blocks at a pace that a test can stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use kms_tests::ground::Ground;
use tokio::sync::Mutex;

/// Time between two blocks.
const PACE: Duration = Duration::from_millis(150);

/// Mines the first chain of a ground until dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    stopped: Arc<AtomicBool>,
    /// Held while a block is made.
    mining: Arc<Mutex<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ticker {
    pub(crate) fn start(ground: &Arc<Ground>) -> Self {
        let (stopped, mining) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(())));
        let task = tokio::spawn({
            let (ground, stopped, mining) = (ground.clone(), stopped.clone(), mining.clone());
            async move {
                loop {
                    tokio::time::sleep(PACE).await;
                    let _mining = mining.lock().await;
                    if !stopped.load(Ordering::SeqCst)
                        && let Err(error) = ground.chain().mine(1).await
                    {
                        println!("no block: {error:#}");
                    }
                }
            }
        });
        Self { stopped, mining, task }
    }

    /// No more blocks from now on.
    pub(crate) async fn stop(&self) {
        let _mining = self.mining.lock().await;
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Blocks again.
    pub(crate) fn go_on(&self) {
        self.stopped.store(false, Ordering::SeqCst);
    }
}

/// Asks again and again until the answer is yes.
///
/// # Errors
/// It is not within a minute.
pub(crate) async fn until(what: &str, mut asked: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        if asked().await? {
            return Ok(());
        }
        anyhow::ensure!(std::time::Instant::now() < deadline, "it never happened: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
