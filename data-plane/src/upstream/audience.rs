//! Who hears what upstreams say outside of calls.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use super::{Question, SessionKey};
use crate::mcp::{Level, Message, Notice, subscription::Topics};

/// What an upstream says that belongs to no call.
#[derive(Debug)]
pub(crate) enum Said {
    Notice(Notice, Box<Message>),
    /// A notification that the protocol does not have.
    Extension(Box<Message>),
    /// Dropped, the upstream is told that nobody answers.
    Request(Question),
}

/// An upstream that says something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speaker<'u> {
    pub(crate) upstream_id: &'u str,
    /// What people know it by; may be empty.
    pub(crate) name: &'u str,
}

/// Passes on what upstreams say. Called from tasks that read, so it must not wait.
pub(crate) trait Audience: fmt::Debug + Send + Sync {
    /// `owner` is whose session at the upstream it is.
    fn hear(&self, owner: &SessionKey, from: Speaker<'_>, said: Said);

    /// A resource changed, as an upstream says on a connection that many share.
    fn updated(&self, upstream_id: &str, message: &Message);

    /// The state of a task changed, as an upstream says on a connection that many share.
    fn task_changed(&self, upstream_id: &str, message: &Message);

    /// Lists changed that `owner` alone is shown so.
    fn lists_changed(&self, owner: &SessionKey, topics: Topics);

    /// Whether a legacy client has subscribed to a resource on such a connection itself.
    fn has_subscribed(&self, upstream_id: &str, uri: &str) -> bool;

    /// From which level on a client wants log messages, if it said so.
    fn level(&self, owner: &SessionKey) -> Option<Level>;
}

/// The audience, once there is one; all upstreams share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stage(Arc<OnceLock<Weak<dyn Audience>>>);

impl Stage {
    /// Lets `audience` hear from now on; the first one stays.
    pub(crate) fn admit(&self, audience: Weak<dyn Audience>) {
        self.0.set(audience).ok();
    }

    pub(crate) fn updated(&self, upstream_id: &str, message: &Message) {
        if let Some(audience) = self.0.get().and_then(Weak::upgrade) {
            audience.updated(upstream_id, message);
        }
    }

    pub(crate) fn lists_changed(&self, owner: &SessionKey, topics: Topics) {
        if let Some(audience) = self.0.get().and_then(Weak::upgrade) {
            audience.lists_changed(owner, topics);
        }
    }

    pub(crate) fn has_subscribed(&self, upstream_id: &str, uri: &str) -> bool {
        let audience = self.0.get().and_then(Weak::upgrade);
        audience.is_some_and(|audience| audience.has_subscribed(upstream_id, uri))
    }

    pub(crate) fn level(&self, owner: &SessionKey) -> Option<Level> {
        self.0.get().and_then(Weak::upgrade)?.level(owner)
    }

    pub(crate) fn task_changed(&self, upstream_id: &str, message: &Message) {
        if let Some(audience) = self.0.get().and_then(Weak::upgrade) {
            audience.task_changed(upstream_id, message);
        }
    }

    pub(crate) fn say(&self, owner: &SessionKey, from: Speaker<'_>, said: Said) {
        if let Some(audience) = self.0.get().and_then(Weak::upgrade) {
            audience.hear(owner, from, said);
        }
    }
}
