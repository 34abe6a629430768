//! One subscription of our own at a modern upstream, from its acknowledgement to its end.

use std::sync::Arc;

use ahash::AHashSet;
use bytes::Bytes;

use crate::{
    egress::OriginBody,
    mcp::{
        Capabilities, Kind, Message, Notice,
        message::parse,
        object,
        response::quote,
        subscription::{self, Topics, task_of},
    },
    upstream::{
        Endpoint,
        era::{self, Speech},
        failure::CallFailure,
        fetch::{self, Bounds},
        pipe::{Link, Ticket},
        sse::Decoder,
    },
};

const METHOD: &str = "subscriptions/listen";

/// What we ask to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) topics: Topics,
    pub(super) uris: AHashSet<Box<str>>,
}

impl Wanted {
    pub(super) fn is_empty(&self) -> bool {
        self.topics == Topics::default() && self.uris.is_empty()
    }

    fn members(&self) -> String {
        let quoted = self.uris.iter().map(|uri| quote(task_of(uri).unwrap_or(uri)));
        let named: Vec<_> = self.uris.iter().zip(quoted).collect();
        let named = named.iter().map(|(uri, raw)| (&***uri, raw.as_bytes()));
        format!(r#""notifications":{}"#, subscription::filter(self.topics, named))
    }

    /// As whom we ask: of tasks hears who knows them.
    fn speech(&self) -> Speech {
        let has_tasks = self.uris.iter().any(|uri| task_of(uri).is_some());
        Speech::Modern(if has_tasks { Capabilities::tasks() } else { Capabilities::NONE })
    }
}

/// An open subscription. Dropping it ends it.
pub(super) struct Channel {
    source: Source,
    pub(super) wanted: Wanted,
    /// The resources that the upstream tells of.
    pub(super) honoured: AHashSet<Box<str>>,
}

enum Source {
    Http {
        body: OriginBody,
        decoder: Box<Decoder>,
        limit: usize,
    },
    /// On a pipe that others use too.
    Pipe {
        ticket: Ticket,
        _link: Arc<Link>,
    },
}

/// What came on it.
pub(super) enum Said {
    ListChanged(Notice),
    Updated(Box<Message>),
    TaskChanged(Box<Message>),
    Nothing,
}

impl Channel {
    /// Opens a subscription over HTTP and waits until it is acknowledged.
    pub(super) async fn over_http(
        endpoint: Arc<Endpoint>,
        wanted: Wanted,
        bounds: Bounds,
    ) -> Result<Self, CallFailure> {
        let id = format!("\"lockgate-listen-{}\"", endpoint.next_id());
        let request = era::request(wanted.speech(), &id, METHOD, &wanted.members());
        let headers = endpoint.modern_headers(METHOD, None);
        let response = endpoint.post(headers, Bytes::from(request), &bounds).await?;
        let (head, body) = response.into_parts();
        if !head.status.is_success() || !fetch::is_event_stream(&head.headers) {
            return Err(refusal(head.status.as_u16(), &fetch::read_refusal(body, &bounds).await));
        }
        let limit = bounds.message_max;
        let source = Source::Http { body, decoder: Box::new(Decoder::new(limit)), limit };
        Self::acknowledged(source, wanted, bounds).await
    }

    /// The same over a pipe.
    pub(super) async fn over_pipe(
        link: Arc<Link>,
        wanted: Wanted,
        bounds: Bounds,
    ) -> Result<Self, CallFailure> {
        let mut ticket = link.connection.ticket(None);
        let request =
            era::request(wanted.speech(), &ticket.id.to_string(), METHOD, &wanted.members());
        ticket.send(request.into())?;
        Self::acknowledged(Source::Pipe { ticket, _link: link }, wanted, bounds).await
    }

    /// What the upstream said of a resource; `None` if it was not asked.
    pub(super) fn verdict(&self, uri: &str) -> Option<Result<(), CallFailure>> {
        let refused = || CallFailure::Unheard("it does not say why".to_owned());
        let is_honoured = self.honoured.contains(uri);
        self.wanted.uris.contains(uri).then(|| is_honoured.then_some(()).ok_or_else(refused))
    }

    async fn acknowledged(
        mut source: Source,
        wanted: Wanted,
        bounds: Bounds,
    ) -> Result<Self, CallFailure> {
        let first = bounds.within(source.next()).await??;
        if notice(&first) != Some(Notice::Acknowledged) {
            return Err(refusal(200, first.body()));
        }
        let honoured = honoured(&first).unwrap_or_else(|| wanted.uris.clone());
        Ok(Self { source, wanted, honoured })
    }

    /// What is said next; fails when the subscription is over. Safe to drop while waiting.
    pub(super) async fn next(&mut self) -> Result<Said, CallFailure> {
        let message = self.source.next().await?;
        match (&message.kind, notice(&message)) {
            (Kind::Response(_), _) | (_, Some(Notice::Cancelled)) => Err(CallFailure::NoResponse),
            (
                _,
                Some(
                    notice @ (Notice::ToolsChanged
                    | Notice::PromptsChanged
                    | Notice::ResourcesChanged),
                ),
            ) => Ok(Said::ListChanged(notice)),
            (_, Some(Notice::ResourceUpdated)) => Ok(Said::Updated(Box::new(message))),
            (_, Some(Notice::TaskStatus)) => Ok(Said::TaskChanged(Box::new(message))),
            (
                _,
                Some(
                    Notice::Progress
                    | Notice::Log
                    | Notice::ElicitationComplete
                    | Notice::Acknowledged,
                )
                | None,
            ) => Ok(Said::Nothing),
        }
    }
}

impl Source {
    async fn next(&mut self) -> Result<Message, CallFailure> {
        match self {
            Self::Pipe { ticket, _link: _ } => ticket.next().await,
            Self::Http { body, decoder, limit } => loop {
                let event = decoder.next().map_err(|_| CallFailure::TooLarge { limit: *limit })?;
                match event {
                    Some(event) if !event.is_message() => (),
                    Some(event) => {
                        return parse(event.data)
                            .map_err(|error| CallFailure::NotJsonRpc(error.to_string()));
                    }
                    None => match fetch::chunk(body).await? {
                        Some(chunk) => decoder.push(chunk),
                        None => return Err(CallFailure::NoResponse),
                    },
                }
            },
        }
    }
}

fn notice(message: &Message) -> Option<Notice> {
    let Kind::Notification(notification) = &message.kind else { return None };
    Notice::of(notification.method.as_str())
}

/// The resources and tasks of an acknowledgement; `None` if it does not say.
fn honoured(message: &Message) -> Option<AHashSet<Box<str>>> {
    let text = message.text();
    let filter = object::member(text, message.params()?.span?, "notifications")?;
    Some(subscription::honoured(text, filter).collect())
}

/// Why there is no subscription.
fn refusal(status: u16, body: &Bytes) -> CallFailure {
    let message = parse(body.clone()).ok();
    match message.as_ref().and_then(era::error_of) {
        Some(error) => CallFailure::Unheard(format!("error {}: {}", error.code, error.message)),
        None if matches!(status, 401 | 403) => CallFailure::Auth { status },
        None if status == 200 => {
            CallFailure::NotJsonRpc("no acknowledgement of a subscription".to_owned())
        }
        None => CallFailure::HttpStatus { status, excerpt: fetch::excerpt(body) },
    }
}
