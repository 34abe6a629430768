//! Keeps the import rules of README.md true.
#![expect(clippy::unwrap_used, reason = "a test: a file that cannot be read fails it")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Production code of files under the first path must not contain the second text.
const FORBIDDEN: &[(&str, &str)] = &[
    // Only the store speaks SQL.
    ("proto/src", "sqlx"),
    ("data-plane/src", "sqlx"),
    ("cli/src", "sqlx::"),
    ("control-plane/src/api", "sqlx"),
    ("control-plane/src/rest", "sqlx"),
    // Use cases pass connections along, but ask the store.
    ("control-plane/src/registry", "sqlx::query"),
    ("control-plane/src/identity", "sqlx::query"),
    ("control-plane/src/snapshot", "sqlx::query"),
    ("control-plane/src/store", "tonic"),
    ("control-plane/src/store", "axum"),
    ("control-plane/src/registry", "tonic"),
    ("control-plane/src/registry", "axum"),
    // Only the data plane speaks MCP and knows pingora.
    ("control-plane/src", "pingora"),
    ("control-plane/src", "data_plane::"),
    ("data-plane/src", "control_plane::"),
    ("proto/src", "control_plane::"),
    ("proto/src", "data_plane::"),
    ("cli/src", "pingora::"),
    ("data-plane/src/mcp", "pingora"),
    ("data-plane/src/mcp", "hyper"),
    ("data-plane/src/mcp", "crate::snapshot"),
    ("data-plane/src/route", "pingora"),
    ("data-plane/src/route", "hyper"),
    // rmcp is the judge, never in the path.
    ("proto/src", "rmcp"),
    ("control-plane/src", "rmcp"),
    ("data-plane/src", "rmcp"),
    ("cli/src", "rmcp"),
];

/// These decide: plain values in, plain values out.
const PURE: &[&str] = &[
    "control-plane/src/discovery/leases",
    "control-plane/src/discovery/schedule",
    "control-plane/src/snapshot/build",
    "control-plane/src/snapshot/follower",
    "control-plane/src/snapshot/ledger",
    "data-plane/src/mcp",
    "data-plane/src/merge",
    "data-plane/src/route",
    "data-plane/src/session",
    "data-plane/src/snapshot/apply",
    "data-plane/src/snapshot/content",
    "data-plane/src/snapshot/record",
    "data-plane/src/target",
    "data-plane/src/task_id",
    "proto/src",
];

/// What a pure file must not do: wait, look at a clock, touch the outside.
const EFFECTS: &[&str] = &[
    ".await",
    "async fn",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "tokio::",
    "std::fs",
    "std::net",
];

/// Files of `cli` that may name the libraries of a role.
const ROLE_FILES: &[&str] = &[
    "cli/src/up",
    "cli/src/control_plane",
    "cli/src/data_plane",
    "cli/src/connect",
    "cli/src/translate",
    "cli/src/tools",
];

/// Files that may read the environment; the spawner chooses what a child inherits.
const ENVIRONMENT_FILES: &[&str] = &["cli/src/config", "data-plane/src/upstream/spawner"];

/// Everything visible in the root of the repository.
const TOP_LEVEL: &[&str] = &[
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "cli",
    "control-plane",
    "data-plane",
    "deploy",
    "migrations",
    "proto",
    "tests",
];

const CRATES: &[&str] = &["cli", "control-plane", "data-plane", "proto"];
const MAX_LINES: usize = 500;

#[test]
fn imports_follow_the_rules() {
    let mut broken = Vec::new();
    for (scope, text) in FORBIDDEN {
        for file in scope_files(scope).filter(|file| file.code.contains(text)) {
            broken.push(format!("{} must not mention `{text}`", file.path));
        }
    }
    none(broken);
}

#[test]
fn what_decides_neither_waits_nor_looks_outside() {
    let mut broken = Vec::new();
    for file in PURE.iter().flat_map(|scope| scope_files(scope)) {
        for effect in EFFECTS.iter().filter(|effect| file.code.contains(**effect)) {
            broken.push(format!("{} must stay pure, but has `{effect}`", file.path));
        }
    }
    none(broken);
}

