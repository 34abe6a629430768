//! What a catalog changes in prompts, resources and templates. Pure but for fresh ids.

use std::collections::{HashMap, HashSet};

use proto::{
    PromptName, UpstreamName,
    entry::{CatalogEntry, Entry, EntryKind},
};

use crate::{
    registry::{
        names::{Names, Presence},
        new_id,
    },
    store::{entries::StoredEntry, tools::NameHolder},
};

/// Longest name, URI or template that is stored, in bytes: databases index it.
const ORIGINAL_MAX: usize = 2048;

/// What a catalog changes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Prompts that keep their row for their name.
    pub(super) vanished: Vec<(EntryKind, String)>,
    /// Others that have nothing to keep, and vanished prompts that make room.
    pub(super) dropped: Vec<(EntryKind, String)>,
    pub(super) changed: Vec<StoredEntry>,
    pub(super) added: Vec<StoredEntry>,
    pub(super) notices: Vec<String>,
}

impl Plan {
    /// Ids of one kind that proxies must be told of anew.
    pub(super) fn touched(&self, kind: EntryKind) -> Vec<String> {
        let lost = self.vanished.iter().chain(&self.dropped);
        let lost = lost.filter(|(lost, _)| *lost == kind).map(|(_, id)| id);
        let here = self.changed.iter().chain(&self.added).map(|stored| &stored.entry);
        let here = here.filter(|entry| entry.offered.kind == kind).map(|entry| &entry.id);
        lost.chain(here).cloned().collect()
    }
}

/// Compares a catalog with what is known.
pub(super) struct Planner<'a> {
    pub(super) upstream_id: &'a str,
    pub(super) upstream: &'a UpstreamName,
    pub(super) now_ms: i64,
    /// Of prompts.
    pub(super) names: Names,
}

