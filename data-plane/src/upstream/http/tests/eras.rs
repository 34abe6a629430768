//! Servers of the modern era or of both, and clients of either.

use proto::resource::{ToolResource, ToolTarget};

use super::*;
use crate::{target::Target, upstream::testing};

/// A server that is found to be modern; `opens` answers `initialize`. It says how it was called.
async fn server(opens: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static) -> (Proxy, Log) {
    let log = Log::default();
    let heard = Arc::clone(&log);
    let address = serve(move |seen| {
        let method = seen.member("/method");
        let what = method.as_str().unwrap_or(seen.method.as_str()).to_owned();
        let how = format!(
            "{what} {} {}",
            seen.header("mcp-protocol-version"),
            seen.header("mcp-session-id")
        );
        heard.lock().push(how.trim().to_owned());
        match what.as_str() {
            "server/discover" => json(format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"complete","supportedVersions":["2026-07-28","2025-11-25"],"capabilities":{{"tools":{{}}}}}}}}"#,
                seen.member("/id")
            )),
            "initialize" => opens(&seen),
            "tools/call" => json(result(&seen, "done")),
            "GET" => answer(405, "", ""),
            _ => answer(202, "", ""),
        }
    });
    (Proxy::new(upstream(http(address.await))), log)
}

/// A session is begun.
fn opened(seen: &Seen) -> Response<Body> {
    let id = seen.member("/id");
    let mut answer = json(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"s"}}}}}}"#
    ));
    answer.headers_mut().insert("mcp-session-id", "s1".parse().unwrap());
    answer
}

#[tokio::test]
async fn a_server_of_both_eras_serves_each_client_in_its_own() {
    let (proxy, log) = server(opened).await;
    let legacy = proxy.run(legacy_call("1", "{}")).await;
    assert_eq!(legacy, [r#"{"jsonrpc":"2.0","id":1,"result":{"content":"done"}}"#]);
    proxy.run(modern_call("2", "{}")).await;
    let calls: Vec<_> =
        log.lock().iter().filter(|it| it.starts_with("tools/call")).cloned().collect();
    assert_eq!(calls, ["tools/call 2025-11-25 s1", "tools/call 2026-07-28"]);
}

#[tokio::test]
async fn a_server_of_the_modern_era_alone_is_asked_once_for_a_session() {
    let (proxy, log) = server(|seen| {
        let id = seen.member("/id");
        answer(
            404,
            "application/json",
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no"}}}}"#),
        )
    })
    .await;
    for id in ["1", "2"] {
        let answered = proxy.run(legacy_call(id, "{}")).await;
        assert!(answered[0].contains("done"), "{answered:?}");
    }
    let call = "tools/call 2026-07-28";
    check_log(&log, &["server/discover 2026-07-28", "initialize", call, call]);
}

/// A modern server.
pub(super) async fn modern_server(
    act: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static,
) -> UpstreamResource {
    let address = serve(move |seen| {
        if seen.member("/method") == "initialize" {
            let id = seen.member("/id");
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no"}}}}"#
            );
            return answer(404, "application/json", body);
        }
        assert_eq!(seen.header("mcp-protocol-version"), "2026-07-28");
        assert_eq!(seen.header("mcp-method"), seen.member("/method").as_str().unwrap());
        match seen.member("/method").as_str() {
            Some("server/discover") => json(format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{}}}}}}}}"#,
                seen.member("/id")
            )),
            _ => act(&seen),
        }
    });
    upstream(http(address.await))
}

#[tokio::test]
async fn a_modern_upstream_gets_claims_and_mirror_headers() {
    let upstream = modern_server(|seen| {
        assert_eq!(seen.header("mcp-name"), "do");
        assert_eq!(seen.header("mcp-session-id"), "");
        let meta = seen.member("/params/_meta");
        // What a client of either era can be asked for.
        let can = serde_json::json!({"roots": {}, "sampling": {"tools": {}}});
        assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], can);
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "lockgate");
        json(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"complete","content":[]}}}}"#,
            seen.member("/id")
        ))
    });
    let proxy = Proxy::new(upstream.await);
    let legacy = proxy.run(legacy_call("3", "{}")).await;
    assert_eq!(legacy, [r#"{"jsonrpc":"2.0","id":3,"result":{"content":[]}}"#]);
    let modern = proxy.run(modern_call("4", "{}")).await;
    assert!(modern[0].contains(r#""resultType":"complete""#), "{modern:?}");
}

#[tokio::test]
async fn an_error_with_a_status_of_its_own_is_relayed() {
    let upstream = modern_server(|seen| {
        let id = seen.member("/id");
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32602,"message":"Unknown tool"}}}}"#
        );
        answer(400, "application/json", body)
    });
    let proxy = Proxy::new(upstream.await);
    let error = proxy.run(legacy_call("9", "{}")).await;
    assert_eq!(
        error,
        [r#"{"jsonrpc":"2.0","id":9,"error":{"code":-32602,"message":"Unknown tool"}}"#]
    );
}

#[tokio::test]
async fn an_upstream_that_changed_its_era_is_probed_again() {
    let log = Log::default();
    let mut resource = legacy_server(Arc::clone(&log), |seen| json(result(seen, "legacy"))).await;
    resource.era = Some(Era::Modern);
    // To the remembered era this server answers 202: no response, no verdict.
    let proxy = Proxy::new(resource);
    let first = proxy.run(modern_call("1", "{}")).await;
    assert!(first[0].contains("legacy"), "{first:?}");

    let resource = modern_server(|seen| json(result(seen, "modern"))).await;
    let wrong = UpstreamResource { era: Some(Era::Legacy), ..resource };
    let answer = Proxy::new(wrong).run(legacy_call("1", "{}")).await;
    assert!(answer[0].contains("modern"), "{answer:?}");
}

