//! Waiting by rank, so that several relayers with databases of their own don't all pay for the same answer.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::{Address, B256, keccak256};

/// How much longer than its own wait a relayer leaves a request to one that is seen at work, at most: that one may have
/// reasons not to post just this answer.
const PATIENCE: i64 = 10;

/// The relayers that know each other.
#[derive(Debug, Clone, Default)]
pub struct Ranks {
    /// Accounts of all known relayers.
    pub known: Vec<Address>,
    /// What each rank waits longer than the one before.
    pub slot: Duration,
}

impl Ranks {
    /// Those that come before `me` with `request`.
    fn before(&self, request: B256, me: Address) -> impl Iterator<Item = &Address> {
        let order = move |relayer: &Address| keccak256([request.as_slice(), relayer.as_slice()].concat());
        let mine = order(&me);
        self.known.iter().filter(move |relayer| **relayer != me && order(relayer) < mine)
    }

    /// How long `me` leaves `request` to others, if nothing is heard of them.
    #[must_use]
    pub fn wait(&self, request: B256, me: Address) -> Duration {
        self.slot.saturating_mul(u32::try_from(self.before(request, me).count()).unwrap_or(u32::MAX))
    }

    /// When it is the turn of `me`, milliseconds: for a request whose answer is there since `since`, with what was seen of the
    /// others. One that has posted an answer a moment ago has more to post than it can, and comes to this one, too.
    #[must_use]
    pub fn turn(&self, request: B256, me: Address, since: i64, seen: &Seen) -> i64 {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let own = ms(self.wait(request, me));
        let busy = self.before(request, me).filter_map(|relayer| seen.last(*relayer)).max();
        let until = busy.map_or(0, |at| at.saturating_add(ms(self.slot)));
        until.clamp(since.saturating_add(own), since.saturating_add(own.saturating_mul(PATIENCE)))
    }
}

/// When accounts were last seen to have posted an answer. Only an aid, so it is forgotten with the process.
#[derive(Debug, Default)]
pub struct Seen(Mutex<BTreeMap<Address, i64>>);

/// Accounts that are remembered: anybody may post answers.
const MAX_SEEN: usize = 256;

impl Seen {
    /// This account posted an answer, as was seen at `now`, milliseconds.
    pub fn note(&self, account: Address, now: i64) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(account, now);
        if seen.len() > MAX_SEEN
            && let Some(oldest) = seen.iter().min_by_key(|(_, at)| **at).map(|(account, _)| *account)
        {
            seen.remove(&oldest);
        }
    }

    fn last(&self, account: Address) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&account).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: i64 = 1_000;

    /// Three relayers in the order in which they come to this request.
    fn ordered(request: B256) -> (Ranks, Vec<Address>) {
        let known: Vec<Address> = (1..=3).map(Address::repeat_byte).collect();
        let ranks = Ranks { known: known.clone(), slot: Duration::from_millis(SLOT as u64) };
        let mut ordered = known;
        ordered.sort_by_key(|me| ranks.wait(request, *me));
        (ranks, ordered)
    }

    #[test]
    fn whoever_is_silent_is_waited_for_one_slot() {
        let request = B256::repeat_byte(7);
        let (ranks, order) = ordered(request);
        let turns: Vec<i64> = order.iter().map(|me| ranks.turn(request, *me, 5_000, &Seen::default())).collect();
        assert_eq!(turns, [5_000, 5_000 + SLOT, 5_000 + 2 * SLOT]);
    }

    #[test]
    fn whoever_is_at_work_is_waited_for_longer_but_not_for_ever() {
        let request = B256::repeat_byte(7);
        let (ranks, order) = ordered(request);
        let seen = Seen::default();
        seen.note(order[0], 9_000);
        assert_eq!(ranks.turn(request, order[0], 5_000, &seen), 5_000, "nobody waits for itself");
        assert_eq!(ranks.turn(request, order[1], 5_000, &seen), 9_000 + SLOT);
        seen.note(order[0], 1_000_000);
        assert_eq!(ranks.turn(request, order[1], 5_000, &seen), 5_000 + SLOT * PATIENCE);
        // One that comes later says nothing about this request.
        let seen = Seen::default();
        seen.note(order[2], 9_000);
        assert_eq!(ranks.turn(request, order[1], 5_000, &seen), 5_000 + SLOT);
    }

    #[test]
    fn not_everybody_is_remembered() {
        let seen = Seen::default();
        for n in 0..2 * MAX_SEEN as u64 {
            seen.note(Address::left_padding_from(&n.to_be_bytes()), n as i64);
        }
        assert_eq!(seen.0.lock().unwrap().len(), MAX_SEEN);
        assert_eq!(seen.last(Address::left_padding_from(&511u64.to_be_bytes())), Some(511));
        assert_eq!(seen.last(Address::ZERO), None);
    }
}
