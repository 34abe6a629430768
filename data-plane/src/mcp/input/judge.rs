//! What upstreams ask modern clients for, and what their tasks fail with: who asks is said, and
//! nobody is led where no user should go.

use super::{
    REQUESTS, is_required,
    pages::{named_in, named_pages},
};
use crate::mcp::{
    addressee::Addressee,
    ask::Ask,
    elicitation,
    message::{Kind, Message, Outcome, Response, Span},
    object,
    task::TASK_ID,
};

/// An answer that asks for something no user should be led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the upstream asks its user in words that can be read in two ways, or to visit a page that others could have written"
)]
pub struct Harmful;

/// What has to be put for what in an answer that asks a modern client itself, or tells it of a
/// task.
pub fn edits(answer: &Message, to: &Addressee<'_>) -> Result<Vec<(Span, String)>, Harmful> {
    let span = match &answer.kind {
        Kind::Response(Response { outcome: Outcome::Result { span, .. }, .. }) => *span,
        Kind::Response(_) | Kind::Request(_) | Kind::Notification(_) => {
            return named_pages(answer, to.asker);
        }
    };
    let text = answer.text();
    let members = object::members(text, span);
    let has = |name: &str| {
        members.iter().any(|member| member.name == name && is_there(text, member.value))
    };
    let mut edits = Vec::new();
    if (has(REQUESTS) || is_required(answer))
        && let Some(requests) = judged(text, span, REQUESTS)?
    {
        edits.extend(edits_of(text, requests, to)?);
    }
    // What a task has failed with.
    if has(TASK_ID)
        && let Some(error) = judged(text, span, "error")?.filter(|it| it.of(text).starts_with('{'))
    {
        edits.extend(named_in(text, error, to.asker)?);
    }
    Ok(edits)
}

fn is_there(text: &str, value: Span) -> bool {
    value.of(text) != "null"
}

/// A member of an object at a span of `text`. What is judged here has to be what the client
/// reads, and readers take either of two.
fn judged(text: &str, object: Span, name: &str) -> Result<Option<Span>, Harmful> {
    let members = object::unambiguous(text, object).ok_or(Harmful)?;
    let found = members.into_iter().find(|member| member.name == name);
    Ok(found.map(|member| member.value).filter(|it| is_there(text, *it)))
}

/// The same for requests at a span of `text`.
fn edits_of(
    text: &str,
    requests: Span,
    to: &Addressee<'_>,
) -> Result<Vec<(Span, String)>, Harmful> {
    let mut edits = Vec::new();
    for request in object::unambiguous(text, requests).ok_or(Harmful)? {
        let method = judged(text, request.value, "method")?;
        let method = method.and_then(|it| object::unquote(it.of(text)));
        let params = judged(text, request.value, "params")?;
        let (Some(ask), Some(params)) = (method.and_then(|it| Ask::of(&it)), params) else {
            continue;
        };
        object::unambiguous(text, params).ok_or(Harmful)?;
        if ask == Ask::Elicitation && !elicitation::leads_nowhere_bad(text, params) {
            return Err(Harmful);
        }
        edits.extend(to.edits_of(ask, text, params));
    }
    Ok(edits)
}
