//! What is told of changed resources, as each client wants to hear it.

use bytes::Bytes;

use super::{Edits, is_claim, uris::show_uris};
use crate::mcp::{
    Message, code,
    input::{self, REQUESTS},
    message::{Span, meta_key},
    object,
    uri::Uris,
};

/// A `notifications/resources/updated` as a client shall see it: with its own spelling of the
/// URI, and for a modern client with its subscription. All `&[u8]` are raw JSON.
pub fn updated_to_client(
    message: &Message,
    uri: Option<(Span, &[u8])>,
    subscription: Option<&[u8]>,
) -> Bytes {
    let mut edits = Edits::default();
    if let Some((span, shown)) = uri {
        edits.replace(span, shown);
    }
    tag(&mut edits, message, subscription);
    edits.apply(message.body())
}

/// The state of a task as a listening modern client shall see it: under its own id, with its
/// subscription, and with the URIs of what came of it as the endpoint shows them. What it asks for
/// is left out, and an error that names pages: the client reads that by `tasks/get`, where it is
/// judged and named.
pub fn task_to_client(
    message: &Message,
    (id, shown): (Span, &[u8]),
    subscription: &[u8],
    uris: Option<&Uris>,
) -> Bytes {
    let mut edits = Edits::default();
    edits.replace(id, shown);
    let params = message.params().and_then(|params| params.span);
    if let Some(params) = params {
        let text = message.text();
        let members = object::members(text, params);
        for member in &members {
            // It is to stay what its readers take for a task that asks, or has failed.
            match &*member.name {
                REQUESTS => edits.replace(member.value, "{}"),
                "error" if !input::names_none(text, member.value) => {
                    let code = code::INTERNAL_ERROR;
                    let see = r#""message":"`tasks/get` tells why""#;
                    edits.replace(member.value, format!(r#"{{"code":{code},{see}}}"#));
                }
                _ => (),
            }
        }
    }
    if let (Some(uris), Some(params)) = (uris, params) {
        show_uris(&mut edits, message.text(), params, (uris, None));
    }
    tag(&mut edits, message, Some(subscription));
    edits.apply(message.body())
}

/// Names the subscription of a modern client, or none.
fn tag(edits: &mut Edits, message: &Message, subscription: Option<&[u8]>) {
    let (text, key) = (message.text(), meta_key::SUBSCRIPTION_ID);
    let params = message.params();
    let meta = params.and_then(|params| params.meta.span);
    let member = subscription.map(|id| format!("\"{key}\":{}", String::from_utf8_lossy(id)));
    match (meta, member) {
        (Some(span), member) => {
            let members = object::members(text, span);
            if let (Some(id), Some(tag)) =
                (subscription, members.iter().find(|member| member.name == key))
            {
                edits.replace(tag.value, id);
            } else if let Some(member) = member {
                edits.prepend(text, span, &member);
            } else {
                let is_reserved =
                    |name: &str| is_claim(name) || name == meta_key::SERVER_INFO || name == key;
                edits.cut(object::cuts(&members, |member| is_reserved(&member.name)));
            }
        }
        (None, Some(member)) => {
            if let Some(span) = params.and_then(|params| params.span) {
                edits.prepend(text, span, &format!("\"_meta\":{{{member}}}"));
            }
        }
        (None, None) => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message::parse;

    #[track_caller]
    fn check(params: &str, to: Option<&[u8]>, expected: &str) {
        let body = |params: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{params}}}"#
            )
        };
        let message = parse(body(params).into()).unwrap();
        let span = message.params().unwrap().span.unwrap();
        let uri = object::member(message.text(), span, "uri").unwrap();
        let told = updated_to_client(&message, Some((uri, b"\"m:a\"")), to);
        assert_eq!(std::str::from_utf8(&told).unwrap(), body(expected));
    }

    #[test]
    fn an_update_is_tagged_for_modern_clients_and_bare_for_legacy_ones() {
        let key = meta_key::SUBSCRIPTION_ID;
        let tagged = format!(r#"{{"_meta":{{"{key}":"up","x":1.0}},"uri":"a"}}"#);
        check(&tagged, Some(b"7"), &format!(r#"{{"_meta":{{"{key}":7,"x":1.0}},"uri":"m:a"}}"#));
        check(&tagged, None, r#"{"_meta":{"x":1.0},"uri":"m:a"}"#);
        check(
            r#"{"uri":"a","y":2.0}"#,
            Some(b"\"s\""),
            &format!(r#"{{"_meta":{{"{key}":"s"}},"uri":"m:a","y":2.0}}"#),
        );
        check(
            r#"{"_meta":{},"uri":"a"}"#,
            Some(b"7"),
            &format!(r#"{{"_meta":{{"{key}":7}},"uri":"m:a"}}"#),
        );
        check(r#"{"uri":"a"}"#, None, r#"{"uri":"m:a"}"#);
    }

    #[test]
    fn a_task_is_told_with_the_links_of_the_endpoint_and_without_what_it_asks() {
        let uris = Uris {
            marker: "m:".into(),
            marked: ["a://1".into()].into_iter().collect(),
            ..Uris::default()
        };
        let body = |id: &str, meta: &str, uri: &str, asks: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/tasks","params":{{{meta}"taskId":"{id}"{asks},"uri":"a://1","result":{{"content":[{{"type":"resource_link","uri":"{uri}"}}]}}}}}}"#
            )
        };
        let page = r#"{"code":-32042,"data":{"el\u0069citations":[{"url":"https://a/"}]}}"#;
        let harmless = r#"{"code":1,"message":"caf\u00e9"}"#;
        let says = |asks: &str, error: &str| format!(r#","inputRequests":{asks},"error":{error}"#);
        let see = r#"{"code":-32603,"message":"`tasks/get` tells why"}"#;
        for (error, told) in [(page, see), (harmless, harmless)] {
            let message = body("t", "", "a://1", &says(r#"{"a":{}}"#, error));
            let message = parse(message.into()).unwrap();
            let params = message.params().unwrap().span.unwrap();
            let id = object::member(message.text(), params, "taskId").unwrap();
            let meta = format!(r#""_meta":{{"{}":7}},"#, meta_key::SUBSCRIPTION_ID);
            for (uris, uri) in [(Some(&uris), "m:a://1"), (None, "a://1")] {
                let shown = body("s", &meta, uri, &says("{}", told));
                assert_eq!(task_to_client(&message, (id, b"\"s\""), b"7", uris), shown);
            }
        }
    }
}
