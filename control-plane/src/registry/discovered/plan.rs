//! What a catalog changes in the registry. Pure but for fresh ids.

use std::collections::{HashMap, HashSet};

use proto::{
    CatalogTool, ToolName, UpstreamName,
    tool::{Tool, ToolSource},
};

use crate::{
    registry::{
        names::{Claim, Names, Presence, discovered_alias},
        new_id,
    },
    store::tools::{NameHolder, StoredTool},
};

/// Largest definition that is taken from an upstream, in bytes: with its names it still fits into
/// what proxies can be told at once.
const DEFINITION_MAX: usize = 512 * 1024;

/// What a catalog changes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) vanished: Vec<String>,
    /// Ids among `changed` that had vanished.
    pub(super) returned: Vec<String>,
    pub(super) changed: Vec<StoredTool>,
    pub(super) added: Vec<(StoredTool, Claim)>,
    pub(super) notices: Vec<String>,
}

/// Compares a catalog with what is known.
pub(super) struct Planner<'a> {
    pub(super) upstream_id: &'a str,
    pub(super) upstream: &'a UpstreamName,
    pub(super) now_ms: i64,
    pub(super) names: Names,
}

impl Planner<'_> {
    pub(super) fn plan(mut self, known: Vec<StoredTool>, catalog: &[CatalogTool]) -> Plan {
        let mut plan = Plan::default();
        let fits = |tool: &&CatalogTool| tool.definition.len() <= DEFINITION_MAX;
        for tool in catalog.iter().filter(|tool| !fits(tool)) {
            plan.notices.push(format!(
                "tool `{}` is left out: its definition is larger than {DEFINITION_MAX} bytes",
                tool.name
            ));
        }
        let offered: HashSet<&str> =
            catalog.iter().filter(fits).map(|tool| tool.name.as_str()).collect();
        let mut by_original: HashMap<String, StoredTool> =
            known.into_iter().map(|stored| (stored.bare_name().to_owned(), stored)).collect();
        for (original, stored) in &by_original {
            let name = stored.tool.name.as_str();
            if offered.contains(original.as_str()) {
                self.names.set_presence(name, Presence::Here);
            } else if !stored.is_gone {
                self.names.set_presence(name, Presence::Gone);
                plan.vanished.push(stored.tool.id.clone());
            }
        }
        plan.vanished.sort();
        let mut seen = HashSet::new();
        for tool in catalog.iter().filter(fits) {
            if !seen.insert(tool.name.as_str()) {
                plan.notices
                    .push(format!("tool `{}` is offered twice: the first stays", tool.name));
                continue;
            }
            match by_original.remove(&tool.name) {
                Some(stored) => self.compare(&mut plan, stored, tool),
                None => self.add(&mut plan, tool),
            }
        }
        plan
    }

    fn compare(&self, plan: &mut Plan, stored: StoredTool, offered: &CatalogTool) {
        let CatalogTool { name: _, definition, needs_client_capabilities } = offered;
        let is_same = stored.tool.definition == *definition
            && stored.tool.needs_client_capabilities == *needs_client_capabilities;
        if is_same && !stored.is_gone {
            return;
        }
        if stored.is_gone {
            plan.returned.push(stored.tool.id.clone());
        }
        let tool = Tool {
            definition: definition.clone(),
            needs_client_capabilities: needs_client_capabilities.clone(),
            update_time_ms: self.now_ms,
            ..stored.tool
        };
        plan.changed.push(StoredTool { tool, is_gone: false, ..stored });
    }

    fn add(&mut self, plan: &mut Plan, offered: &CatalogTool) {
        let name = ToolName::exposed(self.upstream, &offered.name);
        let alias = discovered_alias(self.upstream.as_str(), &offered.name, name.as_str());
        let id = new_id();
        let wanted = NameHolder {
            id: id.clone(),
            name: name.to_string(),
            alias,
            upstream_id: Some(self.upstream_id.to_owned()),
            is_gone: false,
        };
        let Ok(claim) = self.names.claim(wanted) else {
            let original = &offered.name;
            let notice = format!("tool `{original}` is left out: another tool is named `{name}`");
            plan.notices.push(notice);
            return;
        };
        let tool = Tool {
            id,
            name,
            source: ToolSource::Upstream {
                id: self.upstream_id.to_owned(),
                name: self.upstream.clone(),
                original_name: offered.name.clone(),
            },
            definition: offered.definition.clone(),
            credential: None,
            disabled: false,
            tags: Vec::new(),
            needs_client_capabilities: offered.needs_client_capabilities.clone(),
            resource_version: 0,
            create_time_ms: self.now_ms,
            update_time_ms: self.now_ms,
        };
        let loses = |id: &String| claim.unaliased.iter().any(|it| it.id == *id);
        // An alias given a moment ago is not in the store yet.
        for (other, _) in plan.added.iter_mut().filter(|(other, _)| loses(&other.tool.id)) {
            other.alias = None;
        }
        let alias = claim.alias.clone();
        plan.added.push((StoredTool { tool, credential_id: None, alias, is_gone: false }, claim));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the store would hold.
    #[derive(Default)]
    struct Shelf(Vec<StoredTool>);

    impl Shelf {
        fn holder(stored: &StoredTool) -> NameHolder {
            NameHolder {
                id: stored.tool.id.clone(),
                name: stored.tool.name.to_string(),
                alias: stored.alias.clone(),
                upstream_id: Some(stored.owner().to_owned()),
                is_gone: stored.is_gone,
            }
        }

        fn discover(&mut self, upstream: &str, offered: &[&str]) -> Vec<String> {
            let catalog: Vec<CatalogTool> = offered
                .iter()
                .map(|name| CatalogTool {
                    name: (*name).to_owned(),
                    definition: "{}".to_owned(),
                    needs_client_capabilities: Vec::new(),
                })
                .collect();
            let known = self.0.iter().filter(|it| it.owner() == upstream).cloned().collect();
            let names = Names::new(self.0.iter().map(Self::holder).collect());
            let name: UpstreamName = upstream.parse().unwrap();
            let planner = Planner { upstream_id: upstream, upstream: &name, now_ms: 1, names };
            let Plan { vanished, returned: _, changed, added, notices } =
                planner.plan(known, &catalog);
            for stored in &mut self.0 {
                if vanished.contains(&stored.tool.id) {
                    stored.is_gone = true;
                }
                if changed.iter().any(|it| it.tool.id == stored.tool.id) {
                    stored.is_gone = false;
                }
            }
            for (_, claim) in &added {
                self.0.retain(|it| !claim.evicted.iter().any(|out| out.id == it.tool.id));
                let unaliased =
                    |it: &StoredTool| claim.unaliased.iter().any(|out| out.id == it.tool.id);
                self.0.iter_mut().filter(|it| unaliased(it)).for_each(|it| it.alias = None);
            }
            self.0.extend(added.into_iter().map(|(stored, _)| stored));
            notices
        }

        fn live(&self) -> Vec<(&str, &str)> {
            let live = self.0.iter().filter(|it| !it.is_gone);
            live.map(|it| (it.tool.name.as_str(), it.tool.id.as_str())).collect()
        }
    }

    #[test]
    fn the_newcomer_is_left_out_and_reported() {
        let mut shelf = Shelf::default();
        assert!(shelf.discover("a", &["b-c"]).is_empty());
        let notices = shelf.discover("a-b", &["c", "d"]);
        assert_eq!(notices, ["tool `c` is left out: another tool is named `a-b-c`"]);
        assert_eq!(shelf.live().len(), 2);
        shelf.discover("a", &[]);
        assert!(shelf.discover("a-b", &["c", "d"]).is_empty());
    }

    #[test]
    fn a_name_beats_an_alias_of_the_same_catalog() {
        let mut shelf = Shelf::default();
        shelf.discover("u", &["a_b", "a-b"]);
        let aliases: Vec<_> = shelf.0.iter().map(|it| it.alias.as_deref()).collect();
        assert_eq!(aliases, [None, None]);
        assert_eq!(shelf.0[1].tool.name.as_str(), "u-a-b");
    }

    #[test]
    fn a_tool_that_comes_back_is_itself() {
        let mut shelf = Shelf::default();
        shelf.discover("u", &["x", "y"]);
        let id = shelf.0[0].tool.id.clone();
        shelf.discover("u", &["y"]);
        assert_eq!(shelf.live().len(), 1);
        shelf.discover("u", &["y", "x", "x"]);
        assert!(shelf.live().contains(&("u-x", id.as_str())));
    }

    #[test]
    fn a_definition_that_fits_nowhere_is_left_out_and_reported() {
        let name: UpstreamName = "u".parse().unwrap();
        let names = Names::new(Vec::new());
        let planner = Planner { upstream_id: "u", upstream: &name, now_ms: 1, names };
        let offered = |name: &str, length: usize| CatalogTool {
            name: name.to_owned(),
            definition: "x".repeat(length),
            needs_client_capabilities: Vec::new(),
        };
        let catalog = [offered("fits", DEFINITION_MAX), offered("big", DEFINITION_MAX + 1)];
        let plan = planner.plan(Vec::new(), &catalog);
        assert_eq!(plan.added.len(), 1);
        assert_eq!(
            plan.notices,
            ["tool `big` is left out: its definition is larger than 524288 bytes"]
        );
    }

    proptest! {
        #[test]
        fn names_stay_unique_and_who_stays_keeps_name_and_id(
            steps in prop::collection::vec(
                (prop::sample::select(vec!["a", "a-b", "A.b", "a_b"]),
                 prop::collection::vec(prop::sample::select(
                    vec!["c", "b-c", "b_c", "B-C", "x.y", "x/y", "b-x_y", "c_d", "c-d"]), 0..6)),
                1..12,
            )
        ) {
            let mut shelf = Shelf::default();
            for (upstream, offered) in steps {
                let before: HashMap<String, String> = shelf.0.iter()
                    .filter(|it| !it.is_gone
                        && (it.owner() != upstream || offered.contains(&it.bare_name())))
                    .map(|it| (it.tool.id.clone(), it.tool.name.to_string())).collect();
                shelf.discover(upstream, &offered);
                let after: HashMap<&str, &str> =
                    shelf.live().into_iter().map(|(name, id)| (id, name)).collect();
                for (id, name) in &before {
                    prop_assert_eq!(after.get(id.as_str()), Some(&name.as_str()));
                }
                let mut taken = HashSet::new();
                for stored in &shelf.0 {
                    prop_assert!(taken.insert(stored.tool.name.to_string()));
                }
                for alias in shelf.0.iter().filter_map(|it| it.alias.clone()) {
                    prop_assert!(taken.insert(alias));
                }
            }
        }
    }
}
