//! What idle sessions want to hear of, kept for clients that come back: their ids still count, so
//! nobody would tell them to ask for it again.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use dashmap::DashMap;

use super::{Live, SessionId, Subscription};
use crate::{session, tasks::KnownTasks};

/// Levels, subscriptions and tasks of all idle sessions together; the longest idle are forgotten
/// first.
const KEPT_MAX: usize = 100_000;

/// All idle sessions with something to keep.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    asleep: DashMap<SessionId, Asleep>,
    kept: AtomicUsize,
}

/// One idle session. Nothing is kept for it at any upstream.
#[derive(Debug)]
pub(crate) struct Asleep {
    since_ms: i64,
    level: u8,
    subscriptions: Vec<Subscription>,
    tasks: KnownTasks,
}

impl Asleep {
    fn size(&self) -> usize {
        1 + self.subscriptions.len() + self.tasks.len()
    }
}

impl Sleepers {
    pub(super) fn add(&self, id: SessionId, asleep: Asleep) {
        self.kept.fetch_add(asleep.size(), Relaxed);
        if let Some(old) = self.asleep.insert(id, asleep) {
            self.kept.fetch_sub(old.size(), Relaxed);
        }
    }

    pub(super) fn take(&self, id: &SessionId) -> Option<Asleep> {
        let (_, asleep) = self.asleep.remove(id)?;
        self.kept.fetch_sub(asleep.size(), Relaxed);
        Some(asleep)
    }

    /// Forgets the sessions that have ended.
    pub(super) fn end_where(&self, has_ended: impl Fn(&SessionId) -> bool) {
        self.asleep.retain(|id, asleep| {
            let ends = has_ended(id);
            if ends {
                self.kept.fetch_sub(asleep.size(), Relaxed);
            }
            !ends
        });
    }

    /// Forgets sessions whose ids have expired, and the longest idle beyond the bound.
    pub(super) fn prune(&self, now_ms: i64) {
        let oldest_ms = now_ms.saturating_sub(session::LIFETIME_MS);
        let ages = || self.asleep.iter().map(|it| (it.since_ms, *it.key()));
        let mut gone: Vec<_> = ages().filter(|(since_ms, _)| *since_ms < oldest_ms).collect();
        if self.kept.load(Relaxed) > KEPT_MAX {
            gone = ages().collect();
            gone.sort_unstable();
        }
        for (since_ms, id) in gone {
            if since_ms >= oldest_ms && self.kept.load(Relaxed) <= KEPT_MAX {
                return;
            }
            self.take(&id);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.asleep.len()
    }
}

impl Live {
    /// What to keep of a session that is idle; `None`: nothing.
    pub(super) fn fall_asleep(&self) -> Option<Asleep> {
        let subscriptions = mem::take(&mut *self.subscriptions.lock());
        let asleep = Asleep {
            since_ms: self.last_used_ms.load(Relaxed),
            level: self.level.load(Relaxed),
            subscriptions: subscriptions.into_keys().collect(),
            tasks: mem::take(&mut *self.tasks.lock()).asleep(),
        };
        (asleep.level > 0 || asleep.size() > 1).then_some(asleep)
    }

    /// Goes on as it was. Gives the subscriptions that an upstream has to know again; the client
    /// is told that they may have changed, once it listens.
    pub(crate) fn wake(self: &Arc<Self>, asleep: Asleep) -> Vec<Subscription> {
        let Asleep { since_ms: _, level, subscriptions, tasks } = asleep;
        self.level.store(level, Relaxed);
        *self.tasks.lock() = tasks;
        let told = |subscription: &Subscription| -> Bytes {
            let uri = String::from_utf8_lossy(&subscription.shown);
            let params = format!(r#""params":{{"uri":{uri}}}"#);
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated",{params}}}"#)
                .into()
        };
        self.missed(subscriptions.iter().map(told).collect());
        subscriptions.into_iter().filter(|it| self.subscribe(it.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mcp::{Capabilities, Level, Version, elicitation::Askers, extension::Hears, level::Wanted},
        sessions::{Asks, Sessions},
        task_id::TaskId,
    };

    fn subscription(uri: &str) -> Subscription {
        let shown = format!("\"{uri}\"").into();
        Subscription { upstream_id: "u1".into(), uri: uri.into(), shown }
    }

    fn task() -> TaskId {
        TaskId { upstream_id: "u1".into(), id: "t".into() }
    }

    #[tokio::test]
    async fn an_idle_session_goes_on_with_what_it_wanted_to_hear_of() {
        let sessions = Sessions::default();
        let (id, other) = ([1; 16], [2; 16]);
        let live = sessions.enter(id, 0).unwrap();
        sessions.enter(other, 0).unwrap();
        live.set_level(Level::Error);
        assert!(live.subscribe(subscription("a:1")));
        live.know_task(task(), "sealed");
        let mut idle = sessions.sweep(2000, 1000, |_| false);
        idle.sort_unstable();
        assert_eq!(idle, [id, other], "nothing stays open for them");
        assert_eq!((sessions.len(), sessions.sleepers.len()), (0, 1));
        assert!(!live.touch(2000));
        assert!(!sessions.is_subscribed("u1", "a:1"));

        let live = sessions.enter(id, 3000).unwrap();
        let asleep = sessions.sleeper(&id).unwrap();
        assert_eq!(live.wake(asleep), [subscription("a:1")]);
        assert!(sessions.sleeper(&id).is_none() && sessions.sleepers.len() == 0);
        assert_eq!(live.wanted_logs(), Wanted::From(Level::Error));
        assert!(sessions.is_subscribed("u1", "a:1"));
        assert_eq!(live.known_task(&task()).as_deref(), Some("sealed"));
        let mut reader = live.attach(Asks {
            capabilities: Capabilities::NONE,
            patience: std::time::Duration::from_secs(9),
            version: Version::V2025_11_25,
            hears: Hears::Core,
            askers: Askers::One,
        });
        let told = reader.next().await.unwrap();
        assert!(told.ends_with(br#"updated","params":{"uri":"a:1"}}"#), "{told:?}");
    }

    #[test]
    fn ended_and_expired_sessions_do_not_wake_and_the_longest_idle_give_way() {
        let sessions = Sessions::default();
        let number = |number: u64| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            id
        };
        for at in 0..4 {
            let live = sessions.enter(number(at), i64::try_from(at).unwrap()).unwrap();
            live.set_level(Level::Error);
        }
        sessions.sweep(100, 50, |_| false);
        assert_eq!(sessions.sleepers.len(), 4);
        sessions.end(number(0), 1000);
        assert!(sessions.sleeper(&number(0)).is_none());
        sessions.end_where(|id| *id == number(1));
        assert_eq!(sessions.sleepers.len(), 2);
        sessions.sweep(session::LIFETIME_MS + 3, 50, |_| false);
        assert_eq!(sessions.sleepers.len(), 1, "an id of 30 days has expired");
        for at in 10..10 + KEPT_MAX as u64 {
            let asleep = Asleep {
                since_ms: i64::try_from(at).unwrap(),
                level: 1,
                subscriptions: Vec::new(),
                tasks: KnownTasks::default(),
            };
            sessions.sleepers.add(number(at), asleep);
        }
        sessions.sleepers.prune(100);
        assert_eq!(sessions.sleepers.len(), KEPT_MAX);
        assert!(sessions.sleeper(&number(3)).is_none(), "it was idle for longest");
    }
}
