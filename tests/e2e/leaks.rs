//! Clients that come, call and go away in the middle leave nothing behind, whatever is upstream.

use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use tests::client::{Client, eventually};
use tests::fixture::{self, Era, Subprotocol, start_sse, start_websocket};
use tests::world::{World, program};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use super::connect::{self, Pipe};

/// Cycles of `make test`; `LOCKGATE_SOAK=1` runs [`SOAK`], another number as many.
const CYCLES: usize = 300;
const SOAK: usize = 10_000;
/// Looks at the memory at rest, of which the least counts.
const LOOKS: usize = 12;
const AT_ONCE: usize = 4;
/// How much the second half of the cycles may add.
const GROWTH_MAX: u64 = 2 << 20;
/// So many times more it may be looked whether they do.
const HALVES_MORE: usize = 2;

/// Seconds after which nothing is kept for clients that have gone without a word.
const IDLE: &str = "4";
/// Of so many cycles one has modern clients, and one a `connect` that is killed.
const MODERN_EVERY: usize = 10;
const CONNECT_EVERY: usize = 50;

/// Calls of one principal that may wait for input at the same time.
const WAITING: usize = 16;
/// Tasks that may be there now and not then, besides those of pooled connections.
const TASKS_SPARE: usize = 4;

const MODERN: &str = "modern";
const UPSTREAMS: [&str; 5] = ["http", "sse", "ws", "pipe", MODERN];

/// What a process holds.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    children: usize,
    resident: u64,
    sessions: String,
    upstream_sessions: String,
    listeners: String,
    parked: String,
    tasks: usize,
}

/// What the proxy counts.
struct Metrics(String);

impl Metrics {
    async fn of(url: &str, token: &str) -> anyhow::Result<Self> {
        let metrics = tests::client::http().get(format!("{url}/metrics")).bearer_auth(token);
        Ok(Self(metrics.send().await?.error_for_status()?.text().await?))
    }

    fn get(&self, name: &str) -> anyhow::Result<&str> {
        let mut lines = self.0.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.with_context(|| format!("no {name} in {}", self.0))
    }
}

async fn held(world: &World, token: &str) -> anyhow::Result<Held> {
    let process = world.process();
    let of = |name: &str| format!("/proc/{}/{name}", process.pid());
    let metrics = Metrics::of(world.url(), token).await?;
    let metric = |name: &str| metrics.get(name).map(str::to_owned);
    Ok(Held {
        descriptors: std::fs::read_dir(of("fd"))?.count(),
        threads: std::fs::read_dir(of("task"))?.count(),
        children: process.descendants().len(),
        resident: process.resident()?,
        sessions: metric("lockgate_sessions")?,
        upstream_sessions: metric("lockgate_upstream_sessions")?,
        listeners: metric("lockgate_listeners")?,
        parked: metric("lockgate_calls_parked")?,
        tasks: metrics.get("lockgate_tasks")?.parse()?,
    })
}

const HELLO: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"leaks","version":"1"}}}"#;
const SLOW: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"UPSTREAM-sleep","arguments":{"milliseconds":60000}}}"#;

/// Who comes and goes.
struct Visitors {
    client: Client,
    /// Where the gateway is, and what it asks for.
    url: String,
    token: String,
    /// Reads what is counted.
    operator: String,
}

impl Visitors {
    /// One client of each transport.
    async fn cycle(&self, index: usize) -> anyhow::Result<()> {
        let slow = SLOW.replace("UPSTREAM", nth(index)?);
        cycle(&self.client, index).await?;
        self.leave_events(&slow).await?;
        self.leave_socket(&slow).await?;
        if index.is_multiple_of(MODERN_EVERY) {
            self.leave_listening().await?;
            self.leave_modern_calls(nth(index / MODERN_EVERY)?).await?;
        }
        if index.is_multiple_of(CONNECT_EVERY) {
            self.kill_connect(nth(index / CONNECT_EVERY)?).await?;
        }
        Ok(())
    }

    /// A modern client that listens and is killed.
    async fn leave_listening(&self) -> anyhow::Result<()> {
        let filter = r#"{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["test://watched-resource"]}}"#;
        let request = self.client.modern_request("subscriptions/listen", filter)?;
        let mut stream = request.send().await?.error_for_status()?.bytes_stream();
        let first = stream.next().await.context("no acknowledgement")??;
        anyhow::ensure!(String::from_utf8_lossy(&first).contains("acknowledged"), "{first:?}");
        Ok(())
    }