#[test]
fn only_the_roles_of_the_cli_name_the_libraries() {
    let names_a_role = |file: &File| {
        ["use control_plane::", "use data_plane::"].iter().any(|name| file.code.contains(name))
    };
    let broken = scope_files("cli/src")
        .filter(|file| !ROLE_FILES.iter().any(|role| in_scope(&file.path, role)))
        .filter(names_a_role)
        .map(|file| format!("{} must not name a role's library", file.path));
    none(broken.collect());
}

#[test]
fn only_the_configuration_reads_the_environment() {
    let broken = CRATES
        .iter()
        .flat_map(|name| scope_files(&format!("{name}/src")))
        .filter(|file| !ENVIRONMENT_FILES.iter().any(|scope| in_scope(&file.path, scope)))
        .filter(|file| file.code.contains("env::var"))
        .map(|file| format!("{} must not read the environment", file.path));
    none(broken.collect());
}

#[test]
fn only_the_output_prints_to_stdout() {
    let broken = CRATES
        .iter()
        .flat_map(|name| scope_files(&format!("{name}/src")))
        .filter(|file| !in_scope(&file.path, "cli/src/output"))
        .filter(|file| {
            ["println!(", "print!(", "stdout()"]
                .iter()
                .any(|text| file.code.contains(text) && !file.code.contains(&format!("e{text}")))
        })
        .map(|file| format!("{} must not print", file.path));
    none(broken.collect());
}

#[test]
fn unsafe_code_lives_in_the_spawner_of_stdio_children_only() {
    let broken = ["cli", "control-plane", "data-plane", "proto"]
        .iter()
        .flat_map(|name| scope_files(&format!("{name}/src")))
        .filter(|file| file.code.contains("unsafe {") || file.code.contains("unsafe fn"))
        .filter(|file| {
            !(file.path.starts_with("data-plane/src/upstream/") && file.path.contains("spawn"))
        })
        .map(|file| format!("{} must not contain `unsafe`", file.path));
    none(broken.collect());
}

#[test]
fn every_file_introduces_itself_and_stays_short() {
    let mut broken = Vec::new();
    let sources = CRATES.iter().flat_map(|name| scope_files(&format!("{name}/src")));
    for file in sources.chain(scope_files("tests")) {
        if !file.source.starts_with("//! ") {
            broken.push(format!("{}: the first line must be `//! …`", file.path));
        }
        let lines = file.source.lines().count();
        if lines > MAX_LINES {
            broken.push(format!("{} has {lines} lines: split it", file.path));
        }
        if file.path.ends_with("/mod.rs") {
            broken.push(format!("{}: use `foo.rs` beside `foo/`", file.path));
        }
    }
    none(broken);
}

#[test]
fn the_top_level_holds_only_the_agreed_names() {
    let broken = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && name != "target")
        .filter(|name| !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| format!("`{name}` has no place in the root of the repository"));
    none(broken.collect());
}

struct File {
    /// Relative to the repository, with `/`.
    path: String,
    source: String,
    /// The source without comments and unit tests.
    code: String,
}

impl File {
    fn read(path: &Path) -> Self {
        let source = fs::read_to_string(path).unwrap();
        let production = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let code = production
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        let path = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
        Self { path, source, code }
    }
}

/// `data-plane/src/mcp` covers `mcp.rs` and everything below `mcp/`.
fn in_scope(path: &str, scope: &str) -> bool {
    path.strip_prefix(scope).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

fn scope_files(scope: &str) -> impl Iterator<Item = File> + use<> {
    let mut paths = Vec::new();
    let directory = root().join(scope);
    let file = root().join(format!("{scope}.rs"));
    if file.is_file() {
        paths.push(file);
    }
    if directory.is_dir() {
        collect(&directory, &mut paths);
    }
    paths.into_iter().map(|path| File::read(&path))
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "node_modules" && name != "target" {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn none(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}
