//! Who may call: tokens, their end, passwords, foreign signatures.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tests::client::{Client, eventually, http, whole};
use tests::rest_api;
use tests::world::World;

const SECRET: &str = "a-secret-of-at-least-32-characters!";
const PASSWORD: &str = "correct horse battery staple";
const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;

async fn world() -> anyhow::Result<World> {
    let variables = [("JWT_SECRET_KEY", SECRET), ("LOCKGATE_ADMIN_PASSWORD", PASSWORD)];
    World::up_with(&[], &variables).await
}

fn in_an_hour() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs() + 3600
}

fn signed(claims: &serde_json::Value, secret: &str) -> anyhow::Result<String> {
    let key = EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), claims, &key)?)
}

async fn status(url: &str, authorization: &str) -> anyhow::Result<u16> {
    let client = Client::new(url, None).authorized(authorization);
    Ok(client.post(HELLO).await?.status.as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_served_but_health() -> anyhow::Result<()> {
    let world = world().await?;
    let answer = Client::new(&format!("{}/mcp", world.url()), None).post(HELLO).await?;
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").is_some(), "{answer:?}");
    let tools = http().get(format!("{}/tools", world.url())).send().await?;
    assert_eq!(tools.status(), 401);
    for path in ["/health", "/ready"] {
        assert_eq!(
            http().get(format!("{}{path}", world.url())).send().await?.status(),
            200,
            "{path}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_credential_is_judged_by_itself() -> anyhow::Result<()> {
    let world = world().await?;
    let url = format!("{}/mcp", world.url());
    let ours = world.ok(&["token", "create", "--name", "mine"]).await?;
    let seed = signed(&json!({"username": "admin", "exp": in_an_hour()}), SECRET)?;
    let endless = signed(&json!({"username": "admin"}), SECRET)?;
    let with_audience = signed(&json!({"sub": "admin", "aud": "x", "exp": in_an_hour()}), SECRET)?;
    let late = signed(&json!({"username": "admin", "exp": 1_000_000_000}), SECRET)?;
    let foreign = signed(
        &json!({"username": "admin", "exp": in_an_hour()}),
        "another secret of 32 characters!!",
    )?;
    // {"alg":"none","typ":"JWT"} . {"username":"admin"} . nothing
    let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJ1c2VybmFtZSI6ImFkbWluIn0.";
    let basic = "YWRtaW46Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==";
    let made = world.ok(&["token", "create-jwt", "--username", "admin"]).await;
    for (authorization, expected) in [
        (format!("Bearer {ours}"), 200),
        (format!("bearer {ours}"), 200),
        (format!("Bearer {seed}"), 200),
        (format!("Bearer {endless}"), 200),
        (format!("Bearer {with_audience}"), 200),
        (format!("Basic {basic}"), 200),
        (format!("Bearer {late}"), 401),
        (format!("Bearer {foreign}"), 401),
        (format!("Bearer {unsigned}"), 401),
        ("Basic YWRtaW46d3Jvbmc=".to_owned(), 401),
        (format!("Bearer {ours}x"), 401),
        ("Bearer lg_none".to_owned(), 401),
        ("Bearer ".to_owned(), 401),
        ("Digest x".to_owned(), 401),
    ] {
        assert_eq!(status(&url, &authorization).await?, expected, "{authorization}");
    }
    drop(made);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_within_a_second_and_after_a_restart() -> anyhow::Result<()> {
    let api = rest_api::start().await?;
    let mut world = world().await?;
    world.ok(&["create", "tool", "thing", "--url", &api.url("/")]).await?;
    let token = world.ok(&["token", "create", "--name", "short"]).await?;
    let mut client = Client::new(&format!("{}/mcp", world.url()), Some(&token));
    client.initialize().await?;
    client.call_text("thing", "{}").await?;
    world.ok(&["token", "revoke", "short"]).await?;
    eventually("the token is refused", Duration::from_millis(1500), || async {
        Ok(client.legacy("ping", "{}").await?.status == 401)
    })
    .await?;
    world.kill().await;
    world.start_again().await?;
    assert_eq!(client.legacy("ping", "{}").await?.status, 401);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_belongs_to_whoever_opened_it() -> anyhow::Result<()> {
    let world = world().await?;
    let mut mine = world.client("/mcp").await?;
    mine.initialize().await?;
    let session = mine.session().unwrap_or_default().to_owned();
    let theirs = signed(&json!({"username": "somebody", "exp": in_an_hour()}), SECRET)?;
    let stranger = Client::new(&format!("{}/mcp", world.url()), Some(&theirs));
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let answer =
        whole(stranger.request(body).header("mcp-session-id", &session).send().await?).await?;
    assert!(matches!(answer.status.as_u16(), 401 | 403 | 404), "{answer:?}");
    let mine = world.client("/mcp").await?;
    let forged = whole(mine.request(body).header("mcp-session-id", "AAAA").send().await?).await?;
    assert!(!forged.status.is_success(), "{forged:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_of_other_sites_and_forged_hosts_are_refused() -> anyhow::Result<()> {
    let world = world().await?;
    let client = world.client("/mcp").await?;
    for (header, value, expected) in [
        ("origin", "http://evil.example.com", 403),
        ("origin", "http://localhost:3000", 200),
        ("host", "evil.example.com", 403),
    ] {
        let answer = client.request(HELLO).header(header, value).send().await?;
        assert_eq!(answer.status(), expected, "{header}: {value}");
    }
    let preflight = http()
        .request(http::Method::OPTIONS, format!("{}/mcp", world.url()))
        .header("origin", "http://localhost:3000")
        .header("access-control-request-method", "POST")
        .send()
        .await?;
    assert_eq!(preflight.status(), 204);
    Ok(())
}
