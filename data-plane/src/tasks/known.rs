//! The tasks that a session has created, so that it hears of them and of no others.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::time::{Duration, Instant};

use crate::task_id::TaskId;

/// Tasks of one session that are remembered; the oldest are forgotten first. They can be asked
/// for all the same.
const KNOWN_MAX: usize = 1000;

/// How long an answer is kept that came at once where a task was wanted.
pub(crate) const OUTCOME_TTL: Duration = Duration::from_mins(5);
/// How many of them are kept, and how big they may be together, in bytes.
const OUTCOMES_MAX: usize = 64;
const OUTCOME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Tasks with the ids under which the client knows them.
#[derive(Debug, Default)]
pub(crate) struct KnownTasks {
    tasks: VecDeque<Known>,
    outcomes: VecDeque<(TaskId, Outcome, Instant)>,
}

#[derive(Debug)]
struct Known {
    task: TaskId,
    sealed: Box<str>,
    /// The client has been told so, whatever the upstream says.
    is_cancelled: bool,
}

/// An answer that came at once where a task was wanted: a task that was done when it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What the client is told of the task: JSON text.
    pub(crate) state: String,
    /// As the upstream gave it.
    pub(crate) answer: Bytes,
}

impl KnownTasks {
    pub(crate) fn add(&mut self, task: TaskId, sealed: &str) {
        if self.find(&task).is_some() {
            return;
        }
        if self.tasks.len() >= KNOWN_MAX {
            self.tasks.pop_front();
        }
        self.tasks.push_back(Known { task, sealed: sealed.into(), is_cancelled: false });
    }

    /// About how much memory they take, without answers that are kept.
    pub(crate) fn bytes(&self) -> usize {
        let size = |it: &Known| it.task.upstream_id.len() + it.task.id.len() + it.sealed.len();
        self.tasks.iter().map(|it| size_of::<Known>() + size(it)).sum()
    }

    /// The client has been told that the task is cancelled.
    pub(crate) fn note_cancelled(&mut self, task: &TaskId) {
        for known in self.tasks.iter_mut().filter(|known| known.task == *task) {
            known.is_cancelled = true;
        }
    }

    pub(crate) fn is_cancelled(&self, task: &TaskId) -> bool {
        self.tasks.iter().any(|known| known.task == *task && known.is_cancelled)
    }

    /// Keeps an answer for a while; the oldest go first.
    pub(crate) fn keep(&mut self, task: TaskId, outcome: Outcome) {
        self.prune();
        self.outcomes.push_back((task, outcome, Instant::now() + OUTCOME_TTL));
        let size = |all: &VecDeque<(TaskId, Outcome, Instant)>| -> usize {
            all.iter().map(|(_, outcome, _)| outcome.answer.len()).sum()
        };
        while self.outcomes.len() > OUTCOMES_MAX || size(&self.outcomes) > OUTCOME_BYTES_MAX {
            self.outcomes.pop_front();
        }
    }

    /// What is kept while its session is idle: no answers, which are many bytes.
    #[must_use]
    pub(crate) fn asleep(self) -> Self {
        Self { outcomes: VecDeque::new(), ..self }
    }

    /// Forgets answers that were kept for long enough.
    pub(crate) fn prune(&mut self) {
        let now = Instant::now();
        while self.outcomes.front().is_some_and(|(.., until)| *until <= now) {
            self.outcomes.pop_front();
        }
        if self.outcomes.is_empty() {
            self.outcomes = VecDeque::new();
        }
    }

    /// The answer that the task was.
    pub(crate) fn outcome(&self, task: &TaskId) -> Option<Outcome> {
        let now = Instant::now();
        let mut outcomes = self.outcomes.iter().filter(|(.., until)| *until > now);
        outcomes.find(|(known, ..)| known == task).map(|(_, outcome, _)| outcome.clone())
    }

    /// The id under which the client knows the task.
    pub(crate) fn find(&self, task: &TaskId) -> Option<&str> {
        let mut tasks = self.tasks.iter().rev();
        tasks.find(|known| known.task == *task).map(|known| &*known.sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: usize) -> TaskId {
        TaskId { upstream_id: "u1".into(), id: id.to_string().into() }
    }

    #[test]
    fn the_newest_are_known_under_their_first_ids() {
        let mut known = KnownTasks::default();
        known.add(task(0), "s0");
        known.add(task(0), "other");
        assert_eq!(known.find(&task(0)), Some("s0"));
        for id in 1..=KNOWN_MAX {
            known.add(task(id), "s");
        }
        assert_eq!(known.find(&task(0)), None);
        assert_eq!(known.find(&task(1)), Some("s"));
        let elsewhere = TaskId { upstream_id: "u2".into(), ..task(1) };
        assert_eq!(known.find(&elsewhere), None);
        known.note_cancelled(&task(1));
        assert!(known.is_cancelled(&task(1)) && !known.is_cancelled(&task(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_for_a_while_and_not_without_end() {
        let mut known = KnownTasks::default();
        let outcome =
            |size: usize| Outcome { state: "{}".to_owned(), answer: vec![0; size].into() };
        for id in 0..=OUTCOMES_MAX {
            known.keep(task(id), outcome(1));
        }
        assert_eq!(known.outcome(&task(0)), None);
        assert_eq!(known.outcome(&task(1)), Some(outcome(1)));
        known.keep(task(1000), outcome(OUTCOME_BYTES_MAX));
        assert_eq!(known.outcomes.len(), 1, "a big one stays alone");
        tokio::time::advance(OUTCOME_TTL).await;
        assert_eq!(known.outcome(&task(1000)), None);
        known.keep(task(7), outcome(1));
        known = known.asleep();
        assert_eq!(known.outcome(&task(7)), None);
        // Though nothing more comes.
        known.prune();
        assert!(known.outcomes.is_empty());
    }
}
