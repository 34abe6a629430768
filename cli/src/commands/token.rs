//! `token create|list|revoke|create-jwt`.

use std::time::Duration;

use proto::wire;

use super::{Context, all_proxies, jwt};
use crate::{
    args::{Format, TokenCommand, token::Role},
    client::{Client, request_id, retrying},
    failure::Failure,
    view::TokenView,
};

/// How long a new token waits for the proxies.
const KNOWN_WITHIN: Duration = Duration::from_secs(3);

/// Which tokens a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Valid,
    All,
}

pub(super) async fn run(context: &Context, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { name, subject, role, expires } => {
            let request = wire::CreateTokenRequest {
                name,
                subject: subject.unwrap_or_default(),
                role: wire_role(role).into(),
                expire_time_ms: expire_time_ms(expires)?,
                request_id: request_id(),
                validate_only: false,
            };
            create(context, request).await
        }
        TokenCommand::List { all } => {
            list(context, if all { Which::All } else { Which::Valid }).await
        }
        TokenCommand::Revoke { name } => revoke(context, name).await,
        TokenCommand::CreateJwt { username, exp, secret } => {
            jwt::create(context, &username, exp, secret)
        }
    }
}

fn wire_role(role: Role) -> wire::Role {
    match role {
        Role::Caller => wire::Role::Caller,
        Role::Admin => wire::Role::Admin,
    }
}

/// 0 days: never.
fn expire_time_ms(days: u32) -> Result<i64, Failure> {
    if days == 0 {
        return Ok(0);
    }
    let span = jiff::SignedDuration::from_hours(i64::from(days) * 24);
    let time = jiff::Timestamp::now().checked_add(span);
    time.map(jiff::Timestamp::as_millisecond)
        .map_err(|_| Failure::usage("--expires: that is beyond the end of time"))
}

/// Waits until the connected proxies accept what `revision` brought, so that a token
/// works when it is printed. One that is slow learns it later.
async fn until_known(client: &Client, revision: u64) -> Result<(), Failure> {
    let known = async {
        loop {
            let proxies = all_proxies(client).await?;
            let mut connected = proxies.iter().filter(|proxy| proxy.connected);
            if connected.all(|proxy| proxy.applied_revision >= revision) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(KNOWN_WITHIN, known).await.unwrap_or(Ok(()))
}

async fn create(context: &Context, request: wire::CreateTokenRequest) -> Result<(), Failure> {
    #[derive(serde::Serialize)]
    struct Created {
        secret: String,
        token: Option<TokenView>,
    }
    let client = context.client().await?;
    let answer = retrying(|| {
        let (mut identity, request) = (client.identity(), request.clone());
        async move { identity.create_token(request).await }
    })
    .await?;
    if let Some(token) = &answer.token {
        until_known(&client, token.resource_version).await?;
    }
    match context.output.format() {
        Format::Table | Format::Name => context.output.text(&answer.secret),
        Format::Json | Format::Yaml => {
            let token = answer.token.map(TokenView::from);
            context.output.facts(&[], &Created { secret: answer.secret, token })
        }
    }
}

pub(super) async fn list(context: &Context, which: Which) -> Result<(), Failure> {
    let client = context.client().await?;
    let mut rows = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = retrying(|| {
            let mut identity = client.identity();
            let request = wire::ListTokensRequest {
                page_size: 0,
                page_token: page_token.clone(),
                include_revoked: which == Which::All,
            };
            async move { identity.list_tokens(request).await }
        })
        .await?;
        rows.extend(page.tokens.into_iter().map(TokenView::from));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return context.output.list(&rows, "tokens");
        }
    }
}

async fn revoke(context: &Context, name: String) -> Result<(), Failure> {
    let client = context.client().await?;
    let request = wire::RevokeTokenRequest { name, request_id: request_id() };
    let answer = retrying(|| {
        let (mut identity, request) = (client.identity(), request.clone());
        async move { identity.revoke_token(request).await }
    })
    .await?;
    context.output.one(&TokenView::from(answer.token.unwrap_or_default()))
}
