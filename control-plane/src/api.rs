//! gRPC: wire in → use case → wire out, nothing else.

pub(crate) mod mask;
pub(crate) mod status;
