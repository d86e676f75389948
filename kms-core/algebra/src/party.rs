//! Parties and sets of parties.

use core::fmt;

/// Largest index of a party: the ring of degree 5 has 31 points beside 0.
pub const MAX_PARTIES: usize = 31;

/// A party of the committee: its index, 1..=31. Index 0 is the point of the secret and no party.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartyId(u8);

impl PartyId {
    /// The party with this index; `None` outside 1..=31.
    #[must_use]
    pub const fn new(index: u8) -> Option<Self> {
        if index >= 1 && index as usize <= MAX_PARTIES { Some(Self(index)) } else { None }
    }

    /// The index, 1..=31.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0
    }

    /// The index counted from 0, for arrays.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.0 as usize - 1
    }

    /// Parties 1..=n. `n` beyond 31 is cut.
    pub fn all(n: usize) -> impl DoubleEndedIterator<Item = Self> + Clone {
        (1..=n.min(MAX_PARTIES) as u8).map(Self)
    }
}

impl fmt::Debug for PartyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P{}", self.0)
    }
}

impl fmt::Display for PartyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of parties: bit (index − 1) stands for a party, as in receipts.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartySet(u32);

impl PartySet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// The set with this bitmap; `None` if bit 31, which is no party's, is set.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits >> MAX_PARTIES == 0 { Some(Self(bits)) } else { None }
    }

    /// Parties 1..=n.
    #[must_use]
    pub fn all(n: usize) -> Self {
        PartyId::all(n).collect()
    }

    /// The bitmap.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Number of parties.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `party` is in the set.
    #[must_use]
    pub const fn contains(self, party: PartyId) -> bool {
        self.0 >> (party.0 - 1) & 1 == 1
    }

    /// Adds `party`; whether it was new.
    pub fn insert(&mut self, party: PartyId) -> bool {
        let new = !self.contains(party);
        self.0 |= 1 << (party.0 - 1);
        new
    }

    /// Takes `party` out.
    pub fn remove(&mut self, party: PartyId) {
        self.0 &= !(1 << (party.0 - 1));
    }

    /// Parties in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Parties of this set that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Parties in ascending order.
    pub fn iter(self) -> impl Iterator<Item = PartyId> + Clone {
        PartyId::all(MAX_PARTIES).filter(move |p| self.contains(*p))
    }

    /// All sets of `size` parties out of 1..=n, in ascending order of their bitmaps.
    pub fn subsets(n: usize, size: usize) -> impl Iterator<Item = Self> {
        let n = n.min(MAX_PARTIES);
        let end = 1u64 << n;
        let mut next = if size > n { end } else { (1u64 << size) - 1 };
        core::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            let set = Self(next as u32);
            // Gosper's hack: the next larger integer with the same number of ones.
            next = if next == 0 {
                end
            } else {
                let low = next & next.wrapping_neg();
                let ripple = next + low;
                ripple | (((next ^ ripple) >> 2) / low)
            };
            Some(set)
        })
    }
}

impl FromIterator<PartyId> for PartySet {
    fn from_iter<I: IntoIterator<Item = PartyId>>(parties: I) -> Self {
        let mut set = Self::EMPTY;
        for party in parties {
            set.insert(party);
        }
        set
    }
}

impl fmt::Debug for PartySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for PartySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, party) in self.iter().enumerate() {
            write!(f, "{}{party}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_outside_the_ring_are_no_parties() {
        assert_eq!(PartyId::new(0), None);
        assert_eq!(PartyId::new(32), None);
        assert_eq!(PartyId::new(31).map(PartyId::slot), Some(30));
        assert_eq!(PartySet::from_bits(1 << 31), None);
    }

    #[test]
    fn sets_behave() {
        let mut s: PartySet = [3, 1].into_iter().filter_map(PartyId::new).collect();
        assert_eq!((s.bits(), s.len(), s.to_string()), (0b101, 2, "1, 3".into()));
        assert!(!s.insert(PartyId(3)));
        s.remove(PartyId(1));
        assert_eq!(s.iter().collect::<Vec<_>>(), [PartyId(3)]);
        assert_eq!(PartySet::all(4).without(s).bits(), 0b1011);
        assert_eq!(PartySet::all(31).len(), 31);
    }

    #[test]
    fn subsets_are_complete_and_ascending() {
        for (n, k, count) in [(4, 3, 4), (7, 5, 21), (13, 9, 715), (31, 31, 1), (5, 0, 1), (3, 4, 0)] {
            let sets: Vec<_> = PartySet::subsets(n, k).collect();
            assert_eq!(sets.len(), count);
            assert!(sets.iter().all(|s| s.len() == k && s.without(PartySet::all(n)).is_empty()));
            assert!(sets.windows(2).all(|w| w[0] < w[1]));
        }
    }
}
