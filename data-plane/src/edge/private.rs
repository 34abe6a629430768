//! What a caller sees of an endpoint whose upstreams show each caller something else.

use std::sync::Arc;

use futures_util::future::join_all;

use super::Edge;
use crate::{
    engine::{Sender, legacy},
    mcp::{Capabilities, Declared, Kind, Message, Method, Version, version::InboundEra},
    route::{self, Plan},
    session::SessionClaims,
    snapshot::table::View,
    upstream::{SessionKey, Viewer, Want},
};

/// Who sends a message, as upstreams know it.
pub(crate) struct Caller {
    pub(crate) client: route::Client,
    /// All that it declares in its session, if that is more.
    pub(crate) written: Option<Arc<str>>,
    pub(crate) key: SessionKey,
}

impl Caller {
    pub(crate) fn of_session(claims: &SessionClaims) -> Self {
        let client = route::Client { version: claims.version, capabilities: claims.capabilities };
        let (written, key) = (claims.written.clone(), SessionKey::Client(claims.id));
        Self { client, written, key }
    }

    /// One without a session.
    pub(crate) fn alone(sender: &Sender<'_>, era: &InboundEra) -> Self {
        let client = match era {
            InboundEra::Modern { version, capabilities } => {
                route::Client { version: *version, capabilities: *capabilities }
            }
            InboundEra::Legacy { header: _ } => route::Client {
                version: Version::NEWEST_HANDSHAKE,
                capabilities: Capabilities::NONE,
            },
        };
        let subject = Arc::clone(&sender.principal.subject);
        let capabilities = client.capabilities.bits();
        Self { client, written: None, key: SessionKey::Principal { subject, capabilities } }
    }

    /// The sender of a message over Streamable HTTP; `None`: it names no session that it has.
    pub(super) fn over_http(sender: &Sender<'_>, era: &InboundEra) -> Option<Self> {
        match era {
            InboundEra::Modern { .. } => Some(Self::alone(sender, era)),
            InboundEra::Legacy { header: _ } => {
                legacy::open(sender).ok().map(|known| Self::of_session(&known.claims))
            }
        }
    }

    fn viewer(&self, sender: &Sender<'_>) -> Viewer {
        let known = self.client.capabilities;
        let declared = match &self.key {
            SessionKey::Client(_) => Declared { known, written: self.written.clone() },
            // Nobody would tell of changes.
            SessionKey::Principal { .. } => {
                known.without(Capabilities::of(&["roots.listChanged"])).into()
            }
        };
        Viewer {
            key: self.key.clone(),
            declared,
            subject: Arc::clone(&sender.principal.subject),
            era: self.client.version.era(),
        }
    }
}

/// Whether the answer to a message depends on what upstreams show to its sender alone.
pub(crate) fn is_private(sender: &Sender<'_>, message: &Message) -> bool {
    sender.table.is_private()
        && matches!(&message.kind, Kind::Request(request) if request.method.is_of_catalog())
        && sender.view().is_ok_and(|view| !view.private_upstreams().is_empty())
}

/// Whether a message names a tool or prompt of an upstream that shows all the same. Nobody is
/// shown another under that name, so no other upstream can delay it.
fn is_for_all(sender: &Sender<'_>, view: &View, message: &Message, client: route::Client) -> bool {
    if !matches!(message.method(), Some(Method::ToolsCall | Method::PromptsGet)) {
        return false;
    }
    let plan = route::plan((&sender.table, view), &sender.principal, message, client);
    let Ok(Plan::Forward { target }) = plan else { return false };
    let is_of = |id: &str| view.private_upstreams().iter().any(|upstream| *upstream.id == *id);
    !target.upstream_id().is_some_and(is_of)
}

impl Edge {
    /// Lets the sender see what upstreams show to it alone. What it asks to do with something
    /// that it was shown before needs no newer look.
    pub(crate) async fn look(&self, sender: &mut Sender<'_>, message: &Message, caller: &Caller) {
        let Ok(view) = sender.view().cloned() else { return };
        let viewer = caller.viewer(sender);
        let is_list = message.method().is_some_and(Method::is_list);
        if is_for_all(sender, &view, message, caller.client) {
            return;
        }
        if !is_list {
            sender.private = self.seen(&view, &viewer, Want::Known).await;
            let (Ok(seen), table) = (sender.view(), &sender.table) else { return };
            let plan = route::plan((table, seen), &sender.principal, message, caller.client);
            if plan.is_ok() {
                return;
            }
        }
        sender.private = self.seen(&view, &viewer, Want::Fresh).await;
    }

    async fn seen(&self, view: &View, viewer: &Viewer, want: Want) -> Option<Arc<View>> {
        let shown = view
            .private_upstreams()
            .iter()
            .map(|upstream| self.upstreams().shown_to(viewer, upstream, want));
        view.for_caller(&join_all(shown).await)
    }
}
