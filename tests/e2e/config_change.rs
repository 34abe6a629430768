//! Configuration changes under load: no failed call, and each answer from one revision.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::client::Client;
use tests::fixture::{self, Era};
use tests::rest_api;
use tests::world::World;

const SESSIONS: usize = 64;
const CHANGES: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_sessions_call_while_everything_changes() -> anyhow::Result<()> {
    let (fixture, api) =
        (fixture::start(Era::Dual, "127.0.0.1:0").await?, rest_api::start().await?);
    let world = World::up().await?;
    world.ok(&["create", "upstream", "things", "--url", &fixture.url()]).await?;
    world.ok(&["create", "tool", "a", "--url", &api.url("/0/a")]).await?;
    world.ok(&["create", "tool", "b", "--url", &api.url("/0/b")]).await?;
    world
        .ok(&["create", "server", "dev", "--upstream", "things", "--tool", "a", "--tool", "b"])
        .await?;
    let token = world.token("load").await?;
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let mut client = Client::new(&format!("{}/servers/dev/mcp", world.url()), Some(&token));
        client.initialize().await?;
        let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
        sessions.push(tokio::spawn(call_until(client, number, stop, calls)));
    }
    for change in 1..=CHANGES {
        change_everything(&world, &api.url(""), change)
            .await
            .with_context(|| format!("change {change}"))?;
    }
    stop.store(true, Ordering::SeqCst);
    for session in sessions {
        session.await??;
    }
    let calls = calls.load(Ordering::SeqCst);
    assert!(calls > 500, "only {calls} calls were made");
    Ok(())
}

/// One transaction that moves both tools and adds or removes a third.
async fn change_everything(world: &World, api: &str, change: usize) -> anyhow::Result<()> {
    let file = world.data_dir().join("change.yaml");
    let objects = format!(
        "kind: tool\nname: a\ndescription: revision {change}\nurl: '{api}/{change}/a'\n---\n\
         kind: tool\nname: b\ndescription: revision {change}\nurl: '{api}/{change}/b'\n"
    );
    std::fs::write(&file, objects)?;
    world.ok(&["apply", "-f", &file.display().to_string()]).await?;
    let name = format!("extra-{}", change / 2);
    if change.is_multiple_of(2) {
        world.ok(&["create", "tool", &name, "--url", &format!("{api}/extra")]).await?;
        world
            .ok(&[
                "update",
                "server",
                "dev",
                "--upstream",
                "things",
                "--tool",
                "a",
                "--tool",
                "b",
                "--tool",
                &name,
            ])
            .await?;
    } else if change > 2 {
        world
            .ok(&["update", "server", "dev", "--upstream", "things", "--tool", "a", "--tool", "b"])
            .await?;
        world.ok(&["delete", "tool", &format!("extra-{}", change / 2)]).await?;
    }
    Ok(())
}

async fn call_until(
    client: Client,
    number: usize,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let mut turn = number;
    while !stop.load(Ordering::SeqCst) {
        turn += 1;
        match turn % 4 {
            0 => {
                let list = client.legacy("tools/list", "{}").await?.result()?;
                one_revision(&list)?;
            }
            1 => ensure!(client.call_text("things-echo", r#"{"message":"x"}"#).await? == "x"),
            _ => {
                let text = client.call_text("a", "{}").await?;
                ensure!(text.contains("/a"), "{text}");
            }
        }
        calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The descriptions of `a` and `b` change in one transaction, so they agree in every list.
fn one_revision(list: &serde_json::Value) -> anyhow::Result<()> {
    let tools = list.get("tools").and_then(|tools| tools.as_array()).context("no tools")?;
    let description = |name: &str| {
        let tool = tools.iter().find(|tool| tool.get("name") == Some(&name.into()));
        tool.map(|tool| tool.get("description").cloned())
    };
    let (a, b) = (description("a").context("no a")?, description("b").context("no b")?);
    ensure!(a == b, "two revisions in one list: {a:?} and {b:?}");
    Ok(())
}
