//! An MCP server that offers everything the conformance suite calls.

fn main() {}
