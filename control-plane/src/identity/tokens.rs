//! API tokens: made, listed, revoked; and short-lived access tokens.

use proto::{
    Invalid, Permission, Role, Secret, TokenName,
    resource::kind,
    token::{self, Token},
};

use crate::{
    caller::Caller,
    error::Error,
    identity::Identity,
    keys,
    store::{
        Write,
        requests::{self, Remembered, Request},
        tokens::{self, Shown},
    },
};

/// How much of a secret is shown again, for recognition.
const PREFIX_LEN: usize = 8;
const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1000;
const ACCESS_DEFAULT_SECONDS: u32 = 300;
const ACCESS_MAX_SECONDS: u32 = 3600;

/// What a writer may say about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenDraft {
    pub name: TokenName,
    /// Empty: the caller's own.
    pub subject: String,
    pub role: Role,
    pub expire_time_ms: Option<i64>,
}

/// A new token with the secret that is shown this once.
#[derive(Clone, Debug)]
pub struct NewToken {
    pub token: Token,
    pub secret: Secret<String>,
}

/// Whether a write happens, and under which name it is remembered.
#[derive(Clone, Debug, Default)]
pub struct TokenOptions {
    pub request_id: Option<String>,
    /// Checks and changes nothing.
    pub validate_only: bool,
}

/// One page of tokens.
#[derive(Clone, Debug)]
pub struct ListedTokens {
    pub tokens: Vec<Token>,
    pub next_page_token: String,
    pub revision: u64,
}

impl Identity {
    /// Makes a token. Its secret is in this answer and nowhere else.
    pub async fn create_token(
        &self,
        caller: &Caller,
        draft: TokenDraft,
        options: TokenOptions,
    ) -> Result<NewToken, Error> {
        caller.require(Permission::TokensWrite)?;
        let now = self.inner.clock.now_ms();
        let (token, secret) = new_token(caller, draft, now)?;
        let mut write = self.inner.store.begin_write().await?;
        let request = request(caller, &token, &options)?;
        if let Some(request) = &request
            && let Some(answer) = self.recall(&mut write, request).await?
        {
            return Ok(answer);
        }
        if tokens::find(write.connection(), token.name.as_str()).await?.is_some_and(|it| {
            it.name == token.name && it.expire_time_ms.is_none_or(|end| end > now)
        }) {
            return Err(Error::AlreadyExists { kind: "token", name: token.name.to_string() });
        }
        self.end_expired(&mut write, now).await?;
        let revision = write.changed(kind::TOKEN, "", &token.id).await?;
        let token = Token { resource_version: revision, ..token };
        tokens::insert(write.connection(), &token, &token::digest(secret.expose())).await?;
        if options.validate_only {
            return Ok(NewToken { token, secret: String::new().into() });
        }
        if let Some(request) = &request {
            let answer = self.inner.sealer.seal(&place(&token.id), secret.expose().as_bytes());
            requests::remember(&mut write, request, &format!("{} {answer}", token.id)).await?;
        }
        write.commit().await?;
        audit(caller, "create", &token, revision);
        Ok(NewToken { token, secret })
    }

    /// The answer of the first request of this id: the token, with the secret as sealed then.
    async fn recall(
        &self,
        write: &mut Write,
        request: &Request<'_>,
    ) -> Result<Option<NewToken>, Error> {
        let answer = match requests::recall::<String>(write, request).await? {
            Remembered::New => return Ok(None),
            Remembered::Answered(answer) => answer,
            Remembered::Differs => {
                return Err(Invalid::new("request_id", "was used for another request").into());
            }
        };
        let gone = || Error::NotFound { kind: "token", name: "of this request".to_owned() };
        let (id, sealed) = answer.split_once(' ').ok_or_else(gone)?;
        let token = tokens::find(write.connection(), id).await?.ok_or_else(gone)?;
        let secret = self
            .inner
            .sealer
            .open(&place(id), sealed)
            .map_err(|error| Error::Internal(error.into()))?;
        let secret = String::from_utf8(secret)
            .map_err(|error| Error::Internal(error.utf8_error().into()))?;
        Ok(Some(NewToken { token, secret: secret.into() }))
    }

    /// Tokens in the order they were made.
    pub async fn list_tokens(
        &self,
        caller: &Caller,
        size: u32,
        page_token: &str,
        revoked: Revoked,
    ) -> Result<ListedTokens, Error> {
        caller.require(Permission::TokensRead)?;
        let size = if size == 0 { PAGE_DEFAULT } else { size.min(PAGE_MAX) };
        let mut read = self.inner.store.begin_read().await?;
        let shown = match revoked {
            Revoked::Hidden => Shown::Valid,
            Revoked::Included => Shown::WithRevoked,
        };
        let wanted = size.saturating_add(1);
        let mut tokens = tokens::page(read.connection(), page_token, wanted, shown).await?;
        let kept = usize::try_from(size).unwrap_or(usize::MAX);
        let more = tokens.len() > kept;
        tokens.truncate(kept);
        let last = tokens.last().filter(|_| more);
        let next_page_token = last.map(|token| token.id.clone()).unwrap_or_default();
        Ok(ListedTokens { tokens, next_page_token, revision: read.revision().await? })
    }

