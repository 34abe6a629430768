//! Rows of the keys that proxies are given: sealed, opened only for them.

use sqlx::{AnyConnection, any::AnyRow};

use super::{StoreError, row::Row};

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) id: String,
    /// The encoded sync resource, sealed under `key/ID`.
    pub(crate) sealed: String,
    pub(crate) create_time_ms: i64,
}

/// Adds a key, or puts it in the place of one with its id.
pub(crate) async fn put(connection: &mut AnyConnection, key: &KeyRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO keys (id, sealed, create_time_ms) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed,
             create_time_ms = excluded.create_time_ms",
    )
    .bind(&key.id)
    .bind(&key.sealed)
    .bind(key.create_time_ms)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn remove(connection: &mut AnyConnection, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM keys WHERE id = $1").bind(id).execute(connection).await?;
    Ok(())
}

/// Every key, by id.
pub(crate) async fn all(connection: &mut AnyConnection) -> Result<Vec<KeyRow>, StoreError> {
    let rows = sqlx::query("SELECT * FROM keys ORDER BY id").fetch_all(connection).await?;
    rows.iter().map(key).collect()
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<KeyRow>, StoreError> {
    let row =
        sqlx::query("SELECT * FROM keys WHERE id = $1").bind(id).fetch_optional(connection).await?;
    row.as_ref().map(key).transpose()
}

fn key(row: &AnyRow) -> Result<KeyRow, StoreError> {
    let row = Row::new("keys", row)?;
    Ok(KeyRow {
        id: row.id().to_owned(),
        sealed: row.text("sealed")?,
        create_time_ms: row.time("create_time_ms")?,
    })
}
