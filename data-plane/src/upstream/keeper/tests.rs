//! Keepers against a small modern server: what they ask for, and what comes of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use proto::Era;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;

use crate::{
    mcp::{
        Capabilities, Level, Message,
        subscription::{Topics, task_key},
    },
    upstream::{
        Audience, Said, SessionKey, Speaker,
        failure::CallFailure,
        testing::{Proxy, Seen, answer, http, json, serve, streamed, upstream},
    },
};

const SUBSCRIBES: &str =
    r#"{"resources":{"subscribe":true},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;

/// All that is told of resources.
#[derive(Debug, Default)]
struct Ear(Mutex<Vec<String>>);

impl Ear {
    async fn hears(&self, count: usize) -> Vec<String> {
        let heard = async {
            loop {
                let heard = self.0.lock().clone();
                if heard.len() >= count {
                    return heard;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), heard).await.unwrap()
    }
}

impl Audience for Ear {
    fn lists_changed(&self, _: &SessionKey, _: Topics) {}

    fn hear(&self, _: &SessionKey, _: Speaker<'_>, _: Said) {}

    fn task_changed(&self, _: &str, message: &Message) {
        self.0.lock().push(message.text().to_owned());
    }

    fn updated(&self, _: &str, message: &Message) {
        let uri = message.params().unwrap().uri.as_ref().unwrap();
        self.0.lock().push(uri.as_str().unwrap().to_owned());
    }

    fn has_subscribed(&self, _: &str, _: &str) -> bool {
        false
    }

    fn level(&self, _: &SessionKey) -> Option<Level> {
        Some(Level::Warning)
    }
}

/// What the server is told to say, and what it was asked.
struct Script {
    says: broadcast::Sender<Bytes>,
    asked: watch::Sender<Vec<serde_json::Value>>,
}

impl Script {
    fn new() -> Arc<Self> {
        Arc::new(Self { says: broadcast::channel(16).0, asked: watch::channel(vec![]).0 })
    }

    /// Honours all but what begins with `no:`; an empty chunk ends all streams.
    fn answer(&self, seen: &Seen) -> http::Response<crate::upstream::testing::Body> {
        if seen.member("/method") == "tasks/get" {
            assert_eq!(seen.header("mcp-name"), seen.member("/params/taskId").as_str().unwrap());
            let (id, task) = (seen.member("/id"), seen.member("/params/taskId"));
            return json(format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete","taskId":{task},"status":"completed"}}}}"#
            ));
        }
        if seen.member("/method") != "subscriptions/listen" {
            return json(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#);
        }
        assert_eq!(seen.header("mcp-method"), "subscriptions/listen");
        let mut wanted = seen.member("/params/notifications");
        let uris = wanted["resourceSubscriptions"].as_array_mut().unwrap();
        uris.sort_by_key(ToString::to_string);
        if uris.iter().any(|uri| uri == "never://") {
            let id = seen.member("/id");
            return answer(
                200,
                "application/json",
                format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32602,"message":"never"}}}}"#
                ),
            );
        }
        self.asked.send_modify(|asked| asked.push(serde_json::Value::Array(uris.clone())));
        uris.retain(|uri| !uri.as_str().unwrap().starts_with("no:"));
        let id = seen.member("/id");
        let first = format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{{\"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":{id}}},\"notifications\":{wanted}}}}}\n\n"
        );
        let later = BroadcastStream::new(self.says.subscribe());
        let later = later.map(Result::unwrap).take_while(|said| {
            let goes_on = !said.is_empty();
            async move { goes_on }
        });
        streamed(200, "text/event-stream", stream::iter([Bytes::from(first)]).chain(later))
    }

    async fn asked(&self, count: usize) -> Vec<serde_json::Value> {
        let mut asked = self.asked.subscribe();
        let enough = asked.wait_for(|asked| asked.len() >= count);
        let found = tokio::time::timeout(Duration::from_secs(10), enough).await.unwrap();
        found.unwrap().clone()
    }

    /// Waits until so many streams are read.
    async fn is_open(&self, count: usize) {
        let open = async {
            while self.says.receiver_count() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), open).await.unwrap();
    }

    fn update(&self, uri: &str) {
        let body = format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/updated\",\"params\":{{\"uri\":\"{uri}\"}}}}\n\n"
        );
        self.says.send(body.into()).unwrap();
    }
}

