//! What a client wants to hear about: lists, resources, log messages.

use std::sync::atomic::Ordering::Relaxed;

use ahash::AHashSet;
use bytes::Bytes;

use super::{Live, Sessions};
use crate::{
    mcp::{
        Capabilities, Level, Message,
        level::Wanted,
        list::ListKind,
        message::splice,
        object::{self, unquote},
    },
    snapshot::table::{Table, View},
};

/// Resources that one client may subscribe to.
const SUBSCRIPTIONS_MAX: usize = 1000;

const TOOLS: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
const PROMPTS: &str = r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#;
const RESOURCES: &str = r#"{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}"#;

/// The lists as a client may have seen them.
#[derive(Debug)]
pub(super) struct Lists {
    /// Id of the virtual server; empty for everything.
    server: Box<str>,
    capabilities: Capabilities,
    prints: [u64; ListKind::ALL.len()],
}

/// A resource whose changes a client wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subscription {
    pub(crate) upstream_id: Box<str>,
    /// As the upstream knows it.
    pub(crate) uri: Box<str>,
    /// As the client knows it, raw JSON.
    pub(crate) shown: Bytes,
}

pub(super) type Subscriptions = AHashSet<Subscription>;

impl Sessions {
    /// Tells listening clients which of their lists this configuration changes.
    pub(crate) fn announce(&self, table: &Table) {
        for live in &self.live {
            live.announce(table);
        }
    }

    /// Whether any client is subscribed to a resource.
    pub(crate) fn is_subscribed(&self, upstream_id: &str, uri: &str) -> bool {
        let is_it = |it: &Subscription| *it.upstream_id == *upstream_id && *it.uri == *uri;
        self.live.iter().any(|live| live.subscriptions.lock().iter().any(is_it))
    }
}

fn prints(view: &View, capabilities: Capabilities) -> [u64; ListKind::ALL.len()] {
    ListKind::ALL.map(|kind| view.fingerprint(kind, capabilities))
}

impl Live {
    /// From now on the client hears of changes of these lists.
    pub(crate) fn watch_lists(&self, view: &View, capabilities: Capabilities) {
        let prints = prints(view, capabilities);
        *self.lists.lock() = Some(Lists { server: view.id.clone(), capabilities, prints });
    }

    fn announce(&self, table: &Table) {
        let mut lists = self.lists.lock();
        let Some(Lists { server, capabilities, prints: seen }) = &mut *lists else { return };
        let view = if server.is_empty() { Some(table.everything()) } else { table.server(server) };
        // The client of a server that is gone learns it by its next request.
        let Some(view) = view else { return };
        let now = prints(view, *capabilities);
        let mut changed: Vec<_> = ListKind::ALL
            .into_iter()
            .zip(now.iter().zip(*seen))
            .filter(|(_, (now, seen))| **now != *seen)
            .map(|(kind, _)| match kind {
                ListKind::Tools => TOOLS,
                ListKind::Prompts => PROMPTS,
                ListKind::Resources | ListKind::ResourceTemplates => RESOURCES,
            })
            .collect();
        *seen = now;
        drop(lists);
        changed.dedup();
        for notification in changed {
            self.tell(Bytes::from_static(notification.as_bytes()));
        }
    }

    /// Notes a subscription; false if there are too many.
    pub(crate) fn subscribe(&self, subscription: Subscription) -> bool {
        let mut subscriptions = self.subscriptions.lock();
        if subscriptions.len() >= SUBSCRIPTIONS_MAX && !subscriptions.contains(&subscription) {
            return false;
        }
        subscriptions.insert(subscription);
        true
    }

    pub(crate) fn unsubscribe(&self, subscription: &Subscription) {
        self.subscriptions.lock().remove(subscription);
    }

