//! Upstreams over HTTP+SSE and WebSocket: found out, called, asked back, healed, left clean.

use std::time::Duration;

use serde_json::{Value, json};
use tests::client::{Client, LEGACY, eventually};
use tests::fixture::{self, Era, Subprotocol, start_sse, start_websocket};
use tests::world::World;

/// A world with the fixture behind each transport, and the fixtures with their names.
async fn every_way() -> anyhow::Result<(World, Vec<(&'static str, fixture::Server)>)> {
    let world = World::up().await?;
    let any = "127.0.0.1:0";
    let servers = vec![
        ("sse", start_sse(Era::Legacy, any).await?),
        ("found", start_sse(Era::Legacy, any).await?),
        ("ws", start_websocket(Era::Legacy, any, Subprotocol::Mcp).await?),
        ("plain", start_websocket(Era::Dual, any, Subprotocol::None).await?),
    ];
    for (name, server) in &servers {
        let mut create = vec!["create", "upstream", name, "--url"];
        let url = server.url();
        create.push(&url);
        if *name == "sse" {
            create.extend(["--transport", "sse"]);
        }
        world.ok(&create).await?;
    }
    Ok((world, servers))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_called_and_asks_back_whatever_its_transport() -> anyhow::Result<()> {
    let (world, servers) = every_way().await?;
    let mut client = world.client("/mcp").await?;
    client.initialize_with(LEGACY, json!({"sampling": {}})).await?;
    let names = client.tool_names().await?;
    for (name, server) in &servers {
        assert!(names.contains(&format!("{name}-echo")), "{name}: {names:?}");
        let said = client.call_text(&format!("{name}-echo"), r#"{"message":"hi"}"#).await?;
        assert_eq!(said, "hi", "{name}");
        if *name != "plain" {
            let params =
                format!(r#"{{"name":"{name}-test_sampling","arguments":{{"prompt":"?"}}}}"#);
            let (questions, response) = client.converse(&params, |_| {
                json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "Paris"}})
            }).await?;
            assert_eq!(questions.len(), 1, "{name}: {response}");
            assert_eq!(response["result"]["content"][0]["text"], "LLM response: Paris", "{name}");
        }
        // One more session for each further client, and none for each further call.
        let open = server.open();
        client.call_text(&format!("{name}-echo"), r#"{"message":"again"}"#).await?;
        assert_eq!(server.open(), open, "{name}");
        let modern = world.client("/mcp").await?;
        let answer = modern
            .modern(
                "tools/call",
                &format!(r#"{{"name":"{name}-echo","arguments":{{"message":"m"}}}}"#),
            )
            .await?;
        assert_eq!(answer.result()?["content"][0]["text"], "m", "{name}");
        assert_eq!(server.open(), open + 1, "{name}");
    }
    client.delete().send().await?;
    for (name, server) in &servers {
        eventually("the session's connection is closed", Duration::from_secs(5), || async {
            Ok(server.open() <= 1)
        })
        .await
        .map_err(|error| error.context(*name))?;
    }
    Ok(())
}

async fn upstream(world: &World, name: &str) -> anyhow::Result<Value> {
    let shown = world.ok(&["get", "upstream", name, "-o", "json"]).await?;
    Ok(serde_json::from_str(&shown)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transport_is_shown_where_the_url_does_not_tell_and_can_be_applied_again()
-> anyhow::Result<()> {
    let (world, servers) = every_way().await?;
    assert_eq!(upstream(&world, "sse").await?["transport"], "sse");
    for (name, server) in &servers {
        let shown = upstream(&world, name).await?;
        assert_eq!(shown["url"], server.url().as_str());
        assert_eq!(shown["status"]["phase"], "ready", "{shown}");
        let file = world.data_dir().join(format!("{name}.json"));
        std::fs::write(&file, shown.to_string())?;
        let applied = world.lockgate(&["apply", "-f", &file.display().to_string()]).await?;
        assert!(applied.stdout.contains("unchanged"), "{applied:?}");
    }
    let refused = world
        .lockgate(&["create", "upstream", "x", "--url", "http://h/", "--transport", "websocket"])
        .await?;
    assert!(refused.stderr.contains("must be an ws or wss URL"), "{refused:?}");
    Ok(())
}

async fn calls(client: &Client, name: &str) -> anyhow::Result<bool> {
    let said = client.call_text(&format!("{name}-echo"), r#"{"message":"back"}"#).await?;
    Ok(said == "back")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_is_called_again_in_the_same_session() -> anyhow::Result<()> {
    let (world, mut servers) = every_way().await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    for (name, _) in &servers {
        assert!(calls(&client, name).await?, "{name}");
    }
    while let Some((name, server)) = servers.pop() {
        let address = server.address().to_string();
        drop(server);
        let params = format!(r#"{{"name":"{name}-echo","arguments":{{"message":"x"}}}}"#);
        let down = client.legacy("tools/call", &params).await?.response()?;
        assert_eq!(down["error"]["code"], -32603, "{name}: {down}");
        assert_eq!(down["error"]["data"]["upstream"], name, "{down}");
        let _again = match name {
            "sse" | "found" => start_sse(Era::Legacy, &address).await?,
            _ => start_websocket(Era::Legacy, &address, Subprotocol::Mcp).await?,
        };
        eventually("it is called again", Duration::from_secs(10), || calls(&client, name)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn contextforges_clients_register_every_transport() -> anyhow::Result<()> {
    let world = World::up().await?;
    let sse = start_sse(Era::Legacy, "127.0.0.1:0").await?;
    let socket = start_websocket(Era::Legacy, "127.0.0.1:0", Subprotocol::Mcp).await?;
    let token = world.ok(&["token", "create", "--name", "rest", "--role", "admin"]).await?;
    let http = tests::client::http();
    for (name, url, transport) in [
        ("one", sse.url(), "SSE"),
        ("two", sse.url(), "STREAMABLEHTTP"),
        ("three", socket.url(), "WEBSOCKET"),
    ] {
        let body = json!({"name": name, "url": url, "transport": transport});
        let made = http.post(format!("{}/gateways", world.url())).bearer_auth(&token).json(&body);
        let made: Value = made.send().await?.error_for_status()?.json().await?;
        assert_eq!(made["transport"], transport, "{made}");
        assert_eq!(made["url"], url.as_str(), "{made}");
        assert_eq!(made["reachable"], true, "{made}");
    }
    let body = json!({"name": "four", "url": sse.url(), "transport": "CARRIER_PIGEON"});
    let refused = http.post(format!("{}/gateways", world.url())).bearer_auth(&token).json(&body);
    assert_eq!(refused.send().await?.status(), 422);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_without_commands_refuses_them_and_runs_none() -> anyhow::Result<()> {
    let mut world = World::up().await?;
    let child = tests::world::program("fixture")?.display().to_string();
    let pipe = |name| ["create", "upstream", name, "--command", &child, "--arg", "--stdio"];
    world.ok(&pipe("one")).await?;
    assert!(!world.process().descendants().is_empty());
    assert_eq!(world.stop().await?, 0);
    world.set("LOCKGATE_STDIO_UPSTREAMS", "false");
    world.start_again().await?;
    let refused = world.lockgate(&pipe("two")).await?;
    assert!(refused.stderr.contains("`stdio_upstreams` is false"), "{refused:?}");
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    let answer = client.legacy("tools/call", r#"{"name":"one-echo","arguments":{"message":"x"}}"#);
    let answer = answer.await?.response()?;
    assert!(answer.get("error").is_some(), "{answer}");
    assert!(world.process().descendants().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_where_and_with_what_it_was_registered() -> anyhow::Result<()> {
    const CANARY: &str = "canary-77c1d4";
    let mut world = World::up().await?;
    let place = tempfile::tempdir()?;
    let (directory, secret) = (place.path().join("here"), place.path().join("secret.txt"));
    std::fs::create_dir(&directory)?;
    std::fs::write(&secret, format!("{CANARY}\n"))?;
    let fixture = tests::world::program("fixture")?.display().to_string();
    // It writes where it is, and what it was given.
    let script = format!(
        r#"printf '%s|%s|%s|%s' "$(pwd -P)" "$PLAIN" "$HIDDEN" "$LOCKGATE_JWT_SECRET" > seen; exec {fixture} --stdio"#
    );
    let (cwd, hidden) = (directory.display().to_string(), format!("HIDDEN=@{}", secret.display()));
    let create = ["create", "upstream", "pipe", "--command", "sh", "--arg", "-c", "--arg", &script];
    let given = ["--cwd", &cwd, "--env", "PLAIN=a b=c", "--secret-env", &hidden];
    world.ok(&[&create[..], &given].concat()).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    assert_eq!(client.call_text("pipe-echo", r#"{"message":"hi"}"#).await?, "hi");
    let seen = std::fs::read_to_string(directory.join("seen"))?;
    let real = directory.canonicalize()?.display().to_string();
    assert_eq!(seen, format!("{real}|a b=c|{CANARY}|"));
    for form in ["json", "yaml", "table"] {
        let shown = world.ok(&["get", "upstream", "pipe", "-o", form]).await?;
        assert!(!shown.contains(CANARY), "{shown}");
    }
    let shown = upstream(&world, "pipe").await?.to_string();
    assert!(shown.contains("a b=c") && shown.contains(&cwd), "{shown}");
    assert_eq!(world.stop().await?, 0);
    assert!(!world.process().log().contains(CANARY));
    let mut leaks = Vec::new();
    super::operations::search(world.data_dir(), CANARY.as_bytes(), &mut leaks)?;
    assert!(leaks.is_empty(), "the secret is in {leaks:?}");
    Ok(())
}
