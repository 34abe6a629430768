//! The tasks that a session has created, so that it hears of them and of no others.

use std::collections::VecDeque;

use crate::task_id::TaskId;

/// Tasks of one session that are remembered; the oldest are forgotten first. They can be asked
/// for all the same.
const KNOWN_MAX: usize = 1000;

/// Tasks with the ids under which the client knows them.
#[derive(Debug, Default)]
pub(crate) struct KnownTasks(VecDeque<(TaskId, Box<str>)>);

impl KnownTasks {
    pub(crate) fn add(&mut self, task: TaskId, sealed: &str) {
        if self.find(&task).is_some() {
            return;
        }
        if self.0.len() >= KNOWN_MAX {
            self.0.pop_front();
        }
        self.0.push_back((task, sealed.into()));
    }

    /// The id under which the client knows the task.
    pub(crate) fn find(&self, task: &TaskId) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == task).map(|(_, sealed)| &**sealed)
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
    }
}
