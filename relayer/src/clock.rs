//! Our own clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// `base` doubled `attempt` times up to `cap`, of which the second half is random, so that many waiters spread out.
#[must_use]
pub fn backoff_ms(attempt: u32, base: u64, cap: u64) -> u64 {
    let full = base.saturating_mul(1u64 << attempt.min(20)).clamp(1, cap.max(1));
    full / 2 + rand::random_range(0..=full - full / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_grows_is_jittered_and_capped() {
        for attempt in 0..64 {
            let wait = backoff_ms(attempt, 200, 30_000);
            assert!(wait <= 30_000);
            let full = 200u64.saturating_mul(1 << attempt.min(20)).min(30_000);
            assert!(wait >= full / 2, "{attempt}: {wait}");
        }
        assert!((0..50).map(|_| backoff_ms(9, 200, 30_000)).collect::<std::collections::HashSet<_>>().len() > 5);
    }
}
