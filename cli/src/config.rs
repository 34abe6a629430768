//! Settings: flags win over environment, environment over file, file over defaults. The
//! only file that reads the environment.
//!
//! To add a setting: a line in `config/keys.rs`, a field in `config/settings.rs`, and a flag
//! in `args/roles.rs` if it deserves one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use proto::Secret;

use crate::{
    args::Global,
    failure::{Exit, Failure},
    nearest::{did_you_mean, nearest},
    tree::{self, Tree},
};

mod keys;
mod settings;
#[cfg(feature = "data-plane")]
mod target;

use keys::{KEYS, Key, Kind};
pub(crate) use settings::{LogFormat, Settings};
#[cfg(feature = "data-plane")]
pub(crate) use target::{Target, target};

/// The environment as a value, so that reading it can be tested.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// That of this process; what is not Unicode cannot be a setting.
    pub(crate) fn of_process() -> Self {
        let pairs = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self(pairs.collect())
    }

    /// The value; empty counts as not given.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

#[cfg(feature = "data-plane")]
impl Environment {
    /// All that a command may inherit that the user starts through us: not our own secrets.
    pub(crate) fn for_commands(&self) -> BTreeMap<String, String> {
        let is_ours =
            |name: &str| name.starts_with("LOCKGATE_") || target::TOKEN_VARIABLES.contains(&name);
        let pairs = self.0.iter().filter(|(name, _)| !is_ours(name));
        pairs.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }
}

/// Where a value was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Environment(String),
    File(u64),
    Default,
}

/// One value as text, before it is understood.
#[derive(Clone, Debug)]
struct Given {
    texts: Vec<String>,
    origin: Origin,
}

/// What was given on the command line, by key; empty lists are not given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags(BTreeMap<&'static str, Vec<String>>);

impl Flags {
    pub(crate) fn set(&mut self, key: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.0.insert(key, vec![value.to_string()]);
        }
    }

    pub(crate) fn set_list(&mut self, key: &'static str, values: &[String]) {
        if !values.is_empty() {
            self.0.insert(key, values.to_vec());
        }
    }
}

/// All values that were given, and what was wrong with the giving.
#[derive(Debug, Default)]
struct Collected {
    values: BTreeMap<&'static str, Given>,
    problems: Vec<String>,
    notices: Vec<String>,
}

/// Everything that a role is started with.
pub(crate) fn load(
    global: &Global,
    flags: Flags,
    environment: &Environment,
) -> Result<Settings, Failure> {
    let data_dir = data_dir(global, environment)?;
    let mut collected = Collected::default();
    // Weakest first; each level replaces what the one before gave.
    if let Some(path) = file_path(global, environment, &data_dir) {
        let text = std::fs::read_to_string(&path).map_err(|error| Failure::file(&path, &error))?;
        collected.take_file(&text, &path);
    }
    collected.take_environment(environment);
    for (key, texts) in flags.0 {
        collected.values.insert(key, Given { texts, origin: Origin::Flag });
    }
    let mut problems = std::mem::take(&mut collected.problems);
    let mut settings = Settings::understand(data_dir, collected, &mut problems);
    settings.is_usual_data_dir = global.data_dir.is_none();
    if problems.is_empty() {
        return Ok(settings);
    }
    Err(Failure::new(Exit::Usage, "configuration", problems.join("\n  ")).during("configuration"))
}

/// The program as it was typed, for lines that tell what to type next.
pub(crate) fn program() -> String {
    let typed = std::env::args_os().next().and_then(|name| name.into_string().ok());
    typed.unwrap_or_else(|| "lockgate".to_owned())
}

/// The data directory: flag, LOCKGATE_DATA_DIR, or the user's.
pub(crate) fn data_dir(global: &Global, environment: &Environment) -> Result<PathBuf, Failure> {
    let given = global.data_dir.clone();
    let given = given.or_else(|| environment.get("LOCKGATE_DATA_DIR").map(PathBuf::from));
    let given = given
        .or_else(|| environment.get("XDG_DATA_HOME").map(|home| Path::new(home).join("lockgate")));
    let given = given.or_else(|| {
        environment.get("HOME").map(|home| Path::new(home).join(".local/share/lockgate"))
    });
    given.ok_or_else(|| Failure::usage("there is no home directory: give --data-dir"))
}

/// Where a client command goes: an address with its token, or nothing for the local socket.
pub(crate) struct Remote {
    pub address: Option<String>,
    pub token: Option<Secret<String>>,
}

pub(crate) fn remote(global: &Global, environment: &Environment) -> Result<Remote, Failure> {
    // --data-dir on the command line means that instance, whatever the environment says.
    let from_environment = || environment.get("LOCKGATE_ADDRESS").map(str::to_owned);
    let is_local = global.address.is_none() && global.data_dir.is_some();
    let address = global.address.clone().or_else(from_environment).filter(|_| !is_local);
    let token = match &global.token {
        Some(token) => Some(token.clone()),
        None => secret_text("LOCKGATE_TOKEN", environment)?
            .or_else(|| environment.get("MCPGATEWAY_BEARER_TOKEN").map(str::to_owned)),
    };
    Ok(Remote { address, token: token.map(Secret::from) })
}

/// The token that was given to this program, by flag or environment.
#[cfg(feature = "data-plane")]
pub(crate) fn token(
    global: &Global,
    environment: &Environment,
) -> Result<Option<Secret<String>>, Failure> {
    let token = match &global.token {
        Some(token) => Some(token.clone()),
        None => secret_text("LOCKGATE_TOKEN", environment)?,
    };
    Ok(token.map(Secret::from))
}

