//! A request of an upstream that waits for an answer; refused when nobody gives one.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    http::Session,
    pipe::{Connection, Serial},
};
use crate::{
    mcp::{
        Ask, Capabilities, Kind, Message, Method, Span,
        addressee::Addressee,
        ask, code,
        message::{Response, parse, splice},
        response,
        task::{self, Expected},
    },
    tasks::Passage,
};

/// What an upstream asks its client for. Dropping it tells the upstream that nobody answers.
#[derive(Debug)]
pub struct Question {
    message: Box<Message>,
    /// `None` once it is answered.
    back: Option<Back>,
    /// While it lives, the upstream may be silent.
    _open: Open,
    tasks: Option<Arc<Passage>>,
    renamed: Option<Renamed>,
    is_of_call: bool,
}

/// The task that a question belongs to, raw JSON on both sides.
#[derive(Debug)]
struct Renamed {
    own: Bytes,
    shown: Box<str>,
}

/// Counts the questions of one call that wait: one handle more than questions.
pub(super) type Open = Arc<()>;

/// The way to the upstream that asked.
#[derive(Clone, Debug)]
pub(super) enum Back {
    Http(Arc<Session>),
    /// With the request's number, if it is kept there.
    Pipe(Arc<Connection>, Option<Serial>),
    /// The upstream did not ask with a request: the answer waits for its next round.
    Round {
        at: usize,
        answers: mpsc::Sender<(usize, Bytes)>,
    },
}

impl Back {
    /// Sends a message that nobody answers. An upstream that is gone need not hear it.
    fn say(&self, body: Bytes) {
        match self {
            Self::Http(session) => session.say(body),
            Self::Pipe(connection, _) => drop(connection.notify(body)),
            // There is room for the answer, which is one.
            Self::Round { at, answers } => drop(answers.try_send((*at, body))),
        }
    }

    /// Sends the answer.
    fn answer(&self, body: Bytes) {
        match self {
            Self::Pipe(connection, serial) => connection.answer(*serial, body),
            Self::Http(_) | Self::Round { .. } => self.say(body),
        }
    }

    /// The upstream took back its request.
    fn withdrawn(&self) {
        match self {
            Self::Pipe(connection, serial) => connection.withdrawn(*serial),
            Self::Http(_) | Self::Round { .. } => (),
        }
    }

    /// What people know by name of who asks, if the request does not say so already.
    fn asker(&self) -> Option<&str> {
        match self {
            Self::Http(session) => Some(session.endpoint().health.name()),
            Self::Pipe(connection, _) => Some(connection.health().name()),
            // Such questions are put into words here.
            Self::Round { .. } => None,
        }
    }

    /// Whether it takes more than the answer.
    fn takes_progress(&self) -> bool {
        match self {
            Self::Http(_) | Self::Pipe(..) => true,
            Self::Round { .. } => false,
        }
    }
}

impl Question {
    /// `message` is a request.
    pub(super) fn new(message: Box<Message>, back: Back, open: Open) -> Self {
        let (back, is_of_call) = (Some(back), true);
        Self { message, back, _open: open, tasks: None, renamed: None, is_of_call }
    }

    /// The same, asked during a call that may have to do with tasks.
    pub(super) fn within(mut self, tasks: Option<&Arc<Passage>>) -> Self {
        self.tasks = tasks.cloned();
        self
    }

    /// The same, which only travels with a call and need not belong to it.
    pub(crate) fn beside(mut self) -> Self {
        self.is_of_call = false;
        self
    }

    /// Whether it ends with the call that it was heard with.
    pub(crate) fn is_of_call(&self) -> bool {
        self.is_of_call
    }

    /// The same question, asked during a call: while it lives, the call may be silent.
    pub(super) fn during(mut self, open: Open) -> Self {
        let (back, tasks) = (self.back.take(), self.tasks.take());
        let (renamed, is_of_call) = (self.renamed.take(), self.is_of_call);
        Self { message: self.message.clone(), back, _open: open, tasks, renamed, is_of_call }
    }

    /// The same about the task that the client knows as `shown`, raw JSON.
    pub(crate) fn about_task(mut self, shown: &str) -> Self {
        let Some(own) = task::related(&self.message) else { return self };
        let renamed = Renamed { own: self.message.slice(own), shown: shown.into() };
        // Strings replace strings, so it stays a message.
        if let Ok(message) = parse(splice(self.message.body(), &[(own, shown.as_bytes())])) {
            *self.message = message;
            self.renamed = Some(renamed);
        }
        self
    }

