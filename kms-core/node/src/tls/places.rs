//! Places of a listener: so many per identity, and before there is an identity so many per address. Nobody can take
//! those of another.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// A connection's place; it is free again when this is dropped. Cancelled when a newer connection takes it.
pub(super) type Place = Arc<CancellationToken>;

/// Connections by identity, oldest first. As large as there are identities.
#[derive(Debug)]
pub(super) struct Places<W> {
    each: usize,
    held: Mutex<HashMap<W, VecDeque<Weak<CancellationToken>>>>,
}

impl<W: Clone + Eq + Hash> Places<W> {
    pub(super) fn new(each: usize) -> Self {
        Self { each: each.max(1), held: Mutex::new(HashMap::new()) }
    }

    /// A place for a new connection of `who`, that of its oldest one if it has no other left: a party that has
    /// restarted must get in before this side has noticed that the old connection is dead.
    pub(super) fn take(&self, who: &W) -> Place {
        let place = Place::default();
        let mut held = self.held.lock();
        let own = held.entry(who.clone()).or_default();
        own.retain(|old| old.strong_count() > 0);
        while own.len() >= self.each {
            if let Some(oldest) = own.pop_front().and_then(|old| old.upgrade()) {
                oldest.cancel();
            }
        }
        own.push_back(Arc::downgrade(&place));
        place
    }
}

/// Connections that have not said yet who they are, by address.
#[derive(Debug)]
pub(super) struct Knocking {
    each: usize,
    held: Mutex<HashMap<IpAddr, usize>>,
}

/// One of them, until dropped.
#[derive(Debug)]
pub(super) struct Knock {
    from: IpAddr,
    of: Arc<Knocking>,
}

impl Knocking {
    pub(super) fn new(each: usize) -> Self {
        Self { each, held: Mutex::new(HashMap::new()) }
    }

    /// A place for somebody at `from`, if there is one left.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Option<Knock> {
        let from = household(from);
        let mut held = self.held.lock();
        let own = held.entry(from).or_default();
        if *own >= self.each {
            return None;
        }
        *own += 1;
        Some(Knock { from, of: self.clone() })
    }
}

impl Drop for Knock {
    fn drop(&mut self) {
        let mut held = self.of.held.lock();
        if let Some(own) = held.get_mut(&self.from) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.from);
            }
        }
    }
}

/// What one machine has of the address space: an IPv4 address, or 64 bits of an IPv6 address.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_connection_of_the_same_identity_gives_way() {
        let places = Places::new(2);
        let other = places.take(&"other");
        let (first, second) = (places.take(&"one"), places.take(&"one"));
        drop(second);
        let third = places.take(&"one");
        assert!(!first.is_cancelled(), "there was a free place");
        let fourth = places.take(&"one");
        assert!(first.is_cancelled() && !third.is_cancelled() && !fourth.is_cancelled() && !other.is_cancelled());
        let _fifth = places.take(&"one");
        assert!(third.is_cancelled() && !fourth.is_cancelled() && !other.is_cancelled());
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let knocking = Arc::new(Knocking::new(2));
        let take = |address: &str| knocking.take(address.parse().unwrap());
        let (first, second) = (take("192.0.2.1"), take("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some() && take("192.0.2.1").is_none());
        assert!(take("192.0.2.2").is_some());
        drop(first);
        let third = take("192.0.2.1");
        assert!(third.is_some() && take("192.0.2.1").is_none());
        // A machine has 2^64 addresses of the newer kind.
        let six = (take("2001:db8::1"), take("2001:db8::2"));
        assert!(six.0.is_some() && six.1.is_some() && take("2001:db8::3").is_none());
        assert!(take("2001:db8:0:1::1").is_some());
        drop((second, third, six));
        assert!(knocking.held.lock().is_empty());
    }
}
