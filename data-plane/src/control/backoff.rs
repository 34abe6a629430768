//! How long to wait before the next attempt: full jitter, so that a fleet does not come at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(30);
/// A stream that lived longer was a good one.
const GOOD: Duration = Duration::from_mins(1);

/// Attempts in a row that came to nothing.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// An attempt has ended after `lived`; gives the wait before the next.
    pub(crate) fn ended(&mut self, lived: Duration) -> Duration {
        if lived > GOOD {
            self.failures = 0;
        }
        let most = self.most();
        self.failures = self.failures.saturating_add(1);
        most.mul_f64(rand::random())
    }

    /// Trying again would change nothing soon: the next waits are long.
    pub(crate) fn hopeless(&mut self) {
        self.failures = u32::BITS;
    }

    fn most(&self) -> Duration {
        FIRST.saturating_mul(1 << self.failures.min(16)).min(LAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_half_a_minute_and_a_good_stream_ends_that() {
        let mut backoff = Backoff::default();
        for failures in 0..20 {
            let most = FIRST.saturating_mul(1 << failures.min(10)).min(LAST);
            assert!(backoff.ended(Duration::ZERO) <= most);
        }
        assert_eq!(backoff.most(), LAST);
        assert!(backoff.ended(GOOD * 2) <= FIRST);
    }
}
