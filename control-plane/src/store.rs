//! The database: the only place that knows SQL.
//!
//! One SQL text serves SQLite and Postgres (rules: migrations/README.md). What
//! differs is here: how a transaction begins, and who wakes other control planes.
//! Writers take turns on both databases, so a use case may check what it likes
//! before it writes.
//!
//! To add a table: a migration, one line in `store/migrations.rs`, and
//! `store/nouns.rs` with the row's conversion and its queries as plain functions
//! over `&mut AnyConnection`.

use std::{
    fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path, sync::Arc, time::Duration,
};

use proto::Secret;
use sqlx::{
    AnyConnection, AnyPool, Connection as _,
    any::{AnyPoolOptions, install_default_drivers},
};
use tokio::sync::watch;

pub(crate) mod authorities;
pub mod changes;
pub mod configuration;
pub mod counts;
pub(crate) mod credentials;
pub mod discoveries;
pub(crate) mod ended_sessions;
pub(crate) mod entries;
mod error;
pub(crate) mod join_tokens;
pub(crate) mod keys;
mod migrations;
pub(crate) mod operations;
pub(crate) mod peers;
pub(crate) mod proxies;
pub(crate) mod requests;
pub(crate) mod row;
pub(crate) mod tokens;
pub(crate) mod tools;
mod transaction;
pub(crate) mod upstreams;
mod url;
pub(crate) mod values;
pub(crate) mod virtual_servers;

pub use error::StoreError;
use transaction::Notify;
pub use transaction::{Read, Write};
use url::Database;
pub use url::StoreConfig;

/// How long a caller waits for a connection, and hence for its turn to write.
const ACQUIRE: Duration = Duration::from_secs(10);

const SQLITE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
    PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = 16777216; \
    PRAGMA cache_size = -512;";
const POSTGRES: &str = "SET statement_timeout = '5s'; SET lock_timeout = '4s'; \
    SET idle_in_transaction_session_timeout = '10s'; SET synchronous_commit = on;";

/// An open database. Cloning shares it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    readers: AnyPool,
    writer: AnyPool,
    backend: Backend,
    epoch: String,
    head: watch::Sender<u64>,
}

enum Backend {
    Sqlite,
    /// The URL, for the connection that listens.
    Postgres(Secret<String>),
}

impl Store {
    /// Opens the database, makes it if there is none, and brings its schema up to date.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        install_default_drivers();
        let database = config.database()?;
        if let Database::Sqlite(path) = &database {
            make_private_file(path)?;
        }
        let url = database.connect_url()?;
        let mut connection = AnyConnection::connect(url.expose()).await?;
        migrations::run(&mut connection).await?;
        let (epoch, revision) = changes::open_head(&mut connection).await?;
        connection.close().await?;
        let (readers, writer, backend) = match database {
            Database::Sqlite(_) => {
                let readers = pool(SQLITE, 4).connect(url.expose()).await?;
                (readers, pool(SQLITE, 1).connect(url.expose()).await?, Backend::Sqlite)
            }
            Database::Postgres(_) => {
                let pool = pool(POSTGRES, 12).connect(url.expose()).await?;
                (pool.clone(), pool, Backend::Postgres(url))
            }
        };
        let (head, _) = watch::channel(revision);
        Ok(Self { inner: Arc::new(Inner { readers, writer, backend, epoch, head }) })
    }

    /// `sqlite` or `postgres`.
    pub fn dialect(&self) -> &'static str {
        match &self.inner.backend {
            Backend::Sqlite => "sqlite",
            Backend::Postgres(_) => "postgres",
        }
    }

    /// Names this history; a restored or new database has another one.
    pub fn epoch(&self) -> &str {
        &self.inner.epoch
    }

    /// Begins a read that sees one moment.
    pub async fn begin_read(&self) -> Result<Read, StoreError> {
        let begin = match &self.inner.backend {
            Backend::Sqlite => "BEGIN",
            Backend::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        Ok(Read { transaction: self.inner.readers.begin_with(begin).await? })
    }

    /// Begins the write: waits until no other one is open, here or in another control plane.
    pub async fn begin_write(&self) -> Result<Write, StoreError> {
        let Inner { writer, backend, head, .. } = &*self.inner;
        let (transaction, notify) = match backend {
            Backend::Sqlite => (writer.begin_with("BEGIN IMMEDIATE").await?, Notify::No),
            Backend::Postgres(_) => {
                let mut transaction = writer.begin_with("BEGIN").await?;
                let lock = "SELECT revision FROM config_head WHERE id = 1 FOR UPDATE";
                sqlx::query(lock).fetch_one(&mut *transaction).await?;
                (transaction, Notify::Postgres)
            }
        };
        Ok(Write { transaction, head: head.clone(), notify, revision: None })
    }

    /// The newest revision that this process knows of.
    pub(crate) fn head(&self) -> &watch::Sender<u64> {
        &self.inner.head
    }

    /// A connection of its own that hears the commits of other control planes.
    /// None on SQLite, which has none.
    pub(crate) async fn listen(&self) -> Result<Option<sqlx::postgres::PgListener>, StoreError> {
        match &self.inner.backend {
            Backend::Sqlite => Ok(None),
            Backend::Postgres(url) => {
                let mut listener = sqlx::postgres::PgListener::connect(url.expose()).await?;
                listener.listen("lockgate_config").await?;
                Ok(Some(listener))
            }
        }
    }

    /// Closes every connection, after their transactions have ended.
    pub async fn close(&self) {
        self.inner.writer.close().await;
        self.inner.readers.close().await;
    }
}

fn pool(setup: &'static str, connections: u32) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(true)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                sqlx::raw_sql(setup).execute(connection).await?;
                Ok(())
            })
        })
}

/// The file holds digests and sealed secrets: nobody else reads it. SQLite gives
/// the same rights to its companions.
fn make_private_file(path: &Path) -> Result<(), StoreError> {
    let file = |source| StoreError::File { path: path.to_owned(), source };
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store(folder: &Path) -> Store {
        let config = StoreConfig { database_url: None, data_dir: folder.to_owned() };
        Store::open(&config).await.unwrap()
    }

    #[tokio::test]
    async fn a_change_takes_one_revision_and_a_dropped_write_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let mut write = store.begin_write().await.unwrap();
        assert_eq!(write.changed("tool", "", "a").await.unwrap(), 1);
        drop(write);
        let mut write = store.begin_write().await.unwrap();
        assert_eq!(write.changed("tool", "", "a").await.unwrap(), 1);
        assert_eq!(write.changed("tool", "", "b").await.unwrap(), 1);
        assert_eq!(write.commit().await.unwrap(), Some(1));
        assert_eq!(*store.head().borrow(), 1);
        let mut read = store.begin_read().await.unwrap();
        let changes = changes::changes_since(&mut read, 0).await.unwrap().unwrap();
        assert_eq!(changes.len(), 2);
        assert_eq!(store.begin_write().await.unwrap().commit().await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_file_is_private_and_its_epoch_stays() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let epoch = store(folder.path()).await.epoch().to_owned();
        for name in ["lockgate.db", "lockgate.db-wal"] {
            if let Ok(about) = folder.path().join(name).metadata() {
                assert_eq!(about.permissions().mode() & 0o777, 0o600, "{name}");
            }
        }
        assert_eq!(store(folder.path()).await.epoch(), epoch);
        assert_eq!(epoch.len(), 32);
    }
}
