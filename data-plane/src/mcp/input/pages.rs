//! Pages that have to be visited before a call (MCP 2025-11-25, URL elicitation required), as text.

use std::borrow::Cow;

use super::{Harmful, edited};
use crate::mcp::{
    code, elicitation,
    message::{Kind, Message, Outcome, Response, Span},
    object::{self, Member},
};

/// What an error says pages in.
const PAGES: &str = "elicitations";

/// Whether an error may name pages that have to be visited first. Its code alone does not say so:
/// a number, and a word, can be written in many ways.
pub fn may_name_pages(answer: &Message) -> bool {
    error_of(answer).is_some_and(|error| may_be_in(error.of(answer.text())))
}

/// Whether JSON text may name pages.
pub fn may_be_in(json: &str) -> bool {
    json.contains(PAGES) || json.contains("\\u")
}

/// What an error says of pages.
struct Judged {
    /// The code by which it says that they have to be visited, if it does.
    code: Option<Span>,
    pages: Vec<Span>,
}

impl Judged {
    /// Of an error at a span of `text`.
    fn of(text: &str, error: Span) -> Result<Self, Harmful> {
        // What is judged here has to be what the client reads, and readers take either of two.
        let parts = |span: Span| object::unambiguous(text, span).ok_or(Harmful);
        let part = |members: &[Member<Cow<'_, str>>], name: &str| {
            members.iter().find(|member| member.name == name).map(|member| member.value)
        };
        let error = parts(error)?;
        let code = part(&error, "code").filter(|code| says_required(code.of(text)));
        let Some(data) = part(&error, "data").filter(|data| data.of(text).starts_with('{')) else {
            return Ok(Self { code, pages: Vec::new() });
        };
        let pages = part(&parts(data)?, PAGES);
        let pages = pages.map(|pages| object::elements(text, pages)).unwrap_or_default();
        for page in &pages {
            parts(*page)?;
            if !elicitation::is_visitable(text, *page) {
                return Err(Harmful);
            }
        }
        Ok(Self { code, pages })
    }

    /// What has to be put in so that its reader knows that `asker` wants them visited.
    fn signatures(&self, text: &str, asker: Option<&str>) -> Vec<(Span, String)> {
        let sign = |page: &Span| elicitation::signature(text, *page, asker?);
        self.pages.iter().filter_map(sign).collect()
    }
}

/// `-32042`, also as clients read `-32042.0`.
fn says_required(code: &str) -> bool {
    let code = code.parse::<f64>().map(|code| code.to_string());
    code.is_ok_and(|code| code == code::URL_ELICITATION_REQUIRED.to_string())
}

/// Whether an error, at a span of `text`, names no page in any reading.
pub fn names_none(text: &str, error: Span) -> bool {
    Judged::of(text, error).is_ok_and(|judged| judged.pages.is_empty())
}

/// What has to be put into an error that names pages, so that a legacy client's user knows who
/// wants them visited: `asker`, if others may ask too.
pub fn named_pages(answer: &Message, asker: Option<&str>) -> Result<Vec<(Span, String)>, Harmful> {
    let text = answer.text();
    let judged = error_of(answer).map(|error| Judged::of(text, error)).transpose()?;
    Ok(judged.map(|judged| judged.signatures(text, asker)).unwrap_or_default())
}

/// The same of an error at a span of `text` for modern clients, which have another code for it
/// (MCP 2026-07-28, error codes).
pub(super) fn named_for_modern(
    text: &str,
    error: Span,
    asker: Option<&str>,
) -> Result<Vec<(Span, String)>, Harmful> {
    let judged = Judged::of(text, error)?;
    let mut edits = judged.signatures(text, asker);
    edits.extend(judged.code.map(|code| (code, code::INTERNAL_ERROR.to_string())));
    Ok(edits)
}

/// The error that an answer is.
pub(super) fn error_of(answer: &Message) -> Option<Span> {
    match &answer.kind {
        Kind::Response(Response { outcome: Outcome::Error(error), .. }) => Some(*error),
        Kind::Response(_) | Kind::Request(_) | Kind::Notification(_) => None,
    }
}

