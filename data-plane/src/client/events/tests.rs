//! What happens to requests beside the stream that their answers come on.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::{
    mcp::message::parse,
    upstream::testing::{never, serve, streamed},
};

fn running() -> (Running, Messages) {
    let (client, messages) = ClientEnd::open();
    let remote = Remote::new("http://127.0.0.1:1/sse", None).unwrap();
    let running = Running {
        remote,
        client,
        way: watch::Sender::new(Way::Opening),
        waiting: Mutex::default(),
        request_timeout: None,
    };
    (running, messages)
}

#[test]
fn a_request_is_not_posted_to_a_stream_that_has_just_ended() {
    let (running, _messages) = running();
    let target = Uri::from_static("http://127.0.0.1:1/message");
    let call = parse(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.into()).unwrap();
    running.waiting.lock().note(&call);
    running.way.send_replace(Way::Open(target.clone()));
    running.way.send_replace(Way::Opening);
    assert!(!running.promise(&target, b"1"));
    assert!(running.waiting.lock().lose_posted().is_empty(), "it waits for the next stream");
    running.way.send_replace(Way::Open(target.clone()));
    assert!(running.promise(&target, b"1"));
    assert_eq!(running.waiting.lock().lose_posted(), ["1"]);
}

#[tokio::test]
async fn a_server_that_accepts_a_request_only_when_it_is_done_may_take_its_time() {
    let (events, stream) = mpsc::channel(9);
    events.try_send(Bytes::from("event: endpoint\ndata: /message\n\n")).unwrap();
    let stream = Mutex::new(Some(stream));
    let (posted, mut was_posted) = mpsc::channel(9);
    let address = serve(move |seen| {
        if seen.method == http::Method::GET {
            let stream = stream.lock().take().unwrap();
            return streamed(200, "text/event-stream", ReceiverStream::new(stream));
        }
        posted.try_send(()).unwrap();
        never()
    })
    .await;
    let url = format!("http://{address}/sse");
    let config = BridgeConfig { url, authorization: None, request_timeout: None };
    let (lines, input) = mpsc::channel(9);
    let (mut messages, serving) = EventBridge::new(config).unwrap().run(input);
    tokio::spawn(serving);
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    lines.send(Line::Whole(ping.into())).await.unwrap();
    was_posted.recv().await.unwrap();
    for _ in 0..2 {
        tokio::time::pause();
        tokio::time::advance(STEP + Duration::from_secs(1)).await;
        tokio::time::resume();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    events.send(format!("data: {answer}\n\n").into()).await.unwrap();
    assert_eq!(messages.recv().await.unwrap(), answer);
}