    /// A modern client that is killed during a call, and one that is asked and never answers.
    async fn leave_modern_calls(&self, upstream: &str) -> anyhow::Result<()> {
        let slow = format!(r#"{{"name":"{upstream}-sleep","arguments":{{"milliseconds":60000}}}}"#);
        let slow = self.client.modern("tools/call", &slow);
        tokio::time::timeout(Duration::from_millis(30), slow).await.ok();
        let client = self.client.clone().able(r#"{"elicitation":{}}"#);
        let tool = match upstream {
            MODERN => "test_input_required_result_elicitation",
            _ => "test_elicitation",
        };
        let asking = format!(r#"{{"name":"{upstream}-{tool}","arguments":{{"message":"Who?"}}}}"#);
        let metrics = Metrics::of(&self.url, &self.operator).await?;
        let waiting: usize = metrics.get("lockgate_calls_parked")?.parse()?;
        let asked = client.modern("tools/call", &asking).await?.json()?;
        let is_asked = asked.pointer("/result/resultType") == Some(&"input_required".into());
        // One principal may let only so many wait, of which others may have come since.
        let is_refused = asked.to_string().contains("wait for input");
        let may_be_refused = is_refused && waiting + AT_ONCE > WAITING;
        anyhow::ensure!(is_asked || may_be_refused, "{waiting} wait: {asked}");
        Ok(())
    }

    /// A `connect` that is killed during a call.
    async fn kill_connect(&self, upstream: &str) -> anyhow::Result<()> {
        let mut pipe = Pipe::start(&["--url", &self.url, "--token", &self.token], &[])?;
        pipe.initialize(serde_json::json!({})).await?;
        let sleep = format!("{upstream}-sleep");
        pipe.send(&connect::call(1, &sleep, serde_json::json!({"milliseconds": 1000}))).await?;
        pipe.kill().await
    }

    /// A client of HTTP+SSE that is killed while it is served.
    async fn leave_events(&self, slow: &str) -> anyhow::Result<()> {
        let http = tests::client::http();
        let stream = http.get(format!("{}/sse", self.url)).bearer_auth(&self.token).send().await?;
        let mut stream = stream.error_for_status()?.bytes_stream();
        let mut heard = String::new();
        while !heard.contains("\n\n") {
            heard += &String::from_utf8_lossy(&stream.next().await.context("no endpoint")??);
        }
        let endpoint = heard.lines().find_map(|line| line.strip_prefix("data: "));
        let endpoint = format!("{}{}", self.url, endpoint.context("no endpoint")?);
        for message in [HELLO, INITIALIZED, slow] {
            let posted = http.post(&endpoint).bearer_auth(&self.token).body(message.to_owned());
            let posted = posted.header("content-type", "application/json").send().await?;
            assert_eq!(posted.status(), 202);
        }
        Ok(())
    }

    /// A client of WebSocket that is killed while it is served.
    async fn leave_socket(&self, slow: &str) -> anyhow::Result<()> {
        let url = format!("{}/ws", self.url.replacen("http", "ws", 1));
        let mut request = url.into_client_request()?;
        let bearer = format!("Bearer {}", self.token).parse()?;
        request.headers_mut().insert(http::header::AUTHORIZATION, bearer);
        let stream = TcpStream::connect(self.url.trim_start_matches("http://")).await?;
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        socket.send(Message::text(HELLO)).await?;
        let hello = socket.next().await.context("no answer")??;
        anyhow::ensure!(hello.to_text()?.contains("serverInfo"), "{hello}");
        for message in [INITIALIZED, slow] {
            socket.send(Message::text(message)).await?;
        }
        Ok(())
    }
}

/// The upstreams in turn.
fn nth(index: usize) -> anyhow::Result<&'static str> {
    UPSTREAMS.get(index % UPSTREAMS.len()).copied().context("no upstream")
}

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// One client: a session, a call to each upstream, one given up in the middle, the end. Every other
/// goes without a word.
async fn cycle(client: &Client, index: usize) -> anyhow::Result<()> {
    let mut client = client.clone();
    client.initialize().await?;
    // A stream that is read no further, and broken off by the one after it or at the end.
    let _listening = client.listen(None).send().await?.error_for_status()?;
    for upstream in UPSTREAMS {
        let said = client.call_text(&format!("{upstream}-echo"), r#"{"message":"x"}"#).await?;
        assert_eq!(said, "x", "{upstream}");
    }
    let is_polite = index.is_multiple_of(2);
    let slow = format!("{}-sleep", nth(index)?);
    // Nothing but the end of its session ends the call of a legacy client.
    let slow = client.call(
        &slow,
        if is_polite { r#"{"milliseconds":60000}"# } else { r#"{"milliseconds":500}"# },
    );
    // Killed in the middle: the connection ends and nobody says why.
    tokio::time::timeout(Duration::from_millis(30), slow).await.ok();
    if !is_polite {
        return Ok(());
    }
    let ended = client.delete().send().await?;
    assert_eq!(ended.status(), 204);
    Ok(())
}

async fn cycles(visitors: &Visitors, count: usize) -> anyhow::Result<()> {
    let cycles = (0..count).map(|index| visitors.cycle(index));
    let mut running = futures_util::stream::iter(cycles).buffer_unordered(AT_ONCE);
    while let Some(done) = running.next().await {
        done?;
    }
    Ok(())
}

/// Waits until only what belongs to no session is left.
async fn rest(world: &World, token: &str, descriptors: usize) -> anyhow::Result<Held> {
    let is_left = |held: &Held| {
        held.children > 0
            || held.sessions != "0"
            || held.upstream_sessions != "0"
            || held.listeners != "0"
            || held.parked != "0"
            // Pooled connections of clients and to upstreams may stay.
            || held.descriptors > descriptors + 24
    };
    eventually("nothing is left", Duration::from_secs(30), || async {
        let held = held(world, token).await?;
        anyhow::ensure!(!is_left(&held), "{held:?}");
        Ok(true)
    })
    .await?;
    let mut least = held(world, token).await?;
    // What is free goes back to the system in its own time.
    for _ in 0..LOOKS {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = held(world, token).await?;
        least.resident = least.resident.min(now.resident);
        if now.tasks < least.tasks {
            (least.tasks, least.descriptors) = (now.tasks, now.descriptors);
        }
    }
    Ok(least)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_come_and_go_leave_nothing_behind() -> anyhow::Result<()> {
    let any = "127.0.0.1:0";
    let http = fixture::start(Era::Legacy, any).await?;
    let sse = start_sse(Era::Legacy, any).await?;
    let socket = start_websocket(Era::Legacy, any, Subprotocol::Mcp).await?;
    let modern = fixture::start(Era::Modern, any).await?;
    let child = program("fixture")?.display().to_string();
    let world = World::up_with(&[], &[("LOCKGATE_SESSION_IDLE", IDLE)]).await?;
    world.ok(&["create", "upstream", "http", "--url", &http.url()]).await?;
    world.ok(&["create", "upstream", "sse", "--url", &sse.url(), "--transport", "sse"]).await?;
    world.ok(&["create", "upstream", "ws", "--url", &socket.url()]).await?;
    world.ok(&["create", "upstream", MODERN, "--url", &modern.url()]).await?;
    let pipe = ["create", "upstream", "pipe", "--command", &child, "--arg", "--stdio"];
    world.ok(&[&pipe[..], &["--stdio-mode", "per-session"]].concat()).await?;
    let token = world.ok(&["token", "create", "--name", "metrics", "--role", "admin"]).await?;
    let visitors = Visitors {
        client: world.client("/mcp").await?,
        url: world.url().to_owned(),
        token: world.token("visitors").await?,
        operator: token.clone(),
    };
    let soak = std::env::var_os("LOCKGATE_SOAK");
    let half = match soak.and_then(|value| value.into_string().ok()?.parse().ok()) {
        None | Some(0) => CYCLES,
        Some(1) => SOAK,
        Some(count) => count,
    } / 2;

    // What is made once and kept, and the room for as many as may wait at the same time.
    cycles(&visitors, 2 * AT_ONCE).await?;
    for _ in 0..2 * WAITING {
        visitors.leave_modern_calls(UPSTREAMS[0]).await?;
    }
    let before = rest(&world, &token, usize::MAX - 24).await?;
    cycles(&visitors, half).await?;
    let mut middle = rest(&world, &token, before.descriptors).await?;
    cycles(&visitors, half).await?;
    let mut end = rest(&world, &token, before.descriptors).await?;
    // What an allocator keeps depends on how many came at once; what leaks does so each time.
    for _ in 0..HALVES_MORE {
        if end.resident <= middle.resident + GROWTH_MAX {
            break;
        }
        say(&format!("once more: {middle:?} {end:?}"));
        cycles(&visitors, half).await?;
        middle = std::mem::replace(&mut end, rest(&world, &token, before.descriptors).await?);
    }

    assert!(end.threads <= middle.threads + 2, "{middle:?} {end:?}");
    // A connection is a task, too.
    let connections = end.descriptors.saturating_sub(middle.descriptors);
    let tasks = middle.tasks + connections + TASKS_SPARE;
    assert!(end.tasks <= tasks, "{middle:?} {end:?}");
    let grown = end.resident.saturating_sub(middle.resident);
    say(&format!("{half} cycles after {half}: {before:?} {middle:?} {end:?}"));
    assert!(grown <= GROWTH_MAX, "the second half added {grown} bytes: {middle:?} {end:?}");
    for (name, open) in [("sse", sse.open()), ("ws", socket.open())] {
        assert_eq!(open, 0, "connections to {name} are left");
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a long run shows what it found; libtest captures it")]
fn say(text: &str) {
    println!("{text}");
}
