//! Private files, written whole or not at all, and the lock of the data directory.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use proto::Secret;
use rustix::fs::{FlockOperation, flock};

use crate::keys::KeysError;

/// Makes a directory that only its owner may enter; one that exists stays as it is.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), KeysError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| KeysError::Write { path: path.to_owned(), source })
}

/// Reads a secret file; none if there is no such file.
pub(crate) fn read_private(path: &Path) -> Result<Option<Secret<String>>, KeysError> {
    let read = |source| KeysError::Read { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read(error)),
    };
    let mode = file.metadata().map_err(read)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeysError::Exposed { path: path.to_owned() });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(read)?;
    Ok(Some(text.into()))
}

/// Writes a secret file with mode 0600; after a crash it is there whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), KeysError> {
    let write = || -> std::io::Result<()> {
        let part = path.with_extension("part");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&part, path)?;
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|source| KeysError::Write { path: path.to_owned(), source })
}

/// The exclusive right to a data directory; given back on drop or death.
#[derive(Debug)]
pub(crate) struct DirLock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// What keeps us from the lock.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another process holds it.
    Held,
    Io(std::io::Error),
}

impl DirLock {
    pub(crate) fn take(path: &Path) -> Result<Self, LockError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(LockError::Io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Held),
            Err(errno) => Err(LockError::Io(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = DirLock::take(&path).unwrap();
        assert!(matches!(DirLock::take(&path), Err(LockError::Held)));
        drop(lock);
        assert!(DirLock::take(&path).is_ok());
    }
}
