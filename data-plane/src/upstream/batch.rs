//! Several messages in one, as servers of 2025-03-26 may send them (MCP 2025-03-26, transports).

use std::collections::VecDeque;

use bytes::Bytes;

use super::failure::CallFailure;
use crate::mcp::{
    Kind, Message,
    message::{parse, split},
};

/// Most messages of one batch.
const MESSAGES_MAX: usize = 1000;

/// The messages of a batch, responses last: with its response a call is over.
pub(crate) fn messages(body: &Bytes) -> Result<VecDeque<Message>, CallFailure> {
    let (messages, failure) = readable(body);
    failure.map_or(Ok(messages), Err)
}

/// Those that can be read, for whoever they are, and why others cannot.
pub(crate) fn readable(body: &Bytes) -> (VecDeque<Message>, Option<CallFailure>) {
    let unreadable = |error: &dyn std::fmt::Display| CallFailure::NotJsonRpc(error.to_string());
    let bodies = match split(body, MESSAGES_MAX) {
        Ok(bodies) => bodies,
        Err(error) => return (VecDeque::new(), Some(unreadable(&error))),
    };
    let (mut first, mut last, mut failure) = (VecDeque::new(), Vec::new(), None);
    for message in bodies.into_iter().map(parse) {
        match message {
            Ok(message) if matches!(message.kind, Kind::Response(_)) => last.push(message),
            Ok(message) => first.push_back(message),
            Err(error) => failure = Some(unreadable(&error)),
        }
    }
    first.extend(last);
    (first, failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message;

    #[test]
    fn a_response_is_read_after_what_belongs_to_its_call() {
        let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        let note = r#"{"jsonrpc":"2.0","method":"notifications/message"}"#;
        let body = Bytes::from(format!(" [{response}, {note}]"));
        assert!(message::is_batch(&body) && !message::is_batch(response.as_bytes()));
        let read: Vec<_> = messages(&body).unwrap().into_iter().map(Message::into_body).collect();
        assert_eq!(read, [note, response]);
        for bad in ["[", "[7]", "[[]]", "{}"] {
            assert!(messages(&Bytes::from(bad)).is_err(), "{bad}");
        }
        let (read, failure) = readable(&Bytes::from(format!("[7,{note}]")));
        assert!(read.len() == 1 && failure.is_some());
        let many = vec![note; MESSAGES_MAX + 1].join(",");
        assert!(messages(&Bytes::from(format!("[{many}]"))).is_err());
    }
}
