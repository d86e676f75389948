//! What a set-up leaves in the journal and the metrics: who was wrong, with the evidence; who was late, only counted.

use alloy_primitives::B256;
use kms_encoding::PrssKeys;
use kms_mpc::lockstep::{Culprit, Misdeed, Report};

use super::Shared;
use crate::peer::FrameProof;

/// Kind of the journal's lines.
const KIND: &str = "prss-setup";

/// A run has ended.
pub(super) async fn run(
    shared: &Shared,
    epoch: B256,
    attempt: u32,
    report: &Report,
    named: &[(Culprit, Vec<FrameProof>)],
    came_to: &str,
) {
    let mut detail = format!("attempt {attempt}: {came_to}");
    for (culprit, frames) in named {
        let party = u16::from(culprit.party.index());
        let what = describe(&culprit.misdeed);
        tracing::warn!(%epoch, attempt, party, what, "wrong in the set-up of pseudorandom keys");
        shared.metrics.peer_wrong(party);
        detail += &format!("; party {party} was wrong: {what}{}", evidence(frames));
    }
    for party in report.late.iter() {
        shared.metrics.peer_late(party.index().into());
        detail += &format!("; party {party} was late");
    }
    for dispute in &report.disputes {
        detail += &format!("; parties {} and {} contradict each other", dispute.dealer, dispute.party);
    }
    tracing::info!(%epoch, attempt, came_to, "the run of the set-up has ended");
    shared.metrics.prss_setup_run(came_to.starts_with("keys"));
    shared.journal(KIND, epoch, detail).await;
}

/// The epoch has its keys.
pub(super) async fn done(shared: &Shared, epoch: B256, keys: &PrssKeys, late: &[u16]) {
    let digest = hex::encode(keys.run.digest(&keys.commitments));
    let mut detail = format!("attempt {}: the keys with digest {digest} are those of the epoch", keys.run.attempt);
    for party in late {
        detail += &format!("; party {party} has not said what came out at it");
    }
    tracing::info!(%epoch, attempt = keys.run.attempt, digest, "the epoch has its pseudorandom keys");
    shared.journal(KIND, epoch, detail).await;
}

/// An attempt is dead.
pub(super) async fn abandoned(shared: &Shared, epoch: B256, attempt: u32) {
    tracing::warn!(%epoch, attempt, "the attempt to make pseudorandom keys has failed; the next one follows");
    shared.journal(KIND, epoch, format!("attempt {attempt}: given up")).await;
}

fn describe(misdeed: &Misdeed) -> String {
    match misdeed {
        Misdeed::Malformed { round, .. } => format!("its message on channel {round} is none"),
        Misdeed::Conflicting { round, .. } => format!("it sent two different messages on channel {round}"),
        Misdeed::Equivocated { round } => format!("it broadcast different messages on channel {round}"),
        Misdeed::FalseEcho { round } => format!("it claims to have got what was never sent, on channel {round}"),
        Misdeed::BadRow => "its rows contradict its table".into(),
        Misdeed::BadTable => "its table contradicts the rows of more than t parties".into(),
        Misdeed::BadReveal => "the rows that it made public contradict its table".into(),
        Misdeed::FalseComplaint => "it denies rows that it was dealt".into(),
        Misdeed::WrongShare => "its share is not on the polynomial of the others".into(),
        other => format!("{other:?}"),
    }
}

/// The signed frames by hash, as in receipts: payloads are secret.
fn evidence(frames: &[FrameProof]) -> String {
    let frames = frames.iter().map(|frame| {
        let (hash, signature) = (hex::encode(frame.payload_hash), hex::encode(frame.signature));
        format!(" channel {} payload {hash} signature {signature}", frame.round)
    });
    let frames: Vec<String> = frames.collect();
    if frames.is_empty() { String::new() } else { format!(" (signed:{})", frames.join(",")) }
}
