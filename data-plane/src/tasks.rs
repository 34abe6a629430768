//! The way of one exchange's tasks between client and upstream: each side reads the ids that
//! it knows, in the words of its own generation.

mod known;
mod pages;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use proto::Era;

use crate::{
    engine::Sender,
    mcp::{
        Capabilities, Kind, Message, Version,
        feature::Feature,
        message::{parse, splice},
        object::unquote,
        response::{self, quote},
        task::{
            self, Expected,
            generations::{self, Task},
        },
    },
    route::Client,
    sessions::Live,
    snapshot::table::{Table, TaskSupport},
    target::{Asked, Target},
    task_id::{TaskCursor, TaskId},
};

use self::known::OUTCOME_TTL;
pub(crate) use self::{
    known::{KnownTasks, Outcome},
    pages::page_in_time,
};

/// How the two sides of an exchange have tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// In the same words.
    Alike,
    /// The client is a legacy one, the upstream is modern.
    ForLegacy,
    /// The client is a modern one, the upstream is legacy.
    ForModern,
    /// The client hears nothing of tasks.
    Hidden,
}

/// Where else than straight to its upstream a call with tasks goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detour {
    None,
    /// To who keeps the task.
    Kept,
    /// To its upstream, unless that takes too long.
    Page,
}

/// What the tasks of one exchange are translated with.
pub(crate) struct Passage {
    manner: Manner,
    table: Arc<Table>,
    subject: Arc<str>,
    /// This one, which keeps what has to be kept.
    proxy_id: Box<str>,
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
        let Self { manner, upstream_id, expected, .. } = self;
        write!(formatter, "Passage({manner:?}, {upstream_id}, {expected:?})")
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
        let manner = Manner::of(sender, target, client);
        let (expected, named, next) = match &target.asked {
            Asked::Tool(tool) => {
                let may_be = match client.version.era() {
                    // Of a legacy upstream we want tasks only where it gives nothing else.
                    Era::Modern => {
                        client.capabilities.contains(Capabilities::tasks())
                            && (tool.task_support == TaskSupport::Required
                                || manner() != Manner::ForModern)
                    }
                    Era::Legacy => task::is_wanted(message, request),
                };
                may_be.then_some((Expected::Creation, None, None))?
            }
            Asked::Task { id, sealed, .. } => {
                (Expected::Task, Some((id.clone(), sealed.clone())), None)
            }
            Asked::Tasks { next, .. } => (Expected::List, None, next.clone()),
            Asked::Prompt { .. }
            | Asked::Resource { .. }
            | Asked::Completion { .. }
            | Asked::Extension { .. } => return None,
        };
        let passage = Self {
            manner: manner(),
            proxy_id: sender.edge.proxy_id().into(),
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
        let keys = self.table.session_keys();
        let sealed = match self.manner {
            Manner::ForModern => task.seal_at(&self.proxy_id, keys, &self.subject)?,
            Manner::Alike | Manner::ForLegacy | Manner::Hidden => task.seal(keys, &self.subject)?,
        };
        if let (Expected::Creation, Some(live)) = (self.expected, &self.live) {
            live.know_task(task, &sealed);
        }
        Some(sealed)
    }

    /// What an upstream says as the client knows it.
    pub(crate) fn shown(&self, message: Message) -> Message {
        let is_response = matches!(message.kind, Kind::Response(_));
        let body = match self.manner {
            Manner::Alike if is_response && self.expected == Expected::List => self.page(&message),
            Manner::Alike => self.renamed(&message),
            Manner::ForLegacy if is_response => self.for_legacy(&message),
            Manner::ForModern if is_response => self.for_modern(&message),
            Manner::ForLegacy => None,
            Manner::ForModern | Manner::Hidden => generations::unrelated(&message),
        };
        // Ids are replaced by strings, so it stays a message.
        body.and_then(|body| parse(body).ok()).unwrap_or(message)
    }

    /// A modern upstream's answer to a legacy client.
    fn for_legacy(&self, message: &Message) -> Option<Bytes> {
        match (self.expected, &self.named) {
            (Expected::Creation, _) => match Task::created(message) {
                Some(task) => Some(task.created_for_legacy(&self.sealed(&task.id()?)?)),
                None => self.done_at_once(message),
            },
            (Expected::Task, Some((_, sealed))) => {
                let status = self.is_cancelled().then_some(generations::Status::Cancelled);
                Some(Task::told(message)?.told_for_legacy(sealed, status))
            }
            (Expected::Task | Expected::List, _) => None,
        }
    }

