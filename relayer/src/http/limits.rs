//! Calls and followers per client: token buckets and seats, in tables of bounded size.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses remembered; when there are more, the fullest buckets (who called least lately) are forgotten.
const MAX_CLIENTS: usize = 10_000;

/// Who counts as one client: an IPv4 address, or a /64 of IPv6, of which one customer has all addresses.
#[must_use]
pub(super) fn client_key(client: IpAddr) -> Vec<u8> {
    match client.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().into_iter().take(8).collect(),
    }
}

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    burst: f64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Rate {
    fn full(self, now: Instant) -> Bucket {
        Bucket { tokens: self.burst, at: now }
    }

    fn filled(self, bucket: Bucket, now: Instant) -> f64 {
        (bucket.tokens + now.saturating_duration_since(bucket.at).as_secs_f64() * self.per_second).min(self.burst)
    }

    fn take(self, bucket: &mut Bucket, now: Instant) -> Result<(), Duration> {
        let tokens = self.filled(*bucket, now);
        let enough = tokens >= 1.0;
        *bucket = Bucket { tokens: if enough { tokens - 1.0 } else { tokens }, at: now };
        let wait = Duration::try_from_secs_f64((1.0 - tokens) / self.per_second);
        if enough { Ok(()) } else { Err(wait.unwrap_or(Duration::MAX)) }
    }
}

/// One token bucket.
#[derive(Debug)]
pub(super) struct OneLimit {
    rate: Rate,
    bucket: Mutex<Bucket>,
}

impl OneLimit {
    /// `per_second` calls in the long run, `burst` at once.
    pub(super) fn new(per_second: f64, burst: f64) -> Self {
        let rate = Rate { per_second, burst };
        Self { rate, bucket: Mutex::new(rate.full(Instant::now())) }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// How long to wait for the next one.
    pub(super) fn take(&self) -> Result<(), Duration> {
        self.rate.take(&mut self.bucket.lock().unwrap_or_else(PoisonError::into_inner), Instant::now())
    }
}

/// A token bucket per client address.
#[derive(Debug)]
pub struct RateLimit {
    rate: Rate,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

impl RateLimit {
    /// `per_second` calls in the long run, `burst` at once.
    #[must_use]
    pub fn new(per_second: f64, burst: f64) -> Self {
        Self { rate: Rate { per_second, burst }, buckets: Mutex::new(HashMap::new()) }
    }

    /// Takes one token of a client.
    ///
    /// # Errors
    /// How long to wait for the next one.
    pub fn take(&self, client: IpAddr) -> Result<(), Duration> {
        self.take_at(client, Instant::now())
    }

    fn take_at(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_CLIENTS && !buckets.contains_key(&client) {
            buckets.retain(|_, bucket| self.rate.filled(*bucket, now) < self.rate.burst);
            if buckets.len() >= MAX_CLIENTS {
                return Err(Duration::from_secs(1));
            }
        }
        self.rate.take(buckets.entry(client).or_insert(self.rate.full(now)), now)
    }
}

/// Places for those who follow what happens, so many in all and so many per client.
#[derive(Debug)]
pub struct Seats {
    all: usize,
    per_client: usize,
    taken: Mutex<HashMap<Vec<u8>, usize>>,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoSeat {
    /// All are taken.
    Full,
    /// This client has as many as it may have.
    TooManyOfYours,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    client: Vec<u8>,
}

impl Seats {
    /// `all` seats, `per_client` of them for one client.
    #[must_use]
    pub fn new(all: usize, per_client: usize) -> Arc<Self> {
        Arc::new(Self { all, per_client, taken: Mutex::default() })
    }

    pub(super) fn take(self: &Arc<Self>, client: &[u8]) -> Result<Seat, NoSeat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.get(client).is_some_and(|own| *own >= self.per_client) {
            return Err(NoSeat::TooManyOfYours);
        }
        if taken.values().sum::<usize>() >= self.all {
            return Err(NoSeat::Full);
        }
        *taken.entry(client.to_vec()).or_default() += 1;
        Ok(Seat { seats: self.clone(), client: client.to_vec() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.client) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_customer_is_one_client() {
        let key = |text: &str| client_key(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::7"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    }

    #[test]
    fn a_client_has_its_burst_and_then_its_rate() {
        let limit = RateLimit::new(2.0, 3.0);
        let (a, b) = (IpAddr::from([1, 1, 1, 1]), IpAddr::from([2, 2, 2, 2]));
        let start = Instant::now();
        for _ in 0..3 {
            assert!(limit.take_at(a, start).is_ok());
        }
        let wait = limit.take_at(a, start).unwrap_err();
        assert!(wait <= Duration::from_millis(500));
        assert!(limit.take_at(b, start).is_ok());
        assert!(limit.take_at(a, start + Duration::from_millis(501)).is_ok());
        assert!(limit.take_at(a, start + Duration::from_millis(502)).is_err());
    }

    #[test]
    fn the_table_does_not_grow_without_bound() {
        let limit = RateLimit::new(1.0, 1.0);
        let start = Instant::now();
        for i in 0..MAX_CLIENTS as u32 + 50 {
            let _ = limit.take_at(IpAddr::from(i.to_be_bytes()), start);
        }
        assert_eq!(limit.buckets.lock().unwrap().len(), MAX_CLIENTS);
        // Everybody's bucket is full again after a while, and forgotten.
        assert!(limit.take_at(IpAddr::from([255, 255, 255, 255]), start + Duration::from_secs(5)).is_ok());
        assert_eq!(limit.buckets.lock().unwrap().len(), 1);
    }

    #[test]
    fn seats_are_free_again_when_their_holders_go() {
        let seats = Seats::new(3, 2);
        let first = seats.take(b"a").unwrap();
        let second = seats.take(b"a").unwrap();
        assert_eq!(seats.take(b"a").unwrap_err(), NoSeat::TooManyOfYours);
        let other = seats.take(b"b").unwrap();
        assert_eq!(seats.take(b"b").unwrap_err(), NoSeat::Full);
        drop(first);
        assert!(seats.take(b"b").is_ok());
        drop((second, other));
        assert!(seats.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn a_rate_next_to_nothing_is_a_long_wait() {
        let limit = OneLimit::new(f64::MIN_POSITIVE, 1.0);
        assert!(limit.take().is_ok());
        assert_eq!(limit.take(), Err(Duration::MAX));
    }
}
