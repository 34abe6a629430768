//! Catalogs of real servers, and why there is none.

use proto::Era;

use super::*;
use crate::upstream::testing::{Body, Proxy, Seen, answer, hang, http, json, serve, upstream};

/// A server without sessions; `list` answers `tools/list`, given the cursor.
async fn proxy(era: Era, list: impl Fn(&Seen, &str) -> Response + Send + Sync + 'static) -> Proxy {
    let address = serve(move |seen| {
        let id = seen.member("/id");
        let result =
            |result: &str| json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
        match (seen.member("/method").as_str().unwrap_or_default(), era) {
            ("server/discover", Era::Modern) => result(
                r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"instructions":"hi"}"#,
            ),
            ("initialize", Era::Legacy) => result(
                r#"{"protocolVersion":"2025-03-26","capabilities":{"tools":{}},"serverInfo":{"name":"s"}}"#,
            ),
            ("tools/list", _) => {
                let cursor = seen.member("/params/cursor");
                match list(&seen, cursor.as_str().unwrap_or("first")) {
                    Response::Result(text) => result(&text),
                    Response::Raw(response) => response,
                }
            }
            ("notifications/initialized", _) => answer(202, "", ""),
            _ => answer(404, "", ""),
        }
    });
    Proxy::new(upstream(http(address.await)))
}

enum Response {
    Result(String),
    Raw(::http::Response<Body>),
}

async fn read(proxy: &Proxy) -> Result<Catalog, Failed> {
    discover(&proxy.upstreams, &proxy.table, "u1", Duration::from_secs(2)).await
}

async fn failure(proxy: Proxy) -> String {
    let (reason, message) = read(&proxy).await.unwrap_err();
    format!("{}: {message}", reason.as_str())
}

#[tokio::test]
async fn all_pages_are_read_and_definitions_keep_their_bytes() {
    let odd = r#"{ "name":"b", "inputSchema":{"type":"object","x":1.0} }"#;
    for era in [Era::Legacy, Era::Modern] {
        let proxy = proxy(era, move |_, cursor| {
            Response::Result(match cursor {
                "first" => r#"{"tools":[{"name":"a"},{"name":"a"},{"no":"name"}],"nextCursor":""}"#
                    .to_owned(),
                "" => format!(r#"{{"tools":[{odd}]}}"#),
                other => panic!("cursor {other}"),
            })
        });
        let catalog = read(&proxy.await).await.unwrap();
        assert_eq!(catalog.era, era);
        let names: Vec<_> = catalog.tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(catalog.tools[1].definition, odd);
        match era {
            Era::Legacy => {
                assert_eq!(catalog.protocol_version, "2025-03-26");
                assert_eq!(catalog.server_info, r#"{"name":"s"}"#);
            }
            Era::Modern => assert_eq!(catalog.instructions, "hi"),
        }
    }
}

#[tokio::test]
async fn tools_that_http_clients_must_drop_are_left_out() {
    let proxy = proxy(Era::Modern, |_, _| {
        Response::Result(
            r#"{"tools":[{"name":"bad","inputSchema":{"type":"object","properties":{"a":{"type":"number","x-mcp-header":"A"}}}},{"name":"ok"}]}"#.to_owned(),
        )
    });
    let catalog = read(&proxy.await).await.unwrap();
    assert_eq!(catalog.tools.len(), 1);
}

#[tokio::test]
async fn a_failure_names_its_phase_and_what_to_do() {
    let looping = proxy(Era::Modern, |_, _| {
        Response::Result(r#"{"tools":[],"nextCursor":"again"}"#.to_owned())
    });
    let message = failure(looping.await).await;
    assert!(
        message.starts_with("list: upstream `up`")
            && message.contains("a cursor that it gave before"),
        "{message}"
    );

    let hung = proxy(Era::Modern, |_, _| Response::Raw(hang(200, "application/json", "{"))).await;
    assert!(failure(hung).await.starts_with("timeout: "));

    let status = async |status: u16| {
        let address = serve(move |_| answer(status, "text/plain", "sorry")).await;
        failure(Proxy::new(upstream(http(address)))).await
    };
    assert!(status(401).await.starts_with("auth: upstream `up` refused the gateway with HTTP 401"));
    assert!(status(503).await.starts_with("http-status: upstream `up` answered HTTP 503: sorry"));
    assert!(status(404).await.starts_with("http-status: "));
    let page = serve(|_| answer(200, "text/html", "<h1>hello</h1>")).await;
    assert!(failure(Proxy::new(upstream(http(page)))).await.starts_with("initialize: "));
    let closed = "127.0.0.1:1".parse().unwrap();
    assert!(failure(Proxy::new(upstream(http(closed)))).await.starts_with("connect: "));

    let mut unknown = Proxy::new(upstream(http(closed)));
    unknown.table = crate::upstream::testing::table(Vec::new(), Vec::new());
    assert!(failure(unknown).await.starts_with("no-proxy: "));
}

#[tokio::test]
async fn a_capability_that_is_not_offered_is_not_asked_for() {
    let address = serve(|seen| match seen.member("/method").as_str() {
        Some("server/discover") => json(format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"supportedVersions":["2026-07-28"],"capabilities":{{}}}}}}"#,
            seen.member("/id")
        )),
        other => panic!("asked {other:?}"),
    });
    let catalog = read(&Proxy::new(upstream(http(address.await)))).await.unwrap();
    assert!(catalog.tools.is_empty());
}

