//! 2024-11-05 to 2025-11-25: a session per client, sealed into its id.

mod watching;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use proto::resource::EndedSession;

use self::watching::Noted;
pub(crate) use self::watching::{attach, listen};
use super::{Inbound, Outbound, Sender, Served};
use crate::{
    edge::Known,
    error::Failure,
    exchange::{Exchange, Owner},
    limit::Permit,
    mcp::{Capabilities, Declared, Kind, Message, Method, Pieces, Version, level::Wanted, version},
    route::{self, Plan, RouteError},
    session::{self, SessionClaims, SessionError},
    sessions::{Live, TicketError},
    target::Target,
    telemetry::Operation,
    transport::headers::detached,
    upstream::SessionKey,
};

/// The header that carries a session's id.
pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// The header that repeats a session's version.
pub(crate) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// The router lets modern clients alone listen.
const LISTENS: Failure = Failure::Internal("a legacy client was served as a modern one");

/// Serves a message of a legacy client whose headers name its session.
pub(crate) fn serve(inbound: Inbound<'_>) -> Result<Served, Failure> {
    if is_initialize(&inbound.message) {
        let (answer, claims) = begin(&inbound)?;
        return Ok(Served::Began { answer, id: seal(&inbound.sender, &claims)? });
    }
    let known = open(&inbound.sender)?;
    let header = inbound.sender.headers.and_then(|headers| headers.get(PROTOCOL_VERSION));
    version::check_session_version(header.map(HeaderValue::as_bytes), known.claims.version)?;
    serve_in(inbound, &known.claims, &known.live)
}

/// Serves a message in its session.
pub(crate) fn serve_in(
    inbound: Inbound<'_>,
    claims: &SessionClaims,
    live: &Arc<Live>,
) -> Result<Served, Failure> {
    let client = route::Client { version: claims.version, capabilities: claims.capabilities };
    let mut operation = inbound.operation(client.version.as_str());
    match inbound.plan(client) {
        Err(failure) => {
            operation.fail(&failure);
            Err(failure)
        }
        Ok(Plan::Reply(answer)) => {
            operation.succeed();
            Ok(Served::Answer(answer))
        }
        Ok(Plan::Forward { target }) => forward(inbound, (claims, live), target, operation),
        Ok(Plan::SetLevel { answer, level }) => {
            operation.succeed();
            Ok(watching::set_level(&inbound.sender, (claims, live), (answer, level)))
        }
        Ok(Plan::Subscribe { answer, target, shown, interest }) => {
            let who = (claims, &**live);
            match watching::subscribe(&inbound.sender, who, (target, shown), interest)? {
                Noted::Forward(target) => forward(inbound, (claims, live), target, operation),
                Noted::Wished(subscription, wish) => {
                    let (owner, permit) = place(&inbound, (claims, live))?;
                    let wish = (subscription, wish);
                    let call = watching::wished(&inbound, live, answer, wish);
                    let id = inbound.id();
                    Ok(Served::Relay(Exchange::new(call, id, owner, operation, permit)))
                }
                Noted::Done => {
                    operation.succeed();
                    Ok(Served::Answer(answer))
                }
            }
        }
        Ok(Plan::RootsChanged) => {
            let upstreams = inbound.sender.edge.upstreams();
            upstreams.notify_session(&SessionKey::Client(claims.id), inbound.message.body());
            Ok(Served::Accepted)
        }
        Ok(Plan::Notify { upstream_id }) => {
            let (upstreams, key) = (inbound.sender.edge.upstreams(), SessionKey::Client(claims.id));
            if let Some(active) = upstreams.find(&upstream_id) {
                active.notify_session(&key, inbound.message.body());
            }
            Ok(Served::Accepted)
        }
        Ok(Plan::Cancel { request_id }) => {
            live.cancel(&request_id);
            Ok(Served::Accepted)
        }
        Ok(Plan::Answer) if live.answer(&inbound.message) => Ok(Served::Accepted),
        Ok(Plan::Answer) => Err(RouteError::UnexpectedResponse.into()),
        Ok(Plan::Progress) => {
            live.progress(&inbound.message);
            Ok(Served::Accepted)
        }
        Ok(Plan::Accept) => Ok(Served::Accepted),
        Ok(Plan::Initialize { .. }) => Err(Failure::Internal("a session was initialized twice")),
        Ok(Plan::Listen { .. }) => Err(LISTENS),
    }
}

