//! Many requests: at once, and for long.

use std::time::Duration;

use anyhow::{Result, ensure};
use kms_tests::ground::{Ground, Plan, load};

/// Memory that the relayer may take, whatever is asked, in bytes.
const MEMORY: u64 = 250_000_000;

/// A number from the environment, for `script/soak`.
fn number(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |text| Ok(text.parse()?))
}

/// How long all may take together.
fn patience() -> Result<Duration> {
    Ok(Duration::from_secs(number("KMS_TEST_PATIENCE", 110)?))
}

pub(crate) async fn a_thousand_requests_at_once() -> Result<()> {
    let count = usize::try_from(number("KMS_LOAD_REQUESTS", 1_000)?)?;
    let ground = Ground::lay(&Plan { gas_limit: 10_000_000_000, ..Plan::default() }).await?;
    let relayer = ground.relayer("one").await?.start().await?;
    let (asked, load) = load::at_once(ground.chain(), &relayer, count, patience()?).await?;
    println!("  {}", load.describe());
    let audit = ground.chain().audit(&asked, &[relayer.account]).await?;
    ensure!(audit.total() == count && audit.reverted == 0 && audit.noops == 0, "{audit:?}");
    ensure!(load.peak < MEMORY, "the relayer took {} bytes", load.peak);
    Ok(())
}

pub(crate) async fn so_many_a_second_for_a_while() -> Result<()> {
    let (rate, seconds) = (number("KMS_SOAK_RATE", 20)?, number("KMS_SOAK_SECONDS", 5)?);
    let ground = Ground::lay(&Plan::default()).await?;
    let relayer = ground.relayer("one").await?.start().await?;
    let (asked, load) = load::steadily(ground.chain(), &relayer, usize::try_from(rate)?, seconds, patience()?).await?;
    println!("  {}", load.describe());
    let audit = ground.chain().audit(&asked, &[relayer.account]).await?;
    ensure!(audit.total() == asked.len() && audit.reverted == 0 && audit.noops == 0, "{audit:?}");
    ensure!(load.peak < MEMORY, "the relayer took {} bytes", load.peak);
    Ok(())
}
