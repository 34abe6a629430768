//! Last-known-good configuration in `DATA/config`: the proxy boots from it with nothing else reachable.
//!
//! A generation is `N.snapshot` and `N.log`. The newest readable generation
//! counts; the one before it is kept. Files are 0600 in a 0700 directory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{apply::Record, content::Content, record::RecordKey};

/// A log shorter than this is not worth compacting.
const LOG_MIN: u64 = 1024 * 1024;
/// Generations that are kept.
const KEPT: usize = 2;

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("another proxy uses {0}")]
    InUse(PathBuf),
    #[error("no snapshot to append to in {0}")]
    NoSnapshot(PathBuf),
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// The directory, locked, and the generation that is being written.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    key: RecordKey,
    /// Number of the newest generation; 0: none.
    generation: u64,
    /// Log of the newest generation; none: only a snapshot can be written.
    log: Option<Log>,
    /// Keeps the directory ours; released with the file.
    _lock: File,
}

#[derive(Debug)]
struct Log {
    file: File,
    path: PathBuf,
    length: u64,
    snapshot_length: u64,
}

impl Disk {
    /// Locks the directory and reads the newest configuration in it that is whole.
    pub fn open(data_dir: &Path) -> Result<(Self, Option<Content>), DiskError> {
        let directory = data_dir.join("config");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(failed("create", &directory))?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))
            .map_err(failed("protect", &directory))?;
        let lock = lock(&directory)?;
        let key = record_key(&directory)?;
        let mut disk = Self { directory, key, generation: 0, log: None, _lock: lock };
        let generations = disk.generations()?;
        disk.generation = generations.last().copied().unwrap_or(0);
        for generation in generations.into_iter().rev() {
            match disk.read(generation) {
                Ok(Some(content)) => return Ok((disk, Some(content))),
                Ok(None) => {
                    tracing::warn!(generation, "saved configuration is damaged: removing it");
                    disk.remove(generation)?;
                }
                Err(error) => tracing::warn!(generation, %error, "cannot read configuration"),
            }
        }
        Ok((disk, None))
    }

    /// Where everything is kept, and what else belongs to this proxy alone.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether the next record must be a snapshot: nothing to append to, or a
    /// log that has outgrown its snapshot.
    pub fn wants_snapshot(&self) -> bool {
        self.log.as_ref().is_none_or(|log| log.length > LOG_MIN.max(2 * log.snapshot_length))
    }

    /// Writes records and waits until they are on the medium. After an error
    /// only a snapshot can be written.
    pub fn write(&mut self, records: &[Record]) -> Result<(), DiskError> {
        let mut unsynced = Vec::new();
        for record in records {
            match record {
                Record::Snapshot(bytes) => {
                    unsynced.clear();
                    self.begin(bytes)?;
                }
                Record::Delta(bytes) => unsynced.extend_from_slice(&self.key.frame(bytes)),
            }
        }
        self.append(&unsynced)
    }

    /// Deletes all that is saved: better no configuration than one that gives
    /// back what was taken away.
    pub fn forget(&mut self) -> Result<(), DiskError> {
        self.log = None;
        for generation in self.generations()? {
            self.remove(generation)?;
        }
        self.sync_directory()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(log) = self.log.as_mut() else {
            return Err(DiskError::NoSnapshot(self.directory.clone()));
        };
        let written = log.file.write_all(bytes).and_then(|()| log.file.sync_data());
        if let Err(source) = written {
            let path = log.path.clone();
            self.log = None;
            return Err(DiskError::Io { action: "write", path, source });
        }
        log.length += bytes.len() as u64;
        Ok(())
    }

    /// Starts a generation: the snapshot appears under its name only when it is whole.
    fn begin(&mut self, snapshot: &[u8]) -> Result<(), DiskError> {
        self.log = None;
        let generation = self.generation + 1;
        let path = self.path(generation, "snapshot");
        let bytes = self.key.frame(snapshot);
        write_whole(&path, &bytes)?;
        let log_path = self.path(generation, "log");
        let log = create(&log_path).map_err(failed("create", &log_path))?;
        self.sync_directory()?;
        self.generation = generation;
        let snapshot_length = bytes.len() as u64;
        self.log = Some(Log { file: log, path: log_path, length: 0, snapshot_length });
        let generations = self.generations()?;
        for old in generations.iter().rev().skip(KEPT) {
            self.remove(*old)?;
        }
        Ok(())
    }

    /// Reads a generation; with it, its log is cut to what is whole and appended to from then on.
    fn read(&mut self, generation: u64) -> Result<Option<Content>, DiskError> {
        let path = self.path(generation, "snapshot");
        let snapshot = fs::read(&path).map_err(failed("read", &path))?;
        let log_path = self.path(generation, "log");
        let log = match fs::read(&log_path) {
            Ok(log) => log,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(DiskError::Io { action: "read", path: log_path, source }),
        };
        let Some(replayed) = self.key.replay(&snapshot, &log) else { return Ok(None) };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&log_path)
            .map_err(failed("open", &log_path))?;
        if replayed.log_length < log.len() as u64 {
            tracing::warn!(generation, "cutting the torn end of the configuration log");
            file.set_len(replayed.log_length).map_err(failed("cut", &log_path))?;
        }
        // A newer generation that is damaged must not be appended past.
        if generation == self.generation {
            let (length, snapshot_length) = (replayed.log_length, snapshot.len() as u64);
            self.log = Some(Log { file, path: log_path, length, snapshot_length });
        }
        Ok(Some(replayed.content))
    }

    /// Numbers of the generations that have a snapshot, ascending.
    fn generations(&self) -> Result<Vec<u64>, DiskError> {
        let mut generations = Vec::new();
        let entries = fs::read_dir(&self.directory).map_err(failed("list", &self.directory))?;
        for entry in entries {
            let path = entry.map_err(failed("list", &self.directory))?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            if let Some(number) =
                number.filter(|_| path.extension().is_some_and(|it| it == "snapshot"))
            {
                generations.push(number);
            }
        }
        generations.sort_unstable();
        Ok(generations)
    }

    fn remove(&self, generation: u64) -> Result<(), DiskError> {
        for extension in ["snapshot", "log"] {
            let path = self.path(generation, extension);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(DiskError::Io { action: "remove", path, source: error });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn path(&self, generation: u64, extension: &str) -> PathBuf {
        self.directory.join(format!("{generation:08}.{extension}"))
    }

    fn sync_directory(&self) -> Result<(), DiskError> {
        sync_directory(&self.directory)
    }
}

/// Writes a file so that it is found under its name either whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let temporary = path.with_extension("tmp");
    let mut file = create(&temporary).map_err(failed("create", &temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("rename", path))?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn sync_directory(directory: &Path) -> Result<(), DiskError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(failed("sync", directory))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)
}

/// The key of this directory, made at the first start. A damaged one makes a new one:
/// what it sealed is then read from the control plane again.
fn record_key(directory: &Path) -> Result<RecordKey, DiskError> {
    let path = directory.join("key");
    let saved = match fs::read(&path) {
        Ok(bytes) => <[u8; 32]>::try_from(bytes).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(DiskError::Io { action: "read", path, source }),
    };
    if let Some(key) = saved {
        return Ok(RecordKey::new(&key));
    }
    let key: [u8; 32] = rand::random();
    write_whole(&path, &key)?;
    Ok(RecordKey::new(&key))
}

fn lock(directory: &Path) -> Result<File, DiskError> {
    let path = directory.join("lock");
    let file = create(&path).map_err(failed("create", &path))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| DiskError::InUse(directory.to_owned()))?;
    Ok(file)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Io { action, path, source }
}
