//! When to try again after a failure, and after how long.
//!
//! A thing of its own because `attach`, `logs --follow` and `watch` all outlive
//! their connections. Delays double from [`DELAY_MIN`] to [`DELAY_MAX`], each
//! shortened by a random part of up to half so that the clients of a server that
//! was restarted do not come back in step, and start over once a connection
//! stayed up for [`STABLE_AFTER`]. There is no last attempt.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};

use super::exit::{Exit, Failure, is_connection_loss};

const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// A failed call: whether another may succeed.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Try again; this is what went wrong.
    Again(Failure),
    /// It would fail again.
    Hopeless(Failure),
}

impl From<Status> for Verdict {
    fn from(status: Status) -> Self {
        let again = match status.code() {
            // The limit may be reached because our lost attachment is not
            // noticed yet.
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => true,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss
            | Code::Unauthenticated => is_connection_loss(&status),
        };
        let failure = Failure::from(status);
        if again { Self::Again(failure) } else { Self::Hopeless(failure) }
    }
}

/// Failures to connect.
impl From<Failure> for Verdict {
    fn from(failure: Failure) -> Self {
        if failure.exit == Exit::Unreachable {
            Self::Again(failure)
        } else {
            Self::Hopeless(failure)
        }
    }
}

/// The delays before one attempt after another.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempt: u32,
    connected_at: Option<Instant>,
}

impl Backoff {
    /// A connection was made.
    pub(super) fn connected(&mut self, now: Instant) {
        self.connected_at = Some(now);
    }

    /// Whether a connection was made since the last delay.
    pub(super) fn was_connected(&self) -> bool {
        self.connected_at.is_some()
    }

    /// How long to wait before the next attempt.
    pub(super) fn next(&mut self, now: Instant) -> Duration {
        let was_up = self.connected_at.take();
        if was_up.is_some_and(|at| now.duration_since(at) >= STABLE_AFTER) {
            self.attempt = 0;
        }
        let delay = delay(self.attempt, fastrand::f64());
        self.attempt = self.attempt.saturating_add(1);
        delay
    }
}

/// `random` is at least 0 and below 1.
fn delay(attempt: u32, random: f64) -> Duration {
    let factor = 2_u32.saturating_pow(attempt);
    let whole = DELAY_MIN.saturating_mul(factor).min(DELAY_MAX);
    whole.mul_f64(1.0 - random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_a_ceiling() {
        let whole: Vec<u128> = (0..8).map(|n| delay(n, 0.0).as_millis()).collect();
        assert_eq!(whole, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(delay(u32::MAX, 0.0), DELAY_MAX);
        assert!(delay(0, 0.999) >= DELAY_MIN / 2);
    }

    #[test]
    fn only_a_connection_that_lasted_starts_over() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            backoff.next(start);
        }
        backoff.connected(start);
        assert!(backoff.next(start + Duration::from_secs(1)) >= DELAY_MAX / 2);
        backoff.connected(start);
        assert!(backoff.next(start + STABLE_AFTER) <= DELAY_MIN);
    }

    #[test]
    fn what_the_server_decided_is_not_asked_again() {
        let again = |status| matches!(Verdict::from(status), Verdict::Again(_));
        assert!(again(Status::unavailable("x")));
        assert!(again(Status::unknown("broken pipe")));
        assert!(again(Status::resource_exhausted("x")));
        for hopeless in [
            Status::not_found("x"),
            Status::unauthenticated("x"),
            Status::permission_denied("x"),
            Status::invalid_argument("x"),
        ] {
            assert!(!again(hopeless));
        }
    }
}
