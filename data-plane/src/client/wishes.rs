//! What a client wants to hear of: a session that begins in the place of a lost one is told the
//! same (MCP 2025-11-25, transports: the client's state went with the session).

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use crate::mcp::{
    Kind, Message, Method,
    message::{parse, splice},
    object::{member, unquote},
};

/// How long calls wait until a new session knows what the client wants to hear of. Most servers
/// take it at once; others learn it beside the calls.
pub(super) const WISHES_FIRST: Duration = Duration::from_secs(5);
/// How the ids of messages begin that are said again.
const ID: &str = "\"lockgate-again-";
/// Most resources that are subscribed to again.
const RESOURCES_MAX: usize = 1000;

/// The last level of log messages, and resources that the client has subscribed to.
#[derive(Default)]
pub(super) struct Wishes {
    level: Option<Message>,
    resources: Vec<Resource>,
}

struct Resource {
    uri: Box<str>,
    /// As the client wrote it, raw JSON.
    written: Bytes,
    message: Message,
}

impl Wishes {
    /// Notes what a message of the client says about them.
    pub(super) fn note(&mut self, message: &Message) {
        match message.method() {
            Some(Method::Initialize) => *self = Self::default(),
            Some(Method::SetLevel) => self.level = Some(message.clone()),
            Some(Method::Subscribe) => {
                if let Some(resource) = Resource::of(message) {
                    self.resources.retain(|it| it.uri != resource.uri);
                    self.resources.push(resource);
                    self.resources.truncate(RESOURCES_MAX);
                }
            }
            Some(Method::Unsubscribe) => {
                if let Some(resource) = Resource::of(message) {
                    self.resources.retain(|it| it.uri != resource.uri);
                }
            }
            Some(_) | None => {}
        }
    }

    /// What there is to say in a session that has just begun.
    pub(super) fn again(&self) -> Again {
        let resources = self.resources.iter().map(|it| Wish::Resource(it.uri.clone()));
        let wishes = std::iter::once(Wish::Level).chain(resources).collect();
        Again { wishes, said: None, is_told: false, number: 0 }
    }

    /// The message that stands for a wish, if it still is one.
    fn message(&self, wish: &Wish) -> Option<&Message> {
        match wish {
            Wish::Level => self.level.as_ref(),
            Wish::Resource(_) => self.resource(wish).map(|it| &it.message),
        }
    }

    fn resource(&self, wish: &Wish) -> Option<&Resource> {
        let Wish::Resource(uri) = wish else { return None };
        self.resources.iter().find(|it| it.uri == *uri)
    }
}

/// What is said in a new session one after the other, while the client goes on wishing: its own
/// words may be overtaken by what is said again, so the last word is what holds then.
pub(super) struct Again {
    wishes: VecDeque<Wish>,
    /// What the server was told of the first of them.
    said: Option<Message>,
    is_told: bool,
    number: u32,
}

enum Wish {
    Level,
    Resource(Box<str>),
}

/// What is to be said, and to whom.
#[derive(Debug)]
pub(super) enum Say {
    /// Under an id of our own.
    Server(Box<Message>),
    Client(Bytes),
}

impl Again {
    /// What is said next; `None` if all has been.
    pub(super) fn next(&mut self, wishes: &Wishes) -> Option<Say> {
        while let Some(wish) = self.wishes.front() {
            let (now, number) = (wishes.message(wish), self.number);
            self.number += 1;
            let to_say = match (&self.said, now) {
                (said, Some(now)) if said.as_ref().is_none_or(|said| said.body() != now.body()) => {
                    under(now, number)
                }
                (Some(said), None) => unsubscribe(said, number),
                (Some(_) | None, Some(_)) | (None, None) => None,
            };
            self.said = now.cloned();
            if let Some(message) = to_say {
                return Some(Say::Server(Box::new(message)));
            }
            let changed = wishes.resource(wish).filter(|_| !self.is_told).map(Resource::changed);
            self.is_told = changed.is_some();
            if let Some(changed) = changed {
                return Some(Say::Client(changed));
            }
            self.wishes.pop_front();
            self.said = None;
        }
        None
    }
}

impl Resource {
    fn of(message: &Message) -> Option<Self> {
        let span = member(message.text(), message.params()?.span?, "uri")?;
        let uri = unquote(span.of(message.text()))?.into();
        Some(Self { uri, written: message.slice(span), message: message.clone() })
    }

    /// What the client is told in a new session: it may have changed meanwhile.
    fn changed(&self) -> Bytes {
        let uri = String::from_utf8_lossy(&self.written);
        let method = "notifications/resources/updated";
        format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"uri":{uri}}}}}"#).into()
    }
}

