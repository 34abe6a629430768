//! Tools, authored and discovered: row, conversion, queries.

use std::collections::BTreeMap;

use proto::{
    Invalid, RestBinding,
    tool::{Tool, ToolSource},
    wire,
};
use serde::{Deserialize, Serialize};
use sqlx::{AnyConnection, AssertSqlSafe, any::AnyRow};

use super::{
    StoreError, credentials,
    row::Row,
    values::{CHUNK, Disabled, big, list, places, select_in, state},
};

/// A tool with what only the inside needs to know.
#[derive(Clone, Debug)]
pub(crate) struct StoredTool {
    pub tool: Tool,
    pub credential_id: Option<String>,
    /// A further name, ContextForge's.
    pub alias: Option<String>,
    /// Vanished from its catalog: kept for its id and name only.
    pub is_gone: bool,
}

/// Who has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameHolder {
    pub id: String,
    pub name: String,
    pub alias: Option<String>,
    pub upstream_id: Option<String>,
    pub is_gone: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredRest {
    url: String,
    method: String,
    headers: BTreeMap<String, String>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.name, t.alias, t.upstream_id, t.original_name, t.definition, t.rest,
                t.credential_id, t.state, t.gone_time_ms, t.tags, t.needs_client_capabilities,
                t.resource_version, t.create_time_ms, t.update_time_ms,
                u.name AS upstream_name, c.kind AS credential_kind, c.names AS credential_names,
                c.fingerprint AS credential_fingerprint
             FROM tools t
             LEFT JOIN upstreams u ON u.id = t.upstream_id
             LEFT JOIN credentials c ON c.id = t.credential_id ",
            $rest
        )
    };
}

impl StoredTool {
    fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        let row = Row::new("tools", row)?;
        let tool = Tool {
            id: row.id().to_owned(),
            name: row.parse("name")?,
            source: source(&row)?,
            definition: row.text("definition")?,
            credential: credentials::summary(&row)?,
            disabled: row.disabled()?,
            tags: row.json("tags")?,
            needs_client_capabilities: row.json("needs_client_capabilities")?,
            resource_version: row.count("resource_version")?,
            create_time_ms: row.time("create_time_ms")?,
            update_time_ms: row.time("update_time_ms")?,
        };
        Ok(Self {
            tool,
            credential_id: row.optional_text("credential_id")?,
            alias: row.optional_text("alias")?,
            is_gone: row.optional_time("gone_time_ms")?.is_some(),
        })
    }

    /// The owner part of its resource key: the upstream's id.
    #[cfg(test)]
    pub(crate) fn owner(&self) -> &str {
        match &self.tool.source {
            ToolSource::Upstream { id, .. } => id,
            ToolSource::Rest(_) => "",
        }
    }

    /// Its name where no prefix is wanted.
    pub(crate) fn bare_name(&self) -> &str {
        match &self.tool.source {
            ToolSource::Upstream { original_name, .. } => original_name,
            ToolSource::Rest(_) => self.tool.name.as_str(),
        }
    }
}

fn source(row: &Row<'_>) -> Result<ToolSource, StoreError> {
    if let Some(id) = row.optional_text("upstream_id")? {
        let name = row.parse("upstream_name")?;
        return Ok(ToolSource::Upstream { id, name, original_name: row.text("original_name")? });
    }
    let StoredRest { url, method, headers } = row.json("rest")?;
    wire::RestBinding { url, method, headers }
        .try_into()
        .map(ToolSource::Rest)
        .map_err(|error: Invalid| row.corrupt("rest", error))
}

/// A REST binding as JSON text.
pub(crate) fn rest_text(binding: &RestBinding) -> String {
    let RestBinding { url, method, headers } = binding.clone();
    let stored = StoredRest { url, method: method.as_str().to_owned(), headers };
    // Texts and maps of texts always serialize.
    serde_json::to_string(&stored).unwrap_or_default()
}

/// The tool with this name, else with this id, else with this alias.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    name_or_id: &str,
) -> Result<Option<StoredTool>, StoreError> {
    let sql =
        select!("WHERE (t.name = $1 OR t.id = $2 OR t.alias = $3) AND t.gone_time_ms IS NULL");
    let query = sqlx::query(sql).bind(name_or_id).bind(name_or_id).bind(name_or_id);
    let rows = query.fetch_all(connection).await?;
    let found: Vec<_> = rows.iter().map(StoredTool::from_row).collect::<Result<_, _>>()?;
    let named = found.iter().find(|it| it.tool.name.as_str() == name_or_id);
    let same_id = || found.iter().find(|it| it.tool.id == name_or_id);
    Ok(named.or_else(same_id).or(found.first()).cloned())
}

/// At most `limit` tools with ids after `after`, by id.
pub(crate) async fn page(
    connection: &mut AnyConnection,
    after: &str,
    limit: u64,
) -> Result<Vec<StoredTool>, StoreError> {
    let sql = select!("WHERE t.id > $1 AND t.gone_time_ms IS NULL ORDER BY t.id LIMIT $2");
    let rows = sqlx::query(sql).bind(after).bind(big(limit)).fetch_all(connection).await?;
    rows.iter().map(StoredTool::from_row).collect()
}

/// The same for one upstream.
pub(crate) async fn page_of_upstream(
    connection: &mut AnyConnection,
    upstream_id: &str,
    after: &str,
    limit: u64,
) -> Result<Vec<StoredTool>, StoreError> {
    let sql = select!(
        "WHERE t.upstream_id = $1 AND t.id > $2 AND t.gone_time_ms IS NULL ORDER BY t.id LIMIT $3"
    );
    let query = sqlx::query(sql).bind(upstream_id).bind(after).bind(big(limit));
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(StoredTool::from_row).collect()
}

