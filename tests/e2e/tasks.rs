//! Tasks of both generations: created, watched, asked about and ended through the gateway.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::client::{Client, eventually, http};
use tests::fixture::{self, Era};
use tests::talk::Events;
use tests::world::process::Process;
use tests::world::{ControlPlane, World, program};
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(20);
const ABLE: &str = r#"{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;

/// The state of a task.
async fn get(client: &Client, id: &Value) -> anyhow::Result<Value> {
    client.modern("tasks/get", &json!({"taskId": id}).to_string()).await?.result()
}

async fn until(client: &Client, id: &Value, status: &str) -> anyhow::Result<Value> {
    eventually(status, SOON, || async {
        let task = get(client, id).await?;
        Ok(task.get("status").and_then(Value::as_str) == Some(status))
    })
    .await?;
    get(client, id).await
}

async fn call(client: &Client, tool: &str, arguments: &Value) -> anyhow::Result<Value> {
    let params = json!({"name": tool, "arguments": arguments}).to_string();
    client.modern("tools/call", &params).await?.result()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_task_lives_on_for_its_principal_alone_and_through_a_restart() -> anyhow::Result<()>
{
    let fixture = fixture::start(Era::Modern, "127.0.0.1:0").await?;
    let mut world = World::up().await?;
    world.ok(&["create", "upstream", "up", "--url", &fixture.url()]).await?;
    let owner = world.client("/mcp").await?.able(ABLE);
    let discovered = owner.modern("server/discover", "{}").await?.result()?;
    let announced = &discovered["capabilities"]["extensions"]["io.modelcontextprotocol/tasks"];
    assert!(announced.is_object(), "{discovered}");

    let created = call(&owner, "up-confirm_delete", &json!({"filename": "x"})).await?;
    assert_eq!(created["resultType"], "task", "{created}");
    let id = &created["taskId"];
    let waiting = until(&owner, id, "input_required").await?;
    assert_eq!(waiting["inputRequests"]["confirm"]["method"], "elicitation/create", "{waiting}");

    let stranger = ["token", "create", "--name", "stranger", "--subject", "stranger"];
    let stranger = world.ok(&stranger).await?;
    let stranger = Client::new(&format!("{}/mcp", world.url()), Some(&stranger)).able(ABLE);
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let params = json!({"taskId": id, "inputResponses": {}}).to_string();
        assert_eq!(stranger.modern(method, &params).await?.error_code()?, -32602, "{method}");
    }
    world.stop().await?;
    world.start_again().await?;
    let answers = json!({"taskId": id, "inputResponses": {
        "confirm": {"action": "accept", "content": {"confirm": true}}
    }});
    let updated = owner.modern("tasks/update", &answers.to_string()).await?.result()?;
    assert_eq!(updated["resultType"], "complete", "{updated}");
    let done = until(&owner, id, "completed").await?;
    assert_eq!(&done["taskId"], id);
    assert_eq!(done["result"]["content"][0]["text"], "delete x: confirmed = true");

    let created = call(&owner, "up-slow_compute", &json!({"seconds": 60})).await?;
    let id = &created["taskId"];
    let cancel = json!({"taskId": id}).to_string();
    owner.modern("tasks/cancel", &cancel).await?.result()?;
    until(&owner, id, "cancelled").await?;
    let unable = owner.clone().able("{}");
    let whole = call(&unable, "up-slow_compute", &json!({"seconds": 0})).await?;
    assert!(whole.get("taskId").is_none() && whole["content"].is_array(), "{whole}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_does_not_tell_of_tasks_is_not_promised() -> anyhow::Result<()> {
    let fixture = fixture::start(Era::Modern, "127.0.0.1:0").await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "up", "--url", &fixture.url()]).await?;
    let owner = world.client("/mcp").await?.able(ABLE);
    let created = call(&owner, "up-slow_compute", &json!({"seconds": 60})).await?;
    let filter = json!({
        "taskIds": [created["taskId"]], "resourceSubscriptions": ["test://watched-resource"]
    });
    let params = json!({"notifications": filter}).to_string();
    let response = owner.modern_request("subscriptions/listen", &params)?.send().await?;
    let mut events = Events::of(response).await?;
    let first = tokio::time::timeout(SOON, events.message()).await??;
    // The Rust SDK knows the tasks extension, but not this part of it.
    let honoured = json!({"resourceSubscriptions": ["test://watched-resource"]});
    assert_eq!(first["params"]["notifications"], honoured, "{first}");
    call(&owner, "up-test_touch", &json!({})).await?;
    let told = tokio::time::timeout(SOON, events.message()).await??;
    assert_eq!(told["method"], "notifications/resources/updated", "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_proxy_finds_a_task() -> anyhow::Result<()> {
    let fixture = fixture::start(Era::Modern, "127.0.0.1:0").await?;
    let control = ControlPlane::start().await?;
    let (one, two) = (control.proxy().await?, control.proxy().await?);
    control.ok(&["create", "upstream", "up", "--url", &fixture.url()]).await?;
    let token = control.ok(&["token", "create", "--name", "mine"]).await?;
    let clients = [&one, &two].map(|proxy| proxy.client("/mcp", &token).able(ABLE));
    let [one, two] = &clients;
    for client in &clients {
        eventually("the tool is there", SOON, || async {
            let listed = client.modern("tools/list", "{}").await?.result()?;
            Ok(listed.to_string().contains("up-slow_compute"))
        })
        .await?;
    }
    let created = call(one, "up-slow_compute", &json!({"seconds": 0.2})).await?;
    let done = until(two, &created["taskId"], "completed").await?;
    assert_eq!(done["taskId"], created["taskId"]);
    Ok(())
}

