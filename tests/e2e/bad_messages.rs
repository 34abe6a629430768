//! Messages that are wrong, on every client transport: the same answer everywhere, and the next
//! message is served as if nothing had been.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tests::fixture::{self, Era};
use tests::world::World;
use tokio_tungstenite::tungstenite::Message;

use super::ways::{WAYS, Way};

const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;

async fn world() -> anyhow::Result<(World, fixture::Server, String)> {
    let fixture = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "up", "--url", &fixture.url()]).await?;
    let token = world.token("ways").await?;
    Ok((world, fixture, token))
}

/// A message, the status that it gets over HTTP, and the code and id of its error.
type Case = (String, u16, i64, String);

fn cases() -> Vec<Case> {
    let case = |body: &str, status, code, id: &str| (body.to_owned(), status, code, id.to_owned());
    let method =
        |id: &str, method: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method}}}"#);
    let call = |params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
    };
    let long = format!("\"{}\"", "x".repeat(50_000));
    let mut cases = vec![
        case("{nonsense", 400, -32700, "null"),
        case("nonsense", 400, -32700, "null"),
        case(&format!("{PING} x"), 400, -32700, "null"),
        case(r#"{"jsonrpc":"2.0","id":1,"method":"ping""#, 400, -32700, "null"),
        case("5", 400, -32600, "null"),
        case("\"ping\"", 400, -32600, "null"),
        case("{}", 400, -32600, "null"),
        case("[]", 400, -32600, "null"),
        case(&format!("[{PING}]"), 400, -32600, "null"),
        case(r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, 400, -32600, "1"),
        case(r#"{"id":1,"method":"ping"}"#, 400, -32600, "1"),
        case(r#"{"jsonrpc":"2.0","id":1}"#, 400, -32600, "1"),
        case(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, 400, -32600, "null"),
        case(
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","m\u0065thod":"tools/list"}"#,
            400,
            -32600,
            "null",
        ),
        case(&method("1", "5"), 400, -32600, "1"),
        case(&call("[]"), 400, -32600, "1"),
        case(&call("{}"), 200, -32602, "1"),
        case(&call(r#"{"name":5}"#), 200, -32602, "1"),
        case(&call(r#"{"name":"up-echo","name":"up-sleep"}"#), 400, -32600, "1"),
        case(&call(r#"{"name":"up-nothing"}"#), 200, -32602, "1"),
    ];
    for id in ["{}", "[1]", "true", "null", "1.5"] {
        cases.push(case(&method(id, "\"ping\""), 400, -32600, "null"));
    }
    for id in ["99999999999999999999999", "-7", "0", "\"\"", r#""a\u0041\ud83d\ude00""#, &long] {
        cases.push(case(&method(id, "\"tools/such\""), 200, -32601, id));
    }
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_message_has_the_same_answer_on_every_transport() -> anyhow::Result<()> {
    let (world, _fixture, token) = world().await?;
    let mut wrong = Vec::new();
    for name in WAYS {
        let mut way = Way::open(&world, name, &token).await?;
        for (body, status, code, id) in cases() {
            let answer = way.ask(&body).await?;
            // On a stream the answer comes there, unless nothing could be read at all.
            let statuses = [Some(status), if name == "sse" { Some(202) } else { None }];
            let is_told = matches!(way, Way::Http(_) | Way::Rpc(_) | Way::Events(_));
            let is_right = answer.code() == code
                && answer.text.contains(&format!("\"id\":{id},"))
                && (answer.status.is_none() != is_told)
                && (!is_told || statuses.contains(&answer.status));
            if !is_right {
                let body = body.get(..body.len().min(90)).unwrap_or_default();
                let text = answer.text.get(..answer.text.len().min(200)).unwrap_or_default();
                wrong.push(format!("{name}: {body}: {:?} {text}", answer.status));
            }
        }
        assert_eq!(way.ask(PING).await?.json()["result"], json!({}), "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_have_the_same_answer_on_every_transport() -> anyhow::Result<()> {
    let (world, _fixture, token) = world().await?;
    for name in WAYS {
        let mut way = Way::open(&world, name, &token).await?;
        for wrong in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xe4"] {
            let body = [
                br#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"#,
                &b"\""[..],
                wrong,
                b"\"}}",
            ];
            let answer = way.ask(body.concat()).await;
            if name == "ws" {
                // RFC 6455, 8.1: the connection fails, and says so.
                let closed = answer.err().map(|error| error.to_string()).unwrap_or_default();
                assert!(closed.contains("Invalid"), "{closed}");
                way = Way::open(&world, name, &token).await?;
                continue;
            }
            let answer = answer?;
            let (status, what) = if name == "stdio" { (None, "line") } else { (Some(400), "body") };
            assert_eq!(answer.status, status, "{name}: {answer:?}");
            let expected = format!(
                r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":-32700,"message":"the {what} is not UTF-8"}}}}"#
            );
            assert_eq!(answer.text, expected, "{name}");
        }
        assert_eq!(way.ask(PING).await?.json()["result"], json!({}), "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_answers_pings_during_a_call() -> anyhow::Result<()> {
    let (world, _fixture, token) = world().await?;
    let mut way = Way::open(&world, "ws", &token).await?;
    let call = r#"{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"up-sleep","arguments":{"milliseconds":1500}}}"#;
    way.say(call).await?;
    let Way::Socket(socket) = &mut way else { anyhow::bail!("no socket") };
    for payload in ["", "one", "two"] {
        socket.send(Message::Ping(payload.into())).await?;
        let next = tokio::time::timeout(Duration::from_secs(20), socket.next()).await?;
        let Some(Ok(Message::Pong(pong))) = next else { anyhow::bail!("{payload}: {next:?}") };
        assert_eq!(pong, payload);
    }
    let answer: serde_json::Value = serde_json::from_str(&way.hear().await?)?;
    assert!(answer["id"] == 8 && answer["result"].is_object(), "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_what_nobody_asked_changes_nothing_on_any_transport() -> anyhow::Result<()> {
    let (world, _fixture, token) = world().await?;
    for name in WAYS {
        let mut way = Way::open(&world, name, &token).await?;
        for body in [
            r#"{"jsonrpc":"2.0","id":"p","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":77,"error":{"code":1,"message":"no"}}"#,
            r#"{"jsonrpc":"2.0","id":"p","result":{},"error":{}}"#,
        ] {
            let said = way.say(body).await?;
            if let (Way::Http(_) | Way::Rpc(_), Some(refused)) = (&way, said) {
                assert_eq!((refused.status, refused.code()), (Some(400), -32600), "{name}: {body}");
                assert_eq!(refused.json()["id"], json!(null), "{name}: {body}");
            }
        }
        let mut pong = way.ask(PING).await?.json();
        // What is no message at all is answered, under nobody's id.
        while pong["id"].is_null() {
            assert_eq!(pong["error"]["code"], -32600, "{name}: {pong}");
            pong = serde_json::from_str(&way.hear().await?)?;
        }
        assert_eq!(pong["result"], json!({}), "{name}: {pong}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_in_use_is_refused_and_its_call_goes_on() -> anyhow::Result<()> {
    let (world, fixture, token) = world().await?;
    let call = |tool: &str, arguments: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"up-{tool}","arguments":{arguments}}}}}"#
        )
    };
    let fast = call("echo", r#"{"message":"hi"}"#);
    for name in ["mcp", "sse", "ws", "stdio"] {
        let slow = call("sleep", &format!(r#"{{"milliseconds":60000,"tag":"{name}"}}"#));
        let mut way = Way::open(&world, name, &token).await?;
        let (refused, answered) = if let Way::Http(client) = &way {
            let (first, slow) = (client.clone(), slow.clone());
            let first = tokio::spawn(async move { first.post(slow).await });
            fixture.sleeps().until_begun(name).await;
            let refused = client.post(fast.clone()).await?.response()?;
            fixture.sleeps().wake(name);
            (refused, first.await??.response()?)
        } else {
            way.say(&slow).await?;
            fixture.sleeps().until_begun(name).await;
            let refused = way.ask(&fast).await?.json();
            fixture.sleeps().wake(name);
            (refused, serde_json::from_str(&way.hear().await?)?)
        };
        assert_eq!(
            (&refused["id"], &refused["error"]["code"]),
            (&json!(7), &json!(-32600)),
            "{name}: {refused}"
        );
        assert_eq!(answered["id"], 7, "{name}: {answered}");
        assert_eq!(answered["result"]["content"][0]["text"], "was woken", "{name}: {answered}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_refused_on_every_transport() -> anyhow::Result<()> {
    let (world, _fixture, token) = world().await?;
    let large = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":"{}"}}}}"#,
        "x".repeat(17 << 20)
    );
    for name in WAYS {
        let mut way = Way::open(&world, name, &token).await?;
        let answer = way.ask(&large).await;
        match (name, answer) {
            ("ws", answer) => {
                let closed = answer.err().map(|error| error.to_string()).unwrap_or_default();
                assert!(closed.contains("Size"), "{closed}");
                way = Way::open(&world, name, &token).await?;
            }
            // It may be cut while the rest of the body is still being written.
            ("mcp" | "rpc" | "sse", Err(_)) => {}
            (_, answer) => {
                let answer = answer?;
                assert_eq!((answer.code(), &answer.json()["id"]), (-32000, &json!(null)), "{name}");
                assert!(matches!(answer.status, None | Some(413)), "{name}: {answer:?}");
            }
        }
        assert_eq!(way.ask(PING).await?.json()["result"], json!({}), "{name}");
    }
    Ok(())
}
