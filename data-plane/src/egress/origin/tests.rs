//! The connections of one origin, against real sockets.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::egress::{Egress, Provenance, Tcp};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// A server that answers `per_connection` requests and then closes without a word.
async fn server(per_connection: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, opened) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&opened);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Relaxed);
            tokio::spawn(answer(stream, per_connection));
        }
    });
    (address, opened)
}

async fn answer(mut stream: TcpStream, requests: usize) {
    let mut buffer = [0; 4096];
    for _ in 0..requests {
        if stream.read(&mut buffer).await.unwrap_or(0) == 0 {
            return;
        }
        stream.write_all(ANSWER).await.unwrap();
    }
}

fn plain(address: SocketAddr) -> (Arc<Origin>, Uri) {
    let uri: Uri = format!("http://{address}/mcp?a=1").parse().unwrap();
    (Egress::new().origin(&uri, Provenance::Registered), uri)
}

async fn get(origin: &Arc<Origin>, uri: &Uri) -> Result<Bytes, SendError> {
    let response = origin.send((Method::GET, uri), HeaderMap::new(), Bytes::new()).await?;
    assert_eq!(response.status(), 200);
    Ok(response.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let (address, opened) = server(usize::MAX).await;
    let (origin, uri) = plain(address);
    for _ in 0..20 {
        assert_eq!(get(&origin, &uri).await.unwrap(), "{}");
        // The connection looks at what it has written before it takes more.
        tokio::task::yield_now().await;
    }
    assert_eq!(opened.load(Relaxed), 1);
    let both = tokio::join!(get(&origin, &uri), get(&origin, &uri));
    assert!(both.0.is_ok() && both.1.is_ok());
    assert_eq!(opened.load(Relaxed), 2);
}

#[tokio::test]
async fn a_server_that_closes_free_connections_costs_no_request() {
    let (address, opened) = server(1).await;
    let (origin, uri) = plain(address);
    for round in 1..=10 {
        assert_eq!(get(&origin, &uri).await.unwrap(), "{}");
        assert_eq!(opened.load(Relaxed), round);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_body_that_is_not_read_ends_its_connection() {
    let (address, opened) = server(usize::MAX).await;
    let (origin, uri) = plain(address);
    drop(origin.send((Method::GET, &uri), HeaderMap::new(), Bytes::new()).await.unwrap());
    assert!(origin.kept.lock().free.is_empty());
    get(&origin, &uri).await.unwrap();
    assert_eq!(opened.load(Relaxed), 2);
}

#[tokio::test]
async fn a_request_that_may_have_arrived_is_not_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (origin, uri) = plain(listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        stream.write_all(ANSWER).await.unwrap();
        let read = stream.read(&mut buffer).await.unwrap();
        drop(stream);
        let again = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        (String::from_utf8(buffer[..read].to_vec()).unwrap(), again.is_ok())
    });
    get(&origin, &uri).await.unwrap();
    tokio::task::yield_now().await;
    assert!(matches!(get(&origin, &uri).await, Err(SendError::Broken(_))));
    let (head, was_sent_again) = server.await.unwrap();
    assert!(head.starts_with("GET /mcp?a=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {}\r\n", uri.authority().unwrap())), "{head}");
    assert!(!was_sent_again);
}

#[tokio::test(start_paused = true)]
async fn connections_that_nobody_uses_end() {
    let (address, _) = server(usize::MAX).await;
    let (origin, uri) = plain(address);
    get(&origin, &uri).await.unwrap();
    let free = || origin.kept.lock().free.len();
    assert_eq!(free(), 1);
    tokio::time::sleep(SWEEP_INTERVAL + Duration::from_secs(1)).await;
    assert_eq!(free(), 1, "it was used a minute ago");
    tokio::time::sleep(SWEEP_INTERVAL).await;
    assert_eq!(free(), 0);
    assert!(!origin.kept.lock().is_swept);
}

#[tokio::test]
async fn nobody_listens() {
    let (origin, uri) = plain("127.0.0.1:1".parse().unwrap());
    let failed = get(&origin, &uri).await;
    assert!(matches!(failed, Err(SendError::Unreachable(_))), "{failed:?}");
}

/// Counts connections to a TLS server that offers `protocols`, and tells the versions it heard.
async fn versions_over_tls(protocols: &[&[u8]]) -> (Vec<String>, usize) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der());
    let chain = vec![certified.cert.der().clone()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut server = builder.with_single_cert(chain, key.unwrap()).unwrap();
    server.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Relaxed);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
                let service = service_fn(|request: Request<Incoming>| async move {
                    let version = format!("{:?} {}", request.version(), request.uri().path());
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(
                        version,
                    ))))
                });
                let http = auto::Builder::new(TokioExecutor::new());
                http.serve_connection(stream, service).await.ok();
            });
        }
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(builder.with_root_certificates(roots).with_no_client_auth())
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(Tcp { provenance: Provenance::Registered, noticed: Arc::default() });
    let home = Egress::new().home().clone();
    let uri: Uri = format!("https://localhost:{port}/mcp").parse().unwrap();
    let origin = Origin::new(Connector { https, home }, &uri);
    let mut heard = Vec::new();
    for _ in 0..3 {
        let answer = get(&origin, &uri).await.unwrap();
        heard.push(String::from_utf8(answer.to_vec()).unwrap());
        tokio::task::yield_now().await;
    }
    (heard, opened.load(Relaxed))
}

#[tokio::test]
async fn the_newest_http_that_a_tls_server_offers_is_spoken() {
    let (heard, opened) = versions_over_tls(&[b"h2", b"http/1.1"]).await;
    assert_eq!((heard, opened), (vec!["HTTP/2.0 /mcp".to_owned(); 3], 1));
    let (heard, opened) = versions_over_tls(&[b"http/1.1"]).await;
    assert_eq!((heard, opened), (vec!["HTTP/1.1 /mcp".to_owned(); 3], 1));
}
