//! Legacy clients of modern upstreams: what those want becomes requests on the client's streams.

use anyhow::Context;
use serde_json::{Value, json};
use tests::client::LEGACY;
use tests::fixture::{self, Era};
use tests::raw_server::RawServer;
use tests::talk::Events;
use tests::world::{World, program};

/// A world with the modern fixture behind it on both transports.
async fn two_ways() -> anyhow::Result<(World, fixture::Server)> {
    let server = fixture::start(Era::Modern, "127.0.0.1:0").await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "http", "--url", &server.url()]).await?;
    let fixture = program("fixture")?.display().to_string();
    let command = ["create", "upstream", "pipe", "--command", &fixture, "--arg", "--stdio"];
    world.ok(&[&command[..], &["--arg", "--era", "--arg", "modern"]].concat()).await?;
    Ok((world, server))
}

fn text(response: &Value) -> &str {
    response.pointer("/result/content/0/text").and_then(Value::as_str).unwrap_or_default()
}

fn able() -> Value {
    json!({"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {"listChanged": true}})
}

/// What a user and a model say to whatever is asked.
fn answer(question: &Value) -> Value {
    match question["method"].as_str() {
        Some("sampling/createMessage") => {
            json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "Paris"}})
        }
        Some("roots/list") => json!({"roots": [{"uri": "file:///home/ann"}]}),
        _ => json!({"action": "accept", "content": {"username": "ann", "name": "ann", "ok": true}}),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_modern_upstream_wants_is_asked_of_a_legacy_client() -> anyhow::Result<()> {
    let (world, _fixture) = two_ways().await?;
    let mut client = world.client("/mcp").await?;
    for version in ["2025-06-18", LEGACY] {
        client.initialize_with(version, able()).await?;
        for upstream in ["http", "pipe"] {
            for (tool, asked, said) in [
                ("test_sampling", 1, "LLM response: Paris"),
                ("test_elicitation", 1, "action=accept"),
                ("test_list_roots", 1, "roots: file:///home/ann"),
                ("test_input_required_result_elicitation", 1, "Hello, ann!"),
                ("test_input_required_result_request_state", 1, "Confirmed: state-ok"),
                ("test_input_required_result_multiple_inputs", 3, "All inputs received"),
                ("test_input_required_result_multi_round", 2, "Both rounds done"),
            ] {
                let params = format!(r#"{{"name":"{upstream}-{tool}","arguments":{{}}}}"#);
                let (questions, response) =
                    client.converse(&params, answer).await.with_context(|| params.clone())?;
                assert_eq!(questions.len(), asked, "{params}: {response}");
                assert!(text(&response).contains(said), "{params}: {response}");
                assert_eq!(response["id"], 77, "{response}");
                assert!(response["result"].get("resultType").is_none(), "{response}");
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_does_not_give_is_refused_in_its_name() -> anyhow::Result<()> {
    let (world, _fixture) = two_ways().await?;
    let mut client = world.client("/mcp").await?;
    client.initialize_with(LEGACY, json!({"roots": {}})).await?;
    for upstream in ["http", "pipe"] {
        let call = |tool: &str| format!(r#"{{"name":"{upstream}-{tool}","arguments":{{}}}}"#);
        let (asked, response) = client.converse(&call("test_sampling"), answer).await?;
        assert_eq!((asked.len(), &response["result"]["isError"]), (0, &json!(true)), "{response}");
        assert!(text(&response).contains("sampling/createMessage"), "{response}");
        let (asked, response) = client.converse(&call("test_elicitation"), answer).await?;
        assert_eq!(asked.len(), 0);
        assert!(text(&response).contains("action=cancel"), "{response}");
    }
    client.initialize_with(LEGACY, able()).await?;
    let no = |_: &Value| json!({"code": -1, "message": "the user said no"});
    for upstream in ["http", "pipe"] {
        let call = |tool: &str| format!(r#"{{"name":"{upstream}-{tool}","arguments":{{}}}}"#);
        let (_, response) = client.converse(&call("test_sampling"), no).await?;
        assert_eq!(response["result"]["isError"], true, "{response}");
        assert!(text(&response).contains("the user said no"), "{response}");
        let (asked, response) =
            client.converse(&call("test_streaming_elicitation"), answer).await?;
        assert_eq!(asked.len(), 10, "{response}");
        assert_eq!(response["error"]["code"], -32603, "{response}");
        assert!(response.to_string().contains("asked for input too often"), "{response}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_json_only_is_asked_on_its_own_stream() -> anyhow::Result<()> {
    let (world, _fixture) = two_ways().await?;
    let mut client = world.client("/mcp").await?;
    client.initialize_with(LEGACY, able()).await?;
    let mut events = Events::of(client.listen(None).send().await?).await?;
    let json_only = http::HeaderValue::from_static("application/json");
    let json_only = http::HeaderMap::from_iter([(http::header::ACCEPT, json_only)]);
    for upstream in ["http", "pipe"] {
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{{"name":"{upstream}-test_list_roots"}}}}"#
        );
        let called = client.request(call).headers(json_only.clone()).send();
        let asked = async {
            let question = events.message().await?;
            assert_eq!(question["method"], "roots/list", "{question}");
            let reply =
                json!({"jsonrpc": "2.0", "id": question["id"], "result": answer(&question)});
            let taken = client.post(reply.to_string()).await?;
            assert_eq!(taken.status, 202, "{}", taken.body);
            anyhow::Ok(())
        };
        let (called, asked) = tokio::join!(called, asked);
        asked?;
        let response: Value = called?.json().await?;
        assert_eq!(text(&response), "roots: file:///home/ann", "{upstream}: {response}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_visited_once_and_its_end_is_told() -> anyhow::Result<()> {
    let server = RawServer::start(|method, body| {
        let tool = r#"{"name":"pay","inputSchema":{"type":"object"}}"#;
        let tail = r#""ttlMs":0,"cacheScope":"private""#;
        Some(match method {
            "server/discover" => format!(
                r#""result":{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{}}}},{tail}}}"#
            ),
            "tools/list" => format!(r#""result":{{"resultType":"complete","tools":[{tool}],{tail}}}"#),
            // It asks for the page until it was visited, which it is after three requests.
            "tools/call" if body.contains(r#""requestState":"3""#) => {
                r#""result":{"resultType":"complete","content":[{"type":"text","text":"paid"}]}"#.to_owned()
            }
            "tools/call" => {
                let seen = ["1", "2"].iter().position(|it| body.contains(&format!(r#""requestState":"{it}""#)));
                let next = seen.map_or(1, |seen| seen + 2);
                format!(
                    r#""result":{{"resultType":"input_required","inputRequests":{{"p":{{"method":"elicitation/create","params":{{"mode":"url","url":"https://pay.example/1","message":"Pay"}}}}}},"requestState":"{next}"}}"#
                )
            }
            _ => return None,
        })
    })
    .await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "shop", "--url", &server.url()]).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize_with(LEGACY, able()).await?;
    let call = r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"shop-pay","arguments":{}}}"#;
    let mut events = Events::of(client.request(call).send().await?).await?;
    let question = events.message().await?;
    assert_eq!(question["params"]["url"], "https://pay.example/1", "{question}");
    assert_eq!(question["params"]["message"], "Pay", "behind one upstream its user knows who asks");
    let id = question["params"]["elicitationId"].as_str().context("no id")?;
    let reply = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}});
    assert_eq!(client.post(reply.to_string()).await?.status, 202);
    let told = events.message().await?;
    assert_eq!(told["method"], "notifications/elicitation/complete", "{told}");
    assert_eq!(told["params"]["elicitationId"], id);
    assert_eq!(text(&events.message().await?), "paid");
    let last = server.last("tools/call").await.context("never called")?;
    assert!(last.contains(r#""inputResponses":{"p":{"action":"accept"}}"#), "{last}");
    Ok(())
}
