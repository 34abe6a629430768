//! What happens to requests beside the stream that their answers come on.

use super::*;
use crate::mcp::message::parse;

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
