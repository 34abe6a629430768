//! Rows of sessions that their clients have deleted, and the sync resources that they are: in
//! batches, each one resource.

use proto::resource::{EndedSession, EndedSessionsResource, Resource};
use sqlx::{AnyConnection, any::AnyRow};

use super::{StoreError, row::Row};

const TABLE: &str = "ended_sessions";
/// Sessions of one batch. The last one is told anew with each session that joins it.
const BATCH: u64 = 128;

/// The batch that takes the next session, and how many it may still take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    number: i64,
    room: u64,
}

impl Batch {
    /// The newest one, or the first.
    pub(crate) async fn open(connection: &mut AnyConnection) -> Result<Self, StoreError> {
        let row = sqlx::query(
            "SELECT batch, COUNT(*) AS sessions FROM ended_sessions
             WHERE batch = (SELECT MAX(batch) FROM ended_sessions) GROUP BY batch",
        )
        .fetch_optional(connection)
        .await?;
        let Some(row) = row else { return Ok(Self { number: 0, room: BATCH }) };
        let row = Row::of(TABLE, "newest", &row);
        let room = BATCH.saturating_sub(row.count("sessions")?);
        Ok(Self { number: row.time("batch")?, room })
    }

    /// Adds a session, to the next batch if this one is full. `None`: it is known already; else
    /// the name of the resource that changes.
    pub(crate) async fn insert(
        &mut self,
        connection: &mut AnyConnection,
        session: EndedSession,
    ) -> Result<Option<String>, StoreError> {
        if self.room == 0 {
            *self = Self { number: self.number + 1, room: BATCH };
        }
        let done = sqlx::query(
            "INSERT INTO ended_sessions (id, expire_time_ms, batch) VALUES ($1, $2, $3)
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(hex::encode(session.id))
        .bind(session.expire_time_ms)
        .bind(self.number)
        .execute(connection)
        .await?;
        let is_new = done.rows_affected() > 0;
        self.room -= u64::from(is_new);
        Ok(is_new.then(|| self.number.to_string()))
    }
}

/// The batches of which every id has expired.
pub(crate) async fn expired(
    connection: &mut AnyConnection,
    now_ms: i64,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT batch FROM ended_sessions GROUP BY batch HAVING MAX(expire_time_ms) <= $1
         ORDER BY batch",
    )
    .bind(now_ms)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(Row::of(TABLE, "expired", row).time("batch")?.to_string())).collect()
}

/// Forgets the sessions of a batch that [`expired`] gives.
pub(crate) async fn delete(connection: &mut AnyConnection, name: &str) -> Result<(), StoreError> {
    let Ok(batch) = name.parse::<i64>() else { return Ok(()) };
    sqlx::query("DELETE FROM ended_sessions WHERE batch = $1")
        .bind(batch)
        .execute(connection)
        .await?;
    Ok(())
}

/// Every batch, as proxies are told.
pub(crate) async fn resources(connection: &mut AnyConnection) -> Result<Vec<Resource>, StoreError> {
    let rows = sqlx::query("SELECT * FROM ended_sessions ORDER BY batch, id")
        .fetch_all(connection)
        .await?;
    let mut batches: Vec<EndedSessionsResource> = Vec::new();
    for row in &rows {
        let (name, session) = read(row)?;
        match batches.last_mut().filter(|batch| batch.name == name) {
            Some(batch) => batch.sessions.push(session),
            None => batches.push(EndedSessionsResource { name, sessions: vec![session] }),
        }
    }
    Ok(batches.into_iter().map(Resource::EndedSessions).collect())
}

/// One batch as proxies are told; none if its ids have expired, hence to be removed.
pub(crate) async fn resource(
    connection: &mut AnyConnection,
    name: &str,
) -> Result<Option<Resource>, StoreError> {
    let Ok(batch) = name.parse::<i64>() else { return Ok(None) };
    let rows = sqlx::query("SELECT * FROM ended_sessions WHERE batch = $1 ORDER BY id")
        .bind(batch)
        .fetch_all(connection)
        .await?;
    let sessions =
        rows.iter().map(|row| Ok(read(row)?.1)).collect::<Result<Vec<_>, StoreError>>()?;
    let ended = EndedSessionsResource { name: name.to_owned(), sessions };
    Ok((!ended.sessions.is_empty()).then_some(Resource::EndedSessions(ended)))
}

/// A session and the name of its batch.
fn read(row: &AnyRow) -> Result<(String, EndedSession), StoreError> {
    let row = Row::new(TABLE, row)?;
    let mut id = [0; 16];
    hex::decode_to_slice(row.id(), &mut id).map_err(|error| row.corrupt("id", error))?;
    let session = EndedSession { id, expire_time_ms: row.time("expire_time_ms")? };
    Ok((row.time("batch")?.to_string(), session))
}
