//! What a proxy presents to an upstream: written once, sealed, never read back.

use std::collections::BTreeMap;

use crate::{Secret, invalid::Invalid, wire};

/// A credential in the clear, on its way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    Bearer(Secret<String>),
    Basic {
        username: String,
        password: Secret<String>,
    },
    /// Header values; on stdio, environment variables of the child.
    Headers(BTreeMap<String, Secret<String>>),
}

/// What a write does to the stored credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CredentialChange {
    #[default]
    Keep,
    Set(Credential),
    Remove,
}

/// What may be shown of a stored credential.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CredentialSummary {
    /// `bearer`, `basic` or `headers`.
    pub kind: String,
    /// Header names; for basic the user name.
    pub names: Vec<String>,
    /// First 8 hex digits of a keyed digest: tells whether two are the same.
    pub fingerprint: String,
}

impl Credential {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bearer(_) => "bearer",
            Self::Basic { .. } => "basic",
            Self::Headers(_) => "headers",
        }
    }

    /// Names that may be shown.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Bearer(_) => vec!["authorization".to_owned()],
            Self::Basic { username, .. } => vec![username.clone()],
            Self::Headers(values) => values.keys().cloned().collect(),
        }
    }
}

impl TryFrom<wire::Credential> for CredentialChange {
    type Error = Invalid;

    fn try_from(credential: wire::Credential) -> Result<Self, Invalid> {
        use wire::credential::Kind;
        let wire::Credential { kind } = credential;
        match kind {
            None => Ok(Self::Keep),
            Some(Kind::None(_)) => Ok(Self::Remove),
            Some(Kind::Bearer(token)) => {
                let token = header_value("bearer", token)?;
                Ok(Self::Set(Credential::Bearer(token)))
            }
            Some(Kind::Basic(wire::BasicCredential { username, password })) => {
                if username.is_empty() || username.contains(':') {
                    return Err(Invalid::new("basic.username", "must not be empty or contain `:`"));
                }
                let password = header_value("basic.password", password)?;
                Ok(Self::Set(Credential::Basic { username, password }))
            }
            Some(Kind::Headers(wire::HeadersCredential { values })) => headers(values),
        }
    }
}

fn headers(values: BTreeMap<String, String>) -> Result<CredentialChange, Invalid> {
    if values.is_empty() {
        return Err(Invalid::missing("headers.values"));
    }
    let mut out = BTreeMap::new();
    for (name, value) in values {
        let field = format!("headers.values[{name}]");
        check_header_name(&name).map_err(|problem| Invalid::new(&field, problem))?;
        out.insert(name, header_value(&field, value)?);
    }
    Ok(CredentialChange::Set(Credential::Headers(out)))
}

/// A header name is an RFC 9110 token and none that the proxy sets itself.
pub fn check_header_name(name: &str) -> Result<(), &'static str> {
    const OURS: [&str; 11] = [
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let token = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c));
    let lower = name.to_ascii_lowercase();
    if !token {
        return Err("is not a header name");
    }
    if OURS.contains(&lower.as_str()) || lower.starts_with("mcp-") {
        return Err("is a header that the gateway sets itself");
    }
    Ok(())
}

fn header_value(field: &str, value: String) -> Result<Secret<String>, Invalid> {
    let printable = value.chars().all(|c| c == '\t' || !c.is_control());
    if value.is_empty() || !printable {
        return Err(Invalid::new(field, "must not be empty or contain control characters"));
    }
    Ok(Secret::new(value))
}

impl From<CredentialSummary> for wire::CredentialSummary {
    fn from(summary: CredentialSummary) -> Self {
        let CredentialSummary { kind, names, fingerprint } = summary;
        Self { kind, names, fingerprint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_headers_cannot_be_set() {
        let wire = |name: &str| wire::Credential {
            kind: Some(wire::credential::Kind::Headers(wire::HeadersCredential {
                values: BTreeMap::from([(name.to_owned(), "x".to_owned())]),
            })),
        };
        let error = CredentialChange::try_from(wire("Mcp-Session-Id")).unwrap_err();
        assert_eq!(error.field, "headers.values[Mcp-Session-Id]");
        assert!(CredentialChange::try_from(wire("x-api-key")).is_ok());
        assert!(CredentialChange::try_from(wire("bad name")).is_err());
    }
}
