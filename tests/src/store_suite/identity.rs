//! Tokens, keys and enrolments, through the services that clients use.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use axum::Router;
use control_plane::{ControlPlane, clock::ManualClock};
use proto::wire::{
    self, identity_client::IdentityClient, operations_client::OperationsClient,
    sync_client::SyncClient,
};
use tonic::{Code, Request};

use super::place::Place;

/// An administrator's client.
fn client(control_plane: &ControlPlane) -> IdentityClient<Router> {
    IdentityClient::new(control_plane.local())
}

/// Whether management lets this secret in.
async fn is_known(control_plane: &ControlPlane, secret: &str) -> anyhow::Result<bool> {
    let mut request = Request::new(wire::GetCallerRequest {});
    request.metadata_mut().insert("authorization", format!("Bearer {secret}").parse()?);
    match IdentityClient::new(control_plane.management()).get_caller(request).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::Unauthenticated => Ok(false),
        Err(status) => Err(status.into()),
    }
}

fn create(name: &str) -> wire::CreateTokenRequest {
    wire::CreateTokenRequest {
        name: name.to_owned(),
        request_id: format!("make-{name}"),
        ..Default::default()
    }
}

/// A token outlives a restart, is listed page by page, and ends at its
/// revocation or its time.
pub async fn tokens_end_as_they_should(place: &Place) -> anyhow::Result<()> {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let first = place.start(&clock).await?;
    let made = client(&first).create_token(create("laptop")).await?.into_inner();
    let again = client(&first).create_token(create("laptop")).await?.into_inner();
    ensure!(made == again, "a repeated request makes nothing");
    let short = wire::CreateTokenRequest { expire_time_ms: 1_001_000, ..create("short") };
    let short = client(&first).create_token(short).await?.into_inner();
    first.shutdown().await;

    let second = place.start(&clock).await?;
    ensure!(is_known(&second, &made.secret).await?);
    ensure!(is_known(&second, &short.secret).await?);
    clock.advance_ms(1_000);
    ensure!(!is_known(&second, &short.secret).await?, "its time is over");
    // The name of an expired token is free.
    let renewed = wire::CreateTokenRequest { request_id: String::new(), ..create("short") };
    client(&second).create_token(renewed).await?;

    let page =
        wire::ListTokensRequest { page_size: 2, include_revoked: true, ..Default::default() };
    let page = client(&second).list_tokens(page).await?.into_inner();
    ensure!(page.tokens.len() == 2 && !page.next_page_token.is_empty(), "{page:?}");
    let rest = wire::ListTokensRequest {
        page_token: page.next_page_token,
        include_revoked: true,
        ..Default::default()
    };
    ensure!(client(&second).list_tokens(rest).await?.into_inner().tokens.len() == 1);

    let revoke = wire::RevokeTokenRequest { name: "laptop".to_owned(), ..Default::default() };
    let revoked = client(&second).revoke_token(revoke).await?.into_inner();
    let token = revoked.token.context("the revoked token")?;
    ensure!(token.revoke_time_ms == 1_001_000 && token.resource_version == revoked.revision);
    ensure!(!is_known(&second, &made.secret).await?);
    second.shutdown().await;
    Ok(())
}

/// A join token lets one proxy in, once.
pub async fn join_tokens_are_spent_once(place: &Place) -> anyhow::Result<()> {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let control_plane = place.start(&clock).await?;
    let request = wire::CreateJoinTokenRequest { lifetime_seconds: 0 };
    let mut operations = OperationsClient::new(control_plane.local());
    let made = operations.create_join_token(request).await?.into_inner();
    ensure!(made.expire_time_ms == 1_600_000);
    let enroll = |proxy: &str| wire::EnrollRequest {
        join_token: made.join_token.clone(),
        proxy_id: proxy.to_owned(),
        advertise_address: "http://127.0.0.1:4444".to_owned(),
    };
    let mut sync = SyncClient::new(control_plane.sync());
    let credential = sync.enroll(enroll("p1")).await?.into_inner().credential;
    ensure!(credential.starts_with("lgp_"));
    let second = sync.enroll(enroll("p2")).await;
    ensure!(second.is_err_and(|status| status.code() == Code::Unauthenticated));
    ensure!(!is_known(&control_plane, &credential).await?, "a proxy administers nothing");
    control_plane.shutdown().await;
    Ok(())
}

/// The database that the status names is the one in use.
pub async fn the_status_names_the_database(place: &Place) -> anyhow::Result<()> {
    let control_plane = place.start(&Arc::new(ManualClock::at(1_000_000))).await?;
    let mut operations = OperationsClient::new(control_plane.local());
    let status = operations.get_status(wire::GetStatusRequest {}).await?.into_inner();
    ensure!(status.database == place.dialect() && status.database_reachable, "{status:?}");
    ensure!(status.revision > 0 && !status.store_epoch.is_empty(), "{status:?}");
    control_plane.shutdown().await;
    Ok(())
}
