//! What the store and the registry promise, on every database.
//!
//! Each function is one promise. `tests/store.rs` runs all of them on SQLite
//! and on Postgres.

mod catalogs;
mod history;
mod identity;
mod names;
mod place;
mod proxies;
mod writes;

pub use catalogs::*;
pub use history::*;
pub use identity::*;
pub use names::*;
pub use place::{House, Place};
pub use proxies::*;
pub use writes::*;
