//! The messages that are sent and answered: their size is exact, and all but the id is shared.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::body::Parts;

/// The tool as clients name it: [`exposed`] of the upstream `weather`.
pub const CLIENT_TOOL: &str = "weather-get_forecast";
/// The tool as the upstream names it.
pub const UPSTREAM_TOOL: &str = "get_forecast";
/// A tool that is one HTTP request.
pub const REST_TOOL: &str = "rest-get_forecast";
/// Size of the body of a small call.
pub const SMALL: usize = 303;
/// Ids begin here, so that all have as many digits.
pub const FIRST_ID: u64 = 100_000_000;

/// How clients of the legacy era begin.
pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
/// What they say then.
pub const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
/// The text of a small answer, as JSON has it.
const FORECAST: &str =
    r#"{\"forecast\":\"sunny\",\"temp\":21.5,\"unit\":\"C\",\"city\":\"Dublin\"}"#;
const CLAIMS: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;

/// Which protocol clients and upstreams speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Era {
    /// 2025-11-25: sessions.
    Legacy,
    /// 2026-07-28: each request for itself.
    Modern,
}

impl Era {
    /// The version of its clients.
    pub fn version(self) -> HeaderValue {
        match self {
            Self::Legacy => HeaderValue::from_static("2025-11-25"),
            Self::Modern => HeaderValue::from_static("2026-07-28"),
        }
    }
}

/// One message, to be sent again and again with another id.
#[derive(Clone, Debug)]
pub struct Message {
    /// `None` for what is no JSON-RPC.
    pub method: Option<&'static str>,
    /// What it calls.
    pub tool: Option<String>,
    /// All that follows the id.
    tail: Bytes,
}

impl Message {
    /// A call whose body has `size` bytes and whose answer a body of `answer`; 0: a small one.
    pub fn call(era: Era, tool: &str, size: usize, answer: usize) -> Self {
        let wish = if answer > 0 { format!(r#","answer":{answer}"#) } else { String::new() };
        let begin = format!(
            r#""method":"tools/call","params":{{"name":"{tool}","arguments":{{"city":"Dublin","unit":"C"{wish},"note":""#
        );
        let end = match era {
            Era::Legacy => r#""},"_meta":{"progressToken":"p"}}}"#.to_owned(),
            Era::Modern => format!(r#""}},"_meta":{{{CLAIMS},"progressToken":"p"}}}}}}"#),
        };
        let fixed = head(FIRST_ID).len() + begin.len() + end.len();
        let tail = format!("{begin}{}{end}", filling(size.saturating_sub(fixed)));
        Self { method: Some("tools/call"), tool: Some(tool.to_owned()), tail: tail.into() }
    }

    /// The list of tools.
    pub fn list(era: Era) -> Self {
        let params = match era {
            Era::Legacy => String::new(),
            Era::Modern => format!(r#""_meta":{{{CLAIMS}}}"#),
        };
        let tail = format!(r#""method":"tools/list","params":{{{params}}}}}"#);
        Self { method: Some("tools/list"), tool: None, tail: tail.into() }
    }

    /// What a REST API is sent for the arguments of `call`.
    pub fn arguments_of(call: &Self) -> Option<Self> {
        let text = std::str::from_utf8(&call.tail).ok()?;
        let begin = text.find(r#""arguments":"#)? + r#""arguments":"#.len();
        let end = text.find(r#","_meta":"#)?;
        let tail = Bytes::copy_from_slice(text.get(begin..end)?.as_bytes());
        Some(Self { method: None, tool: None, tail })
    }

    /// What is sent, with this id.
    pub fn body(&self, id: u64) -> Parts {
        match self.method {
            Some(_) => Parts::new(head(id), self.tail.clone()),
            None => Parts::new(Bytes::new(), self.tail.clone()),
        }
    }
}

/// How a message with an id begins.
pub fn head(id: u64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"#)
}

/// All that follows the id in the upstream's answer to a call.
pub fn answer(era: Era, size: usize) -> Bytes {
    let begin = r#""result":{"content":[{"type":"text","text":""#;
    let end = match era {
        Era::Legacy => r#""}],"isError":false}}"#,
        Era::Modern => r#""}],"isError":false,"resultType":"complete"}}"#,
    };
    let text = match size {
        0 => FORECAST.to_owned(),
        _ => filling(size.saturating_sub(head(FIRST_ID).len() + begin.len() + end.len())),
    };
    format!("{begin}{text}{end}").into()
}

/// What the REST API answers.
pub fn rest_answer() -> String {
    FORECAST.replace('\\', "")
}

/// Under which name a tool of an upstream is shown.
pub fn exposed(upstream: &str) -> String {
    format!("{upstream}-{UPSTREAM_TOOL}")
}

/// So many bytes within a JSON string; long ones are like what tools write, quotes and line ends
/// included, because JSON readers are slower there.
fn filling(length: usize) -> String {
    const LINE: &str = r#"{\"city\":\"Dublin\",\"temp\":21.5,\"wind\":\"12 km/h\"}\n"#;
    let lines = if length > 1024 { length / LINE.len() } else { 0 };
    let rest = length - lines * LINE.len();
    format!("{}{}", LINE.repeat(lines), "x".repeat(rest))
}

/// A call whose upstream tells of its progress `events` times.
pub fn streaming_body(tool: &str, id: u64, events: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"events":{events}}},"_meta":{{"progressToken":"p"}}}}}}"#
    )
}

