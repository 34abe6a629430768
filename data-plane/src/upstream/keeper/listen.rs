//! Our subscription at a modern upstream: its filter follows what is wished, a new one is
//! acknowledged before the old one ends, and one that broke is opened again.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Keeping, LINGER, RETRY_MAX, RETRY_MIN,
    channel::{Channel, Said, Wanted},
    fading::{Fading, Side},
    missed::Missed,
};
use crate::{
    mcp::{
        Message,
        object::unquote,
        subscription::{Topics, task_of},
        task,
    },
    upstream::{SessionKey, active::Active, failure::CallFailure, wishes::Wished},
};

/// What lasted so long did not fail at once.
const STABLE: Duration = Duration::from_secs(10);
/// How long an old subscription is still read when a new one has been acknowledged.
const OVERLAP: Duration = Duration::from_millis(250);

type Opening = Pin<Box<dyn Future<Output = Result<Box<Channel>, CallFailure>> + Send>>;

/// The subscription and what becomes of it.
pub(super) struct Listen<'a> {
    keeping: &'a Keeping,
    current: Option<Box<Channel>>,
    fading: Option<Fading>,
    opening: Option<(Wanted, Opening)>,
    /// Nothing is opened before.
    due: Instant,
    /// When what nobody wants any more is given up.
    narrow_at: Option<Instant>,
    wait: Duration,
    /// When the last one was opened, until it fails.
    opened_at: Option<Instant>,
    /// Something may have been said while nobody listened.
    has_missed: bool,
    /// Tasks whose state has to be asked for therefore.
    missed: Missed,
}

/// What happened.
enum Step {
    Opened(Result<Box<Channel>, CallFailure>),
    Said(Result<Said, CallFailure>),
    Faded(Result<Said, CallFailure>),
    /// The state of a task, which may have been said while nobody listened.
    Missed(Box<Message>),
    /// It is time to look again.
    Look,
}

impl<'a> Listen<'a> {
    pub(super) fn new(keeping: &'a Keeping) -> Self {
        Self {
            keeping,
            current: None,
            fading: None,
            opening: None,
            due: Instant::now(),
            narrow_at: None,
            wait: RETRY_MIN,
            opened_at: None,
            has_missed: false,
            missed: Missed::default(),
        }
    }

    /// Listens as long as there is something to hear.
    pub(super) async fn run(mut self) {
        let mut news = self.keeping.wished.changes();
        loop {
            if !self.keeping.tells.is_always_heard()
                && self.current.is_none()
                && !self.keeping.is_wanted().await
            {
                return;
            }
            if self.keeping.active.strong_count() == 0 {
                return;
            }
            news.mark_unchanged();
            let look_at = self.prepare();
            let step = self.step(look_at, &mut news).await;
            self.take(step);
        }
    }

    /// What we want to hear now.
    fn wanted(&self) -> Wanted {
        let Keeping { tells, wished, .. } = self.keeping;
        let is_alone = self.keeping.owner().is_none();
        let topics = if is_alone { tells.topics } else { Topics::default() };
        Wanted { topics, uris: wished.hopeful() }
    }

    /// Begins to open what is wanted, if its time has come; else says when to look again.
    fn prepare(&mut self) -> Option<Instant> {
        // Who comes meanwhile is served by the next one.
        if self.opening.is_some() {
            return None;
        }
        if let Some(current) = &self.current {
            // Who wishes again what is still kept need not wait for a new one.
            self.keeping.wished.settle(|uri| current.verdict(uri));
        }
        let (wanted, now) = (self.wanted(), Instant::now());
        let current = self.current.as_ref().map(|current| &current.wanted);
        if current.map_or(wanted.is_empty(), |current| *current == wanted) {
            self.narrow_at = None;
            return None;
        }
        let is_narrower = current.is_some_and(|current| wanted.uris.is_subset(&current.uris));
        let due = if is_narrower {
            // What nobody wants any more does no harm for a while.
            self.due.max(*self.narrow_at.get_or_insert(now + LINGER))
        } else {
            self.due
        };
        if due > now {
            return Some(due);
        }
        self.narrow_at = None;
        if wanted.is_empty() {
            self.current = None;
            return Some(now);
        }
        let active = self.keeping.active.upgrade()?;
        let owner = (self.keeping.owner().cloned(), Arc::clone(&self.keeping.wished));
        let opening = open(active, owner, wanted.clone());
        self.opening = Some((wanted, Box::pin(opening)));
        None
    }

