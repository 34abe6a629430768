//! A configuration's resources, sorted by kind and put in order.

use std::sync::Arc;

use ahash::AHashSet;
use proto::{
    entry::EntryResource,
    resource::{
        CredentialResource, Key, KeyResource, ProxyResource, Resource, TokenResource, ToolResource,
        UpstreamResource, VirtualServerResource,
    },
    upstream::Transport,
};

use super::{
    earlier::Earlier,
    entry::{self, ToolEntry},
    offer::{self, Offer},
    read::Read,
    shelf,
};
use crate::{mcp::feature::Feature, session::SessionKeys};

/// Resources sorted by kind.
#[derive(Default)]
pub(super) struct Parts<'a> {
    pub(super) upstreams: Vec<&'a UpstreamResource>,
    pub(super) tools: Vec<Arc<ToolEntry>>,
    /// Those that were left out included.
    pub(super) tool_ids: AHashSet<&'a str>,
    pub(super) offers: Vec<Arc<Offer>>,
    pub(super) servers: Vec<&'a VirtualServerResource>,
    pub(super) tokens: Vec<&'a TokenResource>,
    pub(super) keys: Vec<&'a KeyResource>,
    pub(super) credentials: Vec<&'a CredentialResource>,
    pub(super) proxies: Vec<&'a ProxyResource>,
    pub(super) ended_sessions: AHashSet<[u8; 16]>,
}

impl<'a> Parts<'a> {
    pub(super) fn sort(resources: impl Iterator<Item = &'a Resource>, before: &Read) -> Self {
        let mut parts = Self::default();
        let mut tools = Earlier::new(before.tools.iter(), ToolEntry::key);
        let mut offers = Earlier::new(before.offers.iter(), Offer::key);
        for resource in resources {
            match resource {
                Resource::Upstream(upstream) => parts.upstreams.push(upstream),
                Resource::Tool(tool) => parts.tool(tool, tools.of(entry::key_of(tool))),
                Resource::Entry(entry) => parts.entry(entry, offers.of(offer::key_of(entry))),
                Resource::VirtualServer(server) => parts.servers.push(server),
                Resource::Token(token) => parts.tokens.push(token),
                Resource::Key(key) => parts.keys.push(key),
                Resource::Credential(credential) => parts.credentials.push(credential),
                Resource::Proxy(proxy) => parts.proxies.push(proxy),
                Resource::EndedSessions(ended) => {
                    parts.ended_sessions.extend(ended.sessions.iter().map(|session| session.id));
                }
            }
        }
        parts
    }

    fn tool(&mut self, tool: &'a ToolResource, before: Option<&Arc<ToolEntry>>) {
        self.tool_ids.insert(&tool.id);
        if let Some(same) = before.filter(|before| before.is_of(tool)) {
            return self.tools.push(Arc::clone(same));
        }
        match ToolEntry::read(tool) {
            Ok(entry) => self.tools.push(Arc::new(entry)),
            // Clients must not see such a tool; the others are not its hostages.
            Err(problem) => {
                tracing::warn!(tool = tool.name, "tool left out: its definition {problem}");
            }
        }
    }

    fn entry(&mut self, entry: &'a EntryResource, before: Option<&Arc<Offer>>) {
        if let Some(same) = before.filter(|before| before.is_of(entry)) {
            return self.offers.push(Arc::clone(same));
        }
        match Offer::read(entry) {
            Ok(offer) => self.offers.push(Arc::new(offer)),
            Err(problem) => {
                let (kind, original) = (entry.kind.as_str(), &entry.original);
                tracing::warn!(kind, original, "left out: its definition {problem}");
            }
        }
    }

    /// The order of everything that is shown depends on names only, not on arrival.
    pub(super) fn order(&mut self) {
        self.upstreams.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
        self.tools.sort_by(|a, b| a.order().cmp(&b.order()));
        self.offers.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.id.cmp(&b.id)));
        self.servers.sort_by(|a, b| a.name.cmp(&b.name));
        // Newest first; ids settle ties so that all proxies seal with the same key.
        self.keys
            .sort_by(|a, b| b.create_time_ms.cmp(&a.create_time_ms).then_with(|| b.id.cmp(&a.id)));
    }

    /// Tools of modern upstreams with tasks can be tasks for legacy clients.
    pub(super) fn offer_tasks(&mut self) {
        let has_them =
            |it: &&&UpstreamResource| shelf::features_of(it).has(Feature::TasksExtension);
        let ids: AHashSet<_> = self.upstreams.iter().filter(has_them).map(|it| &*it.id).collect();
        let is_of = |tool: &ToolEntry| tool.upstream_id().is_some_and(|id| ids.contains(id));
        for tool in self.tools.iter_mut().filter(|tool| is_of(tool)) {
            Arc::make_mut(tool).definition.offer_tasks();
        }
    }

    pub(super) fn commands(&self) -> AHashSet<Box<str>> {
        let is_command =
            |it: &&&UpstreamResource| !it.disabled && matches!(it.transport, Transport::Stdio(_));
        self.upstreams.iter().filter(is_command).map(|it| it.id.as_str().into()).collect()
    }

    pub(super) fn session_keys(&self) -> SessionKeys {
        SessionKeys::new(self.keys.iter().filter_map(|key| match &key.key {
            Key::Session(secret) => Some(secret),
            Key::JwtHs256(_) | Key::JwtEdDsa(_) | Key::Basic { .. } => None,
        }))
    }
}
