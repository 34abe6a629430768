//! `lockgate connect`: what a client that starts a command sees, byte by byte.

mod anew;
mod batches;
mod ends;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::client::eventually;
use tests::fixture::{self, Era};
use tests::world::{World, lockgate};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(40);

/// A running `connect` and both of its pipes.
pub(super) struct Pipe {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    _directory: tempfile::TempDir,
}

impl Pipe {
    pub(super) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::run("connect", arguments, variables)
    }

    pub(super) fn run(
        verb: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = lockgate(directory.path())?;
        command.arg(verb).args(arguments).envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        Ok(Self { child, input, output, _directory: directory })
    }

    pub(super) fn to(world: &World, token: &str) -> anyhow::Result<Self> {
        Self::start(&["--url", world.url(), "--token", token], &[])
    }

    pub(super) async fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        self.send_text(&message.to_string()).await
    }

    /// Sends exactly this line.
    pub(super) async fn send_text(&mut self, line: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("the input is closed")?;
        Ok(input.write_all(&[line.as_ref(), b"\n"].concat()).await?)
    }

    /// The next message; whatever is no JSON fails.
    pub(super) async fn message(&mut self) -> anyhow::Result<Value> {
        let line = self.text().await?;
        serde_json::from_str(&line).with_context(|| line)
    }

    /// The next line.
    pub(super) async fn text(&mut self) -> anyhow::Result<String> {
        let line = timeout(PATIENCE, self.output.next_line()).await.context("silence")??;
        line.context("it ended")
    }

    /// A message with this id, after whatever else comes.
    pub(super) async fn answer(&mut self, id: i64) -> anyhow::Result<Value> {
        loop {
            let message = self.message().await?;
            if message.get("id") == Some(&id.into()) && message.get("method").is_none() {
                return Ok(message);
            }
        }
    }

    pub(super) async fn initialize(&mut self, capabilities: Value) -> anyhow::Result<Value> {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": capabilities,
            "clientInfo": {"name": "tests", "version": "1"}});
        self.send(&request(0, "initialize", params)).await?;
        let answer = self.answer(0).await?;
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await?;
        Ok(answer)
    }

    /// Ends it as a crash would.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Closes the input and gives the exit code.
    pub(super) async fn end(mut self) -> anyhow::Result<i32> {
        self.input = None;
        let status = timeout(PATIENCE, self.child.wait()).await??;
        Ok(status.code().unwrap_or(-1))
    }
}

