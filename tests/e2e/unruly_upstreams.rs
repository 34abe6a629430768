//! Upstreams of every transport that say more than they are asked, and clients of every transport
//! that hear no more than concerns them.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};
use tests::client::eventually;
use tests::hostile::{Behaviour, Counts, Piped, Upstream};
use tests::raw_server::RawServer;
use tests::world::{World, program};

use super::ways::{WAYS, Way};

const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;
/// Every transport of an upstream.
pub(super) const TRANSPORTS: [&str; 4] = ["http", "sse", "ws", "pipe"];

/// Servers that behave like this, one of each transport.
pub(super) struct Servers {
    http: Upstream,
    piped: [Piped; 2],
}

impl Servers {
    /// Registers them as `{transport}-{name}`.
    pub(super) async fn start(
        world: &World,
        name: &str,
        behaviour: Behaviour,
    ) -> anyhow::Result<Self> {
        let http = Upstream::start(behaviour).await?;
        let piped = [Piped::sse(behaviour).await?, Piped::websocket(behaviour).await?];
        for (transport, url) in [
            ("http", http.url()),
            ("sse", piped[0].url().to_owned()),
            ("ws", piped[1].url().to_owned()),
        ] {
            world
                .ok(&["create", "upstream", &format!("{transport}-{name}"), "--url", &url])
                .await?;
        }
        let (child, pipe) = (program("fixture")?.display().to_string(), format!("pipe-{name}"));
        let create = ["create", "upstream", &pipe, "--command", &child, "--arg", "--hostile"];
        world.ok(&[&create[..], &["--arg", name]].concat()).await?;
        Ok(Self { http, piped })
    }

    /// What each has done and was told, except for the command.
    pub(super) fn counts(&self) -> [&Counts; 3] {
        [self.http.counts(), self.piped[0].counts(), self.piped[1].counts()]
    }

    /// How often each was called, except for the command.
    fn calls(&self) -> [u64; 3] {
        [self.http.calls(), self.piped[0].calls(), self.piped[1].calls()]
    }
}

fn call(tool: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{"name":"{tool}","arguments":{{}},"_meta":{{"progressToken":"t"}}}}}}"#
    )
}

