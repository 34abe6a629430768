//! `status` and `version`.

use proto::wire;
use serde::Serialize;

use super::Context;
use crate::{client::retrying, failure::Failure, view::StatusView};

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) async fn status(context: &Context) -> Result<(), Failure> {
    let client = context.client().await?;
    let status = retrying(|| {
        let mut operations = client.operations();
        async move { operations.get_status(wire::GetStatusRequest {}).await }
    })
    .await?;
    let view = StatusView::from(status);
    context.output.facts(&view.facts(), &view)
}

#[derive(Serialize)]
struct Shown<'a> {
    client: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    control_plane: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    protocol_versions: &'a [String],
}

pub(super) fn client_version(context: &Context) -> Result<(), Failure> {
    let versions = Shown { client: VERSION, control_plane: None, protocol_versions: &[] };
    context.output.facts(&[("lockgate", VERSION.to_owned())], &versions)
}

/// Without a running instance the own version is still an answer.
pub(super) async fn version(context: &Context) -> Result<(), Failure> {
    let client = match context.client().await {
        Ok(client) => client,
        Err(failure) => {
            client_version(context)?;
            context.output.say(&format!("control plane: {}", failure.message));
            return Ok(());
        }
    };
    let version = retrying(|| {
        let mut operations = client.operations();
        async move { operations.get_version(wire::GetVersionRequest {}).await }
    })
    .await?;
    let facts = [
        ("lockgate", VERSION.to_owned()),
        ("control plane", version.version.clone()),
        ("MCP", version.protocol_versions.join(", ")),
    ];
    let versions = Shown {
        client: VERSION,
        control_plane: Some(&version.version),
        protocol_versions: &version.protocol_versions,
    };
    context.output.facts(&facts, &versions)
}