/// `NAME`, or the content of the file that `NAME_FILE` names.
fn secret_text(name: &str, environment: &Environment) -> Result<Option<String>, Failure> {
    let file = environment.get(&format!("{name}_FILE"));
    match (environment.get(name), file) {
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("`{name}` and `{name}_FILE` are both set")))
        }
        (Some(value), None) => Ok(Some(value.to_owned())),
        (None, Some(path)) => read_secret(Path::new(path)).map(Some),
        (None, None) => Ok(None),
    }
}

/// A secret file's content without the line end that editors add.
fn read_secret(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The file to read: the one named, else the usual one if it is there.
fn file_path(global: &Global, environment: &Environment, data_dir: &Path) -> Option<PathBuf> {
    let named =
        global.config.clone().or_else(|| environment.get("LOCKGATE_CONFIG").map(PathBuf::from));
    named.or_else(|| Some(data_dir.join("lockgate.yaml")).filter(|path| path.exists()))
}

impl Collected {
    fn take_file(&mut self, text: &str, path: &Path) {
        let name = path.display();
        let documents = match tree::from_yaml(text) {
            Ok(documents) => documents,
            Err(failure) => return self.problems.push(format!("{name}: {}", failure.message)),
        };
        if documents.len() > 1 {
            self.problems.push(format!("{name}: one document expected"));
        }
        let Some(node) = documents.into_iter().next() else { return };
        let Tree::Map(entries) = node.tree else {
            return self.problems.push(format!("{name}: names and values expected"));
        };
        for (word, node) in entries {
            let place = format!("{name}:{}", node.line);
            self.take_entry(&word, &node.tree, Origin::File(node.line), &place);
        }
    }

    fn take_entry(&mut self, word: &str, tree: &Tree, origin: Origin, place: &str) {
        let texts = match tree {
            Tree::List(nodes) => nodes.iter().map(|node| node.tree.scalar()).collect(),
            other => other.scalar().map(|text| vec![text]),
        };
        let Some(texts) = texts else {
            return self
                .problems
                .push(format!("{place}: `{word}` must be text or a list of texts"));
        };
        let secret_file = word
            .strip_suffix("_file")
            .and_then(|word| keys::find(word).filter(|key| key.kind == Kind::Secret));
        match (keys::find(word), secret_file) {
            (Some(key), _) => {
                self.values.insert(key.name, Given { texts, origin });
            }
            (None, Some(key)) => {
                let path = texts.first().cloned().unwrap_or_default();
                self.take_secret_file(key, &path, origin);
            }
            (None, None) => {
                let hint = did_you_mean(word, KEYS.iter().map(|key| key.name));
                self.problems.push(format!("{place}: `{word}` is not a setting{hint}"));
            }
        }
    }

    fn take_secret_file(&mut self, key: &Key, path: &str, origin: Origin) {
        match read_secret(Path::new(path)) {
            Ok(text) => {
                self.values.insert(key.name, Given { texts: vec![text], origin });
            }
            Err(failure) => self.problems.push(format!("{}_file: {failure}", key.name)),
        }
    }

    fn take_environment(&mut self, environment: &Environment) {
        for key in KEYS {
            // The aliases first: our own name wins.
            for name in
                key.aliases.iter().rev().map(|name| (*name).to_owned()).chain([key.variable()])
            {
                self.take_variable(key, &name, environment);
            }
        }
        self.take_host_and_port(environment);
        let own = KEYS.iter().map(Key::variable).collect::<Vec<_>>();
        for name in environment.0.keys().filter(|name| name.starts_with("LOCKGATE_")) {
            let word = name.strip_suffix("_FILE").unwrap_or(name);
            if own.iter().any(|known| known == word) || keys::CLIENT_VARIABLES.contains(&word) {
                continue;
            }
            // Orchestrators inject variables such as LOCKGATE_SERVICE_HOST: no error.
            if let Some(near) = nearest(word, own.iter().map(String::as_str)) {
                self.notices.push(format!("`{name}` is not a setting; did you mean `{near}`?"));
            }
        }
    }

    fn take_variable(&mut self, key: &Key, name: &str, environment: &Environment) {
        let origin = Origin::Environment(name.to_owned());
        let file_name = format!("{name}_FILE");
        let file = environment.get(&file_name).filter(|_| key.kind == Kind::Secret);
        match (environment.get(name), file) {
            (Some(_), Some(_)) => {
                self.problems.push(format!("`{name}` and `{file_name}` are both set"));
            }
            (Some(value), None) => {
                let texts = match key.kind {
                    Kind::List => keys::split_list(value),
                    Kind::Text | Kind::Secret => vec![value.to_owned()],
                };
                self.values.insert(key.name, Given { texts, origin });
            }
            (None, Some(path)) => {
                self.take_secret_file(key, path, Origin::Environment(file_name));
            }
            (None, None) => {}
        }
    }

    /// ContextForge's HOST and PORT, unless LOCKGATE_LISTEN says it better. Shells and
    /// build tools set HOST to a machine's name: only addresses count.
    fn take_host_and_port(&mut self, environment: &Environment) {
        let port = environment.get("PORT");
        let host = environment
            .get("HOST")
            .filter(|host| *host == "localhost" || host.parse::<std::net::IpAddr>().is_ok());
        if environment.get("LOCKGATE_LISTEN").is_some() || (host.is_none() && port.is_none()) {
            return;
        }
        let port = port.unwrap_or("4444");
        let texts = match host {
            None | Some("localhost") => vec![format!("127.0.0.1:{port}"), format!("[::1]:{port}")],
            Some(host) if host.contains(':') => vec![format!("[{host}]:{port}")],
            Some(host) => vec![format!("{host}:{port}")],
        };
        let origin = Origin::Environment("HOST, PORT".to_owned());
        self.values.insert("listen", Given { texts, origin });
    }
}

#[cfg(test)]
mod tests;
