//! What is made of a change alone is what is made of the whole.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select};
use proto::{
    EntryKind, Era,
    resource::{UpstreamResource, VirtualServerResource},
    rest::{RestBinding, RestMethod},
    upstream::CatalogScope,
    virtual_server::Naming,
    wire::ResourceKey,
};

use super::*;
use crate::{
    mcp::{Capabilities, list::ListKind},
    snapshot::table::tests::{entry, server, tool, upstream},
};

fn position(revision: u64) -> Position {
    Position { revision, ..Position::default() }
}

fn described(original: &str, text: &str) -> ToolResource {
    let definition = format!(
        r#"{{"name":"{original}","description":"{text}","inputSchema":{{"type":"object"}}}}"#
    );
    ToolResource { definition, ..tool("a", original) }
}

fn authored(name: &str) -> ToolResource {
    let (target, own) = (rest(None), name.to_owned());
    ToolResource { target, aliases: Vec::new(), name: own, ..tool("", name) }
}

fn rest(credential: Option<&str>) -> ToolTarget {
    let url = "http://127.0.0.1:1/".to_owned();
    let binding = RestBinding { url, method: RestMethod::Get, headers: BTreeMap::new() };
    ToolTarget::Rest { binding, credential_id: credential.map(str::to_owned) }
}

/// Resources by key, and what they were compiled to.
struct Both {
    resources: BTreeMap<ResourceKey, Resource>,
    table: Table,
    /// What tools are or were called.
    names: BTreeSet<String>,
}

impl Both {
    fn new(resources: impl IntoIterator<Item = Resource>) -> Self {
        let keyed = |it: Resource| (it.clone().encode().key.unwrap(), it);
        let resources: BTreeMap<_, _> = resources.into_iter().map(keyed).collect();
        let table = Table::compile(resources.values(), position(1)).unwrap();
        let names = names(resources.values());
        Self { resources, table, names }
    }

    /// Upstreams `b`, `a`, `off` and `strange`, one with some hundred tools, one with a prompt, a
    /// server of all, of one, and of single tools, and a tool that is authored here.
    fn sample() -> Self {
        let tools = (0..200).map(|number| tool("a", &format!("t{number:03}")));
        let tools = tools.chain([tool("b", "t007"), tool("off", "t1"), authored("x-own")]);
        let tools = tools.chain([tool("strange", "t1")]);
        let b = UpstreamResource {
            capabilities: r#"{"tools":{},"prompts":{}}"#.to_owned(),
            ..upstream("b", "alpha")
        };
        let off = UpstreamResource { disabled: true, ..upstream("off", "off") };
        // It speaks no version of ours, so that nothing of it is listed.
        let strange = UpstreamResource { era: None, ..upstream("strange", "strange") };
        let all = server("all", &["a", "b", "off", "strange"], &["id--x-own"]);
        let servers = [
            VirtualServerResource { naming: Naming::Prefix, ..all },
            server("one", &["b"], &[]),
            server("rivals", &["a", "b"], &[]),
            server("chosen", &["b"], &["id-a-t100", "id-a-t005", "id--x-own"]),
        ];
        Self::new(
            tools
                .map(Resource::Tool)
                .chain([upstream("a", "zulu"), b, off, strange].map(Resource::Upstream))
                .chain([entry("b", EntryKind::Prompt, "ask")])
                .chain(servers.map(Resource::VirtualServer)),
        )
    }

    /// Puts and removes, and gives what the change alone makes of it.
    fn change(&mut self, now: &[ToolResource], gone: &[ToolResource]) -> Option<Table> {
        let mut resources = self.resources.clone();
        let key = |it: &ToolResource| Resource::Tool(it.clone()).encode().key.unwrap();
        for tool in gone {
            resources.remove(&key(tool)).unwrap();
        }
        resources.extend(now.iter().map(|it| (key(it), Resource::Tool(it.clone()))));
        let keys: Vec<_> = gone.iter().chain(now).map(key).collect();
        let differences: Vec<_> = keys
            .iter()
            .map(|key| Difference { before: self.resources.get(key), now: resources.get(key) })
            .collect();
        let revision = self.table.position.revision + 1;
        let table = self.table.with(&differences, &position(revision));
        self.names.append(&mut names(resources.values()));
        self.resources = resources;
        table
    }

    /// The change is made alone, and gives what compiling all would.
    #[track_caller]
    fn assert_alone(&mut self, now: &[ToolResource], gone: &[ToolResource]) {
        let table = self.change(now, gone).expect("all would be compiled");
        self.assert_same(&table);
        self.table = table;
    }

    /// The change takes compiling all.
    #[track_caller]
    fn assert_whole(&mut self, now: &[ToolResource], gone: &[ToolResource]) {
        let resources = self.resources.clone();
        assert!(self.change(now, gone).is_none());
        self.resources = resources;
    }

