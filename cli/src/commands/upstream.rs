//! `create`, `get`, `describe`, `update`, `delete` and `refresh upstream`.

use prost_types::FieldMask;
use proto::wire::{self, upstream::Transport};

use super::{
    Context,
    wait::{Wait, until_discovered},
};
use crate::{
    args::objects::{CreateUpstream, DeleteArgs, UpdateUpstream},
    client::{Client, request_id, retrying},
    failure::Failure,
    inputs, transport,
    view::UpstreamView,
};

pub(super) async fn create(context: &Context, args: CreateUpstream) -> Result<(), Failure> {
    let wait = Wait::from(args.no_wait || args.write.dry_run);
    let request = wire::CreateUpstreamRequest {
        validate_only: args.write.dry_run,
        upstream: Some(from_args(args)?),
        request_id: request_id(),
    };
    let client = context.client().await?;
    let created = retrying(|| {
        let (mut registry, request) = (client.registry(), request.clone());
        async move { registry.create_upstream(request).await }
    })
    .await?;
    if request.validate_only {
        context.output.say("valid; nothing was changed");
        return Ok(());
    }
    finish(context, &client, created, 0, wait).await
}

fn from_args(args: CreateUpstream) -> Result<wire::Upstream, Failure> {
    let env = inputs::pairs("--env", &args.env)?;
    let transport = match (args.url, args.command) {
        (Some(url), _) => transport::to_url(url, args.transport),
        (None, command) => Transport::Stdio(wire::StdioTransport {
            command: command.unwrap_or_default(),
            args: args.args,
            env,
            working_directory: args.working_directory.unwrap_or_default(),
            mode: args.stdio_mode.map(wire::StdioMode::from).unwrap_or_default().into(),
        }),
    };
    Ok(wire::Upstream {
        name: args.name,
        title: args.common.title.unwrap_or_default(),
        description: args.common.description.unwrap_or_default(),
        tags: args.common.tags,
        transport: Some(transport),
        credential: inputs::credential(&args.credential)?,
        disabled: args.disabled,
        catalog_scope: args.catalog_scope.map(wire::CatalogScope::from).unwrap_or_default().into(),
        ..Default::default()
    })
}

/// Shows the upstream, after its discovery where that is wanted.
async fn finish(
    context: &Context,
    client: &Client,
    upstream: wire::Upstream,
    generation: u64,
    wait: Wait,
) -> Result<(), Failure> {
    let upstream = match wait {
        Wait::No => upstream,
        Wait::UntilDone => until_discovered(client, &upstream.id, generation).await?,
    };
    for notice in upstream.status.iter().flat_map(|status| &status.notices) {
        context.output.say(&format!("notice: {notice}"));
    }
    context.output.one(&UpstreamView::from(upstream))
}

async fn read(client: &Client, name: &str) -> Result<wire::Upstream, Failure> {
    retrying(|| {
        let mut registry = client.registry();
        let request = wire::GetUpstreamRequest { name: name.to_owned() };
        async move { registry.get_upstream(request).await }
    })
    .await
}

pub(super) async fn get(context: &Context, name: &str) -> Result<(), Failure> {
    let client = context.client().await?;
    context.output.one(&UpstreamView::from(read(&client, name).await?))
}

pub(super) async fn describe(context: &Context, name: &str) -> Result<(), Failure> {
    let client = context.client().await?;
    let upstream = read(&client, name).await?;
    context.output.described(&UpstreamView::from(upstream))
}

pub(super) async fn list(context: &Context) -> Result<(), Failure> {
    let client = context.client().await?;
    let mut rows = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = retrying(|| {
            let mut registry = client.registry();
            let request =
                wire::ListUpstreamsRequest { page_size: 0, page_token: page_token.clone() };
            async move { registry.list_upstreams(request).await }
        })
        .await?;
        rows.extend(page.upstreams.into_iter().map(UpstreamView::from));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return context.output.list(&rows, "upstreams");
        }
    }
}

