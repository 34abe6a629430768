//! Proxies, as they last reported: row, conversion, queries.

use proto::{Position, proxy::Proxy};
use sqlx::{AnyConnection, any::AnyRow};

use super::{
    StoreError,
    row::Row,
    values::{big, list},
};

/// A proxy with what only the inside needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredProxy {
    pub(crate) proxy: Proxy,
    /// What it refused in this life: not sent again.
    pub(crate) rejected: Option<Position>,
    /// Until when its stream counts as open without news; 0: it is closed.
    pub(crate) connected_until_ms: i64,
}

/// Writes a proxy over what was known of it.
pub(crate) async fn put(
    connection: &mut AnyConnection,
    stored: &StoredProxy,
) -> Result<(), StoreError> {
    let StoredProxy { proxy, rejected, connected_until_ms } = stored;
    let root = |it: &Position| hex::encode(it.root_hash.as_bytes());
    // Texts always serialize.
    let errors = serde_json::to_string(&proxy.rejected_errors).unwrap_or_default();
    sqlx::query(
        "INSERT INTO proxies (id, advertise_address, version, capabilities, boot_epoch,
             applied_revision, apply_ms, rejected_epoch, rejected_revision, rejected_root,
             rejected_errors, connected_until_ms, last_seen_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT (id) DO UPDATE SET advertise_address = excluded.advertise_address,
             version = excluded.version, capabilities = excluded.capabilities,
             boot_epoch = excluded.boot_epoch, applied_revision = excluded.applied_revision,
             apply_ms = excluded.apply_ms, rejected_epoch = excluded.rejected_epoch,
             rejected_revision = excluded.rejected_revision,
             rejected_root = excluded.rejected_root,
             rejected_errors = excluded.rejected_errors,
             connected_until_ms = excluded.connected_until_ms,
             last_seen_ms = excluded.last_seen_ms
         WHERE proxies.boot_epoch <= excluded.boot_epoch",
    )
    .bind(&proxy.id)
    .bind(&proxy.advertise_address)
    .bind(&proxy.version)
    .bind(list(&proxy.capabilities))
    .bind(big(proxy.boot_epoch))
    .bind(big(proxy.applied_revision))
    .bind(i64::from(proxy.apply_ms))
    .bind(rejected.as_ref().map(|it| it.store_epoch.as_str()))
    .bind(rejected.as_ref().map(|it| big(it.revision)))
    .bind(rejected.as_ref().map(root))
    .bind(errors)
    .bind(connected_until_ms)
    .bind(proxy.last_seen_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// Every known proxy, by id. `now_ms` decides which streams count as open.
pub(crate) async fn list_all(
    connection: &mut AnyConnection,
    now_ms: i64,
) -> Result<Vec<StoredProxy>, StoreError> {
    let rows = sqlx::query("SELECT * FROM proxies ORDER BY id").fetch_all(connection).await?;
    rows.iter().map(|row| from_row(row, now_ms)).collect()
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
    now_ms: i64,
) -> Result<Option<StoredProxy>, StoreError> {
    let row = sqlx::query("SELECT * FROM proxies WHERE id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(|row| from_row(row, now_ms)).transpose()
}

/// Forgets proxies that nobody has seen since.
pub(crate) async fn delete_unseen(
    connection: &mut AnyConnection,
    before_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM proxies WHERE last_seen_ms < $1")
        .bind(before_ms)
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets a proxy. False: it was not known.
pub(crate) async fn remove(connection: &mut AnyConnection, id: &str) -> Result<bool, StoreError> {
    let done =
        sqlx::query("DELETE FROM proxies WHERE id = $1").bind(id).execute(connection).await?;
    Ok(done.rows_affected() > 0)
}

fn from_row(row: &AnyRow, now_ms: i64) -> Result<StoredProxy, StoreError> {
    let row = Row::new("proxies", row)?;
    let connected_until_ms = row.time("connected_until_ms")?;
    let rejected = match row.optional_text("rejected_epoch")? {
        None => None,
        Some(store_epoch) => Some(Position::from(proto::wire::Position {
            store_epoch,
            revision: row.count("rejected_revision")?,
            root_hash: hex::decode(row.text("rejected_root")?)
                .map_err(|error| row.corrupt("rejected_root", error))?,
        })),
    };
    let proxy = Proxy {
        id: row.id().to_owned(),
        advertise_address: row.text("advertise_address")?,
        version: row.text("version")?,
        connected: connected_until_ms > now_ms,
        applied_revision: row.count("applied_revision")?,
        rejected_revision: rejected.as_ref().map(|it| it.revision),
        rejected_errors: row.json("rejected_errors")?,
        last_seen_ms: row.time("last_seen_ms")?,
        capabilities: row.json("capabilities")?,
        apply_ms: u32::try_from(row.count("apply_ms")?).unwrap_or(u32::MAX),
        boot_epoch: row.count("boot_epoch")?,
        // It stands with the peers, since it is configuration.
        peer_address: String::new(),
    };
    Ok(StoredProxy { proxy, rejected, connected_until_ms })
}

#[cfg(test)]
mod tests {
    use proto::{RootHash, proxy::FieldError, wire};

    use super::*;
    use crate::store::{Store, StoreConfig};

    fn proxy(boot_epoch: u64) -> StoredProxy {
        let rejected = Position {
            store_epoch: "e".to_owned(),
            revision: 9,
            root_hash: RootHash::of(&wire::Resource::default()),
        };
        let error = FieldError {
            resource: "tool/x".to_owned(),
            field: "definition".to_owned(),
            message: "is no JSON".to_owned(),
        };
        let proxy = Proxy {
            id: "p1".to_owned(),
            advertise_address: "127.0.0.1:4444".to_owned(),
            version: "1".to_owned(),
            connected: true,
            applied_revision: 8,
            rejected_revision: Some(9),
            rejected_errors: vec![error],
            last_seen_ms: 5,
            capabilities: vec!["stdio-host".to_owned()],
            apply_ms: 3,
            boot_epoch,
            peer_address: String::new(),
        };
        StoredProxy { proxy, rejected: Some(rejected), connected_until_ms: 100 }
    }

    #[tokio::test]
    async fn a_proxy_comes_back_as_it_was_and_an_older_life_does_not_overwrite_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig { database_url: None, data_dir: folder.path().to_owned() };
        let store = Store::open(&config).await.unwrap();
        let mut write = store.begin_write().await.unwrap();
        put(write.connection(), &proxy(2)).await.unwrap();
        put(write.connection(), &proxy(1)).await.unwrap();
        assert_eq!(write.commit().await.unwrap(), None, "no configuration has changed");
        let mut read = store.begin_read().await.unwrap();
        assert_eq!(list_all(read.connection(), 50).await.unwrap(), [proxy(2)]);
        let later = find(read.connection(), "p1", 100).await.unwrap().unwrap();
        assert!(!later.proxy.connected, "silence ends a connection");
    }
}
