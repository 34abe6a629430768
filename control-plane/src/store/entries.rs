//! Prompts, resources and resource templates of upstreams: row, conversion, queries.

use proto::entry::{CatalogEntry, Entry, EntryKind};
use sqlx::{AnyConnection, AssertSqlSafe, any::AnyRow};

use super::{
    StoreError,
    row::Row,
    tools::NameHolder,
    values::{CHUNK, big, list, places, select_in},
};

/// An entry with what only the inside needs to know.
#[derive(Clone, Debug)]
pub(crate) struct StoredEntry {
    pub entry: Entry,
    /// Vanished from its catalog: kept for its id and name only.
    pub is_gone: bool,
}

/// Which entries a page shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shelf {
    Prompts,
    /// Resources and templates together.
    Resources,
}

impl Shelf {
    fn kinds(self) -> [EntryKind; 2] {
        match self {
            Self::Prompts => [EntryKind::Prompt, EntryKind::Prompt],
            Self::Resources => [EntryKind::Resource, EntryKind::ResourceTemplate],
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT e.id, e.kind, e.upstream_id, e.original, e.name, e.definition, e.gone_time_ms,
                e.needs_client_capabilities, e.resource_version, e.create_time_ms,
                e.update_time_ms, u.name AS upstream_name
             FROM catalog_entries e JOIN upstreams u ON u.id = e.upstream_id ",
            $rest
        )
    };
}

impl StoredEntry {
    fn from_row(row: &AnyRow) -> Result<Self, StoreError> {
        let row = Row::new("catalog_entries", row)?;
        let name = match row.optional_text("name")? {
            None => None,
            Some(_) => Some(row.parse("name")?),
        };
        let offered = CatalogEntry {
            kind: row.word("kind", kind_of)?,
            original: row.text("original")?,
            definition: row.text("definition")?,
            needs_client_capabilities: row.json("needs_client_capabilities")?,
        };
        let entry = Entry {
            id: row.id().to_owned(),
            upstream_id: row.text("upstream_id")?,
            upstream: row.parse("upstream_name")?,
            name,
            offered,
            resource_version: row.count("resource_version")?,
            create_time_ms: row.time("create_time_ms")?,
            update_time_ms: row.time("update_time_ms")?,
        };
        Ok(Self { entry, is_gone: row.optional_time("gone_time_ms")?.is_some() })
    }
}

/// The kind with this word.
pub(super) fn kind_of(word: &str) -> Option<EntryKind> {
    EntryKind::ALL.into_iter().find(|kind| kind.as_str() == word)
}

/// How people name an entry of one upstream among those of all.
pub(crate) fn qualified(upstream: &str, original: &str) -> String {
    format!("{upstream}/{original}")
}

/// Those that a reference may mean: an id, an exposed name, what an upstream calls it, or that
/// after the upstream's name and a slash.
pub(crate) async fn meant(
    connection: &mut AnyConnection,
    shelf: Shelf,
    reference: &str,
) -> Result<Vec<StoredEntry>, StoreError> {
    let sql = select!(
        "WHERE (e.kind = $1 OR e.kind = $2) AND e.gone_time_ms IS NULL
         AND (e.id = $3 OR e.name = $4 OR e.original = $5 OR u.name || '/' || e.original = $6)
         ORDER BY e.id"
    );
    let [one, other] = shelf.kinds();
    let query = sqlx::query(sql).bind(one.as_str()).bind(other.as_str()).bind(reference);
    let query = query.bind(reference).bind(reference).bind(reference);
    query.fetch_all(connection).await?.iter().map(StoredEntry::from_row).collect()
}

/// At most `limit` entries with ids after `after`, by id.
pub(crate) async fn page(
    connection: &mut AnyConnection,
    shelf: Shelf,
    after: &str,
    limit: u64,
) -> Result<Vec<StoredEntry>, StoreError> {
    let sql = select!(
        "WHERE (e.kind = $1 OR e.kind = $2) AND e.id > $3 AND e.gone_time_ms IS NULL
         ORDER BY e.id LIMIT $4"
    );
    let [one, other] = shelf.kinds();
    let query = sqlx::query(sql).bind(one.as_str()).bind(other.as_str());
    let rows = query.bind(after).bind(big(limit)).fetch_all(connection).await?;
    rows.iter().map(StoredEntry::from_row).collect()
}

