//! Upstreams: row, conversion, queries. What is known of them: `discoveries.rs`.

use std::collections::BTreeMap;

use proto::{
    Era, Invalid,
    upstream::{
        CatalogScope, FailureReason, Phase, Stdio, StdioMode, Transport, Upstream, UpstreamStatus,
    },
    wire,
};
use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, any::AnyRow};

use super::{
    StoreError, credentials,
    row::Row,
    values::{Disabled, big, list, select_in, state},
};

/// An upstream with what only the inside needs to know.
#[derive(Clone, Debug)]
pub(crate) struct StoredUpstream {
    pub upstream: Upstream,
    pub credential_id: Option<String>,
    pub instructions: String,
    /// What it offers, JSON text; empty until it was discovered.
    pub capabilities: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum StoredTransport {
    Http {
        url: String,
    },
    Sse {
        url: String,
    },
    WebSocket {
        url: String,
    },
    Stdio {
        command: String,
        args: Vec<String>,
        env: BTreeMap<String, String>,
        working_directory: String,
        /// Not there in what was stored before it could be chosen.
        #[serde(default)]
        mode: StoredMode,
    },
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StoredMode {
    #[default]
    Shared,
    PerSession,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT u.id, u.name, u.title, u.description, u.transport, u.catalog_scope,
                u.credential_id, u.state, u.tags, u.resource_version, u.create_time_ms,
                u.update_time_ms, d.phase, d.reason, d.message, d.era, d.protocol_version,
                d.instructions, d.capabilities, d.discovered_time_ms, d.checked_time_ms, d.generation, d.notices,
                c.kind AS credential_kind, c.names AS credential_names,
                c.fingerprint AS credential_fingerprint,
                (SELECT COUNT(*) FROM tools t
                 WHERE t.upstream_id = u.id AND t.gone_time_ms IS NULL) AS tool_count,
                (SELECT COUNT(*) FROM catalog_entries e WHERE e.upstream_id = u.id
                 AND e.kind = 'prompt' AND e.gone_time_ms IS NULL) AS prompt_count,
                (SELECT COUNT(*) FROM catalog_entries e WHERE e.upstream_id = u.id
                 AND e.kind = 'resource') AS resource_count,
                (SELECT COUNT(*) FROM catalog_entries e WHERE e.upstream_id = u.id
                 AND e.kind = 'resource-template') AS resource_template_count
             FROM upstreams u
             JOIN discoveries d ON d.upstream_id = u.id
             LEFT JOIN credentials c ON c.id = u.credential_id ",
            $rest
        )
    };
}

impl StoredUpstream {
    fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        let row = Row::new("upstreams", row)?;
        let transport: StoredTransport = row.json("transport")?;
        let upstream = Upstream {
            id: row.id().to_owned(),
            name: row.parse("name")?,
            title: row.text("title")?,
            description: row.text("description")?,
            transport: transport
                .try_into()
                .map_err(|error: Invalid| row.corrupt("transport", error))?,
            credential: credentials::summary(&row)?,
            catalog_scope: row.word("catalog_scope", scope_of)?,
            disabled: row.disabled()?,
            tags: row.json("tags")?,
            status: status(&Row::of("discoveries", row.id(), row.columns()))?,
            resource_version: row.count("resource_version")?,
            create_time_ms: row.time("create_time_ms")?,
            update_time_ms: row.time("update_time_ms")?,
        };
        Ok(Self {
            upstream,
            credential_id: row.optional_text("credential_id")?,
            instructions: row.text("instructions")?,
            capabilities: row.text("capabilities")?,
        })
    }
}

fn status(row: &Row<'_>) -> Result<UpstreamStatus, StoreError> {
    let few = |column| Ok::<_, StoreError>(u32::try_from(row.count(column)?).unwrap_or(u32::MAX));
    let reason = match row.optional_text("reason")? {
        None => None,
        Some(_) => Some(row.word("reason", reason_of)?),
    };
    let era = match row.optional_text("era")? {
        None => None,
        Some(_) => Some(row.word("era", era_of)?),
    };
    Ok(UpstreamStatus {
        phase: row.word("phase", phase_of)?,
        reason,
        message: row.text("message")?,
        era,
        protocol_version: row.text("protocol_version")?,
        tool_count: few("tool_count")?,
        prompt_count: few("prompt_count")?,
        resource_count: few("resource_count")?,
        resource_template_count: few("resource_template_count")?,
        discovered_time_ms: row.time("discovered_time_ms")?,
        checked_time_ms: row.time("checked_time_ms")?,
        discovery_generation: row.count("generation")?,
        notices: row.json("notices")?,
    })
}

pub(super) fn phase_of(word: &str) -> Option<Phase> {
    [Phase::Pending, Phase::Ready, Phase::Failed, Phase::Disabled]
        .into_iter()
        .find(|phase| phase.as_str() == word)
}

pub(super) fn reason_of(word: &str) -> Option<FailureReason> {
    FailureReason::ALL.into_iter().find(|reason| reason.as_str() == word)
}

fn era_of(word: &str) -> Option<Era> {
    [Era::Legacy, Era::Modern].into_iter().find(|era| era.as_str() == word)
}

fn scope_of(word: &str) -> Option<CatalogScope> {
    [CatalogScope::Shared, CatalogScope::Principal]
        .into_iter()
        .find(|scope| scope_word(*scope) == word)
}

fn scope_word(scope: CatalogScope) -> &'static str {
    match scope {
        CatalogScope::Shared => "shared",
        CatalogScope::Principal => "principal",
    }
}