fn request(id: i64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub(super) fn call(id: i64, tool: &str, arguments: Value) -> Value {
    let meta = json!({"progressToken": id});
    request(id, "tools/call", json!({"name": tool, "arguments": arguments, "_meta": meta}))
}

pub(super) fn text(answer: &Value) -> Option<&str> {
    answer.pointer("/result/content/0/text").and_then(Value::as_str)
}

async fn world() -> anyhow::Result<(World, fixture::Server, String)> {
    world_of(Era::Dual).await
}

async fn world_of(era: Era) -> anyhow::Result<(World, fixture::Server, String)> {
    let fixture = fixture::start(era, "127.0.0.1:0").await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "up", "--url", &fixture.url()]).await?;
    let token = world.token("connect").await?;
    Ok((world, fixture, token))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_starts_a_command_uses_the_gateway() -> anyhow::Result<()> {
    let (world, _fixture, token) = world().await?;
    let mut pipe = Pipe::to(&world, &token)?;
    let hello = pipe.initialize(json!({})).await?;
    assert_eq!(hello.pointer("/result/protocolVersion"), Some(&"2025-11-25".into()), "{hello}");
    pipe.send(&request(1, "tools/list", json!({}))).await?;
    assert!(pipe.answer(1).await?.to_string().contains("up-echo"));

    // A slow call does not hold up a fast one, and what is cancelled is never answered.
    pipe.send(&call(2, "up-sleep", json!({"milliseconds": 30_000}))).await?;
    pipe.send(&call(3, "up-echo", json!({"message": "hé\u{1}\n"}))).await?;
    let answer = pipe.message().await?;
    assert_eq!((answer.get("id"), text(&answer)), (Some(&3.into()), Some("hé\u{1}\n")));
    let cancelled = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": 2}});
    pipe.send(&cancelled).await?;
    pipe.send(&call(4, "up-test_tool_with_progress", json!({}))).await?;
    for expected in [0, 50, 100] {
        let progress = pipe.message().await?;
        assert_eq!(progress.pointer("/params/progressToken"), Some(&4.into()), "{progress}");
        let found = progress.pointer("/params/progress").and_then(Value::as_f64);
        assert_eq!(found, Some(f64::from(expected)), "{progress}");
    }
    assert_eq!(pipe.message().await?.get("id"), Some(&4.into()));

    let modern = json!({"name": "up-echo", "arguments": {"message": "new"}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}}});
    pipe.send(&request(5, "tools/call", modern)).await?;
    let answer = pipe.answer(5).await?;
    assert_eq!(answer.pointer("/result/resultType"), Some(&"complete".into()), "{answer}");

    let input = pipe.input.as_mut().context("closed")?;
    input.write_all(b"{nonsense\n").await?;
    assert_eq!(pipe.message().await?.pointer("/error/code"), Some(&(-32700).into()));
    assert_eq!(pipe.end().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrappers_variables_lead_to_a_virtual_server() -> anyhow::Result<()> {
    let (world, _fixture, token) = world().await?;
    world.ok(&["create", "server", "dev", "--upstream", "up", "--naming", "bare"]).await?;
    for auth in [token.clone(), format!("Bearer {token}")] {
        let url = format!("{}/servers/dev/sse", world.url());
        let variables = [
            ("MCP_SERVER_URL", url.as_str()),
            ("MCP_AUTH", auth.as_str()),
            ("MCP_TOOL_CALL_TIMEOUT", "4"),
        ];
        let mut pipe = Pipe::start(&[], &variables)?;
        pipe.initialize(json!({})).await?;
        pipe.send(&call(1, "echo", json!({"message": "hi"}))).await?;
        assert_eq!(text(&pipe.answer(1).await?), Some("hi"));
        pipe.send(&call(2, "sleep", json!({"milliseconds": 30_000}))).await?;
        let late = pipe.answer(2).await?;
        assert_eq!(late.pointer("/error/code"), Some(&(-32603).into()), "{late}");
        assert_eq!(pipe.end().await?, 0);
    }
    let mut stranger = Pipe::start(&["--url", world.url(), "--token", "lg_nobody"], &[])?;
    let refused = stranger.initialize(json!({})).await?;
    assert!(refused.pointer("/error/message").is_some_and(|it| it.to_string().contains("401")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tool_wants_in_headers_is_put_there() -> anyhow::Result<()> {
    let (world, _fixture, token) = world().await?;
    let mut pipe = Pipe::to(&world, &token)?;
    for (id, region) in [(1, "eu"), (2, "süd ")] {
        let params = json!({"name": "up-test_x_mcp_header", "arguments": {"region": region},
            "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {}}});
        pipe.send(&request(id, "tools/call", params)).await?;
        assert_eq!(text(&pipe.answer(id).await?), Some(region));
    }
    assert_eq!(pipe.end().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_client_listens_over_the_pipe() -> anyhow::Result<()> {
    let (mut world, _fixture, token) = world().await?;
    let mut pipe =
        Pipe::start(&["--url", world.url(), "--token", &token], &[("MCP_TOOL_CALL_TIMEOUT", "1")])?;
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}});
    let uri = "test://watched-resource";
    let listen = |filter: Value| json!({"notifications": filter, "_meta": meta.clone()});
    for (id, filter) in
        [(1, json!({"resourceSubscriptions": [uri]})), (2, json!({"toolsListChanged": true}))]
    {
        pipe.send(&request(id, "subscriptions/listen", listen(filter.clone()))).await?;
        let first = pipe.message().await?;
        let params = first.get("params").context("no parameters")?;
        assert_eq!(params.get("notifications"), Some(&filter), "{first}");
    }
    // Longer than a call may take.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let touch = json!({"name": "up-test_touch", "arguments": {}, "_meta": meta.clone()});
    pipe.send(&request(3, "tools/call", touch)).await?;
    let mut heard = [pipe.message().await?, pipe.message().await?];
    heard.sort_by_key(|message| message.get("id").is_some());
    let [updated, answer] = heard;
    assert_eq!(updated.pointer("/params/uri"), Some(&uri.into()), "{updated}");
    assert_eq!(answer.get("id"), Some(&3.into()), "{answer}");
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": 1, "_meta": meta}});
    let admin = world.ok(&["token", "create", "--name", "ops", "--role", "admin"]).await?;
    let listeners = || world.metric(&admin, "lockgate_listeners");
    assert_eq!(listeners().await?, "2");
    pipe.send(&cancel).await?;
    eventually("one is left", PATIENCE, || async { Ok(listeners().await? == "1") }).await?;
    world.stop().await?;
    let cancelled = pipe.message().await?;
    assert_eq!(cancelled.pointer("/params/requestId"), Some(&2.into()), "{cancelled}");
    let last = pipe.message().await?;
    assert_eq!(last.pointer("/result/resultType"), Some(&"complete".into()), "{last}");
    assert_eq!(pipe.end().await?, 0);
    Ok(())
}