/// The same for one upstream.
pub(crate) async fn page_of_upstream(
    connection: &mut AnyConnection,
    (shelf, upstream_id): (Shelf, &str),
    after: &str,
    limit: u64,
) -> Result<Vec<StoredEntry>, StoreError> {
    let sql = select!(
        "WHERE e.upstream_id = $1 AND (e.kind = $2 OR e.kind = $3) AND e.id > $4
         AND e.gone_time_ms IS NULL ORDER BY e.id LIMIT $5"
    );
    let [one, other] = shelf.kinds();
    let query = sqlx::query(sql).bind(upstream_id).bind(one.as_str()).bind(other.as_str());
    let rows = query.bind(after).bind(big(limit)).fetch_all(connection).await?;
    rows.iter().map(StoredEntry::from_row).collect()
}

/// Everything that any upstream offers, by id.
pub(crate) async fn all(connection: &mut AnyConnection) -> Result<Vec<StoredEntry>, StoreError> {
    let sql = select!("WHERE e.gone_time_ms IS NULL ORDER BY e.id");
    sqlx::query(sql).fetch_all(connection).await?.iter().map(StoredEntry::from_row).collect()
}

/// Every entry that an upstream has or had, by id.
pub(crate) async fn of_upstream(
    connection: &mut AnyConnection,
    upstream_id: &str,
) -> Result<Vec<StoredEntry>, StoreError> {
    let sql = select!("WHERE e.upstream_id = $1 ORDER BY e.id");
    let rows = sqlx::query(sql).bind(upstream_id).fetch_all(connection).await?;
    rows.iter().map(StoredEntry::from_row).collect()
}

/// Those of the ids that are not gone.
pub(crate) async fn by_ids(
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<Vec<StoredEntry>, StoreError> {
    let rows = select_in(connection, (select!("WHERE e.id"), "AND e.gone_time_ms IS NULL"), ids);
    rows.await?.iter().map(StoredEntry::from_row).collect()
}

/// Who has which name of a prompt.
pub(crate) async fn all_holders(
    connection: &mut AnyConnection,
) -> Result<Vec<NameHolder>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, name, upstream_id, gone_time_ms FROM catalog_entries WHERE name IS NOT NULL",
    )
    .fetch_all(connection)
    .await?;
    let holders = rows.iter().map(|row| {
        let row = Row::new("catalog_entries", row)?;
        Ok(NameHolder {
            id: row.id().to_owned(),
            name: row.text("name")?,
            alias: None,
            upstream_id: row.optional_text("upstream_id")?,
            is_gone: row.optional_time("gone_time_ms")?.is_some(),
        })
    });
    holders.collect()
}

/// Writes new entries.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    entries: &[StoredEntry],
) -> Result<(), StoreError> {
    for chunk in entries.chunks(CHUNK) {
        let sql = format!(
            "INSERT INTO catalog_entries (id, kind, upstream_id, original, name, definition,
                 needs_client_capabilities, resource_version, create_time_ms, update_time_ms)
             VALUES {}",
            places(chunk.len(), 10)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for StoredEntry { entry, is_gone: _ } in chunk {
            let CatalogEntry { kind, original, definition, needs_client_capabilities } =
                &entry.offered;
            query = query
                .bind(&entry.id)
                .bind(kind.as_str())
                .bind(&entry.upstream_id)
                .bind(original)
                .bind(entry.name.as_ref().map(AsRef::as_ref))
                .bind(definition)
                .bind(list(needs_client_capabilities))
                .bind(big(entry.resource_version))
                .bind(entry.create_time_ms)
                .bind(entry.update_time_ms);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Writes what its upstream may change; it is no longer gone.
pub(crate) async fn update(
    connection: &mut AnyConnection,
    StoredEntry { entry, is_gone: _ }: &StoredEntry,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE catalog_entries SET definition = $1, gone_time_ms = NULL,
             needs_client_capabilities = $2, resource_version = $3, update_time_ms = $4
         WHERE id = $5",
    )
    .bind(&entry.offered.definition)
    .bind(list(&entry.offered.needs_client_capabilities))
    .bind(big(entry.resource_version))
    .bind(entry.update_time_ms)
    .bind(&entry.id)
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
    sqlx::query("UPDATE catalog_entries SET gone_time_ms = $1 WHERE id = $2")
        .bind(now_ms)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn delete(connection: &mut AnyConnection, id: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM catalog_entries WHERE id = $1";
    sqlx::query(sql).bind(id).execute(connection).await?;
    Ok(())
}

/// Deletes everything that an upstream has or had.
pub(crate) async fn delete_of_upstream(
    connection: &mut AnyConnection,
    upstream_id: &str,
) -> Result<(), StoreError> {
    let sql = "DELETE FROM catalog_entries WHERE upstream_id = $1";
    sqlx::query(sql).bind(upstream_id).execute(connection).await?;
    Ok(())
}
