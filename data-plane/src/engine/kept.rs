//! Tasks of legacy upstreams for modern clients: while a task runs its result is waited for here,
//! since that is how legacy servers ask for input; what they ask and what came of it is told when
//! the client asks for the task's state (MCP guide §4.4).
//!
//! A task is kept by the proxy that its id names. Lost, it is kept anew by whoever is asked next.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{bridge::Bridge, rounds};
use crate::{
    limit::{Limiter, Limits, Permit},
    mcp::{
        Capabilities, Kind, Message, Method, Version,
        addressee::Addressee,
        code, input,
        message::{Outcome, Response, parse},
        response,
        task::generations::{self, Status, Task},
    },
    snapshot::table::Table,
    target::{Asked, Target, Wish},
    task_id::TaskId,
    upstream::{Call, CallError, CallFailure, Event, Reply, SessionKey, Upstreams},
};

/// Tasks that are kept at the same time, of one principal and at all. Others go on too, but
/// cannot ask for input.
const PRINCIPAL_MAX: usize = 64;
const MAX: usize = 10_000;
/// How long a task is kept that nobody asks for.
const PATIENCE: Duration = Duration::from_mins(10);
/// How long it is waited for what a legacy upstream says is there.
const SOON: Duration = Duration::from_secs(2);

/// A task and whose it is.
type Key = (Arc<str>, TaskId);

/// All tasks that this proxy keeps.
#[derive(Debug)]
pub(crate) struct KeptTasks {
    tasks: DashMap<Key, Arc<Kept>>,
    places: Arc<Limiter>,
}

/// A task whose result is waited for.
struct Kept {
    state: Mutex<State>,
    changes: watch::Sender<()>,
    keeper: Mutex<Option<AbortOnDropHandle<()>>>,
    _place: Permit,
}

struct State {
    /// What it asks for.
    bridge: Box<Bridge>,
    /// The answer that the call would have had.
    outcome: Option<Result<Bytes, CallError>>,
    used: Instant,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Kept")
    }
}

/// The two sides of a request about a task.
struct Asking<'a> {
    upstreams: &'a Arc<Upstreams>,
    table: &'a Arc<Table>,
    call: &'a Call,
    /// As the upstream and the client know the task.
    id: &'a str,
    sealed: &'a str,
}

impl Default for KeptTasks {
    fn default() -> Self {
        let limits = Limits {
            principal_in_flight_max: PRINCIPAL_MAX,
            in_flight_max: MAX,
            ..Limits::default()
        };
        Self { tasks: DashMap::new(), places: Limiter::new(&limits) }
    }
}

impl KeptTasks {
    /// Answers a modern client's request about a task of a legacy upstream.
    pub(crate) async fn serve(
        self: Arc<Self>,
        upstreams: Arc<Upstreams>,
        table: Arc<Table>,
        call: Call,
    ) -> Result<Reply, CallError> {
        let (Asked::Task { id, sealed, .. }, Some(method)) =
            (&call.target.asked, call.message.method())
        else {
            return upstreams.call(&table, &call).await;
        };
        let asking = Asking { upstreams: &upstreams, table: &table, call: &call, id, sealed };
        match method {
            Method::TasksUpdate => Ok(Reply::Response(self.update(&asking).into())),
            Method::TasksCancel => asking.cancel().await,
            _ => self.get(&asking).await,
        }
    }

    /// Gives all tasks up: the proxy ends.
    pub(crate) fn end(&self) {
        self.tasks.clear();
    }

    /// Forgets what nobody asks for any more.
    pub(crate) fn sweep(&self) {
        self.tasks.retain(|_, kept| kept.state.lock().used.elapsed() < PATIENCE);
    }

    /// The task that is asked for, kept from now on; `None` if there is no room.
    fn kept(self: &Arc<Self>, asking: &Asking<'_>) -> Option<Arc<Kept>> {
        let key = asking.key()?;
        if let Some(kept) = self.tasks.get(&key).map(|kept| Arc::clone(&kept)) {
            kept.state.lock().used = Instant::now();
            let is_broken = matches!(kept.state.lock().outcome, Some(Err(_)));
            if !is_broken {
                return Some(kept);
            }
            self.tasks.remove(&key);
        }
        let place = self.place(&key.0)?;
        let state = State { bridge: Box::default(), outcome: None, used: Instant::now() };
        let kept = Arc::new(Kept {
            state: Mutex::new(state),
            changes: watch::Sender::new(()),
            keeper: Mutex::default(),
            _place: place,
        });
        // Two may come at once: what the first one's has heard must not be lost.
        let entry = self.tasks.entry(key).or_insert_with(|| Arc::clone(&kept));
        if !Arc::ptr_eq(&entry, &kept) {
            return Some(Arc::clone(&entry));
        }
        drop(entry);
        let keeping = keep(
            Arc::downgrade(&kept),
            Arc::clone(asking.upstreams),
            Arc::clone(asking.table),
            asking.request("tasks/result", Wish::Result),
        );
        *kept.keeper.lock() = Some(AbortOnDropHandle::new(tokio::spawn(keeping)));
        Some(kept)
    }

