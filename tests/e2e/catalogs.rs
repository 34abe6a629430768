//! Prompts, resources, templates and completion of upstreams, for clients of both eras.

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::client::{Answer, Client, names};
use tests::fixture::{self, Era};
use tests::raw_server::RawServer;
use tests::world::{World, program};

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Legacy(&'static str),
    Modern,
}

const SPEECHES: [Speech; 4] = [
    Speech::Legacy("2025-03-26"),
    Speech::Legacy("2025-06-18"),
    Speech::Legacy("2025-11-25"),
    Speech::Modern,
];

/// A client of one endpoint, and how it speaks.
struct Speaker {
    client: Client,
    speech: Speech,
}

impl Speaker {
    async fn new(world: &World, path: &str, speech: Speech) -> anyhow::Result<Self> {
        let mut client = world.client(path).await?;
        if let Speech::Legacy(version) = speech {
            client.initialize_at(version).await?;
        }
        Ok(Self { client, speech })
    }

    async fn ask(&self, method: &str, params: &str) -> anyhow::Result<Answer> {
        match self.speech {
            Speech::Legacy(_) => self.client.legacy(method, params).await,
            Speech::Modern => self.client.modern(method, params).await,
        }
    }

    async fn result(&self, method: &str, params: &str) -> anyhow::Result<Value> {
        let result = self.ask(method, params).await?.result();
        let result = result.with_context(|| format!("{:?}: {method} {params}", self.speech))?;
        let kind = result.get("resultType").and_then(Value::as_str);
        let expected = (self.speech == Speech::Modern).then_some("complete");
        ensure!(kind == expected, "{:?}: {method}: {result}", self.speech);
        Ok(result)
    }

    /// The values of `key` in the list `member`.
    async fn listed(&self, method: &str, member: &str, key: &str) -> anyhow::Result<Vec<String>> {
        let result = self.result(method, "{}").await?;
        if self.speech == Speech::Modern {
            ensure!(result.get("ttlMs").is_some_and(Value::is_u64), "{result}");
            ensure!(result.get("cacheScope") == Some(&"private".into()), "{result}");
        }
        let items = result.get(member).and_then(Value::as_array).context("no list")?;
        Ok(items.iter().filter_map(|item| item.get(key)?.as_str().map(str::to_owned)).collect())
    }
}

