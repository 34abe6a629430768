//! The data plane: stateless proxies that terminate MCP.

pub mod egress;
pub mod mcp;
pub mod session;
pub mod snapshot;
pub mod upstream;