    /// A place for one more task of a principal, if need be that of its task that was done first.
    fn place(&self, subject: &Arc<str>) -> Option<Permit> {
        if let Ok(place) = self.places.enter(Some(subject)) {
            return Some(place);
        }
        let done = self.tasks.iter().filter(|kept| kept.key().0 == *subject);
        let done = done.filter_map(|kept| {
            let state = kept.state.lock();
            state.outcome.is_some().then(|| (state.used, kept.key().clone()))
        });
        let (_, first) = done.min_by_key(|(used, _)| *used)?;
        self.tasks.remove(&first);
        self.places.enter(Some(subject)).ok()
    }

    async fn get(self: &Arc<Self>, asking: &Asking<'_>) -> Result<Reply, CallError> {
        let kept = self.kept(asking);
        let told = asking.ask("tasks/get", Wish::Get).await?;
        let message = asking.read(told)?;
        let Some(task) = Task::told(&message) else {
            // There is no such task any more, or the upstream cannot say.
            asking.key().map(|key| self.tasks.remove(&key));
            return Ok(Reply::of(message));
        };
        let (status, more) = match task.status() {
            Some(Status::Completed | Status::Failed) => match asking.outcome(kept).await? {
                Some(answer) => outcome(&answer),
                None => (Status::Working, String::new()),
            },
            Some(Status::Cancelled) => (Status::Cancelled, String::new()),
            status @ (Some(Status::Working | Status::InputRequired) | None) => {
                let is_sure = status == Some(Status::InputRequired);
                let patience = if is_sure { SOON } else { Duration::ZERO };
                let inputs = match kept {
                    Some(kept) => {
                        let capabilities = asking.call.capabilities;
                        kept.inputs(capabilities, patience).await
                    }
                    None => Vec::new(),
                };
                if inputs.is_empty() {
                    (Status::Working, String::new())
                } else {
                    (Status::InputRequired, input::requests(&inputs))
                }
            }
        };
        let told = asking.read(task.told_for_modern(asking.sealed, status, &more))?;
        Ok(Reply::of(told))
    }

    /// Gives the task what it asked for.
    fn update(self: &Arc<Self>, asking: &Asking<'_>) -> Bytes {
        let request = &asking.call.message;
        let id = asking.call.id();
        let Ok(responses) = input::responses(request) else {
            let problem = "`params.inputResponses` must be an object of objects";
            return response::error(Some(&id), code::INVALID_PARAMS, problem, None);
        };
        if let Some(kept) = self.kept(asking) {
            let names = rounds::names(request);
            let mut state = kept.state.lock();
            state.bridge.go_on(request, &responses, (names, asking.call.capabilities));
        }
        acknowledged(&id)
    }
}

impl Kept {
    /// What the task asks a client for that has `capabilities`, once it asks or its result is
    /// there. Who asks is said when the answer is judged.
    async fn inputs(
        &self,
        capabilities: Capabilities,
        patience: Duration,
    ) -> Vec<(String, String)> {
        let to = Addressee { capabilities, version: Version::NEWEST, asker: None };
        let look = || {
            let state = self.state.lock();
            (state.bridge.inputs(&to), state.outcome.is_some())
        };
        let mut changes = self.changes.subscribe();
        let waiting = async {
            loop {
                let (inputs, is_done) = look();
                if !inputs.is_empty() || is_done || changes.changed().await.is_err() {
                    return inputs;
                }
            }
        };
        tokio::time::timeout(patience, waiting).await.unwrap_or_default()
    }

    /// What came of the task, once it is there.
    async fn outcome(&self) -> Option<Result<Bytes, CallError>> {
        let mut changes = self.changes.subscribe();
        let waiting = async {
            loop {
                let outcome = self.state.lock().outcome.clone();
                if outcome.is_some() || changes.changed().await.is_err() {
                    return outcome;
                }
            }
        };
        tokio::time::timeout(SOON, waiting).await.ok().flatten()
    }
}