/// A world with our fixture as upstreams `legacy` and `modern`: all their URIs collide.
async fn two_fixtures() -> anyhow::Result<(World, [fixture::Server; 2])> {
    let legacy = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let modern = fixture::start(Era::Modern, "127.0.0.1:0").await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "legacy", "--url", &legacy.url()]).await?;
    world.ok(&["create", "upstream", "modern", "--url", &modern.url()]).await?;
    Ok((world, [legacy, modern]))
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_of_both_eras_are_listed_and_got() -> anyhow::Result<()> {
    let (world, _fixtures) = two_fixtures().await?;
    for speech in SPEECHES {
        let speaker = Speaker::new(&world, "/mcp", speech).await?;
        let names = speaker.listed("prompts/list", "prompts", "name").await?;
        assert_eq!(names.len(), 10, "{names:?}");
        for upstream in ["legacy", "modern"] {
            assert!(names.contains(&format!("{upstream}-test_prompt_with_image")), "{names:?}");
            let params = format!(
                r#"{{"name":"{upstream}-test_prompt_with_arguments","arguments":{{"arg1":"é","arg2":"b"}}}}"#
            );
            let got = speaker.result("prompts/get", &params).await?;
            let text = got.pointer("/messages/0/content/text").and_then(Value::as_str);
            assert_eq!(text, Some("Prompt with arguments: arg1='é', arg2='b'"), "{got}");
        }
        let unknown = speaker.ask("prompts/get", r#"{"name":"nobody"}"#).await?;
        assert_eq!(unknown.error_code()?, -32602, "{unknown:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn uris_that_two_upstreams_have_lead_to_both() -> anyhow::Result<()> {
    let (world, _fixtures) = two_fixtures().await?;
    for speech in SPEECHES {
        let speaker = Speaker::new(&world, "/mcp", speech).await?;
        let uris = speaker.listed("resources/list", "resources", "uri").await?;
        assert_eq!(uris.len(), 6, "{uris:?}");
        for uri in ["test://static-text", "lockgate+modern:test://static-text"] {
            assert!(uris.contains(&uri.to_owned()), "{uris:?}");
        }
        let method = "resources/templates/list";
        let templates = speaker.listed(method, "resourceTemplates", "uriTemplate").await?;
        let template = "test://template/{id}/data";
        assert_eq!(templates, [template.to_owned(), format!("lockgate+modern:{template}")]);
        for marker in ["", "lockgate+modern:"] {
            for (uri, expected) in
                [("test://static-text", "never changes"), ("test://template/7/data", "ID: 7")]
            {
                let uri = format!("{marker}{uri}");
                let params = format!(r#"{{"uri":"{uri}"}}"#);
                let read = speaker.result("resources/read", &params).await?;
                let text = read.pointer("/contents/0/text").and_then(Value::as_str);
                assert!(text.is_some_and(|text| text.contains(expected)), "{read}");
                assert_eq!(read.pointer("/contents/0/uri"), Some(&uri.into()), "{read}");
                let is_complete = speech != Speech::Modern || read.get("ttlMs").is_some();
                assert!(is_complete, "{read}");
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_is_not_there_is_missed_in_the_words_of_the_era() -> anyhow::Result<()> {
    let (world, _fixtures) = two_fixtures().await?;
    for upstream in ["legacy", "modern"] {
        world.ok(&["create", "server", upstream, "--upstream", upstream]).await?;
    }
    for speech in SPEECHES {
        let code = if speech == Speech::Modern { -32602 } else { -32002 };
        // Nobody's here, and in the others the upstream's own answer.
        for path in ["/mcp", "/servers/legacy/mcp", "/servers/modern/mcp"] {
            let speaker = Speaker::new(&world, path, speech).await?;
            let missing = speaker.ask("resources/read", r#"{"uri":"test://nobody"}"#).await?;
            assert_eq!(missing.error_code()?, code, "{path}: {missing:?}");
            let response = missing.response()?;
            let uri = response.pointer("/error/data/uri");
            assert_eq!(uri, Some(&"test://nobody".into()), "{path}: {response}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_completed() -> anyhow::Result<()> {
    let (world, _fixtures) = two_fixtures().await?;
    let mute = RawServer::start(|method, _| match method {
        "initialize" => Some(raw_hello(r#"{"prompts":{}}"#)),
        "prompts/list" => Some(r#""result":{"prompts":[{"name":"p"}]}"#.to_owned()),
        _ => None,
    })
    .await?;
    world.ok(&["create", "upstream", "mute", "--url", &mute.url()]).await?;
    let argument = r#""argument":{"name":"arg1","value":"par"}"#;
    for speech in SPEECHES {
        let speaker = Speaker::new(&world, "/mcp", speech).await?;
        for reference in [
            r#"{"type":"ref/prompt","name":"legacy-test_prompt_with_arguments"}"#,
            r#"{"type":"ref/prompt","name":"modern-test_prompt_with_arguments"}"#,
            r#"{"type":"ref/resource","uri":"test://template/{id}/data"}"#,
            r#"{"type":"ref/resource","uri":"lockgate+modern:test://template/{id}/data"}"#,
        ] {
            let params = format!(r#"{{"ref":{reference},{argument}}}"#);
            let found = speaker.result("completion/complete", &params).await?;
            let values = found.pointer("/completion/values").map(ToString::to_string);
            assert_eq!(values.as_deref(), Some(r#"["paris","park","party"]"#), "{found}");
        }
        let params = format!(r#"{{"ref":{{"type":"ref/prompt","name":"mute-p"}},{argument}}}"#);
        let nothing = speaker.result("completion/complete", &params).await?;
        let empty = serde_json::json!({"values": [], "total": 0, "hasMore": false});
        assert_eq!(nothing.get("completion"), Some(&empty), "{nothing}");
        let unknown = format!(r#"{{"ref":{{"type":"ref/prompt","name":"no"}},{argument}}}"#);
        let unknown = speaker.ask("completion/complete", &unknown).await?;
        assert_eq!(unknown.error_code()?, -32602, "{unknown:?}");
    }
    Ok(())
}

fn raw_hello(capabilities: &str) -> String {
    format!(
        r#""result":{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"serverInfo":{{"name":"raw","version":"1"}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_announces_and_shows_what_its_upstreams_have() -> anyhow::Result<()> {
    let (world, _fixtures) = two_fixtures().await?;
    world.ok(&["create", "server", "bare", "--upstream", "modern", "--naming", "bare"]).await?;
    world.ok(&["create", "server", "one", "--tool", "legacy-echo"]).await?;
    for speech in SPEECHES {
        let bare = Speaker::new(&world, "/servers/bare/mcp", speech).await?;
        let names = bare.listed("prompts/list", "prompts", "name").await?;
        assert!(names.contains(&"test_simple_prompt".to_owned()), "{names:?}");
        let got = bare.result("prompts/get", r#"{"name":"test_simple_prompt"}"#).await?;
        assert!(got.pointer("/messages/0/content/text").is_some(), "{got}");
        let uris = bare.listed("resources/list", "resources", "uri").await?;
        assert!(uris.contains(&"test://static-text".to_owned()), "alone it keeps its URIs");
        let foreign = bare.ask("prompts/get", r#"{"name":"legacy-test_simple_prompt"}"#).await?;
        assert_eq!(foreign.error_code()?, -32602);
        let one = Speaker::new(&world, "/servers/one/mcp", speech).await?;
        assert!(one.listed("prompts/list", "prompts", "name").await?.is_empty());
        assert!(one.listed("resources/list", "resources", "uri").await?.is_empty());
    }
    for (path, has_prompts) in [("/servers/bare/mcp", true), ("/servers/one/mcp", false)] {
        let mut client = world.client(path).await?;
        let hello = client.initialize().await?;
        let discovered = client.modern("server/discover", "{}").await?.result()?;
        for answer in [hello, discovered] {
            let offered = answer.get("capabilities").context("no capabilities")?;
            assert!(offered.get("tools").is_some(), "{answer}");
            for feature in ["prompts", "resources", "completions"] {
                assert_eq!(offered.get(feature).is_some(), has_prompts, "{path}: {answer}");
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_headers_must_be_those_of_the_body() -> anyhow::Result<()> {
    let (world, _fixtures) = two_fixtures().await?;
    let client = world.client("/mcp").await?;
    for (method, params, name) in [
        ("prompts/get", r#"{"name":"legacy-test_simple_prompt"}"#, "other"),
        ("resources/read", r#"{"uri":"test://static-text"}"#, "test://static-binary"),
    ] {
        let mut request = client.modern_request(method, params)?.build()?;
        request.headers_mut().insert("mcp-name", name.parse()?);
        let answer = tests::client::whole(client.execute(request).await?).await?;
        assert_eq!((answer.status.as_u16(), answer.error_code()?), (400, -32020), "{method}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_library_knows_survives_in_lists_and_results() -> anyhow::Result<()> {
    let odd = r#""x-vendor":{"b":1,"a":1.10e+2},"big":123456789012345678901234567890"#;
    let server = RawServer::start(move |method, _| {
        let result = match method {
            "initialize" => return Some(raw_hello(r#"{"prompts":{},"resources":{},"completions":{}}"#)),
            "prompts/list" => format!(r#"{{"prompts":[{{"name":"p",{odd}}}]}}"#),
            "resources/list" => format!(r#"{{"resources":[{{ "uri":"raw:\/\/1","name":"n",{odd}}}]}}"#),
            "resources/templates/list" => {
                format!(r#"{{"resourceTemplates":[{{"name":"n" ,"uriTemplate":"raw://t/{{id}}",{odd}}}]}}"#)
            }
            "prompts/get" => format!(r#"{{"messages":[],{odd}}}"#),
            "resources/read" => format!(r#"{{"contents":[{{"uri":"raw://1","text":"",{odd}}}],{odd}}}"#),
            "completion/complete" => format!(r#"{{"completion":{{"values":[],{odd}}},{odd}}}"#),
            _ => return None,
        };
        Some(format!("\"result\":{result}"))
    })
    .await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "raw", "--url", &server.url()]).await?;
    let extra = r#""x":{"n":1.10e+2,"s":"\u00e9"}"#;
    for speech in SPEECHES {
        let speaker = Speaker::new(&world, "/mcp", speech).await?;
        for (method, params) in [
            ("prompts/list", String::new()),
            ("resources/list", String::new()),
            ("resources/templates/list", String::new()),
            ("prompts/get", r#""name":"raw-p""#.to_owned()),
            ("resources/read", r#""uri":"raw://1""#.to_owned()),
            ("completion/complete", r#""ref":{"type":"ref/prompt","name":"raw-p"}"#.to_owned()),
        ] {
            let comma = if params.is_empty() { "" } else { "," };
            let answer = speaker.ask(method, &format!("{{{extra}{comma}{params}}}")).await?;
            assert!(answer.body.contains(odd), "{speech:?} {method}: {}", answer.body);
            if !method.ends_with("list") {
                let sent = server.last(method).await.context("it was not asked")?;
                assert!(sent.contains(extra), "{speech:?} {method}: {sent}");
            }
        }
        let list = speaker.ask("resources/list", "{}").await?;
        assert!(list.body.contains(r#"{ "uri":"raw:\/\/1","name":"n""#), "{}", list.body);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_where_that_is_configured() -> anyhow::Result<()> {
    let fixture = fixture::start(Era::Dual, "127.0.0.1:0").await?;
    let world = World::up_with(&[], &[("LOCKGATE_PAGE_SIZE", "2")]).await?;
    world.ok(&["create", "upstream", "u", "--url", &fixture.url()]).await?;
    for speech in [Speech::Legacy("2025-11-25"), Speech::Modern] {
        let speaker = Speaker::new(&world, "/mcp", speech).await?;
        let mut params = "{}".to_owned();
        let (mut names, mut pages) = (Vec::new(), 0);
        loop {
            let page = speaker.result("prompts/list", &params).await?;
            let prompts = page.get("prompts").and_then(Value::as_array).context("no list")?;
            names.extend(prompts.iter().map(|prompt| prompt["name"].to_string()));
            pages += 1;
            let Some(cursor) = page.get("nextCursor") else { break };
            params = format!(r#"{{"cursor":{cursor}}}"#);
        }
        assert_eq!((names.len(), pages), (5, 3), "{names:?}");
        for foreign in [r#"{"cursor":"eyJvZmZzZXQiOjB9"}"#, r#"{"cursor":""}"#] {
            assert_eq!(speaker.ask("prompts/list", foreign).await?.error_code()?, -32602);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_prompts_and_resources() -> anyhow::Result<()> {
    let (world, _fixtures) = two_fixtures().await?;
    let prompts = world.ok(&["get", "prompts", "-o", "name"]).await?;
    assert_eq!(prompts.lines().count(), 10, "{prompts}");
    let some = world.ok(&["get", "prompts", "--upstream", "modern", "-o", "json"]).await?;
    let some: Value = serde_json::from_str(&some)?;
    let text = some.to_string();
    assert!(text.contains("modern-test_simple_prompt") && !text.contains("legacy-"), "{text}");
    let resources = world.ok(&["get", "resources", "--upstream", "legacy"]).await?;
    assert!(resources.contains("test://template/{id}/data"), "{resources}");
    let described = world.ok(&["describe", "upstream", "legacy"]).await?;
    for line in ["prompt_count", "resource_count", "resource_template_count"] {
        assert!(described.contains(line), "{described}");
    }
    let missing = world.lockgate(&["get", "prompts", "nobody"]).await?;
    assert_eq!(missing.code, 3, "{missing:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_show_single_prompts_and_resources() -> anyhow::Result<()> {
    let (world, _fixtures) = two_fixtures().await?;
    let uri = "test://static-text";
    let chosen = format!("legacy/{uri}");
    world
        .ok(&[
            &["create", "server", "some", "--prompt", "modern-test_simple_prompt"][..],
            &["--resource", &chosen, "--resource", "legacy/test://template/{id}/data"],
        ]
        .concat())
        .await?;
    let described = world.ok(&["get", "server", "some", "-o", "json"]).await?;
    assert!(described.contains(&chosen), "{described}");
    for speech in SPEECHES {
        let speaker = Speaker::new(&world, "/servers/some/mcp", speech).await?;
        let prompts = speaker.listed("prompts/list", "prompts", "name").await?;
        assert_eq!(prompts, ["modern-test_simple_prompt"]);
        assert_eq!(speaker.listed("resources/list", "resources", "uri").await?, [uri]);
        let templates = speaker.listed("resources/templates/list", "resourceTemplates", "name");
        assert_eq!(templates.await?.len(), 1);
        assert!(speaker.listed("tools/list", "tools", "name").await?.is_empty());
        for shown in [uri, "test://template/7/data"] {
            speaker.result("resources/read", &format!(r#"{{"uri":"{shown}"}}"#)).await?;
        }
        speaker.result("prompts/get", r#"{"name":"modern-test_simple_prompt"}"#).await?;
        for (method, params) in [
            ("resources/read", r#"{"uri":"test://static-binary"}"#),
            ("prompts/get", r#"{"name":"legacy-test_simple_prompt"}"#),
        ] {
            let refused = speaker.ask(method, params).await?;
            assert!(refused.error_code().is_ok(), "{speech:?} {method}: {refused:?}");
        }
    }
    let wrong = world.lockgate(&["update", "server", "some", "--resource", uri]).await?;
    assert_eq!(wrong.code, 7, "{wrong:?}");
    assert!(wrong.stderr.contains("say which"), "{wrong:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_capabilities_is_shown_to_those_who_have_them() -> anyhow::Result<()> {
    let (world, _fixtures) = two_fixtures().await?;
    let fixture = program("fixture")?.display().to_string();
    for (name, era) in [("pipe", "modern"), ("old-pipe", "legacy")] {
        let command = ["create", "upstream", name, "--command", &fixture, "--arg", "--stdio"];
        world.ok(&[&command[..], &["--arg", "--era", "--arg", era]].concat()).await?;
    }
    let mut unable = world.client("/mcp").await?;
    unable.initialize().await?;
    let mut able = world.client("/mcp").await?.able(r#"{"sampling":{}}"#);
    able.initialize_with("2025-11-25", serde_json::json!({"sampling": {}})).await?;
    let is_special = |name: &String| name.ends_with("test_for_samplers");
    for (client, count) in [(&unable, 0), (&able, 4)] {
        let legacy = client.tool_names().await?;
        assert_eq!(legacy.iter().filter(|name| is_special(name)).count(), count, "{legacy:?}");
        let modern = names(&client.modern("tools/list", "{}").await?.result()?);
        assert_eq!(legacy, modern);
    }
    for upstream in ["legacy", "modern", "pipe", "old-pipe"] {
        let name = format!("{upstream}-test_for_samplers");
        assert_eq!(able.call_text(&name, "{}").await?, "for those who can sample");
        let params = format!(r#"{{"name":"{name}"}}"#);
        let refused = unable.modern("tools/call", &params).await?;
        assert_eq!((refused.status.as_u16(), refused.error_code()?), (400, -32021), "{refused:?}");
        let refused = unable.legacy("tools/call", &params).await?;
        assert_eq!((refused.status.as_u16(), refused.error_code()?), (200, -32603), "{refused:?}");
    }
    Ok(())
}
