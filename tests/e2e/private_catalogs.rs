//! Upstreams that show each caller something else, through a real gateway.

#![expect(clippy::indexing_slicing, reason = "of a `Value`, where what is not there is null")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tests::client::Client;
use tests::fixture::{self, Era};
use tests::raw_server::RawServer;
use tests::talk::Events;
use tests::world::process::Process;
use tests::world::{ControlPlane, World, program};
use tokio::process::Command;

const NOTE: &str = r#"{"name":"test_take_note","arguments":{"name":"mine"}}"#;

/// How the fixture is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Url,
    Command,
    Sse,
    WebSocket,
}

/// A world with our fixture behind it as upstream `up`, whose catalogs are each caller's own.
async fn world(era: Era, by: By) -> anyhow::Result<(World, Option<fixture::Server>)> {
    let world = World::up().await?;
    let create = ["create", "upstream", "up", "--catalog-scope", "principal"];
    let server = match by {
        By::Url => Some(fixture::start(era, "127.0.0.1:0").await?),
        By::Sse => Some(fixture::start_sse(era, "127.0.0.1:0").await?),
        By::WebSocket => {
            let protocol = fixture::Subprotocol::Mcp;
            Some(fixture::start_websocket(era, "127.0.0.1:0", protocol).await?)
        }
        By::Command => {
            let fixture = program("fixture")?.display().to_string();
            let era = if era == Era::Modern { "modern" } else { "legacy" };
            let how = ["--stdio-mode", "per-session", "--command", &fixture, "--arg", "--stdio"];
            let which = ["--arg", "--era", "--arg", era];
            world.ok(&[&create[..], &how[..], &which[..]].concat()).await?;
            None
        }
    };
    if let Some(server) = &server {
        world.ok(&[&create[..], &["--url", &server.url()]].concat()).await?;
    }
    world.ok(&["create", "server", "bare", "--upstream", "up", "--naming", "bare"]).await?;
    Ok((world, server))
}

/// Somebody else than who owns the data directory.
async fn other(world: &World, path: &str, name: &str) -> anyhow::Result<Client> {
    let create = ["token", "create", "--name", name, "--subject", name];
    let token = world.ok(&create).await?;
    Ok(Client::new(&format!("{}{path}", world.url()), Some(&token)))
}

/// The values of `key` in a list.
async fn listed(client: &Client, method: &str, key: &str) -> anyhow::Result<Vec<String>> {
    let result = match client.session() {
        Some(_) => client.legacy(method, "{}").await?.result()?,
        None => client.modern(method, "{}").await?.result()?,
    };
    if client.session().is_none() {
        ensure!(result["cacheScope"] == "private" && result["ttlMs"] == 60_000, "{result}");
    }
    let lists = result.as_object().context("no object")?.values();
    let items = lists.filter_map(Value::as_array).flatten();
    Ok(items.filter_map(|item| item[key].as_str().map(str::to_owned)).collect())
}

async fn ask(client: &Client, method: &str, params: &str) -> anyhow::Result<Value> {
    let answer = match client.session() {
        Some(_) => client.legacy(method, params).await?,
        None => client.modern(method, params).await?,
    };
    answer.response()
}

