//! The event streams towards one client, and what was said on them: kept for a while, so that
//! a client whose connection broke can go on where it was (MCP 2025-11-25, resumability).
//!
//! A *call* stream carries one call, a *general* one what belongs to no call. Transports read
//! them through a [`Reader`]: Streamable HTTP renders events with their ids, a pipe takes the
//! messages alone. Each message goes to exactly one stream.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Asks, Live};
use crate::{
    mcp::{Message, elicitation::Askers},
    upstream::Question,
};

/// General streams that one client may read at the same time; one more ends the oldest.
const READERS_MAX: usize = 8;
/// Events that are kept of one stream, and their bytes; the newest is kept however long.
const KEPT_MAX: usize = 256;
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Finished calls whose streams are kept.
const FINISHED_MAX: usize = 8;
/// How long the stream of a finished call waits for a client that comes back.
const FINISHED_KEPT: Duration = Duration::from_secs(30);
/// How long a client that left its general stream still counts as one that listens, since it may
/// be that only its connection broke.
const BREAK_MAX: Duration = Duration::from_secs(10);
/// How long a general stream waits for a client that comes back.
const GENERAL_KEPT: Duration = Duration::from_mins(5);

/// All streams of a session, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Channel {
    last: u32,
    outlets: Vec<Arc<Outlet>>,
    /// How the client may be asked outside of calls, once it has listened.
    asks: Option<Asks>,
    /// What the client is told first when it listens again.
    missed: Vec<Bytes>,
}

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    General,
    Call,
}

