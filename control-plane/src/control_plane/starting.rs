//! What can stop a start, and the lock that comes first.

use std::path::PathBuf;

use crate::{
    config::DataDir,
    identity::keys::KeyError,
    keys::{
        KeysError,
        file::{self, DirLock, LockError},
    },
    peers::AuthorityError,
    store::StoreError,
};

/// Why a control plane does not start; each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "the data directory `{}` is in use by another lockgate: stop that one or give another \
         --data-dir", path.display()
    )]
    DataDirInUse { path: PathBuf },
    #[error("the data directory `{}` cannot be written: {source}", path.display())]
    DataDirUnwritable { path: PathBuf, source: std::io::Error },
    #[error(
        "the database has schema version {found}, this lockgate knows {known}: use the newer \
         lockgate, or restore a backup"
    )]
    NewerDatabase { found: i64, known: i64 },
    #[error("weak secrets are refused in strict mode and in production: set another {}", names.join(", "))]
    WeakSecrets { names: Vec<&'static str> },
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    StoredKeys(#[from] KeyError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("cannot open the database: {0}")]
    Store(#[source] StoreError),
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NewerSchema { found, known } => Self::NewerDatabase { found, known },
            StoreError::Database(_)
            | StoreError::Url(_)
            | StoreError::File { .. }
            | StoreError::Migration(_)
            | StoreError::Corrupt { .. } => Self::Store(error),
        }
    }
}

/// Makes the data directory ours.
pub(super) fn lock(dir: &DataDir) -> Result<DirLock, StartError> {
    let path = || dir.path().to_owned();
    file::make_private_dir(dir.path()).map_err(|error| match error {
        KeysError::Read { source, .. } | KeysError::Write { source, .. } => {
            StartError::DataDirUnwritable { path: path(), source }
        }
        other => other.into(),
    })?;
    DirLock::take(&dir.lock()).map_err(|error| match error {
        LockError::Held => StartError::DataDirInUse { path: path() },
        LockError::Io(source) => StartError::DataDirUnwritable { path: path(), source },
    })
}
