//! Says in a log message which of several upstreams wrote it (MCP guide §3.3).

use super::{
    object::{self, Cursor, Span},
    response::quote,
};

/// What has to be put where in the parameters of a log message, a span of `text`, so that its
/// `logger` begins with `name`.
pub fn signature(text: &str, params: Span, name: &str) -> Option<(Span, String)> {
    let signed = quote(name);
    let Some(logger) = object::member(text, params, "logger") else {
        let mut members = Cursor::starting_at(text, params.start + 1);
        let comma = if members.peek() == Some(b'}') { "" } else { "," };
        return Some((Span::at(params.start + 1), format!(r#""logger":{signed}{comma}"#)));
    };
    if logger.of(text).starts_with('"') {
        let name = signed.strip_prefix('"')?.strip_suffix('"')?;
        return Some((Span::at(logger.start + 1), format!("{name}/")));
    }
    // What is not a string names nothing.
    Some((logger, signed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(params: &str, expected: &str) {
        let whole = Span { start: 0, end: params.len() };
        let (span, signed) = signature(params, whole, "a\"b").unwrap();
        let told = format!("{}{signed}{}", &params[..span.start], &params[span.end..]);
        assert_eq!(told, expected);
        serde_json::from_str::<serde_json::Value>(&told).unwrap();
    }

    #[test]
    fn a_log_message_says_which_upstream_wrote_it() {
        check(
            r#"{"level":"info", "logger":"d\u0062", "data":1.0}"#,
            r#"{"level":"info", "logger":"a\"b/d\u0062", "data":1.0}"#,
        );
        check(r#"{ "data":1.0}"#, r#"{"logger":"a\"b", "data":1.0}"#);
        check("{ }", r#"{"logger":"a\"b" }"#);
        check(r#"{"logger":null}"#, r#"{"logger":"a\"b"}"#);
    }
}
