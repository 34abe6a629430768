//! What proxies are told: built from configuration, published, and followed by each proxy.

pub mod build;
pub mod follower;
pub mod ledger;
pub mod publish;
