//! Servers of the modern era or of both, and clients of either.

use super::*;

/// A server that is found to be modern; `opens` answers `initialize`. It says how it was called.
async fn server(opens: fn(&Seen) -> Response<Body>) -> (Proxy, Log) {
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

#[tokio::test]
async fn a_server_of_both_eras_serves_each_client_in_its_own() {
    let (proxy, log) = server(|seen| {
        let id = seen.member("/id");
        let mut answer = json(format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"s"}}}}}}"#
        ));
        answer.headers_mut().insert("mcp-session-id", "s1".parse().unwrap());
        answer
    })
    .await;
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
