//! The client's end of a bridge: its lines are read here, and all that it is told goes out here.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::{
    reply::{Answers, Reply},
    session::negotiated,
};
use crate::{
    edge::batch::{NOT_HERE, read},
    error,
    lines::Line,
    mcp::{
        Message, Method, Version, code,
        message::{ParseError, is_batch, parse},
        response,
    },
    upstream::{CallFailure, batch, result_of},
};

/// Messages that may wait to be written.
const QUEUE: usize = 64;

/// Where a bridge meets its client.
#[derive(Clone, Debug)]
pub(super) struct ClientEnd {
    out: mpsc::Sender<Bytes>,
    has_batches: Arc<AtomicBool>,
}

/// What a client said on one line: a message, or several of which each is served for itself.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) messages: Vec<(Message, Reply)>,
    /// Of a batch.
    pub(super) answers: Option<Answers>,
}

impl ClientEnd {
    /// The end, and what it gives out: one line each.
    pub(super) fn open() -> (Self, mpsc::Receiver<Bytes>) {
        let (out, messages) = mpsc::channel(QUEUE);
        (Self { out, has_batches: Arc::default() }, messages)
    }

    /// Reads a line; an error is what the client is to be told of one that is no message.
    pub(super) fn read(&self, line: Line) -> Result<Said, Bytes> {
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong { limit } => {
                let problem = format!("the line is longer than {limit} bytes");
                return Err(response::error(None, code::REFUSED, &problem, None));
            }
        };
        let (code, problem, id) = match parse(line.clone()) {
            Ok(message) => {
                let is_hello = message.method() == Some(&Method::Initialize);
                let reply = if is_hello { Reply::Hello } else { Reply::Alone };
                return Ok(Said { messages: vec![(message, reply(self.clone()))], answers: None });
            }
            Err(ParseError::Batch) if self.has_batches.load(Relaxed) => return self.batch(&line),
            Err(ParseError::Batch) => return Err(error::response(&NOT_HERE, None)),
            Err(ParseError::NotText) => (code::PARSE_ERROR, "the line is not UTF-8", None),
            Err(ParseError::NotJson) => (code::PARSE_ERROR, "the line is not JSON", None),
            Err(ParseError::Invalid { problem, id }) => (code::INVALID_REQUEST, problem, id),
        };
        Err(response::error(id.as_deref(), code, problem, None))
    }

    fn batch(&self, line: &Bytes) -> Result<Said, Bytes> {
        let elements = read(line).map_err(|failure| error::response(&failure, None))?;
        let (mut messages, mut answers) = (Vec::new(), Answers::of(self.clone()));
        for element in elements {
            match element {
                Ok(message) => messages.push((message, answers.reply())),
                Err((failure, id)) => answers.refuse(error::response(&failure, id.as_deref())),
            }
        }
        Ok(Said { messages, answers: Some(answers) })
    }

    /// Takes from the answer to the client's `initialize` whether it may send batches.
    pub(super) fn agree(&self, answer: &Bytes) {
        let answer = parse(answer.clone()).ok();
        let version = answer.as_ref().and_then(result_of).and_then(negotiated);
        let has_batches = version.is_some_and(|it| it == Version::V2025_03_26.as_str());
        self.has_batches.store(has_batches, Relaxed);
    }

    /// Hands a message out as one line.
    pub(super) async fn say(&self, message: Bytes) {
        // Nobody reads any more: then the bridge is about to end.
        self.out.send(one_line(message)).await.ok();
    }

    /// Hands out every message of what a server said at once.
    pub(super) async fn say_all(&self, data: Bytes) {
        for message in self.readable(data).await {
            self.say(message.into_body()).await;
        }
    }

    /// The messages of what a server said at once. If there are none, it is handed out as it is:
    /// the client may know more.
    pub(super) async fn readable(&self, data: Bytes) -> VecDeque<Message> {
        let (messages, unreadable) = heard(&data);
        if let Some(failure) = unreadable {
            tracing::debug!(%failure, "the server sent something else than messages");
            if messages.is_empty() {
                self.say(data).await;
            }
        }
        messages
    }
}

/// The messages that a server said at once, responses last, and why others cannot be read.
pub(super) fn heard(data: &Bytes) -> (VecDeque<Message>, Option<CallFailure>) {
    if is_batch(data) {
        return batch::readable(data);
    }
    match parse(data.clone()) {
        Ok(message) => (VecDeque::from([message]), None),
        Err(error) => (VecDeque::new(), Some(CallFailure::NotJsonRpc(error.to_string()))),
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
