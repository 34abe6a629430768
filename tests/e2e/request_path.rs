//! From a client to an upstream and back: eras, transports, streams, exact bytes.

use anyhow::Context;
use serde_json::Value;
use tests::client::{Client, Events, names};
use tests::fixture::{self, Era};
use tests::hostile::{Behaviour, Upstream};
use tests::rest_api;
use tests::world::{World, program};

/// A world with our fixture behind it in three ways.
async fn three_ways() -> anyhow::Result<(World, [fixture::Server; 2])> {
    let legacy = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let modern = fixture::start(Era::Modern, "127.0.0.1:0").await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "legacy", "--url", &legacy.url()]).await?;
    world.ok(&["create", "upstream", "modern", "--url", &modern.url()]).await?;
    let fixture = program("fixture")?.display().to_string();
    for (name, era) in [("pipe", "modern"), ("old-pipe", "legacy")] {
        let command = ["create", "upstream", name, "--command", &fixture, "--arg", "--stdio"];
        world.ok(&[&command[..], &["--arg", "--era", "--arg", era]].concat()).await?;
    }
    Ok((world, [legacy, modern]))
}

const UPSTREAMS: [&str; 4] = ["legacy", "modern", "pipe", "old-pipe"];

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_both_eras_call_upstreams_of_both_eras_on_both_transports() -> anyhow::Result<()>
{
    let (world, _fixtures) = three_ways().await?;
    let mut client = world.client("/mcp").await?;
    for upstream in UPSTREAMS {
        let params = format!(r#"{{"name":"{upstream}-echo","arguments":{{"message":"héllo"}}}}"#);
        let answer = client.modern("tools/call", &params).await?;
        let result = answer.result().with_context(|| upstream)?;
        assert_eq!(
            result.pointer("/content/0/text"),
            Some(&"héllo".into()),
            "{upstream}: {result}"
        );
        assert_eq!(result.get("resultType"), Some(&"complete".into()), "{upstream}: {result}");
    }
    for version in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let hello = client.initialize_at(version).await?;
        assert_eq!(hello.get("protocolVersion"), Some(&version.into()));
        for upstream in UPSTREAMS {
            let text = client.call_text(&format!("{upstream}-echo"), r#"{"message":"hi"}"#).await;
            assert_eq!(text.with_context(|| format!("{upstream} at {version}"))?, "hi");
        }
        let result = client.call("modern-echo", r#"{"message":"hi"}"#).await?;
        assert_eq!(
            result.get("resultType"),
            None,
            "a modern key reached a legacy client: {result}"
        );
        if version != "2025-03-26" {
            continue;
        }
        let deleted = client.delete().send().await?.status();
        assert!(deleted.is_success(), "{deleted}");
        assert_eq!(client.legacy("ping", "{}").await?.status, 404);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_streams_while_the_call_runs() -> anyhow::Result<()> {
    let (world, _fixtures) = three_ways().await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    for upstream in UPSTREAMS {
        let params = format!(
            r#"{{"name":"{upstream}-test_tool_with_progress","arguments":{{}},"_meta":{{"progressToken":"mine \u00e9"}}}}"#
        );
        let events = legacy_events(&client, &params).await.with_context(|| upstream)?;
        let mut events = events.rest().await.with_context(|| upstream)?;
        let last = events.pop().context("nothing came")?;
        assert!(last.get("result").is_some(), "{upstream}: {last}");
        assert_eq!(events.len(), 3, "{upstream}: {events:?}");
        assert!(events.iter().all(is_my_progress), "{upstream}: {events:?}");

        // It ends only when it is told to, by who has heard that it has begun.
        let params = format!(
            r#"{{"name":"{upstream}-sleep","arguments":{{"milliseconds":60000,"tag":"{upstream}"}},"_meta":{{"progressToken":"mine \u00e9"}}}}"#
        );
        let mut events = legacy_events(&client, &params).await.with_context(|| upstream)?;
        let begun = events.next().await.with_context(|| upstream)?;
        assert!(begun.as_ref().is_some_and(is_my_progress), "{upstream}: {begun:?}");
        let wake = format!(r#"{{"milliseconds":0,"wakes":"{upstream}"}}"#);
        client.call(&format!("{upstream}-sleep"), &wake).await.with_context(|| upstream)?;
        let rest = events.rest().await.with_context(|| upstream)?;
        assert_eq!(rest.len(), 1, "{upstream}: {rest:?}");
        let text = rest[0].pointer("/result/content/0/text");
        assert_eq!(text, Some(&"was woken".into()), "{upstream}: {rest:?}");
    }
    Ok(())
}

/// Whether a message reports progress under the token of `progress_streams_while_the_call_runs`.
fn is_my_progress(message: &Value) -> bool {
    message.get("method") == Some(&"notifications/progress".into())
        && message.pointer("/params/progressToken") == Some(&"mine é".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_a_call_stream_while_it_runs() -> anyhow::Result<()> {
    let upstream = Upstream::start(Behaviour::Logs).await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "logs", "--url", &upstream.url()]).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    let mut events = legacy_events(&client, r#"{"name":"logs-act"}"#).await?;
    let first = events.next().await?.context("nothing came")?;
    assert_eq!(first.pointer("/params/data"), Some(&"one".into()), "{first}");
    upstream.go_on();
    let rest = events.rest().await?;
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert_eq!(rest[0].pointer("/params/data"), Some(&"two".into()), "{rest:?}");
    assert_eq!(rest[1].get("id"), Some(&7.into()), "{rest:?}");
    Ok(())
}

async fn legacy_events(client: &Client, params: &str) -> anyhow::Result<Events> {
    let body = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}"#);
    let answer = client.request(body).send().await?;
    let kind = answer.headers().get("content-type").cloned();
    anyhow::ensure!(
        kind.as_ref().is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")),
        "{kind:?}: {}",
        answer.text().await?
    );
    Ok(Events::of(answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_request_gets_progress_only_if_it_asked() -> anyhow::Result<()> {
    let (world, _fixtures) = three_ways().await?;
    let client = world.client("/mcp").await?;
    let silent =
        client.modern("tools/call", r#"{"name":"modern-test_tool_with_progress"}"#).await?;
    assert_eq!(silent.messages()?.len(), 1, "{silent:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_library_knows_travels_byte_for_byte() -> anyhow::Result<()> {
    let upstream = Upstream::start(Behaviour::Shows).await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "shows", "--url", &upstream.url()]).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;

    let list = client.legacy("tools/list", "{}").await?;
    for kept in [
        r#""maximum":12345678901234567890123456789"#,
        r#""x-unknown":1e2"#,
        r#""x-vendor":{"b":1,"a":1.0}"#,
    ] {
        assert!(list.body.contains(kept), "{kept} is not in {}", list.body);
    }
    let request = r#"{"jsonrpc":"2.0","id":"n\u00e4me \ud83d\ude00","method":"tools/call","params":{"vendor":{"x":1},"arguments":{"n":12345678901234567890123, "e":1.10e+2,"s":"\u00e9"},"name":"shows-\u0061ct","_meta":{"custom/key":1e2}}}"#;
    let answer = client.post(request).await?;
    let seen = String::from_utf8(upstream.last_body().await.to_vec())?;
    for kept in [
        r#""arguments":{"n":12345678901234567890123, "e":1.10e+2,"s":"\u00e9"}"#,
        r#""vendor":{"x":1}"#,
        r#""custom/key":1e2"#,
        r#""name":"act""#,
    ] {
        assert!(seen.contains(kept), "{kept} is not in {seen}");
    }
    for kept in [
        r#""big":123456789012345678901234567890,"exact":1.10e+2,"z":{"b":1,"a":2}"#,
        r#""id":"n\u00e4me \ud83d\ude00""#,
    ] {
        assert!(answer.body.contains(kept), "{kept} is not in {}", answer.body);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_sees_its_own_credential_and_never_the_clients() -> anyhow::Result<()> {
    let upstream = Upstream::start(Behaviour::Shows).await?;
    let world = World::up().await?;
    let create =
        ["create", "upstream", "shows", "--url", &upstream.url(), "--bearer", "upstream-secret"];
    world.ok(&create).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"shows-act"}}"#;
    let answer = client.request(body).header("cookie", "a=b").send().await?;
    assert!(answer.status().is_success());
    assert!(answer.headers().get("set-cookie").is_none());
    let headers = upstream.last_headers().await;
    assert_eq!(
        headers.get("authorization").map(http::HeaderValue::as_bytes),
        Some(&b"Bearer upstream-secret"[..])
    );
    assert!(!headers.contains_key("cookie") && !headers.contains_key("origin"), "{headers:?}");
    let shown = world.ok(&["get", "upstreams", "shows", "-o", "json"]).await?;
    assert!(!shown.contains("upstream-secret"), "{shown}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rest_tool_is_one_http_request() -> anyhow::Result<()> {
    let api = rest_api::start().await?;
    let world = World::up().await?;
    let schema = r#"{"type":"object","properties":{"id":{"type":"string"},"n":{"type":"integer"}},"required":["id"]}"#;
    for (name, method, path) in [
        ("read", "GET", "/things/{id}"),
        ("write", "POST", "/things/{id}"),
        ("text", "GET", "/text"),
        ("nothing", "POST", "/nothing"),
        ("missing", "GET", "/missing"),
    ] {
        let url = api.url(path);
        let create = ["create", "tool", name, "--url", &url, "--method", method];
        let arguments: &[&str] =
            if name.len() < 6 && name != "text" { &["--input-schema", schema] } else { &[] };
        world.ok(&[&create[..], arguments].concat()).await?;
    }
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    let read = client.call_text("read", r#"{"id":"a b/c","n":12}"#).await?;
    assert!(read.contains("a%20b%2Fc") && read.contains("n=12") && read.contains("GET"), "{read}");
    let write = client.call_text("write", r#"{"id":"x","n":12345678901234567890}"#).await?;
    assert!(write.contains("12345678901234567890") && write.contains("/things/x"), "{write}");
    assert_eq!(client.call_text("text", "{}").await?, "plain words");
    let nothing = client.call("nothing", "{}").await?;
    assert_ne!(nothing.get("isError"), Some(&true.into()), "{nothing}");
    let missing = client.call("missing", "{}").await?;
    assert_eq!(missing.get("isError"), Some(&true.into()), "{missing}");
    assert!(
        missing.to_string().contains("404") && missing.to_string().contains("no such thing"),
        "{missing}"
    );
    let refused = client.call("read", r#"{"n":"many"}"#).await?;
    assert_eq!(refused.get("isError"), Some(&true.into()), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_server_shows_its_selection_under_the_names_it_chose() -> anyhow::Result<()> {
    let fixture = fixture::start(Era::Dual, "127.0.0.1:0").await?;
    let api = rest_api::start().await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "things", "--url", &fixture.url()]).await?;
    world.ok(&["create", "tool", "alone", "--url", &api.url("/")]).await?;
    world.ok(&["create", "server", "one", "--tool", "alone"]).await?;
    world.ok(&["create", "server", "bare", "--upstream", "things", "--naming", "bare"]).await?;
    let mut one = world.client("/servers/one/mcp").await?;
    one.initialize().await?;
    assert_eq!(one.tool_names().await?, ["alone"]);
    let foreign = one.legacy("tools/call", r#"{"name":"things-echo"}"#).await?;
    assert_eq!(foreign.error_code()?, -32602);
    let mut bare = world.client("/servers/bare/mcp").await?;
    bare.initialize().await?;
    assert!(bare.tool_names().await?.contains(&"echo".to_owned()));
    assert_eq!(bare.call_text("echo", r#"{"message":"hi"}"#).await?, "hi");
    let modern = bare.modern("tools/list", "{}").await?.result()?;
    assert_eq!(names(&modern), bare.tool_names().await?);
    Ok(())
}
