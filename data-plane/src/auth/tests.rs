//! Who is believed, and who is not.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto::{
    Role, Secret,
    resource::{Key, Resource, TokenResource},
};
use serde_json::json;

use super::*;
use crate::snapshot::table::tests::{compile, key, token};

const NOW_MS: i64 = 1_800_000_000_000;
const NOW: i64 = NOW_MS / 1000;
/// RFC 8410 §7: the seed of this key is in every copy of the RFC.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
const PUBLIC: [u8; 32] = [
    0x19, 0xbf, 0x44, 0x09, 0x69, 0x84, 0xcd, 0xfe, 0x85, 0x41, 0xba, 0xc1, 0x67, 0xdc, 0x3b, 0x96,
    0xc8, 0x50, 0x86, 0xaa, 0x30, 0xb6, 0xb6, 0xcb, 0x0c, 0x5c, 0x38, 0xad, 0x70, 0x31, 0x66, 0xe1,
];

fn hs256_key(secret: &str) -> Resource {
    key("hs", Key::JwtHs256(Secret::new(secret.as_bytes().to_vec())))
}

fn basic_key(password: &str) -> Resource {
    use argon2::{Argon2, Params, password_hash::PasswordHasher as _};
    let quick = Argon2::new(
        argon2::Algorithm::Argon2id,
        argon2::Version::V0x13,
        Params::new(8, 1, 1, None).unwrap(),
    );
    let hash = quick.hash_password(password.as_bytes()).unwrap().to_string();
    key("basic", Key::Basic { user: "admin".to_owned(), hash })
}

fn table() -> Table {
    compile(&[
        Resource::Token(token("lg_good", "alice")),
        Resource::Token(TokenResource { expire_time_ms: Some(NOW_MS), ..token("lg_old", "bob") }),
        hs256_key("my-test-key"),
        key("ed", Key::JwtEdDsa(PUBLIC)),
        basic_key("pw:with colon"),
    ])
    .unwrap()
}

fn look(table: &Table, cache: &Arc<Cache>, header: &str) -> Result<(String, Role), AuthError> {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, header.parse().unwrap());
    let principal = match authenticate(table, &headers, NOW_MS, cache)? {
        AuthOutcome::Known(principal) => principal,
        AuthOutcome::NeedsSlowCheck(check) => check.run()?,
    };
    Ok((principal.subject.as_ref().to_owned(), principal.role))
}

#[track_caller]
fn check(header: &str, expected: Result<(&str, Role), AuthError>) {
    let expected = expected.map(|(subject, role)| (subject.to_owned(), role));
    assert_eq!(look(&table(), &Arc::default(), header), expected, "{header}");
}

fn hs256(secret: &str, claims: &serde_json::Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    format!(
        "Bearer {}",
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
    )
}

fn eddsa(claims: &serde_json::Value) -> String {
    let key = EncodingKey::from_ed_pem(PRIVATE.as_bytes()).unwrap();
    format!(
        "Bearer {}",
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &key).unwrap()
    )
}

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

#[test]
fn api_tokens_are_known_by_their_digest() {
    check("Bearer lg_good", Ok(("alice", Role::Caller)));
    check("bearer  lg_good", Ok(("alice", Role::Caller)));
    check("Bearer lg_goof", Err(AuthError::UnknownToken));
    check("Bearer lg_old", Err(AuthError::Expired));
    check("Bearer nonsense", Err(AuthError::UnknownToken));
    check("Token lg_good", Err(AuthError::Malformed));
    check("lg_good", Err(AuthError::Malformed));
}

#[test]
fn one_header_and_only_one_is_taken() {
    let mut headers = HeaderMap::new();
    let look =
        |headers: &HeaderMap| authenticate(&table(), headers, NOW_MS, &Arc::default()).map(drop);
    assert_eq!(look(&headers), Err(AuthError::Missing));
    headers.append(AUTHORIZATION, "Bearer lg_good".parse().unwrap());
    assert_eq!(look(&headers), Ok(()));
    headers.append(AUTHORIZATION, "Bearer lg_good".parse().unwrap());
    assert_eq!(look(&headers), Err(AuthError::Malformed));
}