/// Hands a request to its upstream, in the name of the session.
fn forward(
    inbound: Inbound<'_>,
    (claims, live): (&SessionClaims, &Arc<Live>),
    target: Target,
    operation: Operation,
) -> Result<Served, Failure> {
    let (owner, permit) = place(&inbound, (claims, live))?;
    let client = route::Client { version: claims.version, capabilities: claims.capabilities };
    let (session, logs) = (SessionKey::Client(claims.id), live.wanted_logs());
    let tasks = inbound.tasks(&target, client, Some(live));
    let written = claims.written.clone();
    let outbound =
        Outbound { target, client, written, logs, session, owner, operation, permit, tasks };
    Ok(inbound.forward(outbound))
}

/// A place among the calls of the session and of all.
fn place(
    inbound: &Inbound<'_>,
    (claims, live): (&SessionClaims, &Arc<Live>),
) -> Result<(Owner, Permit), Failure> {
    let edge = inbound.sender.edge;
    let limit = edge.limits().calls_per_session;
    let ticket = live.begin(inbound.id(), limit).map_err(|error| match error {
        TicketError::TooMany => Failure::TooManyCalls,
        TicketError::DuplicateId => Failure::DuplicateId,
        TicketError::Ended => Failure::SessionUnknown,
    })?;
    let asks = watching::asks(&inbound.sender, claims);
    let owner = Owner::Session { ticket, asks, drain: edge.drain().clone() };
    Ok((owner, inbound.admit()?))
}

/// Serves a message of a legacy client that keeps no session: each stands alone.
pub(crate) fn serve_alone(inbound: Inbound<'_>) -> Result<Served, Failure> {
    let version = Version::NEWEST_HANDSHAKE;
    let client = route::Client { version, capabilities: Capabilities::NONE };
    let mut operation = inbound.operation(version.as_str());
    match inbound.plan(client) {
        Err(failure) => {
            operation.fail(&failure);
            Err(failure)
        }
        // Of what it subscribes to here it would hear nothing.
        Ok(
            Plan::Reply(answer)
            | Plan::Initialize { answer, .. }
            | Plan::SetLevel { answer, .. }
            | Plan::Subscribe { answer, .. },
        ) => {
            operation.succeed();
            Ok(Served::Answer(answer))
        }
        Ok(Plan::Forward { target }) => {
            let session = SessionKey::Principal {
                subject: Arc::clone(&inbound.sender.principal.subject),
                capabilities: client.capabilities.bits(),
            };
            let permit = inbound.admit()?;
            // Nobody could fetch the answer later, so the call ends with its request.
            let owner = Owner::Request { rounds: None };
            let logs = Wanted::Any;
            let tasks = inbound.tasks(&target, client, None);
            let written = None;
            let outbound = Outbound {
                target,
                client,
                written,
                logs,
                session,
                owner,
                operation,
                permit,
                tasks,
            };
            Ok(inbound.forward(outbound))
        }
        Ok(
            Plan::Accept
            | Plan::Cancel { .. }
            | Plan::Progress
            | Plan::RootsChanged
            | Plan::Notify { .. },
        ) => Ok(Served::Accepted),
        Ok(Plan::Answer) => Err(RouteError::UnexpectedResponse.into()),
        Ok(Plan::Listen { .. }) => Err(LISTENS),
    }
}

/// Whether a message begins a session.
pub(crate) fn is_initialize(message: &Message) -> bool {
    matches!(&message.kind, Kind::Request(request) if request.method == Method::Initialize)
}

/// Answers `initialize`, and says what the session is that begins.
pub(crate) fn begin(inbound: &Inbound<'_>) -> Result<(Pieces, SessionClaims), Failure> {
    let mut operation = inbound.operation("");
    let client =
        route::Client { version: Version::NEWEST_HANDSHAKE, capabilities: Capabilities::default() };
    match inbound.plan(client) {
        Ok(Plan::Initialize { answer, version, declared }) => {
            let claims = claims(&inbound.sender, version, declared)?;
            operation.succeed();
            Ok((answer, claims))
        }
        Ok(
            Plan::Reply(_)
            | Plan::Forward { .. }
            | Plan::Cancel { .. }
            | Plan::SetLevel { .. }
            | Plan::Subscribe { .. }
            | Plan::Listen { .. }
            | Plan::RootsChanged
            | Plan::Notify { .. }
            | Plan::Answer
            | Plan::Progress
            | Plan::Accept,
        ) => Err(Failure::Internal("initialize was routed elsewhere")),
        Err(failure) => {
            operation.fail(&failure);
            Err(failure)
        }
    }
}

