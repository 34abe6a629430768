//! The proxy's configuration: what is active, how it changes, and where it is kept.

pub mod apply;
pub mod content;
pub mod current;
pub mod disk;
pub mod identity;
pub mod record;
pub(crate) mod saver;
pub mod stream;
pub mod table;
