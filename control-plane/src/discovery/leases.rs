//! Who is asked to read which catalog, without I/O: one proxy at a time, for a bounded time.

use std::collections::{BTreeMap, BTreeSet};

use proto::{upstream::FailureReason, wire};

use crate::store::discoveries::WantedDiscovery;

/// How long a proxy has, in milliseconds.
pub const LEASE_MS: i64 = 45_000;
/// What it is told: it must answer before the lease ends.
const DEADLINE_MS: u32 = 40_000;
/// How long a wish waits for a proxy that could fulfil it.
pub const NO_PROXY_MS: i64 = 10_000;
/// How long an answer takes to be stored at most.
const STORED_MS: i64 = 10_000;
/// Proxies that may stay silent before the wish has failed.
const ATTEMPTS: u32 = 3;
/// Leases that one proxy has at a time.
const PER_PROXY: usize = 32;

/// A proxy that could be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub proxy_id: String,
    pub is_stdio_host: bool,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Discover { proxy_id: String, directive: wire::Discover },
    Fail { wanted: WantedDiscovery, reason: FailureReason, message: &'static str },
}

/// Every wish that somebody works on, or that waits for a proxy.
#[derive(Debug, Default)]
pub struct Leases {
    wishes: BTreeMap<String, Wish>,
    numbers: u64,
}

#[derive(Debug)]
struct Wish {
    wanted: WantedDiscovery,
    lease: Option<Lease>,
    /// Since when it waits for a proxy that could fulfil it.
    waiting_since_ms: i64,
    /// Not before this is it given out again.
    not_before_ms: i64,
    attempts: u32,
    /// Proxies that stayed silent: others come first.
    silent: BTreeSet<String>,
}

#[derive(Debug)]
struct Lease {
    id: String,
    proxy_id: String,
    end_ms: i64,
}

impl Leases {
    /// Looks at all wishes and says what to do about them: first who is to be asked, since a
    /// failure has to be stored, which may fail in its turn.
    pub fn look(
        &mut self,
        now_ms: i64,
        wanted: &[WantedDiscovery],
        candidates: &[Candidate],
    ) -> Vec<Action> {
        let ids: BTreeSet<&str> = wanted.iter().map(|it| it.upstream_id.as_str()).collect();
        self.wishes.retain(|id, _| ids.contains(id.as_str()));
        let mut load = self.load(candidates);
        let mut actions = Vec::new();
        for wanted in wanted {
            let number = self.numbers;
            let wish = self
                .wishes
                .entry(wanted.upstream_id.clone())
                .or_insert_with(|| Wish::new(wanted.clone(), now_ms));
            wish.update(wanted, now_ms);
            let action = wish.look(now_ms, candidates, &mut load, number);
            if matches!(action, Some(Action::Discover { .. })) {
                self.numbers += 1;
            }
            actions.extend(action);
        }
        actions.sort_by_key(|action| matches!(action, Action::Fail { .. }));
        actions
    }

    /// Leases that each candidate has.
    fn load(&self, candidates: &[Candidate]) -> BTreeMap<String, usize> {
        let leased = |id: &str| {
            let leases = self.wishes.values().filter_map(|wish| wish.lease.as_ref());
            leases.filter(|lease| lease.proxy_id == id).count()
        };
        candidates.iter().map(|it| (it.proxy_id.clone(), leased(&it.proxy_id))).collect()
    }

    /// A proxy has answered: the wish that it has fulfilled, if its lease still counts. Until the
    /// answer is stored the wish is still there, and must not be given out again.
    pub fn finished(
        &mut self,
        lease_id: &str,
        proxy_id: &str,
        now_ms: i64,
    ) -> Option<WantedDiscovery> {
        let is_it = |lease: &Lease| lease.id == lease_id && lease.proxy_id == proxy_id;
        let wish = self.wishes.values_mut().find(|wish| wish.lease.as_ref().is_some_and(is_it))?;
        wish.lease = None;
        wish.not_before_ms = now_ms + STORED_MS;
        Some(wish.wanted.clone())
    }

    /// The stream of a proxy has ended: what it had is given to others at once.
    pub fn lost(&mut self, proxy_id: &str) {
        for wish in self.wishes.values_mut() {
            wish.lease.take_if(|lease| lease.proxy_id == proxy_id);
        }
    }
}

