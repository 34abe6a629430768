//! What a client of several rounds sends back: sealed to who asked for what.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use sha2::{Digest as _, Sha256};

use crate::{
    edge::now_ms,
    engine::parked::ParkedId,
    mcp::{
        Kind, Message,
        addressee::Addressee,
        code, input,
        message::{Span, parse, splice},
        object,
        response::{self, quote},
    },
    route::RouteError,
    session::SessionKeys,
};

/// How long a client may take for one round, in milliseconds.
const LIFETIME_MS: i64 = 60 * 60 * 1000;
const PURPOSE: &[u8] = b"lockgate request state v1";
/// What may differ from round to round.
const CHANGING: [&str; 3] = ["_meta", "inputResponses", "requestState"];
/// What sealed states begin with; an upstream's own is a JSON string.
const PARKED: u8 = 1;
const VISITING: u8 = 2;
/// What a request brings back.
pub(crate) enum Opened {
    /// Nothing: it is the first.
    Nothing,
    /// The state that its upstream gave: the request with it.
    Given(Box<Message>),
    /// A call that waits for it, at a proxy.
    Parked { proxy_id: Box<str>, id: ParkedId },
    /// What the user says to the pages that have to be visited, for so many times.
    Visited { times: u8 },
}

/// What a state says.
pub(super) enum State<'a> {
    /// What the upstream gave, raw JSON.
    Given(&'a [u8]),
    /// Where the call waits.
    Parked { proxy_id: &'a str, id: &'a ParkedId },
    /// The call is to be made again after its user was sent to pages, for so many times.
    Visiting { times: u8 },
}

impl State<'_> {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Given(given) => given.to_vec(),
            Self::Parked { proxy_id, id } => {
                [&[PARKED], id.as_slice(), proxy_id.as_bytes()].concat()
            }
            Self::Visiting { times } => vec![VISITING, *times],
        }
    }
}

/// Who asks whom for what.
pub(super) struct Question {
    pub(super) subject: Arc<str>,
    pub(super) upstream: Box<str>,
    /// The request; its spans are of this.
    pub(super) text: ByteString,
    /// Raw JSON.
    pub(super) id: Bytes,
    method: Span,
    params: Option<Span>,
    state: Option<Span>,
}

impl Question {
    pub(super) fn of(subject: Arc<str>, upstream: &str, message: &Message) -> Option<Self> {
        let Kind::Request(request) = &message.kind else { return None };
        Some(Self {
            subject,
            upstream: upstream.into(),
            text: message.shared_text(),
            id: message.slice(request.id),
            method: request.method_span,
            params: request.params.span,
            state: request.params.request_state,
        })
    }