#[tokio::test]
async fn all_lists_are_read_that_are_offered() {
    for era in [Era::Legacy, Era::Modern] {
        let address = serve(move |seen| {
            let id = seen.member("/id");
            let say = |rest: &str| json(format!(r#"{{"jsonrpc":"2.0","id":{id},{rest}}}"#));
            let features = r#""capabilities":{"prompts":{},"resources":{}}"#;
            let cursor = seen.member("/params/cursor");
            match (seen.member("/method").as_str().unwrap_or_default(), cursor.as_str()) {
                ("server/discover", _) if era == Era::Modern => {
                    say(&format!(r#""result":{{"supportedVersions":["2026-07-28"],{features}}}"#))
                }
                ("initialize", _) if era == Era::Legacy => say(&format!(
                    r#""result":{{"protocolVersion":"2025-06-18",{features},"serverInfo":{{}}}}"#
                )),
                ("prompts/list", _) => say(r#""result":{"prompts":[{"name":"p", "x":1.0},{}]}"#),
                ("resources/list", None) => {
                    say(r#""result":{"resources":[{"uri":"a://1","name":"one"}],"nextCursor":"2"}"#)
                }
                ("resources/list", Some("2")) => {
                    say(r#""result":{"resources":[{"uri":"a://2"},{"uri":"a://1"}]}"#)
                }
                ("resources/templates/list", _) => say(r#""error":{"code":-32601,"message":"no"}"#),
                ("notifications/initialized", _) => answer(202, "", ""),
                _ => answer(404, "", ""),
            }
        });
        let catalog = read(&Proxy::new(upstream(http(address.await)))).await.unwrap();
        let found: Vec<_> =
            catalog.entries.iter().map(|it| (it.kind.as_str(), it.original.as_str())).collect();
        assert_eq!(found, [("prompt", "p"), ("resource", "a://1"), ("resource", "a://2")]);
        assert_eq!(catalog.entries[0].definition, r#"{"name":"p", "x":1.0}"#);
        assert!(catalog.tools.is_empty());
    }
}

#[tokio::test]
async fn what_only_some_clients_are_shown_carries_what_they_need() {
    let address = serve(|seen| {
        let id = seen.member("/id");
        let say =
            |result: &str| json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
        match seen.member("/method").as_str().unwrap_or_default() {
            "server/discover" => say(
                r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"prompts":{}}}"#,
            ),
            "tools/list" => {
                let can = |name: &str| {
                    let key = "/params/_meta/io.modelcontextprotocol~1clientCapabilities/";
                    !seen.member(&format!("{key}{name}")).is_null()
                };
                let shown = [
                    ("plain", true),
                    ("fallback", !can("elicitation")),
                    ("samples", can("sampling")),
                    ("visits", can("elicitation/url")),
                    ("demanding", can("roots") && can("sampling")),
                ];
                let names = shown.iter().filter(|(_, is_shown)| *is_shown);
                let tools: Vec<_> =
                    names.map(|(name, _)| format!(r#"{{"name":"{name}"}}"#)).collect();
                say(&format!(r#"{{"tools":[{}]}}"#, tools.join(",")))
            }
            "prompts/list" => say(r#"{"prompts":[{"name":"p"}]}"#),
            _ => answer(404, "", ""),
        }
    });
    let catalog = read(&Proxy::new(upstream(http(address.await)))).await.unwrap();
    let needs: Vec<_> = catalog
        .tools
        .iter()
        .map(|tool| format!("{} {}", tool.name, tool.needs_client_capabilities.join(",")))
        .collect();
    assert_eq!(
        needs,
        [
            "plain ",
            "fallback ",
            "samples sampling",
            "visits elicitation,elicitation.url",
            "demanding sampling,elicitation,roots",
        ]
    );
    assert!(catalog.entries[0].needs_client_capabilities.is_empty());
}

#[tokio::test]
async fn what_cannot_be_explained_is_hidden_from_those_who_can_less() {
    let address = serve(|seen| {
        let id = seen.member("/id");
        let say = |rest: &str| json(format!(r#"{{"jsonrpc":"2.0","id":{id},{rest}}}"#));
        let can = seen.member("/params/_meta/io.modelcontextprotocol~1clientCapabilities");
        let declared = can.as_object().map_or(0, serde_json::Map::len);
        match (seen.member("/method").as_str().unwrap_or_default(), declared) {
            ("server/discover", _) => {
                say(r#""result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}"#)
            }
            ("tools/list", 0) => say(r#""result":{"tools":[{"name":"a"}]}"#),
            ("tools/list", 4) => say(r#""result":{"tools":[{"name":"a"},{"name":"b"}]}"#),
            _ => say(r#""error":{"code":-32603,"message":"out of order"}"#),
        }
    });
    let catalog = read(&Proxy::new(upstream(http(address.await)))).await.unwrap();
    let needs: Vec<_> =
        catalog.tools.iter().map(|tool| tool.needs_client_capabilities.join(",")).collect();
    assert_eq!(needs, ["", "sampling,elicitation,roots"]);
}
