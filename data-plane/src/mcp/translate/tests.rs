//! Each translation as text in and text out.

use super::*;
use crate::mcp::message::parse;

mod there_and_back;

fn message(text: &str) -> Message {
    parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

const LEGACY: Terms<'_> = Terms {
    capabilities: Capabilities::NONE,
    written: None,
    log_level: None,
    era: Era::Legacy,
    version: "2025-11-25",
    subject: Subject::Name("echo"),
    id: None,
    progress_token: None,
};
const MODERN: Terms<'_> = Terms { era: Era::Modern, version: "2026-07-28", ..LEGACY };

fn info() -> String {
    format!(r#""io.modelcontextprotocol/clientInfo":{SERVER_INFO}"#)
}

fn request_to_upstream(message: &Message, terms: &Terms<'_>) -> Bytes {
    super::request_to_upstream(message, terms).into_bytes()
}

fn response_to_client(message: &Message, audience: &Audience<'_>) -> Bytes {
    super::response_to_client(message, audience).into_bytes()
}

#[track_caller]
fn request(params: &str, terms: &Terms<'_>, expected: &str) {
    let make =
        |params: &str| format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call"{params}}}"#);
    let sent = request_to_upstream(&message(&make(params)), terms);
    assert_eq!(std::str::from_utf8(&sent).unwrap(), make(expected));
}

#[test]
fn what_a_client_declares_beyond_what_we_know_is_told_as_it_stands() {
    const OWN: &str = r#"{ "extensions":{"a/b":{"x":1.0}}, "sampling":{"y":2} }"#;
    let request = |declared: &str| {
        format!(
            r#","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28",{},"io.modelcontextprotocol/clientCapabilities":{declared}}},"name":"echo"}}"#,
            info()
        )
    };
    let capabilities = Capabilities::of(&["sampling"]);
    let terms = Terms { capabilities, ..MODERN };
    self::request(&request(OWN), &terms, &request(OWN));
    let less = r#"{ "extensions":{"a/b":{"x":1.0}} }"#;
    self::request(&request(OWN), &MODERN, &request(less));
    // A legacy client said it once.
    let terms = Terms { written: Some(OWN), ..terms };
    let message =
        message(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a"}}"#);
    let sent = request_to_upstream(&message, &terms);
    let own = format!(r#""io.modelcontextprotocol/clientCapabilities":{OWN}"#);
    assert!(std::str::from_utf8(&sent).unwrap().contains(&own));
}

#[test]
fn a_tool_is_renamed_and_nothing_else() {
    request(
        r#","params":{ "name":"u-echo" ,"arguments":{"n":1.0,"e":1E2},"task":{}}"#,
        &LEGACY,
        r#","params":{ "name":"echo" ,"arguments":{"n":1.0,"e":1E2},"task":{}}"#,
    );
    let same =
        message(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}"#);
    assert_eq!(request_to_upstream(&same, &LEGACY).as_ptr(), same.body().as_ptr());
}

#[test]
fn each_subject_is_renamed_where_it_stands() {
    let check = |subject: Subject<'_>, params: &str, expected: &str| {
        request(params, &Terms { subject, ..LEGACY }, expected);
    };
    check(
        Subject::Uri("a://b"),
        r#","params":{"name":"kept","uri" : "u:a://b"}"#,
        r#","params":{"name":"kept","uri" : "a://b"}"#,
    );
    check(
        Subject::RefName("p"),
        r#","params":{"ref":{"type":"ref/prompt","name":"u-p","x":1.0},"name":"kept"}"#,
        r#","params":{"ref":{"type":"ref/prompt","name":"p","x":1.0},"name":"kept"}"#,
    );
    check(
        Subject::RefUri("a://{b}"),
        r#","params":{"ref":{"uri":"u:a://{b}","type":"ref/resource"},"uri":"kept"}"#,
        r#","params":{"ref":{"uri":"a://{b}","type":"ref/resource"},"uri":"kept"}"#,
    );
    check(Subject::Uri("a"), r#","params":{}"#, r#","params":{}"#);
}

#[test]
fn ids_and_tokens_are_replaced_where_they_stand() {
    let terms = Terms { id: Some(b"99"), progress_token: Some(b"\"p\""), ..LEGACY };
    let call = message(
        r#"{"id":"7","jsonrpc":"2.0","params":{"_meta":{"progressToken":3,"v":1},"name":"x"},"method":"tools/call"}"#,
    );
    let expected = r#"{"id":99,"jsonrpc":"2.0","params":{"_meta":{"progressToken":"p","v":1},"name":"echo"},"method":"tools/call"}"#;
    assert_eq!(request_to_upstream(&call, &terms), expected.as_bytes());
}

#[test]
fn the_claim_is_taken_off_for_legacy_upstreams() {
    request(
        r#","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":1,"io.modelcontextprotocol/clientCapabilities":{},"traceparent":"00"},"name":"a"}"#,
        &LEGACY,
        r#","params":{"_meta":{"progressToken":1,"traceparent":"00"},"name":"echo"}"#,
    );
}

#[test]
fn the_claim_is_made_for_modern_upstreams() {
    let claim = format!(
        r#""io.modelcontextprotocol/protocolVersion":"2026-07-28",{},"io.modelcontextprotocol/clientCapabilities":{{}}"#,
        info()
    );
    request("", &MODERN, &format!(r#","params":{{"_meta":{{{claim}}}}}"#));
    request(r#","params":{}"#, &MODERN, &format!(r#","params":{{"_meta":{{{claim}}}}}"#));
    request(
        r#","params":{"name":"a"}"#,
        &MODERN,
        &format!(r#","params":{{"_meta":{{{claim}}},"name":"echo"}}"#),
    );
    request(
        r#","params":{"name":"a","_meta":{"k":1}}"#,
        &MODERN,
        &format!(r#","params":{{"name":"echo","_meta":{{{claim},"k":1}}}}"#),
    );
    request(
        r#","params":{"name":"a","_meta":{}}"#,
        &MODERN,
        &format!(r#","params":{{"name":"echo","_meta":{{{claim}}}}}"#),
    );
}

#[test]
fn a_modern_client_s_capabilities_are_not_ours() {
    request(
        r#","params":{"_meta":{"io.modelcontextprotocol/clientCapabilities":{"sampling":{}},"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/logLevel":"info"},"name":"a"}"#,
        &MODERN,
        &format!(
            r#","params":{{"_meta":{{{},"io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/logLevel":"info"}},"name":"echo"}}"#,
            info()
        ),
    );
}

#[track_caller]
fn response(result: &str, to: Era, expected: &str) {
    let audience = Audience { era: to, id: b"\"a\"", asked_uri: None, uris: None };
    heard(result, &audience, expected);
}

#[track_caller]
fn heard(result: &str, audience: &Audience<'_>, expected: &str) {
    let sent =
        response_to_client(&message(&format!(r#"{{"jsonrpc":"2.0","id":99,{result}}}"#)), audience);
    assert_eq!(
        std::str::from_utf8(&sent).unwrap(),
        format!(r#"{{"jsonrpc":"2.0","id":"a",{expected}}}"#)
    );
}

fn ours() -> String {
    format!(r#""io.modelcontextprotocol/serverInfo":{SERVER_INFO}"#)
}

#[test]
fn legacy_results_gain_what_modern_clients_demand() {
    let ours = ours();
    response(
        r#""result":{"content":[],"n":1.0}"#,
        Era::Modern,
        &format!(r#""result":{{"resultType":"complete","_meta":{{{ours}}},"content":[],"n":1.0}}"#),
    );
    response(
        r#""result":{}"#,
        Era::Modern,
        &format!(r#""result":{{"resultType":"complete","_meta":{{{ours}}}}}"#),
    );
    response(
        r#""result":{"_meta":{"k":1}}"#,
        Era::Modern,
        &format!(r#""result":{{"resultType":"complete","_meta":{{{ours},"k":1}}}}"#),
    );
}

#[test]
fn modern_results_keep_their_type_and_their_server() {
    let ours = ours();
    response(
        r#""result":{"resultType":"input_required","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"u"}}}"#,
        Era::Modern,
        &format!(
            r#""result":{{"resultType":"input_required","_meta":{{{ours},"lockgate/upstreamServerInfo":{{"name":"u"}}}}}}"#
        ),
    );
}

#[test]
fn modern_results_lose_what_legacy_clients_do_not_know() {
    response(
        r#""result":{"resultType":"complete","content":[],"ttlMs":1,"cacheScope":"private","structuredContent":[1],"_meta":{"io.modelcontextprotocol/serverInfo":{},"k":1}}"#,
        Era::Legacy,
        r#""result":{"content":[],"_meta":{"k":1}}"#,
    );
    response(
        r#""result":{"content":[],"ttlMs":1,"structuredContent":[1]}"#,
        Era::Legacy,
        r#""result":{"content":[],"ttlMs":1,"structuredContent":[1]}"#,
    );
    response(
        r#""result":{"resultType":"input_required","inputRequests":{}}"#,
        Era::Legacy,
        r#""error":{"code":-32603,"message":"the upstream asks for input that this client cannot be asked for"}"#,
    );
}

#[test]
fn codes_stay_in_their_era() {
    let check = |found: i64, to: Era, sent: i64| {
        let error = |code| format!(r#""error":{{"message":"m","code":{code},"data":{{"x":1}}}}"#);
        response(&error(found), to, &error(sent));
    };
    check(-32002, Era::Modern, -32602);
    // It becomes a round of its own, see `engine::rounds`.
    check(-32042, Era::Modern, -32042);
    check(-32021, Era::Modern, -32021);
    check(-32021, Era::Legacy, -32603);
    check(-32002, Era::Legacy, -32002);
    check(17, Era::Legacy, 17);
}

#[test]
fn a_resource_that_is_not_there_is_missed_in_the_clients_words() {
    let check = |to: Era, found: &str, sent: &str| {
        let audience = Audience { era: to, id: b"\"a\"", asked_uri: Some("a://b"), uris: None };
        heard(&format!(r#""error":{{{found}}}"#), &audience, &format!(r#""error":{{{sent}}}"#));
    };
    check(
        Era::Modern,
        r#""code":-32002,"message":"m""#,
        r#""code":-32602,"data":{"uri":"a://b"},"message":"m""#,
    );
    check(
        Era::Modern,
        r#""code":-32002,"data":{"x":1.0}"#,
        r#""code":-32602,"data":{"uri":"a://b","x":1.0}"#,
    );
    check(
        Era::Legacy,
        r#""code":-32602,"data":{"uri":"a:\/\/b"}"#,
        r#""code":-32002,"data":{"uri":"a:\/\/b"}"#,
    );
    check(Era::Legacy, r#""code":-32602,"message":"m""#, r#""code":-32602,"message":"m""#);
    // Legacy SDKs of servers say it so.
    check(
        Era::Modern,
        r#""code":-32602,"message":"m""#,
        r#""code":-32602,"data":{"uri":"a://b"},"message":"m""#,
    );
    let kept = r#""code":-32602,"data":{"uri":"a://b"}"#;
    check(Era::Modern, kept, kept);
}

#[test]
fn a_resource_read_says_how_long_it_may_be_kept() {
    let ours = ours();
    let audience = Audience { era: Era::Modern, id: b"\"a\"", asked_uri: Some("a"), uris: None };
    heard(
        r#""result":{"contents":[]}"#,
        &audience,
        &format!(
            r#""result":{{"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{{{ours}}},"contents":[]}}"#
        ),
    );
    heard(
        r#""result":{"resultType":"complete","ttlMs":9,"cacheScope":"public","contents":[]}"#,
        &audience,
        &format!(
            r#""result":{{"_meta":{{{ours}}},"resultType":"complete","ttlMs":9,"cacheScope":"public","contents":[]}}"#
        ),
    );
}

#[test]
fn marked_uris_are_shown_with_their_marker_wherever_clients_look() {
    let uris = Uris {
        marker: "m:".into(),
        marked: ["a://1".into()].into_iter().collect(),
        ..Uris::default()
    };
    let check = |asked_uri: Option<&str>, found: &str, sent: &str| {
        let audience = Audience { era: Era::Legacy, id: b"\"a\"", asked_uri, uris: Some(&uris) };
        let result = |inner: &str| format!(r#""result":{{{inner}}}"#);
        heard(&result(found), &audience, &result(sent));
    };
    check(
        Some("m:b://2"),
        r#""contents":[{"uri":"b://2"},{"uri":"a://1","text":"a://1"},{"uri":"c://3"}]"#,
        r#""contents":[{"uri":"m:b://2"},{"uri":"m:a://1","text":"a://1"},{"uri":"c://3"}]"#,
    );
    check(
        None,
        r#""content":[{"type":"resource","resource":{"uri":"a://1"}},{"type":"resource_link","uri":"a://1"},{"type":"text","uri":"a://1"}]"#,
        r#""content":[{"type":"resource","resource":{"uri":"m:a://1"}},{"type":"resource_link","uri":"m:a://1"},{"type":"text","uri":"a://1"}]"#,
    );
    check(
        None,
        r#""messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"a://1"}}}]"#,
        r#""messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"m:a://1"}}}]"#,
    );
    let linked = r#""result":{"content":[{"type":"resource_link","uri":"a://1"}]}"#;
    let task = format!(r#""taskId":"t","status":"completed",{linked}"#);
    check(None, &task, &task.replace("a://1", "m:a://1"));
    check(None, linked, linked);
}

#[test]
fn a_progress_token_comes_back() {
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":99,"progress":1.0,"total":3}}"#;
    let sent = notification_to_client(&message(progress), Era::Modern, Some(b"\"tok\""), None);
    assert_eq!(sent, progress.replace("99", "\"tok\"").as_bytes());
    let verbatim = notification_to_client(&message(progress), Era::Legacy, None, None);
    assert_eq!(verbatim, progress.as_bytes());
}

#[test]
fn a_log_message_is_signed_and_put_into_the_clients_era() {
    let log = |logger: &str, meta: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"logger":"{logger}","data":1.0{meta}}}}}"#
        )
    };
    let claimed = log("db", r#","_meta":{"a":1,"io.modelcontextprotocol/serverInfo":{}}"#);
    let told = notification_to_client(&message(&claimed), Era::Legacy, None, Some("shop"));
    assert_eq!(told, log("shop/db", r#","_meta":{"a":1}"#).as_bytes());
}
