//! What a client wants to hear of: a session that begins in the place of a lost one is told the
//! same (MCP 2025-11-25, transports: the client's state went with the session).

use bytes::Bytes;

use crate::mcp::{
    Kind, Message, Method,
    message::{parse, splice},
    object::{member, unquote},
};

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

    /// What to say in a new session, under ids of our own.
    pub(super) fn again(&self) -> Vec<Message> {
        let messages = self.level.iter().chain(self.resources.iter().map(|it| &it.message));
        let numbered = messages.enumerate();
        numbered.filter_map(|(number, message)| under(message, number)).collect()
    }

    /// What the client is told then: any of them may have changed meanwhile.
    pub(super) fn may_have_changed(&self) -> Vec<Bytes> {
        let told = |resource: &Resource| {
            let uri = String::from_utf8_lossy(&resource.written);
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":{uri}}}}}"#
            )
        };
        self.resources.iter().map(|resource| told(resource).into()).collect()
    }
}

impl Resource {
    fn of(message: &Message) -> Option<Self> {
        let span = member(message.text(), message.params()?.span?, "uri")?;
        let uri = unquote(span.of(message.text()))?.into();
        Some(Self { uri, written: message.slice(span), message: message.clone() })
    }
}

/// Whether a message answers what was said again, which the client knows nothing of.
pub(super) fn is_answer(message: &Message) -> bool {
    matches!(message.kind, Kind::Response(_))
        && message.id().is_some_and(|id| id.starts_with(ID.as_bytes()))
}

fn under(message: &Message, number: usize) -> Option<Message> {
    let Kind::Request(request) = &message.kind else { return None };
    parse(splice(&message.body, &[(request.id, format!("{ID}{number}\""))])).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(wishes: &mut Wishes, id: u32, method: &str, params: &str) {
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#);
        wishes.note(&parse(text.into()).unwrap());
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
        let again: Vec<_> = wishes.again().iter().map(|it| it.text().to_owned()).collect();
        assert_eq!(
            again,
            [
                r#"{"jsonrpc":"2.0","id":"lockgate-again-0","method":"logging/setLevel","params":{"level":"error"}}"#,
                r#"{"jsonrpc":"2.0","id":"lockgate-again-1","method":"resources/subscribe","params":{"uri":"a:\u0032"}}"#,
                r#"{"jsonrpc":"2.0","id":"lockgate-again-2","method":"resources/subscribe","params":{"uri":"a:3"}}"#,
            ]
        );
        let changed = wishes.may_have_changed();
        assert_eq!(changed.len(), 2);
        assert!(changed[0].ends_with(br#""params":{"uri":"a:\u0032"}}"#));
        let answer = r#"{"jsonrpc":"2.0","id":"lockgate-again-2","result":{}}"#;
        assert!(is_answer(&parse(answer.into()).unwrap()));
        note(&mut wishes, 9, "initialize", "");
        assert!(wishes.again().is_empty() && wishes.may_have_changed().is_empty());
    }
}
