//! Brings a database to the schema of this program.

use std::borrow::Cow;

use sqlx::{
    AnyConnection,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use super::StoreError;

/// Every migration, in order. The files are embedded; rules are in migrations/README.md.
const MIGRATIONS: [(i64, &str, &str); 7] = [
    (1, "registry", include_str!("../../../migrations/0001_registry.sql")),
    (2, "identity", include_str!("../../../migrations/0002_identity.sql")),
    (3, "proxies", include_str!("../../../migrations/0003_proxies.sql")),
    (4, "catalog_entries", include_str!("../../../migrations/0004_catalog_entries.sql")),
    (5, "peers", include_str!("../../../migrations/0005_peers.sql")),
    (
        6,
        "virtual_server_entries",
        include_str!("../../../migrations/0006_virtual_server_entries.sql"),
    ),
    (
        7,
        "ended_session_batches",
        include_str!("../../../migrations/0007_ended_session_batches.sql"),
    ),
];

/// Runs what is missing. Postgres: under an advisory lock, so that two control
/// planes can start at once.
pub(super) async fn run(connection: &mut AnyConnection) -> Result<(), StoreError> {
    let known = MIGRATIONS.iter().map(|(version, ..)| *version).max().unwrap_or(0);
    migrator().run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => StoreError::NewerSchema { found, known },
        error => StoreError::Migration(error),
    })
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS
        .iter()
        .map(|(version, noun, sql)| {
            let noun = Cow::Borrowed(*noun);
            let sql = sqlx::SqlSafeStr::into_sql_str(*sql);
            Migration::new(*version, noun, MigrationType::Simple, sql, false)
        })
        .collect();
    Migrator { migrations: Cow::Owned(migrations), ..Migrator::DEFAULT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_embedded_and_numbers_have_no_gaps() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "README.md")
            .collect();
        files.sort();
        let embedded: Vec<String> = MIGRATIONS
            .iter()
            .map(|(version, noun, _)| format!("{version:04}_{noun}.sql"))
            .collect();
        assert_eq!(files, embedded);
        assert!(MIGRATIONS.iter().zip(1..).all(|((version, ..), expected)| *version == expected));
    }

    #[test]
    fn columns_are_text_or_bigint() {
        for (_, noun, sql) in MIGRATIONS {
            for word in ["BOOLEAN", "INTEGER", "SERIAL", "BYTEA", "BLOB", "TIMESTAMP", "JSONB"] {
                assert!(!sql.to_uppercase().contains(word), "{noun} uses {word}");
            }
        }
    }
}
