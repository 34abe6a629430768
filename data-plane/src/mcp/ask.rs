//! What servers ask clients for (MCP 2025-11-25, client features), and what a client must have
//! declared to be asked.

use super::{
    Capabilities, Message, elicitation,
    object::{self, Span},
};

/// A request that goes from a server to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Sampling,
    Elicitation,
    Roots,
    /// A sign of life, which whoever is nearest gives.
    Ping,
}

impl Ask {
    /// `None`: no client knows this method.
    pub fn of(method: &str) -> Option<Self> {
        match method {
            "sampling/createMessage" => Some(Self::Sampling),
            "elicitation/create" => Some(Self::Elicitation),
            "roots/list" => Some(Self::Roots),
            "ping" => Some(Self::Ping),
            _ => None,
        }
    }

    /// What a client must have declared to be asked this. `params` is a span of `text`.
    pub fn needs(self, text: &str, params: Option<Span>) -> Capabilities {
        let member = |name: &str| params.and_then(|params| object::member(text, params, name));
        match self {
            Self::Sampling if member("tools").is_some() || member("toolChoice").is_some() => {
                Capabilities::of(&["sampling", "sampling.tools"])
            }
            Self::Sampling => Capabilities::of(&["sampling"]),
            Self::Elicitation if params.is_some_and(|it| elicitation::is_visit(text, it)) => {
                Capabilities::of(&["elicitation", "elicitation.url"])
            }
            Self::Elicitation => Capabilities::of(&["elicitation"]),
            Self::Roots => Capabilities::of(&["roots"]),
            Self::Ping => Capabilities::NONE,
        }
    }
}

/// What a server's request asks for, and what its client needs for that.
pub fn asked(message: &Message) -> Option<(Ask, Capabilities)> {
    let ask = Ask::of(message.method()?.as_str())?;
    let params = message.params().and_then(|params| params.span);
    Some((ask, ask.needs(message.text(), params)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message::parse;

    #[track_caller]
    fn check(method: &str, params: &str, expected: &str) {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let needs = asked(&parse(body.into()).unwrap()).map(|(_, needs)| needs.to_json());
        assert_eq!(needs.as_deref().unwrap_or("unknown"), expected);
    }

    #[test]
    fn each_request_names_what_it_needs() {
        check("sampling/createMessage", r#"{"messages":[]}"#, r#"{"sampling":{}}"#);
        check("sampling/createMessage", r#"{"tools":[]}"#, r#"{"sampling":{"tools":{}}}"#);
        check("elicitation/create", r#"{"message":"mode"}"#, r#"{"elicitation":{}}"#);
        check("elicitation/create", r#"{"mode":"form"}"#, r#"{"elicitation":{}}"#);
        for url in [r#"{"mode":"url"}"#, r#"{"mode":"u\u0072l"}"#, r#"{"url":"https://a/"}"#] {
            check("elicitation/create", url, r#"{"elicitation":{"url":{}}}"#);
        }
        check("roots/list", "{}", r#"{"roots":{}}"#);
        check("ping", "{}", "{}");
        check("tools/call", "{}", "unknown");
    }
}
