//! The keys that proxies are given: kept sealed in the store, renewed by the clock.

use proto::{
    Secret,
    resource::{Key, KeyResource, Resource, kind},
    wire,
};
use sqlx::AnyConnection;

use crate::{
    error::Error,
    identity::{Identity, password},
    seal::{SealError, Sealer},
    store::{
        StoreError, Write,
        keys::{self, KeyRow},
        tokens,
    },
};

/// How long a session key is the newest one, in milliseconds.
pub(crate) const SESSION_KEY_LIFE_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// How many session keys are kept, so that ids live for at least 28 days.
const SESSION_KEYS_KEPT: usize = 5;

const JWT_HS256: &str = "jwt-hs256";
const JWT_EDDSA: &str = "jwt-eddsa";
const BASIC: &str = "basic";
const SESSION_PREFIX: &str = "session-";

/// Why a stored key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the stored key `{id}` {source}: start with the encryption key that it was sealed with"
    )]
    Sealed { id: String, source: SealError },
    #[error("the stored key `{id}` is damaged: {source}")]
    Damaged { id: String, source: proto::Invalid },
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => error.into(),
            KeyError::Sealed { .. } | KeyError::Damaged { .. } => Self::Internal(error.into()),
        }
    }
}

/// Every key, as proxies are told.
pub(crate) async fn resources(
    connection: &mut AnyConnection,
    sealer: &Sealer,
) -> Result<Vec<Resource>, KeyError> {
    let rows = keys::all(connection).await?;
    rows.iter().map(|row| open(sealer, row).map(Resource::Key)).collect()
}

/// One key as proxies are told; none if it is gone, hence to be removed.
pub(crate) async fn resource(
    connection: &mut AnyConnection,
    sealer: &Sealer,
    id: &str,
) -> Result<Option<Resource>, KeyError> {
    let row = keys::find(connection, id).await?;
    row.as_ref().map(|row| open(sealer, row).map(Resource::Key)).transpose()
}

fn place(id: &str) -> String {
    format!("key/{id}")
}

fn open(sealer: &Sealer, row: &KeyRow) -> Result<KeyResource, KeyError> {
    let id = || row.id.clone();
    let body = sealer
        .open(&place(&row.id), &row.sealed)
        .map_err(|source| KeyError::Sealed { id: id(), source })?;
    let body = Secret::new(body);
    let wire = wire::Resource { key: None, body: body.expose().clone().into() };
    match Resource::decode(&wire).map_err(|source| KeyError::Damaged { id: id(), source })? {
        Resource::Key(key) => Ok(key),
        Resource::Upstream(_)
        | Resource::Tool(_)
        | Resource::Entry(_)
        | Resource::VirtualServer(_)
        | Resource::Token(_)
        | Resource::Credential(_)
        | Resource::Proxy(_)
        | Resource::EndedSessions(_) => {
            let source = proto::Invalid::new("body", "is not a key");
            Err(KeyError::Damaged { id: id(), source })
        }
    }
}

/// The session keys, oldest first, and whether a new one is due.
async fn session_keys(
    connection: &mut AnyConnection,
    now: i64,
) -> Result<(Vec<KeyRow>, bool), StoreError> {
    let rows = keys::all(connection).await?;
    let mut sessions: Vec<_> =
        rows.into_iter().filter(|row| row.id.starts_with(SESSION_PREFIX)).collect();
    sessions.sort_by_key(|row| row.create_time_ms);
    let newest = sessions.last().map(|row| row.create_time_ms);
    let due = newest.is_none_or(|newest| now >= newest.saturating_add(SESSION_KEY_LIFE_MS));
    Ok((sessions, due))
}

impl Identity {
    /// Makes the stored keys those of the configuration; nothing is written, and
    /// no revision taken, if they are already.
    pub(crate) async fn settle_keys(
        &self,
        jwt_secret: &Secret<String>,
        admin_password: &Secret<String>,
    ) -> Result<(), KeyError> {
        let mut write = self.inner.store.begin_write().await?;
        let mut stored = Vec::new();
        for row in keys::all(write.connection()).await? {
            stored.push(open(&self.inner.sealer, &row)?);
        }
        let hs256 = Key::JwtHs256(Secret::new(jwt_secret.expose().as_bytes().to_vec()));
        let wanted = [
            (JWT_HS256, Some(hs256)),
            (JWT_EDDSA, Some(Key::JwtEdDsa(self.inner.jwt.public_key()))),
            (BASIC, self.wanted_basic(&stored, admin_password)),
        ];
        for (id, key) in wanted {
            let Some(key) = key else { continue };
            if !stored.iter().any(|it| it.id == id && it.key == key) {
                self.put(&mut write, id.to_owned(), key).await?;
            }
        }
        self.rotate_session_keys(&mut write).await?;
        write.commit().await?;
        Ok(())
    }

    /// A new hash of the password, unless the stored one is of this user and password.
    fn wanted_basic(&self, stored: &[KeyResource], given: &Secret<String>) -> Option<Key> {
        let admin = self.admin_user();
        let fits = stored.iter().any(|it| match &it.key {
            Key::Basic { user, hash } => user == admin && password::matches(hash, given),
            Key::Session(_) | Key::JwtHs256(_) | Key::JwtEdDsa(_) => false,
        });
        if fits {
            return None;
        }
        match password::hash(given) {
            Ok(hash) => Some(Key::Basic { user: admin.to_owned(), hash }),
            Err(error) => {
                tracing::error!(%error, "cannot hash the password: proxies will refuse HTTP Basic");
                None
            }
        }
    }

    /// Renews what has come to its end: session keys after a week, tokens when
    /// they expire. Called by the clock; writes only if something is due.
    pub(crate) async fn upkeep(&self) -> Result<(), Error> {
        let now = self.inner.clock.now_ms();
        let mut read = self.inner.store.begin_read().await?;
        let expired = !tokens::expired(read.connection(), now).await?.is_empty();
        let (_, due) = session_keys(read.connection(), now).await?;
        drop(read);
        if !expired && !due {
            return Ok(());
        }
        let mut write = self.inner.store.begin_write().await?;
        self.rotate_session_keys(&mut write).await?;
        self.end_expired(&mut write, now).await?;
        write.commit().await?;
        Ok(())
    }

    async fn rotate_session_keys(&self, write: &mut Write) -> Result<(), KeyError> {
        let now = self.inner.clock.now_ms();
        let (sessions, due) = session_keys(write.connection(), now).await?;
        if !due {
            return Ok(());
        }
        let id = format!("{SESSION_PREFIX}{}", uuid::Uuid::now_v7().simple());
        self.put(write, id, Key::Session(Secret::new(rand::random()))).await?;
        let surplus = (sessions.len() + 1).saturating_sub(SESSION_KEYS_KEPT);
        for row in sessions.iter().take(surplus) {
            keys::remove(write.connection(), &row.id).await?;
            write.changed(kind::KEY, "", &row.id).await?;
        }
        tracing::info!(removed = surplus, "session keys renewed");
        Ok(())
    }

    async fn put(&self, write: &mut Write, id: String, key: Key) -> Result<(), KeyError> {
        let create_time_ms = self.inner.clock.now_ms();
        let resource = KeyResource { id: id.clone(), key, create_time_ms };
        let body = Secret::new(Vec::from(Resource::Key(resource).encode().body));
        let sealed = self.inner.sealer.seal(&place(&id), body.expose());
        keys::put(write.connection(), &KeyRow { id: id.clone(), sealed, create_time_ms }).await?;
        write.changed(kind::KEY, "", &id).await?;
        Ok(())
    }
}
