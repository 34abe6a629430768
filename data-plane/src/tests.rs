//! The proxy over real sockets: real pingora on port 0, a table without a control plane.

mod batch;
mod edge;
mod events;
mod expiry;
mod forward;
mod harness;
mod idle;
mod listen;
mod mcp;
mod relay;
mod resume;
mod rpc;
mod tasks;
mod upstream;
mod websocket;
