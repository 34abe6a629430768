//! What idle sessions want to hear of, kept for clients that come back: their ids still count, so
//! nobody would tell them to ask for it again.

use std::{
    mem,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use dashmap::DashMap;

use super::{Live, SessionId, Subscription};
use crate::{session, tasks::KnownTasks};

/// Bytes that are kept of all idle sessions together; the longest idle are forgotten first.
const KEPT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// About what an idle session takes that keeps next to nothing.
const LEAST_BYTES: usize = 256;

/// All idle sessions with something to keep.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    asleep: DashMap<SessionId, Asleep>,
    kept_bytes: AtomicUsize,
}

/// One idle session. Nothing is kept for it at any upstream.
#[derive(Debug, Default)]
pub(super) struct Asleep {
    pub(super) since_ms: i64,
    pub(super) level: u8,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) tasks: KnownTasks,
}

impl Asleep {
    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        let subscriptions = self.subscriptions.iter().map(Subscription::bytes);
        LEAST_BYTES + subscriptions.sum::<usize>() + self.tasks.bytes()
    }

    /// What the client is told once it listens: all that it subscribed to may have changed.
    pub(super) fn missed(&self) -> Vec<Bytes> {
        let told = |subscription: &Subscription| -> Bytes {
            let uri = String::from_utf8_lossy(&subscription.shown);
            let params = format!(r#""params":{{"uri":{uri}}}"#);
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated",{params}}}"#)
                .into()
        };
        self.subscriptions.iter().map(told).collect()
    }
}

impl Sleepers {
    pub(super) fn add(&self, id: SessionId, asleep: Asleep) {
        self.kept_bytes.fetch_add(asleep.bytes(), Relaxed);
        if let Some(old) = self.asleep.insert(id, asleep) {
            self.kept_bytes.fetch_sub(old.bytes(), Relaxed);
        }
    }

    pub(super) fn take(&self, id: &SessionId) -> Option<Asleep> {
        let (_, asleep) = self.asleep.remove(id)?;
        self.kept_bytes.fetch_sub(asleep.bytes(), Relaxed);
        Some(asleep)
    }

    /// Forgets the sessions that have ended.
    pub(super) fn end_where(&self, has_ended: impl Fn(&SessionId) -> bool) {
        self.asleep.retain(|id, asleep| {
            let ends = has_ended(id);
            if ends {
                self.kept_bytes.fetch_sub(asleep.bytes(), Relaxed);
            }
            !ends
        });
    }

