//! How much of everything one request, one principal and the whole proxy may use.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use dashmap::DashMap;

/// Limits of the edge (reliability §4.8, as the design changes it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub body_max_bytes: usize,
    pub header_max_bytes: usize,
    pub header_max_count: usize,
    pub url_max_bytes: usize,
    /// Requests of one principal that may run at the same time.
    pub principal_in_flight_max: usize,
    /// Requests that may run at the same time in the whole proxy.
    pub in_flight_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_max_bytes: 16 * 1024 * 1024,
            header_max_bytes: 32 * 1024,
            header_max_count: 100,
            url_max_bytes: 8 * 1024,
            principal_in_flight_max: 1000,
            in_flight_max: 50_000,
        }
    }
}

/// Why a request has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("too many requests of this principal are running: wait for some to end")]
    Principal,
    #[error("the proxy is at its limit of running requests: try again")]
    Proxy,
}

/// Counts running requests. Nobody waits here: there is room or there is not.
#[derive(Debug)]
pub struct Limiter {
    principal_max: usize,
    max: usize,
    running: AtomicUsize,
    principals: DashMap<Arc<str>, Arc<AtomicUsize>, ahash::RandomState>,
}

/// A running request; its end makes room.
#[derive(Debug)]
pub struct Permit {
    limiter: Arc<Limiter>,
    principal: Option<(Arc<str>, Arc<AtomicUsize>)>,
}

impl Limiter {
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            principal_max: limits.principal_in_flight_max,
            max: limits.in_flight_max,
            running: AtomicUsize::new(0),
            principals: DashMap::default(),
        })
    }

    /// Room for one more request. `subject` is `None` for callers that are exempt from the
    /// cap per principal (loopback and trusted proxies).
    pub fn enter(self: &Arc<Self>, subject: Option<&Arc<str>>) -> Result<Permit, LimitError> {
        let mut permit = Permit { limiter: Arc::clone(self), principal: None };
        if self.running.fetch_add(1, Ordering::AcqRel) >= self.max {
            return Err(LimitError::Proxy);
        }
        let Some(subject) = subject else {
            return Ok(permit);
        };
        // Counted under the shard's lock, so that a permit that leaves cannot remove the
        // counter in between.
        let count = |counter: &Arc<AtomicUsize>| {
            (Arc::clone(counter), counter.fetch_add(1, Ordering::AcqRel))
        };
        let known = self.principals.get(subject).map(|counter| count(&counter));
        let (counter, before) = known
            .unwrap_or_else(|| count(&self.principals.entry(Arc::clone(subject)).or_default()));
        permit.principal = Some((Arc::clone(subject), counter));
        if before >= self.principal_max {
            return Err(LimitError::Principal);
        }
        Ok(permit)
    }

    /// Requests that run now.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.running.fetch_sub(1, Ordering::AcqRel);
        let Some((subject, counter)) = self.principal.take() else { return };
        if counter.fetch_sub(1, Ordering::AcqRel) == 1 {
            let is_unused =
                |_: &Arc<str>, counter: &Arc<AtomicUsize>| counter.load(Ordering::Acquire) == 0;
            self.limiter.principals.remove_if(&subject, is_unused);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> Arc<Limiter> {
        let limits = Limits { principal_in_flight_max: 2, in_flight_max: 3, ..Default::default() };
        Limiter::new(&limits)
    }

    #[test]
    fn a_principal_has_its_own_cap() {
        let (limiter, alice, bob) = (limiter(), Arc::from("alice"), Arc::from("bob"));
        let one = limiter.enter(Some(&alice)).unwrap();
        let two = limiter.enter(Some(&alice)).unwrap();
        assert_eq!(limiter.enter(Some(&alice)).unwrap_err(), LimitError::Principal);
        let three = limiter.enter(Some(&bob)).unwrap();
        assert_eq!(limiter.enter(None).unwrap_err(), LimitError::Proxy);
        drop((one, two, three));
        assert_eq!(limiter.running(), 0);
        assert!(limiter.principals.is_empty());
    }

    #[test]
    fn counts_are_right_under_threads() {
        let limiter = Limiter::new(&Limits::default());
        let subject: Arc<str> = Arc::from("alice");
        let enter_often = || (0..2000).for_each(|_| drop(limiter.enter(Some(&subject)).unwrap()));
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(enter_often))));
        assert_eq!(limiter.running(), 0);
        assert!(limiter.principals.is_empty());
    }
}
