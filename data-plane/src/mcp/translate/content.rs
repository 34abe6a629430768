//! Content of results and messages that older versions of the legacy era do not have, as these can
//! take it (MCP guide §4.1): links become text that names them, audio a note.

use bytes::Bytes;

use crate::mcp::{
    Version,
    message::{Kind, Outcome, Response, parse, splice},
    object::{Span, elements, member, members, unquote},
    response::quote,
};

/// The first version that has all kinds of content.
pub const ALL_SINCE: Version = Version::V2025_06_18;

/// A response as a client of a version before [`ALL_SINCE`] can take it.
pub fn for_older(body: Bytes, version: Version) -> Bytes {
    let Ok(message) = parse(body.clone()) else { return body };
    let Kind::Response(Response { outcome: Outcome::Result { span, .. }, .. }) = &message.kind
    else {
        return body;
    };
    let text = message.text();
    let mut edits = of_messages(text, *span, version);
    let content = member(text, *span, "content");
    let blocks = content.map(|content| elements(text, content)).unwrap_or_default();
    edits.extend(blocks.iter().filter_map(|block| older(text, *block, version)));
    edits.extend(spoken(text, *span, content).filter(|_| blocks.is_empty()));
    if edits.is_empty() { body } else { splice(&body, &edits) }
}

/// What has to be put for what in `messages` of a prompt or of a request to a model.
pub fn of_messages(text: &str, holder: Span, version: Version) -> Vec<(Span, String)> {
    let Some(messages) = member(text, holder, "messages") else { return Vec::new() };
    let content = |message: Span| member(text, message, "content");
    let contents = elements(text, messages).into_iter().filter_map(content);
    contents.filter_map(|content| older(text, content, version)).collect()
}

