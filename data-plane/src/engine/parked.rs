//! Calls of modern clients that wait at their upstreams for the clients' answers: on this proxy
//! alone, for a while, each to be taken up once.

use std::{
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use dashmap::DashMap;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::bridge::Bridge;
use crate::{
    exchange::{Heard, Heards},
    limit::{LimitError, Limiter, Limits, Permit},
    upstream::Event,
};

/// How long a call waits for its client at most.
pub(crate) const PATIENCE: Duration = Duration::from_mins(10);
/// Calls that may wait at the same time, of one principal and at all.
const PRINCIPAL_MAX: usize = 16;
const MAX: usize = 10_000;
/// Calls that were taken up and are remembered, so that a second try is told what it is.
const SPENT_MAX: usize = 100_000;

/// A parked call, unguessable.
pub(crate) type ParkedId = [u8; 16];

/// All parked calls of this proxy.
#[derive(Debug)]
pub(crate) struct ParkedCalls {
    proxy_id: Box<str>,
    patience: Duration,
    calls: DashMap<ParkedId, Arc<Parked>>,
    /// What was taken up, and until when that matters.
    spent: DashMap<ParkedId, Instant>,
    places: Arc<Limiter>,
}

/// A call at its upstream, and what it has asked.
pub(crate) struct Held {
    pub(crate) events: Heards,
    pub(crate) bridge: Box<Bridge>,
}

/// Why a call cannot be taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeError {
    /// Somebody was faster.
    Spent,
    /// It is not here, any more or at all.
    Lost,
}

struct Parked {
    held: Mutex<Option<Waiting>>,
    keeper: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// A call while its client thinks.
struct Waiting {
    held: Held,
    /// The last thing that the upstream said, if it did not wait.
    last: Option<Heard>,
    _place: Permit,
}

impl std::fmt::Debug for Parked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Parked")
    }
}

impl ParkedCalls {
    /// Calls wait for their clients no longer than `patience`.
    pub(crate) fn new(proxy_id: &str, patience: Duration) -> Self {
        let limits = Limits {
            principal_in_flight_max: PRINCIPAL_MAX,
            in_flight_max: MAX,
            ..Limits::default()
        };
        Self {
            proxy_id: proxy_id.into(),
            patience: patience.min(PATIENCE),
            calls: DashMap::new(),
            spent: DashMap::new(),
            places: Limiter::new(&limits),
        }
    }

    /// How many calls wait.
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// The proxy that these calls wait at.
    pub(crate) fn proxy_id(&self) -> &str {
        &self.proxy_id
    }

    /// Keeps a call for its client, `subject`, until it is taken up or its time is over; then
    /// the upstream is told that nobody answers.
    pub(crate) fn park(
        self: &Arc<Self>,
        subject: &Arc<str>,
        held: Held,
    ) -> Result<ParkedId, LimitError> {
        let place = self.places.enter(Some(subject))?;
        let id = rand::random();
        let waiting = Waiting { held, last: None, _place: place };
        let parked = Arc::new(Parked { held: Mutex::new(Some(waiting)), keeper: Mutex::default() });
        let keeper = keep((id, self.patience), Arc::downgrade(self), Arc::downgrade(&parked));
        *parked.keeper.lock() = Some(AbortOnDropHandle::new(tokio::spawn(keeper)));
        self.calls.insert(id, parked);
        Ok(id)
    }

    /// Takes a call up; nobody can do so again.
    pub(crate) fn take(&self, id: &ParkedId) -> Result<Held, TakeError> {
        let taken = self.calls.remove(id).and_then(|(_, parked)| parked.held.lock().take());
        let Some(Waiting { mut held, last, _place }) = taken else {
            let is_spent = self.spent.contains_key(id);
            return Err(if is_spent { TakeError::Spent } else { TakeError::Lost });
        };
        if self.spent.len() < SPENT_MAX {
            self.spent.insert(*id, Instant::now() + PATIENCE);
        }
        if let Some(last) = last {
            held.events = futures_util::stream::iter([last]).boxed();
        }
        Ok(held)
    }

    /// Gives all calls up: the proxy ends.
    pub(crate) fn end(&self) {
        self.calls.clear();
    }

    /// Forgets what nobody asks for any more.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.spent.retain(|_, until| *until > now);
    }
}

