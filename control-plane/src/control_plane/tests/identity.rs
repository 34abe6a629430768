//! Tokens, keys and enrolments over time.

use proto::{
    Role,
    resource::{Key, Resource},
    token::JoinToken,
};

use super::*;
use crate::{
    caller::Caller,
    error::Error,
    identity::{
        Identity, ProxyCaller, keys,
        tokens::{NewToken, Revoked, TokenDraft, TokenOptions},
    },
    store,
};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn admin() -> Caller {
    Caller::local_admin("admin")
}

fn draft(name: &str) -> TokenDraft {
    let (name, role) = (name.parse().unwrap(), Role::Caller);
    TokenDraft { name, subject: String::new(), role, expire_time_ms: None }
}

fn headers(authorization: &str) -> http::HeaderMap {
    [(http::header::AUTHORIZATION, authorization.parse().unwrap())].into_iter().collect()
}

async fn create(identity: &Identity, draft: TokenDraft) -> Result<NewToken, Error> {
    identity.create_token(&admin(), draft, TokenOptions::default()).await
}

async fn token_resources(fixture: &Fixture) -> Vec<Resource> {
    let mut read = fixture.control_plane.store.begin_read().await.unwrap();
    store::tokens::resources(read.connection()).await.unwrap()
}

async fn session_keys(fixture: &Fixture) -> Vec<String> {
    let identity = &fixture.control_plane.services.identity;
    let mut read = fixture.control_plane.store.begin_read().await.unwrap();
    let keys = keys::resources(read.connection(), identity.sealer()).await.unwrap();
    let ids = keys.into_iter().filter_map(|key| match key {
        Resource::Key(key) if matches!(key.key, Key::Session(_)) => Some(key.id),
        _ => None,
    });
    ids.collect()
}

#[tokio::test]
async fn a_token_works_until_it_is_revoked() {
    let fixture = Fixture::start().await;
    let identity = fixture.control_plane.services.identity.clone();
    let made = create(&identity, draft("laptop")).await.unwrap();
    assert_eq!(made.secret.expose().len(), 46);
    assert!(made.secret.expose().starts_with(&made.token.prefix));
    let bearer = headers(&format!("Bearer {}", made.secret.expose()));
    let caller = identity.authenticate(&bearer).await.unwrap();
    assert_eq!((caller.subject(), caller.principal.role), ("admin", Role::Caller));
    assert_eq!(token_resources(&fixture).await.len(), 1);

    let taken = create(&identity, draft("laptop")).await;
    assert!(matches!(taken, Err(Error::AlreadyExists { .. })));
    let (_, revision) = identity.revoke_token(&admin(), "laptop").await.unwrap();
    assert!(revision > made.token.resource_version);
    assert!(matches!(identity.authenticate(&bearer).await, Err(Error::Unauthenticated(_))));
    assert!(token_resources(&fixture).await.is_empty());
    let again = identity.revoke_token(&admin(), &made.token.id).await.unwrap();
    assert_eq!(again.1, revision, "revoking twice changes nothing");
    assert!(create(&identity, draft("laptop")).await.is_ok(), "the name is free again");
    let all = identity.list_tokens(&admin(), 1, "", Revoked::Included).await.unwrap();
    assert_eq!(all.tokens.len(), 1);
    let rest = identity.list_tokens(&admin(), 0, &all.next_page_token, Revoked::Included).await;
    assert_eq!(rest.unwrap().tokens.len(), 1);
    fixture.stop().await;
}

#[tokio::test]
async fn an_expired_token_is_refused_and_then_taken_from_the_proxies() {
    let fixture = Fixture::start().await;
    let identity = fixture.control_plane.services.identity.clone();
    let short = TokenDraft { expire_time_ms: Some(NOW_MS + 1000), ..draft("short") };
    let made = create(&identity, short.clone()).await.unwrap();
    let bearer = headers(&format!("Bearer {}", made.secret.expose()));
    assert!(identity.authenticate(&bearer).await.is_ok());
    fixture.clock.advance_ms(1000);
    assert!(identity.authenticate(&bearer).await.is_err());
    identity.upkeep().await.unwrap();
    assert!(token_resources(&fixture).await.is_empty());
    assert!(create(&identity, short).await.is_err(), "its end is past");
    fixture.stop().await;
}

