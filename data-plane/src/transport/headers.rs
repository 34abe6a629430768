//! What a client's headers say, judged before anything else is done for it.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue, Method, Request, header};

use crate::{config::Network, connection::Door, error::Failure};

/// Which media types a client takes as an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepts {
    /// No header, anything, or JSON without event streams.
    Json,
    Events,
    Both,
}

impl Accepts {
    /// Reads `Accept`; refused only when neither form fits.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let mut values = headers.get_all(header::ACCEPT).iter();
        let (Some(first), rest) = (values.next(), values) else { return Ok(Self::Json) };
        // What every SDK sends, by far the most common.
        if first == "application/json, text/event-stream" {
            return Ok(Self::Both);
        }
        let (mut json, mut events, mut anything, mut seen) = (false, false, false, false);
        for value in std::iter::once(first).chain(rest) {
            let text = value.to_str().map_err(|_| Failure::NotAcceptable)?;
            for range in text.split(',').map(str::trim).filter(|range| !range.is_empty()) {
                seen = true;
                let mut parts = range.split(';').map(str::trim);
                let media = parts.next().unwrap_or_default().to_ascii_lowercase();
                if parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000")) {
                    continue;
                }
                match media.as_str() {
                    "*/*" => anything = true,
                    "application/json" | "application/*" => json = true,
                    "text/event-stream" | "text/*" => events = true,
                    _ => {}
                }
            }
        }
        match (json, events, anything || !seen) {
            (true, true, _) | (_, true, true) => Ok(Self::Both),
            (true, false, _) | (false, false, true) => Ok(Self::Json),
            (false, true, false) => Ok(Self::Events),
            (false, false, false) => Err(Failure::NotAcceptable),
        }
    }
}

/// The same credential or session id in memory of its own: the headers of a request share its
/// buffer, and who keeps one of them keeps the whole of it.
pub(crate) fn detached(value: &HeaderValue) -> HeaderValue {
    let copy = HeaderValue::from_bytes(value.as_bytes());
    let mut copy = copy.unwrap_or_else(|_| value.clone());
    copy.set_sensitive(true);
    copy
}

/// Refuses clients that ask for a stream and do not take one.
pub(crate) fn check_takes_events(headers: &HeaderMap) -> Result<(), Failure> {
    let is_anything =
        |value: &HeaderValue| memchr::memmem::find(value.as_bytes(), b"*/*").is_some();
    let mut values = headers.get_all(header::ACCEPT).iter();
    match Accepts::of(headers)? {
        Accepts::Events | Accepts::Both => Ok(()),
        Accepts::Json if !headers.contains_key(header::ACCEPT) => Ok(()),
        Accepts::Json if values.any(is_anything) => Ok(()),
        Accepts::Json => Err(Failure::NotAcceptable),
    }
}

/// Refuses bodies that are not plain JSON.
pub(crate) fn check_content(headers: &HeaderMap) -> Result<(), Failure> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(Failure::ContentEncoding);
    }
    let value = headers.get(header::CONTENT_TYPE).ok_or(Failure::ContentType)?;
    if value == "application/json" {
        return Ok(());
    }
    let media = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    if media.trim_ascii().eq_ignore_ascii_case(b"application/json") {
        Ok(())
    } else {
        Err(Failure::ContentType)
    }
}

/// The configured side of judging `Host`, `Origin` and `X-Forwarded-*`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    pub(crate) hosts: Vec<String>,
    pub(crate) origins: Vec<String>,
    pub(crate) proxies: Vec<Network>,
}

impl Trust {
    /// Whether the peer's `X-Forwarded-*` headers are believed.
    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(address))
    }

    /// The client's address: the last one that no trusted proxy has.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if self.proxies.is_empty() || !self.is_trusted(peer.ip()) {
            return peer;
        }
        let forwarded = headers.get_all("x-forwarded-for");
        let mut client = peer.ip();
        'hops: for value in forwarded.iter().rev() {
            for hop in value.to_str().unwrap_or_default().rsplit(',') {
                let Ok(address) = hop.trim().parse() else { break 'hops };
                client = address;
                if !self.is_trusted(address) {
                    break 'hops;
                }
            }
        }
        SocketAddr::new(client, peer.port())
    }

    /// The host that the client named, seen through trusted proxies.
    fn host<'a, B>(&self, request: &'a Request<B>, peer: IpAddr) -> Option<&'a str> {
        let headers = request.headers();
        let forwarded = || headers.get("x-forwarded-host").and_then(|value| value.to_str().ok());
        if !self.proxies.is_empty()
            && self.is_trusted(peer)
            && let Some(host) = forwarded()
        {
            return host.rsplit(',').next().map(str::trim);
        }
        match headers.get(header::HOST) {
            Some(host) => host.to_str().ok(),
            None => request.uri().authority().map(http::uri::Authority::as_str),
        }
    }

    /// Refuses hosts and origins that may be another site's page in the user's browser.
    pub(crate) fn check<B>(
        &self,
        request: &Request<B>,
        peer: IpAddr,
        door: Door,
    ) -> Result<(), Failure> {
        let origin = request.headers().get(header::ORIGIN);
        let host_matters = door == Door::Loopback || !self.hosts.is_empty();
        if !host_matters && origin.is_none() {
            return Ok(());
        }
        let host = self.host(request, peer);
        if host_matters && !host.is_some_and(|host| self.is_host_allowed(host, door)) {
            return Err(Failure::Host);
        }
        match origin {
            Some(origin) if !self.is_origin_allowed(origin, host, door) => Err(Failure::Origin),
            Some(_) | None => Ok(()),
        }
    }

    fn is_host_allowed(&self, host: &str, door: Door) -> bool {
        (door == Door::Loopback && is_loopback(without_port(host)))
            || self.hosts.iter().any(|allowed| {
                allowed == "*"
                    || allowed.eq_ignore_ascii_case(host)
                    || allowed.eq_ignore_ascii_case(without_port(host))
            })
    }

    fn is_origin_allowed(&self, origin: &HeaderValue, host: Option<&str>, door: Door) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        if self.origins.iter().any(|it| it == "*" || it.eq_ignore_ascii_case(origin)) {
            return true;
        }
        let Some((_, authority)) = origin.split_once("://") else { return false };
        host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
            || (door == Door::Loopback && is_loopback(without_port(authority)))
    }
}

