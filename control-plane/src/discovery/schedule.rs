//! When a catalog is read again, without I/O: every five minutes, sooner after failures and news.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use proto::upstream::{FailureReason, Phase};

use super::leases::Candidate;
use crate::store::discoveries::Known;

/// How old a catalog gets, give or take a fifth.
const PERIOD_MS: i64 = 5 * 60 * 1000;
/// The first repetition after a failure; each further one waits twice as long.
const RETRY_MS: i64 = 5_000;
/// News of one upstream are gathered for so long.
const GATHER_MS: i64 = 250;
/// A discovery that ended so close to the moment an upstream came back has seen it.
const BACK_MS: i64 = 2_000;
/// An upstream that has news all the time is read so often.
const NEWS_MS: i64 = 2_000;
/// So many times it may be read sooner, after a time without news.
const NEWS_BURST: i64 = 4;

/// What is remembered besides what is stored.
#[derive(Debug, Default)]
pub struct Schedule {
    /// Failures in a row.
    failures: HashMap<String, u32>,
    /// When upstreams with news are to be read.
    stale: BTreeMap<String, i64>,
    /// When what they were read for that would be due, had they kept to their pace.
    paced: HashMap<String, i64>,
    /// Upstreams that are down, or were until the given time.
    down: HashMap<String, Option<i64>>,
}

/// What a proxy saw of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Up,
    Down,
}

impl Schedule {
    /// An upstream said that its catalog changed.
    pub fn stale(&mut self, upstream_id: &str, now_ms: i64) {
        let pace = self.paced.get(upstream_id);
        let earliest = pace.map_or(0, |paced| paced - NEWS_BURST * NEWS_MS);
        let due = earliest.max(now_ms + GATHER_MS);
        self.stale.entry(upstream_id.to_owned()).or_insert(due);
    }

    /// An upstream that comes back may offer something else.
    pub fn health(&mut self, upstream_id: &str, health: Health, now_ms: i64) {
        match (health, self.down.get_mut(upstream_id)) {
            (Health::Down, _) => drop(self.down.insert(upstream_id.to_owned(), None)),
            (Health::Up, Some(until)) => *until = Some(until.unwrap_or(now_ms)),
            (Health::Up, None) => {}
        }
    }

    /// Whether an upstream came back a while ago and was not read since. Often
    /// it is a discovery that notices that it is back.
    fn came_back(&mut self, now_ms: i64, known: &Known) -> bool {
        let Some(Some(back)) = self.down.get(&known.upstream_id).copied() else { return false };
        if now_ms < back + BACK_MS {
            return false;
        }
        self.down.remove(&known.upstream_id);
        known.checked_time_ms < back - BACK_MS || known.phase != Phase::Ready
    }

    /// A discovery has ended.
    pub fn found(&mut self, upstream_id: &str, phase: Phase) {
        match phase {
            Phase::Failed => *self.failures.entry(upstream_id.to_owned()).or_default() += 1,
            Phase::Pending | Phase::Ready | Phase::Disabled => {
                self.failures.remove(upstream_id);
            }
        }
    }

    /// Upstreams to be read now; `known` are those for which nothing is under way.
    pub fn due(&mut self, now_ms: i64, known: &[Known], candidates: &[Candidate]) -> Vec<String> {
        let mut due = Vec::new();
        for known in known {
            let id = &known.upstream_id;
            let is_stale = self.stale.get(id).is_some_and(|time| *time <= now_ms);
            if is_stale {
                self.stale.remove(id);
                let paced = self.paced.entry(id.clone()).or_default();
                *paced = now_ms.max(*paced) + NEWS_MS;
            }
            if is_stale || self.came_back(now_ms, known) || self.is_due(now_ms, known, candidates) {
                due.push(id.clone());
            }
        }
        due
    }

    fn is_due(&self, now_ms: i64, known: &Known, candidates: &[Candidate]) -> bool {
        let age = now_ms - known.checked_time_ms;
        match known.phase {
            Phase::Ready => age >= jittered(PERIOD_MS, known),
            Phase::Failed if known.reason == Some(FailureReason::NoProxy) => {
                candidates.iter().any(|it| it.is_stdio_host || !known.is_stdio)
            }
            Phase::Failed => {
                let failures = self.failures.get(&known.upstream_id).copied().unwrap_or(1);
                let wait = RETRY_MS << failures.saturating_sub(1).min(6);
                age >= jittered(wait.min(PERIOD_MS), known)
            }
            // Its first wish is not fulfilled yet, or must not be.
            Phase::Pending | Phase::Disabled => false,
        }
    }
}