/// The pages that have to be visited first because `asker` wants it, who is named if others may
/// ask too, as inputs; `None` if that is not what an answer says (MCP 2025-11-25, URL elicitation
/// required).
pub fn pages(answer: &Message, asker: Option<&str>) -> Option<Result<Vec<String>, Harmful>> {
    let (text, error) = (answer.text(), error_of(answer)?);
    let input = |page: Span| {
        let members = object::members(text, page);
        let is_gone = |name: &str| name == "elicitationId" || name == "mode";
        let cuts = object::cuts(&members, |member| is_gone(&member.name));
        let mode = (Span::at(page.start + 1), r#""mode":"url","#.to_owned());
        let signed = asker.and_then(|asker| elicitation::signature(text, page, asker));
        let page = edited(text, page, cuts, [mode].into_iter().chain(signed));
        format!(r#"{{"method":"elicitation/create","params":{page}}}"#)
    };
    match Judged::of(text, error) {
        Ok(Judged { code: None, .. }) => None,
        judged => Some(judged.map(|judged| judged.pages.into_iter().map(input).collect())),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::mcp::message::{parse, splice};

    fn message(text: &str) -> Message {
        parse(Bytes::from(text.to_owned())).unwrap()
    }

    fn text(bytes: Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn pages_to_visit_become_inputs() {
        let error = |rest: &str| {
            message(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"message":"m",{rest}}}}}"#))
        };
        let page = r#"{"elicitationId":"e","url":"https://a/","mode":"u\u0072l","message":"Go"}"#;
        let required = |code: &str, pages: &str| {
            pages_of(&error(&format!(r#""code":{code},"data":{{"elicitations":[{pages}]}}"#)))
        };
        let told = r#"{"method":"elicitation/create","params":{"mode":"url","url":"https://a/","message":"[up] Go"}}"#;
        for code in ["-32042", "-32042.0", "-3.2042e4"] {
            assert_eq!(required(code, page), Some(Ok(vec![told.to_owned()])), "{code}");
        }
        let unsaid = page.replace(r#""mode":"u\u0072l","#, "");
        assert_eq!(required("-32042", &unsaid), Some(Ok(vec![told.to_owned()])));
        for bad in [page.replace("https", "http"), unsaid.replace("https", "http"), "7".to_owned()]
        {
            let both = format!("{page},{bad}");
            assert_eq!(required("-32042", &both), Some(Err(Harmful)), "{bad}");
            // Who asks for it under another code asks for it, too.
            assert_eq!(required("-32603", &both), Some(Err(Harmful)), "{bad}");
        }
        assert_eq!(required("-32603", page), None);
        assert_eq!(pages_of(&error(r#""code":-32042"#)), Some(Ok(vec![])));
        assert_eq!(pages_of(&error(r#""code":-32603"#)), None);
        assert_eq!(pages_of(&error(r#""code":-32603,"code":-32042"#)), Some(Err(Harmful)));
    }

    fn pages_of(answer: &Message) -> Option<Result<Vec<String>, Harmful>> {
        pages(answer, Some("up"))
    }

    #[test]
    fn pages_of_an_error_are_named_and_not_bad_ones() {
        let error = |who: &str, url: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-32042,"message":"m","data":{{"elicitations":[{{"mode":"url","elicitationId":"e","url":"https://a/","message":"{who}Go"}},{{"mode":"url","url":"{url}","message":"{who}On","x":1.0}}]}}}}}}"#
            )
        };
        let given = message(&error("", "https://b/"));
        let named = named_pages(&given, Some("up")).unwrap();
        assert_eq!(text(splice(given.body(), &named)), error("[up] ", "https://b/"));
        assert_eq!(named_pages(&given, None), Ok(vec![]));
        assert_eq!(named_pages(&message(&error("", "http://b/")), None), Err(Harmful));
        let twice = |name: &str, value: &str| {
            let twice = format!("\"{name}\":{value},\"{name}\":");
            let given = error("", "https://b/").replace(&format!("\"{name}\":"), &twice);
            named_pages(&message(&given), Some("up"))
        };
        for (name, value) in [
            ("code", "1"),
            ("data", "{}"),
            ("elicitations", "[]"),
            ("url", "\"https://c/\""),
            ("message", "\"\""),
        ] {
            assert_eq!(twice(name, value), Err(Harmful), "{name}");
        }
        let unsaid = error("", "http://b/").replace("\"mode\":\"url\",", "");
        assert_eq!(named_pages(&message(&unsaid), None), Err(Harmful));
    }
}
