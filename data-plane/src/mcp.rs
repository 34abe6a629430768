//! The Model Context Protocol as plain functions: no HTTP, no pingora, no configuration, no clock.

pub mod code;
pub mod message;
pub mod method;
pub mod object;

pub use message::{Kind, Message, ParseError, Span};
pub use method::Method;
