//! Shows the URIs in a result as the endpoint shows them, where an upstream's are marked.

use super::{Edits, Span};
use crate::mcp::{
    object::{elements, member, unquote},
    response::quote,
    uri::Uris,
};

/// Rewrites `contents[].uri` and the resources and links in content of tools and prompts, also
/// in what came of a task (2026-07-28, the tasks extension: `tasks/get`).
/// `asked` is the URI that was read, as the client wrote it.
pub(super) fn show_uris(
    edits: &mut Edits,
    text: &str,
    result: Span,
    (uris, asked): (&Uris, Option<&str>),
) {
    let asked = asked.and_then(|asked| asked.strip_prefix(&*uris.marker));
    let mut show = |holder: Span| {
        let Some(span) = member(text, holder, "uri") else { return };
        let Some(uri) = unquote(span.of(text)) else { return };
        let marked = || format!("{}{uri}", uris.marker);
        if let Some(shown) = uris.shown(&uri).or_else(|| (asked == Some(&*uri)).then(marked)) {
            edits.replace(span, quote(&shown));
        }
    };
    let of_task = member(text, result, "taskId").and_then(|_| member(text, result, "result"));
    let mut blocks: Vec<Span> = Vec::new();
    for result in [Some(result), of_task].into_iter().flatten() {
        if let Some(contents) = member(text, result, "contents") {
            elements(text, contents).into_iter().for_each(&mut show);
        }
        if let Some(content) = member(text, result, "content") {
            blocks.extend(elements(text, content));
        }
        if let Some(messages) = member(text, result, "messages") {
            let of = |message: &Span| member(text, *message, "content");
            for content in elements(text, messages).iter().filter_map(of) {
                blocks.push(content);
                blocks.extend(elements(text, content));
            }
        }
    }
    for block in blocks {
        let kind = member(text, block, "type");
        match kind.map(|kind| kind.of(text)) {
            Some("\"resource\"") => {
                if let Some(resource) = member(text, block, "resource") {
                    show(resource);
                }
            }
            Some("\"resource_link\"") => show(block),
            Some(_) | None => (),
        }
    }
}
