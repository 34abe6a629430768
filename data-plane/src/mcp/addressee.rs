//! Who a server's request is put to, and what of the request has to change for that: who asks is
//! said where others may ask too, and what the client's version does not have is put into what it
//! has (MCP guide §3.2, §4.1).

use super::{
    Capabilities, Message, Version,
    ask::{self, Ask},
    elicitation,
    object::{self, Span},
    response::quote,
    translate::content,
};

/// A client that is asked.
#[derive(Clone, Copy, Debug)]
pub struct Addressee<'a> {
    pub capabilities: Capabilities,
    pub version: Version,
    /// What people know by name of who asks, if they have to be told.
    pub asker: Option<&'a str>,
}

impl Addressee<'_> {
    /// Whether this may be asked of it. A method that the protocol does not have may not.
    pub fn takes(&self, request: &Message) -> bool {
        let Some((ask, needs)) = ask::asked(request) else { return false };
        let params = request.params().and_then(|params| params.span);
        let has_blocks = || params.is_some_and(|params| has_blocks(request.text(), params));
        // Several blocks in one message came with the tools of sampling (MCP 2025-11-25).
        let is_too_new = ask == Ask::Sampling && self.is_before_tools() && has_blocks();
        self.capabilities.contains(needs) && elicitation::is_harmless(request) && !is_too_new
    }

    /// What has to be put for what in a request, so that it is understood.
    pub fn edits(&self, request: &Message) -> Vec<(Span, String)> {
        let ask = request.method().and_then(|method| Ask::of(method.as_str()));
        let params = request.params().and_then(|params| params.span);
        match (ask, params) {
            (Some(ask), Some(params)) => self.edits_of(ask, request.text(), params),
            (_, _) => Vec::new(),
        }
    }

    /// The same for parameters at a span of `text`.
    pub fn edits_of(&self, ask: Ask, text: &str, params: Span) -> Vec<(Span, String)> {
        let mut edits = Vec::new();
        match ask {
            Ask::Sampling => {
                if !self.capabilities.contains(Capabilities::of(&["sampling.context"])) {
                    edits.extend(without_context(text, params));
                }
                if self.version < Version::V2025_03_26 {
                    edits.extend(content::of_messages(text, params, self.version));
                }
            }
            Ask::Elicitation => {
                let sign = |asker| elicitation::signature(text, params, asker);
                edits.extend(self.asker.and_then(sign));
                if self.is_before_tools() {
                    edits.extend(plain_choices(text, params));
                }
            }
            Ask::Roots | Ask::Ping => (),
        }
        edits
    }

    fn is_before_tools(&self) -> bool {
        self.version < Version::V2025_11_25
    }
}

fn has_blocks(text: &str, params: Span) -> bool {
    let Some(messages) = object::member(text, params, "messages") else { return false };
    let content = |message: &Span| object::member(text, *message, "content");
    let mut contents = object::elements(text, messages).into_iter();
    contents.any(|message| content(&message).is_some_and(|it| it.of(text).starts_with('[')))
}

/// What a client has of others is theirs: whoever has not said that it may be asked for it is not.
fn without_context(text: &str, params: Span) -> Vec<(Span, String)> {
    let members = object::members(text, params);
    let cuts = object::cuts(&members, |member| {
        member.name == "includeContext" && member.value.of(text) != "\"none\""
    });
    cuts.into_iter().map(|cut| (cut, String::new())).collect()
}

/// Choices with titles as they were written before 2025-11-25: `enum` and `enumNames`. Where
/// several may be chosen, they are those of the items.
fn plain_choices(text: &str, params: Span) -> Vec<(Span, String)> {
    let schema = object::member(text, params, "requestedSchema");
    let properties = schema.and_then(|schema| object::member(text, schema, "properties"));
    let fields = properties.map(|it| object::members(text, it)).unwrap_or_default();
    let plain = |field: Span| match object::member(text, field, "items") {
        Some(items) => plain_titles(text, items, "anyOf"),
        None => plain_titles(text, field, "oneOf"),
    };
    fields.iter().filter_map(|field| plain(field.value)).collect()
}

