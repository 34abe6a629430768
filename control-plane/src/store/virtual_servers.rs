//! Virtual servers and their selections: row, conversion, queries.

use std::collections::BTreeMap;

use proto::{
    entry::{EntryKind, EntryReference},
    virtual_server::{Naming, VirtualServer},
};
use sqlx::{AnyConnection, any::AnyRow};

use super::{
    StoreError, entries,
    row::Row,
    values::{Disabled, big, list, select_in, state},
};

/// A virtual server with what only the inside needs to know.
#[derive(Clone, Debug)]
pub(crate) struct StoredServer {
    pub server: VirtualServer,
    pub upstream_ids: Vec<String>,
    /// Ids of the tools that are switched on.
    pub enabled_tool_ids: Vec<String>,
    /// The single prompts first, then the single resources, as `server` names them.
    pub entries: Vec<EntryReference>,
}

/// A virtual server by its two names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerName {
    pub id: String,
    pub name: String,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, title, description, naming, icon, state, tags, resource_version,
                 create_time_ms, update_time_ms
             FROM virtual_servers ",
            $rest
        )
    };
}

fn from_row(row: &AnyRow) -> Result<StoredServer, StoreError> {
    let row = Row::new("virtual_servers", row)?;
    let server = VirtualServer {
        id: row.id().to_owned(),
        name: row.parse("name")?,
        title: row.text("title")?,
        description: row.text("description")?,
        upstreams: Vec::new(),
        tools: Vec::new(),
        tool_ids: Vec::new(),
        prompts: Vec::new(),
        resources: Vec::new(),
        naming: row.word("naming", naming_of)?,
        icon: row.text("icon")?,
        disabled: row.disabled()?,
        tags: row.json("tags")?,
        resource_version: row.count("resource_version")?,
        create_time_ms: row.time("create_time_ms")?,
        update_time_ms: row.time("update_time_ms")?,
    };
    let (upstream_ids, enabled_tool_ids, entries) = (Vec::new(), Vec::new(), Vec::new());
    Ok(StoredServer { server, upstream_ids, enabled_tool_ids, entries })
}

fn naming_of(word: &str) -> Option<Naming> {
    [Naming::Prefix, Naming::Bare].into_iter().find(|naming| naming.as_str() == word)
}

/// Reads the selections of rows, in one query per kind for all of them.
async fn complete(
    connection: &mut AnyConnection,
    rows: Vec<AnyRow>,
) -> Result<Vec<StoredServer>, StoreError> {
    let mut servers: Vec<_> = rows.iter().map(from_row).collect::<Result<_, _>>()?;
    let ids: Vec<String> = servers.iter().map(|it| it.server.id.clone()).collect();
    let places: BTreeMap<&str, usize> =
        ids.iter().enumerate().map(|(place, id)| (id.as_str(), place)).collect();
    let upstreams = (
        "SELECT r.server_id, u.id, u.name FROM virtual_server_upstreams r
         JOIN upstreams u ON u.id = r.upstream_id WHERE r.server_id",
        "ORDER BY r.server_id, r.position",
    );
    for row in select_in(connection, upstreams, &ids).await? {
        let row = Row::new("virtual_server_upstreams", &row)?;
        let place = places.get(row.text("server_id")?.as_str()).copied();
        let Some(stored) = place.and_then(|place| servers.get_mut(place)) else { continue };
        stored.upstream_ids.push(row.id().to_owned());
        stored.server.upstreams.push(row.text("name")?);
    }
    let tools = (
        "SELECT r.server_id, t.id, t.name, t.state FROM virtual_server_tools r
         JOIN tools t ON t.id = r.tool_id WHERE t.gone_time_ms IS NULL AND r.server_id",
        "ORDER BY r.server_id, r.position",
    );
    for row in select_in(connection, tools, &ids).await? {
        let row = Row::new("virtual_server_tools", &row)?;
        let place = places.get(row.text("server_id")?.as_str()).copied();
        let Some(stored) = place.and_then(|place| servers.get_mut(place)) else { continue };
        stored.server.tool_ids.push(row.id().to_owned());
        stored.server.tools.push(row.text("name")?);
        if !row.disabled()? {
            stored.enabled_tool_ids.push(row.id().to_owned());
        }
    }
    let chosen = (
        "SELECT r.server_id, u.id, u.name AS upstream_name, r.kind, r.original, e.name
         FROM virtual_server_entries r JOIN upstreams u ON u.id = r.upstream_id
         LEFT JOIN catalog_entries e ON e.upstream_id = r.upstream_id AND e.kind = r.kind
             AND e.original = r.original
         WHERE r.server_id",
        "ORDER BY r.server_id, r.position",
    );
    for row in select_in(connection, chosen, &ids).await? {
        let row = Row::new("virtual_server_entries", &row)?;
        let place = places.get(row.text("server_id")?.as_str()).copied();
        let Some(stored) = place.and_then(|place| servers.get_mut(place)) else { continue };
        let (kind, original) = (row.word("kind", entries::kind_of)?, row.text("original")?);
        let qualified = entries::qualified(&row.text("upstream_name")?, &original);
        match kind {
            EntryKind::Prompt => {
                let name = row.optional_text("name")?;
                stored.server.prompts.push(name.unwrap_or(qualified));
            }
            EntryKind::Resource | EntryKind::ResourceTemplate => {
                stored.server.resources.push(qualified);
            }
        }
        stored.entries.push(EntryReference { upstream_id: row.id().to_owned(), kind, original });
    }
    Ok(servers)
}

