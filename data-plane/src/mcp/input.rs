//! Multi-round-trip requests as text (MCP 2026-07-28): what a result asks for, and the request
//! that brings it. All values keep their bytes.

mod judge;
mod pages;

use std::borrow::Cow;

use bytes::Bytes;

use super::{
    addressee::Addressee,
    ask::Ask,
    message::{Kind, Message, Outcome, Response, ResultKey, Span, meta_key, parse, splice},
    object::{self, Member},
    response::{SERVER_INFO, quote},
};

pub use self::{
    judge::{Harmful, edits},
    pages::{may_be_in, may_name_pages, named_pages, names_none, pages},
};

/// How often a client is asked during one call.
pub const ROUNDS_MAX: u32 = 10;
/// The `resultType` of an answer that wants another round.
const INPUT_REQUIRED: &str = "input_required";
/// What an answer or a task asks for.
pub(super) const REQUESTS: &str = "inputRequests";
const RESPONSES: &str = "inputResponses";
const STATE: &str = "requestState";

/// What an answer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    pub inputs: Vec<Input>,
    /// To be sent back as it is: raw JSON.
    pub state: Option<Bytes>,
}

/// One thing that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Raw JSON, with its quotes.
    pub key: Bytes,
    /// As the request that asks a legacy client for it.
    pub request: Box<Message>,
}

/// Why an answer that asks cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it asks for input that cannot be understood")]
pub struct Malformed;

/// The state of an answer that wants another round, if it has one.
pub fn state_of(message: &Message) -> Option<Span> {
    let span = wanting(message)?;
    object::member(message.text(), span, STATE)
}

/// The result of an answer that wants another round.
fn wanting(message: &Message) -> Option<Span> {
    let Kind::Response(Response { outcome: Outcome::Result { span, members }, .. }) = &message.kind
    else {
        return None;
    };
    let kind = members.iter().find(|member| member.name == ResultKey::ResultType)?;
    let kind = object::unquote(kind.value.of(message.text()))?;
    (kind == INPUT_REQUIRED).then_some(*span)
}

/// Whether an answer wants another round.
pub fn is_required(message: &Message) -> bool {
    wanting(message).is_some()
}

/// Whether an answer may ask for something, in whatever way; most are known not to.
pub fn may_ask(message: &Message) -> bool {
    let Kind::Response(response) = &message.kind else { return false };
    match &response.outcome {
        Outcome::Result { members, .. } => {
            let may_ask = |member: &Member<ResultKey>| match member.name {
                ResultKey::InputRequests => true,
                ResultKey::Error => may_be_in(member.value.of(message.text())),
                ResultKey::ResultType
                | ResultKey::TtlMs
                | ResultKey::CacheScope
                | ResultKey::Meta
                | ResultKey::StructuredContent
                | ResultKey::Other => false,
            };
            members.iter().any(may_ask) || is_required(message)
        }
        Outcome::Error(_) => may_name_pages(message),
    }
}

/// What an answer asks for; `None` if it asks for nothing.
pub fn required(message: &Message) -> Option<Result<Required, Malformed>> {
    let span = wanting(message)?;
    let text = message.text();
    let state = object::member(text, span, STATE).map(|state| message.slice(state));
    let inputs = match object::member(text, span, REQUESTS) {
        Some(requests) => inputs(message, requests),
        None => Ok(Vec::new()),
    };
    Some(inputs.and_then(|inputs| {
        let asks_for_something = state.is_some() || !inputs.is_empty();
        asks_for_something.then_some(Required { inputs, state }).ok_or(Malformed)
    }))
}

