//! What strangers, slow clients and probes get.

use std::time::{Duration, Instant};

use super::harness::{Connection, ask, config};
use crate::{Config, DataPlane};

/// When a connection of these tests is left with its socket alone: after half its idle time at most, and some more.
const LULL: Duration = Duration::from_millis(400);

#[test]
fn probes_need_no_token_and_unknown_paths_are_404() {
    let proxy = DataPlane::start(config()).unwrap();
    let (head, body) = ask(&proxy, "GET /health HTTP/1.1\r\nhost: any.example\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, r#"{"status":"healthy"}"#);
    for path in ["/.well-known/oauth-protected-resource", "/nowhere"] {
        let (head, _) = ask(&proxy, format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        assert!(head.starts_with("HTTP/1.1 404"), "{head}");
        assert!(!head.contains("www-authenticate"));
    }
    proxy.stop();
}

#[test]
fn a_head_that_drips_is_cut_off_on_the_first_and_on_the_second_request() {
    let proxy = DataPlane::start(config()).unwrap();
    for (requests_before, pause) in [(0, Duration::ZERO), (1, Duration::ZERO), (1, LULL)] {
        let mut connection = Connection::open(proxy.addresses()[0]);
        for _ in 0..requests_before {
            connection.send("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n");
            assert!(connection.answer().0.starts_with("HTTP/1.1 200"));
        }
        std::thread::sleep(pause);
        let start = Instant::now();
        for byte in "GET /health HTTP/1.1\r\nhost: localhost\r\nx: ".bytes().cycle() {
            if std::io::Write::write_all(&mut connection.0, &[byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            if start.elapsed() > Duration::from_millis(500) {
                break;
            }
        }
        assert!(connection.rest().starts_with("HTTP/1.1 408"));
        assert!(start.elapsed() < Duration::from_secs(2));
    }
    proxy.stop();
}

#[test]
fn a_connection_goes_on_after_a_lull() {
    let proxy = DataPlane::start(config()).unwrap();
    let mut connection = Connection::open(proxy.addresses()[0]);
    let long = format!("x: {}", "y".repeat(500));
    let request = format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{long}\r\n\r\n");
    for split in [0, 10, request.len() - 1] {
        let (first, second) = request.split_at(split);
        connection.send(first);
        std::thread::sleep(Duration::from_millis(20));
        connection.send(second);
        assert!(connection.answer().0.starts_with("HTTP/1.1 200"));
        std::thread::sleep(LULL);
        // Several at once.
        connection.send(request.repeat(2));
        for _ in 0..2 {
            assert!(connection.answer().0.starts_with("HTTP/1.1 200"));
        }
        std::thread::sleep(LULL);
    }
    proxy.stop();
}

#[test]
fn an_idle_connection_is_closed_but_not_at_the_deadline_of_a_head() {
    let proxy = DataPlane::start(config()).unwrap();
    for requests_before in [0, 1] {
        let mut connection = Connection::open(proxy.addresses()[0]);
        for _ in 0..requests_before {
            connection.send("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n");
            connection.answer();
        }
        let start = Instant::now();
        assert_eq!(connection.rest(), "");
        let idle = start.elapsed();
        assert!(idle > Duration::from_millis(500) && idle < Duration::from_secs(3), "{idle:?}");
    }
    proxy.stop();
}

#[test]
fn too_many_or_too_large_headers_are_431() {
    let proxy = DataPlane::start(config()).unwrap();
    let many = "x: y\r\n".repeat(10_000);
    let large = format!("x: {}\r\n", "y".repeat(40_000));
    for headers in [many, large] {
        let mut connection = Connection::open(proxy.addresses()[0]);
        let request = format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        // The proxy may answer and close before it has read everything.
        std::io::Write::write_all(&mut connection.0, request.as_bytes()).ok();
        assert!(connection.answer().0.starts_with("HTTP/1.1 431"));
    }
    proxy.stop();
}

#[test]
fn other_sites_cannot_reach_a_loopback_listener_through_a_browser() {
    let proxy = DataPlane::start(config()).unwrap();
    for header in ["host: evil.example.com", "host: localhost\r\norigin: http://evil.example.com"] {
        let request = format!("POST /mcp HTTP/1.1\r\n{header}\r\ncontent-length: 0\r\n\r\n");
        assert!(ask(&proxy, request).0.starts_with("HTTP/1.1 403"));
    }
    let (head, _) = ask(
        &proxy,
        "OPTIONS /mcp HTTP/1.1\r\nhost: localhost\r\norigin: http://localhost:6274\r\n\
         access-control-request-headers: mcp-param-city\r\n\r\n",
    );
    assert!(head.starts_with("HTTP/1.1 204"), "{head}");
    assert!(head.contains("access-control-allow-origin: http://localhost:6274"), "{head}");
    assert!(head.contains("mcp-session-id") && head.contains("mcp-param-city"), "{head}");
    proxy.stop();
}

#[test]
fn without_a_configuration_mcp_is_503_and_not_an_empty_list() {
    let proxy = DataPlane::start(config()).unwrap();
    let (head, _) =
        ask(&proxy, "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after: 1"), "{head}");
    proxy.stop();
}

#[test]
fn the_end_closes_idle_connections_at_once_and_frees_the_port() {
    let mut config = config();
    // What it would take to wait for the connection.
    (config.timeouts.idle, config.timeouts.drain) =
        (Duration::from_mins(1), Duration::from_mins(1));
    let proxy = DataPlane::start(config).unwrap();
    let address = proxy.addresses()[0];
    let mut connection = Connection::open(address);
    connection.send("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n");
    connection.answer();
    let start = Instant::now();
    proxy.stop();
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(connection.rest(), "");
    std::net::TcpListener::bind(address).unwrap();
}

#[test]
fn a_proxy_without_listeners_does_not_start() {
    assert!(DataPlane::start(Config { listeners: vec![], ..config() }).is_err());
}
