//! A tiny modern MCP server whose tools do what tests need.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc, watch};

/// What a test sees and decides of its upstream.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    /// A permit lets a call of `wait` end, or one of `progress` go on, now or when it comes to that.
    pub(super) go: Arc<Semaphore>,
    /// How many calls of `wait` began, were answered, and were dropped.
    pub(super) waits: watch::Receiver<Waits>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) begun: u32,
    pub(super) answered: u32,
    pub(super) dropped: u32,
}

/// How often the tool `flood` tells of its progress.
pub(super) const FLOOD: usize = 6_000;

type Body = Either<
    Full<Bytes>,
    StreamBody<tokio_stream::wrappers::ReceiverStream<Result<Frame<Bytes>, Infallible>>>,
>;

impl Upstream {
    /// Serves until the runtime ends.
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let go = Arc::new(Semaphore::new(0));
        let (tx, waits) = watch::channel(Waits::default());
        let shared = (Arc::clone(&go), Arc::new(tx));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (go, waits) = shared.clone();
                let service =
                    service_fn(move |request| answer(request, Arc::clone(&go), Arc::clone(&waits)));
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                tokio::spawn(async move {
                    builder.serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
        Self { address, go, waits }
    }

    /// Waits until what is counted is as wanted.
    pub(super) async fn until(&mut self, wanted: impl Fn(&Waits) -> bool) {
        let seen = self.waits.wait_for(|waits| wanted(waits));
        tokio::time::timeout(Duration::from_secs(5), seen).await.unwrap().unwrap();
    }
}

/// Counts a call that is given up.
struct Guard(Arc<watch::Sender<Waits>>, bool);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.send_modify(|waits| if self.1 { waits.answered += 1 } else { waits.dropped += 1 });
    }
}

async fn answer(
    request: Request<Incoming>,
    go: Arc<Semaphore>,
    waits: Arc<watch::Sender<Waits>>,
) -> Result<Response<Body>, Infallible> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let message: Value = serde_json::from_slice(&body).unwrap();
    let result = |text: &str| {
        json!({"jsonrpc": "2.0", "id": message["id"], "result": {
            "resultType": "complete", "content": [{"type": "text", "text": text}]
        }})
        .to_string()
    };
    match message["params"]["name"].as_str() {
        Some("echo") => Ok(whole(result(&message["params"]["arguments"].to_string()))),
        Some("wait") => {
            waits.send_modify(|waits| waits.begun += 1);
            let mut guard = Guard(waits, false);
            go.acquire().await.unwrap().forget();
            guard.1 = true;
            Ok(whole(result("waited")))
        }
        // More than sockets and queues hold.
        Some("flood") => {
            let (tx, rx) = mpsc::channel(4);
            let token = message["params"]["_meta"]["progressToken"].clone();
            let last = result("done");
            let filling = "x".repeat(4000);
            tokio::spawn(async move {
                for progress in 1..=FLOOD {
                    let event = json!({"jsonrpc": "2.0", "method": "notifications/progress",
                        "params": {"progressToken": token, "progress": progress, "message": filling}});
                    tx.send(Ok(Frame::data(format!("data: {event}\n\n").into()))).await.ok();
                }
                tx.send(Ok(Frame::data(format!("data: {last}\n\n").into()))).await.ok();
                waits.send_modify(|waits| waits.answered += 1);
            });
            let mut response = Response::new(Either::Right(StreamBody::new(rx.into())));
            response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
            Ok(response)
        }
        Some("progress") => {
            let (tx, rx) = mpsc::channel(4);
            let token = message["params"]["_meta"]["progressToken"].clone();
            let last = result("done");
            tokio::spawn(async move {
                for progress in 1..=2 {
                    let event = json!({"jsonrpc": "2.0", "method": "notifications/progress",
                        "params": {"progressToken": token, "progress": progress}});
                    tx.send(Ok(Frame::data(format!("data: {event}\n\n").into()))).await.ok();
                    go.acquire().await.unwrap().forget();
                }
                tx.send(Ok(Frame::data(format!("data: {last}\n\n").into()))).await.ok();
            });
            let mut response = Response::new(Either::Right(StreamBody::new(rx.into())));
            response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
            Ok(response)
        }
        _ => Ok(whole(
            json!({"jsonrpc": "2.0", "id": message["id"],
            "error": {"code": -32601, "message": "no"}})
            .to_string(),
        )),
    }
}

fn whole(text: String) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(text.into())));
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}