/// Whether a message answers what was said again, which the client knows nothing of.
pub(super) fn is_answer(message: &Message) -> bool {
    matches!(message.kind, Kind::Response(_))
        && message.id().is_some_and(|id| id.starts_with(ID.as_bytes()))
}

fn under(message: &Message, number: u32) -> Option<Message> {
    let Kind::Request(request) = &message.kind else { return None };
    parse(splice(message.body(), &[(request.id, format!("{ID}{number}\""))])).ok()
}

/// Takes a subscription back that the client has taken back while it was said again.
fn unsubscribe(subscribed: &Message, number: u32) -> Option<Message> {
    let resource = Resource::of(subscribed)?;
    let (method, uri) = (Method::Unsubscribe.as_str(), String::from_utf8_lossy(&resource.written));
    let params = format!(r#"{{"uri":{uri}}}"#);
    let id = format!("{ID}{number}\"");
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
    parse(text.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(wishes: &mut Wishes, id: u32, method: &str, params: &str) {
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#);
        wishes.note(&parse(text.into()).unwrap());
    }

    fn next(again: &mut Again, wishes: &Wishes) -> Option<String> {
        let bytes = match again.next(wishes)? {
            Say::Server(message) => message.into_body(),
            Say::Client(told) => told,
        };
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn rest(again: &mut Again, wishes: &Wishes) -> Vec<String> {
        std::iter::from_fn(|| next(again, wishes)).collect()
    }

    #[test]
    fn the_last_level_and_what_is_still_subscribed_to_are_said_again() {
        let mut wishes = Wishes::default();
        note(&mut wishes, 1, "logging/setLevel", r#""level":"debug""#);
        note(&mut wishes, 2, "logging/setLevel", r#""level":"error""#);
        for (id, uri) in [(3, "a:1"), (4, "a:2"), (5, r"a:\u0032"), (6, "a:3")] {
            note(&mut wishes, id, "resources/subscribe", &format!(r#""uri":"{uri}""#));
        }
        note(&mut wishes, 7, "resources/unsubscribe", r#""uri":"a:1""#);
        note(&mut wishes, 8, "tools/list", "");
        assert_eq!(
            rest(&mut wishes.again(), &wishes),
            [
                r#"{"jsonrpc":"2.0","id":"lockgate-again-0","method":"logging/setLevel","params":{"level":"error"}}"#,
                r#"{"jsonrpc":"2.0","id":"lockgate-again-2","method":"resources/subscribe","params":{"uri":"a:\u0032"}}"#,
                r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:\u0032"}}"#,
                r#"{"jsonrpc":"2.0","id":"lockgate-again-5","method":"resources/subscribe","params":{"uri":"a:3"}}"#,
                r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:3"}}"#,
            ]
        );
        let answer = r#"{"jsonrpc":"2.0","id":"lockgate-again-2","result":{}}"#;
        assert!(is_answer(&parse(answer.into()).unwrap()));
        note(&mut wishes, 9, "initialize", "");
        assert_eq!(rest(&mut wishes.again(), &wishes), [""; 0]);
    }

    #[test]
    fn what_the_client_says_meanwhile_holds() {
        let mut wishes = Wishes::default();
        note(&mut wishes, 1, "logging/setLevel", r#""level":"debug""#);
        for (id, uri) in [(2, "a:1"), (3, "a:2"), (4, "a:3")] {
            note(&mut wishes, id, "resources/subscribe", &format!(r#""uri":"{uri}""#));
        }
        let mut again = wishes.again();
        assert!(next(&mut again, &wishes).unwrap().contains("debug"));
        // Its own word may have been heard before ours.
        note(&mut wishes, 5, "logging/setLevel", r#""level":"error""#);
        assert!(next(&mut again, &wishes).unwrap().contains("error"));
        assert!(
            next(&mut again, &wishes).unwrap().contains(r#"subscribe","params":{"uri":"a:1"}"#)
        );
        note(&mut wishes, 6, "resources/unsubscribe", r#""uri":"a:1""#);
        note(&mut wishes, 7, "resources/unsubscribe", r#""uri":"a:2""#);
        let rest = rest(&mut again, &wishes);
        assert!(rest[0].contains(r#"unsubscribe","params":{"uri":"a:1"}"#), "{rest:?}");
        assert!(rest[1].contains(r#"/subscribe","params":{"uri":"a:3"}"#), "{rest:?}");
        assert_eq!(rest.len(), 3, "{rest:?}");
    }
}
