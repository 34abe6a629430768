//! Bad input from clients: each a clear answer of the right code, in bounded time and memory, and nobody else notices.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::stream;
use tests::client::{Client, MODERN, http, whole};
use tests::fixture::{self, Era};
use tests::world::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MIB: usize = 1 << 20;

async fn world() -> anyhow::Result<(World, fixture::Server, Client)> {
    let fixture = fixture::start(Era::Dual, "127.0.0.1:0").await?;
    let world = World::up().await?;
    world.ok(&["create", "upstream", "things", "--url", &fixture.url()]).await?;
    let mut client = world.client("/mcp").await?;
    client.initialize().await?;
    Ok((world, fixture, client))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_malformed_message_has_its_code() -> anyhow::Result<()> {
    let (_world, _fixture, client) = world().await?;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":"#;
    let cases = [
        ("not json at all".to_owned(), 400, -32700),
        (String::new(), 400, -32700),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping""#.to_owned(), 400, -32700),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"} x"#.to_owned(), 400, -32700),
        ("[]".to_owned(), 400, -32600),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#.to_owned(), 400, -32600),
        ("5".to_owned(), 400, -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#.to_owned(), 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":5}"#.to_owned(), 400, -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#.to_owned(), 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#.to_owned(), 400, -32600),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","m\u0065thod":"tools/list"}"#.to_owned(),
            400,
            -32600,
        ),
        (format!(r#"{call}{{"name":"things-echo","name":"things-sleep"}}}}"#), 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"no/such"}"#.to_owned(), 200, -32601),
        (format!(r#"{call}{{"name":"nobody"}}}}"#), 200, -32602),
        (format!(r#"{call}{{"name":5}}}}"#), 200, -32602),
        (format!("{call}{{}}}}"), 200, -32602),
        (format!(r#"{call}{{"name":"things-echo","arguments":[]}}}}"#), 200, -32602),
    ];
    let mut wrong = Vec::new();
    for (body, status, code) in cases {
        let answer = client.post(body.clone()).await?;
        let got = (answer.status.as_u16(), answer.error_code().unwrap_or_default());
        if got != (status, code) {
            wrong.push(format!("{body}: {got:?}, not {:?}: {}", (status, code), answer.body));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_malformed_modern_request_has_its_code() -> anyhow::Result<()> {
    let (world, _fixture, _) = world().await?;
    let client = world.client("/mcp").await?;
    let unknown = client.modern("no/such", "{}").await?;
    assert_eq!((unknown.status.as_u16(), unknown.error_code()?), (404, -32601), "{unknown:?}");
    for gone in ["initialize", "ping", "logging/setLevel", "resources/subscribe"] {
        let answer = client.modern(gone, "{}").await?;
        assert_eq!(
            (answer.status.as_u16(), answer.error_code()?),
            (404, -32601),
            "{gone}: {answer:?}"
        );
    }
    let tool = client.modern("tools/call", r#"{"name":"nobody"}"#).await?;
    assert_eq!(tool.error_code()?, -32602, "{tool:?}");
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
    let bare = client.request(body).header("mcp-protocol-version", MODERN);
    let bare = whole(bare.header("mcp-method", "tools/list").send().await?).await?;
    assert_eq!((bare.status.as_u16(), bare.error_code()?), (400, -32602), "{bare:?}");
    let mut lying = client.modern_request("tools/list", "{}")?.build()?;
    lying.headers_mut().insert("mcp-method", http::HeaderValue::from_static("tools/call"));
    let lying = whole(http().execute(lying).await?).await?;
    assert_eq!((lying.status.as_u16(), lying.error_code()?), (400, -32020), "{lying:?}");
    let mut old = client.modern_request("tools/list", "{}")?.build()?;
    old.headers_mut().insert("mcp-protocol-version", http::HeaderValue::from_static("2099-01-01"));
    let old = whole(http().execute(old).await?).await?;
    assert_eq!((old.status.as_u16(), old.error_code()?), (400, -32020), "{old:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn http_itself_is_checked() -> anyhow::Result<()> {
    let (world, _fixture, client) = world().await?;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let with = |name: &'static str, value: &'static str| {
        let mut request = client.request(ping).build()?;
        request.headers_mut().insert(name, http::HeaderValue::from_static(value));
        anyhow::Ok(request)
    };
    for (name, value, status) in [
        ("content-encoding", "gzip", 415),
        ("content-type", "text/plain", 415),
        ("accept", "text/html", 406),
        ("accept", "application/json", 200),
        ("accept", "*/*", 200),
        ("mcp-protocol-version", "1999-01-01", 400),
        ("mcp-session-id", "not-one-of-ours", 404),
    ] {
        let answer = http().execute(with(name, value)?).await?;
        assert_eq!(answer.status(), status, "{name}: {value}");
    }
    assert_eq!(client.get().send().await?.status(), 400, "no session");
    for (path, status) in [("/.well-known/whatever", 404), ("/servers/nobody/mcp", 404)] {
        let stranger = http().post(format!("{}{path}", world.url())).body(ping).send().await?;
        assert!(stranger.status() == status || stranger.status() == 401, "{path}: {stranger:?}");
    }
    let slash = world.client("/mcp/").await?;
    assert!(slash.modern("server/discover", "{}").await?.status.is_success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn big_bodies_and_heads_are_refused_in_bounded_memory() -> anyhow::Result<()> {
    let (world, _fixture, client) = world().await?;
    let before = world.process().resident()?;
    let refused = client.post(vec![b' '; 20 * MIB]).await.map(|answer| answer.status.as_u16());
    // The connection may be cut while the rest of the body is still being written.
    assert!(matches!(refused, Ok(413) | Err(_)), "{refused:?}");
    let streams = (0..8).map(|_| {
        let pieces = stream::iter((0..64).map(|_| Ok::<_, std::io::Error>(vec![b' '; MIB])));
        client.post(reqwest::Body::wrap_stream(pieces))
    });
    for answer in futures_util::future::join_all(streams).await.into_iter().flatten() {
        assert_eq!(answer.status, 413);
    }
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"things-echo","arguments":{{"message":{deep}}}}}}}"#
    );
    client.post(deep).await.context("a deep body cut the connection")?;
    let mut request = client.request(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    for number in 0..10_000 {
        request = request.header(format!("x-{number}"), "1");
    }
    let many = request.send().await.map(|answer| answer.status().as_u16());
    assert!(matches!(many, Ok(431) | Err(_)), "{many:?}");
    client.call_text("things-echo", r#"{"message":"still here"}"#).await?;
    let grown = world.process().resident()?.saturating_sub(before);
    assert!(grown < 300 * MIB as u64, "it grew by {grown} bytes");
    Ok(())
}

/// Sends one byte of a request head per second; gives how long that was tolerated.
async fn drip(stream: &mut TcpStream) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut sink = [0; 1024];
    for byte in
        b"POST /mcp HTTP/1.1\r\nhost: localhost\r\nx-slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        let read = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut sink)).await;
        if let Ok(Ok(0) | Err(_)) = read {
            break;
        }
    }
    Ok(begun.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_trickles_is_cut_in_ten_seconds_also_as_second_request() -> anyhow::Result<()> {
    let (world, _fixture, client) = world().await?;
    let address = world.url().trim_start_matches("http://");
    let first = async {
        let mut stream = TcpStream::connect(address).await?;
        drip(&mut stream).await
    };
    let second = async {
        let mut stream = TcpStream::connect(address).await?;
        let health = format!("GET /health HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(health.as_bytes()).await?;
        let mut answer = [0; 4096];
        let read = stream.read(&mut answer).await?;
        anyhow::ensure!(answer.get(..read).is_some_and(|text| text.starts_with(b"HTTP/1.1 200")));
        drip(&mut stream).await
    };
    let (first, second) = tokio::join!(first, second);
    for taken in [first?, second?] {
        assert!((8..16).contains(&taken.as_secs()), "cut after {taken:?}");
    }
    client.call_text("things-echo", r#"{"message":"hi"}"#).await?;
    Ok(())
}