    /// A client's answer as its upstream reads it.
    fn own(&self, response: &Message) -> Option<Message> {
        if let Some(tasks) = &self.tasks {
            return tasks.answered(response);
        }
        let Renamed { own, shown } = self.renamed.as_ref()?;
        let named = task::named(response, Expected::List).into_iter();
        let edits = named.filter(|id| id.of(response.text()) == &**shown).map(|id| (id, own));
        parse(splice(response.body(), &edits.collect::<Vec<_>>())).ok()
    }

    /// What a client must have declared to be asked; `None` if no client knows such requests.
    pub(crate) fn needs(&self) -> Option<Capabilities> {
        ask::asked(&self.message).map(|(_, needs)| needs)
    }

    /// The request's method.
    pub(crate) fn method(&self) -> &str {
        self.message.method().map_or("", Method::as_str)
    }

    /// The request as the upstream sent it.
    pub(crate) fn message(&self) -> &Message {
        &self.message
    }

    /// Its id at the upstream, raw JSON.
    pub(crate) fn id(&self) -> &[u8] {
        id_of(&self.message)
    }

    /// Who asks, as people know it, unless the request says so already.
    pub(crate) fn asker(&self) -> Option<&str> {
        self.back.as_ref().and_then(Back::asker)
    }

    /// The request as this client shall see it: id and progress token are `id`, raw JSON.
    pub(crate) fn under(&self, id: &[u8], to: &Addressee<'_>) -> Bytes {
        let Kind::Request(request) = &self.message.kind else { return Bytes::new() };
        let mut edits = vec![(request.id, Cow::Borrowed(id))];
        edits.extend(self.token().map(|token| (token, Cow::Borrowed(id))));
        let fitted = to.edits(&self.message).into_iter();
        edits.extend(fitted.map(|(span, text)| (span, Cow::Owned(text.into_bytes()))));
        splice(self.message.body(), &edits)
    }

    fn token(&self) -> Option<Span> {
        self.message.params().and_then(|params| params.meta.progress_token)
    }

    /// Gives the client's response back, whatever its id.
    pub(crate) fn answer(mut self, response: &Message) {
        let own = self.own(response);
        let response = own.as_ref().unwrap_or(response);
        let Kind::Response(Response { id: Some(found), .. }) = &response.kind else { return };
        let body = splice(response.body(), &[(*found, self.id())]);
        self.say_last(body);
    }

    /// Gives the client's progress back, under the token that the upstream gave.
    pub(crate) fn progress(&self, notification: &Message) {
        let found = notification.params().and_then(|params| params.progress_token);
        let back = self.back.as_ref().filter(|back| back.takes_progress());
        if let (Some(back), Some(found), Some(token)) = (back, found, self.token()) {
            back.say(splice(notification.body(), &[(found, self.message.raw(token))]));
        }
    }

    /// The upstream took it back, so it expects no answer.
    pub(crate) fn withdraw(mut self) {
        if let Some(back) = self.back.take() {
            back.withdrawn();
        }
    }

    /// The client had its time.
    pub(crate) fn expire(mut self) {
        let body = expiry_of(&self.message);
        self.say_last(body);
    }

    fn say_last(&mut self, body: Bytes) {
        if let Some(back) = self.back.take() {
            back.answer(body);
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if self.back.is_some() {
            self.say_last(refusal_of(&self.message));
        }
    }
}

/// The id of a request, raw JSON.
pub(super) fn id_of(message: &Message) -> &[u8] {
    message.id().unwrap_or(b"null")
}

/// The answer to a request whose client had its time.
pub(super) fn expiry_of(message: &Message) -> Bytes {
    refusal(message, code::INTERNAL_ERROR, "the client did not answer in time")
}

/// The answer to a request that cannot be passed on. Signs of life we give ourselves.
pub(super) fn refusal_of(message: &Message) -> Bytes {
    refusal(message, code::METHOD_NOT_FOUND, "there is no client that could be asked")
}

fn refusal(message: &Message, code: i64, text: &str) -> Bytes {
    let id = id_of(message);
    let result =
        |result: &'static [u8]| response::answer(id, Bytes::from_static(result)).into_bytes();
    match ask::asked(message) {
        Some((Ask::Ping, _)) => result(b"{}"),
        // Everybody who asks users expects that they may turn away (MCP guide §4.5).
        Some((Ask::Elicitation, _)) => result(br#"{"action":"cancel"}"#),
        Some((Ask::Sampling | Ask::Roots, _)) | None => response::error(Some(id), code, text, None),
    }
}

/// Whether an upstream asks for a sign of life only.
pub(super) fn is_ping(message: &Message) -> bool {
    matches!(ask::asked(message), Some((Ask::Ping, _)))
}
