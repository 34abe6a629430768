//! An answer to a change waits for the proxy in this process, and not for ever.

use std::time::{Duration, Instant};

use super::{BASIC, Fixture, ask, proxy::connect_slow};

const TOOL: &str = r#"{"name": "t", "url": "http://127.0.0.1:9/t", "integration_type": "REST",
    "request_type": "GET"}"#;

async fn applied(fixture: &Fixture) -> Option<u64> {
    let proxies = fixture.control_plane.sync.fleet.list().await.unwrap();
    proxies.first().filter(|it| it.connected).map(|it| it.applied_revision)
}

async fn connected(fixture: &Fixture, delay: Duration) {
    connect_slow(fixture, delay);
    while applied(fixture).await.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How long a change took, and the revision it made.
async fn change(fixture: &Fixture) -> (Duration, u64) {
    let router = fixture.control_plane.management();
    let started = Instant::now();
    let (status, body) = ask(&router, BASIC, ("POST", "/tools"), TOOL).await;
    assert!(status.is_success(), "{body}");
    (started.elapsed(), *fixture.control_plane.store.head().borrow())
}

#[tokio::test]
async fn who_is_told_of_a_change_can_use_it() {
    let fixture = Fixture::start().await;
    connected(&fixture, Duration::from_millis(200)).await;
    let (took, revision) = change(&fixture).await;
    assert_eq!(applied(&fixture).await, Some(revision), "after {took:?}");

    // What changes nothing waits for nothing.
    let router = fixture.control_plane.management();
    let started = Instant::now();
    ask(&router, BASIC, ("GET", "/tools"), "").await;
    assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
    fixture.stop().await;
}

#[tokio::test]
async fn a_proxy_that_hangs_or_is_not_there_delays_an_answer_little_or_not() {
    let fixture = Fixture::start().await;
    let (took, _) = change(&fixture).await;
    assert!(took < Duration::from_millis(900), "{took:?}");
    fixture.stop().await;

    let fixture = Fixture::start().await;
    connected(&fixture, Duration::from_mins(1)).await;
    let (took, revision) = change(&fixture).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(applied(&fixture).await.is_some_and(|it| it < revision), "it took it up?");
    fixture.stop().await;
}
