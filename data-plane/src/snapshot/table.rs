//! One configuration, compiled: what every request of one moment is judged by.

mod changed;
mod chunked;
mod earlier;
pub mod entry;
mod extensions;
pub mod offer;
mod parts;
pub mod private;
mod read;
mod references;
mod rendered;
mod selection;
mod sharded;
pub mod shelf;
mod toolbox;
pub mod view;

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use proto::{
    Position,
    proxy::FieldError,
    resource::{CredentialResource, ProxyResource, Resource, UpstreamResource},
    upstream::{CatalogScope, Stdio, Transport},
};

pub use self::{
    entry::{TaskSupport, ToolEntry},
    offer::Offer,
    private::PrivateCatalog,
    shelf::Shelf,
    view::View,
};
use self::{parts::Parts, read::Read, selection::Selection};
use super::apply::Changed;
use crate::{
    auth::{Admission, Trust},
    session::SessionKeys,
};

/// Everything that a proxy knows, immutable. Requests hold an `Arc` of it from begin to end.
#[derive(Clone, Debug)]
pub struct Table {
    pub position: Position,
    /// Ids of enabled upstreams that are commands.
    commands: Arc<AHashSet<Box<str>>>,
    /// By id; disabled ones are here too.
    pub upstreams: Arc<AHashMap<Box<str>, Arc<UpstreamResource>>>,
    /// By id.
    pub credentials: Arc<AHashMap<Box<str>, Arc<CredentialResource>>>,
    everything: Arc<View>,
    /// Some enabled upstreams show each caller something else.
    is_private: bool,
    /// By id and by name; a name wins over an id.
    servers: Arc<AHashMap<Box<str>, Arc<View>>>,
    trust: Arc<Trust>,
    session_keys: SessionKeys,
    /// Most items of one page of a list; 0: lists have one page.
    pub page_size: usize,
    /// By id.
    proxies: Arc<AHashMap<Box<str>, Arc<ProxyResource>>>,
    /// Sessions that their clients have deleted, here or elsewhere.
    ended_sessions: Arc<AHashSet<[u8; 16]>>,
    read: Read,
    /// Ids of tools that servers have one by one.
    chosen: Arc<AHashSet<Box<str>>>,
}

