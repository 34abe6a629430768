//! Tasks of one generation in the words of the other (MCP 2025-11-25, tasks; 2026-07-28, the
//! tasks extension). What both have in common, and what neither knows, keeps its bytes.

mod messages;

use std::borrow::Cow;

use bytes::Bytes;
use proto::Era;

pub use self::messages::{about, is_whole, related_to, unrelated, wanted};
use super::{RELATED, TASK_ID, find};
use crate::mcp::{
    message::{Kind, Message, Outcome, Response, Span, meta_key, parse, splice},
    object::{Member, member, members, unquote},
    response::{SERVER_INFO, quote},
};

/// Members that have two names, the legacy one first.
const NAMES: [(&str, &str); 2] = [("ttl", "ttlMs"), ("pollInterval", "pollIntervalMs")];
/// What is not of the task itself, or only of one generation's.
const OWN: [&str; 6] = ["_meta", "resultType", "result", "error", "inputRequests", TASK_ID];

/// How far a task is; both generations have the same words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Working,
    InputRequired,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    const ALL: [Self; 5] =
        [Self::Working, Self::InputRequired, Self::Completed, Self::Failed, Self::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::InputRequired => "input_required",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it stays so.
    pub fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled => true,
            Self::Working | Self::InputRequired => false,
        }
    }
}

/// A task as an upstream tells of it.
#[derive(Debug)]
pub struct Task<'m> {
    message: &'m Message,
    /// The result that it is told in.
    result: Span,
    members: Vec<Member<Cow<'m, str>>>,
}

impl<'m> Task<'m> {
    /// The new task that the answer to a call is, in either form.
    pub fn created(message: &'m Message) -> Option<Self> {
        let result = result_of(message)?;
        let text = message.text();
        let outer = members(text, result);
        let is_flat = find(&outer, "resultType").is_some_and(|it| it.of(text) == "\"task\"");
        let members = if is_flat { outer } else { members(text, find(&outer, "task")?) };
        Self { message, result, members }.named()
    }

    /// The task that an answer tells the state of.
    pub fn told(message: &'m Message) -> Option<Self> {
        let result = result_of(message)?;
        Self { message, result, members: members(message.text(), result) }.named()
    }

    fn named(self) -> Option<Self> {
        self.id().is_some().then_some(self)
    }