/// The host of `host:port`, with the brackets of IPv6 kept.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Lets the page at the request's origin read the answer.
pub(crate) fn allow_origin(origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Mcp-Session-Id, WWW-Authenticate"),
    );
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// Headers of the answer to a preflight: what a page may send.
pub(crate) fn preflight(request: &HeaderMap, answer: &mut HeaderMap) {
    let mut allowed =
        "authorization, content-type, last-event-id, mcp-session-id, mcp-protocol-version, \
         mcp-method, mcp-name"
            .to_owned();
    let asked = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    for name in asked.and_then(|names| names.to_str().ok()).unwrap_or_default().split(',') {
        let name = name.trim();
        if name.to_ascii_lowercase().starts_with("mcp-param-") {
            allowed.push_str(", ");
            allowed.push_str(name);
        }
    }
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    let methods = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, OPTIONS");
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
}

/// Whether a request is the browser's question before the real one.
pub(crate) fn is_preflight(method: &Method) -> bool {
    method == Method::OPTIONS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_header_does_not_keep_its_request() {
        let request = bytes::Bytes::from(b"Bearer x\r\nand kilobytes more".to_vec());
        let mut shared = HeaderValue::from_maybe_shared(request.slice(..8)).unwrap();
        shared.set_sensitive(true);
        let kept = detached(&shared);
        assert!(kept == "Bearer x" && kept.is_sensitive());
        drop(shared);
        assert!(request.is_unique());
    }

    fn accept(text: Option<&'static str>) -> Option<Accepts> {
        let mut headers = HeaderMap::new();
        if let Some(text) = text {
            headers.insert(header::ACCEPT, HeaderValue::from_static(text));
        }
        Accepts::of(&headers).ok()
    }

    #[test]
    fn accept_is_refused_only_when_neither_form_fits() {
        assert_eq!(accept(None), Some(Accepts::Json));
        assert_eq!(accept(Some("*/*")), Some(Accepts::Json));
        assert_eq!(accept(Some("application/json")), Some(Accepts::Json));
        assert_eq!(accept(Some("text/event-stream")), Some(Accepts::Events));
        assert_eq!(accept(Some("text/event-stream;q=0.9, application/json")), Some(Accepts::Both));
        assert_eq!(accept(Some("text/event-stream;q=0, application/json")), Some(Accepts::Json));
        assert_eq!(accept(Some("text/html")), None);
    }

    #[test]
    fn only_plain_json_is_read() {
        let check = |content: &'static str, encoding: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
            if let Some(encoding) = encoding {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
            check_content(&headers).is_ok()
        };
        assert!(check("application/json; charset=utf-8", None));
        assert!(check("Application/JSON", Some("identity")));
        assert!(!check("text/plain", None));
        assert!(!check("application/json", Some("gzip")));
        assert!(check_content(&HeaderMap::new()).is_err());
    }

    fn judge(trust: &Trust, door: Door, host: &str, origin: Option<&str>) -> bool {
        let mut request = Request::builder().uri("/mcp").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        trust.check(&request.body(()).unwrap(), "192.0.2.1".parse().unwrap(), door).is_ok()
    }

    #[test]
    fn rebinding_is_refused_on_loopback_listeners() {
        let trust = Trust::default();
        for host in ["localhost:4444", "127.0.0.1", "[::1]:4444", "LOCALHOST"] {
            assert!(judge(&trust, Door::Loopback, host, None), "{host}");
        }
        assert!(!judge(&trust, Door::Loopback, "evil.example.com", None));
        assert!(judge(&trust, Door::Loopback, "localhost", Some("http://localhost:6274")));
        assert!(!judge(&trust, Door::Loopback, "localhost", Some("http://evil.example.com")));
        assert!(!judge(&trust, Door::Loopback, "localhost", Some("null")));
    }

    #[test]
    fn public_listeners_take_any_host_unless_told_otherwise() {
        let open = Trust::default();
        assert!(judge(&open, Door::Public, "gateway.example", None));
        assert!(judge(&open, Door::Public, "gateway.example", Some("https://gateway.example")));
        assert!(!judge(&open, Door::Public, "gateway.example", Some("http://localhost")));
        let strict = Trust {
            hosts: vec!["gateway.example".to_owned()],
            origins: vec!["https://app.example".to_owned()],
            proxies: vec![],
        };
        assert!(judge(&strict, Door::Public, "gateway.example:8443", Some("https://app.example")));
        assert!(!judge(&strict, Door::Public, "other.example", None));
    }

    #[test]
    fn forwarded_addresses_count_only_from_trusted_proxies() {
        let trust = Trust { proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Trust::default() };
        let mut headers = HeaderMap::new();
        headers
            .insert("x-forwarded-for", HeaderValue::from_static("6.6.6.6, 203.0.113.9, 10.0.0.2"));
        let through = |peer: &str| trust.client(peer.parse().unwrap(), &headers).ip().to_string();
        assert_eq!(through("10.0.0.1:1"), "203.0.113.9");
        assert_eq!(through("192.0.2.1:1"), "192.0.2.1");
    }
}
