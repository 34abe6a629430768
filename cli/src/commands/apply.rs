//! `apply`: one file, one transaction.

use proto::wire;
use serde::Serialize;

use super::Context;
use crate::{
    args::ApplyArgs,
    client::{request_id, retrying},
    failure::Failure,
    inputs, manifest,
    output::Row,
};

#[derive(Serialize)]
struct AppliedView {
    kind: String,
    #[serde(rename = "name")]
    object: String,
    action: &'static str,
    #[serde(skip)]
    label: String,
}

impl From<wire::AppliedObject> for AppliedView {
    fn from(applied: wire::AppliedObject) -> Self {
        let action = match applied.action() {
            wire::ApplyAction::Unspecified | wire::ApplyAction::Unchanged => "unchanged",
            wire::ApplyAction::Created => "created",
            wire::ApplyAction::Updated => "updated",
        };
        let label = format!("{}/{}", applied.kind, applied.name);
        Self { kind: applied.kind, object: applied.name, action, label }
    }
}

impl Row for AppliedView {
    const HEADERS: &'static [&'static str] = &["KIND", "NAME", "ACTION"];

    fn cells(&self) -> Vec<String> {
        vec![self.kind.clone(), self.object.clone(), self.action.to_owned()]
    }

    fn name(&self) -> &str {
        &self.label
    }
}

pub(super) async fn run(context: &Context, args: &ApplyArgs) -> Result<(), Failure> {
    let text = inputs::file_or_stdin(&args.file)?;
    let is_stdin = args.file.as_os_str() == "-";
    let file = if is_stdin { "stdin".into() } else { args.file.display().to_string() };
    let objects = manifest::parse(&text).map_err(|failure| failure.during(&file))?;
    let request =
        wire::ApplyRequest { objects, validate_only: args.write.dry_run, request_id: request_id() };
    let client = context.client().await?;
    let answer = retrying(|| {
        let (mut registry, request) = (client.registry(), request.clone());
        async move { registry.apply(request).await }
    })
    .await
    .map_err(|failure| failure.during(&file))?;
    let rows = answer.objects.into_iter().map(AppliedView::from).collect::<Vec<_>>();
    context.output.list(&rows, "objects")?;
    if args.write.dry_run {
        context.output.say("dry run: nothing was changed");
    } else {
        context.output.say(&format!("revision {}", answer.revision));
    }
    Ok(())
}
