//! What is not MCP goes to the control plane, over HTTP/1 and, for gRPC, HTTP/2.

use std::{convert::Infallible, net::TcpListener};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};

use super::harness::{ask, config};
use crate::{
    Config, DataPlane,
    config::Management,
    forward::{ClientAddress, ForwardedBody, ManagementService},
};

/// Answers with what it was asked.
async fn told(request: Request<ForwardedBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8_lossy(&body);
    let client = parts.extensions.get::<ClientAddress>().map(|address| address.0.ip());
    let text = format!("{} {} {body} {client:?}", parts.method, parts.uri.path());
    Ok(Response::new(Full::new(text.into())))
}

fn in_process() -> Config {
    let service = ManagementService::new(tower::service_fn(told));
    Config {
        management: Management::InProcess(service),
        root_path: "/gateway".to_owned(),
        ..config()
    }
}

const TOOLS: &str =
    "POST /gateway/tools HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\nhi";

#[test]
fn management_paths_reach_a_control_plane_in_the_same_process() {
    let proxy = DataPlane::start(in_process()).unwrap();
    assert_eq!(ask(&proxy, TOOLS).1, "POST /tools hi Some(127.0.0.1)");
    proxy.stop();
}

#[test]
fn management_paths_reach_a_control_plane_elsewhere() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
                told(request.map(|body| body.map_err(Into::into).boxed_unsync()))
            });
            tokio::spawn(async move {
                hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .ok();
            });
        }
    });
    let base = format!("http://{address}").parse().unwrap();
    let proxy =
        DataPlane::start(Config { management: Management::Remote(base), ..in_process() }).unwrap();
    assert_eq!(ask(&proxy, TOOLS).1, "POST /tools hi None");
    assert_eq!(runtime.block_on(grpc(&proxy)), "POST /lockgate.v1.Registry/GetTool hi None");
    proxy.stop();
}

#[test]
fn grpc_is_taken_over_http2_whatever_its_path() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let proxy = DataPlane::start(in_process()).unwrap();
    let answer = runtime.block_on(grpc(&proxy));
    assert_eq!(answer, "POST /lockgate.v1.Registry/GetTool hi Some(127.0.0.1)");
    proxy.stop();
}

async fn grpc(proxy: &DataPlane) -> String {
    let client: Client<_, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let address = proxy.addresses()[0];
    let request = Request::post(format!("http://{address}/lockgate.v1.Registry/GetTool"))
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::from_static(b"hi")))
        .unwrap();
    let response = client.request(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[test]
fn an_unreachable_control_plane_is_502_and_no_forwarding_is_404() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let base = format!("http://{dead}").parse().unwrap();
    for (management, status) in [(Management::Remote(base), "502"), (Management::Off, "404")] {
        let proxy = DataPlane::start(Config { management, ..in_process() }).unwrap();
        let (head, body) = ask(&proxy, TOOLS);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert!(body.starts_with("{\"detail\":"), "{body}");
        proxy.stop();
    }
}

#[test]
fn ops_listeners_serve_probes_and_open_metrics_and_nothing_else() {
    let ops = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = ops.local_addr().unwrap();
    let proxy = DataPlane::start(Config { ops_listeners: vec![ops], ..in_process() }).unwrap();
    for (path, status) in [
        ("/health", "200"),
        ("/ready", "503"),
        ("/metrics", "200"),
        ("/tools", "404"),
        ("/mcp", "404"),
    ] {
        let mut connection = super::harness::Connection::open(address);
        connection.send(format!("GET {path} HTTP/1.1\r\nhost: any.example\r\n\r\n"));
        let (head, _) = connection.answer();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head}");
    }
    proxy.stop();
}
