//! The official SDK's client of each era at upstreams of both: it answers whatever it is asked.

#![expect(deprecated, reason = "what newer revisions deprecate, older ones still ask for")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, CreateMessageRequestParams,
    CreateMessageResult, ElicitRequestParams, ElicitResult, ElicitationAction, Implementation,
    ListRootsResult, ProtocolVersion, Root, SamplingMessage,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RequestContext};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, ErrorData, RoleClient};
use serde_json::{Map, Value, json};
use tests::client::{MODERN, http};
use tests::fixture::{self, Era};
use tests::world::{World, program};
use tokio::process::Command;

/// A user, her model and her files.
struct Ann;

impl ClientHandler for Ann {
    fn get_info(&self) -> ClientConfig {
        let able = ClientCapabilities::builder().enable_roots().enable_sampling();
        let able = able.enable_elicitation().build();
        ClientConfig::new(able, Implementation::new("ann", "1"))
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        Ok(CreateMessageResult::new(SamplingMessage::assistant_text("Paris"), "m".to_owned()))
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let content = json!({"username": "ann", "email": "a@b.c"});
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(content))
    }

    async fn list_roots(
        &self,
        _: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///home/ann")]))
    }
}

/// Upstreams of both eras, over HTTP and as commands, behind one gateway.
async fn world() -> anyhow::Result<(World, [fixture::Server; 2])> {
    let legacy = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let modern = fixture::start(Era::Modern, "127.0.0.1:0").await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "legacy", "--url", &legacy.url()]).await?;
    world.ok(&["create", "upstream", "modern", "--url", &modern.url()]).await?;
    let fixture = program("fixture")?.display().to_string();
    for era in ["legacy", "modern"] {
        let name = format!("{era}-pipe");
        let command = ["create", "upstream", &name, "--command", &fixture, "--arg", "--stdio"];
        world.ok(&[&command[..], &["--arg", "--era", "--arg", era]].concat()).await?;
    }
    Ok((world, [legacy, modern]))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_sdk_answers_in_either_era_what_servers_of_both_ask() -> anyhow::Result<()> {
    let (world, _servers) = world().await?;
    let token = world.token("ann").await?;
    let modes = [
        ClientLifecycleMode::Initialize,
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
    ];
    for mode in modes {
        let url = format!("{}/mcp", world.url());
        let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(&token);
        let transport = StreamableHttpClientTransport::with_client(http(), config);
        let client = Ann.serve_with_lifecycle(transport, mode.clone()).await?;
        for upstream in ["legacy", "modern", "legacy-pipe", "modern-pipe"] {
            for (tool, said) in [
                ("test_sampling", "LLM response: Paris"),
                ("test_elicitation", "action=accept"),
                ("test_list_roots", "roots: file:///home/ann"),
            ] {
                let what = format!("{mode:?}: {upstream}-{tool}");
                let call = CallToolRequestParams::new(format!("{upstream}-{tool}"));
                let result = client.call_tool(call).await.with_context(|| what.clone())?;
                let shown = serde_json::to_string(&result)?;
                assert!(shown.contains(said), "{what}: {shown}");
            }
        }
        client.cancel().await?;
    }
    Ok(())
}

/// What a driver of the Python SDK 2.x could not do, of all that it was asked to.
async fn python(world: &World, mode: &str, endpoints: Vec<Value>) -> anyhow::Result<Vec<String>> {
    let count: usize =
        endpoints.iter().filter_map(|it| it["features"].as_object()).map(Map::len).sum();
    let token = world.token(&format!("python-{mode}")).await?;
    let headers = json!({"Authorization": format!("Bearer {token}")});
    let job =
        json!({"transport": "http", "mode": mode, "headers": headers, "endpoints": endpoints});
    let mut command = Command::new(".venv/bin/python");
    command.args(["drivers/py2.py", &job.to_string()]).stdin(Stdio::null()).kill_on_drop(true);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("interop"));
    let output = tokio::time::timeout(Duration::from_mins(2), command.output()).await??;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = std::str::from_utf8(&output.stdout)?.lines().map(str::to_owned).collect();
    ensure!(lines.len() == count, "{} of {count} answers: {complaint}", lines.len());
    Ok(lines.into_iter().filter(|line| line.contains("\"error\"")).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_sdk_answers_in_either_era_what_servers_of_both_ask() -> anyhow::Result<()> {
    let (world, _servers) = world().await?;
    let url = format!("{}/mcp", world.url());
    let asks = |tool: &str, expect: Option<&str>| match expect {
        Some(expect) => json!({"name": tool, "arguments": {}, "expect": expect}),
        None => json!({"name": tool, "arguments": {}}),
    };
    for mode in ["legacy", MODERN] {
        let mut endpoints = Vec::new();
        for upstream in ["legacy", "modern", "legacy-pipe", "modern-pipe"] {
            let tool = |name: &str| format!("{upstream}-{name}");
            let features = json!({
                "sampling": asks(&tool("test_sampling"), None),
                "elicitation": asks(&tool("test_elicitation"), None),
            });
            endpoints.push(json!({"server": upstream, "url": url, "features": features}));
        }
        for upstream in ["modern", "modern-pipe"] {
            let tool = |name: &str| format!("{upstream}-test_input_required_result_{name}");
            for features in [
                json!({
                    "sampling": asks(&tool("sampling"), None),
                    "elicitation": asks(&tool("elicitation"), None),
                    "call": asks(&tool("multi_round"), Some("Both rounds done")),
                }),
                json!({"call": asks(&tool("request_state"), Some("state-ok"))}),
            ] {
                endpoints.push(json!({"server": upstream, "url": url, "features": features}));
            }
        }
        let failures = python(&world, mode, endpoints).await?;
        assert!(failures.is_empty(), "{mode}:\n{}", failures.join("\n"));
    }
    Ok(())
}
