//! Decides what becomes of a message: answered from the table, forwarded, or refused.
//! Authorization happens here: what a caller may not see does not exist for it.

mod cursor;
mod entries;
mod tasks;

use std::sync::Arc;

use bytes::Bytes;
use proto::{Era, Permission, Principal, policy};

use crate::{
    mcp::{
        Capabilities, Declared, Kind, Level, Message, Method, Pieces, Version,
        declared::Undeclarable, extension, list::ListKind, message::Request, object, response,
        subscription::Topics, version,
    },
    snapshot::table::{Table, View},
    target::Target,
};

/// Which endpoint was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/mcp`.
    Everything,
    /// `/servers/{name or id}/mcp`.
    Server(Box<str>),
}

/// What is known of the client when its message is routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Of its session or its `_meta`; of an `initialize` it does not matter.
    pub version: Version,
    pub capabilities: Capabilities,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    Reply(Pieces),
    /// An `initialize`: a session at this version, of a client that declares this, has to begin.
    Initialize {
        answer: Pieces,
        version: Version,
        declared: Declared,
    },
    Forward {
        target: Target,
    },
    /// The client wants log messages from this level on.
    SetLevel {
        answer: Pieces,
        level: Level,
    },
    /// The client wants to hear when a resource changes, or no longer.
    Subscribe {
        answer: Pieces,
        target: Target,
        /// The URI as it is shown to the client, raw JSON.
        shown: Bytes,
        interest: Interest,
    },
    /// A modern client wants to hear of changes.
    Listen {
        topics: Topics,
        resources: Vec<Watched>,
    },
    /// The client answers something that it was asked.
    Answer,
    /// The client tells how far its own work is.
    Progress,
    /// The client's roots are others now.
    RootsChanged,
    /// The client tells an upstream something that an extension is for.
    Notify {
        upstream_id: Arc<str>,
    },
    /// A notification: taken, with nothing to say.
    Accept,
    /// The client takes back the request with this raw id, if it runs.
    Cancel {
        request_id: Bytes,
    },
}

/// A resource, or a task, that a client wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    pub upstream_id: Arc<str>,
    /// As the upstream knows it; a task by its [key](crate::mcp::subscription::task_key).
    pub uri: Box<str>,
    /// As the client wrote it, raw JSON.
    pub shown: Bytes,
}

/// Whether a subscription begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Begins,
    Ends,
}

/// Why a message is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("there is no virtual server `{0}`")]
    UnknownServer(Box<str>),
    #[error("method not found: {0}")]
    UnknownMethod(Box<str>),
    /// A method that this endpoint has no upstream for.
    #[error("method not found: {method}")]
    UnservedMethod { method: Box<str>, era: Era },
    #[error("Unknown tool: {0}")]
    UnknownTool(Box<str>),
    #[error("Unknown prompt: {0}")]
    UnknownPrompt(Box<str>),
    /// The code for it depends on the era.
    #[error("Resource not found: {uri}")]
    UnknownResource { uri: Box<str>, era: Era },
    #[error("Unknown resource template: {0}")]
    UnknownTemplate(Box<str>),
    #[error("{0}")]
    InvalidParams(&'static str),
    /// `required` is a `ClientCapabilities` object, JSON text.
    #[error("this needs client capabilities: {required}")]
    MissingCapability { required: String, era: Era },
    #[error(transparent)]
    Undeclarable(#[from] Undeclarable),
    #[error("there is no request that this could answer")]
    UnexpectedResponse,
    #[error("this principal may not call tools")]
    Forbidden,
}

const ROOTS_CHANGED: &str = "notifications/roots/list_changed";

/// The view that an endpoint stands for.
pub fn view<'a>(table: &'a Table, endpoint: &Endpoint) -> Result<&'a Arc<View>, RouteError> {
    match endpoint {
        Endpoint::Everything => Ok(table.everything()),
        Endpoint::Server(name) => {
            table.server(name).ok_or_else(|| RouteError::UnknownServer(name.clone()))
        }
    }
}

/// Decides about one message of an authenticated caller, who sees this of its endpoint.
pub fn plan(
    (table, view): (&Table, &View),
    principal: &Principal,
    message: &Message,
    client: Client,
) -> Result<Plan, RouteError> {
    let may_call = policy::is_allowed(principal.role, Permission::Call);
    match &message.kind {
        Kind::Response(_) if client.version.era() == Era::Legacy => Ok(Plan::Answer),
        Kind::Response(_) => Err(RouteError::UnexpectedResponse),
        Kind::Notification(notification) => {
            match (&notification.method, &notification.params.request_id) {
                (Method::Cancelled, Some(id)) => {
                    Ok(Plan::Cancel { request_id: message.slice(*id) })
                }
                (Method::Progress, _) => Ok(Plan::Progress),
                (method, _) if method.as_str() == ROOTS_CHANGED => Ok(Plan::RootsChanged),
                (Method::Unknown(name), _) if may_call && extension::may_be_notification(name) => {
                    let upstream_id = view.upstream_of(name).cloned();
                    Ok(upstream_id.map_or(Plan::Accept, |upstream_id| Plan::Notify { upstream_id }))
                }
                _ => Ok(Plan::Accept),
            }
        }
        Kind::Request(_) if !may_call => Err(RouteError::Forbidden),
        Kind::Request(request) => plan_request((table, view), principal, message, request, client),
    }
}

