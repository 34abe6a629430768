//! A configuration in which some tools are described anew: all else is shared with the one before,
//! so that it costs what the change is and not what the whole is.

use std::sync::Arc;

use ahash::AHashMap;
use proto::{
    Position,
    resource::{Resource, ToolResource},
};

use super::{
    Table,
    entry::{self, ToolEntry},
    shelf,
    view::View,
};
use crate::mcp::feature::Feature;

/// A tool that is described anew.
pub(super) struct Replaced {
    /// Where it is among all that were read.
    place: usize,
    pub(super) old: Arc<ToolEntry>,
    pub(super) new: Arc<ToolEntry>,
}

impl Table {
    /// The same configuration where these resources have taken the place of others with their
    /// keys. `None` if more has changed than how tools are described: then all is compiled anew.
    pub(super) fn with_replaced(&self, new: &[&Resource], position: &Position) -> Option<Self> {
        // Recipes of what each caller is shown have the tools too.
        if self.is_private {
            return None;
        }
        let mut replaced = Vec::with_capacity(new.len());
        for resource in new {
            let Resource::Tool(tool) = resource else { return None };
            replaced.push(self.replaced(tool)?);
        }
        let mut table = Self { position: position.clone(), ..self.clone() };
        let read = replaced.iter().map(|it| (it.place, Arc::clone(&it.new)));
        table.read.tools = self.read.tools.with(read)?;
        if let Some(view) = self.everything.with_tools(&replaced) {
            table.everything = Arc::new(view);
        }
        // Each view is there by name and by id.
        let mut views: AHashMap<&str, Arc<View>> = AHashMap::new();
        let servers = self.servers.iter().map(|(name, view)| {
            let other = || view.with_tools(&replaced).map_or_else(|| Arc::clone(view), Arc::new);
            (name.clone(), Arc::clone(views.entry(&view.id).or_insert_with(other)))
        });
        table.servers = servers.collect::<AHashMap<_, _>>().into();
        Some(table)
    }

    fn replaced(&self, tool: &ToolResource) -> Option<Replaced> {
        let key = entry::key_of(tool);
        let place = self.read.tools.place(|it| it.key().cmp(&key))?;
        let old = Arc::clone(self.read.tools.get(place)?);
        let new = Arc::new(ToolEntry::read(tool).ok()?);
        let is_replaced = new.is_described_anew(&old) && !self.offers_tasks(&new);
        is_replaced.then_some(Replaced { place, old, new })
    }

    /// Whether views show this tool otherwise than it was read.
    fn offers_tasks(&self, tool: &ToolEntry) -> bool {
        let upstream = tool.upstream_id().and_then(|id| self.upstreams.get(id));
        upstream.is_some_and(|it| shelf::features_of(it).has(Feature::TasksExtension))
    }
}

#[cfg(test)]
mod tests {
    use proto::{Era, upstream::CatalogScope};

