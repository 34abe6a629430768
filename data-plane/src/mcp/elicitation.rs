//! What a user is asked through a gateway: where others may ask too, it is said who does, and
//! nobody is sent to a page that others could have written (MCP guide §3.2).

use url::{Host, Url};

use super::{
    ask::Ask,
    message::{Message, Span},
    object::{self, unquote},
    response::quote,
};

/// Who may ask the user of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Askers {
    /// One upstream, so that its user knows who asks.
    #[default]
    One,
    Several,
}

impl Askers {
    /// The name of one of them, if people have to be told which it is.
    pub fn named(self, name: &str) -> Option<&str> {
        match self {
            Self::One => None,
            Self::Several => Some(name).filter(|name| !name.is_empty()),
        }
    }
}

/// Where in the parameters of an elicitation it is said that `asker` asks, and how. `params` is a
/// span of `text`.
pub fn signature(text: &str, params: Span, asker: &str) -> Option<(Span, String)> {
    let message = object::member(text, params, "message")?;
    let asker = quote(asker);
    let asker = asker.strip_prefix('"')?.strip_suffix('"')?;
    let is_text = message.of(text).starts_with('"');
    is_text.then(|| (Span::at(message.start + 1), format!("[{asker}] ")))
}

/// Whether a request asks for nothing that no user should be led to: a page is visited over
/// https, or over http on this machine.
pub fn is_harmless(request: &Message) -> bool {
    let params = request.params().and_then(|params| params.span);
    let ask = request.method().and_then(|method| Ask::of(method.as_str()));
    match (ask, params) {
        (Some(Ask::Elicitation), Some(params)) => leads_nowhere_bad(request.text(), params),
        (Some(_) | None, _) => true,
    }
}

/// Whether the parameters of an elicitation lead to no page, or to one that may be visited.
pub fn leads_nowhere_bad(text: &str, params: Span) -> bool {
    !is_visit(text, params) || is_visitable(text, params)
}

/// Whether the parameters of an elicitation lead to a page. Clients take whatever has a URL for
/// that, unless it says that it is a form.
pub fn is_visit(text: &str, params: Span) -> bool {
    let mode = object::member(text, params, "mode").map(|mode| unquote(mode.of(text)));
    match mode.flatten().as_deref() {
        Some("url") => true,
        Some("form") => false,
        Some(_) | None => object::member(text, params, "url").is_some(),
    }
}

/// The page that they lead to, as raw JSON.
pub fn url_of(text: &str, params: Span) -> Option<&str> {
    let url = object::member(text, params, "url").filter(|_| is_visit(text, params))?;
    Some(url.of(text))
}

/// Whether the page that parameters name may be visited.
pub fn is_visitable(text: &str, params: Span) -> bool {
    let url = object::member(text, params, "url").and_then(|url| unquote(url.of(text)));
    let Some(Ok(url)) = url.map(|url| Url::parse(&url)) else { return false };
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => url.has_host(),
        "http" => is_here,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message::{parse, splice};

    fn whole(text: &str) -> Span {
        Span { start: 0, end: text.len() }
    }

    #[test]
    fn who_asks_is_said_and_all_else_keeps_its_bytes() {
        let signed = |text: &str, asker: &str| {
            let edit = signature(text, whole(text), asker)?;
            let body = splice(text.as_bytes(), &[(edit.0, edit.1.as_bytes())]);
            Some(String::from_utf8(body.to_vec()).unwrap())
        };
        let text = r#"{"n":1.0, "message": "W\u0068o?"}"#;
        let said = r#"{"n":1.0, "message": "[up] W\u0068o?"}"#;
        assert_eq!(signed(text, "up").unwrap(), said);
        assert!(signed(text, "a\"b").unwrap().contains(r#""[a\"b] W"#));
        assert_eq!(signed(r#"{"message":7}"#, "up"), None);
        assert_eq!(signed("{}", "up"), None);
    }

    #[test]
    fn only_pages_that_nobody_can_change_on_the_way_are_visited() {
        let visitable = |url: &str| {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{{"mode":"url","message":"m","url":{url}}}}}"#
            );
            is_harmless(&parse(body.into()).unwrap())
        };
        for good in [
            r#""https://example.com/a?b""#,
            r#""\u0068ttps://example.com""#,
            r#""http://localhost:9/x""#,
            r#""http://127.0.0.1/""#,
            r#""http://[::1]:8/""#,
        ] {
            assert!(visitable(good), "{good}");
        }
        for bad in [
            r#""http://example.com/""#,
            r#""javascript:alert(1)""#,
            r#""file:///etc/passwd""#,
            r#""data:text/html,x""#,
            r#""http://localhost.example.com/""#,
            r#""""#,
            "7",
        ] {
            assert!(!visitable(bad), "{bad}");
        }
    }

    #[test]
    fn what_leads_to_no_page_is_harmless() {
        for rest in [
            r#""method":"elicitation/create","params":{"message":"m"}"#,
            r#""method":"elicitation/create","params":{"mode":"f\u006frm","url":"x:y"}"#,
            r#""method":"elicitation/create""#,
            r#""method":"sampling/createMessage","params":{"mode":"url","url":"x:y"}"#,
            r#""method":"roots/list""#,
        ] {
            assert!(is_harmless(&request(rest)), "{rest}");
        }
    }

    fn request(rest: &str) -> Message {
        parse(format!(r#"{{"jsonrpc":"2.0","id":1,{rest}}}"#).into()).unwrap()
    }

    #[test]
    fn what_some_clients_take_for_a_page_is_judged_as_one() {
        for params in [
            r#""url":"http://a.example/""#,
            r#""mode":null,"url":"http://a.example/""#,
            r#""mode":"page","url":"http://a.example/""#,
            r#""mode":"url""#,
        ] {
            let asked = request(&format!(
                r#""method":"elicitation/create","params":{{"message":"m",{params}}}"#
            ));
            assert!(!is_harmless(&asked), "{params}");
        }
        let page = r#""method":"elicitation/create","params":{"url":"https:\/\/a.example/"}"#;
        assert!(is_harmless(&request(page)));
        let params = request(page).params().unwrap().span.unwrap();
        assert_eq!(url_of(request(page).text(), params), Some(r#""https:\/\/a.example/""#));
    }
}