async fn proxy(script: &Arc<Script>) -> (Proxy, Arc<Ear>) {
    let shared = Arc::clone(script);
    let address = serve(move |seen| shared.answer(&seen)).await;
    let mut resource = upstream(http(address));
    resource.era = Some(Era::Modern);
    SUBSCRIBES.clone_into(&mut resource.capabilities);
    let proxy = Proxy::new(resource);
    let ear = Arc::new(Ear::default());
    let audience: std::sync::Weak<Ear> = Arc::downgrade(&ear);
    proxy.upstreams.admit(audience);
    (proxy, ear)
}

fn client() -> SessionKey {
    SessionKey::Client([1; 16])
}

#[tokio::test]
async fn one_subscription_follows_what_all_clients_wish() {
    let script = Script::new();
    let (proxy, ear) = proxy(&script).await;
    let wish = |uri| {
        proxy.upstreams.wish("u1", (&client(), Capabilities::NONE.into(), "ann"), uri).unwrap()
    };
    let one = wish("a://1");
    one.kept().await.unwrap();
    script.update("a://1");
    let (two, again) = (wish("a://2"), wish("a://1"));
    two.kept().await.unwrap();
    again.kept().await.unwrap();
    let refused = wish("no://1");
    assert!(matches!(refused.kept().await, Err(CallFailure::Unheard(_))));
    drop(refused);
    assert_eq!(script.asked(3).await[..2], [json_of(&["a://1"]), json_of(&["a://1", "a://2"])]);
    ear.hears(1).await;
    // Old and new one say it, it is told once.
    script.update("a://2");
    ear.hears(2).await;
    drop((two, again));
    // After a while nobody wants the second any more.
    let mut asked = script.asked.subscribe();
    let narrowed = asked.wait_for(|all| all.len() > 3 && all.last() == Some(&json_of(&["a://1"])));
    drop(tokio::time::timeout(Duration::from_secs(10), narrowed).await.unwrap());
    script.is_open(1).await;
    assert_eq!(*ear.0.lock(), ["a://1", "a://2"]);
}

#[tokio::test]
async fn who_wishes_again_what_is_still_kept_need_not_wait() {
    let script = Script::new();
    let (proxy, _ear) = proxy(&script).await;
    for _ in 0..3 {
        let wish = proxy
            .upstreams
            .wish("u1", (&client(), Capabilities::NONE.into(), "ann"), "a://1")
            .unwrap();
        tokio::time::timeout(Duration::from_secs(5), wish.kept()).await.unwrap().unwrap();
    }
    assert_eq!(script.asked(1).await.len(), 1);
}

#[tokio::test]
async fn a_broken_subscription_is_opened_again_and_what_may_be_missed_is_told() {
    let script = Script::new();
    let (proxy, ear) = proxy(&script).await;
    let wish =
        proxy.upstreams.wish("u1", (&client(), Capabilities::NONE.into(), "ann"), "a://1").unwrap();
    wish.kept().await.unwrap();
    script.says.send(Bytes::new()).unwrap();
    script.asked(2).await;
    assert_eq!(ear.hears(1).await, ["a://1"]);
}

#[tokio::test]
async fn what_a_task_may_have_done_while_nobody_listened_is_asked_for_and_told() {
    let script = Script::new();
    let (proxy, ear) = proxy(&script).await;
    let wish = |uri| {
        proxy.upstreams.wish("u1", (&client(), Capabilities::NONE.into(), "ann"), uri).unwrap()
    };
    let resource = wish("a://1");
    resource.kept().await.unwrap();
    let task = wish(&task_key("t1"));
    task.kept().await.unwrap();
    // Once the old subscription has faded, the new one alone is lost.
    script.is_open(1).await;
    script.says.send(Bytes::new()).unwrap();
    let state = r#"{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"t1","status":"completed"}}"#;
    assert_eq!(ear.hears(2).await, ["a://1", state]);
    assert_eq!(script.asked(3).await.len(), 3);
}

