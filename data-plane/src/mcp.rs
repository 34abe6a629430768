//! The Model Context Protocol as plain functions: no HTTP, no pingora, no configuration, no clock.

pub mod addressee;
pub mod ask;
pub mod beyond;
pub mod capability;
pub mod code;
pub mod declared;
pub mod elicitation;
pub mod extension;
pub mod feature;
pub mod input;
pub mod level;
pub mod list;
pub mod logger;
pub mod message;
pub mod method;
pub mod mirror;
pub mod notice;
pub mod object;
pub mod pieces;
pub mod response;
pub mod subscription;
pub mod task;
pub mod translate;
pub mod uri;
pub mod version;

pub use ask::Ask;
pub use capability::Capabilities;
pub use declared::Declared;
pub use level::Level;
pub use message::{Kind, Message, ParseError, Span};
pub use method::Method;
pub use notice::Notice;
pub use pieces::Pieces;
pub use version::Version;