#[tokio::test]
async fn a_repeated_create_gives_the_same_secret() {
    let fixture = Fixture::start().await;
    let identity = fixture.control_plane.services.identity.clone();
    let options = || TokenOptions { request_id: Some("r1".to_owned()), validate_only: false };
    let first = identity.create_token(&admin(), draft("ci"), options()).await.unwrap();
    let second = identity.create_token(&admin(), draft("ci"), options()).await.unwrap();
    assert_eq!(first.secret, second.secret);
    assert_eq!(first.token, second.token);
    let other = identity.create_token(&admin(), draft("other"), options()).await;
    assert!(matches!(other, Err(Error::Invalid(invalid)) if invalid.field == "request_id"));
    let dry = TokenOptions { request_id: None, validate_only: true };
    identity.create_token(&admin(), draft("dry"), dry).await.unwrap();
    let listed = identity.list_tokens(&admin(), 0, "", Revoked::Hidden).await.unwrap();
    assert_eq!(listed.tokens.len(), 1, "a dry run makes nothing");
    fixture.stop().await;
}

#[tokio::test]
async fn session_keys_change_weekly_and_five_are_kept() {
    let fixture = Fixture::start().await;
    let identity = fixture.control_plane.services.identity.clone();
    assert_eq!(session_keys(&fixture).await.len(), 1);
    fixture.clock.advance_ms(6 * DAY_MS);
    identity.upkeep().await.unwrap();
    assert_eq!(session_keys(&fixture).await.len(), 1);
    for _ in 0..8 {
        fixture.clock.advance_ms(7 * DAY_MS);
        identity.upkeep().await.unwrap();
    }
    assert_eq!(session_keys(&fixture).await.len(), 5);
    fixture.stop().await;
}

#[tokio::test]
async fn every_credential_becomes_its_caller() {
    let fixture = Fixture::start().await;
    let identity = fixture.control_plane.services.identity.clone();
    let caller = identity.authenticate(&headers(BASIC)).await.unwrap();
    assert_eq!((caller.subject(), caller.authentication), ("admin", "basic"));
    let (access, end) = identity.issue_access_token(&caller, 0).unwrap();
    assert_eq!(end, NOW_MS + 300_000);
    let bearer = headers(&format!("bearer {}", access.expose()));
    let issued = identity.authenticate(&bearer).await.unwrap();
    assert_eq!(issued.principal, caller.principal);
    assert!(identity.issue_access_token(&issued, 0).is_err(), "no token begets another");
    assert!(identity.issue_access_token(&caller, 3601).is_err());
    // {"username":"admin"} signed with my-test-key, as the seeds make it.
    let claims = serde_json::json!({"username": "admin", "exp": NOW_MS / 1000 + 60});
    let key = jsonwebtoken::EncodingKey::from_secret(b"my-test-key");
    let seed = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let caller = identity.authenticate(&headers(&format!("Bearer {seed}"))).await.unwrap();
    assert_eq!((caller.principal.role, caller.authentication), (Role::Admin, "jwt"));
    for wrong in ["Basic YWRtaW46d3Jvbmc=", "Basic !", "Bearer lg_x", "Bearer x", "Digest x", "x"] {
        let refused = identity.authenticate(&headers(wrong)).await;
        assert!(matches!(refused, Err(Error::Unauthenticated(_))), "{wrong}");
    }
    let mut twice = headers(BASIC);
    twice.append(http::header::AUTHORIZATION, BASIC.parse().unwrap());
    assert!(identity.authenticate(&twice).await.is_err(), "two headers are ambiguous");
    fixture.stop().await;
}

#[tokio::test]
async fn a_join_token_is_spent_once() {
    let fixture = Fixture::start().await;
    let identity = fixture.control_plane.services.identity.clone();
    let (token, end) = identity.create_join_token(&admin(), 60).await.unwrap();
    assert_eq!(end, NOW_MS + 60_000);
    let parsed = JoinToken::parse(token.expose()).unwrap();
    assert_eq!(parsed.fingerprint, fixture.control_plane.certificate.fingerprint());

    assert!(identity.enroll(token.expose(), "no spaces", "").await.is_err());
    let credential = identity.enroll(token.expose(), "p1", "http://p1").await.unwrap();
    let bearer = headers(&format!("Bearer {}", credential.expose()));
    let proxy = identity.authenticate_proxy(&bearer).await.unwrap();
    assert_eq!(proxy, ProxyCaller::Enrolled { proxy_id: "p1".to_owned() });
    assert!(proxy.is("p1") && !proxy.is("p2"));
    assert!(identity.authenticate(&bearer).await.is_err(), "a proxy is no administrator");
    assert!(identity.enroll(token.expose(), "p2", "").await.is_err(), "spent");

    let (late, _) = identity.create_join_token(&admin(), 60).await.unwrap();
    fixture.clock.advance_ms(60_000);
    assert!(identity.enroll(late.expose(), "p2", "").await.is_err(), "expired");
    fixture.stop().await;
}
