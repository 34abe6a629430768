//! Credentials of upstreams and tools, sealed.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proto::{Credential, CredentialSummary, Secret, resource::CredentialResource};
use sqlx::AnyConnection;

use super::{StoreError, row::Row, values::select_in};
use crate::seal::Sealer;

/// A credential as it is stored: what may be shown, and the sealed rest.
#[derive(Clone, Debug)]
pub(crate) struct SealedCredential {
    pub id: String,
    /// `upstream/ID` or `tool/ID`.
    pub owner: String,
    pub summary: CredentialSummary,
    sealed: String,
}

impl SealedCredential {
    /// Seals a credential as the headers that it stands for.
    pub(crate) fn seal(sealer: &Sealer, id: &str, owner: String, credential: &Credential) -> Self {
        let plain = plain(credential);
        Self {
            id: id.to_owned(),
            owner,
            summary: CredentialSummary {
                kind: credential.kind().to_owned(),
                names: credential.names(),
                fingerprint: sealer.fingerprint(plain.expose()),
            },
            sealed: sealer.seal(&place(id), plain.expose()),
        }
    }
}

/// The fingerprint that a credential will have.
pub(crate) fn fingerprint(sealer: &Sealer, credential: &Credential) -> String {
    sealer.fingerprint(plain(credential).expose())
}

/// JSON text of the header map.
fn plain(credential: &Credential) -> Secret<Vec<u8>> {
    let headers: BTreeMap<&str, Secret<String>> = match credential {
        Credential::Bearer(token) => {
            BTreeMap::from([("authorization", Secret::new(format!("Bearer {}", token.expose())))])
        }
        Credential::Basic { username, password } => {
            let both = Secret::new(format!("{username}:{}", password.expose()));
            let encoded = Secret::new(STANDARD.encode(both.expose()));
            let value = Secret::new(format!("Basic {}", encoded.expose()));
            BTreeMap::from([("authorization", value)])
        }
        Credential::Headers(values) => {
            values.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()
        }
    };
    let exposed: BTreeMap<&str, &str> =
        headers.iter().map(|(name, value)| (*name, value.expose().as_str())).collect();
    // A map of texts always serializes.
    Secret::new(serde_json::to_vec(&exposed).unwrap_or_default())
}

/// Where a sealed text belongs: it opens nowhere else.
fn place(id: &str) -> String {
    format!("credentials|{id}|sealed")
}

/// Writes a credential over the one with the same id.
pub(crate) async fn put(
    connection: &mut AnyConnection,
    credential: &SealedCredential,
) -> Result<(), StoreError> {
    let SealedCredential { id, owner, summary, sealed } = credential;
    sqlx::query(
        "INSERT INTO credentials (id, owner, kind, names, fingerprint, sealed)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, names = excluded.names,
             fingerprint = excluded.fingerprint, sealed = excluded.sealed",
    )
    .bind(id)
    .bind(owner)
    .bind(&summary.kind)
    .bind(super::values::list(&summary.names))
    .bind(&summary.fingerprint)
    .bind(sealed)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn delete(connection: &mut AnyConnection, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM credentials WHERE id = $1").bind(id).execute(connection).await?;
    Ok(())
}

/// What may be shown, from a row joined with its credential's columns.
pub(super) fn summary(row: &Row<'_>) -> Result<Option<CredentialSummary>, StoreError> {
    let Some(kind) = row.optional_text("credential_kind")? else { return Ok(None) };
    Ok(Some(CredentialSummary {
        kind,
        names: row.json("credential_names")?,
        fingerprint: row.text("credential_fingerprint")?,
    }))
}

/// Every credential, opened, for the proxies that present them.
pub(super) async fn all(
    connection: &mut AnyConnection,
    sealer: &Sealer,
) -> Result<Vec<CredentialResource>, StoreError> {
    let sql = "SELECT id, sealed FROM credentials ORDER BY id";
    let rows = sqlx::query(sql).fetch_all(connection).await?;
    rows.iter().map(|row| open(&Row::new("credentials", row)?, sealer)).collect()
}

/// Those with the given ids, opened.
pub(super) async fn by_ids(
    connection: &mut AnyConnection,
    sealer: &Sealer,
    ids: &[String],
) -> Result<Vec<CredentialResource>, StoreError> {
    let select = ("SELECT id, sealed FROM credentials WHERE id", "");
    let rows = select_in(connection, select, ids).await?;
    rows.iter().map(|row| open(&Row::new("credentials", row)?, sealer)).collect()
}

fn open(row: &Row<'_>, sealer: &Sealer) -> Result<CredentialResource, StoreError> {
    let corrupt = |error| row.corrupt("sealed", error);
    let plain = sealer
        .open(&place(row.id()), &row.text("sealed")?)
        .map_err(|error| corrupt(Box::<dyn std::error::Error + Send + Sync>::from(error)))?;
    let plain = Secret::new(plain);
    let headers: BTreeMap<String, String> =
        serde_json::from_slice(plain.expose()).map_err(|error| corrupt(error.into()))?;
    let headers = headers.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
    Ok(CredentialResource { id: row.id().to_owned(), headers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_becomes_headers() {
        let check = |credential: &Credential, expected: &str| {
            assert_eq!(String::from_utf8_lossy(plain(credential).expose()), expected);
        };
        check(&Credential::Bearer("t".into()), r#"{"authorization":"Bearer t"}"#);
        let basic = Credential::Basic { username: "u".to_owned(), password: "p".into() };
        check(&basic, r#"{"authorization":"Basic dTpw"}"#);
        let headers = Credential::Headers(BTreeMap::from([("X-Key".to_owned(), "k".into())]));
        check(&headers, r#"{"X-Key":"k"}"#);
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        let sealer = Sealer::new(&Secret::new([1; 32]));
        let credential = Credential::Bearer("very-secret".into());
        let stored = SealedCredential::seal(&sealer, "c1", "upstream/u1".to_owned(), &credential);
        assert!(!format!("{stored:?}").contains("very-secret"));
        assert_eq!(stored.summary.fingerprint, fingerprint(&sealer, &credential));
    }
}
