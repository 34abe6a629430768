//! How long an upstream may be silent during a call: not at all, unless it waits for an answer.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{failure::CallFailure, fetch::Bounds, question::Open};
use crate::deadline::before;

/// How often a silent upstream is asked about that has asked something itself.
const TICK: Duration = Duration::from_secs(1);

/// Measures the silence of one call.
#[derive(Debug)]
pub(super) struct Patience {
    pub(super) bounds: Bounds,
    heard_at: Instant,
    open: Open,
}

impl Patience {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, heard_at: Instant::now(), open: Open::default() }
    }

    /// The upstream made progress.
    pub(super) fn heard(&mut self) {
        self.heard_at = Instant::now();
    }

    /// A handle for a question; while it lives, silence is none.
    pub(super) fn open(&self) -> Open {
        Arc::clone(&self.open)
    }

    /// `work`, if it is done before patience ends.
    pub(super) async fn wait<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, CallFailure> {
        let mut work = std::pin::pin!(work);
        loop {
            let is_asking = Arc::strong_count(&self.open) > 1;
            if is_asking {
                self.heard();
            }
            let end = self.bounds.patience(self.heard_at);
            let end = if is_asking { end.min(self.heard_at + TICK) } else { end };
            match before(|| end, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) if is_asking && !self.bounds.is_over() => self.heard(),
                Err(_) => return Err(self.bounds.failure()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Limits, testing::limits};

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_answer_to_the_last_question() {
        let limits = limits();
        let mut patience = Patience::new(Bounds::of_call(&limits));
        let question = patience.open();
        let start = Instant::now();
        let answered = async {
            tokio::time::sleep(3 * limits.call_timeout).await;
            drop(question);
            std::future::pending::<()>().await;
        };
        let failure = patience.wait(answered).await.unwrap_err();
        assert!(matches!(failure, CallFailure::Silent(_)), "{failure}");
        let end = start.elapsed();
        let (least, most) = (3 * limits.call_timeout, 5 * limits.call_timeout + TICK);
        assert!(end > least && end < most, "{end:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn patience_may_be_longer_than_clocks_go() {
        let (call_timeout, max_call_duration) = (Duration::MAX, Duration::MAX);
        let bounds = Bounds::of_call(&Limits { call_timeout, max_call_duration, ..limits() });
        assert!(bounds.within(tokio::time::sleep(Duration::from_secs(1))).await.is_ok());
        assert!(bounds.within_turn(tokio::time::sleep(Duration::from_secs(1))).await.is_ok());
        assert!(
            Patience::new(bounds).wait(tokio::time::sleep(Duration::from_secs(1))).await.is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_does_not_make_a_call_endless() {
        let limits = limits();
        let mut patience = Patience::new(Bounds::of_call(&limits));
        let _question = patience.open();
        let failure = patience.wait(std::future::pending::<()>()).await.unwrap_err();
        assert!(matches!(failure, CallFailure::TooLong(_)), "{failure}");
    }
}
