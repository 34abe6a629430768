//! The connections of one origin, against real sockets.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::service::service_fn;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
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

/// An origin whose server is what `serve` does with its listener.
async fn served<F>(
    serve: impl FnOnce(TcpListener) -> F,
) -> (Arc<Origin>, Uri, JoinHandle<F::Output>)
where
    F: Future<Output: Send> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (origin, uri) = plain(listener.local_addr().unwrap());
    (origin, uri, tokio::spawn(serve(listener)))
}

/// Reads something; how much it was.
async fn heard(stream: &mut TcpStream) -> usize {
    stream.read(&mut [0; 4096]).await.unwrap()
}

async fn get(origin: &Arc<Origin>, uri: &Uri) -> Result<Bytes, SendError> {
    let response = origin.send((Method::GET, uri), HeaderMap::new(), Pieces::default()).await?;
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

/// The head of a chunked answer, its first event and the end of it.
const EVENT: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n:\n\n\n\r\n";
const LAST: &[u8] = b"0\r\n\r\n";

async fn first_chunk(origin: &Arc<Origin>, uri: &Uri) -> OriginBody {
    let sent = origin.send((Method::GET, uri), HeaderMap::new(), Pieces::default()).await;
    let mut body = sent.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    body
}

#[tokio::test]
async fn a_stream_of_which_only_the_end_was_not_read_keeps_its_connection() {
    let (origin, uri, server) = served(|listener| async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..10 {
            assert!(heard(&mut stream).await > 0);
            stream.write_all(&[EVENT, LAST].concat()).await.unwrap();
        }
    })
    .await;
    for _ in 0..10 {
        drop(first_chunk(&origin, &uri).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.await.unwrap();
}

#[tokio::test]
async fn a_stream_with_more_to_come_ends_its_connection_when_it_is_dropped() {
    let (origin, uri, server) = served(|listener| async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(heard(&mut stream).await > 0);
        stream.write_all(EVENT).await.unwrap();
        assert_eq!(heard(&mut stream).await, 0, "the client is gone");
        let (mut next, _) = listener.accept().await.unwrap();
        assert!(heard(&mut next).await > 0);
        next.write_all(ANSWER).await.unwrap();
    })
    .await;
    drop(first_chunk(&origin, &uri).await);
    tokio::time::sleep(Duration::from_millis(20)).await;
    get(&origin, &uri).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_may_have_arrived_is_not_sent_again() {
    let (origin, uri, server) = served(|listener| async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        stream.write_all(ANSWER).await.unwrap();
        let read = stream.read(&mut buffer).await.unwrap();
        drop(stream);
        let again = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        (String::from_utf8(buffer[..read].to_vec()).unwrap(), again.is_ok())
    })
    .await;
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

/// Answers with what it heard, at `/stream` with an answer that does not end.
async fn echo(request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let heard = format!("{:?} {}", request.version(), request.uri().path());
    let heard = stream::once(async move { Ok(Frame::data(Bytes::from(heard))) });
    let is_endless = request.uri().path() == "/stream";
    let rest =
        if is_endless { stream::pending().left_stream() } else { stream::empty().right_stream() };
    Ok(Response::new(StreamBody::new(heard.chain(rest).boxed())))
}

type Answer = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// A TLS server that offers `protocols` and allows few streams; how many connections it got.
async fn tls(protocols: &[&[u8]]) -> (Arc<Origin>, Uri, Arc<AtomicUsize>) {
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
                let mut http = auto::Builder::new(TokioExecutor::new());
                http.http2().max_concurrent_streams(STREAMS_MAX);
                http.serve_connection(stream, service_fn(echo)).await.ok();
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
    (Origin::new(Connector { https, home }, &uri), uri, opened)
}

const STREAMS_MAX: u32 = 4;

#[tokio::test]
async fn the_newest_http_that_a_tls_server_offers_is_spoken() {
    let offers: [(&[&[u8]], _); 2] =
        [(&[b"h2", b"http/1.1"], "HTTP/2.0 /mcp"), (&[b"http/1.1"], "HTTP/1.1 /mcp")];
    for (protocols, expected) in offers {
        let (origin, uri, opened) = tls(protocols).await;
        for _ in 0..3 {
            assert_eq!(get(&origin, &uri).await.unwrap(), expected);
            tokio::task::yield_now().await;
        }
        assert_eq!(opened.load(Relaxed), 1);
    }
}

#[tokio::test]
async fn streams_that_go_on_make_no_request_wait() {
    let (origin, uri, opened) = tls(&[b"h2"]).await;
    get(&origin, &uri).await.unwrap();
    let endless: Uri = uri.to_string().replace("/mcp", "/stream").parse().unwrap();
    let mut streams = Vec::new();
    for _ in 0..STREAMS_MAX {
        streams.push(first_chunk(&origin, &endless).await);
    }
    let got = tokio::time::timeout(Duration::from_secs(5), get(&origin, &uri)).await.unwrap();
    assert_eq!(got.unwrap(), "HTTP/2.0 /mcp");
    assert_eq!(opened.load(Relaxed), 2);
    drop(streams);
    assert!(origin.kept.lock().shared.iter().all(|shared| shared.is_used(0)));
    assert!(!origin.kept.lock().shared.iter().any(|shared| shared.is_used(1)), "nobody is there");
}
