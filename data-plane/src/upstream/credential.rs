//! The credential of an upstream as the header values that every request carries.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use proto::{Secret, resource::CredentialResource};

/// Puts `headers` and then `credential` into a template; the credential wins.
///
/// What is no header never gets here: both are checked when they are written.
pub(crate) fn add_to(
    template: &mut HeaderMap,
    headers: Option<&BTreeMap<String, String>>,
    credential: Option<&CredentialResource>,
) {
    for (name, value) in headers.into_iter().flatten() {
        insert(template, name, value, "header");
    }
    let secrets = credential.map(|credential| &credential.headers);
    for (name, value) in secrets.into_iter().flatten() {
        insert(template, name, value.expose(), "credential");
    }
}

fn insert(template: &mut HeaderMap, name: &str, value: &str, kind: &'static str) {
    let parsed = (HeaderName::try_from(name), HeaderValue::try_from(value));
    let (Ok(header), Ok(mut value)) = parsed else {
        // The value stays out of the log.
        tracing::warn!(name, kind, "left out a header that HTTP does not allow");
        return;
    };
    value.set_sensitive(kind == "credential");
    template.insert(header, value);
}

/// A credential as environment variables of a child.
pub(crate) fn variables(
    credential: Option<&CredentialResource>,
) -> impl Iterator<Item = (&str, &Secret<String>)> {
    let headers = credential.map(|credential| &credential.headers);
    headers.into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}
