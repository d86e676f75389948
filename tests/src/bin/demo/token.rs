//! The second half: a balance that only its holder reads.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kms_tests::{
    anvil::Role,
    cluster::Cluster,
    javascript::{self, Decrypted, Page},
    relayer::{self, Timeline},
    token::{self, Token},
};
use serde_json::{Value, json};

use crate::Screen;

const ALICE: Role = Role::Voter(0);
const BOB: Role = Role::Voter(1);
/// 1,250.50 tokens of six places.
const AMOUNT: u64 = 1_250_500_000;
/// Squashing a balance takes seconds with production parameters.
const PATIENCE: Duration = Duration::from_secs(300);

/// Alice has got an encrypted balance and read it.
#[derive(Debug)]
pub(crate) struct Balance {
    token: Token,
    read: Decrypted,
    value: u64,
    committed: Duration,
    timeline: Timeline,
}

impl Balance {
    /// Deploys the token, mints for Alice, and has her read her balance by a permit through the relayer.
    pub(crate) async fn show(screen: &Screen, cluster: &Cluster) -> Result<Self> {
        let step = screen.spinner("deploying ConfidentialToken");
        let token = Token::deploy(cluster).await?;
        step.done(&format!("ConfidentialToken at {}", token.address));

        let step = screen.spinner("minting for Alice; the coprocessor computes her encrypted balance");
        let clock = Instant::now();
        let alice = ALICE.wallet().address();
        token.mint(cluster, alice, AMOUNT).await?;
        let handle = token.balance(cluster, alice).await?;
        token::wait_until_committed(cluster, handle, PATIENCE).await?;
        let committed = clock.elapsed();
        step.done(&format!("Alice has an encrypted balance: {handle}"));

        let step = screen.spinner("Alice signs a permit; the parties seal their shares to her key");
        let read = javascript::decrypt(cluster, ALICE, handle, token.address).await?;
        let clear = read.values.first().context("no value")?;
        let value: u64 = clear.value.as_str().context("no number")?.parse()?;
        ensure!(value == AMOUNT, "Alice reads {value}, expected {AMOUNT}");
        step.done("Alice put her balance together; nobody else saw it");
        let id = read.request_id.to_string();
        let timeline = relayer::timeline(&cluster.relayer_url, &id).await?.context("the relayer forgot the request")?;
        Ok(Self { token, read, value, committed, timeline })
    }

    /// What happened, one line per stage.
    pub(crate) fn print(&self) {
        crate::print_timeline(&self.timeline);
        println!("  {:>7} ms  minted, computed, its digest on the chain", self.committed.as_millis());
        println!("  {:>7} ms  key pair made, permit signed", self.read.permit_ms);
        println!(
            "  {:>7} ms  asked, answered, put together from shares of parties {}",
            self.read.answer_ms,
            self.parties()
        );
        println!(
            "\nAlice reads {}.{:06} CONF; no party, relayer or chain saw it.",
            self.value / 1_000_000,
            self.value % 1_000_000
        );
    }

    fn parties(&self) -> String {
        self.read.agreeing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// For the summary.
    pub(crate) fn summary(&self) -> Value {
        json!({
            "request_id": self.read.request_id,
            "token": self.token.address,
            "value": self.value,
            "agreeing": self.read.agreeing,
            "mint_to_committed_ms": self.committed.as_millis(),
            "permit_ms": self.read.permit_ms,
            "read_ms": self.read.answer_ms,
        })
    }

    /// Serves the page on which Alice sees it.
    pub(crate) async fn serve(&self, cluster: &Cluster) -> Result<Page> {
        Page::serve(cluster, &self.token, ("Alice", ALICE), ("Bob", BOB)).await
    }
}
