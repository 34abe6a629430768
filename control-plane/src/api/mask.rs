//! Update masks: which fields of a request go into the stored object (AIP-134).
//!
//! Without a mask every field that is set is written; `*` writes them all, so
//! that unset fields are emptied. Names and ids never change.

use proto::{Invalid, wire};

type Mask = Option<prost_types::FieldMask>;

/// The paths a request means: those of its mask, or those that it fills.
fn paths(mask: Mask, filled: &[(&'static str, bool)]) -> Vec<String> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        let filled = filled.iter().filter(|(_, is_set)| *is_set);
        return filled.map(|(path, _)| (*path).to_owned()).collect();
    }
    if paths.iter().any(|path| path == "*") {
        return filled.iter().map(|(path, _)| (*path).to_owned()).collect();
    }
    paths
}

fn unknown(path: &str) -> Invalid {
    let problem = match path {
        "id" | "name" => format!("names `{path}`, which never changes"),
        _ => format!("names `{path}`, which is no field that can be written"),
    };
    Invalid::new("update_mask", problem)
}

/// Writes the masked fields of `wanted` into `current`.
pub(crate) fn upstream(
    mut current: wire::Upstream,
    wanted: wire::Upstream,
    mask: Mask,
) -> Result<wire::Upstream, Invalid> {
    use wire::upstream::Transport::Stdio;
    let filled = [
        ("title", !wanted.title.is_empty()),
        ("description", !wanted.description.is_empty()),
        ("transport", wanted.transport.is_some()),
        ("credential", wanted.credential.is_some()),
        ("catalog_scope", wanted.catalog_scope != 0),
        ("disabled", wanted.disabled),
        ("tags", !wanted.tags.is_empty()),
    ];
    for path in paths(mask, &filled) {
        match path.as_str() {
            "title" => current.title.clone_from(&wanted.title),
            "description" => current.description.clone_from(&wanted.description),
            "transport" => current.transport.clone_from(&wanted.transport),
            "http" | "http.url" | "sse" | "sse.url" | "websocket" | "websocket.url" => {
                let kind = path.trim_end_matches(".url");
                let wanted = wanted.transport.clone();
                let wanted = wanted.filter(|wanted| kind_of(wanted) == kind);
                current.transport = Some(wanted.ok_or_else(|| Invalid::missing(kind))?);
            }
            "credential" => current.credential.clone_from(&wanted.credential),
            "catalog_scope" => current.catalog_scope = wanted.catalog_scope,
            "disabled" => current.disabled = wanted.disabled,
            "tags" => current.tags.clone_from(&wanted.tags),
            path if path == "stdio" || path.starts_with("stdio.") => {
                let Some(Stdio(stdio)) = &wanted.transport else {
                    return Err(Invalid::missing("stdio"));
                };
                current.transport = Some(Stdio(merge_stdio(current.transport, stdio, path)?));
            }
            path => return Err(unknown(path)),
        }
    }
    Ok(current)
}

/// A transport's field.
fn kind_of(transport: &wire::upstream::Transport) -> &'static str {
    use wire::upstream::Transport::{Http, Sse, Stdio, Websocket};
    match transport {
        Http(_) => "http",
        Sse(_) => "sse",
        Websocket(_) => "websocket",
        Stdio(_) => "stdio",
    }
}

fn merge_stdio(
    current: Option<wire::upstream::Transport>,
    wanted: &wire::StdioTransport,
    path: &str,
) -> Result<wire::StdioTransport, Invalid> {
    use wire::upstream::Transport::{Http, Sse, Stdio, Websocket};
    let mut stdio = match current {
        Some(Stdio(stdio)) => stdio,
        Some(Http(_) | Sse(_) | Websocket(_)) | None => return Ok(wanted.clone()),
    };
    match path {
        "stdio" => stdio.clone_from(wanted),
        "stdio.command" => stdio.command.clone_from(&wanted.command),
        "stdio.args" => stdio.args.clone_from(&wanted.args),
        "stdio.env" => stdio.env.clone_from(&wanted.env),
        "stdio.working_directory" => {
            stdio.working_directory.clone_from(&wanted.working_directory);
        }
        "stdio.mode" => stdio.mode = wanted.mode,
        path => return Err(unknown(path)),
    }
    Ok(stdio)
}

