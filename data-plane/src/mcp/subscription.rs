//! `subscriptions/listen`: what a client wants to hear, and the messages that frame what it is
//! told (MCP 2026-07-28, patterns: subscriptions).

use ahash::AHashSet;
use bytes::Bytes;

use super::{
    Message, Notice,
    list::ListKind,
    message::{Span, meta_key},
    object::{self, unquote},
    response::{self, SERVER_INFO},
};

/// A group of lists that is announced together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    Tools,
    Prompts,
    Resources,
}

impl Topic {
    pub const ALL: [Self; 3] = [Self::Tools, Self::Prompts, Self::Resources];

    /// The member of a filter that asks for it.
    pub fn member(self) -> &'static str {
        match self {
            Self::Tools => "toolsListChanged",
            Self::Prompts => "promptsListChanged",
            Self::Resources => "resourcesListChanged",
        }
    }

    /// The notification that tells of it.
    pub fn notice(self) -> &'static str {
        match self {
            Self::Tools => "notifications/tools/list_changed",
            Self::Prompts => "notifications/prompts/list_changed",
            Self::Resources => "notifications/resources/list_changed",
        }
    }

    /// The group whose change a server tells with this.
    pub fn told_by(notice: Notice) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| Notice::of(topic.notice()) == Some(notice))
    }

    /// The group that a list is in.
    pub fn of(kind: ListKind) -> Self {
        match kind {
            ListKind::Tools => Self::Tools,
            ListKind::Prompts => Self::Prompts,
            ListKind::Resources | ListKind::ResourceTemplates => Self::Resources,
        }
    }
}

/// A set of topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Topics(u8);

impl Topics {
    pub fn has(self, topic: Topic) -> bool {
        self.0 & (1 << topic as u8) != 0
    }

    #[must_use]
    pub fn with(self, topic: Topic) -> Self {
        Self(self.0 | (1 << topic as u8))
    }
}

impl Topics {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(0b111);
}

impl FromIterator<Topic> for Topics {
    fn from_iter<I: IntoIterator<Item = Topic>>(topics: I) -> Self {
        topics.into_iter().fold(Self::default(), Self::with)
    }
}

/// A URI or the id of a task in a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedUri {
    pub uri: Box<str>,
    /// As the client wrote it, raw JSON.
    pub written: Span,
}

/// What a client wants to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub topics: Topics,
    /// Each URI once.
    pub uris: Vec<WantedUri>,
    /// Each id of a task once (tasks extension).
    pub tasks: Vec<WantedUri>,
}

impl Filter {
    /// The filter of a `subscriptions/listen` request.
    pub fn read(message: &Message) -> Result<Self, &'static str> {
        const WRONG: &str = "`params.notifications` must be an object";
        let text = message.text();
        let params = message.params().and_then(|params| params.span);
        let found = params.and_then(|params| object::member(text, params, "notifications"));
        let found = found.filter(|span| span.of(text).starts_with('{')).ok_or(WRONG)?;
        let mut filter = Self::default();
        for member in object::members(text, found) {
            let value = member.value.of(text);
            if let Some(topic) = Topic::ALL.into_iter().find(|it| it.member() == member.name) {
                match value {
                    "true" => filter.topics = filter.topics.with(topic),
                    "false" | "null" => (),
                    _ => return Err("what is asked of a list must be true or false"),
                }
            } else if member.name == RESOURCES && value != "null" {
                filter.uris = uris(text, member.value)?;
            } else if member.name == TASKS && value != "null" {
                filter.tasks = uris(text, member.value)?;
            }
        }
        Ok(filter)
    }
}

const RESOURCES: &str = "resourceSubscriptions";
const TASKS: &str = "taskIds";
/// What stands before a task's id where else a URI is: nothing that a URI could begin with.
const TASK: &str = "\0task ";

/// What stands for a task among the resources that somebody wants to hear of.
pub fn task_key(id: &str) -> Box<str> {
    format!("{TASK}{id}").into()
}