#[tokio::test]
async fn a_handshake_that_fails_for_a_moment_is_tried_again() {
    let attempts = AtomicUsize::new(0);
    let (proxy, log) = server(move |seen| {
        if attempts.fetch_add(1, Ordering::SeqCst) == 0 {
            return answer(503, "text/plain", "busy");
        }
        opened(seen)
    })
    .await;
    let first = proxy.run(legacy_call("1", "{}")).await;
    assert!(first[0].contains("HTTP 503"), "{first:?}");
    let second = proxy.run(legacy_call("2", "{}")).await;
    assert!(second[0].contains("done"), "{second:?}");
    let calls: Vec<_> =
        log.lock().iter().filter(|it| it.starts_with("tools/call")).cloned().collect();
    assert_eq!(calls, ["tools/call 2025-11-25 s1"]);
}

/// A modern server whose tool wants its parameter `region` as a header, which the configuration
/// does not know; `list` answers `tools/list`.
async fn picky(list: &'static str) -> (Proxy, Log) {
    let log = Log::default();
    let heard = Arc::clone(&log);
    let address = serve(move |seen| {
        let (id, method) = (seen.member("/id"), seen.member("/method"));
        heard.lock().push(method.as_str().unwrap_or_default().to_owned());
        let say = |status, rest: &str| {
            answer(status, "application/json", format!(r#"{{"jsonrpc":"2.0","id":{id},{rest}}}"#))
        };
        match method.as_str() {
            Some("server/discover") => say(
                200,
                r#""result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}"#,
            ),
            Some("tools/list") => say(200, list),
            Some("tools/call") if seen.header("mcp-param-region") == "eu" => {
                say(200, r#""result":{"content":"done"}"#)
            }
            _ => say(400, r#""error":{"code":-32020,"message":"Header mismatch"}"#),
        }
    });
    (Proxy::new(upstream(http(address.await))), log)
}

#[tokio::test]
async fn a_call_whose_headers_are_refused_is_made_again_with_those_that_are_wanted() {
    let marked = r#""result":{"tools":[{"name":"do","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}]}"#;
    let (proxy, log) = picky(marked).await;
    let done = proxy.run(modern_call("1", r#"{"region":"eu"}"#)).await;
    assert!(done[0].contains("done"), "{done:?}");
    let (discover, call) = ("server/discover", "tools/call");
    check_log(&log, &[discover, call, "tools/list", call]);

    log.lock().clear();
    let other = proxy.run(modern_call("2", r#"{"region":"us"}"#)).await;
    assert!(other[0].contains("-32020"), "refused once more: {other:?}");
    check_log(&log, &[call, call]);
}

#[tokio::test]
async fn many_calls_that_are_refused_for_their_headers_lead_to_one_look() {
    let (proxy, log) =
        picky(r#""result":{"tools":[{"name":"do","inputSchema":{"type":"object"}}]}"#).await;
    let calls = (1..21).map(|id| proxy.run(modern_call(&id.to_string(), "{}")));
    for refused in futures_util::future::join_all(calls).await {
        assert!(refused[0].contains("-32020"), "{refused:?}");
    }
    // Of other tools too.
    let target = ToolTarget::Upstream { upstream_id: "u1".into(), original_name: "other".into() };
    let target = Target::tool(testing::entry(ToolResource { target, ..testing::tool() }));
    let other = Call { target, ..modern_call("21", "{}") };
    assert!(proxy.run(other).await[0].contains("-32020"));
    assert_eq!(log.lock().iter().filter(|it| *it == "tools/list").count(), 1);
}

#[tokio::test]
async fn a_look_that_failed_counts_for_a_moment_only() {
    let (proxy, log) = picky(r#""error":{"code":-32603,"message":"no"}"#).await;
    let began = std::time::Instant::now();
    for later in [Duration::ZERO, Duration::from_secs(1), Duration::ZERO] {
        let refused = proxy.run(modern_call("1", "{}")).await;
        assert!(refused[0].contains("-32020"), "{refused:?}");
        tokio::time::pause();
        tokio::time::advance(later).await;
        tokio::time::resume();
    }
    let looks = log.lock().iter().filter(|it| *it == "tools/list").count();
    // On a machine that is too slow for it the moment may have passed before.
    let is_in_time = began.elapsed() < Duration::from_secs(1);
    assert!(looks == 2 || (looks == 3 && !is_in_time), "{looks}");
}

#[tokio::test]
async fn a_call_is_not_made_again_when_nothing_else_could_be_said() {
    for list in [
        r#""result":{"tools":[{"name":"do","inputSchema":{"type":"object"}}]}"#,
        r#""result":{"tools":[]}"#,
        r#""error":{"code":-32603,"message":"no"}"#,
    ] {
        let (proxy, log) = picky(list).await;
        let refused = proxy.run(modern_call("1", r#"{"region":"eu"}"#)).await;
        assert!(refused[0].contains("-32020"), "{refused:?}");
        check_log(&log, &["server/discover", "tools/call", "tools/list"]);
    }
}
