//! Which era an upstream speaks, from how it answers `server/discover` and `initialize`
//! (MCP 2026-07-28, versioning; the handshake of 2025-11-25, lifecycle).

use std::borrow::Cow;

use proto::Era;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mcp::{
    Capabilities, Declared, Kind, Message, Version, code,
    message::{Outcome, Response, meta_key},
    response::SERVER_INFO,
};

/// The modern version that we speak.
pub(crate) const MODERN: &str = "2026-07-28";
/// The legacy version that we offer.
pub(crate) const LEGACY: &str = "2025-11-25";
const LEGACY_VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", LEGACY];

/// What an upstream said about itself. JSON stays text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    pub(crate) era: Era,
    pub(crate) version: String,
    pub(crate) server_info: String,
    pub(crate) capabilities: String,
    pub(crate) instructions: String,
}

impl Handshake {
    /// What is known of an upstream whose era comes from the configuration.
    pub(crate) fn remembered(era: Era, version: &str) -> Self {
        let fallback = match era {
            Era::Legacy => LEGACY,
            Era::Modern => MODERN,
        };
        let version = if version.is_empty() { fallback } else { version };
        Self {
            era,
            version: version.to_owned(),
            server_info: "{}".to_owned(),
            capabilities: r#"{"tools":{}}"#.to_owned(),
            instructions: String::new(),
        }
    }

    /// Whether its server may send several messages in one.
    pub(crate) fn has_batches(&self) -> bool {
        self.version == Version::V2025_03_26.as_str()
    }
}

/// What the answer to `server/discover` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Modern(Handshake),
    /// `initialize` has to tell more.
    Legacy,
    /// The versions it speaks instead.
    Incompatible(String),
}

/// How a request of our own is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    Legacy,
    /// As a client with these capabilities says it; legacy ones say that once, at `initialize`.
    Modern(Capabilities),
}

impl From<Era> for Speech {
    fn from(era: Era) -> Self {
        match era {
            Era::Legacy => Self::Legacy,
            Era::Modern => Self::Modern(Capabilities::NONE),
        }
    }
}

/// A JSON-RPC error as far as anything depends on it.
#[derive(Debug, Deserialize)]
pub(crate) struct RpcError<'a> {
    pub(crate) code: i64,
    #[serde(borrow, default)]
    pub(crate) message: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl RpcError<'_> {
    fn supported(&self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Data {
            supported: Vec<String>,
        }
        let data = self.data.and_then(|data| serde_json::from_str::<Data>(data.get()).ok());
        data.map(|data| data.supported).unwrap_or_default()
    }
}

/// The error that a message carries; `None` if it is no error response.
pub(crate) fn error_of(message: &Message) -> Option<RpcError<'_>> {
    match &message.kind {
        Kind::Response(Response { id: _, outcome: Outcome::Error(span) }) => {
            let text = span.of(message.text());
            let unreadable = RpcError { code: 0, message: Cow::Borrowed(text), data: None };
            Some(serde_json::from_str(text).unwrap_or(unreadable))
        }
        Kind::Response(_) | Kind::Request(_) | Kind::Notification(_) => None,
    }
}

/// The result that a message carries, as text.
pub(crate) fn result_of(message: &Message) -> Option<&str> {
    match &message.kind {
        Kind::Response(Response { id: _, outcome: Outcome::Result { span, members: _ } }) => {
            Some(span.of(message.text()))
        }
        Kind::Response(_) | Kind::Request(_) | Kind::Notification(_) => None,
    }
}

