//! Multi-round-trip requests of modern clients: an upstream's `requestState` travels sealed to
//! who asked for what, so that nobody else can send it back (MCP 2026-07-28, MRTR).

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::Sender;
use crate::{
    mcp::{
        Kind, Message, code,
        message::{Outcome, Response, ResultKey, Span, parse, splice},
        object,
        response::{self, quote},
    },
    route::RouteError,
    session::SessionKeys,
    snapshot::table::Table,
};

/// How long a client may take for one round, in milliseconds.
const LIFETIME_MS: i64 = 60 * 60 * 1000;
const PURPOSE: &[u8] = b"lockgate request state v1";
const STATE: &str = "requestState";
/// What may differ from round to round.
const CHANGING: [&str; 3] = ["_meta", "inputResponses", STATE];

/// One round: what the states of its request are sealed to.
pub(crate) struct Rounds {
    table: Arc<Table>,
    question: Question,
    now_ms: i64,
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
    /// `upstream` is the id of the upstream that will be asked.
    pub(crate) fn of(sender: &Sender<'_>, message: &Message, upstream: &str) -> Option<Self> {
        let subject = Arc::clone(&sender.principal.subject);
        let question = Question::of(subject, upstream, message)?;
        Some(Self { table: Arc::clone(&sender.table), question, now_ms: sender.now_ms })
    }

    /// The request with the state that its upstream gave; `None` if it carries none.
    pub(crate) fn open(&self) -> Result<Option<Message>, RouteError> {
        self.question.open(self.table.session_keys(), self.now_ms)
    }

    /// The upstream's answer with its state sealed, if it wants another round.
    pub(crate) fn seal(&self, answer: Bytes) -> Bytes {
        self.question.seal(self.table.session_keys(), self.now_ms, answer)
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

    fn open(&self, keys: &SessionKeys, now_ms: i64) -> Result<Option<Message>, RouteError> {
        let refused = || {
            RouteError::InvalidParams(
                "`params.requestState` was not given for this request, or too long ago: begin again without it",
            )
        };
        let text = self.text();
        let state = self.params.and_then(|params| object::member(text, params, STATE));
        let Some(state) = state else { return Ok(None) };
        let sealed = object::unquote(state.of(text)).ok_or_else(refused)?;
        let plain = keys.open_for(&self.purpose(), &sealed).map_err(|_| refused())?;
        let (expire_ms, given) = plain.split_first_chunk::<8>().ok_or_else(refused)?;
        if i64::from_be_bytes(*expire_ms) < now_ms {
            return Err(refused());
        }
        parse(splice(&self.body, &[(state, given)])).map(Some).map_err(|_| refused())
    }

    fn seal(&self, keys: &SessionKeys, now_ms: i64, answer: Bytes) -> Bytes {
        if memchr::memmem::find(&answer, b"\"input_required\"").is_none() {
            return answer;
        }
        let Ok(message) = parse(answer.clone()) else { return answer };
        let Some(state) = state_of(&message) else { return answer };
        let expire_ms = now_ms.saturating_add(LIFETIME_MS).to_be_bytes();
        let plain = [&expire_ms, message.raw(state)].concat();
        let Ok(sealed) = keys.seal_for(&self.purpose(), &plain) else {
            // Open it could be used by anyone, so the client gets none.
            let problem = "there is no key to seal the request's state with";
            return response::error(Some(&self.id), code::INTERNAL_ERROR, problem, None);
        };
        splice(&answer, &[(state, quote(&sealed).as_bytes())])
    }
}

/// The state of an answer that wants another round.
fn state_of(message: &Message) -> Option<Span> {
    let Kind::Response(Response { outcome: Outcome::Result { span, members }, .. }) = &message.kind
    else {
        return None;
    };
    let kind = members.iter().find(|member| member.name == ResultKey::ResultType)?;
    let wants_more = message.raw(kind.value) == b"\"input_required\"";
    wants_more.then(|| object::member(message.text(), *span, STATE)).flatten()
}

#[cfg(test)]
mod tests {
    use proto::Secret;

    use super::*;

    const NOW: i64 = 1_800_000_000_000;

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
        let answer = asked.seal(&keys(), NOW, Bytes::from(answer));
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
        let opened = again.open(&keys(), NOW + LIFETIME_MS).unwrap().unwrap();
        assert!(opened.text().contains(r#""requestState":"s \u00e9","name":"t""#));
        assert!(again.open(&keys(), NOW + LIFETIME_MS + 1).is_err());
        assert!(question("alice", "u1", r#""name":"t""#).open(&keys(), NOW).unwrap().is_none());
    }

    #[test]
    fn nobody_else_and_nothing_else_opens_it() {
        let state = sealed();
        let with =
            |state: &str| format!(r#""name":"t","arguments":{{"n":1.0}},"requestState":{state}"#);
        let good = with(&format!("\"{state}\""));
        assert!(question("alice", "u1", &good).open(&keys(), NOW).is_ok());
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
            assert!(other.open(&keys(), NOW).is_err(), "{}", other.text());
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
            assert_eq!(asked.seal(&keys(), NOW, Bytes::from(answer)), answer);
        }
    }
}
