//! Clients of older versions at newer upstreams: what their version does not have comes in what it
//! has.

use anyhow::Context;
use serde_json::{Value, json};
use tests::client::{Client, LEGACY};
use tests::fixture::{self, Era};
use tests::raw_server::RawServer;
use tests::world::World;

const LINK: &str = r#"{"type":"resource_link","uri":"file:///notes.txt","name":"notes","size":1e2,"annotations":{"priority":1.0}}"#;
const LINK_SAID: &str =
    r#"{"type":"text","text":"notes: file:///notes.txt","annotations":{"priority":1.0}}"#;
const AUDIO: &str = r#"{"type":"audio","data":"AAAA","mimeType":"audio/wav"}"#;
const AUDIO_SAID: &str =
    r#"{"type":"text","text":"[audio/wav, 3 bytes: audio is not part of MCP 2024-11-05]"}"#;

/// A server of 2025-11-25 whose answers have every kind of content.
async fn server() -> anyhow::Result<RawServer> {
    RawServer::start(|method, body| {
        Some(match method {
            "initialize" => r#""result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"prompts":{}},"serverInfo":{"name":"s","version":"1"}}"#.to_owned(),
            "tools/list" => {
                let tool = |name: &str| format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#);
                format!(r#""result":{{"tools":[{},{}]}}"#, tool("show"), tool("count"))
            }
            "prompts/list" => r#""result":{"prompts":[{"name":"p"}]}"#.to_owned(),
            "tools/call" if body.contains("count") => {
                r#""result":{"content":[],"structuredContent":{"n":1.0}}"#.to_owned()
            }
            "tools/call" => {
                format!(r#""result":{{"x":1.0,"content":[{{"type":"text","text":"t"}},{LINK},{AUDIO}],"isError":false}}"#)
            }
            "prompts/get" => format!(r#""result":{{"messages":[{{"role":"user","content":{LINK}}}]}}"#),
            _ => return None,
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_a_version_does_not_have_comes_as_text() -> anyhow::Result<()> {
    let server = server().await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "up", "--url", &server.url()]).await?;
    let mut client = world.client("/mcp").await?;
    for (version, link, audio) in [
        ("2024-11-05", LINK_SAID, AUDIO_SAID),
        ("2025-03-26", LINK_SAID, AUDIO),
        ("2025-06-18", LINK, AUDIO),
        (LEGACY, LINK, AUDIO),
    ] {
        let hello = client.initialize_at(version).await?;
        assert_eq!(hello["protocolVersion"], version, "{hello}");
        let shown = client.legacy("tools/call", r#"{"name":"up-show"}"#).await?.body;
        let content = format!(
            r#"{{"x":1.0,"content":[{{"type":"text","text":"t"}},{link},{audio}],"isError":false}}"#
        );
        assert!(shown.contains(&content), "{version}: {shown}");
        let prompt = client.legacy("prompts/get", r#"{"name":"up-p"}"#).await?.body;
        let message = format!(r#"{{"messages":[{{"role":"user","content":{link}}}]}}"#);
        assert!(prompt.contains(&message), "{version}: {prompt}");
        let counted = client.legacy("tools/call", r#"{"name":"up-count"}"#).await?.body;
        let said =
            if version < "2025-06-18" { r#"[{"type":"text","text":"{\"n\":1.0}"}]"# } else { "[]" };
        let result = format!(r#"{{"content":{said},"structuredContent":{{"n":1.0}}}}"#);
        assert!(counted.contains(&result), "{version}: {counted}");
    }
    Ok(())
}

/// What the first question of a call is, and how the call ends.
async fn asked(client: &Client, params: &str) -> anyhow::Result<(Value, Value)> {
    let (mut questions, response) = client
        .converse(params, |question| match question["method"].as_str() {
            Some("sampling/createMessage") => {
                json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "ok"}})
            }
            _ => json!({"action": "decline"}),
        })
        .await?;
    Ok((questions.pop().with_context(|| response.to_string())?, response))
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_asked_in_the_words_of_their_version_and_for_no_more_than_they_give()
-> anyhow::Result<()> {
    let legacy = fixture::start(Era::Legacy, "127.0.0.1:0").await?;
    let modern = fixture::start(Era::Modern, "127.0.0.1:0").await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "legacy", "--url", &legacy.url()]).await?;
    world.ok(&["create", "upstream", "modern", "--url", &modern.url()]).await?;
    for upstream in ["legacy", "modern"] {
        let choose = format!(r#"{{"name":"{upstream}-test_elicitation_sep1330_enums"}}"#);
        let sample = format!(
            r#"{{"name":"{upstream}-test_sampling","arguments":{{"prompt":"?","context":"allServers"}}}}"#
        );
        for (version, is_older) in [("2025-06-18", true), (LEGACY, false)] {
            let mut client = world.client("/mcp").await?;
            client.initialize_with(version, json!({"sampling": {}, "elicitation": {}})).await?;
            let (question, _) = asked(&client, &choose).await?;
            let field = &question["params"]["requestedSchema"]["properties"]["titledSingle"];
            let names = json!(["First Option", "Second Option", "Third Option"]);
            assert_eq!(field["enumNames"] == names, is_older, "{version}: {question}");
            assert_eq!(field.get("oneOf").is_none(), is_older, "{version}: {question}");
            let several =
                &question["params"]["requestedSchema"]["properties"]["titledMulti"]["items"];
            assert_eq!(several["enumNames"].is_array(), is_older, "{version}: {question}");
            assert_eq!(several.get("anyOf").is_none(), is_older, "{version}: {question}");
            let (question, response) = asked(&client, &sample).await?;
            assert_eq!(question["params"].get("includeContext"), None, "{upstream}: {question}");
            assert_eq!(response["result"]["isError"], false, "{upstream}: {response}");
            let able = json!({"sampling": {"context": {}}});
            client.initialize_with(version, able).await?;
            let (question, _) = asked(&client, &sample).await?;
            assert_eq!(
                question["params"]["includeContext"], "allServers",
                "{upstream}: {question}"
            );
        }
        for (able, is_asked) in
            [(r#"{"sampling":{}}"#, false), (r#"{"sampling":{"context":{}}}"#, true)]
        {
            let client = world.client("/mcp").await?.able(able);
            let answer = client.modern("tools/call", &sample).await?;
            assert!(answer.body.contains("input_required"), "{upstream}: {}", answer.body);
            assert_eq!(answer.body.contains("includeContext"), is_asked, "{}", answer.body);
        }
    }
    Ok(())
}
