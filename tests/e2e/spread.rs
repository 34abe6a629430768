//! One session spread over three proxies by a load balancer that knows nothing of sessions.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::balancer::Balancer;
use tests::client::{Client, LEGACY, eventually};
use tests::fixture::{self, Era, Execution};
use tests::talk::{Events, Round};
use tests::world::{ControlPlane, Proxy};

const SOON: Duration = Duration::from_secs(20);
/// A client whose proxy died must hear of it long before its own patience ends.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A control plane, three proxies that know each other, and a counting upstream.
struct Fleet {
    control: ControlPlane,
    proxies: Vec<Proxy>,
    upstream: fixture::Server,
    balancer: Balancer,
    token: String,
}

impl Fleet {
    async fn start(variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let upstream = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
        let control = ControlPlane::start_with_variables(&[], variables).await?;
        let mut proxies = Vec::new();
        for _ in 0..3 {
            proxies.push(control.proxy().await?);
        }
        control.ok(&["create", "upstream", "up", "--url", &upstream.url()]).await?;
        let token = control.ok(&["token", "create", "--name", "mine"]).await?;
        let urls: Vec<_> = proxies.iter().map(Proxy::url).collect();
        let balancer = Balancer::start(&urls).await?;
        let fleet = Self { control, proxies, upstream, balancer, token };
        fleet.settled().await?;
        Ok(fleet)
    }

    /// Waits until every running proxy has a certificate and the whole configuration.
    async fn settled(&self) -> anyhow::Result<()> {
        self.control.settled(&self.proxies).await
    }

    /// A session that the first proxy owns, and a client that is at a random proxy each time.
    async fn session(&self) -> anyhow::Result<Client> {
        let first = self.proxies.first().context("no proxies")?;
        let mut client = first.client("/mcp", &self.token);
        client.initialize().await?;
        Ok(client.scattered(&format!("{}/mcp", self.balancer.url())))
    }

    /// The calls of a tool that reached the upstream.
    fn executions(&self, tool: &str) -> Vec<Execution> {
        let mut all = self.upstream.executions();
        all.retain(|execution| execution.tool == tool);
        all
    }
}

fn sessions(executions: &[Execution]) -> BTreeSet<Option<String>> {
    executions.iter().map(|execution| execution.session.clone()).collect()
}

