//! Prompts, resources and what a view announces.

use super::*;

fn shown(view: &View, kind: ListKind) -> Vec<String> {
    let list = view.list(kind, Era::Legacy, Capabilities::NONE);
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    let items = list[kind.member()].as_array().unwrap().iter();
    items
        .map(|item| format!("{} of {}", item[kind.key()].as_str().unwrap(), item["from"]))
        .collect()
}

#[test]
fn prompts_follow_the_naming_of_the_view() {
    let table = compile(&shelves()).unwrap();
    let prompts = shown(table.everything(), ListKind::Prompts);
    assert_eq!(prompts, [r#"a-ask of "a""#, r#"b-ask of "b""#]);
    let dev = table.server("dev").unwrap();
    assert_eq!(shown(dev, ListKind::Prompts), [r#"ask of "b""#]);
    assert_eq!(&*dev.shelf().prompt("ask").unwrap().upstream_id, "b");
    assert!(dev.shelf().prompt("b-ask").is_none());
}

#[test]
fn single_prompts_and_resources_are_all_that_a_server_shows_of_their_upstream() {
    let mut resources = shelves();
    let chosen = [
        ("a", EntryKind::Prompt, "ask"),
        ("b", EntryKind::Resource, "test://two"),
        ("b", EntryKind::Resource, "test://not-there-now"),
    ];
    let entries = chosen.map(|(upstream_id, kind, original)| EntryReference {
        upstream_id: upstream_id.to_owned(),
        kind,
        original: original.to_owned(),
    });
    let some = VirtualServerResource { entries: entries.to_vec(), ..server("some", &[], &[]) };
    resources.push(Resource::VirtualServer(some));
    let table = compile(&resources).unwrap();
    let some = table.server("some").unwrap();
    assert_eq!(shown(some, ListKind::Prompts), [r#"ask of "a""#]);
    assert_eq!(shown(some, ListKind::Resources), [r#"test://two of "b""#]);
    let shelf = some.shelf();
    assert_eq!(&*shelf.resource("test://two").unwrap().upstream_id, "b");
    for hidden in ["test://one", "test://not-there-now", "test://unlisted", "file:///c"] {
        assert_eq!(shelf.resource(hidden), None, "{hidden}");
    }
    assert_eq!(shelf.features_of("b"), Features::NONE.with(Feature::Resources));
    assert_eq!(&*some.instructions, "");

    let whole = VirtualServerResource { entries: entries.to_vec(), ..server("b", &["b"], &[]) };
    let table = compile(&[shelves(), vec![Resource::VirtualServer(whole)]].concat()).unwrap();
    let whole = table.server("b").unwrap();
    assert_eq!(shown(whole, ListKind::Prompts), [r#"ask of "b""#], "`ask` was taken");
    assert_eq!(shown(whole, ListKind::Resources).len(), 2);
    assert_eq!(&*whole.shelf().resource("test://unlisted").unwrap().upstream_id, "b");
}

#[test]
fn uris_stay_unless_two_upstreams_have_them() {
    let table = compile(&shelves()).unwrap();
    let everything = table.everything();
    assert_eq!(
        shown(everything, ListKind::Resources),
        [
            r#"test://one of "a""#,
            r#"lockgate+b:test://one of "b""#,
            r#"test://two of "b""#,
            r#"file:///c of "c""#
        ]
    );
    assert_eq!(
        shown(everything, ListKind::ResourceTemplates),
        [
            r#"test://t/{id} of "a""#,
            r#"lockgate+b:test://t/{id} of "b""#,
            r#"test://t/{id}/deep of "b""#
        ]
    );
    let dev = shown(table.server("dev").unwrap(), ListKind::Resources);
    assert_eq!(dev[0], r#"lockgate+b:test://one of "b""#, "names decide, not the selection");
    let alone = shown(table.server("alone").unwrap(), ListKind::Resources);
    assert_eq!(alone[0], r#"test://one of "b""#);
}

#[test]
fn a_uri_leads_to_its_upstream() {
    let table = compile(&shelves()).unwrap();
    let check = |view: &View, uri: &str, expected: Option<(&str, &str)>| {
        let found = view.shelf().resource(uri);
        let found = found.as_ref().map(|found| (&*found.upstream_id, &*found.uri));
        assert_eq!(found, expected, "{uri}");
    };
    let all = table.everything();
    check(all, "test://one", Some(("a", "test://one")));
    check(all, "lockgate+b:test://one", Some(("b", "test://one")));
    check(all, "test://two", Some(("b", "test://two")));
    check(all, "test://t/7", Some(("a", "test://t/7")));
    check(all, "lockgate+b:test://t/7", Some(("b", "test://t/7")));
    check(all, "test://t/7/deep", Some(("b", "test://t/7/deep")));
    check(all, "LOCKGATE+B:test://unlisted", Some(("b", "test://unlisted")));
    check(all, "file:///unlisted", Some(("c", "file:///unlisted")));
    check(all, "test://unlisted", None);
    check(all, "other://x", None);
    check(table.server("alone").unwrap(), "other://x", Some(("b", "other://x")));
}

#[test]
fn links_of_a_marked_upstream_lead_back_to_it() {
    let table = compile(&shelves()).unwrap();
    let shelf = table.everything().shelf();
    assert!(shelf.uris("a").is_none() && shelf.uris("c").is_none());
    let uris = shelf.uris("b").unwrap();
    assert_eq!(uris.shown("test://two"), None, "it is listed as it is");
    assert_eq!(uris.shown("file:///x"), None);
    let linked = uris.shown("test://unlisted").unwrap();
    let found = shelf.resource(&linked).unwrap();
    assert_eq!((&*found.upstream_id, &*found.uri), ("b", "test://unlisted"));
}

#[test]
fn a_view_announces_what_it_can_serve() {
    let table = compile(&shelves()).unwrap();
    let features = table.everything().features(Era::Legacy).to_json();
    let lists = r#""tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true}"#;
    assert_eq!(features, format!(r#"{{{lists},"completions":{{}}}}"#));
    let alone = table.server("alone").unwrap().features(Era::Legacy).to_json();
    assert_eq!(alone, format!("{{{lists}}}"));
    let bare = compile(&sample()).unwrap();
    assert_eq!(
        bare.everything().features(Era::Legacy).to_json(),
        r#"{"tools":{"listChanged":true}}"#
    );
}

#[test]
fn a_fingerprint_changes_with_what_is_shown_and_with_nothing_else() {
    let print = |resources: &[Resource], kind| {
        compile(resources).unwrap().everything().fingerprint(kind, Capabilities::NONE)
    };
    let mut resources = shelves();
    let before = ListKind::ALL.map(|kind| print(&resources, kind));
    resources.reverse();
    assert_eq!(before, ListKind::ALL.map(|kind| print(&resources, kind)));
    resources.push(entry("c", EntryKind::Prompt, "new"));
    let after = ListKind::ALL.map(|kind| print(&resources, kind));
    let changed: Vec<_> = before.iter().zip(after).map(|(one, other)| *one != other).collect();
    assert_eq!(changed, [false, true, false, false]);
}

#[test]
fn a_prompt_of_an_unknown_upstream_or_a_taken_name_is_refused() {
    let mut resources = shelves();
    resources.push(entry("zz", EntryKind::Prompt, "ask"));
    let Resource::Entry(twin) = entry("c", EntryKind::Prompt, "twin") else { unreachable!() };
    resources.push(Resource::Entry(EntryResource { name: "a-ask".to_owned(), ..twin }));
    let errors = compile(&resources).unwrap_err();
    let mut lines: Vec<_> =
        errors.iter().map(|error| format!("{} {}", error.resource, error.field)).collect();
    lines.sort();
    assert_eq!(lines.len(), 2, "{errors:?}");
    assert!(lines[0].ends_with(" name") && lines[1] == "prompt/prompt-zz-ask upstream_id");
}

#[test]
fn what_nobody_can_speak_to_is_found_and_not_listed() {
    let mut resources = shelves();
    let tools = [("a", "echo"), ("b", "echo"), ("b", "add")];
    resources.extend(tools.map(|(id, name)| Resource::Tool(tool(id, name))));
    let single = server("single", &[], &["id-b-add", "id-a-echo"]);
    resources.push(Resource::VirtualServer(single));
    let all = compile(&resources).unwrap();
    for resource in &mut resources {
        if let Resource::Upstream(upstream) = resource
            && upstream.id == "b"
        {
            upstream.era = None;
        }
    }
    let table = compile(&resources).unwrap();
    let view = table.everything();
    assert_eq!(shown(view, ListKind::Tools), ["a-echo of null"]);
    assert_eq!(shown(view, ListKind::Prompts), [r#"a-ask of "a""#]);
    assert_eq!(shown(view, ListKind::ResourceTemplates), [r#"test://t/{id} of "a""#]);
    let uris = [r#"test://one of "a""#, r#"file:///c of "c""#];
    assert_eq!(shown(view, ListKind::Resources), uris);
    assert!(!view.instructions.contains("use b well"), "{}", view.instructions);
    let print = |table: &Table| table.everything().fingerprint(ListKind::Tools, Capabilities::NONE);
    assert_ne!(print(&table), print(&all), "clients are told");
    let single = table.server("single").unwrap();
    assert_eq!(shown(single, ListKind::Tools), ["echo of null"]);
    assert_eq!(single.tool("add").unwrap().upstream_id(), Some("b"));
    assert_eq!(view.tool("b-echo").unwrap().upstream_id(), Some("b"));
    assert_eq!(&*view.shelf().prompt("b-ask").unwrap().upstream_id, "b");
    assert_eq!(&*view.shelf().resource("test://two").unwrap().upstream_id, "b");
}
