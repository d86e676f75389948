//! What a set-up has sealed. Objects are written once and never replaced, and that is what makes the rules of the set-up
//! hold over crashes: a party deals once in an attempt, and holds or gives up an attempt, never both.
//!
//! ```text
//! prss-<epoch>                  the keys of the epoch: agreed, for good (those of a run: until it is over)
//! prss-<epoch>-<attempt>-seed   this party takes part; the seed of its dealing, or nothing if it sits the attempt out
//! prss-<epoch>-<attempt>-made   the keys that its run gave it
//! prss-<epoch>-<attempt>-vote   "H" ‖ keys that fit what was agreed: it holds; or "G": it has given the attempt up
//! ```
//! `<epoch>` has 64 hex digits, `<attempt>` is decimal. Keys are `kms_encoding::PrssKeys`.

use std::sync::Arc;

use alloy_primitives::B256;
use kms_encoding::PrssKeys;
use kms_encoding::prss_keys::PrssRun;
use rand::TryRngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

use crate::error::{KeysError, SealedError};
use crate::party::Party;
use crate::sealed::Vault;

/// Start of the names of all objects of set-ups.
pub(super) const PREFIX: &str = "prss-";
/// First byte of a vote.
const HOLDS: u8 = b'H';
const GAVE_UP: u8 = b'G';

/// Seed of a party's dealing.
pub(super) type Seed = Zeroizing<[u8; 32]>;

/// Name of the sealed object with the pseudorandom keys of an epoch.
pub fn object_name(epoch: B256) -> String {
    format!("{PREFIX}{}", hex::encode(epoch))
}

/// The pseudorandom keys of an epoch, if the committee has agreed on some.
///
/// # Errors
/// They are sealed, but the object is damaged, or not this party's.
pub fn load_agreed(party: &Party, vault: &Vault, epoch: B256) -> Result<Option<PrssKeys>, KeysError> {
    let name = object_name(epoch);
    if !vault.contains(&name) {
        return Ok(None);
    }
    let keys = read(party, epoch, &vault.get(&name)?)?;
    if keys.agreed() { Ok(Some(keys)) } else { Err(KeysError::Prss("nobody has agreed on them".into())) }
}

/// Keys of this party in an epoch.
fn read(party: &Party, epoch: B256, bytes: &[u8]) -> Result<PrssKeys, KeysError> {
    let keys = PrssKeys::from_bytes(bytes).map_err(|e| KeysError::Prss(e.to_string()))?;
    let own = (party.context(), epoch, u32::from(party.index), party.n(), party.t());
    let found = (keys.run.context_id.into(), keys.run.epoch_id.into(), keys.index.into(), keys.n.into(), keys.t.into());
    if own == found {
        return Ok(keys);
    }
    let describe = |(context, epoch, index, n, t): (B256, B256, u32, u32, u32)| {
        format!("epoch {epoch} of party {index} of {n} (t = {t}) in {context}")
    };
    Err(KeysError::Foreign { found: describe(found), own: describe(own) })
}

/// What a party has voted in an attempt.
#[derive(Debug)]
pub(super) enum Vote {
    /// It holds these keys, which fit what was agreed.
    Holds(PrssKeys),
    /// It has given the attempt up.
    GaveUp,
    /// It can't be read: the party must not vote again.
    Unreadable,
}

/// What is sealed of an attempt.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    /// Whether the party takes part in it, or has decided not to.
    pub(super) began: bool,
    /// What its run gave it.
    pub(super) made: Option<PrssKeys>,
    /// Its vote.
    pub(super) vote: Option<Vote>,
}

/// A moment of a set-up at which tests kill a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The seed is sealed, nothing is sent yet.
    Seeded,
    /// The run has ended, its keys are not sealed.
    Ran,
    /// The keys are sealed, nobody knows, the seed is still there.
    Made,
    /// The seed is erased.
    Erased,
    /// The vote is sealed, nobody knows.
    Voted,
    /// Enough parties hold the same keys; this is not sealed.
    Agreed,
    /// The keys of the epoch are sealed; what led to them is still there.
    Done,
    /// All else is erased.
    Cleared,
}

/// The sealed objects of one epoch.
#[derive(Clone, Debug)]
pub(super) struct Cabinet {
    pub(super) party: Arc<Party>,
    pub(super) vault: Arc<Vault>,
    pub(super) epoch: B256,
}

impl Cabinet {
    fn name(&self, attempt: u32, what: &str) -> String {
        format!("{}-{attempt}-{what}", object_name(self.epoch))
    }

    pub(super) fn run(&self, attempt: u32) -> PrssRun {
        PrssRun { context_id: self.party.context().0, epoch_id: self.epoch.0, attempt }
    }

