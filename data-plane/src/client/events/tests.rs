//! What happens to requests beside the stream that their answers come on.

use std::net::SocketAddr;

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;

mod batches;
mod greeting;

use super::*;
use crate::{
    client::lines::{self, Feed},
    mcp::message::parse,
    upstream::testing::{answer, hang, never, serve, streamed},
};

/// A bridge to the server at this address.
fn bridged(
    address: SocketAddr,
    request_timeout: Option<Duration>,
) -> (Feed, Messages, JoinHandle<()>) {
    let url = format!("http://{address}/sse");
    let config = BridgeConfig { url, authorization: None, request_timeout };
    let (lines, input) = lines::input(99);
    let (messages, serving) = EventBridge::new(config).unwrap().run(input);
    (lines, messages, tokio::spawn(serving))
}

fn running() -> (Running, Messages) {
    let (client, messages) = ClientEnd::open();
    let remote = Remote::new("http://127.0.0.1:1/sse", None).unwrap();
    let running = Running {
        remote,
        client,
        way: watch::Sender::new(Way::opening()),
        waiting: Mutex::default(),
        said_again: watch::Sender::default(),
        arrays: TaskTracker::new(),
        request_timeout: None,
    };
    (running, messages)
}

#[test]
fn a_request_is_not_posted_to_a_stream_that_has_just_ended() {
    let (running, _messages) = running();
    let target = Uri::from_static("http://127.0.0.1:1/message");
    let call = parse(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.into()).unwrap();
    let reply = Reply::Alone(running.client.clone());
    let serial = running.waiting.lock().note(&call, reply).unwrap();
    running.way.send_replace(Way::Open(target.clone()));
    running.way.send_replace(Way::opening());
    assert!(!running.promise(&target, serial));
    assert!(running.waiting.lock().lose_posted().is_empty(), "it waits for the next stream");
    running.way.send_replace(Way::Open(target.clone()));
    assert!(running.promise(&target, serial));
    let lost = running.waiting.lock().lose_posted();
    assert_eq!(lost.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ["1"]);
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
    let (lines, mut messages, _serving) = bridged(address, None);
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert!(lines.send(Line::Whole(ping.into())).await);
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

#[tokio::test]
async fn the_time_of_a_request_is_its_own_although_its_id_is_used_again() {
    let (events, stream) = mpsc::channel(9);
    events.try_send(Bytes::from("event: endpoint\ndata: /message\n\n")).unwrap();
    let stream = Mutex::new(Some(stream));
    let (posted, mut was_posted) = mpsc::channel(9);
    let address = serve(move |seen| {
        if seen.method == http::Method::GET {
            let stream = stream.lock().take().unwrap();
            return streamed(200, "text/event-stream", ReceiverStream::new(stream));
        }
        posted.try_send(()).ok();
        answer(202, "", "")
    })
    .await;
    let limit = Duration::from_secs(20);
    let pass = async |time: Duration| {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
        // What its time has come for is done.
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (lines, mut messages, _serving) = bridged(address, Some(limit));
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let answered = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    for pause in [Duration::ZERO, limit.mul_f64(0.8)] {
        assert!(lines.send(Line::Whole(ping.into())).await);
        was_posted.recv().await.unwrap();
        pass(pause).await;
        events.send(format!("data: {answered}\n\n").into()).await.unwrap();
        assert_eq!(messages.recv().await.unwrap(), answered);
        pass(limit.mul_f64(0.4)).await;
    }
    assert!(lines.send(Line::Whole(ping.into())).await);
    was_posted.recv().await.unwrap();
    pass(limit).await;
    let over = String::from_utf8(messages.recv().await.unwrap().to_vec()).unwrap();
    assert!(over.contains("\"error\""), "{over}");
}

#[tokio::test]
async fn a_server_is_left_alone_for_as_long_as_it_asks() {
    let (asked, mut was_asked) = mpsc::channel(9);
    let address = serve(move |_| {
        asked.try_send(Instant::now()).ok();
        answer(200, "text/event-stream", "retry: 900\nevent: endpoint\ndata: /message\n\n")
    })
    .await;
    let (_lines, _messages, _serving) = bridged(address, None);
    let first = was_asked.recv().await.unwrap();
    let second = was_asked.recv().await.unwrap();
    assert!(second - first >= Duration::from_millis(890), "{:?}", second - first);
}

#[tokio::test]
async fn calls_wait_until_the_server_has_done_what_is_said_again() {
    let begin = Bytes::from("retry: 1\nevent: endpoint\ndata: /message\n\n");
    let (streams, mut sources) = (0..2).map(|_| mpsc::channel(9)).unzip::<_, _, Vec<_>, Vec<_>>();
    sources.reverse();
    let sources = Mutex::new(sources);
    let (posted, mut was_posted) = mpsc::channel(9);
    let address = serve(move |seen| {
        if seen.method == http::Method::GET {
            let source = sources.lock().pop().unwrap();
            return streamed(200, "text/event-stream", ReceiverStream::new(source));
        }
        posted.try_send(seen.member("/id")).unwrap();
        answer(202, "", "")
    })
    .await;
    let (lines, mut messages, _serving) = bridged(address, None);
    let mut streams = streams.into_iter();
    let (old, new) = (streams.next().unwrap(), streams.next().unwrap());
    let answered = |id: &str| {
        Bytes::from(format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n\n"))
    };
    old.send(begin.clone()).await.unwrap();
    let level = r#""method":"logging/setLevel","params":{"level":"error"}"#;
    for (id, said) in [("1", r#""method":"initialize","params":{}"#), ("2", level)] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":{id},{said}}}"#);
        assert!(lines.send(Line::Whole(line.into())).await);
        assert_eq!(was_posted.recv().await.unwrap().to_string(), id);
        old.send(answered(id)).await.unwrap();
        messages.recv().await.unwrap();
    }
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert!(lines.send(Line::Whole(initialized.into())).await);
    assert_eq!(was_posted.recv().await.unwrap(), serde_json::Value::Null);
    drop(old);
    new.send(begin).await.unwrap();
    assert_eq!(was_posted.recv().await.unwrap(), 1, "it greets");
    let ping = r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#;
    assert!(lines.send(Line::Whole(ping.into())).await);
    new.send(answered("1")).await.unwrap();
    assert_eq!(was_posted.recv().await.unwrap(), serde_json::Value::Null, "it is initialized");
    assert_eq!(was_posted.recv().await.unwrap(), "lockgate-again-0");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(was_posted.try_recv().is_err(), "taken is not done");
    new.send(answered("\"lockgate-again-0\"")).await.unwrap();
    assert_eq!(was_posted.recv().await.unwrap(), 3);
}