    /// Ends a token; connected proxies refuse it as soon as they hear of the
    /// revision. Revoking a revoked token changes nothing.
    pub async fn revoke_token(
        &self,
        caller: &Caller,
        name_or_id: &str,
    ) -> Result<(Token, u64), Error> {
        caller.require(Permission::TokensWrite)?;
        let mut write = self.inner.store.begin_write().await?;
        let found = tokens::find(write.connection(), name_or_id).await?;
        let token =
            found.ok_or_else(|| Error::NotFound { kind: "token", name: name_or_id.to_owned() })?;
        if token.revoke_time_ms.is_some() {
            let revision = write.revision().await?;
            return Ok((token, revision));
        }
        let now = self.inner.clock.now_ms();
        let revision = write.changed(kind::TOKEN, "", &token.id).await?;
        tokens::revoke(write.connection(), &token.id, now, revision).await?;
        write.commit().await?;
        audit(caller, "revoke", &token, revision);
        let token = Token { revoke_time_ms: Some(now), resource_version: revision, ..token };
        Ok((token, revision))
    }

    /// A signed token that stands for the caller for a short time. The answer
    /// is the token and its end in Unix milliseconds.
    pub fn issue_access_token(
        &self,
        caller: &Caller,
        lifetime_seconds: u32,
    ) -> Result<(Secret<String>, i64), Error> {
        caller.require(Permission::SelfService)?;
        if caller.authentication == Caller::ACCESS_TOKEN {
            let why = "an access token cannot issue another one: use what it was issued for";
            return Err(Error::Unauthenticated(why));
        }
        if lifetime_seconds > ACCESS_MAX_SECONDS {
            let problem = format!("must be at most {ACCESS_MAX_SECONDS}");
            return Err(Invalid::new("lifetime_seconds", problem).into());
        }
        let seconds = if lifetime_seconds == 0 { ACCESS_DEFAULT_SECONDS } else { lifetime_seconds };
        let now = self.inner.clock.now_ms();
        let expire_ms = now.saturating_add(i64::from(seconds) * 1000);
        let token = self
            .inner
            .jwt
            .issue(&caller.principal, expire_ms)
            .map_err(|error| Error::Internal(error.into()))?;
        Ok((token, expire_ms))
    }

    /// Takes expired tokens away from the proxies.
    pub(super) async fn end_expired(&self, write: &mut Write, now: i64) -> Result<(), Error> {
        for token in tokens::expired(write.connection(), now).await? {
            let revision = write.changed(kind::TOKEN, "", &token.id).await?;
            let end = token.expire_time_ms.unwrap_or(now);
            tokens::revoke(write.connection(), &token.id, end, revision).await?;
        }
        Ok(())
    }
}

/// Whether a list shows revoked tokens too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    Hidden,
    Included,
}

fn new_token(
    caller: &Caller,
    draft: TokenDraft,
    now: i64,
) -> Result<(Token, Secret<String>), Error> {
    let TokenDraft { name, subject, role, expire_time_ms } = draft;
    if expire_time_ms.is_some_and(|end| end <= now) {
        return Err(Invalid::new("expire_time_ms", "must be in the future").into());
    }
    if subject.len() > 255 || subject.chars().any(char::is_control) {
        return Err(Invalid::new("subject", "must be at most 255 printable bytes").into());
    }
    let secret: Secret<String> =
        format!("{}{}", token::PREFIX, keys::random_text().expose()).into();
    let token = Token {
        id: uuid::Uuid::now_v7().to_string(),
        name,
        subject: if subject.is_empty() { caller.subject().to_owned() } else { subject },
        role,
        prefix: secret.expose().chars().take(PREFIX_LEN).collect(),
        create_time_ms: now,
        expire_time_ms,
        revoke_time_ms: None,
        resource_version: 0,
    };
    Ok((token, secret))
}

/// The request as it is remembered, if its caller wants that.
fn request<'a>(
    caller: &'a Caller,
    token: &Token,
    options: &'a TokenOptions,
) -> Result<Option<Request<'a>>, Error> {
    let Some(id) = options.request_id.as_deref().filter(|id| !id.is_empty()) else {
        return Ok(None);
    };
    let body = (token.name.as_str(), &token.subject, token.role, token.expire_time_ms);
    let digest = requests::digest("CreateToken", &body)?;
    Ok(Some(Request { subject: caller.subject(), id, digest, now_ms: token.create_time_ms }))
}

/// Where a remembered secret belongs to.
fn place(id: &str) -> String {
    format!("token/{id}/secret")
}

fn audit(caller: &Caller, verb: &'static str, token: &Token, revision: u64) {
    tracing::info!(
        target: "audit",
        who = caller.subject(),
        authentication = caller.authentication,
        verb,
        object = format!("token/{}", token.name),
        subject = token.subject,
        role = token.role.as_str(),
        revision,
    );
}
