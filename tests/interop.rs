//! Other people's clients, through `lockgate up`, to other people's servers.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::{Value, json};
use tests::client::{eventually, http};
use tests::fixture::{self, Era};
use tests::world::process::Process;
use tests::world::{World, program};
use tokio::process::Command;

/// One call per upstream, and a part of the right answer.
const CALLS: [(&str, &str, &str); 7] = [
    ("everything-echo", r#"{"message":"over http"}"#, "over http"),
    ("streamed-echo", r#"{"message":"over an event stream"}"#, "over an event stream"),
    ("piped-echo", r#"{"message":"over a pipe"}"#, "over a pipe"),
    ("piped-get-sum", r#"{"a":2,"b":40}"#, "42"),
    ("time-get_current_time", r#"{"timezone":"UTC"}"#, "UTC"),
    ("legacy-echo", r#"{"message":"legacy"}"#, "legacy"),
    ("modern-echo", r#"{"message":"modern"}"#, "modern"),
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop")
}

/// A file that `make test` installs.
fn installed(path: &str) -> anyhow::Result<String> {
    let file = directory().join(path);
    ensure!(file.exists(), "{} is not installed: `make test` installs it", file.display());
    Ok(file.display().to_string())
}

/// A gateway before every server of the matrix.
struct Matrix {
    world: World,
    token: String,
    _everything: [Process; 2],
    _fixtures: [fixture::Server; 2],
}

impl Matrix {
    async fn start() -> anyhow::Result<Self> {
        let script =
            installed("node_modules/@modelcontextprotocol/server-everything/dist/index.js")?;
        let python = installed(".venv/bin/python")?;
        let (http, url) = everything_over(&script, "streamableHttp", "/mcp").await?;
        let (sse, stream) = everything_over(&script, "sse", "/sse").await?;
        let legacy = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
        let modern = fixture::start(Era::Modern, "127.0.0.1:0").await?;
        let world = World::up().await?;
        for (name, url) in [
            ("everything", url),
            ("streamed", stream),
            ("legacy", legacy.url()),
            ("modern", modern.url()),
        ] {
            world.ok(&["create", "upstream", name, "--url", &url]).await?;
        }
        let piped = [
            "create",
            "upstream",
            "piped",
            "--command",
            "node",
            "--arg",
            &script,
            "--arg",
            "stdio",
        ];
        world.ok(&piped).await?;
        let time = [
            "create",
            "upstream",
            "time",
            "--command",
            &python,
            "--arg",
            "-m",
            "--arg",
            "mcp_server_time",
        ];
        world.ok(&[&time[..], &["--arg", "--local-timezone", "--arg", "UTC"]].concat()).await?;
        let token = world.token("interop").await?;
        Ok(Self { world, token, _everything: [http, sse], _fixtures: [legacy, modern] })
    }

    fn url(&self) -> String {
        format!("{}/mcp", self.world.url())
    }

    /// Runs a client script and checks what it saw.
    async fn run(&self, mut command: Command, more: &[&str]) -> anyhow::Result<()> {
        let calls = CALLS.map(|(name, arguments, _)| {
            json!({"name": name, "arguments": serde_json::from_str::<Value>(arguments).unwrap_or_default()})
        });
        let calls = Value::from(calls.to_vec()).to_string();
        command.args([&self.url(), &self.token, &calls]).args(more);
        command.current_dir(directory()).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_mins(1), command.output()).await??;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{complaint}\n{}", self.world.process().log_tail());
        let seen: Value = serde_json::from_slice(&output.stdout).context(complaint)?;
        check(&seen)
    }
}

/// `{"tools": [names], "results": [results of CALLS]}`
fn check(seen: &Value) -> anyhow::Result<()> {
    let tools = seen.get("tools").and_then(Value::as_array).context("no tools")?;
    let results = seen.get("results").and_then(Value::as_array).context("no results")?;
    ensure!(results.len() == CALLS.len(), "{} results", results.len());
    for ((name, _, expected), result) in CALLS.iter().zip(results) {
        ensure!(tools.contains(&Value::from(*name)), "`{name}` is not in {tools:?}");
        let content = result.get("content").context("no content")?.to_string();
        ensure!(content.contains(expected), "`{name}` gave {result}");
        ensure!(result.get("isError") != Some(&Value::from(true)), "`{name}` gave {result}");
    }
    Ok(())
}

/// Starts server-everything on a port of its own, which it cannot choose itself.
async fn everything_over(
    script: &str,
    transport: &str,
    path: &str,
) -> anyhow::Result<(Process, String)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("node");
    command.args([script, transport]).env("PORT", port.to_string());
    let process = Process::spawn(command)?;
    let url = format!("http://127.0.0.1:{port}{path}");
    let client = http();
    eventually("server-everything listens", Duration::from_secs(30), || async {
        Ok(client.get(&url).send().await.is_ok())
    })
    .await?;
    Ok((process, url))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_sdk_calls_every_server_on_every_transport() -> anyhow::Result<()> {
    let matrix = Matrix::start().await?;
    installed("node_modules/@modelcontextprotocol/sdk/package.json")?;
    for transport in ["http", "sse", "ws"] {
        let mut command = Command::new("node");
        // Node 20 hides its WebSocket; newer ones take the flag and do not need it.
        command.args(["--experimental-websocket", "client_ts1.mjs"]);
        matrix.run(command, &[transport]).await.with_context(|| transport)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_sdk_calls_every_server_in_every_mode() -> anyhow::Result<()> {
    let matrix = Matrix::start().await?;
    for mode in ["auto", "legacy", "2026-07-28"] {
        let mut command = Command::new(installed(".venv/bin/python")?);
        command.arg("client_py2.py");
        matrix.run(command, &[mode]).await.with_context(|| format!("mode {mode}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sdks_that_start_a_command_call_every_server() -> anyhow::Result<()> {
    let matrix = Matrix::start().await?;
    let lockgate = program("lockgate")?.display().to_string();
    for mode in ["auto", "legacy", "2026-07-28"] {
        let mut command = Command::new(installed(".venv/bin/python")?);
        command.arg("client_py2_stdio.py");
        let ran = matrix.run(command, &[mode, &lockgate]).await;
        ran.with_context(|| format!("Python, mode {mode}"))?;
    }
    let mut command = Command::new("node");
    command.args(["--experimental-websocket", "client_ts1.mjs"]);
    matrix.run(command, &["stdio", &lockgate]).await.context("TypeScript")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_sdk_calls_every_server_in_every_mode() -> anyhow::Result<()> {
    let matrix = Matrix::start().await?;
    let modern = vec![ProtocolVersion::V_2026_07_28];
    let modes = [
        ClientLifecycleMode::Initialize,
        ClientLifecycleMode::Discover { preferred_versions: modern.clone() },
        ClientLifecycleMode::Auto { preferred_versions: modern, legacy_version: None },
    ];
    for mode in modes {
        let shown = format!("{mode:?}");
        rust_client(&matrix, mode).await.with_context(|| shown)?;
    }
    Ok(())
}

async fn rust_client(matrix: &Matrix, mode: ClientLifecycleMode) -> anyhow::Result<()> {
    let config =
        StreamableHttpClientTransportConfig::with_uri(matrix.url()).auth_header(&matrix.token);
    let transport = StreamableHttpClientTransport::with_client(http(), config);
    let client = ().serve_with_lifecycle(transport, mode).await?;
    let tools = client.list_all_tools().await?;
    let tools: Vec<_> = tools.iter().map(|tool| Value::from(tool.name.as_ref())).collect();
    let mut results = Vec::new();
    for (name, arguments, _) in CALLS {
        let call =
            CallToolRequestParams::new(name).with_arguments(serde_json::from_str(arguments)?);
        results.push(serde_json::to_value(client.call_tool(call).await?)?);
    }
    client.cancel().await?;
    check(&json!({"tools": tools, "results": results}))
}
