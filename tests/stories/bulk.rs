//! All types, and the largest request.

use std::time::Duration;

use alloy::primitives::U256;
use anyhow::{Result, ensure};
use kms_chain::FheType;
use kms_tests::{cluster::Cluster, probe::Probe};

pub(crate) async fn every_type_comes_back_as_it_was(cluster: &mut Cluster) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    let samples = [
        (FheType::Bool, U256::from(1)),
        (FheType::Uint8, U256::from(0xa5)),
        (FheType::Uint16, U256::from(0xbeef)),
        (FheType::Uint32, U256::from(0xdead_beef_u32)),
        (FheType::Uint64, U256::from(u64::MAX - 1)),
        (FheType::Uint128, U256::from(u128::MAX / 3)),
        (FheType::Address, U256::from_be_slice(cluster.contracts.kms_verifier.as_slice())),
        (FheType::Uint256, U256::MAX / U256::from(7)),
    ];
    let mut handles = Vec::new();
    for (ty, value) in samples {
        handles.extend(probe.make(cluster, &[value], ty).await?);
    }
    let asked = probe.ask(cluster, &handles, 5).await?;
    let words = probe.wait_for_answer(cluster, asked.id, Duration::from_secs(120)).await?;
    let expected: Vec<U256> = samples.iter().map(|(_, value)| *value).collect();
    ensure!(words == expected, "{words:?} is not {expected:?}");
    Ok(())
}

pub(crate) async fn a_thousand_and_twenty_four_booleans_fit_one_request(cluster: &mut Cluster) -> Result<()> {
    let mut probe = Probe::deploy(cluster).await?;
    let values: Vec<U256> = (0..1024u32).map(|index| U256::from((index * 7 + index / 5) % 2)).collect();
    let mut handles = probe.make(cluster, &values, FheType::Bool).await?;
    let asked = probe.ask(cluster, &handles, 0).await?;
    ensure!(asked.gas_used < 1 << 24, "asking took {} gas", asked.gas_used);
    let words = probe.wait_for_answer(cluster, asked.id, Duration::from_secs(240)).await?;
    ensure!(words == values, "some of the 1,024 booleans are wrong");

    handles.extend(probe.make(cluster, &[U256::from(1)], FheType::Bool).await?);
    ensure!(probe.ask(cluster, &handles, 0).await.is_err(), "a request of 2,050 bits was accepted");
    Ok(())
}
