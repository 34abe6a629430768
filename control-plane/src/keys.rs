//! The secrets of an installation: generated once into the data directory, or
//! given by configuration. There is no default secret.

pub(crate) mod certificate;
pub(crate) mod file;

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proto::Secret;

use crate::{
    config::{Config, DataDir},
    keys::certificate::Certificate,
    seal::{self, Sealer},
};

/// Everything secret that the control plane works with.
pub(crate) struct Keys {
    pub(crate) sealer: Sealer,
    /// Ed25519 seed of our own access tokens.
    pub(crate) signing: Secret<[u8; 32]>,
    /// HS256 secret of ContextForge tokens.
    pub(crate) jwt_secret: Secret<String>,
    pub(crate) admin_password: Secret<String>,
    /// Whether this start generated `admin_password`.
    pub(crate) password_is_new: bool,
    pub(crate) certificate: Certificate,
}

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("`{}` is not a key of this program: restore it from a backup", path.display())]
    Damaged { path: PathBuf },
    #[error("`{}` can be read by others: run `chmod 600` on it", path.display())]
    Exposed { path: PathBuf },
    #[error("cannot make a key: {0}")]
    Generate(String),
}

impl Keys {
    /// Reads what is there and generates what is missing.
    pub(crate) fn load(config: &Config, dir: &DataDir) -> Result<Self, KeysError> {
        let keys = dir.keys();
        file::make_private_dir(&keys)?;
        let encryption = match &config.encryption_secret {
            Some(text) => {
                seal::key_from_text(text).map_err(|e| KeysError::Generate(e.to_string()))?
            }
            None => bytes_at(&keys.join("encryption.key"))?,
        };
        let jwt_secret = match &config.jwt_secret {
            Some(secret) => secret.clone(),
            None => text_at(&keys.join("jwt.secret"))?.0,
        };
        let (admin_password, password_is_new) = match &config.admin_password {
            Some(password) => (password.clone(), false),
            None => text_at(&dir.admin_password())?,
        };
        Ok(Self {
            sealer: Sealer::new(&encryption),
            signing: bytes_at(&keys.join("signing.key"))?,
            jwt_secret,
            admin_password,
            password_is_new,
            certificate: Certificate::load(&keys)?,
        })
    }
}

/// 43 characters that nobody guesses.
pub(crate) fn random_text() -> Secret<String> {
    let bytes = Secret::new(rand::random::<[u8; 32]>());
    URL_SAFE_NO_PAD.encode(bytes.expose()).into()
}

/// The secret text in a file, and whether it was generated now.
fn text_at(path: &Path) -> Result<(Secret<String>, bool), KeysError> {
    if let Some(text) = file::read_private(path)? {
        let trimmed = text.expose().trim();
        if trimmed.is_empty() {
            return Err(KeysError::Damaged { path: path.to_owned() });
        }
        return Ok((trimmed.into(), false));
    }
    let text = random_text();
    file::write_private(path, &format!("{}\n", text.expose()))?;
    Ok((text, true))
}

/// The 32 bytes that a key file stands for.
fn bytes_at(path: &Path) -> Result<Secret<[u8; 32]>, KeysError> {
    let (text, _) = text_at(path)?;
    let damaged = || KeysError::Damaged { path: path.to_owned() };
    let bytes = Secret::new(URL_SAFE_NO_PAD.decode(text.expose()).map_err(|_| damaged())?);
    bytes.expose().as_slice().try_into().map(Secret::new).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn load(config: &Config) -> Result<Keys, KeysError> {
        Keys::load(config, &DataDir::new(&config.data_dir))
    }

    #[test]
    fn the_first_start_generates_and_the_second_finds_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path());
        let first = load(&config).unwrap();
        assert!(first.password_is_new);
        assert_eq!(first.admin_password.expose().len(), 43);
        let second = load(&config).unwrap();
        assert!(!second.password_is_new);
        assert_eq!(first.admin_password, second.admin_password);
        assert_eq!(first.jwt_secret, second.jwt_secret);
        assert_eq!(first.signing, second.signing);
        assert_eq!(first.certificate.fingerprint(), second.certificate.fingerprint());
        let sealed = first.sealer.seal("x", b"secret");
        assert_eq!(second.sealer.open("x", &sealed).unwrap(), b"secret");
    }

    #[test]
    fn only_the_owner_can_read_what_is_generated() {
        let dir = tempfile::tempdir().unwrap();
        load(&Config::new(dir.path())).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join("admin-password")), 0o600);
        assert_eq!(mode(&dir.path().join("keys")), 0o700);
        let files: Vec<_> = std::fs::read_dir(dir.path().join("keys")).unwrap().collect();
        assert_eq!(files.len(), 5);
        for file in files {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
    }

    #[test]
    fn configured_secrets_win_and_leave_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path());
        config.admin_password = Some("changeme".into());
        config.jwt_secret = Some("my-test-key".into());
        config.encryption_secret = Some("my-test-salt".into());
        let keys = load(&config).unwrap();
        assert!(!keys.password_is_new);
        assert_eq!(keys.jwt_secret.expose(), "my-test-key");
        assert!(!dir.path().join("admin-password").exists());
        assert!(!dir.path().join("keys/jwt.secret").exists());
        assert!(!dir.path().join("keys/encryption.key").exists());
    }

    #[test]
    fn a_key_that_others_can_read_and_a_damaged_one_stop_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path());
        load(&config).unwrap();
        let path = dir.path().join("keys/signing.key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load(&config), Err(KeysError::Exposed { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(load(&config), Err(KeysError::Damaged { .. })));
    }
}
