//! Where messages name tasks (MCP 2025-11-25, tasks; 2026-07-28, the tasks extension).

pub mod generations;

use bytes::Bytes;

use super::{
    message::{Kind, Message, Outcome, Request, Response, Span, parse, splice},
    object::{Member, cuts, elements, member, members, unquote},
    response::quote,
};

/// The extension that gives the modern era its tasks.
pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";
/// The key in `_meta` by which a legacy message names the task that it belongs to.
const RELATED: &str = "io.modelcontextprotocol/related-task";
/// What tells of a task's state in the modern era.
const MODERN_NOTICE: &str = "notifications/tasks";
const TASK_ID: &str = "taskId";

/// What a request asks for, as far as its answer may name tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A call, which may become a task.
    Creation,
    /// One known task, or what came of it.
    Task,
    /// A page of tasks.
    List,
}

/// The id in the parameters of a request about one task, raw.
pub fn asked_for(message: &Message, request: &Request) -> Option<Span> {
    member(message.text(), request.params.span?, TASK_ID)
}

/// The `task` parameter of a call that a legacy client wants to be one.
pub fn is_wanted(message: &Message, request: &Request) -> bool {
    // Nearly every call is told by this.
    if memchr::memmem::find(message.body(), b"\"task\"").is_none() {
        return false;
    }
    let params = request.params.span;
    params.and_then(|params| member(message.text(), params, "task")).is_some()
}

/// The task that a legacy request or notification belongs to, raw.
pub fn related(message: &Message) -> Option<Span> {
    let meta = message.params()?.meta.span?;
    let related = member(message.text(), meta, RELATED)?;
    member(message.text(), related, TASK_ID)
}

/// Every id of a task in what an upstream says, raw, except those in lists. `expected` is what
/// the request asked for whose answer it may be.
pub fn named(message: &Message, expected: Expected) -> Vec<Span> {
    let mut named: Vec<_> = match &message.kind {
        Kind::Response(Response { outcome: Outcome::Error(_), .. }) => Vec::new(),
        Kind::Response(Response { outcome: Outcome::Result { span, .. }, .. }) => {
            in_result(message.text(), *span, expected)
        }
        Kind::Request(_) => related(message).into_iter().collect(),
        Kind::Notification(_) => changed(message).into_iter().chain(related(message)).collect(),
    };
    named.retain(|id| id.of(message.text()).starts_with('"'));
    named
}

/// Whether a notification tells a task's state as the modern era does.
pub fn is_modern_notice(message: &Message) -> bool {
    message.method().is_some_and(|method| method.as_str() == MODERN_NOTICE)
}

/// The task that a notification of either era tells the state of, raw.
pub fn changed(message: &Message) -> Option<Span> {
    let is_status =
        matches!(message.method()?.as_str(), "notifications/tasks/status" | MODERN_NOTICE);
    let params = message.params()?.span.filter(|_| is_status)?;
    member(message.text(), params, TASK_ID)
}

