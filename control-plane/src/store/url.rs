//! Which database: SQLite in the data directory, or what a URL names.

use std::path::{Path, PathBuf};

use proto::Secret;
use url::Url;

use super::StoreError;

/// The database file in the data directory.
const FILE: &str = "lockgate.db";

/// Where the store is.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// `postgres://…`, `sqlite:///./x.db`, or SQLAlchemy's `postgresql+psycopg://…`.
    /// None: `lockgate.db` in the data directory.
    pub database_url: Option<Secret<String>>,
    pub data_dir: PathBuf,
}

/// A parsed database URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Database {
    Sqlite(PathBuf),
    /// With password; never printed.
    Postgres(Secret<String>),
}

impl StoreConfig {
    pub(super) fn database(&self) -> Result<Database, StoreError> {
        match &self.database_url {
            None => Ok(Database::Sqlite(self.data_dir.join(FILE))),
            Some(url) => Database::parse(url.expose()),
        }
    }
}

impl Database {
    fn parse(url: &str) -> Result<Self, StoreError> {
        let (scheme, rest) =
            url.split_once(':').ok_or_else(|| StoreError::Url("it has no scheme".to_owned()))?;
        // SQLAlchemy names the driver after a plus.
        match scheme.split_once('+').map_or(scheme, |(database, _driver)| database) {
            "postgres" | "postgresql" => {
                Ok(Self::Postgres(Secret::new(format!("postgres:{rest}"))))
            }
            "sqlite" => sqlite_path(rest),
            other => Err(StoreError::Url(format!(
                "`{other}` is not supported: use postgres:// or sqlite:///"
            ))),
        }
    }

    /// The URL as sqlx reads it.
    pub(super) fn connect_url(&self) -> Result<Secret<String>, StoreError> {
        match self {
            Self::Postgres(url) => Ok(url.clone()),
            Self::Sqlite(path) => file_url(path),
        }
    }
}

/// SQLAlchemy's reading: after `sqlite://` comes an empty host, so three
/// slashes are a relative path and four an absolute one.
fn sqlite_path(rest: &str) -> Result<Database, StoreError> {
    let path = rest.strip_prefix("///").or_else(|| rest.strip_prefix("//")).unwrap_or(rest);
    let path = path.split('?').next().unwrap_or_default();
    if path.is_empty() || path == ":memory:" {
        return Err(StoreError::Url("a SQLite database needs a file".to_owned()));
    }
    Ok(Database::Sqlite(path.into()))
}

fn file_url(path: &Path) -> Result<Secret<String>, StoreError> {
    let bad = |problem: &str| StoreError::Url(format!("the path {} {problem}", path.display()));
    let absolute = std::path::absolute(path).map_err(|_| bad("cannot be made absolute"))?;
    let text = absolute.to_str().ok_or_else(|| bad("is no UTF-8 text"))?;
    let mut url = Url::parse("sqlite:///").map_err(|error| StoreError::Url(error.to_string()))?;
    url.set_path(&text.replace('%', "%25"));
    Ok(Secret::new(url.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let database = Database::parse(url).unwrap();
        let shown = match database {
            Database::Sqlite(path) => path.display().to_string(),
            Database::Postgres(url) => url.expose().clone(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn urls_of_contextforge_are_understood() {
        check("sqlite:///./mcp.db", "./mcp.db");
        check("sqlite:///mcp.db", "mcp.db");
        check("sqlite:////data/mcp.db", "/data/mcp.db");
        check("postgresql+psycopg://u:p@h:5432/db", "postgres://u:p@h:5432/db");
        check("postgresql://u@h/db", "postgres://u@h/db");
        check("postgres:///db?host=/run/pg", "postgres:///db?host=/run/pg");
    }

    #[test]
    fn others_are_refused_with_the_reason() {
        let error = Database::parse("mysql+pymysql://h/db").unwrap_err();
        assert!(error.to_string().contains("`mysql` is not supported"), "{error}");
        assert!(Database::parse("sqlite:///:memory:").is_err());
        assert!(Database::parse("nothing").is_err());
    }

    #[test]
    fn a_path_may_hold_any_character() {
        let url = file_url(Path::new("/tmp/a b?#%20/x.db")).unwrap();
        assert_eq!(url.expose(), "sqlite:///tmp/a%20b%3F%23%2520/x.db");
    }
}
