//! Commands run where they may: what needs one finds its way from proxies that run none.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tests::client::{Client, LEGACY, eventually};
use tests::talk::{Events, Round};
use tests::world::{ControlPlane, Proxy, program};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

const SOON: Duration = Duration::from_secs(20);
const REFUSED: &str = "--allow-stdio=false";

/// One proxy that runs commands and two that do not.
struct Fleet {
    control: ControlPlane,
    host: Proxy,
    edges: [Proxy; 2],
    token: String,
}

impl Fleet {
    async fn start() -> anyhow::Result<Self> {
        let control = ControlPlane::start().await?;
        let host = control.proxy().await?;
        let edges = [control.proxy_with(&[REFUSED]).await?, control.proxy_with(&[REFUSED]).await?];
        let token = control.ok(&["token", "create", "--name", "mine"]).await?;
        Ok(Self { control, host, edges, token })
    }

    async fn command(&self, name: &str, mode: &str) -> anyhow::Result<()> {
        let fixture = program("fixture")?.display().to_string();
        let create = ["create", "upstream", name, "--command", &fixture, "--arg", "--stdio"];
        let rest = ["--arg", "--era", "--arg", "legacy", "--stdio-mode", mode];
        self.control.ok(&[&create[..], &rest].concat()).await?;
        self.settled().await
    }

    /// Waits until every proxy has a certificate and the whole configuration.
    async fn settled(&self) -> anyhow::Result<()> {
        eventually("the proxies know each other", SOON, || async {
            let all = [&self.host, &self.edges[0], &self.edges[1]];
            let certified = all.iter().all(|proxy| proxy.certificate().exists());
            let status: Value =
                serde_json::from_str(&self.control.ok(&["status", "-o", "json"]).await?)?;
            let listed = self.control.ok(&["get", "proxies", "-o", "json"]).await?;
            let listed: Value = serde_json::from_str(&listed)?;
            let listed = listed.as_array().or_else(|| listed.get("items")?.as_array());
            let is_current = |it: &Value| it.get("applied_revision") == status.get("revision");
            Ok(certified && listed.context("no list")?.iter().all(is_current))
        })
        .await
    }

    /// Those of discovery have gone by then.
    async fn has_one_process(&self) -> anyhow::Result<()> {
        eventually("the host runs one process", SOON, || async {
            Ok(self.host.process().descendants().len() == 1)
        })
        .await
    }

    fn at(&self, edge: usize) -> Client {
        let [first, second] = &self.edges;
        let proxy = if edge == 0 { first } else { second };
        proxy.client("/mcp", &self.token)
    }
}

