//! The client's end of a bridge: its lines are read here, and all that it is told goes out here.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::{
    lines::Line,
    mcp::{
        Message, code,
        message::{ParseError, parse},
        response,
    },
    upstream::CallFailure,
};

/// Messages that may wait to be written.
const QUEUE: usize = 64;

/// Where a bridge meets its client.
#[derive(Clone, Debug)]
pub(super) struct ClientEnd {
    out: mpsc::Sender<Bytes>,
}

/// What a client may say on one line.
pub(super) enum Said {
    Message(Box<Message>),
    /// Messages of an old client together; they are for the server to judge.
    Batch(Bytes),
}

impl ClientEnd {
    /// The end, and what it gives out: one line each.
    pub(super) fn open() -> (Self, mpsc::Receiver<Bytes>) {
        let (out, messages) = mpsc::channel(QUEUE);
        (Self { out }, messages)
    }

    /// Reads a line; the client is told what is wrong with one that is no message.
    pub(super) async fn read(&self, line: Line) -> Option<Said> {
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong { limit } => {
                let problem = format!("the line is longer than {limit} bytes");
                self.refuse(None, code::REFUSED, &problem).await;
                return None;
            }
        };
        match parse(line.clone()) {
            Ok(message) => return Some(Said::Message(Box::new(message))),
            Err(ParseError::Batch) => return Some(Said::Batch(line)),
            Err(ParseError::NotJson) => {
                self.refuse(None, code::PARSE_ERROR, "the line is not JSON").await;
            }
            Err(ParseError::Invalid { problem, id }) => {
                self.refuse(id.as_deref(), code::INVALID_REQUEST, problem).await;
            }
        }
        None
    }

    /// Hands a message out as one line.
    pub(super) async fn say(&self, message: Bytes) {
        // Nobody reads any more: then the bridge is about to end.
        self.out.send(one_line(message)).await.ok();
    }

    /// Answers a request, by its raw id, that came to nothing.
    pub(super) async fn fail(&self, id: Option<&[u8]>, failure: &CallFailure) {
        tracing::warn!(%failure, "a request failed");
        self.refuse(id, code::INTERNAL_ERROR, &format!("the server {failure}")).await;
    }

    /// Answers a request that is not even sent.
    pub(super) async fn refuse(&self, id: Option<&[u8]>, code: i64, message: &str) {
        self.say(response::error(id, code, message, None)).await;
    }
}

/// Line ends between JSON tokens mean nothing, on a pipe they end the message.
fn one_line(message: Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', &message).is_none() {
        return message;
    }
    let mut line = BytesMut::from(&*message);
    for byte in line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    line.freeze()
}
