//! Ids and states that their sender was not given: nothing of them is honoured, on any transport.

use anyhow::Context;
use serde_json::{Value, json};
use tests::client::{Client, http, whole};
use tests::fixture::{self, Era};
use tests::talk::Round;
use tests::world::World;

use super::ways::{WAYS, Way};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

async fn world() -> anyhow::Result<(World, fixture::Server, [String; 2])> {
    let fixture = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "up", "--url", &fixture.url()]).await?;
    world.ok(&["create", "server", "dev", "--upstream", "up"]).await?;
    let ours = world.token("ann").await?;
    let theirs = world.ok(&["token", "create", "--name", "bob", "--subject", "bob"]).await?;
    Ok((world, fixture, [ours, theirs]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_found_by_its_exact_id_and_its_principal_alone() -> anyhow::Result<()> {
    let (world, _fixture, [ours, theirs]) = world().await?;
    let url = format!("{}/mcp", world.url());
    let mut client = Client::new(&url, Some(&ours));
    client.initialize().await?;
    let mut ended = Client::new(&url, Some(&ours));
    ended.initialize().await?;
    assert_eq!(ended.delete().send().await?.status(), 204);
    let id = client.session().context("no session")?.to_owned();
    let (half, longer) = (id[..id.len() / 2].to_owned(), format!("{id}A"));
    let mut flipped = id.clone().into_bytes();
    let at = flipped.len() / 2;
    flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped)?;
    let dev = format!("{}/servers/dev/mcp", world.url());
    let gone = ended.session().context("no session")?;
    for (what, url, token, id) in [
        ("forged", &url, &ours, "forged"),
        ("truncated", &url, &ours, half.as_str()),
        ("longer", &url, &ours, longer.as_str()),
        ("changed", &url, &ours, flipped.as_str()),
        ("ended", &url, &ours, gone),
        ("of another principal", &url, &theirs, id.as_str()),
        ("of another endpoint", &dev, &ours, id.as_str()),
    ] {
        for verb in ["POST", "GET", "DELETE"] {
            let mut request = http().request(verb.parse()?, url).bearer_auth(token);
            request =
                request.header("mcp-session-id", id).header("content-type", "application/json");
            request = request.header("accept", "application/json, text/event-stream");
            let body = if verb == "POST" { LIST } else { "" };
            let answer = whole(request.body(body).send().await?).await?;
            assert_eq!(
                (answer.status.as_u16(), answer.error_code()?),
                (404, -32001),
                "{what}, {verb}: {answer:?}"
            );
        }
    }
    assert!(client.legacy("tools/list", "{}").await?.result()?["tools"].is_array());
    // Where there are no sessions, an id means nothing.
    let rpc = http().post(format!("{}/rpc", world.url())).bearer_auth(&ours);
    let rpc = rpc.header("mcp-session-id", "forged").header("content-type", "application/json");
    assert_eq!(rpc.body(LIST).send().await?.status(), 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_takes_messages_by_its_exact_id_and_of_its_principal_alone() -> anyhow::Result<()>
{
    let (world, _fixture, [ours, theirs]) = world().await?;
    let Way::Events(stream) = Way::open(&world, "sse", &ours).await? else {
        anyhow::bail!("no stream")
    };
    let endpoint = format!("{}{}", world.url(), stream.endpoint());
    let (front, id) = endpoint.split_once('=').context("no id")?;
    let (half, longer) = (id.get(..id.len() / 2).context("short")?, format!("{id}a"));
    for (what, token, id) in [
        ("forged", &ours, "forged"),
        ("truncated", &ours, half),
        ("longer", &ours, longer.as_str()),
        ("none", &ours, ""),
        ("of another principal", &theirs, id),
    ] {
        let request = http().post(format!("{front}={id}")).bearer_auth(token);
        let request = request.header("content-type", "application/json").body(LIST);
        let answer = whole(request.send().await?).await?;
        assert_eq!(
            (answer.status.as_u16(), answer.error_code()?),
            (404, -32001),
            "{what}: {answer:?}"
        );
    }
    Ok(())
}

const ABLE: &str = r#"{"sampling":{},"elicitation":{},"roots":{}}"#;
const ELICIT: &str = r#"{"name":"up-test_elicitation","arguments":{"message":"Who?"}}"#;

fn answer(_: &Value) -> Value {
    json!({"action": "accept", "content": {"username": "ann", "email": "a@b.c"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_state_is_good_for_its_principal_and_once_on_every_transport()
-> anyhow::Result<()> {
    let (world, fixture, [ours, theirs]) = world().await?;
    let url = format!("{}/mcp", world.url());
    let able = Client::new(&url, Some(&ours)).able(ABLE);
    let able_too = Client::new(&url, Some(&theirs)).able(ABLE);
    for (done, name) in (1..).zip(WAYS) {
        let mut way = Way::open(&world, name, &ours).await?;
        let mut other = Way::open(&world, name, &theirs).await?;
        let first = way.modern(&able, "tools/call", ELICIT).await?.json();
        let round = Round::of(ELICIT, &first).with_context(|| format!("{name}: {first}"))?;
        let good = round.next(answer);
        let sealed = round.state.as_str().context("no state")?;
        let (head, last) = sealed.split_at(sealed.len() - 1);
        let changed =
            format!("{}{}", if sealed.starts_with('A') { 'B' } else { 'A' }, &sealed[1..]);
        for (what, params) in [
            ("truncated", good.replace(sealed, head)),
            ("longer", good.replace(sealed, &format!("{sealed}{last}"))),
            ("changed", good.replace(sealed, &changed)),
            ("nothing", good.replace(sealed, "")),
            ("of another call", good.replace("Who?", "You?")),
        ] {
            let refused = way.modern(&able, "tools/call", &params).await?;
            assert_eq!(refused.code(), -32602, "{name}, {what}: {refused:?}");
        }
        let stolen = other.modern(&able_too, "tools/call", &good).await?;
        assert_eq!(stolen.code(), -32602, "{name}: {stolen:?}");
        let done_by = way.modern(&able, "tools/call", &good).await?;
        assert!(done_by.text.contains("action=accept"), "{name}: {done_by:?}");
        let replayed = way.modern(&able, "tools/call", &good).await?;
        assert_eq!(replayed.code(), -32602, "{name}: {replayed:?}");
        assert_eq!(fixture.executions().len(), done, "{name}: {:?}", fixture.executions());
    }
    Ok(())
}
