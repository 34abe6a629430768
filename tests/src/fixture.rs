//! An MCP server, on the official SDK, that offers everything the conformance suite calls.

#![expect(deprecated, reason = "what newer revisions deprecate, older ones still ask for")]

mod answers;
mod ask;
mod executions;
mod extension;
mod inputs;
mod listeners;
mod notes;
mod pipes;
mod prompts;
mod resources;
mod serve;
mod sleeps;
mod tasks;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams,
    CompleteRequestParams, CompleteResult, CompletionInfo, ContentBlock, CustomNotification,
    CustomRequest, CustomResult, GetPromptRequestParams, GetPromptResponse, GetTaskParams,
    GetTaskResult, Implementation, JsonObject, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ProtocolVersion,
    ReadResourceRequestParams, ReadResourceResponse, RequestStateCodec, ServerCapabilities,
    ServerConfig, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool,
    UnsubscribeRequestParams, UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext, SubscriptionSink};
use rmcp::task_manager::TaskManager;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::Value;
use tokio::sync::Mutex;

pub use executions::{Execution, Executions};
pub use pipes::{Subprotocol, start_sse, start_websocket};
pub use serve::{Server, serve_stdio, start};
pub use sleeps::Sleeps;

/// How long a client may keep a list of ours, in milliseconds.
const TTL_MS: u64 = 60_000;
/// Seals `requestState`; fixed, because nothing here is secret.
const STATE_KEY: &[u8] = b"the fixture seals its request state with this";
const LEGACY: &[ProtocolVersion] = &[
    ProtocolVersion::V_2024_11_05,
    ProtocolVersion::V_2025_03_26,
    ProtocolVersion::V_2025_06_18,
    ProtocolVersion::V_2025_11_25,
];
const MODERN: &[ProtocolVersion] = &[ProtocolVersion::V_2026_07_28];

/// Which protocol eras the fixture speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Only `initialize` and sessions.
    Legacy,
    /// Only `server/discover` and self-contained requests.
    Modern,
    /// Both.
    Dual,
}

/// The server; clones share its subscriptions and tasks.
#[derive(Clone)]
pub struct Fixture {
    era: Era,
    tools: Arc<Vec<Tool>>,
    listeners: Arc<Mutex<HashMap<u64, SubscriptionSink>>>,
    next_listener: Arc<AtomicU64>,
    /// Subscriptions that were accepted.
    promised: Arc<AtomicU64>,
    more_tools: Arc<AtomicBool>,
    more_prompts: Arc<AtomicBool>,
    tasks: TaskManager,
    state: RequestStateCodec,
    executions: Executions,
    sleeps: Sleeps,
    /// How often the list of tools changed.
    changes: Arc<AtomicU64>,
    notes: notes::Notes,
    wishes: notes::Wishes,
    /// What clients told by way of the extension.
    heard: Arc<std::sync::Mutex<Vec<Value>>>,
}

impl Fixture {
    /// A fixture that speaks `era`; fails only if its own tool list is not valid JSON.
    pub fn new(era: Era) -> Result<Self, serde_json::Error> {
        Ok(Self {
            era,
            tools: Arc::new(serde_json::from_str(include_str!("fixture/tools.json"))?),
            listeners: Arc::default(),
            next_listener: Arc::default(),
            promised: Arc::default(),
            more_tools: Arc::default(),
            more_prompts: Arc::default(),
            tasks: TaskManager::new(),
            state: RequestStateCodec::new_unchecked(STATE_KEY),
            executions: Executions::default(),
            sleeps: Sleeps::default(),
            changes: Arc::default(),
            notes: notes::Notes::default(),
            wishes: notes::Wishes::default(),
            heard: Arc::default(),
        })
    }

    /// Lets a tool or a prompt appear, or disappear again, and says so.
    async fn change(&self, change: ListChange, context: &RequestContext<RoleServer>) {
        let is_changed = match change {
            ListChange::Tools => &self.more_tools,
            ListChange::Prompts => &self.more_prompts,
        };
        is_changed.fetch_xor(true, Ordering::Relaxed);
        self.announce(change, context).await;
    }

