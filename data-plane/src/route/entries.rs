//! Lists, prompts, resources and completion: which upstream is meant, and what it calls it.

use std::sync::Arc;

use bytes::Bytes;
use proto::{Era, Principal};

use super::{Client, Interest, Plan, RouteError, Watched, cursor::Place};
use crate::{
    mcp::{
        Capabilities, Message,
        feature::Feature,
        list::ListKind,
        message::{Request, Text},
        object::{Cursor, member, unquote},
        response,
        subscription::{Filter, WantedUri, task_key, task_of},
    },
    snapshot::table::{Table, View},
    target::{Asked, Reference, Target},
    task_id::TaskId,
};

/// Resources that one request may ask to hear of.
const SUBSCRIPTIONS_MAX: usize = 1000;

/// A list method, answered from the view.
pub(super) fn list(
    (table, view): (&Table, &View),
    message: &Message,
    request: &Request,
    client: Client,
    kind: ListKind,
) -> Result<Plan, RouteError> {
    const UNKNOWN: RouteError = RouteError::InvalidParams("unknown cursor");
    let (era, capabilities) = (client.version.era(), client.capabilities);
    let cursor = request.params.cursor.map(|span| span.of(message.text()));
    let cursor = cursor.filter(|cursor| *cursor != "null");
    let answer = |result: Bytes| Ok(Plan::Reply(response::answer(message.raw(request.id), result)));
    if table.page_size == 0 {
        // Lists have one page, so no cursor is ours.
        return match cursor {
            Some(_) => Err(UNKNOWN),
            None => answer(view.list(kind, era, capabilities)),
        };
    }
    let place = |start| Place::new(view, kind, capabilities, start);
    let start = match cursor {
        None => 0,
        Some(raw) => {
            let text = unquote(raw).ok_or(UNKNOWN)?;
            let found = Place::open(table.session_keys(), &text).ok_or(UNKNOWN)?;
            // The list is another by now, or it was another list: begin again.
            if found != place(found.start()) {
                return Err(UNKNOWN);
            }
            found.start()
        }
    };
    let seal = |start| place(start).seal(table.session_keys());
    answer(view.page((kind, era, capabilities), (start, table.page_size), seal))
}

fn text<'a>(found: Option<&'a Text>, problem: &'static str) -> Result<&'a str, RouteError> {
    found.and_then(Text::as_str).ok_or(RouteError::InvalidParams(problem))
}

/// `prompts/get`.
pub(super) fn prompt(view: &View, request: &Request, client: Client) -> Result<Plan, RouteError> {
    let name = text(request.params.name.as_ref(), "`params.name` must be a string")?;
    let found = view.shelf().prompt(name).filter(|it| client.capabilities.contains(it.needs));
    let prompt = found.ok_or_else(|| RouteError::UnknownPrompt(name.into()))?;
    let upstream_id = Arc::clone(&prompt.upstream_id);
    let uris = view.shelf().uris(&upstream_id);
    let asked = Asked::Prompt { upstream_id, name: prompt.original.clone() };
    Ok(Plan::Forward { target: Target { asked, uris } })
}

/// `resources/read`.
pub(super) fn resource(view: &View, request: &Request, client: Client) -> Result<Plan, RouteError> {
    let uri = text(request.params.uri.as_ref(), "`params.uri` must be a string")?;
    let asked = find_resource(view, uri, client.capabilities);
    let asked = asked.ok_or_else(|| RouteError::UnknownResource {
        uri: uri.into(),
        era: client.version.era(),
    })?;
    Ok(Plan::Forward { target: asked })
}

/// `resources/subscribe` and `resources/unsubscribe`.
pub(super) fn subscribe(
    view: &View,
    message: &Message,
    request: &Request,
    client: Client,
    interest: Interest,
) -> Result<Plan, RouteError> {
    let uri = text(request.params.uri.as_ref(), "`params.uri` must be a string")?;
    let target = find_resource(view, uri, client.capabilities);
    let target = target.ok_or_else(|| RouteError::UnknownResource {
        uri: uri.into(),
        era: client.version.era(),
    })?;
    let answer = response::answer(message.raw(request.id), Bytes::from_static(b"{}"));
    // Written anew: the request need not be kept for as long, and a URI that is spelled in
    // several ways is one.
    let shown = response::quote(uri).into();
    Ok(Plan::Subscribe { answer, target, shown, interest })
}