    /// The same for every round of one question, and for no other question.
    fn purpose(&self) -> [u8; 32] {
        let text: &str = &self.text;
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

    /// What the request brings back.
    pub(super) fn open(&self, keys: &SessionKeys, now_ms: i64) -> Result<Opened, RouteError> {
        let refused = || {
            RouteError::InvalidParams(
                "`params.requestState` was not given for this request, or too long ago: begin again without it",
            )
        };
        let Some(state) = self.state else { return Ok(Opened::Nothing) };
        let sealed = object::unquote(state.of(&self.text)).ok_or_else(refused)?;
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
        let opened = parse(splice(self.text.as_bytes(), &[(state, given)]));
        opened.map(|opened| Opened::Given(Box::new(opened))).map_err(|_| refused())
    }

    /// A state for the client; `None` if there is no key.
    pub(super) fn sealed(&self, keys: &SessionKeys, state: &State<'_>) -> Option<String> {
        let expire_ms = now_ms().saturating_add(LIFETIME_MS).to_be_bytes();
        keys.seal_for(&self.purpose(), &[&expire_ms, state.encode().as_slice()].concat()).ok()
    }

    /// The upstream's answer as its client is asked, with its state sealed, if it wants another
    /// round.
    pub(super) fn seal(&self, keys: &SessionKeys, answer: &Message, to: &Addressee<'_>) -> Bytes {
        let refused =
            |problem: &str| response::error(Some(&self.id), code::INTERNAL_ERROR, problem, None);
        let mut edits = match input::edits(answer, to) {
            Ok(edits) => edits,
            Err(harmful) => return refused(&harmful.to_string()),
        };
        if let Some(state) = input::state_of(answer) {
            let Some(sealed) = self.sealed(keys, &State::Given(answer.raw(state))) else {
                // Open it could be used by anyone, so the client gets none.
                return refused("there is no key to seal the request's state with");
            };
            edits.push((state, quote(&sealed)));
        }
        if edits.is_empty() { answer.body().clone() } else { splice(answer.body(), &edits) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::Secret;

    use super::*;
    use crate::mcp::{Capabilities, Version};

    fn keys() -> SessionKeys {
        SessionKeys::new(&[Secret::new([7; 32])])
    }

    fn modern(asker: Option<&str>) -> Addressee<'_> {
        let capabilities = Capabilities::of(&["sampling", "elicitation", "elicitation.url"]);
        Addressee { capabilities, version: Version::NEWEST, asker }
    }

    fn question(subject: &str, upstream: &str, params: &str) -> Question {
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{params}}}}}"#);
        let message = parse(Bytes::from(body)).unwrap();
        Question::of(subject.into(), upstream, &message).unwrap()
    }

    fn seal(asked: &Question, answer: &str, to: &Addressee<'_>) -> Bytes {
        asked.seal(&keys(), &parse(Bytes::from(answer.to_owned())).unwrap(), to)
    }

    /// The state that a client gets of an upstream's `"s \u00e9"`.
    fn sealed() -> String {
        let asked = question("alice", "u1", r#""name":"t","arguments":{"n":1.0}"#);
        let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"s \u00e9","x":1}}"#;
        let answer = seal(&asked, answer, &modern(None));
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
            assert!(other.open(&keys(), now_ms()).is_err(), "{}", other.text);
        }
    }

    #[test]
    fn an_error_in_a_result_is_judged_wherever_it_stands() {
        let asked = question("alice", "u1", r#""name":"t""#);
        let result =
            |members: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{members}}}}}"#);
        let sealed = |members: &str| {
            let sealed = seal(&asked, &result(members), &modern(Some("up")));
            String::from_utf8(sealed.to_vec()).unwrap()
        };
        let error = |code: i64, who: &str, url: &str| {
            format!(
                r#""error":{{"code":{code},"data":{{"elicitations":[{{"url":"{url}","message":"{who}Go"}}]}}}}"#
            )
        };
        let good = |code, who| error(code, who, "https://good/");
        for more in [r#""taskId":"t","#, r#""taskId":null,"#, ""] {
            let bad = error(-32042, "", "http://evil/");
            let refused = sealed(&format!("{more}\"n\":1.0,{bad}"));
            assert!(!refused.contains("evil"), "{refused}");
            assert!(
                refused.starts_with(&format!(
                    r#"{{"jsonrpc":"2.0","id":1,"result":{{{more}"n":1.0,"error":{{"code":-32603,"#
                )),
                "{refused}"
            );
            let twice = sealed(&format!(r#"{more}"error":null,{bad},"error":{{}}"#));
            assert!(!twice.contains("evil"), "{twice}");
            let named = sealed(&format!("{more}{}", good(-32042, "")));
            assert_eq!(named, result(&format!("{more}{}", good(-32603, "[up] "))));
        }
        let harmless = r#""n":1,"n":2,"error":"caf\u00e9""#;
        assert_eq!(sealed(harmless), result(harmless));
    }

    #[test]
    fn a_user_is_told_who_asks_and_led_nowhere_bad() {
        let asked = question("alice", "u1", r#""name":"t""#);
        let answer = |kind: &str, who: &str, url: &str, context: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"result":{{{kind},"inputRequests":{{"a":{{"params":{{"message":"{who}Who?","n":1.0}},"method":"elicitation/create"}},"b":{{"method":"sampling/createMessage","params":{{"message":"m"{context}}}}},"c":{{"method":"elicitation/create","params":{{"mode":"url","url":"{url}","message":"{who}Go"}}}},"d":{{"method":"roots/list"}}}}}}}}"#
            )
        };
        let told_of = |answer: String, to| {
            String::from_utf8(seal(&asked, &answer, &modern(to)).to_vec()).unwrap()
        };
        let context = r#","includeContext":"allServers""#;
        for kind in [
            r#""resultType":"input_required""#,
            // So says a task.
            r#""resultType":"complete","taskId":"t","status":"input_required""#,
        ] {
            let given = || answer(kind, "", "https://a.example/", "");
            assert_eq!(told_of(given(), None), given());
            let told = answer(kind, "[up] ", "https://a.example/", "");
            assert_eq!(told_of(given(), Some("up")), told);
            assert_eq!(told_of(answer(kind, "", "https://a.example/", context), Some("up")), told);
            for url in ["http://a.example/", "java\\u0073cript:alert(1)"] {
                let refused = told_of(answer(kind, "", url, ""), None);
                assert!(refused.starts_with(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603"#));
                assert!(refused.contains("a page that others could have written"), "{refused}");
            }
        }
    }

    #[test]
    fn what_clients_may_read_in_another_way_is_refused() {
        let asked = question("alice", "u1", r#""name":"t""#);
        let page = r#"{"method":"elicitation/create","params":{"mode":"url","url":"http://a.example/","message":"Go"}}"#;
        let form = r#"{"method":"elicitation/create","params":{"message":"Who?","message":"You"}}"#;
        let asks = r#""resultType":"input_required","inputRequests""#;
        let many: Vec<_> = (0..10_001).map(|at| format!(r#""k{at}":0"#)).collect();
        for result in [
            format!(r#"{asks}:{{}},"inputRequests":{{"a":{page}}}"#),
            format!(r#"{asks}:{{"a":{{"method":"roots/list"}},"a":{page}}}"#),
            format!(r#"{asks}:{{"a":{form}}}"#),
            format!(r#""resultType":"\u0069nput_required","inputRequests":{{"a":{page}}}"#),
            format!(r#""resultType":"\u0069nput_required","input\u0052equests":{{"a":{page}}}"#),
            format!(
                r#"{asks}:{{"a":{}}}"#,
                page.replace("Go\"", &format!("Go\",{}", many.join(",")))
            ),
        ] {
            let answer = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{result}}}}}"#);
            let told = seal(&asked, &answer, &modern(Some("up")));
            let told = std::str::from_utf8(&told).unwrap();
            assert!(told.contains(r#""error":{"code":-32603"#), "{result}: {told}");
        }
        let state = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input\u005frequired","requestState":"s"}}"#;
        let told = seal(&asked, state, &modern(None));
        assert!(!std::str::from_utf8(&told).unwrap().contains(r#""requestState":"s""#));
    }

    #[test]
    fn other_answers_stay_as_they_are() {
        let asked = question("alice", "u1", r#""name":"t""#);
        for answer in [
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","requestState":"s","t":"input_required"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"\"input_required\""}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"a":"\u0069","a":"two"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"taskId":"t","inputRequests":null,"b":"\u00e9"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list","params":null}}}}"#,
        ] {
            assert_eq!(seal(&asked, answer, &modern(None)), answer);
        }
    }

    #[test]
    fn every_flipped_byte_of_a_state_is_refused() {
        let asked = question("alice", "u1", r#""name":"t""#);
        let sealed = asked.sealed(&keys(), &State::Visiting { times: 3 }).unwrap();
        let open = |state: &str| {
            question("alice", "u1", &format!(r#""name":"t","requestState":"{state}""#))
                .open(&keys(), now_ms())
        };
        assert!(matches!(open(&sealed), Ok(Opened::Visited { times: 3 })));
        for at in 0..sealed.len() {
            let mut forged = sealed.clone().into_bytes();
            forged[at] = if forged[at] == b'Q' { b'R' } else { b'Q' };
            assert!(open(std::str::from_utf8(&forged).unwrap()).is_err(), "byte {at}");
            assert!(open(&sealed[..at]).is_err());
        }
    }

    proptest! {
        #[test]
        fn a_parked_call_is_found_by_its_state(id in any::<ParkedId>(), proxy in "[a-z0-9-]{0,60}") {
            let asked = question("alice", "u1", r#""name":"t""#);
            let state = State::Parked { proxy_id: &proxy, id: &id };
            let sealed = asked.sealed(&keys(), &state).unwrap();
            let again = format!(r#""requestState":"{sealed}","name":"t","inputResponses":{{}}"#);
            let opened = question("alice", "u1", &again).open(&keys(), now_ms()).unwrap();
            let Opened::Parked { proxy_id, id: found } = opened else { panic!() };
            prop_assert_eq!((&*proxy_id, found), (&*proxy, id));
        }

        #[test]
        fn arbitrary_states_are_refused(state in ".{0,200}") {
            let again = format!(r#""requestState":{},"name":"t""#, quote(&state));
            prop_assert!(question("alice", "u1", &again).open(&keys(), now_ms()).is_err());
        }
    }
}