impl Wish {
    fn new(wanted: WantedDiscovery, now_ms: i64) -> Self {
        Self {
            wanted,
            lease: None,
            waiting_since_ms: now_ms,
            not_before_ms: 0,
            attempts: 0,
            silent: BTreeSet::new(),
        }
    }

    /// A newer wish replaces one that nobody works on; a new definition of the
    /// upstream also voids the work.
    fn update(&mut self, wanted: &WantedDiscovery, now_ms: i64) {
        let is_redefined = self.wanted.revision < wanted.revision;
        if is_redefined || (self.lease.is_none() && self.wanted.wanted < wanted.wanted) {
            *self = Self::new(wanted.clone(), now_ms);
        }
    }

    fn look(
        &mut self,
        now_ms: i64,
        candidates: &[Candidate],
        load: &mut BTreeMap<String, usize>,
        number: u64,
    ) -> Option<Action> {
        if let Some(lease) = self.lease.take_if(|lease| lease.end_ms <= now_ms) {
            self.silent.insert(lease.proxy_id);
            self.attempts += 1;
            self.not_before_ms = now_ms + (500 << self.attempts.min(6));
            self.waiting_since_ms = now_ms;
        }
        if self.lease.is_some() || now_ms < self.not_before_ms {
            return None;
        }
        if self.attempts >= ATTEMPTS {
            return Some(self.fail(FailureReason::Timeout, "no proxy answered in time"));
        }
        let able = || candidates.iter().filter(|it| it.is_stdio_host || !self.wanted.is_stdio);
        if able().next().is_none() {
            let waited = now_ms - self.waiting_since_ms;
            let message = if self.wanted.is_stdio {
                "no proxy that may run commands is connected: start one with --allow-stdio"
            } else {
                "no proxy is connected"
            };
            return (waited >= NO_PROXY_MS).then(|| self.fail(FailureReason::NoProxy, message));
        }
        let free = able().filter(|it| load.get(&it.proxy_id).is_none_or(|n| *n < PER_PROXY));
        let chosen = free.min_by_key(|it| {
            (self.silent.contains(&it.proxy_id), load.get(&it.proxy_id).copied())
        })?;
        let proxy_id = chosen.proxy_id.clone();
        *load.entry(proxy_id.clone()).or_default() += 1;
        let id = format!("{}-{}-{number}", self.wanted.upstream_id, self.wanted.wanted);
        let directive = wire::Discover {
            lease_id: id.clone(),
            upstream_id: self.wanted.upstream_id.clone(),
            revision: self.wanted.revision,
            deadline_ms: DEADLINE_MS,
        };
        self.lease = Some(Lease { id, proxy_id: proxy_id.clone(), end_ms: now_ms + LEASE_MS });
        Some(Action::Discover { proxy_id, directive })
    }