fn echo(text: &str) -> String {
    json!({"message": text}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_may_need_a_command_lives_on_a_host() -> anyhow::Result<()> {
    let fleet = Fleet::start().await?;
    fleet.command("own", "per-session").await?;
    let mut client = fleet.at(0);
    client.initialize_with(LEGACY, json!({"sampling": {}, "roots": {}})).await?;
    let elsewhere = client.scattered(&format!("{}/mcp", fleet.edges[1].url()));
    for client in [&client, &elsewhere] {
        ensure!(client.tool_names().await?.contains(&"own-echo".to_owned()));
        assert_eq!(client.call_text("own-echo", &echo("hosted")).await?, "hosted");
    }
    fleet.has_one_process().await?;
    // Questions during a call and outside of all calls, answered through the other proxy.
    let (asked, answer) = elsewhere
        .converse(r#"{"name":"own-test_sampling","arguments":{"prompt":"?"}}"#, |_| {
            let content = json!({"type": "text", "text": "yes"});
            json!({"role": "assistant", "model": "m", "content": content})
        })
        .await?;
    assert_eq!(asked.len(), 1);
    assert_eq!(answer["result"]["content"][0]["text"], "LLM response: yes", "{answer}");
    let mut events = Events::of(elsewhere.listen(None).send().await?).await?;
    client.call_text("own-test_speak_later", "{}").await?;
    assert_eq!(events.message().await?["params"]["data"], "later");
    assert_eq!(events.message().await?["method"], "roots/list");
    assert_eq!(elsewhere.delete().send().await?.status(), 204);
    eventually("its process ends with it", SOON, || async {
        Ok(fleet.host.process().descendants().is_empty())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_alone_goes_to_a_host_by_itself() -> anyhow::Result<()> {
    let fleet = Fleet::start().await?;
    fleet.command("all", "shared").await?;
    for edge in [0, 1] {
        let client = fleet.at(edge);
        let echo = r#"{"name":"all-echo","arguments":{"message":"modern"}}"#;
        let called = client.modern("tools/call", echo).await?.result()?;
        assert_eq!(called["content"][0]["text"], "modern", "{called}");
        let plain = fleet.edges[edge].client("/rpc", &fleet.token);
        let called = plain.legacy("tools/call", echo).await?.result()?;
        assert_eq!(called["content"][0]["text"], "modern", "{called}");
    }
    fleet.has_one_process().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_older_than_the_first_command_can_use_it() -> anyhow::Result<()> {
    let fleet = Fleet::start().await?;
    fleet.settled().await?;
    let mut client = fleet.at(0);
    client.initialize_with(LEGACY, json!({"sampling": {}})).await?;
    fleet.command("new", "per-session").await?;
    let elsewhere = client.scattered(&format!("{}/mcp", fleet.edges[1].url()));
    for client in [&client, &elsewhere] {
        assert_eq!(client.call_text("new-echo", &echo("late")).await?, "late");
        let (_, answer) = client
            .converse(r#"{"name":"new-test_sampling","arguments":{"prompt":"?"}}"#, |_| {
                let content = json!({"type": "text", "text": "yes"});
                json!({"role": "assistant", "model": "m", "content": content})
            })
            .await?;
        assert_eq!(answer["result"]["content"][0]["text"], "LLM response: yes", "{answer}");
    }
    fleet.has_one_process().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_host_the_call_fails_and_says_why() -> anyhow::Result<()> {
    let mut fleet = Fleet::start().await?;
    fleet.command("gone", "shared").await?;
    fleet.host.kill().await;
    let call = r#"{"name":"gone-echo","arguments":{"message":"x"}}"#;
    let begun = std::time::Instant::now();
    let answer = fleet.at(0).modern("tools/call", call).await?.response()?;
    ensure!(answer.to_string().contains("--allow-stdio"), "{answer}");
    ensure!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    fleet.host.start_again().await?;
    eventually("a host is back", SOON, || async {
        Ok(fleet.at(0).modern("tools/call", call).await?.result().is_ok())
    })
    .await
}

/// The data of the next event of HTTP+SSE.
async fn data(stream: &mut reqwest::Response, buffer: &mut String) -> anyhow::Result<String> {
    loop {
        if let Some(end) = buffer.find("\n\n") {
            let block: String = buffer.drain(..end + 2).collect();
            let data = block.lines().find_map(|line| line.strip_prefix("data: "));
            match data {
                Some(data) => return Ok(data.to_owned()),
                None => continue,
            }
        }
        let chunk = tokio::time::timeout(SOON, stream.chunk()).await??.context("it ended")?;
        buffer.push_str(&String::from_utf8_lossy(&chunk));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_an_event_stream_find_it_from_any_proxy() -> anyhow::Result<()> {
    let fleet = Fleet::start().await?;
    let http = tests::client::http();
    // Once the stream is on the proxy that was asked, once on a host behind it.
    for name in [None, Some("own")] {
        match name {
            Some(name) => fleet.command(name, "per-session").await?,
            None => fleet.settled().await?,
        }
        let open = http.get(format!("{}/sse", fleet.edges[0].url())).bearer_auth(&fleet.token);
        let (mut stream, mut buffer) = (open.send().await?, String::new());
        let endpoint = data(&mut stream, &mut buffer).await?;
        let mut urls = [&fleet.edges[1], &fleet.host, &fleet.edges[0]].into_iter().cycle();
        let mut post = |message: Value| {
            let url = format!("{}{endpoint}", urls.next().map(Proxy::url).unwrap_or_default());
            http.post(url).bearer_auth(&fleet.token).json(&message).send()
        };
        let hello = json!({"protocolVersion": "2024-11-05", "capabilities": {},
            "clientInfo": {"name": "old", "version": "1"}});
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello});
        assert_eq!(post(hello).await?.status(), 202);
        let answer: Value = serde_json::from_str(&data(&mut stream, &mut buffer).await?)?;
        assert_eq!(answer["id"], 0, "{answer}");
        let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(post(done).await?.status(), 202);
        for id in 1..5 {
            let request = match name {
                None => json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"}),
                Some(_) => json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
                    "params": {"name": "own-echo", "arguments": {"message": "x"}}}),
            };
            assert_eq!(post(request).await?.status(), 202);
            let answer: Value = serde_json::from_str(&data(&mut stream, &mut buffer).await?)?;
            ensure!(answer["id"] == id && answer.get("result").is_some(), "{answer}");
        }
        let stranger = fleet
            .control
            .ok(&["token", "create", "--name", &format!("o{}", name.is_some())])
            .await?;
        let url = format!("{}{endpoint}", fleet.edges[1].url());
        let refused = http.post(url).bearer_auth("lg_nobody").json(&json!({})).send().await?;
        assert_eq!(refused.status(), 401, "{stranger}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_on_a_host_is_found_when_another_host_comes() -> anyhow::Result<()> {
    const UPSTREAMS: usize = 6;
    let fleet = Fleet::start().await?;
    for number in 0..UPSTREAMS {
        fleet.command(&format!("u{number}"), "shared").await?;
    }
    let client = fleet.at(0).able(r#"{"elicitation":{}}"#);
    let mut rounds = Vec::new();
    for number in 0..UPSTREAMS {
        let call = json!({"name": format!("u{number}-test_elicitation"),
            "arguments": {"message": "Who?"}})
        .to_string();
        let response = client.modern("tools/call", &call).await?.response()?;
        rounds.push(Round::of(&call, &response).with_context(|| response.to_string())?);
    }
    // Half of the upstreams are the new one's from now on.
    let _other = fleet.control.proxy().await?;
    fleet.settled().await?;
    let yes = |_: &Value| json!({"action": "accept", "content": {"username": "a", "email": "b"}});
    for round in &rounds {
        let response = client.modern("tools/call", &round.next(yes)).await?.response()?;
        assert!(response.to_string().contains("action=accept"), "{response}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_agree_on_where_a_command_runs_for_who_has_no_session() -> anyhow::Result<()> {
    const UPSTREAMS: usize = 4;
    let fleet = Fleet::start().await?;
    let other = fleet.control.proxy().await?;
    for number in 0..UPSTREAMS {
        // One that is shared may have been started to look at it, wherever that was.
        fleet.command(&format!("u{number}"), "per-session").await?;
    }
    eventually("the other host is known", SOON, || async { Ok(other.certificate().exists()) })
        .await?;
    fleet.settled().await?;
    for proxy in [&fleet.host, &other, &fleet.edges[0]] {
        let client = proxy.client("/mcp", &fleet.token);
        for number in 0..UPSTREAMS {
            let call = json!({"name": format!("u{number}-echo"), "arguments": {"message": "m"}});
            let called = client.modern("tools/call", &call.to_string()).await?.result()?;
            assert_eq!(called["content"][0]["text"], "m", "{called}");
        }
    }
    eventually("each command runs once", SOON, || async {
        let hosts = [fleet.host.process(), other.process()];
        let running = hosts.map(|host| host.descendants().len());
        Ok(running.into_iter().sum::<usize>() == UPSTREAMS)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_on_a_proxy_without_commands_reaches_them() -> anyhow::Result<()> {
    let fleet = Fleet::start().await?;
    fleet.command("own", "per-session").await?;
    let edge = fleet.edges[0].url();
    let mut request = format!("{}/ws", edge.replacen("http", "ws", 1)).into_client_request()?;
    let bearer = format!("Bearer {}", fleet.token).parse()?;
    request.headers_mut().insert(http::header::AUTHORIZATION, bearer);
    let stream = tokio::net::TcpStream::connect(edge.trim_start_matches("http://")).await?;
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "socket", "version": "1"}});
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}});
    let call = json!({"name": "own-echo", "arguments": {"message": "moved"}});
    let mut modern = call.clone();
    modern["_meta"] = meta;
    for (method, params) in [("initialize", hello), ("tools/call", call), ("tools/call", modern)] {
        let message = json!({"jsonrpc": "2.0", "id": "a", "method": method, "params": params});
        socket.send(Message::text(message.to_string())).await?;
        let answer = tokio::time::timeout(SOON, socket.next()).await?.context("no answer")??;
        let answer: Value = serde_json::from_str(answer.to_text()?)?;
        assert_eq!(answer["id"], "a", "{answer}");
        if method == "tools/call" {
            assert_eq!(answer["result"]["content"][0]["text"], "moved", "{answer}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_a_session_older_than_the_first_command_can_use_it() -> anyhow::Result<()> {
    let fleet = Fleet::start().await?;
    fleet.settled().await?;
    let mut client = fleet.at(0);
    client.initialize_at("2025-03-26").await?;
    fleet.command("new", "shared").await?;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "new-echo", "arguments": {"message": "moved"}}});
    let batch = json!([call, {"jsonrpc": "2.0", "id": 2, "method": "ping"}]);
    let answers = client.post(batch.to_string()).await?.json()?;
    let answers = answers.as_array().context("no array")?;
    assert_eq!(answers.len(), 2, "{answers:?}");
    let called = answers.iter().find(|answer| answer["id"] == 1).context("no answer")?;
    assert_eq!(called["result"]["content"][0]["text"], "moved", "{called}");
    Ok(())
}
