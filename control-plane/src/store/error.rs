//! What can go wrong with the database.

use std::{io, path::PathBuf};

/// What went wrong, with the facts that help to mend it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("database error: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the database URL is not usable: {0}")]
    Url(String),
    #[error("cannot use the database file {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error(
        "the database has schema version {found}, this program knows {known}: \
         it was written by a newer Lockgate, use that version or restore a backup"
    )]
    NewerSchema { found: i64, known: i64 },
    #[error("cannot bring the database to this version: {0}")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// A value that this program would not have written.
    #[error("table `{table}`, row `{row}`: column `{column}` is corrupt: {source}")]
    Corrupt {
        table: &'static str,
        column: &'static str,
        row: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// Whether the same request may succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Database(error) => is_passing(error),
            Self::Url(_)
            | Self::File { .. }
            | Self::NewerSchema { .. }
            | Self::Migration(_)
            | Self::Corrupt { .. } => false,
        }
    }
}

fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_passing_code(&code)),
        _ => false,
    }
}

/// SQLSTATE classes of Postgres (connection, rollback, resources, locks,
/// operator), else the primary result code of SQLite (busy, locked, I/O, full,
/// cannot open).
fn is_passing_code(code: &str) -> bool {
    if code.len() == 5 {
        return ["08", "25", "40", "53", "55", "57", "58"].iter().any(|it| code.starts_with(it));
    }
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13 | 14))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_stays() {
        for passing in ["40001", "40P01", "55P03", "57014", "08006", "5", "261", "13"] {
            assert!(is_passing_code(passing), "{passing}");
        }
        for staying in ["23505", "42601", "2067", "1"] {
            assert!(!is_passing_code(staying), "{staying}");
        }
        assert!(StoreError::from(sqlx::Error::PoolTimedOut).is_passing());
    }
}
