//! Rows of the authorities that sign certificates: the certificate, and the key, sealed.

use sqlx::AnyConnection;

use super::{StoreError, row::Row};

/// An authority as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthorityRow {
    pub(crate) id: String,
    /// DER, in hex.
    pub(crate) certificate: String,
    /// PKCS#8, sealed under `authority/ID`.
    pub(crate) sealed: String,
    pub(crate) create_time_ms: i64,
}

pub(crate) async fn insert(
    connection: &mut AnyConnection,
    authority: &AuthorityRow,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO authorities (id, certificate, sealed, create_time_ms)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(&authority.id)
    .bind(&authority.certificate)
    .bind(&authority.sealed)
    .bind(authority.create_time_ms)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<AuthorityRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM authorities WHERE id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    let authority = |row| {
        let row = Row::new("authorities", row)?;
        Ok(AuthorityRow {
            id: row.id().to_owned(),
            certificate: row.text("certificate")?,
            sealed: row.text("sealed")?,
            create_time_ms: row.time("create_time_ms")?,
        })
    };
    row.as_ref().map(authority).transpose()
}
