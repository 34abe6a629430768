//! ContextForge's `auth_*` fields, in and out; values never come back.

use std::collections::BTreeMap;

use proto::{CredentialSummary, Invalid, wire};
use serde::{Deserialize, Serialize};

/// What stands for a stored secret in answers.
const MASK: &str = "*****";

/// The fields as they come, flattened into tools and gateways.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct AuthFields {
    #[serde(rename = "auth_type", alias = "authType")]
    kind: Option<String>,
    #[serde(rename = "auth_username", alias = "authUsername")]
    username: Option<String>,
    #[serde(rename = "auth_password", alias = "authPassword")]
    password: Option<String>,
    #[serde(rename = "auth_token", alias = "authToken")]
    token: Option<String>,
    #[serde(rename = "auth_header_key", alias = "authHeaderKey")]
    header_key: Option<String>,
    #[serde(rename = "auth_header_value", alias = "authHeaderValue")]
    header_value: Option<String>,
    #[serde(rename = "auth_headers", alias = "authHeaders")]
    headers: Option<Vec<HeaderPair>>,
}

#[derive(Debug, Deserialize)]
struct HeaderPair {
    key: String,
    #[serde(default)]
    value: String,
}

impl AuthFields {
    /// The credential that the fields mean, if they mean one.
    pub(crate) fn credential(self) -> Result<Option<wire::Credential>, Invalid> {
        use wire::credential::Kind;
        let Some(kind) = self.kind.as_deref().filter(|kind| !kind.is_empty()) else {
            return Ok(None);
        };
        let required = |field: &str, value: Option<String>| {
            value.filter(|value| !value.is_empty()).ok_or_else(|| Invalid::missing(field))
        };
        let kind = match kind {
            "none" => return Ok(None),
            "basic" => Kind::Basic(wire::BasicCredential {
                username: required("auth_username", self.username)?,
                password: required("auth_password", self.password)?,
            }),
            "bearer" => Kind::Bearer(required("auth_token", self.token)?),
            "headers" | "authheaders" => {
                let pairs = self.headers.unwrap_or_default().into_iter();
                let mut values: BTreeMap<String, String> =
                    pairs.map(|pair| (pair.key, pair.value)).collect();
                if values.is_empty() {
                    let key = required("auth_header_key", self.header_key)?;
                    let value = required("auth_header_value", self.header_value)?;
                    values.insert(key, value);
                }
                Kind::Headers(wire::HeadersCredential { values })
            }
            _ => {
                let problem = "must be `basic`, `bearer` or `headers`: others are not served yet";
                return Err(Invalid::new("auth_type", problem));
            }
        };
        Ok(Some(wire::Credential { kind: Some(kind) }))
    }
}

/// The fields as they are shown: that there is something, never what.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "ContextForge's names")]
pub(crate) struct MaskedAuth {
    auth_type: Option<&'static str>,
    auth_value: Option<&'static str>,
    auth_headers: Option<Vec<MaskedPair>>,
    auth_username: Option<String>,
    auth_password: Option<&'static str>,
    auth_token: Option<&'static str>,
    auth_header_key: Option<String>,
    auth_header_value: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct MaskedPair {
    key: String,
    value: &'static str,
}

impl MaskedAuth {
    pub(crate) fn of(summary: Option<&CredentialSummary>) -> Self {
        let Some(CredentialSummary { kind, names, fingerprint: _ }) = summary else {
            return Self::default();
        };
        let first = names.first().cloned();
        let masked = Self { auth_value: Some(MASK), ..Self::default() };
        match kind.as_str() {
            "basic" => Self {
                auth_type: Some("basic"),
                auth_username: first,
                auth_password: Some(MASK),
                ..masked
            },
            "bearer" => Self { auth_type: Some("bearer"), auth_token: Some(MASK), ..masked },
            _ => {
                let pairs = names.iter().map(|key| MaskedPair { key: key.clone(), value: MASK });
                Self {
                    auth_type: Some("authheaders"),
                    auth_headers: Some(pairs.collect()),
                    auth_header_key: first,
                    auth_header_value: Some(MASK),
                    ..masked
                }
            }
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.auth_type.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Result<Option<wire::Credential>, Invalid> {
        serde_json::from_str::<AuthFields>(json).unwrap().credential()
    }

    #[test]
    fn every_form_becomes_a_credential() {
        use wire::credential::Kind;
        let kind = |json: &str| fields(json).unwrap().and_then(|it| it.kind);
        assert_eq!(kind("{}"), None);
        assert_eq!(
            kind(r#"{"authType":"bearer","authToken":"t"}"#),
            Some(Kind::Bearer("t".to_owned()))
        );
        let pair =
            r#"{"auth_type":"authheaders","auth_header_key":"X-Key","auth_header_value":"v"}"#;
        let list = r#"{"auth_type":"headers","auth_headers":[{"key":"X-Key","value":"v"}]}"#;
        assert_eq!(kind(pair), kind(list));
        assert_eq!(fields(r#"{"auth_type":"basic"}"#).unwrap_err().field, "auth_username");
        assert_eq!(fields(r#"{"auth_type":"oauth"}"#).unwrap_err().field, "auth_type");
    }

    #[test]
    fn answers_hide_the_values() {
        let names = vec!["bob".to_owned()];
        let (kind, fingerprint) = ("basic".to_owned(), "0".to_owned());
        let summary = CredentialSummary { kind, names, fingerprint };
        let shown = serde_json::to_value(MaskedAuth::of(Some(&summary))).unwrap();
        assert_eq!(shown["authUsername"], "bob");
        assert_eq!(shown["authPassword"], "*****");
        assert_eq!(shown["authToken"], serde_json::Value::Null);
    }
}
