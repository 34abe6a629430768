//! What a server says although nobody asked, for as long as anybody reads it.

/// Answers `initialize`: a server that may say all this.
pub(super) const ABLE: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"logging":{},"tasks":{"list":{}}},"serverInfo":{"name":"talker","version":"1"}}"#;

/// Answers what such a server is asked besides; `None`: what all are asked.
pub(super) fn answer(method: &str) -> Option<&'static str> {
    Some(match method {
        "initialize" => ABLE,
        "resources/list" => r#"{"resources":[{"uri":"flood://a","name":"a"}]}"#,
        "resources/subscribe" | "logging/setLevel" => "{}",
        _ => return None,
    })
}

/// The next message outside of calls: changes, states, words and questions, in turn.
pub(super) fn message(number: u64) -> String {
    let notice = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{params}}}"#)
    };
    let request = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"{method}","params":{params}}}"#)
    };
    match number % 8 {
        0 => notice("tools/list_changed", "{}"),
        1 => notice("resources/list_changed", "{}"),
        2 => notice("resources/updated", r#"{"uri":"flood://a"}"#),
        3 => notice(
            "tasks/status",
            r#"{"taskId":"t","status":"working","createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:00Z","ttl":null}"#,
        ),
        4 => notice("message", r#"{"level":"error","data":"more"}"#),
        5 => request("sampling/createMessage", r#"{"messages":[],"maxTokens":1}"#),
        6 => request("roots/list", "{}"),
        _ => request("ping", "{}"),
    }
}
