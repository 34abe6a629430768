//! The first and the last words of a bridge to a server over HTTP+SSE.

use serde_json::json;

use super::{
    batches::{Streamed, done, note, request},
    *,
};

#[tokio::test]
async fn a_server_that_refuses_to_begin_anew_is_asked_again() {
    let mut streamed = Streamed::start().await;
    streamed.send(&note("notifications/initialized", &json!({}))).await;
    assert_eq!(streamed.posts().await, ["notifications/initialized"]);
    streamed.reopen().await;
    assert_eq!(streamed.posts().await, ["initialize"]);
    let error = json!({"code": -32603, "message": "not yet"});
    streamed.say(&json!({"jsonrpc": "2.0", "id": 0, "error": error})).await;
    streamed.opened().await;
    assert_eq!(streamed.posts().await, ["initialize"]);
    streamed.say(&done(0)).await;
    assert_eq!(streamed.posts().await, ["notifications/initialized"]);
    streamed.send(&request(1, "ping", &json!({}))).await;
    assert_eq!(streamed.posts().await, ["ping"]);
    streamed.say(&done(1)).await;
    assert_eq!(streamed.message().await, done(1));
}

#[tokio::test]
async fn a_server_that_takes_nothing_does_not_hold_up_the_end() {
    let (posted, mut was_posted) = mpsc::channel(99);
    let address = serve(move |seen| {
        if seen.method == http::Method::GET {
            return hang(200, "text/event-stream", "event: endpoint\ndata: /message\n\n");
        }
        posted.try_send(()).ok();
        never()
    })
    .await;
    let (lines, _messages, serving) = bridged(address, None);
    for _ in 0..60 {
        let progress = note("notifications/progress", &json!({})).to_string();
        assert!(lines.send(Line::Whole(progress.into())).await);
    }
    was_posted.recv().await.unwrap();
    tokio::time::pause();
    let gone = Instant::now();
    drop(lines);
    serving.await.unwrap();
    assert!(gone.elapsed() < Duration::from_secs(10), "{:?}", gone.elapsed());
}
