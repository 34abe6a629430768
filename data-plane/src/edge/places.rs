//! Open streams: how many one principal may have, and who may go on reading.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use ahash::AHashMap;
use dashmap::DashMap;
use futures_util::task::AtomicWaker;
use http::{HeaderValue, header};
use proto::{Permission, Principal, policy};

use super::{Edge, now_ms};
use crate::{
    engine::{Sender, legacy},
    error::Failure,
    limit::{self, LimitError, Limiter, Permit},
    snapshot::table::Table,
    transport::headers,
};

/// All open streams and pipes, by principal.
pub(super) struct Places {
    limiter: Arc<Limiter>,
    /// Streams, whose readers are looked at again as long as they last.
    open: Arc<Open>,
    last: AtomicU64,
}

type Open = DashMap<u64, Arc<Reader>>;

/// Who reads a stream.
#[derive(Debug)]
struct Reader {
    authorization: HeaderValue,
    subject: Arc<str>,
    /// The proxy that owns the session, if this one has only adopted it.
    owner: Option<Arc<str>>,
    is_refused: AtomicBool,
    waker: AtomicWaker,
}

/// A stream's place; its end makes room.
#[derive(Debug)]
pub(crate) struct Place {
    open: Arc<Open>,
    number: u64,
    reader: Arc<Reader>,
    _permit: Permit,
}

impl Places {
    pub(super) fn new(per_principal: usize) -> Self {
        let limits =
            limit::Limits { principal_in_flight_max: per_principal, ..limit::Limits::default() };
        Self { limiter: Limiter::new(&limits), open: Arc::default(), last: AtomicU64::new(0) }
    }

    /// Room for one more. `subject` is `None` for callers that are exempt from the cap per
    /// principal.
    fn room(&self, subject: Option<&Arc<str>>) -> Result<Permit, Failure> {
        self.limiter.enter(subject).map_err(|error| match error {
            LimitError::Principal => Failure::TooManyStreams,
            LimitError::Proxy => error.into(),
        })
    }

    fn take(&self, permit: Permit, reader: Reader) -> Place {
        let reader = Arc::new(reader);
        let number = self.last.fetch_add(1, Relaxed);
        self.open.insert(number, Arc::clone(&reader));
        Place { open: Arc::clone(&self.open), number, reader, _permit: permit }
    }
}

impl Reader {
    fn refuse(&self) {
        self.is_refused.store(true, Relaxed);
        self.waker.wake();
    }
}

impl Place {
    /// Ready once the reader's credential has expired or was revoked.
    pub(crate) fn poll_refused(&self, cx: &Context<'_>) -> Poll<()> {
        self.reader.waker.register(cx.waker());
        if self.reader.is_refused.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.remove(&self.number);
    }
}

impl Edge {
    /// Room for one more stream or pipe of the sender. The local machine and trusted proxies
    /// share one address for many callers, so only the proxy's own limit holds for them.
    pub(super) fn room(&self, sender: &Sender<'_>) -> Result<Permit, Failure> {
        let is_exempt = self.connections_allowed(sender.client.peer.ip()).is_none();
        self.places.room((!is_exempt).then_some(&sender.principal.subject))
    }

    /// A place for a stream of the sender, as long as it may read it.
    pub(super) fn place(&self, sender: &Sender<'_>) -> Result<Place, Failure> {
        let permit = self.room(sender)?;
        let header = sender.headers.and_then(|headers| headers.get(header::AUTHORIZATION));
        let reader = Reader {
            authorization: header.map_or(HeaderValue::from_static(""), headers::detached),
            subject: Arc::clone(&sender.principal.subject),
            owner: legacy::foreign(sender).map(|claims| claims.owner.as_ref().into()),
            is_refused: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        };
        Ok(self.places.take(permit, reader))
    }

    /// Ends the streams of readers whose credential is not good any more.
    pub(crate) async fn check_readers(&self) {
        let Some(table) = self.current.load() else { return };
        let open: Vec<_> = self.places.open.iter().map(|it| Arc::clone(&it)).collect();
        let mut known: AHashMap<HeaderValue, Option<Arc<Principal>>> = AHashMap::new();
        for reader in open {
            let principal = if let Some(principal) = known.get(&reader.authorization) {
                principal.clone()
            } else {
                let found = self.caller_of(&table, &reader).await;
                known.insert(reader.authorization.clone(), found.clone());
                found
            };
            if principal.is_none_or(|principal| principal.subject != reader.subject) {
                reader.refuse();
            }
        }
        self.give_back(&table).await;
    }

    /// Ends the streams of sessions whose owner is there again: it is asked for everything else,
    /// and its clients come back to it.
    async fn give_back(&self, table: &Table) {
        let mut adopted: AHashMap<Arc<str>, Vec<Arc<Reader>>> = AHashMap::new();
        for reader in self.places.open.iter() {
            if let Some(owner) = &reader.owner {
                adopted.entry(Arc::clone(owner)).or_default().push(Arc::clone(&reader));
            }
        }
        for (owner, readers) in adopted {
            let Some(proxy) = table.proxy(&owner) else { continue };
            if self.peers.is_there(proxy).await {
                tracing::debug!(owner = &*owner, streams = readers.len(), "gave sessions back");
                for reader in readers {
                    reader.refuse();
                }
            }
        }
    }

    /// Who a reader is now; `None` if it may not call any more.
    async fn caller_of(&self, table: &Table, reader: &Reader) -> Option<Arc<Principal>> {
        let principal = self.principal(table, Some(&reader.authorization), now_ms()).await;
        match principal {
            Ok(principal) => {
                policy::is_allowed(principal.role, Permission::Call).then_some(principal)
            }
            Err(failure) => {
                failure.log();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_principal_has_a_bounded_number_of_streams_and_gets_places_back() {
        let (places, subject) = (Places::new(2), Arc::<str>::from("ann"));
        let reader = || Reader {
            authorization: HeaderValue::from_static("x"),
            subject: Arc::clone(&subject),
            owner: None,
            is_refused: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        };
        let take = || places.room(Some(&subject)).map(|permit| places.take(permit, reader()));
        let (one, two) = (take().unwrap(), take().unwrap());
        assert!(matches!(take(), Err(Failure::TooManyStreams)));
        assert!(places.room(None).is_ok());
        assert_eq!(places.open.len(), 2);
        drop(one);
        let three = take().unwrap();
        let cx = Context::from_waker(std::task::Waker::noop());
        assert!(three.poll_refused(&cx).is_pending());
        three.reader.refuse();
        assert!(three.poll_refused(&cx).is_ready() && two.poll_refused(&cx).is_pending());
        drop((two, three));
        assert!(places.open.is_empty());
    }
}
