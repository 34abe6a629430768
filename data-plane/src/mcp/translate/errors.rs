//! Errors that mean the same in both eras and are said in different ways.

use proto::Era;

use super::{Audience, Edits, response_to_client};
use crate::mcp::{
    Pieces, code, input,
    message::{Message, Span, parse, splice},
    object,
    response::{self, quote},
};

/// Puts an error's code into the client's era, and with it the URI that was not found.
pub(super) fn error_to_client(
    edits: &mut Edits,
    message: &Message,
    error: Span,
    audience: &Audience<'_>,
) {
    let text = message.text();
    let Some(span) = object::member(text, error, "code") else { return };
    let Ok(found) = span.of(text).parse::<i64>() else { return };
    let data = object::member(text, error, "data");
    let uri = data.and_then(|data| object::member(text, data, "uri"));
    let sent = match (audience.era, found) {
        (Era::Modern, code::RESOURCE_NOT_FOUND) => code::INVALID_PARAMS,
        // Only this error names the URI that was asked for (MCP 2026-07-28, resources).
        (Era::Legacy, code::INVALID_PARAMS) if audience.asked_uri.is_some() && uri.is_some() => {
            code::RESOURCE_NOT_FOUND
        }
        (
            Era::Legacy,
            code::HEADER_MISMATCH | code::MISSING_CLIENT_CAPABILITY | code::UNSUPPORTED_VERSION,
        ) => code::INTERNAL_ERROR,
        _ => found,
    };
    if sent != found {
        edits.replace(span, sent.to_string());
    }
    // The URI is the only parameter, so what is wrong with the parameters is the URI.
    let is_not_found = match audience.era {
        Era::Modern => sent == code::INVALID_PARAMS,
        Era::Legacy => sent == code::RESOURCE_NOT_FOUND,
    };
    let Some(asked) = audience.asked_uri.filter(|_| is_not_found || uri.is_some()) else { return };
    let named = format!("\"uri\":{}", quote(asked));
    match (uri, data) {
        (Some(uri), _) => {
            if audience.uris.is_some() {
                edits.replace(uri, quote(asked));
            }
        }
        (None, Some(data)) if data.of(text).starts_with('{') => edits.prepend(text, data, &named),
        (None, Some(data)) if data.of(text) == "null" => {
            edits.replace(data, format!("{{{named}}}"));
        }
        (None, Some(_)) => (),
        (None, None) => edits.insert(span.end, format!(",\"data\":{{{named}}}")),
    }
}

/// An error that may send a legacy client to pages: it is told who wants that, `asker`, and led to
/// none that others could have written, but told so instead.
pub fn with_pages(
    message: &Message,
    asker: Option<&str>,
    audience: &Audience<'_>,
) -> Result<Pieces, Pieces> {
    let named = input::named_pages(message, asker).map(|edits| {
        let edited = (!edits.is_empty()).then(|| splice(message.body(), &edits));
        edited.unwrap_or_else(|| message.body().clone())
    });
    let problem = match named.map(parse) {
        Ok(Ok(named)) => return Ok(response_to_client(&named, audience)),
        Ok(Err(unreadable)) => unreadable.to_string(),
        Err(harmful) => harmful.to_string(),
    };
    Err(response::error(Some(audience.id), code::INTERNAL_ERROR, &problem, None).into())
}
