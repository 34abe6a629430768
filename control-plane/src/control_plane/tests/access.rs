//! Every method × every role: who is refused where.

use std::time::Duration;

use prost::Message as _;
use proto::{
    Role,
    wire::{self, reports_client::ReportsClient, sync_client::SyncClient},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::{
    api,
    caller::Caller,
    identity::{
        ProxyCaller,
        tokens::{TokenDraft, TokenOptions},
    },
};

/// What a caller (not an administrator) may use.
const FOR_CALLERS: [&str; 3] = [
    "/lockgate.v1.Identity/GetCaller",
    "/lockgate.v1.Identity/IssueAccessToken",
    "/lockgate.v1.Operations/GetVersion",
];
/// Services for proxies, on another port.
const FOR_PROXIES: [&str; 2] = ["Sync", "Reports"];

const OK: &str = "0";
const INVALID_ARGUMENT: &str = "3";
const PERMISSION_DENIED: &str = "7";
const UNIMPLEMENTED: &str = "12";
const UNAUTHENTICATED: &str = "16";

fn methods() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(wire::DESCRIPTOR).unwrap();
    let services = files.file.iter().filter(|file| file.package() == "lockgate.v1");
    let services = services.flat_map(|file| &file.service);
    let services = services.filter(|service| !FOR_PROXIES.contains(&service.name()));
    services
        .flat_map(|service| {
            let path = |name: &str| format!("/lockgate.v1.{}/{name}", service.name());
            service.method.iter().map(move |method| path(method.name()))
        })
        .collect()
}

/// Calls a method with an empty message; gives the gRPC code.
async fn code(router: &Router, path: &str, authorization: Option<&str>) -> String {
    let mut request = Request::builder()
        .method("POST")
        .uri(path)
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let empty_message: &[u8] = &[0, 0, 0, 0, 0];
    let response = send(router, request.body(Body::from(empty_message)).unwrap()).await;
    assert_eq!(response.status(), 200, "gRPC refuses in trailers, not in HTTP: {path}");
    let (head, body) = response.into_parts();
    let body = http_body_util::BodyExt::collect(body).await.unwrap();
    let trailers = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
    head.headers.get("grpc-status").or(trailers).unwrap().to_str().unwrap().to_owned()
}

async fn bearer(fixture: &Fixture, name: &str, role: Role) -> String {
    let draft = TokenDraft {
        name: name.parse().unwrap(),
        subject: name.to_owned(),
        role,
        expire_time_ms: None,
    };
    let admin = Caller::local_admin("admin");
    let identity = &fixture.control_plane.services.identity;
    let made = identity.create_token(&admin, draft, TokenOptions::default()).await.unwrap();
    format!("Bearer {}", made.secret.expose())
}

#[tokio::test]
async fn every_method_asks_who_calls_and_what_they_may() {
    let fixture = Fixture::start().await;
    let router = fixture.control_plane.management();
    let caller = bearer(&fixture, "caller", Role::Caller).await;
    let admin = bearer(&fixture, "admin", Role::Admin).await;
    let methods = methods();
    assert!(methods.len() > 20, "the descriptor lists the methods: {methods:?}");
    for path in &methods {
        assert_eq!(code(&router, path, None).await, UNAUTHENTICATED, "anonymous: {path}");
        assert_eq!(code(&router, path, Some("Bearer lg_no")).await, UNAUTHENTICATED, "{path}");
        let as_caller = code(&router, path, Some(&caller)).await;
        if FOR_CALLERS.contains(&path.as_str()) {
            assert_eq!(as_caller, OK, "caller: {path}");
        } else {
            assert_eq!(as_caller, PERMISSION_DENIED, "caller: {path}");
        }
        let as_admin = code(&router, path, Some(&admin)).await;
        assert!(
            ![PERMISSION_DENIED, UNAUTHENTICATED, UNIMPLEMENTED].contains(&as_admin.as_str()),
            "admin: {path} gave {as_admin}"
        );
    }
    let create = "/lockgate.v1.Registry/CreateUpstream";
    assert_eq!(code(&router, create, Some(&admin)).await, INVALID_ARGUMENT);
    fixture.stop().await;
}