#[test]
fn contextforges_tokens_are_believed_for_the_configured_secret() {
    let take = |claims: serde_json::Value| hs256("my-test-key", &claims);
    check(&take(json!({"username": "admin", "exp": NOW + 60})), Ok(("admin", Role::Admin)));
    check(&take(json!({"sub": "eve", "aud": ["x"]})), Ok(("eve", Role::Caller)));
    check(&take(json!({"username": "eve", "exp": NOW - 59})), Ok(("eve", Role::Caller)));
    check(&take(json!({"username": "eve", "exp": NOW - 61})), Err(AuthError::Expired));
    check(&take(json!({"username": "eve", "nbf": NOW + 61})), Err(AuthError::NotYetValid));
    check(&take(json!({"username": "eve", "exp": "tomorrow"})), Err(AuthError::BadClaims));
    check(&take(json!({"exp": NOW + 60})), Err(AuthError::BadClaims));
    check(&hs256("other-key", &json!({"username": "admin"})), Err(AuthError::BadSignature));
}

#[test]
fn our_own_tokens_need_all_their_claims() {
    let claims = json!({"iss": "lockgate", "sub": "eve", "role": "caller", "exp": NOW + 60});
    check(&eddsa(&claims), Ok(("eve", Role::Caller)));
    let without = |key: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(key);
        claims
    };
    for key in ["iss", "sub", "role", "exp"] {
        check(&eddsa(&without(key)), Err(AuthError::BadClaims));
    }
    let mut foreign = claims.clone();
    foreign["iss"] = json!("elsewhere");
    check(&eddsa(&foreign), Err(AuthError::BadClaims));
}

#[test]
fn a_key_is_never_used_with_another_algorithm() {
    // The classic confusion: HS256 with the public key as the secret.
    let claims = json!({"username": "admin", "iss": "lockgate", "sub": "admin", "role": "admin", "exp": NOW + 60});
    let key = EncodingKey::from_secret(&PUBLIC);
    let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    check(&format!("Bearer {forged}"), Err(AuthError::BadSignature));
    let key = EncodingKey::from_secret(b"my-test-key");
    let other = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &key).unwrap();
    check(&format!("Bearer {other}"), Err(AuthError::BadSignature));
    check("Bearer eyJhbGciOiJub25lIn0.eyJ1c2VybmFtZSI6ImFkbWluIn0.", Err(AuthError::UnknownToken));
}

#[test]
fn the_administrator_s_password_is_checked_once() {
    check(&basic("admin:wrong"), Err(AuthError::WrongPassword));
    check(&basic("other:pw:with colon"), Err(AuthError::WrongPassword));
    check("Basic !!", Err(AuthError::Malformed));
    check(&basic("no-colon"), Err(AuthError::Malformed));
    let (table, cache) = (table(), Arc::default());
    let header = basic("admin:pw:with colon");
    assert_eq!(look(&table, &cache, &header), Ok(("admin".to_owned(), Role::Admin)));
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, header.parse().unwrap());
    let again = authenticate(&table, &headers, NOW_MS, &cache).unwrap();
    assert!(matches!(again, AuthOutcome::Known(_)));
}

#[test]
fn what_was_verified_falls_with_its_key() {
    let cache = Arc::default();
    let (jwt, password) =
        (hs256("my-test-key", &json!({"username": "eve"})), basic("admin:pw:with colon"));
    assert!(look(&table(), &cache, &jwt).is_ok());
    assert!(look(&table(), &cache, &password).is_ok());
    let changed = compile(&[hs256_key("another-key"), basic_key("new")]).unwrap();
    assert_eq!(look(&changed, &cache, &jwt), Err(AuthError::BadSignature));
    assert_eq!(look(&changed, &cache, &password), Err(AuthError::WrongPassword));
    let revoked = compile(&[]).unwrap();
    assert_eq!(look(&revoked, &cache, "Bearer lg_good"), Err(AuthError::UnknownToken));
}

#[test]
fn a_remembered_token_still_expires() {
    let (table, cache) = (table(), Arc::default());
    let mut headers = HeaderMap::new();
    let token = hs256("my-test-key", &json!({"username": "eve", "exp": NOW + 10}));
    headers.insert(AUTHORIZATION, token.parse().unwrap());
    let at = |now_ms| authenticate(&table, &headers, now_ms, &cache).map(drop);
    assert_eq!(at(NOW_MS), Ok(()));
    assert_eq!(at(NOW_MS + 70_001), Err(AuthError::Expired));
}
