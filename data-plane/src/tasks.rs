//! The way of one exchange's tasks between client and upstream: each side reads the ids that
//! it knows.

mod known;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use proto::Era;

use crate::{
    engine::Sender,
    mcp::{
        Capabilities, Kind, Message,
        message::{parse, splice},
        object::unquote,
        response::quote,
        task::{self, Expected},
    },
    route::Client,
    sessions::Live,
    snapshot::table::Table,
    target::{Asked, Target},
    task_id::{TaskCursor, TaskId},
};

pub(crate) use self::known::KnownTasks;

/// What the tasks of one exchange are translated with.
pub(crate) struct Passage {
    table: Arc<Table>,
    subject: Arc<str>,
    upstream_id: Box<str>,
    expected: Expected,
    /// The task that the client named, under the id that it knows.
    named: Option<(Box<str>, Box<str>)>,
    /// Whose tasks are listed after these.
    next: Option<Arc<str>>,
    /// Remembers what it creates, to be told of it.
    live: Option<Arc<Live>>,
}

impl fmt::Debug for Passage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { upstream_id, expected, .. } = self;
        write!(formatter, "Passage({upstream_id}, {expected:?})")
    }
}

impl Passage {
    /// `None` for all that cannot have to do with tasks. `live` is the session of a legacy client.
    pub(crate) fn of(
        sender: &Sender<'_>,
        message: &Message,
        target: &Target,
        client: Client,
        live: Option<&Arc<Live>>,
    ) -> Option<Arc<Self>> {
        let Kind::Request(request) = &message.kind else { return None };
        let (expected, named, next) = match &target.asked {
            Asked::Tool(_) => {
                let may_be = match client.version.era() {
                    Era::Modern => client.capabilities.contains(Capabilities::tasks()),
                    Era::Legacy => task::is_wanted(message, request),
                };
                may_be.then_some((Expected::Creation, None, None))?
            }
            Asked::Task { id, sealed, .. } => {
                (Expected::Task, Some((id.clone(), sealed.clone())), None)
            }
            Asked::Tasks { next, .. } => (Expected::List, None, next.clone()),
            Asked::Prompt { .. } | Asked::Resource { .. } | Asked::Completion { .. } => {
                return None;
            }
        };
        let passage = Self {
            table: Arc::clone(&sender.table),
            subject: Arc::clone(&sender.principal.subject),
            upstream_id: target.upstream_id()?.into(),
            expected,
            named,
            next,
            live: live.cloned(),
        };
        if let (Some((id, sealed)), Some(live)) = (&passage.named, &passage.live) {
            // The session may have come here from another proxy.
            live.know_task(passage.task(id), sealed);
        }
        Some(Arc::new(passage))
    }

    fn task(&self, id: &str) -> TaskId {
        TaskId { upstream_id: self.upstream_id.clone(), id: id.into() }
    }

    /// The id under which the client knows a task.
    fn sealed(&self, id: &str) -> Option<String> {
        if let Some((named, sealed)) = &self.named
            && **named == *id
        {
            return Some(sealed.to_string());
        }
        let task = self.task(id);
        let sealed = task.seal(self.table.session_keys(), &self.subject)?;
        if let (Expected::Creation, Some(live)) = (self.expected, &self.live) {
            live.know_task(task, &sealed);
        }
        Some(sealed)
    }

    /// What an upstream says with the ids that the client knows.
    pub(crate) fn shown(&self, message: Message) -> Message {
        let body = if let (Expected::List, Kind::Response(_)) = (self.expected, &message.kind) {
            self.page(&message)
        } else {
            self.renamed(&message)
        };
        // Ids are replaced by strings, so it stays a message.
        body.and_then(|body| parse(body).ok()).unwrap_or(message)
    }

    fn renamed(&self, message: &Message) -> Option<Bytes> {
        let named = task::named(message, self.expected).into_iter();
        let shown = named.filter_map(|span| {
            let id = unquote(span.of(message.text()))?;
            Some((span, quote(&self.sealed(&id)?)))
        });
        let edits: Vec<_> = shown.collect();
        (!edits.is_empty()).then(|| splice(&message.body, &edits))
    }

    /// A page of the session's own tasks. An upstream may tell of others, since to it all
    /// clients are one.
    fn page(&self, message: &Message) -> Option<Bytes> {
        let live = self.live.as_ref();
        let shown = |id: &str| live?.known_task(&self.task(id));
        task::page(message, shown, |cursor| {
            let upstream_id = match cursor {
                Some(_) => self.upstream_id.clone(),
                None => (**self.next.as_ref()?).into(),
            };
            let cursor = TaskCursor { upstream_id, cursor: cursor.map(Into::into) };
            cursor.seal(self.table.session_keys(), &self.subject)
        })
    }

    /// A client's answer with the ids that its upstream knows.
    pub(crate) fn answered(&self, response: &Message) -> Option<Message> {
        let text = response.text();
        let named = task::named(response, Expected::List).into_iter();
        let opened = named.filter_map(|span| {
            let sealed = unquote(span.of(text))?;
            let task = TaskId::open(self.table.session_keys(), &self.subject, &sealed)?;
            // What another upstream calls its tasks is not for this one.
            (task.upstream_id == self.upstream_id).then(|| (span, quote(&task.id)))
        });
        let edits: Vec<_> = opened.collect();
        if edits.is_empty() { None } else { parse(splice(&response.body, &edits)).ok() }
    }
}

#[cfg(test)]
mod tests {
    use proto::{
        Position, Secret,
        resource::{Key, KeyResource, Resource},
    };

    use super::*;

    #[test]
    fn an_upstream_reads_its_own_ids_and_no_others() {
        let key = Key::Session(Secret::new([7; 32]));
        let key = Resource::Key(KeyResource { id: "k".to_owned(), key, create_time_ms: 1 });
        let table = Arc::new(Table::compile([key].iter(), Position::default()).unwrap());
        let passage = Passage {
            table: Arc::clone(&table),
            subject: Arc::from("ann"),
            upstream_id: "u1".into(),
            expected: Expected::Creation,
            named: None,
            next: None,
            live: None,
        };
        let answered = |upstream_id: &str| {
            let task = TaskId { upstream_id: upstream_id.into(), id: "t".into() };
            let sealed = task.seal(table.session_keys(), "ann").unwrap();
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":1,"result":{{"_meta":{{"io.modelcontextprotocol/related-task":{{"taskId":"{sealed}"}}}}}}}}"#
            );
            passage.answered(&parse(body.into()).unwrap())
        };
        assert!(answered("u1").unwrap().text().contains(r#"{"taskId":"t"}"#));
        assert!(answered("u2").is_none(), "what another upstream calls its task");
    }
}
