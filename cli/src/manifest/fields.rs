//! The fields of one object in a file: taken one by one; what is left over was mistyped.

use crate::{
    failure::Detail,
    nearest::did_you_mean,
    tree::{Node, Tree},
};

/// Keys that `get -o yaml` writes and that mean nothing on the way in.
const OUTPUT_ONLY: [&str; 9] = [
    "id",
    "status",
    "credential_summary",
    "create_time",
    "update_time",
    "original_name",
    "definition",
    "needs_client_capabilities",
    "endpoint",
];

pub(super) struct Fields {
    /// `objects[2] (server `dev`)`, or a path below it.
    path: String,
    kind: String,
    line: u64,
    entries: Vec<(String, Node)>,
    /// Asked for so far: the fields that exist, with the line where each stands.
    known: Vec<(&'static str, u64)>,
    problems: Vec<Detail>,
}

impl Fields {
    pub(super) fn new(index: usize, node: Node) -> Result<Self, Vec<Detail>> {
        let path = format!("objects[{index}]");
        let line = node.line;
        match node.tree {
            Tree::Map(entries) => Ok(Self {
                path,
                kind: String::new(),
                line,
                entries,
                known: Vec::new(),
                problems: Vec::new(),
            }),
            other => {
                let message = at(line, format!("must be an object, not {}", other.kind()));
                Err(vec![Detail { field: path, message }])
            }
        }
    }

    /// Puts kind and name into the path of all problems.
    pub(super) fn name_it(&mut self, kind: &str) {
        kind.clone_into(&mut self.kind);
        let name = self.entries.iter().find(|(key, _)| key == "name");
        let name = name.and_then(|(_, node)| node.tree.scalar());
        let known = super::KINDS.contains(&kind);
        let label = match (known, name) {
            (true, Some(name)) => format!(" ({kind} `{name}`)"),
            (true, None) => format!(" ({kind})"),
            (false, Some(name)) => format!(" (`{name}`)"),
            (false, None) => String::new(),
        };
        self.path.push_str(&label);
    }

    /// The object inside a field; a problem if it is none.
    pub(super) fn inside(&mut self, key: &'static str, node: Node) -> Option<Self> {
        let Tree::Map(entries) = node.tree else {
            self.problem(key, format!("must be an object, not {}", node.tree.kind()));
            return None;
        };
        Some(Self {
            path: format!("{}.{key}", self.path),
            kind: key.to_owned(),
            line: node.line,
            entries,
            known: Vec::new(),
            problems: Vec::new(),
        })
    }

    /// Takes the problems of an object inside.
    pub(super) fn absorb(&mut self, inner: Self) {
        if let Err(problems) = inner.finish() {
            self.problems.extend(problems);
        }
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<Node> {
        let index = self.entries.iter().position(|(name, _)| name == key);
        let node = index.map(|index| self.entries.remove(index).1);
        self.known.push((key, node.as_ref().map_or(self.line, |node| node.line)));
        node.filter(|node| node.tree != Tree::Null)
    }

    /// A scalar as text; empty if it is not there.
    pub(super) fn text(&mut self, key: &'static str) -> String {
        let Some(node) = self.take(key) else { return String::new() };
        node.tree.scalar().unwrap_or_else(|| {
            self.problem(key, format!("must be text, not {}", node.tree.kind()));
            String::new()
        })
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Vec<String> {
        let Some(node) = self.take(key) else { return Vec::new() };
        let Tree::List(nodes) = node.tree else {
            self.problem(key, format!("must be a list, not {}", node.tree.kind()));
            return Vec::new();
        };
        let mut texts = Vec::new();
        for (index, node) in nodes.into_iter().enumerate() {
            match node.tree.scalar() {
                Some(text) => texts.push(text),
                None => {
                    self.problem(key, format!("[{index}] must be text, not {}", node.tree.kind()));
                }
            }
        }
        texts
    }

    pub(super) fn map(&mut self, key: &'static str) -> Vec<(String, String)> {
        let Some(node) = self.take(key) else { return Vec::new() };
        let Tree::Map(entries) = node.tree else {
            self.problem(key, format!("must be an object, not {}", node.tree.kind()));
            return Vec::new();
        };
        let mut values = Vec::new();
        for (name, node) in entries {
            match node.tree.scalar() {
                Some(text) => values.push((name, text)),
                None => self.problem(key, format!("`{name}` must be text")),
            }
        }
        values
    }

    pub(super) fn flag(&mut self, key: &'static str) -> bool {
        match self.take(key).map(|node| node.tree) {
            None => false,
            Some(Tree::Bool(value)) => value,
            Some(other) => {
                self.problem(key, format!("must be true or false, not {}", other.kind()));
                false
            }
        }
    }

    pub(super) fn number(&mut self, key: &'static str) -> u64 {
        let text = self.text(key);
        if text.is_empty() {
            return 0;
        }
        text.parse().unwrap_or_else(|_| {
            self.problem(key, "must be a whole number");
            0
        })
    }

    /// JSON text of whatever stands there; text is taken as JSON text itself.
    pub(super) fn json(&mut self, key: &'static str) -> String {
        match self.take(key).map(|node| node.tree) {
            None => String::new(),
            Some(Tree::Text(text)) => text,
            Some(other) => other.to_json(),
        }
    }

    pub(super) fn choice(&mut self, key: &'static str, choices: &[(&str, i32)]) -> i32 {
        let text = self.text(key);
        if text.is_empty() {
            return 0;
        }
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        let words = choices.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>();
        self.problem(key, format!("`{text}` is not one of {}", words.join(", ")));
        0
    }

    /// Notes what is wrong with a field; an empty key means the object itself.
    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        let line = self.known.iter().find(|(known, _)| *known == key).map(|(_, line)| *line);
        let field = if key.is_empty() { self.path.clone() } else { format!("{}.{key}", self.path) };
        let message = at(line.unwrap_or(self.line), message.into());
        self.problems.push(Detail { field, message });
    }

    /// The problems so far: without a kind nobody knows which keys are wrong.
    pub(super) fn into_problems(self) -> Vec<Detail> {
        self.problems
    }

    /// All problems; keys that nobody asked for are problems too.
    pub(super) fn finish(mut self) -> Result<(), Vec<Detail>> {
        let left = std::mem::take(&mut self.entries);
        let unknown = left.into_iter().filter(|(key, _)| !OUTPUT_ONLY.contains(&key.as_str()));
        for (key, node) in unknown {
            let hint = did_you_mean(&key, self.known.iter().map(|(known, _)| *known));
            let message = format!("is not a field of a {}{hint}", self.kind);
            let field = format!("{}.{key}", self.path);
            self.problems.push(Detail { field, message: at(node.line, message) });
        }
        if self.problems.is_empty() { Ok(()) } else { Err(self.problems) }
    }
}

fn at(line: u64, message: String) -> String {
    if line == 0 { message } else { format!("{message} (line {line})") }
}
