//! Tasks across the generations: each client has its own form of the other side's.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::client::{Client, eventually};
use tests::fixture::{self, Era};
use tests::talk::Events;
use tests::world::World;

use super::tasks::everything;

const SOON: Duration = Duration::from_secs(20);
const ABLE: &str = r#"{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
const NEWEST: &str = "2025-11-25";

/// A legacy client, able to be asked, before the modern fixture.
async fn legacy_before_modern() -> anyhow::Result<(World, fixture::Server, Client)> {
    let fixture = fixture::start(Era::Modern, "127.0.0.1:0").await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "up", "--url", &fixture.url()]).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize_with(NEWEST, json!({"elicitation": {}})).await?;
    Ok((world, fixture, client))
}

/// The task that a legacy client's call has become.
async fn created(client: &Client, tool: &str, arguments: &Value) -> anyhow::Result<Value> {
    let call = json!({"name": tool, "arguments": arguments, "task": {"ttl": 60_000}}).to_string();
    let result = client.legacy("tools/call", &call).await?.result()?;
    let task = result.get("task").cloned().with_context(|| result.to_string())?;
    let id = task.get("taskId").context("no id")?;
    assert!(id.as_str().is_some_and(|id| id.len() > 40), "{task}");
    assert!(task.get("ttl").is_some() && task.get("ttlMs").is_none(), "{task}");
    Ok(id.clone())
}