/// Between 80 % and 120 %, the same for the same discovery.
fn jittered(time_ms: i64, known: &Known) -> i64 {
    let mut hasher = DefaultHasher::new();
    (&known.upstream_id, known.checked_time_ms).hash(&mut hasher);
    let permille = i64::try_from(hasher.finish() % 401).unwrap_or(0);
    time_ms * (800 + permille) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(phase: Phase, reason: Option<FailureReason>) -> Known {
        Known {
            upstream_id: "u1".to_owned(),
            phase,
            reason,
            checked_time_ms: 1_000_000,
            is_stdio: false,
        }
    }

    fn first_due(schedule: &mut Schedule, known: &Known) -> i64 {
        let due = |now: &i64| !schedule.due(*now, std::slice::from_ref(known), &[]).is_empty();
        (known.checked_time_ms..).step_by(100).find(due).unwrap() - known.checked_time_ms
    }

    #[test]
    fn a_catalog_is_renewed_after_about_five_minutes() {
        let first = first_due(&mut Schedule::default(), &known(Phase::Ready, None));
        assert!((240_000..=360_100).contains(&first), "{first}");
    }

    #[test]
    fn failures_are_repeated_after_five_seconds_and_then_ever_later() {
        let mut schedule = Schedule::default();
        let failed = known(Phase::Failed, Some(FailureReason::Connect));
        let mut last = 0;
        for failures in 1..9 {
            schedule.found("u1", Phase::Failed);
            let first = first_due(&mut schedule, &failed);
            let expected = (5_000 << (failures - 1)).min(PERIOD_MS);
            assert!((expected * 8 / 10..=expected * 12 / 10 + 100).contains(&first), "{first}");
            assert!(first >= last);
            last = first;
        }
        schedule.found("u1", Phase::Ready);
        assert!(first_due(&mut schedule, &failed) <= 6_100);
    }

    #[test]
    fn a_proxy_that_connects_ends_the_wait_for_one() {
        let mut schedule = Schedule::default();
        let failed = [known(Phase::Failed, Some(FailureReason::NoProxy))];
        let proxy = Candidate { proxy_id: "p".to_owned(), is_stdio_host: false };
        assert!(schedule.due(9_000_000, &failed, &[]).is_empty());
        assert_eq!(schedule.due(1_000_001, &failed, &[proxy]), ["u1"]);
    }

    #[test]
    fn an_upstream_that_came_back_is_read_unless_that_is_how_it_was_noticed() {
        let mut schedule = Schedule::default();
        let ready = [known(Phase::Ready, None)];
        schedule.health("u1", Health::Up, 1_000_000);
        assert!(schedule.due(1_010_000, &ready, &[]).is_empty(), "it was never down");
        schedule.health("u1", Health::Down, 1_000_000);
        schedule.health("u1", Health::Up, 1_000_100);
        assert!(schedule.due(1_010_000, &ready, &[]).is_empty(), "it was just read");
        schedule.health("u1", Health::Down, 1_020_000);
        schedule.health("u1", Health::Up, 1_030_000);
        assert_eq!(schedule.due(1_040_000, &ready, &[]), ["u1"]);
        assert!(schedule.due(1_050_000, &ready, &[]).is_empty(), "once");
    }

    #[test]
    fn news_are_gathered() {
        let mut schedule = Schedule::default();
        let ready = [known(Phase::Ready, None)];
        let now = 1_000_000;
        schedule.stale("u1", now);
        schedule.stale("u1", now + 100);
        assert!(schedule.due(now + 200, &ready, &[]).is_empty());
        assert_eq!(schedule.due(now + 250, &ready, &[]), ["u1"]);
    }

    #[test]
    fn few_news_are_read_at_once_and_endless_ones_at_a_pace() {
        let mut schedule = Schedule::default();
        let ready = [known(Phase::Ready, None)];
        let mut read = Vec::new();
        for now in (1_000_000..1_020_000).step_by(50) {
            schedule.stale("u1", now);
            if !schedule.due(now, &ready, &[]).is_empty() {
                read.push(now - 1_000_000);
            }
        }
        assert_eq!(read[..5], [250, 550, 850, 1_150, 1_450], "{read:?}");
        assert!(read[5..].windows(2).all(|pair| pair[1] - pair[0] >= NEWS_MS - 50), "{read:?}");
        assert!(read.len() <= 15, "{read:?}");
    }
}
