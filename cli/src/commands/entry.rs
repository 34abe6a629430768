//! `get prompts` and `get resources`.

use proto::wire;

use super::Context;
use crate::{
    client::retrying,
    failure::{Exit, Failure},
    output::Row,
    view::entry::{PromptView, ResourceView},
};

pub(super) async fn prompts(
    context: &Context,
    name: Option<&str>,
    upstream: Option<String>,
) -> Result<(), Failure> {
    let client = context.client().await?;
    let upstream = upstream.unwrap_or_default();
    let mut rows = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = retrying(|| {
            let mut registry = client.registry();
            let (page_token, upstream) = (page_token.clone(), upstream.clone());
            let request = wire::ListPromptsRequest { page_size: 0, page_token, upstream };
            async move { registry.list_prompts(request).await }
        })
        .await?;
        rows.extend(page.prompts.into_iter().map(PromptView::from));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return show(context, rows, name, ("prompt", "prompts"));
        }
    }
}

pub(super) async fn resources(
    context: &Context,
    name: Option<&str>,
    upstream: Option<String>,
) -> Result<(), Failure> {
    let client = context.client().await?;
    let upstream = upstream.unwrap_or_default();
    let mut rows = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = retrying(|| {
            let mut registry = client.registry();
            let (page_token, upstream) = (page_token.clone(), upstream.clone());
            let request = wire::ListResourcesRequest { page_size: 0, page_token, upstream };
            async move { registry.list_resources(request).await }
        })
        .await?;
        rows.extend(page.resources.into_iter().map(ResourceView::from));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return show(context, rows, name, ("resource", "resources"));
        }
    }
}

/// All of them, or the one that is called `name`.
fn show<T: Row>(
    context: &Context,
    rows: Vec<T>,
    name: Option<&str>,
    (one, many): (&str, &str),
) -> Result<(), Failure> {
    let Some(name) = name else { return context.output.list(&rows, many) };
    let found = rows.iter().find(|row| row.name() == name);
    let missing = || Failure::new(Exit::NotFound, "not_found", format!("no {one} `{name}`"));
    context.output.one(found.ok_or_else(missing)?)
}
