//! Calls per client: a token bucket for each address, in a table of bounded size.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
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

/// A token bucket per client address.
#[derive(Debug)]
pub struct RateLimit {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl RateLimit {
    /// `per_second` calls in the long run, `burst` at once.
    #[must_use]
    pub fn new(per_second: f64, burst: f64) -> Self {
        Self { per_second, burst, buckets: Mutex::new(HashMap::new()) }
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
            buckets.retain(|_, bucket| self.filled(*bucket, now) < self.burst);
            if buckets.len() >= MAX_CLIENTS {
                return Err(Duration::from_secs(1));
            }
        }
        let bucket = buckets.entry(client).or_insert(Bucket { tokens: self.burst, at: now });
        let tokens = self.filled(*bucket, now);
        if tokens < 1.0 {
            *bucket = Bucket { tokens, at: now };
            return Err(Duration::from_secs_f64((1.0 - tokens) / self.per_second));
        }
        *bucket = Bucket { tokens: tokens - 1.0, at: now };
        Ok(())
    }

    fn filled(&self, bucket: Bucket, now: Instant) -> f64 {
        (bucket.tokens + now.saturating_duration_since(bucket.at).as_secs_f64() * self.per_second).min(self.burst)
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
}
