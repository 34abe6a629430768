//! Pages that a user has to visit before a call: a legacy upstream's error becomes a round.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use serde_json::{Value, json};
use tests::fixture::Era;
use tests::raw_server::RawServer;
use tests::talk::Round;
use tests::world::World;

const ABLE: &str = r#"{"elicitation":{"form":{},"url":{}}}"#;
const PAY: &str = r#"{"name":"shop-pay","arguments":{"n":1.0}}"#;

/// A legacy server that wants a page visited before the calls with these numbers.
async fn shop(unpaid: u32) -> anyhow::Result<(RawServer, Arc<AtomicU32>)> {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let server = RawServer::start(move |method, _| {
        Some(match method {
            "initialize" => r#""result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"shop","version":"1"}}"#.to_owned(),
            "tools/list" => r#""result":{"tools":[{"name":"pay","inputSchema":{"type":"object"}}]}"#.to_owned(),
            "tools/call" if counted.fetch_add(1, Ordering::SeqCst) < unpaid => r#""error":{"code":-32042,"message":"pay first","data":{"elicitations":[{"mode":"url","elicitationId":"e1","url":"https://pay.example/1","message":"Pay"}]}}"#.to_owned(),
            "tools/call" => r#""result":{"content":[{"type":"text","text":"paid"}]}"#.to_owned(),
            _ => return None,
        })
    })
    .await?;
    Ok((server, calls))
}

