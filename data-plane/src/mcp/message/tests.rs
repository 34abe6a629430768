//! What is a message and what is not.

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Message, ParseError> {
    parse(Bytes::copy_from_slice(text.as_bytes()))
}

/// One line about a message, or about what is wrong with it.
fn describe(text: &str) -> String {
    let message = match read(text) {
        Ok(message) => message,
        Err(ParseError::Invalid { problem, id }) => {
            let id = id.map_or("-".to_owned(), |id| String::from_utf8_lossy(&id).into_owned());
            return format!("{id}: {problem}");
        }
        Err(error) => return error.to_string(),
    };
    let raw = |span: Span| span.of(message.text()).to_owned();
    match &message.kind {
        Kind::Request(request) => {
            format!("request {} {}", raw(request.id), request.method.as_str())
        }
        Kind::Notification(notification) => {
            format!("notification {}", notification.method.as_str())
        }
        Kind::Response(Response { id, outcome }) => {
            let id = id.map_or("-".to_owned(), raw);
            match outcome {
                Outcome::Result { span, .. } => format!("result {id} {}", raw(*span)),
                Outcome::Error(span) => format!("error {id} {}", raw(*span)),
            }
        }
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(describe(text), expected);
}

#[test]
fn the_three_kinds_are_told_apart() {
    check(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#, "request 7 ping");
    check(r#" {"method":"x/y","params":{},"jsonrpc":"2.0","id":"a\"b"} "#, r#"request "a\"b" x/y"#);
    check(
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        "notification notifications/initialized",
    );
    check(r#"{"jsonrpc":"2.0","id":-1,"result":[1]}"#, "result -1 [1]");
    check(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1}}"#, r#"error - {"code":1}"#);
}

#[test]
fn what_is_no_json_is_told_apart_from_what_is_no_message() {
    check("", "the body is not JSON");
    check("{", "the body is not JSON");
    check(r#"{"jsonrpc":"2.0","id":1,"method":"ping"} x"#, "the body is not JSON");
    check(r#"{"jsonrpc":"2.0","id":01,"method":"ping"}"#, "the body is not JSON");
    check("[1", "the body is not JSON");
    check("[]", "batches are not supported: send one message per request");
    check("3", "-: the message is not an object");
    assert_eq!(parse(Bytes::from_static(b"{\"a\":\"\xff\"}")), Err(ParseError::NotText));
}

#[test]
fn a_broken_envelope_is_refused_with_its_id() {
    check(r#"{"id":1,"method":"ping"}"#, "1: `jsonrpc` is not \"2.0\"");
    check(r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, "1: `jsonrpc` is not \"2.0\"");
    check(r#"{"jsonrpc":"2.0","method":3,"id":"x"}"#, "\"x\": `method` is not a string");
    check(
        r#"{"jsonrpc":"2.0","method":"ping","id":null}"#,
        "-: `id` is neither a string nor an integer",
    );
    check(
        r#"{"jsonrpc":"2.0","method":"ping","id":1.0}"#,
        "-: `id` is neither a string nor an integer",
    );
    check(
        r#"{"jsonrpc":"2.0","method":"ping","id":{}}"#,
        "-: `id` is neither a string nor an integer",
    );
    check(
        r#"{"jsonrpc":"2.0","params":[1],"method":"ping","id":9}"#,
        "9: `params` is not an object",
    );
    check(
        r#"{"jsonrpc":"2.0","params":{"_meta":1},"method":"ping","id":9}"#,
        "9: `params._meta` is not an object",
    );
    check(
        r#"{"jsonrpc":"2.0","id":1}"#,
        "1: the message has neither `method` nor `result` nor `error`",
    );
    check(
        r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#,
        "-: the response has both `result` and `error`",
    );
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"x","result":1}"#,
        "-: the message is both a request and a response",
    );
    check(r#"{"jsonrpc":"2.0","result":1}"#, "-: the response has no `id`");
}

#[test]
fn duplicate_keys_are_refused_in_every_spelling() {
    let call = |params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
    };
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#,
        "-: the message has a key twice",
    );
    check(r#"{"jsonrpc":"2.0","id":1,"method":"a","x":1,"x":1}"#, "-: the message has a key twice");
    check(&call(r#"{"name":"allowed","name":"forbidden"}"#), "1: `params` has a key twice");
    check(&call(r#"{"name":"allowed","na\u006de":"forbidden"}"#), "1: `params` has a key twice");
    check(&call(r#"{"_meta":{"k":1,"k":2}}"#), "1: `params._meta` has a key twice");
    check(&call(r#"{"_meta":{},"_meta":{}}"#), "1: `params` has a key twice");
    // What a tool is given is the tool's business.
    check(&call(r#"{"name":"t","arguments":{"k":1,"k":2}}"#), "request 1 tools/call");
}

#[test]
fn parameters_are_found_where_they_stand() {
    let message = read(concat!(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"arguments":{"a":1.50},"x":[{}],"#,
        r#""_meta":{"progressToken":7,"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
        r#""io.modelcontextprotocol/clientCapabilities":{}},"name":"a\u0062"}}"#
    ))
    .unwrap();
    let params = message.params().unwrap();
    let raw = |span: Option<Span>| span.unwrap().of(message.text());
    assert_eq!(message.method(), Some(&Method::ToolsCall));
    assert_eq!(params.name.as_ref().unwrap().as_str(), Some("ab"));
    assert_eq!(params.name.as_ref().unwrap().span.of(message.text()), r#""a\u0062""#);
    assert_eq!(raw(params.arguments), r#"{"a":1.50}"#);
    assert_eq!(raw(params.meta.progress_token), "7");
    assert_eq!(raw(params.meta.client_capabilities), "{}");
    assert_eq!(params.meta.protocol_version.as_ref().unwrap().as_str(), Some("2026-07-28"));
    assert_eq!(raw(params.span).as_bytes().first(), Some(&b'{'));
}

#[test]
fn a_deeply_nested_value_does_not_overflow() {
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":{deep}}}}}"#);
    check(&text, "request 1 ping");
}

#[test]
fn an_endless_object_is_refused_but_not_inside_of_arguments() {
    let keys: Vec<_> = (0..20_000).map(|key| format!("\"k{key}\":0")).collect();
    let many = format!("{{{}}}", keys.join(","));
    let call =
        |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{params}}}"#);
    check(&call(&many), "-: an object has too many keys");
    check(&call(&format!(r#"{{"arguments":{many}}}"#)), "request 1 ping");
}

/// Valid JSON of some depth, as text.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        "-?[1-9][0-9]{0,20}(\\.[0-9]{1,3})?(e[0-9])?",
        r#""[a-z \\\\u0041]{0,0}[a-zé]{0,6}""#,
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|all| format!("[{}]", all.join(" , "))),
            prop::collection::vec(inner, 0..4).prop_map(|all| {
                let all: Vec<_> = all
                    .iter()
                    .enumerate()
                    .map(|(at, value)| format!("\"k{at}\" :{value}"))
                    .collect();
                format!("{{{}}}", all.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(parse(bytes.into()));
    }

    #[test]
    fn mangled_messages_never_panic(at in 0usize..100, byte in any::<u8>()) {
        let mut body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"a":[1,2]}}}"#.to_vec();
        let at = at % body.len();
        body[at] = byte;
        drop(parse(body.into()));
    }

    #[test]
    fn renaming_a_tool_keeps_every_other_byte(unknown in json(), arguments in json(), id in 0u64..) {
        let make = |name: &str| format!(
            r#"{{"x-vendor":{unknown},"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"arguments":{arguments},"name":"{name}","more":{unknown}}}}}"#
        );
        let message = read(&make("shown")).unwrap();
        let span = message.params().unwrap().name.as_ref().unwrap().span;
        let spliced = splice(message.body(), &[(span, b"\"original\"")]);
        prop_assert_eq!(String::from_utf8(spliced.to_vec()).unwrap(), make("original"));
    }

    #[test]
    fn a_valid_result_is_kept_whole(result in json()) {
        let message = read(&format!(r#"{{"jsonrpc":"2.0","id":"i","result":{result}}}"#)).unwrap();
        let Kind::Response(Response { outcome: Outcome::Result { span, .. }, .. }) = message.kind.clone() else {
            panic!("no result");
        };
        prop_assert_eq!(span.of(message.text()), result);
    }
}

#[test]
fn a_batch_is_split_without_reading_its_messages() {
    let take = |text: &'static str| split(&Bytes::from_static(text.as_bytes()), 3);
    assert_eq!(take(" [ {\"a\": 1} ,[2],3 ] ").unwrap(), ["{\"a\": 1}", "[2]", "3"]);
    assert!(take("[]").unwrap().is_empty());
    assert!(matches!(take("[1,2,3,4]"), Err(ParseError::Invalid { .. })));
    for broken in ["[1,]", "[1 2]", "[", "[1]x", "[,1]"] {
        assert_eq!(take(broken), Err(ParseError::NotJson), "{broken}");
    }
}
