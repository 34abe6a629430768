//! Whose tasks are meant, and which methods there are for them.

use proto::{Secret, resource::Key, resource::UpstreamResource};

use super::*;
use crate::{
    snapshot::table::tests::{server, upstream},
    task_id::{TaskCursor, TaskId},
};

const TASKS: &str = r#"{"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}}"#;
const EXTENSION: &str = r#"{"tasks":{"requests":{"tools":{"call":{}}}},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;

/// Legacy `a` and `b` with tasks, `c` without, modern `m` with tasks; `dev` has a tool of `b`.
fn resources() -> Vec<Resource> {
    let mut resources = vec![key("k", Key::Session(Secret::new([1; 32])))];
    for (id, era, capabilities) in [
        ("a", Era::Legacy, TASKS),
        ("b", Era::Legacy, TASKS),
        ("c", Era::Legacy, r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#),
        ("m", Era::Modern, EXTENSION),
    ] {
        let capabilities = capabilities.to_owned();
        resources.push(Resource::Upstream(UpstreamResource {
            era: Some(era),
            capabilities,
            ..upstream(id, id)
        }));
        resources.push(Resource::Tool(tool(id, "work")));
    }
    resources.push(Resource::VirtualServer(server("dev", &[], &["id-b-work"])));
    resources.push(Resource::VirtualServer(server("none", &["c"], &[])));
    resources
}

fn able() -> Client {
    Client { capabilities: Capabilities::tasks(), ..MODERN }
}

fn sealed(subject: &str, upstream_id: &str) -> String {
    let task = TaskId { upstream_id: upstream_id.into(), id: "t\u{e9}".into() };
    task.seal(compile(&resources()).unwrap().session_keys(), subject).unwrap()
}

#[track_caller]
fn ask(endpoint: &str, client: Client, method: &str, params: &str, expected: &str) {
    let table = compile(&resources()).unwrap();
    let endpoint = match endpoint {
        "" => Endpoint::Everything,
        name => Endpoint::Server(name.into()),
    };
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#);
    let found = describe_in(&table, &endpoint, client, &parse(body.into()).unwrap());
    assert!(found.starts_with(expected), "{method} {params}: {found}");
}

fn id(sealed: &str) -> String {
    format!(r#""taskId":"{sealed}""#)
}

#[test]
fn an_id_leads_back_to_its_upstream() {
    let of_b = id(&sealed("alice", "b"));
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        ask("", LEGACY, method, &of_b, "forward b t\u{e9}");
        ask("dev", LEGACY, method, &of_b, "forward b t\u{e9}");
    }
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        ask("", able(), method, &id(&sealed("alice", "m")), "forward m t\u{e9}");
        ask("", able(), method, &of_b, "forward b t\u{e9}");
    }
    ask("", LEGACY, "tasks/get", &id(&sealed("alice", "m")), "forward m t\u{e9}");
}

#[test]
fn another_principals_and_unknown_ids_do_not_exist() {
    let good = sealed("alice", "b");
    let none = "refuse: there is no such task";
    for bad in [&sealed("bob", "b"), &good[1..], &good[..good.len() - 2], "t1", ""] {
        ask("", LEGACY, "tasks/get", &id(bad), none);
    }
    ask("dev", LEGACY, "tasks/get", &id(&sealed("alice", "a")), none);
    ask("", LEGACY, "tasks/get", &id(&sealed("alice", "c")), none);
    ask("", LEGACY, "tasks/get", r#""taskId":7"#, "refuse: `params.taskId` must be a string");
    ask("", LEGACY, "tasks/get", "", "refuse: `params.taskId` must be a string");
}

#[test]
fn each_generation_has_its_methods_where_an_upstream_has_tasks() {
    let known = id(&sealed("alice", "b"));
    let old = Client { version: Version::V2025_06_18, ..LEGACY };
    ask("", old, "tasks/get", &known, "refuse: method not found: tasks/get");
    ask("none", LEGACY, "tasks/get", &known, "refuse: method not found: tasks/get");
    ask("none", able(), "tasks/get", &known, "refuse: method not found: tasks/get");
    ask("", LEGACY, "tasks/update", &known, "refuse: method not found: tasks/update");
    ask("", able(), "tasks/result", &known, "refuse: method not found: tasks/result");
    ask("", able(), "tasks/list", "", "refuse: method not found: tasks/list");
    let needs = r#"refuse: this needs client capabilities: {"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
    ask("", MODERN, "tasks/get", &known, needs);
}

#[test]
fn a_list_goes_from_upstream_to_upstream() {
    let table = compile(&resources()).unwrap();
    let cursor = |subject: &str, upstream_id: &str, cursor: Option<&str>| {
        let cursor = TaskCursor { upstream_id: upstream_id.into(), cursor: cursor.map(Into::into) };
        format!(r#""cursor":"{}""#, cursor.seal(table.session_keys(), subject).unwrap())
    };
    ask("", LEGACY, "tasks/list", "", "forward a first page");
    ask("", LEGACY, "tasks/list", r#""cursor":null"#, "forward a first page");
    ask("", LEGACY, "tasks/list", &cursor("alice", "a", Some("n")), "forward a n");
    ask("", LEGACY, "tasks/list", &cursor("alice", "b", None), "forward b first page");
    ask("", LEGACY, "tasks/list", &cursor("bob", "b", None), "refuse: unknown cursor");
    ask("dev", LEGACY, "tasks/list", &cursor("alice", "a", None), "refuse: unknown cursor");
    ask("", LEGACY, "tasks/list", r#""cursor":"n""#, "refuse: unknown cursor");
    ask("", LEGACY, "tasks/list", r#""cursor":7"#, "refuse: unknown cursor");
}

#[test]
fn tasks_are_announced_where_they_are_in_the_form_of_each_generation() {
    let table = compile(&resources()).unwrap();
    let features = |view: &View, era| {
        view.features(era).and(crate::mcp::feature::Features::of_tasks()).to_json()
    };
    let all = table.everything();
    assert_eq!(features(all, Era::Legacy), TASKS);
    assert_eq!(
        features(all, Era::Modern),
        r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#
    );
    let dev = table.server("dev").unwrap();
    assert_eq!(
        (features(dev, Era::Legacy).as_str(), features(dev, Era::Modern).as_str()),
        (TASKS, r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#)
    );
    let none = table.server("none").unwrap();
    assert_eq!(features(none, Era::Legacy), "{}");
    let hello =
        |version: &str| format!(r#""protocolVersion":"{version}","capabilities":{EXTENSION}"#);
    ask(
        "dev",
        LEGACY,
        "initialize",
        &hello("2025-06-18"),
        r#"2025-06-18 {} {"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true}},"#,
    );
    ask(
        "dev",
        LEGACY,
        "initialize",
        &hello("2025-11-25"),
        &format!(
            r#"2025-11-25 {{}} {{"jsonrpc":"2.0","id":1,"result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{"listChanged":true}},{}"#,
            &TASKS[1..]
        ),
    );
}