fn claims(
    sender: &Sender<'_>,
    version: Version,
    Declared { known, written }: Declared,
) -> Result<SessionClaims, Failure> {
    let view = sender.view()?;
    Ok(SessionClaims {
        id: session::new_id(),
        principal: session::principal_hash(&sender.principal.subject),
        server: view.id.clone(),
        version,
        capabilities: known,
        written,
        owner: sender.edge.proxy_id().into(),
        issued_at_ms: sender.now_ms,
    })
}

fn seal(sender: &Sender<'_>, claims: &SessionClaims) -> Result<HeaderValue, Failure> {
    match sender.table.session_keys().seal(claims) {
        Ok(id) => id.try_into().map_err(|_| Failure::Internal("a session id is no header")),
        Err(SessionError::NoKey) => Err(Failure::NotConfigured),
        Err(_) => Err(Failure::Internal("a session id could not be sealed")),
    }
}

/// The session of a request, from its connection's memory or from its id.
pub(crate) fn open(sender: &Sender<'_>) -> Result<Arc<Known>, Failure> {
    let header = sender.headers.and_then(|headers| headers.get(SESSION_ID));
    let header = header.ok_or(Failure::SessionMissing)?;
    let Sender { client, table, principal, now_ms, .. } = sender;
    let view = sender.view()?;
    if let Some(known) = client.known(header, table, principal, *now_ms)
        && *known.claims.server == *view.id
        && known.live.touch(*now_ms)
    {
        return Ok(known);
    }
    let claims = check(sender, header)?;
    if *claims.server != *view.id {
        return Err(Failure::SessionUnknown);
    }
    let live = sender.edge.sessions().enter(claims.id, *now_ms).ok_or(Failure::SessionUnknown)?;
    watching::wake(sender, &claims, &live);
    let known = Arc::new(Known {
        header: detached(header),
        principal: Arc::clone(principal),
        claims,
        live,
    });
    client.remember(&known, table);
    Ok(known)
}

/// The claims of the session that a request names, whoever owns it.
pub(crate) fn claims_of(sender: &Sender<'_>) -> Option<SessionClaims> {
    let header = sender.headers.and_then(|headers| headers.get(SESSION_ID))?;
    check(sender, header).ok()
}

/// Whether this proxy has asked the client what this response answers.
pub(crate) fn has_asked(sender: &Sender<'_>, response: &Message) -> bool {
    open(sender).is_ok_and(|known| known.live.has_asked(response))
}

/// The claims of a session that another proxy owns; nothing for our own, for none, and for ids
/// that are refused anyway.
pub(crate) fn foreign(sender: &Sender<'_>) -> Option<SessionClaims> {
    let Sender { edge, client, table, principal, headers, now_ms, .. } = sender;
    let header = headers.and_then(|headers| headers.get(SESSION_ID))?;
    let is_foreign = |claims: &SessionClaims| *claims.owner != *edge.proxy_id();
    if let Some(known) = client.known(header, table, principal, *now_ms) {
        return is_foreign(&known.claims).then(|| known.claims.clone());
    }
    check(sender, header).ok().filter(is_foreign)
}

/// The claims of an id that was made for this principal.
fn check(sender: &Sender<'_>, header: &HeaderValue) -> Result<SessionClaims, Failure> {
    let id = header.to_str().map_err(|_| Failure::SessionUnknown)?;
    let claims = sender.table.session_keys().open(id, sender.now_ms).map_err(|error| {
        tracing::debug!(%error, "session refused");
        Failure::SessionUnknown
    })?;
    let is_foreign = claims.principal != session::principal_hash(&sender.principal.subject);
    if is_foreign || sender.table.has_ended(&claims.id) {
        return Err(Failure::SessionUnknown);
    }
    Ok(claims)
}

/// `DELETE`: the session is over, here and at its upstreams. Others have to be told of it.
pub(crate) fn delete(sender: &Sender<'_>) -> Result<EndedSession, Failure> {
    let known = open(sender)?;
    let SessionClaims { id, issued_at_ms, .. } = known.claims;
    let expire_time_ms = issued_at_ms + session::LIFETIME_MS;
    sender.edge.sessions().end(id, expire_time_ms);
    sender.edge.outbox().add(id, expire_time_ms);
    sender.edge.upstreams().close_session(&SessionKey::Client(id));
    Ok(EndedSession { id, expire_time_ms })
}

/// What the headers say that mirror the body.
pub(crate) fn mirror_headers(headers: &HeaderMap) -> version::MirrorHeaders<'_> {
    let value = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    version::MirrorHeaders {
        protocol_version: headers.get(PROTOCOL_VERSION).map(HeaderValue::as_bytes),
        method: value("mcp-method"),
        name: value("mcp-name"),
    }
}
