//! The client's side: what its headers say, its body, the forms of an answer, and pipes.

pub(crate) mod batch;
pub(crate) mod body;
pub(crate) mod headers;
pub(crate) mod listening;
pub(crate) mod pipe;
pub(crate) mod response;
pub(crate) mod sse;
pub(crate) mod websocket;