/// What stands for a block in an older version, if that has no such blocks.
fn older(text: &str, block: Span, version: Version) -> Option<(Span, String)> {
    let members = members(text, block);
    let raw = |name: &str| {
        let found = members.iter().find(|member| member.name == name)?;
        Some(found.value.of(text))
    };
    let string = |name: &str| raw(name).and_then(unquote).filter(|it| !it.is_empty());
    let said = match string("type").as_deref() {
        Some("resource_link") if version < Version::V2025_06_18 => {
            let uri = string("uri")?;
            match string("title").or_else(|| string("name")) {
                Some(name) => format!("{name}: {uri}"),
                None => uri.into_owned(),
            }
        }
        Some("audio") if version < Version::V2025_03_26 => {
            let kind = string("mimeType").unwrap_or("audio".into());
            // Base64: four letters for three bytes.
            let letters = string("data").map_or(0, |data| data.trim_end_matches('=').len());
            let size = letters * 3 / 4;
            let version = version.as_str();
            format!("[{kind}, {size} bytes: audio is not part of MCP {version}]")
        }
        Some(_) | None => return None,
    };
    let annotations = raw("annotations").map(|it| format!(r#","annotations":{it}"#));
    let (said, annotations) = (quote(&said), annotations.unwrap_or_default());
    Some((block, format!(r#"{{"type":"text","text":{said}{annotations}}}"#)))
}

/// The structured content of a result as text, for clients that have none: in the place of its
/// `content`, if it has that.
fn spoken(text: &str, result: Span, content: Option<Span>) -> Option<(Span, String)> {
    let structured = member(text, result, "structuredContent")?;
    let said = quote(structured.of(text));
    let blocks = format!(r#"[{{"type":"text","text":{said}}}]"#);
    Some(match content {
        Some(content) => (content, blocks),
        None => (Span::at(result.start + 1), format!(r#""content":{blocks},"#)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(version: Version, result: &str, expected: &str) {
        let body =
            |result: &str| format!(r#"{{"jsonrpc":"2.0","id":"a\u0041","result":{result}}}"#);
        let told = for_older(body(result).into(), version);
        assert_eq!(std::str::from_utf8(&told).unwrap(), body(expected), "{version:?}");
    }

    const A: Version = Version::V2024_11_05;
    const B: Version = Version::V2025_03_26;

    #[test]
    fn links_become_text_that_names_them() {
        let link = r#"{"type":"resource_link","uri":"file:///a\u0062","name":"n","title":"The \"A\"","size":1e3,"annotations":{"priority":1.0}}"#;
        let said =
            r#"{"type":"text","text":"The \"A\": file:///ab","annotations":{"priority":1.0}}"#;
        for version in [A, B] {
            check(
                version,
                &format!(
                    r#"{{"x":1.0,"content":[{{"type":"text","text":"t"}}, {link}],"isError":false}}"#
                ),
                &format!(
                    r#"{{"x":1.0,"content":[{{"type":"text","text":"t"}}, {said}],"isError":false}}"#
                ),
            );
            check(
                version,
                &format!(r#"{{"messages":[{{"role":"user","content":{link}}}]}}"#),
                &format!(r#"{{"messages":[{{"role":"user","content":{said}}}]}}"#),
            );
        }
        let bare = r#"{"content":[{"uri":"a:b","type":"resource_link","name":"n"},{"type":"resource_link","uri":"c:d"}]}"#;
        let said = r#"{"content":[{"type":"text","text":"n: a:b"},{"type":"text","text":"c:d"}]}"#;
        check(B, bare, said);
    }

    #[test]
    fn audio_becomes_a_note_where_there_is_none() {
        let audio = |data: &str| {
            format!(r#"{{"content":[{{"type":"audio","data":"{data}","mimeType":"audio/wav"}}]}}"#)
        };
        check(B, &audio("AAAA"), &audio("AAAA"));
        for (data, size) in [("AAAA", 3), ("AAA=", 2), ("AA==", 1), ("", 0)] {
            let said = format!(
                r#"{{"content":[{{"type":"text","text":"[audio/wav, {size} bytes: audio is not part of MCP 2024-11-05]"}}]}}"#
            );
            check(A, &audio(data), &said);
        }
    }

    #[test]
    fn structured_content_is_said_where_nothing_else_is() {
        let result =
            |content: &str| format!(r#"{{"content":{content},"structuredContent":{{"n":1.0}}}}"#);
        check(B, &result("[]"), &result(r#"[{"type":"text","text":"{\"n\":1.0}"}]"#));
        let said = result(r#"[{"type":"text","text":"1"}]"#);
        check(B, &said, &said);
        check(
            B,
            r#"{"structuredContent":[1.0]}"#,
            r#"{"content":[{"type":"text","text":"[1.0]"}],"structuredContent":[1.0]}"#,
        );
    }

    #[test]
    fn all_else_keeps_its_bytes() {
        for result in [
            r#"{"content":[{"type":"image","data":"AA==","mimeType":"image/png"},{"type":"resource","resource":{"uri":"a:b","text":"x"}}]}"#,
            r#"{"content":{"type":"resource_link","uri":"a"}}"#,
            r#"{"content":[{"type":"resource_link"},7,null],"messages":[1]}"#,
            r#"{"contents":[{"uri":"a","text":"resource_link audio"}]}"#,
            "7",
        ] {
            check(A, result, result);
        }
        let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"resource_link"}}"#;
        assert_eq!(for_older(error.into(), A), error);
    }

    proptest! {
        #[test]
        fn what_is_said_stays_json(name in ".{0,20}", uri in ".{1,20}", data in "[A-Za-z0-9+/]{0,20}={0,3}") {
            let (name, uri) = (quote(&name), quote(&uri));
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"resource_link","name":{name},"uri":{uri}}},{{"type":"audio","data":"{data}"}}]}}}}"#
            );
            let told = for_older(body.into(), A);
            let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
            prop_assert_eq!(&told["result"]["content"][0]["type"], "text");
            prop_assert_eq!(&told["result"]["content"][1]["type"], "text");
        }
    }
}