/// Judges the answer to `server/discover`.
pub(crate) fn judge(answer: &Message) -> Verdict {
    if let Some(error) = error_of(answer) {
        return match error.code {
            code::UNSUPPORTED_VERSION => versions(error.supported()),
            // Only a modern server knows these.
            code::HEADER_MISMATCH | code::MISSING_CLIENT_CAPABILITY => {
                Verdict::Modern(Handshake::remembered(Era::Modern, MODERN))
            }
            _ => Verdict::Legacy,
        };
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Discovered<'a> {
        supported_versions: Vec<String>,
        #[serde(borrow)]
        capabilities: Option<&'a RawValue>,
        instructions: Option<String>,
        #[serde(borrow, rename = "_meta")]
        meta: Option<&'a RawValue>,
    }
    let result = result_of(answer).unwrap_or_default();
    let Ok(discovered) = serde_json::from_str::<Discovered<'_>>(result) else {
        return Verdict::Legacy;
    };
    let verdict = versions(discovered.supported_versions);
    let Verdict::Modern(handshake) = verdict else { return verdict };
    Verdict::Modern(Handshake {
        server_info: discovered.meta.and_then(server_info).unwrap_or(handshake.server_info),
        capabilities: text_of(discovered.capabilities),
        instructions: discovered.instructions.unwrap_or_default(),
        ..handshake
    })
}

/// `serverInfo` of a modern result's `_meta`.
fn server_info(meta: &RawValue) -> Option<String> {
    let meta: std::collections::HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(meta.get()).ok()?;
    meta.get(meta_key::SERVER_INFO).map(|info| info.get().to_owned())
}

fn versions(supported: Vec<String>) -> Verdict {
    let speaks = |version: &&str| supported.iter().any(|supported| supported == version);
    if speaks(&MODERN) {
        Verdict::Modern(Handshake::remembered(Era::Modern, MODERN))
    } else if supported.is_empty() || LEGACY_VERSIONS.iter().any(speaks) {
        Verdict::Legacy
    } else {
        Verdict::Incompatible(supported.join(", "))
    }
}

/// Why `initialize` led to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Uninitialized {
    /// It serves the modern era on this connection: probe again.
    IsModern,
    Refused(String),
    Incompatible(String),
}

/// Reads the answer to `initialize`.
pub(crate) fn initialized(answer: &Message) -> Result<Handshake, Uninitialized> {
    if let Some(error) = error_of(answer) {
        return Err(match error.code {
            code::UNSUPPORTED_VERSION => Uninitialized::IsModern,
            code => Uninitialized::Refused(format!("error {code}: {}", error.message)),
        });
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Result<'a> {
        protocol_version: String,
        #[serde(borrow)]
        capabilities: Option<&'a RawValue>,
        #[serde(borrow)]
        server_info: Option<&'a RawValue>,
        instructions: Option<String>,
    }
    let result: Result<'_> = serde_json::from_str(result_of(answer).unwrap_or_default())
        .map_err(|error| Uninitialized::Refused(format!("its result is not valid: {error}")))?;
    if !LEGACY_VERSIONS.contains(&result.protocol_version.as_str()) {
        return Err(Uninitialized::Incompatible(result.protocol_version));
    }
    Ok(Handshake {
        era: Era::Legacy,
        version: result.protocol_version,
        server_info: text_of(result.server_info),
        capabilities: text_of(result.capabilities),
        instructions: result.instructions.unwrap_or_default(),
    })
}

fn text_of(raw: Option<&RawValue>) -> String {
    raw.map_or("{}", RawValue::get).to_owned()
}

/// Parameters of our `initialize`, without braces, in the name of the client that the session
/// is for.
pub(crate) fn initialize_members(declared: Declared) -> String {
    let known = declared.known.of_handshake();
    let capabilities = Declared { known, ..declared }.to_json();
    format!(
        r#""protocolVersion":"{LEGACY}","capabilities":{capabilities},"clientInfo":{SERVER_INFO}"#
    )
}

/// What follows a successful `initialize`.
pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// `_meta` of our own modern requests, as of a client with these capabilities.
fn modern_meta(capabilities: Capabilities) -> String {
    let capabilities = capabilities.to_json();
    format!(
        r#""_meta":{{"{}":"{MODERN}","{}":{SERVER_INFO},"{}":{capabilities}}}"#,
        meta_key::PROTOCOL_VERSION,
        meta_key::CLIENT_INFO,
        meta_key::CLIENT_CAPABILITIES,
    )
}

