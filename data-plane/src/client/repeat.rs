//! Which messages may be sent once more when a connection breaks, and how patiently.

use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::CallFailure;

/// How long a server that cannot be reached is tried again during a request.
pub(super) const RECONNECT_FOR: Duration = Duration::from_secs(30);
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(250);
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(8);
/// The longest pause that a server may ask for before its stream is opened again.
pub(super) const ASKED_MAX: Duration = Duration::from_mins(1);

/// When a message is sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Somebody else answers for what is not taken at once.
    Never,
    /// A request may run as soon as a byte of it is sent, and must not run twice.
    IfUnsent,
    /// Notifications and responses do no harm the second time.
    IfBroken,
}

/// How long to wait before a stream is opened again after so many tries in a row: as the server
/// wishes with `retry:`, and longer each time.
pub(super) fn pause(asked_ms: Option<u64>, failures: u32) -> Duration {
    let backoff =
        BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(BACKOFF_MAX);
    let Some(asked) = asked_ms.map(Duration::from_millis) else { return backoff };
    let least = if failures > 1 { backoff } else { BACKOFF_MIN };
    asked.clamp(least, ASKED_MAX)
}

impl Repeat {
    /// Sends until the server has answered something.
    pub(super) async fn until_sent<T, F: Future<Output = Result<T, CallFailure>>>(
        self,
        send: impl Fn() -> F,
    ) -> Result<T, CallFailure> {
        let end = Instant::now() + RECONNECT_FOR;
        let mut wait = BACKOFF_MIN;
        loop {
            let failure = match send().await {
                Err(failure) if self.allows(&failure) && Instant::now() + wait <= end => failure,
                other => return other,
            };
            tracing::info!(%failure, "trying again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    fn allows(self, failure: &CallFailure) -> bool {
        match self {
            Self::Never => false,
            Self::IfUnsent => matches!(failure, CallFailure::Unreachable(_)),
            Self::IfBroken => {
                matches!(failure, CallFailure::Unreachable(_) | CallFailure::Broken(_))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_how_long_to_wait_within_bounds() {
        let seconds = |asked, failures| pause(asked, failures).as_secs_f64();
        for (asked, failures, expected) in [
            (None, 1, 0.25),
            (None, 3, 1.0),
            (None, 99, 8.0),
            (Some(0), 1, 0.25),
            (Some(10), 4, 2.0),
            (Some(30_000), 1, 30.0),
            (Some(30_000), 99, 30.0),
            (Some(u64::MAX), 1, 60.0),
        ] {
            assert!((seconds(asked, failures) - expected).abs() < 1e-9, "{asked:?} {failures}");
        }
    }
}
