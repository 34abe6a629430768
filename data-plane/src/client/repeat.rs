//! Which messages may be sent once more when a connection breaks, and how patiently.

use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::CallFailure;

/// How long a server that cannot be reached is tried again during a request.
pub(super) const RECONNECT_FOR: Duration = Duration::from_secs(30);
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(250);
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(8);

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
