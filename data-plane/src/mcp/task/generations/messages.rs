//! Requests and answers that go with a task of the other generation.

use bytes::Bytes;

use super::{RELATED, TASK_ID, result_of};
use crate::mcp::{
    message::{Kind, Message, Request, Span, parse, splice},
    object::{cuts, member, members},
    response::quote,
};

/// Whether a result is a whole one: there is no task, and nothing is asked for first.
pub fn is_whole(message: &Message) -> bool {
    let Some(result) = result_of(message) else { return false };
    let kind = member(message.text(), result, "resultType");
    kind.is_none_or(|kind| kind.of(message.text()) == "\"complete\"")
}

/// A call that asks a legacy upstream for a task; what it said of tasks itself means nothing.
pub fn wanted(message: &Message) -> Message {
    let Some(params) = message.params().and_then(|params| params.span) else {
        return message.clone();
    };
    let text = message.text();
    let edit = match member(text, params, "task") {
        Some(task) => (task, "{}"),
        None if members(text, params).is_empty() => (Span::at(params.start + 1), "\"task\":{}"),
        None => (Span::at(params.start + 1), "\"task\":{},"),
    };
    parse(splice(message.body(), &[edit])).unwrap_or_else(|_| message.clone())
}

/// A message without the task that it belongs to; `None`: it belongs to none.
pub fn unrelated(message: &Message) -> Option<Bytes> {
    let text = message.text();
    let meta = match &message.kind {
        Kind::Response(_) => member(text, result_of(message)?, "_meta")?,
        Kind::Request(_) | Kind::Notification(_) => message.params()?.meta.span?,
    };
    let members = members(text, meta);
    let cuts = cuts(&members, |member| member.name == RELATED);
    let edits: Vec<_> = cuts.into_iter().map(|cut| (cut, &b""[..])).collect();
    (!edits.is_empty()).then(|| splice(message.body(), &edits))
}

/// A response or a request as one that belongs to the task `id`.
pub fn related_to(body: Bytes, id: &str) -> Bytes {
    let Ok(message) = parse(body.clone()) else { return body };
    let text = message.text();
    let related = format!(r#""{RELATED}":{{"taskId":{}}}"#, quote(id));
    let holder = match &message.kind {
        Kind::Request(Request { params, .. }) => params.span,
        Kind::Response(_) | Kind::Notification(_) => result_of(&message),
    };
    if let (Kind::Request(Request { method_span, .. }), None) = (&message.kind, holder) {
        let added = format!(r#","params":{{"_meta":{{{related}}}}}"#);
        return splice(&body, &[(Span::at(method_span.end), added)]);
    }
    let Some(holder) = holder.filter(|holder| holder.of(text).starts_with('{')) else {
        return body;
    };
    let comma = |span: Span| if members(text, span).is_empty() { "" } else { "," };
    let meta = member(text, holder, "_meta").filter(|meta| meta.of(text).starts_with('{'));
    let edit = if let Some(meta) = meta {
        (Span::at(meta.start + 1), format!("{related}{}", comma(meta)))
    } else {
        let added = format!(r#""_meta":{{{related}}}{}"#, comma(holder));
        (Span::at(holder.start + 1), added)
    };
    splice(&body, &[edit])
}

/// The parameters of a request about one task, `id`, in place of its own; `more` are further
/// members as JSON text. Its `_meta` stays.
pub fn about(request: &Message, method: &str, id: &str, more: &str) -> Message {
    let Kind::Request(Request { method_span, params, .. }) = &request.kind else {
        return request.clone();
    };
    let meta = params.meta.span.map(|span| format!(",\"_meta\":{}", span.of(request.text())));
    let meta = meta.unwrap_or_default();
    let comma = if more.is_empty() { "" } else { "," };
    let members = format!("{{\"{TASK_ID}\":{}{comma}{more}{meta}}}", quote(id));
    let edits = match params.span {
        Some(span) => vec![(*method_span, quote(method)), (span, members)],
        None => vec![(*method_span, format!("{},\"params\":{members}", quote(method)))],
    };
    parse(splice(request.body(), &edits)).unwrap_or_else(|_| request.clone())
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{message, result},
        *,
    };

    #[test]
    fn a_call_asks_for_a_task_once() {
        let check = |params: &str, expected: &str| {
            let call = message(&format!(r#""id":1,"method":"tools/call","params":{{{params}}}"#));
            let wanted = wanted(&call);
            assert!(wanted.text().ends_with(expected), "{}", wanted.text());
        };
        check(r#""name":"t""#, r#""params":{"task":{},"name":"t"}}"#);
        check(r#""name":"t","task":{"ttl":1}"#, r#""params":{"name":"t","task":{}}}"#);
        check("", r#""params":{"task":{}}}"#);
    }

    #[test]
    fn a_message_loses_its_task_and_an_answer_gets_one() {
        let related = r#""io.modelcontextprotocol/related-task":{"taskId":"r"}"#;
        for (with, without) in [
            (
                format!(r#""id":1,"result":{{"_meta":{{{related},"x":1.0}}}}"#),
                r#""id":1,"result":{"_meta":{"x":1.0}}"#,
            ),
            (
                format!(r#""id":1,"method":"m","params":{{"_meta":{{{related}}}}}"#),
                r#""id":1,"method":"m","params":{"_meta":{}}"#,
            ),
        ] {
            let cut = unrelated(&message(&with)).unwrap();
            assert_eq!(cut, message(without).into_body());
            assert_eq!(unrelated(&message(without)), None);
        }
        for (bare, whole) in [
            (r#"{"n":1.0}"#, format!(r#"{{"_meta":{{{related}}},"n":1.0}}"#)),
            ("{}", format!(r#"{{"_meta":{{{related}}}}}"#)),
            (r#"{"_meta":{"a":1}}"#, format!(r#"{{"_meta":{{{related},"a":1}}}}"#)),
        ] {
            let answer = message(&format!(r#""id":1,"result":{bare}"#));
            assert_eq!(result(related_to(answer.into_body(), "r")), whole);
        }
        let asks = message(r#""id":1,"method":"roots/list""#);
        let asks = related_to(asks.into_body(), "r");
        let expected = format!(r#""method":"roots/list","params":{{"_meta":{{{related}}}}}}}"#);
        assert!(String::from_utf8_lossy(&asks).ends_with(&expected), "{asks:?}");
    }

    #[test]
    fn a_request_becomes_one_about_the_task() {
        let request = message(
            r#""id":"i","method":"tasks/result","params":{"taskId":"s","_meta":{"a":1.0}}"#,
        );
        let get = about(&request, "tasks/get", "t", "");
        assert_eq!(
            get.text(),
            r#"{"jsonrpc":"2.0","id":"i","method":"tasks/get","params":{"taskId":"t","_meta":{"a":1.0}}}"#
        );
        let update = about(&message(r#""id":1,"method":"m""#), "tasks/update", "t", r#""x":{}"#);
        assert!(update.text().ends_with(r#""params":{"taskId":"t","x":{}}}"#), "{}", update.text());
    }
}