fn sleep(milliseconds: usize) -> String {
    format!(r#"{{"milliseconds":{milliseconds}}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_one_session_whichever_proxy_is_asked() -> anyhow::Result<()> {
    let mut fleet = Fleet::start(&[]).await?;
    let mut client = fleet.session().await?;
    client.initialize().await?;
    for number in 0..200 {
        match number {
            // The control plane is no part of it.
            60 => fleet.control.kill().await,
            120 => fleet.control.start_again().await?,
            _ => ensure!(client.tool_names().await?.contains(&"up-sleep".to_owned())),
        }
        let slept = client.call_text("up-sleep", &sleep(number % 3)).await?;
        assert_eq!(slept, format!("slept {} ms", number % 3));
    }
    let executions = fleet.executions("sleep");
    assert_eq!(executions.len(), 200, "each ran once");
    assert_eq!(sessions(&executions).len(), 1, "in one session of the upstream");
    fleet.settled().await?;
    assert_eq!(client.delete().send().await?.status(), 204);
    eventually("every proxy has heard of it", SOON, || async {
        let mut refused = 0;
        for proxy in &fleet.proxies {
            let at = client.scattered(&format!("{}/mcp", proxy.url()));
            refused += usize::from(at.legacy("tools/list", "{}").await?.status == 404);
        }
        Ok(refused == fleet.proxies.len())
    })
    .await?;
    fleet.proxies[1].kill().await;
    fleet.proxies[1].start_again().await?;
    let restarted = client.scattered(&format!("{}/mcp", fleet.proxies[1].url()));
    // What other proxies told it is told by the configuration, too.
    eventually("it knows after a restart", SOON, || async {
        Ok(restarted.legacy("tools/list", "{}").await?.status == 404)
    })
    .await
}

/// How many of these proxies refuse the client's session.
async fn refusals(client: &Client, proxies: &[Proxy]) -> anyhow::Result<usize> {
    let mut refused = 0;
    for proxy in proxies {
        let at = client.scattered(&format!("{}/mcp", proxy.url()));
        refused += usize::from(at.legacy("tools/list", "{}").await?.status == 404);
    }
    Ok(refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_session_is_deleted_no_proxy_knows_it_any_more() -> anyhow::Result<()> {
    let mut fleet = Fleet::start(&[]).await?;
    // Nobody but the proxies themselves can tell.
    fleet.control.kill().await;
    let deleted_at = async |fleet: &Fleet, number: usize| {
        let client = fleet.session().await?;
        ensure!(refusals(&client, &fleet.proxies).await? == 0);
        let at = client.scattered(&format!("{}/mcp", fleet.proxies[number].url()));
        ensure!(at.delete().send().await?.status() == 204);
        anyhow::Ok(client)
    };
    eventually("they are connected", SOON, || async {
        let client = deleted_at(&fleet, 0).await?;
        Ok(refusals(&client, &fleet.proxies).await? == 3)
    })
    .await?;
    // The first owns them all.
    for number in (0..30).map(|it| it % 3) {
        let client = deleted_at(&fleet, number).await?;
        assert_eq!(refusals(&client, &fleet.proxies).await?, 3, "deleted at {number}");
    }
    let frozen = fleet.proxies[2].process();
    frozen.signal(rustix::process::Signal::STOP)?;
    let client = fleet.session().await?;
    let begun = Instant::now();
    let at = client.scattered(&format!("{}/mcp", fleet.proxies[0].url()));
    assert_eq!(at.delete().send().await?.status(), 204);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(
        refusals(&client, &fleet.proxies[..2]).await?,
        2,
        "one that hangs is not waited for"
    );
    frozen.signal(rustix::process::Signal::CONT)?;

    let orphans = [fleet.session().await?, fleet.session().await?];
    fleet.proxies[0].kill().await;
    for (client, number) in orphans.iter().zip([1, 2]) {
        let at = client.scattered(&format!("{}/mcp", fleet.proxies[number].url()));
        assert_eq!(at.delete().send().await?.status(), 204);
        let refused = refusals(client, &fleet.proxies[1..]).await?;
        assert_eq!(refused, 2, "adopted and deleted at {number}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_and_answers_cross_between_proxies() -> anyhow::Result<()> {
    let fleet = Fleet::start(&[]).await?;
    let mut client = fleet.session().await?;
    let able = json!({"sampling": {}, "elicitation": {}, "roots": {"listChanged": true}});
    client.initialize_with(LEGACY, able).await?;
    let paris = json!({"type": "text", "text": "Paris"});
    for _ in 0..6 {
        let (asked, response) = client
            .converse(
                r#"{"name":"up-test_sampling","arguments":{"prompt":"Capital?"}}"#,
                |_| json!({"role": "assistant", "model": "m", "content": paris}),
            )
            .await?;
        assert_eq!(asked.len(), 1);
        assert_eq!(response["result"]["content"][0]["text"], "LLM response: Paris", "{response}");
    }
    let mut events = Events::of(client.listen(None).send().await?).await?;
    client.call_text("up-test_speak_later", "{}").await?;
    let log = events.message().await?;
    assert_eq!(log["params"]["data"], "later", "{log}");
    let question = events.message().await?;
    assert_eq!(question["method"], "roots/list", "{question}");
    let roots = json!({"roots": [{"uri": "file:///a"}]});
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": roots});
    assert_eq!(client.post(answer.to_string()).await?.status, 202);
    let log = events.message().await?;
    assert_eq!(log["params"]["data"], "1 roots", "{log}");
    assert_eq!(client.delete().send().await?.status(), 204);
    assert_eq!(events.next().await?, None, "the stream ends with its session");
    Ok(())
}

const ELICIT: &str = r#"{"name":"up-test_elicitation","arguments":{"message":"Who?"}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_for_its_client_is_found_from_every_proxy() -> anyhow::Result<()> {
    let mut fleet = Fleet::start(&[]).await?;
    let at = |number: usize| {
        let client = fleet.proxies[number].client("/mcp", &fleet.token);
        client.able(r#"{"elicitation":{}}"#)
    };
    let yes = |_: &Value| json!({"action": "accept", "content": {"username": "a", "email": "b"}});
    let mut rounds = Vec::new();
    for number in [0, 1, 0, 0] {
        let response = at(number).modern("tools/call", ELICIT).await?.response()?;
        rounds.push(Round::of(ELICIT, &response).with_context(|| response.to_string())?);
    }
    let [one, two, three, four] = rounds.as_slice() else { anyhow::bail!("not four") };
    let plain = fleet.proxies[2].client("/rpc", &fleet.token).able(r#"{"elicitation":{}}"#);
    let response = plain.modern("tools/call", &four.next(yes)).await?.response()?;
    assert!(response.to_string().contains("action=accept"), "over /rpc: {response}");
    for (round, number) in [(one, 1), (two, 2)] {
        let response = at(number).modern("tools/call", &round.next(yes)).await?.response()?;
        let text = response["result"]["content"][0]["text"].as_str().context("no text")?;
        assert!(text.contains("action=accept"), "{response}");
        let replayed = at(0).modern("tools/call", &round.next(yes)).await?;
        assert_eq!(replayed.error_code()?, -32602, "{}", replayed.body);
        assert!(replayed.body.contains("was sent back before"), "{}", replayed.body);
    }
    let other = at(2);
    fleet.proxies[0].kill().await;
    let begun = Instant::now();
    let response = other.modern("tools/call", &three.next(yes)).await?.response()?;
    assert_eq!(response["result"]["isError"], true, "{response}");
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(fleet.executions("test_elicitation").len(), 4, "nothing ran twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_owner_costs_the_calls_that_ran_on_it_and_nothing_else() -> anyhow::Result<()> {
    let mut fleet = Fleet::start(&[]).await?;
    let client = fleet.session().await?;
    client.call_text("up-sleep", &sleep(1)).await?;
    // Calls that came through other proxies and run on the owner when it dies.
    let running: Vec<_> = [fleet.proxies[1].url(), fleet.proxies[2].url()]
        .into_iter()
        .enumerate()
        .map(|(number, url)| {
            let client = client.scattered(&format!("{url}/mcp"));
            let arguments = sleep(60_000 + number);
            tokio::spawn(async move { client.call_text("up-sleep", &arguments).await })
        })
        .collect();
    eventually("both run", SOON, || async { Ok(fleet.executions("sleep").len() == 3) }).await?;
    fleet.proxies[0].kill().await;
    for call in running {
        let ended = tokio::time::timeout(AT_ONCE, call).await.context("it hangs")??;
        let error = ended.expect_err("its owner is gone").to_string();
        assert!(error.contains("went away"), "{error}");
    }
    let begun = Instant::now();
    for number in 0..20 {
        client.call_text("up-sleep", &sleep(100 + number)).await.context("adopted")?;
    }
    assert!(begun.elapsed() < SOON, "nothing hangs");
    let executions = fleet.executions("sleep");
    let different: BTreeSet<_> = executions.iter().map(|it| it.arguments.to_string()).collect();
    assert_eq!((executions.len(), different.len()), (23, 23), "nothing ran twice");
    let adopted = sessions(executions.get(3..).unwrap_or_default());
    assert_eq!(adopted.len(), 1, "the proxies agree on who adopts it");
    assert!(adopted.is_disjoint(&sessions(executions.get(..3).unwrap_or_default())));

    let mut adopted = Events::of(client.listen(None).send().await?).await?;
    fleet.proxies[0].start_again().await?;
    fleet.settled().await?;
    let ended = async {
        while adopted.next().await?.is_some() {}
        anyhow::Ok(())
    };
    tokio::time::timeout(2 * SOON, ended).await.context("it stays where nothing is said")??;
    let mut events = Events::of(client.listen(None).send().await?).await?;
    client.call_text("up-test_speak_later", "{}").await?;
    assert_eq!(events.message().await?["params"]["data"], "later", "the owner's stream");
    let before = fleet.executions("sleep").len();
    eventually("the owner owns it again", SOON, || async {
        let ours = client.scattered(&format!("{}/mcp", fleet.proxies[0].url()));
        ours.call_text("up-sleep", &sleep(1000)).await?;
        client.call_text("up-sleep", &sleep(1001)).await?;
        client.call_text("up-sleep", &sleep(1002)).await?;
        let executions = fleet.executions("sleep");
        let last = executions.len().saturating_sub(3).max(before);
        Ok(sessions(executions.get(last..).unwrap_or_default()).len() == 1)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_goes_on_at_any_proxy_and_ends_with_its_owner() -> anyhow::Result<()> {
    const TOOL: &str = "test_tool_with_progress";
    let mut fleet = Fleet::start(&[]).await?;
    let client = fleet.session().await?;
    let at = |fleet: &Fleet, number: usize| {
        client.scattered(&format!("{}/mcp", fleet.proxies[number].url()))
    };
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{{"name":"up-{TOOL}","arguments":{{}},"_meta":{{"progressToken":"p"}}}}}}"#
    );
    let mut last = None;
    for (count, begun_at) in (1..).zip([0, 1]) {
        let mut stream =
            Events::of(at(&fleet, begun_at).request(call.clone()).send().await?).await?;
        let first = loop {
            let event = stream.next().await?.context("no event")?;
            if !event.data.is_null() {
                break event;
            }
        };
        assert_eq!(first.data["params"]["progress"], 0.0, "{first:?}");
        drop(stream);
        let id = first.id.context("no id")?;
        let mut rest = Events::of(at(&fleet, 2).listen(Some(&id)).send().await?).await?;
        let mut said = Vec::new();
        while let Some(event) = rest.next().await? {
            said.extend((!event.data.is_null()).then_some(event.data));
        }
        let progress: Vec<_> =
            said.iter().filter_map(|it| it["params"]["progress"].as_f64()).collect();
        assert_eq!(progress, [50.0, 100.0], "{said:?}");
        let answer = said.last().context("no answer")?;
        assert_eq!((&answer["id"], said.len()), (&json!(9), 3), "{said:?}");
        assert_eq!(answer["result"]["content"][0]["text"], "Progress test completed");
        assert_eq!(fleet.executions(TOOL).len(), count, "nothing ran twice");
        last = Some(id);
    }
    fleet.proxies[0].kill().await;
    let begun = Instant::now();
    // Its events went with the owner: the client hears so at once.
    let refused = at(&fleet, 1).listen(last.as_deref()).send().await?;
    assert_eq!(refused.status(), 400, "{}", refused.text().await?);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(fleet.executions(TOOL).len(), 2, "nothing ran twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_owner_is_a_dead_one() -> anyhow::Result<()> {
    let fleet = Fleet::start(&[]).await?;
    let client = fleet.session().await?;
    // No connection is open yet: it takes the connection, but no answer comes.
    fleet.proxies[0].process().signal(rustix::process::Signal::STOP)?;
    let other = client.scattered(&format!("{}/mcp", fleet.proxies[1].url()));
    let begun = Instant::now();
    other.call_text("up-sleep", &sleep(1)).await?;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(fleet.executions("sleep").len(), 1);
    fleet.proxies[0].process().signal(rustix::process::Signal::CONT)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_while_sessions_are_spread() -> anyhow::Result<()> {
    let fleet = Fleet::start(&[("LOCKGATE_PEER_CERTIFICATE_LIFETIME", "4")]).await?;
    let client = fleet.session().await?;
    let first = std::fs::read(fleet.proxies[1].certificate())?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(7) {
        client.call_text("up-sleep", &sleep(20)).await?;
    }
    assert_ne!(first, std::fs::read(fleet.proxies[1].certificate())?);
    assert_eq!(sessions(&fleet.executions("sleep")).len(), 1, "nobody had to adopt it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_proxy_is_refused_at_once() -> anyhow::Result<()> {
    let fleet = Fleet::start(&[]).await?;
    let client = fleet.session().await?;
    let at = |number: usize| client.scattered(&format!("{}/mcp", fleet.proxies[number].url()));
    at(2).call_text("up-sleep", &sleep(1)).await?;
    at(0).call_text("up-sleep", &sleep(2)).await?;
    assert_eq!(sessions(&fleet.executions("sleep")).len(), 1);
    let id = fleet.proxies[2].id()?;
    fleet.control.ok(&["proxy", "revoke", &id]).await?;
    let owner = fleet.proxies[0].process();
    owner.line_with("closed the connection of a revoked proxy", SOON).await?;
    // It does not know yet, or never will, that it is an outcast: what it serves it serves alone.
    eventually("it is on its own", SOON, || async {
        at(2).call_text("up-sleep", &sleep(3)).await?;
        Ok(sessions(&fleet.executions("sleep")).len() == 2)
    })
    .await?;
    owner.line_with("not known, or is revoked", SOON).await?;
    at(1).call_text("up-sleep", &sleep(4)).await?;
    let again = fleet.control.ok(&["proxy", "revoke", &id]).await;
    assert!(again.is_err_and(|error| format!("{error:#}").contains("no proxy named")));
    Ok(())
}
