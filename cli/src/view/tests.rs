//! What is shown, and that it can be applied again.

use super::*;

fn upstream() -> wire::Upstream {
    let stdio = wire::StdioTransport {
        command: "uvx".to_owned(),
        args: vec!["mcp-server-time".to_owned()],
        ..Default::default()
    };
    wire::Upstream {
        id: "u1".to_owned(),
        name: "time".to_owned(),
        transport: Some(wire::upstream::Transport::Stdio(stdio)),
        status: Some(wire::UpstreamStatus {
            phase: wire::UpstreamPhase::Failed.into(),
            reason: wire::FailureReason::Spawn.into(),
            message: "no such file".to_owned(),
            ..Default::default()
        }),
        resource_version: 7,
        create_time_ms: 1_700_000_000_000,
        update_time_ms: 1_700_000_000_000,
        ..Default::default()
    }
}

#[test]
fn a_row_tells_why_an_upstream_failed() {
    let view = UpstreamView::from(upstream());
    assert_eq!(view.cells(), ["time", "failed (spawn)", "0", "-", "uvx mcp-server-time"]);
}

#[test]
fn what_get_writes_apply_reads() {
    let view = serde_json::to_string(&UpstreamView::from(upstream())).unwrap();
    let objects = crate::manifest::parse(&view).unwrap();
    let Some(wire::object::Kind::Upstream(read)) = &objects[0].kind else { panic!() };
    assert_eq!(read.transport, upstream().transport);
    assert_eq!(read.resource_version, 7);

    let server = wire::VirtualServer {
        name: "dev".to_owned(),
        tools: vec!["a".to_owned()],
        naming: wire::Naming::Bare.into(),
        ..Default::default()
    };
    let view = serde_json::to_string(&ServerView::from(server.clone())).unwrap();
    let objects = crate::manifest::parse(&view).unwrap();
    assert_eq!(objects[0].kind, Some(wire::object::Kind::VirtualServer(server)));
}

#[test]
fn schemas_are_shown_as_they_are() {
    let tool = wire::Tool {
        name: "t".to_owned(),
        input_schema: r#"{"type":"object","properties":{"z":{"maximum":1e2},"a":{}}}"#.to_owned(),
        rest: Some(wire::RestBinding {
            url: "http://h/".to_owned(),
            method: "GET".to_owned(),
            headers: [].into(),
        }),
        ..Default::default()
    };
    let text = serde_json::to_string(&ToolView::from(tool)).unwrap();
    assert!(text.contains(r#""properties":{"z":{"maximum":1e2},"a":{}}"#), "{text}");
}
