//! Facts about the database itself.

use super::{Read, StoreError, row::Row};

/// The database's own version, for people.
pub(crate) async fn version(read: &mut Read, dialect: &str) -> Result<String, StoreError> {
    let sql = if dialect == "sqlite" {
        "SELECT sqlite_version() AS version"
    } else {
        "SELECT version() AS version"
    };
    let row = sqlx::query(sql).fetch_one(read.connection()).await?;
    Row::of("version", "1", &row).text("version")
}