/// Whether all that a note brings is there for a client: listed, and to be had.
async fn check_note(client: &Client, prefix: &str) -> anyhow::Result<()> {
    let name = format!("{prefix}note_mine");
    let tools = listed(client, "tools/list", "name").await?;
    ensure!(tools.contains(&name), "{tools:?}");
    ensure!(tools.contains(&format!("{prefix}echo")), "{tools:?}");
    let prompts = listed(client, "prompts/list", "name").await?;
    ensure!(prompts.contains(&name), "{prompts:?}");
    let uris = listed(client, "resources/list", "uri").await?;
    ensure!(uris.contains(&"note://mine".to_owned()), "{uris:?}");
    let templates = listed(client, "resources/templates/list", "uriTemplate").await?;
    ensure!(templates.contains(&"note://mine/{page}".to_owned()), "{templates:?}");
    let by_name = format!(r#"{{"name":"{name}","arguments":{{}}}}"#);
    let called = ask(client, "tools/call", &by_name).await?;
    ensure!(called["result"]["content"][0]["text"] == "the note mine", "{called}");
    let got = ask(client, "prompts/get", &by_name).await?;
    let text = &got["result"]["messages"][0]["content"]["text"];
    ensure!(*text == "the note mine", "{got}");
    let read = ask(client, "resources/read", r#"{"uri":"note://mine"}"#).await?;
    ensure!(read["result"]["contents"][0]["text"] == "the note mine", "{read}");
    Ok(())
}

/// Whether there is no such thing for a client, as if there never had been.
async fn check_no_note(client: &Client) -> anyhow::Result<()> {
    let tools = listed(client, "tools/list", "name").await?;
    ensure!(!tools.contains(&"up-note_mine".to_owned()), "{tools:?}");
    ensure!(tools.contains(&"up-echo".to_owned()), "{tools:?}");
    let params = |name: &str| format!(r#"{{"name":"{name}","arguments":{{}}}}"#);
    let mine = ask(client, "tools/call", &params("up-note_mine")).await?;
    let nobodys = ask(client, "tools/call", &params("up-note_nobody")).await?;
    let said = |answer: &Value| answer["error"]["message"].to_string().replace("nobody", "mine");
    ensure!(mine["error"]["code"] == -32602 && said(&mine) == said(&nobodys), "{mine}");
    let prompt = ask(client, "prompts/get", &params("up-note_mine")).await?;
    ensure!(prompt["error"]["code"] == -32602, "{prompt}");
    Ok(())
}

async fn take_note(client: &Client) -> anyhow::Result<()> {
    let params = NOTE.replace("test_", "up-test_");
    let noted = ask(client, "tools/call", &params).await?;
    ensure!(noted["result"]["content"][0]["text"] == "noted", "{noted}");
    Ok(())
}

/// The next messages, which must come soon.
async fn soon(events: &mut Events, count: usize) -> anyhow::Result<Vec<String>> {
    let mut methods = Vec::new();
    for _ in 0..count {
        let message = tokio::time::timeout(Duration::from_secs(20), events.message()).await;
        let message = message.with_context(|| format!("nothing after {methods:?}"))??;
        methods.push(message["method"].as_str().unwrap_or_default().to_owned());
    }
    methods.sort();
    Ok(methods)
}

/// What one hears whose lists all change.
const CHANGED: [&str; 3] = [
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/tools/list_changed",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_session_sees_and_has_what_its_upstream_shows_to_it_alone() -> anyhow::Result<()> {
    for by in [By::Url, By::Command, By::Sse, By::WebSocket] {
        let (world, _server) = world(Era::Legacy, by).await?;
        let (mut one, mut two) = (world.client("/mcp").await?, world.client("/mcp").await?);
        one.initialize().await?;
        two.initialize().await?;
        let mut heard = Events::of(one.listen(None).send().await?).await?;
        let mut unheard = Events::of(two.listen(None).send().await?).await?;
        check_no_note(&one).await.with_context(|| format!("{by:?}"))?;
        check_no_note(&two).await?;
        take_note(&one).await.with_context(|| format!("{by:?}"))?;
        assert_eq!(soon(&mut heard, 3).await?, CHANGED, "{by:?}");
        check_note(&one, "up-").await.with_context(|| format!("{by:?}"))?;
        check_no_note(&two).await.with_context(|| format!("{by:?}"))?;
        for (client, events) in [(&one, &mut heard), (&two, &mut unheard)] {
            client.delete().send().await?;
            while let Some(event) = events.next().await? {
                assert!(event.data.is_null(), "{by:?}: {event:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_principal_has_a_session_of_its_own() -> anyhow::Result<()> {
    for by in [By::Url, By::Command] {
        let (world, _server) = world(Era::Legacy, by).await?;
        let ann = world.client("/mcp").await?;
        let bob = other(&world, "/mcp", "bob").await?;
        let filter = r#"{"notifications":{"toolsListChanged":true,"resourcesListChanged":true}}"#;
        let listen = ann.modern_request("subscriptions/listen", filter)?;
        let mut events = Events::of(listen.send().await?).await?;
        assert_eq!(events.message().await?["params"]["notifications"]["toolsListChanged"], true);
        take_note(&ann).await?;
        assert_eq!(soon(&mut events, 2).await?, [CHANGED[1], CHANGED[2]], "{by:?}");
        check_note(&ann, "up-").await.with_context(|| format!("{by:?}"))?;
        check_no_note(&bob).await.with_context(|| format!("{by:?}"))?;
        let bare = world.client("/servers/bare/mcp").await?;
        check_note(&bare, "").await.with_context(|| format!("{by:?}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_at_a_modern_upstream_is_told_to_all_who_were_shown_it() -> anyhow::Result<()>
{
    let (world, _server) = world(Era::Modern, By::Url).await?;
    let modern = world.client("/mcp").await?;
    let mut legacy = other(&world, "/mcp", "bob").await?;
    legacy.initialize().await?;
    let filter = r#"{"notifications":{"toolsListChanged":true}}"#;
    let listen = modern.modern_request("subscriptions/listen", filter)?;
    let mut listened = Events::of(listen.send().await?).await?;
    listened.message().await?;
    let mut streamed = Events::of(legacy.listen(None).send().await?).await?;
    let appearing = "up-test_appearing".to_owned();
    assert!(!legacy.tool_names().await?.contains(&appearing));
    let trigger = r#"{"name":"up-test_trigger_tool_change","arguments":{}}"#;
    let begun = Instant::now();
    ask(&modern, "tools/call", trigger).await?;
    for events in [&mut listened, &mut streamed] {
        assert_eq!(soon(events, 1).await?, [CHANGED[2]]);
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(legacy.tool_names().await?.contains(&appearing));
    assert!(listed(&modern, "tools/list", "name").await?.contains(&appearing));
    // Of what it shows to those who can sample, others see nothing.
    let sampler = modern.clone().able(r#"{"sampling":{}}"#);
    let for_samplers = "up-test_for_samplers".to_owned();
    assert!(listed(&sampler, "tools/list", "name").await?.contains(&for_samplers));
    assert!(!listed(&modern, "tools/list", "name").await?.contains(&for_samplers));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_upstream_neither_empties_nor_delays_a_list() -> anyhow::Result<()> {
    let (world, server) = world(Era::Legacy, By::Url).await?;
    let (mut one, mut late) = (world.client("/mcp").await?, world.client("/mcp").await?);
    one.initialize().await?;
    take_note(&one).await?;
    check_note(&one, "up-").await?;
    drop(server);
    late.initialize().await?;
    for (client, has_note) in [(&one, true), (&late, false)] {
        let begun = Instant::now();
        for _ in 0..20 {
            let tools = client.tool_names().await?;
            ensure!(tools.contains(&"up-echo".to_owned()), "{tools:?}");
            ensure!(tools.contains(&"up-note_mine".to_owned()) == has_note, "{tools:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
    let called = one.legacy("tools/call", r#"{"name":"up-echo","arguments":{}}"#).await?;
    assert_eq!(called.error_code()?, -32603, "it exists, but cannot be reached");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upstream_delays_a_list_once_and_is_heard_when_it_answers() -> anyhow::Result<()> {
    let mut command = Command::new(program("fixture")?);
    command.args(["--listen", "127.0.0.1:0", "--era", "legacy"]);
    let server = Process::spawn(command)?;
    let url = server.announced_url("http").await?;
    let world = World::up().await?;
    let create = ["create", "upstream", "up", "--catalog-scope", "principal", "--url"];
    world.ok(&[&create[..], &[&url]].concat()).await?;
    let (mut known, mut late) = (world.client("/mcp").await?, world.client("/mcp").await?);
    known.initialize().await?;
    take_note(&known).await?;
    check_note(&known, "up-").await?;
    late.initialize().await?;
    let other = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    world.ok(&["create", "upstream", "other", "--url", &other.url()]).await?;
    let mut heard = Events::of(late.listen(None).send().await?).await?;
    server.signal(Signal::STOP)?;
    let begun = Instant::now();
    assert_eq!(late.call_text("other-echo", r#"{"message":"hi"}"#).await?, "hi");
    for _ in 0..10 {
        assert!(known.tool_names().await?.contains(&"up-note_mine".to_owned()));
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let begun = Instant::now();
    for _ in 0..10 {
        assert!(late.tool_names().await?.contains(&"up-echo".to_owned()), "what all see");
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    server.signal(Signal::CONT)?;
    assert_eq!(soon(&mut heard, 3).await?, CHANGED);
    check_no_note(&late).await
}

/// What a server answers to `tools/list` that means no good, page after page.
const UNRULY: [&str; 4] = ["endless", "garbage", "huge", "refusal"];

/// A page of the list of an unruly server.
fn page(kind: &str, number: usize) -> String {
    match kind {
        "endless" => format!(r#""result":{{"tools":[],"nextCursor":"{number}"}}"#),
        "garbage" => r#""result":{"tools":{"name":[]}}"#.to_owned(),
        "huge" => {
            let text = "x".repeat(5 * 1024 * 1024);
            format!(r#""result":{{"tools":[{{"name":"huge","description":"{text}"}}]}}"#)
        }
        _ => r#""error":{"code":-32603,"message":"not today"}"#.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_shows_in_no_good_form_is_as_for_all() -> anyhow::Result<()> {
    let (pages, kind) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(usize::MAX)));
    let now = Arc::clone(&kind);
    let server = RawServer::start(move |method, _| match method {
        "initialize" => Some(
            r#""result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"raw","version":"1"}}"#
                .to_owned(),
        ),
        "tools/call" => Some(r#""result":{"content":[{"type":"text","text":"done"}]}"#.to_owned()),
        "tools/list" => Some(match UNRULY.get(now.load(Ordering::SeqCst)) {
            Some(kind) => page(kind, pages.fetch_add(1, Ordering::SeqCst)),
            None => r#""result":{"tools":[{"name":"good"}]}"#.to_owned(),
        }),
        _ => None,
    })
    .await?;
    let world = World::up().await?;
    let create = ["create", "upstream", "raw", "--catalog-scope", "principal", "--url"];
    world.ok(&[&create[..], &[&server.url()]].concat()).await?;
    for (number, which) in UNRULY.iter().enumerate() {
        kind.store(number, Ordering::SeqCst);
        let mut client = world.client("/mcp").await?;
        client.initialize().await?;
        let begun = Instant::now();
        assert_eq!(client.tool_names().await?, ["raw-good"], "{which}");
        assert_eq!(client.tool_names().await?, ["raw-good"], "{which}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{which}: {:?}", begun.elapsed());
        assert_eq!(client.call_text("raw-good", "{}").await?, "done", "{which}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_shown_its_own_whichever_proxy_is_asked() -> anyhow::Result<()> {
    let upstream = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let control = ControlPlane::start().await?;
    let proxies = [control.proxy().await?, control.proxy().await?];
    let url = upstream.url();
    let create = ["create", "upstream", "up", "--catalog-scope", "principal", "--url", &url];
    control.ok(&create).await?;
    let token = control.ok(&["token", "create", "--name", "mine"]).await?;
    control.settled(&proxies).await?;
    let mut client = proxies[0].client("/mcp", &token);
    client.initialize().await?;
    take_note(&client).await?;
    for proxy in &proxies {
        let here = client.scattered(&format!("{}/mcp", proxy.url()));
        check_note(&here, "up-").await.context("at one of the proxies")?;
    }
    let mut other = proxies[1].client("/mcp", &token);
    other.initialize().await?;
    check_no_note(&other).await?;
    let executions = upstream.executions();
    let sessions: BTreeSet<_> = executions.iter().map(|it| &it.session).collect();
    assert_eq!(sessions.len(), 1, "{executions:?}");
    Ok(())
}