impl From<&Transport> for StoredTransport {
    fn from(transport: &Transport) -> Self {
        match transport.clone() {
            Transport::Http { url } => Self::Http { url: url.into() },
            Transport::Sse { url } => Self::Sse { url: url.into() },
            Transport::WebSocket { url } => Self::WebSocket { url: url.into() },
            Transport::Stdio(Stdio { command, args, env, working_directory, mode }) => {
                let mode = match mode {
                    StdioMode::Shared => StoredMode::Shared,
                    StdioMode::PerSession => StoredMode::PerSession,
                };
                Self::Stdio { command, args, env, working_directory, mode }
            }
        }
    }
}

impl TryFrom<StoredTransport> for Transport {
    type Error = Invalid;

    fn try_from(transport: StoredTransport) -> Result<Self, Invalid> {
        match transport {
            StoredTransport::Http { url } => wire::HttpTransport { url }.try_into(),
            StoredTransport::Sse { url } => wire::SseTransport { url }.try_into(),
            StoredTransport::WebSocket { url } => wire::WebSocketTransport { url }.try_into(),
            StoredTransport::Stdio { command, args, env, working_directory, mode } => {
                let mode = match mode {
                    StoredMode::Shared => wire::StdioMode::Shared,
                    StoredMode::PerSession => wire::StdioMode::PerSession,
                };
                let mode = mode.into();
                wire::StdioTransport { command, args, env, working_directory, mode }.try_into()
            }
        }
    }
}

/// A transport as JSON text.
pub(crate) fn transport_text(transport: &Transport) -> String {
    // Texts, lists and maps of texts always serialize.
    serde_json::to_string(&StoredTransport::from(transport)).unwrap_or_default()
}

/// The upstream with this name, else with this id.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    name_or_id: &str,
) -> Result<Option<StoredUpstream>, StoreError> {
    let rows = sqlx::query(select!("WHERE u.name = $1 OR u.id = $2"))
        .bind(name_or_id)
        .bind(name_or_id)
        .fetch_all(connection)
        .await?;
    let found: Vec<_> = rows.iter().map(StoredUpstream::from_row).collect::<Result<_, _>>()?;
    let named = found.iter().find(|it| it.upstream.name.as_str() == name_or_id);
    Ok(named.or(found.first()).cloned())
}

/// At most `limit` upstreams with ids after `after`, by id.
pub(crate) async fn page(
    connection: &mut AnyConnection,
    after: &str,
    limit: u64,
) -> Result<Vec<StoredUpstream>, StoreError> {
    let rows = sqlx::query(select!("WHERE u.id > $1 ORDER BY u.id LIMIT $2"))
        .bind(after)
        .bind(big(limit))
        .fetch_all(connection)
        .await?;
    rows.iter().map(StoredUpstream::from_row).collect()
}

pub(crate) async fn by_ids(
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<Vec<StoredUpstream>, StoreError> {
    let rows = select_in(connection, (select!("WHERE u.id"), ""), ids).await?;
    rows.iter().map(StoredUpstream::from_row).collect()
}

/// Writes a new upstream; its discovery is started separately.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    upstream: &Upstream,
    credential_id: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO upstreams (id, name, title, description, transport, catalog_scope,
             credential_id, state, tags, resource_version, create_time_ms, update_time_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(&upstream.id)
    .bind(upstream.name.as_str())
    .bind(&upstream.title)
    .bind(&upstream.description)
    .bind(transport_text(&upstream.transport))
    .bind(scope_word(upstream.catalog_scope))
    .bind(credential_id)
    .bind(state(Disabled(upstream.disabled)))
    .bind(list(&upstream.tags))
    .bind(big(upstream.resource_version))
    .bind(upstream.create_time_ms)
    .bind(upstream.update_time_ms)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn update(
    connection: &mut AnyConnection,
    upstream: &Upstream,
    credential_id: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE upstreams SET title = $1, description = $2, transport = $3, catalog_scope = $4,
             credential_id = $5, state = $6, tags = $7, resource_version = $8, update_time_ms = $9
         WHERE id = $10",
    )
    .bind(&upstream.title)
    .bind(&upstream.description)
    .bind(transport_text(&upstream.transport))
    .bind(scope_word(upstream.catalog_scope))
    .bind(credential_id)
    .bind(state(Disabled(upstream.disabled)))
    .bind(list(&upstream.tags))
    .bind(big(upstream.resource_version))
    .bind(upstream.update_time_ms)
    .bind(&upstream.id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes an upstream whose tools and discovery are gone already.
pub(crate) async fn delete(connection: &mut AnyConnection, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM upstreams WHERE id = $1").bind(id).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_survive_their_text() {
        let stdio = Transport::Stdio(Stdio {
            command: "uvx".to_owned(),
            args: vec!["mcp-server-time".to_owned()],
            env: BTreeMap::from([("TZ".to_owned(), "UTC".to_owned())]),
            working_directory: String::new(),
            mode: StdioMode::PerSession,
        });
        let http = Transport::Http { url: "http://127.0.0.1:3001/mcp".parse().unwrap() };
        let sse = Transport::Sse { url: "http://127.0.0.1:3001/sse".parse().unwrap() };
        let websocket = Transport::WebSocket { url: "ws://127.0.0.1:3001/ws".parse().unwrap() };
        for transport in [stdio, http, sse, websocket] {
            let text = transport_text(&transport);
            let stored: StoredTransport = serde_json::from_str(&text).unwrap();
            assert_eq!(Transport::try_from(stored).unwrap(), transport);
        }
    }
}
