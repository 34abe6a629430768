//! Names of tools: who has one, and who gets it. Pure.
//!
//! First come stays. A name beats an alias; a tool that is gone keeps its name
//! only until somebody else wants it.

use std::collections::HashMap;

use proto::name::slug;

use crate::store::tools::NameHolder;

/// Who has which name.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_name: HashMap<String, NameHolder>,
    by_alias: HashMap<String, NameHolder>,
}

/// What giving somebody a name takes from others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Claim {
    /// Vanished tools whose row makes room.
    pub(super) evicted: Vec<NameHolder>,
    /// Tools that lose their alias.
    pub(super) unaliased: Vec<NameHolder>,
    /// The alias that was free.
    pub(super) alias: Option<String>,
}

/// Whether a tool is in its catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    Gone,
}

/// ContextForge's name of an authored tool, where it differs.
pub(super) fn authored_alias(name: &str) -> Option<String> {
    Some(slug(name)).filter(|alias| !alias.is_empty() && alias != name)
}

/// ContextForge's name of an upstream's tool, where it differs.
pub(super) fn discovered_alias(upstream: &str, original: &str, name: &str) -> Option<String> {
    let (upstream, tool) = (slug(upstream), slug(original));
    let usable = !upstream.is_empty() && !tool.is_empty();
    usable.then(|| format!("{upstream}-{tool}")).filter(|alias| alias != name)
}

impl Names {
    pub(super) fn new(holders: Vec<NameHolder>) -> Self {
        let mut names = Self::default();
        for holder in holders {
            names.add(holder);
        }
        names
    }

    fn add(&mut self, holder: NameHolder) {
        if let Some(alias) = &holder.alias {
            self.by_alias.insert(alias.clone(), holder.clone());
        }
        self.by_name.insert(holder.name.clone(), holder);
    }

    /// The tool vanished from its catalog, or came back.
    pub(super) fn set_presence(&mut self, name: &str, presence: Presence) {
        let is_gone = presence == Presence::Gone;
        let Some(holder) = self.by_name.get_mut(name) else { return };
        holder.is_gone = is_gone;
        let alias = holder.alias.as_ref().and_then(|alias| self.by_alias.get_mut(alias));
        if let Some(holder) = alias {
            holder.is_gone = is_gone;
        }
    }

    /// Gives `wanted` its name, and its alias if that is free; or says who has the name.
    pub(super) fn claim(&mut self, mut wanted: NameHolder) -> Result<Claim, NameHolder> {
        let mut claim = Claim::default();
        match self.by_name.get(&wanted.name) {
            Some(holder) if !holder.is_gone => return Err(holder.clone()),
            Some(holder) => claim.evicted.push(holder.clone()),
            None => (),
        }
        if let Some(evicted) = self.by_name.remove(&wanted.name)
            && let Some(alias) = evicted.alias
        {
            self.by_alias.remove(&alias);
        }
        claim.unaliased.extend(self.take_alias(&wanted.name));
        wanted.alias = wanted.alias.filter(|alias| !self.by_name.contains_key(alias));
        if let Some(alias) = &wanted.alias {
            match self.by_alias.get(alias) {
                Some(holder) if !holder.is_gone => wanted.alias = None,
                Some(_) => claim.unaliased.extend(self.take_alias(&alias.clone())),
                None => (),
            }
        }
        claim.alias.clone_from(&wanted.alias);
        self.add(wanted);
        Ok(claim)
    }

    fn take_alias(&mut self, alias: &str) -> Option<NameHolder> {
        let holder = self.by_alias.remove(alias)?;
        if let Some(named) = self.by_name.get_mut(&holder.name) {
            named.alias = None;
        }
        Some(holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str, alias: Option<&str>) -> NameHolder {
        NameHolder {
            id: format!("id-of-{name}"),
            name: name.to_owned(),
            alias: alias.map(str::to_owned),
            upstream_id: None,
            is_gone: false,
        }
    }

    #[test]
    fn first_come_stays() {
        let mut names = Names::new(vec![holder("a", None)]);
        assert_eq!(names.claim(holder("a", None)).unwrap_err().id, "id-of-a");
        assert_eq!(names.claim(holder("b", None)), Ok(Claim::default()));
        assert!(names.claim(holder("b", None)).is_err());
    }

    #[test]
    fn a_name_beats_an_alias() {
        let mut names = Names::new(vec![holder("clock_tool", Some("clock-tool"))]);
        let claim = names.claim(holder("clock-tool", None)).unwrap();
        assert_eq!(claim.unaliased.len(), 1);
        let claim = names.claim(holder("Clock_Tool", Some("clock-tool"))).unwrap();
        assert_eq!(claim.alias, None);
    }

    #[test]
    fn the_first_alias_stays_too() {
        let mut names = Names::new(vec![holder("a_b", Some("a-b"))]);
        assert_eq!(names.claim(holder("A_b", Some("a-b"))).unwrap().alias, None);
    }

    #[test]
    fn the_name_of_a_vanished_tool_can_be_taken() {
        let mut names = Names::new(vec![holder("a_b", Some("a-b"))]);
        names.set_presence("a_b", Presence::Gone);
        let claim = names.claim(holder("a_b", Some("a-b"))).unwrap();
        assert_eq!(claim.evicted.len(), 1);
        assert_eq!(claim.alias.as_deref(), Some("a-b"));
        let mut names = Names::new(vec![holder("a_b", Some("a-b"))]);
        names.set_presence("a_b", Presence::Gone);
        let claim = names.claim(holder("A_b", Some("a-b"))).unwrap();
        assert_eq!((claim.unaliased.len(), claim.alias.as_deref()), (1, Some("a-b")));
    }

    #[test]
    fn aliases_are_contextforges_names() {
        assert_eq!(authored_alias("clock_tool").as_deref(), Some("clock-tool"));
        assert_eq!(authored_alias("clock-tool"), None);
        let alias = discovered_alias("fast_time", "get_system_time", "fast_time-get_system_time");
        assert_eq!(alias.as_deref(), Some("fast-time-get-system-time"));
        assert_eq!(discovered_alias("time", "now", "time-now"), None);
        assert_eq!(discovered_alias("time", "größe!", "x").as_deref(), Some("time-gr-e"));
    }
}