impl Planner<'_> {
    pub(super) fn plan(mut self, known: Vec<StoredEntry>, catalog: &[CatalogEntry]) -> Plan {
        let mut plan = Plan::default();
        let offered: HashSet<(EntryKind, &str)> =
            catalog.iter().map(|it| (it.kind, it.original.as_str())).collect();
        let mut stored_by_key = HashMap::new();
        for stored in known {
            let CatalogEntry { kind, original, .. } = &stored.entry.offered;
            let (kind, is_offered) = (*kind, offered.contains(&(*kind, original.as_str())));
            let name = stored.entry.name.as_ref();
            match name {
                Some(name) if is_offered => self.names.set_presence(name.as_str(), Presence::Here),
                Some(name) => self.names.set_presence(name.as_str(), Presence::Gone),
                None => (),
            }
            if !is_offered && !stored.is_gone {
                let lost = (kind, stored.entry.id.clone());
                if name.is_some() { plan.vanished.push(lost) } else { plan.dropped.push(lost) }
            }
            stored_by_key.insert((kind, original.clone()), stored);
        }
        plan.vanished.sort();
        plan.dropped.sort();
        let mut seen = HashSet::new();
        for entry in catalog {
            let what = entry.kind.as_str();
            if !seen.insert((entry.kind, entry.original.as_str())) {
                let original = &entry.original;
                plan.notices.push(format!("{what} `{original}` is offered twice: the first stays"));
                continue;
            }
            if entry.original.len() > ORIGINAL_MAX {
                let notice = format!("a {what} is left out: longer than {ORIGINAL_MAX} bytes");
                plan.notices.push(notice);
                continue;
            }
            match stored_by_key.remove(&(entry.kind, entry.original.clone())) {
                Some(stored) => self.compare(&mut plan, stored, entry),
                None => self.add(&mut plan, entry),
            }
        }
        plan
    }

    fn compare(&self, plan: &mut Plan, stored: StoredEntry, offered: &CatalogEntry) {
        let StoredEntry { entry, is_gone } = stored;
        if entry.offered == *offered && !is_gone {
            return;
        }
        let entry = Entry { offered: offered.clone(), update_time_ms: self.now_ms, ..entry };
        plan.changed.push(StoredEntry { entry, is_gone: false });
    }

    fn add(&mut self, plan: &mut Plan, offered: &CatalogEntry) {
        let id = new_id();
        let name = match offered.kind {
            EntryKind::Resource | EntryKind::ResourceTemplate => None,
            EntryKind::Prompt => {
                let name = PromptName::exposed(self.upstream, &offered.original);
                let wanted = NameHolder {
                    id: id.clone(),
                    name: name.to_string(),
                    alias: None,
                    upstream_id: Some(self.upstream_id.to_owned()),
                    is_gone: false,
                };
                let Ok(claim) = self.names.claim(wanted) else {
                    let original = &offered.original;
                    plan.notices.push(format!(
                        "prompt `{original}` is left out: another prompt is named `{name}`"
                    ));
                    return;
                };
                let evicted = claim.evicted.into_iter().map(|it| (EntryKind::Prompt, it.id));
                plan.dropped.extend(evicted);
                Some(name)
            }
        };
        let entry = Entry {
            id,
            upstream_id: self.upstream_id.to_owned(),
            upstream: self.upstream.clone(),
            name,
            offered: offered.clone(),
            resource_version: 0,
            create_time_ms: self.now_ms,
            update_time_ms: self.now_ms,
        };
        plan.added.push(StoredEntry { entry, is_gone: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(kind: EntryKind, original: &str) -> CatalogEntry {
        CatalogEntry {
            kind,
            original: original.to_owned(),
            definition: "{}".to_owned(),
            needs_client_capabilities: vec![],
        }
    }

    fn plan(upstream: &str, known: &[StoredEntry], catalog: &[CatalogEntry]) -> Plan {
        let holders = known.iter().filter_map(|stored| {
            Some(NameHolder {
                id: stored.entry.id.clone(),
                name: stored.entry.name.as_ref()?.to_string(),
                alias: None,
                upstream_id: Some(stored.entry.upstream_id.clone()),
                is_gone: stored.is_gone,
            })
        });
        let own = known.iter().filter(|it| it.entry.upstream_id == upstream).cloned().collect();
        let name: UpstreamName = upstream.parse().unwrap();
        let names = Names::new(holders.collect());
        Planner { upstream_id: upstream, upstream: &name, now_ms: 1, names }.plan(own, catalog)
    }

    #[test]
    fn a_uri_and_a_name_are_no_namesakes() {
        let catalog = EntryKind::ALL.map(|kind| offered(kind, "x"));
        let first = plan("u", &[], &catalog);
        let names: Vec<_> =
            first.added.iter().map(|it| it.entry.name.as_ref().map(AsRef::as_ref)).collect();
        assert_eq!(names, [Some("u-x"), None, None]);
        let again = plan("u", &first.added, &catalog);
        assert!(again.added.is_empty() && again.changed.is_empty() && again.dropped.is_empty());
    }

    #[test]
    fn a_prompt_keeps_its_name_while_it_is_gone_and_others_keep_nothing() {
        let first = plan("u", &[], &EntryKind::ALL.map(|kind| offered(kind, "x")));
        let gone = plan("u", &first.added, &[]);
        assert_eq!((gone.vanished.len(), gone.dropped.len()), (1, 2));
        let mut known = first.added;
        known.truncate(1);
        known[0].is_gone = true;
        let back = plan("u", &known, &[offered(EntryKind::Prompt, "x")]);
        assert_eq!(back.changed[0].entry.id, known[0].entry.id);
    }

    #[test]
    fn the_first_prompt_of_a_name_stays_until_it_is_gone() {
        let mut known = plan("a", &[], &[offered(EntryKind::Prompt, "b-c")]).added;
        let late = plan("a-b", &known, &[offered(EntryKind::Prompt, "c")]);
        let expected = "prompt `c` is left out: another prompt is named `a-b-c`";
        assert_eq!((late.added.len(), late.notices.as_slice()), (0, &[expected.to_owned()][..]));
        known[0].is_gone = true;
        let taken = plan("a-b", &known, &[offered(EntryKind::Prompt, "c")]);
        assert_eq!(taken.dropped, [(EntryKind::Prompt, known[0].entry.id.clone())]);
    }

    #[test]
    fn doubles_and_monsters_are_reported() {
        let monster = "x".repeat(ORIGINAL_MAX + 1);
        let resource = |original: &str| offered(EntryKind::Resource, original);
        let plan = plan("u", &[], &[resource("a"), resource("a"), resource(&monster)]);
        assert_eq!((plan.added.len(), plan.notices.len()), (1, 2));
    }
}