/// The task that stands among the resources under this key.
pub fn task_of(key: &str) -> Option<&str> {
    key.strip_prefix(TASK)
}

/// What the upstream of an acknowledgement, at `filter`, tells of: URIs, and keys of tasks.
pub fn honoured(text: &str, filter: Span) -> impl Iterator<Item = Box<str>> {
    let named = |member| {
        let found = object::member(text, filter, member);
        let elements = found.map(|found| object::elements(text, found)).unwrap_or_default();
        elements.into_iter().filter_map(move |it| unquote(it.of(text)))
    };
    let tasks = named(TASKS).map(|id| task_key(&id));
    named(RESOURCES).map(Into::into).chain(tasks)
}

fn uris(text: &str, span: Span) -> Result<Vec<WantedUri>, &'static str> {
    const WRONG: &str = "`resourceSubscriptions` and `taskIds` must be arrays of strings";
    let elements = object::elements(text, span);
    let is_blank =
        |written: &str| written.trim_matches(['[', ']', ' ', '\n', '\t', '\r']).is_empty();
    if elements.is_empty() && !is_blank(span.of(text)) {
        return Err(WRONG);
    }
    let mut seen = AHashSet::with_capacity(elements.len());
    let mut uris = Vec::with_capacity(elements.len());
    for written in elements {
        let uri: Box<str> = unquote(written.of(text)).ok_or(WRONG)?.into();
        if seen.insert(uri.clone()) {
            uris.push(WantedUri { uri, written });
        }
    }
    Ok(uris)
}

/// The members of a filter, JSON text; `named` are URIs, or keys of tasks, and how the reader
/// calls them, raw JSON.
pub fn filter<'a>(topics: Topics, named: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let topics = Topic::ALL.into_iter().filter(|topic| topics.has(*topic));
    let mut members: Vec<_> = topics.map(|topic| format!("\"{}\":true", topic.member())).collect();
    let (tasks, uris): (Vec<_>, Vec<_>) = named.partition(|(key, _)| task_of(key).is_some());
    for (member, named) in [(RESOURCES, uris), (TASKS, tasks)] {
        let named: Vec<_> = named.iter().map(|(_, raw)| String::from_utf8_lossy(raw)).collect();
        if !named.is_empty() {
            members.push(format!("\"{member}\":[{}]", named.join(",")));
        }
    }
    format!("{{{}}}", members.join(","))
}

/// What a client is told first: which part of its filter is honoured. `id` is that of its
/// request, raw JSON, as everywhere here.
pub fn acknowledged(id: &[u8], filter: &str) -> Bytes {
    let (id, key) = (String::from_utf8_lossy(id), meta_key::SUBSCRIPTION_ID);
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"{key}":{id}}},"notifications":{filter}}}}}"#
    )
    .into()
}

/// Tells that lists changed.
pub fn changed(id: &[u8], topic: Topic) -> Bytes {
    let (id, key, method) =
        (String::from_utf8_lossy(id), meta_key::SUBSCRIPTION_ID, topic.notice());
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"_meta":{{"{key}":{id}}}}}}}"#)
        .into()
}

/// The response to the request: the subscription is over, in peace.
pub fn ended(id: &[u8]) -> Bytes {
    let text = String::from_utf8_lossy(id);
    let (key, server) = (meta_key::SUBSCRIPTION_ID, meta_key::SERVER_INFO);
    let result = format!(
        r#"{{"resultType":"complete","_meta":{{"{key}":{text},"{server}":{SERVER_INFO}}}}}"#
    );
    response::answer(id, result.into()).into_bytes()
}