#[tokio::test]
async fn proxies_services_are_not_on_the_management_port() {
    let fixture = Fixture::start().await;
    let router = fixture.control_plane.management();
    for path in ["/lockgate.v1.Sync/Enroll", "/lockgate.v1.Sync/Sync", "/nonsense/Method"] {
        assert_eq!(code(&router, path, Some(BASIC)).await, UNIMPLEMENTED, "{path}");
    }
    assert_eq!(code(&router, "/grpc.health.v1.Health/Check", None).await, OK);
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    assert_eq!(code(&router, reflection, None).await, UNAUTHENTICATED);
    fixture.stop().await;
}

#[tokio::test]
async fn every_rest_route_asks_who_calls_and_what_they_may() {
    let fixture = Fixture::start().await;
    let router = fixture.control_plane.management();
    let caller = bearer(&fixture, "caller", Role::Caller).await;
    let named = r#"{"name":"x","url":"http://127.0.0.1:1/"}"#;
    let requests = [
        ("GET", "/version", ""),
        ("GET", "/tools", ""),
        ("POST", "/tools/", named),
        ("GET", "/tools/x", ""),
        ("DELETE", "/tools/x", ""),
        ("GET", "/gateways/", ""),
        ("POST", "/gateways", named),
        ("GET", "/gateways/x", ""),
        ("DELETE", "/gateways/x", ""),
        ("GET", "/servers", ""),
        ("POST", "/servers", named),
        ("GET", "/servers/x", ""),
        ("DELETE", "/servers/x/", ""),
    ];
    for (method, path, body) in requests {
        let (status, answer) = ask(&router, "", (method, path), body).await;
        assert_eq!(status, 401, "anonymous: {method} {path}");
        assert!(answer["detail"].is_string(), "{answer}");
        let (status, _) = ask(&router, &caller, (method, path), body).await;
        assert_eq!(status, 403, "caller: {method} {path}");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn a_revoked_proxy_loses_the_streams_that_it_has_open() {
    let fixture = Fixture::start().await;
    let sync = fixture.control_plane.sync.clone();
    let admin = Caller::local_admin("ada");
    let (token, _) = sync.identity.create_join_token(&admin, 60).await.unwrap();
    sync.identity.enroll(token.expose(), "p1", "").await.unwrap();
    let caller = ProxyCaller::Enrolled { proxy_id: "p1".to_owned() };
    let router = api::sync::routes(sync.clone()).layer(axum::Extension(caller));

    let (reporting, messages) = mpsc::channel(4);
    let hello = wire::ReportHello { proxy_id: "p1".to_owned(), boot_epoch: 1 };
    let hello = wire::report_message::Message::Hello(hello);
    reporting.send(wire::ReportMessage { message: Some(hello) }).await.unwrap();
    let reports = ReportsClient::new(router.clone()).report(ReceiverStream::new(messages)).await;
    let mut reports = reports.unwrap().into_inner();
    let early = tokio::time::timeout(Duration::from_millis(100), reports.message()).await;
    assert!(early.is_err(), "it is served: {early:?}");

    // It has not said hello yet.
    let (following, messages) = mpsc::channel(4);
    let follow = SyncClient::new(router).sync(ReceiverStream::new(messages)).await;
    sync.peers.revoke(&admin, "p1").await.unwrap();
    let hello = wire::Hello { proxy_id: "p1".to_owned(), boot_epoch: 1, ..Default::default() };
    let hello = wire::proxy_message::Message::Hello(hello);
    following.send(wire::ProxyMessage { message: Some(hello) }).await.unwrap();
    let told = follow.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(told.code(), tonic::Code::Unauthenticated);
    let told = reports.message().await.unwrap_err();
    assert_eq!(told.code(), tonic::Code::Unauthenticated);
    assert!(sync.fleet.list().await.unwrap().is_empty());
    drop(reporting);
    fixture.stop().await;
}
