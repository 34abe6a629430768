//! Modern clients of legacy upstreams: what those ask becomes rounds of the very same call.

use anyhow::Context;
use serde_json::{Value, json};
use tests::client::Client;
use tests::fixture::{self, Era};
use tests::talk::Round;
use tests::world::{World, program};

const ABLE: &str = r#"{"sampling":{},"elicitation":{},"roots":{}}"#;

/// A world with the legacy fixture behind it on both transports.
async fn two_ways() -> anyhow::Result<(World, fixture::Server)> {
    let server = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "http", "--url", &server.url()]).await?;
    let fixture = program("fixture")?.display().to_string();
    let command = ["create", "upstream", "pipe", "--command", &fixture, "--arg", "--stdio"];
    world.ok(&[&command[..], &["--arg", "--era", "--arg", "legacy"]].concat()).await?;
    Ok((world, server))
}

fn text(response: &Value) -> &str {
    response.pointer("/result/content/0/text").and_then(Value::as_str).unwrap_or_default()
}

/// What a user and a model say to whatever is asked.
fn answer(input: &Value) -> Value {
    match input["method"].as_str() {
        Some("sampling/createMessage") => {
            json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "Paris"}})
        }
        Some("roots/list") => json!({"roots": [{"uri": "file:///home/ann"}]}),
        _ => json!({"action": "accept", "content": {"username": "ann", "email": "a@b.c"}}),
    }
}

const ELICIT: &str = r#"{"name":"http-test_elicitation","arguments":{"message":"Who?"}}"#;