/// The subscription that a notification belongs to, raw JSON.
pub fn subscription_of(message: &Message) -> Option<&[u8]> {
    let meta = message.params()?.meta.span?;
    object::member(message.text(), meta, meta_key::SUBSCRIPTION_ID).map(|id| message.raw(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mcp::message::parse;

    fn request(params: &str) -> Message {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{params}}}"#
        );
        parse(body.into()).unwrap()
    }

    #[test]
    fn a_filter_says_what_is_wanted_and_survives_its_text() {
        let message = request(
            r#"{"notifications":{"toolsListChanged":true,"promptsListChanged":false,"resourceSubscriptions":["a:\/\/1","b://2","a://1"],"x":1}}"#,
        );
        let found = Filter::read(&message).unwrap();
        assert_eq!(found.topics, Topics::default().with(Topic::Tools));
        let uris: Vec<_> = found.uris.iter().map(|uri| &*uri.uri).collect();
        assert_eq!(uris, ["a://1", "b://2"]);
        let written = found.uris.iter().map(|uri| (&*uri.uri, message.raw(uri.written)));
        assert_eq!(
            filter(found.topics, written),
            r#"{"toolsListChanged":true,"resourceSubscriptions":["a:\/\/1","b://2"]}"#
        );
        assert_eq!(filter(Topics::default(), std::iter::empty()), "{}");
    }

    #[test]
    fn tasks_are_wanted_under_keys_that_are_no_uris() {
        let message = request(r#"{"notifications":{"taskIds":["t\u0031","t1","t2"]}}"#);
        let found = Filter::read(&message).unwrap();
        assert!(found.uris.is_empty());
        let keys: Vec<_> = found.tasks.iter().map(|task| task_key(&task.uri)).collect();
        assert_eq!(keys.iter().map(|key| task_of(key).unwrap()).collect::<Vec<_>>(), ["t1", "t2"]);
        assert_eq!(task_of("t1"), None);
        let named = [("a://1", &b"\"a://1\""[..]), (&keys[0], b"\"s\"")];
        let filter = filter(Topics::default(), named.into_iter());
        assert_eq!(filter, r#"{"resourceSubscriptions":["a://1"],"taskIds":["s"]}"#);
        let honoured: Vec<_> = honoured(&filter, Span { start: 0, end: filter.len() }).collect();
        assert_eq!(honoured, ["a://1".into(), task_key("s")]);
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for params in [
            "{}",
            r#"{"notifications":[]}"#,
            r#"{"notifications":{"toolsListChanged":1}}"#,
            r#"{"notifications":{"resourceSubscriptions":"a"}}"#,
            r#"{"notifications":{"resourceSubscriptions":[1]}}"#,
        ] {
            assert!(Filter::read(&request(params)).is_err(), "{params}");
        }
        for params in [
            r#"{"notifications":{}}"#,
            r#"{"notifications":{"resourceSubscriptions":[ ]}}"#,
            r#"{"notifications":{"toolsListChanged":null,"resourceSubscriptions":null}}"#,
        ] {
            assert_eq!(Filter::read(&request(params)), Ok(Filter::default()), "{params}");
        }
    }

    #[test]
    fn every_message_is_json_and_names_its_subscription() {
        for id in [b"7".as_slice(), b"\"7\""] {
            let told = [acknowledged(id, "{}"), changed(id, Topic::Prompts)];
            for message in told {
                let message = parse(message).unwrap();
                assert_eq!(subscription_of(&message), Some(id));
            }
            assert_eq!(parse(ended(id)).unwrap().id(), Some(id));
        }
    }

    proptest! {
        #[test]
        fn no_filter_makes_it_panic(filter in r#"[{}\[\]",:a-z0-9]{0,40}"#) {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"notifications":{filter}}}}}"#);
            if let Ok(message) = parse(body.into()) {
                drop(Filter::read(&message));
            }
        }

        #[test]
        fn wanted_uris_are_kept_in_order_and_once(uris in prop::collection::vec("[a-c]://[0-9]", 0..9)) {
            let text = serde_json::to_string(&uris).unwrap();
            let message = request(&format!(r#"{{"notifications":{{"resourceSubscriptions":{text}}}}}"#));
            let found: Vec<_> = Filter::read(&message).unwrap().uris.into_iter().map(|it| it.uri.into_string()).collect();
            let mut expected: Vec<String> = Vec::new();
            for uri in uris {
                if !expected.contains(&uri) {
                    expected.push(uri);
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
