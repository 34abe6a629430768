//! The ladder, rung by rung.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::mcp::message::parse;

const MODERN_META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{}}}"#;

/// `headers` is `version|method|name`, `-` for none.
fn classify(body: &str, headers: &str) -> String {
    let message = parse(Bytes::copy_from_slice(body.as_bytes())).unwrap();
    let mut parts = headers.split('|').map(|part| (part != "-").then_some(part.as_bytes()));
    let mut next = || parts.next().flatten();
    let headers = MirrorHeaders { protocol_version: next(), method: next(), name: next() };
    match era_of(&message, &headers) {
        Ok(InboundEra::Legacy { header }) => {
            format!("legacy {}", header.map_or("-", Version::as_str))
        }
        Ok(InboundEra::Modern { version, capabilities }) => {
            format!("modern {} {}", version.as_str(), capabilities.to_json())
        }
        Err(refusal) => format!("{} {} {}", refusal.status, refusal.code, refusal.message),
    }
}

#[track_caller]
fn check(body: &str, headers: &str, expected: &str) {
    let found = classify(body, headers);
    assert!(found.starts_with(expected), "{found}");
}

fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#)
}

fn meta(version: &str, rest: &str) -> String {
    format!(r#""_meta":{{"io.modelcontextprotocol/protocolVersion":{version}{rest}}}"#)
}

#[test]
fn without_a_claim_it_is_legacy() {
    check(&request("initialize", r#""protocolVersion":"2025-11-25""#), "-", "legacy -");
    check(&request("initialize", r#""protocolVersion":"2025-11-25""#), "2026-07-28", "legacy");
    check(&request("tools/list", ""), "-", "legacy -");
    check(&request("tools/list", ""), "2025-06-18", "legacy 2025-06-18");
    check(&request("tools/list", &meta("\"2025-11-25\"", "")), "2025-11-25", "legacy 2025-11-25");
    check(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, "-", "legacy -");
}

#[test]
fn a_modern_header_without_a_claim_misses_its_envelope() {
    check(
        &request("tools/list", ""),
        "2026-07-28",
        "400 -32602 `params._meta[\"io.modelcontextprotocol/protocolVersion\"]`",
    );
    check(&request("tools/list", ""), "bogus", "400 -32602");
    check(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, "2026-07-28", "400 -32600");
}

#[test]
fn notifications_without_a_claim_go_by_the_header() {
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    check(initialized, "-", "legacy -");
    check(initialized, "2026-07-28", "modern 2026-07-28 {}");
}

#[test]
fn a_modern_request_is_served() {
    let list = request("tools/list", MODERN_META);
    check(&list, "2026-07-28|tools/list", r#"modern 2026-07-28 {"sampling":{}}"#);
    check(&list, " 2026-07-28 | tools/list ", "modern");
    let call = request("tools/call", &format!(r#""name":"é",{MODERN_META}"#));
    check(&call, "2026-07-28|tools/call|=?base64?w6k=?=", "modern");
}

#[test]
fn version_header_and_body_agree_before_anything_else() {
    let list = |version: &str| request("tools/list", &meta(version, ""));
    check(&list("\"2026-07-28\""), "-", "400 -32020");
    check(&list("\"v999.0.0\""), "2026-07-28", "400 -32020");
    check(&list("\"v999.0.0\""), "v999.0.0", "400 -32022");
    check(&list("\"1.0.0\""), "1.0.0", "400 -32022");
    check(&list("7"), "2026-07-28", "400 -32602");
}

#[test]
fn an_unsupported_version_is_told_what_is_supported() {
    let body = request("tools/list", &meta("\"2099-01-01\"", ""));
    let message = parse(body.into()).unwrap();
    let headers = MirrorHeaders { protocol_version: Some(b"2099-01-01"), ..Default::default() };
    let refusal = era_of(&message, &headers).unwrap_err();
    let expected = r#"{"supported":["2026-07-28"],"requested":"2099-01-01"}"#;
    assert_eq!(refusal.data.as_deref(), Some(expected));
}

#[test]
fn the_envelope_outranks_the_method_and_the_method_the_headers() {
    let meta_without = meta("\"2026-07-28\"", "");
    check(&request("ping", &meta_without), "2026-07-28", "400 -32602");
    let wrong = meta("\"2026-07-28\"", r#","io.modelcontextprotocol/clientCapabilities":[]"#);
    check(&request("tools/list", &wrong), "2026-07-28", "400 -32602");
    for removed in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "tools/x"] {
        check(&request(removed, MODERN_META), "2026-07-28", "404 -32601");
    }
    // Whether an extension has it is known later.
    for method in ["tools/list", "x/y"] {
        check(&request(method, MODERN_META), "2026-07-28", "400 -32020 `Mcp-Method` is missing");
    }
    check(
        &request("tools/list", MODERN_META),
        "2026-07-28|Tools/List",
        "400 -32020 `Mcp-Method` differs",
    );
}

#[test]
fn the_name_header_mirrors_the_tool() {
    let call = request("tools/call", &format!(r#""name":"test",{MODERN_META}"#));
    check(&call, "2026-07-28|tools/call", "400 -32020 `Mcp-Name` is missing");
    check(&call, "2026-07-28|tools/call|Test", "400 -32020 `Mcp-Name` differs");
    check(&call, "2026-07-28|tools/call|=?base64?dGVzdA==?=", "modern");
    check(&call, "2026-07-28|tools/call|=?base64?dGVzdA?=", "400 -32020 `Mcp-Name` is not");
    // What is wrong with the parameters is said later.
    check(&request("tools/call", MODERN_META), "2026-07-28|tools/call", "modern");
}

#[test]
fn a_log_level_is_one_that_exists() {
    let list = |level: &str| {
        let rest = format!(
            r#","io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/logLevel":{level}"#
        );
        request("tools/list", &meta("\"2026-07-28\"", &rest))
    };
    check(&list("\"info\""), "2026-07-28|tools/list", "modern");
    check(&list("\"loud\""), "2026-07-28|tools/list", "400 -32602");
    check(&list("7"), "2026-07-28|tools/list", "400 -32602");
}

#[test]
fn versions_are_negotiated_down_to_the_newest_handshake() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        assert_eq!(Version::negotiate(version).as_str(), version);
    }
    for version in ["2026-07-28", "2024-10-07", ""] {
        assert_eq!(Version::negotiate(version), Version::V2025_11_25);
    }
    assert!(check_session_version(None, Version::V2025_06_18).is_ok());
    assert!(check_session_version(Some(b"2025-06-18"), Version::V2025_06_18).is_ok());
    assert!(check_session_version(Some(b"2025-11-25"), Version::V2025_06_18).is_ok());
    for unfit in [&b"2026-07-28"[..], b"2031-01-01", b"\xff", b""] {
        let refusal = check_session_version(Some(unfit), Version::V2025_06_18).unwrap_err();
        assert_eq!(refusal.status, 400);
    }
}

#[test]
fn parameter_headers_mirror_the_arguments() {
    let schema = r#"{"properties":{"n":{"type":"integer","x-mcp-header":"N"}}}"#;
    let params = mirror::mirror_params(schema).unwrap();
    let check = |arguments: &str, header: Option<&'static str>| {
        let body = request("tools/call", &format!(r#""name":"t","arguments":{arguments}"#));
        let message = parse(body.into()).unwrap();
        let look =
            |name: &str| (name == "mcp-param-n").then(|| header.map(str::as_bytes)).flatten();
        check_param_headers(&params, &message, look).map_err(|refusal| refusal.code)
    };
    assert_eq!(check(r#"{"n":42}"#, Some("42")), Ok(()));
    assert_eq!(check(r#"{"n":42}"#, Some("=?base64?NDI=?=")), Ok(()));
    assert_eq!(check(r#"{"n":42}"#, Some("43")), Err(-32020));
    assert_eq!(check(r#"{"n":42}"#, None), Err(-32020));
    assert_eq!(check(r#"{"n":42}"#, Some("=?base64?!?=")), Err(-32020));
    assert_eq!(check(r#"{"n":null}"#, None), Ok(()));
    assert_eq!(check("{}", None), Ok(()));
    assert_eq!(check("{}", Some("1")), Err(-32020));
}

#[test]
fn without_headers_the_body_alone_decides() {
    let read = |text: &str| era_of_body(&parse(text.to_owned().into()).unwrap());
    let with = |method: &str, version: &str| {
        read(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":{version},"io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
        ))
    };
    let legacy = Ok(InboundEra::Legacy { header: None });
    assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#), legacy);
    assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), legacy);
    assert_eq!(with("tools/list", "\"2025-06-18\""), legacy);
    let modern = with("tools/list", "\"2026-07-28\"").unwrap();
    assert!(matches!(modern, InboundEra::Modern { version: Version::V2026_07_28, .. }));
    let code = |version: &str, method: &str| with(method, version).unwrap_err().code;
    assert_eq!(code("\"2031-01-01\"", "tools/list"), -32022);
    assert_eq!(code("7", "tools/list"), -32602);
    assert_eq!(code("\"2026-07-28\"", "initialize"), -32601);
}

/// What a client may claim or name: versions of ours, of nobody, and what is none.
fn version() -> impl Strategy<Value = Option<String>> {
    let known = prop::sample::select(Version::ALL.map(Version::as_str).to_vec());
    prop_oneof![
        Just(None),
        known.prop_map(|version| Some(version.to_owned())),
        "[0-9-]{0,10}".prop_map(Some),
    ]
}

fn era(version: &str) -> Option<Era> {
    Version::find(version).map(Version::era)
}

proptest! {
    #[test]
    fn a_request_is_of_the_era_that_its_body_claims(
        claim in version(), header in version(),
        method in prop::sample::select(vec!["tools/list", "initialize", "ping", "x/y"]),
        is_able in any::<bool>(),
    ) {
        let able = if is_able { ",\"io.modelcontextprotocol/clientCapabilities\":{}" } else { "" };
        let params = claim.as_ref().map_or(String::new(), |claim| meta(&format!("\"{claim}\""), able));
        let body = request(method, &params);
        let message = parse(Bytes::from(body)).unwrap();
        let headers = MirrorHeaders {
            protocol_version: header.as_deref().map(str::as_bytes),
            method: Some(method.as_bytes()),
            name: None,
        };
        let found = era_of(&message, &headers);
        let is_modern = matches!(found, Ok(InboundEra::Modern { .. }));
        let is_legacy = matches!(found, Ok(InboundEra::Legacy { .. }));
        match claim.as_deref() {
            // A modern claim is served only where the header says the same and all is there.
            Some(claim) if era(claim) == Some(Era::Modern) => {
                prop_assert!(!is_legacy);
                let is_whole = is_able && matches!(method, "tools/list" | "x/y");
                prop_assert_eq!(is_modern, header.as_deref() == Some(claim) && is_whole);
            }
            Some(claim) => prop_assert_eq!(is_legacy, era(claim) == Some(Era::Legacy)),
            None => {
                prop_assert!(!is_modern);
                let named = header.as_deref().is_none_or(|named| era(named) == Some(Era::Legacy));
                prop_assert_eq!(is_legacy, named || method == "initialize");
            }
        }
    }

    #[test]
    fn headers_that_mirror_the_body_change_nothing(claim in version(), is_able in any::<bool>()) {
        let able = if is_able { ",\"io.modelcontextprotocol/clientCapabilities\":{\"roots\":{}}" } else { "" };
        let params = claim.as_ref().map_or(String::new(), |claim| meta(&format!("\"{claim}\""), able));
        let message = parse(Bytes::from(request("tools/list", &params))).unwrap();
        let headers = MirrorHeaders {
            protocol_version: claim.as_deref().map(str::as_bytes),
            method: Some(b"tools/list"),
            name: None,
        };
        let (with, without) = (era_of(&message, &headers), era_of_body(&message));
        match (with, without) {
            (Ok(InboundEra::Legacy { .. }), Ok(InboundEra::Legacy { .. })) => (),
            (with, without) => prop_assert_eq!(with, without),
        }
    }

    #[test]
    fn no_header_makes_it_panic(
        version in prop::collection::vec(any::<u8>(), 0..20),
        method in prop::collection::vec(any::<u8>(), 0..20),
        name in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let headers = MirrorHeaders {
            protocol_version: Some(&version),
            method: Some(&method),
            name: Some(&name),
        };
        for params in ["", MODERN_META] {
            let message = parse(Bytes::from(request("tools/call", params))).unwrap();
            drop(era_of(&message, &headers));
        }
    }
}
