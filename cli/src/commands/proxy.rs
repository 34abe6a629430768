//! `get proxies`, `proxy join-token` and `proxy revoke`.

use proto::wire;

use super::Context;
use crate::{
    client::{Client, retrying},
    failure::{Exit, Failure},
    view::ProxyView,
};

pub(crate) async fn all_proxies(client: &Client) -> Result<Vec<wire::Proxy>, Failure> {
    let mut proxies = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = retrying(|| {
            let mut operations = client.operations();
            let request = wire::ListProxiesRequest { page_size: 0, page_token: page_token.clone() };
            async move { operations.list_proxies(request).await }
        })
        .await?;
        proxies.extend(page.proxies);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(proxies);
        }
    }
}

pub(super) async fn list(context: &Context, id: Option<&str>) -> Result<(), Failure> {
    let client = context.client().await?;
    let proxies = all_proxies(&client).await?;
    let Some(id) = id else {
        let rows = proxies.into_iter().map(ProxyView::from).collect::<Vec<_>>();
        return context.output.list(&rows, "proxies");
    };
    let found = proxies.into_iter().find(|proxy| proxy.id == id);
    let proxy = found
        .ok_or_else(|| Failure::new(Exit::NotFound, "not_found", format!("no proxy `{id}`")))?;
    context.output.one(&ProxyView::from(proxy))
}

pub(super) async fn join_token(context: &Context, minutes: u32) -> Result<(), Failure> {
    let client = context.client().await?;
    let lifetime_seconds = minutes.saturating_mul(60);
    let request = wire::CreateJoinTokenRequest { lifetime_seconds };
    // Not repeated by itself: a lost answer costs nothing but an unused secret.
    let answer = client.operations().create_join_token(request).await?.into_inner();
    context.output.text(&answer.join_token)?;
    context.output.say(&format!(
        "one proxy can join with it within {minutes} min: \
         lockgate data-plane --control https://HOST:4447 --join TOKEN"
    ));
    Ok(())
}

pub(super) async fn revoke(context: &Context, id: &str) -> Result<(), Failure> {
    let client = context.client().await?;
    let request = wire::RevokeProxyRequest { id: id.to_owned() };
    client.operations().revoke_proxy(request).await?;
    context.output.say(&format!("revoked proxy `{id}`: the others refuse it from now on"));
    Ok(())
}
