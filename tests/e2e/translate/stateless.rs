//! `lockgate translate --stateless`: every request stands for itself, in its body and headers.

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::client::{Answer, whole};

use super::{Translate, echo, fixture_command};

#[tokio::test(flavor = "multi_thread")]
async fn stateless_and_json_answers_are_what_they_say() -> anyhow::Result<()> {
    let translate =
        Translate::start(&["--expose-streamable-http", "--stateless", "--jsonResponse"]).await?;
    let mut client = translate.client();
    client.initialize().await?;
    assert_eq!(client.session(), None);
    assert_eq!(client.call_text("echo", &echo("alone")).await?, "alone");
    let call = r#"{"name":"test_tool_with_progress","arguments":{},"_meta":{"progressToken":7}}"#;
    let answer = client.legacy("tools/call", call).await?;
    ensure!(!answer.is_stream() && answer.result().is_ok(), "{answer:?}");
    assert_eq!(client.listen(None).send().await?.status(), 405);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sessions_headers_are_compared_with_the_body_all_the_same() -> anyhow::Result<()> {
    let translate = Translate::start(&["--expose-streamable-http", "--stateless"]).await?;
    let client = translate.client();
    let call = json!({"name": "echo", "arguments": {"message": "modern"}}).to_string();
    let good = client.modern("tools/call", &call).await?;
    ensure!(good.result().is_ok(), "{good:?}");
    for (name, value) in [
        ("mcp-method", Some("tools/list")),
        ("mcp-name", Some("other")),
        ("mcp-name", None),
        ("mcp-protocol-version", Some("2025-11-25")),
    ] {
        let mut request = client.modern_request("tools/call", &call)?.build()?;
        match value {
            Some(value) => drop(request.headers_mut().insert(name, value.parse()?)),
            None => drop(request.headers_mut().remove(name)),
        }
        let answer = whole(client.execute(request).await?).await?;
        assert_eq!(answer.status.as_u16(), 400, "{name}: {answer:?}");
        assert_eq!(answer.error_code()?, -32020, "{name}: {answer:?}");
    }
    translate.end(Signal::TERM).await
}

/// A `translate --stateless` with the fixture of one era as its command.
async fn of_era(era: &str) -> anyhow::Result<Translate> {
    let command = fixture_command(&format!("--stdio --era {era}"))?;
    let how = ["--expose-streamable-http", "--stateless"];
    Translate::start_of(&[&["--stdio", &command], &how[..]].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_which_capability_it_lacks() -> anyhow::Result<()> {
    for (era, tool) in [
        ("legacy", "test_for_samplers"),
        ("modern", "test_for_samplers"),
        ("modern", "test_missing_capability"),
    ] {
        let translate = of_era(era).await?;
        let what = || format!("{era} {tool}");
        let call = json!({"name": tool, "arguments": {}}).to_string();
        let refused = translate.client().modern("tools/call", &call).await?;
        assert_eq!(refused.status.as_u16(), 400, "{}: {refused:?}", what());
        assert_eq!(refused.error_code()?, -32021, "{}: {refused:?}", what());
        let needed = refused.response()?;
        let needed = needed.pointer("/error/data/requiredCapabilities/sampling").cloned();
        assert!(needed.as_ref().is_some_and(Value::is_object), "{}: {refused:?}", what());
        let able = translate.client().able(r#"{"sampling":{}}"#);
        let served = able.modern("tools/call", &call).await?;
        ensure!(served.status == 200 && served.result().is_ok(), "{}: {served:?}", what());
        translate.end(Signal::TERM).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_in_headers_are_compared_with_those_in_the_body() -> anyhow::Result<()> {
    for era in ["legacy", "modern"] {
        let translate = of_era(era).await?;
        let client = translate.client();
        let call = async |arguments: Value, headers: &[(&'static str, &str)]| {
            let call = json!({"name": "test_x_mcp_header", "arguments": arguments}).to_string();
            let mut request = client.modern_request("tools/call", &call)?.build()?;
            for (name, value) in headers {
                request.headers_mut().append(*name, value.parse()?);
            }
            anyhow::Ok::<Answer>(whole(client.execute(request).await?).await?)
        };
        let west = || json!({"region": "west"});
        for (arguments, headers) in [
            (west(), &[("mcp-param-region", "west")][..]),
            (west(), &[("mcp-param-region", "=?base64?d2VzdA==?=")]),
            (west(), &[("mcp-param-region", "west"), ("mcp-param-other", "ignored")]),
            (json!({"region": "süd"}), &[("mcp-param-region", "=?base64?c8O8ZA==?=")]),
        ] {
            let answer = call(arguments.clone(), headers).await?;
            let result = answer.result().with_context(|| format!("{era} {headers:?}"))?;
            assert_eq!(result.pointer("/content/0/text"), arguments.get("region"), "{era}");
        }
        for (arguments, headers) in [
            (west(), &[][..]),
            (west(), &[("mcp-param-region", "east")]),
            (west(), &[("mcp-param-region", "West")]),
            (west(), &[("mcp-param-region", "=?base64?d2Vzd?=")]),
            (json!({}), &[("mcp-param-region", "west")]),
            (json!({"region": null}), &[("mcp-param-region", "west")]),
        ] {
            let answer = call(arguments, headers).await?;
            assert_eq!(answer.status.as_u16(), 400, "{era} {headers:?}: {answer:?}");
            assert_eq!(answer.error_code()?, -32020, "{era} {headers:?}: {answer:?}");
        }
        translate.end(Signal::TERM).await?;
    }
    Ok(())
}
