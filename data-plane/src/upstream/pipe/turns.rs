//! Which tools of a server ask their callers, and whose turn it is to be asked.
//!
//! A pipe does not tell which call a server's request belongs to. So calls of tools that ask, or
//! may, run one after the other: then there is only one that it can be.

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::RwLock;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

/// Tools that are remembered; what is not may always ask.
const HABITS_MAX: usize = 10_000;

/// What a tool does as far as anybody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// It was called and asked nothing.
    Quiet,
    /// It was at work when somebody asked, and it may have been that.
    Suspected,
    Asks,
}

/// The turns of one pipe.
#[derive(Debug)]
pub(crate) struct Turns {
    habits: RwLock<AHashMap<Arc<str>, Habit>>,
    turn: Arc<Semaphore>,
    /// How many calls wait.
    waiting: watch::Sender<usize>,
}

/// The right to be asked; the next call gets it when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
    waiting: watch::Receiver<usize>,
}

/// A call that waits for its turn.
struct Waiter<'a>(&'a watch::Sender<usize>);

impl Default for Turns {
    fn default() -> Self {
        let (turn, waiting) = (Arc::new(Semaphore::new(1)), watch::Sender::new(0));
        Self { habits: RwLock::default(), turn, waiting }
    }
}

impl Turns {
    fn habit(&self, tool: &str) -> Option<Habit> {
        self.habits.read().get(tool).copied()
    }

    fn note(&self, tool: &Arc<str>, habit: Habit) {
        let mut habits = self.habits.write();
        if habits.len() < HABITS_MAX || habits.contains_key(tool) {
            habits.insert(Arc::clone(tool), habit);
        }
    }

    /// Notes that a tool asks.
    pub(super) fn has_asked(&self, tool: &Arc<str>) {
        if self.habit(tool) != Some(Habit::Asks) {
            self.note(tool, Habit::Asks);
        }
    }

    /// Notes that a tool may have asked. It takes turns until it shows that it does not.
    pub(super) fn may_have_asked(&self, tool: &Arc<str>) {
        if self.habit(tool) != Some(Habit::Asks) {
            self.note(tool, Habit::Suspected);
        }
    }

    /// Notes that a tool has answered and that nobody can have meant it by a question.
    pub(super) fn was_quiet(&self, tool: &Arc<str>) {
        if !matches!(self.habit(tool), Some(Habit::Quiet | Habit::Asks)) {
            self.note(tool, Habit::Quiet);
        }
    }

    /// Whether a tool has ever asked.
    pub(super) fn asks(&self, tool: &str) -> bool {
        self.habit(tool) == Some(Habit::Asks)
    }

    /// Whether a tool asks for all that is known.
    pub(super) fn may_ask(&self, tool: &str) -> bool {
        self.habit(tool) != Some(Habit::Quiet)
    }

    /// Waits for the turn of a tool that asks; others need none.
    pub(super) async fn wait(&self, tool: &str) -> Option<Turn> {
        if !matches!(self.habit(tool), Some(Habit::Asks | Habit::Suspected)) {
            return None;
        }
        if let Some(turn) = self.free() {
            return Some(turn);
        }
        let _waiter = Waiter::new(&self.waiting);
        let permit = Arc::clone(&self.turn).acquire_owned().await.ok()?;
        Some(self.with(permit))
    }

    /// The turn, if nobody has it.
    pub(super) fn free(&self) -> Option<Turn> {
        Arc::clone(&self.turn).try_acquire_owned().ok().map(|permit| self.with(permit))
    }

    fn with(&self, permit: OwnedSemaphorePermit) -> Turn {
        Turn { _permit: permit, waiting: self.waiting.subscribe() }
    }
}

impl Turn {
    /// Resolves when it is later than `until` and somebody waits for this turn.
    pub(super) async fn overdue(&self, until: Instant) {
        let mut waiting = self.waiting.clone();
        tokio::time::sleep_until(until).await;
        if waiting.wait_for(|count| *count > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl<'a> Waiter<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_suspected_takes_turns_until_it_was_quiet() {
        let turns = Turns::default();
        let (asks, other): (Arc<str>, Arc<str>) = ("asks".into(), "other".into());
        assert!(turns.wait("other").await.is_none() && turns.may_ask("other"));
        turns.was_quiet(&other);
        assert!(!turns.may_ask("other"));
        turns.has_asked(&asks);
        turns.may_have_asked(&asks);
        turns.may_have_asked(&other);
        let turn = turns.wait("asks").await.unwrap();
        let second = Duration::from_secs(1);
        assert!(tokio::time::timeout(second, turns.wait("other")).await.is_err());
        let at = Instant::now() + second;
        assert!(tokio::time::timeout(9 * second, turn.overdue(at)).await.is_err());
        let (other_turn, ()) = tokio::join!(turns.wait("other"), async {
            turn.overdue(at).await;
            drop(turn);
        });
        assert!(other_turn.is_some());
        turns.was_quiet(&other);
        turns.was_quiet(&asks);
        assert!(turns.wait("other").await.is_none() && turns.asks("asks"));
    }
}
