//! How an upstream is reached, as it is shown and as `apply` takes it back.

use std::collections::BTreeMap;

use proto::wire::{self, upstream::Transport};
use serde::Serialize;

use crate::transport;

#[derive(Default, Serialize)]
pub(super) struct TransportView {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) url: String,
    /// Only where the URL does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) command: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) args: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    working_directory: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdio_mode: Option<&'static str>,
}

impl From<Transport> for TransportView {
    fn from(transport: Transport) -> Self {
        let word = transport::field_of(&transport);
        let behind = |url: String| {
            let told = transport::field_of(&transport::to_url(url.clone(), None));
            Self { url, transport: (told != word).then_some(word), ..Self::default() }
        };
        match transport {
            Transport::Http(wire::HttpTransport { url })
            | Transport::Sse(wire::SseTransport { url })
            | Transport::Websocket(wire::WebSocketTransport { url }) => behind(url),
            Transport::Stdio(stdio) => Self {
                stdio_mode: (stdio.mode() == wire::StdioMode::PerSession).then_some("per-session"),
                command: stdio.command,
                args: stdio.args,
                env: stdio.env.into_iter().collect(),
                working_directory: stdio.working_directory,
                ..Self::default()
            },
        }
    }
}