async fn about(client: &Client, method: &str, id: &Value) -> anyhow::Result<Value> {
    client.legacy(method, &json!({"taskId": id}).to_string()).await?.response()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_client_follows_tasks_of_a_modern_server() -> anyhow::Result<()> {
    let (_world, _fixture, client) = legacy_before_modern().await?;
    let listed = client.legacy("tools/list", "{}").await?.result()?;
    let tools = listed["tools"].as_array().context("no tools")?;
    let slow = tools.iter().find(|tool| tool["name"] == "up-slow_compute").context("no tool")?;
    assert_eq!(slow["execution"]["taskSupport"], "optional", "{slow}");

    let id = created(&client, "up-slow_compute", &json!({"seconds": 0.5, "label": "it"})).await?;
    let told = about(&client, "tasks/get", &id).await?["result"].clone();
    assert_eq!((&told["taskId"], &told["status"]), (&id, &json!("working")), "{told}");
    assert!(told.get("resultType").is_none() && told.get("ttlMs").is_none(), "{told}");
    let done = about(&client, "tasks/result", &id).await?["result"].clone();
    assert!(done["content"][0]["text"].to_string().contains("it took"), "{done}");
    assert_eq!(done["_meta"]["io.modelcontextprotocol/related-task"]["taskId"], id, "{done}");
    let told = about(&client, "tasks/get", &id).await?["result"].clone();
    assert_eq!(told["status"], "completed", "{told}");
    assert!(told.get("result").is_none(), "{told}");

    let id = created(&client, "up-failing_job", &json!({})).await?;
    let failed = about(&client, "tasks/result", &id).await?;
    assert_eq!(failed["result"]["isError"], true, "{failed}");
    let id = created(&client, "up-protocol_error_job", &json!({})).await?;
    let failed = about(&client, "tasks/result", &id).await?;
    assert!(failed["error"]["message"].to_string().contains("broke the protocol"), "{failed}");

    let id = created(&client, "up-slow_compute", &json!({"seconds": 60})).await?;
    let cancelled = about(&client, "tasks/cancel", &id).await?["result"].clone();
    assert_eq!((&cancelled["taskId"], &cancelled["status"]), (&id, &json!("cancelled")));
    let told = about(&client, "tasks/get", &id).await?["result"].clone();
    assert_eq!(told["status"], "cancelled", "{told}");
    let lost = about(&client, "tasks/result", &id).await?;
    assert_eq!(lost["error"]["code"], -32603, "{lost}");
    let late = about(&client, "tasks/cancel", &id).await?;
    assert_eq!(late["error"]["code"], -32602, "{late}");
    let unknown = client.legacy("tasks/list", "{}").await?;
    assert_eq!(unknown.error_code()?, -32601, "nobody here lists: {}", unknown.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_modern_task_asks_is_asked_where_its_result_is_waited_for() -> anyhow::Result<()> {
    let (_world, _fixture, client) = legacy_before_modern().await?;
    let id = created(&client, "up-confirm_delete", &json!({"filename": "x"})).await?;
    let request = json!({"jsonrpc": "2.0", "id": "r", "method": "tasks/result",
        "params": {"taskId": id}});
    let mut events = Events::of(client.request(request.to_string()).send().await?).await?;
    let question = events.message().await?;
    assert_eq!(question["method"], "elicitation/create", "{question}");
    assert_eq!(question["params"]["message"], "Delete x?", "{question}");
    let related = &question["params"]["_meta"]["io.modelcontextprotocol/related-task"];
    assert_eq!(related["taskId"], id, "{question}");
    let answer = json!({"jsonrpc": "2.0", "id": question["id"],
        "result": {"action": "accept", "content": {"confirm": true}}});
    assert_eq!(client.post(answer.to_string()).await?.status, 202);
    let done = events.message().await?;
    assert_eq!(done["id"], "r", "{done}");
    assert_eq!(done["result"]["content"][0]["text"], "delete x: confirmed = true", "{done}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_server_that_answers_at_once_has_made_a_task_that_is_done() -> anyhow::Result<()> {
    let (_world, _fixture, client) = legacy_before_modern().await?;
    let id = created(&client, "up-greet", &json!({"name": "Ann"})).await?;
    let told = about(&client, "tasks/get", &id).await?["result"].clone();
    assert_eq!((&told["taskId"], &told["status"]), (&id, &json!("completed")), "{told}");
    for _ in 0..2 {
        let done = about(&client, "tasks/result", &id).await?["result"].clone();
        assert_eq!(done["content"][0]["text"], "Hello, Ann!", "{done}");
        assert!(done.get("resultType").is_none(), "{done}");
    }
    let late = about(&client, "tasks/cancel", &id).await?;
    assert_eq!(late["error"]["code"], -32602, "{late}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_client_follows_tasks_of_a_legacy_server_and_answers_what_they_ask()
-> anyhow::Result<()> {
    let (world, _server) = everything().await?;
    let client = world.client("/mcp").await?.able(ABLE);
    let discovered = client.modern("server/discover", "{}").await?.result()?;
    let announced = &discovered["capabilities"]["extensions"]["io.modelcontextprotocol/tasks"];
    assert!(announced.is_object(), "{discovered}");
    for upstream in ["http", "pipe"] {
        let call = json!({"name": format!("{upstream}-simulate-research-query"),
            "arguments": {"topic": "python", "ambiguous": true}})
        .to_string();
        let unable = client.clone().able(r#"{"elicitation":{}}"#);
        let refused = unable.modern("tools/call", &call).await?;
        assert_eq!((refused.status.as_u16(), refused.error_code()?), (400, -32021), "{upstream}");
        let created = client.modern("tools/call", &call).await?.result()?;
        assert_eq!(created["resultType"], "task", "{upstream}: {created}");
        assert!(created.get("ttlMs").is_some() && created.get("task").is_none(), "{created}");
        let id = &created["taskId"];
        let get = || async {
            client.modern("tasks/get", &json!({"taskId": id}).to_string()).await?.result()
        };
        eventually("it asks", SOON, || async {
            let told = get().await?;
            ensure!(told["status"] == "input_required", "{upstream}: {told}");
            Ok(true)
        })
        .await?;
        let asks = get().await?;
        let inputs = asks["inputRequests"].as_object().with_context(|| asks.to_string())?;
        let (key, input) = inputs.iter().next().context("no input")?;
        assert_eq!(input["method"], "elicitation/create", "{asks}");
        let message = input["params"]["message"].as_str().unwrap_or_default();
        assert!(message.starts_with(&format!("[{upstream}] ")), "{asks}");
        assert!(!asks.to_string().contains("related-task"), "{asks}");
        let given = json!({"action": "accept", "content": {"interpretation": "snake"}});
        let update = json!({"taskId": id, "inputResponses": {key.as_str(): given}});
        let updated = client.modern("tasks/update", &update.to_string()).await?.result()?;
        assert_eq!(updated["resultType"], "complete", "{updated}");
        eventually("it is done", SOON, || async { Ok(get().await?["status"] == "completed") })
            .await?;
        let done = get().await?;
        assert!(done["result"]["content"][0]["text"].to_string().contains("python"), "{done}");
        assert!(!done.to_string().contains("related-task"), "{done}");

        let created = client.modern("tools/call", &call).await?.result()?;
        let id = json!({"taskId": created["taskId"]}).to_string();
        for _ in 0..2 {
            let cancelled = client.modern("tasks/cancel", &id).await?.result()?;
            assert_eq!(cancelled["resultType"], "complete", "{upstream}: {cancelled}");
        }
        let told = client.modern("tasks/get", &id).await?.result()?;
        assert_eq!(told["status"], "cancelled", "{upstream}: {told}");
    }
    Ok(())
}
