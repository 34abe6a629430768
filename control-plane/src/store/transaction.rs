//! Transactions: a consistent read, and the one write at a time.

use sqlx::{Any, AnyConnection, AssertSqlSafe, Transaction};
use tokio::sync::watch;

use super::{
    StoreError,
    row::Row,
    values::{CHUNK, big, places},
};

/// Revisions whose changes are kept at least; a proxy further behind gets a snapshot.
const KEPT: u64 = 20_000;
/// How often (in revisions) older ones are dropped.
const TRIM_EVERY: u64 = 1_000;

/// A read transaction: every query sees the same moment.
pub struct Read {
    pub(super) transaction: Transaction<'static, Any>,
}

/// The write transaction. Dropped without [`Write::commit`], it leaves nothing.
pub struct Write {
    pub(super) transaction: Transaction<'static, Any>,
    pub(super) head: watch::Sender<u64>,
    pub(super) notify: Notify,
    pub(super) revision: Option<u64>,
}

/// Whether other control planes are woken by the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notify {
    No,
    Postgres,
}

impl Read {
    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// The revision that this transaction sees.
    pub async fn revision(&mut self) -> Result<u64, StoreError> {
        revision(self.connection()).await
    }
}

impl Write {
    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// The revision before this transaction or, once something changed, its own.
    pub(crate) async fn revision(&mut self) -> Result<u64, StoreError> {
        match self.revision {
            Some(revision) => Ok(revision),
            None => revision(self.connection()).await,
        }
    }

    /// Notes a changed sync resource; the first call of a transaction takes the
    /// next revision. Gives the revision of this transaction.
    pub(crate) async fn changed(
        &mut self,
        kind: &'static str,
        owner: &str,
        name: &str,
    ) -> Result<u64, StoreError> {
        self.changed_all(kind, owner, &[name]).await
    }

    /// The same for several resources with different names.
    pub(crate) async fn changed_all<N: AsRef<str> + Sync>(
        &mut self,
        kind: &'static str,
        owner: &str,
        names: &[N],
    ) -> Result<u64, StoreError> {
        let revision = match self.revision {
            Some(revision) => revision,
            None => self.take_revision().await?,
        };
        for chunk in names.chunks(CHUNK) {
            let sql = format!(
                "INSERT INTO config_change (kind, owner, name, revision) VALUES {}
                 ON CONFLICT (kind, owner, name) DO UPDATE SET revision = excluded.revision",
                places(chunk.len(), 4)
            );
            let query = chunk.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, name| {
                query.bind(kind).bind(owner).bind(name.as_ref()).bind(big(revision))
            });
            query.execute(self.connection()).await?;
        }
        Ok(revision)
    }

    async fn take_revision(&mut self) -> Result<u64, StoreError> {
        let sql = "UPDATE config_head SET revision = revision + 1 WHERE id = 1 RETURNING revision";
        let row = sqlx::query(sql).fetch_one(self.connection()).await?;
        let revision = Row::of("config_head", "1", &row).count("revision")?;
        self.revision = Some(revision);
        if revision.is_multiple_of(TRIM_EVERY) && revision > KEPT {
            self.trim(revision - KEPT).await?;
        }
        Ok(revision)
    }

    async fn trim(&mut self, floor: u64) -> Result<(), StoreError> {
        let floor = big(floor);
        sqlx::query("DELETE FROM config_change WHERE revision <= $1")
            .bind(floor)
            .execute(self.connection())
            .await?;
        sqlx::query("UPDATE config_head SET floor = $1 WHERE id = 1 AND floor < $2")
            .bind(floor)
            .bind(floor)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Makes it durable. Gives the revision if the configuration changed.
    pub async fn commit(mut self) -> Result<Option<u64>, StoreError> {
        if self.revision.is_some() && self.notify == Notify::Postgres {
            sqlx::query("NOTIFY lockgate_config").execute(self.connection()).await?;
        }
        let Self { transaction, head, notify: _, revision } = self;
        transaction.commit().await?;
        if let Some(revision) = revision {
            head.send_if_modified(|head| {
                let newer = *head < revision;
                *head = revision.max(*head);
                newer
            });
        }
        Ok(revision)
    }
}

async fn revision(connection: &mut AnyConnection) -> Result<u64, StoreError> {
    let sql = "SELECT revision FROM config_head WHERE id = 1";
    let row = sqlx::query(sql).fetch_one(connection).await?;
    Row::of("config_head", "1", &row).count("revision")
}
