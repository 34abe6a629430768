//! `lockgate translate`: a command offered over HTTP to many clients, a URL offered on pipes.

mod stateless;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::client::{Client, LEGACY, eventually};
use tests::fixture::{self, Era};
use tests::world::process::{Process, all_gone};
use tests::world::{Answer, lockgate, lockgate_on, program};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::connect::{Pipe, call, text};

const SOON: Duration = Duration::from_secs(20);

/// A running `translate` with the fixture as its command.
struct Translate {
    process: Process,
    url: String,
    _directory: tempfile::TempDir,
}

fn fixture_command(more: &str) -> anyhow::Result<String> {
    Ok(format!("'{}' {more}", program("fixture")?.display()))
}

impl Translate {
    async fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let command = fixture_command("--stdio --era legacy")?;
        Self::start_of(&[&["--stdio", &command], arguments].concat()).await
    }

    async fn start_of(arguments: &[&str]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut translate = lockgate(directory.path())?;
        translate.args(["translate", "--port", "0"]).args(arguments);
        let process = Process::spawn(translate)?;
        let url = process.announced_url("  http://").await?;
        let origin = url.rsplit_once('/').map(|(origin, _)| origin.to_owned());
        Ok(Self { process, url: origin.context(url)?, _directory: directory })
    }

    fn client(&self) -> Client {
        Client::new(&format!("{}/mcp", self.url), None)
    }

    /// Ends it with a signal; nothing may be left of it.
    async fn end(mut self, signal: Signal) -> anyhow::Result<()> {
        let children = self.process.descendants();
        self.process.signal(signal)?;
        assert_eq!(self.process.ended(SOON).await?, 0);
        all_gone(&children, SOON).await
    }
}

fn echo(text: &str) -> String {
    json!({"message": text}).to_string()
}

