//! Hears of changes at an upstream as long as somebody wants to: over one subscription of our
//! own at a modern one, by `resources/subscribe` on a session at a legacy one.

mod active;
mod channel;
mod fading;
mod listen;
mod missed;
mod subscribe;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use proto::Era;
use tokio_util::task::AbortOnDropHandle;

use self::listen::Listen;
pub(crate) use self::{active::Keepers, subscribe::Line};
use super::{
    SessionKey,
    active::Active,
    wishes::{Scope, Wished, Wishes},
};
use crate::mcp::{
    feature::{Feature, Features},
    subscription::{Topic, Topics},
};

/// How long it is waited before what failed is tried again, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_mins(1);
/// How long what nobody wants any more is kept, since somebody may want it again.
const LINGER: Duration = Duration::from_secs(1);
/// What an upstream tells of, as the configuration knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tells {
    pub(super) era: Option<Era>,
    topics: Topics,
    pub(super) resources: bool,
    pub(super) tasks: bool,
}

impl Tells {
    /// Reads the capabilities that the upstream declared.
    pub(crate) fn read(era: Option<Era>, capabilities: &str) -> Self {
        let features = Features::read(capabilities);
        let places = [
            (Feature::ToolsListChanged, Topic::Tools),
            (Feature::PromptsListChanged, Topic::Prompts),
            (Feature::ResourcesListChanged, Topic::Resources),
        ];
        let told = places.into_iter().filter(|(feature, _)| features.has(*feature));
        let topics = told.map(|(_, topic)| topic).collect();
        let tasks = era == Some(Era::Modern) && features.has(Feature::TasksExtension);
        Self { era, topics, resources: features.has(Feature::Subscribe), tasks }
    }

    /// Whether we listen although no client wants to: then lists are always fresh.
    pub(super) fn is_always_heard(self) -> bool {
        self.era == Some(Era::Modern) && self.topics != Topics::default()
    }
}

/// One keeper at work. Dropping it ends what it keeps.
#[derive(Debug)]
pub(crate) struct Keeper {
    tells: Tells,
    wished: Arc<Wished>,
    task: AbortOnDropHandle<()>,
}

impl Keeper {
    /// Starts to keep what is wished of `active` in `scope`.
    pub(super) fn start(
        active: &Arc<Active>,
        scope: Scope,
        tells: Tells,
        (all, wished): (Weak<Wishes>, Arc<Wished>),
        runtime: &tokio::runtime::Handle,
    ) -> Self {
        let keeping = Keeping {
            active: Arc::downgrade(active),
            upstream_id: active.id().into(),
            scope,
            tells,
            wishes: all,
            wished: Arc::clone(&wished),
        };
        let task = AbortOnDropHandle::new(runtime.spawn(keeping.run()));
        Self { tells, wished, task }
    }

    /// Whether it does what a new one would do.
    pub(super) fn is_fit(&self, tells: Tells, wished: &Arc<Wished>) -> bool {
        self.tells == tells && Arc::ptr_eq(&self.wished, wished) && !self.is_done()
    }

    pub(super) fn is_done(&self) -> bool {
        self.task.is_finished()
    }
}

/// What a keeper knows. It does not keep the upstream.
struct Keeping {
    active: Weak<Active>,
    upstream_id: Box<str>,
    scope: Scope,
    tells: Tells,
    wishes: Weak<Wishes>,
    wished: Arc<Wished>,
}

impl Keeping {
    async fn run(self) {
        match self.tells.era {
            Some(Era::Modern) => Listen::new(&self).run().await,
            Some(Era::Legacy) | None => self.subscribe().await,
        }
    }

    /// Whose connections are used.
    fn owner(&self) -> Option<&SessionKey> {
        match &self.scope {
            Scope::All => None,
            Scope::Session(key) => Some(key),
        }
    }

    /// Waits until something is wished; false if there is no need to wait any more.
    async fn is_wanted(&self) -> bool {
        let mut changes = self.wished.changes();
        while self.wished.is_empty() {
            changes.mark_unchanged();
            let wait = async { while self.wished.is_empty() && changes.changed().await.is_ok() {} };
            if tokio::time::timeout(LINGER, wait).await.is_err() {
                let retire = |wishes: Arc<Wishes>| wishes.retire(&self.upstream_id, &self.scope);
                if self.wishes.upgrade().is_none_or(retire) {
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
