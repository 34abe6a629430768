//! What goes wrong, one by one, and how long and how much is waited for.

use bytes::Bytes;

use super::*;

/// What a call to a legacy server with this habit gives.
async fn failure(act: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static) -> String {
    let proxy = Proxy::new(legacy_server(Log::default(), act).await);
    let events = proxy.run(legacy_call("1", "{}")).await;
    events.last().unwrap().clone()
}

#[tokio::test]
async fn every_bad_answer_is_a_failure_of_its_own() {
    let wrong = r#"{"jsonrpc":"2.0","id":99,"result":{}}"#;
    let wrong_id = "upstream `up` answered with the id of another request";
    assert_eq!(failure(move |_| json(wrong)).await, wrong_id);
    assert_eq!(failure(move |_| sse(format!("data: {wrong}\n\n"))).await, wrong_id);
    let no_json =
        "upstream `up` answered with something that is no JSON-RPC message: the body is not JSON";
    assert_eq!(failure(|_| json("{\"jsonrpc\":")).await, no_json);
    assert_eq!(failure(|_| sse("data: {nope\n\n")).await, no_json);
    let no_text =
        "upstream `up` answered with something that is no JSON-RPC message: the body is not UTF-8";
    let frames = |frames: &'static [&'static [u8]]| {
        let frames = stream::iter(frames.iter().copied().map(Bytes::from_static));
        streamed(200, "application/json", frames)
    };
    assert_eq!(failure(move |_| frames(&[b"{\"\xff\""])).await, no_text);
    assert_eq!(failure(move |_| frames(&[b"{", b"\"\xff\""])).await, no_text);
    assert_eq!(failure(move |_| frames(&[b"{\"", b"\xc3"])).await, no_text);
    assert_eq!(failure(|_| sse(b"data: {\"\xff\"\n\n".as_slice())).await, no_text);
    assert_eq!(
        failure(|_| answer(200, "text/html; charset=utf-8", "<html>")).await,
        "upstream `up` answered with content type `text/html` instead of JSON or an event stream"
    );
    assert_eq!(
        failure(|_| answer(202, "", "")).await,
        "upstream `up` ended its answer without a response"
    );
    assert_eq!(
        failure(|_| sse(": only a comment\n\n")).await,
        "upstream `up` ended its answer without a response"
    );
    assert_eq!(
        failure(|_| answer(502, "text/html", "bad\n gateway")).await,
        "upstream `up` answered HTTP 502: bad gateway"
    );
    assert_eq!(
        failure(|_| answer(401, "", "")).await,
        "upstream `up` refused the gateway with HTTP 401: check its credential"
    );
}

#[tokio::test]
async fn size_and_silence_are_bounded() {
    let too_large = "upstream `up` sent a message of more than 100000 bytes";
    let zeros = || stream::repeat(Bytes::from(vec![b'0'; 10_000]));
    assert_eq!(failure(move |_| streamed(200, "application/json", zeros())).await, too_large);
    assert_eq!(failure(move |_| streamed(200, "text/event-stream", zeros())).await, too_large);
    let lines = || stream::repeat(Bytes::from(format!("data: {}\n", "x".repeat(1000))));
    assert_eq!(failure(move |_| streamed(200, "text/event-stream", lines())).await, too_large);
    let gigabyte = |_: &Seen| {
        let mut huge = hang(200, "application/json", "{");
        huge.headers_mut().insert("content-length", "1000000000".parse().unwrap());
        huge
    };
    assert_eq!(failure(gigabyte).await, too_large);
    let silent = "upstream `up` was silent for 700ms";
    assert_eq!(failure(|_| hang(200, "application/json", "{")).await, silent);
    assert_eq!(failure(|_| hang(200, "text/event-stream", "data: {\n")).await, silent);
    // Comments keep a connection alive, not a call.
    let comments = |_: &Seen| {
        let ticks = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Some((Bytes::from(": tick\n\n"), ()))
        });
        streamed(200, "text/event-stream", SyncStream(Mutex::new(Box::pin(ticks))))
    };
    assert_eq!(failure(comments).await, silent);
}

/// A stream behind a lock, because response bodies of tests are shared.
struct SyncStream<S>(Mutex<S>);

impl<S: futures_util::Stream + Unpin> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.0.lock().poll_next_unpin(context)
    }
}

#[tokio::test]
async fn a_dropped_or_silent_call_is_cancelled_at_the_upstream() {
    let log = Log::default();
    let upstream = legacy_server(Arc::clone(&log), |_| hang(200, "text/event-stream", ": hi\n\n"));
    let proxy = Proxy::new(upstream.await);
    let dropped =
        tokio::time::timeout(Duration::from_millis(300), proxy.run(legacy_call("1", "{}")));
    assert!(dropped.await.is_err());
    settle(&log, "notifications/cancelled s1").await;
    log.lock().clear();
    proxy.run(legacy_call("2", "{}")).await;
    settle(&log, "notifications/cancelled s1").await;
}

#[tokio::test]
async fn a_stream_that_ends_early_is_resumed_after_its_last_event() {
    let upstream = legacy_server(Log::default(), |seen| match seen.header("last-event-id") {
        "" => sse(
            "id: e7\nretry: 1\ndata:\n\nid: e8\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"data\":1}}\n\n",
        ),
        "e8" => {
            assert_eq!(
                (seen.header("accept"), seen.header("mcp-session-id")),
                ("text/event-stream", "s1")
            );
            sse("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n")
        }
        other => panic!("resumed after {other}"),
    });
    let events = Proxy::new(upstream.await).run(legacy_call("1", "{}")).await;
    assert_eq!(events.len(), 2);
    assert_eq!(events[1], r#"response {"jsonrpc":"2.0","id":1,"result":{}}"#);
}
