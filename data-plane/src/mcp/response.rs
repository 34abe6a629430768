//! Writes JSON-RPC answers: a raw id, and a result that is already text.

use bytes::{BufMut as _, Bytes, BytesMut};
use proto::Era;

use super::Pieces;

/// How we present ourselves in `serverInfo`.
pub const SERVER_INFO: &str =
    concat!(r#"{"name":"lockgate","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);
/// How long a modern client may keep our lists, in milliseconds.
pub const LIST_TTL_MS: u32 = 60_000;

/// Answers the request `id` (raw JSON) with `result` (raw JSON), which may be large and shared.
pub fn answer(id: &[u8], result: Bytes) -> Pieces {
    let mut head = BytesMut::with_capacity(id.len() + 32);
    head.put_slice(br#"{"jsonrpc":"2.0","id":"#);
    head.put_slice(id);
    head.put_slice(br#","result":"#);
    Pieces::joined([head.freeze(), result, Bytes::from_static(b"}")])
}

/// An error response with the error that another peer gave, raw JSON.
pub fn declined(id: &[u8], error: &[u8]) -> Bytes {
    [br#"{"jsonrpc":"2.0","id":"#, id, br#","error":"#, error, b"}"].concat().into()
}

/// An error answer. `id` is raw JSON; `data` is raw JSON. Without an id `null` is sent,
/// as legacy SDKs do for requests they could not read.
pub fn error(id: Option<&[u8]>, code: i64, message: &str, data: Option<&str>) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 128);
    out.put_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.put_slice(id.unwrap_or(b"null"));
    out.put_slice(br#","error":{"code":"#);
    out.put_slice(code.to_string().as_bytes());
    out.put_slice(br#","message":"#);
    out.put_slice(quote(message).as_bytes());
    if let Some(data) = data {
        out.put_slice(br#","data":"#);
        out.put_slice(data.as_bytes());
    }
    out.put_slice(b"}}");
    out.freeze()
}

/// The modern result of a tool that failed, in words for a model.
pub fn tool_error(text: &str) -> Bytes {
    let key = super::message::meta_key::SERVER_INFO;
    let text = quote(text);
    format!(
        r#"{{"resultType":"complete","content":[{{"type":"text","text":{text}}}],"isError":true,"_meta":{{"{key}":{SERVER_INFO}}}}}"#
    )
    .into()
}

/// `text` as a JSON string.
pub fn quote(text: &str) -> String {
    // A string has no key that could be refused and no value that could not be written.
    serde_json::to_string(text).unwrap_or_default()
}

/// The result of `initialize` at `version`. `capabilities` are JSON text.
pub fn initialize_result(version: &str, capabilities: &str, instructions: &str) -> String {
    let instructions = instructions_member(instructions);
    format!(
        r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"serverInfo":{SERVER_INFO}{instructions}}}"#
    )
}

/// The result of `server/discover`. Only versions that can be served statelessly are named.
pub fn discover_result(versions: &[&str], capabilities: &str, instructions: &str) -> String {
    let versions: Vec<_> = versions.iter().map(|version| format!("\"{version}\"")).collect();
    let instructions = instructions_member(instructions);
    format!(
        r#"{{"resultType":"complete","supportedVersions":[{}],"capabilities":{capabilities}{instructions},{}}}"#,
        versions.join(","),
        modern_tail(LIST_TTL_MS)
    )
}

/// The result of `completion/complete` where there is nothing to suggest.
pub fn empty_completion(era: Era) -> Bytes {
    let completion = r#""completion":{"values":[],"total":0,"hasMore":false}"#;
    let result = match era {
        Era::Legacy => format!("{{{completion}}}"),
        Era::Modern => {
            let key = super::message::meta_key::SERVER_INFO;
            format!(r#"{{"resultType":"complete",{completion},"_meta":{{"{key}":{SERVER_INFO}}}}}"#)
        }
    };
    result.into()
}

/// The result of a modern request that has nothing to tell.
pub fn acknowledgement() -> Bytes {
    let key = super::message::meta_key::SERVER_INFO;
    format!(r#"{{"resultType":"complete","_meta":{{"{key}":{SERVER_INFO}}}}}"#).into()
}

/// The members that close every modern list and discover result.
pub fn modern_tail(ttl_ms: u32) -> String {
    format!(
        r#""ttlMs":{ttl_ms},"cacheScope":"private","_meta":{{"{}":{SERVER_INFO}}}"#,
        super::message::meta_key::SERVER_INFO
    )
}

fn instructions_member(instructions: &str) -> String {
    if instructions.is_empty() {
        return String::new();
    }
    format!(",\"instructions\":{}", quote(instructions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_json() {
        let is_json = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).is_ok();
        assert!(is_json(initialize_result("2025-11-25", "{}", "say \"hi\"").as_bytes()));
        assert!(is_json(discover_result(&["2026-07-28"], "{}", "").as_bytes()));
        assert!(Era::ALL.iter().all(|era| is_json(&empty_completion(*era))));
        assert!(is_json(&error(None, -32700, "the body is \"bad\"", Some("{}"))));
        let error = error(Some(b"7"), -32601, "no", None);
        assert_eq!(&*error, br#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no"}}"#);
    }
}
