//! Rows of sessions that their clients have deleted, and the sync resources that they are.

use proto::resource::{EndedSessionResource, Resource};
use sqlx::{AnyConnection, any::AnyRow};

use super::{StoreError, row::Row};

/// Adds a session. False: it is known already.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    session: EndedSessionResource,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO ended_sessions (id, expire_time_ms) VALUES ($1, $2)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(session.name())
    .bind(session.expire_time_ms)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The sessions whose ids have expired.
pub(crate) async fn expired(
    connection: &mut AnyConnection,
    now_ms: i64,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query("SELECT id FROM ended_sessions WHERE expire_time_ms <= $1 ORDER BY id")
        .bind(now_ms)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok(Row::new("ended_sessions", row)?.id().to_owned())).collect()
}

/// Forgets the sessions that [`expired`] gives.
pub(crate) async fn delete_expired(
    connection: &mut AnyConnection,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM ended_sessions WHERE expire_time_ms <= $1")
        .bind(now_ms)
        .execute(connection)
        .await?;
    Ok(())
}

/// Every ended session, as proxies are told.
pub(crate) async fn resources(connection: &mut AnyConnection) -> Result<Vec<Resource>, StoreError> {
    let rows =
        sqlx::query("SELECT * FROM ended_sessions ORDER BY id").fetch_all(connection).await?;
    rows.iter().map(session).collect()
}

/// One ended session as proxies are told; none if its id has expired, hence to be removed.
pub(crate) async fn resource(
    connection: &mut AnyConnection,
    id: &str,
) -> Result<Option<Resource>, StoreError> {
    let row = sqlx::query("SELECT * FROM ended_sessions WHERE id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(session).transpose()
}

fn session(row: &AnyRow) -> Result<Resource, StoreError> {
    let row = Row::new("ended_sessions", row)?;
    let mut id = [0; 16];
    hex::decode_to_slice(row.id(), &mut id).map_err(|error| row.corrupt("id", error))?;
    let expire_time_ms = row.time("expire_time_ms")?;
    Ok(Resource::EndedSession(EndedSessionResource { id, expire_time_ms }))
}
