//! Requests about tasks: whose task is meant, and what its upstream calls it.

use std::sync::Arc;

use proto::{Era, Principal};

use super::{Client, Plan, RouteError};
use crate::{
    mcp::{
        Capabilities, Message, Method, Version,
        feature::{Feature, Features},
        message::Request,
        object::unquote,
        task,
    },
    snapshot::table::{Table, TaskSupport, ToolEntry, View},
    target::{Asked, Target, Wish},
    task_id::{TaskCursor, TaskId},
};

/// What a client of this version may hear of tasks: one generation has one form of them.
pub(super) fn announced(features: Features, version: Version) -> Features {
    let has_them = matches!(version, Version::V2025_11_25 | Version::V2026_07_28);
    if has_them { features } else { features.without_tasks() }
}

/// Any method about tasks.
pub(super) fn plan(
    (table, view): (&Table, &View),
    principal: &Principal,
    message: &Message,
    request: &Request,
    client: Client,
) -> Result<Plan, RouteError> {
    let era = client.version.era();
    let needed = match (era, &request.method) {
        (Era::Modern, _) => Feature::TasksExtension,
        (Era::Legacy, Method::TasksList) => Feature::TasksList,
        (Era::Legacy, Method::TasksCancel) => Feature::TasksCancel,
        (Era::Legacy, _) => Feature::Tasks,
    };
    if !announced(view.features(era), client.version).has(needed) {
        return Err(RouteError::UnservedMethod { method: request.method.as_str().into(), era });
    }
    let extension = Capabilities::tasks();
    if era == Era::Modern && !client.capabilities.contains(extension) {
        return Err(RouteError::MissingCapability { required: extension.to_json(), era });
    }
    if request.method == Method::TasksList {
        return list((table, view), principal, message, request);
    }
    let wish = match &request.method {
        Method::TasksGet => Wish::Get,
        Method::TasksResult => Wish::Result,
        _ => Wish::Change,
    };
    let id = task::asked_for(message, request).and_then(|id| unquote(id.of(message.text())));
    let sealed = id.ok_or(RouteError::InvalidParams("`params.taskId` must be a string"))?;
    let found = TaskId::open(table.session_keys(), &principal.subject, &sealed);
    // What is no longer here does not exist for the caller.
    let found = found.filter(|task| view.tasks_of(&task.upstream_id).tasks_for(era).has(needed));
    let TaskId { upstream_id, id } =
        found.ok_or(RouteError::InvalidParams("there is no such task"))?;
    let upstream_id: Arc<str> = upstream_id.into();
    let uris = view.shelf().uris(&upstream_id);
    let asked = Asked::Task { upstream_id, id, sealed: (&*sealed).into(), wish };
    Ok(Plan::Forward { target: Target { asked, uris } })
}

/// Refuses a call that could be nothing but a task, for a client that does not know tasks.
/// Legacy upstreams refuse legacy clients themselves.
pub(super) fn check_call(view: &View, tool: &ToolEntry, client: Client) -> Result<(), RouteError> {
    let extension = Capabilities::tasks();
    if tool.task_support == TaskSupport::Free
        || client.version.era() == Era::Legacy
        || client.capabilities.contains(extension)
    {
        return Ok(());
    }
    let tasks = tool.upstream_id().map(|id| view.tasks_of(id)).unwrap_or_default();
    if tasks.has(Feature::Tasks) {
        return Err(RouteError::MissingCapability {
            required: extension.to_json(),
            era: Era::Modern,
        });
    }
    Ok(())
}

/// `tasks/list`: upstream after upstream, a page at a time.
fn list(
    (table, view): (&Table, &View),
    principal: &Principal,
    message: &Message,
    request: &Request,
) -> Result<Plan, RouteError> {
    const UNKNOWN: RouteError = RouteError::InvalidParams("unknown cursor");
    let cursor = request.params.cursor.map(|span| span.of(message.text()));
    let begin = match cursor.filter(|cursor| *cursor != "null") {
        None => None,
        Some(raw) => {
            let sealed = unquote(raw).ok_or(UNKNOWN)?;
            let opened = TaskCursor::open(table.session_keys(), &principal.subject, &sealed);
            Some(opened.ok_or(UNKNOWN)?)
        }
    };
    let mut listing = view.upstreams_with(Feature::TasksList);
    let found = match &begin {
        None => listing.next(),
        Some(begin) => listing.find(|id| ***id == *begin.upstream_id),
    };
    let upstream_id = Arc::clone(found.ok_or(UNKNOWN)?);
    let next = listing.next().cloned();
    let cursor = begin.and_then(|begin| begin.cursor);
    let asked = Asked::Tasks { upstream_id, cursor, next };
    Ok(Plan::Forward { target: Target { asked, uris: None } })
}
