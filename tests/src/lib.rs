//! Harness of the whole-system tests: servers to talk to, worlds to start, clients to ask with.

pub mod fixture;