pub(super) async fn update(context: &Context, args: UpdateUpstream) -> Result<(), Failure> {
    let client = context.client().await?;
    let current = read(&client, &args.name).await?;
    let generation =
        current.status.as_ref().map(|status| status.discovery_generation).unwrap_or_default();
    let wait = Wait::from(args.no_wait || args.write.dry_run);
    let validate_only = args.write.dry_run;
    let (upstream, paths) = changed(current, args)?;
    // Other changes do not touch the catalog: there is nothing to wait for.
    let is_connecting =
        |path: &str| matches!(path, "http" | "sse" | "websocket" | "stdio" | "credential");
    let reconnects = paths.iter().any(|path| is_connecting(path));
    let wait = if reconnects { wait } else { Wait::No };
    let request = wire::UpdateUpstreamRequest {
        upstream: Some(upstream),
        update_mask: Some(FieldMask { paths }),
        request_id: request_id(),
        validate_only,
    };
    let updated = retrying(|| {
        let (mut registry, request) = (client.registry(), request.clone());
        async move { registry.update_upstream(request).await }
    })
    .await?;
    if validate_only {
        context.output.say("valid; nothing was changed");
        return Ok(());
    }
    finish(context, &client, updated, generation, wait).await
}

/// The upstream with what was named put in, and the paths of it.
fn changed(
    mut upstream: wire::Upstream,
    args: UpdateUpstream,
) -> Result<(wire::Upstream, Vec<String>), Failure> {
    let mut paths = Vec::new();
    if let Some(url) = args.url {
        let transport = transport::to_url(url, args.transport);
        paths.push(transport::field_of(&transport).to_owned());
        upstream.transport = Some(transport);
    }
    let touches_stdio = args.command.is_some()
        || !args.args.is_empty()
        || !args.env.is_empty()
        || args.working_directory.is_some()
        || args.stdio_mode.is_some();
    if touches_stdio {
        let mut stdio = match upstream.transport.take() {
            Some(Transport::Stdio(stdio)) => stdio,
            Some(Transport::Http(_) | Transport::Sse(_) | Transport::Websocket(_)) | None => {
                wire::StdioTransport::default()
            }
        };
        if let Some(command) = args.command {
            // Another program has other arguments.
            let mode = stdio.mode;
            stdio = wire::StdioTransport { command, mode, ..wire::StdioTransport::default() };
        }
        if !args.args.is_empty() {
            stdio.args = args.args;
        }
        if !args.env.is_empty() {
            stdio.env = inputs::pairs("--env", &args.env)?;
        }
        if let Some(directory) = args.working_directory {
            stdio.working_directory = directory;
        }
        if let Some(mode) = args.stdio_mode {
            stdio.set_mode(mode.into());
        }
        upstream.transport = Some(Transport::Stdio(stdio));
        paths.push("stdio".to_owned());
    }
    if let Some(scope) = args.catalog_scope {
        upstream.set_catalog_scope(scope.into());
        paths.push("catalog_scope".to_owned());
    }
    upstream.credential = super::tool::credential_change(&args.credential)?;
    paths.extend(upstream.credential.is_some().then(|| "credential".to_owned()));
    let texts = super::tool::Texts {
        title: &mut upstream.title,
        description: &mut upstream.description,
        tags: &mut upstream.tags,
        disabled: &mut upstream.disabled,
    };
    texts.change(args.common, &args.switch, &mut paths);
    // What was read is what is changed, unless a version was asked for.
    upstream.resource_version = args.if_version.unwrap_or(upstream.resource_version);
    super::tool::something_named(&paths)?;
    Ok((upstream, paths))
}

pub(super) async fn delete(
    client: &Client,
    name: &str,
    args: &DeleteArgs,
) -> Result<wire::DeleteResponse, Failure> {
    let request = wire::DeleteUpstreamRequest {
        name: name.to_owned(),
        resource_version: args.if_version.unwrap_or_default(),
        request_id: request_id(),
        validate_only: args.write.dry_run,
    };
    retrying(|| {
        let (mut registry, request) = (client.registry(), request.clone());
        async move { registry.delete_upstream(request).await }
    })
    .await
}

pub(super) async fn refresh(context: &Context, name: &str, wait: Wait) -> Result<(), Failure> {
    let client = context.client().await?;
    let asked = retrying(|| {
        let mut registry = client.registry();
        let request = wire::RefreshUpstreamRequest { name: name.to_owned() };
        async move { registry.refresh_upstream(request).await }
    })
    .await?;
    let generation =
        asked.status.as_ref().map(|status| status.discovery_generation).unwrap_or_default();
    finish(context, &client, asked, generation, wait).await
}
