//! Settings understood: every text parsed once, all problems collected.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use proto::Secret;

use super::{
    Collected, Origin,
    keys::{KEYS, Kind},
};

/// The longest duration that is understood.
const CENTURY: Duration = Duration::from_hours(100 * 365 * 24);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text where a person looks on, else JSON.
    Auto,
    Text,
    Json,
}

/// What a role is started with. What a role does not need is simply not asked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub data_dir: PathBuf,
    /// Not named on the command line, so that client commands find it as well.
    pub is_usual_data_dir: bool,
    /// Empty: the role's default.
    pub listen: Vec<SocketAddr>,
    pub sync_listen: Vec<SocketAddr>,
    pub ops_listen: Vec<SocketAddr>,
    pub advertise_address: Option<String>,
    pub control: Option<String>,
    pub join: Option<Secret<String>>,
    pub management: Option<String>,
    pub database_url: Option<Secret<String>>,
    pub admin_user: String,
    pub admin_password: Option<Secret<String>>,
    pub jwt_secret: Option<Secret<String>>,
    pub encryption_secret: Option<Secret<String>>,
    pub app_name: String,
    pub root_path: String,
    pub strict: bool,
    /// None: the role's default.
    pub allow_stdio: Option<bool>,
    /// Whether anybody may define commands, in the whole deployment.
    pub stdio_upstreams: bool,
    /// Processes of commands that a proxy runs at a time.
    pub stdio_processes: Option<usize>,
    pub stdio_processes_per_upstream: Option<usize>,
    pub allowed_hosts: Vec<String>,
    pub allowed_origins: Vec<String>,
    pub trusted_proxies: Vec<String>,
    pub max_body_bytes: Option<usize>,
    /// 0: lists have one page.
    pub page_size: usize,
    pub call_timeout: Option<Duration>,
    pub max_call_duration: Option<Duration>,
    pub session_idle: Option<Duration>,
    pub drain_delay: Option<Duration>,
    pub drain_timeout: Option<Duration>,
    /// None: the role's default; empty: no listener.
    pub peer_listen: Option<Vec<SocketAddr>>,
    pub peer_advertise_address: Option<String>,
    pub peer_certificate_lifetime: Option<Duration>,
    pub proxy_forget_after: Option<Duration>,
    /// 0: one per core.
    pub threads: usize,
    pub log_level: String,
    pub log_format: LogFormat,
    /// What is odd, but no error.
    pub notices: Vec<String>,
    /// Key, value with secrets masked, where it was said.
    pub printed: Vec<(&'static str, String, Origin)>,
}

impl Settings {
    pub(super) fn understand(
        data_dir: PathBuf,
        collected: Collected,
        problems: &mut Vec<String>,
    ) -> Self {
        let printed = printed(&collected);
        let mut reader = Reader { collected, problems };
        let production = reader.text("environment").is_some_and(|name| name == "production");
        Self {
            data_dir,
            is_usual_data_dir: false,
            listen: reader.addresses("listen"),
            sync_listen: reader.addresses("sync_listen"),
            ops_listen: reader.addresses("ops_listen"),
            advertise_address: reader.text("advertise_address"),
            control: reader.text("control"),
            join: reader.secret("join"),
            management: reader.text("management"),
            database_url: reader.secret("database_url"),
            admin_user: reader.text("admin_user").unwrap_or_else(|| "admin".to_owned()),
            admin_password: reader.secret("admin_password"),
            jwt_secret: reader.secret("jwt_secret"),
            encryption_secret: reader.secret("encryption_secret"),
            app_name: reader.text("app_name").unwrap_or_else(|| "Lockgate".to_owned()),
            root_path: reader.root_path(),
            strict: reader.flag("strict").unwrap_or(production),
            allow_stdio: reader.flag("allow_stdio"),
            stdio_upstreams: reader.flag("stdio_upstreams").unwrap_or(true),
            allowed_hosts: reader.list("allowed_hosts"),
            allowed_origins: reader.list("allowed_origins"),
            trusted_proxies: reader.list("trusted_proxies"),
            stdio_processes: reader.number("stdio_processes"),
            stdio_processes_per_upstream: reader.number("stdio_processes_per_upstream"),
            max_body_bytes: reader.number("max_body_bytes"),
            page_size: reader.number("page_size").unwrap_or_default(),
            call_timeout: reader.seconds("call_timeout"),
            max_call_duration: reader.seconds("max_call_duration"),
            session_idle: reader.seconds("session_idle"),
            drain_delay: reader.seconds("drain_delay"),
            drain_timeout: reader.seconds("drain_timeout"),
            peer_listen: reader.peer_listen(),
            peer_advertise_address: reader.text("peer_advertise_address"),
            peer_certificate_lifetime: reader.seconds("peer_certificate_lifetime"),
            proxy_forget_after: reader.seconds("proxy_forget_after"),
            threads: reader.number("threads").unwrap_or_default(),
            log_level: reader.text("log_level").unwrap_or_else(|| "info".to_owned()),
            log_format: reader.log_format(),
            notices: reader.collected.notices,
            printed,
        }
    }
}

