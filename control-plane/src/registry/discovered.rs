//! Catalogs as they were discovered: wishes go out, results come in.

use std::collections::{HashMap, HashSet};

use proto::{
    Catalog, CatalogTool, ToolName, UpstreamName,
    resource::kind,
    tool::{Tool, ToolSource},
    upstream::FailureReason,
};

use super::{
    Registry,
    names::{Claim, Names, Presence, discovered_alias},
    new_id, tools as tool_rules,
    unit::Unit,
};
use crate::{
    caller::Caller,
    error::Error,
    store::{
        discoveries::{self, Facts, WantedDiscovery},
        tools::{self, NameHolder, StoredTool},
        upstreams::{self, StoredUpstream},
    },
};

/// Most notices that are kept of one discovery.
const NOTICES_MAX: usize = 20;
/// Longest failure message that is kept, in characters.
const MESSAGE_MAX: usize = 1000;

impl Registry {
    /// Upstreams whose catalog somebody should read now.
    pub async fn wanted_discoveries(&self) -> Result<Vec<WantedDiscovery>, Error> {
        let mut read = self.store.begin_read().await?;
        Ok(discoveries::wanted(read.connection()).await?)
    }

    /// Wishes for a new look at a catalog: it is said to have changed, or it is time.
    pub async fn want_discovery(&self, upstream_id: &str) -> Result<(), Error> {
        let mut write = self.store.begin_write().await?;
        discoveries::want(write.connection(), upstream_id).await?;
        write.commit().await?;
        self.wish();
        Ok(())
    }

    /// Stores the result of a discovery. A failure keeps the old catalog; a
    /// result for an older definition, or one that came twice, is dropped. The
    /// revision moves only if a proxy must be told something.
    pub async fn record_catalog(
        &self,
        upstream_id: &str,
        wanted: u64,
        result: Result<Catalog, (FailureReason, String)>,
    ) -> Result<(), Error> {
        let gateway = Caller::local_admin("discovery");
        let mut unit = self.begin_internal(&gateway).await?;
        let connection = unit.write.connection();
        let Some((progress, facts)) = discoveries::progress(connection, upstream_id).await? else {
            return Ok(());
        };
        if wanted <= progress.done || wanted > progress.wanted {
            return Ok(());
        }
        discoveries::skip(connection, upstream_id, wanted).await?;
        if wanted >= progress.valid_from {
            match result {
                Ok(catalog) => store_catalog(&mut unit, upstream_id, &facts, catalog).await?,
                Err((reason, message)) => {
                    let message: String = message.chars().take(MESSAGE_MAX).collect();
                    let now_ms = unit.now_ms;
                    let connection = unit.write.connection();
                    discoveries::fail(connection, upstream_id, reason, &message, now_ms).await?;
                }
            }
        }
        unit.finish(&()).await
    }
}

async fn store_catalog(
    unit: &mut Unit<'_>,
    upstream_id: &str,
    facts: &Facts,
    catalog: Catalog,
) -> Result<(), Error> {
    let ids = [upstream_id.to_owned()];
    let found = upstreams::by_ids(unit.write.connection(), &ids).await?.pop();
    let Some(StoredUpstream { upstream, .. }) = found else { return Ok(()) };
    let known = tools::of_upstream(unit.write.connection(), upstream_id).await?;
    let names = Names::new(tools::all_holders(unit.write.connection()).await?);
    let plan = Planner { upstream_id, upstream: &upstream.name, now_ms: unit.now_ms, names }
        .plan(known, &catalog.tools);
    let notices = shorten(plan.notices.clone());
    carry_out(unit, upstream_id, plan).await?;
    let now = Facts {
        era: Some(catalog.era.as_str().to_owned()),
        protocol_version: catalog.protocol_version.clone(),
        instructions: catalog.instructions.clone(),
    };
    if now != *facts {
        unit.write.changed(kind::UPSTREAM, "", upstream_id).await?;
    }
    let now_ms = unit.now_ms;
    let connection = unit.write.connection();
    discoveries::succeed(connection, upstream_id, &catalog, &notices, now_ms).await?;
    Ok(())
}

async fn carry_out(unit: &mut Unit<'_>, upstream_id: &str, plan: Plan) -> Result<(), Error> {
    let Plan { vanished, returned, changed, added, notices: _ } = plan;
    for id in &vanished {
        tools::set_gone(unit.write.connection(), id, unit.now_ms).await?;
    }
    for stored in &changed {
        tools::update(unit.write.connection(), stored).await?;
    }
    for (_, claim) in &added {
        tool_rules::settle(unit, claim).await?;
    }
    let mut added: Vec<StoredTool> = added.into_iter().map(|(stored, _)| stored).collect();
    let touched: Vec<String> = (vanished.iter().cloned())
        .chain(changed.iter().chain(&added).map(|stored| stored.tool.id.clone()))
        .collect();
    if touched.is_empty() {
        return Ok(());
    }
    let revision = unit.write.changed_all(kind::TOOL, upstream_id, &touched).await?;
    for stored in &mut added {
        stored.tool.resource_version = revision;
    }
    tools::insert(unit.write.connection(), &added).await?;
    let moved: Vec<String> = vanished.into_iter().chain(returned).collect();
    tool_rules::changed_users(unit, &moved).await
}

fn shorten(mut notices: Vec<String>) -> Vec<String> {
    let more = notices.len().saturating_sub(NOTICES_MAX);
    notices.truncate(NOTICES_MAX);
    if more > 0 {
        notices.push(format!("and {more} more"));
    }
    notices
}

/// What a catalog changes.
#[derive(Debug, Default)]
struct Plan {
    vanished: Vec<String>,
    /// Ids among `changed` that had vanished.
    returned: Vec<String>,
    changed: Vec<StoredTool>,
    added: Vec<(StoredTool, Claim)>,
    notices: Vec<String>,
}

/// Compares a catalog with what is known. Pure but for fresh ids.
struct Planner<'a> {
    upstream_id: &'a str,
    upstream: &'a UpstreamName,
    now_ms: i64,
    names: Names,
}

impl Planner<'_> {
    fn plan(mut self, known: Vec<StoredTool>, catalog: &[CatalogTool]) -> Plan {
        let mut plan = Plan::default();
        let offered: HashSet<&str> = catalog.iter().map(|tool| tool.name.as_str()).collect();
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
        for tool in catalog {
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
            tool_id: id.clone(),
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
        let loses = |id: &String| claim.unaliased.iter().any(|it| it.tool_id == *id);
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
                tool_id: stored.tool.id.clone(),
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
                self.0.retain(|it| !claim.evicted.iter().any(|out| out.tool_id == it.tool.id));
                let unaliased =
                    |it: &StoredTool| claim.unaliased.iter().any(|out| out.tool_id == it.tool.id);
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
