//! What a client wants to hear about: lists, resources, log messages.

use std::{borrow::Cow, sync::atomic::Ordering::Relaxed};

use ahash::AHashMap;
use bytes::Bytes;

use super::{Live, Sessions};
use crate::{
    mcp::{
        Capabilities, Level, Message,
        level::Wanted,
        list::ListKind,
        message::Span,
        object::{self, unquote},
        subscription::{Topic, Topics},
        translate::updated_to_client,
    },
    snapshot::table::{Table, View},
    upstream::Wish,
};

/// Resources that one client may subscribe to, and the bytes that they may take together.
const SUBSCRIPTIONS_MAX: usize = 1000;
const SUBSCRIPTIONS_BYTES_MAX: usize = 1 << 20;

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

impl Subscription {
    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let Self { upstream_id, uri, shown } = self;
        size_of::<Self>() + upstream_id.len() + uri.len() + shown.len()
    }
}

/// Each with the wish that keeps it at an upstream where it is not the session's own.
pub(super) type Subscriptions = AHashMap<Subscription, Option<Wish>>;

impl Sessions {
    /// Tells listening clients which of their lists this configuration changes.
    pub(crate) fn announce(&self, table: &Table) {
        for live in &self.live {
            live.announce(table);
        }
        self.listeners.announce(table);
    }

    /// Whether any client is subscribed to a resource.
    pub(crate) fn is_subscribed(&self, upstream_id: &str, uri: &str) -> bool {
        let is_it = |it: &Subscription| *it.upstream_id == *upstream_id && *it.uri == *uri;
        self.live.iter().any(|live| live.subscriptions.lock().keys().any(is_it))
    }
}

fn prints(view: &View, capabilities: Capabilities) -> [u64; ListKind::ALL.len()] {
    ListKind::ALL.map(|kind| view.fingerprint(kind, capabilities))
}

impl Lists {
    /// The lists of an endpoint as they are now.
    pub(super) fn new(view: &View, capabilities: Capabilities) -> Self {
        Self { server: view.id.clone(), capabilities, prints: prints(view, capabilities) }
    }

    /// The endpoint as it is now, unless it is gone.
    fn view<'t>(&self, table: &'t Table) -> Option<&'t View> {
        if self.server.is_empty() {
            Some(table.everything())
        } else {
            table.server(&self.server).map(|view| &**view)
        }
    }

    /// What has changed since the last look; `None`: the endpoint is gone.
    pub(super) fn changed(&mut self, table: &Table) -> Option<Topics> {
        let view = self.view(table)?;
        let Self { server: _, capabilities, prints: seen } = self;
        let now = prints(view, *capabilities);
        let kinds = ListKind::ALL.into_iter().zip(now.iter().zip(*seen));
        let changed = kinds.filter(|(_, (now, seen))| **now != *seen);
        let changed = changed.map(|(kind, _)| Topic::of(kind)).collect();
        *seen = now;
        Some(changed)
    }
}

/// That a resource changed, as its upstream says it.
pub(super) struct Update<'m> {
    message: &'m Message,
    /// Of the URI.
    span: Span,
    uri: Cow<'m, str>,
}

impl<'m> Update<'m> {
    /// `None` if it names no resource.
    pub(super) fn read(message: &'m Message) -> Option<Self> {
        let span = object::member(message.text(), message.params()?.span?, "uri")?;
        let uri = unquote(span.of(message.text()))?;
        Some(Self { message, span, uri })
    }

    /// Whether it is of a resource that was subscribed to, or of one below.
    pub(super) fn is_of(&self, it: &Subscription, upstream_id: &str) -> bool {
        *it.upstream_id == *upstream_id
            && self.uri.strip_prefix(&*it.uri).is_some_and(|rest| {
                rest.is_empty() || it.uri.ends_with('/') || rest.starts_with('/')
            })
    }

    /// What the client is told that has this subscription; `id` is that of a modern client's
    /// request.
    pub(super) fn for_client(&self, found: &Subscription, id: Option<&[u8]>) -> Bytes {
        let shown = (*found.uri == *self.uri).then_some((self.span, &*found.shown));
        updated_to_client(self.message, shown, id)
    }
}

impl Live {
    /// From now on the client hears of changes of these lists.
    pub(crate) fn watch_lists(&self, view: &View, capabilities: Capabilities) {
        *self.lists.lock() = Some(Lists::new(view, capabilities));
    }

    fn announce(&self, table: &Table) {
        let mut lists = self.lists.lock();
        // The client of a server that is gone learns it by its next request.
        let Some(changed) = lists.as_mut().and_then(|lists| lists.changed(table)) else { return };
        let askers = lists.as_ref().and_then(|lists| lists.view(table)).map(View::askers);
        drop(lists);
        if let Some(askers) = askers {
            self.asked_by(askers);
        }
        self.lists_changed(changed);
    }

    /// Tells the client that some of its lists changed.
    pub(super) fn lists_changed(&self, changed: Topics) {
        for topic in Topic::ALL.into_iter().filter(|topic| changed.has(*topic)) {
            let notification = match topic {
                Topic::Tools => TOOLS,
                Topic::Prompts => PROMPTS,
                Topic::Resources => RESOURCES,
            };
            self.tell(Bytes::from_static(notification.as_bytes()));
        }
    }

    /// Notes a subscription; false if there are too many.
    pub(crate) fn subscribe(&self, subscription: Subscription) -> bool {
        let mut subscriptions = self.subscriptions.lock();
        if subscriptions.contains_key(&subscription) {
            return true;
        }
        let bytes: usize = subscriptions.keys().map(Subscription::bytes).sum();
        if subscriptions.len() >= SUBSCRIPTIONS_MAX
            || bytes + subscription.bytes() > SUBSCRIPTIONS_BYTES_MAX
        {
            return false;
        }
        subscriptions.insert(subscription, None);
        true
    }

