//! JSON-RPC error codes, with the section that gives each its meaning.

/// The body is not JSON (JSON-RPC 2.0 §5.1).
pub const PARSE_ERROR: i64 = -32700;
/// JSON, but no request, notification or response (JSON-RPC 2.0 §5.1).
pub const INVALID_REQUEST: i64 = -32600;
/// The method is not served in this era (JSON-RPC 2.0 §5.1).
pub const METHOD_NOT_FOUND: i64 = -32601;
/// Parameters, `_meta` included, are missing or wrong; unknown tools (MCP server/tools).
pub const INVALID_PARAMS: i64 = -32602;
/// Anything that went wrong behind us (JSON-RPC 2.0 §5.1).
pub const INTERNAL_ERROR: i64 = -32603;
/// SDK practice for HTTP-level refusals towards legacy clients: Accept, missing session.
pub const REFUSED: i64 = -32000;
/// SDK practice for an unknown session id.
pub const SESSION_NOT_FOUND: i64 = -32001;
/// Legacy: no such resource. Never sent to modern clients.
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// Legacy: an URL must be visited first. Never sent to modern clients.
pub const URL_ELICITATION_REQUIRED: i64 = -32042;
/// Modern: a mirror header is missing or differs from the body (MCP 2026-07-28 transports).
pub const HEADER_MISMATCH: i64 = -32020;
/// Modern: `data.requiredCapabilities` tells what the client lacks.
pub const MISSING_CLIENT_CAPABILITY: i64 = -32021;
/// Modern: `data.{supported, requested}` tells the versions.
pub const UNSUPPORTED_VERSION: i64 = -32022;
