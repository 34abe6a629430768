//! What an operator sees: metrics, status, versions, and no secret anywhere.

use std::path::Path;

use tests::client::{Client, http, whole};
use tests::hostile::{Behaviour, Upstream};
use tests::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened_under_names_from_the_registry() -> anyhow::Result<()> {
    let upstream = Upstream::start(Behaviour::Shows).await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "shows", "--url", &upstream.url()]).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    client.call("shows-act", "{}").await?;
    client.legacy("made/up", "{}").await?;
    let url = format!("{}/metrics", world.url());
    assert_eq!(http().get(&url).send().await?.status(), 401);
    let admin = world.ok(&["token", "create", "--name", "ops", "--role", "admin"]).await?;
    let metrics = whole(Client::new(&url, Some(&admin)).get().send().await?).await?;
    assert_eq!(metrics.status, 200, "{metrics:?}");
    for expected in [
        "mcp_server_operation_duration_seconds_count",
        r#"mcp_method_name="tools/call""#,
        "lockgate_config_revision",
        "# EOF",
    ] {
        assert!(metrics.body.contains(expected), "{expected} is not in {}", metrics.body);
    }
    assert!(!metrics.body.contains("made/up"), "a client chose a label");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_version_answer_in_every_form() -> anyhow::Result<()> {
    let world = World::up().await?;
    for form in ["table", "json", "yaml"] {
        for what in ["status", "version"] {
            assert!(!world.ok(&[what, "-o", form]).await?.is_empty(), "{what} -o {form}");
        }
    }
    let status: serde_json::Value =
        serde_json::from_str(&world.ok(&["status", "-o", "json"]).await?)?;
    assert!(status.is_object(), "{status}");
    assert!(!world.ok(&["get", "proxies"]).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_found_in_no_file_and_no_log() -> anyhow::Result<()> {
    const CANARY: &str = "canary-5f0c9be1";
    let upstream = Upstream::start(Behaviour::Shows).await?;
    let mut world = World::up().await?;
    let url = upstream.url();
    world.ok(&["create", "upstream", "shows", "--url", &url, "--bearer", CANARY]).await?;
    let token = world.token("planted").await?;
    let mut client = Client::new(&format!("{}/mcp", world.url()), Some(&token));
    client.initialize().await?;
    client.call("shows-act", "{}").await?;
    let headers = upstream.last_headers().await;
    let sent = headers.get("authorization").and_then(|value| value.to_str().ok());
    assert_eq!(sent, Some("Bearer canary-5f0c9be1"));
    assert_eq!(world.stop().await?, 0);
    let mut leaks = Vec::new();
    for secret in [CANARY, token.as_str()] {
        search(world.data_dir(), secret.as_bytes(), &mut leaks)?;
        assert!(!world.process().log().contains(secret), "a secret is in the log");
    }
    assert!(leaks.is_empty(), "secrets in {leaks:?}");
    Ok(())
}

/// Notes the files below a directory that contain a secret.
pub(super) fn search(
    directory: &Path,
    secret: &[u8],
    found: &mut Vec<String>,
) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            search(&path, secret, found)?;
            continue;
        }
        let Ok(content) = std::fs::read(&path) else { continue };
        if content.windows(secret.len()).any(|window| window == secret) {
            found.push(path.display().to_string());
        }
    }
    Ok(())
}
