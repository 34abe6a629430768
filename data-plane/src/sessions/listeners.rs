//! Modern clients that listen: what each wants to hear, and what it has not read yet.
//!
//! There is no replay: who comes back lists anew (MCP 2026-07-28, patterns: subscriptions).

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::{Mutex, MutexGuard};

use super::{
    Sessions,
    watching::{Lists, Subscription, Update},
};
use crate::{
    mcp::{
        Capabilities, Message,
        message::Span,
        object::unquote,
        subscription::{self, Topic, Topics, task_key, task_of},
        task,
        translate::task_to_client,
        uri::Uris,
    },
    snapshot::table::{Table, View},
    upstream::{SessionKey, Wish},
};

/// Messages that may wait for a client; one that waits already is not said twice.
const TOLD_MAX: usize = 1024;

/// All that listen.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    open: DashMap<u64, Arc<Listener>>,
    last: AtomicU64,
}

/// One subscription of a modern client.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Of its request, raw JSON.
    id: Bytes,
    /// Whose sessions at upstreams it hears too.
    owner: SessionKey,
    topics: Topics,
    /// How the URIs of upstreams are shown whose tasks it hears of.
    marks: Vec<(Box<str>, Arc<Uris>)>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lists: Lists,
    subscriptions: Vec<Subscription>,
    told: VecDeque<Bytes>,
    is_over: bool,
    waker: Option<Waker>,
}

/// Who wants to listen, and to what.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Raw JSON.
    pub(crate) id: Bytes,
    pub(crate) owner: SessionKey,
    pub(crate) capabilities: Capabilities,
    pub(crate) topics: Topics,
    pub(crate) subscriptions: Vec<Subscription>,
}

/// Finds out which subscriptions can be honoured, and gives what keeps them.
pub(crate) type Honouring = Pin<Box<dyn Future<Output = Vec<(Subscription, Wish)>> + Send>>;

/// The reading end of a subscription, which ends when this is dropped.
pub(crate) struct Hearing {
    listener: Arc<Listener>,
    all: Arc<Listeners>,
    place: u64,
    honoured: Honoured,
    is_read: bool,
}

/// Which of its subscriptions are honoured.
enum Honoured {
    /// Its client has not been told yet.
    Asking(Honouring),
    /// With what keeps them at upstreams.
    Known { _wishes: Vec<Wish> },
}

/// What a listening client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Notice(Bytes),
    /// The response to its request: the last message.
    Over(Bytes),
}

impl Sessions {
    /// Begins a subscription. The client hears, as soon as `honouring` is done, what is honoured
    /// of what it wants, and before that nothing.
    pub(crate) fn listen(&self, view: &View, wanted: Wanted, honouring: Honouring) -> Hearing {
        let Wanted { id, owner, capabilities, topics, subscriptions } = wanted;
        let mark = |it: &Subscription| {
            task_of(&it.uri)?;
            Some((it.upstream_id.clone(), view.shelf().uris(&it.upstream_id)?))
        };
        let marks = subscriptions.iter().filter_map(mark).collect();
        let state = State {
            lists: Lists::new(view, capabilities),
            subscriptions,
            told: VecDeque::new(),
            is_over: false,
            waker: None,
        };
        let listener = Arc::new(Listener { id, owner, topics, marks, state: Mutex::new(state) });
        let all = Arc::clone(&self.listeners);
        let place = all.last.fetch_add(1, Relaxed);
        all.open.insert(place, Arc::clone(&listener));
        if self.is_leaving.load(Relaxed) {
            listener.end();
        }
        Hearing { listener, all, place, honoured: Honoured::Asking(honouring), is_read: false }
    }
}

impl Listeners {
    /// Tells each which of its lists this configuration changes.
    pub(super) fn announce(&self, table: &Table) {
        self.each(|listener| listener.announce(table));
    }

    /// Tells those that want to know that a resource changed; all that do, or `owner`, whose
    /// session at the upstream says so.
    pub(super) fn updated(
        &self,
        owner: Option<&SessionKey>,
        upstream_id: &str,
        update: &Update<'_>,
    ) {
        self.each(|listener| {
            if owner.is_none_or(|owner| listener.owner == *owner) {
                listener.updated(upstream_id, update);
            }
        });
    }

    /// Tells those that want to know the state of a task; all that do, or `owner`.
    pub(super) fn task_changed(
        &self,
        owner: Option<&SessionKey>,
        upstream_id: &str,
        message: &Message,
    ) {
        let changed = task::changed(message);
        let id = changed.and_then(|span| unquote(span.of(message.text())));
        let (Some(span), Some(id)) = (changed, id) else { return };
        let key = task_key(&id);
        self.each(|listener| {
            if owner.is_none_or(|owner| listener.owner == *owner) {
                listener.task_changed(upstream_id, (&key, span), message);
            }
        });
    }

