//! Multi-round-trip requests of modern clients: what they send back travels sealed to who asked
//! for what, so that nobody else can send it (MCP 2026-07-28, MRTR).
//!
//! To a modern upstream its own state goes back. A legacy one asked with requests of its own:
//! its call is [parked](super::parked), and the state names it.

mod state;

use std::{
    borrow::Cow,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

pub(crate) use self::state::Opened;
use self::state::{Question, State};
use super::{
    Sender,
    bridge::{Bridge, Names},
    parked::{Held, ParkedCalls, ParkedId, TakeError},
};
use crate::{
    error::{self, Failure},
    exchange::Heards,
    mcp::{
        Capabilities, Level, Message, Method, Pieces, Span, Version,
        addressee::Addressee,
        code,
        elicitation::Askers,
        input::{self, ROUNDS_MAX},
        level::Wanted,
        message::parse,
        response,
    },
    route::RouteError,
    snapshot::table::Table,
    upstream,
};

/// One round: what the states of its request are sealed to.
pub(crate) struct Rounds {
    table: Arc<Table>,
    question: Question,
    parked: Arc<ParkedCalls>,
    /// What the client can be asked for.
    declared: Capabilities,
    /// Whether that can be done on this request.
    may_want_input: bool,
    askers: Askers,
    /// What a legacy upstream has asked.
    bridge: Option<Box<Bridge>>,
    /// How often pages had to be visited before.
    visits: u8,
}

impl Rounds {
    /// `upstream` is the id of the upstream that will be asked; the client can be asked for what
    /// it has `declared`.
    pub(crate) fn of(
        sender: &Sender<'_>,
        message: &Message,
        (upstream, declared): (&str, Capabilities),
    ) -> Option<Self> {
        let subject = Arc::clone(&sender.principal.subject);
        let question = Question::of(subject, upstream, message)?;
        let parked = Arc::clone(sender.edge.parked());
        // Only these may want input.
        let may_want_input = matches!(
            message.method(),
            Some(Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead)
        );
        let table = Arc::clone(&sender.table);
        let askers = sender.askers();
        Some(Self {
            table,
            question,
            parked,
            declared,
            may_want_input,
            askers,
            bridge: None,
            visits: 0,
        })
    }

    /// What the client can be asked on this request.
    fn able(&self) -> Capabilities {
        if self.may_want_input { self.declared } else { Capabilities::NONE }
    }

    /// What the request brings back.
    pub(crate) fn open(&self, now_ms: i64) -> Result<Opened, RouteError> {
        self.question.open(self.table.session_keys(), now_ms)
    }

    /// Takes up a call that waits here, with what `request` brings: what it says from now on.
    pub(crate) fn resume(&mut self, id: &ParkedId, request: &Message) -> Result<Heards, Failure> {
        let responses = responses(request)?;
        let Held { events, mut bridge } = self.parked.take(id).map_err(|error| match error {
            TakeError::Spent => RouteError::InvalidParams(
                "`params.requestState` was sent back before: each is good for one request",
            )
            .into(),
            TakeError::Lost => Failure::ParkedLost,
        })?;
        bridge.go_on(request, &responses, (names(request), self.able()));
        self.bridge = Some(bridge);
        Ok(events)
    }

    /// The request as it has to be made again after its client was sent to pages.
    pub(crate) fn visited(&mut self, times: u8, request: &Message) -> Result<Message, Failure> {
        let text = request.text();
        let mut given = responses(request)?.into_iter();
        if !given.all(|(_, result)| input::is_accepted(text, result)) {
            return Err(Failure::NotVisited);
        }
        self.visits = times;
        parse(input::first(request)).map_err(|_| Failure::Internal("a request is torn"))
    }

    /// Takes a question for the client.
    pub(crate) fn ask(&mut self, question: upstream::Question) {
        let able = self.able();
        self.bridge.get_or_insert_default().ask(question, able);
    }

    /// The upstream takes back its request `id` (raw JSON).
    pub(crate) fn withdraw(&mut self, id: &[u8]) {
        if let Some(bridge) = &mut self.bridge {
            bridge.withdraw(id);
        }
    }

    /// Ready when the client is to be asked.
    pub(crate) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.bridge.as_mut().map_or(Poll::Pending, |bridge| bridge.poll_due(cx))
    }

    /// Parks the call: the answer that asks the client.
    pub(crate) fn park(&mut self, events: Heards) -> Result<Bytes, Failure> {
        let Some(mut bridge) = self.bridge.take() else {
            return Err(Failure::Internal("a call was parked that asks for nothing"));
        };
        let names = parse(self.question.text.as_bytes().clone()).map(|request| names(&request));
        let names = names.map_err(|_| Failure::Internal("a request cannot be read again"))?;
        if !bridge.begin_round(&names) {
            return Err(Failure::TooManyRounds);
        }
        let inputs = bridge.inputs(&self.addressee());
        let subject = &self.question.subject;
        let id = self.parked.park(subject, Held { events, bridge });
        let id = id.map_err(|_| Failure::TooManyParked)?;
        let state = State::Parked { proxy_id: self.parked.proxy_id(), id: &id };
        let state = self.question.sealed(self.table.session_keys(), &state);
        let state = state.ok_or_else(|| {
            // Nobody could go on with it.
            self.parked.take(&id).ok();
            Failure::Internal("there is no key to seal the request's state with")
        })?;
        Ok(input::input_required(&names.id, &inputs, &state))
    }

    /// The upstream's answer as the client may have it.
    pub(crate) fn answer(&self, body: Pieces) -> Pieces {
        match &self.bridge {
            Some(bridge) => bridge.answer(body.into_bytes()).into(),
            None => body,
        }
    }

    /// The answer with which the upstream wants input, as the client is asked for it.
    pub(crate) fn asked(&self, answer: &Message) -> Bytes {
        let bridged =
            self.bridge.as_ref().map(|bridge| parse(bridge.answer(answer.body().clone())));
        let answer = match &bridged {
            Some(Ok(bridged)) => bridged,
            Some(Err(_)) => return self.torn(),
            None => answer,
        };
        let to = self.addressee();
        let pages = self.may_want_input.then(|| input::pages(answer, to.asker)).flatten();
        match pages {
            Some(Ok(pages)) => self.send_to(pages),
            // All else is for the judge, who names, or refuses.
            Some(Err(_)) | None => self.question.seal(self.table.session_keys(), answer, &to),
        }
    }

    /// An answer was read before, so that this never is.
    fn torn(&self) -> Bytes {
        error::response(&Failure::Internal("an answer is torn"), Some(&self.question.id))
    }

    /// What people know the upstream by.
    fn asker(&self) -> &str {
        self.table.upstream(&self.question.upstream).map_or("", |upstream| upstream.name.as_str())
    }

    fn addressee(&self) -> Addressee<'_> {
        Addressee {
            capabilities: self.declared,
            version: Version::NEWEST,
            asker: self.askers.named(self.asker()),
        }
    }

    /// Asks the client to visit pages, which is what a legacy upstream wants before the call.
    fn send_to(&self, pages: Vec<String>) -> Bytes {
        let id = &self.question.id;
        let needs = Capabilities::of(&["elicitation", "elicitation.url"]);
        if !self.declared.contains(needs) {
            let data = format!(r#"{{"requiredCapabilities":{}}}"#, needs.to_json());
            let problem = "the upstream wants its user to visit a page";
            let code = code::MISSING_CLIENT_CAPABILITY;
            return response::error(Some(id), code, problem, Some(&data));
        }
        if pages.is_empty() {
            let problem = "the upstream wants its user to visit a page and does not say which";
            return response::error(Some(id), code::INTERNAL_ERROR, problem, None);
        }
        let is_last = u32::from(self.visits) >= ROUNDS_MAX;
        let state = State::Visiting { times: self.visits.saturating_add(1) };
        let state = self.question.sealed(self.table.session_keys(), &state);
        match state.filter(|_| !is_last) {
            Some(state) => {
                let pages = (1..).zip(pages).map(|(at, page)| (format!("page-{at}"), page));
                input::input_required(id, &pages.collect::<Vec<_>>(), &state)
            }
            None => error::response(&Failure::TooManyRounds, Some(id)),
        }
    }

    /// The upstream's notification as the client may have it.
    pub(crate) fn told(&self, body: Bytes) -> Option<Bytes> {
        match &self.bridge {
            Some(bridge) => bridge.told(body),
            None => Some(body),
        }
    }
}

/// The input that a request brings.
fn responses(request: &Message) -> Result<Vec<(Cow<'_, str>, Span)>, RouteError> {
    input::responses(request).map_err(|input::Malformed| {
        RouteError::InvalidParams("`params.inputResponses` must be an object of objects")
    })
}

/// How a request calls itself.
pub(super) fn names(request: &Message) -> Names {
    let meta = request.params().map(|params| &params.meta);
    let level = meta.and_then(|meta| meta.log_level.as_ref()?.as_str()).and_then(Level::find);
    Names {
        id: request.id_bytes(),
        token: meta.and_then(|meta| meta.progress_token).map(|token| request.slice(token)),
        logs: level.map_or(Wanted::Nothing, Wanted::From),
    }
}