/// Writes the masked fields of `wanted` into `current`.
pub(crate) fn tool(
    mut current: wire::Tool,
    wanted: wire::Tool,
    mask: Mask,
) -> Result<wire::Tool, Invalid> {
    let filled = [
        ("title", !wanted.title.is_empty()),
        ("description", !wanted.description.is_empty()),
        ("input_schema", !wanted.input_schema.is_empty()),
        ("output_schema", !wanted.output_schema.is_empty()),
        ("annotations", !wanted.annotations.is_empty()),
        ("rest", wanted.rest.is_some()),
        ("credential", wanted.credential.is_some()),
        ("disabled", wanted.disabled),
        ("tags", !wanted.tags.is_empty()),
    ];
    for path in paths(mask, &filled) {
        match path.as_str() {
            "title" => current.title.clone_from(&wanted.title),
            "description" => current.description.clone_from(&wanted.description),
            "input_schema" => current.input_schema.clone_from(&wanted.input_schema),
            "output_schema" => current.output_schema.clone_from(&wanted.output_schema),
            "annotations" => current.annotations.clone_from(&wanted.annotations),
            "credential" => current.credential.clone_from(&wanted.credential),
            "disabled" => current.disabled = wanted.disabled,
            "tags" => current.tags.clone_from(&wanted.tags),
            path if path == "rest" || path.starts_with("rest.") => {
                let Some(rest) = &wanted.rest else { return Err(Invalid::missing("rest")) };
                current.rest = Some(merge_rest(current.rest, rest, path)?);
            }
            path => return Err(unknown(path)),
        }
    }
    Ok(current)
}

fn merge_rest(
    current: Option<wire::RestBinding>,
    wanted: &wire::RestBinding,
    path: &str,
) -> Result<wire::RestBinding, Invalid> {
    let mut rest = current.unwrap_or_default();
    match path {
        "rest" => rest.clone_from(wanted),
        "rest.url" => rest.url.clone_from(&wanted.url),
        "rest.method" => rest.method.clone_from(&wanted.method),
        "rest.headers" => rest.headers.clone_from(&wanted.headers),
        path => return Err(unknown(path)),
    }
    Ok(rest)
}

/// Writes the masked fields of `wanted` into `current`.
pub(crate) fn virtual_server(
    mut current: wire::VirtualServer,
    wanted: wire::VirtualServer,
    mask: Mask,
) -> Result<wire::VirtualServer, Invalid> {
    let filled = [
        ("title", !wanted.title.is_empty()),
        ("description", !wanted.description.is_empty()),
        ("upstreams", !wanted.upstreams.is_empty()),
        ("tools", !wanted.tools.is_empty()),
        ("prompts", !wanted.prompts.is_empty()),
        ("resources", !wanted.resources.is_empty()),
        ("naming", wanted.naming != 0),
        ("icon", !wanted.icon.is_empty()),
        ("disabled", wanted.disabled),
        ("tags", !wanted.tags.is_empty()),
    ];
    for path in paths(mask, &filled) {
        match path.as_str() {
            "title" => current.title.clone_from(&wanted.title),
            "description" => current.description.clone_from(&wanted.description),
            "upstreams" => current.upstreams.clone_from(&wanted.upstreams),
            "tools" => current.tools.clone_from(&wanted.tools),
            "prompts" => current.prompts.clone_from(&wanted.prompts),
            "resources" => current.resources.clone_from(&wanted.resources),
            "naming" => current.naming = wanted.naming,
            "icon" => current.icon.clone_from(&wanted.icon),
            "disabled" => current.disabled = wanted.disabled,
            "tags" => current.tags.clone_from(&wanted.tags),
            path => return Err(unknown(path)),
        }
    }
    Ok(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(paths: &[&str]) -> prost_types::FieldMask {
        prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }
    }

    fn stdio(command: &str, args: &[&str]) -> wire::Upstream {
        wire::Upstream {
            description: format!("runs {command}"),
            transport: Some(wire::upstream::Transport::Stdio(wire::StdioTransport {
                command: command.to_owned(),
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                ..Default::default()
            })),
            ..Default::default()
        }
    }

    #[test]
    fn without_a_mask_only_filled_fields_are_written() {
        let wanted = wire::Upstream { title: "New".to_owned(), ..Default::default() };
        let merged = upstream(stdio("old", &["-v"]), wanted, None).unwrap();
        let expected = wire::Upstream { title: "New".to_owned(), ..stdio("old", &["-v"]) };
        assert_eq!(merged, expected);
    }

    #[test]
    fn a_star_empties_what_is_not_filled() {
        let wanted = wire::VirtualServer { title: "New".to_owned(), ..Default::default() };
        let current = wire::VirtualServer { tools: vec!["a".to_owned()], ..Default::default() };
        assert!(virtual_server(current, wanted, Some(mask(&["*"]))).unwrap().tools.is_empty());
    }

    #[test]
    fn a_nested_path_writes_one_field() {
        let merged =
            upstream(stdio("old", &["-v"]), stdio("new", &[]), Some(mask(&["stdio.command"])));
        assert_eq!(merged.unwrap().transport, stdio("new", &["-v"]).transport);
    }

    #[test]
    fn unknown_and_immutable_paths_are_refused_by_name() {
        let error = |path: &str| {
            tool(wire::Tool::default(), wire::Tool::default(), Some(mask(&[path]))).unwrap_err()
        };
        assert_eq!(
            error("naem").to_string(),
            "`update_mask` names `naem`, which is no field that can be written"
        );
        assert!(error("name").problem.contains("never changes"));
        assert_eq!(error("rest.url").to_string(), "`rest` is required");
        assert_eq!(error("status").field, "update_mask");
    }
}
