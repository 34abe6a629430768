//! Whose a server's messages are.

use super::*;
use crate::{
    mcp::Kind,
    upstream::{audience::Stage, pipe::Serial, spawner::Listener},
};

#[tokio::test]
async fn a_request_after_the_answer_is_refused() {
    let health = Arc::new(Health::new(String::new(), Arc::default(), Stage::default()));
    let (connection, mut fed) = Connection::new(health, None);
    let mut call = connection.ticket(Some(Work::Call("t".into())));
    call.send(Bytes::from_static(b"call")).unwrap();
    assert_eq!(fed.recv().await.unwrap(), "call");
    connection.line(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.into());
    connection.line(r#"{"jsonrpc":"2.0","id":"a","method":"roots/list"}"#.into());
    assert!(matches!(call.next().await.unwrap().kind, Kind::Response(_)));
    let told = fed.recv().await.unwrap();
    assert!(told.starts_with(br#"{"jsonrpc":"2.0","id":"a","error":{"code":-32601"#));
    drop(call);
    assert!(fed.try_recv().is_err(), "what was answered is not cancelled");
}

/// A pipe of everybody, or of `owner`, and what its server is told.
fn pipe(owner: Option<SessionKey>) -> (Arc<Connection>, mpsc::Receiver<Bytes>) {
    Connection::new(Arc::new(Health::new(String::new(), Arc::default(), Stage::default())), owner)
}

fn begin(connection: &Arc<Connection>, tool: &str) -> Ticket {
    connection.ticket(Some(Work::Call(tool.into())))
}

fn asks(connection: &Connection, id: &str) {
    connection.line(
        format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"elicitation/create","params":{{}}}}"#)
            .into(),
    );
}

fn answers(connection: &Connection, call: &Ticket) {
    connection.line(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, call.id).into());
}

/// The id of the request that a call hears, if it hears one.
fn heard(call: &mut Ticket) -> Option<String> {
    let message = call.heard.try_recv().ok()?.unwrap();
    Some(String::from_utf8(message.id().unwrap().to_vec()).unwrap())
}

fn is_refused(fed: &mut mpsc::Receiver<Bytes>, id: &str) -> bool {
    let cancel = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"action":"cancel"}}}}"#);
    fed.try_recv().is_ok_and(|told| told == cancel)
}

fn serial(connection: &Connection, id: &str) -> Option<Serial> {
    connection.asked.find(format!("\"{id}\"").as_bytes()).map(|(serial, _)| serial)
}

fn is_of_call(connection: &Connection, id: &str) -> bool {
    let found = connection.asked.find(format!("\"{id}\"").as_bytes());
    found.unwrap().1.is_some()
}

