//! Answers over HTTP that are no streams, whatever their status.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::{Answer, Session, repair};
use crate::{
    egress::OriginBody,
    mcp::{
        Kind, Message, code,
        message::{ParseError, is_batch, parse, parse_knowing},
    },
    upstream::{
        batch,
        era::error_of,
        failure::CallFailure,
        fetch::{self, Bounds},
        relay::{Relay, Taken},
    },
};

/// Codes with which the transports of SDKs refuse sessions, and how they say it.
const TRANSPORT_CODES: [i64; 3] = [-32000, -32001, code::INVALID_REQUEST];
const REFUSALS: [&str; 7] = [
    "session id",
    "session not found",
    "session expired",
    "session has expired",
    "invalid session",
    "unknown session",
    "not initialized",
];

/// An answer that is no stream.
pub(super) enum Whole {
    /// A response, with its error code if it is an error.
    One(Answer, Option<i64>),
    /// Several messages in one, of a session that has such.
    Several(VecDeque<Message>),
}

/// Reads an answer that is no stream, of an upstream with a name; `None` if the session is lost.
pub(super) async fn read_whole(
    response: Response<OriginBody>,
    (relay, name): (&Relay, &str),
    session: Option<&Session>,
    bounds: &Bounds,
) -> Result<Option<Whole>, CallFailure> {
    let status = response.status();
    if status.is_success() {
        let media = fetch::media_type(response.headers());
        if !media.eq_ignore_ascii_case("application/json") {
            let media = media.to_owned();
            let body = fetch::read_all(response.into_body(), bounds).await?;
            let failure = CallFailure::ContentType(media);
            return Err(if body.is_empty() { CallFailure::NoResponse } else { failure });
        }
        let (body, strings) = fetch::read_text(response.into_body(), bounds).await?;
        return match body.as_bytes() {
            none if none.is_empty() => Err(CallFailure::NoResponse),
            several if is_batch(several) && session.is_some_and(Session::has_batches) => {
                batch::messages(several).map(|messages| Some(Whole::Several(messages)))
            }
            _ => take_whole(parse_knowing(body, &strings), (relay, name)).map(Some),
        };
    }
    let body = Box::pin(fetch::read_refusal(response.into_body(), bounds)).await;
    let code = status.as_u16();
    if matches!(code, 401 | 403) {
        return Err(CallFailure::Auth { status: code });
    }
    let has_session = session.is_some_and(Session::has_id);
    if has_session
        && !is_of_call(status, &body, relay.upstream_id())
        && is_session_lost(status, &body)
    {
        return Ok(None);
    }
    // Modern upstreams answer errors with a status of its own; the body is what counts.
    let taken = take_whole(parse(body.clone()), (relay, name));
    taken.map(Some).map_err(|failure| match failure {
        mismatch if repair::is_mismatch(&mismatch) => mismatch,
        _ => CallFailure::HttpStatus { status: code, excerpt: fetch::excerpt(&body) },
    })
}

fn take_whole(
    message: Result<Message, ParseError>,
    (relay, name): (&Relay, &str),
) -> Result<Whole, CallFailure> {
    let message = message.map_err(|error| CallFailure::NotJsonRpc(error.to_string()))?;
    match relay.take(message, name)? {
        Taken::Response { body, code } => Ok(Whole::One(Answer::Whole(body), code)),
        Taken::InputRequired { message, code } => Ok(Whole::One(Answer::Input(message), code)),
        Taken::Notification(_)
        | Taken::Request(_)
        | Taken::Withdrawn(_)
        | Taken::ListChanged(_)
        | Taken::ResourceUpdated(_)
        | Taken::TaskStatus(_)
        | Taken::Nothing => {
            Err(CallFailure::NotJsonRpc("a message that is no response".to_owned()))
        }
    }
}

/// Whether a refusal is the answer to our request `id` (raw JSON), whatever it speaks of: a tool
/// may know sessions of its own. Some servers answer so for the transport, with its codes.
pub(crate) fn is_of_call(status: StatusCode, body: &Bytes, id: &[u8]) -> bool {
    if status != StatusCode::BAD_REQUEST {
        return false;
    }
    let Ok(message) = parse(body.clone()) else { return false };
    let is_ours = matches!(message.kind, Kind::Response(_)) && message.id() == Some(id);
    let is_of_transport = error_of(&message).is_some_and(|error| {
        let text = error.message.to_ascii_lowercase();
        TRANSPORT_CODES.contains(&error.code) && REFUSALS.iter().any(|words| text.contains(words))
    });
    is_ours && !is_of_transport
}

/// 404, or a 400 that speaks of sessions, as server-everything answers.
pub(crate) fn is_session_lost(status: StatusCode, body: &[u8]) -> bool {
    let speaks_of = |word: &str| {
        let text = String::from_utf8_lossy(body).to_ascii_lowercase();
        text.contains(word) && !text.contains("\"result\"")
    };
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => true,
        StatusCode::BAD_REQUEST => speaks_of("session") || speaks_of("not initialized"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_a_call_is_told_from_what_refuses_a_session() {
        let is_answer = |code: i64, message: &str| {
            let error = format!(r#"{{"code":{code},"message":"{message}"}}"#);
            let body = format!(r#"{{"jsonrpc":"2.0","id":7,"error":{error}}}"#);
            is_of_call(StatusCode::BAD_REQUEST, &body.into(), b"7")
        };
        for (code, refusal) in [
            (-32000, "Session expired"),
            (-32000, "Bad Request: Server not initialized"),
            (-32001, "Session not found"),
            (-32600, "Missing session ID"),
        ] {
            assert!(!is_answer(code, refusal), "{refusal}");
        }
        for (code, answer) in [
            (-32000, "out of stock"),
            (-32000, "your booking session is locked"),
            (-32602, "Invalid session ID"),
            (-32603, "Session not found"),
        ] {
            assert!(is_answer(code, answer), "{answer}");
        }
    }
}