fn plan_request(
    (table, view): (&Table, &View),
    principal: &Principal,
    message: &Message,
    request: &Request,
    client: Client,
) -> Result<Plan, RouteError> {
    let era = client.version.era();
    let id = message.raw(request.id);
    let reply = |result: Bytes| Ok(Plan::Reply(response::answer(id, result)));
    let list = |kind| entries::list((table, view), message, request, client, kind);
    let subscribe = |interest| entries::subscribe(view, message, request, client, interest);
    let unknown = |method: &Method| Err(RouteError::UnknownMethod(method.as_str().into()));
    match &request.method {
        method if !method.is_served_in(era) => unknown(method),
        Method::Initialize => initialize(view, message, request),
        Method::Ping => reply(Bytes::from_static(b"{}")),
        Method::Discover => reply(
            response::discover_result(
                &version::MODERN,
                &view.beyond().beside(view.features(Era::Modern)),
                &view.instructions,
            )
            .into(),
        ),
        Method::ToolsList => list(ListKind::Tools),
        Method::PromptsList => list(ListKind::Prompts),
        Method::ResourcesList => list(ListKind::Resources),
        Method::ResourceTemplatesList => list(ListKind::ResourceTemplates),
        Method::PromptsGet => entries::prompt(view, request, client),
        Method::ResourcesRead => entries::resource(view, request, client),
        Method::Complete => entries::complete(view, message, request, client),
        Method::SetLevel => set_level(message, request),
        Method::Subscribe => subscribe(Interest::Begins),
        Method::Unsubscribe => subscribe(Interest::Ends),
        Method::Listen => entries::listen((table, view), principal, message, client),
        Method::ToolsCall => call(view, message, request, client),
        Method::TasksGet
        | Method::TasksResult
        | Method::TasksList
        | Method::TasksUpdate
        | Method::TasksCancel => tasks::plan((table, view), principal, message, request, client),
        Method::Unknown(name) => entries::extension(view, name, era),
        method @ (Method::Initialized
        | Method::Cancelled
        | Method::Progress
        | Method::LogMessage
        | Method::ToolsListChanged) => unknown(method),
    }
}

fn initialize(view: &View, message: &Message, request: &Request) -> Result<Plan, RouteError> {
    let requested = request.params.protocol_version.as_ref().and_then(|text| text.as_str());
    let requested =
        requested.ok_or(RouteError::InvalidParams("`params.protocolVersion` must be a string"))?;
    let version = Version::negotiate(requested);
    let features = tasks::announced(view.features(Era::Legacy), version);
    let capabilities = view.beyond().beside(features);
    let result = response::initialize_result(version.as_str(), &capabilities, &view.instructions);
    let span = request.params.capabilities;
    let declared = span.map(|span| Declared::of_handshake(message.text(), span)).transpose()?;
    Ok(Plan::Initialize {
        answer: response::answer(message.raw(request.id), result.into()),
        version,
        declared: declared.unwrap_or_default(),
    })
}

fn set_level(message: &Message, request: &Request) -> Result<Plan, RouteError> {
    let text = message.text();
    let level = request.params.span.and_then(|params| object::member(text, params, "level"));
    let level = level.and_then(|level| object::unquote(level.of(text)));
    let level = level.and_then(|level| Level::find(&level));
    let level = level.ok_or(RouteError::InvalidParams("`params.level` must be a log level"))?;
    let answer = response::answer(message.raw(request.id), Bytes::from_static(b"{}"));
    Ok(Plan::SetLevel { answer, level })
}

fn call(
    view: &View,
    message: &Message,
    request: &Request,
    client: Client,
) -> Result<Plan, RouteError> {
    let name = request.params.name.as_ref().and_then(|name| name.as_str());
    let name = name.ok_or(RouteError::InvalidParams("`params.name` must be a string"))?;
    let is_object = |raw: &[u8]| raw.starts_with(b"{") || raw == b"null";
    if request.params.arguments.is_some_and(|span| !is_object(message.raw(span))) {
        return Err(RouteError::InvalidParams("`params.arguments` must be an object"));
    }
    let tool = view.tool(name).ok_or_else(|| RouteError::UnknownTool(name.into()))?;
    if !client.capabilities.contains(tool.needs) {
        let required = tool.needs.to_json();
        // A need that we cannot name is one that nobody meets.
        let is_nameless = required == "{}";
        return Err(if is_nameless {
            RouteError::UnknownTool(name.into())
        } else {
            RouteError::MissingCapability { required, era: client.version.era() }
        });
    }
    tasks::check_call(view, tool, client)?;
    let uris = tool.upstream_id().and_then(|id| view.shelf().uris(id));
    Ok(Plan::Forward { target: Target { uris, ..Target::tool(Arc::clone(tool)) } })
}

#[cfg(test)]
mod tests;