/// The answer to `tasks/get` of the modern era as a notification of the task's state.
pub fn as_notice(answer: &Message) -> Option<Message> {
    let Kind::Response(Response { outcome: Outcome::Result { span, .. }, .. }) = &answer.kind
    else {
        return None;
    };
    let text = answer.text();
    let members = members(text, *span);
    find(&members, TASK_ID)?;
    let kept = members.iter().filter(|member| !matches!(&*member.name, "resultType" | "_meta"));
    let kept: Vec<_> = kept
        .map(|member| Span { start: member.key.start, end: member.value.end }.of(text))
        .collect();
    let state = kept.join(",");
    let body = format!(r#"{{"jsonrpc":"2.0","method":"{MODERN_NOTICE}","params":{{{state}}}}}"#);
    parse(body.into()).ok()
}

fn in_result(text: &str, result: Span, expected: Expected) -> Vec<Span> {
    let members = members(text, result);
    let find = |name: &str| find(&members, name);
    let task = match expected {
        // Flat in the modern era, wrapped in the legacy one.
        Expected::Creation if find("resultType").map(|it| it.of(text)) == Some("\"task\"") => {
            find(TASK_ID)
        }
        Expected::Creation => find("task").and_then(|task| member(text, task, TASK_ID)),
        Expected::Task => find(TASK_ID),
        Expected::List => None,
    };
    let meta = find("_meta").and_then(|meta| member(text, meta, RELATED));
    task.into_iter().chain(meta.and_then(|related| member(text, related, TASK_ID))).collect()
}

fn find<N: AsRef<str>>(members: &[Member<N>], name: &str) -> Option<Span> {
    members.iter().find(|member| member.name.as_ref() == name).map(|member| member.value)
}

/// A page of a list: the tasks that stay, each with its id, and where the next page begins.
pub fn page(
    message: &Message,
    shown: impl Fn(&str) -> Option<String>,
    next: impl FnOnce(Option<&str>) -> Option<String>,
) -> Option<Bytes> {
    let Kind::Response(Response { outcome: Outcome::Result { span, .. }, .. }) = &message.kind
    else {
        return None;
    };
    let text = message.text();
    let members = members(text, *span);
    let tasks = find(&members, "tasks")?;
    let kept = elements(text, tasks).into_iter().filter_map(|task| {
        let id = member(text, task, TASK_ID)?;
        let shown = quote(&shown(&unquote(id.of(text))?)?);
        let inner = Span { start: id.start - task.start, end: id.end - task.start };
        Some(splice(task.of(text).as_bytes(), &[(inner, shown.as_bytes())]))
    });
    let list = [&b"["[..], &kept.collect::<Vec<_>>().join(&b","[..]), b"]"].concat();
    let cursor = find(&members, "nextCursor");
    let given = cursor.and_then(|cursor| unquote(cursor.of(text)));
    let next = next(given.as_deref()).map(|next| quote(&next));
    let mut edits: Vec<(Span, &[u8])> = vec![(tasks, &list)];
    let added = next.as_ref().map(|next| format!(",\"nextCursor\":{next}"));
    match (cursor, &next, &added) {
        (Some(cursor), Some(next), _) => edits.push((cursor, next.as_bytes())),
        (Some(_), None, _) => {
            let cuts = cuts(&members, |member| member.name == "nextCursor");
            edits.extend(cuts.into_iter().map(|cut| (cut, &b""[..])));
        }
        (None, Some(_), Some(added)) => edits.push((Span::at(tasks.end), added.as_bytes())),
        (None, ..) => (),
    }
    Some(splice(message.body(), &edits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message::parse;

    fn message(rest: &str) -> Message {
        parse(Bytes::from(format!(r#"{{"jsonrpc":"2.0",{rest}}}"#))).unwrap()
    }

    #[track_caller]
    fn check(rest: &str, expected: Expected, ids: &[&str]) {
        let message = message(rest);
        let found: Vec<_> =
            named(&message, expected).into_iter().map(|id| id.of(message.text())).collect();
        assert_eq!(found, ids, "{rest}");
    }

    #[test]
    fn both_forms_of_a_new_task_are_found_and_nothing_else_that_looks_like_one() {
        let created = Expected::Creation;
        let flat = r#""id":1,"result":{"taskId":"a","resultType":"task","x":{"taskId":"b"}}"#;
        check(flat, created, &[r#""a""#]);
        check(r#""id":1,"result":{"task":{"taskId":"a","ttl":1.0}}"#, created, &[r#""a""#]);
        check(r#""id":1,"result":{"resultType":"complete","taskId":"a"}"#, created, &[]);
        check(r#""id":1,"result":{"content":[],"taskId":"a","task":"a"}"#, created, &[]);
        check(r#""id":1,"result":{"task":{"taskId":7}}"#, created, &[]);
        check(r#""id":1,"error":{"code":1,"taskId":"a"}"#, created, &[]);
    }

    #[test]
    fn a_message_names_the_task_that_it_belongs_to() {
        let related = r#""_meta":{"x":1,"io.modelcontextprotocol/related-task":{"taskId":"r"}}"#;
        let task = Expected::Task;
        check(&format!(r#""id":1,"result":{{"content":[],{related}}}"#), task, &[r#""r""#]);
        check(
            &format!(r#""id":1,"result":{{"taskId":"a",{related}}}"#),
            task,
            &[r#""a""#, r#""r""#],
        );
        let asks = format!(r#""id":1,"method":"elicitation/create","params":{{{related}}}"#);
        check(&asks, task, &[r#""r""#]);
        for method in ["notifications/tasks/status", "notifications/tasks"] {
            let status = format!(r#""method":"{method}","params":{{"taskId":"a",{related}}}"#);
            check(&status, Expected::Creation, &[r#""a""#, r#""r""#]);
        }
        check(r#""method":"notifications/progress","params":{"taskId":"a"}"#, task, &[]);
    }

    #[test]
    fn an_answer_becomes_a_notification_of_the_same_state() {
        let answer = message(
            r#""id":1,"result":{"resultType":"complete", "taskId":"t","_meta":{"a":1}, "ttlMs":1.0,"result":{"n":1e2}}"#,
        );
        let expected = r#""method":"notifications/tasks","params":{"taskId":"t","ttlMs":1.0,"result":{"n":1e2}}"#;
        let notice = as_notice(&answer).unwrap();
        assert_eq!(notice.body(), message(expected).body());
        assert_eq!(changed(&notice).map(|id| id.of(notice.text())), Some(r#""t""#));
        for other in [r#""id":1,"error":{"code":1,"message":"m"}"#, r#""id":1,"result":{}"#] {
            assert!(as_notice(&message(other)).is_none(), "{other}");
        }
    }

    #[test]
    fn a_page_keeps_what_is_shown_and_its_spelling() {
        let rest = r#""id":1,"result":{ "tasks":[ {"taskId":"\u0061","ttl":1.0}, {"taskId":"b"}, 7 ],"nextCursor":"n","x":1e2}"#;
        let shown = |id: &str| (id == "a").then(|| "sealed".to_owned());
        let next = |cursor: Option<&str>| cursor.map(|cursor| format!("next {cursor}"));
        let page = page(&message(rest), shown, next).unwrap();
        let expected = r#"{"jsonrpc":"2.0","id":1,"result":{ "tasks":[{"taskId":"sealed","ttl":1.0}],"nextCursor":"next n","x":1e2}}"#;
        assert_eq!(page, expected);
    }

    #[test]
    fn a_page_says_where_the_next_one_begins_whoever_has_it() {
        let page = |rest: &str, next: Option<&str>| {
            let next = next.map(str::to_owned);
            page(&message(rest), |_| None, |_| next).unwrap()
        };
        let last = r#""id":1,"result":{"tasks":[]}"#;
        assert!(page(last, Some("n")).ends_with(br#"{"tasks":[],"nextCursor":"n"}}"#));
        assert!(page(last, None).ends_with(br#"{"tasks":[]}}"#));
        let more = r#""id":1,"result":{"tasks":[],"nextCursor":"u"}"#;
        assert!(page(more, None).ends_with(br#"{"tasks":[]}}"#));
    }
}
