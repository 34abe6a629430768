//! Proxies, tokens and the running system, as they are shown.

use proto::wire;
use serde::Serialize;

use super::time;
use crate::{failure::Detail, output::Row};

#[derive(Serialize)]
pub(crate) struct ProxyView {
    id: String,
    advertise_address: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    peer_address: String,
    version: String,
    connected: bool,
    applied_revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_revision: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rejected_errors: Vec<Detail>,
    last_seen: String,
    capabilities: Vec<String>,
    apply_ms: u32,
}

impl From<wire::Proxy> for ProxyView {
    fn from(proxy: wire::Proxy) -> Self {
        let detail = |error: wire::FieldError| Detail {
            field: format!("{} {}", error.resource, error.field),
            message: error.message,
        };
        Self {
            id: proxy.id,
            advertise_address: proxy.advertise_address,
            peer_address: proxy.peer_address,
            version: proxy.version,
            connected: proxy.connected,
            applied_revision: proxy.applied_revision,
            rejected_revision: Some(proxy.rejected_revision).filter(|revision| *revision != 0),
            rejected_errors: proxy.rejected_errors.into_iter().map(detail).collect(),
            last_seen: time(proxy.last_seen_ms),
            capabilities: proxy.capabilities,
            apply_ms: proxy.apply_ms,
        }
    }
}

impl Row for ProxyView {
    const HEADERS: &'static [&'static str] =
        &["ID", "ADDRESS", "PEER ADDRESS", "CONNECTED", "REVISION", "REJECTED", "LAST SEEN"];

    fn cells(&self) -> Vec<String> {
        let rejected = match (self.rejected_revision, self.rejected_errors.first()) {
            (None, _) => "-".to_owned(),
            (Some(revision), None) => revision.to_string(),
            (Some(revision), Some(error)) => {
                format!("{revision}: {}: {}", error.field, error.message)
            }
        };
        vec![
            self.id.clone(),
            self.advertise_address.clone(),
            if self.peer_address.is_empty() { "-" } else { &self.peer_address }.to_owned(),
            if self.connected { "yes" } else { "no" }.to_owned(),
            self.applied_revision.to_string(),
            rejected,
            self.last_seen.clone(),
        ]
    }

    fn name(&self) -> &str {
        &self.id
    }
}

#[derive(Serialize)]
pub(crate) struct TokenView {
    name: String,
    subject: String,
    role: &'static str,
    prefix: String,
    id: String,
    create_time: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    expire_time: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    revoke_time: String,
}

impl From<wire::Token> for TokenView {
    fn from(token: wire::Token) -> Self {
        let role = match token.role() {
            wire::Role::Unspecified | wire::Role::Caller => "caller",
            wire::Role::Admin => "admin",
        };
        Self {
            role,
            name: token.name,
            subject: token.subject,
            prefix: token.prefix,
            id: token.id,
            create_time: time(token.create_time_ms),
            expire_time: time(token.expire_time_ms),
            revoke_time: time(token.revoke_time_ms),
        }
    }
}

impl Row for TokenView {
    const HEADERS: &'static [&'static str] =
        &["NAME", "SUBJECT", "ROLE", "PREFIX", "EXPIRES", "REVOKED"];

    fn cells(&self) -> Vec<String> {
        let or = |text: &str, word: &str| if text.is_empty() { word.into() } else { text.into() };
        vec![
            self.name.clone(),
            self.subject.clone(),
            self.role.to_owned(),
            self.prefix.clone(),
            or(&self.expire_time, "never"),
            or(&self.revoke_time, "-"),
        ]
    }

    fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Serialize)]
pub(crate) struct StatusView {
    version: String,
    start_time: String,
    store_epoch: String,
    revision: u64,
    database: String,
    database_reachable: bool,
    upstreams: u32,
    upstreams_ready: u32,
    tools: u32,
    virtual_servers: u32,
    proxies_connected: u32,
}

impl From<wire::Status> for StatusView {
    fn from(status: wire::Status) -> Self {
        Self {
            version: status.version,
            start_time: time(status.start_time_ms),
            store_epoch: status.store_epoch,
            revision: status.revision,
            database: status.database,
            database_reachable: status.database_reachable,
            upstreams: status.upstreams,
            upstreams_ready: status.upstreams_ready,
            tools: status.tools,
            virtual_servers: status.virtual_servers,
            proxies_connected: status.proxies_connected,
        }
    }
}

impl StatusView {
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let reachable = if self.database_reachable { "" } else { " (not reachable)" };
        vec![
            ("version", self.version.clone()),
            ("running since", self.start_time.clone()),
            ("database", format!("{}{reachable}", self.database)),
            ("revision", self.revision.to_string()),
            ("upstreams", format!("{} ({} ready)", self.upstreams, self.upstreams_ready)),
            ("tools", self.tools.to_string()),
            ("servers", self.virtual_servers.to_string()),
            ("proxies", format!("{} connected", self.proxies_connected)),
        ]
    }
}
