//! What listeners hear, and that they hear each thing once.

use proto::resource::Resource;

use super::*;
use crate::{
    mcp::message::parse,
    snapshot::table::tests::{compile, sample, tool},
    upstream::{
        Audience, Speaker,
        wishes::{Scope, Wishes},
    },
};

fn owner(subject: &str) -> SessionKey {
    SessionKey::Principal { subject: subject.into(), capabilities: 0 }
}

fn subscription(upstream_id: &str, uri: &str) -> Subscription {
    let shown = Bytes::from(format!("\"{uri}\""));
    Subscription { upstream_id: upstream_id.into(), uri: uri.into(), shown }
}

fn wanted(topics: &[Topic], subscriptions: Vec<Subscription>) -> Wanted {
    Wanted {
        id: Bytes::from_static(b"\"l\""),
        owner: owner("ann"),
        capabilities: Capabilities::NONE,
        topics: topics.iter().copied().collect(),
        subscriptions,
    }
}

fn listen(sessions: &Sessions, wanted: Wanted, honoured: Vec<Subscription>) -> Hearing {
    let table = compile(&sample()).unwrap();
    let wishes = Wishes::default();
    let wish = |it: Subscription| {
        let wish =
            wishes.wish(&it.upstream_id, (Scope::All, Capabilities::NONE.into(), "ann"), &it.uri);
        (it, wish)
    };
    let honoured: Vec<_> = honoured.into_iter().map(wish).collect();
    sessions.listen(table.everything(), wanted, Box::pin(std::future::ready(honoured)))
}

/// What has been told, without waiting.
fn told(hearing: &mut Hearing) -> Vec<String> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut told = Vec::new();
    while let Poll::Ready(Some(heard)) = hearing.poll_next(&mut cx) {
        let (Heard::Notice(message) | Heard::Over(message)) = heard;
        told.push(String::from_utf8(message.to_vec()).unwrap());
    }
    told
}

fn updated(uri: &str) -> Message {
    let body = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"{uri}"}}}}"#
    );
    parse(body.into()).unwrap()
}

#[test]
fn only_topics_that_were_wanted_are_told_and_each_once() {
    let sessions = Sessions::default();
    let mut hearing = listen(&sessions, wanted(&[Topic::Tools], vec![]), vec![]);
    let mut other = listen(&sessions, wanted(&[Topic::Prompts], vec![]), vec![]);
    assert!(told(&mut hearing)[0].ends_with(r#""l"},"notifications":{"toolsListChanged":true}}}"#));
    assert_eq!(told(&mut other).len(), 1);
    let mut resources = sample();
    for name in ["another", "third"] {
        resources.push(Resource::Tool(tool("a", name)));
        sessions.announce(&compile(&resources).unwrap());
        sessions.announce(&compile(&resources).unwrap());
    }
    let heard = told(&mut hearing);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].contains("tools/list_changed"), "{heard:?}");
    assert_eq!(told(&mut other), Vec::<String>::new());
}

#[test]
fn updates_are_told_after_the_acknowledgement_and_of_what_is_honoured_alone() {
    let sessions = Sessions::default();
    let both = vec![subscription("u1", "a://1"), subscription("u1", "b://1")];
    let honoured = vec![subscription("u1", "a://1")];
    let mut hearing = listen(&sessions, wanted(&[], both), honoured);
    for uri in ["a://1", "b://1"] {
        sessions.updated("u1", &updated(uri));
    }
    let heard = told(&mut hearing);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].contains(r#""notifications":{"resourceSubscriptions":["a://1"]}"#));
    for (upstream, uri) in [("u1", "a://1"), ("u1", "b://1"), ("u2", "a://1"), ("u1", "a://1")] {
        sessions.updated(upstream, &updated(uri));
    }
    let heard = told(&mut hearing);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].contains(r#""io.modelcontextprotocol/subscriptionId":"l""#), "{heard:?}");
    assert!(heard[0].contains(r#""uri":"a://1""#), "{heard:?}");
}

#[test]
fn what_a_principals_own_session_hears_is_for_it_alone() {
    let sessions = Sessions::default();
    let a = || vec![subscription("u1", "a://1")];
    let mut ann = listen(&sessions, wanted(&[], a()), a());
    let mut bob = listen(&sessions, Wanted { owner: owner("bob"), ..wanted(&[], a()) }, a());
    for hearing in [&mut ann, &mut bob] {
        told(hearing);
    }
    use crate::{mcp::Notice, upstream::Said};
    sessions.hear(
        &owner("ann"),
        Speaker { upstream_id: "u1", name: "up" },
        Said::Notice(Notice::ResourceUpdated, Box::new(updated("a://1/x"))),
    );
    assert!(told(&mut ann)[0].contains(r#""uri":"a://1/x""#));
    assert_eq!(told(&mut bob), Vec::<String>::new());
}

#[test]
fn a_subscription_ends_with_a_response_when_the_proxy_leaves_or_the_endpoint_is_gone() {
    let sessions = Sessions::default();
    let mut hearing = listen(&sessions, wanted(&[], vec![]), vec![]);
    assert_eq!(sessions.listeners.len(), 1);
    sessions.leave();
    let mut late = listen(&sessions, wanted(&[], vec![]), vec![]);
    for hearing in [&mut hearing, &mut late] {
        let heard = told(hearing);
        assert_eq!(heard.len(), 2, "{heard:?}");
        assert!(heard[1].starts_with(r#"{"jsonrpc":"2.0","id":"l","result":{"#), "{heard:?}");
        assert_eq!(told(hearing), Vec::<String>::new());
    }
    drop((hearing, late));
    assert_eq!(sessions.listeners.len(), 0);
}

#[test]
fn a_client_that_does_not_read_costs_a_bounded_queue() {
    let sessions = Sessions::default();
    let all = || vec![subscription("u1", "a://")];
    let mut hearing = listen(&sessions, wanted(&[], all()), all());
    told(&mut hearing);
    for number in 0..TOLD_MAX + 10 {
        sessions.updated("u1", &updated(&format!("a://{number}")));
    }
    let heard = told(&mut hearing);
    assert_eq!(heard.len(), TOLD_MAX);
    assert!(heard[0].contains("a://10\""), "{}", heard[0]);
}
