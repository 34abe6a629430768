//! The tasks of a session: it hears of its own, under the ids that it knows.

use bytes::Bytes;

use super::Live;
use crate::{
    mcp::{
        Message,
        message::{Span, parse, splice},
        object::unquote,
        response::quote,
        task,
    },
    task_id::TaskId,
    tasks::Outcome,
    upstream::Question,
};

impl Live {
    /// Remembers a task that this session may hear of, and the id under which it knows it.
    pub(crate) fn know_task(&self, task: TaskId, sealed: &str) {
        self.tasks.lock().add(task, sealed);
    }

    /// The id under which the session knows a task of its own.
    pub(crate) fn known_task(&self, task: &TaskId) -> Option<String> {
        self.tasks.lock().find(task).map(str::to_owned)
    }

    /// The client has been told that a task of its own is cancelled.
    pub(crate) fn note_cancelled(&self, task: &TaskId) {
        self.tasks.lock().note_cancelled(task);
    }

    pub(crate) fn is_cancelled(&self, task: &TaskId) -> bool {
        self.tasks.lock().is_cancelled(task)
    }

    /// Keeps an answer that came at once where a task was wanted.
    pub(crate) fn keep_outcome(&self, task: TaskId, outcome: Outcome) {
        self.tasks.lock().keep(task, outcome);
    }

    pub(crate) fn outcome(&self, task: &TaskId) -> Option<Outcome> {
        self.tasks.lock().outcome(task)
    }

    /// Tells the client the state of a task, if it is its own.
    pub(super) fn task_changed(&self, upstream_id: &str, message: &Message) {
        let Some(changed) = task::changed(message) else { return };
        // In the modern form it is for those that listen.
        if task::is_modern_notice(message) {
            return;
        }
        if self.shown(upstream_id, message, changed).is_some() {
            self.tell(self.with_own_ids(upstream_id, message));
        }
    }

    /// A message with the ids that the client knows.
    pub(super) fn in_own_tasks(&self, upstream_id: &str, message: Message) -> Message {
        if task::related(&message).is_none() {
            return message;
        }
        parse(self.with_own_ids(upstream_id, &message)).unwrap_or(message)
    }

    /// A question under the id that the client knows its task by.
    pub(super) fn in_own_terms(&self, upstream_id: &str, question: Question) -> Question {
        let message = question.message();
        let related = task::related(message);
        let shown = related.and_then(|id| self.shown(upstream_id, message, id));
        match shown {
            Some(shown) => question.about_task(&shown),
            None => question,
        }
    }

    fn with_own_ids(&self, upstream_id: &str, message: &Message) -> Bytes {
        let named = task::named(message, task::Expected::Task).into_iter();
        let shown = named.filter_map(|id| Some((id, self.shown(upstream_id, message, id)?)));
        let edits: Vec<_> = shown.collect();
        splice(message.body(), &edits)
    }

    /// The id for one in a message, raw.
    fn shown(&self, upstream_id: &str, message: &Message, id: Span) -> Option<String> {
        let id = unquote(id.of(message.text()))?;
        let task = TaskId { upstream_id: upstream_id.into(), id: (&*id).into() };
        self.known_task(&task).map(|sealed| quote(&sealed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mcp::{Capabilities, Version},
        sessions::{Asks, Sessions},
        upstream::{Audience as _, Said, SessionKey, Speaker},
    };

    const UP: Speaker<'_> = Speaker { upstream_id: "u1", name: "up" };

    #[tokio::test]
    async fn a_session_hears_of_its_own_tasks_under_its_own_ids() {
        let sessions = Sessions::default();
        let live = sessions.enter([1; 16], 0).unwrap();
        let patience = std::time::Duration::from_secs(9);
        let version = Version::V2025_11_25;
        let mut reader = live.attach(Asks {
            capabilities: Capabilities::NONE,
            patience,
            version,
            hears: crate::mcp::extension::Hears::Core,
            askers: crate::mcp::elicitation::Askers::One,
        });
        live.know_task(TaskId { upstream_id: "u1".into(), id: "t".into() }, "sealed");
        let status = |id: &str| {
            let body = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{{"taskId":"{id}","ttl":1.0,"_meta":{{"io.modelcontextprotocol/related-task":{{"taskId":"{id}"}}}}}}}}"#
            );
            parse(body.into()).unwrap()
        };
        sessions.task_changed("u2", &status("t"));
        sessions.task_changed("u1", &status("other"));
        sessions.task_changed("u1", &status(r"\u0074"));
        let told = reader.next().await.unwrap();
        assert_eq!(told, status("sealed").into_body());
        let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}}}}"#;
        let said =
            Said::Notice(crate::mcp::Notice::Progress, Box::new(parse(progress.into()).unwrap()));
        sessions.hear(&SessionKey::Client([1; 16]), UP, said);
        let told = reader.next().await.unwrap();
        assert_eq!(told, progress.replace("\"t\"", "\"sealed\""));
    }

    #[tokio::test]
    async fn what_a_task_asks_beside_a_call_names_it_as_each_side_knows_it() {
        let sessions = Sessions::default();
        let live = sessions.enter([1; 16], 0).unwrap();
        let patience = std::time::Duration::from_secs(9);
        let version = Version::V2025_11_25;
        let capabilities = Capabilities::of(&["elicitation"]);
        let mut reader = live.attach(Asks {
            capabilities,
            patience,
            version,
            hears: crate::mcp::extension::Hears::Core,
            askers: crate::mcp::elicitation::Askers::One,
        });
        live.know_task(TaskId { upstream_id: "u1".into(), id: "t".into() }, "sealed");
        let related = |id: &str| {
            format!(r#""_meta":{{"io.modelcontextprotocol/related-task":{{"taskId":"{id}"}}}}"#)
        };
        let method = format!(r#""method":"elicitation/create","params":{{{}}}"#, related("t"));
        let (asked, mut back) = crate::upstream::testing::question("7", &method);
        sessions.hear(&SessionKey::Client([1; 16]), UP, Said::Request(asked));
        let told = parse(reader.next().await.unwrap()).unwrap();
        assert!(told.text().contains(&related("sealed")), "{}", told.text());
        let id = String::from_utf8(told.id().unwrap().to_vec()).unwrap();
        let answer =
            |task: &str| format!(r#""result":{{"action":"accept","x":1.0,{}}}}}"#, related(task));
        let given = format!(r#"{{"jsonrpc":"2.0","id":{id},{}"#, answer("sealed"));
        assert!(live.answer(&parse(given.into()).unwrap()));
        let heard = back.recv().await.unwrap();
        assert_eq!(heard, format!(r#"{{"jsonrpc":"2.0","id":7,{}"#, answer("t")));
    }
}
