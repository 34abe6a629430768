//! Extensions and what else Lockgate does not know: passed through both ways.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tests::client::{LEGACY, eventually};
use tests::fixture::{self, Era};
use tests::raw_server::RawServer;
use tests::talk::Events;
use tests::world::{World, program};

/// What a client may declare: things known, things unknown, and spellings of its own.
const DECLARED: &str = r#"{ "sampling":{"vendor":1.0},"roots":{}, "extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["text/html;profile=mcp-app"]},"com.example/x":{"n":1E2}},"experimental":{"y":{}} }"#;
const TOOLS: &str = r#""tools":[{"name":"do","inputSchema":{"type":"object"}}]"#;

/// A modern server of exact bytes that declares `capabilities`; `more` answers what is special.
async fn modern(
    capabilities: &'static str,
    more: impl Fn(&str, &str) -> Option<String> + Send + Sync + 'static,
) -> anyhow::Result<RawServer> {
    const TAIL: &str = r#""ttlMs":0,"cacheScope":"private""#;
    RawServer::start(move |method, body| {
        Some(match method {
            "server/discover" => format!(
                r#""result":{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{capabilities},{TAIL}}}"#
            ),
            "tools/list" => format!(r#""result":{{"resultType":"complete",{TOOLS},{TAIL}}}"#),
            "tools/call" => r#""result":{"resultType":"complete","content":[]}"#.to_owned(),
            _ => return more(method, body),
        })
    })
    .await
}

/// The same of the legacy era.
async fn legacy(
    capabilities: &'static str,
    more: impl Fn(&str, &str) -> Option<String> + Send + Sync + 'static,
) -> anyhow::Result<RawServer> {
    RawServer::start(move |method, body| {
        Some(match method {
            "initialize" => format!(
                r#""result":{{"protocolVersion":"{LEGACY}","capabilities":{capabilities},"serverInfo":{{"name":"x","version":"1"}}}}"#
            ),
            "tools/list" => format!(r#""result":{{{TOOLS}}}"#),
            "tools/call" => r#""result":{"content":[]}"#.to_owned(),
            _ => return more(method, body),
        })
    })
    .await
}

const WITH_TOOLS: &str = r#"{"tools":{}}"#;

fn nothing(_: &str, _: &str) -> Option<String> {
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_declares_reaches_its_upstreams_as_written() -> anyhow::Result<()> {
    let (new, old) = (modern(WITH_TOOLS, nothing).await?, legacy(WITH_TOOLS, nothing).await?);
    let world = World::up().await?;
    world.ok(&["create", "upstream", "new", "--url", &new.url()]).await?;
    world.ok(&["create", "upstream", "old", "--url", &old.url()]).await?;
    let client = world.client("/mcp").await?;
    let told = |body: String| body.contains(DECLARED);

    let able = client.clone().able(DECLARED);
    for tool in ["new-do", "old-do"] {
        able.modern("tools/call", &format!(r#"{{"name":"{tool}"}}"#)).await?.result()?;
    }
    assert!(told(new.last("tools/call").await.context("never called")?));
    let shared = old.last("initialize").await.context("no session")?;
    assert!(!shared.contains("extensions") && shared.contains("sampling"), "{shared}");

    let mut session = client.clone();
    session.initialize_written(LEGACY, DECLARED).await?;
    for tool in ["new-do", "old-do"] {
        session.call(tool, "{}").await?;
    }
    assert!(told(old.last("initialize").await.context("no session")?));
    let called = new.last("tools/call").await.context("never called")?;
    assert!(told(called.clone()), "{called}");

    // One client's is not another's.
    let mut other = client.clone();
    other.initialize_written(LEGACY, r#"{"roots":{}}"#).await?;
    for tool in ["new-do", "old-do"] {
        other.call(tool, "{}").await?;
    }
    for (server, method) in [(&new, "tools/call"), (&old, "initialize")] {
        let last = server.last(method).await.context("never asked")?;
        assert!(!last.contains("extensions") && last.contains(r#"{"roots":{}}"#), "{last}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_keeps_what_its_client_declared_over_a_restart() -> anyhow::Result<()> {
    let old = legacy(WITH_TOOLS, nothing).await?;
    let mut world = World::up().await?;
    world.ok(&["create", "upstream", "old", "--url", &old.url()]).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize_written(LEGACY, DECLARED).await?;
    world.stop().await?;
    world.start_again().await?;
    client.call("old-do", "{}").await?;
    let told = old.last("initialize").await.context("no session")?;
    assert!(told.contains(DECLARED), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_that_cannot_be_read_or_kept_are_refused() -> anyhow::Result<()> {
    let world = World::up().await?;
    let client = world.client("/mcp").await?;
    let large = |size: usize| format!(r#"{{"x":"{}"}}"#, "y".repeat(size));
    let initialize = |capabilities: &str| {
        client.post(format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"{LEGACY}","capabilities":{capabilities},"clientInfo":{{"name":"t","version":"1"}}}}}}"#
        ))
    };
    for (capabilities, why) in [
        (r#"{"roots":{},"roots":{}}"#.to_owned(), "key twice"),
        (r#"{"extensions":{"a/b":{},"a/b":{}}}"#.to_owned(), "key twice"),
        (large(3_000), "2 KiB"),
        (large(20_000), "16 KiB"),
    ] {
        let refused = initialize(&capabilities).await?;
        assert_eq!(refused.error_code()?, -32602, "{}", refused.body);
        assert!(refused.body.contains(why), "{}", refused.body);
        if why != "2 KiB" {
            let able = client.clone().able(&capabilities);
            let refused = able.modern("tools/list", "{}").await?;
            assert_eq!((refused.status.as_u16(), refused.error_code()?), (400, -32602));
            assert!(refused.body.contains(why), "{}", refused.body);
        }
    }
    assert!(initialize(&large(2_000)).await?.result().is_ok());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_upstreams_declare_is_shown_to_clients() -> anyhow::Result<()> {
    const UI: &str = r#""io.modelcontextprotocol/ui":{"v" : 1.0}"#;
    let new = modern(
        r#"{"tools":{"vendor":1E2},"extensions":{"io.modelcontextprotocol/ui":{"v" : 1.0}},"w":0}"#,
        nothing,
    );
    let old = legacy(
        r#"{"tools":{},"extensions":{"io.modelcontextprotocol/ui":2,"a/b":{}},"experimental":{"e":[1.50]}}"#,
        nothing,
    );
    let (new, old) = (new.await?, old.await?);
    let world = World::up().await?;
    world.ok(&["create", "upstream", "a-new", "--url", &new.url()]).await?;
    world.ok(&["create", "upstream", "b-old", "--url", &old.url()]).await?;
    world.ok(&["create", "server", "one", "--upstream", "a-new"]).await?;
    let both = format!(r#""extensions":{{{UI},"a/b":{{}}}},"experimental":{{"e":[1.50]}}}}"#);
    let alone = format!(r#""vendor":1E2}},"extensions":{{{UI}}},"w":0}}"#);
    for (path, shown) in [("/mcp", both), ("/servers/one/mcp", alone)] {
        let client = world.client(path).await?;
        let discovered = client.modern("server/discover", "{}").await?.body;
        let begun = client
            .legacy(
                "initialize",
                &format!(r#"{{"protocolVersion":"{LEGACY}","capabilities":{{}}}}"#),
            )
            .await?
            .body;
        for body in [discovered, begun] {
            assert!(body.contains(&shown), "{shown} in {body}");
        }
    }
    Ok(())
}

/// A legacy and a modern fixture, each with an endpoint of its own, and a pipe to a third.
async fn fixtures() -> anyhow::Result<(World, [fixture::Server; 2])> {
    let old = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let new = fixture::start(Era::Modern, "127.0.0.1:0").await?;
    let world = World::up().await?;
    for (name, server) in [("old", &old), ("new", &new)] {
        world.ok(&["create", "upstream", name, "--url", &server.url()]).await?;
        world.ok(&["create", "server", name, "--upstream", name]).await?;
    }
    let fixture = program("fixture")?.display().to_string();
    let command = ["create", "upstream", "pipe", "--command", &fixture, "--arg", "--stdio"];
    world.ok(&[&command[..], &["--stdio-mode", "per-session"]].concat()).await?;
    world.ok(&["create", "server", "pipe", "--upstream", "pipe"]).await?;
    Ok((world, [old, new]))
}

const KNOWS: &str = r#"{"extensions":{"com.example/echo":{"quiet":false}}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn methods_of_extensions_reach_the_upstream_that_is_meant() -> anyhow::Result<()> {
    let (world, _fixtures) = fixtures().await?;
    for server in ["old", "new", "pipe"] {
        let mut client = world.client(&format!("/servers/{server}/mcp")).await?.able(KNOWS);
        let modern = client.modern("com.example/echo", r#"{"x":1}"#).await?.result()?;
        client.initialize_written(LEGACY, KNOWS).await?;
        let legacy = client.legacy("com.example/echo", r#"{"x":1}"#).await?.result()?;
        for result in [&modern, &legacy] {
            assert_eq!(result["params"]["x"], 1, "{server}: {result}");
        }
        assert_eq!(modern["resultType"], "complete", "{server}: {modern}");
        assert_eq!(legacy["declared"]["com.example/echo"]["quiet"], false, "{server}: {legacy}");
        let missing = client.modern("vendor/x", "{}").await?;
        assert_eq!((missing.status.as_u16(), missing.error_code()?), (404, -32601), "{server}");
        let missing = client.legacy("vendor/x", "{}").await?;
        assert_eq!((missing.status.as_u16(), missing.error_code()?), (200, -32601), "{server}");
    }
    // All three declare it, so nobody can be meant.
    let mut client = world.client("/mcp").await?.able(KNOWS);
    let refused = client.modern("com.example/echo", "{}").await?;
    assert_eq!((refused.status.as_u16(), refused.error_code()?), (404, -32601));
    client.initialize_written(LEGACY, KNOWS).await?;
    assert_eq!(client.legacy("com.example/echo", "{}").await?.error_code()?, -32601);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_of_extensions_travel_byte_for_byte() -> anyhow::Result<()> {
    const PARAMS: &str = r#"{"cursor":"c","name":"do", "uri":1.50, "big":12345678901234567890}"#;
    const RESULT: &str = r#""result":{ "n":1.0,"e":1E2,"resultType":"complete" }"#;
    let answer = |method: &str, _: &str| (method == "vendor.thing/do").then(|| RESULT.to_owned());
    let (new, old) = (modern(WITH_TOOLS, answer).await?, legacy(WITH_TOOLS, answer).await?);
    let world = World::up().await?;
    for (name, server) in [("new", &new), ("old", &old)] {
        world.ok(&["create", "upstream", name, "--url", &server.url()]).await?;
        world.ok(&["create", "server", name, "--upstream", name]).await?;
        let mut client = world.client(&format!("/servers/{name}/mcp")).await?;
        let request = client.modern_request("vendor.thing/do", PARAMS)?;
        let answered = tests::client::whole(request.send().await?).await?.body;
        assert!(answered.contains(r#""n":1.0,"e":1E2"#), "{answered}");
        client.initialize().await?;
        let answered = client.legacy("vendor.thing/do", PARAMS).await?.body;
        assert!(answered.contains(r#""n":1.0,"e":1E2"#), "{answered}");
        let sent = server.last("vendor.thing/do").await.context("never asked")?;
        let members = PARAMS.trim_start_matches('{').trim_end_matches('}');
        assert!(sent.contains(members), "{sent}");
        for method in ["tasks/steal", "tools/describe", "rpc.discover", "notifications/x"] {
            assert_eq!(client.legacy(method, "{}").await?.error_code()?, -32601, "{method}");
            assert_eq!(client.modern(method, "{}").await?.status, 404, "{method}");
            assert_eq!(server.last(method).await, None, "{method}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_tell_and_ask_in_both_directions() -> anyhow::Result<()> {
    let (world, _fixtures) = fixtures().await?;
    let mut client = world.client("/servers/old/mcp").await?;
    client.initialize_written(LEGACY, KNOWS).await?;
    let mut events = Events::of(client.listen(None).send().await?).await?;
    client.legacy("com.example/echo", "{}").await?.result()?;
    let told = r#"{"jsonrpc":"2.0","method":"notifications/echo/told","params":{"n":7}}"#;
    assert_eq!(client.post(told).await?.status, 202);
    let asking = &client;
    eventually("heard", Duration::from_secs(10), || async move {
        let heard = asking.legacy("com.example/echo/heard", "{}").await?.result()?;
        Ok(heard["heard"][0]["params"]["n"] == 7)
    })
    .await?;

    let told = client.legacy("com.example/echo/announce", r#"{"n":1.5}"#).await?.messages()?;
    let said = match told.iter().find(|it| it["method"] == "notifications/echo/said") {
        Some(said) => said.clone(),
        None => events.message().await?,
    };
    assert_eq!(
        (&said["method"], &said["params"]["n"]),
        (&json!("notifications/echo/said"), &json!(1.5))
    );

    let ask = r#"{"jsonrpc":"2.0","id":5,"method":"com.example/echo/ask","params":{"q":"?"}}"#;
    let called = client.request(ask).send();
    let answering = async {
        let mut stream = Events::of(called.await?).await?;
        loop {
            let message = tokio::select! {
                message = stream.message() => message?,
                message = events.message() => message?,
            };
            if message["id"] == 5 && message.get("method").is_none() {
                return anyhow::Ok(message);
            }
            assert_eq!(message["method"], "com.example/echo/answer", "{message}");
            assert_eq!(message["params"]["q"], "?", "{message}");
            let reply = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"a": "!"}});
            assert_eq!(client.post(reply.to_string()).await?.status, 202);
        }
    };
    let answered = answering.await?;
    assert_eq!(answered["result"]["answer"]["a"], "!", "{answered}");

    // Who knows no extension, at an endpoint of several upstreams, is not asked.
    let mut plain = world.client("/mcp").await?;
    plain.initialize().await?;
    let refused = plain.legacy("com.example/echo/ask", "{}").await?;
    assert_eq!(refused.error_code()?, -32601, "{}", refused.body);
    Ok(())
}
