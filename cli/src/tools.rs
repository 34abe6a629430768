//! `tools list|call`: through a proxy, over MCP, as every client does.

use std::time::Duration;

use data_plane::client::{ClientError, McpClient};
use proto::{Secret, proxy::STDIO_HOST, tool::Definition, wire};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    args::{Format, ToolsCommand},
    client::{Client, retrying},
    commands::{Context, all_proxies},
    failure::{Detail, Exit, Failure},
    inputs,
    output::Row,
};

/// JSON-RPC "invalid params": what MCP answers for a tool that is not there.
const INVALID_PARAMS: i64 = -32602;

pub(crate) async fn run(context: &Context, command: ToolsCommand) -> Result<(), Failure> {
    match command {
        ToolsCommand::List { server } => {
            let mcp = connect(context, server.as_deref()).await?;
            let tools = in_time(context, mcp.list_tools()).await?;
            let rows = tools.into_iter().filter_map(ToolRow::new).collect::<Vec<_>>();
            context.output.list(&rows, "tools")
        }
        ToolsCommand::Call { name, args, server } => {
            let arguments = inputs::json("--args", Some(&args))?;
            let mcp = connect(context, server.as_deref()).await?;
            show(context, &in_time(context, mcp.call_tool(&name, &arguments)).await?)
        }
    }
}

/// Calls may take long: only a limit that was asked for ends one.
async fn in_time<T>(
    context: &Context,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, Failure> {
    let done = match context.global.timeout {
        None => work.await,
        Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds), work)
            .await
            .map_err(|_| Failure::timeout(format!("no answer within {seconds} s")))?,
    };
    done.map_err(|error| failed(&error))
}

/// A client of a proxy that runs what the control plane knows now.
async fn connect(context: &Context, server: Option<&str>) -> Result<McpClient, Failure> {
    let client = context.client().await?;
    let status = retrying(|| {
        let mut operations = client.operations();
        async move { operations.get_status(wire::GetStatusRequest {}).await }
    })
    .await?;
    let proxy = until_current(&client, status.revision).await?;
    let request = wire::IssueAccessTokenRequest { lifetime_seconds: 0 };
    let issued = retrying(|| {
        let mut identity = client.identity();
        async move { identity.issue_access_token(request).await }
    })
    .await?;
    let base = proxy.advertise_address.trim_end_matches('/');
    let url = match server {
        None => format!("{base}/mcp"),
        Some(server) => format!("{base}/servers/{server}/mcp"),
    };
    McpClient::connect(&url, Some(&Secret::from(issued.access_token)))
        .map_err(|error| failed(&error))
}

