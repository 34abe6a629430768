//! Several messages on one line, as clients of 2025-03-26 may send them.

use super::*;

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
async fn wishes_of_a_batch<F>(
    (verb, flag): (&str, &str),
    fixture: fixture::Server,
    again: impl AsyncFnOnce(String) -> anyhow::Result<F>,
) -> anyhow::Result<()> {
    let (url, address) = (fixture.url(), fixture.address().to_string());
    let mut pipe = Pipe::run(verb, &[flag, &url], &[])?;
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
    let _forgetful = again(address).await?;
    let asked = [3, 4].map(|id| call(id, "test_wishes", json!({})));
    pipe.send(&json!(asked)).await?;
    let updated = pipe.message().await?;
    assert_eq!(updated.pointer("/params/uri"), Some(&uri.into()), "{updated}");
    // Over HTTP+SSE a server has taken a message before it has done what it says.
    let wishes = format!("Error {uri}");
    let mut answers = pipe.message().await?;
    let is_known = |answers: &Value| {
        [3, 4].into_iter().all(|id| found(answers, id).and_then(text) == Some(&*wishes))
    };
    for _ in 0..20 {
        if is_known(&answers) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        pipe.send(&json!(asked)).await?;
        answers = pipe.message().await?;
    }
    assert!(is_known(&answers), "{answers}");
    assert_eq!(pipe.end().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_begins_anew_hears_of_what_a_batch_wished_for() -> anyhow::Result<()> {
    let fixture = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let connect = ("connect", "--url");
    wishes_of_a_batch(connect, fixture, async |address| again(&address).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_begins_anew_hears_of_what_a_batch_wished_for() -> anyhow::Result<()> {
    let fixture = fixture::start_sse(Era::Legacy, "127.0.0.1:0").await?;
    let translate = ("translate", "--connect-sse");
    wishes_of_a_batch(translate, fixture, async |address| sse_again(&address).await).await
}
