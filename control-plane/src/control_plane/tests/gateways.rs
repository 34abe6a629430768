//! `/gateways`, with a proxy that reads catalogs.

use super::{proxy, *};

const GIT: &str = r#"{"name":"git_server","url":"http://localhost:9000/mcp"}"#;

#[tokio::test]
async fn example_6_git_server() {
    let fixture = Fixture::start().await;
    let router = fixture.control_plane.management();
    proxy::connect(&fixture, proxy::catalog("git_status"));
    let (status, gateway) = ask(&router, BASIC, ("POST", "/gateways"), GIT).await;
    assert_eq!(status, 200, "{gateway}");
    for (field, value) in [
        ("name", "git_server".into()),
        ("slug", "git-server".into()),
        ("url", "http://localhost:9000/mcp".into()),
        ("transport", "STREAMABLEHTTP".into()),
        ("enabled", true.into()),
        ("reachable", true.into()),
        ("authType", Value::Null),
    ] {
        assert_eq!(gateway[field], value, "{field}");
    }
    assert!(gateway["lastSeen"].is_string());

    let (_, tools) = ask(&router, BASIC, ("GET", "/tools"), "").await;
    let tool = &tools[0];
    for (field, value) in [
        ("name", "git-server-git-status"),
        ("originalName", "git_status"),
        ("gatewaySlug", "git-server"),
        ("integrationType", "MCP"),
    ] {
        assert_eq!(tool[field], value, "{field}");
    }
    assert_eq!(tool["gatewayId"], gateway["id"]);
    assert_eq!(tool["reachable"], true);

    let (status, answer) = ask(&router, BASIC, ("POST", "/gateways"), GIT).await;
    assert_eq!((status.as_u16(), &answer["message"]), (409, &"Gateway name already exists".into()));
    let path = format!("/gateways/{}", gateway["id"].as_str().unwrap());
    assert_eq!(ask(&router, BASIC, ("GET", &path), "").await.1["name"], "git_server");
    assert_eq!(ask(&router, BASIC, ("DELETE", &path), "").await.0, 200);
    let (_, tools) = ask(&router, BASIC, ("GET", "/tools"), "").await;
    assert_eq!(tools, serde_json::json!([]), "the tools go with their gateway");
    fixture.stop().await;
}

#[tokio::test]
async fn a_gateway_that_cannot_be_reached_does_not_stay() {
    let fixture = Fixture::start().await;
    let router = fixture.control_plane.management();
    proxy::connect(&fixture, proxy::refused());
    let body = r#"{"gateway":{"name":"Down!","url":"http://localhost:9/mcp",
        "authType":"basic","authUsername":"bob","authPassword":"s3cret"}}"#;
    let (status, answer) = ask(&router, BASIC, ("POST", "/gateways/"), body).await;
    assert_eq!(status, 503, "{answer}");
    assert_eq!(answer["message"], "Unable to connect to gateway");
    assert_eq!(answer["detail"], "connect: connection refused");
    let (_, listed) = ask(&router, BASIC, ("GET", "/gateways?include_inactive=true"), "").await;
    assert_eq!(listed, serde_json::json!([]));
    fixture.stop().await;
}

#[tokio::test]
async fn a_connected_proxy_is_listed_with_what_it_applied() {
    use proto::wire;
    use tonic::{Request, transport::Endpoint};
    let fixture = Fixture::start().await;
    proxy::connect(&fixture, proxy::refused());
    let router = fixture.control_plane.local();
    let stop = fixture.control_plane.stopped();
    let tasks = fixture.control_plane.tasks.clone();
    let channel = Endpoint::from_static("http://local").connect_with_connector_lazy(
        tower::service_fn(move |_: http::Uri| {
            let (near, far) = tokio::io::duplex(65_536);
            tasks.detach(crate::server::serve_connection(far, router.clone(), stop.clone()));
            async { Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(near)) }
        }),
    );
    let mut client = wire::operations_client::OperationsClient::new(channel);
    let proxies = loop {
        let request = Request::new(wire::ListProxiesRequest::default());
        let listed = client.list_proxies(request).await.unwrap().into_inner();
        if listed.proxies.first().is_some_and(|proxy| proxy.applied_revision == listed.revision) {
            break listed.proxies;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!(proxies[0].id, "p1");
    assert!(proxies[0].connected);
    let status = client.get_status(Request::new(wire::GetStatusRequest {})).await.unwrap();
    assert_eq!(status.get_ref().proxies_connected, 1);
    assert_eq!(status.get_ref().database, "sqlite");
    fixture.stop().await;
}
