//! The Rust SDK as a client of the matrix; it knows Streamable HTTP and commands.

#![expect(deprecated, reason = "what newer revisions deprecate, older ones still ask for")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientCapabilities, ClientRequest,
    CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult,
    ElicitationAction, GetPromptRequestParams, ProgressNotificationParam, ProtocolVersion,
    ReadResourceRequestParams, ResourceUpdatedNotificationParam, SamplingMessage,
    ServerNotification, SubscribeRequestParams, SubscriptionFilter,
};
use rmcp::service::{
    ClientLifecycleMode, ClientServiceExt, NotificationContext, PeerRequestOptions, RequestContext,
    RunningService, Subscription,
};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientHandler, ErrorData, RoleClient};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::{Endpoint, Job, Line, Transport};
use crate::client::http;

const PATIENCE: Duration = Duration::from_secs(15);
const SAMPLED: &str = "a model said this";
const ELICITED: &str = "a user wrote this";

/// What the client hears and answers.
#[derive(Clone, Default)]
struct Heard(Arc<Notices>);

#[derive(Default)]
struct Notices {
    progress: AtomicUsize,
    updated: Notify,
    changed: Notify,
}

impl ClientHandler for Heard {
    fn get_info(&self) -> rmcp::model::ClientConfig {
        let capabilities =
            ClientCapabilities::builder().enable_sampling().enable_elicitation().enable_roots();
        let about = rmcp::model::Implementation::new("interop", "1.0.0");
        rmcp::model::ClientConfig::new(capabilities.build(), about)
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let message = SamplingMessage::assistant_text(SAMPLED);
        Ok(CreateMessageResult::new(message, "none".to_owned()))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let mut answer = ElicitResult::new(ElicitationAction::Accept);
        if let ElicitRequestParams::FormElicitationParams { requested_schema, .. } = request {
            let schema = serde_json::to_value(requested_schema).unwrap_or_default();
            answer.content = Some(filled(&schema));
        }
        Ok(answer)
    }

    async fn on_progress(&self, _: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.0.progress.fetch_add(1, Ordering::SeqCst);
    }

    async fn on_resource_updated(
        &self,
        _: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.0.updated.notify_one();
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.0.changed.notify_one();
    }

    async fn on_resource_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.0.changed.notify_one();
    }
}

/// Fills a form: what is required, and the first text field.
fn filled(schema: &Value) -> Value {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let plain = |field: &Value| {
        field.get("type") == Some(&json!("string"))
            && field.get("enum").is_none()
            && field.get("format").is_none()
    };
    let text = properties.iter().find(|(_, field)| plain(field));
    let mut content: Map<String, Value> =
        text.map(|(name, _)| (name.clone(), json!(ELICITED))).into_iter().collect();
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        let field = properties.get(name);
        let value = match field.and_then(|field| field.get("type")).and_then(Value::as_str) {
            Some("boolean") => json!(true),
            Some("integer" | "number") => json!(1),
            _ => json!(ELICITED),
        };
        content.insert(name.to_owned(), value);
    }
    Value::Object(content)
}

/// Does the job.
pub(super) async fn run(job: &Job) -> Vec<Line> {
    let mut lines = Vec::new();
    for endpoint in &job.endpoints {
        let heard = Heard::default();
        let opened = tokio::time::timeout(PATIENCE, open(job, endpoint, heard.clone())).await;
        let client = opened.map_err(anyhow::Error::from).and_then(|opened| opened);
        for (feature, it) in &endpoint.features {
            let result = match &client {
                Ok(client) => {
                    let done = tokio::time::timeout(2 * PATIENCE, try_one(client, feature, it));
                    done.await.map_err(anyhow::Error::from).and_then(|done| done)
                }
                Err(error) => Err(anyhow!("connect: {error:#}")),
            };
            let (server, feature) = (endpoint.server.clone(), feature.clone());
            let error = result.err().map(|error| format!("{error:#}"));
            lines.push(Line { server, feature, error });
        }
        if let Ok(client) = client {
            tokio::time::timeout(PATIENCE, client.cancel()).await.ok();
        }
    }
    lines
}

type Client = RunningService<RoleClient, Heard>;

async fn open(job: &Job, endpoint: &Endpoint, heard: Heard) -> anyhow::Result<Client> {
    let modern = vec![ProtocolVersion::V_2026_07_28];
    let mode = if job.mode == "legacy" {
        ClientLifecycleMode::Initialize
    } else {
        ClientLifecycleMode::Auto { preferred_versions: modern, legacy_version: None }
    };
    match (job.transport, &endpoint.url, &endpoint.command) {
        (Transport::Http, Some(url), _) => {
            let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
            if let Some(value) = job.headers.get("authorization") {
                config = config.auth_header(value.trim_start_matches("Bearer "));
            }
            let transport = StreamableHttpClientTransport::with_client(http(), config);
            Ok(heard.serve_with_lifecycle(transport, mode).await?)
        }
        (Transport::Stdio, _, Some(words)) => {
            let (program, arguments) = words.split_first().context("an empty command")?;
            let mut command = tokio::process::Command::new(program);
            command.args(arguments).envs(&endpoint.env).kill_on_drop(true);
            let transport = TokioChildProcess::new(command)?;
            Ok(heard.serve_with_lifecycle(transport, mode).await?)
        }
        (transport, ..) => bail!("this SDK has no {}", transport.name()),
    }
}

fn text<'a>(it: &'a Value, key: &str) -> &'a str {
    it.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn call_of(name: &str, arguments: Option<&Value>) -> CallToolRequestParams {
    let arguments = arguments.and_then(Value::as_object).cloned().unwrap_or_default();
    CallToolRequestParams::new(name.to_owned()).with_arguments(arguments)
}

