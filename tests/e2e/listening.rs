//! Modern clients that listen, and subscriptions across the eras, through a real gateway.

#![expect(clippy::indexing_slicing, reason = "of a `Value`, where what is not there is null")]

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::client::Client;
use tests::fixture::{self, Era};
use tests::talk::Events;
use tests::world::{World, program};

const KEY: &str = "io.modelcontextprotocol/subscriptionId";
const WATCHED: &str = "test://watched-resource";

/// What changes is told in about a second; by a debug build on a busy machine in this time.
const IN_A_MOMENT: Duration = Duration::from_secs(3);

/// How the fixture is reached.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Url,
    Command,
}

/// A world with our fixture of one era behind it as upstream `up`.
async fn world(era: Era, by: By) -> anyhow::Result<(World, Option<fixture::Server>)> {
    let world = World::up().await?;
    if by == By::Command {
        let fixture = program("fixture")?.display().to_string();
        let era = if era == Era::Modern { "modern" } else { "legacy" };
        let command = ["create", "upstream", "up", "--command", &fixture, "--arg", "--stdio"];
        world.ok(&[&command[..], &["--arg", "--era", "--arg", era]].concat()).await?;
        return Ok((world, None));
    }
    let server = fixture::start(era, "127.0.0.1:0").await?;
    world.ok(&["create", "upstream", "up", "--url", &server.url()]).await?;
    Ok((world, Some(server)))
}