impl Parked {
    /// Hears the upstream while nobody else does. Ready once somebody has taken the call.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut held = self.held.lock();
        match held.as_mut() {
            Some(waiting) => {
                waiting.hear(cx);
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Waiting {
    fn hear(&mut self, cx: &mut Context<'_>) {
        while self.last.is_none() {
            let Poll::Ready(heard) = self.held.events.poll_next_unpin(cx) else { return };
            match heard {
                // There is no stream that it could travel on.
                Some(Ok(Event::Notification(_))) => (),
                Some(Ok(Event::Request(question))) => {
                    self.held.bridge.keep(question);
                }
                Some(Ok(Event::Withdrawn(id))) => self.held.bridge.withdraw(&id),
                Some(last @ (Ok(Event::Response(_) | Event::InputRequired(_)) | Err(_))) => {
                    self.last = Some(last);
                }
                None => return,
            }
        }
    }
}

/// Hears a parked call's upstream, and ends the call when its time is over.
async fn keep((id, patience): (ParkedId, Duration), all: Weak<ParkedCalls>, parked: Weak<Parked>) {
    let hearing = std::future::poll_fn(|cx| {
        parked.upgrade().map_or(Poll::Ready(()), |parked| parked.poll(cx))
    });
    if tokio::time::timeout(patience, hearing).await.is_ok() {
        return;
    }
    let waiting = parked.upgrade().and_then(|parked| parked.held.lock().take());
    if let Some(waiting) = waiting {
        tracing::debug!("a client did not go on with a call");
        waiting.held.bridge.expire();
    }
    if let Some(all) = all.upgrade() {
        all.calls.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;
    use tokio::sync::mpsc::Receiver;

    use super::*;
    use crate::{
        mcp::{Capabilities, Version, addressee::Addressee},
        upstream::testing::question,
    };

    const SAMPLING: &str = r#""method":"sampling/createMessage","params":{}"#;

    /// A call that has asked once and then says this, and what it is told.
    fn held(says: Vec<Heard>) -> (Held, Receiver<Bytes>) {
        let (asked, told) = question("7", SAMPLING);
        let mut bridge = Box::<Bridge>::default();
        bridge.ask(asked, Capabilities::of(&["sampling"]));
        (Held { events: stream::iter(says).chain(stream::pending()).boxed(), bridge }, told)
    }

    fn all() -> (Arc<ParkedCalls>, Arc<str>) {
        (Arc::new(ParkedCalls::new("p1", Duration::MAX)), Arc::from("alice"))
    }

    #[tokio::test]
    async fn a_call_is_taken_up_once() {
        let (all, alice) = all();
        let (held, mut told) = held(vec![]);
        let id = all.park(&alice, held).unwrap();
        let taken = all.take(&id).unwrap();
        assert_eq!(all.take(&id).err(), Some(TakeError::Spent));
        assert_eq!(all.take(&[0; 16]).err(), Some(TakeError::Lost));
        assert!(told.try_recv().is_err());
        drop(taken);
        assert!(told.recv().await.unwrap().starts_with(br#"{"jsonrpc":"2.0","id":7,"error""#));
        assert!(all.calls.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_ten_minutes_and_its_upstream_hears_when_they_are_over() {
        let (all, alice) = all();
        let (held, mut told) = held(vec![]);
        let id = all.park(&alice, held).unwrap();
        tokio::time::sleep(Duration::from_secs(599)).await;
        assert!(told.try_recv().is_err());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let refusal = told.recv().await.unwrap();
        assert!(String::from_utf8_lossy(&refusal).contains("did not answer in time"));
        assert_eq!(all.take(&id).err(), Some(TakeError::Lost));
        assert!(all.calls.is_empty() && all.places.running() == 0);
    }

    #[tokio::test]
    async fn what_the_upstream_says_meanwhile_is_there_when_the_client_comes() {
        let (all, alice) = all();
        let (another, mut refused) = question("8", SAMPLING);
        let says = vec![
            Ok(Event::Notification(Bytes::new())),
            Ok(Event::Request(another)),
            Ok(Event::Withdrawn(Bytes::from_static(b"7"))),
            Ok(Event::Response(Bytes::from_static(b"last").into())),
        ];
        let (held, mut told) = held(says);
        let id = all.park(&alice, held).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut taken = all.take(&id).unwrap();
        let to =
            Addressee { capabilities: Capabilities::NONE, version: Version::NEWEST, asker: None };
        let keys: Vec<_> = taken.bridge.inputs(&to).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["input-2"]);
        let last = taken.events.next().await;
        assert!(
            matches!(last, Some(Ok(Event::Response(body))) if body.clone().into_bytes() == "last")
        );
        assert!(told.try_recv().is_err() && refused.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_principal_has_sixteen_places_and_gets_them_back() {
        let (all, alice) = all();
        let ids: Vec<_> = (0..16).map(|_| all.park(&alice, held(vec![]).0).unwrap()).collect();
        let (one_more, mut told) = held(vec![]);
        assert_eq!(all.park(&alice, one_more), Err(LimitError::Principal));
        assert!(told.recv().await.is_some());
        all.park(&Arc::from("bob"), held(vec![]).0).unwrap();
        drop(all.take(&ids[0]).unwrap());
        all.park(&alice, held(vec![]).0).unwrap();
    }
}
