//! Answers wait for the proxy in this process, and not for ever.

use std::time::{Duration, Instant};

use super::{BASIC, Fixture, ask, proxy::connect_slow};
use crate::api::settle::SETTLE_WITHIN;

/// How often is tried what a busy machine may hold up.
const TRIES: u32 = 20;

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

/// How long the change with this number took, and the revision it made.
async fn change(fixture: &Fixture, number: u32) -> (Duration, u64) {
    let router = fixture.control_plane.management();
    let tool = format!(
        r#"{{"name": "t{number}", "url": "http://127.0.0.1:9/t", "integration_type": "REST",
            "request_type": "GET"}}"#
    );
    let started = Instant::now();
    let (status, body) = ask(&router, BASIC, ("POST", "/tools"), &tool).await;
    assert!(status.is_success(), "{body}");
    (started.elapsed(), *fixture.control_plane.store.head().borrow())
}

#[tokio::test]
async fn who_is_told_of_a_change_can_use_it() {
    let fixture = Fixture::start().await;
    connected(&fixture, Duration::from_millis(200)).await;
    for number in 0..TRIES {
        let (took, revision) = change(&fixture, number).await;
        // Else the proxy had no time, and the answer came all the same.
        if took < SETTLE_WITHIN {
            assert_eq!(applied(&fixture).await, Some(revision), "after {took:?}");
            fixture.stop().await;
            return;
        }
    }
    panic!("no answer waited for the proxy, each for its time");
}

#[tokio::test]
async fn who_is_told_of_what_others_changed_can_use_it() {
    let fixture = Fixture::start().await;
    connected(&fixture, Duration::from_millis(200)).await;
    let router = fixture.control_plane.management();
    for number in 0..TRIES {
        let mut head = fixture.control_plane.store.head().subscribe();
        let reading = async {
            head.changed().await.unwrap();
            let started = Instant::now();
            let (_, tools) = ask(&router, BASIC, ("GET", "/tools"), "").await;
            assert!(tools.to_string().contains(&format!("\"t{number}\"")), "{tools}");
            (started.elapsed(), applied(&fixture).await)
        };
        let ((_, revision), (took, applied)) = tokio::join!(change(&fixture, number), reading);
        if took < SETTLE_WITHIN {
            assert_eq!(applied, Some(revision), "after {took:?}");
            fixture.stop().await;
            return;
        }
    }
    panic!("no answer waited for the proxy, each for its time");
}

#[tokio::test]
async fn a_proxy_that_hangs_is_waited_for_once_for_each_change() {
    let fixture = Fixture::start().await;
    connected(&fixture, Duration::from_mins(1)).await;
    let router = fixture.control_plane.management();
    for number in 0..TRIES {
        let (took, revision) = change(&fixture, number).await;
        assert!(took >= SETTLE_WITHIN, "{took:?}");
        assert!(applied(&fixture).await.is_some_and(|it| it < revision), "it took it up?");
        let started = Instant::now();
        ask(&router, BASIC, ("GET", "/tools"), "").await;
        // In vain one waits for longer.
        if started.elapsed() < SETTLE_WITHIN {
            fixture.stop().await;
            return;
        }
    }
    panic!("reading waits for the proxy");
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_not_waited_for() {
    let fixture = Fixture::start().await;
    for number in 0..TRIES {
        if change(&fixture, number).await.0 < SETTLE_WITHIN {
            fixture.stop().await;
            return;
        }
    }
    panic!("each change waits for nobody");
}

#[tokio::test]
async fn a_proxy_that_hangs_delays_an_answer_little() {
    let fixture = Fixture::start().await;
    // It would have to be waited for for longer than the bound below.
    connected(&fixture, Duration::from_mins(1)).await;
    let (took, revision) = change(&fixture, 0).await;
    assert!(took >= SETTLE_WITHIN && took < Duration::from_secs(20), "{took:?}");
    assert!(applied(&fixture).await.is_some_and(|it| it < revision), "it took it up?");
    fixture.stop().await;
}