#[tokio::test]
async fn what_has_no_name_is_heard_by_the_only_call_whatever_we_ask_ourselves() {
    let (connection, _fed) = pipe(None);
    let mut ours = connection.ticket(None);
    let mut call = begin(&connection, "t");
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":1}}"#;
    connection.line(log.into());
    assert!(call.heard.try_recv().unwrap().is_ok());
    connection.line(r#"{"jsonrpc":"2.0","id":77,"result":{}}"#.into());
    assert!(matches!(call.heard.try_recv().unwrap(), Err(CallFailure::WrongId)));
    assert!(ours.heard.try_recv().is_err());
    drop(call);
    connection.line(r#"{"jsonrpc":"2.0","id":77,"result":{}}"#.into());
    assert!(matches!(ours.heard.try_recv().unwrap(), Err(CallFailure::WrongId)));
}

#[tokio::test]
async fn several_messages_in_one_are_heard_where_a_session_has_them() {
    let (connection, _fed) = pipe(None);
    let mut call = begin(&connection, "t");
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":1}}"#;
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, call.id);
    let batch = format!("[{answer},{log}]");
    connection.line(batch.clone().into());
    assert!(matches!(call.heard.try_recv().unwrap(), Err(CallFailure::NotJsonRpc(_))));
    connection.take_batches();
    connection.line(batch.into());
    assert_eq!(call.next().await.unwrap().into_body(), log);
    assert_eq!(call.next().await.unwrap().into_body(), answer);
    let mut call = begin(&connection, "t");
    // Its own words, which begin as a batch does.
    connection.line("[INFO] handling a request".into());
    assert!(call.heard.try_recv().is_err());
    connection.line(r#"[{"jsonrpc":7}]"#.into());
    assert!(matches!(call.heard.try_recv().unwrap(), Err(CallFailure::NotJsonRpc(_))));

    // What cannot be read may be the answer to either of two.
    let mut other = begin(&connection, "t");
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, call.id);
    connection.line(format!(r#"[{answer},{{"jsonrpc":7}}]"#).into());
    assert_eq!(call.next().await.unwrap().into_body(), answer);
    assert!(other.heard.try_recv().is_err(), "it is still being worked on");
}

#[tokio::test]
async fn what_is_refused_is_not_remembered() {
    let (connection, mut fed) = pipe(None);
    let mut call = begin(&connection, "t");
    asks(&connection, "a");
    let asked = call.heard.try_recv().unwrap().unwrap();
    connection.refuse_asked(&asked);
    assert!(is_refused(&mut fed, "a"));
    assert!(serial(&connection, "a").is_none());
}

#[tokio::test]
async fn who_is_being_asked_is_not_asked_what_may_be_meant_for_others() {
    let (connection, mut fed) = pipe(None);
    let mut alice = begin(&connection, "ask");
    asks(&connection, "a");
    assert_eq!(heard(&mut alice).unwrap(), r#""a""#);
    let mut bob = begin(&connection, "other");
    asks(&connection, "b");
    assert!(is_refused(&mut fed, "b"));
    assert!(heard(&mut alice).is_none() && heard(&mut bob).is_none());
    connection.answer(serial(&connection, "a"), "answer".into());
    assert_eq!(fed.try_recv().unwrap(), "answer");
    // Bob's tool has never asked, but never was quiet either.
    asks(&connection, "c");
    assert!(is_refused(&mut fed, "c"));
    answers(&connection, &bob);
    // What was refused may have been his: now it is found out.
    let turn = connection.turn_of(&Work::Call("other".into())).await;
    let mut again = begin(&connection, "other");
    answers(&connection, &alice);
    asks(&connection, "d");
    assert_eq!(heard(&mut again).unwrap(), r#""d""#);
    assert!(turn.is_some());
}

#[tokio::test]
async fn a_quiet_tool_does_not_keep_others_from_being_asked() {
    let (connection, _fed) = pipe(None);
    let quiet = begin(&connection, "quiet");
    answers(&connection, &quiet);
    let _busy = begin(&connection, "quiet");
    let mut alice = begin(&connection, "ask");
    asks(&connection, "a");
    assert_eq!(heard(&mut alice).unwrap(), r#""a""#);
}

#[tokio::test]
async fn tools_of_a_busy_server_are_found_to_ask() {
    let (connection, mut fed) = pipe(None);
    let calls = ["one", "two"].map(|tool| begin(&connection, tool));
    asks(&connection, "a");
    assert!(is_refused(&mut fed, "a"));
    for call in &calls {
        answers(&connection, call);
    }
    let _turn = connection.turn_of(&Work::Call("one".into())).await.unwrap();
    let second = std::time::Duration::from_millis(20);
    let two = Work::Call("two".into());
    assert!(tokio::time::timeout(second, connection.turn_of(&two)).await.is_err());
}

#[tokio::test]
async fn the_only_client_is_asked_whatever_runs_and_by_the_call_that_is_likely() {
    let (connection, mut fed) = pipe(Some(SessionKey::Client([1; 16])));
    let mut slow = begin(&connection, "slow");
    asks(&connection, "a");
    assert_eq!(heard(&mut slow).unwrap(), r#""a""#);
    assert!(is_of_call(&connection, "a"));
    let mut quick = begin(&connection, "quick");
    asks(&connection, "b");
    assert_eq!(heard(&mut slow).unwrap(), r#""b""#);
    assert!(!is_of_call(&connection, "b") && heard(&mut quick).is_none());
    assert!(connection.turn_of(&Work::Call("slow".into())).await.is_none());
    // Taken back, it is found wherever it was heard.
    let cancelled = |id: &str| {
        let cancelled =
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"ID"}}"#;
        connection.line(cancelled.replace("ID", id).into());
    };
    cancelled("b");
    assert!(slow.heard.try_recv().is_err() && quick.heard.try_recv().is_err());
    cancelled("a");
    assert!(slow.heard.try_recv().is_ok());
    assert!(fed.try_recv().is_err());
}

#[tokio::test]
async fn what_was_given_up_is_not_answered_again() {
    let (connection, mut fed) = pipe(None);
    let call = begin(&connection, "ask");
    asks(&connection, "a");
    let asked = connection.asked_since(call.id).unwrap();
    let late = serial(&connection, "a");
    connection.expire(call.id, asked);
    assert!(is_refused(&mut fed, "a") && connection.asked_since(call.id).is_none());
    // The server may use its id again.
    asks(&connection, "a");
    connection.answer(late, "late".into());
    assert!(fed.try_recv().is_err());
    connection.answer(serial(&connection, "a"), "answer".into());
    assert_eq!(fed.try_recv().unwrap(), "answer");
    assert!(fed.try_recv().is_err());
}

#[tokio::test]
async fn what_is_asked_behind_something_unreadable_is_refused_with_the_call() {
    let (connection, mut fed) = pipe(None);
    let mut call = begin(&connection, "t");
    for _ in 0..2 {
        connection.line(r#"{"jsonrpc":"2.0","id":1,"res"#.into());
    }
    asks(&connection, "a");
    assert!(matches!(call.next().await, Err(CallFailure::NotJsonRpc(_))));
    drop(call);
    assert!(is_refused(&mut fed, "a"));
    assert!(serial(&connection, "a").is_none());
}
