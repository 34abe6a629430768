//! What the programs of the benchmark agree on, and how they measure.

pub mod body;
pub mod case;
pub mod cases;
pub mod chart;
pub mod client;
pub mod load;
pub mod machine;
pub mod message;
pub mod outcome;
pub mod report;
pub mod statistics;
pub mod usage;

use serde::{Deserialize, Serialize};

pub use client::{Address, Session, Speech};
pub use message::{CLIENT_TOOL, UPSTREAM_TOOL};

/// Signs the token of the run; both proxies know it.
pub const SECRET: &str = "a benchmark needs a secret of thirty-two bytes";

/// Claims as ContextForge signs them.
#[derive(Serialize, Deserialize)]
pub struct Claims {
    /// Whom the token stands for.
    pub username: String,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
}
