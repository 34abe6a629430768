//! One line per decision.

use proto::{
    Role,
    resource::{Resource, ToolResource, UpstreamResource},
};

use super::*;
use crate::{
    mcp::{message::parse, subscription, translate::Subject},
    snapshot::table::tests::{compile, key, sample, shelves, tool, upstream},
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
    describe_in(&table(), &endpoint, client, &message)
}

fn describe_in(table: &Table, endpoint: &Endpoint, client: Client, message: &Message) -> String {
    let text = |answer: Pieces| String::from_utf8(answer.into_bytes().to_vec()).unwrap();
    let principal = Principal::new("alice", Role::Caller);
    match view(table, endpoint).and_then(|view| plan((table, view), &principal, message, client)) {
        Ok(Plan::Reply(answer)) => text(answer),
        Ok(Plan::Initialize { answer, version, declared }) => {
            format!("{} {} {}", version.as_str(), declared.to_json(), text(answer))
        }
        Ok(Plan::Forward { target }) => {
            format!("forward {} {}", target.upstream_id().unwrap_or("-"), original(&target))
        }
        Ok(Plan::SetLevel { level, .. }) => format!("level {}", level.as_str()),
        Ok(Plan::Subscribe { target, interest, .. }) => {
            format!("{interest:?} {}", target.label())
        }
        Ok(Plan::Listen { topics, resources }) => {
            let uris: Vec<_> =
                resources.iter().map(|it| format!("{}:{}", it.upstream_id, it.uri)).collect();
            format!("listen {} {uris:?}", subscription::filter(topics, std::iter::empty()))
        }
        Ok(Plan::RootsChanged) => "roots changed".to_owned(),
        Ok(Plan::Notify { upstream_id }) => format!("notify {upstream_id}"),
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
        Subject::Name(it)
        | Subject::Uri(it)
        | Subject::RefName(it)
        | Subject::RefUri(it)
        | Subject::Task(it) => it,
        Subject::Page(it) => it.unwrap_or("first page"),
        Subject::Nothing => target.label(),
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
        r#"2025-06-18 {"roots":{}} {"jsonrpc":"2.0","id":"x","result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"lockgate""#,
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
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"instructions""#,
    );
    check(
        "",
        LEGACY,
        r#""id":1,"method":"prompts/other""#,
        "refuse: method not found: prompts/other",
    );
    check("", LEGACY, r#""id":1,"method":"notifications/initialized""#, "refuse: method not found");
}

/// Upstreams that declare these capabilities, `one` a server of the first alone.
fn declaring(capabilities: &[&str]) -> Table {
    let upstreams = ["a", "b", "c"].into_iter().zip(capabilities);
    let resources = upstreams.map(|(id, capabilities)| {
        let capabilities = (*capabilities).to_owned();
        Resource::Upstream(UpstreamResource { capabilities, ..upstream(id, id) })
    });
    compile(&resources.collect::<Vec<_>>()).unwrap()
}

#[track_caller]
fn extension(table: &Table, client: Client, body: &str, expected: &str) {
    let message = parse(format!(r#"{{"jsonrpc":"2.0",{body}}}"#).into()).unwrap();
    let found = describe_in(table, &Endpoint::Everything, client, &message);
    assert_eq!(found, expected, "{body}");
}

#[test]
fn a_method_of_an_extension_goes_to_who_alone_can_be_meant() {
    let skills = r#"{"extensions":{"io.modelcontextprotocol/skills":{}}}"#;
    let request = |method: &str| format!(r#""id":1,"method":"{method}""#);
    let one = declaring(&["{}"]);
    for client in [LEGACY, MODERN] {
        extension(&one, client, &request("vendor.thing"), "forward a vendor.thing");
        for method in ["tasks/steal", "rpc.x", "resources/directory/read", "notifications/x"] {
            let refused = format!("refuse: method not found: {method}");
            extension(&one, client, &request(method), &refused);
        }
    }
    let two = declaring(&["{}", skills]);
    extension(&two, MODERN, &request("skills/list"), "forward b skills/list");
    let read = "resources/directory/read";
    extension(&two, LEGACY, &request(read), "forward b resources/directory/read");
    extension(&two, MODERN, &request("vendor/x"), "refuse: method not found: vendor/x");
    let changed = r#""method":"notifications/skills/changed""#;
    extension(&two, LEGACY, changed, "notify b");
    extension(&two, LEGACY, r#""method":"notifications/vendor/x""#, "accept");
    extension(&two, LEGACY, r#""method":"notifications/tasks""#, "accept");
    let three = declaring(&[skills, "{}", skills]);
    extension(&three, MODERN, &request("skills/list"), "refuse: method not found: skills/list");
    extension(&three, LEGACY, changed, "accept");
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
        r#"refuse: this needs client capabilities: {"sampling":{}}"#,
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

#[track_caller]
fn check_shelf(client: Client, method: &str, params: &str, expected: &str) {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#);
    let message = parse(body.into()).unwrap();
    let table = compile(&shelves()).unwrap();
    let found = describe_in(&table, &Endpoint::Everything, client, &message);
    assert!(found.starts_with(expected), "{found}");
}

#[test]
fn prompts_and_resources_are_forwarded_under_their_own_names() {
    let check = |method, params, expected| check_shelf(LEGACY, method, params, expected);
    check("prompts/get", r#""name":"b-ask","arguments":{}"#, "forward b ask");
    check("prompts/get", r#""name":"ask""#, "refuse: Unknown prompt: ask");
    check("prompts/get", r#""name":1"#, "refuse: `params.name` must be a string");
    check("resources/read", r#""uri":"test://one""#, "forward a test://one");
    check("resources/read", r#""uri":"lockgate+b:test:\/\/one""#, "forward b test://one");
    check("resources/read", r#""uri":"test://no""#, "refuse: Resource not found: test://no");
    check("resources/read", "", "refuse: `params.uri` must be a string");
}

#[test]
fn completion_goes_where_its_reference_points() {
    let check = |params: &str, expected: &str| {
        check_shelf(MODERN, "completion/complete", params, expected);
    };
    let rest = r#""argument":{"name":"x","value":"y"}"#;
    let with = |reference: &str| format!(r#""ref":{{{reference}}},{rest}"#);
    check(&with(r#""type":"ref/prompt","name":"a-ask""#), "forward a ask");
    check(&with(r#""uri":"test://t/{id}","type":"ref/resource""#), "forward a test://t/{id}");
    check(&with(r#""type":"ref/resource","uri":"file:///c""#), "forward c file:///c");
    check(
        &with(r#""type":"ref/resource","uri":"lockgate+b:test://t/{id}""#),
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","completion":{"values":[],"total":0,"hasMore":false},"_meta""#,
    );
    check(&with(r#""type":"ref/prompt","name":"no""#), "refuse: Unknown prompt: no");
    check(&with(r#""type":"ref/resource","uri":"no://{x}""#), "refuse: Unknown resource template");
    check(&with(r#""type":"ref/other","name":"x""#), "refuse: `params.ref` must be");
    check(
        &with(r#""type":"ref/prompt","name":"a","name":"b""#),
        "refuse: `params.ref` has a key twice",
    );
    check(rest, "refuse: `params.ref` must be");
}

#[test]
fn pages_follow_each_other_and_end_when_the_list_changes() {
    let session_key = key("k", proto::resource::Key::Session(proto::Secret::new([1; 32])));
    let mut resources = shelves();
    resources.push(session_key);
    let paged = |resources: &[Resource]| {
        let mut table = compile(resources).unwrap();
        table.page_size = 2;
        table
    };
    let table = paged(&resources);
    let ask = |table: &Table, method: &str, cursor: &str| {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"cursor":{cursor}}}}}"#
        );
        let message = parse(body.into()).unwrap();
        describe_in(table, &Endpoint::Everything, LEGACY, &message)
    };
    let page = |text: &str| {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let result = &value["result"];
        (result["resources"].as_array().unwrap().len(), result["nextCursor"].to_string())
    };
    let (count, second) = page(&ask(&table, "resources/list", "null"));
    assert_eq!(count, 2);
    assert_eq!(page(&ask(&table, "resources/list", &second)), (2, "null".to_owned()));
    assert_eq!(ask(&table, "prompts/list", &second), "refuse: unknown cursor");
    assert_eq!(ask(&table, "resources/list", "\"\""), "refuse: unknown cursor");
    assert_eq!(ask(&table, "resources/list", "7"), "refuse: unknown cursor");
    resources.retain(|it| !matches!(it, Resource::Entry(entry) if entry.original == "test://two"));
    assert_eq!(ask(&paged(&resources), "resources/list", &second), "refuse: unknown cursor");
}

#[test]
fn a_log_level_is_one_of_eight() {
    let level =
        |level: &str| format!(r#""id":1,"method":"logging/setLevel","params":{{"level":{level}}}"#);
    check("", LEGACY, &level("\"warning\""), "level warning");
    for wrong in ["\"loud\"", "3", "null"] {
        check("", LEGACY, &level(wrong), "refuse: `params.level`");
    }
    check("", MODERN, &level("\"warning\""), "refuse: method not found");
}

#[test]
fn changed_roots_are_passed_on() {
    check("", LEGACY, r#""method":"notifications/roots/list_changed""#, "roots changed");
}

#[test]
fn what_is_kept_of_a_subscription_is_its_uri_in_one_spelling() {
    let table = compile(&shelves()).unwrap();
    let principal = Principal::new("alice", Role::Caller);
    let shown = |uri: &str| {
        let padding = " ".repeat(10_000);
        let body: Bytes = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{{"uri":"{uri}"{padding}}}}}"#
        )
        .into();
        let message = parse(body.clone()).unwrap();
        let view = view(&table, &Endpoint::Everything).unwrap();
        let plan = plan((&table, view), &principal, &message, LEGACY).unwrap();
        let Plan::Subscribe { shown, .. } = plan else { panic!("{plan:?}") };
        drop(message);
        assert!(body.is_unique(), "the request is kept");
        shown
    };
    assert_eq!(shown("test://one"), r#""test://one""#);
    assert_eq!(shown(r"test:\/\/\u006fne"), r#""test://one""#);
}

#[test]
fn a_listener_is_told_of_resources_whose_upstream_tells() {
    let mut resources = shelves();
    for resource in &mut resources {
        if let Resource::Upstream(upstream) = resource
            && upstream.id != "c"
        {
            upstream.capabilities = r#"{"resources":{"subscribe":true}}"#.to_owned();
        }
    }
    let table = compile(&resources).unwrap();
    let ask = |client, endpoint: &Endpoint| {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"promptsListChanged":true,"resourceSubscriptions":["test://one","lockgate+b:test://one","file:///c","x://nobody","\u0000task t"]}}}"#;
        describe_in(&table, endpoint, client, &parse(body.into()).unwrap())
    };
    assert_eq!(
        ask(MODERN, &Endpoint::Everything),
        r#"listen {"promptsListChanged":true} ["a:test://one", "b:test://one"]"#
    );
    assert_eq!(
        ask(MODERN, &Endpoint::Server("alone".into())),
        r#"listen {"promptsListChanged":true} ["b:test://one", "b:lockgate+b:test://one", "b:file:///c", "b:x://nobody"]"#
    );
    assert_eq!(
        ask(LEGACY, &Endpoint::Everything),
        "refuse: method not found: subscriptions/listen"
    );
}
mod tasks;