fn contains(answer: &impl serde::Serialize, expected: &str) -> anyhow::Result<()> {
    let answer = serde_json::to_value(answer)?;
    let good = answer.get("isError") != Some(&json!(true)) && answer.to_string().contains(expected);
    ensure!(good, "no {expected} in {answer}");
    Ok(())
}

async fn try_one(client: &Client, feature: &str, it: &Value) -> anyhow::Result<()> {
    let expected = text(it, "expect");
    let call = || client.call_tool(call_of(text(it, "name"), it.get("arguments")));
    match feature {
        "list" => {
            let tools = client.list_all_tools().await?;
            ensure!(tools.iter().any(|tool| tool.name == text(it, "tool")), "not in {tools:?}");
            Ok(())
        }
        "call" => contains(&call().await?, expected),
        "progress" => {
            let before = client.service().0.progress.load(Ordering::SeqCst);
            call().await?;
            let seen = client.service().0.progress.load(Ordering::SeqCst) - before;
            let wanted = it.get("reports").and_then(Value::as_u64).unwrap_or_default();
            ensure!(u64::try_from(seen)? >= wanted, "{seen} reports");
            Ok(())
        }
        "cancel" => cancel(client, it).await,
        "read" => {
            let read = ReadResourceRequestParams::new(text(it, "uri"));
            contains(&client.read_resource(read).await?, expected)
        }
        "subscribe" => subscribe(client, it).await,
        "prompt" => {
            let arguments = it.get("arguments").and_then(Value::as_object).cloned();
            let prompt = GetPromptRequestParams::new(text(it, "name"))
                .with_arguments(arguments.unwrap_or_default());
            contains(&client.get_prompt(prompt).await?, expected)
        }
        "completion" => {
            let (prompt, argument) = (text(it, "prompt"), text(it, "argument"));
            let values = client.complete_prompt_simple(prompt, argument, text(it, "value"));
            contains(&values.await?, expected)
        }
        "sampling" => contains(&call().await?, SAMPLED),
        "elicitation" => contains(&call().await?, ELICITED),
        "list_changed" => list_changed(client, it).await,
        other => bail!("unknown feature {other}"),
    }
}

async fn cancel(client: &Client, it: &Value) -> anyhow::Result<()> {
    let tag = rand::random::<u64>().to_string();
    let mut arguments = it.get("arguments").cloned().unwrap_or_default();
    let seen = it.get("seen").context("nobody could tell whether it has begun")?;
    if let Some(arguments) = arguments.as_object_mut() {
        arguments.insert("tag".to_owned(), json!(tag));
    }
    let request = CallToolRequest::new(call_of(text(it, "name"), Some(&arguments)));
    let request = ClientRequest::CallToolRequest(request);
    let handle = client.send_cancellable_request(request, PeerRequestOptions::no_options()).await?;
    let asked = call_of(text(seen, "name"), Some(&json!({"tag": tag})));
    told(client, &asked, text(seen, "begun")).await.context("it has not begun")?;
    handle.cancel(Some("given up".to_owned())).await?;
    told(client, &asked, text(seen, "expect")).await.context("the server was not told")
}

/// Calls until the answer has this text.
async fn told(client: &Client, call: &CallToolRequestParams, wanted: &str) -> anyhow::Result<()> {
    let mut last = String::new();
    for _ in 0..100 {
        last = serde_json::to_string(&client.call_tool(call.clone()).await?)?;
        if last.contains(wanted) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("at last {last}")
}

fn is_modern(client: &Client) -> bool {
    let version = client.peer_info().map(|info| info.protocol_version.clone());
    version == Some(ProtocolVersion::V_2026_07_28)
}

/// Waits for a notification of a subscription that `fits`.
async fn first(
    mut subscription: Subscription,
    fits: impl Fn(&ServerNotification) -> bool,
) -> anyhow::Result<()> {
    let found = async {
        while let Some(notice) = subscription.next().await? {
            if fits(&notice) {
                return Ok(());
            }
        }
        bail!("the subscription ended")
    };
    tokio::time::timeout(PATIENCE, found).await?
}

async fn subscribe(client: &Client, it: &Value) -> anyhow::Result<()> {
    let trigger = || client.call_tool(call_of(text(it, "trigger"), None));
    let uri = text(it, "uri");
    let heard = if is_modern(client) {
        let mut filter = SubscriptionFilter::default();
        filter.resource_subscriptions = Some(vec![uri.to_owned()]);
        let subscription = client.listen(filter).await?;
        trigger().await?;
        let updated = |it: &ServerNotification| {
            matches!(it, ServerNotification::ResourceUpdatedNotification(_))
        };
        first(subscription, updated).await
    } else {
        client.subscribe(SubscribeRequestParams::new(uri)).await?;
        trigger().await?;
        let updated = client.service().0.updated.notified();
        tokio::time::timeout(PATIENCE, updated).await.context("no update")
    };
    if it.get("again").is_some() {
        trigger().await?;
    }
    heard
}

async fn list_changed(client: &Client, it: &Value) -> anyhow::Result<()> {
    let call = || client.call_tool(call_of(text(it, "name"), it.get("arguments")));
    if !is_modern(client) {
        call().await?;
        let changed = client.service().0.changed.notified();
        return tokio::time::timeout(PATIENCE, changed).await.context("no list_changed");
    }
    let mut filter = SubscriptionFilter::default();
    match text(it, "list") {
        "tools" => filter.tools_list_changed = Some(true),
        _ => filter.resources_list_changed = Some(true),
    }
    let subscription = client.listen(filter).await?;
    call().await?;
    first(subscription, |_| true).await
}