    #[track_caller]
    fn assert_same(&self, table: &Table) {
        let position = table.position.clone();
        let expected = Table::compile(self.resources.values(), position.clone()).unwrap();
        let later = Table::compile_after(Some(table), self.resources.values(), position).unwrap();
        for table in [table, &later] {
            assert_eq!(table.servers.len(), expected.servers.len());
            assert_view(table.everything(), expected.everything(), &self.names);
            for (name, view) in &*expected.servers {
                assert_view(table.server(name).unwrap(), view, &self.names);
                let by_id = table.server(&view.id).unwrap();
                assert!(Arc::ptr_eq(table.server(name).unwrap(), by_id));
            }
            assert!(table.read.tools.iter().eq(expected.read.tools.iter()));
        }
    }
}

#[track_caller]
fn assert_view(view: &View, expected: &View, names: &BTreeSet<String>) {
    for capabilities in [Capabilities::NONE, Capabilities::needs(&["sampling".to_owned()])] {
        for kind in ListKind::ALL {
            for era in [Era::Legacy, Era::Modern] {
                let list = |view: &View| view.list(kind, era, capabilities);
                assert_eq!(list(view), list(expected));
            }
            let print = |view: &View| view.fingerprint(kind, capabilities);
            assert_eq!(print(view), print(expected));
        }
    }
    assert!(view.tools().eq(expected.tools()));
    let rest = |view: &View| {
        let features = [Era::Legacy, Era::Modern].map(|era| view.features(era));
        let tasks: Vec<_> = ["a", "b", "off"].map(|id| view.tasks_of(id)).into();
        (
            features,
            tasks,
            view.askers(),
            view.instructions.clone(),
            format!("{:?} {:?}", view.beyond(), view.upstream_of("x/y")),
        )
    };
    assert_eq!(rest(view), rest(expected));
    for name in names {
        assert_eq!(view.tool(name), expected.tool(name), "{name}");
    }
}

/// All that tools could be called by.
fn names<'r>(resources: impl Iterator<Item = &'r Resource>) -> BTreeSet<String> {
    let names = resources.filter_map(as_tool).flat_map(|tool| {
        let original = match &tool.target {
            ToolTarget::Upstream { original_name, .. } => original_name,
            ToolTarget::Rest { .. } => &tool.name,
        };
        [&tool.name, original].into_iter().chain(&tool.aliases).cloned()
    });
    names.collect()
}

#[test]
fn what_is_described_anew_is_shown_as_if_all_were_compiled() {
    let mut both = Both::sample();
    let before = both.table.clone();
    both.assert_alone(&[described("t007", "one"), described("t199", "two")], &[]);
    let one = both.table.clone();
    assert!(Arc::ptr_eq(one.server("one").unwrap(), before.server("one").unwrap()));
    assert!(!Arc::ptr_eq(one.server("all").unwrap(), before.server("all").unwrap()));
    let many: Vec<_> = (0..200).map(|it| described(&format!("t{it:03}"), "many")).collect();
    both.assert_alone(&many, &[]);
    // Those that servers have one by one are described anew, too, and what was before stays.
    both.assert_alone(&[described("t100", "three"), described("t007", "four")], &[]);
    Both::sample().assert_same(&before);
}

#[test]
fn tools_come_and_go_as_if_all_were_compiled() {
    let mut both = Both::sample();
    let before = both.table.clone();
    both.assert_alone(&[tool("b", "new")], &[]);
    both.assert_alone(&[authored("x-new"), authored("a-t050x")], &[]);
    both.assert_alone(&[tool("off", "t2")], &[tool("off", "t1"), authored("x-new")]);
    both.assert_alone(&[tool("a", "t205")], &[tool("a", "t000"), tool("a", "t199")]);
    // One is called otherwise, and another one takes its name.
    let renamed = ToolResource { name: "a-other".to_owned(), ..tool("a", "t010") };
    both.assert_alone(std::slice::from_ref(&renamed), &[]);
    let heir = ToolResource { name: "a-t010".to_owned(), ..tool("a", "t011") };
    both.assert_alone(&[heir], &[]);
    let second = ToolResource { name: "a-t020".to_owned(), ..tool("b", "second") };
    both.assert_alone(&[second], &[tool("a", "t020")]);
    let moved = ToolResource { id: tool("a", "t030").id, ..tool("b", "moved") };
    both.assert_alone(&[moved], &[tool("a", "t030")]);
    let twin = ToolResource { id: tool("a", "t040").id, ..tool("b", "twin") };
    both.assert_alone(&[twin], &[]);
    both.assert_alone(&[], &[tool("a", "t040")]);
    let needs_client_capabilities = vec!["sampling".to_owned()];
    both.assert_alone(&[ToolResource { needs_client_capabilities, ..renamed }], &[]);
    // What was before stays as it was.
    Both::sample().assert_same(&before);
}