    /// The tools as they are now; one of them says how often they changed.
    fn current_tools(&self) -> Vec<Tool> {
        let mut tools = self.tools.to_vec();
        let changes = self.changes.load(Ordering::SeqCst);
        for tool in &mut tools {
            if tool.name == "test_change_tools" {
                let description = format!("Changes this list; so far {changes} times");
                tool.description = Some(description.into());
            }
        }
        tools
    }
}

/// The resource that `test_touch` touches.
const WATCHED: &str = "test://watched-resource";

/// A list that can change.
#[derive(Clone, Copy)]
enum ListChange {
    Tools,
    Prompts,
}

/// Turns JSON that this crate wrote itself into a type of the SDK.
fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value)
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// The text `key` of `arguments`, or `default`.
fn text_argument(arguments: Option<&JsonObject>, key: &str, default: &str) -> String {
    let value = arguments.and_then(|arguments| arguments.get(key));
    value.and_then(Value::as_str).unwrap_or(default).to_owned()
}

fn said(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

impl ServerHandler for Fixture {
    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        match self.era {
            Era::Legacy => Cow::Borrowed(LEGACY),
            Era::Modern => Cow::Borrowed(MODERN),
            Era::Dual => Cow::Owned([LEGACY, MODERN].concat()),
        }
    }

    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_resources_list_changed()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_completions()
            .enable_logging()
            .enable_tasks()
            .build();
        ServerConfig::new(extension::declared(capabilities))
            .with_server_info(Implementation::new("lockgate-fixture", env!("CARGO_PKG_VERSION")))
            .with_instructions("Everything the conformance suite asks for.")
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let samples = context.client_capabilities().is_some_and(|it| it.sampling.is_some());
        let is_more = self.more_tools.load(Ordering::Relaxed);
        let shown = |tool: &Tool| match &*tool.name {
            "test_for_samplers" => samples,
            "test_appearing" => is_more,
            _ => true,
        };
        let tools = self.current_tools().into_iter().filter(shown);
        let tools = tools.chain(self.notes.tools()?).collect();
        let list = ListToolsResult { tools, ..ListToolsResult::default() };
        Ok(list.with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.executions.begin(&request, &context);
        let name = request.name.to_string();
        if name.starts_with("test_input_required_result_") || name == "test_streaming_elicitation" {
            return self.call_with_inputs(&name, &request, &context);
        }
        if tasks::NAMES.contains(&name.as_str()) {
            return self.call_task_tool(&name, &request, &context).await;
        }
        if ask::NAMES.contains(&name.as_str()) {
            return ask::call(&request, &context).await;
        }
        self.call_plain(&name, request.arguments.as_ref(), &context).await.map(Into::into)
    }

    fn accepted_subscription_filter(
        &self,
        wanted: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        self.promised.fetch_add(1, Ordering::SeqCst);
        Some(wanted.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut listeners = self.listeners.lock().await;
        let key = self.next_listener.fetch_add(1, Ordering::SeqCst);
        listeners.insert(key, context.sink().clone());
        drop(listeners);
        context.cancelled().await;
        self.listeners.lock().await.remove(&key);
        Ok(())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let mut list = resources::list()?;
        list.resources.extend(self.notes.resources()?);
        Ok(list)
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let mut list = resources::templates()?;
        list.resource_templates.extend(self.notes.templates()?);
        Ok(list)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        resources::read(&request.uri, self.notes.text(&request.uri))
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.wishes.add(request.uri);
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.wishes.remove(&request.uri);
        Ok(())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let mut list = prompts::list()?;
        if self.more_prompts.load(Ordering::Relaxed) {
            list.prompts.push(prompts::appearing()?);
        }
        list.prompts.extend(self.notes.prompts()?);
        Ok(list)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompts::get(&request, self.notes.text(&request.name))
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let values = ["paris", "park", "party"].into_iter();
        let fitting = values.filter(|value| value.starts_with(&request.argument.value));
        let info = CompletionInfo::new(fitting.map(str::to_owned).collect());
        info.map(CompleteResult::new).map_err(|error| ErrorData::internal_error(error, None))
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.wishes.add(format!("{:?}", request.level));
        Ok(())
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        self.extended(request, &context).await
    }

    async fn on_custom_notification(
        &self,
        notification: CustomNotification,
        _: NotificationContext<RoleServer>,
    ) {
        self.hear(notification);
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }
}