fn inputs(message: &Message, requests: Span) -> Result<Vec<Input>, Malformed> {
    let text = message.text();
    if !requests.of(text).starts_with('{') {
        return Err(Malformed);
    }
    let input = |member: Member<Cow<'_, str>>| {
        let part = |name: &str| object::member(text, member.value, name);
        let method = part("method").map(|method| method.of(text)).ok_or(Malformed)?;
        let params = part("params");
        let params = params.map(|it| format!(r#","params":{}"#, it.of(text))).unwrap_or_default();
        let request = format!(r#"{{"jsonrpc":"2.0","id":0,"method":{method}{params}}}"#);
        let request = parse(request.into()).map_err(|_| Malformed)?;
        Ok(Input { key: message.slice(member.key), request: Box::new(request) })
    };
    object::members(text, requests).into_iter().map(input).collect()
}

/// `request` again, with the input and the state that its answer asked for, all raw JSON.
pub fn retry(request: &Message, responses: &[(Bytes, Bytes)], state: Option<&[u8]>) -> Bytes {
    let Some(span) = request.params().and_then(|params| params.span) else {
        return request.body().clone();
    };
    let text = request.text();
    let mut members: Vec<_> = object::members(text, span)
        .iter()
        .filter(|member| !is_of_round(&member.name))
        .map(|member| format!("{}:{}", member.key.of(text), member.value.of(text)))
        .collect();
    let utf8 = |raw: &[u8]| String::from_utf8_lossy(raw).into_owned();
    if !responses.is_empty() {
        let responses: Vec<_> =
            responses.iter().map(|(key, value)| format!("{}:{}", utf8(key), utf8(value))).collect();
        members.push(format!("\"{RESPONSES}\":{{{}}}", responses.join(",")));
    }
    if let Some(state) = state {
        members.push(format!("\"{STATE}\":{}", utf8(state)));
    }
    splice(request.body(), &[(span, format!("{{{}}}", members.join(",")).as_bytes())])
}

/// `request` as it was before any round.
pub fn first(request: &Message) -> Bytes {
    let Some(span) = request.params().and_then(|params| params.span) else {
        return request.body().clone();
    };
    let members = object::members(request.text(), span);
    let cuts = object::cuts(&members, |member| is_of_round(&member.name));
    let edits: Vec<_> = cuts.into_iter().map(|cut| (cut, b"".as_slice())).collect();
    splice(request.body(), &edits)
}

fn is_of_round(name: &str) -> bool {
    matches!(name, RESPONSES | STATE)
}

/// The input that a request brings, by key.
pub fn responses(request: &Message) -> Result<Vec<(Cow<'_, str>, Span)>, Malformed> {
    let text = request.text();
    let span = request.params().and_then(|params| params.span);
    let Some(responses) = span.and_then(|span| object::member(text, span, RESPONSES)) else {
        return Ok(Vec::new());
    };
    let is_object = |span: Span| span.of(text).starts_with('{');
    let members = object::members(text, responses);
    if !is_object(responses) || !members.iter().all(|member| is_object(member.value)) {
        return Err(Malformed);
    }
    Ok(members.into_iter().map(|member| (member.name, member.value)).collect())
}

/// The answer to the request `id` (raw JSON) that asks for `inputs`: keys, and requests as
/// [`as_input`] gives them.
pub fn input_required(id: &[u8], inputs: &[(String, String)], state: &str) -> Bytes {
    format!(
        r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"{INPUT_REQUIRED}",{},"{STATE}":{},"_meta":{{"{}":{SERVER_INFO}}}}}}}"#,
        String::from_utf8_lossy(id),
        requests(inputs),
        quote(state),
        meta_key::SERVER_INFO,
    )
    .into()
}

/// The member that asks for `inputs`, JSON text.
pub fn requests(inputs: &[(String, String)]) -> String {
    let inputs: Vec<_> =
        inputs.iter().map(|(key, input)| format!("{}:{input}", quote(key))).collect();
    format!("\"{REQUESTS}\":{{{}}}", inputs.join(","))
}

/// Whether the client agreed to an elicitation. `result` is a span of `text`.
pub fn is_accepted(text: &str, result: Span) -> bool {
    let action = object::member(text, result, "action");
    action.and_then(|action| object::unquote(action.of(text))).as_deref() == Some("accept")
}

