//! Rows of API tokens, and the sync resources that they are.

use proto::{
    resource::{Resource, TokenResource},
    token::Token,
};
use sqlx::{AnyConnection, any::AnyRow};

use super::{StoreError, row::Row};

/// Adds a token.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    token: &Token,
    digest: &[u8; 32],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tokens (id, name, subject, role, prefix, digest, create_time_ms,
             expire_time_ms, resource_version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(&token.id)
    .bind(token.name.as_str())
    .bind(&token.subject)
    .bind(token.role.as_str())
    .bind(&token.prefix)
    .bind(hex::encode(digest))
    .bind(token.create_time_ms)
    .bind(token.expire_time_ms)
    .bind(i64::try_from(token.resource_version).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(())
}

/// The token with this id or, among those not revoked, this name.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    name_or_id: &str,
) -> Result<Option<Token>, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM tokens WHERE id = $1 OR (name = $2 AND revoke_time_ms IS NULL)
         ORDER BY id LIMIT 1",
    )
    .bind(name_or_id)
    .bind(name_or_id)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(token).transpose()
}

/// The token of this secret, if it is not revoked.
pub(crate) async fn by_digest(
    connection: &mut AnyConnection,
    digest: &[u8; 32],
) -> Result<Option<Token>, StoreError> {
    let row = sqlx::query("SELECT * FROM tokens WHERE digest = $1 AND revoke_time_ms IS NULL")
        .bind(hex::encode(digest))
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(token).transpose()
}

/// Which tokens a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Valid,
    WithRevoked,
}

/// At most `limit` tokens after the id `after`, oldest first.
pub(crate) async fn page(
    connection: &mut AnyConnection,
    after: &str,
    limit: u32,
    shown: Shown,
) -> Result<Vec<Token>, StoreError> {
    let sql = match shown {
        Shown::Valid => {
            "SELECT * FROM tokens WHERE id > $1 AND revoke_time_ms IS NULL ORDER BY id LIMIT $2"
        }
        Shown::WithRevoked => "SELECT * FROM tokens WHERE id > $1 ORDER BY id LIMIT $2",
    };
    let rows = sqlx::query(sql).bind(after).bind(i64::from(limit)).fetch_all(connection).await?;
    rows.iter().map(token).collect()
}

/// The tokens that ended before `now_ms` and are not yet marked.
pub(crate) async fn expired(
    connection: &mut AnyConnection,
    now_ms: i64,
) -> Result<Vec<Token>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM tokens WHERE revoke_time_ms IS NULL AND expire_time_ms <= $1 ORDER BY id",
    )
    .bind(now_ms)
    .fetch_all(connection)
    .await?;
    rows.iter().map(token).collect()
}

/// Marks a token as no longer valid, for ever.
pub(crate) async fn revoke(
    connection: &mut AnyConnection,
    id: &str,
    time_ms: i64,
    revision: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE tokens SET revoke_time_ms = $1, resource_version = $2 WHERE id = $3")
        .bind(time_ms)
        .bind(i64::try_from(revision).unwrap_or(i64::MAX))
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Every valid token, as proxies are told.
pub(crate) async fn resources(connection: &mut AnyConnection) -> Result<Vec<Resource>, StoreError> {
    let rows = sqlx::query("SELECT * FROM tokens WHERE revoke_time_ms IS NULL ORDER BY id")
        .fetch_all(connection)
        .await?;
    rows.iter().map(resource_of).collect()
}

/// One token as proxies are told; none if it is gone, hence to be removed.
pub(crate) async fn resource(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Resource>, StoreError> {
    let row = sqlx::query("SELECT * FROM tokens WHERE id = $1 AND revoke_time_ms IS NULL")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(resource_of).transpose()
}

fn resource_of(row: &AnyRow) -> Result<Resource, StoreError> {
    let token = token(row)?;
    let row = Row::new("tokens", row)?;
    let mut digest = [0; 32];
    hex::decode_to_slice(row.text("digest")?, &mut digest)
        .map_err(|error| row.corrupt("digest", error))?;
    Ok(Resource::Token(TokenResource {
        id: token.id,
        digest,
        subject: token.subject,
        role: token.role,
        expire_time_ms: token.expire_time_ms,
    }))
}

fn token(row: &AnyRow) -> Result<Token, StoreError> {
    let row = Row::new("tokens", row)?;
    Ok(Token {
        id: row.id().to_owned(),
        name: row.parse("name")?,
        subject: row.text("subject")?,
        role: row.parse("role")?,
        prefix: row.text("prefix")?,
        create_time_ms: row.time("create_time_ms")?,
        expire_time_ms: row.optional_time("expire_time_ms")?,
        revoke_time_ms: row.optional_time("revoke_time_ms")?,
        resource_version: row.count("resource_version")?,
    })
}
