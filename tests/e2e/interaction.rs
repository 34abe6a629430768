//! What upstreams ask clients for while they work: it reaches the caller, and the answer comes back.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tests::client::{LEGACY, whole};
use tests::fixture::{self, Era};
use tests::talk::Events;
use tests::world::{World, program};

/// What changes is told in about a second; by a debug build on a busy machine in this time.
const IN_A_MOMENT: Duration = Duration::from_secs(3);

/// A world with the legacy fixture behind it on both transports.
async fn two_ways() -> anyhow::Result<(World, fixture::Server)> {
    let server = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "http", "--url", &server.url()]).await?;
    let fixture = program("fixture")?.display().to_string();
    let command = ["create", "upstream", "pipe", "--command", &fixture, "--arg", "--stdio"];
    world.ok(&[&command[..], &["--arg", "--era", "--arg", "legacy"]].concat()).await?;
    Ok((world, server))
}

fn text(response: &Value) -> &str {
    response.pointer("/result/content/0/text").and_then(Value::as_str).unwrap_or_default()
}

fn able() -> Value {
    json!({"sampling": {}, "elicitation": {}, "roots": {"listChanged": true}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_asks_during_a_call_reaches_the_caller_and_the_answer_the_upstream()
-> anyhow::Result<()> {
    let (world, _fixture) = two_ways().await?;
    for version in ["2025-06-18", LEGACY] {
        let mut client = world.client("/mcp").await?;
        client.initialize_with(version, able()).await?;
        for upstream in ["http", "pipe"] {
            let sampled = client
                .converse(&format!(r#"{{"name":"{upstream}-test_sampling","arguments":{{"prompt":"Capital?"}}}}"#), |_| {
                    json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "Paris"}})
                })
                .await
                .with_context(|| upstream)?;
            assert_eq!(sampled.0[0]["method"], "sampling/createMessage");
            assert_eq!(sampled.0[0]["params"]["messages"][0]["content"]["text"], "Capital?");
            assert_eq!(text(&sampled.1), "LLM response: Paris", "{upstream}: {sampled:?}");
            assert_eq!(sampled.1["id"], 77);
            let elicited = client
                .converse(&format!(r#"{{"name":"{upstream}-test_elicitation","arguments":{{"message":"Who?"}}}}"#), |_| {
                    json!({"action": "accept", "content": {"username": "ann", "email": "a@b.c"}})
                })
                .await?;
            let message = format!("[{upstream}] Who?");
            assert_eq!(elicited.0[0]["params"]["message"], message, "it is said who asks");
            assert!(text(&elicited.1).contains("action=accept"), "{upstream}: {elicited:?}");
            let rooted = client
                .converse(
                    &format!(r#"{{"name":"{upstream}-test_list_roots"}}"#),
                    |_| json!({"roots": [{"uri": "file:///home/ann"}]}),
                )
                .await?;
            assert_eq!(text(&rooted.1), "roots: file:///home/ann", "{upstream}: {rooted:?}");
            let refused = client
                .converse(
                    &format!(r#"{{"name":"{upstream}-test_sampling"}}"#),
                    |_| json!({"code": -1, "message": "the user said no"}),
                )
                .await?;
            assert!(text(&refused.1).contains("the user said no"), "{upstream}: {refused:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_knows_who_asks_is_asked_in_the_upstreams_words_and_led_to_safe_pages_only()
-> anyhow::Result<()> {
    let (world, _fixture) = two_ways().await?;
    let able = json!({"elicitation": {"form": {}, "url": {}}});
    for upstream in ["http", "pipe"] {
        world.ok(&["create", "server", upstream, "--upstream", upstream]).await?;
        for (path, who) in [
            ("/mcp".to_owned(), format!("[{upstream}] ")),
            (format!("/servers/{upstream}/mcp"), String::new()),
        ] {
            let mut client = world.client(&path).await?;
            client.initialize_with(LEGACY, able.clone()).await?;
            let page = |url: &str| {
                format!(
                    r#"{{"name":"{upstream}-test_elicitation_page","arguments":{{"url":"{url}"}}}}"#
                )
            };
            let accept = |_: &Value| json!({"action": "accept"});
            let (asked, response) = client.converse(&page("https://pay.example/1"), accept).await?;
            assert_eq!(asked[0]["params"]["message"], format!("{who}Pay here"), "{path}");
            assert_eq!(asked[0]["params"]["url"], "https://pay.example/1", "{path}");
            assert!(text(&response).contains("action=accept"), "{path}: {response}");
            for url in ["http://pay.example/", "javascript:alert(1)"] {
                let (asked, response) = client.converse(&page(url), accept).await?;
                assert_eq!(asked, Vec::<Value>::new(), "{path}: {url}");
                assert!(text(&response).contains("action=cancel"), "{path}: {response}");
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_asked_only_what_it_can_and_only_on_a_stream() -> anyhow::Result<()> {
    let (world, _fixture) = two_ways().await?;
    let mut client = world.client("/mcp").await?;
    client.initialize_with(LEGACY, json!({"roots": {}})).await?;
    for tool in ["http-test_sampling", "pipe-test_sampling"] {
        let params = format!(r#"{{"name":"{tool}"}}"#);
        let (questions, response) = client.converse(&params, |_| Value::Null).await?;
        assert_eq!(questions, Vec::<Value>::new(), "{tool}");
        assert_eq!(response["result"]["isError"], true, "{tool}: {response}");
    }
    for tool in ["http-test_elicitation", "pipe-test_elicitation"] {
        let params = format!(r#"{{"name":"{tool}"}}"#);
        let (_, response) = client.converse(&params, |_| Value::Null).await?;
        assert!(text(&response).contains("action=cancel"), "{tool}: {response}");
    }

    client.initialize_with(LEGACY, able()).await?;
    let call =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"http-test_sampling"}}"#;
    let json_only = http::HeaderValue::from_static("application/json");
    let json_only = http::HeaderMap::from_iter([(http::header::ACCEPT, json_only)]);
    let answer = whole(client.request(call).headers(json_only).send().await?).await?;
    assert!(!answer.is_stream());
    assert_eq!(answer.result()?["isError"], true, "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_what_nobody_asked_is_refused_and_changes_nothing() -> anyhow::Result<()> {
    let (world, _fixture) = two_ways().await?;
    let mut client = world.client("/mcp").await?;
    client.initialize_with(LEGACY, able()).await?;
    for id in ["1", "\"a\"", "-5", "99999999999999999999999"] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
        let answer = client.post(body).await?;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert_eq!(answer.error_code()?, -32600);
        assert!(answer.body.contains("no request that this could answer"), "{}", answer.body);
    }
    assert_eq!(client.call_text("http-echo", r#"{"message":"hi"}"#).await?, "hi");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_no_call_comes_on_the_sessions_stream_and_is_answered_from_there()
-> anyhow::Result<()> {
    let (world, _fixture) = two_ways().await?;
    let mut client = world.client("/mcp").await?;
    client.initialize_with(LEGACY, able()).await?;
    let mut other = world.client("/mcp").await?;
    other.initialize_with(LEGACY, able()).await?;
    other.call_text("http-test_speak_later", "{}").await?;
    let mut events = Events::of(client.listen(None).send().await?).await?;
    client.call_text("http-test_speak_later", "{}").await?;
    let log = events.message().await?;
    assert_eq!(log["params"]["data"], "later", "{log}");
    assert_eq!(log["params"]["logger"], "http", "it is said who speaks");
    let question = events.message().await?;
    assert_eq!(question["method"], "roots/list", "{question}");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": [{"uri": "file:///a"}]}});
    assert_eq!(client.post(answer.to_string()).await?.status, 202);
    let log = events.message().await?;
    assert_eq!(log["params"]["data"], "1 roots", "{log}");
    client.delete().send().await?;
    assert_eq!(events.next().await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_its_own_log_level_at_every_upstream() -> anyhow::Result<()> {
    let (world, _fixture) = two_ways().await?;
    let mut quiet = world.client("/mcp").await?;
    let hello = quiet.initialize().await?;
    assert!(hello["capabilities"]["logging"].is_object(), "{hello}");
    let mut talkative = world.client("/mcp").await?;
    talkative.initialize().await?;
    for (client, level) in [(&quiet, "error"), (&talkative, "debug")] {
        let params = format!(r#"{{"level":"{level}"}}"#);
        assert_eq!(client.legacy("logging/setLevel", &params).await?.result()?, json!({}));
    }
    // A child's log lines come on the call's stream, for they can be of no other call.
    for (client, expected) in [(&quiet, 0), (&talkative, 3)] {
        let call = r#"{"name":"pipe-test_tool_with_logging"}"#;
        let messages = client.legacy("tools/call", call).await?.messages()?;
        let is_log = |it: &&Value| it["method"] == "notifications/message";
        let logs: Vec<_> = messages.iter().filter(is_log).collect();
        assert_eq!(logs.len(), expected, "{messages:?}");
        assert!(logs.iter().all(|log| log["params"]["logger"] == "pipe/fixture"), "{logs:?}");
    }
    // The SDK's server over HTTP puts them on the session's own stream.
    let mut unheard = Events::of(quiet.listen(None).send().await?).await?;
    let mut heard = Events::of(talkative.listen(None).send().await?).await?;
    for client in [&quiet, &talkative] {
        client.call_text("http-test_tool_with_logging", "{}").await?;
    }
    for _ in 0..3 {
        let log = heard.message().await?;
        assert_eq!(log["method"], "notifications/message");
        assert_eq!(log["params"]["logger"], "http/fixture", "it is said who speaks");
    }
    // Where nobody else can be meant, what an upstream says stays as it is.
    world.ok(&["create", "server", "alone", "--upstream", "pipe"]).await?;
    let mut alone = world.client("/servers/alone/mcp").await?;
    alone.initialize().await?;
    let call = r#"{"name":"pipe-test_tool_with_logging"}"#;
    let said = alone.legacy("tools/call", call).await?.messages()?;
    assert_eq!(said.first().context("a log line")?["params"]["logger"], "fixture", "{said:?}");
    let wrong = quiet.legacy("logging/setLevel", r#"{"level":"loud"}"#).await?;
    assert_eq!(wrong.error_code()?, -32602);
    quiet.delete().send().await?;
    while let Some(event) = unheard.next().await? {
        assert!(event.data.is_null(), "{event:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_hear_of_changes_and_nobody_else() -> anyhow::Result<()> {
    for upstream in ["http", "pipe"] {
        let (world, _fixture) = two_ways().await?;
        let other = if upstream == "http" { "pipe" } else { "http" };
        world.ok(&["delete", "upstream", other]).await?;
        let (mut one, mut two) = (world.client("/mcp").await?, world.client("/mcp").await?);
        one.initialize().await?;
        two.initialize().await?;
        let watched = r#"{"uri":"test://watched-resource"}"#;
        let subscribed = one.legacy("resources/subscribe", watched).await?;
        assert_eq!(subscribed.result().with_context(|| upstream)?, json!({}));
        let mut heard = Events::of(one.listen(None).send().await?).await?;
        let mut unheard = Events::of(two.listen(None).send().await?).await?;
        for client in [&two, &one] {
            client.call_text(&format!("{upstream}-test_touch"), "{}").await?;
        }
        let update = heard.message().await?;
        assert_eq!(update["method"], "notifications/resources/updated", "{update}");
        assert_eq!(update["params"]["uri"], "test://watched-resource");
        one.legacy("resources/unsubscribe", watched).await?.result()?;
        two.delete().send().await?;
        while let Some(event) = unheard.next().await? {
            assert!(event.data.is_null(), "{upstream}: {event:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_clients_are_told_when_their_lists_change() -> anyhow::Result<()> {
    let (world, _fixture) = two_ways().await?;
    world.ok(&["create", "server", "small", "--upstream", "http"]).await?;
    let mut client = world.client("/mcp").await?;
    let hello = client.initialize().await?;
    assert_eq!(hello["capabilities"]["tools"]["listChanged"], true, "{hello}");
    let mut small = world.client("/servers/small/mcp").await?;
    small.initialize().await?;
    let mut events = Events::of(client.listen(None).send().await?).await?;
    let mut unchanged = Events::of(small.listen(None).send().await?).await?;
    world.ok(&["create", "tool", "another", "--url", "http://127.0.0.1:9/"]).await?;
    let begun = Instant::now();
    let change = tokio::time::timeout(Duration::from_secs(10), events.message()).await??;
    assert_eq!(change["method"], "notifications/tools/list_changed", "{change}");
    assert!(begun.elapsed() < IN_A_MOMENT, "told after {:?}", begun.elapsed());
    small.delete().send().await?;
    while let Some(event) = unchanged.next().await? {
        assert!(event.data.is_null(), "{event:?}");
    }
    Ok(())
}
