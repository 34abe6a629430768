//! REST tools against a real server that says what it got.

use std::collections::BTreeMap;

use proto::{
    RestMethod, Secret,
    resource::{ToolResource, ToolTarget},
};

use super::*;
use crate::upstream::testing::{
    Body, Proxy, Seen, answer, entry, json, legacy_call, modern_call, serve, tool,
};

struct Case<'a> {
    method: RestMethod,
    path: &'a str,
    schema: &'a str,
    output: &'a str,
}

const ANY: Case<'static> =
    Case { method: RestMethod::Get, path: "/x", schema: r#"{"type":"object"}"#, output: "" };

fn echo(seen: Seen) -> http::Response<Body> {
    let said =
        format!("{} {} {} {}", seen.method, seen.uri, seen.header("content-type"), seen.body);
    match seen.uri.split('?').next().unwrap_or_default() {
        "/missing" => answer(404, "text/plain", "no such thing"),
        "/moved" => answer(302, "", ""),
        "/empty" => answer(204, "", ""),
        "/object" => json(r#"{ "a": 1.0 }"#),
        "/headers" => answer(
            200,
            "text/plain",
            format!(
                "{} {} {}",
                seen.header("x-static"),
                seen.header("x-key"),
                seen.header("cookie")
            ),
        ),
        _ => answer(200, "text/plain", said.trim().to_owned()),
    }
}

/// Calls a tool bound to `case` on a real server.
async fn call(case: Case<'_>, arguments: &str, era: Era) -> String {
    let address = serve(echo).await;
    let binding = RestBinding {
        url: format!("http://{address}{}", case.path),
        method: case.method,
        headers: BTreeMap::from([("x-static".to_owned(), "fix".to_owned())]),
    };
    let output = case.output;
    let resource = ToolResource {
        target: ToolTarget::Rest { binding, credential_id: Some("c1".to_owned()) },
        definition: format!(r#"{{"name":"up-do","inputSchema":{}{output}}}"#, case.schema),
        ..tool()
    };
    let credential = CredentialResource {
        id: "c1".to_owned(),
        headers: [("x-key".to_owned(), Secret::from("secret"))].into(),
    };
    let proxy = Proxy::with(Vec::new(), vec![credential]);
    let call = match era {
        Era::Legacy => legacy_call("1", arguments),
        Era::Modern => modern_call("1", arguments),
    };
    proxy.run(Call { target: crate::target::Target::tool(entry(resource)), ..call }).await.remove(0)
}

/// The text of a legacy result, marked if it is an error.
async fn text(case: Case<'_>, arguments: &str) -> String {
    let answer = call(case, arguments, Era::Legacy).await;
    let answer: serde_json::Value =
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"));
    let text = answer["result"]["content"][0]["text"].as_str().unwrap().to_owned();
    if answer["result"]["isError"] == true { format!("error: {text}") } else { text }
}

#[tokio::test]
async fn each_method_sends_its_arguments_in_its_place() {
    let case = |method, path| Case { method, path, ..ANY };
    let arguments = r#"{"id":"a b","n":1.50}"#;
    let sent = async |method, path| text(case(method, path), arguments).await;
    assert_eq!(sent(RestMethod::Get, "/u/{id}").await, "GET /u/a%20b?n=1.50");
    assert_eq!(sent(RestMethod::Delete, "/u/{id}").await, "DELETE /u/a%20b?n=1.50");
    let body = |line: &str| format!("{line} application/json {arguments}");
    assert_eq!(sent(RestMethod::Post, "/u").await, body("POST /u"));
    assert_eq!(sent(RestMethod::Put, "/u").await, body("PUT /u"));
    let rest = r#"PATCH /u/a%20b application/json {"n":1.50}"#;
    assert_eq!(sent(RestMethod::Patch, "/u/{id}").await, rest);
}

#[tokio::test]
async fn what_the_server_refuses_is_a_tool_error_with_status_and_body() {
    let case = |path| Case { path, ..ANY };
    assert_eq!(text(case("/missing"), "{}").await, "error: HTTP 404 Not Found\nno such thing");
    assert_eq!(text(case("/moved"), "{}").await, "error: HTTP 302 Found");
    assert_eq!(text(case("/empty"), "{}").await, "");
}

#[tokio::test]
async fn wrong_arguments_never_leave_the_proxy() {
    let schema = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;
    let case = || Case { schema, ..ANY };
    assert_eq!(text(case(), "{}").await, "error: \"city\" is a required property");
    let wrong = text(case(), r#"{"city":5}"#).await;
    assert_eq!(wrong, "error: argument `city`: 5 is not of type \"string\"");
    let broken = Case { schema: r#"{"type":"object","properties":{"a":{"type":7}}}"#, ..ANY };
    assert!(text(broken, "{}").await.contains("input schema cannot be used"));
}

#[tokio::test]
async fn headers_are_the_tools_and_the_credentials_only() {
    assert_eq!(text(Case { path: "/headers", ..ANY }, "{}").await, "fix secret ");
}

#[tokio::test]
async fn objects_are_structured_where_a_schema_promises_it() {
    let plain = call(Case { path: "/object", ..ANY }, "{}", Era::Legacy).await;
    assert_eq!(
        plain,
        r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"{ \"a\": 1.0 }"}],"isError":false}}"#
    );
    let output = r#","outputSchema":{"type":"object"}"#;
    let structured = call(Case { path: "/object", output, ..ANY }, "{}", Era::Modern).await;
    assert!(structured.contains(r#""structuredContent":{ "a": 1.0 }"#), "{structured}");
    assert!(structured.contains(r#""resultType":"complete","_meta":{"#), "{structured}");
}