    /// A task that was done when it began: the upstream has answered at once.
    fn done_at_once(&self, message: &Message) -> Option<Bytes> {
        let live = self.live.as_ref().filter(|_| generations::is_whole(message))?;
        let task = self.task(&format!("at-once-{:032x}", rand::random::<u128>()));
        let sealed = self.sealed(&task.id)?;
        let (now, ttl) = (jiff::Timestamp::now(), OUTCOME_TTL.as_millis());
        let state = format!(
            r#"{{"taskId":{},"status":"completed","createdAt":"{now}","lastUpdatedAt":"{now}","ttl":{ttl}}}"#,
            quote(&sealed)
        );
        let created = format!(r#"{{"task":{state}}}"#);
        live.keep_outcome(task, Outcome { state, answer: message.body().clone() });
        Some(response::answer(message.id()?, created.into()).into_bytes())
    }

    /// A legacy upstream's answer to a modern client.
    fn for_modern(&self, message: &Message) -> Option<Bytes> {
        match (self.expected, Task::created(message)) {
            (Expected::Creation, Some(task)) => {
                Some(task.created_for_modern(&self.sealed(&task.id()?)?))
            }
            (Expected::Creation | Expected::Task | Expected::List, _) => {
                generations::unrelated(message)
            }
        }
    }

    /// What the upstream is told in addition that the client can do.
    pub(crate) fn declared(&self) -> Capabilities {
        match self.manner {
            Manner::ForLegacy => Capabilities::tasks(),
            Manner::Alike | Manner::ForModern | Manner::Hidden => Capabilities::NONE,
        }
    }

    /// The call as one that asks for a task, if that is for us to say.
    pub(crate) fn wanted(&self, message: &Message) -> Option<Message> {
        let is_ours = self.manner == Manner::ForModern && self.expected == Expected::Creation;
        is_ours.then(|| generations::wanted(message))
    }

    /// Where the call goes.
    pub(crate) fn detour(&self) -> Detour {
        match (self.expected, self.manner) {
            (Expected::Task, Manner::ForModern) => Detour::Kept,
            (Expected::List, _) => Detour::Page,
            (Expected::Task | Expected::Creation, _) => Detour::None,
        }
    }

    /// Whether its tasks are a modern upstream's, and its client a legacy one.
    pub(crate) fn is_for_legacy(&self) -> bool {
        self.manner == Manner::ForLegacy
    }

    /// The same of a call that the client does not know.
    pub(crate) fn hidden(&self) -> Arc<Self> {
        Arc::new(Self {
            manner: Manner::Hidden,
            table: Arc::clone(&self.table),
            subject: Arc::clone(&self.subject),
            proxy_id: self.proxy_id.clone(),
            upstream_id: self.upstream_id.clone(),
            expected: self.expected,
            named: None,
            next: None,
            live: None,
        })
    }

    /// The client is told that the task it named is cancelled.
    pub(crate) fn note_cancelled(&self) {
        if let (Some((id, _)), Some(live)) = (&self.named, &self.live) {
            live.note_cancelled(&self.task(id));
        }
    }

    /// Whether the client was told that the task it names is cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        let named = self.named.as_ref().zip(self.live.as_ref());
        named.is_some_and(|((id, _), live)| live.is_cancelled(&self.task(id)))
    }

    /// What came of the named task, if that was known when it began.
    pub(crate) fn answered_at_once(&self) -> Option<Outcome> {
        let ((id, _), live) = self.named.as_ref().zip(self.live.as_ref())?;
        live.outcome(&self.task(id))
    }

    fn renamed(&self, message: &Message) -> Option<Bytes> {
        let named = task::named(message, self.expected).into_iter();
        let shown = named.filter_map(|span| {
            let id = unquote(span.of(message.text()))?;
            Some((span, quote(&self.sealed(&id)?)))
        });
        let edits: Vec<_> = shown.collect();
        (!edits.is_empty()).then(|| splice(message.body(), &edits))
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
        if self.manner != Manner::Alike {
            return None;
        }
        let text = response.text();
        let named = task::named(response, Expected::List).into_iter();
        let opened = named.filter_map(|span| {
            let sealed = unquote(span.of(text))?;
            let task = TaskId::open(self.table.session_keys(), &self.subject, &sealed)?;
            // What another upstream calls its tasks is not for this one.
            (task.upstream_id == self.upstream_id).then(|| (span, quote(&task.id)))
        });
        let edits: Vec<_> = opened.collect();
        if edits.is_empty() { None } else { parse(splice(response.body(), &edits)).ok() }
    }
}

impl Manner {
    /// Looked at only for what may have to do with tasks.
    fn of(sender: &Sender<'_>, target: &Target, client: Client) -> impl Fn() -> Self {
        move || {
            let view = sender.view().ok();
            let tasks = view.zip(target.upstream_id()).map(|(view, id)| view.tasks_of(id));
            let has = |feature| tasks.is_some_and(|tasks| tasks.has(feature));
            match client.version {
                Version::V2026_07_28 if has(Feature::Tasks) => Self::ForModern,
                Version::V2025_11_25 if has(Feature::TasksExtension) => Self::ForLegacy,
                _ => Self::Alike,
            }
        }
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
            manner: Manner::Alike,
            proxy_id: "p".into(),
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
