//! Pages that have to be visited before a call (MCP 2025-11-25, URL elicitation required), as text.

use super::{Harmful, edited};
use crate::mcp::{
    code, elicitation,
    message::{Kind, Message, Outcome, Response, Span},
    object,
};

/// What has to be put into an error that says that pages have to be visited first, so that a
/// legacy client's user knows who wants that: `asker`, if others may ask too.
pub fn named_pages(answer: &Message, asker: Option<&str>) -> Result<Vec<(Span, String)>, Harmful> {
    let Kind::Response(Response { outcome: Outcome::Error(error), .. }) = &answer.kind else {
        return Ok(Vec::new());
    };
    let text = answer.text();
    let data = object::unambiguous(text, *error).ok_or(Harmful)?;
    let data = data.iter().find(|member| member.name == "data").map(|member| member.value);
    if data
        .is_some_and(|it| it.of(text).starts_with('{') && object::unambiguous(text, it).is_none())
    {
        return Err(Harmful);
    }
    let pages = elicitations(text, *error);
    let is_good = |page: &Span| {
        object::unambiguous(text, *page).is_some() && elicitation::is_visitable(text, *page)
    };
    if !pages.iter().all(is_good) {
        return Err(Harmful);
    }
    let sign = |page: &Span| elicitation::signature(text, *page, asker?);
    Ok(pages.iter().filter_map(sign).collect())
}

/// The elicitations that an error asks for.
fn elicitations(text: &str, error: Span) -> Vec<Span> {
    let data = object::member(text, error, "data");
    let pages = data.and_then(|data| object::member(text, data, "elicitations"));
    pages.map(|pages| object::elements(text, pages)).unwrap_or_default()
}

/// The pages that have to be visited first because `asker` wants it, as inputs; `None` if that is
/// not what an answer says (MCP 2025-11-25, URL elicitation required).
pub fn pages(answer: &Message, asker: &str) -> Option<Vec<String>> {
    let Kind::Response(Response { outcome: Outcome::Error(error), .. }) = &answer.kind else {
        return None;
    };
    let text = answer.text();
    let found = object::member(text, *error, "code")?.of(text).parse::<i64>().ok()?;
    if found != code::URL_ELICITATION_REQUIRED {
        return None;
    }
    let pages = elicitations(text, *error);
    let is_page = |page: &&Span| {
        object::member(text, **page, "mode").is_some_and(|mode| mode.of(text) == "\"url\"")
            && elicitation::is_visitable(text, **page)
    };
    let input = |page: &Span| {
        let members = object::members(text, *page);
        let cuts = object::cuts(&members, |member| member.name == "elicitationId");
        let page = edited(text, *page, cuts, elicitation::signature(text, *page, asker));
        format!(r#"{{"method":"elicitation/create","params":{page}}}"#)
    };
    Some(pages.iter().filter(is_page).map(input).collect())
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
        let page = r#"{"mode":"url","elicitationId":"e","url":"https://a/","message":"Go"}"#;
        let open = page.replace("https", "http");
        let required =
            error(&format!(r#""code":-32042,"data":{{"elicitations":[{open},{page},7]}}"#));
        assert_eq!(
            pages(&required, "up").unwrap(),
            [
                r#"{"method":"elicitation/create","params":{"mode":"url","url":"https://a/","message":"[up] Go"}}"#
            ]
        );
        assert_eq!(pages(&error(r#""code":-32042"#), "up"), Some(vec![]));
        assert_eq!(pages(&error(r#""code":-32603"#), "up"), None);
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
        assert_eq!(text(splice(&given.body, &named)), error("[up] ", "https://b/"));
        assert_eq!(named_pages(&given, None), Ok(vec![]));
        assert_eq!(named_pages(&message(&error("", "http://b/")), None), Err(Harmful));
        let twice = |name: &str, value: &str| {
            let twice = format!("\"{name}\":{value},\"{name}\":");
            let given = error("", "https://b/").replace(&format!("\"{name}\":"), &twice);
            named_pages(&message(&given), Some("up"))
        };
        for (name, value) in
            [("data", "{}"), ("elicitations", "[]"), ("url", "\"https://c/\""), ("message", "\"\"")]
        {
            assert_eq!(twice(name, value), Err(Harmful), "{name}");
        }
    }
}