impl Table {
    /// Compiles a whole configuration. The errors name every resource and field that is wrong.
    pub fn compile<'a>(
        resources: impl Iterator<Item = &'a Resource>,
        position: Position,
    ) -> Result<Self, Vec<FieldError>> {
        Self::compile_after(None, resources, position)
    }

    /// The same where another configuration went before, of which what is the same is kept.
    /// Resources come in the order of their keys: what [`Self::follow`]s is looked up in it.
    pub fn compile_after<'a>(
        before: Option<&Self>,
        resources: impl Iterator<Item = &'a Resource>,
        position: Position,
    ) -> Result<Self, Vec<FieldError>> {
        let before = before.map(|before| before.read.clone()).unwrap_or_default();
        let mut parts = Parts::sort(resources, &before);
        let read = Read::of(&parts);
        let mut errors = references::check(&parts);
        let trust =
            Trust::compile(parts.tokens.iter().copied(), parts.keys.iter().copied(), &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        parts.order();
        parts.offer_tasks();
        let session_keys = parts.session_keys();
        let ordered: Vec<_> = parts.upstreams.iter().map(|it| Arc::new((*it).clone())).collect();
        let selection = Selection::new(&ordered, &parts.tools, &parts.offers);
        let everything = Arc::new(selection.everything(&parts.tools));
        let mut servers = AHashMap::with_capacity(parts.servers.len() * 2);
        for server in &parts.servers {
            let view = Arc::new(selection.view(server));
            servers.entry(server.id.as_str().into()).or_insert_with(|| Arc::clone(&view));
            servers.insert(server.name.as_str().into(), view);
        }
        let chosen = parts.servers.iter().flat_map(|it| &it.tool_ids);
        let chosen: AHashSet<_> = chosen.map(|id| id.as_str().into()).collect();
        let upstreams: AHashMap<Box<str>, _> =
            ordered.iter().map(|it| (it.id.as_str().into(), Arc::clone(it))).collect();
        let credentials: AHashMap<_, _> = parts
            .credentials
            .iter()
            .map(|it| (it.id.as_str().into(), Arc::new((*it).clone())))
            .collect();
        let proxies = parts.proxies.iter();
        let proxies: AHashMap<_, _> =
            proxies.map(|it| (it.id.as_str().into(), Arc::new((*it).clone()))).collect();
        Ok(Self {
            position,
            commands: parts.commands().into(),
            is_private: ordered.iter().any(|it| is_private(it)),
            upstreams: upstreams.into(),
            credentials: credentials.into(),
            everything,
            servers: servers.into(),
            trust: trust.into(),
            session_keys,
            page_size: 0,
            proxies: proxies.into(),
            ended_sessions: parts.ended_sessions.into(),
            read,
            chosen: chosen.into(),
        })
    }

    /// What follows on `before`, the configuration that is active, by an update that `changed`
    /// this: what takes the work that the change is, where that is possible.
    pub fn follow(
        before: Option<&Self>,
        resources: &mut dyn Iterator<Item = &Resource>,
        position: &Position,
        changed: Changed<'_>,
    ) -> Result<Self, Vec<FieldError>> {
        let base = |since: &Position| before.filter(|before| before.position == *since);
        let followed = match changed {
            Changed::Anything => None,
            // Sessions are deleted all the time: that shall not cost what the rest is worth.
            Changed::EndedSessions(since) => {
                base(since).map(|base| base.with_ended(&mut *resources, position.clone()))
            }
            Changed::Only(since, differences) => {
                base(since).and_then(|base| base.with(differences, position))
            }
        };
        match followed {
            Some(table) => Ok(table),
            None => Self::compile_after(before, resources, position.clone()),
        }
    }

    /// The same configuration with the ended sessions of `resources`, which differ in nothing else.
    /// It shares all the rest.
    #[must_use]
    pub fn with_ended<'a>(
        &self,
        resources: impl Iterator<Item = &'a Resource>,
        position: Position,
    ) -> Self {
        let ended = resources.filter_map(|resource| {
            let Resource::EndedSessions(ended) = resource else { return None };
            Some(ended.sessions.iter().map(|session| session.id))
        });
        let ended: AHashSet<_> = ended.flatten().collect();
        Self { position, ended_sessions: ended.into(), ..self.clone() }
    }

    /// Whether some upstreams show each caller something else.
    pub fn is_private(&self) -> bool {
        self.is_private
    }

    /// Everything the caller may see, as `/mcp` serves it.
    pub fn everything(&self) -> &Arc<View> {
        &self.everything
    }

    /// A virtual server by name or id.
    pub fn server(&self, name_or_id: &str) -> Option<&Arc<View>> {
        self.servers.get(name_or_id)
    }

    pub fn upstream(&self, id: &str) -> Option<&Arc<UpstreamResource>> {
        self.upstreams.get(id)
    }

    /// Whether some upstreams are commands.
    pub fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// The way to run an upstream, if it is an enabled command.
    pub fn command(&self, upstream_id: &str) -> Option<&Stdio> {
        self.commands.get(upstream_id)?;
        match &self.upstreams.get(upstream_id)?.transport {
            Transport::Stdio(stdio) => Some(stdio),
            Transport::Http { .. } | Transport::Sse { .. } | Transport::WebSocket { .. } => None,
        }
    }

    pub fn credential(&self, id: &str) -> Option<&Arc<CredentialResource>> {
        self.credentials.get(id)
    }

    /// The same one where only sessions have ended since it was compiled, or tools have changed:
    /// neither touches keys, tokens or the ids of servers.
    pub fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// Says whom this proxy serves, where no control plane does.
    pub(crate) fn admit(&mut self, admission: Admission) {
        // Nobody else can hold what was just made.
        if let Some(trust) = Arc::get_mut(&mut self.trust) {
            trust.admission = admission;
        }
    }

    /// Passes on an upstream's instructions without a heading, since there is no other.
    pub(crate) fn instruct(&mut self, instructions: &str) {
        // Nobody else can hold a view that was just made.
        if let Some(view) = Arc::get_mut(&mut self.everything) {
            view.instructions = instructions.into();
        }
    }

    /// A proxy that may be trusted; one that is revoked is not here.
    pub fn proxy(&self, id: &str) -> Option<&Arc<ProxyResource>> {
        self.proxies.get(id)
    }

    /// Every proxy that may be trusted, in no order.
    pub fn proxies(&self) -> impl Iterator<Item = &Arc<ProxyResource>> {
        self.proxies.values()
    }

    /// Whether there are proxies besides this one.
    pub fn has_other_proxies(&self, own_id: &str) -> bool {
        self.proxies.keys().any(|id| **id != *own_id)
    }

    /// Whether a client has deleted this session.
    pub fn has_ended(&self, session: &[u8; 16]) -> bool {
        self.ended_sessions.contains(session)
    }

    pub fn session_keys(&self) -> &SessionKeys {
        &self.session_keys
    }
}

fn is_private(upstream: &UpstreamResource) -> bool {
    !upstream.disabled && upstream.catalog_scope == CatalogScope::Principal
}

#[cfg(test)]
pub(crate) mod tests;
