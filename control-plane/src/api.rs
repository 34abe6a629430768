//! gRPC: wire in → use case → wire out, nothing else.
//!
//! To add a method: the `.proto` file, a use case that begins with
//! `caller.require(…)`, and a translation in the service's file here.

pub(crate) mod authenticate;
mod identity;
pub(crate) mod mask;
mod operations;
mod registry;
pub(crate) mod settle;
pub(crate) mod status;
pub(crate) mod sync;

use axum::Router;
use proto::wire::{
    self, identity_server::IdentityServer, operations_server::OperationsServer,
    registry_server::RegistryServer,
};
use tonic::service::Routes;

use crate::services::Services;

/// Largest request message, in bytes. Answers are not limited: a page of tools
/// with their schemas may be long.
const MESSAGE_MAX: usize = 4 * 1024 * 1024;

/// The services that need a caller.
pub(crate) fn routes(services: &Services) -> Router {
    let Services { registry, identity, operations, peers, .. } = services.clone();
    let registry = registry::RegistryApi { registry };
    let operations = operations::OperationsApi { operations, identity: identity.clone(), peers };
    let identity = identity::IdentityApi { identity };
    let routes = Routes::new(RegistryServer::new(registry).max_decoding_message_size(MESSAGE_MAX))
        .add_service(IdentityServer::new(identity).max_decoding_message_size(MESSAGE_MAX))
        .add_service(OperationsServer::new(operations).max_decoding_message_size(MESSAGE_MAX));
    with_reflection(routes).prepare().into_axum_router().reset_fallback()
}

/// `grpc.health.v1`, for probes, which need no credential.
pub(crate) fn open_routes() -> Router {
    let (_reporter, health) = tonic_health::server::health_reporter();
    Routes::new(health).prepare().into_axum_router().reset_fallback()
}

/// Reflection in both versions that clients speak. The descriptor is built in;
/// if it were broken, everything but reflection would still work.
fn with_reflection(routes: Routes) -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(wire::DESCRIPTOR)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "reflection is off");
            routes
        }
    }
}
