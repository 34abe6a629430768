//! Session ids that have lived for as long as they may.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::harness::{World, ask, config, json, post};
use crate::session::LIFETIME_MS;

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// The id of a session that began so long ago.
fn id_of(world: &World, age_ms: i64) -> String {
    let (fresh, now_ms) = (world.initialize("/mcp"), now_ms());
    let table = world.proxy.current().load().unwrap();
    let mut claims = table.session_keys().open(&fresh, now_ms).unwrap();
    claims.issued_at_ms = now_ms - age_ms;
    table.session_keys().seal(&claims).unwrap()
}

#[test]
fn an_expired_id_is_unknown_whatever_is_asked() {
    let world = World::start();
    let id = id_of(&world, LIFETIME_MS + 24 * 60 * 60 * 1000);
    let at = |path: &str| post(path, &[("mcp-session-id", &id)], PING);
    for verb in ["POST", "GET", "DELETE"] {
        let (head, body) = ask(&world.proxy, at("/mcp").replacen("POST", verb, 1));
        assert!(head.starts_with("HTTP/1.1 404"), "{verb}: {head}{body}");
        assert_eq!(json(&body)["error"]["code"], -32001, "{verb}: {body}");
    }
    // No session belongs to what is asked there.
    let (head, body) = ask(&world.proxy, at("/rpc"));
    assert!(head.starts_with("HTTP/1.1 200"), "{head}{body}");
    world.stop();
}

#[test]
fn an_id_expires_on_the_connection_that_uses_it() {
    const LEFT_MS: i64 = 5000;
    let mut config = config();
    // The connection lasts longer than the id.
    config.timeouts.idle = Duration::from_mins(1);
    let world = World::with(config);
    let id = id_of(&world, LIFETIME_MS - LEFT_MS);
    let until = now_ms() + LEFT_MS;
    let mut connection = world.connect();
    let mut ping = || {
        connection.send(post("/mcp", &[("mcp-session-id", &id)], PING));
        connection.answer()
    };
    let (head, body) = ping();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}{body}");
    while now_ms() <= until {
        std::thread::sleep(Duration::from_millis(100));
    }
    let (head, body) = ping();
    assert!(head.starts_with("HTTP/1.1 404"), "{head}{body}");
    assert_eq!(json(&body)["error"]["code"], -32001, "{body}");
    world.stop();
}