/// Opens a subscription; gives its stream and what is honoured.
async fn listen(client: &Client, filter: &str) -> anyhow::Result<(Events, Value)> {
    let params = format!(r#"{{"notifications":{filter}}}"#);
    let response = client.modern_request("subscriptions/listen", &params)?.send().await?;
    let mut events = Events::of(response).await?;
    let mut first = events.message().await?;
    ensure!(first["method"] == "notifications/subscriptions/acknowledged", "{first}");
    ensure!(first["params"]["_meta"][KEY] == 1, "{first}");
    Ok((events, first["params"]["notifications"].take()))
}

/// The next message, which must come soon.
async fn soon(events: &mut Events) -> anyhow::Result<Value> {
    let message = tokio::time::timeout(Duration::from_secs(20), events.message()).await;
    message.context("nothing was told")?
}

async fn call(client: &Client, tool: &str) -> anyhow::Result<()> {
    let params = format!(r#"{{"name":"{tool}","arguments":{{}}}}"#);
    let result = client.modern("tools/call", &params).await?.result()?;
    ensure!(result["isError"] != true, "{tool}: {result}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_hear_of_resources_at_upstreams_of_either_era() -> anyhow::Result<()> {
    let all = [By::Url, By::Command].map(|by| [(Era::Modern, by), (Era::Legacy, by)]);
    for (era, by) in all.into_iter().flatten() {
        let (world, _server) = world(era, by).await?;
        let which = || format!("{era:?} {by:?}");
        let client = world.client("/mcp").await?;
        let discovered = client.modern("server/discover", "{}").await?.result()?;
        let resources = &discovered["capabilities"]["resources"];
        assert_eq!(*resources, json!({"subscribe": true, "listChanged": true}), "{}", which());
        let filter = format!(r#"{{"resourceSubscriptions":["{WATCHED}","x://nobody"]}}"#);
        let (mut events, honoured) = listen(&client, &filter).await.with_context(which)?;
        assert_eq!(honoured["resourceSubscriptions"][0], WATCHED, "{}: {honoured}", which());
        let (mut others, _) =
            listen(&client, r#"{"resourceSubscriptions":["test://static-text"]}"#).await?;
        call(&client, "up-test_touch").await.with_context(which)?;
        let message = soon(&mut events).await.with_context(which)?;
        assert_eq!(message["method"], "notifications/resources/updated", "{message}");
        assert_eq!(message["params"]["uri"], WATCHED, "{message}");
        assert_eq!(message["params"]["_meta"][KEY], 1, "{message}");
        // Who listens to something else hears nothing but the end.
        drop(events);
        let mut world = world;
        let stopping = tokio::spawn(async move { world.stop().await });
        let last = soon(&mut others).await.with_context(which)?;
        assert_eq!(last["result"]["resultType"], "complete", "{}: {last}", which());
        stopping.await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_clients_hear_of_resources_at_modern_upstreams() -> anyhow::Result<()> {
    for by in [By::Url, By::Command] {
        let (world, _server) = world(Era::Modern, by).await?;
        let (mut one, mut two) = (world.client("/mcp").await?, world.client("/mcp").await?);
        let hello = one.initialize().await?;
        assert_eq!(hello["capabilities"]["resources"]["subscribe"], true, "{hello}");
        two.initialize().await?;
        let watched = format!(r#"{{"uri":"{WATCHED}"}}"#);
        let answer = one.legacy("resources/subscribe", &watched).await?;
        assert_eq!(answer.result().with_context(|| format!("{by:?}"))?, json!({}));
        let mut heard = Events::of(one.listen(None).send().await?).await?;
        let mut unheard = Events::of(two.listen(None).send().await?).await?;
        two.call_text("up-test_touch", "{}").await?;
        let update = soon(&mut heard).await?;
        assert_eq!(update["method"], "notifications/resources/updated", "{update}");
        assert_eq!(update["params"]["uri"], WATCHED, "{update}");
        assert!(update["params"]["_meta"][KEY].is_null(), "{update}");
        one.legacy("resources/unsubscribe", &watched).await?.result()?;
        two.call_text("up-test_touch", "{}").await?;
        for (client, events) in [(&one, &mut heard), (&two, &mut unheard)] {
            client.delete().send().await?;
            while let Some(event) = events.next().await? {
                assert!(event.data.is_null(), "{event:?}");
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_at_an_upstream_is_told_at_once_to_clients_of_both_eras() -> anyhow::Result<()>
{
    let all = [By::Url, By::Command].map(|by| [(Era::Modern, by), (Era::Legacy, by)]);
    for (era, by) in all.into_iter().flatten() {
        let (world, _server) = world(era, by).await?;
        world.ok(&["create", "server", "all", "--upstream", "up", "--naming", "bare"]).await?;
        let modern = world.client("/servers/all/mcp").await?;
        let mut legacy = world.client("/mcp").await?;
        legacy.initialize().await?;
        let filter = r#"{"toolsListChanged":true,"promptsListChanged":true}"#;
        let (mut listened, honoured) = listen(&modern, filter).await?;
        assert_eq!(honoured, serde_json::from_str::<Value>(filter)?);
        let mut streamed = Events::of(legacy.listen(None).send().await?).await?;
        for (tool, method) in [
            ("test_trigger_tool_change", "notifications/tools/list_changed"),
            ("test_trigger_prompt_change", "notifications/prompts/list_changed"),
        ] {
            let begun = Instant::now();
            call(&modern, tool).await?;
            for events in [&mut listened, &mut streamed] {
                let which = || format!("{tool} {era:?} {by:?}");
                let message = soon(events).await.with_context(which)?;
                assert_eq!(message["method"], method, "{message}");
                let took = begun.elapsed();
                assert!(took < IN_A_MOMENT, "{}: told after {took:?}", which());
            }
        }
        let names = legacy.tool_names().await?;
        assert!(names.contains(&"up-test_appearing".to_owned()), "{names:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_its_subscriptions() -> anyhow::Result<()> {
    let world = World::up().await?;
    let token = world.token("listener").await?;
    let client = Client::new(&format!("{}/mcp", world.url()), Some(&token));
    let (mut events, _) = listen(&client, r#"{"toolsListChanged":true}"#).await?;
    world.ok(&["token", "revoke", "listener"]).await?;
    let last = soon(&mut events).await?;
    assert_eq!(last["result"]["resultType"], "complete", "{last}");
    assert_eq!(events.next().await?, None);
    Ok(())
}