fn agreed(_: &Value) -> Value {
    json!({"action": "accept"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modern_client_is_sent_to_the_page_and_the_call_is_made_again() -> anyhow::Result<()> {
    let (server, calls) = shop(2).await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "shop", "--url", &server.url()]).await?;
    let client = world.client("/mcp").await?.able(ABLE);
    let (asked, response) = client.rounds(PAY, agreed).await?;
    let page = json!({"method": "elicitation/create", "params": {"mode": "url", "url": "https://pay.example/1", "message": "Pay"}});
    assert_eq!(asked, [page.clone(), page], "{response}");
    assert_eq!(response["result"]["content"][0]["text"], "paid", "{response}");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    let last = server.last("tools/call").await.context("never called")?;
    assert!(last.contains(r#""arguments":{"n":1.0}"#), "{last}");
    assert!(!last.contains("inputResponses") && !last.contains("requestState"), "{last}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_not_for_everyone_and_not_for_ever() -> anyhow::Result<()> {
    let (server, calls) = shop(u32::MAX).await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "shop", "--url", &server.url()]).await?;
    let unable = world.client("/mcp").await?.able(r#"{"elicitation":{"form":{}}}"#);
    let answer = unable.modern("tools/call", PAY).await?;
    assert_eq!((answer.status.as_u16(), answer.error_code()?), (400, -32021), "{}", answer.body);
    let required = answer.response()?["error"]["data"]["requiredCapabilities"].clone();
    assert_eq!(required, json!({"elicitation": {"url": {}}}));

    let client = world.client("/mcp").await?.able(ABLE);
    let first = client.modern("tools/call", PAY).await?.response()?;
    let round = Round::of(PAY, &first).with_context(|| first.to_string())?;
    let before = calls.load(Ordering::SeqCst);
    let declined = round.next(|_| json!({"action": "decline"}));
    let declined = client.modern("tools/call", &declined).await?.response()?;
    assert_eq!(declined["result"]["isError"], true, "{declined}");
    assert_eq!(calls.load(Ordering::SeqCst), before, "it is not called again");

    let (asked, response) = client.rounds(PAY, agreed).await?;
    assert_eq!(asked.len(), 10);
    assert_eq!(response["error"]["code"], -32603, "{response}");

    let mut legacy = world.client("/mcp").await?;
    legacy.initialize_with("2025-11-25", json!({"elicitation": {"url": {}}})).await?;
    let answer = legacy.legacy("tools/call", PAY).await?;
    assert_eq!(answer.error_code()?, -32042, "{}", answer.body);
    assert!(answer.body.contains(r#""elicitationId":"e1""#), "{}", answer.body);
    Ok(())
}

/// A legacy server whose tool `say` answers with its argument.
async fn parrot() -> anyhow::Result<RawServer> {
    RawServer::start(|method, body| {
        Some(match method {
            "initialize" => r#""result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"parrot","version":"1"}}"#.to_owned(),
            "tools/list" => r#""result":{"tools":[{"name":"say","inputSchema":{"type":"object"}}]}"#.to_owned(),
            "tools/call" => {
                let call: Value = serde_json::from_str(body).ok()?;
                call.pointer("/params/arguments/words")?.as_str()?.to_owned()
            }
            _ => return None,
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_leads_anyone_to_a_page_that_others_could_have_written() -> anyhow::Result<()> {
    let server = parrot().await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "parrot", "--url", &server.url()]).await?;
    let modern = world.client("/mcp").await?.able(ABLE);
    let mut legacy = world.client("/mcp").await?;
    legacy.initialize_with("2025-11-25", serde_json::from_str(ABLE)?).await?;
    let page = r#"{"url":"http://evil.example/","message":"Go","elicitationId":"e"}"#;
    let paged = page.replacen('{', r#"{"mode":"url","#, 1);
    let data = |page: &str| format!(r#""data":{{"elicitations":[{page}]}}"#);
    let wanted = format!(
        r#""result":{{"resultType":"input_required","requestState":"raw","inputRequests":{{"a":{{"method":"elicitation/create","params":{paged}}}}}}}"#
    );
    let asks = r#"{"jsonrpc":"2.0","id":900,"method":"sampling/createMessage","params":{"messages":[],"maxTokens":1}}"#;
    for words in [
        format!(r#""error":{{"code":-32042,"message":"m",{}}}"#, data(&paged)),
        format!(r#""error":{{"code":-32042,"message":"m",{}}}"#, data(page)),
        format!(r#""error":{{"code":-32042.0,"message":"m",{}}}"#, data(&paged)),
        format!(r#""error":{{"code":-32042,"message":"m","message":"m",{}}}"#, data(&paged)),
        format!(r#""error":{{"code":-32042,"message":7,{}}}"#, data(&paged)),
        format!(
            r#""error":{{"code":-32042,"message":"m",{}}}"#,
            data(&paged).replace("elic", "el\\u0069c")
        ),
        wanted.clone(),
        wanted.replace(r#""resultType":"input_required","requestState":"raw","#, ""),
        wanted.replace(r#""mode":"url","#, ""),
        format!("{asks}\n{wanted}"),
    ] {
        let call = json!({"name": "parrot-say", "arguments": {"words": words}}).to_string();
        let answer = modern.modern("tools/call", &call).await?;
        assert!(!answer.body.contains("evil") && !answer.body.contains("raw"), "{}", answer.body);
        assert!(answer.response()?["error"].is_object(), "{}", answer.body);
        // What has no meaning to legacy clients may say anything.
        if !words.contains("inputRequests") || words.contains("resultType") {
            let answer = legacy.legacy("tools/call", &call).await?;
            assert!(!answer.body.contains("evil"), "{}", answer.body);
        }
    }
    let good = format!(
        r#""error":{{"code":-32042.0,"message":"m",{}}}"#,
        data(&paged).replace("http://evil", "https://good")
    );
    let call = json!({"name": "parrot-say", "arguments": {"words": good}}).to_string();
    let round = modern.modern("tools/call", &call).await?.response()?;
    let asked = &round["result"]["inputRequests"]["page-1"]["params"];
    assert_eq!(asked["url"], "https://good.example/", "{round}");
    Ok(())
}

/// What `courier` says of a task where it could send its reader to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    /// An error, whatever it is asked.
    Refused,
    /// It has failed, with an error.
    Failed,
}

/// A server of either era that tells of its task, and of its resource, by a page, `url`.
async fn courier(
    name: &str,
    (era, telling): (Era, Telling),
    url: &str,
) -> anyhow::Result<RawServer> {
    let listed = format!(r#""result":{{"resources":[{{"name":"page","uri":"at://{name}"}}]}}"#);
    let told = |status: &str| {
        format!(
            r#""taskId":"t1","status":"{status}","createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:00Z""#
        )
    };
    let error = format!(
        r#""error":{{"code":-32042,"message":"m","data":{{"elicitations":[{{"mode":"url","elicitationId":"e","url":"{url}","message":"Go"}}]}}}}"#
    );
    RawServer::start(move |method, _| {
        Some(match (method, era, telling) {
            ("initialize", Era::Legacy, _) => r#""result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"resources":{"subscribe":true},"tasks":{"cancel":{},"requests":{"tools":{"call":{}}}}},"serverInfo":{"name":"courier","version":"1"}}"#.to_owned(),
            ("server/discover", Era::Modern, _) => r#""result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"extensions":{"io.modelcontextprotocol/tasks":{}}},"serverInfo":{"name":"courier","version":"1"}}"#.to_owned(),
            ("tools/list", ..) => r#""result":{"resultType":"complete","ttlMs":0,"cacheScope":"public","tools":[{"name":"go","inputSchema":{"type":"object"},"execution":{"taskSupport":"required"}}]}"#.to_owned(),
            ("tools/call", Era::Legacy, _) => format!(r#""result":{{"task":{{{},"ttl":null}}}}"#, told("working")),
            ("tools/call", Era::Modern, _) => format!(r#""result":{{"resultType":"task",{},"ttlMs":null}}"#, told("working")),
            ("tasks/get", Era::Legacy, Telling::Failed) => format!(r#""result":{{{},"ttl":null}}"#, told("failed")),
            ("tasks/get", Era::Modern, Telling::Failed) => format!(r#""result":{{"resultType":"complete",{},"ttlMs":null,{error}}}"#, told("failed")),
            ("resources/list", ..) => listed.clone(),
            ("tasks/get" | "tasks/cancel" | "tasks/result" | "resources/subscribe", ..) => error.clone(),
            _ => return None,
        })
    })
    .await
}

const EVIL: &str = "http://evil.example/";
const GOOD: &str = "https://good.example/";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_a_task_leads_to_no_such_page_either() -> anyhow::Result<()> {
    let world = World::up().await?;
    let able =
        r#"{"elicitation":{"form":{},"url":{}},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
    let mut servers = Vec::new();
    for (name, era, telling, url) in [
        ("old", Era::Legacy, Telling::Refused, EVIL),
        ("new", Era::Modern, Telling::Refused, EVIL),
        ("old-failed", Era::Legacy, Telling::Failed, EVIL),
        ("new-failed", Era::Modern, Telling::Failed, EVIL),
        ("old-good", Era::Legacy, Telling::Refused, GOOD),
        ("new-good", Era::Modern, Telling::Refused, GOOD),
        ("old-good-failed", Era::Legacy, Telling::Failed, GOOD),
        ("new-good-failed", Era::Modern, Telling::Failed, GOOD),
    ] {
        let server = courier(name, (era, telling), url).await?;
        world.ok(&["create", "upstream", name, "--url", &server.url()]).await?;
        servers.push((name, telling, url, server));
    }
    let modern = world.client("/mcp").await?.able(able);
    let mut legacy = world.client("/mcp").await?;
    legacy.initialize_with("2025-11-25", serde_json::from_str(ABLE)?).await?;
    for (name, telling, url, _server) in &servers {
        let call = json!({"name": format!("{name}-go"), "arguments": {}}).to_string();
        let created = modern.modern("tools/call", &call).await?.result()?;
        assert!(created["taskId"].is_string(), "{name}: {created}");
        let id = json!({"taskId": created["taskId"]}).to_string();
        for method in ["tasks/get", "tasks/cancel"] {
            let told = modern.modern(method, &id).await?.response()?;
            match (method, telling) {
                // What has ended is cancelled enough.
                ("tasks/cancel", Telling::Failed) => check_harmless(name, &told),
                // Its era has another code for it.
                _ => check_told(name, &told, (url, -32603)),
            }
        }
        let call = json!({"name": format!("{name}-go"), "arguments": {}, "task": {}}).to_string();
        let created = legacy.legacy("tools/call", &call).await?.result()?;
        assert!(created["task"]["taskId"].is_string(), "{name}: {created}");
        let id = json!({"taskId": created["task"]["taskId"]}).to_string();
        for method in ["tasks/get", "tasks/cancel", "tasks/result"] {
            let told = legacy.legacy(method, &id).await?.response()?;
            match (method, telling) {
                // The failure itself is for `tasks/result` to tell.
                ("tasks/get" | "tasks/cancel", Telling::Failed) => check_harmless(name, &told),
                _ => check_told(name, &told, (url, -32042)),
            }
        }
    }
    for (name, telling, url, _server) in &servers {
        if *telling == Telling::Refused && name.starts_with("old") {
            let uri = json!({"uri": format!("at://{name}")}).to_string();
            let told = legacy.legacy("resources/subscribe", &uri).await?.response()?;
            check_told(name, &told, (url, -32042));
        }
    }
    Ok(())
}

#[track_caller]
fn check_harmless(name: &str, told: &Value) {
    assert!(!told.to_string().contains("evil"), "{name}: {told}");
}

/// An answer, or the failure that it tells of, names a good page under this code and says who sends
/// its reader there, or no bad one.
#[track_caller]
fn check_told(name: &str, told: &Value, (url, code): (&str, i64)) {
    check_harmless(name, told);
    let error = ["/result/error", "/error"].into_iter().find_map(|it| told.pointer(it));
    let said = |part: &str| error.and_then(|error| error.pointer(part));
    if url == GOOD {
        let message = json!(format!("[{name}] Go"));
        assert_eq!(said("/code"), Some(&json!(code)), "{name}: {told}");
        assert_eq!(said("/data/elicitations/0/url"), Some(&json!(GOOD)), "{name}: {told}");
        assert_eq!(said("/data/elicitations/0/message"), Some(&message), "{name}: {told}");
    } else {
        assert_eq!(said("/code"), Some(&json!(-32603)), "{name}: {told}");
    }
}
