//! A legacy client's call at a modern upstream, over all its rounds: what the upstream asks for
//! is asked of the client, and the call is made again with the answers (MCP 2026-07-28, MRTR).

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    Call, Event, Reply,
    active::Active,
    call::Conversation,
    failure::CallFailure,
    fetch::Bounds,
    question::{Back, Open, Question},
};
use crate::mcp::{
    Ask, Kind, Message, Pieces, Span, ask, code, elicitation,
    input::{self, Input, Malformed, ROUNDS_MAX, Required},
    message::{Outcome, Response, parse, splice},
    object,
    response::{self, quote},
};

/// How often an upstream may want nothing but patience.
const WAITS_MAX: u32 = 200;
/// The first and the longest pause before it is asked again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// What a client says that does not want to, or cannot.
const CANCELLED: &[u8] = br#"{"action":"cancel"}"#;
const ACCEPTED: &[u8] = br#"{"action":"accept"}"#;

/// A call that may take several rounds.
pub(crate) struct Rounds {
    active: Arc<Active>,
    bounds: Bounds,
    /// As the client made it.
    call: Call,
    step: Step,
    /// What is to be said before anything else.
    ready: VecDeque<Event>,
    asked: u32,
    waited: u32,
    visits: Vec<Visit>,
}

enum Step {
    /// A round runs.
    Hearing(Conversation),
    Asking(Asking),
    Calling(Calling),
    Done,
}

type Calling = Pin<Box<dyn Future<Output = Result<Reply, CallFailure>> + Send>>;

/// The client is asked.
struct Asking {
    state: Option<Bytes>,
    wanted: Vec<Wanted>,
    /// By the place of what it answers.
    answers: mpsc::Receiver<(usize, Bytes)>,
}

/// One input.
struct Wanted {
    input: Input,
    /// Raw JSON.
    given: Option<Bytes>,
}

/// A page that the client has agreed to visit.
struct Visit {
    /// Raw JSON.
    url: Box<str>,
    /// Under which the client knows it.
    id: Box<str>,
    is_agreed: bool,
}

impl Asking {
    fn is_answered(&self) -> bool {
        self.wanted.iter().all(|wanted| wanted.given.is_some())
    }
}

