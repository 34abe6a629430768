//! Where `connect` leads, from flags or from the variables that ContextForge's wrapper reads.

use std::time::Duration;

use proto::Secret;

use super::{Environment, secret_text};
use crate::{args::Global, failure::Failure};

/// An MCP endpoint and how to use it.
#[derive(Debug)]
pub(crate) struct Target {
    pub url: String,
    /// The value of the `Authorization` header.
    pub authorization: Option<Secret<String>>,
    /// Longest request.
    pub request_timeout: Option<Duration>,
    pub log_level: String,
}

/// ContextForge's names of variables that hold our token.
pub(super) const TOKEN_VARIABLES: [&str; 3] =
    ["MCP_AUTH", "MCP_AUTH_TOKEN", "MCPGATEWAY_BEARER_TOKEN"];

/// Reads what `connect` needs; flags win.
pub(crate) fn target(
    global: &Global,
    environment: &Environment,
    url: Option<&str>,
    server: Option<&str>,
) -> Result<Target, Failure> {
    let url = url.or_else(|| environment.get("MCP_SERVER_URL"));
    let url = url.ok_or_else(|| {
        Failure::usage("--url is required, or MCP_SERVER_URL")
            .hint("such as http://127.0.0.1:4444/mcp")
    })?;
    let token = match &global.token {
        Some(token) => Some(token.clone()),
        None => secret_text("LOCKGATE_TOKEN", environment)?.or_else(|| {
            TOKEN_VARIABLES.iter().find_map(|name| environment.get(name)).map(str::to_owned)
        }),
    };
    let seconds = match global.timeout {
        Some(seconds) => Some(seconds),
        None => environment.get("MCP_TOOL_CALL_TIMEOUT").map(seconds).transpose()?,
    };
    let names = ["LOCKGATE_LOG_LEVEL", "MCP_WRAPPER_LOG_LEVEL", "RUST_LOG"];
    let log_level = names.iter().find_map(|name| environment.get(name)).unwrap_or("warn");
    Ok(Target {
        url: endpoint(url.trim(), server),
        authorization: token.map(|token| Secret::from(authorization(&token))),
        request_timeout: seconds.map(Duration::from_secs),
        log_level: log_level.to_owned(),
    })
}

fn seconds(text: &str) -> Result<u64, Failure> {
    let seconds = text.trim().parse::<u64>().ok().filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| {
        Failure::usage(format!("MCP_TOOL_CALL_TIMEOUT: `{text}` is no number of seconds"))
    })
}

/// A token with its scheme; one without is a bearer token.
fn authorization(token: &str) -> String {
    let token = token.trim();
    if token.contains(' ') { token.to_owned() } else { format!("Bearer {token}") }
}

/// The endpoint of Streamable HTTP: of a gateway that was named by its root, its virtual server
/// or its `/sse`; any other URL stays as it is.
fn endpoint(url: &str, server: Option<&str>) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let path_at = url.get(start..).and_then(|rest| rest.find('/')).map(|at| start + at);
    let (origin, path) = url.split_at(path_at.unwrap_or(url.len()));
    let plain = path.trim_end_matches('/');
    let base = plain.strip_suffix("/mcp").or_else(|| plain.strip_suffix("/sse"));
    if let Some(server) = server {
        return format!("{origin}{}/servers/{server}/mcp", base.unwrap_or(plain));
    }
    let is_server = plain.rsplit_once('/').is_some_and(|(scope, _)| scope.ends_with("/servers"));
    match base {
        Some(base) if plain.ends_with("/sse") => format!("{origin}{base}/mcp"),
        None if plain.is_empty() || is_server => format!("{origin}{plain}/mcp"),
        Some(_) | None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_gateway_leads_to_its_endpoint() {
        for (url, server, expected) in [
            ("http://h:4444", None, "http://h:4444/mcp"),
            ("http://h:4444/", None, "http://h:4444/mcp"),
            ("http://h/servers/12", None, "http://h/servers/12/mcp"),
            ("http://h/servers/12/mcp", None, "http://h/servers/12/mcp"),
            ("http://h/servers/12/sse", None, "http://h/servers/12/mcp"),
            ("http://h/mcp/", None, "http://h/mcp/"),
            ("https://h/api/v1", None, "https://h/api/v1"),
            ("http://h", Some("dev"), "http://h/servers/dev/mcp"),
            ("http://h/gateway/mcp", Some("dev"), "http://h/gateway/servers/dev/mcp"),
        ] {
            assert_eq!(endpoint(url, server), expected, "{url}");
        }
    }

    fn read(variables: &[(&str, &str)]) -> Result<Target, Failure> {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        target(&Global::default(), &Environment(variables.collect()), None, None)
    }

    #[test]
    fn the_wrappers_variables_are_read() {
        for token in ["lg_x", "Bearer lg_x", " lg_x\n"] {
            let target = read(&[
                ("MCP_SERVER_URL", "http://h/sse"),
                ("MCP_AUTH", token),
                ("MCP_TOOL_CALL_TIMEOUT", "120"),
            ]);
            let target = target.unwrap();
            assert_eq!(target.url, "http://h/mcp");
            assert_eq!(target.authorization.unwrap().expose(), "Bearer lg_x");
            assert_eq!(target.request_timeout, Some(Duration::from_mins(2)));
        }
        assert_eq!(read(&[]).unwrap_err().exit as u8, 2);
        let nonsense = [("MCP_SERVER_URL", "http://h"), ("MCP_TOOL_CALL_TIMEOUT", "soon")];
        assert_eq!(read(&nonsense).unwrap_err().exit as u8, 2);
        let own = [("MCP_SERVER_URL", "http://h"), ("MCP_AUTH", "a"), ("LOCKGATE_TOKEN", "b")];
        assert_eq!(read(&own).unwrap().authorization.unwrap().expose(), "Bearer b");
    }
}
