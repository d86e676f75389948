//! What a run leaves in the audit journal: what became of it, who was late, and who was wrong with what proves it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use alloy_primitives::B256;
use kms_mpc::dkg::{Culprit, Misdeed};
use sha2::{Digest, Sha256};

use super::generation::{Answers, Found, Generation, Stage};
use super::{Shared, proof};

/// Kind of the journal's lines.
const KIND: &str = "keygen";
/// Folder of proofs, in the data folder.
const EVIDENCE: &str = "evidence";

/// A line about a run.
pub(super) async fn line(shared: &Shared, run: &Generation, what: &str) {
    if let Err(error) = shared.parts.store.journal(KIND, run.asked.run_id.to_string(), what).await {
        tracing::error!(%error, "the journal can't be written");
    }
}

/// Those that were late, and those that were wrong: proofs become files, and the journal names their hashes.
pub(super) async fn parties(shared: &Shared, run: &Generation, found: Found) {
    for party in found.late.iter() {
        shared.parts.metrics.peer_late(party.index().into());
        line(shared, run, &format!("party {party} was late")).await;
    }
    for culprit in &found.culprits {
        let party = u16::from(culprit.party.index());
        let mut what = format!("party {party} was wrong in chunk {}: {}", culprit.chunk, describe(culprit.misdeed));
        let seed = found.seed.filter(|_| !culprit.evidence.is_empty());
        if let Some(seed) = seed {
            let name = file_name(run.asked.run_id, culprit);
            let file = proof::file(&run.asked, &seed, &culprit.evidence);
            let digest = hex::encode(Sha256::digest(&file));
            match write(&shared.parts.data_dir.join(EVIDENCE), &name, &file) {
                Ok(()) => what += &format!(" (proof {EVIDENCE}/{name}, SHA-256 {digest})"),
                Err(error) => what += &format!(" (the proof with SHA-256 {digest} can't be written: {error})"),
            }
        } else {
            what += " (observed, not proved)";
        }
        tracing::warn!(run = %run.asked.run_id, what, "key generation");
        shared.parts.metrics.peer_wrong(party);
        line(shared, run, &what).await;
    }
}

/// Those of a run that comes to no key: what they did would be erased with it. None if the protocol was not under way; what
/// comes after it has them recorded.
pub(super) async fn unfinished(shared: &Shared, run: &Generation, answers: Option<Arc<dyn Answers>>) {
    if let Some(found) = answers.filter(|_| run.stage() == Stage::Running).map(|answers| answers.found()) {
        parties(shared, run, found).await;
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    crate::files::write_public(&folder.join(name), bytes)
}

/// `<run>-chunk-<c>-party-<i>-<misdeed>`: a party may do several things in one chunk.
fn file_name(run_id: B256, culprit: &Culprit) -> String {
    let Culprit { party, misdeed, chunk, .. } = culprit;
    let what = match misdeed {
        Misdeed::Equivocated => "two-frames",
        Misdeed::VotedTwice => "two-votes",
        Misdeed::WrongFrame => "wrong-frame",
        Misdeed::WrongKeys => "wrong-keys",
        _ => "other",
    };
    format!("{}-chunk-{chunk}-party-{party}-{what}", hex::encode(run_id))
}

/// What a misdeed is, in words about a party.
pub(super) fn describe(misdeed: Misdeed) -> &'static str {
    match misdeed {
        Misdeed::Equivocated => "it signed two different frames",
        Misdeed::VotedTwice => "it signed two votes",
        Misdeed::WrongFrame => "its signed frame is not what its keys give",
        Misdeed::WrongKeys => "it signed a claim about keys that too many others contradict",
        Misdeed::WrongShare => "its share is not on the polynomial of the others",
        Misdeed::Malformed => "its answer is none, or not signed by it",
        _ => "it did what no honest party does",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kms_algebra::PartyId;

    use super::*;

    #[test]
    fn proofs_of_all_that_a_party_did_in_a_chunk_have_files_of_their_own() {
        let party = PartyId::new(2).unwrap();
        let proved = [Misdeed::Equivocated, Misdeed::VotedTwice, Misdeed::WrongFrame, Misdeed::WrongKeys];
        let names = proved.map(|misdeed| {
            file_name(B256::repeat_byte(1), &Culprit { party, misdeed, chunk: 7, evidence: Bytes::new() })
        });
        assert!((0..names.len()).all(|i| (0..i).all(|j| names[i] != names[j])), "{names:?}");
    }
}
