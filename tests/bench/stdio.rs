//! One command that 64 sessions share, against a client that has it to itself.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::bench::case::Bound;
use tests::bench::outcome::Finding;
use tests::bench::statistics::Spread;
use tests::bench::{Address, Session};
use tests::world::{ControlPlane, program};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;

/// Sessions through the gateway, and calls in flight of the client that has the command alone.
const AT_ONCE: usize = 64;
const SLICE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 6;
const TARGET: f64 = 0.8;
const NAME: &str = "stdio";

/// A client on the pipes of a command.
struct Direct {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    next: u64,
    /// Ends with the client.
    _child: Child,
}

fn call(tool: &str, id: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"message":"said {id}."}}}}}}"#
    )
}

impl Direct {
    async fn start(words: &[String]) -> anyhow::Result<Self> {
        let (program, arguments) = words.split_first().context("an empty command")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).kill_on_drop(true).spawn()?;
        let input = child.stdin.take().context("no pipe")?;
        let output = BufReader::new(child.stdout.take().context("no pipe")?).lines();
        let mut client = Self { input, output, next: 1, _child: child };
        let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
        client.say(hello).await?;
        client.answer().await?;
        client.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await?;
        Ok(client)
    }

    async fn say(&mut self, message: &str) -> anyhow::Result<()> {
        self.input.write_all(format!("{message}\n").as_bytes()).await?;
        Ok(())
    }

    async fn call(&mut self) -> anyhow::Result<()> {
        let id = self.next;
        self.next += 1;
        self.say(&call("echo", id)).await
    }

    async fn answer(&mut self) -> anyhow::Result<String> {
        loop {
            let line = self.output.next_line().await?.context("the command ended")?;
            if line.contains(r#""result""#) {
                return Ok(line);
            }
            ensure!(!line.contains(r#""error""#), "{line}");
        }
    }

    /// Keeps its calls in flight for a while; gives calls per second.
    async fn run(&mut self) -> anyhow::Result<f64> {
        let begun = Instant::now();
        for _ in 0..AT_ONCE {
            self.call().await?;
        }
        let (mut waiting, mut answered) = (AT_ONCE, 0);
        while waiting > 0 {
            let answer = self.answer().await?;
            ensure!(answer.contains("said "), "{answer}");
            answered += 1;
            if begun.elapsed() < SLICE {
                self.call().await?;
            } else {
                waiting -= 1;
            }
        }
        Ok(f64::from(answered) / begun.elapsed().as_secs_f64())
    }
}

/// Lets all sessions call for a while; gives calls per second.
async fn through_gateway(sessions: Vec<Session>) -> anyhow::Result<(Vec<Session>, f64)> {
    let begun = Instant::now();
    let tasks: Vec<_> = sessions
        .into_iter()
        .map(|mut session| {
            tokio::spawn(async move {
                let mut answered = 0_u32;
                while begun.elapsed() < SLICE {
                    let id = u64::from(answered) + 1;
                    let answer = session.post(call("pipe-echo", id)).await?;
                    let expected = format!("said {id}.");
                    let answer = std::str::from_utf8(&answer)?;
                    ensure!(answer.contains(&expected), "call {id} was answered with {answer}");
                    answered += 1;
                }
                anyhow::Ok((session, answered))
            })
        })
        .collect();
    let (mut sessions, mut answered) = (Vec::new(), 0.0);
    for task in tasks {
        let (session, own) = task.await??;
        sessions.push(session);
        answered += f64::from(own);
    }
    Ok((sessions, answered / begun.elapsed().as_secs_f64()))
}

/// Runs the comparison with a command whose tool `echo` gives `message` back.
pub(crate) async fn run(mut words: Vec<String>) -> anyhow::Result<Vec<Finding>> {
    if words.is_empty() {
        let fixture = program("fixture")?.display().to_string();
        words = vec![fixture, "--stdio".to_owned(), "--era".to_owned(), "legacy".to_owned()];
    }
    let control = ControlPlane::start().await?;
    let gateway = control.proxy().await?;
    let (command, arguments) = words.split_first().context("an empty command")?;
    let mut create = vec!["create", "upstream", "pipe", "--command", command];
    for argument in arguments {
        create.extend(["--arg", argument]);
    }
    control.ok(&create).await?;
    let token = control.ok(&["token", "create", "--name", "bench"]).await?;
    let url = format!("{}/mcp", gateway.url());
    let address = Arc::new(Address::calls(&url, &token, "pipe-echo"));
    let mut sessions = Vec::new();
    for _ in 0..AT_ONCE {
        sessions.push(Session::open(&address).await?);
    }
    let mut direct = Direct::start(&words).await?;
    direct.run().await?;
    (sessions, _) = through_gateway(sessions).await?;
    // Discovery may have had processes of its own; those are gone by now.
    let processes = gateway.process().descendants().len();
    ensure!(processes == 1, "{AT_ONCE} sessions run {processes} processes");
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let alone = direct.run().await?;
        let shared;
        (sessions, shared) = through_gateway(sessions).await?;
        rounds.push((alone, shared));
    }
    let spread = |of: fn(&(f64, f64)) -> f64| Spread::of(rounds.iter().map(of)).unwrap_or_default();
    let alone = format!("calls/s of a client alone, with {AT_ONCE} calls in flight on its pipes");
    let shared = format!("calls/s of {AT_ONCE} sessions that share one process through Lockgate");
    let target = Some(Bound::AtLeast(TARGET));
    Ok(vec![
        Finding::new(
            NAME,
            "calls/s against a client alone".to_owned(),
            spread(|it| it.1 / it.0),
            "x",
            target,
        ),
        Finding::new(NAME, alone, spread(|it| it.0), "", None),
        Finding::new(NAME, shared, spread(|it| it.1), "", None),
    ])
}
