//! Catalogs as they were discovered: wishes go out, results come in.

use proto::{
    Catalog, CatalogEntry, EntryKind,
    resource::kind,
    upstream::{FailureReason, Upstream},
};

use super::{Registry, names::Names, tools as tool_rules, unit::Unit};
use crate::{
    caller::Caller,
    error::Error,
    store::{
        discoveries::{self, Facts, WantedDiscovery},
        entries as entry_store,
        tools::{self, StoredTool},
        upstreams::{self, StoredUpstream},
    },
};
use plan::{Plan, Planner};

mod entries;
mod plan;

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

    /// Stores the result of a discovery. A failure keeps the old catalog, which proxies do not
    /// list once the upstream turns out to speak no version of ours; a
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
                    if reason == FailureReason::Incompatible && facts.era.is_some() {
                        discoveries::forget_version(connection, upstream_id).await?;
                        unit.write.changed(kind::UPSTREAM, "", upstream_id).await?;
                    }
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
    let mut notices = plan.notices.clone();
    carry_out(unit, upstream_id, plan).await?;
    notices.extend(store_entries(unit, &upstream, &catalog.entries).await?);
    let notices = shorten(notices);
    let now = Facts {
        era: Some(catalog.era.as_str().to_owned()),
        protocol_version: catalog.protocol_version.clone(),
        instructions: catalog.instructions.clone(),
        capabilities: catalog.capabilities.clone(),
    };
    if now != *facts {
        unit.write.changed(kind::UPSTREAM, "", upstream_id).await?;
    }
    let now_ms = unit.now_ms;
    let connection = unit.write.connection();
    discoveries::succeed(connection, upstream_id, &catalog, &notices, now_ms).await?;
    Ok(())
}

/// Stores prompts, resources and templates; gives the notices about them.
async fn store_entries(
    unit: &mut Unit<'_>,
    upstream: &Upstream,
    catalog: &[CatalogEntry],
) -> Result<Vec<String>, Error> {
    let connection = unit.write.connection();
    let known = entry_store::of_upstream(connection, &upstream.id).await?;
    let names = Names::new(entry_store::all_holders(connection).await?);
    let (upstream_id, now_ms) = (upstream.id.as_str(), unit.now_ms);
    let planner = entries::Planner { upstream_id, upstream: &upstream.name, now_ms, names };
    let mut plan = planner.plan(known, catalog);
    let connection = unit.write.connection();
    for (_, id) in &plan.vanished {
        entry_store::set_gone(connection, id, now_ms).await?;
    }
    for (_, id) in &plan.dropped {
        entry_store::delete(connection, id).await?;
    }
    for stored in &plan.changed {
        entry_store::update(connection, stored).await?;
    }
    for kind in EntryKind::ALL {
        let touched = plan.touched(kind);
        if touched.is_empty() {
            continue;
        }
        let revision = unit.write.changed_all(kind.as_str(), upstream_id, &touched).await?;
        for stored in plan.added.iter_mut().filter(|it| it.entry.offered.kind == kind) {
            stored.entry.resource_version = revision;
        }
    }
    entry_store::insert(unit.write.connection(), &plan.added).await?;
    Ok(plan.notices)
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
