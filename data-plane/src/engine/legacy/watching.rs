//! What a legacy client wants to hear: its stream, log levels, subscriptions.

use http::{HeaderName, HeaderValue};
use proto::{
    Era,
    upstream::{StdioMode, Transport},
};

use super::{PROTOCOL_VERSION, open};
use crate::{
    edge::{Edge, Known},
    engine::{Sender, Served},
    error::Failure,
    mcp::{Level, Version, response::Answer, version},
    route::{self, Interest},
    session::SessionClaims,
    sessions::{
        Asks, Live, Subscription,
        channel::{EventId, Reader},
    },
    snapshot::table::Table,
    target::{Asked, Target},
    upstream::SessionKey,
};

/// The header by which a client goes on with a broken stream.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a session's client can be asked.
pub(crate) fn asks(edge: &Edge, claims: &SessionClaims) -> Asks {
    let SessionClaims { capabilities, version, .. } = claims;
    Asks { capabilities: *capabilities, patience: edge.timeouts().call, version: *version }
}

/// Opens a stream for what belongs to no call; from now on the client hears of changed lists.
pub(crate) fn attach(sender: &Sender<'_>, claims: &SessionClaims, live: &Live) -> Reader {
    let reader = live.attach(asks(sender.edge, claims));
    if let Ok(view) = route::view(&sender.table, &sender.endpoint) {
        live.watch_lists(view, claims.capabilities);
    }
    reader
}

/// `GET`: the stream for what belongs to no call, or the rest of one that broke.
pub(crate) fn listen(sender: &Sender<'_>) -> Result<(Reader, Version), Failure> {
    let known = open(sender)?;
    let Known { claims, live, .. } = &*known;
    let header = |name: &HeaderName| sender.headers.and_then(|headers| headers.get(name));
    let version = header(&PROTOCOL_VERSION).map(HeaderValue::as_bytes);
    version::check_session_version(version, claims.version)?;
    let Some(last) = header(&LAST_EVENT_ID) else {
        return Ok((attach(sender, claims, live), claims.version));
    };
    let last = EventId::read(last.as_bytes()).ok_or(Failure::StreamGone)?;
    let reader = match live.resume(last) {
        Some(reader) => reader,
        // What was lost belonged to no call, so nobody waits for it.
        None if last.is_general() => attach(sender, claims, live),
        None => return Err(Failure::StreamGone),
    };
    Ok((reader, claims.version))
}

/// `logging/setLevel`, for all upstreams of the session.
pub(super) fn set_level(
    sender: &Sender<'_>,
    (claims, live): (&SessionClaims, &Live),
    (answer, level): (Answer, Level),
) -> Served {
    live.set_level(level);
    sender.edge.upstreams().want_logs(&SessionKey::Client(claims.id), level);
    Served::Answer(answer)
}

/// Notes a subscription or its end; the target if its upstream has to know too.
pub(super) fn subscribe(
    sender: &Sender<'_>,
    live: &Live,
    (target, shown): (Target, bytes::Bytes),
    interest: Interest,
) -> Result<Option<Target>, Failure> {
    let Asked::Resource { upstream_id, uri } = &target.asked else { return Ok(None) };
    let (upstream_id, uri) = ((**upstream_id).into(), uri.clone());
    let subscription = Subscription { upstream_id, uri, shown };
    match interest {
        Interest::Ends => live.unsubscribe(&subscription),
        Interest::Begins if live.subscribe(subscription.clone()) => (),
        Interest::Begins => return Err(Failure::TooManyCalls),
    }
    let Subscription { upstream_id, uri, shown: _ } = &subscription;
    let is_done = match upstream_of(&sender.table, upstream_id) {
        (Era::Modern, _) => true,
        // Others want it still.
        (Era::Legacy, IsShared::Yes) if interest == Interest::Ends => {
            sender.edge.sessions().is_subscribed(upstream_id, uri)
        }
        (Era::Legacy, _) => false,
    };
    Ok((!is_done).then_some(target))
}

/// Whether clients meet on one connection to an upstream.
enum IsShared {
    Yes,
    No,
}

fn upstream_of(table: &Table, upstream_id: &str) -> (Era, IsShared) {
    let upstream = table.upstream(upstream_id);
    let era = upstream.and_then(|upstream| upstream.era).unwrap_or(Era::Legacy);
    let is_shared = match upstream.map(|upstream| &upstream.transport) {
        Some(Transport::Stdio(stdio)) if stdio.mode == StdioMode::Shared => IsShared::Yes,
        Some(_) | None => IsShared::No,
    };
    (era, is_shared)
}
