//! Extensions and what else Lockgate does not know: passed through both ways.

use anyhow::Context;
use tests::client::LEGACY;
use tests::raw_server::RawServer;
use tests::world::World;

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
