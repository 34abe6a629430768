//! Walks through the whole system: real processes, real sockets, one binary.

mod auth;
mod bad_input;
mod bad_upstreams;
mod benchmark;
mod catalogs;
mod config_change;
mod config_path;
mod connect;
mod durability;
mod failure;
mod fleet;
mod instances;
mod interaction;
mod leaks;
mod modern_upstreams;
mod operations;
mod pages;
mod placement;
mod request_path;
mod rounds;
mod sdk_rounds;
mod spread;
mod tasks;
mod translate;
mod transports;
mod upstream_transports;