    /// The last attempt that anything is sealed of; the first one if there is none.
    pub(super) fn attempt(&self) -> Result<u32, KeysError> {
        let names = self.vault.names()?;
        Ok(names.iter().filter_map(|name| self.attempt_of(name)).max().unwrap_or(1))
    }

    fn attempt_of(&self, name: &str) -> Option<u32> {
        let rest = name.strip_prefix(&object_name(self.epoch))?.strip_prefix('-')?;
        rest.split_once('-')?.0.parse().ok()
    }

    /// What is sealed of an attempt. What can't be read of it is as if it were not there, but for a vote.
    pub(super) fn sealed(&self, attempt: u32) -> Sealed {
        let [seed, made, vote] = ["seed", "made", "vote"].map(|what| self.name(attempt, what));
        let keys = |bytes: &[u8], agreed: bool| {
            let keys = read(&self.party, self.epoch, bytes).ok()?;
            (keys.run.attempt == attempt && keys.agreed() == agreed).then_some(keys)
        };
        let read_vote = |vote: &[u8]| match vote.split_first() {
            Some((&GAVE_UP, [])) => Some(Vote::GaveUp),
            Some((&HOLDS, bytes)) => keys(bytes, true).map(Vote::Holds),
            _ => None,
        };
        let vote = self.vault.contains(&vote).then(|| self.vault.get(&vote).ok());
        Sealed {
            began: self.vault.contains(&seed),
            made: self.vault.get(&made).ok().and_then(|bytes| keys(&bytes, false)),
            vote: vote.map(|vote| vote.and_then(|vote| read_vote(&vote)).unwrap_or(Vote::Unreadable)),
        }
    }

    /// Begins an attempt with a fresh seed.
    pub(super) fn begin(&self, attempt: u32) -> Result<Seed, KeysError> {
        let mut seed = Zeroizing::new([0; 32]);
        OsRng.try_fill_bytes(&mut *seed).map_err(|e| SealedError::Derivation(e.to_string()))?;
        self.vault.put(&self.name(attempt, "seed"), &*seed)?;
        Ok(seed)
    }

    /// Begins an attempt without taking part in it.
    pub(super) fn sit_out(&self, attempt: u32) -> Result<(), KeysError> {
        Ok(self.vault.put(&self.name(attempt, "seed"), &[])?)
    }

    /// Seals what the run gave.
    pub(super) fn made(&self, keys: &PrssKeys) -> Result<(), KeysError> {
        let bytes = keys.to_bytes().map_err(|e| KeysError::Prss(e.to_string()))?;
        Ok(self.vault.put(&self.name(keys.run.attempt, "made"), &bytes)?)
    }

    /// Erases the seed of an attempt.
    pub(super) fn erase_seed(&self, attempt: u32) -> Result<(), KeysError> {
        self.erase(&self.name(attempt, "seed"))
    }

    /// Votes to hold; fails if there is a vote.
    pub(super) fn hold(&self, keys: &PrssKeys) -> Result<(), KeysError> {
        let bytes = keys.to_bytes().map_err(|e| KeysError::Prss(e.to_string()))?;
        let mut vote = Zeroizing::new(Vec::with_capacity(bytes.len() + 1));
        vote.push(HOLDS);
        vote.extend_from_slice(&bytes);
        Ok(self.vault.put(&self.name(keys.run.attempt, "vote"), &vote)?)
    }

    /// Votes to give the attempt up; fails if there is a vote.
    pub(super) fn give_up(&self, attempt: u32) -> Result<(), KeysError> {
        Ok(self.vault.put(&self.name(attempt, "vote"), &[GAVE_UP])?)
    }

    /// Seals the keys of the epoch.
    pub(super) fn done(&self, keys: &PrssKeys) -> Result<(), KeysError> {
        let bytes = keys.to_bytes().map_err(|e| KeysError::Prss(e.to_string()))?;
        Ok(self.vault.put(&object_name(self.epoch), &bytes)?)
    }

    /// Erases what led to the keys of the epoch.
    pub(super) fn clear(&self) -> Result<(), KeysError> {
        let names = self.vault.names()?;
        names.iter().filter(|name| self.attempt_of(name).is_some()).try_for_each(|name| self.erase(name))
    }

    /// Destroys everything, and takes the name of the keys for good, whether or not there were any.
    pub(super) fn destroy(&self) -> Result<(), KeysError> {
        let name = object_name(self.epoch);
        if !self.vault.contains(&name) {
            self.vault.put(&name, &[])?;
        }
        self.erase(&name)?;
        self.clear()
    }

    fn erase(&self, name: &str) -> Result<(), KeysError> {
        match self.vault.destroy(name) {
            Ok(()) | Err(SealedError::Destroyed(_) | SealedError::Missing(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
