//! What is known of upstreams, and which discoveries are wanted.

use proto::{Catalog, upstream::FailureReason, upstream::Phase};
use sqlx::AnyConnection;

use super::{
    StoreError,
    row::Row,
    upstreams::{StoredTransport, phase_of, reason_of},
    values::{big, list},
};

/// An upstream whose catalog somebody should read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedDiscovery {
    pub upstream_id: String,
    /// Number of this wish; the result must carry it.
    pub wanted: u64,
    /// The proxy must run at least this revision to know the upstream.
    pub revision: u64,
    pub is_stdio: bool,
}

/// The numbers that tell which result counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub wanted: u64,
    pub done: u64,
    /// Results of wishes below this belong to an older definition.
    pub valid_from: u64,
}

/// What a proxy presents and shows of an upstream since its last discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub era: Option<String>,
    pub protocol_version: String,
    pub instructions: String,
    pub capabilities: String,
}

/// The first wish of a new upstream.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    upstream_id: &str,
    phase: Phase,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO discoveries (upstream_id, wanted, done, valid_from, generation, phase,
             message, protocol_version, server_info, capabilities, instructions,
             discovered_time_ms, checked_time_ms, notices)
         VALUES ($1, 1, 0, 1, 0, $2, '', '', '', '', '', 0, 0, '[]')",
    )
    .bind(upstream_id)
    .bind(phase.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// The upstream was redefined: results under way no longer count.
pub(crate) async fn restart(
    connection: &mut AnyConnection,
    upstream_id: &str,
    phase: Phase,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE discoveries SET wanted = wanted + 1, valid_from = wanted + 1, phase = $1,
             reason = NULL, message = '' WHERE upstream_id = $2",
    )
    .bind(phase.as_str())
    .bind(upstream_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// One more wish.
pub(crate) async fn want(
    connection: &mut AnyConnection,
    upstream_id: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE discoveries SET wanted = wanted + 1 WHERE upstream_id = $1")
        .bind(upstream_id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Wishes that are not fulfilled, of upstreams that are switched on.
pub(crate) async fn wanted(
    connection: &mut AnyConnection,
) -> Result<Vec<WantedDiscovery>, StoreError> {
    let rows = sqlx::query(
        "SELECT u.id, u.transport, u.resource_version, d.wanted
         FROM discoveries d JOIN upstreams u ON u.id = d.upstream_id
         WHERE d.wanted > d.done AND u.state = 'enabled' ORDER BY u.id",
    )
    .fetch_all(connection)
    .await?;
    let wanted = rows.iter().map(|row| {
        let row = Row::new("upstreams", row)?;
        let transport: StoredTransport = row.json("transport")?;
        Ok(WantedDiscovery {
            upstream_id: row.id().to_owned(),
            wanted: row.count("wanted")?,
            revision: row.count("resource_version")?,
            is_stdio: matches!(transport, StoredTransport::Stdio { .. }),
        })
    });
    wanted.collect()
}

/// How an upstream's last discovery went, where no other is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub upstream_id: String,
    pub phase: Phase,
    pub reason: Option<FailureReason>,
    /// End of the last discovery, in Unix milliseconds.
    pub checked_time_ms: i64,
    pub is_stdio: bool,
}

/// Every upstream that is switched on and for which nothing is wanted.
pub(crate) async fn known(connection: &mut AnyConnection) -> Result<Vec<Known>, StoreError> {
    let rows = sqlx::query(
        "SELECT u.id, u.transport, d.phase, d.reason, d.checked_time_ms
         FROM discoveries d JOIN upstreams u ON u.id = d.upstream_id
         WHERE d.wanted <= d.done AND u.state = 'enabled' ORDER BY u.id",
    )
    .fetch_all(connection)
    .await?;
    let known = rows.iter().map(|row| {
        let row = Row::new("upstreams", row)?;
        let transport: StoredTransport = row.json("transport")?;
        let reason = match row.optional_text("reason")? {
            None => None,
            Some(_) => Some(row.word("reason", reason_of)?),
        };
        Ok(Known {
            upstream_id: row.id().to_owned(),
            phase: row.word("phase", phase_of)?,
            reason,
            checked_time_ms: row.time("checked_time_ms")?,
            is_stdio: matches!(transport, StoredTransport::Stdio { .. }),
        })
    });
    known.collect()
}

/// None: the upstream was deleted.
pub(crate) async fn progress(
    connection: &mut AnyConnection,
    upstream_id: &str,
) -> Result<Option<(Progress, Facts)>, StoreError> {
    let row = sqlx::query(
        "SELECT wanted, done, valid_from, era, protocol_version, instructions, capabilities
         FROM discoveries WHERE upstream_id = $1",
    )
    .bind(upstream_id)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let row = Row::of("discoveries", upstream_id, &row);
    let progress = Progress {
        wanted: row.count("wanted")?,
        done: row.count("done")?,
        valid_from: row.count("valid_from")?,
    };
    let facts = Facts {
        era: row.optional_text("era")?,
        protocol_version: row.text("protocol_version")?,
        instructions: row.text("instructions")?,
        capabilities: row.text("capabilities")?,
    };
    Ok(Some((progress, facts)))
}

/// Fulfils wishes up to `wanted` without learning anything.
pub(crate) async fn skip(
    connection: &mut AnyConnection,
    upstream_id: &str,
    wanted: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE discoveries SET done = $1 WHERE upstream_id = $2")
        .bind(big(wanted))
        .bind(upstream_id)
        .execute(connection)
        .await?;
    Ok(())
}

/// A catalog was read.
pub(crate) async fn succeed(
    connection: &mut AnyConnection,
    upstream_id: &str,
    catalog: &Catalog,
    notices: &[String],
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE discoveries SET generation = generation + 1, phase = 'ready', reason = NULL,
             message = '', era = $1, protocol_version = $2, server_info = $3, capabilities = $4,
             instructions = $5, discovered_time_ms = $6, checked_time_ms = $7, notices = $8
         WHERE upstream_id = $9",
    )
    .bind(catalog.era.as_str())
    .bind(&catalog.protocol_version)
    .bind(&catalog.server_info)
    .bind(&catalog.capabilities)
    .bind(&catalog.instructions)
    .bind(now_ms)
    .bind(now_ms)
    .bind(list(notices))
    .bind(upstream_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// The catalog could not be read; the old one stays.
pub(crate) async fn fail(
    connection: &mut AnyConnection,
    upstream_id: &str,
    reason: FailureReason,
    message: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE discoveries SET generation = generation + 1, phase = 'failed', reason = $1,
             message = $2, checked_time_ms = $3 WHERE upstream_id = $4",
    )
    .bind(reason.as_str())
    .bind(message)
    .bind(now_ms)
    .bind(upstream_id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Which versions it speaks turned out to be none of ours: it is not known any more.
pub(crate) async fn forget_version(
    connection: &mut AnyConnection,
    upstream_id: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE discoveries SET era = NULL, protocol_version = '' WHERE upstream_id = $1")
        .bind(upstream_id)
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn delete(
    connection: &mut AnyConnection,
    upstream_id: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM discoveries WHERE upstream_id = $1")
        .bind(upstream_id)
        .execute(connection)
        .await?;
    Ok(())
}
