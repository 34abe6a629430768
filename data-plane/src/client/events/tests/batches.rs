//! Several messages in one, of a client or of a server of 2025-03-26.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde_json::{Value, json};

use super::*;

/// A bridge with a session at a server that answers what the test says.
pub(super) struct Streamed {
    lines: Feed,
    messages: Messages,
    /// The stream of the server; another one begins when it is dropped.
    events: mpsc::Sender<Bytes>,
    /// What was posted.
    posted: mpsc::Receiver<Value>,
    streams: mpsc::Receiver<mpsc::Sender<Bytes>>,
}

impl Streamed {
    pub(super) async fn start() -> Self {
        Self::refusing("nothing").await
    }

    /// At a server that takes posts of this method once and is then too busy for them.
    async fn refusing(method: &'static str) -> Self {
        let taken = AtomicBool::new(false);
        let (posts, posted) = mpsc::channel(99);
        let (opened, mut streams) = mpsc::channel(9);
        let address = serve(move |seen| {
            if seen.method == http::Method::GET {
                let (events, stream) = mpsc::channel(9);
                events.try_send("event: endpoint\ndata: /message\n\n".into()).unwrap();
                opened.try_send(events).unwrap();
                return streamed(200, "text/event-stream", ReceiverStream::new(stream));
            }
            posts.try_send(seen.member("")).unwrap();
            let is_refused = seen.member("/method") == method && taken.swap(true, Relaxed);
            answer(if is_refused { 429 } else { 202 }, "", "")
        })
        .await;
        let (lines, messages, _serving) = bridged(address, None);
        let events = streams.recv().await.unwrap();
        let mut streamed = Self { lines, messages, events, posted, streams };
        let hello = json!({"protocolVersion": "2025-03-26"});
        streamed.send(&request(0, "initialize", &hello)).await;
        streamed.posted.recv().await.unwrap();
        streamed.say(&json!({"jsonrpc": "2.0", "id": 0, "result": hello})).await;
        assert_eq!(streamed.message().await["id"], 0);
        streamed
    }

    pub(super) async fn send(&self, line: &Value) {
        assert!(self.lines.send(Line::Whole(line.to_string().into())).await);
    }

    pub(super) async fn say(&self, message: &Value) {
        self.events.send(format!("data: {message}\n\n").into()).await.unwrap();
    }

    pub(super) async fn message(&mut self) -> Value {
        let message = tokio::time::timeout(Duration::from_secs(20), self.messages.recv()).await;
        serde_json::from_slice(&message.unwrap().unwrap()).unwrap()
    }

    /// Ends the stream and waits for the next.
    pub(super) async fn reopen(&mut self) {
        self.events = mpsc::channel(1).0;
        self.opened().await;
    }

    /// Waits for the next stream.
    pub(super) async fn opened(&mut self) {
        let opened = tokio::time::timeout(Duration::from_secs(20), self.streams.recv()).await;
        self.events = opened.unwrap().unwrap();
    }

    /// The methods of the next posts.
    pub(super) async fn posts<const N: usize>(&mut self) -> [String; N] {
        let mut methods = [const { String::new() }; N];
        for method in &mut methods {
            let posted = tokio::time::timeout(Duration::from_secs(20), self.posted.recv()).await;
            let posted = posted.unwrap().unwrap();
            *method = posted["method"].as_str().unwrap_or_else(|| panic!("{posted}")).to_owned();
        }
        methods
    }
}

pub(super) fn request(id: u32, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub(super) fn note(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

pub(super) fn done(id: u32) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {}})
}

#[tokio::test]
async fn the_answers_of_a_batch_come_as_one_and_all_else_for_itself() {
    let mut streamed = Streamed::start().await;
    let (none, started) = (json!({}), note("notifications/initialized", &json!({})));
    let batch = [1, 2, 3].map(|id| request(id, "ping", &none));
    streamed.send(&json!([started, batch[0], batch[1], batch[2]])).await;
    assert_eq!(streamed.posts().await, ["notifications/initialized", "ping", "ping", "ping"]);
    let asked = request(7, "roots/list", &none);
    streamed.say(&json!([done(2), asked])).await;
    assert_eq!(streamed.message().await, asked);
    let cancel = note("notifications/cancelled", &json!({"requestId": 1}));
    streamed.send(&json!([cancel])).await;
    assert_eq!(streamed.posts().await, ["notifications/cancelled"]);
    // Nobody waits for the first any more.
    streamed.say(&json!([done(1), done(3)])).await;
    assert_eq!(streamed.message().await, json!([done(2), done(3)]));
    streamed.send(&json!([])).await;
    assert_eq!(streamed.message().await["error"]["code"], -32600);
}

#[tokio::test]
async fn a_batch_ends_with_its_stream_and_its_wishes_do_not() {
    let mut streamed = Streamed::start().await;
    let level = request(2, "logging/setLevel", &json!({"level": "error"}));
    let started = note("notifications/initialized", &json!({}));
    streamed.send(&json!([started, request(1, "ping", &json!({})), level])).await;
    assert_eq!(streamed.posts().await, ["notifications/initialized", "ping", "logging/setLevel"]);
    streamed.say(&done(2)).await;
    // Its place in the array is taken before the stream ends.
    streamed.say(&note("a", &json!({}))).await;
    assert_eq!(streamed.message().await["method"], "a");
    let (gone, _) = mpsc::channel(1);
    streamed.events = gone;
    let array = streamed.message().await;
    assert_eq!(array[0]["error"]["code"], -32603, "{array}");
    assert_eq!((&array[0]["id"], &array[1]), (&json!(1), &done(2)), "{array}");
    streamed.events = streamed.streams.recv().await.unwrap();
    assert_eq!(streamed.posts().await, ["initialize"]);
    streamed.say(&json!([done(0)])).await;
    assert_eq!(streamed.posts().await, ["notifications/initialized", "logging/setLevel"]);
}

#[tokio::test]
async fn a_stream_that_takes_no_wish_takes_calls() {
    let mut streamed = Streamed::refusing("resources/subscribe").await;
    streamed.send(&note("notifications/initialized", &json!({}))).await;
    streamed.send(&request(1, "resources/subscribe", &json!({"uri": "a:1"}))).await;
    assert_eq!(streamed.posts().await, ["notifications/initialized", "resources/subscribe"]);
    streamed.say(&done(1)).await;
    assert_eq!(streamed.message().await, done(1));
    streamed.reopen().await;
    assert_eq!(streamed.posts().await, ["initialize"]);
    streamed.say(&done(0)).await;
    assert_eq!(streamed.posts().await, ["notifications/initialized", "resources/subscribe"]);
    assert_eq!(streamed.message().await["method"], "notifications/resources/updated");
    streamed.send(&request(2, "ping", &json!({}))).await;
    assert_eq!(streamed.posts().await, ["ping"]);
    streamed.say(&done(2)).await;
    assert_eq!(streamed.message().await, done(2));
}

#[tokio::test]
async fn the_answers_of_a_batch_are_awaited_at_the_end() {
    let mut streamed = Streamed::start().await;
    let batch = [1, 2].map(|id| request(id, "ping", &json!({})));
    streamed.send(&json!(batch)).await;
    assert_eq!(streamed.posts().await, ["ping", "ping"]);
    let (none, _) = lines::input(1);
    drop(std::mem::replace(&mut streamed.lines, none));
    tokio::time::sleep(Duration::from_millis(100)).await;
    streamed.say(&done(2)).await;
    // The other one never comes.
    assert_eq!(streamed.message().await, json!([done(2)]));
    assert_eq!(streamed.messages.recv().await, None);
}