    /// Tells the client that a resource changed, if it wants to know. `upstream_id` is `None` on
    /// a session that is the client's alone.
    pub(super) fn updated(&self, upstream_id: Option<&str>, message: &Message) {
        let text = message.text();
        let params = message.params().and_then(|params| params.span);
        let Some(span) = params.and_then(|params| object::member(text, params, "uri")) else {
            return;
        };
        let Some(uri) = unquote(span.of(text)) else { return };
        let subscriptions = self.subscriptions.lock();
        let is_it = |it: &&Subscription| {
            // The changed resource may be below the one that was subscribed to.
            upstream_id.is_none_or(|id| *it.upstream_id == *id)
                && uri.strip_prefix(&*it.uri).is_some_and(|rest| {
                    rest.is_empty() || it.uri.ends_with('/') || rest.starts_with('/')
                })
        };
        let Some(found) = subscriptions.iter().find(is_it) else { return };
        let is_same = *found.uri == *uri;
        let shown = found.shown.clone();
        drop(subscriptions);
        let body =
            if is_same { splice(&message.body, &[(span, &*shown)]) } else { message.body.clone() };
        self.tell(body);
    }

    /// The client wants log messages from this level on.
    pub(crate) fn set_level(&self, level: Level) {
        let at = Level::ALL.iter().position(|it| *it == level).unwrap_or(0);
        self.level.store(u8::try_from(at + 1).unwrap_or(0), Relaxed);
    }

    /// Which log messages the client wants.
    pub(crate) fn wanted_logs(&self) -> Wanted {
        let at = usize::from(self.level.load(Relaxed)).checked_sub(1);
        at.and_then(|at| Level::ALL.get(at)).map_or(Wanted::Any, |level| Wanted::From(*level))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        mcp::{Version, message::parse},
        sessions::{Asks, Reader},
        snapshot::table::tests::{compile, sample, tool},
    };

    fn listening(sessions: &Sessions) -> (Arc<Live>, Reader) {
        let live = sessions.enter([1; 16], 0).unwrap();
        let patience = std::time::Duration::from_secs(9);
        let version = Version::V2025_11_25;
        let reader = live.attach(Asks { capabilities: Capabilities::NONE, patience, version });
        (live, reader)
    }

    async fn next(reader: &mut Reader) -> String {
        String::from_utf8(reader.next().await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn only_lists_that_changed_for_the_client_are_announced_and_once() {
        let sessions = Sessions::default();
        let (live, mut reader) = listening(&sessions);
        let mut resources = sample();
        let before = compile(&resources).unwrap();
        live.watch_lists(before.everything(), Capabilities::NONE);
        sessions.announce(&before);
        resources.push(proto::resource::Resource::Tool(tool("a", "another")));
        let after = compile(&resources).unwrap();
        sessions.announce(&after);
        sessions.announce(&after);
        live.tell(Bytes::from_static(b"end"));
        assert_eq!(next(&mut reader).await, TOOLS);
        assert_eq!(next(&mut reader).await, "end");
    }

    #[tokio::test]
    async fn changes_of_resources_reach_subscribers_under_the_uri_that_they_know() {
        let sessions = Sessions::default();
        let (live, mut reader) = listening(&sessions);
        let updated = |uri: &str| {
            let body = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"{uri}","x":1.0}}}}"#
            );
            parse(body.into()).unwrap()
        };
        let subscription = Subscription {
            upstream_id: "u1".into(),
            uri: "file:///a".into(),
            shown: Bytes::from_static(b"\"u1+file:///a\""),
        };
        assert!(live.subscribe(subscription.clone()));
        assert!(sessions.is_subscribed("u1", "file:///a"));
        for uri in ["file:///b", "file:///ab"] {
            live.updated(Some("u1"), &updated(uri));
        }
        live.updated(Some("u2"), &updated("file:///a"));
        live.updated(Some("u1"), &updated("file:///a"));
        assert!(next(&mut reader).await.contains(r#"{"uri":"u1+file:///a","x":1.0}"#));
        live.updated(None, &updated("file:///a/b"));
        assert!(next(&mut reader).await.contains(r#""uri":"file:///a/b""#));
        live.unsubscribe(&subscription);
        live.updated(Some("u1"), &updated("file:///a"));
        live.tell(Bytes::from_static(b"end"));
        assert_eq!(next(&mut reader).await, "end");
        assert!(!sessions.is_subscribed("u1", "file:///a"));
    }

    #[test]
    fn a_level_is_kept() {
        let live = Sessions::default().enter([1; 16], 0).unwrap();
        assert_eq!(live.wanted_logs(), Wanted::Any);
        for level in Level::ALL {
            live.set_level(level);
            assert_eq!(live.wanted_logs(), Wanted::From(level));
        }
    }
}
