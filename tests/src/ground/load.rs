//! How much a relayer and what is around it take for many requests.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Asked, Chain, Relayer, Wish};
use crate::process::Usage;

/// What a load took.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Requests.
    pub requests: usize,
    /// From the first request on its way into the node to the last fulfilment in a block, in seconds.
    pub seconds: f64,
    /// Processor time of the relayer, in seconds.
    pub relayer: f64,
    /// Processor time of the chain's node, in seconds.
    pub node: f64,
    /// Processor time of this process: whoever asks, and the stub parties.
    pub here: f64,
    /// Most resident memory of the relayer so far, in bytes.
    pub peak: u64,
}

impl Load {
    /// Requests per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        f64::from(u32::try_from(self.requests).unwrap_or(u32::MAX)) / self.seconds
    }

    /// In words.
    #[must_use]
    pub fn describe(&self) -> String {
        let share = |seconds: f64| 100.0 * seconds / self.seconds;
        format!(
            "{} requests in {:.1} s, {:.0} per second; of one core the relayer took {:.0} %, anvil {:.0} %, whoever asked and \
             the stub parties {:.0} %; the relayer's memory was {:.0} MB at most",
            self.requests,
            self.seconds,
            self.rate(),
            share(self.relayer),
            share(self.node),
            share(self.here),
            self.peak as f64 / 1e6
        )
    }
}

/// What everybody has used so far: relayer, node, this process.
struct Meter<'a> {
    chain: &'a Chain,
    relayer: &'a Relayer,
    before: [Usage; 3],
    clock: Instant,
}

impl<'a> Meter<'a> {
    fn start(chain: &'a Chain, relayer: &'a Relayer) -> Self {
        Self { chain, relayer, before: Self::read(chain, relayer), clock: Instant::now() }
    }

    fn read(chain: &Chain, relayer: &Relayer) -> [Usage; 3] {
        [relayer.process.usage(), chain.anvil.process.usage(), Usage::of(std::process::id())]
    }

    /// Waits until all is fulfilled.
    async fn stop(self, asked: &[Asked], patience: Duration) -> Result<Load> {
        self.chain.fulfilled(asked, patience).await.with_context(|| self.relayer.process.log_tail(20))?;
        let seconds = self.clock.elapsed().as_secs_f64();
        let after = Self::read(self.chain, self.relayer);
        let [relayer, node, here] = std::array::from_fn(|index| after[index].cpu - self.before[index].cpu);
        Ok(Load { requests: asked.len(), seconds, relayer, node, here, peak: after[0].peak })
    }
}

/// Asks for `count` decryptions at once, waits until all are fulfilled, and says what that took.
///
/// # Errors
/// They are not within `patience`.
pub async fn at_once(chain: &Chain, relayer: &Relayer, count: usize, patience: Duration) -> Result<(Vec<Asked>, Load)> {
    let meter = Meter::start(chain, relayer);
    let asked = chain.ask(count, Wish::default()).await?;
    let load = meter.stop(&asked, patience).await?;
    Ok((asked, load))
}

/// Asks for `per_second` decryptions each second, for so many seconds; waits until all are fulfilled.
///
/// # Errors
/// They are not within `patience` of the last one.
pub async fn steadily(
    chain: &Chain,
    relayer: &Relayer,
    per_second: usize,
    seconds: u64,
    patience: Duration,
) -> Result<(Vec<Asked>, Load)> {
    let meter = Meter::start(chain, relayer);
    let mut asked = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..seconds {
        ticks.tick().await;
        asked.extend(chain.ask(per_second, Wish::default()).await?);
    }
    let load = meter.stop(&asked, patience).await?;
    Ok((asked, load))
}