    /// Tells `owner`, if it wants to know, of lists that it alone is shown so.
    pub(super) fn lists_changed_for(&self, owner: &SessionKey, changed: Topics) {
        self.each(|listener| {
            if listener.owner == *owner {
                listener.lists_changed(listener.state.lock(), changed);
            }
        });
    }

    /// Ends all subscriptions in peace.
    pub(super) fn end_all(&self) {
        self.each(Listener::end);
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn each(&self, say: impl Fn(&Listener)) {
        self.open.iter().for_each(|listener| say(&listener));
    }
}

impl Listener {
    fn announce(&self, table: &Table) {
        let mut state = self.state.lock();
        let Some(changed) = state.lists.changed(table) else {
            // Its endpoint is gone, which the next try will tell.
            drop(state);
            return self.end();
        };
        self.lists_changed(state, changed);
    }

    fn lists_changed(&self, mut state: MutexGuard<'_, State>, changed: Topics) {
        let wanted = |topic: &Topic| changed.has(*topic) && self.topics.has(*topic);
        for topic in Topic::ALL.into_iter().filter(wanted) {
            state.tell(subscription::changed(&self.id, topic));
        }
        wake(state);
    }

    fn updated(&self, upstream_id: &str, update: &Update<'_>) {
        let mut state = self.state.lock();
        let found = state.subscriptions.iter().find(|it| update.is_of(it, upstream_id));
        let Some(told) = found.map(|found| update.for_client(found, Some(&self.id))) else {
            return;
        };
        state.tell(told);
        wake(state);
    }

    fn task_changed(&self, upstream_id: &str, (key, span): (&str, Span), message: &Message) {
        let mut state = self.state.lock();
        let is_it = |it: &&Subscription| *it.upstream_id == *upstream_id && *it.uri == *key;
        let Some(found) = state.subscriptions.iter().find(is_it) else { return };
        let marks = self.marks.iter().find(|(marked, _)| **marked == *upstream_id);
        let uris = marks.map(|(_, uris)| &**uris);
        let told = task_to_client(message, (span, &found.shown), &self.id, uris);
        state.tell(told);
        wake(state);
    }

    fn end(&self) {
        let mut state = self.state.lock();
        state.is_over = true;
        wake(state);
    }

    /// From now on it hears of these resources alone. Gives the message that says so; what
    /// waits of others is forgotten.
    fn honour(&self, honoured: Vec<Subscription>) -> Bytes {
        let mut state = self.state.lock();
        let shown = honoured.iter().map(|it| (&*it.uri, &*it.shown));
        let filter = subscription::filter(self.topics, shown);
        if honoured.len() < state.subscriptions.len() {
            let of_list = |topic| subscription::changed(&self.id, topic);
            state.told.retain(|told| Topic::ALL.into_iter().any(|topic| *told == of_list(topic)));
        }
        state.subscriptions = honoured;
        subscription::acknowledged(&self.id, &filter)
    }
}

impl State {
    fn tell(&mut self, message: Bytes) {
        if self.is_over || self.told.contains(&message) {
            return;
        }
        if self.told.len() >= TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(message);
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Hearing {
    /// The id of the request, raw JSON.
    pub(crate) fn id(&self) -> &Bytes {
        &self.listener.id
    }

    /// Looks at a configuration that may be newer than the one that the client began with.
    pub(crate) fn catch_up(&self, table: &Table) {
        self.listener.announce(table);
    }

    /// The next message; `None` after the last one.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Heard>> {
        if self.is_read {
            return Poll::Ready(None);
        }
        if let Honoured::Asking(honouring) = &mut self.honoured {
            let honoured = match honouring.as_mut().poll(cx) {
                Poll::Ready(honoured) => honoured,
                Poll::Pending if self.listener.poll_over(cx) => Vec::new(),
                Poll::Pending => return Poll::Pending,
            };
            let (honoured, wishes) = honoured.into_iter().unzip();
            self.honoured = Honoured::Known { _wishes: wishes };
            return Poll::Ready(Some(Heard::Notice(self.listener.honour(honoured))));
        }
        let mut state = self.listener.state.lock();
        if let Some(message) = state.told.pop_front() {
            return Poll::Ready(Some(Heard::Notice(message)));
        }
        if state.is_over {
            self.is_read = true;
            return Poll::Ready(Some(Heard::Over(subscription::ended(&self.listener.id))));
        }
        state.wait(cx);
        Poll::Pending
    }

    /// The next message; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Ends the subscription in peace.
    pub(crate) fn end(&self) {
        self.listener.end();
    }
}

impl Listener {
    fn poll_over(&self, cx: &Context<'_>) -> bool {
        let mut state = self.state.lock();
        state.wait(cx);
        state.is_over
    }
}

impl State {
    fn wait(&mut self, cx: &Context<'_>) {
        if self.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.all.open.remove(&self.place);
    }
}

#[cfg(test)]
mod tests;
