//! The ways in beside `/mcp`, through a real gateway to a real server.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use reqwest::Response;
use serde_json::{Value, json};
use tests::client::{Answer, http, whole};
use tests::fixture::{self, Era};
use tests::world::World;

async fn world() -> anyhow::Result<(World, fixture::Server)> {
    let fixture = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "up", "--url", &fixture.url()]).await?;
    Ok((world, fixture))
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_json_rpc_needs_no_session() -> anyhow::Result<()> {
    let (world, _fixture) = world().await?;
    let client = world.client("/rpc").await?;
    let echo = r#"{"name":"up-echo","arguments":{"message":"plain"}}"#;
    let called = client.legacy("tools/call", echo).await?.result()?;
    assert_eq!(called.pointer("/content/0/text"), Some(&"plain".into()), "{called}");
    let by_name = client.legacy("up-echo", r#"{"message":"by name"}"#).await?.result()?;
    assert_eq!(by_name.pointer("/content/0/text"), Some(&"by name".into()), "{by_name}");
    assert_eq!(client.legacy("no/such", "{}").await?.error_code()?, -32601);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_an_old_session_is_answered_whole() -> anyhow::Result<()> {
    let (world, _fixture) = world().await?;
    let mut client = world.client("/mcp").await?;
    client.initialize_at("2025-03-26").await?;
    let call = |id: u32| {
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": {"name": "up-echo", "arguments": {"message": id.to_string()}}})
    };
    let batch = json!([call(1), call(2), {"jsonrpc": "2.0", "id": 3, "method": "ping"}]);
    let answers = client.post(batch.to_string()).await?.json()?;
    let answers = answers.as_array().context("no array")?;
    for id in 1..=3 {
        let answer = answers.iter().find(|answer| answer.get("id") == Some(&id.into()));
        let text = answer.and_then(|answer| answer.pointer("/result/content/0/text"));
        ensure!(answer.is_some(), "{id} is not in {answers:?}");
        assert_eq!(text.and_then(Value::as_str), (id < 3).then(|| id.to_string()).as_deref());
    }
    Ok(())
}

/// A client of HTTP+SSE.
pub(super) struct Events {
    url: String,
    endpoint: String,
    token: String,
    stream: std::pin::Pin<Box<dyn futures_util::Stream<Item = String> + Send>>,
}

impl Events {
    async fn open(world: &World) -> anyhow::Result<Self> {
        Self::open_as(world, &world.token("events").await?).await
    }

    pub(super) async fn open_as(world: &World, token: &str) -> anyhow::Result<Self> {
        let (token, url) = (token.to_owned(), world.url().to_owned());
        let opened = http().get(format!("{url}/sse")).bearer_auth(&token).send().await?;
        ensure!(opened.status() == 200, "{}", opened.status());
        let mut events = Self { url, endpoint: String::new(), token, stream: lines(opened) };
        events.endpoint = events.data().await?;
        Ok(events)
    }

    /// The data of the next event.
    pub(super) async fn data(&mut self) -> anyhow::Result<String> {
        loop {
            let line = tokio::time::timeout(Duration::from_secs(30), self.stream.next()).await?;
            let line = line.context("the stream ended")?;
            if let Some(data) = line.strip_prefix("data: ") {
                return Ok(data.to_owned());
            }
        }
    }

    async fn message(&mut self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.data().await?)?)
    }

    async fn post(&self, message: &Value) -> anyhow::Result<()> {
        let posted = self.post_text(&message.to_string()).await?;
        ensure!(posted.status == 202, "{posted:?}");
        Ok(())
    }

    /// Posts exactly this.
    pub(super) async fn post_text(&self, body: impl AsRef<[u8]>) -> anyhow::Result<Answer> {
        let request = http().post(format!("{}{}", self.url, self.endpoint));
        let request = request.bearer_auth(&self.token).header("content-type", "application/json");
        whole(request.body(body.as_ref().to_vec()).send().await?).await
    }

    /// Where its messages are posted.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

fn lines(response: Response) -> std::pin::Pin<Box<dyn futures_util::Stream<Item = String> + Send>> {
    let chunks = response.bytes_stream();
    let state = (Box::pin(chunks), String::new());
    Box::pin(futures_util::stream::unfold(state, |(mut chunks, mut buffer)| async move {
        loop {
            if let Some(end) = buffer.find('\n') {
                let line: String = buffer.drain(..=end).collect();
                return Some((line.trim_end().to_owned(), (chunks, buffer)));
            }
            buffer.push_str(&String::from_utf8_lossy(&chunks.next().await?.ok()?));
        }
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_asks_comes_on_the_stream_of_http_sse() -> anyhow::Result<()> {
    let (world, _fixture) = world().await?;
    let mut events = Events::open(&world).await?;
    let hello = json!({"protocolVersion": "2024-11-05", "capabilities": {"sampling": {}},
        "clientInfo": {"name": "old", "version": "1"}});
    events
        .post(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}))
        .await?;
    let answer = events.message().await?;
    assert_eq!(answer.pointer("/result/protocolVersion"), Some(&"2024-11-05".into()), "{answer}");
    events.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await?;
    let call = json!({"name": "up-test_sampling", "arguments": {"prompt": "say"}});
    events
        .post(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}))
        .await?;
    let asked = events.message().await?;
    assert_eq!(asked.get("method"), Some(&"sampling/createMessage".into()), "{asked}");
    let said =
        json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "yes"}});
    events.post(&json!({"jsonrpc": "2.0", "id": asked.get("id"), "result": said})).await?;
    let answer = events.message().await?;
    assert_eq!(answer.get("id"), Some(&1.into()), "{answer}");
    assert!(answer.pointer("/result").is_some_and(|it| it.to_string().contains("yes")), "{answer}");
    Ok(())
}
