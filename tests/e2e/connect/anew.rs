//! How `connect` goes on when it loses its server, its session or its connection.

use tests::balancer::Balancer;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_server_is_found_again() -> anyhow::Result<()> {
    let (mut world, _fixture, token) = world().await?;
    let mut pipe = Pipe::to(&world, &token)?;
    pipe.initialize(json!({})).await?;
    ensure!(world.stop().await? == 0, "it did not stop");
    pipe.send(&call(1, "up-echo", json!({"message": "patient"}))).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.start_again().await?;
    assert_eq!(text(&pipe.answer(1).await?), Some("patient"));
    assert_eq!(pipe.end().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgets_the_session_is_initialized_again() -> anyhow::Result<()> {
    let fixture = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let (url, address) = (fixture.url(), fixture.address().to_string());
    let mut pipe = Pipe::start(&["--url", &url], &[])?;
    pipe.initialize(json!({"sampling": {}})).await?;
    drop(fixture);
    let _forgetful = Over::Http.serve_again(&address).await?;
    pipe.send(&call(1, "echo", json!({"message": "still"}))).await?;
    assert_eq!(text(&pipe.answer(1).await?), Some("still"));

    // The new session has the capabilities of the old one, and requests come the other way.
    pipe.send(&call(2, "test_sampling", json!({"prompt": "say"}))).await?;
    let asked = loop {
        let message = pipe.message().await?;
        if message.get("method") == Some(&"sampling/createMessage".into()) {
            break message;
        }
    };
    let said =
        json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "yes"}});
    pipe.send(&json!({"jsonrpc": "2.0", "id": asked.get("id"), "result": said})).await?;
    let answer = pipe.answer(2).await?;
    assert!(answer.pointer("/result").is_some_and(|it| it.to_string().contains("yes")), "{answer}");
    assert_eq!(pipe.end().await?, 0);
    Ok(())
}

/// How a client on a pipe reaches a server that will forget its session.
#[derive(Clone, Copy)]
pub(super) enum Over {
    /// Streamable HTTP.
    Http,
    Sse,
}

impl Over {
    pub(super) async fn serve(self, address: &str) -> anyhow::Result<fixture::Server> {
        match self {
            Self::Http => fixture::start(Era::Legacy, address).await,
            Self::Sse => fixture::start_sse(Era::Legacy, address).await,
        }
    }

    /// Starts another server on a port that has just been left.
    pub(super) async fn serve_again(self, address: &str) -> anyhow::Result<fixture::Server> {
        for _ in 0..100 {
            if let Ok(server) = self.serve(address).await {
                return Ok(server);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("{address} is still taken")
    }

    /// The resource that is said to have changed before anything is asked. Over SSE the stream
    /// begins anew by itself, and what is asked before that is lost with the old one.
    pub(super) async fn news(self, pipe: &mut Pipe) -> anyhow::Result<Option<Value>> {
        match self {
            Self::Http => Ok(None),
            Self::Sse => updated(&pipe.message().await?).map(Some),
        }
    }

    pub(super) fn pipe(self, url: &str) -> anyhow::Result<Pipe> {
        match self {
            Self::Http => Pipe::run("connect", &["--url", url], &[]),
            Self::Sse => Pipe::run("translate", &["--connect-sse", url], &[]),
        }
    }
}

/// Which resource a message says to have changed.
pub(super) fn updated(message: &Value) -> anyhow::Result<Value> {
    let method = message.get("method").and_then(Value::as_str);
    ensure!(method == Some("notifications/resources/updated"), "nobody asked for {message}");
    message.pointer("/params/uri").cloned().context("no URI")
}

/// Says what it wants to hear of, loses its session, and wants to hear of the same.
async fn wishes_outlive_the_session(over: Over) -> anyhow::Result<()> {
    let fixture = over.serve("127.0.0.1:0").await?;
    let address = fixture.address().to_string();
    let mut pipe = over.pipe(&fixture.url())?;
    pipe.initialize(json!({})).await?;
    let uris = ["test://static-text", "test://watched-resource"];
    for (id, uri) in [(1, uris[0]), (2, uris[1])] {
        pipe.send(&request(id, "resources/subscribe", json!({"uri": uri}))).await?;
        pipe.answer(id).await?;
    }
    pipe.send(&request(3, "resources/unsubscribe", json!({"uri": uris[0]}))).await?;
    pipe.answer(3).await?;
    pipe.send(&request(4, "logging/setLevel", json!({"level": "error"}))).await?;
    pipe.answer(4).await?;
    let wishes = format!("Error {}", uris[1]);
    pipe.send(&call(5, "test_wishes", json!({}))).await?;
    assert_eq!(text(&pipe.answer(5).await?), Some(&*wishes));
    drop(fixture);
    let _forgetful = over.serve_again(&address).await?;
    let mut changed: Vec<_> = over.news(&mut pipe).await?.into_iter().collect();
    pipe.send(&call(6, "test_wishes", json!({}))).await?;
    let answer = loop {
        let message = pipe.message().await?;
        if message.get("id") == Some(&6.into()) {
            break message;
        }
        changed.push(updated(&message)?);
    };
    assert_eq!(text(&answer), Some(&*wishes), "{answer}");
    assert_eq!(changed, [uris[1]], "it may have changed meanwhile");
    assert_eq!(pipe.end().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_begins_anew_hears_of_what_the_old_one_did() -> anyhow::Result<()> {
    wishes_outlive_the_session(Over::Http).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_begins_anew_hears_of_what_the_old_one_did() -> anyhow::Result<()> {
    wishes_outlive_the_session(Over::Sse).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_costs_neither_answers_nor_news() -> anyhow::Result<()> {
    // A modern server would have no way to say something between two calls.
    let (world, _fixture, token) = world_of(Era::Legacy).await?;
    let between = Balancer::start(&[world.url()]).await?;
    let mut pipe = Pipe::start(&["--url", &between.url(), "--token", &token], &[])?;
    pipe.initialize(json!({"sampling": {}, "roots": {}})).await?;
    pipe.send(&call(1, "up-test_sampling", json!({"prompt": "say"}))).await?;
    let asked = pipe.message().await?;
    assert_eq!(asked.get("method"), Some(&"sampling/createMessage".into()), "{asked}");
    // Cuts the stream of the call and the one of the session.
    between.cut(Duration::from_secs(1)).await?;
    let said =
        json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "yes"}});
    pipe.send(&json!({"jsonrpc": "2.0", "id": asked.get("id"), "result": said})).await?;
    assert_eq!(text(&pipe.answer(1).await?), Some("LLM response: yes"));
    pipe.send(&call(2, "up-test_speak_later", json!({}))).await?;
    let mut said = Vec::new();
    while said.len() < 2 {
        let message = pipe.message().await?;
        match message.get("method").and_then(Value::as_str) {
            Some("roots/list") => {
                let roots = json!({"roots": [{"uri": "file:///a"}]});
                let id = message.get("id");
                pipe.send(&json!({"jsonrpc": "2.0", "id": id, "result": roots})).await?;
            }
            Some("notifications/message") => said.push(message["params"]["data"].clone()),
            _ => {}
        }
    }
    assert_eq!(said, ["later", "1 roots"]);
    assert_eq!(pipe.end().await?, 0);
    Ok(())
}
