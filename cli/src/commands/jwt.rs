//! `token create-jwt`: the token that ContextForge's `create_jwt_token` makes, claim for claim.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::Context;
use crate::{
    config::{self, Flags},
    failure::Failure,
};

/// Nothing but a name and, if wanted, an end: no issuer, audience or subject.
#[derive(Serialize)]
struct Claims<'a> {
    username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
}

pub(super) fn create(
    context: &Context,
    username: &str,
    minutes: u64,
    secret: Option<String>,
) -> Result<(), Failure> {
    let secret = match secret {
        Some(secret) => secret,
        None => configured(context)?,
    };
    if minutes == 0 {
        context.output.say("warning: this token never expires");
    }
    let now = jiff::Timestamp::now().as_second();
    context.output.text(&sign(username, expiry(now, minutes), &secret)?)
}

/// The secret that the instance on the data directory runs with.
fn configured(context: &Context) -> Result<String, Failure> {
    let settings = config::load(&context.global, Flags::default(), &context.environment)?;
    settings.jwt_secret.map(|secret| secret.expose().clone()).ok_or_else(|| {
        Failure::usage("no secret is configured: give --secret or JWT_SECRET_KEY")
            .hint("`lockgate token create --name NAME` needs no secret")
    })
}

/// 0 minutes: none.
fn expiry(now: i64, minutes: u64) -> Option<i64> {
    let seconds = i64::try_from(minutes).ok().and_then(|minutes| minutes.checked_mul(60));
    (minutes != 0).then(|| now.saturating_add(seconds.unwrap_or(i64::MAX)))
}

fn sign(username: &str, exp: Option<i64>, secret: &str) -> Result<String, Failure> {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &Claims { username, exp }, &key)
        .map_err(|error| Failure::invalid(format!("the token cannot be signed: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_the_one_that_contextforge_makes() {
        // `create_jwt_token --username admin --exp 0 --secret my-test-key`, computed independently.
        let token = sign("admin", None, "my-test-key").unwrap();
        assert_eq!(
            token,
            "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJ1c2VybmFtZSI6ImFkbWluIn0.LUy7A3LkDtwv-krtrvvYnjyJ1O7-weu7bqegfdDBgmk"
        );
    }

    #[test]
    fn minutes_become_an_end_and_zero_none() {
        assert_eq!(expiry(1000, 10080), Some(1000 + 7 * 24 * 3600));
        assert_eq!(expiry(1000, 0), None);
        assert_eq!(expiry(1000, u64::MAX), Some(i64::MAX));
    }
}