/// The virtual server with this name, else with this id.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    name_or_id: &str,
) -> Result<Option<StoredServer>, StoreError> {
    let rows = sqlx::query(select!("WHERE name = $1 OR id = $2"))
        .bind(name_or_id)
        .bind(name_or_id)
        .fetch_all(&mut *connection)
        .await?;
    let found = complete(connection, rows).await?;
    let named = found.iter().find(|it| it.server.name.as_str() == name_or_id);
    Ok(named.or(found.first()).cloned())
}

/// At most `limit` virtual servers with ids after `after`, by id.
pub(crate) async fn page(
    connection: &mut AnyConnection,
    after: &str,
    limit: u64,
) -> Result<Vec<StoredServer>, StoreError> {
    let rows = sqlx::query(select!("WHERE id > $1 ORDER BY id LIMIT $2"))
        .bind(after)
        .bind(big(limit))
        .fetch_all(&mut *connection)
        .await?;
    complete(connection, rows).await
}

pub(crate) async fn by_ids(
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<Vec<StoredServer>, StoreError> {
    let rows = select_in(connection, (select!("WHERE id"), ""), ids).await?;
    complete(connection, rows).await
}

/// The virtual servers that select a whole upstream.
pub(crate) async fn users_of_upstream(
    connection: &mut AnyConnection,
    upstream_id: &str,
) -> Result<Vec<ServerName>, StoreError> {
    let rows = sqlx::query(
        "SELECT s.id, s.name FROM virtual_server_upstreams r
         JOIN virtual_servers s ON s.id = r.server_id WHERE r.upstream_id = $1 ORDER BY s.id",
    )
    .bind(upstream_id)
    .fetch_all(connection)
    .await?;
    rows.iter().map(server_name).collect()
}

/// The virtual servers that select single prompts or resources of an upstream.
pub(crate) async fn users_of_entries(
    connection: &mut AnyConnection,
    upstream_id: &str,
) -> Result<Vec<ServerName>, StoreError> {
    let rows = sqlx::query(
        "SELECT DISTINCT s.id, s.name FROM virtual_server_entries r
         JOIN virtual_servers s ON s.id = r.server_id WHERE r.upstream_id = $1 ORDER BY s.id",
    )
    .bind(upstream_id)
    .fetch_all(connection)
    .await?;
    rows.iter().map(server_name).collect()
}

/// The virtual servers that select one of these tools by itself.
pub(crate) async fn users_of_tools(
    connection: &mut AnyConnection,
    tool_ids: &[String],
) -> Result<Vec<ServerName>, StoreError> {
    let select = (
        "SELECT DISTINCT s.id, s.name FROM virtual_server_tools r
         JOIN virtual_servers s ON s.id = r.server_id WHERE r.tool_id",
        "ORDER BY s.id",
    );
    let rows = select_in(connection, select, tool_ids).await?;
    let mut users: Vec<_> = rows.iter().map(server_name).collect::<Result<_, _>>()?;
    users.sort_by(|a, b| a.id.cmp(&b.id));
    users.dedup();
    Ok(users)
}

fn server_name(row: &AnyRow) -> Result<ServerName, StoreError> {
    let row = Row::new("virtual_servers", row)?;
    Ok(ServerName { id: row.id().to_owned(), name: row.text("name")? })
}

/// Writes a new virtual server with its selection.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    stored: &StoredServer,
) -> Result<(), StoreError> {
    let server = &stored.server;
    sqlx::query(
        "INSERT INTO virtual_servers (id, name, title, description, naming, icon, state, tags,
             resource_version, create_time_ms, update_time_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(&server.id)
    .bind(server.name.as_str())
    .bind(&server.title)
    .bind(&server.description)
    .bind(server.naming.as_str())
    .bind(&server.icon)
    .bind(state(Disabled(server.disabled)))
    .bind(list(&server.tags))
    .bind(big(server.resource_version))
    .bind(server.create_time_ms)
    .bind(server.update_time_ms)
    .execute(&mut *connection)
    .await?;
    select_references(connection, stored).await
}

/// Writes a virtual server anew, with its selection.
pub(crate) async fn update(
    connection: &mut AnyConnection,
    stored: &StoredServer,
) -> Result<(), StoreError> {
    let server = &stored.server;
    sqlx::query(
        "UPDATE virtual_servers SET title = $1, description = $2, naming = $3, icon = $4,
             state = $5, tags = $6, resource_version = $7, update_time_ms = $8
         WHERE id = $9",
    )
    .bind(&server.title)
    .bind(&server.description)
    .bind(server.naming.as_str())
    .bind(&server.icon)
    .bind(state(Disabled(server.disabled)))
    .bind(list(&server.tags))
    .bind(big(server.resource_version))
    .bind(server.update_time_ms)
    .bind(&server.id)
    .execute(&mut *connection)
    .await?;
    for sql in [
        "DELETE FROM virtual_server_upstreams WHERE server_id = $1",
        "DELETE FROM virtual_server_tools WHERE server_id = $1",
        "DELETE FROM virtual_server_entries WHERE server_id = $1",
    ] {
        sqlx::query(sql).bind(&server.id).execute(&mut *connection).await?;
    }
    select_references(connection, stored).await
}

async fn select_references(
    connection: &mut AnyConnection,
    stored: &StoredServer,
) -> Result<(), StoreError> {
    let upstreams = "INSERT INTO virtual_server_upstreams (server_id, position, upstream_id)
                     VALUES ($1, $2, $3)";
    let tools = "INSERT INTO virtual_server_tools (server_id, position, tool_id)
                 VALUES ($1, $2, $3)";
    for (sql, ids) in [(upstreams, &stored.upstream_ids), (tools, &stored.server.tool_ids)] {
        for (position, id) in (0_i64..).zip(ids) {
            let query = sqlx::query(sql).bind(&stored.server.id).bind(position).bind(id);
            query.execute(&mut *connection).await?;
        }
    }
    for (position, entry) in (0_i64..).zip(&stored.entries) {
        let sql =
            "INSERT INTO virtual_server_entries (server_id, position, upstream_id, kind, original)
             VALUES ($1, $2, $3, $4, $5)";
        let query = sqlx::query(sql).bind(&stored.server.id).bind(position);
        let query = query.bind(&entry.upstream_id).bind(entry.kind.as_str()).bind(&entry.original);
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Deletes a virtual server and its selection.
pub(crate) async fn delete(connection: &mut AnyConnection, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM virtual_servers WHERE id = $1").bind(id).execute(connection).await?;
    Ok(())
}
