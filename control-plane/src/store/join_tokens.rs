//! Rows of join tokens and of the credentials that enrolled proxies hold.

use sqlx::AnyConnection;

use super::{StoreError, row::Row};

/// A join token as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JoinTokenRow {
    pub(crate) id: String,
    pub(crate) digest: [u8; 32],
    /// Who made it.
    pub(crate) subject: String,
    pub(crate) create_time_ms: i64,
    pub(crate) expire_time_ms: i64,
}

/// Adds a join token and forgets those that expired a day ago.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    token: &JoinTokenRow,
) -> Result<(), StoreError> {
    const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
    sqlx::query("DELETE FROM join_tokens WHERE expire_time_ms < $1")
        .bind(token.create_time_ms.saturating_sub(KEPT_MS))
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO join_tokens (id, digest, subject, create_time_ms, expire_time_ms)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&token.id)
    .bind(hex::encode(token.digest))
    .bind(&token.subject)
    .bind(token.create_time_ms)
    .bind(token.expire_time_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// Spends a join token. False: there is no such token, or it is spent or expired.
pub(crate) async fn spend(
    connection: &mut AnyConnection,
    digest: &[u8; 32],
    proxy_id: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE join_tokens SET spent_time_ms = $1, spent_by = $2
         WHERE digest = $3 AND spent_time_ms IS NULL AND expire_time_ms > $4",
    )
    .bind(now_ms)
    .bind(proxy_id)
    .bind(hex::encode(digest))
    .bind(now_ms)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives a proxy its credential; an earlier one of the same proxy ends.
pub(crate) async fn put_credential(
    connection: &mut AnyConnection,
    proxy_id: &str,
    digest: &[u8; 32],
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO proxy_credentials (proxy_id, digest, create_time_ms) VALUES ($1, $2, $3)
         ON CONFLICT (proxy_id) DO UPDATE SET digest = excluded.digest,
             create_time_ms = excluded.create_time_ms",
    )
    .bind(proxy_id)
    .bind(hex::encode(digest))
    .bind(now_ms)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whose credential this is.
pub(crate) async fn proxy_of(
    connection: &mut AnyConnection,
    digest: &[u8; 32],
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT proxy_id FROM proxy_credentials WHERE digest = $1")
        .bind(hex::encode(digest))
        .fetch_optional(connection)
        .await?;
    row.map(|row| Row::of("proxy_credentials", "?", &row).text("proxy_id")).transpose()
}

/// Whether a proxy has a credential.
pub(crate) async fn is_enrolled(
    connection: &mut AnyConnection,
    proxy_id: &str,
) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM proxy_credentials WHERE proxy_id = $1")
        .bind(proxy_id)
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

/// Takes a proxy its credential. False: it had none.
pub(crate) async fn remove_credential(
    connection: &mut AnyConnection,
    proxy_id: &str,
) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM proxy_credentials WHERE proxy_id = $1")
        .bind(proxy_id)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Every proxy that has a credential.
pub(crate) async fn enrolled(connection: &mut AnyConnection) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query("SELECT proxy_id FROM proxy_credentials").fetch_all(connection).await?;
    rows.iter().map(|row| Row::of("proxy_credentials", "?", row).text("proxy_id")).collect()
}
