//! One line per decision.

use proto::{
    Role,
    resource::{Resource, ToolResource},
};

use super::*;
use crate::{
    mcp::{message::parse, translate::Subject},
    snapshot::table::tests::{compile, sample, tool},
};

const LEGACY: Client = Client { version: Version::V2025_11_25, capabilities: Capabilities::NONE };
const MODERN: Client = Client { version: Version::V2026_07_28, capabilities: Capabilities::NONE };

fn table() -> Table {
    let mut resources = sample();
    let needs_client_capabilities = vec!["sampling".to_owned()];
    resources.push(Resource::Tool(ToolResource { needs_client_capabilities, ..tool("a", "ask") }));
    compile(&resources).unwrap()
}

fn describe(endpoint: &str, client: Client, body: &str) -> String {
    let body = format!(r#"{{"jsonrpc":"2.0",{body}}}"#);
    let message = parse(body.into()).unwrap();
    let endpoint = match endpoint {
        "" => Endpoint::Everything,
        name => Endpoint::Server(name.into()),
    };
    let text = |answer: Answer| String::from_utf8(answer.into_bytes().to_vec()).unwrap();
    match plan(&table(), &Principal::new("alice", Role::Caller), &endpoint, &message, client) {
        Ok(Plan::Reply(answer)) => text(answer),
        Ok(Plan::Initialize { answer, version, capabilities }) => {
            format!("{} {} {}", version.as_str(), capabilities.to_json(), text(answer))
        }
        Ok(Plan::Forward { target }) => {
            format!("forward {} {}", target.upstream_id().unwrap_or("-"), original(&target))
        }
        Ok(Plan::Answer) => "answer".to_owned(),
        Ok(Plan::Progress) => "progress".to_owned(),
        Ok(Plan::Accept) => "accept".to_owned(),
        Ok(Plan::Cancel { request_id }) => {
            format!("cancel {}", String::from_utf8_lossy(&request_id))
        }
        Err(error) => format!("refuse: {error}"),
    }
}

/// What the target is called at its upstream.
fn original(target: &Target) -> &str {
    match target.subject() {
        Subject::Name(it) | Subject::Uri(it) | Subject::RefName(it) | Subject::RefUri(it) => it,
    }
}

#[track_caller]
fn check(endpoint: &str, client: Client, body: &str, expected: &str) {
    let found = describe(endpoint, client, body);
    assert!(found.starts_with(expected), "{found}");
}

fn call(params: &str) -> String {
    format!(r#""id":1,"method":"tools/call","params":{{{params}}}"#)
}

#[test]
fn initialize_is_answered_here() {
    let body = r#""id":"x","method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{"roots":{}},"clientInfo":{"name":"c"}}"#;
    check(
        "dev",
        LEGACY,
        body,
        r#"2025-06-18 {"roots":{}} {"jsonrpc":"2.0","id":"x","result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"lockgate""#,
    );
    let body = r#""id":1,"method":"initialize","params":{"protocolVersion":"2026-07-28"}"#;
    check("", LEGACY, body, "2025-11-25 {}");
    let body = r#""id":1,"method":"initialize","params":{"protocolVersion":3}"#;
    check("", LEGACY, body, "refuse: `params.protocolVersion` must be a string");
}

#[test]
fn each_era_has_its_methods() {
    check("", LEGACY, r#""id":1,"method":"ping""#, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    check("", MODERN, r#""id":1,"method":"ping""#, "refuse: method not found: ping");
    check("", LEGACY, r#""id":1,"method":"server/discover""#, "refuse: method not found");
    check(
        "",
        MODERN,
        r#""id":1,"method":"server/discover""#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"instructions""#,
    );
    check(
        "",
        LEGACY,
        r#""id":1,"method":"prompts/list""#,
        "refuse: method not found: prompts/list",
    );
    check("", LEGACY, r#""id":1,"method":"notifications/initialized""#, "refuse: method not found");
}

#[test]
fn lists_come_from_the_view() {
    check(
        "dev",
        LEGACY,
        r#""id":1,"method":"tools/list""#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo""#,
    );
    check(
        "",
        LEGACY,
        r#""id":1,"method":"tools/list","params":{"cursor":null}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a-add""#,
    );
    check(
        "",
        LEGACY,
        r#""id":1,"method":"tools/list","params":{"cursor":"x"}"#,
        "refuse: unknown cursor",
    );
    check(
        "nope",
        LEGACY,
        r#""id":1,"method":"tools/list""#,
        "refuse: there is no virtual server `nope`",
    );
}

#[test]
fn calls_are_forwarded_by_the_names_of_the_view() {
    check("", LEGACY, &call(r#""name":"a-echo""#), "forward a echo");
    check("", LEGACY, &call(r#""name":"b_echo_alias","arguments":null"#), "forward b echo");
    check("dev", MODERN, &call(r#""name":"echo","arguments":{}"#), "forward b echo");
    check("dev", MODERN, &call(r#""name":"a-echo""#), "refuse: Unknown tool: a-echo");
    check("", LEGACY, &call(r#""name":"rm""#), "refuse: Unknown tool: rm");
    check("", LEGACY, &call(r#""name":7"#), "refuse: `params.name` must be a string");
    check("", LEGACY, r#""id":1,"method":"tools/call""#, "refuse: `params.name` must be a string");
    check(
        "",
        LEGACY,
        &call(r#""name":"a-echo","arguments":[]"#),
        "refuse: `params.arguments` must be an object",
    );
}

#[test]
fn a_missing_capability_is_named() {
    check(
        "",
        MODERN,
        &call(r#""name":"a-ask""#),
        r#"refuse: the tool needs client capabilities: {"sampling":{}}"#,
    );
}

#[test]
fn what_is_no_request_has_no_answer() {
    check("", LEGACY, r#""method":"notifications/initialized""#, "accept");
    check("", MODERN, r#""method":"notifications/whatever""#, "accept");
    check(
        "",
        LEGACY,
        r#""method":"notifications/cancelled","params":{"requestId":"r"}"#,
        "cancel \"r\"",
    );
    check("", LEGACY, r#""id":1,"result":{}"#, "answer");
}