/// One stream. Whoever has something to say pushes; one [`Reader`] at a time reads.
#[derive(Debug)]
pub(crate) struct Outlet {
    kind: Kind,
    number: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    kept: VecDeque<Bytes>,
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
    kind: Kind,
    stream: u32,
    number: u64,
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
    fn new(kind: Kind, number: u32, first: Vec<Bytes>) -> Arc<Self> {
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

    fn is_read(&self) -> bool {
        self.state.lock().is_read
    }

    /// Whether somebody reads it, or did just now.
    fn is_heard(&self, now: Instant) -> bool {
        let state = self.state.lock();
        let away = now.saturating_duration_since(state.left_at);
        state.is_read || (state.end.is_none() && away < BREAK_MAX)
    }

    /// Reads on after event `after`; who read before reads no more.
    fn read(self: &Arc<Self>, after: u64) -> Reader {
        let mut state = self.state.lock();
        state.readers += 1;
        state.is_read = true;
        let turn = state.readers;
        wake(state);
        Reader { outlet: Arc::clone(self), at: after.saturating_add(1), turn }
    }

    /// Whether a client that comes back shall still find it.
    fn is_kept(&self, now: Instant) -> bool {
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

    fn is_finished(&self) -> bool {
        let state = self.state.lock();
        self.kind == Kind::Call && state.end.is_some() && !state.is_read
    }

    /// Whether it waits for a client that may come back for what belongs to no call.
    fn is_left(&self) -> bool {
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

impl Channel {
    /// Without streams. The client is told what it missed once it listens.
    pub(super) fn after(missed: Vec<Bytes>) -> Self {
        Self { missed, ..Self::default() }
    }

    fn open(&mut self, kind: Kind, first: Vec<Bytes>) -> Arc<Outlet> {
        self.prune(Instant::now());
        self.last += 1;
        let outlet = Outlet::new(kind, self.last, first);
        self.outlets.push(Arc::clone(&outlet));
        outlet
    }

    /// Forgets what no client will come back for.
    fn prune(&mut self, now: Instant) {
        self.outlets.retain(|outlet| outlet.is_kept(now));
        self.keep_newest(FINISHED_MAX, Outlet::is_finished);
        self.keep_newest(READERS_MAX, Outlet::is_left);
    }

    /// Of those for which `is_it`, the oldest beyond `most` go.
    fn keep_newest(&mut self, most: usize, is_it: impl Fn(&Outlet) -> bool) {
        let found = self.outlets.iter().filter(|outlet| is_it(outlet)).count();
        let mut surplus = found.saturating_sub(most);
        self.outlets.retain(|outlet| {
            let is_dropped = surplus > 0 && is_it(outlet);
            surplus -= usize::from(is_dropped);
            !is_dropped
        });
    }

    fn general(&self) -> impl DoubleEndedIterator<Item = &Arc<Outlet>> {
        self.outlets.iter().filter(|outlet| outlet.kind == Kind::General)
    }
}

impl Live {
    /// Opens a stream for what belongs to no call. For a pipe it is the pipe itself: attach once
    /// after `initialize` and write out what [`Reader::next`] gives; requests are among it, and
    /// the client's responses go to [`Live::answer`], as everywhere.
    pub(crate) fn attach(&self, asks: Asks) -> Reader {
        let mut channel = self.channel.lock();
        channel.asks = Some(asks);
        let read: Vec<_> = channel.general().filter(|outlet| outlet.is_read()).cloned().collect();
        if let (true, Some(oldest)) = (read.len() >= READERS_MAX, read.first()) {
            oldest.end(End::Done);
        }
        let missed = std::mem::take(&mut channel.missed);
        let outlet = channel.open(Kind::General, missed);
        if self.has_ended() {
            outlet.end(End::Done);
        } else if self.is_leaving.load(Relaxed) {
            outlet.end(End::Leaving);
        }
        outlet.read(0)
    }

    /// Opens the stream of a call.
    pub(crate) fn attach_call(&self) -> Reader {
        self.channel.lock().open(Kind::Call, Vec::new()).read(0)
    }

    /// Goes on after the event `last` on that event's own stream; `None` if it is gone.
    pub(crate) fn resume(&self, last: EventId) -> Option<Reader> {
        let mut channel = self.channel.lock();
        channel.prune(Instant::now());
        let is_it =
            |outlet: &&Arc<Outlet>| (outlet.kind, outlet.number) == (last.kind, last.stream);
        let outlet = channel.outlets.iter().find(is_it)?;
        Some(outlet.read(last.number))
    }

    /// Tells the client what belongs to no call; false if it does not listen.
    pub(crate) fn tell(&self, message: Bytes) -> bool {
        let channel = self.channel.lock();
        let outlet = channel.general().rfind(|outlet| outlet.is_read());
        let now = Instant::now();
        let outlet = outlet.or_else(|| channel.general().rfind(|outlet| outlet.is_kept(now)));
        outlet.map(|outlet| outlet.push(message)).is_some()
    }

    /// Asks the client outside of calls, if it listens and can be asked; who asked learns if not.
    pub(crate) fn ask_outside(self: &Arc<Self>, question: Question) {
        let asks = self.channel.lock().asks;
        let asks = asks.filter(|_| self.is_listening());
        if let Some(request) = asks.and_then(|asks| self.ask(question, None, asks)) {
            self.tell(request);
        }
    }

    /// From now on these may ask the client outside of calls.
    pub(super) fn asked_by(&self, askers: Askers) {
        if let Some(asks) = &mut self.channel.lock().asks {
            asks.askers = askers;
        }
    }

    /// Who may ask the client outside of calls, as far as that is known.
    pub(super) fn askers(&self) -> Askers {
        self.channel.lock().asks.map(|asks| asks.askers).unwrap_or_default()
    }

    /// Tells the client what an extension is for, if it listens and knows any.
    pub(super) fn tell_extension(&self, message: &Message) {
        let hears = self.channel.lock().asks.map(|asks| asks.hears).unwrap_or_default();
        if message.method().is_some_and(|method| hears.takes(method.as_str())) {
            self.tell(message.body.clone());
        }
    }

    /// Whether the client reads a general stream, or will again.
    pub(crate) fn is_listening(&self) -> bool {
        let now = Instant::now();
        self.channel.lock().general().any(|outlet| outlet.is_heard(now))
    }

    /// Forgets what no client will come back for; true if a client reads something.
    pub(super) fn prune_streams(&self) -> bool {
        let mut channel = self.channel.lock();
        channel.prune(Instant::now());
        channel.outlets.iter().any(|outlet| outlet.is_read())
    }

    /// Ends the general streams, with `End::Done` those of calls too.
    pub(super) fn end_streams(&self, end: End) {
        let channel = self.channel.lock();
        let is_over = |outlet: &&Arc<Outlet>| outlet.kind == Kind::General || end == End::Done;
        channel.outlets.iter().filter(is_over).for_each(|outlet| outlet.end(end));
    }
}

#[cfg(test)]
mod tests;
