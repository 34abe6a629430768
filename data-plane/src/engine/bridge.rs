//! What a legacy upstream asks during a modern client's call: gathered, put to the client as one
//! answer that wants input, and answered when the client calls again (MCP 2026-07-28, MRTR).

use std::{
    borrow::Cow,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Sleep;

use crate::{
    mcp::{
        Capabilities, Kind, Message, Notice, Span,
        addressee::Addressee,
        elicitation,
        input::{self, ROUNDS_MAX},
        level::Wanted,
        message::{Response, parse, splice},
    },
    upstream::{Question, log_level},
};

/// How long it is waited for more questions, so that they go to the client together.
const GATHER: Duration = Duration::from_millis(20);
/// Questions that may wait at the same time.
const QUESTIONS_MAX: usize = 32;

/// The questions of one call.
#[derive(Debug, Default)]
pub(crate) struct Bridge {
    asked: Vec<(Box<str>, Question)>,
    /// How many there were; no key is used twice.
    numbered: u32,
    rounds: u32,
    /// When the client is asked.
    due: Option<Pin<Box<Sleep>>>,
    /// The request that the upstream works on, if that is not the client's last one.
    began: Option<Began>,
}

/// What the upstream's messages name, and what the client wants named.
#[derive(Debug)]
struct Began {
    /// Raw JSON.
    token: Option<Bytes>,
    now: Names,
}

/// How a request calls itself, raw JSON, and what it wants to hear.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) id: Bytes,
    pub(crate) token: Option<Bytes>,
    pub(crate) logs: Wanted,
}

impl Bridge {
    /// Takes a question for the client; refuses it if the client, that has `able`, cannot be
    /// asked.
    pub(crate) fn ask(&mut self, question: Question, able: Capabilities) {
        // Dropped, the upstream is told.
        let is_able = question.needs().is_some_and(|needs| able.contains(needs));
        if is_able && self.keep(question) {
            self.due.get_or_insert_with(|| Box::pin(tokio::time::sleep(GATHER)));
        }
    }

    /// Takes a question that comes while nobody is there to be asked; whether it may be put.
    pub(crate) fn keep(&mut self, question: Question) -> bool {
        let is_kept =
            self.asked.len() < QUESTIONS_MAX && elicitation::is_harmless(question.message());
        if is_kept {
            self.numbered += 1;
            self.asked.push((format!("input-{}", self.numbered).into(), question));
        }
        is_kept
    }

    /// The upstream takes back its request `id` (raw JSON).
    pub(crate) fn withdraw(&mut self, id: &[u8]) {
        let Some(at) = self.asked.iter().position(|(_, question)| question.id() == id) else {
            return;
        };
        self.asked.swap_remove(at).1.withdraw();
        if self.asked.is_empty() {
            self.due = None;
        }
    }

    /// The client had its time.
    pub(crate) fn expire(self) {
        self.asked.into_iter().for_each(|(_, question)| question.expire());
    }

