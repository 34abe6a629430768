//! A session's own stream at a legacy upstream, on which comes what belongs to no call
//! (MCP 2025-11-25, transports: listening for messages from the server).

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use tokio::{sync::oneshot, task::consume_budget};
use tokio_util::task::AbortOnDropHandle;

use super::{endpoint::Endpoint, session::Session};
use crate::{
    egress::OriginBody,
    mcp::{
        Kind, Message, Notice,
        message::{is_batch, parse},
    },
    upstream::{
        SessionKey,
        audience::Said,
        batch,
        failure::CallFailure,
        fetch::{self, Bounds},
        question::{self, Back, Open, Question},
        sse::Decoder,
    },
};

/// How long the upstream may take to answer the request for the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_mins(1);

/// Why a stream ended.
enum Ended {
    /// The upstream has none, or does not know the session any more.
    Refused,
    Broken,
}

/// Reads the stream until the session is dropped or the upstream refuses it; drops `opening` when
/// the upstream has answered for the first time.
pub(super) fn listen(
    session: &Arc<Session>,
    key: SessionKey,
    opening: oneshot::Sender<Infallible>,
) -> AbortOnDropHandle<()> {
    let endpoint = Arc::clone(session.endpoint());
    let headers = session.headers.clone();
    let listening = Listening {
        session: Arc::downgrade(session),
        decoder: Decoder::new(endpoint.limits.message_max),
        owner: key,
        endpoint,
        headers,
        has_been_open: false,
    };
    AbortOnDropHandle::new(tokio::spawn(listening.run(opening)))
}

/// One session's stream. It does not keep the session.
struct Listening {
    session: Weak<Session>,
    endpoint: Arc<Endpoint>,
    headers: http::HeaderMap,
    owner: SessionKey,
    decoder: Decoder,
    /// Where there never was a stream, "not found" says nothing of the session.
    has_been_open: bool,
}

impl Listening {
    async fn run(mut self, opening: oneshot::Sender<Infallible>) {
        let mut wait = RETRY_MIN;
        let mut opening = Some(opening);
        loop {
            let opened = self.open().await;
            drop(opening.take());
            let ended = match opened {
                Ok(body) => {
                    self.has_been_open = true;
                    wait = RETRY_MIN;
                    self.read(body).await
                }
                Err(ended) => ended,
            };
            if matches!(ended, Ended::Refused) || self.session.strong_count() == 0 {
                return;
            }
            let wish = self.decoder.retry_ms.map(Duration::from_millis);
            tokio::time::sleep(wish.unwrap_or(wait).clamp(wait, RETRY_MAX)).await;
            wait = (2 * wait).min(RETRY_MAX);
            self.decoder = self.decoder.reopened();
        }
    }

    async fn open(&self) -> Result<OriginBody, Ended> {
        let bounds = Bounds::of_step(&self.endpoint.limits, OPEN_TIMEOUT);
        let last = self.decoder.last_id().map(|last| &**last);
        match self.endpoint.listen(self.headers.clone(), last, &bounds).await {
            Ok(response) if response.status() == StatusCode::OK => {
                let is_stream = fetch::media_type(response.headers()) == "text/event-stream";
                if is_stream { Ok(response.into_body()) } else { Err(Ended::Refused) }
            }
            Ok(response) if response.status().is_server_error() => Err(Ended::Broken),
            Ok(response) if response.status() == StatusCode::NOT_FOUND => {
                // Whoever keeps something on the session keeps it on another from now on.
                let session = self.session.upgrade().filter(|_| self.has_been_open);
                if let Some(session) = session.filter(|session| session.has_id()) {
                    session.lose();
                }
                Err(Ended::Refused)
            }
            Ok(_) => Err(Ended::Refused),
            Err(_) => Err(Ended::Broken),
        }
    }

    async fn read(&mut self, mut body: OriginBody) -> Ended {
        loop {
            match fetch::chunk(&mut body).await {
                Ok(Some(chunk)) => self.decoder.push(chunk),
                Ok(None) | Err(_) => return Ended::Broken,
            }
            loop {
                // One who never stops talking leaves room for others.
                consume_budget().await;
                match self.decoder.next() {
                    Ok(Some(event)) if !event.is_message() => (),
                    Ok(Some(event)) => self.hear(event.data),
                    Ok(None) => break,
                    Err(_) => {
                        let limit = self.endpoint.limits.message_max;
                        let failure = CallFailure::TooLarge { limit };
                        tracing::warn!(%failure, "an upstream's own stream is given up");
                        return Ended::Refused;
                    }
                }
            }
        }
    }

    fn hear(&self, data: Bytes) {
        let has_batches = || self.session.upgrade().is_some_and(|session| session.has_batches());
        let messages = if is_batch(&data) && has_batches() {
            Some(batch::readable(&data).0)
        } else {
            parse(data).ok().map(|message| VecDeque::from([message]))
        };
        match messages {
            Some(messages) => messages.into_iter().for_each(|message| self.hear_one(message)),
            None => {
                tracing::debug!("an upstream's own stream carries something else than messages");
            }
        }
    }

    fn hear_one(&self, message: Message) {
        match &message.kind {
            Kind::Request(_) => self.asked(message),
            Kind::Notification(notification) => match Notice::of(notification.method.as_str()) {
                Some(
                    notice @ (Notice::ToolsChanged
                    | Notice::PromptsChanged
                    | Notice::ResourcesChanged),
                ) => {
                    self.endpoint.health.list_changed(Some(&self.owner), notice);
                }
                Some(notice) => self.say(Said::Notice(notice, Box::new(message))),
                None => self.say(Said::Extension(Box::new(message))),
            },
            // An answer belongs on its call's stream.
            Kind::Response(_) => (),
        }
    }

    fn asked(&self, message: Message) {
        let Some(session) = self.session.upgrade() else { return };
        if question::is_ping(&message) {
            return session.say(question::refusal_of(&message));
        }
        let back = Back::Http(Arc::clone(&session));
        let question = Question::new(Box::new(message), back, Open::default());
        if let Err(question) = session.asides.ask(question) {
            self.say(Said::Request(question));
        }
    }

    fn say(&self, said: Said) {
        self.endpoint.health.say(&self.owner, said);
    }
}