    fn text(&self) -> &'m str {
        self.message.text()
    }

    fn member(&self, name: &str) -> Option<&'m str> {
        find(&self.members, name).map(|span| span.of(self.text()))
    }

    /// Its upstream's name for it.
    pub fn id(&self) -> Option<Cow<'m, str>> {
        unquote(self.member(TASK_ID)?)
    }

    /// `None`: one that neither generation knows.
    pub fn status(&self) -> Option<Status> {
        let status = unquote(self.member("status")?)?;
        Status::ALL.into_iter().find(|it| it.as_str() == status)
    }

    /// How often it may be asked for, in milliseconds.
    pub fn poll_ms(&self) -> Option<u64> {
        let (legacy, modern) = NAMES[1];
        self.member(modern).or_else(|| self.member(legacy))?.parse().ok()
    }

    /// What came of it, as the answer to the request `id` (raw JSON). Only modern tasks have it.
    pub fn outcome(&self, id: &[u8]) -> Option<Bytes> {
        let (name, value) = match (self.member("result"), self.member("error")) {
            (Some(result), _) => ("result", result),
            (None, Some(error)) => ("error", error),
            (None, None) => return None,
        };
        let id = String::from_utf8_lossy(id);
        Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"{name}":{value}}}"#).into())
    }

    /// What it asks for: keys (raw JSON), and requests as legacy clients are asked. Only modern
    /// tasks have it. What cannot be understood is left out.
    pub fn inputs(&self) -> Vec<(Box<str>, Message)> {
        let text = self.text();
        let asked = find(&self.members, "inputRequests").map(|span| members(text, span));
        let request = |it: Member<Cow<'m, str>>| {
            let method = member(text, it.value, "method")?.of(text);
            let params = member(text, it.value, "params");
            let params = params.map(|it| format!(",\"params\":{}", it.of(text)));
            let params = params.unwrap_or_default();
            let body = format!(r#"{{"jsonrpc":"2.0","id":0,"method":{method}{params}}}"#);
            Some((it.key.of(text).into(), parse(body.into()).ok()?))
        };
        asked.unwrap_or_default().into_iter().filter_map(request).collect()
    }

    /// Its members for clients of an era that know it as `id`. `status` stands for its own.
    fn members_for(&self, era: Era, id: &str, status: Option<Status>) -> String {
        let mut out = vec![format!("\"{TASK_ID}\":{}", quote(id))];
        let mut names = Vec::new();
        for it in self.members.iter().filter(|it| !OWN.contains(&&*it.name)) {
            let pair = NAMES.into_iter().find(|(legacy, modern)| match era {
                Era::Legacy => it.name == *modern,
                Era::Modern => it.name == *legacy,
            });
            let name = match (pair, era) {
                (Some((legacy, _)), Era::Legacy) => legacy,
                (Some((_, modern)), Era::Modern) => modern,
                (None, _) => &it.name,
            };
            // Its own spelling of the other's name may be there, too.
            if names.contains(&name) {
                continue;
            }
            names.push(name);
            out.push(match status.filter(|_| name == "status") {
                Some(status) => format!("{}:{}", quote(name), quote(status.as_str())),
                None => format!("{}:{}", quote(name), it.value.of(self.text())),
            });
        }
        if !names.contains(&ttl(era)) {
            // Both generations want it said that there is no end.
            out.push(format!("\"{}\":null", ttl(era)));
        }
        out.join(",")
    }

    /// The answer that makes it known to a legacy client as `id`.
    pub fn created_for_legacy(&self, id: &str) -> Bytes {
        self.answer(&format!(r#"{{"task":{{{}}}}}"#, self.members_for(Era::Legacy, id, None)))
    }

    /// The answer that tells a legacy client its state; `status` stands for its own.
    pub fn told_for_legacy(&self, id: &str, status: Option<Status>) -> Bytes {
        self.answer(&format!("{{{}}}", self.members_for(Era::Legacy, id, status)))
    }

    /// The answer that makes it known to a modern client as `id`.
    pub fn created_for_modern(&self, id: &str) -> Bytes {
        let members = self.members_for(Era::Modern, id, None);
        self.answer(&format!(r#"{{"resultType":"task",{members}}}"#))
    }

    /// The answer that tells a modern client its state, and `more` of it: members as JSON text.
    pub fn told_for_modern(&self, id: &str, status: Status, more: &str) -> Bytes {
        let members = self.members_for(Era::Modern, id, Some(status));
        let comma = if more.is_empty() { "" } else { "," };
        let key = meta_key::SERVER_INFO;
        self.answer(&format!(
            r#"{{"resultType":"complete",{members}{comma}{more},"_meta":{{"{key}":{SERVER_INFO}}}}}"#
        ))
    }

    fn answer(&self, result: &str) -> Bytes {
        splice(self.message.body(), &[(self.result, result)])
    }
}

fn ttl(era: Era) -> &'static str {
    let (legacy, modern) = NAMES[0];
    match era {
        Era::Legacy => legacy,
        Era::Modern => modern,
    }
}

fn result_of(message: &Message) -> Option<Span> {
    match &message.kind {
        Kind::Response(Response { outcome: Outcome::Result { span, .. }, .. }) => Some(*span),
        Kind::Response(_) | Kind::Request(_) | Kind::Notification(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn message(rest: &str) -> Message {
        parse(Bytes::from(format!(r#"{{"jsonrpc":"2.0",{rest}}}"#))).unwrap()
    }

    pub(super) fn result(body: Bytes) -> String {
        let message = parse(body).unwrap();
        result_of(&message).unwrap().of(message.text()).to_owned()
    }

    const FLAT: &str = r#""id":1,"result":{"taskId":"t","resultType":"task","status":"working","ttlMs":1e3,"x":1.0,"pollIntervalMs":70}"#;

    #[test]
    fn a_new_task_is_told_in_the_other_form() {
        let flat = message(FLAT);
        let task = Task::created(&flat).unwrap();
        assert_eq!((task.id().unwrap().as_ref(), task.poll_ms()), ("t", Some(70)));
        assert_eq!(
            result(task.created_for_legacy("s")),
            r#"{"task":{"taskId":"s","status":"working","ttl":1e3,"x":1.0,"pollInterval":70}}"#
        );
        let wrapped = message(
            r#""id":1,"result":{"task":{"taskId":"t","status":"working","pollInterval":70},"_meta":{}}"#,
        );
        let task = Task::created(&wrapped).unwrap();
        assert_eq!(
            result(task.created_for_modern("s")),
            r#"{"resultType":"task","taskId":"s","status":"working","pollIntervalMs":70,"ttlMs":null}"#
        );
        for other in [
            r#""id":1,"result":{"content":[]}"#,
            r#""id":1,"result":{"resultType":"complete","taskId":"t"}"#,
            r#""id":1,"result":{"resultType":"task"}"#,
            r#""id":1,"error":{"code":1,"message":"m"}"#,
        ] {
            assert!(Task::created(&message(other)).is_none(), "{other}");
        }
    }

    #[test]
    fn what_only_one_generation_tells_is_not_told_to_the_other() {
        let told = message(
            r#""id":1,"result":{"resultType":"complete","taskId":"t","status":"completed","ttlMs":null,"result":{"n":1.0},"_meta":{"a":1}}"#,
        );
        let task = Task::told(&told).unwrap();
        assert_eq!(task.status(), Some(Status::Completed));
        let expected = r#"{"taskId":"s","status":"completed","ttl":null}"#;
        assert_eq!(result(task.told_for_legacy("s", None)), expected);
        let cancelled = result(task.told_for_legacy("s", Some(Status::Cancelled)));
        assert_eq!(cancelled, expected.replace("completed", "cancelled"));
        let answer = task.outcome(b"\"i\"").unwrap();
        assert_eq!(answer, r#"{"jsonrpc":"2.0","id":"i","result":{"n":1.0}}"#);
        let legacy =
            message(r#""id":1,"result":{"taskId":"t","status":"failed","ttl":5,"ttlMs":6}"#);
        let task = Task::told(&legacy).unwrap();
        let more = result(task.told_for_modern("s", Status::Completed, r#""result":{"n":1.0}"#));
        let begin = r#"{"resultType":"complete","taskId":"s","status":"completed","ttlMs":5,"result":{"n":1.0},"_meta":{"#;
        assert!(more.starts_with(begin), "{more}");
        assert_eq!(task.outcome(b"1"), None);
    }

    #[test]
    fn what_a_task_asks_for_is_read() {
        let told = message(
            r#""id":1,"result":{"taskId":"t","status":"input_required","inputRequests":{"a\u0041":{"method":"roots/list"},"b":{"method":"elicitation/create","params":{"n":1.0}},"c":7}}"#,
        );
        let inputs = Task::told(&told).unwrap().inputs();
        let keys: Vec<_> = inputs.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys, [r#""a\u0041""#, r#""b""#]);
        assert!(inputs[1].1.text().ends_with(r#""params":{"n":1.0}}"#));
    }

    proptest! {
        #[test]
        fn whatever_a_task_says_what_is_told_of_it_is_a_message(
            members in r#"("[a-z]{1,6}":("x"|1|\{\}|null),){0,4}"#, id in ".{0,20}",
        ) {
            let rest = format!(r#""id":1,"result":{{{members}"taskId":"t","resultType":"task"}}"#);
            let Ok(message) = parse(format!(r#"{{"jsonrpc":"2.0",{rest}}}"#).into()) else { return Ok(()) };
            let task = Task::created(&message).unwrap();
            let bodies = [
                task.created_for_legacy(&id),
                task.told_for_legacy(&id, None),
                task.created_for_modern(&id),
                task.told_for_modern(&id, Status::Working, ""),
            ];
            for body in bodies {
                prop_assert!(parse(body).is_ok());
            }
        }
    }
}