#[test]
fn what_more_than_tools_depends_on_is_compiled_whole() {
    let mut both = Both::sample();
    let new = tool("a", "new");
    // Servers have these two one by one.
    both.assert_whole(&[], &[tool("a", "t100")]);
    both.assert_whole(&[ToolResource { aliases: Vec::new(), ..tool("a", "t100") }], &[]);
    // Of these, two have the name.
    both.assert_whole(&[ToolResource { name: "b-t007".to_owned(), ..new.clone() }], &[]);
    both.assert_whole(&[ToolResource { name: "off-t1".to_owned(), ..new.clone() }], &[]);
    both.assert_whole(&[ToolResource { aliases: vec!["t001".to_owned()], ..new.clone() }], &[]);
    let swapped = [("t001", "a-t002"), ("t002", "a-t001")]
        .map(|(original, name)| ToolResource { name: name.to_owned(), ..tool("a", original) });
    both.assert_whole(&swapped, &[]);
    // `a`'s comes first where names are bare, and would leave its name to `b`'s.
    both.assert_whole(&[], &[tool("a", "t007")]);
    both.assert_whole(&[ToolResource { definition: "{".to_owned(), ..new.clone() }], &[]);
    both.assert_whole(&[ToolResource { target: tool("z", "new").target, ..new.clone() }], &[]);
    let target = rest(Some("missing"));
    both.assert_whole(&[ToolResource { target, ..authored("x-new") }], &[]);
    let position = position(2);
    for resource in [Resource::Upstream(upstream("a", "a")), Resource::Upstream(upstream("n", "n"))]
    {
        let key = resource.clone().encode().key.unwrap();
        let before = both.resources.get(&key);
        let differences = [
            Difference { before, now: Some(&resource) },
            Difference { before: Some(&resource), now: None },
        ];
        for difference in differences {
            assert!(both.table.with(&[difference], &position).is_none());
        }
    }
    both.assert_alone(&[new], &[tool("b", "t007")]);
    // An alias is another's as soon as who has it goes.
    let aliases = vec!["a_t150_alias".to_owned()];
    let mut disputed = both.resources.clone();
    let rival = Resource::Tool(ToolResource { aliases, ..tool("b", "rival") });
    disputed.insert(rival.clone().encode().key.unwrap(), rival);
    let mut disputed = Both::new(disputed.into_values());
    disputed.assert_whole(&[], &[tool("a", "t150")]);
    disputed.assert_alone(&[], &[tool("a", "t151")]);
}

#[test]
fn tools_that_are_shown_otherwise_than_they_were_read_are_compiled_whole() {
    let with = |change: &dyn Fn(&mut UpstreamResource)| {
        let mut resources: Vec<_> = Both::sample().resources.into_values().collect();
        for resource in &mut resources {
            if let Resource::Upstream(upstream) = resource {
                change(upstream);
            }
        }
        Both::new(resources)
    };
    let mut private = with(&|upstream| upstream.catalog_scope = CatalogScope::Principal);
    private.assert_whole(&[described("t007", "one")], &[]);
    let tasks = r#"{"tasks":{"requests":{"tools":{"call":{}}}}}"#;
    let mut legacy = with(&|upstream| upstream.capabilities = tasks.to_owned());
    legacy.assert_whole(&[tool("b", "new")], &[]);
    legacy.assert_alone(&[described("t007", "one")], &[]);
    let mut modern = with(&|upstream| {
        let tasks = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
        (upstream.capabilities, upstream.era) = (tasks.to_owned(), Some(Era::Modern));
    });
    modern.assert_whole(&[described("t007", "one")], &[]);
}

/// What becomes of one of the sample's tools, or of one more.
fn becomes(owner: &str, number: usize, what: usize) -> Option<ToolResource> {
    let original = format!("t{:03}", number * 25);
    let plain = if owner.is_empty() { authored(&original) } else { tool(owner, &original) };
    let definition = plain.definition.replace("1.0", "2.0");
    Some(match what {
        0 => return None,
        1 => plain,
        2 => ToolResource { definition, ..plain },
        3 => ToolResource { name: format!("new-{owner}{number}"), ..plain },
        4 => ToolResource { aliases: vec!["b_t007_alias".to_owned()], ..plain },
        5 => ToolResource { needs_client_capabilities: vec!["sampling".to_owned()], ..plain },
        _ => ToolResource { definition: "{".to_owned(), ..plain },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn whatever_tools_become_it_is_as_if_all_were_compiled(
        steps in vec(vec((select(vec!["a", "b", "off", ""]), 0..9_usize, 0..7_usize), 1..4), 12),
    ) {
        let mut both = Both::sample();
        for step in steps {
            let key = |it: &ToolResource| Resource::Tool(it.clone()).encode().key.unwrap();
            let mut now = BTreeMap::new();
            for (owner, number, what) in step {
                let plain = becomes(owner, number, 1).unwrap();
                now.insert(key(&plain), (plain, becomes(owner, number, what)));
            }
            let is_there = |it: &ToolResource| both.resources.contains_key(&key(it));
            let gone = now.values().filter(|(it, now)| now.is_none() && is_there(it));
            let gone: Vec<_> = gone.map(|(it, _)| it.clone()).collect();
            let now: Vec<_> = now.into_values().filter_map(|(_, now)| now).collect();
            let before = both.resources.clone();
            let alone = both.change(&now, &gone);
            let Ok(whole) = Table::compile(both.resources.values(), position(1)) else {
                prop_assert!(alone.is_none());
                both.resources = before;
                continue;
            };
            let table = alone.unwrap_or(whole);
            both.assert_same(&table);
            both.table = table;
        }
    }
}
