//! Harness of the whole-system tests: servers to talk to, worlds to start, clients to ask with.

pub mod balancer;
pub mod bench;
pub mod client;
pub mod fixture;
pub mod header_proxy;
pub mod hostile;
pub mod http_server;
pub mod interop;
pub mod postgres;
pub mod raw_server;
pub mod rest_api;
pub mod sample;
pub mod store_suite;
pub mod talk;
pub mod verdict;
pub mod world;
