//! How much there is.

use super::{Read, StoreError, row::Row};

/// Numbers for the status page, of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub upstreams: u64,
    pub ready_upstreams: u64,
    pub tools: u64,
    pub virtual_servers: u64,
    pub revision: u64,
}

pub(crate) async fn read(read: &mut Read) -> Result<Counts, StoreError> {
    let revision = read.revision().await?;
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM upstreams) AS upstreams,
             (SELECT COUNT(*) FROM discoveries WHERE phase = 'ready') AS ready_upstreams,
             (SELECT COUNT(*) FROM tools WHERE gone_time_ms IS NULL) AS tools,
             (SELECT COUNT(*) FROM virtual_servers) AS virtual_servers",
    )
    .fetch_one(read.connection())
    .await?;
    let row = Row::of("counts", "all", &row);
    Ok(Counts {
        upstreams: row.count("upstreams")?,
        ready_upstreams: row.count("ready_upstreams")?,
        tools: row.count("tools")?,
        virtual_servers: row.count("virtual_servers")?,
        revision,
    })
}
