//! Lulls: when they begin, and that nothing is lost by them.

use std::{convert::Infallible, future::ready};

use http::Response;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::transport::body::{Answer, Body};

const TIMERS: Timers = Timers { head: Duration::from_secs(10), idle: Duration::from_mins(5) };

/// Reads for so long, and gives what came.
async fn read(stream: &mut Timed<tokio::io::DuplexStream>, limit: Duration) -> String {
    let mut bytes = Vec::new();
    tokio::time::timeout(limit, stream.read_to_end(&mut bytes)).await.ok();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_lull_begins_when_nothing_is_left_to_do_and_ends_with_the_next_request() {
    let (mut client, server) = tokio::io::duplex(4096);
    client.write_all(b"first").await.unwrap();
    let (mut stream, requests) = Timed::open(server, TIMERS).await.unwrap();
    assert_eq!(read(&mut stream, LULL * 2).await, "first");
    assert!(!requests.is_lull(), "its head is not complete");
    let request = requests.start();
    read(&mut stream, LULL * 2).await;
    assert!(!requests.is_lull(), "it is being served");
    drop(request);
    read(&mut stream, LULL_STEP / 2).await;
    assert!(!requests.is_lull(), "the next may come soon");
    read(&mut stream, LULL_STEP).await;
    assert!(requests.is_lull());
    client.write_all(b"second").await.unwrap();
    stream.lull(Bytes::new()).await.unwrap();
    assert!(!requests.is_lull());
    assert_eq!(read(&mut stream, LULL).await, "second");
    // What hyper had read is read again.
    stream.lull(Bytes::from("third")).await.unwrap();
    assert_eq!(read(&mut stream, LULL).await, "third");
}

#[tokio::test(start_paused = true)]
async fn who_has_asked_much_may_ask_again() {
    let (mut client, server) = tokio::io::duplex(4096);
    client.write_all(b"first").await.unwrap();
    let (mut stream, requests) = Timed::open(server, TIMERS).await.unwrap();
    assert_eq!(read(&mut stream, Duration::ZERO).await, "first");
    for _ in 0..60 {
        drop(requests.start());
    }
    read(&mut stream, LULL * 9 / 10).await;
    assert!(!requests.is_lull());
    read(&mut stream, LULL / 5).await;
    assert!(requests.is_lull());
}

#[tokio::test(start_paused = true)]
async fn a_lull_begins_although_nobody_reads_after_the_answer() {
    let (mut client, server) = tokio::io::duplex(4096);
    client.write_all(b"first").await.unwrap();
    let (mut stream, requests) = Timed::open(server, TIMERS).await.unwrap();
    let request = requests.start();
    let begin = Instant::now();
    let mut reading = Box::pin(async {
        let mut bytes = [0; 64];
        while stream.read(&mut bytes).await.is_ok() {}
    });
    assert!(tokio::time::timeout(LULL_STEP / 10, &mut reading).await.is_err());
    drop(request);
    while !requests.is_lull() {
        assert!(tokio::time::timeout(LULL_STEP / 10, &mut reading).await.is_err());
        assert!(begin.elapsed() < LULL_STEP * 4, "{:?}", begin.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_lull_is_idle_time() {
    let (mut client, server) = tokio::io::duplex(4096);
    client.write_all(b"first").await.unwrap();
    let (mut stream, requests) = Timed::open(server, TIMERS).await.unwrap();
    read(&mut stream, Duration::ZERO).await;
    drop(requests.start());
    let begin = Instant::now();
    read(&mut stream, LULL * 2).await;
    let ended = stream.lull(Bytes::new()).await.unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
    assert_eq!(begin.elapsed().as_secs(), TIMERS.idle.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_lasts_as_long_as_its_client_reads_it() {
    const LENGTH: usize = 4 * 1024 * 1024;
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let (stream, requests) = Timed::open(server, TIMERS).await.unwrap();
    let service = service_fn(move |_| {
        let whole = Body::Whole(Bytes::from(vec![b'x'; LENGTH]).into());
        ready(Ok::<_, Infallible>(Response::new(Answer::new(whole, requests.start()))))
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _serving = AbortOnDropHandle::new(tokio::spawn(connection));
    let begin = Instant::now();
    let mut chunk = vec![0; 64 * 1024];
    let mut length = 0;
    while length < LENGTH {
        tokio::time::sleep(Duration::from_secs(15)).await;
        let read = client.read(&mut chunk).await.unwrap();
        assert!(read > 0, "cut off after {length} bytes and {:?}", begin.elapsed());
        length += read;
    }
    assert!(begin.elapsed() > TIMERS.idle * 2);
}
