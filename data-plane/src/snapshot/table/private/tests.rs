//! What each caller sees of an endpoint.

use proto::{
    Era,
    resource::{Resource, VirtualServerResource},
    upstream::CatalogScope,
};

use super::*;
use crate::{
    mcp::{Capabilities, elicitation::Askers, list::ListKind},
    snapshot::table::{
        Table,
        tests::{compile, entry, sample, server, tool, upstream},
    },
};

/// As `sample`, but what `a` shows depends on the caller; it has resources.
fn table() -> Table {
    let mut resources = sample();
    resources.retain(|it| !matches!(it, Resource::Upstream(upstream) if upstream.id == "a"));
    resources.push(Resource::Upstream(UpstreamResource {
        catalog_scope: CatalogScope::Principal,
        capabilities: r#"{"tools":{},"prompts":{},"resources":{}}"#.to_owned(),
        ..upstream("a", "a")
    }));
    resources.push(Resource::VirtualServer(VirtualServerResource {
        naming: Naming::Bare,
        ..server("both", &["b", "a"], &[])
    }));
    resources.push(entry("a", EntryKind::Resource, "test://all"));
    resources.push(entry("b", EntryKind::Prompt, "ask"));
    compile(&resources).unwrap()
}

fn catalog(tools: &[&str], entries: &[(EntryKind, &str)]) -> PrivateCatalog {
    let tools = tools.iter().map(|&name| CatalogTool {
        name: name.to_owned(),
        definition: tool("a", name).definition,
        needs_client_capabilities: Vec::new(),
    });
    let entries = entries.iter().map(|&(kind, original)| CatalogEntry {
        kind,
        original: original.to_owned(),
        definition: format!(r#"{{"{}":"{original}"}}"#, kind.key_member()),
        needs_client_capabilities: Vec::new(),
    });
    let (tools, entries) = (tools.collect(), entries.collect());
    PrivateCatalog { tools, entries, ttl_ms: 7000, is_of_all: false }
}

/// An endpoint for who was shown this.
fn seen(base: &View, shown: PrivateCatalog) -> Arc<View> {
    base.for_caller(&[Some(Arc::new(shown))]).unwrap()
}

fn names(view: &View) -> Vec<&str> {
    view.tools().map(|(name, _)| name).collect()
}

fn listed(view: &View, kind: ListKind) -> String {
    let list = view.list(kind, Era::Modern, Capabilities::NONE);
    String::from_utf8(list.to_vec()).unwrap()
}

#[test]
fn each_caller_sees_its_own_and_what_all_see_of_others() {
    let table = table();
    let base = table.everything();
    assert_eq!(base.private_upstreams().len(), 1);
    let own = catalog(&["mine", "echo"], &[(EntryKind::Resource, "test://mine")]);
    let own = Some(Arc::new(own));
    let view = base.for_caller(std::slice::from_ref(&own)).unwrap();
    assert_eq!(names(&view), ["a-echo", "a-mine", "b-echo"]);
    assert_eq!(view.tool("a-mine").unwrap().original_name(), "mine");
    assert_eq!(view.tool("a-echo").unwrap().id, base.tool("a-echo").unwrap().id);
    assert!(view.tool("a-add").is_none() && base.tool("a-add").is_some());
    assert!(base.tool("a-mine").is_none());
    let resources = listed(&view, ListKind::Resources);
    assert!(resources.contains("test://mine") && !resources.contains("test://all"), "{resources}");
    assert!(resources.contains(r#""ttlMs":7000,"cacheScope":"private""#), "{resources}");
    assert_eq!(&*view.shelf().resource("test://mine").unwrap().upstream_id, "a");
    // The same again is the same view.
    assert!(Arc::ptr_eq(&view, &base.for_caller(&[own]).unwrap()));
    let other = seen(base, catalog(&["theirs"], &[]));
    assert_eq!(names(&other), ["a-theirs", "b-echo"]);
}

#[test]
fn what_a_caller_is_shown_is_listed_although_nothing_was_read_for_all() {
    let mut resources = sample();
    for resource in &mut resources {
        if let Resource::Upstream(upstream) = resource
            && upstream.id == "a"
        {
            upstream.catalog_scope = CatalogScope::Principal;
            upstream.era = None;
        }
    }
    let table = compile(&resources).unwrap();
    let base = table.everything();
    assert!(!listed(base, ListKind::Tools).contains("a-echo"));
    let view = seen(base, catalog(&["echo", "mine"], &[]));
    let tools = listed(&view, ListKind::Tools);
    assert!(tools.contains("a-echo") && tools.contains("a-mine"), "{tools}");
}

#[test]
fn what_nobody_could_read_is_as_for_all_and_not_for_long() {
    let table = table();
    let view = table.everything().for_caller(&[None]).unwrap();
    assert_eq!(names(&view), names(table.everything()));
    assert!(listed(&view, ListKind::Tools).contains(r#""ttlMs":5000"#));
    let empty = seen(table.everything(), catalog(&[], &[]));
    assert_eq!(names(&empty), ["b-echo"]);
}

#[test]
fn a_virtual_server_shows_what_was_chosen_of_what_the_caller_sees() {
    let table = table();
    let dev = table.server("dev").unwrap();
    assert_eq!(names(dev), ["echo", "add"]);
    let own = || catalog(&["add", "echo", "mine"], &[]);
    assert_eq!(names(&seen(dev, own())), ["echo", "add"]);
    assert_eq!(names(&seen(dev, catalog(&["mine"], &[]))), ["echo"]);
    // Nobody takes a name from what all are shown.
    let both = table.server("both").unwrap();
    assert_eq!(names(both), ["echo", "add"]);
    let prompt = [(EntryKind::Prompt, "ask"), (EntryKind::Prompt, "own")];
    let view = seen(both, catalog(&["echo", "new"], &prompt));
    assert_eq!(names(&view), ["echo", "new"]);
    assert_eq!(view.tool("echo").unwrap().upstream_id(), Some("b"));
    assert_eq!(&*view.shelf().prompt("ask").unwrap().upstream_id, "b");
    assert_eq!(&*view.shelf().prompt("own").unwrap().upstream_id, "a");
}

#[test]
fn who_asks_is_named_where_upstreams_show_nothing() {
    let mut resources = sample();
    for resource in &mut resources {
        if let Resource::Upstream(upstream) = resource
            && upstream.id == "a"
        {
            upstream.catalog_scope = CatalogScope::Principal;
        }
    }
    // Its name is taken by the first, which is all that is shown.
    let clash = server("clash", &[], &["id-b-echo", "id-a-echo"]);
    resources.push(Resource::VirtualServer(clash));
    resources.push(Resource::VirtualServer(server("alone", &["a"], &[])));
    let table = compile(&resources).unwrap();
    let clash = table.server("clash").unwrap();
    assert_eq!((names(clash), clash.private_upstreams().len()), (vec!["echo"], 1));
    assert_eq!(clash.askers(), Askers::Several);
    assert_eq!(seen(clash, catalog(&["mine"], &[])).askers(), Askers::Several);
    assert_eq!(table.server("alone").unwrap().askers(), Askers::One);
    // Shown to nobody before a login.
    resources.retain(|it| {
        !matches!(it, Resource::Tool(tool) if tool.id.starts_with("id-a-"))
            && !matches!(it, Resource::VirtualServer(_))
    });
    let table = compile(&resources).unwrap();
    assert_eq!(names(table.everything()), ["b-echo"]);
    assert_eq!(table.everything().askers(), Askers::Several);
}

#[test]
fn what_cannot_be_shown_is_left_out_alone() {
    let table = table();
    let mut own = catalog(&["good", "bad"], &[]);
    own.tools[1].definition = r#"{"name":"bad","name":"worse"}"#.to_owned();
    let view = seen(table.everything(), own);
    assert_eq!(names(&view), ["a-good", "b-echo"]);
}

#[test]
fn an_endpoint_without_such_an_upstream_has_no_other_view() {
    let table = compile(&sample()).unwrap();
    assert!(table.everything().private_upstreams().is_empty());
    assert!(table.everything().for_caller(&[]).is_none());
}
