//! A task of a modern upstream as a legacy client deals with it: asked for its state until it is
//! done, and what it asks for is asked of the client (MCP guide §4.4).

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use proto::Era;
use tokio::{sync::mpsc, time::Instant};

use super::{
    Call, CallError, Event, Reply,
    active::Active,
    call::Source,
    failure::CallFailure,
    fetch::Bounds,
    question::{Back, Open, Question},
};
use crate::{
    mcp::{
        Ask, Capabilities, Kind, Message, Method, Span, Version, ask, code, elicitation, input,
        message::{Outcome, Response, parse, splice},
        response,
        task::generations::{self, Status, Task},
        translate::{self, Audience},
    },
    target::{Asked, Target, Wish},
    tasks::Passage,
};

/// How often a task is asked for its state, if it says nothing else, and within which limits.
const POLL: Duration = Duration::from_secs(1);
const POLL_MIN: Duration = Duration::from_millis(100);
const POLL_MAX: Duration = Duration::from_secs(5);
/// What one task may ask for while its client waits.
const QUESTIONS_MAX: usize = 64;
/// What a client says that does not want to, or cannot.
const CANCELLED: &[u8] = br#"{"action":"cancel"}"#;

type Calling = Pin<Box<dyn Future<Output = Result<Bytes, CallFailure>> + Send>>;

/// A legacy client's request about a task of a modern upstream; `None`: the upstream knows the
/// same request.
pub(super) async fn serve(
    (active, bounds): (Arc<Active>, Bounds),
    call: &Call,
    passage: &Passage,
) -> Option<Result<Reply, CallError>> {
    let Asked::Task { sealed, .. } = &call.target.asked else { return None };
    let method = call.message.method()?;
    if let Some(done) = passage.answered_at_once() {
        let body = match method {
            Method::TasksResult => {
                let answer = parse(done.answer).ok()?;
                generations::related_to(for_client(call, &answer, active.name()), sealed)
            }
            Method::TasksCancel => is_done_already(call),
            _ => response::answer(&call.id(), done.state.into()).into_bytes(),
        };
        return Some(Ok(Reply::Response(body.into())));
    }
    match method {
        Method::TasksResult => {
            let by = (Arc::clone(&active), bounds.patient());
            let followed = Box::new(Followed::new(by, call.clone()));
            Some(Ok(active.reply(Source::Followed(followed))))
        }
        Method::TasksCancel => {
            let upstream = active.name().to_owned();
            let cancelled = cancel((active, bounds), call, passage).await;
            let failed = |failure| CallError { upstream, failure };
            Some(cancelled.map(|body| Reply::Response(body.into())).map_err(failed))
        }
        _ => None,
    }
}

/// Modern servers only acknowledge that they were told; a legacy client is told what became of
/// its task.
async fn cancel(
    (active, bounds): (Arc<Active>, Bounds),
    call: &Call,
    passage: &Passage,
) -> Result<Bytes, CallFailure> {
    let Asked::Task { sealed, .. } = &call.target.asked else {
        return Err(CallFailure::NoResponse);
    };
    let told = ask_of(&active, bounds, request(call, "tasks/get", "")).await?;
    let message = read(told)?;
    let Some(task) = Task::told(&message) else {
        return Ok(for_client(call, &message, active.name()));
    };
    if task.status().is_some_and(Status::is_final) {
        return Ok(is_done_already(call));
    }
    let answer = read(ask_of(&active, bounds, request(call, "tasks/cancel", "")).await?)?;
    if let Kind::Response(Response { outcome: Outcome::Error(_), .. }) = &answer.kind {
        return Ok(for_client(call, &answer, active.name()));
    }
    passage.note_cancelled();
    Ok(task.told_for_legacy(sealed, Some(Status::Cancelled)))
}

/// What a legacy client waits for with `tasks/result`.
pub(crate) struct Followed {
    active: Arc<Active>,
    bounds: Bounds,
    /// As the client made it.
    call: Call,
    step: Step,
    /// What is to be said before anything else.
    ready: VecDeque<Event>,
    /// What was asked for, each once, by the keys of the task, raw JSON.
    asked: Vec<(Box<str>, Ask)>,
    answer: mpsc::Sender<(usize, Bytes)>,
    answers: mpsc::Receiver<(usize, Bytes)>,
}

