//! `create`, `get`, `describe`, `update` and `delete tool`, and what all updates share.

use prost_types::FieldMask;
use proto::wire;

use super::{Context, Write};
use crate::{
    args::objects::{
        CommonArgs, CreateTool, CredentialChangeArgs, DeleteArgs, SwitchArgs, UpdateTool,
    },
    client::{Client, request_id, retrying},
    failure::Failure,
    inputs,
    view::ToolView,
};

pub(super) async fn create(context: &Context, args: CreateTool) -> Result<(), Failure> {
    let request = wire::CreateToolRequest {
        validate_only: args.write.dry_run,
        tool: Some(from_args(args)?),
        request_id: request_id(),
    };
    let client = context.client().await?;
    let created = retrying(|| {
        let (mut registry, request) = (client.registry(), request.clone());
        async move { registry.create_tool(request).await }
    })
    .await?;
    show_written(context, created, Write::from(request.validate_only))
}

fn from_args(args: CreateTool) -> Result<wire::Tool, Failure> {
    Ok(wire::Tool {
        name: args.name,
        title: args.common.title.unwrap_or_default(),
        description: args.common.description.unwrap_or_default(),
        tags: args.common.tags,
        input_schema: inputs::json("--input-schema", args.input_schema.as_deref())?,
        output_schema: inputs::json("--output-schema", args.output_schema.as_deref())?,
        annotations: inputs::json("--annotations", args.annotations.as_deref())?,
        rest: Some(wire::RestBinding {
            url: args.url,
            method: args.method.to_ascii_uppercase(),
            headers: inputs::pairs("--header", &args.headers)?,
        }),
        credential: inputs::credential(&args.credential)?,
        ..Default::default()
    })
}

fn show_written(context: &Context, tool: wire::Tool, write: Write) -> Result<(), Failure> {
    if write == Write::Checked {
        context.output.say("valid; nothing was changed");
        return Ok(());
    }
    context.output.one(&ToolView::from(tool))
}

async fn read(client: &Client, name: &str) -> Result<wire::Tool, Failure> {
    retrying(|| {
        let mut registry = client.registry();
        let request = wire::GetToolRequest { name: name.to_owned() };
        async move { registry.get_tool(request).await }
    })
    .await
}

pub(super) async fn get(context: &Context, name: &str) -> Result<(), Failure> {
    let client = context.client().await?;
    context.output.one(&ToolView::from(read(&client, name).await?))
}

pub(super) async fn describe(context: &Context, name: &str) -> Result<(), Failure> {
    let client = context.client().await?;
    context.output.described(&ToolView::from(read(&client, name).await?))
}

pub(super) async fn list(context: &Context, upstream: Option<String>) -> Result<(), Failure> {
    let client = context.client().await?;
    let upstream = upstream.unwrap_or_default();
    let mut rows = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = retrying(|| {
            let mut registry = client.registry();
            let request = wire::ListToolsRequest {
                page_size: 0,
                page_token: page_token.clone(),
                upstream: upstream.clone(),
            };
            async move { registry.list_tools(request).await }
        })
        .await?;
        rows.extend(page.tools.into_iter().map(ToolView::from));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return context.output.list(&rows, "tools");
        }
    }
}

pub(super) async fn update(context: &Context, args: UpdateTool) -> Result<(), Failure> {
    let client = context.client().await?;
    let validate_only = args.write.dry_run;
    let (tool, paths) = changed(read(&client, &args.name).await?, args)?;
    let request = wire::UpdateToolRequest {
        tool: Some(tool),
        update_mask: Some(FieldMask { paths }),
        request_id: request_id(),
        validate_only,
    };
    let updated = retrying(|| {
        let (mut registry, request) = (client.registry(), request.clone());
        async move { registry.update_tool(request).await }
    })
    .await?;
    show_written(context, updated, Write::from(validate_only))
}

fn changed(mut tool: wire::Tool, args: UpdateTool) -> Result<(wire::Tool, Vec<String>), Failure> {
    let mut paths = Vec::new();
    if args.url.is_some() || args.method.is_some() || !args.headers.is_empty() {
        let mut rest = tool.rest.take().unwrap_or_default();
        rest.url = args.url.unwrap_or(rest.url);
        rest.method = args.method.map_or(rest.method, |method| method.to_ascii_uppercase());
        if !args.headers.is_empty() {
            rest.headers = inputs::pairs("--header", &args.headers)?;
        }
        tool.rest = Some(rest);
        paths.push("rest".to_owned());
    }
    let schemas = [
        ("input_schema", "--input-schema", args.input_schema, &mut tool.input_schema),
        ("output_schema", "--output-schema", args.output_schema, &mut tool.output_schema),
        ("annotations", "--annotations", args.annotations, &mut tool.annotations),
    ];
    for (path, option, text, target) in schemas {
        if let Some(text) = text {
            *target = inputs::json(option, Some(&text))?;
            paths.push(path.to_owned());
        }
    }
    tool.credential = credential_change(&args.credential)?;
    paths.extend(tool.credential.is_some().then(|| "credential".to_owned()));
    let texts = Texts {
        title: &mut tool.title,
        description: &mut tool.description,
        tags: &mut tool.tags,
        disabled: &mut tool.disabled,
    };
    texts.change(args.common, &args.switch, &mut paths);
    tool.resource_version = args.if_version.unwrap_or(tool.resource_version);
    something_named(&paths)?;
    Ok((tool, paths))
}

pub(super) async fn delete(
    client: &Client,
    name: &str,
    args: &DeleteArgs,
) -> Result<wire::DeleteResponse, Failure> {
    let request = wire::DeleteToolRequest {
        name: name.to_owned(),
        resource_version: args.if_version.unwrap_or_default(),
        request_id: request_id(),
        validate_only: args.write.dry_run,
    };
    retrying(|| {
        let (mut registry, request) = (client.registry(), request.clone());
        async move { registry.delete_tool(request).await }
    })
    .await
}

/// The fields that upstreams, tools and servers share, where an update puts them.
pub(super) struct Texts<'a> {
    pub title: &'a mut String,
    pub description: &'a mut String,
    pub tags: &'a mut Vec<String>,
    pub disabled: &'a mut bool,
}

impl Texts<'_> {
    pub(super) fn change(self, common: CommonArgs, switch: &SwitchArgs, paths: &mut Vec<String>) {
        let CommonArgs { title, description, tags } = common;
        if let Some(title) = title {
            *self.title = title;
            paths.push("title".to_owned());
        }
        if let Some(description) = description {
            *self.description = description;
            paths.push("description".to_owned());
        }
        if !tags.is_empty() {
            *self.tags = tags;
            paths.push("tags".to_owned());
        }
        if switch.enable || switch.disable {
            *self.disabled = switch.disable;
            paths.push("disabled".to_owned());
        }
    }
}

pub(super) fn credential_change(
    args: &CredentialChangeArgs,
) -> Result<Option<wire::Credential>, Failure> {
    if args.no_credential {
        let kind = Some(wire::credential::Kind::None(true));
        return Ok(Some(wire::Credential { kind }));
    }
    inputs::credential(&args.new)
}

pub(super) fn something_named(paths: &[String]) -> Result<(), Failure> {
    if paths.is_empty() {
        return Err(Failure::usage("name at least one thing to change; see --help"));
    }
    Ok(())
}
