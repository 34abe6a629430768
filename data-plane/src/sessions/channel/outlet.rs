//! One event stream towards a client: what was said on it, and who reads.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Events that are kept of one stream, and their bytes; the newest is kept however long.
pub(super) const KEPT_MAX: usize = 256;
pub(super) const KEPT_BYTES_MAX: usize = 1 << 20;
/// How long the stream of a finished call waits for a client that comes back.
pub(super) const FINISHED_KEPT: Duration = Duration::from_secs(30);
/// How long a client that left its general stream still counts as one that listens, since it may
/// be that only its connection broke.
pub(super) const BREAK_MAX: Duration = Duration::from_secs(10);
/// How long a general stream waits for a client that comes back.
pub(super) const GENERAL_KEPT: Duration = Duration::from_mins(5);

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    General,
    Call,
}

/// One stream. Whoever has something to say pushes; one [`Reader`] at a time reads.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(super) kind: Kind,
    pub(super) number: u32,
    pub(super) state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) kept: VecDeque<Bytes>,
    kept_bytes: usize,
    room: Room,
    /// The number of the first kept event; events are counted from one.
    first: u64,
    /// Which reader reads: an older one has been replaced.
    readers: u64,
    is_read: bool,
    waker: Option<Waker>,
    end: Option<End>,
    left_at: Instant,
}

/// How much is kept of a stream.
#[derive(Clone, Copy, Debug)]
struct Room {
    events: usize,
    bytes: usize,
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All has been said.
    Done,
    /// The proxy ends: the client should come back, to another one.
    Leaving,
}

/// The reading end of a stream. Dropping it leaves the stream for a client that comes back.
#[derive(Debug)]
pub(crate) struct Reader {
    outlet: Arc<Outlet>,
    /// The number of the next event.
    at: u64,
    turn: u64,
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: EventId,
    pub(crate) message: Bytes,
}

/// `<stream>:<number>`, unique in the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventId {
    pub(super) kind: Kind,
    pub(super) stream: u32,
    pub(super) number: u64,
}

impl EventId {
    /// Appends it as clients see it.
    pub(crate) fn write(self, out: &mut BytesMut) {
        out.put_u8(match self.kind {
            Kind::General => b'g',
            Kind::Call => b'c',
        });
        let mut digits = itoa::Buffer::new();
        out.put_slice(digits.format(self.stream).as_bytes());
        out.put_u8(b':');
        out.put_slice(digits.format(self.number).as_bytes());
    }

    /// An id that we gave.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let (stream, number) = std::str::from_utf8(text).ok()?.split_once(':')?;
        let (kind, stream) = match stream.split_at_checked(1)? {
            ("g", stream) => (Kind::General, stream),
            ("c", stream) => (Kind::Call, stream),
            _ => return None,
        };
        Some(Self { kind, stream: stream.parse().ok()?, number: number.parse().ok()? })
    }

    /// Whether it is of a stream that carries what belongs to no call.
    pub(crate) fn is_general(self) -> bool {
        self.kind == Kind::General
    }
}

impl Outlet {
    /// `first` is said on it already, and takes no room from what follows.
    pub(super) fn new(kind: Kind, number: u32, first: Vec<Bytes>) -> Arc<Self> {
        let kept_bytes = first.iter().map(Bytes::len).sum();
        let room = Room { events: KEPT_MAX + first.len(), bytes: KEPT_BYTES_MAX + kept_bytes };
        let state = State {
            kept: first.into(),
            kept_bytes,
            room,
            first: 1,
            readers: 0,
            is_read: false,
            waker: None,
            end: None,
            left_at: Instant::now(),
        };
        Arc::new(Self { kind, number, state: Mutex::new(state) })
    }

    /// Says something on this stream; a client that does not keep up misses the oldest.
    pub(crate) fn push(&self, message: Bytes) {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return;
        }
        state.kept_bytes += message.len();
        state.kept.push_back(message);
        let room = state.room;
        while state.kept.len() > room.events
            || (state.kept_bytes > room.bytes && state.kept.len() > 1)
        {
            let oldest = state.kept.pop_front().map_or(0, |oldest| oldest.len());
            state.kept_bytes -= oldest;
            state.first += 1;
        }
        wake(state);
    }

    /// Ends the stream once all has been read.
    pub(crate) fn end(&self, end: End) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.end = Some(end);
            // Whoever comes back for the end has as long as if it had been there.
            if !state.is_read {
                state.left_at = Instant::now();
            }
        }
        wake(state);
    }

    pub(super) fn is_read(&self) -> bool {
        self.state.lock().is_read
    }

    /// Whether somebody reads it, or did just now.
    pub(super) fn is_heard(&self, now: Instant) -> bool {
        let state = self.state.lock();
        let away = now.saturating_duration_since(state.left_at);
        state.is_read || (state.end.is_none() && away < BREAK_MAX)
    }

    /// Reads on after event `after`; who read before reads no more.
    pub(super) fn read(self: &Arc<Self>, after: u64) -> Reader {
        let mut state = self.state.lock();
        state.readers += 1;
        state.is_read = true;
        let turn = state.readers;
        wake(state);
        Reader { outlet: Arc::clone(self), at: after.saturating_add(1), turn }
    }

    /// Whether a client that comes back shall still find it.
    pub(super) fn is_kept(&self, now: Instant) -> bool {
        let state = self.state.lock();
        let away = now.saturating_duration_since(state.left_at);
        match (self.kind, state.end) {
            _ if state.is_read => true,
            (Kind::General, None) => away < GENERAL_KEPT,
            (Kind::Call, None) => true,
            (Kind::Call, Some(_)) => away < FINISHED_KEPT,
            (Kind::General, Some(_)) => false,
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        let state = self.state.lock();
        self.kind == Kind::Call && state.end.is_some() && !state.is_read
    }

    /// Whether it waits for a client that may come back for what belongs to no call.
    pub(super) fn is_left(&self) -> bool {
        self.kind == Kind::General && !self.is_read()
    }
}

fn wake(mut state: parking_lot::MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Reader {
    /// The next event; an error says why there will be no more, `None` that somebody else reads.
    pub(crate) fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Event, End>>> {
        let mut state = self.outlet.state.lock();
        if state.readers != self.turn {
            return Poll::Ready(None);
        }
        // What was dropped meanwhile is lost.
        self.at = self.at.max(state.first);
        let place = usize::try_from(self.at - state.first).unwrap_or(usize::MAX);
        if let Some(message) = state.kept.get(place) {
            let (kind, stream) = (self.outlet.kind, self.outlet.number);
            let id = EventId { kind, stream, number: self.at };
            self.at += 1;
            return Poll::Ready(Some(Ok(Event { id, message: message.clone() })));
        }
        if let Some(end) = state.end {
            return Poll::Ready(Some(Err(end)));
        }
        if state.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The next message; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        let event = std::future::poll_fn(|cx| self.poll_next(cx)).await?;
        event.ok().map(|event| event.message)
    }

    /// The id before that of the next event: where a client goes on that has seen no other.
    pub(crate) fn position(&self) -> EventId {
        EventId {
            kind: self.outlet.kind,
            stream: self.outlet.number,
            number: self.at.saturating_sub(1),
        }
    }

    /// The stream, to say something on it.
    pub(crate) fn outlet(&self) -> &Arc<Outlet> {
        &self.outlet
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.outlet.state.lock();
        if state.readers == self.turn {
            state.is_read = false;
            state.waker = None;
            state.left_at = Instant::now();
        }
    }
}