fn printed(collected: &Collected) -> Vec<(&'static str, String, Origin)> {
    let line = |key: &super::Key| match collected.values.get(key.name) {
        None => (key.name, String::new(), Origin::Default),
        Some(given) if key.kind == Kind::Secret => {
            (key.name, "***".to_owned(), given.origin.clone())
        }
        Some(given) => (key.name, given.texts.join(", "), given.origin.clone()),
    };
    KEYS.iter().map(line).collect()
}

struct Reader<'a> {
    collected: Collected,
    problems: &'a mut Vec<String>,
}

impl Reader<'_> {
    /// Notes that the value of a key cannot be used, and where it was said.
    fn problem(&mut self, key: &str, problem: &str) {
        let place = match self.collected.values.get(key).map(|given| &given.origin) {
            Some(Origin::Flag) => format!("--{}", key.replace('_', "-")),
            Some(Origin::Environment(name)) => format!("`{name}`"),
            Some(Origin::File(line)) => format!("`{key}` (file, line {line})"),
            Some(Origin::Default) | None => format!("`{key}`"),
        };
        self.problems.push(format!("{place}: {problem}"));
    }

    fn list(&mut self, key: &'static str) -> Vec<String> {
        self.collected.values.get(key).map(|given| given.texts.clone()).unwrap_or_default()
    }

    fn text(&mut self, key: &'static str) -> Option<String> {
        let texts = self.list(key);
        if texts.len() > 1 {
            self.problem(key, "takes one value");
        }
        texts.into_iter().next().filter(|text| !text.is_empty())
    }

    fn secret(&mut self, key: &'static str) -> Option<Secret<String>> {
        self.text(key).map(Secret::from)
    }

    fn parsed<T: FromStr>(&mut self, key: &'static str, what: &str) -> Option<T> {
        let text = self.text(key)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.problem(key, &format!("`{text}` is not {what}"));
        }
        value
    }

    fn number(&mut self, key: &'static str) -> Option<usize> {
        self.parsed(key, "a whole number")
    }

    /// Seconds, with or without the unit.
    fn seconds(&mut self, key: &'static str) -> Option<Duration> {
        let text = self.text(key)?;
        let number = text.trim_end_matches('s').parse::<f64>().ok();
        let duration = number.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        // Clocks cannot be set any later.
        let duration = duration.filter(|duration| *duration <= CENTURY);
        if duration.is_none() {
            self.problem(key, &format!("`{text}` is not a number of seconds within a century"));
        }
        duration
    }

    fn flag(&mut self, key: &'static str) -> Option<bool> {
        let text = self.text(key)?;
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => {
                self.problem(key, &format!("`{text}` is not true or false"));
                None
            }
        }
    }

    fn addresses(&mut self, key: &'static str) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        for text in self.list(key) {
            let Some(parsed) = parse_addresses(&text) else {
                let problem = format!("`{text}` is not ADDRESS:PORT, such as 127.0.0.1:4444");
                self.problem(key, &problem);
                continue;
            };
            addresses.extend(parsed);
        }
        addresses
    }

    /// `off` is no listener, which is something else than none given.
    fn peer_listen(&mut self) -> Option<Vec<SocketAddr>> {
        match self.list("peer_listen").as_slice() {
            [] => None,
            [text] if text == "off" => Some(Vec::new()),
            _ => Some(self.addresses("peer_listen")),
        }
    }

    /// `/gateway`: with a slash in front and none behind; empty: none.
    fn root_path(&mut self) -> String {
        let path = self.text("root_path").unwrap_or_default();
        let path = path.trim_end_matches('/');
        if !path.is_empty() && !path.starts_with('/') {
            self.problem("root_path", "must start with `/`");
        }
        path.to_owned()
    }

    fn log_format(&mut self) -> LogFormat {
        match self.text("log_format").as_deref() {
            None | Some("auto") => LogFormat::Auto,
            Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => {
                self.problem("log_format", &format!("`{other}` is not `auto`, `text` or `json`"));
                LogFormat::Auto
            }
        }
    }
}

/// An address; `localhost:PORT` is both loopbacks, `:PORT` and `*:PORT` every address.
fn parse_addresses(text: &str) -> Option<Vec<SocketAddr>> {
    if let Ok(address) = text.parse() {
        return Some(vec![address]);
    }
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    match host {
        "localhost" => {
            Some(vec![([127, 0, 0, 1], port).into(), (std::net::Ipv6Addr::LOCALHOST, port).into()])
        }
        "" | "*" => Some(vec![(std::net::Ipv6Addr::UNSPECIFIED, port).into()]),
        _ => None,
    }
}