/// The message of one event of such a call, sent now.
pub fn progress(number: u64) -> anyhow::Result<String> {
    let now = nanoseconds()?;
    Ok(format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"p","progress":{number},"message":"sent {now}"}}}}"#
    ))
}

/// When a message of [`progress`] was sent; `None` if it is another.
pub fn sent_at(event: &str) -> Option<u64> {
    let (_, rest) = event.split_once("\"sent ")?;
    rest.split_once('"')?.0.parse().ok()
}

/// Nanoseconds since 1970.
pub fn nanoseconds() -> anyhow::Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn whole(parts: &Bytes) -> Value {
        serde_json::from_str(&format!("{}{}", head(FIRST_ID), std::str::from_utf8(parts).unwrap()))
            .unwrap()
    }

    #[test]
    fn an_event_says_when_it_was_sent() {
        let before = nanoseconds().unwrap();
        let event = format!("data: {}\n\n", progress(1).unwrap());
        assert!(sent_at(&event).unwrap() >= before);
        assert_eq!(sent_at("data: {}\n\n"), None);
    }

    #[test]
    fn every_call_has_the_announced_size() {
        for era in [Era::Legacy, Era::Modern] {
            for size in [SMALL, 4096, 256 << 10] {
                let call = Message::call(era, CLIENT_TOOL, size, 0);
                assert_eq!(call.body(FIRST_ID + 1).len(), size, "{era:?}");
                assert_eq!(whole(&call.tail)["params"]["name"], CLIENT_TOOL);
            }
        }
    }

    #[test]
    fn every_answer_has_the_size_that_was_asked_for() {
        for era in [Era::Legacy, Era::Modern] {
            let tail = answer(era, 4096);
            assert_eq!(head(FIRST_ID).len() + tail.len(), 4096);
            assert_eq!(whole(&tail)["result"]["isError"], false);
            let call = whole(&Message::call(era, UPSTREAM_TOOL, SMALL, 4096).tail);
            assert_eq!(call["params"]["arguments"]["answer"], 4096);
            assert_eq!(
                whole(&answer(era, 0))["result"]["content"][0]["text"],
                rest_answer().as_str()
            );
        }
    }

    #[test]
    fn a_rest_api_is_sent_the_arguments() {
        let call = Message::call(Era::Legacy, CLIENT_TOOL, SMALL, 0);
        let arguments = Message::arguments_of(&call).unwrap();
        let sent: Value = serde_json::from_slice(&arguments.tail).unwrap();
        assert_eq!(sent, whole(&call.tail)["params"]["arguments"]);
        assert!(arguments.body(1).len() < SMALL);
    }
}
