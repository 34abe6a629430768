//! What `apply` reads: YAML or JSON files of upstreams, tools and servers, in the words of
//! the command line and in the form that `get -o yaml` writes.
//!
//! To add a field: read it in the function of its kind; everything else (unknown keys,
//! lines, "did you mean") follows.

use proto::wire;

use crate::{
    args::objects::UrlTransport,
    failure::{Detail, Failure},
    nearest::did_you_mean,
    transport,
    tree::{self, Node, Tree},
};

mod fields;

use fields::Fields;

const KINDS: [&str; 3] = ["upstream", "tool", "server"];

/// All objects of a text. Every problem is reported at once, with object, line and field.
pub(crate) fn parse(text: &str) -> Result<Vec<wire::Object>, Failure> {
    let mut objects = Vec::new();
    let mut problems = Vec::new();
    for (index, node) in documents(text)?.into_iter().enumerate() {
        match object(index, node) {
            Ok(object) => objects.push(object),
            Err(details) => problems.extend(details),
        }
    }
    match (problems.len(), objects.is_empty()) {
        (0, false) => Ok(objects),
        (0, true) => Err(Failure::invalid("there is no object in the file")),
        (count, _) => {
            let plural = if count == 1 { "problem" } else { "problems" };
            let mut failure = Failure::invalid(format!("{count} {plural}, nothing was changed"));
            failure.details = problems;
            Err(failure)
        }
    }
}

/// Documents, with lists of objects laid flat.
fn documents(text: &str) -> Result<Vec<Node>, Failure> {
    let nodes = if text.trim_start().starts_with(['{', '[']) {
        tree::from_json_stream(text)?
    } else {
        tree::from_yaml(text)?
    };
    let flat = nodes.into_iter().flat_map(|node| match node.tree {
        Tree::List(nodes) => nodes,
        tree => vec![Node { line: node.line, tree }],
    });
    Ok(flat.collect())
}

fn object(index: usize, node: Node) -> Result<wire::Object, Vec<Detail>> {
    let mut fields = Fields::new(index, node)?;
    let kind = fields.text("kind");
    fields.name_it(&kind);
    let kind = match kind.as_str() {
        "upstream" => wire::object::Kind::Upstream(upstream(&mut fields)),
        "tool" => wire::object::Kind::Tool(tool(&mut fields)),
        "server" => wire::object::Kind::VirtualServer(server(&mut fields)),
        "" => {
            fields.problem("kind", "is required: `upstream`, `tool` or `server`");
            return Err(fields.into_problems());
        }
        other => {
            let hint = did_you_mean(other, KINDS);
            fields.problem("kind", format!("`{other}` is not a kind{hint}"));
            return Err(fields.into_problems());
        }
    };
    fields.finish()?;
    Ok(wire::Object { kind: Some(kind) })
}

fn upstream(fields: &mut Fields) -> wire::Upstream {
    use wire::upstream::Transport;
    let url = fields.text("url");
    let command = fields.text("command");
    let how = transport_word(fields);
    let stdio = wire::StdioTransport {
        command: command.clone(),
        args: fields.texts("args"),
        env: fields.map("env").into_iter().collect(),
        working_directory: fields.text("working_directory"),
        mode: fields.choice(
            "stdio_mode",
            &[
                ("shared", wire::StdioMode::Shared.into()),
                ("per-session", wire::StdioMode::PerSession.into()),
            ],
        ),
    };
    let transport = match (url.is_empty(), command.is_empty()) {
        (false, true) => Some(transport::to_url(url, how)),
        (true, false) => Some(Transport::Stdio(stdio)),
        (false, false) => {
            fields.problem("command", "cannot be combined with `url`");
            None
        }
        (true, true) => {
            fields.problem("url", "or `command` is required");
            None
        }
    };
    let catalog_scope = fields.choice(
        "catalog_scope",
        &[
            ("shared", wire::CatalogScope::Shared.into()),
            ("principal", wire::CatalogScope::Principal.into()),
        ],
    );
    wire::Upstream {
        name: fields.text("name"),
        description: fields.text("description"),
        title: fields.text("title"),
        transport,
        credential: credential(fields),
        catalog_scope,
        disabled: fields.flag("disabled"),
        tags: fields.texts("tags"),
        resource_version: fields.number("resource_version"),
        ..Default::default()
    }
}

fn transport_word(fields: &mut Fields) -> Option<UrlTransport> {
    let known = [UrlTransport::Http, UrlTransport::Sse, UrlTransport::WebSocket];
    let choices: Vec<_> = known.iter().zip(1..).map(|(known, n)| (known.as_str(), n)).collect();
    let chosen = fields.choice("transport", &choices);
    known.into_iter().zip(1..).find(|(_, n)| *n == chosen).map(|(known, _)| known)
}

fn tool(fields: &mut Fields) -> wire::Tool {
    let url = fields.text("url");
    let method = fields.text("method");
    let headers = fields.map("headers").into_iter().collect();
    let method = if method.is_empty() { "POST".to_owned() } else { method };
    if url.is_empty() {
        fields.problem("url", "is required; tools of an upstream cannot be applied");
    }
    wire::Tool {
        name: fields.text("name"),
        upstream: fields.text("upstream"),
        title: fields.text("title"),
        description: fields.text("description"),
        input_schema: fields.json("input_schema"),
        output_schema: fields.json("output_schema"),
        annotations: fields.json("annotations"),
        rest: Some(wire::RestBinding { url, method, headers }),
        credential: credential(fields),
        disabled: fields.flag("disabled"),
        tags: fields.texts("tags"),
        resource_version: fields.number("resource_version"),
        ..Default::default()
    }
}

