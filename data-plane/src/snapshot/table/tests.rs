//! What a compiled configuration shows.

mod entries;

use proto::{
    EntryKind, Era, Role, Secret, UpstreamName,
    entry::{EntryReference, EntryResource},
    resource::{
        EndedSession, EndedSessionsResource, Key, KeyResource, TokenResource, ToolResource,
        ToolTarget, VirtualServerResource,
    },
    upstream::{CatalogScope, Transport},
    virtual_server::Naming,
};

use super::*;
use crate::mcp::{
    Capabilities, Span,
    feature::{Feature, Features},
    list::ListKind,
};

pub(crate) fn upstream(id: &str, name: &str) -> UpstreamResource {
    UpstreamResource {
        id: id.to_owned(),
        name: name.parse::<UpstreamName>().unwrap(),
        transport: Transport::Http { url: "http://127.0.0.1:1/mcp".parse().unwrap() },
        credential_id: None,
        catalog_scope: CatalogScope::Shared,
        era: Some(Era::Legacy),
        protocol_version: "2025-11-25".to_owned(),
        instructions: format!("use {name} well"),
        disabled: false,
        capabilities: String::new(),
    }
}

/// Tool `original` of upstream `id`, exposed as `{id}-{original}`.
pub(crate) fn tool(upstream_id: &str, original: &str) -> ToolResource {
    ToolResource {
        id: format!("id-{upstream_id}-{original}"),
        name: format!("{upstream_id}-{original}"),
        target: ToolTarget::Upstream {
            upstream_id: upstream_id.to_owned(),
            original_name: original.to_owned(),
        },
        definition: format!(r#"{{"name":"{original}","inputSchema":{{"type":"object"}},"x":1.0}}"#),
        needs_client_capabilities: vec![],
        aliases: vec![format!("{upstream_id}_{original}_alias")],
    }
}

/// Prompt, resource or template `original` of upstream `id`.
pub(crate) fn entry(upstream_id: &str, kind: EntryKind, original: &str) -> Resource {
    let key = kind.key_member();
    Resource::Entry(EntryResource {
        id: format!("{}-{upstream_id}-{original}", kind.as_str()),
        kind,
        upstream_id: upstream_id.to_owned(),
        name: if kind == EntryKind::Prompt {
            format!("{upstream_id}-{original}")
        } else {
            String::new()
        },
        original: original.to_owned(),
        definition: format!(r#"{{"{key}":"{original}","from":"{upstream_id}","x":1.0}}"#),
        needs_client_capabilities: vec![],
    })
}

/// Upstreams `a`, `b` and `c` with all features; `a` and `b` have some URIs both.
pub(crate) fn shelves() -> Vec<Resource> {
    let features = r#"{"tools":{},"prompts":{},"resources":{},"completions":{}}"#;
    let mut resources: Vec<_> = ["a", "b", "c"]
        .map(|id| {
            let capabilities =
                if id == "b" { r#"{"prompts":{}, "resources":{}}"# } else { features };
            Resource::Upstream(UpstreamResource {
                capabilities: capabilities.to_owned(),
                ..upstream(id, id)
            })
        })
        .into();
    for (upstream_id, kind, original) in [
        ("b", EntryKind::Prompt, "ask"),
        ("a", EntryKind::Prompt, "ask"),
        ("a", EntryKind::Resource, "test://one"),
        ("b", EntryKind::Resource, "test://one"),
        ("b", EntryKind::Resource, "test://two"),
        ("a", EntryKind::ResourceTemplate, "test://t/{id}"),
        ("b", EntryKind::ResourceTemplate, "test://t/{id}"),
        ("b", EntryKind::ResourceTemplate, "test://t/{id}/deep"),
        ("c", EntryKind::Resource, "file:///c"),
    ] {
        resources.push(entry(upstream_id, kind, original));
    }
    resources.push(Resource::VirtualServer(server("dev", &["b", "a"], &[])));
    resources.push(Resource::VirtualServer(server("alone", &["b"], &[])));
    resources
}

pub(crate) fn server(name: &str, upstreams: &[&str], tools: &[&str]) -> VirtualServerResource {
    VirtualServerResource {
        id: format!("id-{name}"),
        name: name.parse().unwrap(),
        description: String::new(),
        upstream_ids: upstreams.iter().map(|&id| id.to_owned()).collect(),
        tool_ids: tools.iter().map(|&id| id.to_owned()).collect(),
        entries: Vec::new(),
        naming: Naming::Bare,
    }
}

pub(crate) fn token(secret: &str, subject: &str) -> TokenResource {
    TokenResource {
        id: format!("id-{secret}"),
        digest: proto::token::digest(secret),
        subject: subject.to_owned(),
        role: Role::Caller,
        expire_time_ms: None,
    }
}

pub(crate) fn key(id: &str, key: Key) -> Resource {
    Resource::Key(KeyResource { id: id.to_owned(), key, create_time_ms: 1 })
}

pub(crate) fn compile(resources: &[Resource]) -> Result<Table, Vec<FieldError>> {
    Table::compile(resources.iter(), Position::default())
}

/// Upstreams `a` (tools `echo`, `add`) and `b` (tool `echo`), virtual server `dev`.
pub(crate) fn sample() -> Vec<Resource> {
    vec![
        Resource::Tool(tool("b", "echo")),
        Resource::Tool(tool("a", "echo")),
        Resource::Tool(tool("a", "add")),
        Resource::Upstream(upstream("b", "b")),
        Resource::Upstream(upstream("a", "a")),
        Resource::VirtualServer(server("dev", &["b"], &["id-a-add"])),
    ]
}

fn names(view: &View) -> Vec<&str> {
    view.tools().map(|(name, _)| name).collect()
}

#[test]
fn tools_are_ordered_by_upstream_and_name() {
    let table = compile(&sample()).unwrap();
    assert_eq!(names(table.everything()), ["a-add", "a-echo", "b-echo"]);
    assert_eq!(names(table.server("dev").unwrap()), ["echo", "add"]);
    assert!(Arc::ptr_eq(table.server("dev").unwrap(), table.server("id-dev").unwrap()));
    assert!(table.server("nope").is_none());
}

#[test]
fn arrival_does_not_change_the_list() {
    let mut resources = sample();
    let one = compile(&resources).unwrap().everything().list(
        ListKind::Tools,
        Era::Legacy,
        Capabilities::NONE,
    );
    resources.reverse();
    let other = compile(&resources).unwrap().everything().list(
        ListKind::Tools,
        Era::Legacy,
        Capabilities::NONE,
    );
    assert_eq!(one, other);
}

#[test]
fn lists_show_raw_definitions_under_the_names_of_the_view() {
    let table = compile(&sample()).unwrap();
    let list = table.server("dev").unwrap().list(ListKind::Tools, Era::Legacy, Capabilities::NONE);
    let expected = concat!(
        r#"{"tools":[{"name":"echo","inputSchema":{"type":"object"},"x":1.0},"#,
        r#"{"name":"add","inputSchema":{"type":"object"},"x":1.0}]}"#
    );
    assert_eq!(list, expected);
    let again = table.server("dev").unwrap().list(ListKind::Tools, Era::Legacy, Capabilities::NONE);
    assert_eq!(again.as_ptr(), list.as_ptr());
}

#[test]
fn the_first_of_two_bare_names_wins() {
    let mut resources = sample();
    resources.push(Resource::VirtualServer(server("both", &["b", "a"], &[])));
    let table = compile(&resources).unwrap();
    let view = table.server("both").unwrap();
    assert_eq!(names(view), ["echo", "add"]);
    assert_eq!(view.tool("echo").unwrap().upstream_id(), Some("b"));
}

#[test]
fn aliases_are_called_and_not_listed() {
    let table = compile(&sample()).unwrap();
    let view = table.everything();
    assert_eq!(&*view.tool("a_echo_alias").unwrap().name, "a-echo");
    assert!(!names(view).contains(&"a_echo_alias"));
    assert!(table.server("dev").unwrap().tool("a_echo_alias").is_none());
}

#[test]
fn a_disabled_upstream_hides_its_tools_everywhere() {
    let mut resources = sample();
    resources.retain(|it| !matches!(it, Resource::Upstream(upstream) if upstream.id == "a"));
    resources.push(Resource::Upstream(UpstreamResource { disabled: true, ..upstream("a", "a") }));
    let table = compile(&resources).unwrap();
    assert_eq!(names(table.everything()), ["b-echo"]);
    assert_eq!(names(table.server("dev").unwrap()), ["echo"]);
    assert!(table.everything().tool("a-echo").is_none());
    assert!(table.upstream("a").is_some());
}

#[test]
fn tools_that_need_capabilities_are_shown_to_those_who_have_them() {
    let mut resources = sample();
    let needs_client_capabilities = vec!["sampling".to_owned()];
    resources.push(Resource::Tool(ToolResource { needs_client_capabilities, ..tool("a", "ask") }));
    let table = compile(&resources).unwrap();
    let text = r#"{"sampling":{},"roots":{}}"#;
    let able = Capabilities::read(text, Span { start: 0, end: text.len() });
    let list = |capabilities| table.everything().list(ListKind::Tools, Era::Modern, capabilities);
    assert!(memchr::memmem::find(&list(able), b"\"a-ask\"").is_some());
    assert!(memchr::memmem::find(&list(Capabilities::NONE), b"\"a-ask\"").is_none());
}

#[test]
fn a_tool_that_clients_must_drop_is_left_out() {
    let mut resources = sample();
    let schema = r#"{"properties":{"n":{"type":"number","x-mcp-header":"N"}}}"#;
    let definition = format!(r#"{{"name":"bad","inputSchema":{schema}}}"#);
    resources.push(Resource::Tool(ToolResource { definition, ..tool("a", "bad") }));
    resources.push(Resource::VirtualServer(server("only", &[], &["id-a-bad"])));
    let table = compile(&resources).unwrap();
    assert!(table.everything().tool("a-bad").is_none());
    assert!(names(table.server("only").unwrap()).is_empty());
}

#[test]
fn instructions_stand_under_headings() {
    let table = compile(&sample()).unwrap();
    assert_eq!(&*table.everything().instructions, "## a\n\nuse a well\n\n## b\n\nuse b well");
    assert_eq!(&*table.server("dev").unwrap().instructions, "## b\n\nuse b well");
}

#[test]
fn broken_references_are_named() {
    let missing = upstream("c", "a");
    let credential_id = Some("cred".to_owned());
    let resources = [
        Resource::Upstream(upstream("a", "a")),
        Resource::Upstream(UpstreamResource { credential_id, ..missing }),
        Resource::Tool(tool("zz", "echo")),
        Resource::VirtualServer(server("dev", &["a", "yy"], &["id-no"])),
        key("k", Key::Basic { user: "admin".to_owned(), hash: "plain".to_owned() }),
    ];
    let errors = compile(&resources).unwrap_err();
    let lines: Vec<_> = errors
        .iter()
        .map(|error| format!("{} {} {}", error.resource, error.field, error.message))
        .collect();
    let expected = [
        "upstream/c name `a` is the name of `a` too",
        "upstream/c credential_id names no credential: `cred`",
        "tool/id-zz-echo upstream_id names no upstream: `zz`",
        "server/id-dev upstream_ids[1] names no upstream: `yy`",
        "server/id-dev tool_ids[0] names no tool: `id-no`",
        "key/k material is not an argon2 hash",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn hints_default_to_no() {
    let annotated = |text: &str| {
        let definition = format!(r#"{{"name":"t","annotations":{text}}}"#);
        let tool = ToolResource { definition, ..tool("a", "t") };
        let hints = ToolEntry::read(&tool).unwrap().hints;
        (hints.is_read_only, hints.is_idempotent)
    };
    assert_eq!(annotated(r#"{"readOnlyHint":true,"title":"x"}"#), (true, false));
    assert_eq!(annotated(r#"{"idempotentHint":true,"readOnlyHint":false}"#), (false, true));
    assert_eq!(annotated(r#"{"readOnlyHint":"yes"}"#), (false, false));
    assert_eq!(annotated("3"), (false, false));
}

#[test]
fn session_keys_are_used_newest_first() {
    let at = |id: &str, byte: u8, create_time_ms: i64| {
        let key = Key::Session(Secret::new([byte; 32]));
        Resource::Key(KeyResource { id: id.to_owned(), key, create_time_ms })
    };
    let table = compile(&[at("old", 1, 1), at("new", 2, 2)]).unwrap();
    let newest = SessionKeys::new([&Secret::new([2; 32])]);
    let claims = crate::session::SessionClaims {
        id: [0; 16],
        principal: [0; 16],
        server: "".into(),
        version: crate::mcp::Version::NEWEST_HANDSHAKE,
        capabilities: Capabilities::NONE,
        written: None,
        owner: "p".into(),
        issued_at_ms: 0,
    };
    let id = table.session_keys().seal(&claims).unwrap();
    assert_eq!(newest.open(&id, 0), Ok(claims));
}

#[test]
fn thousands_of_tools_compile_quickly() {
    let mut resources = vec![Resource::Upstream(upstream("a", "a"))];
    resources.extend((0..5000).map(|index| Resource::Tool(tool("a", &format!("t{index}")))));
    let started = std::time::Instant::now();
    let table = compile(&resources).unwrap();
    table.everything().list(ListKind::Tools, Era::Legacy, Capabilities::NONE);
    // Unoptimised builds on a busy machine are many times slower than what is promised.
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn sessions_that_end_cost_no_more_than_themselves() {
    let mut resources = sample();
    let base = compile(&resources).unwrap();
    let ended = |id: u8| EndedSession { id: [id; 16], expire_time_ms: 1 };
    let sessions = vec![ended(1), ended(2)];
    let part = EndedSessionsResource { name: "0".to_owned(), sessions };
    resources.push(Resource::EndedSessions(part));
    let position = Position { revision: 7, ..Position::default() };
    let table = base.with_ended(resources.iter(), position.clone());
    assert_eq!(table.position, position);
    assert!(table.has_ended(&[1; 16]) && table.has_ended(&[2; 16]) && !base.has_ended(&[1; 16]));
    assert!(Arc::ptr_eq(table.everything(), base.everything()));
    assert!(Arc::ptr_eq(table.server("dev").unwrap(), base.server("dev").unwrap()));
    let none = table.with_ended(sample().iter(), Position::default());
    assert!(!none.has_ended(&[1; 16]), "what has expired is forgotten");
}

#[test]
fn what_did_not_change_is_not_read_again_and_shows_the_same() {
    let sorted = |mut resources: Vec<Resource>| {
        resources.sort_by_key(|resource| resource.clone().encode().key);
        resources
    };
    let prompt = |original| entry("a", EntryKind::Prompt, original);
    let before =
        compile(&sorted([sample(), vec![prompt("ask"), prompt("tell")]].concat())).unwrap();
    let mut later = sorted([sample(), vec![prompt("tell"), prompt("new")]].concat());
    for resource in &mut later {
        match resource {
            Resource::Tool(tool) if tool.id == "id-a-add" => {
                tool.definition = tool.definition.replace("1.0", "2.0");
            }
            Resource::Tool(tool) if tool.id == "id-b-echo" => tool.aliases.clear(),
            _ => (),
        }
    }
    later.retain(|resource| !matches!(resource, Resource::VirtualServer(_)));
    let fresh = compile(&later).unwrap();
    let table = Table::compile_after(Some(&before), later.iter(), Position::default()).unwrap();
    let tool = |table: &Table, name: &str| Arc::clone(table.everything().tool(name).unwrap());
    assert!(Arc::ptr_eq(&tool(&table, "a-echo"), &tool(&before, "a-echo")), "it was read again");
    for name in ["a-add", "a-echo", "b-echo"] {
        assert_eq!(tool(&table, name), tool(&fresh, name));
    }
    for kind in ListKind::ALL {
        let list = |table: &Table| table.everything().list(kind, Era::Modern, Capabilities::NONE);
        assert_eq!(list(&table), list(&fresh), "{kind:?}");
    }
    assert!(table.everything().tool("b_echo_alias").is_none());
    let kept = table.everything().shelf().prompt("a-tell").unwrap();
    assert!(Arc::ptr_eq(kept, before.everything().shelf().prompt("a-tell").unwrap()));
}
