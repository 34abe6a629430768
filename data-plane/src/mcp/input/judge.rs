//! What upstreams ask modern clients for, and what their tasks fail with: who asks is said, and
//! nobody is led where no user should go.

use super::{
    REQUESTS, is_required,
    pages::{error_of, may_be_in, named_for_modern},
};
use crate::mcp::{
    addressee::Addressee,
    ask::Ask,
    code, elicitation,
    message::{Kind, Message, Outcome, Response, Span},
    object,
    response::quote,
};

/// An answer that asks for something no user should be led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the upstream asks its user in words that can be read in two ways, or to visit a page that others could have written"
)]
pub struct Harmful;

/// What has to be put for what in an answer that asks a modern client itself, or tells it of an
/// error that may name pages.
pub fn edits(answer: &Message, to: &Addressee<'_>) -> Result<Vec<(Span, String)>, Harmful> {
    let text = answer.text();
    if let Some(error) = error_of(answer) {
        return named_for_modern(text, error, to.asker);
    }
    let Kind::Response(Response { outcome: Outcome::Result { span, .. }, .. }) = &answer.kind
    else {
        return Ok(Vec::new());
    };
    let members = object::members(text, *span);
    let asks = members.iter().any(|it| it.name == REQUESTS && is_there(text, it.value));
    let mut edits = Vec::new();
    if (asks || is_required(answer))
        && let Some(requests) = judged(text, *span, REQUESTS)?
    {
        edits.extend(edits_of_requests(text, requests, to)?);
    }
    // What a task has failed with. That it has stays true.
    let names_pages = |error: &str| error.starts_with('{') && may_be_in(error);
    for it in members.iter().filter(|it| it.name == "error" && names_pages(it.value.of(text))) {
        let named = named_for_modern(text, it.value, to.asker);
        edits.extend(named.unwrap_or_else(|harmful| vec![(it.value, refused(harmful))]));
    }
    Ok(edits)
}

/// The error that stands for one of an upstream.
fn refused(problem: Harmful) -> String {
    let problem = quote(&problem.to_string());
    format!(r#"{{"code":{},"message":{problem}}}"#, code::INTERNAL_ERROR)
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

/// What has to be put for what in requests at a span of `text`.
fn edits_of_requests(
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