    /// The wish is fulfilled with a failure, which is said again until it is stored.
    fn fail(&self, reason: FailureReason, message: &'static str) -> Action {
        let wanted = self.wanted.clone();
        Action::Fail { wanted, reason, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(wanted: u64) -> WantedDiscovery {
        WantedDiscovery { upstream_id: "u1".to_owned(), wanted, revision: 7, is_stdio: false }
    }

    fn proxy(id: &str) -> Candidate {
        Candidate { proxy_id: id.to_owned(), is_stdio_host: false }
    }

    /// The proxy asked and the lease, if that is all that is to be done.
    fn asked(actions: &[Action]) -> (String, String) {
        match actions {
            [Action::Discover { proxy_id, directive }] => {
                (proxy_id.clone(), directive.lease_id.clone())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_proxy_is_asked_and_its_answer_counts_once() {
        let mut leases = Leases::default();
        let (proxy_id, lease) = asked(&leases.look(0, &[wanted(1)], &[proxy("a"), proxy("b")]));
        assert!(leases.look(1, &[wanted(1)], &[proxy("a"), proxy("b")]).is_empty());
        assert_eq!(leases.finished(&lease, "other", 2), None);
        assert_eq!(leases.finished(&lease, &proxy_id, 2), Some(wanted(1)));
        assert_eq!(leases.finished(&lease, &proxy_id, 2), None);
    }

    #[test]
    fn what_was_answered_is_asked_again_only_if_it_is_not_stored_or_wanted_anew() {
        let mut leases = Leases::default();
        let proxies = [proxy("a")];
        let (_, lease) = asked(&leases.look(0, &[wanted(1)], &proxies));
        leases.finished(&lease, "a", 10).unwrap();
        // Its answer is on its way into the store.
        assert!(leases.look(11, &[wanted(1)], &proxies).is_empty());
        let (_, lease) = asked(&leases.look(12, &[wanted(2)], &proxies));
        leases.finished(&lease, "a", 20).unwrap();
        let (_, lease) = asked(&leases.look(20 + STORED_MS, &[wanted(2)], &proxies));
        leases.finished(&lease, "a", 40_000).unwrap();
        assert!(leases.look(40_001, &[], &proxies).is_empty());
        asked(&leases.look(40_002, &[wanted(3)], &proxies));
    }

    #[test]
    fn a_silent_proxy_gives_way_to_another_and_three_make_a_failure() {
        let mut leases = Leases::default();
        let proxies = [proxy("a"), proxy("b"), proxy("c")];
        let mut seen = BTreeSet::new();
        let mut now = 0;
        for _ in 0..3 {
            let (proxy_id, _) = asked(&leases.look(now, &[wanted(1)], &proxies));
            assert!(seen.insert(proxy_id));
            now += LEASE_MS;
            assert!(leases.look(now, &[wanted(1)], &proxies).is_empty(), "not at once again");
            now += 10_000;
        }
        let actions = leases.look(now, &[wanted(1)], &proxies);
        assert!(matches!(actions[..], [Action::Fail { reason: FailureReason::Timeout, .. }]));
    }

    #[test]
    fn a_wish_waits_ten_seconds_for_a_proxy_that_can() {
        let mut leases = Leases::default();
        let wish = WantedDiscovery { is_stdio: true, ..wanted(1) };
        assert!(leases.look(0, std::slice::from_ref(&wish), &[proxy("edge")]).is_empty());
        let actions = leases.look(NO_PROXY_MS, std::slice::from_ref(&wish), &[proxy("edge")]);
        assert!(matches!(actions[..], [Action::Fail { reason: FailureReason::NoProxy, .. }]));
        let host = Candidate { is_stdio_host: true, ..proxy("host") };
        let (proxy_id, _) = asked(&leases.look(NO_PROXY_MS + 1, &[wish], &[proxy("edge"), host]));
        assert_eq!(proxy_id, "host");
    }

    #[test]
    fn who_is_asked_does_not_wait_until_failures_are_stored() {
        let mut leases = Leases::default();
        let here = WantedDiscovery { upstream_id: "u2".to_owned(), ..wanted(1) };
        let nowhere = WantedDiscovery { is_stdio: true, ..wanted(1) };
        assert!(leases.look(0, std::slice::from_ref(&nowhere), &[proxy("a")]).is_empty());
        for now in [NO_PROXY_MS, NO_PROXY_MS + 1] {
            let actions = leases.look(now, &[nowhere.clone(), here.clone()], &[proxy("a")]);
            let [first @ .., Action::Fail { wanted, .. }] = &*actions else {
                panic!("{actions:?}");
            };
            assert_eq!(*wanted, nowhere);
            assert_eq!(first.is_empty(), now > NO_PROXY_MS, "{actions:?}");
        }
    }

    #[test]
    fn a_redefined_upstream_voids_the_lease_and_a_lost_proxy_frees_it() {
        let mut leases = Leases::default();
        let (_, old) = asked(&leases.look(0, &[wanted(1)], &[proxy("a")]));
        assert!(leases.look(1, &[wanted(2)], &[proxy("a")]).is_empty(), "work goes on");
        let redefined = WantedDiscovery { revision: 8, ..wanted(3) };
        let (_, new) = asked(&leases.look(2, std::slice::from_ref(&redefined), &[proxy("a")]));
        assert_eq!(leases.finished(&old, "a", 3), None);
        leases.lost("a");
        assert_eq!(leases.finished(&new, "a", 3), None);
        asked(&leases.look(3, &[redefined], &[proxy("b")]));
    }
}
