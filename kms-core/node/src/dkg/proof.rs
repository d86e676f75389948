//! The file of a proof that a party was wrong in a generation of a key: whoever has it and the cluster's manifest checks it,
//! whether or not the run came to a key.
//!
//! ```text
//! "KMSD" ‖ u8 version 1 ‖ run id (32) ‖ u8 parameter set ‖ u8 compression ‖ CRS digest (32) ‖ seed of the masks (32) ‖
//! evidence, see `kms_mpc::dkg::evidence`
//! ```
//!
//! Nothing before the evidence needs a signature of its own: all of it is hashed into what the parties have signed.

use alloy_primitives::B256;
use kms_algebra::PartyId;
use kms_chain::manifest::Manifest;
use kms_encoding::ParamsId;
use kms_fhe::dkg::key_spec;
use kms_mpc::dkg::evidence::{self, NoEvidence};
use kms_mpc::dkg::{Misdeed, Public, Seed};
use kms_mpc::{Committee, KeygenRun};

use super::exchange::Signatures;
use super::generation::identity;
use super::record::describe;
use crate::store::NewKeygen;

const MAGIC: [u8; 4] = *b"KMSD";
const VERSION: u8 = 1;
const HEADER: usize = 4 + 1 + 32 + 1 + 1 + 32 + 32;
/// Largest file: a part of a frame, and claims of all parties.
pub const MAX_BYTES: usize = 32 << 20;

/// What a proof proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proved {
    /// Id of the run.
    pub run_id: B256,
    /// Who was wrong.
    pub party: PartyId,
    /// What it did.
    pub misdeed: Misdeed,
}

impl Proved {
    /// What the party did, in words about it.
    #[must_use]
    pub fn what(&self) -> &'static str {
        describe(self.misdeed)
    }
}

/// Why a file proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not such a file, or one of another version.
    #[error("it is no proof of key generation in version {VERSION}")]
    Format,
    /// A parameter set that this version does not know.
    #[error("it names parameter set {0}, which is unknown")]
    Params(u8),
    /// The manifest's committee is none that makes keys.
    #[error("the manifest's committee makes no keys")]
    Committee,
    /// The evidence does not hold against this committee.
    #[error("it proves nothing against this committee: another manifest, or a changed file")]
    Nothing,
}

/// The file for evidence against a party of a run whose masks come from `seed`.
pub(super) fn file(asked: &NewKeygen, seed: &Seed, evidence: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + evidence.len());
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.extend_from_slice(asked.run_id.as_slice());
    out.extend_from_slice(&[asked.params, asked.compressed.into()]);
    out.extend_from_slice(asked.crs_digest.as_slice());
    out.extend_from_slice(seed);
    out.extend_from_slice(evidence);
    out
}

/// Checks a file against the committee of a manifest.
///
/// # Errors
/// Why it proves nothing.
pub fn check(manifest: &Manifest, bytes: &[u8]) -> Result<Proved, ProofError> {
    let (asked, seed, evidence) = read(bytes).ok_or(ProofError::Format)?;
    let committee = Committee::new(manifest.committee.n as usize, manifest.committee.t as usize)
        .map_err(|_| ProofError::Committee)?;
    let (party, misdeed) = match committee.degree() {
        4 => proved::<4>(manifest, committee, &asked, seed, evidence),
        _ => proved::<5>(manifest, committee, &asked, seed, evidence),
    }?;
    Ok(Proved { run_id: asked.run_id, party, misdeed })
}

fn read(bytes: &[u8]) -> Option<(NewKeygen, Seed, &[u8])> {
    let (header, evidence) = bytes.split_at_checked(HEADER)?;
    let (magic, rest) = header.split_first_chunk::<4>()?;
    let (version, rest) = rest.split_first()?;
    let (run_id, rest) = rest.split_first_chunk::<32>()?;
    let ([params, compressed], rest) = rest.split_first_chunk::<2>()?;
    let (crs_digest, seed) = rest.split_first_chunk::<32>()?;
    let asked = NewKeygen {
        run_id: B256::from(run_id),
        params: *params,
        compressed: *compressed == 1,
        crs_digest: B256::from(crs_digest),
    };
    (*magic == MAGIC && *version == VERSION && *compressed < 2 && bytes.len() <= MAX_BYTES).then_some((
        asked,
        seed.try_into().ok()?,
        evidence,
    ))
}

fn proved<const D: usize>(
    manifest: &Manifest,
    committee: Committee,
    asked: &NewKeygen,
    seed: Seed,
    evidence: &[u8],
) -> Result<(PartyId, Misdeed), ProofError> {
    let params = ParamsId::from_u8(asked.params).ok_or(ProofError::Params(asked.params))?;
    let manifest_hash = manifest.committee_hash();
    let context = manifest.committee.context_id;
    let run = KeygenRun {
        context_id: context.0,
        run_id: asked.run_id.0,
        params_hash: identity(&manifest_hash, context, asked).0,
        manifest_hash,
    };
    let public = Public::<D>::new(committee, run, &key_spec(params, asked.compressed), seed)
        .map_err(|_| ProofError::Committee)?;
    evidence::verify(&public, &Signatures::of(manifest), evidence).map_err(|NoEvidence| ProofError::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::committee;

    fn asked() -> NewKeygen {
        let (run_id, crs_digest) = (B256::repeat_byte(1), B256::repeat_byte(2));
        NewKeygen { run_id, params: ParamsId::InsecureTest.to_u8(), compressed: true, crs_digest }
    }

    #[test]
    fn what_was_written_is_read() {
        let file = file(&asked(), &[3; 32], b"evidence");
        let (read_asked, seed, evidence) = read(&file).unwrap();
        assert_eq!((read_asked.run_id, read_asked.crs_digest), (asked().run_id, asked().crs_digest));
        assert_eq!((read_asked.params, read_asked.compressed), (asked().params, true));
        assert_eq!((seed, evidence), ([3; 32], &b"evidence"[..]));
    }

    #[test]
    fn what_is_no_proof_proves_nothing() {
        let manifest = committee(4, 1)[0].manifest.clone();
        let whole = file(&asked(), &[3; 32], &[0; 300]);
        assert!(matches!(check(&manifest, &whole), Err(ProofError::Nothing)));
        for short in 0..HEADER {
            assert!(matches!(check(&manifest, &whole[..short]), Err(ProofError::Format)), "{short} bytes");
        }
        let changed = |place: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[place] = byte;
            check(&manifest, &bytes)
        };
        assert!(matches!(changed(0, b'X'), Err(ProofError::Format)));
        assert!(matches!(changed(4, VERSION + 1), Err(ProofError::Format)));
        assert!(matches!(changed(37, 99), Err(ProofError::Params(99))));
        assert!(matches!(changed(38, 2), Err(ProofError::Format)));
        assert!(matches!(check(&manifest, &vec![0; MAX_BYTES + 1]), Err(ProofError::Format)));
    }
}
