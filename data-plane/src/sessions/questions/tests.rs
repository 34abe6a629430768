//! Who is asked, who may answer, and what becomes of what nobody waits for.

use super::*;
use crate::{mcp::message::parse, sessions::Sessions, upstream::testing::question};

const SAMPLING: &str =
    r#""method":"sampling/createMessage","params":{"x":1.0,"_meta":{"progressToken":"t"}}"#;

fn asks(names: &[&str]) -> Asks {
    let capabilities = Capabilities::of(names);
    let version = Version::V2025_11_25;
    let (hears, askers) = (Hears::Core, Askers::One);
    Asks { capabilities, patience: Duration::from_secs(9), version, hears, askers }
}

fn text(bytes: Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn id_of(request: &Bytes) -> u64 {
    number(parse(request.clone()).unwrap().id().unwrap()).unwrap()
}

fn live() -> Arc<Live> {
    Sessions::default().enter([1; 16], 0).unwrap()
}

#[tokio::test]
async fn an_answer_finds_who_asked_and_only_once() {
    let live = live();
    let (asked, mut back) = question(r#""a\u0041""#, SAMPLING);
    let request = live.ask(asked, None, asks(&["sampling"])).unwrap();
    let id = id_of(&request);
    assert_eq!(
        text(request),
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"sampling/createMessage","params":{{"x":1.0,"_meta":{{"progressToken":{id}}}}}}}"#
        )
    );
    let progress = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":1.0}}}}"#
    );
    live.progress(&parse(progress.clone().into()).unwrap());
    let expected = progress.replace(&format!(r#"Token":{id}"#), r#"Token":"t""#);
    assert_eq!(text(back.recv().await.unwrap()), expected);
    let answer = format!(r#"{{"jsonrpc":"2.0","result":{{"v":1e2}},"id":{id}}}"#);
    let answer = parse(answer.into()).unwrap();
    assert!(live.answer(&answer));
    let expected = r#"{"jsonrpc":"2.0","result":{"v":1e2},"id":"a\u0041"}"#;
    assert_eq!(text(back.recv().await.unwrap()), expected);
    assert!(!live.answer(&answer));
    assert!(back.try_recv().is_err());
}

#[tokio::test]
async fn who_cannot_be_asked_is_not_and_the_upstream_knows() {
    let live = live();
    for (method, refusal) in [
        (SAMPLING, "-32601"),
        (r#""method":"elicitation/create","params":{}"#, r#""result":{"action":"cancel"}"#),
        (r#""method":"roots/list""#, "-32601"),
        (r#""method":"tools/call""#, "-32601"),
    ] {
        let (asked, mut back) = question("7", method);
        assert!(live.ask(asked, None, asks(&["sampling.tools"])).is_none());
        let told = text(back.recv().await.unwrap());
        assert!(told.contains(refusal) && told.contains(r#""id":7"#), "{told}");
    }
}

#[tokio::test]
async fn a_user_is_told_who_asks_and_led_nowhere_bad() {
    let page = |url: &str, who: &str| {
        format!(
            r#""method":"elicitation/create","params":{{"mode":"url","message":"{who}Go","url":"{url}"}}"#
        )
    };
    let able = asks(&["elicitation", "elicitation.url"]);
    for (askers, who) in [(Askers::One, ""), (Askers::Several, "[up] ")] {
        let (asked, _back) = question("7", &page("https://a.example/", ""));
        let told = text(live().ask(asked, None, Asks { askers, ..able }).unwrap());
        assert!(told.ends_with(&format!("{}}}", page("https://a.example/", who))), "{told}");
    }
    let (asked, mut back) = question("7", &page("http://a.example/", ""));
    assert!(live().ask(asked, None, able).is_none());
    let told = text(back.recv().await.unwrap());
    assert!(told.contains(r#""id":7"#) && told.contains(r#"{"action":"cancel"}"#), "{told}");
}

#[tokio::test]
async fn what_an_extension_asks_is_for_those_who_know_some() {
    let knows = Asks { hears: Hears::Extensions, ..asks(&[]) };
    for (method, is_asked) in [("vendor/ask", true), ("tasks/x", false), ("rpc.x", false)] {
        let (asked, mut back) = question("7", &format!(r#""method":"{method}""#));
        assert_eq!(live().ask(asked, None, knows).is_some(), is_asked, "{method}");
        let told = text(back.recv().await.unwrap());
        // A session that is gone answers nothing either.
        assert!(told.contains("-32601"), "{told}");
    }
    let (asked, _back) = question("7", r#""method":"vendor/ask""#);
    assert!(live().ask(asked, None, asks(&["sampling"])).is_none());
}

#[tokio::test]
async fn the_end_of_a_call_ends_its_questions_and_no_others() {
    let live = live();
    let call = live.begin(Bytes::from_static(b"1"), 9).unwrap();
    let (of_call, mut told) = question("1", SAMPLING);
    let (other, mut untold) = question("1", SAMPLING);
    let asks = asks(&["sampling"]);
    let asked = id_of(&live.ask(of_call, Some(&call), asks).unwrap());
    assert!(live.ask(other, None, asks).is_some());
    // Its client's dialog is to be closed.
    let [told_client] = call.take_back().try_into().unwrap();
    let told_client = text(told_client);
    assert!(told_client.contains("notifications/cancelled"), "{told_client}");
    assert!(told_client.contains(&format!(r#""requestId":{asked}"#)), "{told_client}");
    drop(call);
    assert!(text(told.recv().await.unwrap()).contains("-32601"));
    assert!(untold.try_recv().is_err());
    live.end();
    assert!(text(untold.recv().await.unwrap()).contains("-32601"));
    let (late, _back) = question("2", SAMPLING);
    assert!(live.ask(late, None, asks).is_none());
}

#[tokio::test]
async fn what_only_travelled_with_a_call_outlives_it() {
    let live = live();
    let call = live.begin(Bytes::from_static(b"1"), 9).unwrap();
    let (asked, mut back) = question("5", SAMPLING);
    let request = live.ask(asked.beside(), Some(&call), asks(&["sampling"])).unwrap();
    drop(call);
    assert!(back.try_recv().is_err());
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, id_of(&request));
    assert!(live.answer(&parse(answer.into()).unwrap()));
    assert!(back.recv().await.is_some());
}

#[tokio::test]
async fn a_withdrawn_question_is_cancelled_at_the_client_and_not_refused() {
    let live = live();
    let call = live.begin(Bytes::from_static(b"1"), 9).unwrap();
    let (asked, mut back) = question("5", SAMPLING);
    let request = live.ask(asked, Some(&call), asks(&["sampling"])).unwrap();
    assert!(live.withdraw(b"6", &call).is_none());
    let told = text(live.withdraw(b"5", &call).unwrap());
    assert!(told.contains(&format!(r#""requestId":{}"#, id_of(&request))), "{told}");
    assert!(back.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_thinks_too_long_has_not_answered() {
    let live = live();
    let mut reader = live.attach(asks(&["sampling"]));
    let (asked, mut back) = question("5", SAMPLING);
    let request = live.ask(asked, None, asks(&["sampling"])).unwrap();
    assert!(text(back.recv().await.unwrap()).contains("did not answer in time"));
    let id = id_of(&request);
    let told = text(reader.next().await.unwrap());
    assert!(told.contains(&format!(r#""requestId":{id}"#)), "{told}");
    let late = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
    assert!(!live.answer(&parse(late.into()).unwrap()));
    // What was asked during a call is taken back where it was asked.
    let call = live.begin(Bytes::from_static(b"1"), 9).unwrap();
    let (asked, mut back) = question("6", SAMPLING);
    let request = live.ask(asked, Some(&call), asks(&["sampling"])).unwrap();
    assert!(call.taken_back().is_none());
    assert!(text(back.recv().await.unwrap()).contains("did not answer in time"));
    tokio::task::yield_now().await;
    let told = text(call.taken_back().unwrap());
    assert!(told.contains(&format!(r#""requestId":{}"#, id_of(&request))), "{told}");
    assert!(call.take_back().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_question_that_travelled_with_a_call_is_told_where_it_was_asked() {
    let live = live();
    let call = live.begin(Bytes::from_static(b"1"), 9).unwrap();
    let ask = |id: &str| {
        let (asked, back) = question(id, SAMPLING);
        let request = live.ask(asked.beside(), Some(&call), asks(&["sampling"])).unwrap();
        (format!(r#""requestId":{}"#, id_of(&request)), back)
    };
    // Its client reads nothing but the call.
    let (withdrawn, _back) = ask("5");
    live.withdraw_outside(b"5");
    let told = text(call.taken_back().unwrap());
    assert!(told.contains(&withdrawn), "{told}");
    let (expired, mut back) = ask("6");
    assert!(text(back.recv().await.unwrap()).contains("did not answer in time"));
    tokio::task::yield_now().await;
    let told = text(call.taken_back().unwrap());
    assert!(told.contains(&expired), "{told}");
    // After the call there is another stream, or none.
    let mut reader = live.attach(asks(&["sampling"]));
    let (withdrawn, _back) = ask("7");
    let (expired, mut back) = ask("8");
    assert!(call.take_back().is_empty(), "they do not end with it");
    live.withdraw_outside(b"7");
    let told = text(reader.next().await.unwrap());
    assert!(told.contains(&withdrawn), "{told}");
    drop(call);
    assert!(text(back.recv().await.unwrap()).contains("did not answer in time"));
    let told = text(reader.next().await.unwrap());
    assert!(told.contains(&expired), "{told}");
}

#[tokio::test]
async fn a_client_owes_only_so_many_answers() {
    let live = live();
    let mut backs = Vec::new();
    for _ in 0..PENDING_MAX {
        let (asked, back) = question("5", SAMPLING);
        assert!(live.ask(asked, None, asks(&["sampling"])).is_some());
        backs.push(back);
    }
    let (asked, mut back) = question("5", SAMPLING);
    assert!(live.ask(asked, None, asks(&["sampling"])).is_none());
    assert!(back.recv().await.is_some());
}