/// The same for the choices of one schema, which are its member `titled`.
fn plain_titles(text: &str, schema: Span, titled: &str) -> Option<(Span, String)> {
    let members = object::members(text, schema);
    let choices = members.iter().find(|member| member.name == titled)?;
    let (mut values, mut names) = (Vec::new(), Vec::new());
    for choice in object::elements(text, choices.value) {
        let value = object::member(text, choice, "const")?.of(text);
        let title = object::member(text, choice, "title").map(|title| title.of(text));
        values.push(value);
        names.push(title.unwrap_or(value));
    }
    if values.is_empty() || members.iter().any(|member| member.name == "enum") {
        return None;
    }
    let whole = Span { start: choices.key.start, end: choices.value.end };
    // Items need not say so where their choices do.
    let has_type = members.iter().any(|member| member.name == "type");
    let kind = if has_type { "" } else { r#""type":"string","# };
    let (values, names) = (values.join(","), names.join(","));
    let (plain, names_of) = (quote("enum"), quote("enumNames"));
    Some((whole, format!("{kind}{plain}:[{values}],{names_of}:[{names}]")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message::{parse, splice};

    fn request(method: &str, params: &str) -> Message {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        parse(body.into()).unwrap()
    }

    fn client(names: &[&str], version: Version) -> Addressee<'static> {
        Addressee { capabilities: Capabilities::of(names), version, asker: None }
    }

    #[track_caller]
    fn check(to: Addressee<'_>, method: &str, params: &str, expected: &str) {
        let asked = request(method, params);
        let told = splice(asked.body(), &to.edits(&asked));
        assert_eq!(parse(told).unwrap(), request(method, expected));
    }

    const SAMPLING: &str = "sampling/createMessage";
    const ELICITATION: &str = "elicitation/create";

    #[test]
    fn who_asks_is_said_where_others_may_ask() {
        let asked = r#"{"n":1.0, "message": "W\u0068o?"}"#;
        let to = client(&["elicitation"], Version::V2025_11_25);
        check(to, ELICITATION, asked, asked);
        let to = Addressee { asker: Some("up"), ..to };
        check(to, ELICITATION, asked, r#"{"n":1.0, "message": "[up] W\u0068o?"}"#);
        check(to, SAMPLING, asked, asked);
        check(to, "vendor/ask", asked, asked);
    }

    #[test]
    fn what_a_client_has_of_others_is_asked_for_only_where_it_allows_that() {
        let asked = r#"{"x":1.0,"includeContext":"allServers" ,"maxTokens":1e1}"#;
        let to = client(&["sampling"], Version::V2025_11_25);
        check(to, SAMPLING, asked, r#"{"x":1.0 ,"maxTokens":1e1}"#);
        check(to, SAMPLING, r#"{"includeContext":"n\u006fne"}"#, "{}");
        check(
            to,
            SAMPLING,
            r#"{"includeContext":"none","a":1}"#,
            r#"{"includeContext":"none","a":1}"#,
        );
        check(to, ELICITATION, asked, asked);
        let able = client(&["sampling", "sampling.context"], Version::V2025_11_25);
        check(able, SAMPLING, asked, asked);
    }

    #[test]
    fn choices_are_written_as_older_clients_read_them() {
        let schema = |choices: &str| {
            format!(
                r#"{{"message":"m","requestedSchema":{{"type":"object","properties":{{"a":{{"type":"string","title":"A" ,{choices}}},"b":{{"type":"number"}}}}}}}}"#
            )
        };
        let asked =
            schema(r#""oneOf": [{"const":"r\u0031","title":"Red"},{"const":"g"}],"default":"g""#);
        let plain = schema(r#""enum":["r\u0031","g"],"enumNames":["Red","g"],"default":"g""#);
        check(client(&["elicitation"], Version::V2025_06_18), ELICITATION, &asked, &plain);
        check(client(&["elicitation"], Version::V2025_11_25), ELICITATION, &asked, &asked);
        for other in
            [r#""oneOf":[]"#, r#""oneOf":[{"title":"x"}]"#, r#""oneOf":[{"const":1}],"enum":[1]"#]
        {
            let asked = schema(other);
            check(client(&[], Version::V2025_06_18), ELICITATION, &asked, &asked);
        }
    }

    #[test]
    fn several_choices_stay_several_and_keep_their_titles() {
        let schema = |items: &str| {
            format!(
                r#"{{"message":"m","requestedSchema":{{"type":"object","properties":{{"a":{{"type":"array","minItems":1,"items":{items},"default":["g"]}}}}}}}}"#
            )
        };
        let asked = schema(r#"{"anyOf":[{"const":"r\u0031","title":"Red"},{"const":"g"}]}"#);
        let plain = schema(r#"{"type":"string","enum":["r\u0031","g"],"enumNames":["Red","g"]}"#);
        check(client(&["elicitation"], Version::V2025_06_18), ELICITATION, &asked, &plain);
        check(client(&["elicitation"], Version::V2025_11_25), ELICITATION, &asked, &asked);
        let typed = schema(r#"{"type":"string", "anyOf":[{"const":"g"}]}"#);
        let plain = schema(r#"{"type":"string", "enum":["g"],"enumNames":["g"]}"#);
        check(client(&["elicitation"], Version::V2025_06_18), ELICITATION, &typed, &plain);
        for other in [r#"{"type":"string","enum":["g"]}"#, r#"{"anyOf":[]}"#, "true"] {
            let asked = schema(other);
            check(client(&["elicitation"], Version::V2025_06_18), ELICITATION, &asked, &asked);
        }
    }

    #[test]
    fn a_model_of_the_first_version_reads_of_sound() {
        let asked = r#"{"messages":[{"role":"user","content":{"type":"audio","data":"AAAA","mimeType":"audio/wav"}},{"role":"user","content":{"type":"text","text":"a"}}],"x":1.0}"#;
        let to = client(&["sampling"], Version::V2025_03_26);
        check(to, SAMPLING, asked, asked);
        let to = client(&["sampling"], Version::V2024_11_05);
        let told = r#"{"messages":[{"role":"user","content":{"type":"text","text":"[audio/wav, 3 bytes: audio is not part of MCP 2024-11-05]"}},{"role":"user","content":{"type":"text","text":"a"}}],"x":1.0}"#;
        check(to, SAMPLING, asked, told);
    }

    #[test]
    fn a_client_is_asked_what_it_can_and_its_version_has() {
        let takes =
            |to: Addressee<'_>, method: &str, params: &str| to.takes(&request(method, params));
        let blocks = r#"{"messages":[{"content":{}},{"role":"user","content":[]}]}"#;
        let (new, old) = (Version::V2025_11_25, Version::V2025_06_18);
        assert!(takes(client(&["sampling"], new), SAMPLING, blocks));
        assert!(!takes(client(&["sampling"], old), SAMPLING, blocks));
        assert!(takes(client(&["sampling"], old), SAMPLING, r#"{"messages":[{"content":{}}]}"#));
        assert!(!takes(client(&["sampling"], new), SAMPLING, r#"{"tools":[]}"#));
        assert!(takes(client(&["sampling", "sampling.tools"], new), SAMPLING, r#"{"tools":[]}"#));
        let able = client(&["elicitation", "elicitation.url"], new);
        let page = |url: &str| format!(r#"{{"mode":"url","message":"m","url":"{url}"}}"#);
        assert!(takes(able, ELICITATION, &page("https://a.example/")));
        assert!(!takes(able, ELICITATION, &page("http://a.example/")));
        assert!(!takes(client(&["elicitation"], new), ELICITATION, &page("https://a.example/")));
        assert!(!takes(able, "vendor/ask", "{}"));
    }
}