impl std::fmt::Debug for Rounds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rounds").field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl Rounds {
    /// Follows a call whose first round has begun.
    pub(super) fn new(
        (active, bounds): (Arc<Active>, Bounds),
        call: Call,
        first: Option<Event>,
        conversation: Option<Conversation>,
    ) -> Self {
        let step = conversation.map_or(Step::Done, Step::Hearing);
        let ready = first.into_iter().collect();
        Self { active, bounds, call, step, ready, asked: 0, waited: 0, visits: Vec::new() }
    }

    /// The next message for the client. Safe to drop while waiting.
    pub(super) async fn next(&mut self) -> Result<Event, CallFailure> {
        loop {
            let Some(event) = self.ready.pop_front() else {
                self.advance().await?;
                continue;
            };
            match event {
                Event::InputRequired(message) => self.want(&message)?,
                Event::Response(body) => match self.visited() {
                    Some(told) => self.ready.extend([told, Event::Response(body)]),
                    None => return Ok(Event::Response(body)),
                },
                event @ (Event::Notification(_) | Event::Request(_) | Event::Withdrawn(_)) => {
                    return Ok(event);
                }
            }
        }
    }

    /// Waits for whom it is to say something.
    async fn advance(&mut self) -> Result<(), CallFailure> {
        match &mut self.step {
            Step::Hearing(conversation) => self.ready.push_back(conversation.next().await?),
            Step::Asking(asking) if asking.is_answered() => self.call_again(Duration::ZERO),
            Step::Asking(asking) => {
                let answer = self.bounds.within_all(asking.answers.recv()).await?;
                let (at, answer) = answer.ok_or(CallFailure::NoResponse)?;
                self.take(at, answer);
            }
            Step::Calling(calling) => {
                let reply = calling.as_mut().await?;
                self.step = Step::Done;
                match reply {
                    Reply::Response(body) => self.ready.push_back(Event::Response(body)),
                    Reply::InputRequired(answer) => {
                        self.ready.push_back(Event::InputRequired(answer));
                    }
                    Reply::Events(events) => {
                        let (first, conversation) = events.into_parts();
                        self.ready.extend(first);
                        self.step = conversation.map_or(Step::Done, Step::Hearing);
                    }
                }
            }
            Step::Done => return Err(CallFailure::NoResponse),
        }
        Ok(())
    }

    /// The upstream wants input.
    fn want(&mut self, message: &Message) -> Result<(), CallFailure> {
        let required = input::required(message).unwrap_or(Err(Malformed));
        let Required { inputs, state } =
            required.map_err(|error| CallFailure::NotJsonRpc(error.to_string()))?;
        let (sender, answers) = mpsc::channel(inputs.len().max(1));
        let mut wanted = Vec::new();
        let mut questions = Vec::new();
        for (at, input) in inputs.into_iter().enumerate() {
            let url = url_of(&input.request);
            let visit =
                url.as_deref().and_then(|url| self.visits.iter().find(|it| *it.url == *url));
            let is_agreed = visit.is_some_and(|visit| visit.is_agreed);
            let is_harmless = elicitation::is_harmless(&input.request);
            if !is_agreed && is_harmless {
                let request = self.request(&input.request, url)?;
                let back = Back::Round { at, answers: sender.clone() };
                questions.push(Question::new(request, back, Open::default()));
            }
            let given = match (is_agreed, is_harmless) {
                (true, _) => Some(Bytes::from_static(ACCEPTED)),
                (false, true) => None,
                (false, false) => Some(Bytes::from_static(CANCELLED)),
            };
            wanted.push(Wanted { input, given });
        }
        // What it asks for no longer has been done.
        let is_wanted = |visit: &Visit| {
            let mut urls = wanted.iter().filter_map(|wanted| url_of(&wanted.input.request));
            !visit.is_agreed || urls.any(|url| url == visit.url)
        };
        let (kept, done): (Vec<_>, Vec<_>) = self.visits.drain(..).partition(is_wanted);
        self.visits = kept;
        self.ready.extend(done.iter().map(Visit::complete));
        let is_asking = !questions.is_empty();
        // What is refused in the client's name has been asked, too.
        let is_answered = is_asking || wanted.iter().any(Wanted::is_refused);
        self.asked += u32::from(is_answered);
        self.waited += u32::from(!is_answered);
        if self.asked > ROUNDS_MAX || self.waited > WAITS_MAX {
            return Err(CallFailure::TooManyRounds);
        }
        self.ready.extend(questions.into_iter().map(Event::Request));
        self.step = Step::Asking(Asking { state, wanted, answers });
        if !is_asking {
            let (first, longest) = PAUSE;
            let pause = first.saturating_mul(1 << self.waited.min(8)).min(longest);
            self.call_again(pause);
        }
        Ok(())
    }

    /// The request as the client is asked, by whom: a page to visit gets an id, since its era
    /// wants one.
    fn request(
        &mut self,
        request: &Message,
        url: Option<Box<str>>,
    ) -> Result<Box<Message>, CallFailure> {
        let params = request.params().and_then(|params| params.span);
        let Some(params) = params.filter(|_| is_elicitation(request)) else {
            return Ok(Box::new(request.clone()));
        };
        let asker = self.call.askers.named(self.active.name());
        let sign = |asker| elicitation::signature(request.text(), params, asker);
        let mut edits: Vec<_> = asker.and_then(sign).into_iter().collect();
        if let Some(url) = url {
            let id = format!("{:032x}", rand::random::<u128>());
            edits.push((Span::at(params.start + 1), format!(r#""elicitationId":"{id}","#)));
            self.visits.retain(|visit| visit.url != url);
            self.visits.push(Visit { url, id: id.into(), is_agreed: false });
        }
        let body = splice(request.body(), &edits);
        let request = parse(body).map_err(|error| CallFailure::NotJsonRpc(error.to_string()))?;
        Ok(Box::new(request))
    }

    /// The client has answered.
    fn take(&mut self, at: usize, body: Bytes) {
        let Step::Asking(asking) = &mut self.step else { return };
        let Some(wanted) = asking.wanted.get_mut(at) else { return };
        let request = &wanted.input.request;
        let given = parse(body).ok().and_then(|answer| match &answer.kind {
            Kind::Response(Response { outcome: Outcome::Result { span, .. }, .. }) => {
                Some(Ok(answer.slice(*span)))
            }
            Kind::Response(Response { outcome: Outcome::Error(span), .. }) => {
                let message = object::member(answer.text(), *span, "message");
                let message = message.and_then(|it| object::unquote(it.of(answer.text())));
                Some(Err(message.unwrap_or_default().into_owned()))
            }
            Kind::Request(_) | Kind::Notification(_) => None,
        });
        let ask = ask::asked(request).map(|(ask, _)| ask);
        match given.unwrap_or_else(|| Err("it cannot be understood".to_owned())) {
            Ok(given) => {
                let is_agreed = is_accepted(&given);
                if let Some(url) = url_of(request) {
                    for visit in self.visits.iter_mut().filter(|visit| visit.url == url) {
                        visit.is_agreed = is_agreed;
                    }
                }
                wanted.given = Some(given);
            }
            Err(_) if ask == Some(Ask::Elicitation) => {
                wanted.given = Some(Bytes::from_static(CANCELLED));
            }
            Err(why) => {
                let method = request.method().map(|method| method.as_str().to_owned());
                let body = self.abandoned(&method.unwrap_or_default(), &why);
                self.step = Step::Done;
                self.ready.push_back(Event::Response(body));
            }
        }
    }

    /// The answer to a call that cannot go on, for models where they read it.
    fn abandoned(&self, method: &str, why: &str) -> Pieces {
        let text = format!("the upstream needs an answer to {method} and got none: {why}");
        let id = self.call.id();
        if self.call.target.as_tool().is_none() {
            return response::error(Some(&id), code::INTERNAL_ERROR, &text, None).into();
        }
        let result =
            format!(r#"{{"content":[{{"type":"text","text":{}}}],"isError":true}}"#, quote(&text));
        response::answer(&id, result.into())
    }

    /// Begins the next round, with all that was given.
    fn call_again(&mut self, pause: Duration) {
        let Step::Asking(asking) = std::mem::replace(&mut self.step, Step::Done) else { return };
        let given = asking.wanted.into_iter();
        let given: Vec<_> =
            given.filter_map(|wanted| Some((wanted.input.key, wanted.given?))).collect();
        let body = input::retry(&self.call.message, &given, asking.state.as_deref());
        let Ok(message) = parse(body) else { return };
        let round = self.asked + self.waited;
        let call = Call { message, round, ..self.call.clone() };
        let (active, bounds) = (Arc::clone(&self.active), self.bounds);
        self.step = Step::Calling(Box::pin(async move {
            bounds.within_all(tokio::time::sleep(pause)).await?;
            active.answer(&call, bounds).await
        }));
    }

    /// Tells that the pages were visited, once.
    fn visited(&mut self) -> Option<Event> {
        let at = self.visits.iter().position(|visit| visit.is_agreed)?;
        Some(self.visits.swap_remove(at).complete())
    }
}

impl Wanted {
    fn is_refused(&self) -> bool {
        self.given.as_deref() == Some(CANCELLED)
    }
}

impl Visit {
    fn complete(&self) -> Event {
        let id = &self.id;
        let told = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{{"elicitationId":"{id}"}}}}"#
        );
        Event::Notification(told.into())
    }
}

/// The page that a request wants visited, raw JSON.
fn url_of(request: &Message) -> Option<Box<str>> {
    let text = request.text();
    let params = request.params()?.span?;
    elicitation::url_of(text, params).map(Into::into)
}

fn is_elicitation(request: &Message) -> bool {
    ask::asked(request).is_some_and(|(ask, _)| ask == Ask::Elicitation)
}

fn is_accepted(given: &Bytes) -> bool {
    let text = std::str::from_utf8(given).unwrap_or_default();
    input::is_accepted(text, Span { start: 0, end: text.len() })
}
