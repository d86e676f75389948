//! Session and job identities: hashes of the content they stand for.

use core::fmt;

use sha3::digest::{ExtendableOutput, Update, XofReader};
use sha3::{Digest, Sha3_256, Shake256};

/// What kind of session; the byte is hashed.
const KIND_DECRYPTION: u8 = 1;
const KIND_PRSS_SETUP: u8 = 2;
const KIND_KEYGEN: u8 = 3;

/// Identity of everything secret that is done to one ciphertext object in one epoch. Selects the masks: the mask of
/// block j is a function of (session, j), so the same mask can never meet two ciphertexts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 32]);

impl SessionId {
    /// SHAKE256("KMS-SESSION-1" ‖ u8 kind = 1 ‖ context id ‖ epoch id ‖ key id ‖ u8 format ‖ u8 decoder version ‖
    /// ciphertext digest), 32 bytes. The digest is the committed SHA-256 of the whole ciphertext object.
    #[must_use]
    pub fn decryption(
        context_id: &[u8; 32],
        epoch_id: &[u8; 32],
        key_id: &[u8; 32],
        format: u8,
        decoder_version: u8,
        ciphertext_digest: &[u8; 32],
    ) -> Self {
        let mut hash = Shake256::default();
        hash.update(b"KMS-SESSION-1");
        hash.update(&[KIND_DECRYPTION]);
        hash.update(context_id);
        hash.update(epoch_id);
        hash.update(key_id);
        hash.update(&[format, decoder_version]);
        hash.update(ciphertext_digest);
        let mut id = [0; 32];
        hash.finalize_xof().read(&mut id);
        Self(id)
    }

    /// SHAKE256("KMS-SESSION-1" ‖ u8 kind = 2 ‖ context id ‖ epoch id ‖ u32 attempt), 32 bytes: one attempt to make the
    /// PRSS keys of an epoch. An attempt that failed is never resumed, only followed by the next.
    #[must_use]
    pub fn prss_setup(context_id: &[u8; 32], epoch_id: &[u8; 32], attempt: u32) -> Self {
        let mut hash = Shake256::default();
        hash.update(b"KMS-SESSION-1");
        hash.update(&[KIND_PRSS_SETUP]);
        hash.update(context_id);
        hash.update(epoch_id);
        hash.update(&attempt.to_be_bytes());
        let mut id = [0; 32];
        hash.finalize_xof().read(&mut id);
        Self(id)
    }

    /// SHAKE256("KMS-SESSION-1" ‖ u8 kind = 3 ‖ context id ‖ run id ‖ hash of the parameters ‖ hash of the manifest ‖ seed of
    /// the masks ‖ u32 phase ‖ u32 chunk ‖ u32 attempt), 32 bytes: one attempt at one chunk of one key generation.
    #[must_use]
    pub fn keygen(run: &KeygenRun, seed: &[u8; 32], phase: u32, chunk: u32, attempt: u32) -> Self {
        let mut hash = Shake256::default();
        hash.update(b"KMS-SESSION-1");
        hash.update(&[KIND_KEYGEN]);
        for field in [&run.context_id, &run.run_id, &run.params_hash, &run.manifest_hash, seed] {
            hash.update(field);
        }
        for field in [phase, chunk, attempt] {
            hash.update(&field.to_be_bytes());
        }
        let mut id = [0; 32];
        hash.finalize_xof().read(&mut id);
        Self(id)
    }

    /// An identity that was derived elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What tells a key generation from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeygenRun {
    /// Identity of the context.
    pub context_id: [u8; 32],
    /// Identity of the run. Never used again, not even after an abort.
    pub run_id: [u8; 32],
    /// Hash of the parameters that the specification comes from.
    pub params_hash: [u8; 32],
    /// Hash of the manifest of the context: who the parties are.
    pub manifest_hash: [u8; 32],
}

/// Blocks of one ciphertext object that a job opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Session of the object.
    pub session: SessionId,
    /// Absolute position of the first block in the object.
    pub first: u32,
    /// Number of blocks.
    pub blocks: u32,
}

