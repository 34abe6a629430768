//! Streams that are read, left, resumed, replaced and ended.

use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;

use std::task::{Context, Poll, Waker};

use super::{
    outlet::{BREAK_MAX, Event, FINISHED_KEPT, GENERAL_KEPT, KEPT_BYTES_MAX, KEPT_MAX},
    *,
};
use crate::{
    mcp::{Capabilities, Version, message::parse},
    sessions::Sessions,
    upstream::testing::question,
};

fn live() -> Arc<Live> {
    Sessions::default().enter([1; 16], 0).unwrap()
}

fn asks() -> Asks {
    let capabilities = Capabilities::of(&["roots"]);
    let (patience, version) = (Duration::from_secs(9), Version::V2025_11_25);
    let (hears, askers) = Default::default();
    Asks { capabilities, patience, version, hears, askers }
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn shown(id: EventId) -> String {
    let mut out = BytesMut::new();
    id.write(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

/// What can be read now: ids and messages; `!` at the end, `?` if somebody else reads.
fn now(reader: &mut Reader) -> Vec<String> {
    let cx = Context::from_waker(Waker::noop());
    let mut out = Vec::new();
    loop {
        match reader.poll_next(&cx) {
            Poll::Ready(Some(Ok(Event { id, message }))) => {
                out.push(format!("{} {}", shown(id), String::from_utf8_lossy(&message)));
            }
            Poll::Ready(Some(Err(end))) => {
                out.push(format!("! {end:?}"));
                return out;
            }
            Poll::Ready(None) => {
                out.push("?".to_owned());
                return out;
            }
            Poll::Pending => return out,
        }
    }
}

#[tokio::test]
async fn each_message_goes_to_exactly_one_stream_that_is_read() {
    let live = live();
    assert!(!live.tell(text("nobody listens")));
    let mut one = live.attach(asks());
    let mut two = live.attach(asks());
    assert!(live.tell(text("a")));
    assert_eq!(now(&mut one), Vec::<String>::new());
    assert_eq!(now(&mut two), ["g2:1 a"]);
    drop(two);
    assert!(live.tell(text("b")));
    assert_eq!(now(&mut one), ["g1:1 b"]);
}

#[tokio::test]
async fn a_broken_stream_goes_on_after_the_last_event_seen() {
    let live = live();
    let mut first = live.attach(asks());
    for message in ["a", "b"] {
        live.tell(text(message));
    }
    assert_eq!(now(&mut first), ["g1:1 a", "g1:2 b"]);
    // The old connection is not known to be dead yet.
    let mut again = live.resume(EventId::read(b"g1:1").unwrap()).unwrap();
    assert_eq!(now(&mut first), ["?"]);
    drop(first);
    live.tell(text("c"));
    assert_eq!(now(&mut again), ["g1:2 b", "g1:3 c"]);
    drop(again);
    // Nobody reads, but somebody may come back.
    assert!(live.tell(text("d")));
    let mut again = live.resume(EventId::read(b"g1:3").unwrap()).unwrap();
    assert_eq!(now(&mut again), ["g1:4 d"]);
    assert!(live.resume(EventId::read(b"c1:3").unwrap()).is_none());
    assert!(live.resume(EventId::read(b"g9:0").unwrap()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_stream_broke_still_listens_for_a_moment() {
    let live = live();
    assert!(!live.is_listening());
    let general = live.attach(asks());
    tokio::time::sleep(2 * BREAK_MAX).await;
    assert!(live.is_listening());
    drop(general);
    assert!(live.is_listening());
    tokio::time::sleep(BREAK_MAX).await;
    assert!(!live.is_listening());
}

#[tokio::test(start_paused = true)]
async fn streams_are_kept_for_a_while_and_calls_until_they_end() {
    let live = live();
    let general = live.attach(asks());
    let call = live.attach_call();
    let outlet = Arc::clone(call.outlet());
    drop((general, call));
    outlet.push(text("progress"));
    tokio::time::sleep(GENERAL_KEPT).await;
    assert!(!live.tell(text("nobody came back")));
    let mut call = live.resume(EventId::read(b"c2:0").unwrap()).unwrap();
    outlet.push(text("response"));
    outlet.end(End::Done);
    assert_eq!(now(&mut call), ["c2:1 progress", "c2:2 response", "! Done"]);
    drop(call);
    let mut again = live.resume(EventId::read(b"c2:1").unwrap()).unwrap();
    assert_eq!(now(&mut again), ["c2:2 response", "! Done"]);
    drop(again);
    tokio::time::sleep(FINISHED_KEPT).await;
    assert!(live.resume(EventId::read(b"c2:1").unwrap()).is_none());
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_just_after_the_end_of_a_long_call_finds_it() {
    let live = live();
    let call = live.attach_call();
    let outlet = Arc::clone(call.outlet());
    drop(call);
    tokio::time::sleep(10 * FINISHED_KEPT).await;
    outlet.push(text("response"));
    outlet.end(End::Done);
    tokio::time::sleep(FINISHED_KEPT / 2).await;
    let mut call = live.resume(EventId::read(b"c1:0").unwrap()).unwrap();
    assert_eq!(now(&mut call), ["c1:1 response", "! Done"]);
}

#[tokio::test]
async fn streams_that_were_left_do_not_pile_up() {
    let live = live();
    for _ in 0..10 * READERS_MAX {
        drop(live.attach(asks()));
    }
    assert!(live.channel.lock().outlets.len() <= READERS_MAX + 1);
    let newest = format!("g{}:0", 10 * READERS_MAX);
    assert!(live.resume(EventId::read(newest.as_bytes()).unwrap()).is_some());
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_the_newest_survives() {
    let live = live();
    let mut reader = live.attach(asks());
    for _ in 0..KEPT_MAX + 2 {
        live.tell(text("x"));
    }
    let events = now(&mut reader);
    assert_eq!((events.len(), &*events[0]), (KEPT_MAX, "g1:3 x"));
    let call = live.attach_call();
    call.outlet().push(text("small"));
    call.outlet().push(vec![b'x'; KEPT_BYTES_MAX + 1].into());
    assert_eq!(call.outlet().state.lock().kept.len(), 1);
    for _ in 0..3 * FINISHED_MAX {
        live.attach_call().outlet().end(End::Done);
    }
    assert!(live.channel.lock().outlets.len() <= FINISHED_MAX + 3);
}

#[tokio::test]
async fn one_stream_too_many_ends_the_oldest() {
    let live = live();
    let mut readers: Vec<_> = (0..=READERS_MAX).map(|_| live.attach(asks())).collect();
    assert_eq!(now(&mut readers[0]), ["! Done"]);
    assert_eq!(now(&mut readers[1]), Vec::<String>::new());
}

#[tokio::test]
async fn the_end_of_the_session_and_of_the_proxy_end_streams() {
    let sessions = Sessions::default();
    let live = sessions.enter([1; 16], 0).unwrap();
    let (mut general, mut call) = (live.attach(asks()), live.attach_call());
    sessions.leave();
    assert_eq!(now(&mut general), ["! Leaving"]);
    assert_eq!(now(&mut call), Vec::<String>::new());
    let mut late = live.attach(asks());
    assert_eq!(now(&mut late), ["! Leaving"]);
    sessions.end([1; 16], 9);
    assert_eq!(now(&mut call), ["! Done"]);
    assert_eq!(now(&mut live.attach(asks())), ["! Done"]);
}

#[tokio::test]
async fn a_listening_client_is_asked_outside_of_calls_too() {
    let live = live();
    let ask = || question("1", r#""method":"roots/list""#);
    let (unheard, mut back) = ask();
    live.ask_outside(unheard);
    assert!(back.recv().await.is_some());
    let mut reader = live.attach(asks());
    let (heard, mut back) = ask();
    live.ask_outside(heard);
    let request = parse(reader.next().await.unwrap()).unwrap();
    let id = String::from_utf8_lossy(request.id().unwrap());
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"roots":[]}}}}"#);
    assert!(live.answer(&parse(answer.into()).unwrap()));
    assert_eq!(back.recv().await.unwrap(), r#"{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}"#);
}

proptest! {
    #[test]
    fn ids_survive(general in any::<bool>(), stream in any::<u32>(), number in any::<u64>()) {
        let kind = if general { Kind::General } else { Kind::Call };
        let id = EventId { kind, stream, number };
        prop_assert_eq!(EventId::read(shown(id).as_bytes()), Some(id));
    }

    #[test]
    fn foreign_ids_are_none_of_ours(text in "[gc0-9:a]{0,8}") {
        if let Some(id) = EventId::read(text.as_bytes()) {
            prop_assert!(EventId::read(shown(id).as_bytes()).is_some());
        }
    }
}
