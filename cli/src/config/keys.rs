//! Every setting: its name in the file, its variables, its form.

/// How the text of a setting is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Never printed; may come from a file by the suffix `_FILE` or `_file`.
    Secret,
    /// In the environment: a JSON list, or parts between commas.
    List,
}

#[derive(Debug)]
pub(super) struct Key {
    /// In the file; `LOCKGATE_` and capitals make the variable.
    pub name: &'static str,
    pub kind: Kind,
    /// ContextForge's variables.
    pub aliases: &'static [&'static str],
}

const fn key(name: &'static str, kind: Kind, aliases: &'static [&'static str]) -> Key {
    Key { name, kind, aliases }
}

pub(super) const KEYS: &[Key] = &[
    key("listen", Kind::List, &[]),
    key("sync_listen", Kind::List, &[]),
    key("ops_listen", Kind::List, &[]),
    key("advertise_address", Kind::Text, &[]),
    key("control", Kind::Text, &[]),
    key("join", Kind::Secret, &[]),
    key("management", Kind::Text, &[]),
    key("database_url", Kind::Secret, &["DATABASE_URL"]),
    key("admin_user", Kind::Text, &["BASIC_AUTH_USER"]),
    key("admin_password", Kind::Secret, &["BASIC_AUTH_PASSWORD"]),
    key("jwt_secret", Kind::Secret, &["JWT_SECRET_KEY"]),
    key("encryption_secret", Kind::Secret, &["AUTH_ENCRYPTION_SECRET"]),
    key("app_name", Kind::Text, &["APP_NAME"]),
    key("root_path", Kind::Text, &["APP_ROOT_PATH"]),
    key("environment", Kind::Text, &["ENVIRONMENT"]),
    key("strict", Kind::Text, &[]),
    key("allow_stdio", Kind::Text, &[]),
    key("stdio_upstreams", Kind::Text, &[]),
    key("stdio_processes", Kind::Text, &[]),
    key("stdio_processes_per_upstream", Kind::Text, &[]),
    key("allowed_hosts", Kind::List, &[]),
    key("allowed_origins", Kind::List, &["ALLOWED_ORIGINS"]),
    key("trusted_proxies", Kind::List, &[]),
    key("max_body_bytes", Kind::Text, &[]),
    key("page_size", Kind::Text, &[]),
    key("call_timeout", Kind::Text, &[]),
    key("max_call_duration", Kind::Text, &[]),
    key("session_idle", Kind::Text, &[]),
    key("drain_delay", Kind::Text, &[]),
    key("drain_timeout", Kind::Text, &[]),
    key("peer_listen", Kind::List, &[]),
    key("peer_advertise_address", Kind::Text, &[]),
    key("peer_certificate_lifetime", Kind::Text, &[]),
    key("proxy_forget_after", Kind::Text, &[]),
    key("threads", Kind::Text, &[]),
    key("log_level", Kind::Text, &["LOG_LEVEL", "RUST_LOG"]),
    key("log_format", Kind::Text, &["LOG_FORMAT"]),
];

/// Variables of client commands and of finding the file; no settings of a role.
pub(super) const CLIENT_VARIABLES: &[&str] =
    &["LOCKGATE_ADDRESS", "LOCKGATE_TOKEN", "LOCKGATE_DATA_DIR", "LOCKGATE_CONFIG"];

impl Key {
    pub(super) fn variable(&self) -> String {
        format!("LOCKGATE_{}", self.name.to_ascii_uppercase())
    }
}

pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// `["a","b"]` or `a, b`.
pub(super) fn split_list(text: &str) -> Vec<String> {
    if let Ok(list) = serde_json::from_str::<Vec<String>>(text) {
        return list;
    }
    text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}
