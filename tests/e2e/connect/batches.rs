//! Several messages on one line, as clients of 2025-03-26 may send them.

use super::{
    anew::{Over, updated},
    *,
};

/// Begins a session that has batches.
async fn initialize(pipe: &mut Pipe) -> anyhow::Result<()> {
    let hello = json!({"protocolVersion": "2025-03-26", "capabilities": {},
        "clientInfo": {"name": "tests", "version": "1"}});
    pipe.send(&request(0, "initialize", hello)).await?;
    let answer = pipe.answer(0).await?;
    assert_eq!(answer.pointer("/result/protocolVersion"), Some(&"2025-03-26".into()), "{answer}");
    Ok(())
}

fn initialized() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/initialized"})
}

/// The answer with an id in an array.
fn found(answers: &Value, id: i64) -> Option<&Value> {
    answers.as_array()?.iter().find(|answer| answer.get("id") == Some(&id.into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_on_a_pipe_may_send_several_messages_in_one() -> anyhow::Result<()> {
    let (world, _fixture, token) = world().await?;
    let arguments = ["--url", world.url(), "--token", &token];
    let mut pipe = Pipe::start(&arguments, &[("MCP_TOOL_CALL_TIMEOUT", "4")])?;
    initialize(&mut pipe).await?;
    let echo = call(2, "up-echo", json!({"message": "hi"}));
    pipe.send(&json!([initialized(), request(1, "ping", json!({})), echo])).await?;
    let answers = pipe.message().await?;
    assert_eq!(found(&answers, 1).context("no pong")?["result"], json!({}), "{answers}");
    assert_eq!(found(&answers, 2).and_then(text), Some("hi"), "{answers}");

    // One of them takes too long, and each of them is answered.
    pipe.send(&json!([
        request(3, "ping", json!({})),
        call(4, "up-test_tool_with_progress", json!({})),
        call(5, "up-sleep", json!({"milliseconds": 30_000}))
    ]))
    .await?;
    let first = pipe.message().await?;
    assert_eq!(first["params"]["progressToken"], 4, "{first}");
    let answers = loop {
        let message = pipe.message().await?;
        if message.is_array() {
            break message;
        }
    };
    assert_eq!(found(&answers, 3).context("no pong")?["result"], json!({}), "{answers}");
    let lost = found(&answers, 5).context("a call was forgotten")?;
    assert!(lost.get("error").is_some(), "{answers}");
    assert_eq!(answers.as_array().map(Vec::len), Some(3), "{answers}");
    assert_eq!(pipe.end().await?, 0);
    Ok(())
}

/// Wishes in one line, after which the server forgets the session.
async fn wishes_of_a_batch(over: Over) -> anyhow::Result<()> {
    let fixture = over.serve("127.0.0.1:0").await?;
    let address = fixture.address().to_string();
    let mut pipe = over.pipe(&fixture.url())?;
    initialize(&mut pipe).await?;
    let uri = "test://watched-resource";
    let subscribe = request(1, "resources/subscribe", json!({"uri": uri}));
    let level = request(2, "logging/setLevel", json!({"level": "error"}));
    pipe.send(&json!([initialized(), subscribe, level])).await?;
    let answers = pipe.message().await?;
    for id in [1, 2] {
        let answer = found(&answers, id).context("no answer")?;
        assert_eq!(answer.get("result"), Some(&json!({})), "{answers}");
    }
    drop(fixture);
    let _forgetful = over.serve_again(&address).await?;
    let news = over.news(&mut pipe).await?;
    pipe.send(&json!([3, 4].map(|id| call(id, "test_wishes", json!({}))))).await?;
    let changed = match news {
        Some(changed) => changed,
        None => updated(&pipe.message().await?)?,
    };
    assert_eq!(changed, uri);
    let answers = pipe.message().await?;
    let wishes = format!("Error {uri}");
    for id in [3, 4] {
        assert_eq!(found(&answers, id).and_then(text), Some(&*wishes), "{answers}");
    }
    assert_eq!(pipe.end().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_begins_anew_hears_of_what_a_batch_wished_for() -> anyhow::Result<()> {
    wishes_of_a_batch(Over::Http).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_begins_anew_hears_of_what_a_batch_wished_for() -> anyhow::Result<()> {
    wishes_of_a_batch(Over::Sse).await
}