    /// Forgets sessions whose ids have expired, and the longest idle beyond the bound.
    pub(super) fn prune(&self, now_ms: i64) {
        let oldest_ms = now_ms.saturating_sub(session::LIFETIME_MS);
        let ages = || self.asleep.iter().map(|it| (it.since_ms, *it.key()));
        let mut gone: Vec<_> = ages().filter(|(since_ms, _)| *since_ms < oldest_ms).collect();
        if self.kept_bytes.load(Relaxed) > KEPT_BYTES_MAX {
            gone = ages().collect();
            gone.sort_unstable();
        }
        for (since_ms, id) in gone {
            if since_ms >= oldest_ms && self.kept_bytes.load(Relaxed) <= KEPT_BYTES_MAX {
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
    /// What to keep of a session that is idle since `since_ms`; `None`: nothing.
    pub(super) fn fall_asleep(&self, since_ms: i64) -> Option<Asleep> {
        let subscriptions = mem::take(&mut *self.subscriptions.lock());
        let asleep = Asleep {
            since_ms,
            level: self.level.load(Relaxed),
            subscriptions: subscriptions.into_keys().collect(),
            tasks: mem::take(&mut *self.tasks.lock()).asleep(),
        };
        (asleep.level > 0 || asleep.bytes() > LEAST_BYTES).then_some(asleep)
    }

    /// What upstreams have to know again of a session that was idle: the first who asks has to
    /// tell them.
    pub(crate) fn woken(&self) -> Vec<Subscription> {
        if !self.is_woken.swap(false, Relaxed) {
            return Vec::new();
        }
        self.subscriptions.lock().keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        mcp::{Capabilities, Level, Version, elicitation::Askers, extension::Hears, level::Wanted},
        sessions::{Asks, Sessions, channel::Reader},
        task_id::TaskId,
    };

    const ID: SessionId = [1; 16];

    fn subscription(uri: &str) -> Subscription {
        let shown = format!("\"{uri}\"").into();
        Subscription { upstream_id: "u1".into(), uri: uri.into(), shown }
    }

    fn task(id: &str) -> TaskId {
        TaskId { upstream_id: "u1".into(), id: id.into() }
    }

    fn listen(live: &Live) -> Reader {
        live.attach(Asks {
            capabilities: Capabilities::NONE,
            patience: std::time::Duration::from_secs(9),
            version: Version::V2025_11_25,
            hears: Hears::Core,
            askers: Askers::One,
        })
    }

    /// A session that wants to hear of these and has slept.
    fn woken(sessions: &Sessions, subscriptions: &[Subscription]) -> Arc<Live> {
        let live = sessions.enter(ID, 0).unwrap();
        live.set_level(Level::Error);
        live.know_task(task("t"), "sealed");
        assert!(subscriptions.iter().all(|it| live.subscribe(it.clone())));
        assert_eq!(sessions.sweep(2000, 1000, |_| false), [ID]);
        assert!(!live.touch(2000), "whoever holds it has to look it up again");
        sessions.enter(ID, 3000).unwrap()
    }

    #[tokio::test]
    async fn an_idle_session_goes_on_with_what_it_wanted_to_hear_of() {
        let sessions = Sessions::default();
        let other = [2; 16];
        sessions.enter(other, 0).unwrap();
        let live = sessions.enter(ID, 0).unwrap();
        assert!(live.subscribe(subscription("a:1")));
        let mut idle = sessions.sweep(2000, 1000, |_| false);
        idle.sort_unstable();
        assert_eq!(idle, [ID, other], "nothing stays open for them");
        assert_eq!((sessions.len(), sessions.sleepers.len()), (0, 1));
        assert!(!sessions.is_subscribed("u1", "a:1"));
        sessions.enter(ID, 2000).unwrap();

        let live = woken(&sessions, &[subscription("a:1")]);
        assert!(sessions.sleepers.len() == 0);
        assert_eq!(live.wanted_logs(), Wanted::From(Level::Error));
        assert!(sessions.is_subscribed("u1", "a:1"));
        assert_eq!(live.known_task(&task("t")).as_deref(), Some("sealed"));
        let told = listen(&live).next().await.unwrap();
        assert!(told.ends_with(br#"updated","params":{"uri":"a:1"}}"#), "{told:?}");
        assert_eq!(live.woken(), [subscription("a:1")]);
        assert!(live.woken().is_empty(), "one tells the upstreams");
    }

    #[test]
    fn what_a_client_says_while_its_session_wakes_stands() {
        let sessions = Sessions::default();
        let [kept, gone] = ["a:1", "a:2"].map(subscription);
        let first = woken(&sessions, &[kept.clone(), gone.clone()]);
        // Another request comes in between.
        let second = sessions.enter(ID, 3000).unwrap();
        assert_eq!(second.wanted_logs(), Wanted::From(Level::Error));
        second.set_level(Level::Debug);
        second.unsubscribe(&gone);
        second.know_task(task("new"), "sealed too");
        assert_eq!(first.woken(), [kept]);
        assert_eq!(first.wanted_logs(), Wanted::From(Level::Debug));
        assert!(!sessions.is_subscribed("u1", "a:2"));
        assert!(first.known_task(&task("new")).is_some());
        assert!(first.known_task(&task("t")).is_some());
        // Nothing is kept at upstreams for a session that was deleted meanwhile.
        let first = woken(&sessions, &[gone]);
        sessions.end(ID, 9000);
        assert!(first.woken().is_empty());
    }

    #[tokio::test]
    async fn all_subscriptions_are_told_of_though_more_is_said_before_they_are_read() {
        let sessions = Sessions::default();
        let of = |at: usize| subscription(&format!("a:{at}"));
        let live = woken(&sessions, &(0..1000).map(of).collect::<Vec<_>>());
        let mut reader = listen(&live);
        for _ in 0..200 {
            live.tell(Bytes::from_static(b"more"));
        }
        let mut told = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            told.insert(reader.next().await.unwrap());
        }
        assert_eq!(told.len(), 1000);
        for _ in 0..200 {
            assert_eq!(reader.next().await.unwrap(), "more");
        }
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
        sessions.end_where(|id| *id == number(1));
        assert_eq!(sessions.sleepers.len(), 2);
        sessions.sweep(session::LIFETIME_MS + 3, 50, |_| false);
        assert_eq!(sessions.sleepers.len(), 1, "an id of 30 days has expired");
        // What counts is what they take.
        let long = subscription(&"x".repeat(1 << 19));
        let room = u64::try_from(KEPT_BYTES_MAX / (1 << 20)).unwrap();
        for at in 10..10 + room {
            let since_ms = i64::try_from(at).unwrap();
            let asleep =
                Asleep { since_ms, subscriptions: vec![long.clone()], ..Asleep::default() };
            sessions.sleepers.add(number(at), asleep);
        }
        sessions.sleepers.prune(100);
        assert_eq!(sessions.sleepers.len() as u64, room - 1, "they are a little more than that");
        assert!(sessions.sleepers.take(&number(3)).is_none(), "it was idle for longest");
        assert!(sessions.sleepers.take(&number(10)).is_none());
        assert!(sessions.sleepers.take(&number(11)).is_some());
    }
}
