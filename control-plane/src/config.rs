//! What the control plane has to be told before it starts. The CLI fills it from
//! flags, environment and file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use proto::Secret;

const MONTH: Duration = Duration::from_hours(30 * 24);

/// The start configuration. Only `data_dir` has no default.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where database, keys, lock and control socket live. Made with mode 0700.
    pub data_dir: PathBuf,
    /// `sqlite:…` or `postgres://…`; none: a SQLite file in the data directory. May
    /// contain a password.
    pub database_url: Option<Secret<String>>,
    /// The administrator's name, for HTTP Basic and ContextForge tokens.
    pub admin_user: String,
    /// None: generated at the first start and kept in the data directory.
    pub admin_password: Option<Secret<String>>,
    /// The HS256 secret of ContextForge tokens; none: generated.
    pub jwt_secret: Option<Secret<String>>,
    /// What stored secrets are sealed with; none: a generated key.
    pub encryption_secret: Option<Secret<String>>,
    /// Shown as `serverInfo.name` and in `/version`.
    pub app_name: String,
    pub strictness: Strictness,
    pub stdio: StdioUpstreams,
    /// How long the certificate of a proxy is valid; it is renewed at half of that.
    pub peer_certificate_lifetime: Duration,
    /// A proxy that was not seen for so long is forgotten.
    pub proxy_forget_after: Duration,
}

/// Whether upstreams may be commands, in the whole deployment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StdioUpstreams {
    #[default]
    Allowed,
    /// None can be defined, and those that are there are not run.
    Forbidden,
}

/// What happens to a weak secret that somebody configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// It works, with a loud warning at each start and each hour.
    #[default]
    Lenient,
    /// The start is refused (`strict: true`, `ENVIRONMENT=production`).
    Strict,
}

impl Config {
    /// The defaults around a data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            database_url: None,
            admin_user: "admin".to_owned(),
            admin_password: None,
            jwt_secret: None,
            encryption_secret: None,
            app_name: "Lockgate".to_owned(),
            strictness: Strictness::Lenient,
            stdio: StdioUpstreams::Allowed,
            peer_certificate_lifetime: MONTH,
            proxy_forget_after: MONTH,
        }
    }

    /// The secrets given by a person that everybody could guess, by option name.
    pub(crate) fn weak_secrets(&self) -> Vec<&'static str> {
        let given = [
            ("admin_password", &self.admin_password),
            ("jwt_secret", &self.jwt_secret),
            ("encryption_secret", &self.encryption_secret),
        ];
        let weak = given.into_iter().filter_map(|(name, secret)| {
            secret.as_ref().filter(|secret| is_weak(secret.expose())).map(|_| name)
        });
        weak.collect()
    }
}

/// Shortest secret that is not called weak, in bytes.
const SECRET_MIN: usize = 16;

/// Known from somebody's documentation, or too short.
fn is_weak(secret: &str) -> bool {
    const KNOWN: [&str; 4] = ["changeme", "my-test-key", "my-test-salt", "my-test-key-12345678"];
    secret.len() < SECRET_MIN || KNOWN.contains(&secret)
}

/// Places inside a data directory.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

impl DataDir {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    pub fn admin_password(&self) -> PathBuf {
        self.0.join("admin-password")
    }

    /// The socket that the local CLI uses without login.
    pub fn control_socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_secrets_are_named_and_strong_ones_are_not() {
        let mut config = Config::new("/tmp/x");
        assert!(config.weak_secrets().is_empty(), "generated secrets are strong");
        config.admin_password = Some("changeme".into());
        config.jwt_secret = Some("0123456789abcdef0123456789abcdef".into());
        config.encryption_secret = Some("my-test-salt".into());
        assert_eq!(config.weak_secrets(), ["admin_password", "encryption_secret"]);
    }
}
