//! What is known of an upstream's health, and who is told when that changes, or what it says.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use parking_lot::Mutex;

use super::{
    News, SessionKey,
    audience::{Said, Speaker, Stage},
    failure::CallFailure,
    private::PrivateCatalogs,
};
use crate::mcp::{
    Level, Message, Notice,
    subscription::{Topic, Topics},
};

/// Whether an upstream answers, as the last call or discovery saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamHealth {
    pub upstream_id: String,
    pub is_up: bool,
    /// Why it is down; empty if it is up.
    pub message: String,
}

const UNKNOWN: u8 = 0;
const DOWN: u8 = 1;
const UP: u8 = 2;

/// The health of one upstream; unknown until it was first used.
#[derive(Debug)]
pub(crate) struct Health {
    upstream_id: String,
    /// What people know it by.
    name: Box<str>,
    /// `UNKNOWN`, `DOWN` or `UP`: calls that change nothing take no lock.
    seen: AtomicU8,
    last: Mutex<Option<UpstreamHealth>>,
    news: Arc<News>,
    stage: Stage,
    private: PrivateCatalogs,
}

impl Health {
    pub(crate) fn new(upstream_id: String, news: Arc<News>, stage: Stage) -> Self {
        let (seen, last) = (AtomicU8::new(UNKNOWN), Mutex::new(None));
        let private = PrivateCatalogs::default();
        Self { upstream_id, name: Box::default(), seen, last, news, stage, private }
    }

    /// The same of an upstream with a name.
    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: name.into(), ..self }
    }

    /// What people know the upstream by; may be empty.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Passes on that a resource changed, to all who want to know.
    pub(crate) fn updated(&self, message: &Message) {
        self.stage.updated(&self.upstream_id, message);
    }

    /// Passes on that the state of a task changed, to whose task it is.
    pub(crate) fn task_changed(&self, message: &Message) {
        self.stage.task_changed(&self.upstream_id, message);
    }

    /// Whether a legacy client has subscribed to a resource on a connection that many share.
    pub(crate) fn has_subscribed(&self, uri: &str) -> bool {
        self.stage.has_subscribed(&self.upstream_id, uri)
    }

    /// From which level on a client wants log messages, if it said so.
    pub(crate) fn level(&self, owner: &SessionKey) -> Option<Level> {
        self.stage.level(owner)
    }

    /// Passes on what the upstream says outside of calls.
    pub(crate) fn say(&self, owner: &SessionKey, said: Said) {
        let from = Speaker { upstream_id: &self.upstream_id, name: &self.name };
        self.stage.say(owner, from, said);
    }

    pub(crate) fn current(&self) -> Option<UpstreamHealth> {
        self.last.lock().clone()
    }

    /// Notes how a call ended. Only a change is told.
    pub(crate) fn note<T>(&self, result: &Result<T, CallFailure>) {
        match result {
            Ok(_) => self.set(UP, None),
            Err(failure) if failure.is_down() => self.set(DOWN, Some(failure)),
            Err(_) => (),
        }
    }

    fn set(&self, seen: u8, failure: Option<&CallFailure>) {
        if self.seen.load(Ordering::Relaxed) == seen {
            return;
        }
        let mut last = self.last.lock();
        if self.seen.swap(seen, Ordering::Relaxed) == seen {
            return;
        }
        let (upstream_id, is_up) = (self.upstream_id.clone(), seen == UP);
        let message = failure.map(ToString::to_string).unwrap_or_default();
        let health = UpstreamHealth { upstream_id, is_up, message };
        *last = Some(health.clone());
        drop(last);
        if is_up {
            tracing::debug!(upstream_id = %self.upstream_id, "upstream is up");
        } else {
            tracing::warn!(upstream_id = %self.upstream_id, "upstream {}", health.message);
        }
        self.news.went(health);
    }

    /// What the upstream shows to each caller.
    pub(crate) fn private(&self) -> &PrivateCatalogs {
        &self.private
    }

    /// A list changed, as the upstream says on a connection that is `owner`'s; `None`: that is
    /// everybody's.
    pub(crate) fn list_changed(&self, owner: Option<&SessionKey>, notice: Notice) {
        self.catalog_is_stale();
        let topics = Topic::told_by(notice).into_iter().collect();
        match owner {
            Some(owner) => self.changed_for(owner, topics),
            None => self.private.keys().iter().for_each(|key| self.changed_for(key, topics)),
        }
    }

    /// The lists may be others for everybody.
    pub(crate) fn lists_may_have_changed(&self) {
        self.catalog_is_stale();
        self.private.keys().iter().for_each(|key| self.changed_for(key, Topics::ALL));
    }

    /// Nobody needs to be told of what he was not shown.
    fn changed_for(&self, key: &SessionKey, topics: Topics) {
        if self.private.changed(key) {
            self.tell_changed(key, topics);
        }
    }

    /// Tells a caller that lists changed which it alone is shown so.
    pub(crate) fn tell_changed(&self, key: &SessionKey, topics: Topics) {
        self.stage.lists_changed(key, topics);
    }

    /// The catalog must be read again.
    pub(crate) fn catalog_is_stale(&self) {
        self.news.is_stale(&self.upstream_id);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::news::Waiting, *};

    #[test]
    fn only_changes_of_health_are_told() {
        let news = Arc::new(News::default());
        let health = Health::new("u1".to_owned(), Arc::clone(&news), Stage::default());
        health.note(&Ok(()));
        assert!(news.take().health["u1"].is_up);
        health.note(&Ok(()));
        health.note::<()>(&Err(CallFailure::WrongId));
        assert_eq!(news.take(), Waiting::default());
        health.note::<()>(&Err(CallFailure::Broken("reset".to_owned())));
        assert_eq!(news.take().health["u1"].message, "broke the connection: reset");
        for _ in 0..1000 {
            health.catalog_is_stale();
        }
        assert_eq!(news.take().stale, ["u1".to_owned()].into());
        assert_eq!(news.take(), Waiting::default());
    }
}