fn server(fields: &mut Fields) -> wire::VirtualServer {
    let naming = fields.choice(
        "naming",
        &[("prefix", wire::Naming::Prefix.into()), ("bare", wire::Naming::Bare.into())],
    );
    wire::VirtualServer {
        name: fields.text("name"),
        description: fields.text("description"),
        upstreams: fields.texts("upstreams"),
        tools: fields.texts("tools"),
        prompts: fields.texts("prompts"),
        resources: fields.texts("resources"),
        naming,
        icon: fields.text("icon"),
        title: fields.text("title"),
        disabled: fields.flag("disabled"),
        tags: fields.texts("tags"),
        resource_version: fields.number("resource_version"),
        ..Default::default()
    }
}

/// `credential: {bearer: …}`, `{basic: {username, password}}`, `{headers: {…}}` or `none`.
fn credential(fields: &mut Fields) -> Option<wire::Credential> {
    use wire::credential::Kind;
    let node = fields.take("credential")?;
    if node.tree == Tree::Text("none".to_owned()) {
        return Some(wire::Credential { kind: Some(Kind::None(true)) });
    }
    let mut inner = fields.inside("credential", node)?;
    let bearer = inner.text("bearer");
    let headers = inner.map("headers");
    let basic = inner.take("basic").and_then(|node| {
        let mut basic = inner.inside("basic", node)?;
        let credential = wire::BasicCredential {
            username: basic.text("username"),
            password: basic.text("password"),
        };
        inner.absorb(basic);
        Some(credential)
    });
    let mut kinds = Vec::new();
    kinds.extend((!bearer.is_empty()).then_some(Kind::Bearer(bearer)));
    kinds.extend(basic.map(Kind::Basic));
    kinds.extend(
        (!headers.is_empty()).then(|| {
            Kind::Headers(wire::HeadersCredential { values: headers.into_iter().collect() })
        }),
    );
    if kinds.len() != 1 {
        inner.problem("", "needs exactly one of `bearer`, `basic`, `headers`");
    }
    fields.absorb(inner);
    Some(wire::Credential { kind: kinds.pop() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    const GOOD: &str = "
kind: upstream
name: time
command: uvx
args: [mcp-server-time, --local-timezone, UTC]
---
kind: tool
name: clock_tool
url: http://127.0.0.1:9000/rpc
input_schema: {type: object, properties: {timezone: {type: string}}}
credential: {basic: {username: me, password: secret}}
---
- kind: server
  name: dev
  upstreams: [time]
  tools: [clock_tool]
  naming: bare
  id: 0199-from-get
  status: {phase: ready}
";

    #[test]
    fn several_documents_and_lists_are_one_file() {
        let objects = parse(GOOD).unwrap();
        let [upstream, tool, server] = objects.as_slice() else { panic!("{objects:?}") };
        let Some(wire::object::Kind::Upstream(upstream)) = &upstream.kind else { panic!() };
        let Some(wire::upstream::Transport::Stdio(stdio)) = &upstream.transport else { panic!() };
        assert_eq!(stdio.args, ["mcp-server-time", "--local-timezone", "UTC"]);
        let Some(wire::object::Kind::Tool(tool)) = &tool.kind else { panic!() };
        let schema = r#"{"type":"object","properties":{"timezone":{"type":"string"}}}"#;
        assert_eq!(tool.input_schema, schema);
        assert_eq!(tool.rest.as_ref().unwrap().method, "POST");
        let Some(wire::object::Kind::VirtualServer(server)) = &server.kind else { panic!() };
        assert_eq!(server.naming(), wire::Naming::Bare);
    }

    #[test]
    fn json_is_taken_too_one_list_or_one_object_per_line() {
        let one = r#"{"kind":"server","name":"dev","tools":["a"]}"#;
        assert_eq!(parse(&format!("[{one},{one}]")).unwrap().len(), 2);
        assert_eq!(parse(&format!("{one}\n{one}\n")).unwrap().len(), 2);
    }

    #[test]
    fn every_problem_names_object_line_and_field() {
        let text = "
kind: server
name: dev
toolz: [clock_tool]
naming: short
---
kind: upstrem
name: x
---
kind: upstream
name: [time]
url: http://127.0.0.1:1/mcp
command: uvx
credential: {bearer: a, headers: {X: b}}
";
        insta::assert_snapshot!(problems(text), @r"
        6 problems, nothing was changed
          objects[0] (server `dev`).naming: `short` is not one of `prefix`, `bare` (line 5)
          objects[0] (server `dev`).toolz: is not a field of a server; did you mean `tools`? (line 4)
          objects[1] (`x`).kind: `upstrem` is not a kind; did you mean `upstream`? (line 7)
          objects[2] (upstream).command: cannot be combined with `url` (line 13)
          objects[2] (upstream).name: must be text, not a list (line 11)
          objects[2] (upstream).credential: needs exactly one of `bearer`, `basic`, `headers` (line 14)
        ");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(problems("# nothing\n"), "there is no object in the file");
        assert!(problems("hello\n").contains("objects[0]: must be an object, not text (line 1)"));
        assert!(problems("kind: [\n").contains("line"));
        assert!(problems("{\"kind\": }").contains("line 1 column 10"));
    }
}
