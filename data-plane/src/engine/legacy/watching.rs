//! What a legacy client wants to hear: its stream, log levels, subscriptions.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use proto::{
    Era,
    upstream::{StdioMode, Transport},
};

use super::{PROTOCOL_VERSION, open};
use crate::{
    edge::Known,
    engine::{Inbound, Sender, Served},
    error::Failure,
    exchange::Call,
    mcp::{
        Declared, Level, Pieces, Version,
        message::parse,
        response,
        translate::{self, Audience},
        version,
    },
    route::{self, Interest},
    session::SessionClaims,
    sessions::{
        Asks, Live, Subscription,
        channel::{EventId, Reader},
    },
    snapshot::table::Table,
    target::{Asked, Target},
    upstream::{CallError, CallFailure, Reply, SessionKey, Wish},
};

/// The header by which a client goes on with a broken stream.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a session's client can be asked.
pub(crate) fn asks(sender: &Sender<'_>, claims: &SessionClaims) -> Asks {
    let SessionClaims { capabilities, version, .. } = claims;
    let (capabilities, version) = (*capabilities, *version);
    let hears = sender.hears(|| claims.written.is_some());
    let (patience, askers) = (sender.edge.timeouts().call, sender.askers());
    Asks { capabilities, patience, version, hears, askers }
}

/// Opens a stream for what belongs to no call; from now on the client hears of changed lists.
pub(crate) fn attach(sender: &Sender<'_>, claims: &SessionClaims, live: &Live) -> Reader {
    let reader = live.attach(asks(sender, claims));
    // Changes of what all see are told by what all see.
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

/// A session that was idle goes on: its upstreams tell it again what they told before.
pub(super) fn wake(sender: &Sender<'_>, claims: &SessionClaims, live: &Live) {
    let owner = SessionKey::Client(claims.id);
    for subscription in live.woken() {
        let declared = Declared { known: claims.capabilities, written: claims.written.clone() };
        let who = (&owner, declared, &*sender.principal.subject);
        let Subscription { upstream_id, uri, shown: _ } = &subscription;
        if let Some(wish) = sender.edge.upstreams().wish(upstream_id, who, uri) {
            live.hold(&subscription, wish);
        }
    }
}

/// `logging/setLevel`, for all upstreams of the session.
pub(super) fn set_level(
    sender: &Sender<'_>,
    (claims, live): (&SessionClaims, &Live),
    (answer, level): (Pieces, Level),
) -> Served {
    live.set_level(level);
    sender.edge.upstreams().want_logs(&SessionKey::Client(claims.id), level);
    Served::Answer(answer)
}

/// What becomes of a `resources/subscribe` or `resources/unsubscribe`.
pub(super) enum Noted {
    /// Its upstream has to know too.
    Forward(Target),
    /// The upstream says on a connection of ours whether it tells of changes.
    Wished(Subscription, Wish),
    Done,
}

/// Notes a subscription or its end.
pub(super) fn subscribe(
    sender: &Sender<'_>,
    (claims, live): (&SessionClaims, &Live),
    (target, shown): (Target, bytes::Bytes),
    interest: Interest,
) -> Result<Noted, Failure> {
    let Asked::Resource { upstream_id, uri } = &target.asked else { return Ok(Noted::Done) };
    let (upstream_id, uri) = ((**upstream_id).into(), uri.clone());
    let subscription = Subscription { upstream_id, uri, shown };
    let Subscription { upstream_id, uri, shown: _ } = &subscription;
    let upstreams = sender.edge.upstreams();
    let (era, is_shared) = upstream_of(&sender.table, upstream_id);
    if interest == Interest::Ends {
        let was_held = live.unsubscribe(&subscription);
        let is_wanted = || {
            sender.edge.sessions().is_subscribed(upstream_id, uri)
                || upstreams.is_wished(upstream_id, uri)
        };
        return Ok(match (era, is_shared) {
            // Its keeper takes it back.
            (Some(Era::Modern), _) => Noted::Done,
            (_, _) if was_held => Noted::Done,
            // Others want it still.
            (_, IsShared::Yes) if is_wanted() => Noted::Done,
            (_, _) => Noted::Forward(target),
        });
    }
    if !live.subscribe(subscription.clone()) {
        return Err(Failure::TooManyCalls);
    }
    let owner = SessionKey::Client(claims.id);
    let declared = Declared { known: claims.capabilities, written: claims.written.clone() };
    let who = (&owner, declared, &*sender.principal.subject);
    let wish = || upstreams.wish(upstream_id, who, uri);
    if let Some(wish) = era.and_then(|_| wish()) {
        return Ok(Noted::Wished(subscription, wish));
    }
    // It knows better whether it tells.
    if era != Some(Era::Modern) {
        return Ok(Noted::Forward(target));
    }
    live.unsubscribe(&subscription);
    let upstream = name_of(&sender.table, upstream_id);
    let failure = CallFailure::Unheard("it never does".to_owned());
    Err(Failure::Call(CallError { upstream, failure }))
}

/// Answers when the upstream has said that it will tell of changes.
pub(super) fn wished(
    inbound: &Inbound<'_>,
    live: &Arc<Live>,
    answer: Pieces,
    (subscription, wish): (Subscription, Wish),
) -> Call {
    let live = Arc::clone(live);
    let upstream = name_of(&inbound.sender.table, &subscription.upstream_id);
    let (id, patience) = (inbound.id(), inbound.sender.edge.timeouts().call);
    let askers = inbound.sender.askers();
    Box::pin(async move {
        let failure = match wish.kept_within(patience).await {
            Ok(()) => {
                live.hold(&subscription, wish);
                return Ok(Reply::Response(answer));
            }
            Err(failure) => failure,
        };
        live.unsubscribe(&subscription);
        match failure {
            CallFailure::Declined { error, said: _ } => {
                let error = response::declined(&id, &error);
                let audience = Audience { era: Era::Legacy, id: &id, asked_uri: None, uris: None };
                let told = parse(error.clone())
                    .map(|error| translate::with_pages(&error, askers.named(&upstream), &audience));
                let (Ok(told) | Err(told)) = told.unwrap_or_else(|_| Ok(error.into()));
                Ok(Reply::Response(told))
            }
            failure => Err(CallError { upstream, failure }),
        }
    })
}

fn name_of(table: &Table, upstream_id: &str) -> String {
    let upstream = table.upstream(upstream_id);
    upstream.map(|upstream| upstream.name.to_string()).unwrap_or_default()
}

/// Whether clients meet on one connection to an upstream.
enum IsShared {
    Yes,
    No,
}

/// What an upstream speaks, if that is known, and whether it has one connection for all.
fn upstream_of(table: &Table, upstream_id: &str) -> (Option<Era>, IsShared) {
    let upstream = table.upstream(upstream_id);
    let era = upstream.and_then(|upstream| upstream.era);
    let is_shared = match upstream.map(|upstream| &upstream.transport) {
        Some(Transport::Stdio(stdio)) if stdio.mode == StdioMode::Shared => IsShared::Yes,
        Some(_) | None => IsShared::No,
    };
    (era, is_shared)
}