/// A request of our own. `id` is raw JSON, `members` are the parameters without braces.
pub(crate) fn request(speech: impl Into<Speech>, id: &str, method: &str, members: &str) -> String {
    let meta = match speech.into() {
        Speech::Legacy => String::new(),
        Speech::Modern(capabilities) => modern_meta(capabilities),
    };
    let comma = if meta.is_empty() || members.is_empty() { "" } else { "," };
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{members}{comma}{meta}}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mcp::message::parse;

    fn answer(rest: &str) -> Message {
        parse(Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":1,{rest}}}"#))).unwrap()
    }

    #[track_caller]
    fn check(rest: &str, expected: &str) {
        let found = match judge(&answer(rest)) {
            Verdict::Modern(handshake) => format!("modern {}", handshake.version),
            Verdict::Legacy => "legacy".to_owned(),
            Verdict::Incompatible(versions) => format!("incompatible {versions}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn the_answer_to_discover_tells_the_era() {
        check(
            r#""result":{"supportedVersions":["2025-11-25","2026-07-28"],"capabilities":{}}"#,
            "modern 2026-07-28",
        );
        check(r#""result":{"supportedVersions":["2025-11-25"],"capabilities":{}}"#, "legacy");
        check(
            r#""result":{"supportedVersions":["2031-01-01"],"capabilities":{}}"#,
            "incompatible 2031-01-01",
        );
        check(r#""result":{"tools":[]}"#, "legacy");
        check(r#""error":{"code":-32601,"message":"no"}"#, "legacy");
        check(r#""error":{"code":-32000,"message":"Server not initialized"}"#, "legacy");
        check(
            r#""error":{"code":-32022,"message":"v","data":{"supported":["2025-06-18"]}}"#,
            "legacy",
        );
        check(
            r#""error":{"code":-32022,"message":"v","data":{"supported":["2030-01-01"]}}"#,
            "incompatible 2030-01-01",
        );
        check(r#""error":{"code":-32020,"message":"header"}"#, "modern 2026-07-28");
    }

    #[test]
    fn a_modern_upstream_presents_itself_in_meta() {
        let answer = answer(
            r#""result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"instructions":"be kind","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"x","v":1.0}}}"#,
        );
        let Verdict::Modern(handshake) = judge(&answer) else { panic!("not modern") };
        assert_eq!(handshake.server_info, r#"{"name":"x","v":1.0}"#);
        assert_eq!(handshake.capabilities, r#"{"tools":{}}"#);
        assert_eq!(handshake.instructions, "be kind");
    }

    #[test]
    fn initialize_is_accepted_at_versions_with_a_handshake() {
        let version = |version: &str| {
            initialized(&answer(&format!(
                r#""result":{{"protocolVersion":"{version}","capabilities":{{}},"serverInfo":{{}}}}"#
            )))
        };
        assert_eq!(version("2024-11-05").unwrap().version, "2024-11-05");
        let modern = Uninitialized::Incompatible("2026-07-28".to_owned());
        assert_eq!(version("2026-07-28"), Err(modern));
        let refused = initialized(&answer(r#""error":{"code":-32022,"message":"modern"}"#));
        assert_eq!(refused, Err(Uninitialized::IsModern));
    }

    #[test]
    fn our_own_requests_are_messages() {
        for era in [Era::Legacy, Era::Modern] {
            for members in ["", r#""cursor":"x""#] {
                let message = parse(Bytes::from(request(era, "7", "tools/list", members))).unwrap();
                let claims_modern = message.params().unwrap().meta.protocol_version.is_some();
                assert_eq!(claims_modern, era == Era::Modern);
            }
        }
    }
}
