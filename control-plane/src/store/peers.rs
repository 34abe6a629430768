//! Rows of proxies that others may reach, and the sync resources that they are.

use std::collections::HashMap;

use proto::resource::{ProxyResource, Resource};
use sqlx::{AnyConnection, any::AnyRow};

use super::{StoreError, row::Row};

/// Writes a peer over what was known of it.
pub(crate) async fn put(
    connection: &mut AnyConnection,
    proxy: &ProxyResource,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO peers (id, peer_address, stdio, update_time_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE SET peer_address = excluded.peer_address,
             stdio = excluded.stdio, update_time_ms = excluded.update_time_ms",
    )
    .bind(&proxy.id)
    .bind(&proxy.peer_address)
    .bind(if proxy.stdio_host { "host" } else { "none" })
    .bind(now_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes a peer. False: there was none.
pub(crate) async fn remove(connection: &mut AnyConnection, id: &str) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM peers WHERE id = $1").bind(id).execute(connection).await?;
    Ok(done.rows_affected() > 0)
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<ProxyResource>, StoreError> {
    let row = sqlx::query("SELECT * FROM peers WHERE id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(peer).transpose()
}

/// Peers that nobody has seen since.
pub(crate) async fn unseen(
    connection: &mut AnyConnection,
    before_ms: i64,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT id FROM peers WHERE update_time_ms < $1
             AND id NOT IN (SELECT id FROM proxies WHERE last_seen_ms >= $2)
         ORDER BY id",
    )
    .bind(before_ms)
    .bind(before_ms)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(Row::new("peers", row)?.id().to_owned())).collect()
}

/// Every peer, as proxies are told.
pub(crate) async fn resources(connection: &mut AnyConnection) -> Result<Vec<Resource>, StoreError> {
    let rows = sqlx::query("SELECT * FROM peers ORDER BY id").fetch_all(connection).await?;
    rows.iter().map(|row| peer(row).map(Resource::Proxy)).collect()
}

/// Where each peer is reached, by its id.
pub(crate) async fn addresses(
    connection: &mut AnyConnection,
) -> Result<HashMap<String, String>, StoreError> {
    let rows = sqlx::query("SELECT * FROM peers").fetch_all(connection).await?;
    rows.iter().map(|row| peer(row).map(|peer| (peer.id, peer.peer_address))).collect()
}

/// One peer as proxies are told; none if it is gone, hence to be removed.
pub(crate) async fn resource(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Resource>, StoreError> {
    Ok(find(connection, id).await?.map(Resource::Proxy))
}

fn peer(row: &AnyRow) -> Result<ProxyResource, StoreError> {
    let row = Row::new("peers", row)?;
    Ok(ProxyResource {
        id: row.id().to_owned(),
        peer_address: row.text("peer_address")?,
        stdio_host: row.word("stdio", |word| match word {
            "host" => Some(true),
            "none" => Some(false),
            _ => None,
        })?,
    })
}
