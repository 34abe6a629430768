//! The two eras over one router: what a message means here, and who answers it.

pub(crate) mod bridge;
pub(crate) mod kept;
pub(crate) mod legacy;
pub(crate) mod modern;
pub(crate) mod parked;
pub(crate) mod rounds;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use proto::Principal;

use crate::{
    edge::{Client, Edge},
    error::Failure,
    exchange::{self, Exchange, Owner},
    limit::Permit,
    mcp::{Kind, Message, Pieces, declared, elicitation::Askers, extension::Hears, level::Wanted},
    route::{self, Endpoint, Plan, RouteError},
    sessions::{Live, listeners::Hearing},
    snapshot::table::{Table, View},
    target::Target,
    tasks::{self, Detour, Passage},
    telemetry::Operation,
    upstream::{Call, SessionKey},
};

/// Who sends a request, and to which endpoint, at one moment and under one configuration.
#[derive(Clone)]
pub(crate) struct Sender<'a> {
    pub(crate) edge: &'a Edge,
    pub(crate) client: &'a Client,
    pub(crate) table: Arc<Table>,
    pub(crate) principal: Arc<Principal>,
    pub(crate) endpoint: Endpoint,
    /// What names the session and mirrors the body; `None` where messages come without headers.
    pub(crate) headers: Option<&'a HeaderMap>,
    pub(crate) now_ms: i64,
    /// What it sees of the endpoint, if upstreams there show it something else than all.
    pub(crate) private: Option<Arc<View>>,
}

impl Sender<'_> {
    /// What it sees of the endpoint.
    pub(crate) fn view(&self) -> Result<&Arc<View>, RouteError> {
        match &self.private {
            Some(private) => Ok(private),
            None => route::view(&self.table, &self.endpoint),
        }
    }

    /// Who may ask its user.
    pub(crate) fn askers(&self) -> Askers {
        self.view().map(|view| view.askers()).unwrap_or_default()
    }

    /// What it is told of extensions; `declares`: whether it declares any.
    pub(crate) fn hears(&self, declares: impl FnOnce() -> bool) -> Hears {
        self.view().map(|view| view.hears(declares)).unwrap_or_default()
    }
}

/// A message and its sender.
pub(crate) struct Inbound<'a> {
    pub(crate) sender: Sender<'a>,
    pub(crate) message: Message,
}

/// What a message led to; each transport says it in its own form.
pub(crate) enum Served {
    /// The response, complete.
    Answer(Pieces),
    /// The response to an `initialize`, and the id of the session that it began.
    Began { answer: Pieces, id: HeaderValue },
    /// An upstream works on it: notifications first, the response last.
    Relay(Exchange),
    /// The client listens from now on.
    Listening(Box<Hearing>),
    /// Taken, with nothing to say.
    Accepted,
}

/// A call on its way to an upstream.
pub(crate) struct Outbound {
    pub(crate) target: Target,
    pub(crate) client: route::Client,
    /// All that a legacy client declares, if that is more.
    pub(crate) written: Option<Arc<str>>,
    pub(crate) logs: Wanted,
    pub(crate) session: SessionKey,
    pub(crate) owner: Owner,
    pub(crate) operation: Operation,
    pub(crate) permit: Permit,
    /// `None`: it has nothing to do with tasks.
    pub(crate) tasks: Option<Arc<Passage>>,
}

impl Inbound<'_> {
    /// The raw id of a request; empty for everything else.
    pub(crate) fn id(&self) -> Bytes {
        match &self.message.kind {
            Kind::Request(request) => self.message.slice(request.id),
            Kind::Notification(_) | Kind::Response(_) => Bytes::new(),
        }
    }

    fn plan(&self, client: route::Client) -> Result<Plan, Failure> {
        let Sender { table, principal, .. } = &self.sender;
        Ok(route::plan((table, self.sender.view()?), principal, &self.message, client)?)
    }

    /// What tasks need on their way; `live` is the session of a legacy client.
    fn tasks(
        &self,
        target: &Target,
        client: route::Client,
        live: Option<&Arc<Live>>,
    ) -> Option<Arc<Passage>> {
        Passage::of(&self.sender, &self.message, target, client, live)
    }

    /// What the client is told of extensions.
    fn hears(&self, owner: &Owner) -> Hears {
        if let Owner::Session { asks, .. } = owner {
            return asks.hears;
        }
        let Self { sender, message } = self;
        sender.hears(|| {
            let span = message.params().and_then(|params| params.meta.client_capabilities);
            span.is_some_and(|it| declared::has_extensions(message.text(), it))
        })
    }

    /// A place among the running calls.
    fn admit(&self) -> Result<Permit, Failure> {
        let Sender { edge, client, principal, .. } = &self.sender;
        edge.admit(client, principal)
    }

    fn operation(&self, version: &str) -> Operation {
        match self.message.method() {
            Some(method) => self.sender.edge.telemetry().operation(method, version),
            None => Operation::none(),
        }
    }

    /// Hands a call to its upstream.
    fn forward(self, outbound: Outbound) -> Served {
        let Outbound { target, client, written, logs, session, owner, operation, permit, tasks } =
            outbound;
        let id = self.id();
        let hears = self.hears(&owner);
        let askers = self.sender.askers();
        let Self { sender, message } = self;
        let Sender { edge, table, principal, .. } = sender;
        let call = Call {
            subject: Arc::clone(&principal.subject),
            message: tasks.as_ref().and_then(|it| it.wanted(&message)).unwrap_or(message),
            target,
            client_era: client.version.era(),
            client_version: client.version,
            capabilities: client.capabilities,
            written,
            hears,
            askers,
            logs,
            session,
            round: 0,
            tasks,
        };
        let upstreams = Arc::clone(edge.upstreams());
        let call: exchange::Call = match call.tasks.as_ref().map(|tasks| tasks.detour()) {
            None | Some(Detour::None) => {
                Box::pin(async move { upstreams.call(&table, &call).await })
            }
            Some(Detour::Kept) => Box::pin(Arc::clone(edge.kept()).serve(upstreams, table, call)),
            Some(Detour::Page) => Box::pin(tasks::page_in_time(upstreams, table, call)),
        };
        Served::Relay(Exchange::new(call, id, owner, operation, permit))
    }
}
