//! When to open a lost link again: exponential, with jitter, starting over only
//! after a link stayed up for a while, so that a far side that accepts and drops
//! at once is not hammered. Pure: time and chance come in as arguments.

use std::time::Duration;

use crate::device::{ReconnectPolicy, ReconnectSpec};

/// The attempts so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Reconnect {
    failures: u32,
}

impl Reconnect {
    /// The delay before the next attempt. `uptime`: how long the link that was
    /// lost had been up; zero if it never was. `chance`: 0.0 to 1.0.
    pub(super) fn next(&mut self, spec: &ReconnectSpec, uptime: Duration, chance: f64) -> Duration {
        if spec.policy == ReconnectPolicy::Interval {
            return spec.min_delay();
        }
        if uptime >= spec.reset_after() && !uptime.is_zero() {
            self.failures = 0;
        }
        let doubled =
            spec.min_delay().saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(31);
        let full = doubled.min(spec.max_delay());
        // Between half of it and all of it: a thousand consoles of one rack
        // that lost power must not come back in step.
        full.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    }

    /// The owner asks for an attempt now.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPEC: ReconnectSpec = ReconnectSpec {
        min_delay: Some(Duration::from_millis(100)),
        max_delay: Some(Duration::from_secs(1)),
        reset_after: Some(Duration::from_secs(10)),
        policy: ReconnectPolicy::Backoff,
    };

    fn delays(uptimes: &[u64]) -> Vec<u128> {
        let mut reconnect = Reconnect::default();
        let next = |up: &u64| reconnect.next(&SPEC, Duration::from_secs(*up), 0.0).as_millis();
        uptimes.iter().map(next).collect()
    }

    #[test]
    fn doubles_to_the_limit_and_starts_over_after_a_long_link() {
        assert_eq!(delays(&[0, 0, 0, 0, 0, 0]), [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(delays(&[0, 0, 9, 10, 0]), [100, 200, 400, 100, 200]);
        assert_eq!(delays(&[0; 100])[99], 1000);
    }

    #[test]
    fn an_interval_is_kept_exactly() {
        let spec = ReconnectSpec { policy: ReconnectPolicy::Interval, ..SPEC };
        let mut reconnect = Reconnect::default();
        for _ in 0..5 {
            assert_eq!(reconnect.next(&spec, Duration::ZERO, 0.7), Duration::from_millis(100));
        }
    }

    proptest! {
        #[test]
        fn jitter_takes_at_most_half(failures in 0usize..80, chance in 0.0f64..=1.0) {
            let mut reconnect = Reconnect::default();
            for _ in 0..failures {
                reconnect.next(&SPEC, Duration::ZERO, 0.5);
            }
            let delay = reconnect.next(&SPEC, Duration::ZERO, chance);
            prop_assert!(delay >= SPEC.min_delay() / 2 && delay <= SPEC.max_delay());
        }
    }
}
