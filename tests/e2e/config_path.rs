//! From a command line to a visible tool: the README's start, and what the verbs promise.

use std::time::Duration;

use tests::fixture::{self, Era};
use tests::rest_api;
use tests::world::World;

const SCHEMA: &str = r#"{"type":"object","properties":{"timezone":{"type":"string"}}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_start_of_the_readme_ends_in_a_visible_tool_call() -> anyhow::Result<()> {
    let (fixture, api) =
        (fixture::start(Era::Legacy, "127.0.0.1:0").await?, rest_api::start().await?);
    let world = World::up().await?;
    world.ok(&["create", "upstream", "everything", "--url", &fixture.url()]).await?;
    let schema = world.data_dir().join("schema.json");
    std::fs::write(&schema, SCHEMA)?;
    let schema = format!("@{}", schema.display());
    let url = api.url("/rpc");
    let create = ["create", "tool", "clock_tool", "--url", &url, "--method", "POST"];
    world.ok(&[&create[..], &["--input-schema", &schema]].concat()).await?;
    let server = ["create", "server", "dev", "--upstream", "everything", "--tool", "clock_tool"];
    world.ok(&server).await?;

    let token = world.ok(&["token", "create", "--name", "laptop"]).await?;
    assert!(token.starts_with("lg_") && !token.contains(char::is_whitespace), "{token}");
    let call = ["tools", "call", "everything-echo", "--args", r#"{"message":"hi"}"#];
    assert!(world.ok(&call).await?.contains("hi"));
    assert!(world.ok(&[&call[..], &["--server", "dev"]].concat()).await?.contains("hi"));
    let clock =
        ["tools", "call", "clock_tool", "--args", r#"{"timezone":"UTC"}"#, "--server", "dev"];
    assert!(world.ok(&clock).await?.contains("timezone"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_situation_has_its_exit_code_and_data_is_alone_on_stdout() -> anyhow::Result<()> {
    let world = World::up().await?;
    let url = "http://127.0.0.1:9/rpc";
    world.ok(&["create", "tool", "clock_tool", "--url", url]).await?;
    let cases: [(&[&str], i32); 7] = [
        (&["get", "tools", "clock_tool"], 0),
        (&["get", "tool", "nobody"], 3),
        (&["create", "tool", "clock_tool", "--url", "http://127.0.0.1:9/other"], 5),
        (&["create", "tool", "bad", "--url", url, "--input-schema", "{"], 7),
        (&["create", "tool", "spaces in names", "--url", url], 7),
        (&["create", "server", "dev", "--tool", "nobody"], 7),
        (&["create", "tool"], 2),
    ];
    for (arguments, code) in cases {
        let answer = world.lockgate(arguments).await?;
        assert_eq!(answer.code, code, "{arguments:?}: {answer:?}");
        assert_eq!(answer.stdout.is_empty(), code != 0, "{arguments:?}: {answer:?}");
    }
    let listed = world.ok(&["get", "tools", "-o", "json"]).await?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    assert!(listed.to_string().contains("clock_tool"), "{listed}");
    assert_eq!(world.ok(&["get", "tools", "-o", "name"]).await?, "clock_tool");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_cannot_be_reached_says_where_the_way_ended() -> anyhow::Result<()> {
    let world = World::up().await?;
    let cases = [
        (["create", "upstream", "dead", "--url", "http://127.0.0.1:9/mcp"], "connect"),
        (["create", "upstream", "unknown", "--url", "http://nobody.invalid/mcp"], "dns"),
        (["create", "upstream", "nothing", "--command", "/no/such/program"], "spawn"),
    ];
    for (arguments, phase) in cases {
        let answer = world.lockgate(&arguments).await?;
        assert_ne!(answer.code, 0, "{answer:?}");
        assert!(answer.stderr.to_lowercase().contains(phase), "{phase}: {answer:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_applied_whole_or_not_at_all() -> anyhow::Result<()> {
    let world = World::up().await?;
    let file = world.data_dir().join("objects.yaml");
    let path = file.display().to_string();
    let bad = "\
kind: tool
name: one
url: 'http://127.0.0.1:9/one'
---
kind: server
name: dev
tools: [one, missing]
";
    std::fs::write(&file, bad)?;
    let answer = world.lockgate(&["apply", "-f", &path]).await?;
    assert_eq!(answer.code, 7, "{answer:?}");
    for named in ["dev", "tools[1]", "missing"] {
        assert!(answer.stderr.contains(named), "{named}: {answer:?}");
    }
    assert_eq!(world.ok(&["get", "tools", "-o", "name"]).await?, "");

    std::fs::write(&file, bad.replace(", missing", ""))?;
    world.ok(&["apply", "-f", &path, "--dry-run"]).await?;
    assert_eq!(world.ok(&["get", "tools", "-o", "name"]).await?, "");
    world.ok(&["apply", "-f", &path]).await?;
    assert_eq!(world.ok(&["get", "tools", "-o", "name"]).await?, "one");
    assert_eq!(world.ok(&["get", "servers", "-o", "name"]).await?, "dev");
    assert!(world.ok(&["apply", "-f", &path, "-o", "json"]).await?.contains("unchanged"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_clients_without_a_restart() -> anyhow::Result<()> {
    let api = rest_api::start().await?;
    let world = World::up().await?;
    world.ok(&["create", "tool", "first", "--url", &api.url("/one")]).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    world.ok(&["create", "tool", "second", "--url", &api.url("/two")]).await?;
    world.ok(&["delete", "tool", "first"]).await?;
    tests::client::eventually("the list follows", Duration::from_secs(5), || async {
        Ok(client.tool_names().await? == ["second"])
    })
    .await?;
    world.ok(&["update", "tool", "second", "--url", &api.url("/moved")]).await?;
    tests::client::eventually("the call follows", Duration::from_secs(5), || async {
        Ok(client.call_text("second", "{}").await?.contains("/moved"))
    })
    .await
}
