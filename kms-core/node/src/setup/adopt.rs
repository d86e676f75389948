//! Taking keys over from others: what a party does that has not made the keys that its committee agreed on.

use std::collections::BTreeMap;

use kms_encoding::prss_keys::{PrssRun, sets};
use kms_encoding::{PrssKey, PrssKeys};
use kms_proto::peer::SetupKeys;

use super::board::{Commitment, Digest};

/// Why a peer's keys are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("its commitments are not those that were agreed on")]
    Commitments,
    #[error("it sent bytes that are no keys")]
    Malformed,
    #[error("its key of set {0:#b} is not the one that was agreed on")]
    Key(u32),
}

/// Keys that are being put together.
#[derive(Debug)]
pub(super) struct Adoption {
    run: PrssRun,
    digest: Digest,
    n: u16,
    t: u16,
    own: u16,
    commitments: Vec<Commitment>,
    keys: BTreeMap<u32, PrssKey>,
}

impl Adoption {
    /// Keys that fit a digest. `commitments` if they are known, `made` what this party made itself.
    pub(super) fn new(
        run: PrssRun,
        digest: Digest,
        (n, t, own): (u16, u16, u16),
        commitments: Option<Vec<Commitment>>,
        made: Option<&PrssKeys>,
    ) -> Self {
        let commitments = commitments.filter(|all| run.digest(all) == digest).unwrap_or_default();
        let keys = made.filter(|made| made.run == run).map(|made| made.keys.clone()).unwrap_or_default();
        let keys = keys.into_iter().map(|key| (key.set, key)).collect();
        let mut adoption = Self { run, digest, n, t, own, commitments, keys };
        adoption.sift();
        adoption
    }

    pub(super) fn is_of(&self, attempt: u32, digest: Digest) -> bool {
        (self.run.attempt, self.digest) == (attempt, digest)
    }

    /// The attempt and digest, if keys are still missing.
    pub(super) fn lacks(&self) -> Option<(u32, Digest)> {
        self.keys().is_none().then_some((self.run.attempt, self.digest))
    }

    /// Drops keys that do not fit, once it is known what fits.
    fn sift(&mut self) {
        if !self.commitments.is_empty() {
            let fitting: BTreeMap<u32, Commitment> =
                sets(self.n, self.t).zip(self.commitments.iter().copied()).collect();
            self.keys.retain(|set, key| fitting.get(set) == Some(&self.run.commitment(key)));
        }
    }

    /// Takes what a peer sent.
    pub(super) fn take(&mut self, sent: &SetupKeys) -> Result<(), Wrong> {
        if self.commitments.is_empty() {
            let commitments: Vec<Commitment> = sent.commitments.as_chunks().0.to_vec();
            if commitments.len() != sets(self.n, self.t).count() || self.run.digest(&commitments) != self.digest {
                return Err(Wrong::Commitments);
            }
            self.commitments = commitments;
            self.sift();
        }
        let fitting: BTreeMap<u32, Commitment> = sets(self.n, self.t).zip(self.commitments.iter().copied()).collect();
        for key in read_keys(&sent.keys).ok_or(Wrong::Malformed)? {
            let mine = key.set >> (self.own - 1) & 1 == 1;
            if !mine || fitting.get(&key.set) != Some(&self.run.commitment(&key)) {
                return Err(Wrong::Key(key.set));
            }
            self.keys.insert(key.set, key);
        }
        Ok(())
    }

    /// All keys, once they are there.
    pub(super) fn keys(&self) -> Option<PrssKeys> {
        if self.commitments.is_empty() {
            return None;
        }
        let (n, t, index) = (self.n, self.t, self.own);
        let (commitments, keys) = (self.commitments.clone(), self.keys.values().cloned().collect());
        let keys = PrssKeys { run: self.run, n, t, index, commitments, keys };
        keys.check().is_ok().then_some(keys)
    }
}

