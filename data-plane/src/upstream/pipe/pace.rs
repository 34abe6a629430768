//! How soon a pipe may be opened again after it failed.

use std::{collections::VecDeque, time::Duration};

use proto::Era;
use tokio::time::Instant;

use crate::upstream::failure::CallFailure;

const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// What lived this long is not blamed for what came before.
const STABLE: Duration = Duration::from_mins(1);
/// A call waits this long for the next start; later ones it is told about.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// So many failures within the window are enough: only a person can help.
const FAILURES_MAX: usize = 20;
const WINDOW: Duration = Duration::from_mins(10);

/// What is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// A child: one that keeps failing is given up.
    Child,
    /// A connection: the other side may come back at any time.
    Connection,
}

/// What is remembered from one opening to the next.
#[derive(Debug)]
pub(super) struct Pace {
    opened: Opened,
    pub(super) era: Option<Era>,
    pub(super) starts: u32,
    failures: u32,
    not_before: Option<Instant>,
    last: String,
    /// When the failures of the window were.
    recent: VecDeque<Instant>,
}

impl Pace {
    pub(super) fn new(opened: Opened, era: Option<Era>) -> Self {
        Self {
            opened,
            era,
            starts: 0,
            failures: 0,
            not_before: None,
            last: String::new(),
            recent: VecDeque::new(),
        }
    }

    /// A pipe ended by itself.
    pub(super) fn ended(&mut self, lived: Duration, reason: String) {
        if lived >= STABLE {
            self.failures = 0;
        }
        self.failed(reason);
    }

    /// Many sessions may see the same failure: while a wait is on, it is one.
    pub(super) fn failed(&mut self, reason: String) {
        self.last = reason;
        let now = Instant::now();
        if self.not_before.is_some_and(|at| at > now) {
            return;
        }
        let delay = BACKOFF_MIN.saturating_mul(1 << self.failures.min(8)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + delay);
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|at| now.duration_since(*at) > WINDOW) {
            self.recent.pop_front();
        }
    }

    /// Another try went well: nothing that was counts any more.
    pub(super) fn forgive(&mut self) {
        *self = Self { starts: self.starts, ..Self::new(self.opened, self.era) };
    }

    /// How long to wait for the next start; an error if that is too long for a call.
    pub(super) fn wait(&self) -> Result<Duration, CallFailure> {
        let failures = self.failures;
        let again = |now| CallFailure::Again { now: Box::new(now), last: self.last.clone() };
        if self.opened == Opened::Child && self.recent.len() >= FAILURES_MAX {
            let minutes = WINDOW.as_secs() / 60;
            return Err(again(CallFailure::Resting(format!(
                "it failed {FAILURES_MAX} times within {minutes} min and waits for \
                 `lockgate refresh upstream`"
            ))));
        }
        let now = Instant::now();
        let wait = self.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        if wait <= WAIT_MAX {
            return Ok(wait);
        }
        let seconds = wait.as_secs_f32().ceil();
        Err(again(match self.opened {
            Opened::Child => CallFailure::Resting(format!(
                "it failed {failures} times and is started again in {seconds} s"
            )),
            Opened::Connection => CallFailure::Broken(format!(
                "it failed {failures} times and is tried again in {seconds} s"
            )),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_and_longer_until_they_are_too_many() {
        let mut pace = Pace::new(Opened::Child, None);
        assert_eq!(pace.wait().unwrap(), Duration::ZERO);
        pace.failed("one".to_owned());
        assert_eq!(pace.wait().unwrap(), BACKOFF_MIN);
        // The same failure, seen by another session.
        pace.failed("one".to_owned());
        assert_eq!(pace.wait().unwrap(), BACKOFF_MIN);
        for _ in 1..FAILURES_MAX {
            tokio::time::sleep(BACKOFF_MAX).await;
            pace.failed("again".to_owned());
        }
        let failure = pace.wait().unwrap_err().to_string();
        assert!(
            failure.contains("waits for `lockgate refresh upstream`; last: again"),
            "{failure}"
        );
        pace.forgive();
        assert_eq!(pace.wait().unwrap(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_life_is_forgiven_what_came_before() {
        let mut pace = Pace::new(Opened::Child, None);
        for _ in 0..5 {
            tokio::time::sleep(BACKOFF_MAX).await;
            pace.failed("early".to_owned());
        }
        tokio::time::sleep(BACKOFF_MAX).await;
        pace.ended(STABLE, "late".to_owned());
        assert_eq!(pace.wait().unwrap(), BACKOFF_MIN);
    }
}