    /// Keeps a subscription at its upstream for as long as the client has it.
    pub(crate) fn hold(&self, subscription: &Subscription, wish: Wish) {
        if let Some(held) = self.subscriptions.lock().get_mut(subscription) {
            *held = Some(wish);
        }
    }

    /// Forgets a subscription; whether it was kept at its upstream.
    pub(crate) fn unsubscribe(&self, subscription: &Subscription) -> bool {
        let forgotten = self.subscriptions.lock().remove(subscription);
        forgotten.is_some_and(|wish| wish.is_some())
    }

    /// Tells the client that a resource changed, if it wants to know.
    pub(super) fn updated(&self, upstream_id: &str, update: &Update<'_>) {
        let subscriptions = self.subscriptions.lock();
        let found = subscriptions.keys().find(|it| update.is_of(it, upstream_id));
        let told = found.map(|found| update.for_client(found, None));
        drop(subscriptions);
        if let Some(told) = told {
            self.tell(told);
        }
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

    use proto::resource::Resource;

    use super::*;
    use crate::{
        mcp::{Version, elicitation::Askers, extension::Hears, message::parse},
        sessions::{Asks, channel::Reader},
        snapshot::table::tests::{compile, sample, tool, upstream},
        upstream::testing::question,
    };

    fn listening(sessions: &Sessions) -> (Arc<Live>, Reader) {
        let live = sessions.enter([1; 16], 0).unwrap();
        let reader = live.attach(asks(Capabilities::NONE));
        (live, reader)
    }

    fn asks(capabilities: Capabilities) -> Asks {
        let (patience, version) = (std::time::Duration::from_secs(9), Version::V2025_11_25);
        let (hears, askers) = (Hears::Core, Askers::One);
        Asks { capabilities, patience, version, hears, askers }
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
        resources.push(Resource::Tool(tool("a", "another")));
        let after = compile(&resources).unwrap();
        sessions.announce(&after);
        sessions.announce(&after);
        live.tell(Bytes::from_static(b"end"));
        assert_eq!(next(&mut reader).await, TOOLS);
        assert_eq!(next(&mut reader).await, "end");
    }

    #[tokio::test]
    async fn who_joins_while_a_client_listens_is_named_when_it_asks() {
        let sessions = Sessions::default();
        let live = sessions.enter([1; 16], 0).unwrap();
        let able = Capabilities::of(&["elicitation"]);
        let mut reader = live.attach(asks(able));
        let mut resources = vec![Resource::Upstream(upstream("a", "a"))];
        let alone = compile(&resources).unwrap();
        live.watch_lists(alone.everything(), able);
        let ask = || {
            let (asked, _back) =
                question("7", r#""method":"elicitation/create","params":{"message":"Who?"}"#);
            live.ask_outside(asked);
        };
        ask();
        assert!(next(&mut reader).await.contains(r#""message":"Who?""#));
        resources.push(Resource::Upstream(upstream("b", "b")));
        sessions.announce(&compile(&resources).unwrap());
        ask();
        assert!(next(&mut reader).await.contains(r#""message":"[up] Who?""#));
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
        let hear = |upstream_id, message: Message| {
            live.updated(upstream_id, &Update::read(&message).unwrap());
        };
        let subscription = Subscription {
            upstream_id: "u1".into(),
            uri: "file:///a".into(),
            shown: Bytes::from_static(b"\"u1+file:///a\""),
        };
        assert!(live.subscribe(subscription.clone()));
        assert!(sessions.is_subscribed("u1", "file:///a"));
        for uri in ["file:///b", "file:///ab"] {
            hear("u1", updated(uri));
        }
        hear("u2", updated("file:///a"));
        let other = Subscription {
            upstream_id: "u2".into(),
            shown: Bytes::from_static(b"\"u2+file:///a\""),
            ..subscription.clone()
        };
        assert!(live.subscribe(other.clone()));
        hear("u2", updated("file:///a"));
        assert!(next(&mut reader).await.contains("u2+file:///a"));
        live.unsubscribe(&other);
        hear("u1", updated("file:///a"));
        assert!(next(&mut reader).await.contains(r#"{"uri":"u1+file:///a","x":1.0}"#));
        hear("u1", updated("file:///a/b"));
        assert!(next(&mut reader).await.contains(r#""uri":"file:///a/b""#));
        live.unsubscribe(&subscription);
        hear("u1", updated("file:///a"));
        live.tell(Bytes::from_static(b"end"));
        assert_eq!(next(&mut reader).await, "end");
        assert!(!sessions.is_subscribed("u1", "file:///a"));
    }

    #[test]
    fn subscriptions_are_bounded_in_number_and_in_bytes() {
        let live = Sessions::default().enter([1; 16], 0).unwrap();
        let of = |uri: String| {
            let shown = format!("\"{uri}\"").into();
            Subscription { upstream_id: "u1".into(), uri: uri.into(), shown }
        };
        let long = of("x".repeat(SUBSCRIPTIONS_BYTES_MAX / 5));
        assert!(live.subscribe(long.clone()));
        let longer = of("y".repeat(SUBSCRIPTIONS_BYTES_MAX / 2));
        assert!(!live.subscribe(longer), "there is no room for it");
        assert!(live.subscribe(of("z".repeat(SUBSCRIPTIONS_BYTES_MAX / 5))));
        for at in 2..SUBSCRIPTIONS_MAX {
            assert!(live.subscribe(of(at.to_string())));
        }
        assert!(!live.subscribe(of("one more".to_owned())));
        assert!(live.subscribe(long.clone()), "it is one of them");
        live.unsubscribe(&long);
        assert!(live.subscribe(of("one more".to_owned())));
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