fn text(answer: &Value) -> &str {
    answer.pointer("/result/content/0/text").and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_beside_an_answer_harms_no_client() -> anyhow::Result<()> {
    let world = World::up().await?;
    let token = world.token("ways").await?;
    let kinds = [("goes-on", Behaviour::GoesOn), ("floods", Behaviour::Floods)];
    let mut servers = Vec::new();
    for (name, behaviour) in kinds {
        servers.push(Servers::start(&world, name, behaviour).await?);
    }
    let before = world.process().resident()?;
    for (count, name) in (1..).zip(WAYS) {
        let mut way = Way::open(&world, name, &token).await?;
        for transport in TRANSPORTS {
            for (kind, _) in kinds {
                let begun = Instant::now();
                // It is asked nothing, and answered once.
                let answer = way.ask(&call(&format!("{transport}-{kind}-act"))).await?.json();
                assert_eq!(
                    (&answer["id"], text(&answer)),
                    (&json!("c"), "done"),
                    "{name}, {transport}, {kind}: {answer}"
                );
                let pong = way.ask(PING).await?.json();
                assert_eq!(
                    pong,
                    json!({"jsonrpc": "2.0", "id": "p", "result": {}}),
                    "{name}, {transport}, {kind}"
                );
                let took = begun.elapsed();
                assert!(
                    took < Duration::from_secs(15),
                    "{name}, {transport}, {kind} took {took:?}"
                );
            }
        }
        for servers in &servers {
            assert_eq!(servers.calls(), [count; 3], "{name}: a call was repeated");
        }
    }
    let grown = world.process().resident()?.saturating_sub(before);
    assert!(grown < 100 << 20, "it grew by {grown} bytes");
    let [goes_on, _] = servers.as_slice() else { anyhow::bail!("two kinds") };
    // Nobody could answer them, and each is told so once.
    for server in &goes_on.piped {
        eventually("every question is refused", Duration::from_secs(10), || async {
            Ok([900, 901].iter().all(|id| server.counts().answers(*id).len() == WAYS.len()))
        })
        .await?;
    }
    // A question after the answer of a call over HTTP is one that nobody reads any more, of
    // whatever the client is able.
    let able = json!({"sampling": {}, "elicitation": {}, "roots": {}});
    for name in WAYS {
        let mut way = Way::able(&world, name, &token, able.clone()).await?;
        let answer = way.ask(&call("http-goes-on-act")).await?.json();
        assert_eq!((&answer["id"], text(&answer)), (&json!("c"), "done"), "{name}: {answer}");
        assert_eq!(way.ask(PING).await?.json()["id"], "p", "{name}");
    }
    for counts in goes_on.counts() {
        for answer in [900, 901].map(|id| counts.answers(id)).concat() {
            let is_refused = answer.pointer("/error/code") == Some(&(-32601).into())
                || answer.pointer("/result/action") == Some(&"cancel".into());
            assert!(is_refused, "{answer}");
        }
    }
    Ok(())
}

/// Waits until a client sees the tool `new` and no longer the tool `old`.
async fn seen(way: &mut Way, new: &str, old: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let list = way.ask(r#"{"jsonrpc":"2.0","id":"l","method":"tools/list"}"#).await?.text;
        if list.contains(new) && !list.contains(old) {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(30), "no {new}: {list}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_change_during_a_call_are_new_for_the_next() -> anyhow::Result<()> {
    let world = World::up().await?;
    let token = world.token("ways").await?;
    let _servers = Servers::start(&world, "changes", Behaviour::ChangesTools).await?;
    let over_http = WAYS.map(|way| (way, "http"));
    // A shared command is called as well as listed by one process, and these clients can do nothing.
    let others = [("mcp", "sse"), ("ws", "ws"), ("mcp", "pipe"), ("sse", "pipe")];
    let calls = over_http.into_iter().zip(1..).chain(others.into_iter().zip([1, 1, 1, 2]));
    for ((name, transport), count) in calls {
        let mut way = Way::open(&world, name, &token).await?;
        let answer = way.ask(&call(&format!("{transport}-changes-act"))).await?.json();
        assert_eq!(text(&answer), "done", "{name}, {transport}: {answer}");
        let tool = |count: u32| format!("{transport}-changes-new-{count}");
        let (new, old) = (tool(count), tool(count - 1));
        seen(&mut way, &new, &old).await?;
        let gone = way.ask(&call(&old)).await?;
        assert_eq!(gone.code(), -32602, "{name}, {transport}: {gone:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_declares_and_lacks_is_an_empty_list_everywhere() -> anyhow::Result<()> {
    let server = RawServer::start(|method, _| {
        Some(match method {
            "initialize" => r#""result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"subscribe":true},"completions":{},"logging":{},"tasks":{}},"serverInfo":{"name":"boaster","version":"1"}}"#.to_owned(),
            "tools/list" => r#""result":{"tools":[{"name":"act","inputSchema":{"type":"object"}}]}"#.to_owned(),
            "tools/call" => r#""result":{"content":[{"type":"text","text":"done"}]}"#.to_owned(),
            _ => return None,
        })
    })
    .await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "boaster", "--url", &server.url()]).await?;
    let token = world.token("ways").await?;
    for name in WAYS {
        let mut way = Way::open(&world, name, &token).await?;
        for kind in ["prompts", "resources"] {
            let list = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{kind}/list"}}"#);
            let listed = way.ask(&list).await?.json();
            assert_eq!(listed["result"][kind], json!([]), "{name}: {listed}");
        }
        let level =
            r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}"#;
        assert_eq!(way.ask(level).await?.json()["result"], json!({}), "{name}");
        let answer = way.ask(&call("boaster-act")).await?.json();
        assert_eq!(text(&answer), "done", "{name}: {answer}");
    }
    // Of a client that can be asked, it gets no questions.
    let modern = world.client("/mcp").await?.able(r#"{"sampling":{},"elicitation":{}}"#);
    let names = modern.modern("tools/list", "{}").await?.result()?;
    assert_eq!(names["tools"][0]["name"], "boaster-act", "{names}");
    let result = modern.modern("tools/call", r#"{"name":"boaster-act","arguments":{}}"#).await?;
    assert_eq!(result.result()?["content"][0]["text"], "done");
    Ok(())
}
