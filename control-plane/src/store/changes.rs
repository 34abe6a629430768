//! The change log: which sync resources changed after a revision.

use sqlx::{AnyConnection, any::AnyRow};

use super::{Read, StoreError, Write, row::Row, values::big};

/// A sync resource that changed, and when it did so last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChangedKey {
    /// One of [`proto::resource::kind`].
    pub kind: String,
    pub owner: String,
    pub name: String,
    pub revision: u64,
}

/// What changed after `revision`, each resource once, oldest change first.
/// None: the log no longer reaches back so far.
pub async fn changes_since(
    read: &mut Read,
    revision: u64,
) -> Result<Option<Vec<ChangedKey>>, StoreError> {
    let head = sqlx::query("SELECT revision, floor FROM config_head WHERE id = 1")
        .fetch_one(read.connection())
        .await?;
    let head = Row::of("config_head", "1", &head);
    if revision < head.count("floor")? || revision > head.count("revision")? {
        return Ok(None);
    }
    let rows = sqlx::query(
        "SELECT kind, owner, name, revision FROM config_change WHERE revision > $1
         ORDER BY revision, kind, owner, name",
    )
    .bind(big(revision))
    .fetch_all(read.connection())
    .await?;
    keys(&rows).map(Some)
}

/// What this transaction changed so far.
pub(super) async fn changes_of(write: &mut Write) -> Result<Vec<ChangedKey>, StoreError> {
    let Some(revision) = write.revision else { return Ok(Vec::new()) };
    let rows = sqlx::query(
        "SELECT kind, owner, name, revision FROM config_change WHERE revision = $1
         ORDER BY kind, owner, name",
    )
    .bind(big(revision))
    .fetch_all(write.connection())
    .await?;
    keys(&rows)
}

fn keys(rows: &[AnyRow]) -> Result<Vec<ChangedKey>, StoreError> {
    let keys = rows.iter().map(|row| {
        let row = Row::of("config_change", "?", row);
        Ok(ChangedKey {
            kind: row.text("kind")?,
            owner: row.text("owner")?,
            name: row.text("name")?,
            revision: row.count("revision")?,
        })
    });
    keys.collect()
}

/// The epoch, made at the first opening, and the newest revision.
pub(super) async fn open_head(connection: &mut AnyConnection) -> Result<(String, u64), StoreError> {
    sqlx::query(
        "INSERT INTO config_head (id, revision, floor, epoch) VALUES (1, 0, 0, $1)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(uuid::Uuid::new_v4().simple().to_string())
    .execute(&mut *connection)
    .await?;
    let row = sqlx::query("SELECT epoch, revision FROM config_head WHERE id = 1")
        .fetch_one(&mut *connection)
        .await?;
    let row = Row::of("config_head", "1", &row);
    Ok((row.text("epoch")?, row.count("revision")?))
}
