//! The client's side of HTTP: what its headers say, its body, and the forms of an answer.

pub(crate) mod body;
pub(crate) mod headers;
pub(crate) mod response;
pub(crate) mod sse;
