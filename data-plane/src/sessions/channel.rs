//! The event streams towards one client, and what was said on them: kept for a while, so that
//! a client whose connection broke can go on where it was (MCP 2025-11-25, resumability).
//!
//! A *call* stream carries one call, a *general* one what belongs to no call. Transports read
//! them through a [`Reader`]: Streamable HTTP renders events with their ids, a pipe takes the
//! messages alone. Each message goes to exactly one stream.

mod outlet;

use std::sync::{Arc, atomic::Ordering::Relaxed};

use bytes::Bytes;
use tokio::time::Instant;

use self::outlet::Kind;
pub(crate) use self::outlet::{End, EventId, Outlet, Reader};
use super::{Asks, Live};
use crate::{
    mcp::{Message, elicitation::Askers},
    upstream::Question,
};

/// General streams that one client may read at the same time; one more ends the oldest.
const READERS_MAX: usize = 8;
/// Finished calls whose streams are kept.
const FINISHED_MAX: usize = 8;

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
            self.tell(message.body().clone());
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