/// Identity of one job: a list of parts that are opened together, in one message per party.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId([u8; 32]);

impl JobId {
    /// SHA3-256("KMS-JOB-1" ‖ u32 number of parts ‖ per part: session (32) ‖ u32 first block ‖ u32 blocks), big endian.
    #[must_use]
    pub fn new(parts: &[Part]) -> Self {
        let mut hash = Sha3_256::new();
        Digest::update(&mut hash, b"KMS-JOB-1");
        Digest::update(&mut hash, (parts.len() as u32).to_be_bytes());
        for part in parts {
            Digest::update(&mut hash, part.session.0);
            Digest::update(&mut hash, part.first.to_be_bytes());
            Digest::update(&mut hash, part.blocks.to_be_bytes());
        }
        Self(hash.finalize().into())
    }

    /// SHA3-256("KMS-JOB-2" ‖ session): the one job of a session that is a protocol run of many rounds.
    #[must_use]
    pub fn of_session(session: &SessionId) -> Self {
        let mut hash = Sha3_256::new();
        Digest::update(&mut hash, b"KMS-JOB-2");
        Digest::update(&mut hash, session.0);
        Self(hash.finalize().into())
    }

    /// An identity as it came over a wire.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_depend_on_every_field() {
        let fields = [[1; 32], [2; 32], [3; 32], [4; 32]];
        let make =
            |f: &[[u8; 32]; 4], format, version| SessionId::decryption(&f[0], &f[1], &f[2], format, version, &f[3]);
        let mut seen = vec![make(&fields, 1, 1), make(&fields, 2, 1), make(&fields, 1, 2)];
        for i in 0..4 {
            let mut other = fields;
            other[i][31] ^= 1;
            seen.push(make(&other, 1, 1));
        }
        // Fields of equal width in another order are another session.
        seen.push(SessionId::decryption(&fields[1], &fields[0], &fields[2], 1, 1, &fields[3]));
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn attempts_of_a_setup_are_sessions_and_jobs_of_their_own() {
        let sessions = [
            SessionId::prss_setup(&[1; 32], &[2; 32], 0),
            SessionId::prss_setup(&[1; 32], &[2; 32], 1),
            SessionId::prss_setup(&[1; 32], &[3; 32], 0),
            SessionId::prss_setup(&[3; 32], &[2; 32], 0),
        ];
        for (i, a) in sessions.iter().enumerate() {
            for b in &sessions[..i] {
                assert!(a != b && JobId::of_session(a) != JobId::of_session(b));
            }
        }
    }

    #[test]
    fn chunks_and_attempts_of_a_key_generation_are_sessions_of_their_own() {
        let run = KeygenRun { context_id: [1; 32], run_id: [2; 32], params_hash: [3; 32], manifest_hash: [4; 32] };
        let other = [
            KeygenRun { context_id: [9; 32], ..run },
            KeygenRun { run_id: [9; 32], ..run },
            KeygenRun { params_hash: [9; 32], ..run },
            KeygenRun { manifest_hash: [9; 32], ..run },
        ];
        let mut seen: Vec<_> = other.iter().map(|run| SessionId::keygen(run, &[5; 32], 0, 0, 0)).collect();
        seen.push(SessionId::keygen(&run, &[9; 32], 0, 0, 0));
        for (phase, chunk, attempt) in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (256, 0, 0), (0, 256, 0)] {
            seen.push(SessionId::keygen(&run, &[5; 32], phase, chunk, attempt));
        }
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn jobs_depend_on_parts_and_order() {
        let part = |s, first, blocks| Part { session: SessionId::from_bytes([s; 32]), first, blocks };
        let jobs = [
            JobId::new(&[part(1, 0, 2), part(2, 0, 2)]),
            JobId::new(&[part(2, 0, 2), part(1, 0, 2)]),
            JobId::new(&[part(1, 0, 2)]),
            JobId::new(&[part(1, 2, 2)]),
            JobId::new(&[part(1, 0, 1)]),
        ];
        assert!((0..5).all(|i| (0..i).all(|j| jobs[i] != jobs[j])));
    }
}