    /// Ready when the client is to be asked.
    pub(crate) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.due {
            Some(due) => due.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    /// Begins a round; false if there were too many.
    pub(crate) fn begin_round(&mut self, names: &Names) -> bool {
        self.due = None;
        self.rounds += 1;
        if self.began.is_none() {
            self.began = Some(Began { token: names.token.clone(), now: names.clone() });
        }
        self.rounds <= ROUNDS_MAX
    }

    /// What the client is asked by an upstream, by key.
    pub(crate) fn inputs(&self, to: &Addressee<'_>) -> Vec<(String, String)> {
        let asked = self.asked.iter();
        asked.map(|(key, it)| ((**key).to_owned(), input::as_input(it.message(), to))).collect()
    }

    /// Goes on with what the client's next request brings; what is missing is asked again.
    pub(crate) fn go_on(
        &mut self,
        request: &Message,
        responses: &[(Cow<'_, str>, Span)],
        (names, able): (Names, Capabilities),
    ) {
        if let Some(began) = &mut self.began {
            began.now = names;
        }
        for (key, question) in std::mem::take(&mut self.asked) {
            let given = responses.iter().find(|(given, _)| **given == *key);
            match given.and_then(|(_, given)| response(request.raw(*given))) {
                Some(response) => question.answer(&response),
                None => {
                    self.asked.push((key, question));
                }
            }
        }
        // A client that calls again with fewer capabilities cannot be asked as before.
        self.asked.retain(|(_, question)| question.needs().is_some_and(|it| able.contains(it)));
        if !self.asked.is_empty() {
            self.due = Some(Box::pin(tokio::time::sleep(GATHER)));
        }
    }

    /// The upstream's answer to the request that the client waits for.
    pub(crate) fn answer(&self, body: Bytes) -> Bytes {
        let Some(began) = &self.began else { return body };
        let Ok(message) = parse(body.clone()) else { return body };
        match &message.kind {
            Kind::Response(Response { id: Some(id), .. }) => splice(&body, &[(*id, &began.now.id)]),
            Kind::Response(_) | Kind::Request(_) | Kind::Notification(_) => body,
        }
    }

    /// The upstream's notification, if the client wants it on this request.
    pub(crate) fn told(&self, body: Bytes) -> Option<Bytes> {
        let Some(began) = &self.began else { return Some(body) };
        let message = parse(body.clone()).ok()?;
        match Notice::of(message.method()?.as_str())? {
            Notice::Log => began.now.logs.takes(log_level(&message).as_deref()).then_some(body),
            Notice::Progress => {
                let token = message.params()?.progress_token?;
                let is_ours = began.token.as_deref() == Some(message.raw(token));
                let now = began.now.token.as_ref().filter(|_| is_ours)?;
                Some(splice(&body, &[(token, now)]))
            }
            Notice::Cancelled
            | Notice::ElicitationComplete
            | Notice::ToolsChanged
            | Notice::PromptsChanged
            | Notice::ResourcesChanged
            | Notice::ResourceUpdated
            | Notice::Acknowledged
            | Notice::TaskStatus => None,
        }
    }
}

/// A response with a result, raw JSON.
fn response(result: &[u8]) -> Option<Message> {
    parse([br#"{"jsonrpc":"2.0","id":0,"result":"#, result, b"}"].concat().into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::question;

    const SAMPLING: &str = r#""method":"sampling/createMessage","params":{"x":1.0}"#;
    const ROOTS: &str = r#""method":"roots/list""#;

    fn names(id: &str, token: Option<&str>, logs: Wanted) -> Names {
        let bytes = |text: &str| Bytes::from(text.to_owned());
        Names { id: bytes(id), token: token.map(bytes), logs }
    }

    fn able() -> Capabilities {
        Capabilities::of(&["sampling", "roots"])
    }

    fn to(capabilities: Capabilities) -> Addressee<'static> {
        Addressee { capabilities, version: crate::mcp::Version::NEWEST, asker: Some("up") }
    }

    #[tokio::test]
    async fn each_answer_finds_its_question_and_what_is_missing_is_asked_again() {
        let mut bridge = Bridge::default();
        let (sampling, mut sampled) = question(r#""s""#, SAMPLING);
        let (roots, mut rooted) = question("5", ROOTS);
        let (elicitation, mut elicited) =
            question("6", r#""method":"elicitation/create","params":{}"#);
        for asked in [sampling, roots, elicitation] {
            bridge.ask(asked, able());
        }
        assert!(elicited.recv().await.unwrap().ends_with(br#""result":{"action":"cancel"}}"#));
        assert!(bridge.begin_round(&names("1", None, Wanted::Nothing)));
        let inputs = bridge.inputs(&to(able()));
        let keys: Vec<_> = inputs.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["input-1", "input-2"]);
        let body = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"inputResponses":{"input-1":{"v":1e2},"other":{}}}}"#;
        let request = parse(body.into()).unwrap();
        let responses = input::responses(&request).unwrap();
        bridge.go_on(&request, &responses, (names("2", None, Wanted::Nothing), able()));
        let told = sampled.recv().await.unwrap();
        assert_eq!(told, r#"{"jsonrpc":"2.0","id":"s","result":{"v":1e2}}"#);
        assert_eq!(bridge.inputs(&to(able())).len(), 1);
        assert!(rooted.try_recv().is_err());
        let nothing = Capabilities::NONE;
        bridge.go_on(&request, &[], (names("3", None, Wanted::Nothing), nothing));
        assert!(rooted.recv().await.unwrap().starts_with(br#"{"jsonrpc":"2.0","id":5,"error""#));
    }

    #[tokio::test]
    async fn what_the_upstream_says_is_put_in_terms_of_the_last_request() {
        let mut bridge = Bridge::default();
        let answer = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"result":{"n":1.0}}"#);
        let progress = |token: &str| {
            let body = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1.0}}}}"#
            );
            Bytes::from(body)
        };
        assert_eq!(bridge.told(progress("1")), Some(progress("1")));
        bridge.begin_round(&names("1", Some("\"a\""), Wanted::Any));
        let request = parse(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call"}"#.into()).unwrap();
        bridge.go_on(&request, &[], (names("\"b\"", Some("7"), Wanted::Nothing), able()));
        assert_eq!(bridge.answer(answer), r#"{"jsonrpc":"2.0","id":"b","result":{"n":1.0}}"#);
        assert_eq!(bridge.told(progress("\"a\"")), Some(progress("7")));
        assert_eq!(bridge.told(progress("8")), None);
        let log =
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error"}}"#;
        assert_eq!(bridge.told(log.into()), None);
        bridge.go_on(&request, &[], (names("3", None, Wanted::Any), able()));
        assert_eq!(bridge.told(progress("\"a\"")), None);
        assert_eq!(bridge.told(log.into()), Some(log.into()));
    }

    #[tokio::test]
    async fn nobody_is_led_to_a_page_that_anyone_can_change() {
        let mut bridge = Bridge::default();
        let able = Capabilities::of(&["elicitation", "elicitation.url"]);
        let page = |url: &str| {
            let params = format!(r#"{{"mode":"url","message":"Go","url":"{url}"}}"#);
            question("6", &format!(r#""method":"elicitation/create","params":{params}"#))
        };
        let (open, mut refused) = page("http://pay.example/");
        bridge.ask(open, able);
        assert!(refused.recv().await.unwrap().ends_with(br#""result":{"action":"cancel"}}"#));
        let (safe, _back) = page("https://pay.example/");
        bridge.ask(safe, able);
        let inputs = bridge.inputs(&to(able));
        assert_eq!(inputs.len(), 1);
        assert!(inputs[0].1.contains(r#""message":"[up] Go""#), "{inputs:?}");
    }

    #[tokio::test]
    async fn questions_that_are_taken_back_are_not_asked_and_rounds_end() {
        let mut bridge = Bridge::default();
        let (asked, mut back) = question("5", SAMPLING);
        bridge.ask(asked, able());
        bridge.withdraw(b"6");
        bridge.withdraw(b"5");
        assert!(bridge.inputs(&to(able())).is_empty() && back.try_recv().is_err());
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        assert!(bridge.poll_due(cx).is_pending());
        let names = names("1", None, Wanted::Nothing);
        let rounds = std::iter::repeat_with(|| bridge.begin_round(&names)).take(20);
        assert_eq!(rounds.take_while(|is_allowed| *is_allowed).count(), 10);
    }
}
