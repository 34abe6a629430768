//! ContextForge's examples (contextforge.md §2.13), as far as no proxy is needed.

use super::*;

const CLOCK: &str = r#"{"name":"clock_tool","url":"http://localhost:9000/rpc",
    "description":"Returns current time","input_schema":{"type":"object",
    "properties":{"timezone":{"type":"string"}},"required":[]}}"#;

#[tokio::test]
async fn example_1_version() {
    let fixture = Fixture::start().await;
    let router = fixture.control_plane.management();
    let (status, answer) = ask(&router, BASIC, ("GET", "/version"), "").await;
    assert_eq!(status, 200);
    assert_eq!(answer["app"]["name"], "Lockgate");
    assert_eq!(answer["app"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(answer["database"]["dialect"], "sqlite");
    assert_eq!(answer["database"]["reachable"], true);
    assert_eq!(answer["uptime_seconds"], 0);
    for part in ["timestamp", "host", "platform", "redis", "settings", "env", "system"] {
        assert!(!answer[part].is_null(), "{part} is missing");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn example_2_initialize() {
    let fixture = Fixture::start().await;
    let router = fixture.control_plane.management();
    let path = ("POST", "/protocol/initialize");
    let body = r#"{"protocol_version":"2025-03-26","capabilities":{},
        "client_info":{"name":"MyClient","version":"1.0.0"}}"#;
    let (status, answer) = ask(&router, BASIC, path, body).await;
    assert_eq!(status, 200);
    assert_eq!(answer["protocolVersion"], "2025-03-26");
    assert_eq!(answer["capabilities"]["resources"]["subscribe"], true);
    assert_eq!(answer["serverInfo"]["name"], "Lockgate");
    let camel = r#"{"protocolVersion":"1999-01-01"}"#;
    let (_, answer) = ask(&router, BASIC, path, camel).await;
    assert_eq!(answer["protocolVersion"], "2025-11-25");
    let (status, answer) = ask(&router, BASIC, path, "{}").await;
    assert_eq!((status.as_u16(), &answer["detail"]), (400, &"Missing protocol version".into()));
    fixture.stop().await;
}

#[tokio::test]
async fn examples_3_and_4_clock_tool_and_list() {
    let fixture = Fixture::start().await;
    let router = fixture.control_plane.management();
    let (status, answer) = ask(&router, BASIC, ("GET", "/tools"), "").await;
    assert_eq!((status.as_u16(), answer), (200, serde_json::json!([])));

    let (status, tool) = ask(&router, BASIC, ("POST", "/tools"), CLOCK).await;
    assert_eq!(status, 200, "{tool}");
    for (field, value) in [
        ("name", "clock_tool".into()),
        ("originalName", "clock_tool".into()),
        ("url", "http://localhost:9000/rpc".into()),
        ("integrationType", "REST".into()),
        ("requestType", "POST".into()),
        ("enabled", true.into()),
        ("reachable", true.into()),
        ("gatewayId", Value::Null),
        ("auth", Value::Null),
        ("createdAt", "2027-01-15T08:00:00Z".into()),
    ] {
        assert_eq!(tool[field], value, "{field}");
    }
    assert_eq!(tool["inputSchema"]["properties"]["timezone"]["type"], "string");
    assert_eq!(tool["metrics"]["totalExecutions"], 0);

    let (_, listed) = ask(&router, BASIC, ("GET", "/tools/"), "").await;
    assert_eq!(listed, serde_json::json!([tool]));
    let (status, answer) = ask(&router, BASIC, ("POST", "/tools"), CLOCK).await;
    assert_eq!(status, 409);
    assert_eq!(answer["detail"], "Tool already exists with name: clock_tool");
    let id = tool["id"].as_str().unwrap();
    let path = format!("/tools/{id}");
    assert_eq!(ask(&router, BASIC, ("GET", &path), "").await.1, tool);
    let (_, gone) = ask(&router, BASIC, ("DELETE", &path), "").await;
    assert_eq!(gone["status"], "success");
    let (status, answer) = ask(&router, BASIC, ("GET", &path), "").await;
    assert_eq!(status, 404);
    assert_eq!(answer["detail"], format!("Tool not found: {id}"));
    fixture.stop().await;
}

#[tokio::test]
async fn tools_are_taken_in_every_spelling_and_secrets_never_come_back() {
    let fixture = Fixture::start().await;
    let router = fixture.control_plane.management();
    let body = r#"{"tool":{"name":"My Tool!","url":"http://h.example/x","requestType":"get",
        "integrationType":"REST","inputSchema":{"type":"object","x":1.0},"tags":"a, b",
        "authType":"bearer","authToken":"s3cret"},"team_id":null}"#;
    let (status, tool) = ask(&router, BASIC, ("POST", "/tools"), body).await;
    assert_eq!(status, 200, "{tool}");
    assert_eq!(tool["name"], "my-tool");
    assert_eq!(tool["displayName"], "My Tool!");
    assert_eq!(tool["requestType"], "GET");
    assert_eq!(tool["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(tool["auth"]["authToken"], "*****");
    assert!(!tool.to_string().contains("s3cret"));
    let (_, listed) = ask(&router, BASIC, ("GET", "/tools?tags=b"), "").await;
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let (_, listed) = ask(&router, BASIC, ("GET", "/tools?tags=c"), "").await;
    assert_eq!(listed, serde_json::json!([]));
    fixture.stop().await;
}

#[tokio::test]
async fn bad_bodies_are_422_with_the_field() {
    let fixture = Fixture::start().await;
    let router = fixture.control_plane.management();
    for (path, body, field) in [
        ("/tools", r#"{"url":"http://h/"}"#, "name"),
        ("/tools", r#"{"name":"x"}"#, "url"),
        ("/tools", r#"{"name":"x","url":"ftp://h/"}"#, "url"),
        ("/tools", r#"{"name":"x","url":"http://h/","request_type":"BREW"}"#, "request_type"),
        (
            "/tools",
            r#"{"name":"x","url":"http://h/","integration_type":"MCP"}"#,
            "integration_type",
        ),
        ("/gateways", r#"{"name":"x","url":"http://h/","transport":"PIGEON"}"#, "transport"),
        ("/gateways", r#"{"name":"x","url":"http://h/","auth_type":"oauth"}"#, "auth_type"),
        ("/servers", r#"{"description":"x"}"#, "name"),
    ] {
        let (status, answer) = ask(&router, BASIC, ("POST", path), body).await;
        assert_eq!(status, 422, "{body}: {answer}");
        assert_eq!(answer["detail"][0]["loc"], serde_json::json!(["body", field]), "{body}");
    }
    let (status, answer) = ask(&router, BASIC, ("POST", "/tools"), "{").await;
    assert_eq!((status.as_u16(), &answer["detail"][0]["type"]), (422, &"json_invalid".into()));
    fixture.stop().await;
}

#[tokio::test]
async fn what_no_proxy_could_load_is_refused_and_leaves_nothing() {
    let fixture = Fixture::start().await;
    let router = fixture.control_plane.management();
    let long = "x".repeat(crate::snapshot::build::RESOURCE_MAX);
    let body = format!(
        r#"{{"name":"big","url":"http://h.example/x","inputSchema":{{"type":"object","title":"{long}"}}}}"#
    );
    let (status, answer) = ask(&router, BASIC, ("POST", "/tools"), &body).await;
    assert_eq!(status, 422, "{answer}");
    assert!(answer.to_string().contains("is larger than 1048576 bytes"), "{answer}");
    let (_, listed) = ask(&router, BASIC, ("GET", "/tools"), "").await;
    assert_eq!(listed, serde_json::json!([]));
    fixture.stop().await;
}

#[tokio::test]
async fn example_7_virtual_server() {
    let fixture = Fixture::start().await;
    let router = fixture.control_plane.management();
    let (_, tool) = ask(&router, BASIC, ("POST", "/tools"), CLOCK).await;
    let id = tool["id"].as_str().unwrap();
    let body = format!(
        r#"{{"server":{{"name":"development_tools","description":"Development and Git tools",
        "associatedTools":["{id}"]}}}}"#
    );
    let (status, server) = ask(&router, BASIC, ("POST", "/servers"), &body).await;
    assert_eq!(status, 201, "{server}");
    assert_eq!(server["associatedTools"], serde_json::json!([id]));
    assert_eq!(server["isActive"], true);
    let path = format!("/servers/{}", server["id"].as_str().unwrap());
    assert_eq!(ask(&router, BASIC, ("GET", &path), "").await.1, server);

    let unknown = r#"{"name":"other","associated_tools":"no-such-tool"}"#;
    let (status, answer) = ask(&router, BASIC, ("POST", "/servers"), unknown).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("no-such-tool"), "{answer}");
    let (status, _) = ask(&router, BASIC, ("DELETE", &path), "").await;
    assert_eq!(status, 200);
    fixture.stop().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_answer_in_json() {
    let fixture = Fixture::start().await;
    let router = fixture.control_plane.management();
    let (status, answer) = ask(&router, "", ("GET", "/nothing"), "").await;
    assert_eq!((status.as_u16(), &answer["detail"]), (404, &"Not Found".into()));
    let (status, answer) = ask(&router, BASIC, ("PATCH", "/tools"), "").await;
    assert_eq!((status.as_u16(), &answer["detail"]), (405, &"Method Not Allowed".into()));
    let (status, answer) = ask(&router, "", ("GET", "/health"), "").await;
    assert_eq!((status.as_u16(), &answer["status"]), (200, &"healthy".into()));
    let (_, answer) = ask(&router, "", ("GET", "/ready"), "").await;
    assert_eq!(answer["status"], "ready");
    fixture.stop().await;
}

#[tokio::test]
async fn the_socket_needs_no_login() {
    let fixture = Fixture::start().await;
    let (status, _) = ask(&fixture.control_plane.local(), "", ("GET", "/tools"), "").await;
    assert_eq!(status, 200);
    fixture.stop().await;
}