/// A file that `make test` installs.
fn installed(path: &str) -> anyhow::Result<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(path);
    ensure!(file.exists(), "{} is not installed: `make test` installs it", file.display());
    Ok(file.display().to_string())
}

/// server-everything, a real server with legacy tasks, over HTTP and as a command.
pub(crate) async fn everything() -> anyhow::Result<(World, Process)> {
    let script = installed("node_modules/@modelcontextprotocol/server-everything/dist/index.js")?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("node");
    command.args([&script, "streamableHttp"]).env("PORT", port.to_string());
    let server = Process::spawn(command)?;
    let url = format!("http://127.0.0.1:{port}/mcp");
    let client = http();
    eventually("server-everything listens", Duration::from_secs(30), || async {
        Ok(client.get(&url).send().await.is_ok())
    })
    .await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "http", "--url", &url]).await?;
    let piped = ["create", "upstream", "pipe", "--command", "node", "--arg", &script];
    world.ok(&[&piped[..], &["--arg", "stdio"]].concat()).await?;
    Ok((world, server))
}

/// What the SDK's client saw of a task.
async fn run(world: &World, transport: &str, tool: &str) -> anyhow::Result<Value> {
    let token = world.token(&format!("{transport}-{tool}")).await?;
    let mut command = Command::new("node");
    let script = installed("client_ts1_tasks.mjs")?;
    // Node 20 hides its WebSocket; newer ones take the flag and do not need it.
    command.args(["--experimental-websocket", &script]);
    command.args([&format!("{}/mcp", world.url()), &token, tool, transport]);
    command.arg(program("lockgate")?).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_mins(1), command.output()).await??;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{complaint}\n{}", world.process().log_tail());
    serde_json::from_slice(&output.stdout).context(complaint)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_sdk_follows_a_task_of_a_real_server_and_answers_what_it_asks()
-> anyhow::Result<()> {
    let (world, _server) = everything().await?;
    for (transport, upstream) in
        [("http", "http"), ("http", "pipe"), ("sse", "pipe"), ("ws", "http"), ("stdio", "http")]
    {
        let what = || format!("{upstream} over {transport}");
        let tool = format!("{upstream}-simulate-research-query");
        let seen = run(&world, transport, &tool).await.with_context(what)?;
        assert!(seen["capabilities"]["tasks"]["requests"].is_object(), "{}: {seen}", what());
        let states = seen["states"].as_array().context("no states")?;
        assert_eq!(states.first(), Some(&json!("working")), "{}: {seen}", what());
        assert!(states.contains(&json!("input_required")), "{}: {seen}", what());
        assert_eq!(seen["asked"], 1, "{}: {seen}", what());
        let text = seen.pointer("/result/content/0/text").and_then(Value::as_str);
        assert!(text.is_some_and(|text| text.contains("(snake)")), "{}: {seen}", what());
        assert_eq!(seen["ids"], 1, "every message names the task alike: {seen}");
        let id = seen["id"].as_str().context("no id")?;
        assert!(id.len() > 64, "the upstream's own id: {id}");
        assert_eq!(seen["listed"], json!([id]), "{}: {seen}", what());
        assert_eq!(seen["cancelled"], "cancelled", "{}: {seen}", what());
    }
    Ok(())
}
