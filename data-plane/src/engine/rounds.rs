//! Multi-round-trip requests of modern clients: what they send back travels sealed to who asked
//! for what, so that nobody else can send it (MCP 2026-07-28, MRTR).
//!
//! To a modern upstream its own state goes back. A legacy one asked with requests of its own:
//! its call is [parked](super::parked), and the state names it.

use std::{
    borrow::Cow,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{
    Sender,
    bridge::{Bridge, Names, ROUNDS_MAX},
    parked::{Held, ParkedCalls, ParkedId, TakeError},
};
use crate::{
    edge::now_ms,
    error::{self, Failure},
    exchange::Heards,
    mcp::{
        Capabilities, Kind, Level, Message, Method, code, input,
        level::Wanted,
        message::{Span, parse, splice},
        object,
        response::{self, quote},
    },
    route::RouteError,
    session::SessionKeys,
    snapshot::table::Table,
    upstream,
};

/// How long a client may take for one round, in milliseconds.
const LIFETIME_MS: i64 = 60 * 60 * 1000;
const PURPOSE: &[u8] = b"lockgate request state v1";
/// What may differ from round to round.
const CHANGING: [&str; 3] = ["_meta", "inputResponses", "requestState"];
/// What a sealed state begins with that names a parked call; an upstream's own is a JSON string.
const PARKED: u8 = 1;
/// What one begins with that lets a call be made again once pages were visited.
const VISITING: u8 = 2;
/// No such error is longer, and no long result need be searched.
const ERROR_MAX: usize = 64 * 1024;

/// One round: what the states of its request are sealed to.
pub(crate) struct Rounds {
    table: Arc<Table>,
    question: Question,
    parked: Arc<ParkedCalls>,
    able: Capabilities,
    /// What a legacy upstream has asked.
    bridge: Option<Box<Bridge>>,
    /// How often pages had to be visited before.
    visits: u8,
}

/// What a request brings back.
pub(crate) enum Opened {
    /// Nothing: it is the first.
    Nothing,
    /// The state that its upstream gave: the request with it.
    Given(Message),
    /// A call that waits for it, at a proxy.
    Parked { proxy_id: Box<str>, id: ParkedId },
    /// What the user says to the pages that have to be visited, for so many times.
    Visited { times: u8 },
}

/// Who asks whom for what.
struct Question {
    subject: Arc<str>,
    upstream: Box<str>,
    /// The request; its spans are of this text.
    body: Bytes,
    id: Bytes,
    method: Span,
    params: Option<Span>,
}

impl Rounds {
    /// `upstream` is the id of the upstream that will be asked; the client can be asked for what
    /// it has, `able`.
    pub(crate) fn of(
        sender: &Sender<'_>,
        message: &Message,
        (upstream, able): (&str, Capabilities),
    ) -> Option<Self> {
        let subject = Arc::clone(&sender.principal.subject);
        let question = Question::of(subject, upstream, message)?;
        let parked = Arc::clone(sender.edge.parked());
        // Only these may want input.
        let able = match message.method() {
            Some(Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead) => able,
            Some(_) | None => Capabilities::NONE,
        };
        let table = Arc::clone(&sender.table);
        Some(Self { table, question, parked, able, bridge: None, visits: 0 })
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
        bridge.go_on(request, &responses, (names(request), self.able));
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
        self.bridge.get_or_insert_default().ask(question, self.able);
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
        let names = parse(self.question.body.clone()).map(|request| names(&request));
        let names = names.map_err(|_| Failure::Internal("a request cannot be read again"))?;
        if !bridge.begin_round(&names) {
            return Err(Failure::TooManyRounds);
        }
        let inputs = bridge.inputs();
        let subject = &self.question.subject;
        let id = self.parked.park(subject, Held { events, bridge });
        let id = id.map_err(|_| Failure::TooManyParked)?;
        let plain = [&[PARKED], id.as_slice(), self.parked.proxy_id().as_bytes()].concat();
        match self.question.sealed(self.table.session_keys(), now_ms(), &plain) {
            Some(state) => Ok(input::input_required(&names.id, &inputs, &state)),
            None => {
                self.parked.take(&id).ok();
                Err(Failure::Internal("there is no key to seal the request's state with"))
            }
        }
    }

    /// The upstream's answer as the client may have it.
    pub(crate) fn answer(&self, body: Bytes) -> Bytes {
        let is_error = body.len() <= ERROR_MAX && memchr::memmem::find(&body, b"-32042").is_some();
        let body = match &self.bridge {
            Some(bridge) => bridge.answer(body),
            None => self.question.seal(self.table.session_keys(), body),
        };
        if is_error { self.send_to_pages(body) } else { body }
    }

    /// Asks the client to visit pages, if that is what a legacy upstream wants before the call.
    fn send_to_pages(&self, body: Bytes) -> Bytes {
        let Some(pages) = parse(body.clone()).ok().and_then(|answer| input::pages(&answer)) else {
            return body;
        };
        let id = &self.question.id;
        let needs = Capabilities::of(&["elicitation", "elicitation.url"]);
        if !self.able.contains(needs) {
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
        let state = [VISITING, self.visits.saturating_add(1)];
        let state = self.question.sealed(self.table.session_keys(), now_ms(), &state);
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
fn names(request: &Message) -> Names {
    let meta = request.params().map(|params| &params.meta);
    let level = meta.and_then(|meta| meta.log_level.as_ref()?.as_str()).and_then(Level::find);
    Names {
        id: request.id_bytes(),
        token: meta.and_then(|meta| meta.progress_token).map(|token| request.slice(token)),
        logs: level.map_or(Wanted::Nothing, Wanted::From),
    }
}

impl Question {
    fn of(subject: Arc<str>, upstream: &str, message: &Message) -> Option<Self> {
        let Kind::Request(request) = &message.kind else { return None };
        Some(Self {
            subject,
            upstream: upstream.into(),
            body: message.body.clone(),
            id: message.slice(request.id),
            method: request.method_span,
            params: request.params.span,
        })
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_default()
    }

    /// The same for every round of one question, and for no other question.
    fn purpose(&self) -> [u8; 32] {
        let text = self.text();
        let mut members =
            self.params.map(|params| object::members(text, params)).unwrap_or_default();
        members.retain(|member| !CHANGING.contains(&&*member.name));
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        for part in [PURPOSE, self.subject.as_bytes(), self.upstream.as_bytes()] {
            add(part);
        }
        add(self.method.of(text).as_bytes());
        for member in &members {
            add(member.name.as_bytes());
            add(member.value.of(text).as_bytes());
        }
        hash.finalize().into()
    }

    fn open(&self, keys: &SessionKeys, now_ms: i64) -> Result<Opened, RouteError> {
        let refused = || {
            RouteError::InvalidParams(
                "`params.requestState` was not given for this request, or too long ago: begin again without it",
            )
        };
        let text = self.text();
        let state = self.params.and_then(|params| object::member(text, params, "requestState"));
        let Some(state) = state else { return Ok(Opened::Nothing) };
        let sealed = object::unquote(state.of(text)).ok_or_else(refused)?;
        let plain = keys.open_for(&self.purpose(), &sealed).map_err(|_| refused())?;
        let (expire_ms, given) = plain.split_first_chunk::<8>().ok_or_else(refused)?;
        if i64::from_be_bytes(*expire_ms) < now_ms {
            return Err(refused());
        }
        if let Some((&PARKED, rest)) = given.split_first() {
            let (id, proxy_id) = rest.split_first_chunk().ok_or_else(refused)?;
            let proxy_id = std::str::from_utf8(proxy_id).map_err(|_| refused())?.into();
            return Ok(Opened::Parked { proxy_id, id: *id });
        }
        if let [VISITING, times] = given {
            return Ok(Opened::Visited { times: *times });
        }
        let opened = parse(splice(&self.body, &[(state, given)]));
        opened.map(Opened::Given).map_err(|_| refused())
    }

    fn sealed(&self, keys: &SessionKeys, now_ms: i64, state: &[u8]) -> Option<String> {
        let expire_ms = now_ms.saturating_add(LIFETIME_MS).to_be_bytes();
        keys.seal_for(&self.purpose(), &[&expire_ms, state].concat()).ok()
    }

    /// The upstream's answer with its state sealed, if it wants another round.
    fn seal(&self, keys: &SessionKeys, answer: Bytes) -> Bytes {
        if memchr::memmem::find(&answer, b"\"input_required\"").is_none() {
            return answer;
        }
        let Ok(message) = parse(answer.clone()) else { return answer };
        let Some(state) = input::state_of(&message) else { return answer };
        let Some(sealed) = self.sealed(keys, now_ms(), message.raw(state)) else {
            // Open it could be used by anyone, so the client gets none.
            let problem = "there is no key to seal the request's state with";
            return response::error(Some(&self.id), code::INTERNAL_ERROR, problem, None);
        };
        splice(&answer, &[(state, quote(&sealed).as_bytes())])
    }
}

#[cfg(test)]
mod tests {
    use proto::Secret;

    use super::*;

    fn keys() -> SessionKeys {
        SessionKeys::new(&[Secret::new([7; 32])])
    }

    fn question(subject: &str, upstream: &str, params: &str) -> Question {
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{params}}}}}"#);
        let message = parse(Bytes::from(body)).unwrap();
        Question::of(subject.into(), upstream, &message).unwrap()
    }

    /// The state that a client gets of an upstream's `"s \u00e9"`.
    fn sealed() -> String {
        let asked = question("alice", "u1", r#""name":"t","arguments":{"n":1.0}"#);
        let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"s \u00e9","x":1}}"#;
        let answer = asked.seal(&keys(), Bytes::from(answer));
        let text = std::str::from_utf8(&answer).unwrap();
        assert!(!text.contains("u00e9") && text.ends_with(r#","x":1}}"#), "{text}");
        let (_, state) = text.split_once(r#""requestState":""#).unwrap();
        state.split_once('"').unwrap().0.to_owned()
    }

    #[test]
    fn the_same_question_opens_its_state_and_the_upstream_gets_its_own() {
        let state = sealed();
        let again = format!(
            r#""_meta":{{"a":1}},"arguments":{{"n":1.0}},"inputResponses":{{}},"requestState":"{state}","name":"t""#
        );
        let again = question("alice", "u1", &again);
        let late = now_ms() + LIFETIME_MS;
        let Opened::Given(opened) = again.open(&keys(), late - 60_000).unwrap() else { panic!() };
        assert!(opened.text().contains(r#""requestState":"s \u00e9","name":"t""#));
        assert!(again.open(&keys(), late + 1).is_err());
        let first = question("alice", "u1", r#""name":"t""#).open(&keys(), late);
        assert!(matches!(first, Ok(Opened::Nothing)));
    }

    #[test]
    fn nobody_else_and_nothing_else_opens_it() {
        let state = sealed();
        let with =
            |state: &str| format!(r#""name":"t","arguments":{{"n":1.0}},"requestState":{state}"#);
        let good = with(&format!("\"{state}\""));
        assert!(question("alice", "u1", &good).open(&keys(), now_ms()).is_ok());
        let mut forged = state.clone().into_bytes();
        let last = forged.len() - 5;
        forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
        let forged = with(&format!("\"{}\"", String::from_utf8(forged).unwrap()));
        for other in [
            question("bob", "u1", &good),
            question("alice", "u2", &good),
            question("alice", "u1", &good.replace("1.0", "2.0")),
            question("alice", "u1", &good.replace("\"t\"", "\"other\"")),
            question("alice", "u1", &forged),
            question("alice", "u1", &with("\"\"")),
            question("alice", "u1", &with("7")),
        ] {
            assert!(other.open(&keys(), now_ms()).is_err(), "{}", other.text());
        }
    }

    #[test]
    fn other_answers_stay_as_they_are() {
        let asked = question("alice", "u1", r#""name":"t""#);
        for answer in [
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","requestState":"s","t":"input_required"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"\"input_required\""}}"#,
        ] {
            assert_eq!(asked.seal(&keys(), Bytes::from(answer)), answer);
        }
    }
}