    async fn step(
        &mut self,
        look_at: Option<Instant>,
        news: &mut tokio::sync::watch::Receiver<u64>,
    ) -> Step {
        let opening = async {
            match &mut self.opening {
                Some((_, opening)) => opening.await,
                None => std::future::pending().await,
            }
        };
        let said = async {
            match &mut self.current {
                Some(current) => current.next().await,
                None => std::future::pending().await,
            }
        };
        let faded = async {
            match &mut self.fading {
                Some(fading) => tokio::time::timeout_at(fading.until, fading.channel.next()).await,
                None => std::future::pending().await,
            }
        };
        let look = async {
            match look_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            said = said => Step::Said(said),
            faded = faded => Step::Faded(faded.unwrap_or(Err(CallFailure::NoResponse))),
            opened = opening => Step::Opened(opened),
            message = self.missed.next(self.keeping) => Step::Missed(Box::new(message)),
            () = look => Step::Look,
            // Without a sender there are no wishes any more; the upstream is about to go.
            changed = news.changed() => {
                if changed.is_err() { std::future::pending().await }
                Step::Look
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Look => (),
            Step::Opened(Ok(channel)) => self.opened(channel),
            Step::Opened(Err(failure)) => self.not_opened(&failure),
            Step::Said(Ok(said)) => self.hear(said, Side::New),
            Step::Said(Err(failure)) => {
                tracing::debug!(upstream_id = &*self.keeping.upstream_id, %failure, "a subscription ended");
                self.current = None;
                self.has_missed = true;
                self.back_off();
            }
            Step::Faded(Ok(said)) => self.hear(said, Side::Old),
            Step::Faded(Err(_)) => self.fading = None,
            Step::Missed(message) => self.hear(Said::TaskChanged(message), Side::New),
        }
    }

    fn opened(&mut self, channel: Box<Channel>) {
        self.opening = None;
        self.opened_at = Some(Instant::now());
        let wished = &self.keeping.wished;
        for uri in &channel.wanted.uris {
            if let Some(verdict) = channel.verdict(uri) {
                wished.note(uri, verdict);
            }
        }
        let has_missed = std::mem::take(&mut self.has_missed);
        let missed: Vec<_> = channel.honoured.iter().filter(|_| has_missed).cloned().collect();
        let until = Instant::now() + OVERLAP;
        let old = self.current.replace(channel);
        self.fading = old.map(|channel| Fading::new(channel, until));
        if has_missed {
            self.catch_up(&missed);
        }
    }

    fn not_opened(&mut self, failure: &CallFailure) {
        tracing::debug!(upstream_id = &*self.keeping.upstream_id, %failure, "no subscription");
        let opening = self.opening.take();
        self.has_missed |= self.current.is_none();
        if let (CallFailure::Unheard(_), Some((wanted, _))) = (failure, opening) {
            // What was heard before is not to blame.
            let blameless = self.current.as_ref().map(|current| &current.honoured);
            let new =
                wanted.uris.iter().filter(|uri| blameless.is_none_or(|it| !it.contains(*uri)));
            new.for_each(|uri| self.keeping.wished.note(uri, Err(failure.clone())));
        }
        self.keeping.wished.note_failure(failure);
        self.back_off();
    }

    /// Waits longer from one failure to the next, unless something lasted in between.
    fn back_off(&mut self) {
        if self.opened_at.take().is_some_and(|at| at.elapsed() >= STABLE) {
            self.wait = RETRY_MIN;
        }
        self.due = Instant::now() + self.wait;
        self.wait = (2 * self.wait).min(RETRY_MAX);
    }

    /// Tells what may have changed while nobody listened.
    fn catch_up(&mut self, uris: &[Box<str>]) {
        let Some(active) = self.keeping.active.upgrade() else { return };
        if self.wanted().topics != Topics::default() {
            active.health().lists_may_have_changed();
        }
        for uri in uris {
            match task_of(uri) {
                Some(task) => self.missed.add(task),
                None => active.may_have_changed(self.keeping.owner(), uri),
            }
        }
    }

    fn hear(&mut self, said: Said, side: Side) {
        let Some(active) = self.keeping.active.upgrade() else { return };
        match said {
            Said::Nothing => (),
            Said::ListChanged(notice) => active.health().list_changed(None, notice),
            Said::TaskChanged(message) => {
                let id = task::changed(&message).and_then(|id| unquote(id.of(message.text())));
                if let Some(id) = id {
                    self.missed.is_known(&id);
                }
                active.task_changed(self.keeping.owner(), *message);
            }
            Said::Updated(message) => {
                let is_new =
                    self.fading.as_mut().is_none_or(|fading| fading.is_new(&message, side));
                if is_new {
                    active.resource_updated(self.keeping.owner(), *message);
                }
            }
        }
    }
}

async fn open(
    active: Arc<Active>,
    (owner, wished): (Option<SessionKey>, Arc<Wished>),
    wanted: Wanted,
) -> Result<Box<Channel>, CallFailure> {
    active.subscription((owner.as_ref(), wished.able()), wanted).await.map(Box::new)
}