enum Step {
    /// The task is asked for its state.
    Asking(Calling),
    /// It is told what it wanted to know.
    Telling(Calling),
    /// Until it is asked again.
    Waiting(Instant),
    Done,
}

impl std::fmt::Debug for Followed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Followed").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl Followed {
    fn new((active, bounds): (Arc<Active>, Bounds), call: Call) -> Self {
        let (ready, asked) = (VecDeque::new(), Vec::new());
        let (answer, answers) = mpsc::channel(QUESTIONS_MAX);
        let step = Step::Waiting(Instant::now());
        Self { active, bounds, call, step, ready, asked, answer, answers }
    }

    /// The next message for the client. Safe to drop while waiting.
    pub(super) async fn next(&mut self) -> Result<Event, CallFailure> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            match &mut self.step {
                Step::Asking(calling) => {
                    let told = self.bounds.within_all(calling.as_mut()).await?;
                    self.step = Step::Done;
                    self.judge(&read(told?)?);
                }
                Step::Telling(calling) => {
                    // What it thinks of the answer its state will say.
                    let told = self.bounds.within_all(calling.as_mut()).await?;
                    self.step = Step::Done;
                    told?;
                    self.ask(Duration::ZERO);
                }
                Step::Waiting(until) => {
                    let waiting = tokio::time::timeout_at(*until, self.answers.recv());
                    match self.bounds.within_all(waiting).await? {
                        Ok(Some((at, answer))) => self.take(at, answer),
                        Ok(None) => return Err(CallFailure::NoResponse),
                        Err(_) => {
                            let get = request(&self.call, "tasks/get", "");
                            self.step = Step::Asking(self.calling(get));
                        }
                    }
                }
                Step::Done => return Err(CallFailure::NoResponse),
            }
        }
    }

    fn calling(&self, call: Call) -> Calling {
        let (active, bounds) = (Arc::clone(&self.active), self.bounds);
        Box::pin(async move { ask_of(&active, bounds, call).await })
    }

    /// Asks for the state after a pause.
    fn ask(&mut self, pause: Duration) {
        self.step = Step::Waiting(Instant::now() + pause);
    }

    /// Looks at what the upstream says of the task.
    fn judge(&mut self, message: &Message) {
        let Some(task) = Task::told(message) else {
            return self.end(for_client(&self.call, message, self.active.name()));
        };
        let is_cancelled = self.call.tasks.as_ref().is_some_and(|tasks| tasks.is_cancelled());
        let status = if is_cancelled { Some(Status::Cancelled) } else { task.status() };
        match status {
            Some(status) if status.is_final() => {
                let id = self.call.id();
                let outcome = task.outcome(&id).and_then(|body| parse(body).ok());
                let body = match (outcome, status) {
                    (Some(outcome), _) => for_client(&self.call, &outcome, self.active.name()),
                    (None, Status::Cancelled) => {
                        error(&self.call, code::INTERNAL_ERROR, "the task was cancelled")
                    }
                    (None, _) => {
                        let text = "the upstream does not say what came of the task";
                        error(&self.call, code::INTERNAL_ERROR, text)
                    }
                };
                self.end(generations::related_to(body, self.sealed()));
            }
            Some(_) | None => {
                for (key, request) in task.inputs() {
                    self.question(key, &request);
                }
                let pause = task.poll_ms().map_or(POLL, Duration::from_millis);
                self.ask(pause.clamp(POLL_MIN, POLL_MAX));
            }
        }
    }

    /// Asks the client what the task asks for, once.
    fn question(&mut self, key: Box<str>, request: &Message) {
        let Some((ask, _)) = ask::asked(request) else { return };
        let at = self.asked.len();
        if at >= QUESTIONS_MAX || self.asked.iter().any(|(asked, _)| *asked == key) {
            return;
        }
        self.asked.push((key, ask));
        let back = Back::Round { at, answers: self.answer.clone() };
        let body = self.in_words_of_client(request, ask);
        let Ok(message) = parse(generations::related_to(body, self.sealed())) else { return };
        let question = Question::new(Box::new(message), back, Open::default());
        if elicitation::is_harmless(request) {
            self.ready.push_back(Event::Request(question));
        }
        // Else it is dropped, and so refused.
    }

    /// A question as its era knows it, and who asks.
    fn in_words_of_client(&self, request: &Message, ask: Ask) -> Bytes {
        let params = request.params().and_then(|params| params.span);
        let (Ask::Elicitation, Some(params)) = (ask, params) else { return request.body().clone() };
        let asker = self.call.askers.named(self.active.name());
        let sign = |asker| elicitation::signature(request.text(), params, asker);
        let mut edits: Vec<_> = asker.and_then(sign).into_iter().collect();
        if elicitation::is_visit(request.text(), params) {
            let id = format!(r#""elicitationId":"{:032x}","#, rand::random::<u128>());
            edits.push((Span::at(params.start + 1), id));
        }
        splice(request.body(), &edits)
    }

    /// The client has answered.
    fn take(&mut self, at: usize, body: Bytes) {
        let Some((key, ask)) = self.asked.get(at) else { return };
        let given = parse(body).ok().and_then(|answer| match &answer.kind {
            Kind::Response(Response { outcome: Outcome::Result { span, .. }, .. }) => {
                Some(answer.slice(*span))
            }
            Kind::Response(_) | Kind::Request(_) | Kind::Notification(_) => None,
        });
        let given = match (given, ask) {
            (Some(given), _) => given,
            (None, Ask::Elicitation) => Bytes::from_static(CANCELLED),
            (None, Ask::Sampling | Ask::Roots | Ask::Ping) => {
                let text = "the task needs an answer that this client does not give";
                return self.end(error(&self.call, code::INTERNAL_ERROR, text));
            }
        };
        let given = String::from_utf8_lossy(&given);
        let responses = format!(r#""inputResponses":{{{key}:{given}}}"#);
        let update = request(&self.call, "tasks/update", &responses);
        self.step = Step::Telling(self.calling(update));
    }

    fn end(&mut self, body: Bytes) {
        self.step = Step::Done;
        self.ready.push_back(Event::Response(body.into()));
    }

    fn sealed(&self) -> &str {
        match &self.call.target.asked {
            Asked::Task { sealed, .. } => sealed,
            Asked::Tool(_)
            | Asked::Prompt { .. }
            | Asked::Resource { .. }
            | Asked::Completion { .. }
            | Asked::Extension { .. }
            | Asked::Tasks { .. } => "",
        }
    }
}

/// A request of our own about the task of a call, in the modern era.
fn request(call: &Call, method: &str, more: &str) -> Call {
    let mut target = call.target.clone();
    if let Target { asked: Asked::Task { wish, .. }, .. } = &mut target {
        *wish = if method == "tasks/get" { Wish::Get } else { Wish::Change };
    }
    let id = match &target.asked {
        Asked::Task { id, .. } => id.clone(),
        Asked::Tool(_)
        | Asked::Prompt { .. }
        | Asked::Resource { .. }
        | Asked::Completion { .. }
        | Asked::Extension { .. }
        | Asked::Tasks { .. } => Box::default(),
    };
    Call {
        message: generations::about(&call.message, method, &id, more),
        target,
        client_era: Era::Modern,
        client_version: Version::V2026_07_28,
        capabilities: call.capabilities.or(Capabilities::tasks()),
        // Under an id of its own.
        round: 1,
        tasks: None,
        ..call.clone()
    }
}

/// Sends a request and gives its response; what comes before it is nobody's.
async fn ask_of(active: &Active, bounds: Bounds, call: Call) -> Result<Bytes, CallFailure> {
    active.answer(&call, bounds).await?.into_answer().await.map_err(|error| error.failure)
}

fn read(body: Bytes) -> Result<Message, CallFailure> {
    parse(body).map_err(|error| CallFailure::NotJsonRpc(error.to_string()))
}

/// A response of the upstream that people know as `name`, in terms of the client's generation.
fn for_client(call: &Call, answer: &Message, name: &str) -> Bytes {
    let (id, uris) = (call.id(), call.target.uris.as_deref());
    let audience = Audience { era: Era::Legacy, id: &id, asked_uri: None, uris };
    if input::may_name_pages(answer) {
        let (Ok(body) | Err(body)) =
            translate::with_pages(answer, call.askers.named(name), &audience);
        return body.into_bytes();
    }
    translate::response_to_client(answer, &audience).into_bytes()
}

fn error(call: &Call, code: i64, text: &str) -> Bytes {
    response::error(Some(&call.id()), code, text, None)
}

/// MCP 2025-11-25, tasks: what has ended cannot be cancelled.
fn is_done_already(call: &Call) -> Bytes {
    error(call, code::INVALID_PARAMS, "the task has ended, so it cannot be cancelled")
}