/// What a client of a script of `interop` saw.
async fn sdk(mut script: tokio::process::Command) -> anyhow::Result<Value> {
    script.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("interop"));
    let output = script.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_mins(1), output).await??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_use_one_command_and_hear_only_their_own() -> anyhow::Result<()> {
    for mode in ["per-session", "shared"] {
        let translate =
            Translate::start(&["--expose-streamable-http", "--stdio-mode", mode]).await?;
        let mut clients = Vec::new();
        for _ in 0..6 {
            let mut client = translate.client();
            client.initialize().await?;
            clients.push(client);
        }
        ensure!(clients[0].tool_names().await?.contains(&"echo".to_owned()), "bare names");
        let calls = clients.iter().enumerate().map(|(number, client)| async move {
            for round in 0..5 {
                // Every client uses the same ids and tokens.
                let said = format!("{number}-{round}");
                assert_eq!(client.call_text("echo", &echo(&said)).await?, said);
                let call = r#"{"name":"test_tool_with_progress","arguments":{},"_meta":{"progressToken":7}}"#;
                let messages = client.legacy("tools/call", call).await?.messages()?;
                let seen: Vec<_> = messages
                    .iter()
                    .map(|it| it.pointer("/params/progress").and_then(Value::as_f64))
                    .collect();
                assert_eq!(seen, [Some(0.0), Some(50.0), Some(100.0), None], "{mode}");
            }
            anyhow::Ok(())
        });
        for done in futures_util::future::join_all(calls).await {
            done.with_context(|| mode)?;
        }
        let children = translate.process.descendants().len();
        assert_eq!(children, if mode == "shared" { 1 } else { 6 }, "{mode}");
        assert_eq!(clients[0].delete().send().await?.status(), 204);
        let left = if mode == "shared" { 1 } else { 5 };
        eventually("its process ends with a session", SOON, || async {
            Ok(translate.process.descendants().len() == left)
        })
        .await?;
        let signal = if mode == "shared" { Signal::TERM } else { Signal::INT };
        translate.end(signal).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_may_take_longer_than_other_bridges_wait() -> anyhow::Result<()> {
    // ContextForge's gives up after ten seconds.
    const SLOW: u64 = 12_000;
    let translate = Translate::start(&["--expose-sse", "--expose-streamable-http"]).await?;
    let mut client = translate.client();
    client.initialize().await?;
    let events = format!("{}/sse", translate.url);
    let mut pipe = Pipe::run("translate", &["--connect-sse", &events], &[])?;
    pipe.initialize(json!({})).await?;
    pipe.send(&call(1, "sleep", json!({"milliseconds": SLOW}))).await?;
    let arguments = json!({"milliseconds": SLOW}).to_string();
    let (http, piped) = tokio::join!(client.call_text("sleep", &arguments), pipe.answer(1));
    assert_eq!(http?, "slept 12000 ms");
    assert_eq!(text(&piped?), Some("slept 12000 ms"));
    assert_eq!(pipe.end().await?, 0);
    translate.end(Signal::TERM).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdks_use_a_command_over_both_transports_at_once() -> anyhow::Result<()> {
    let translate = Translate::start(&["--expose-sse", "--expose-streamable-http"]).await?;
    let calls = |number: usize| {
        let message = format!("client {number}");
        json!([{"name": "echo", "arguments": {"message": message}}]).to_string()
    };
    let url = format!("{}/mcp", translate.url);
    let mut running = Vec::new();
    for (number, transport) in ["http", "sse", "http", "sse"].into_iter().enumerate() {
        let mut script = tokio::process::Command::new("node");
        script.args([
            "--experimental-websocket",
            "client_ts1.mjs",
            &url,
            "none",
            &calls(number),
            transport,
        ]);
        running.push(tokio::spawn(sdk(script)));
    }
    for mode in ["legacy", "auto"] {
        let mut script = tokio::process::Command::new(".venv/bin/python");
        script.args(["client_py2.py", &url, "none", &calls(running.len()), mode]);
        running.push(tokio::spawn(sdk(script)));
    }
    for (number, client) in running.into_iter().enumerate() {
        let seen = client.await??;
        let said = seen.pointer("/results/0/content/0/text");
        assert_eq!(said, Some(&format!("client {number}").into()), "{seen}");
    }
    let log = translate.process.log();
    ensure!(!log.contains("ERROR"), "{log}");
    translate.end(Signal::TERM).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_command_asks_reaches_the_client_that_called() -> anyhow::Result<()> {
    let translate = Translate::start(&["--expose-streamable-http"]).await?;
    let mut clients = [translate.client(), translate.client()];
    for client in &mut clients {
        client.initialize_with(LEGACY, json!({"sampling": {}})).await?;
    }
    let ask = r#"{"name":"test_sampling","arguments":{"prompt":"?"}}"#;
    let reply = |said: &'static str| {
        move |_: &Value| {
            let content = json!({"type": "text", "text": said});
            json!({"role": "assistant", "model": "m", "content": content})
        }
    };
    let (one, two) = tokio::try_join!(
        clients[0].converse(ask, reply("one")),
        clients[1].converse(ask, reply("two"))
    )?;
    for ((asked, answer), said) in [(one, "one"), (two, "two")] {
        assert_eq!(asked.len(), 1);
        assert_eq!(text(&answer), Some(&*format!("LLM response: {said}")), "{answer}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_dies_is_started_again() -> anyhow::Result<()> {
    let translate =
        Translate::start(&["--expose-streamable-http", "--stdio-mode", "shared"]).await?;
    let mut client = translate.client();
    client.initialize().await?;
    for round in 0..2 {
        let before = translate.process.descendants();
        let child = before.first().and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?));
        kill_process(child.context("no child")?, Signal::KILL)?;
        eventually("it answers again", SOON, || async {
            Ok(client.call_text("echo", &echo("again")).await.is_ok_and(|said| said == "again"))
        })
        .await
        .with_context(|| round)?;
        assert_ne!(before, translate.process.descendants());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_asked_for_is_offered_and_only_to_whom() -> anyhow::Result<()> {
    let paths = ["--expose-sse", "--ssePath", "/events", "--messagePath", "/say"];
    let translate = Translate::start(&[&paths[..], &["--token", "secret"]].concat()).await?;
    let http = tests::client::http();
    let get = |path: &str| http.get(format!("{}{path}", translate.url));
    for path in ["/mcp", "/sse", "/ws", "/rpc", "/servers/x/sse"] {
        assert_eq!(get(path).bearer_auth("secret").send().await?.status(), 404, "{path}");
    }
    for wrong in [get("/events"), get("/events").bearer_auth("other")] {
        assert_eq!(wrong.send().await?.status(), 401);
    }
    let strange = get("/events").bearer_auth("secret").header("origin", "https://evil.example");
    assert_eq!(strange.send().await?.status(), 403);
    let mut opened = get("/events").bearer_auth("secret").send().await?;
    let first = opened.chunk().await?.context("nothing")?;
    let first = String::from_utf8_lossy(&first);
    ensure!(first.starts_with("event: endpoint\ndata: /say?session_id="), "{first}");
    Ok(())
}

/// Runs a `translate` that must end by itself.
async fn ends(arguments: &[&str]) -> anyhow::Result<Answer> {
    let directory = tempfile::tempdir()?;
    let arguments = [&["translate"], arguments].concat();
    tokio::time::timeout(SOON, lockgate_on(directory.path(), &arguments)).await?
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_one_line_and_an_exit_code() -> anyhow::Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let fixture = fixture_command("--stdio")?;
    for (arguments, code, said) in [
        (&[][..], 2, "is required"),
        (&["--stdio", "a", "--connect-sse", "http://h"], 2, "exclude each other"),
        (
            &["--stdio", &fixture, "--port", &port],
            5,
            "the port is taken, choose another with --port",
        ),
        (
            &["--stdio", "no-such-command --x", "--port", "0"],
            3,
            "command not found: `no-such-command`",
        ),
        (&["--stdio", "sh -c 'echo why >&2; exit 3'", "--port", "0"], 6, "it said: why"),
        (&["--connect-sse", "ftp://h"], 2, "--connect-sse"),
        (
            &["--connect-streamable-http", "http://127.0.0.1:1/mcp", "--expose-sse", "--port", "0"],
            6,
            "connect",
        ),
    ] {
        let answer = ends(&[arguments, &["--log-level", "error"]].concat()).await?;
        assert_eq!(answer.code, code, "{arguments:?}: {}", answer.stderr);
        ensure!(answer.stderr.contains(said), "{arguments:?}: {}", answer.stderr);
        let lines = answer.stderr.lines().filter(|line| !line.starts_with("hint: "));
        assert_eq!(lines.count(), 1, "{arguments:?}: {}", answer.stderr);
        assert_eq!(answer.stdout, "");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_offered_in_the_other_transport() -> anyhow::Result<()> {
    let sse = fixture::start_sse(Era::Legacy, "127.0.0.1:0").await?;
    let url = sse.url();
    let translate =
        Translate::start_of(&["--connect-sse", &url, "--expose-streamable-http"]).await?;
    let mut client = translate.client();
    client.initialize().await?;
    assert_eq!(client.call_text("echo", &echo("across")).await?, "across");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_is_offered_on_pipes() -> anyhow::Result<()> {
    let streamable = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let sse = fixture::start_sse(Era::Legacy, "127.0.0.1:0").await?;
    for (flag, url) in
        [("--connect-streamable-http", streamable.url()), ("--connect-sse", sse.url())]
    {
        let mut pipe = Pipe::run("translate", &[flag, &url, "--oauth2Bearer", "x"], &[])?;
        let hello = pipe.initialize(json!({"sampling": {}})).await?;
        assert_eq!(hello.pointer("/result/protocolVersion"), Some(&LEGACY.into()), "{hello}");
        pipe.send(&call(1, "sleep", json!({"milliseconds": 30_000}))).await?;
        pipe.send(&call(2, "echo", json!({"message": "piped"}))).await?;
        assert_eq!(text(&pipe.answer(2).await?), Some("piped"), "{flag}");
        let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
            "params": {"requestId": 1}});
        pipe.send(&cancel).await?;
        pipe.send(&call(3, "test_sampling", json!({"prompt": "say"}))).await?;
        let asked = pipe.message().await?;
        assert_eq!(asked.get("method"), Some(&"sampling/createMessage".into()), "{asked}");
        let said =
            json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "yes"}});
        pipe.send(&json!({"jsonrpc": "2.0", "id": asked.get("id"), "result": said})).await?;
        assert_eq!(text(&pipe.answer(3).await?), Some("LLM response: yes"), "{flag}");
        assert_eq!(pipe.end().await?, 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_event_stream_is_opened_again_for_the_client_on_the_pipe() -> anyhow::Result<()> {
    let sse = fixture::start_sse(Era::Legacy, "127.0.0.1:0").await?;
    let (url, address) = (sse.url(), sse.address().to_string());
    let mut pipe = Pipe::run("translate", &["--connect-sse", &url], &[])?;
    pipe.initialize(json!({})).await?;
    pipe.send(&call(1, "sleep", json!({"milliseconds": 60_000}))).await?;
    pipe.send(&call(2, "echo", json!({"message": "before"}))).await?;
    assert_eq!(text(&pipe.answer(2).await?), Some("before"));
    drop(sse);
    let lost = pipe.answer(1).await?;
    assert_eq!(lost.pointer("/error/code"), Some(&(-32603).into()), "{lost}");
    pipe.send(&call(3, "echo", json!({"message": "after"}))).await?;
    let _again = loop {
        match fixture::start_sse(Era::Legacy, &address).await {
            Ok(server) => break server,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert_eq!(text(&pipe.answer(3).await?), Some("after"));
    assert_eq!(pipe.end().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_server_elsewhere_nor_the_client_learns_our_token() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/sse", server.local_addr()?);
    let seen = directory.path().join("environment");
    let client = format!("sh -c 'env > {}; cat'", seen.display());
    let mut translate = lockgate(directory.path())?;
    translate.args(["translate", "--connect-sse", &url, "--stdio-command", &client]);
    for name in ["LOCKGATE_TOKEN", "MCPGATEWAY_BEARER_TOKEN", "MCP_AUTH"] {
        translate.env(name, "secret-of-ours");
    }
    translate.env("OF_THE_USER", "kept").stdin(Stdio::null()).kill_on_drop(true);
    let _running = translate.spawn()?;
    let (stream, _) = tokio::time::timeout(SOON, server.accept()).await??;
    let mut lines = BufReader::new(stream).lines();
    let mut asked = String::new();
    while let Some(line) = lines.next_line().await?.filter(|line| !line.is_empty()) {
        asked.push_str(&line.to_lowercase());
        asked.push('\n');
    }
    ensure!(asked.starts_with("get /sse") && !asked.contains("authorization"), "{asked}");
    eventually("the client has started", SOON, || async {
        Ok(tokio::fs::read_to_string(&seen).await.is_ok_and(|it| it.contains("OF_THE_USER=kept")))
    })
    .await?;
    let environment = tokio::fs::read_to_string(&seen).await?;
    ensure!(!environment.contains("secret-of-ours"), "{environment}");
    Ok(())
}