#[tokio::test]
async fn an_error_is_told_to_who_wished_and_spoils_nothing_else() {
    let script = Script::new();
    let (proxy, ear) = proxy(&script).await;
    let good =
        proxy.upstreams.wish("u1", (&client(), Capabilities::NONE.into(), "ann"), "a://1").unwrap();
    good.kept().await.unwrap();
    let bad = proxy
        .upstreams
        .wish("u1", (&client(), Capabilities::NONE.into(), "ann"), "never://")
        .unwrap();
    let failure = bad.kept().await.unwrap_err();
    assert!(failure.to_string().contains("never"), "{failure}");
    script.update("a://1");
    ear.hears(1).await;
}

/// A legacy server that takes note of what it is asked, with the session.
async fn legacy(log: Arc<Mutex<Vec<String>>>) -> Proxy {
    let opened = std::sync::atomic::AtomicUsize::new(0);
    let address = serve(move |seen| {
        let method = seen.member("/method");
        let Some(method) = method.as_str() else { return answer(405, "", "") };
        let what = seen.member("/params/uri");
        let what = what.as_str().unwrap_or_default();
        log.lock().push(format!("{method} {what} {}", seen.header("mcp-session-id")));
        let id = seen.member("/id");
        match method {
            "initialize" => {
                assert!(!seen.member("/params/capabilities/sampling").is_null());
                let number = opened.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                let mut answer = json(format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-06-18","capabilities":{{"logging":{{}},"resources":{{"subscribe":true}}}},"serverInfo":{{"name":"s"}}}}}}"#
                ));
                let session = format!("s{number}").parse().unwrap();
                answer.headers_mut().insert("mcp-session-id", session);
                answer
            }
            _ if what == "never://" => {
                json(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32002,"message":"never","data":1.0}}}}"#))
            }
            _ => json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)),
        }
    })
    .await;
    let mut resource = upstream(http(address));
    resource.era = Some(Era::Legacy);
    SUBSCRIBES.clone_into(&mut resource.capabilities);
    Proxy::new(resource)
}

#[tokio::test]
async fn a_clients_subscription_outlives_its_session_at_a_legacy_upstream() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let proxy = legacy(Arc::clone(&log)).await;
    let ear = Arc::new(Ear::default());
    let audience: std::sync::Weak<Ear> = Arc::downgrade(&ear);
    proxy.upstreams.admit(audience);
    let saw = async |what: &str| {
        let seen = async {
            while !log.lock().iter().any(|line| line == what) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(10), seen).await;
        seen.unwrap_or_else(|_| panic!("no `{what}` in {:?}", log.lock()));
    };
    let able = || Capabilities::of(&["sampling"]).into();
    let wish = proxy.upstreams.wish("u1", (&client(), able(), "ann"), "a://1").unwrap();
    wish.kept().await.unwrap();
    assert!(log.lock().contains(&"logging/setLevel  s1".to_owned()));
    let refused = proxy.upstreams.wish("u1", (&client(), able(), "ann"), "never://").unwrap();
    match refused.kept().await.unwrap_err() {
        CallFailure::Declined { error, .. } => {
            assert_eq!(error, r#"{"code":-32002,"message":"never","data":1.0}"#);
        }
        other => panic!("{other}"),
    }
    let active = proxy.upstreams.find("u1").unwrap();
    active.sweep(Duration::ZERO);
    assert_eq!(active.open_count(), 1);
    let crate::upstream::active::Adapter::Http(http) = &active.adapter else { panic!("no HTTP") };
    http.session(&client()).unwrap().lose();
    saw("resources/subscribe a://1 s2").await;
    assert!(log.lock().contains(&"logging/setLevel  s2".to_owned()));
    drop((wish, refused));
    saw("resources/unsubscribe a://1 s2").await;
    for _ in 0..1000 {
        active.sweep(Duration::ZERO);
        if active.open_count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the session is kept for nobody");
}

#[tokio::test]
async fn an_upstream_that_never_tells_is_not_asked() {
    let resource = upstream(http("127.0.0.1:1".parse().unwrap()));
    let proxy = Proxy::new(resource);
    assert!(
        proxy
            .upstreams
            .wish("u1", (&client(), Capabilities::NONE.into(), "ann"), "a://1")
            .is_none()
    );
    assert!(
        proxy
            .upstreams
            .wish("nobody", (&client(), Capabilities::NONE.into(), "ann"), "a://1")
            .is_none()
    );
}

fn json_of(uris: &[&str]) -> serde_json::Value {
    serde_json::json!(uris)
}
