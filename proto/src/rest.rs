//! A tool that is one HTTP request.

use std::collections::BTreeMap;

use crate::{credential::check_header_name, invalid::Invalid, upstream::parse_url, wire};

/// Where a REST tool sends its arguments. `{placeholders}` of the URL are
/// filled from arguments; the rest becomes the query or a JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestBinding {
    /// The URL as written, placeholders included.
    pub url: String,
    pub method: RestMethod,
    pub headers: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestMethod {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl RestMethod {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether arguments travel as JSON body (else in the query).
    pub fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}

impl std::str::FromStr for RestMethod {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.to_ascii_uppercase().as_str() {
            "GET" => Ok(Self::Get),
            "POST" => Ok(Self::Post),
            "PUT" => Ok(Self::Put),
            "PATCH" => Ok(Self::Patch),
            "DELETE" => Ok(Self::Delete),
            _ => Err(Invalid::new("method", "must be GET, POST, PUT, PATCH or DELETE")),
        }
    }
}

impl RestBinding {
    /// The names in `{braces}` of the URL, in order.
    pub fn placeholders(&self) -> Vec<&str> {
        self.url
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
            .collect()
    }
}

impl TryFrom<wire::RestBinding> for RestBinding {
    type Error = Invalid;

    fn try_from(binding: wire::RestBinding) -> Result<Self, Invalid> {
        let wire::RestBinding { url, method, headers } = binding;
        let method = if method.is_empty() { "POST" } else { &method };
        check_url(&url)?;
        for (name, value) in &headers {
            let field = format!("headers[{name}]");
            check_header_name(name).map_err(|problem| Invalid::new(&field, problem))?;
            if value.chars().any(|c| c != '\t' && c.is_control()) {
                return Err(Invalid::new(field, "contains control characters"));
            }
        }
        Ok(Self { method: method.parse()?, url, headers })
    }
}

/// Placeholders may stand in path and query only: an argument must never choose the host.
fn check_url(text: &str) -> Result<(), Invalid> {
    let filled = text.replace(['{', '}'], "");
    let url = parse_url("url", &filled)?;
    let authority_end = text
        .find("://")
        .map(|at| at + 3)
        .and_then(|start| text.get(start..)?.find(['/', '?', '#']).map(|end| start + end))
        .unwrap_or(text.len());
    if text.get(..authority_end).is_some_and(|head| head.contains(['{', '}'])) {
        return Err(Invalid::new("url", "may have placeholders in path and query only"));
    }
    let balanced = text.matches('{').count() == text.matches('}').count();
    if !balanced || text.contains("{}") || url.fragment().is_some() {
        return Err(Invalid::new("url", "has an empty or open placeholder, or a fragment"));
    }
    Ok(())
}

impl From<RestBinding> for wire::RestBinding {
    fn from(binding: RestBinding) -> Self {
        let RestBinding { url, method, headers } = binding;
        Self { url, method: method.as_str().to_owned(), headers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(url: &str) -> Result<RestBinding, Invalid> {
        RestBinding::try_from(wire::RestBinding { url: url.to_owned(), ..Default::default() })
    }

    #[test]
    fn placeholders_are_found_in_order() {
        let binding = bind("http://h/users/{id}/posts/{post}?q={q}").unwrap();
        assert_eq!(binding.placeholders(), ["id", "post", "q"]);
        assert_eq!(binding.method, RestMethod::Post);
    }

    #[test]
    fn an_argument_never_chooses_the_host() {
        assert!(bind("http://{host}/x").is_err());
        assert!(bind("http://h:{port}/x").is_err());
        assert!(bind("http://h/{open").is_err());
        assert!(bind("http://h/{}").is_err());
    }
}
