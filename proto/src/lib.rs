//! The contract: everything that control plane, proxies and CLI say to each other.
//!
//! One file per noun: the domain type on top, its wire conversion below. After
//! a conversion nobody sees a protobuf message again.

pub mod catalog;
pub mod credential;
pub mod entry;
pub mod invalid;
pub mod name;
pub mod policy;
pub mod principal;
pub mod proxy;
pub mod resource;
pub mod resource_update;
pub mod rest;
pub mod secret;
pub mod token;
pub mod tool;
pub mod upstream;
pub mod virtual_server;

pub use catalog::{Catalog, CatalogTool, Era};
pub use credential::{Credential, CredentialChange, CredentialSummary};
pub use entry::{CatalogEntry, EntryKind};
pub use invalid::Invalid;
pub use name::{PromptName, TokenName, ToolName, UpstreamName, VirtualServerName};
pub use policy::Permission;
pub use principal::{Principal, Role};
pub use resource_update::{Applied, Outcome, Position, RootHash};
pub use rest::{RestBinding, RestMethod};
pub use secret::Secret;

/// Generated code. Always written `wire::Upstream`, so that a reader sees which one is meant.
#[expect(
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::excessive_nesting,
    unused_qualifications,
    reason = "generated code"
)]
pub mod wire {
    tonic::include_proto!("lockgate.v1");

    /// The compiled `.proto` files, for reflection.
    pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
}
