//! `create`, `get`, `describe`, `update` and `delete server` (virtual servers).

use prost_types::FieldMask;
use proto::wire;

use super::{
    Context, Write,
    tool::{Texts, something_named},
};
use crate::{
    args::objects::{CreateServer, DeleteArgs, Naming, UpdateServer},
    client::{Client, request_id, retrying},
    failure::Failure,
    view::ServerView,
};

pub(super) async fn create(context: &Context, args: CreateServer) -> Result<(), Failure> {
    let validate_only = args.write.dry_run;
    let server = wire::VirtualServer {
        name: args.name,
        title: args.common.title.unwrap_or_default(),
        description: args.common.description.unwrap_or_default(),
        tags: args.common.tags,
        upstreams: args.upstreams,
        tools: args.tools,
        prompts: args.prompts,
        resources: args.resources,
        naming: wire_naming(args.naming).into(),
        ..Default::default()
    };
    let request = wire::CreateVirtualServerRequest {
        virtual_server: Some(server),
        request_id: request_id(),
        validate_only,
    };
    let client = context.client().await?;
    let created = retrying(|| {
        let (mut registry, request) = (client.registry(), request.clone());
        async move { registry.create_virtual_server(request).await }
    })
    .await?;
    show_written(context, created, Write::from(validate_only))
}

fn show_written(
    context: &Context,
    server: wire::VirtualServer,
    write: Write,
) -> Result<(), Failure> {
    if write == Write::Checked {
        context.output.say("valid; nothing was changed");
        return Ok(());
    }
    context.output.one(&ServerView::from(server))
}

fn wire_naming(naming: Naming) -> wire::Naming {
    match naming {
        Naming::Prefix => wire::Naming::Prefix,
        Naming::Bare => wire::Naming::Bare,
    }
}

async fn read(client: &Client, name: &str) -> Result<wire::VirtualServer, Failure> {
    retrying(|| {
        let mut registry = client.registry();
        let request = wire::GetVirtualServerRequest { name: name.to_owned() };
        async move { registry.get_virtual_server(request).await }
    })
    .await
}

pub(super) async fn get(context: &Context, name: &str) -> Result<(), Failure> {
    let client = context.client().await?;
    context.output.one(&ServerView::from(read(&client, name).await?))
}

pub(super) async fn describe(context: &Context, name: &str) -> Result<(), Failure> {
    let client = context.client().await?;
    context.output.described(&ServerView::from(read(&client, name).await?))
}

pub(super) async fn list(context: &Context) -> Result<(), Failure> {
    let client = context.client().await?;
    let mut rows = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = retrying(|| {
            let mut registry = client.registry();
            let request =
                wire::ListVirtualServersRequest { page_size: 0, page_token: page_token.clone() };
            async move { registry.list_virtual_servers(request).await }
        })
        .await?;
        rows.extend(page.virtual_servers.into_iter().map(ServerView::from));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return context.output.list(&rows, "servers");
        }
    }
}

pub(super) async fn update(context: &Context, args: UpdateServer) -> Result<(), Failure> {
    let client = context.client().await?;
    let validate_only = args.write.dry_run;
    let (server, paths) = changed(read(&client, &args.name).await?, args)?;
    let request = wire::UpdateVirtualServerRequest {
        virtual_server: Some(server),
        update_mask: Some(FieldMask { paths }),
        request_id: request_id(),
        validate_only,
    };
    let updated = retrying(|| {
        let (mut registry, request) = (client.registry(), request.clone());
        async move { registry.update_virtual_server(request).await }
    })
    .await?;
    show_written(context, updated, Write::from(validate_only))
}

fn changed(
    mut server: wire::VirtualServer,
    args: UpdateServer,
) -> Result<(wire::VirtualServer, Vec<String>), Failure> {
    let mut paths = Vec::new();
    let selections = [
        ("upstreams", &mut server.upstreams, args.upstreams),
        ("tools", &mut server.tools, args.tools),
        ("prompts", &mut server.prompts, args.prompts),
        ("resources", &mut server.resources, args.resources),
    ];
    for (path, current, wanted) in selections {
        if !wanted.is_empty() {
            *current = wanted;
            paths.push(path.to_owned());
        }
    }
    if let Some(naming) = args.naming {
        server.naming = wire_naming(naming).into();
        paths.push("naming".to_owned());
    }
    let texts = Texts {
        title: &mut server.title,
        description: &mut server.description,
        tags: &mut server.tags,
        disabled: &mut server.disabled,
    };
    texts.change(args.common, &args.switch, &mut paths);
    server.resource_version = args.if_version.unwrap_or(server.resource_version);
    something_named(&paths)?;
    Ok((server, paths))
}

pub(super) async fn delete(
    client: &Client,
    name: &str,
    args: &DeleteArgs,
) -> Result<wire::DeleteResponse, Failure> {
    let request = wire::DeleteVirtualServerRequest {
        name: name.to_owned(),
        resource_version: args.if_version.unwrap_or_default(),
        request_id: request_id(),
        validate_only: args.write.dry_run,
    };
    retrying(|| {
        let (mut registry, request) = (client.registry(), request.clone());
        async move { registry.delete_virtual_server(request).await }
    })
    .await
}