/// `subscriptions/listen`. What is nowhere, or where nobody tells of changes, is left out.
pub(super) fn listen(
    (table, view): (&Table, &View),
    principal: &Principal,
    message: &Message,
    client: Client,
) -> Result<Plan, RouteError> {
    let wanted = Filter::read(message).map_err(RouteError::InvalidParams)?;
    if wanted.uris.len() + wanted.tasks.len() > SUBSCRIPTIONS_MAX {
        return Err(RouteError::InvalidParams("`resourceSubscriptions` has too many URIs"));
    }
    let watched = |wanted: &WantedUri| {
        let Asked::Resource { upstream_id, uri } =
            find_resource(view, &wanted.uri, client.capabilities)?.asked
        else {
            return None;
        };
        let tells = view.shelf().features_of(&upstream_id).has(Feature::Subscribe);
        // Copied, since the request need not be kept for as long.
        let shown = Bytes::copy_from_slice(message.raw(wanted.written));
        tells.then_some(Watched { upstream_id, uri, shown })
    };
    // Only modern upstreams tell those that listen, and only clients that know tasks listen.
    let knows_tasks = client.capabilities.contains(Capabilities::tasks());
    let task = |wanted: &WantedUri| {
        let task = TaskId::open(table.session_keys(), &principal.subject, &wanted.uri)?;
        let is_told = view.tasks_of(&task.upstream_id).has(Feature::TasksExtension);
        let shown = Bytes::copy_from_slice(message.raw(wanted.written));
        let upstream_id = task.upstream_id.into();
        is_told.then(|| Watched { upstream_id, uri: task_key(&task.id), shown })
    };
    let tasks = wanted.tasks.iter().filter(|_| knows_tasks).filter_map(task);
    let resources = wanted.uris.iter().filter_map(watched).chain(tasks).collect();
    Ok(Plan::Listen { topics: wanted.topics, resources })
}

/// Where a URI leads, for those who have what it needs.
fn find_resource(view: &View, uri: &str, capabilities: Capabilities) -> Option<Target> {
    // What stands for a task is nothing that a client may write.
    if task_of(uri).is_some() {
        return None;
    }
    let found = view.shelf().resource(uri).filter(|it| capabilities.contains(it.needs))?;
    let uris = view.shelf().uris(&found.upstream_id);
    let asked = Asked::Resource { upstream_id: found.upstream_id, uri: found.uri };
    Some(Target { asked, uris })
}

/// `completion/complete`; upstreams without it have nothing to suggest.
pub(super) fn complete(
    view: &View,
    message: &Message,
    request: &Request,
    client: Client,
) -> Result<Plan, RouteError> {
    let (upstream_id, reference) = referred(view, message, request, client.capabilities)?;
    if !view.shelf().features_of(&upstream_id).has(Feature::Completions) {
        let result = response::empty_completion(client.version.era());
        return Ok(Plan::Reply(response::answer(message.raw(request.id), result)));
    }
    let uris = view.shelf().uris(&upstream_id);
    let asked = Asked::Completion { upstream_id, reference };
    Ok(Plan::Forward { target: Target { asked, uris } })
}

fn referred(
    view: &View,
    message: &Message,
    request: &Request,
    capabilities: Capabilities,
) -> Result<(Arc<str>, Reference), RouteError> {
    const WRONG: RouteError = RouteError::InvalidParams(
        "`params.ref` must be {type: ref/prompt, name} or {type: ref/resource, uri}",
    );
    let whole = message.text();
    let span = request.params.reference.ok_or(WRONG)?;
    let walked = Cursor::starting_at(whole, span.start)
        .object(|cursor, _, _| cursor.value().map(drop))
        .map_err(|_| WRONG)?;
    if walked.has_duplicates {
        return Err(RouteError::InvalidParams("`params.ref` has a key twice"));
    }
    let read = |key: &str| {
        member(whole, span, key).and_then(|value| unquote(value.of(whole))).ok_or(WRONG)
    };
    match &*read("type")? {
        "ref/prompt" => {
            let name = read("name")?;
            let found = view.shelf().prompt(&name).filter(|it| capabilities.contains(it.needs));
            let prompt = found.ok_or_else(|| RouteError::UnknownPrompt((*name).into()))?;
            let reference = Reference::Prompt(prompt.original.clone());
            Ok((Arc::clone(&prompt.upstream_id), reference))
        }
        "ref/resource" => {
            let uri = read("uri")?;
            let template = view.shelf().template(&uri);
            if let Some(offer) = template.filter(|it| capabilities.contains(it.needs)) {
                let reference = Reference::Resource(offer.original.clone());
                return Ok((Arc::clone(&offer.upstream_id), reference));
            }
            let found = find_resource(view, &uri, capabilities);
            let Some(Asked::Resource { upstream_id, uri }) = found.map(|target| target.asked)
            else {
                return Err(RouteError::UnknownTemplate((*uri).into()));
            };
            Ok((upstream_id, Reference::Resource(uri)))
        }
        _ => Err(WRONG),
    }
}

/// A method of an extension.
pub(super) fn extension(view: &View, method: &str, era: Era) -> Result<Plan, RouteError> {
    let upstream_id = view.upstream_of(method).cloned();
    let unserved = || RouteError::UnservedMethod { method: method.into(), era };
    let upstream_id = upstream_id.ok_or_else(unserved)?;
    let asked = Asked::Extension { upstream_id, method: method.into(), mirrored: None };
    Ok(Plan::Forward { target: Target { asked, uris: None } })
}