/// A connected proxy that has applied `revision`, preferably one that can call every tool.
async fn until_current(client: &Client, revision: u64) -> Result<wire::Proxy, Failure> {
    let mut pause = Duration::from_millis(20);
    loop {
        let proxies = all_proxies(client).await?;
        let mut connected = proxies.into_iter().filter(|proxy| proxy.connected).collect::<Vec<_>>();
        // One that runs commands can call every tool.
        connected.sort_by_key(|proxy| !proxy.capabilities.iter().any(|name| name == STDIO_HOST));
        if let Some(index) = connected.iter().position(|proxy| proxy.applied_revision >= revision) {
            return Ok(connected.swap_remove(index));
        }
        if let Some(proxy) = connected.iter().find(|proxy| proxy.rejected_revision >= revision) {
            return Err(rejected(proxy));
        }
        if client.deadline().is_over() {
            let seconds = client.deadline().limit().as_secs();
            let message = if connected.is_empty() {
                format!("no proxy is connected (waited {seconds} s)")
            } else {
                format!("no proxy runs revision {revision} after {seconds} s")
            };
            return Err(Failure::timeout(message).hint("see `lockgate get proxies`"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

fn rejected(proxy: &wire::Proxy) -> Failure {
    let message = format!("proxy `{}` refused revision {}", proxy.id, proxy.rejected_revision);
    let mut failure = Failure::new(Exit::Unavailable, "rejected", message);
    failure.details = proxy
        .rejected_errors
        .iter()
        .map(|error| Detail {
            field: format!("{} {}", error.resource, error.field),
            message: error.message.clone(),
        })
        .collect();
    failure
}

fn failed(error: &ClientError) -> Failure {
    let (exit, code) = match error {
        ClientError::BadUrl(_) | ClientError::BadToken => (Exit::General, "internal"),
        ClientError::BadArguments => (Exit::Validation, "invalid"),
        ClientError::Failed(_) if error.is_unauthenticated() => {
            (Exit::Permission, "unauthenticated")
        }
        ClientError::Failed(_) => (Exit::Unavailable, "unavailable"),
        ClientError::Rpc { code, message } if *code == INVALID_PARAMS => {
            // One code for both; only a missing tool is about the name.
            if message.to_ascii_lowercase().contains("unknown tool") {
                (Exit::NotFound, "not_found")
            } else {
                (Exit::Validation, "invalid")
            }
        }
        ClientError::Rpc { .. } => (Exit::Unavailable, "call_failed"),
    };
    let message = match error {
        ClientError::Rpc { code, message } => format!("{message} ({code})"),
        ClientError::BadUrl(_)
        | ClientError::BadToken
        | ClientError::BadArguments
        | ClientError::Failed(_) => crate::roles::one_line(error),
    };
    Failure::new(exit, code, message)
}

/// A tool as the client sees it: the object that came, and its first words.
#[derive(Serialize)]
#[serde(transparent)]
struct ToolRow {
    tool: Box<RawValue>,
    #[serde(skip)]
    name: String,
    #[serde(skip)]
    description: String,
}

impl ToolRow {
    fn new(text: String) -> Option<Self> {
        let tool = RawValue::from_string(text).ok()?;
        let definition = Definition::of(tool.get());
        let description = definition.description.unwrap_or_default();
        Some(Self { name: definition.name, description, tool })
    }
}

impl Row for ToolRow {
    const HEADERS: &'static [&'static str] = &["NAME", "DESCRIPTION"];

    fn cells(&self) -> Vec<String> {
        let first_line = self.description.lines().next().unwrap_or_default();
        vec![self.name.clone(), crate::view::shorten(first_line, 90)]
    }

    fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallResult<'a> {
    #[serde(borrow, default)]
    content: Vec<&'a RawValue>,
    #[serde(borrow)]
    structured_content: Option<&'a RawValue>,
    #[serde(default)]
    is_error: bool,
}

/// The result on stdout; a tool that reported an error ends with exit code 1.
fn show(context: &Context, text: &str) -> Result<(), Failure> {
    let result: CallResult<'_> = serde_json::from_str(text)
        .map_err(|error| Failure::unavailable(format!("the result is no tool result: {error}")))?;
    match context.output.format() {
        Format::Json | Format::Yaml => context.output.json(text)?,
        Format::Table | Format::Name => context.output.text(&readable(&result))?,
    }
    if result.is_error {
        return Err(Failure::new(Exit::General, "tool_error", "the tool reported an error"));
    }
    Ok(())
}

/// Texts as they are, everything else as JSON, one below the other.
fn readable(result: &CallResult<'_>) -> String {
    #[derive(Deserialize)]
    struct Text {
        r#type: String,
        text: String,
    }
    let mut lines = Vec::new();
    for content in &result.content {
        match serde_json::from_str::<Text>(content.get()) {
            Ok(text) if text.r#type == "text" => lines.push(text.text),
            Ok(_) | Err(_) => lines.push(content.get().to_owned()),
        }
    }
    if lines.is_empty() {
        lines.extend(result.structured_content.map(|value| value.get().to_owned()));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        readable(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn texts_are_shown_as_they_are_and_the_rest_as_json() {
        let text =
            r#"{"content":[{"type":"text","text":"Echo: hi"},{"type":"image","data":"aa"}]}"#;
        assert_eq!(shown(text), "Echo: hi\n{\"type\":\"image\",\"data\":\"aa\"}");
        assert_eq!(shown(r#"{"content":[],"structuredContent":{"a":1}}"#), r#"{"a":1}"#);
    }

    #[test]
    fn a_missing_tool_is_not_found_and_wrong_arguments_are_invalid() {
        let exit = |code, message: &str| {
            failed(&ClientError::Rpc { code, message: message.to_owned() }).exit as u8
        };
        assert_eq!(exit(-32602, "Unknown tool: x"), 3);
        assert_eq!(exit(-32602, "arguments: `a` is required"), 7);
        assert_eq!(exit(-32603, "upstream is down"), 6);
    }
}