/// Waits for the result of a task as long as somebody keeps it.
async fn keep(kept: Weak<Kept>, upstreams: Arc<Upstreams>, table: Arc<Table>, call: Call) {
    let outcome = match upstreams.call(&table, &call).await {
        Err(error) => Err(error),
        Ok(Reply::Response(body)) => Ok(body.into_bytes()),
        Ok(Reply::InputRequired(answer)) => Ok(answer.into_body()),
        Ok(Reply::Events(mut events)) => loop {
            let heard = events.next().await;
            let Some(kept) = kept.upgrade() else { return };
            match heard {
                Some(Ok(Event::Response(body))) => break Ok(body.into_bytes()),
                Some(Ok(Event::InputRequired(answer))) => break Ok(answer.into_body()),
                Some(Ok(Event::Request(question))) => {
                    kept.state.lock().bridge.ask(question, call.capabilities);
                }
                Some(Ok(Event::Withdrawn(id))) => kept.state.lock().bridge.withdraw(&id),
                Some(Ok(Event::Notification(_))) => (),
                Some(Err(error)) => break Err(error),
                None => {
                    let upstream = call.target.label().to_owned();
                    break Err(CallError { upstream, failure: CallFailure::NoResponse });
                }
            }
            kept.changes.send_replace(());
        },
    };
    if let Some(kept) = kept.upgrade() {
        kept.state.lock().outcome = Some(outcome);
        kept.changes.send_replace(());
    }
}

impl Asking<'_> {
    fn key(&self) -> Option<Key> {
        let SessionKey::Principal { subject, .. } = &self.call.session else { return None };
        let upstream_id = self.call.target.upstream_id()?.into();
        Some((Arc::clone(subject), TaskId { upstream_id, id: self.id.into() }))
    }

    /// What people know the upstream by.
    fn upstream(&self) -> &str {
        let id = self.call.target.upstream_id().unwrap_or_default();
        self.table.upstream(id).map_or(id, |upstream| upstream.name.as_str())
    }

    /// A request of our own about the task.
    fn request(&self, method: &str, wish: Wish) -> Call {
        let asked = Asked::Task {
            upstream_id: self.call.target.upstream_id().unwrap_or_default().into(),
            id: self.id.into(),
            sealed: self.sealed.into(),
            wish,
        };
        Call {
            message: generations::about(&self.call.message, method, self.id, ""),
            target: Target { asked, uris: self.call.target.uris.clone() },
            tasks: self.call.tasks.as_ref().map(|passage| passage.hidden()),
            ..self.call.clone()
        }
    }

    /// Sends a request and gives its response; what comes before it is nobody's.
    async fn ask(&self, method: &str, wish: Wish) -> Result<Bytes, CallError> {
        let call = self.request(method, wish);
        self.upstreams.call(self.table, &call).await?.into_answer().await
    }

    fn read(&self, body: Bytes) -> Result<Message, CallError> {
        parse(body).map_err(|error| self.failed(CallFailure::NotJsonRpc(error.to_string())))
    }

    fn failed(&self, failure: CallFailure) -> CallError {
        CallError { upstream: self.upstream().to_owned(), failure }
    }

    /// What came of a task that is done.
    async fn outcome(&self, kept: Option<Arc<Kept>>) -> Result<Option<Message>, CallError> {
        let outcome = match kept {
            Some(kept) => kept.outcome().await.transpose()?,
            None => Some(self.ask("tasks/result", Wish::Result).await?),
        };
        outcome.map(|body| self.read(body)).transpose()
    }

    /// To modern clients it is only acknowledged that the upstream was told.
    async fn cancel(&self) -> Result<Reply, CallError> {
        let id = self.call.id();
        let refused = self.read(self.ask("tasks/cancel", Wish::Change).await?)?;
        if let Kind::Response(Response { outcome: Outcome::Result { .. }, .. }) = &refused.kind {
            return Ok(Reply::Response(acknowledged(&id).into()));
        }
        // Legacy servers refuse it of what has ended; to modern clients that is no error.
        let told = self.read(self.ask("tasks/get", Wish::Get).await?)?;
        Ok(match Task::told(&told) {
            Some(_) => Reply::Response(acknowledged(&id).into()),
            None => Reply::of(refused),
        })
    }
}

/// What an answer says of the task that it came of. Only what is wrong with the protocol has
/// failed in the modern era.
fn outcome(answer: &Message) -> (Status, String) {
    match &answer.kind {
        Kind::Response(Response { outcome: Outcome::Error(error), .. }) => {
            (Status::Failed, format!("\"error\":{}", error.of(answer.text())))
        }
        Kind::Response(Response { outcome: Outcome::Result { span, .. }, .. }) => {
            (Status::Completed, format!("\"result\":{}", span.of(answer.text())))
        }
        Kind::Request(_) | Kind::Notification(_) => (Status::Working, String::new()),
    }
}

fn acknowledged(id: &[u8]) -> Bytes {
    response::answer(id, response::acknowledgement()).into_bytes()
}