/// A call that waits for its client.
async fn parked(client: &Client) -> anyhow::Result<Round> {
    let response = client.modern("tools/call", ELICIT).await?.response()?;
    Round::of(ELICIT, &response).with_context(|| response.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_legacy_upstream_asks_reaches_a_modern_client_and_the_call_goes_on()
-> anyhow::Result<()> {
    let (world, fixture) = two_ways().await?;
    let client = world.client("/mcp").await?.able(ABLE);
    for upstream in ["http", "pipe"] {
        let call = |tool: &str, arguments: &str| {
            format!(r#"{{"name":"{upstream}-{tool}","arguments":{arguments}}}"#)
        };
        let sampling = call("test_sampling", r#"{"prompt":"Capital?"}"#);
        let (asked, response) = client.rounds(&sampling, answer).await?;
        assert_eq!(asked.len(), 1, "{upstream}: {response}");
        assert_eq!(asked[0]["method"], "sampling/createMessage", "{asked:?}");
        assert_eq!(asked[0]["params"]["messages"][0]["content"]["text"], "Capital?");
        assert!(asked[0].get("id").is_none() && asked[0].get("jsonrpc").is_none(), "{asked:?}");
        assert_eq!(text(&response), "LLM response: Paris", "{upstream}: {response}");
        assert_eq!(response["result"]["resultType"], "complete");
        let elicitation = call("test_elicitation", r#"{"message":"Who?"}"#);
        let (asked, response) = client.rounds(&elicitation, answer).await?;
        let message = format!("[{upstream}] Who?");
        assert_eq!(asked[0]["params"]["message"], message, "it is said who asks");
        assert!(text(&response).contains("action=accept"), "{upstream}: {response}");
        let (_, response) = client.rounds(&call("test_list_roots", "{}"), answer).await?;
        assert_eq!(text(&response), "roots: file:///home/ann", "{upstream}: {response}");
        let (_, declined) = client.rounds(&elicitation, |_| json!({"action": "decline"})).await?;
        assert!(text(&declined).contains("action=decline"), "{upstream}: {declined}");
    }
    assert_eq!(fixture.executions().len(), 4, "each call ran once: {:?}", fixture.executions());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_modern_upstream_asks_says_who_asks_and_leads_to_safe_pages_only()
-> anyhow::Result<()> {
    let server = fixture::start(Era::Modern, "127.0.0.1:0").await?;
    let world = World::up().await?;
    for name in ["up", "other"] {
        world.ok(&["create", "upstream", name, "--url", &server.url()]).await?;
    }
    world.ok(&["create", "server", "one", "--upstream", "up"]).await?;
    for (path, who) in [("/mcp", "[up] "), ("/servers/one/mcp", "")] {
        let client = world.client(path).await?.able(r#"{"elicitation":{"form":{},"url":{}}}"#);
        let page = |url: &str| {
            format!(r#"{{"name":"up-test_elicitation_page","arguments":{{"url":"{url}"}}}}"#)
        };
        let (asked, response) = client.rounds(&page("https://pay.example/1"), answer).await?;
        assert_eq!(asked[0]["params"]["message"], format!("{who}Pay here"), "{path}: {asked:?}");
        assert!(text(&response).contains("action=accept"), "{path}: {response}");
        let form = r#"{"name":"up-test_elicitation","arguments":{"message":"Who?"}}"#;
        let (asked, _) = client.rounds(form, answer).await?;
        assert_eq!(asked[0]["params"]["message"], format!("{who}Who?"), "{path}: {asked:?}");
        for url in ["http://pay.example/", "javascript:alert(1)"] {
            let refused = client.modern("tools/call", &page(url)).await?;
            assert_eq!(refused.error_code()?, -32603, "{path}: {}", refused.body);
            assert!(refused.body.contains("others could have written"), "{}", refused.body);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_asks_several_things_at_once_or_in_turn() -> anyhow::Result<()> {
    let (world, _fixture) = two_ways().await?;
    let client = world.client("/mcp").await?.able(ABLE);
    for upstream in ["http", "pipe"] {
        let call = format!(r#"{{"name":"{upstream}-test_ask_twice","arguments":{{}}}}"#);
        let (asked, response) = client.rounds(&call, answer).await?;
        let messages: Vec<_> = asked.iter().map(|it| it["params"]["message"].as_str()).collect();
        let expected = ["First?", "Second?"].map(|it| format!("[{upstream}] {it}"));
        assert_eq!(messages, expected.each_ref().map(|it| Some(it.as_str())), "{upstream}");
        assert_eq!(text(&response), r#""accept" "accept""#, "{upstream}: {response}");
        let call = format!(r#"{{"name":"{upstream}-test_ask_aside","arguments":{{}}}}"#);
        let (asked, response) = client.rounds(&call, answer).await?;
        assert_eq!(asked.len(), 1, "{upstream}: {response}");
        assert_eq!(text(&response), "1 roots", "{upstream}: {response}");
        let call = format!(r#"{{"name":"{upstream}-test_ask_at_once","arguments":{{}}}}"#);
        let first = client.modern("tools/call", &call).await?.response()?;
        let round = Round::of(&call, &first).with_context(|| first.to_string())?;
        assert_eq!(round.inputs.len(), 2, "{upstream}: {first}");
        let response = client.modern("tools/call", &round.next(answer)).await?.response()?;
        assert!(text(&response).contains("Paris"), "{upstream}: {response}");
        assert!(text(&response).contains("file:///home/ann"), "{upstream}: {response}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_client_declares_is_asked() -> anyhow::Result<()> {
    let (world, _fixture) = two_ways().await?;
    let client = world.client("/mcp").await?.able(r#"{"roots":{}}"#);
    for upstream in ["http", "pipe"] {
        let call = |tool: &str| format!(r#"{{"name":"{upstream}-{tool}","arguments":{{}}}}"#);
        let (asked, response) = client.rounds(&call("test_sampling"), answer).await?;
        assert_eq!(asked, Vec::<Value>::new(), "{upstream}");
        assert_eq!(response["result"]["isError"], true, "{upstream}: {response}");
        let (asked, response) = client.rounds(&call("test_elicitation"), answer).await?;
        assert_eq!(asked, Vec::<Value>::new(), "{upstream}");
        let is_refused =
            text(&response).contains("action=cancel") || response["result"]["isError"] == true;
        assert!(is_refused, "{upstream}: {response}");
        let (asked, response) = client.rounds(&call("test_list_roots"), answer).await?;
        assert_eq!(asked.len(), 1, "{upstream}: {response}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_good_for_its_request_its_principal_and_once() -> anyhow::Result<()> {
    let (world, fixture) = two_ways().await?;
    let client = world.client("/mcp").await?.able(ABLE);
    let theirs = world.ok(&["token", "create", "--name", "bob", "--subject", "bob"]).await?;
    let other = Client::new(&format!("{}/mcp", world.url()), Some(&theirs)).able(ABLE);
    let round = parked(&client).await?;
    let good = round.next(answer);
    let sealed = round.state.as_str().context("no state")?;
    let mut tampered = sealed.to_owned().into_bytes();
    let at = tampered.len() / 2;
    tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
    let tampered = good.replace(sealed, std::str::from_utf8(&tampered)?);
    for (what, client, params) in [
        ("another principal", &other, good.clone()),
        ("another call", &client, good.replace("Who?", "You?")),
        ("another tool", &client, good.replace("test_elicitation", "test_sampling")),
        ("tampered with", &client, tampered),
    ] {
        let answer = client.modern("tools/call", &params).await?;
        assert_eq!(answer.error_code()?, -32602, "{what}: {}", answer.body);
        assert!(answer.body.contains("was not given for this request"), "{what}: {}", answer.body);
    }
    for wrong in [json!([]), json!({"input-1": 7})] {
        let answer = client.modern("tools/call", &round.with(&wrong, &round.state)).await?;
        assert_eq!(answer.error_code()?, -32602, "{}", answer.body);
        assert!(answer.body.contains("`params.inputResponses`"), "{}", answer.body);
    }
    // What is missing is asked again, under a state of its own.
    let again = client.modern("tools/call", &round.with(&json!({"x": {}}), &round.state)).await?;
    let again = Round::of(ELICIT, &again.response()?).context("not asked again")?;
    assert_eq!(again.inputs, round.inputs);
    let response = client.modern("tools/call", &again.next(answer)).await?.response()?;
    assert!(text(&response).contains("action=accept"), "{response}");
    for used in [&good, &again.next(answer)] {
        let replayed = client.modern("tools/call", used).await?;
        assert_eq!(replayed.error_code()?, -32602, "{}", replayed.body);
        assert!(replayed.body.contains("was sent back before"), "{}", replayed.body);
    }
    assert_eq!(fixture.executions().len(), 1, "{:?}", fixture.executions());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_call_is_an_error_and_never_runs_again() -> anyhow::Result<()> {
    let (mut world, fixture) = two_ways().await?;
    let client = world.client("/mcp").await?.able(ABLE);
    let round = parked(&client).await?;
    world.kill().await;
    world.start_again().await?;
    let response = client.modern("tools/call", &round.next(answer)).await?.response()?;
    assert_eq!(response["result"]["isError"], true, "{response}");
    assert_eq!(response["result"]["resultType"], "complete", "{response}");
    assert!(text(&response).contains("no longer there"), "{response}");
    assert_eq!(fixture.executions().len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_has_so_many_calls_that_wait_and_no_more() -> anyhow::Result<()> {
    let (world, _fixture) = two_ways().await?;
    let client = world.client("/mcp").await?.able(ABLE);
    let mut rounds = Vec::new();
    for _ in 0..16 {
        rounds.push(parked(&client).await?);
    }
    let refused = client.modern("tools/call", ELICIT).await?;
    assert_eq!(refused.error_code()?, -32000, "{}", refused.body);
    assert!(refused.body.contains("wait for input"), "{}", refused.body);
    for round in rounds {
        let response = client.modern("tools/call", &round.next(answer)).await?.response()?;
        assert!(text(&response).contains("action=accept"), "{response}");
    }
    parked(&client).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_client_answers_by_requests_only() -> anyhow::Result<()> {
    let (world, _fixture) = two_ways().await?;
    let client = world.client("/mcp").await?.able(ABLE);
    let response = r#"{"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}"#;
    let request = client.request(response).header("mcp-protocol-version", "2026-07-28");
    let answer = tests::client::whole(request.send().await?).await?;
    assert_eq!((answer.status.as_u16(), answer.error_code()?), (400, -32600), "{}", answer.body);
    // Input for a call that never asked is no call's.
    let stray = ELICIT.replacen('{', r#"{"inputResponses":{"input-1":{"action":"accept"}},"#, 1);
    let response = client.modern("tools/call", &stray).await?.response()?;
    assert!(
        Round::of(ELICIT, &response).is_some(),
        "it is asked as if nothing were said: {response}"
    );
    Ok(())
}