    use super::*;
    use crate::{
        mcp::{Capabilities, list::ListKind},
        snapshot::table::tests::{server, tool, upstream},
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

    /// Upstreams `a` with some hundred tools and `b` with one, and a server of each.
    fn resources(changed: &[&ToolResource]) -> Vec<Resource> {
        let tools = (0..200).map(|number| tool("a", &format!("t{number}")));
        let tools = tools.chain([tool("b", "t7")]).map(|it| {
            let new = changed.iter().find(|new| new.id == it.id);
            Resource::Tool(new.map_or(it, |new| (*new).clone()))
        });
        let mut all: Vec<_> = tools.collect();
        all.extend(["a", "b"].map(|id| Resource::Upstream(upstream(id, id))));
        all.push(Resource::VirtualServer(server("with", &["a", "b"], &[])));
        all.push(Resource::VirtualServer(server("without", &["b"], &[])));
        all.sort_by_key(|resource| resource.clone().encode().key);
        all
    }

    fn compile(resources: &[Resource], revision: u64) -> Table {
        Table::compile(resources.iter(), position(revision)).unwrap()
    }

    fn assert_same(table: &Table, expected: &Table) {
        let views = |table: &Table| {
            let servers = ["with", "id-with", "without", "id-without"];
            let servers = servers.map(|name| Arc::clone(table.server(name).unwrap()));
            [vec![Arc::clone(table.everything())], servers.to_vec()].concat()
        };
        for (view, expected) in views(table).iter().zip(views(expected)) {
            let list = |view: &View| view.list(ListKind::Tools, Era::Legacy, Capabilities::NONE);
            assert_eq!(list(view), list(&expected));
            let print = |view: &View| view.fingerprint(ListKind::Tools, Capabilities::NONE);
            assert_eq!(print(view), print(&expected));
            for (name, tool) in expected.tools() {
                assert_eq!(view.tool(name), Some(tool));
                let alias = tool.aliases.first().unwrap();
                assert_eq!(view.tool(alias), expected.tool(alias));
            }
        }
        assert_eq!(table.position, expected.position);
    }

    #[test]
    fn what_is_described_anew_is_shown_as_if_all_were_compiled() {
        let before = compile(&resources(&[]), 1);
        let (first, last) = (described("t7", "one"), described("t199", "two"));
        let new = [&first, &last].map(|it| Resource::Tool(it.clone()));
        let table = before.with_replaced(&new.each_ref(), &position(2)).unwrap();
        assert_same(&table, &compile(&resources(&[&first, &last]), 2));
        let many: Vec<_> = (0..200).map(|it| described(&format!("t{it}"), "many")).collect();
        let new: Vec<_> = many.iter().map(|it| Resource::Tool(it.clone())).collect();
        let all = before.with_replaced(&new.iter().collect::<Vec<_>>(), &position(2)).unwrap();
        assert_same(&all, &compile(&resources(&many.iter().collect::<Vec<_>>()), 2));
        assert!(Arc::ptr_eq(table.server("without").unwrap(), before.server("without").unwrap()));
        assert!(Arc::ptr_eq(table.server("with").unwrap(), table.server("id-with").unwrap()));
        // Once more, and what was before stays as it was.
        let again = described("t7", "three");
        let new = Resource::Tool(again.clone());
        let later = table.with_replaced(&[&new], &position(3)).unwrap();
        assert_same(&later, &compile(&resources(&[&again, &last]), 3));
        assert_same(&table, &compile(&resources(&[&first, &last]), 2));
        assert_same(&before, &compile(&resources(&[]), 1));
        // All the same to those that compile everything after it.
        let whole = resources(&[&again, &last]);
        let whole = Table::compile_after(Some(&later), whole.iter(), position(4)).unwrap();
        assert_same(&whole, &compile(&resources(&[&again, &last]), 4));
    }

    #[test]
    fn more_than_a_description_is_not_replaced() {
        let before = compile(&resources(&[]), 1);
        let is_replaced = |table: &Table, new: ToolResource| {
            table.with_replaced(&[&Resource::Tool(new)], &position(2)).is_some()
        };
        let new = described("t7", "one");
        assert!(is_replaced(&before, new.clone()));
        assert!(!is_replaced(&before, ToolResource { name: "x".to_owned(), ..new.clone() }));
        assert!(!is_replaced(&before, ToolResource { id: "x".to_owned(), ..new.clone() }));
        assert!(!is_replaced(&before, ToolResource { aliases: Vec::new(), ..new.clone() }));
        assert!(!is_replaced(
            &before,
            ToolResource { target: tool("b", "t7").target, ..new.clone() }
        ));
        assert!(!is_replaced(&before, ToolResource { definition: "{".to_owned(), ..new.clone() }));
        let needs = vec!["sampling".to_owned()];
        let needing = ToolResource { needs_client_capabilities: needs, ..new.clone() };
        assert!(!is_replaced(&before, needing));
        let other = Resource::Upstream(upstream("a", "a"));
        assert!(before.with_replaced(&[&other], &position(2)).is_none());
        let mut resources = resources(&[]);
        for resource in &mut resources {
            if let Resource::Upstream(upstream) = resource {
                upstream.catalog_scope = CatalogScope::Principal;
            }
        }
        assert!(!is_replaced(&compile(&resources, 1), new));
    }
}
