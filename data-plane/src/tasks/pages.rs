//! Pages of `tasks/list`, of which each upstream gives its own.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    mcp::{Message, message::parse, response},
    snapshot::table::Table,
    upstream::{Call, CallError, CallFailure, Reply, Upstreams, error_of},
};

/// How long a page of one upstream's tasks may take before it is left out.
const PAGE_WITHIN: Duration = Duration::from_secs(5);

/// A page of tasks, or none of an upstream that does not give it in time: the others shall be
/// listed all the same.
pub(crate) async fn page_in_time(
    upstreams: Arc<Upstreams>,
    table: Arc<Table>,
    call: Call,
) -> Result<Reply, CallError> {
    let page = tokio::time::timeout(PAGE_WITHIN, whole_page(&upstreams, &table, &call)).await;
    let failure = match page {
        Ok(Ok(page)) => match error_of(&page) {
            None => return Ok(Reply::Response(page.into_body().into())),
            Some(error) => format!("error {}: {}", error.code, error.message),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {PAGE_WITHIN:?}"),
    };
    tracing::warn!(failure, "an upstream's tasks are left out of a list");
    let none = response::answer(&call.id(), Bytes::from_static(br#"{"tasks":[]}"#)).into_bytes();
    let page = call.tasks.as_ref().zip(parse(none.clone()).ok());
    Ok(Reply::Response(page.and_then(|(tasks, none)| tasks.page(&none)).unwrap_or(none).into()))
}

async fn whole_page(
    upstreams: &Arc<Upstreams>,
    table: &Arc<Table>,
    call: &Call,
) -> Result<Message, CallError> {
    // Nobody is asked while tasks are listed.
    let body = upstreams.call(table, call).await?.into_answer().await?;
    parse(body).map_err(|error| CallError {
        upstream: call.target.label().to_owned(),
        failure: CallFailure::NotJsonRpc(error.to_string()),
    })
}