/// Every tool that an upstream has or had, by id.
pub(crate) async fn of_upstream(
    connection: &mut AnyConnection,
    upstream_id: &str,
) -> Result<Vec<StoredTool>, StoreError> {
    let sql = select!("WHERE t.upstream_id = $1 ORDER BY t.id");
    let rows = sqlx::query(sql).bind(upstream_id).fetch_all(connection).await?;
    rows.iter().map(StoredTool::from_row).collect()
}

/// Those of the ids that are not gone.
pub(crate) async fn by_ids(
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<Vec<StoredTool>, StoreError> {
    let rows = select_in(connection, (select!("WHERE t.id"), "AND t.gone_time_ms IS NULL"), ids);
    rows.await?.iter().map(StoredTool::from_row).collect()
}

/// Who has one of two names, as name or alias.
pub(crate) async fn holders(
    connection: &mut AnyConnection,
    name: &str,
    alias: &str,
) -> Result<Vec<NameHolder>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, name, alias, upstream_id, gone_time_ms FROM tools
         WHERE name = $1 OR name = $2 OR alias = $3 OR alias = $4",
    )
    .bind(name)
    .bind(alias)
    .bind(name)
    .bind(alias)
    .fetch_all(connection)
    .await?;
    rows.iter().map(holder).collect()
}

/// Who has which name, for planning a whole catalog.
pub(crate) async fn all_holders(
    connection: &mut AnyConnection,
) -> Result<Vec<NameHolder>, StoreError> {
    let sql = "SELECT id, name, alias, upstream_id, gone_time_ms FROM tools";
    sqlx::query(sql).fetch_all(connection).await?.iter().map(holder).collect()
}

fn holder(row: &AnyRow) -> Result<NameHolder, StoreError> {
    let row = Row::new("tools", row)?;
    Ok(NameHolder {
        id: row.id().to_owned(),
        name: row.text("name")?,
        alias: row.optional_text("alias")?,
        upstream_id: row.optional_text("upstream_id")?,
        is_gone: row.optional_time("gone_time_ms")?.is_some(),
    })
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    tools: &[StoredTool],
) -> Result<(), StoreError> {
    for chunk in tools.chunks(CHUNK) {
        let sql = format!(
            "INSERT INTO tools (id, name, alias, upstream_id, original_name, definition, rest,
                 credential_id, state, tags, needs_client_capabilities, resource_version,
                 create_time_ms, update_time_ms) VALUES {}",
            places(chunk.len(), 14)
        );
        let query = chunk.iter().fold(sqlx::query(AssertSqlSafe(sql)), bind);
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>;

fn bind<'q>(query: Query<'q>, stored: &'q StoredTool) -> Query<'q> {
    let StoredTool { tool, credential_id, alias, is_gone: _ } = stored;
    let (upstream_id, original_name, rest) = match &tool.source {
        ToolSource::Upstream { id, name: _, original_name } => {
            (Some(id), Some(original_name), None)
        }
        ToolSource::Rest(binding) => (None, None, Some(rest_text(binding))),
    };
    query
        .bind(&tool.id)
        .bind(tool.name.as_str())
        .bind(alias.as_deref())
        .bind(upstream_id.map(String::as_str))
        .bind(original_name.map(String::as_str))
        .bind(&tool.definition)
        .bind(rest)
        .bind(credential_id.as_deref())
        .bind(state(Disabled(tool.disabled)))
        .bind(list(&tool.tags))
        .bind(list(&tool.needs_client_capabilities))
        .bind(big(tool.resource_version))
        .bind(tool.create_time_ms)
        .bind(tool.update_time_ms)
}

/// Writes everything but name, alias and origin; it is no longer gone.
pub(crate) async fn update(
    connection: &mut AnyConnection,
    stored: &StoredTool,
) -> Result<(), StoreError> {
    let StoredTool { tool, credential_id, alias: _, is_gone: _ } = stored;
    let rest = match &tool.source {
        ToolSource::Upstream { .. } => None,
        ToolSource::Rest(binding) => Some(rest_text(binding)),
    };
    sqlx::query(
        "UPDATE tools SET definition = $1, rest = $2, credential_id = $3, state = $4,
             gone_time_ms = NULL, tags = $5, needs_client_capabilities = $6,
             resource_version = $7, update_time_ms = $8
         WHERE id = $9",
    )
    .bind(&tool.definition)
    .bind(rest)
    .bind(credential_id.as_deref())
    .bind(state(Disabled(tool.disabled)))
    .bind(list(&tool.tags))
    .bind(list(&tool.needs_client_capabilities))
    .bind(big(tool.resource_version))
    .bind(tool.update_time_ms)
    .bind(&tool.id)
    .execute(connection)
    .await?;
    Ok(())
}

/// It is no longer in its catalog.
pub(crate) async fn set_gone(
    connection: &mut AnyConnection,
    id: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE tools SET gone_time_ms = $1 WHERE id = $2")
        .bind(now_ms)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Another tool has this as its name now.
pub(crate) async fn drop_alias(connection: &mut AnyConnection, id: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE tools SET alias = NULL WHERE id = $1").bind(id).execute(connection).await?;
    Ok(())
}

/// Deletes a tool; it leaves every selection.
pub(crate) async fn delete(connection: &mut AnyConnection, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM tools WHERE id = $1").bind(id).execute(connection).await?;
    Ok(())
}

/// Deletes every tool that an upstream has or had.
pub(crate) async fn delete_of_upstream(
    connection: &mut AnyConnection,
    upstream_id: &str,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM tools WHERE upstream_id = $1";
    sqlx::query(sql).bind(upstream_id).execute(connection).await?;
    Ok(())
}