/// The keys that `peer` is entitled to.
pub(super) fn keys_for(peer: u16, keys: &PrssKeys) -> SetupKeys {
    let shared = keys.keys.iter().filter(|key| key.set >> (peer - 1) & 1 == 1);
    let mut bytes = Vec::with_capacity(20 * keys.keys.len());
    for key in shared {
        bytes.extend_from_slice(&key.set.to_be_bytes());
        bytes.extend_from_slice(&key.key);
    }
    SetupKeys { commitments: keys.commitments.concat(), keys: bytes }
}

fn read_keys(bytes: &[u8]) -> Option<Vec<PrssKey>> {
    let (keys, rest) = bytes.as_chunks::<20>();
    let read = |bytes: &[u8; 20]| {
        let (set, key) = bytes.split_first_chunk::<4>()?;
        Some(PrssKey { set: u32::from_be_bytes(*set), key: key.try_into().ok()? })
    };
    rest.is_empty().then(|| keys.iter().map(read).collect()).flatten()
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;
    use crate::test_support::{committee, prss};

    const EPOCH: B256 = B256::repeat_byte(5);

    fn adoption(commitments: Option<Vec<Commitment>>, made: Option<&PrssKeys>) -> (Adoption, PrssKeys) {
        let goal = prss(&committee(4, 1)[3], EPOCH, 2);
        let digest = goal.run.digest(&goal.commitments);
        (Adoption::new(goal.run, digest, (4, 1, 4), commitments, made), goal)
    }

    #[test]
    fn keys_of_any_members_complete_a_party_that_has_none() {
        let parties = committee(4, 1);
        let (mut adoption, goal) = adoption(None, None);
        assert!(adoption.is_of(2, goal.run.digest(&goal.commitments)) && !adoption.is_of(1, [0; 32]));
        assert_eq!(adoption.keys(), None);
        // Party 1 has the keys of two of the three sets that party 4 is in.
        adoption.take(&keys_for(4, &prss(&parties[0], EPOCH, 2))).unwrap();
        assert_eq!(adoption.keys(), None);
        adoption.take(&keys_for(4, &prss(&parties[1], EPOCH, 2))).unwrap();
        assert_eq!(adoption.keys(), Some(goal));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_named() {
        let good = prss(&committee(4, 1)[0], EPOCH, 2);
        let sent = keys_for(4, &good);
        let (mut adoption, _) = adoption(None, None);
        let other = SetupKeys { commitments: prss(&committee(4, 1)[0], EPOCH, 1).commitments.concat(), ..sent.clone() };
        assert_eq!(adoption.take(&other), Err(Wrong::Commitments));
        assert_eq!(adoption.take(&SetupKeys { commitments: vec![1], ..sent.clone() }), Err(Wrong::Commitments));
        assert_eq!(adoption.take(&SetupKeys { keys: vec![0; 19], ..sent.clone() }), Err(Wrong::Malformed));
        let mut flipped = sent.clone();
        *flipped.keys.last_mut().unwrap() ^= 1;
        assert_eq!(adoption.take(&flipped), Err(Wrong::Key(0b1101)));
        // A key of a set that party 4 is not in is nothing to it.
        assert_eq!(adoption.take(&keys_for(1, &good)), Err(Wrong::Key(0b0111)));
        assert_eq!(adoption.take(&sent), Ok(()));
    }

    #[test]
    fn own_keys_count_if_they_fit() {
        let mut made = prss(&committee(4, 1)[3], EPOCH, 2);
        made.commitments.clear();
        let (_, goal) = adoption(None, None);
        assert_eq!(adoption(Some(goal.commitments.clone()), Some(&made)).0.keys(), Some(goal.clone()));
        let mut wrong = made.clone();
        wrong.keys[1].key[0] ^= 1;
        let (mut adoption, _) = adoption(Some(goal.commitments.clone()), Some(&wrong));
        assert_eq!(adoption.keys(), None);
        for index in 0..2 {
            adoption.take(&keys_for(4, &prss(&committee(4, 1)[index], EPOCH, 2))).unwrap();
        }
        assert_eq!(adoption.keys(), Some(goal));
    }
}
