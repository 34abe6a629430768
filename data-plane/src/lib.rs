//! The data plane: stateless proxies that terminate MCP.
