//! Questions of calls that end, are silent or have no stream.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::{
    limit::{Limiter, Limits},
    mcp::{Capabilities, elicitation::Askers, extension::Hears, message::parse},
    sessions::{Live, Sessions},
    upstream::testing::question,
};

const SAMPLING: &str = r#""method":"sampling/createMessage""#;
const ANSWER: &[u8] = br#"{"jsonrpc":"2.0","id":7,"result":{}}"#;

fn asks() -> Asks {
    Asks {
        capabilities: Capabilities::of(&["sampling"]),
        patience: Duration::from_secs(9),
        version: Version::V2025_11_25,
        hears: Hears::Core,
        askers: Askers::One,
    }
}

/// A call of a session, and what its upstream says with.
fn call() -> (Exchange, mpsc::Sender<Heard>, Arc<Live>) {
    let live = Sessions::default().enter([1; 16], 0).unwrap();
    let ticket = live.begin(Bytes::from_static(b"7"), 9).unwrap();
    let drain = Drain::new(Duration::ZERO, Duration::ZERO);
    let owner = Owner::Session { ticket, asks: asks(), drain };
    let permit = Limiter::new(&Limits::default()).enter(None).unwrap();
    let (say, said) = mpsc::channel(9);
    let events: Heards = Box::pin(ReceiverStream::new(said));
    let id = Bytes::from_static(b"7");
    (Exchange::resumed(events, (id, owner), Operation::none(), permit), say, live)
}

/// The next message, which wakes who waits for it.
async fn next(exchange: &mut Exchange) -> Option<String> {
    let since = tokio::time::Instant::now();
    let event = tokio::time::timeout(Duration::from_secs(99), exchange.next()).await.unwrap();
    // The end of the patience above wakes it, not that of ours.
    assert!(since.elapsed() < Duration::from_secs(10), "nobody woke it");
    Some(match event? {
        Event::Message(message) => String::from_utf8(message.to_vec()).unwrap(),
        Event::Response(response) => {
            assert_eq!(response.into_bytes(), ANSWER);
            "the response".to_owned()
        }
    })
}

/// What the client is told outside of calls.
async fn heard(reader: &mut Reader) -> String {
    let told = tokio::time::timeout(Duration::from_secs(99), reader.next()).await;
    String::from_utf8(told.unwrap().unwrap().to_vec()).unwrap()
}

/// What a client is told of a request that nobody waits for any more.
#[track_caller]
fn assert_taken_back(told: &str, request: &str) {
    let request = parse(request.to_owned().into()).unwrap();
    let id = format!(r#""requestId":{}}}"#, String::from_utf8_lossy(request.id().unwrap()));
    assert!(told.contains("notifications/cancelled") && told.contains(&id), "{told}");
}

async fn answers(say: &mpsc::Sender<Heard>) {
    say.send(Ok(upstream::Event::Response(Bytes::from_static(ANSWER).into()))).await.unwrap();
}

async fn asks_for(say: &mpsc::Sender<Heard>, question: Question) {
    say.send(Ok(upstream::Event::Request(question))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn questions_that_are_open_are_taken_back_before_the_answer() {
    let (mut exchange, say, _live) = call();
    let mut requests = Vec::new();
    for id in ["1", "2"] {
        asks_for(&say, question(id, SAMPLING).0).await;
        requests.push(next(&mut exchange).await.unwrap());
    }
    answers(&say).await;
    let mut told = [next(&mut exchange).await.unwrap(), next(&mut exchange).await.unwrap()];
    // They are told in no order, and numbered in that of the requests.
    told.sort_unstable();
    assert_taken_back(&told[0], &requests[0]);
    assert_taken_back(&told[1], &requests[1]);
    assert_eq!(next(&mut exchange).await.unwrap(), "the response");
    assert_eq!(next(&mut exchange).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_expires_is_taken_back_while_the_upstream_is_silent() {
    let (mut exchange, say, _live) = call();
    let (asked, mut back) = question("1", SAMPLING);
    asks_for(&say, asked).await;
    let request = next(&mut exchange).await.unwrap();
    assert_taken_back(&next(&mut exchange).await.unwrap(), &request);
    assert!(back.recv().await.is_some(), "the upstream knows, too");
    answers(&say).await;
    assert_eq!(next(&mut exchange).await.unwrap(), "the response");
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_stream_of_the_call_is_told_on_another() {
    let (mut exchange, say, live) = call();
    let mut reader = live.attach(asks());
    let response = tokio::spawn(async move { exchange.response().await });
    for how in ["it expires", "the call ends"] {
        asks_for(&say, question("1", SAMPLING).0).await;
        let request = reader.next().await.unwrap();
        if how == "the call ends" {
            answers(&say).await;
        }
        assert_taken_back(&heard(&mut reader).await, &String::from_utf8_lossy(&request));
    }
    assert_eq!(response.await.unwrap().unwrap().into_bytes(), ANSWER);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_on_the_stream_of_a_call_after_its_response() {
    let (mut exchange, say, live) = call();
    let mut reader = live.attach(asks());
    asks_for(&say, question("1", SAMPLING).0.beside()).await;
    let request = next(&mut exchange).await.unwrap();
    answers(&say).await;
    assert_eq!(next(&mut exchange).await.unwrap(), "the response");
    // It belongs to no call, so it was not taken back until now.
    assert_taken_back(&heard(&mut reader).await, &request);
    assert_eq!(next(&mut exchange).await, None);
}