/// A request of a legacy server as a modern client is asked it: without what only its era knows.
pub fn as_input(request: &Message, to: &Addressee<'_>) -> String {
    let text = request.text();
    let Kind::Request(asked) = &request.kind else { return "{}".to_owned() };
    let method = asked.method_span.of(text);
    let Some(span) = asked.params.span else { return format!(r#"{{"method":{method}}}"#) };
    let ask = Ask::of(asked.method.as_str());
    let is_elicitation = ask == Some(Ask::Elicitation);
    let members = object::members(text, span);
    // Its id names it in a notification that modern clients do not get.
    let is_gone = |name: &str| is_elicitation && name == "elicitationId";
    let mut cuts = object::cuts(&members, |member| is_gone(&member.name));
    if let Some(meta) = asked.params.meta.span {
        let members = object::members(text, meta);
        cuts.extend(object::cuts(&members, |member| member.name == meta_key::PROGRESS_TOKEN));
    }
    let fitted = ask.map(|ask| to.edits_of(ask, text, span)).unwrap_or_default();
    format!(r#"{{"method":{method},"params":{}}}"#, edited(text, span, cuts, fitted))
}

/// The text under a span without parts of it, and with others put for parts.
fn edited(
    text: &str,
    span: Span,
    cuts: Vec<Span>,
    added: impl IntoIterator<Item = (Span, String)>,
) -> String {
    let mut edits: Vec<_> = cuts.into_iter().map(|cut| (cut, String::new())).chain(added).collect();
    edits.sort_by_key(|(at, _)| (at.start, at.end));
    let mut out = String::with_capacity(span.end - span.start);
    let mut at = span.start;
    for (cut, new) in edits {
        out.push_str(Span { start: at, end: cut.start }.of(text));
        out.push_str(&new);
        at = cut.end;
    }
    out.push_str(Span { start: at, end: span.end }.of(text));
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(text: &str) -> Message {
        parse(Bytes::from(text.to_owned())).unwrap()
    }

    fn text(bytes: Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[track_caller]
    fn check_input(params: &str, expected: &str) {
        let request = message(&format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"elicitation/create"{params}}}"#
        ));
        let (capabilities, version) = (crate::mcp::Capabilities::NONE, crate::mcp::Version::NEWEST);
        let input = as_input(&request, &Addressee { capabilities, version, asker: Some("up") });
        assert_eq!(input, format!(r#"{{"method":"elicitation/create"{expected}}}"#));
    }

    #[test]
    fn a_request_becomes_an_input_without_what_its_era_alone_knows() {
        check_input("", "");
        check_input(r#","params":{}"#, r#","params":{}"#);
        check_input(
            r#", "params" : {"x":1e2, "elicitationId":"e","_meta":{"progressToken":5,"a":1.0} },"y":0"#,
            r#","params":{"x":1e2,"_meta":{"a":1.0} }"#,
        );
        check_input(r#","params":{"elicitationId":"e"}"#, r#","params":{}"#);
        check_input(
            r#","params":{"message":"Who?","elicitationId":"e","x":1.0}"#,
            r#","params":{"message":"[up] Who?","x":1.0}"#,
        );
    }

    #[test]
    fn an_answer_that_asks_is_read_and_its_retry_has_all_that_it_wants() {
        let answer = message(
            r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"a\u0041":{"method":"roots/list"},"b":{"method":"elicitation/create","params":{"n":1.0}}},"requestState":"s\u0041"}}"#,
        );
        let required = required(&answer).unwrap().unwrap();
        assert_eq!(
            required.inputs[0].request.text(),
            r#"{"jsonrpc":"2.0","id":0,"method":"roots/list"}"#
        );
        assert!(required.inputs[1].request.text().ends_with(r#""params":{"n":1.0}}"#));
        let request = message(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"requestState":1,"name":"t", "arguments":{"n":1.0},"inputResponses":{}}}"#,
        );
        let given: Vec<_> = required
            .inputs
            .iter()
            .map(|input| (input.key.clone(), Bytes::from_static(br#"{"v":1e2}"#)))
            .collect();
        let again = retry(&request, &given, required.state.as_deref());
        assert_eq!(
            text(again.clone()),
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":1.0},"inputResponses":{"a\u0041":{"v":1e2},"b":{"v":1e2}},"requestState":"s\u0041"}}"#
        );
        let again = parse(again).unwrap();
        assert_eq!(responses(&again).unwrap()[0].0, "aA");
        assert_eq!(
            text(first(&again)),
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":1.0}}}"#
        );
    }

    #[test]
    fn what_asks_in_no_known_way_is_malformed_and_other_answers_ask_nothing() {
        let answer = |rest: &str| {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"resultType":{rest}}}}}"#);
            required(&message(&body))
        };
        for rest in [
            r#""input_required""#,
            r#""input_required","inputRequests":{}"#,
            r#""input_required","inputRequests":[],"requestState":"s""#,
            r#""input_required","inputRequests":{"a":1}"#,
            r#""input_required","inputRequests":{"a":{"method":1}}"#,
        ] {
            assert_eq!(answer(rest), Some(Err(Malformed)), "{rest}");
        }
        assert_eq!(answer(r#""complete","requestState":"s""#), None);
        assert!(
            answer(r#""input_required","requestState":"s""#).unwrap().unwrap().inputs.is_empty()
        );
        let given = |given: &str| {
            message(&format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"inputResponses":{given}}}}}"#
            ))
        };
        for wrong in ["[]", "1", r#"{"a":1}"#, r#"{"a":{},"b":null}"#] {
            assert_eq!(responses(&given(wrong)), Err(Malformed), "{wrong}");
        }
        assert_eq!(responses(&given("{}")), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn keys_and_states_survive_whatever_they_are(key in ".{1,20}", state in ".{0,20}") {
            let input = (key.clone(), r#"{"method":"roots/list"}"#.to_owned());
            let answer = input_required(b"1", &[input], &state);
            let read = required(&parse(answer).unwrap()).unwrap().unwrap();
            let (key, state) = (quote(&key), quote(&state));
            prop_assert_eq!(&read.inputs[0].key, key.as_bytes());
            prop_assert_eq!(read.state.unwrap(), state.as_bytes());
        }
    }
}
