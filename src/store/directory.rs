//! The data directory: its lock and its layout version.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::disk::{self, Disk};
use super::error::OpenError;
use super::segments;

const FORMAT: &str = "FORMAT";
/// Version of the layout of the data directory. 1: the first. 2: reports are in a log.
const LAYOUT: u32 = 2;

/// A lock on the data directory, so that only this process uses it.
#[derive(Debug)]
pub struct DirectoryLock(#[allow(dead_code, reason = "the lock is the open file")] File);

impl DirectoryLock {
    /// Takes the lock in `root/lock`. The pid in the file is only information for people. The operating
    /// system releases the lock when the process ends.
    ///
    /// # Errors
    /// [`OpenError::InUse`] if another process has the lock, [`OpenError::NoLock`] if the file system has no
    /// locks.
    pub fn take(root: &Path) -> Result<Self, OpenError> {
        disk::make_private_dir(root)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(root.join("lock"))?;
        if !disk::try_lock(&file).map_err(no_lock)? {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            let holder = holder.trim();
            return Err(OpenError::InUse {
                holder: if holder.is_empty() {
                    "pid unknown".into()
                } else {
                    format!("pid {holder}")
                },
            });
        }
        file.seek(SeekFrom::Start(0))?;
        file.set_len(0)?;
        write!(file, "{}", std::process::id())?;
        Ok(Self(file))
    }
}

/// A file system may have no locks, or run out of them (ENOLCK).
pub(super) fn no_lock(error: std::io::Error) -> OpenError {
    OpenError::NoLock {
        why: error.to_string(),
    }
}

/// Whether a payload may ever have been stored.
pub(super) fn has_segments(disk: &dyn Disk) -> std::io::Result<bool> {
    let names = disk.list(segments::DIR)?;
    Ok(names.iter().any(|name| segments::number_in(name).is_some()))
}

/// Writes FORMAT in a new directory or one of an older layout. Refuses a directory that is not ours.
pub(super) fn check_format(disk: &dyn Disk) -> Result<(), OpenError> {
    let ours = format!("crashkeep {LAYOUT}\n");
    let file = match disk.open(FORMAT) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let file = disk.create(FORMAT)?;
            file.write_at(0, ours.as_bytes())?;
            file.sync_data()?;
            return Ok(());
        }
        other => other?,
    };
    let mut bytes = vec![0; usize::try_from(file.len()?.min(100)).unwrap_or(0)];
    file.read_at(0, &mut bytes)?;
    let found = String::from_utf8_lossy(&bytes)
        .trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .to_owned();
    match found.strip_prefix("crashkeep ").map(str::parse::<u32>) {
        Some(Ok(layout)) if layout == LAYOUT => Ok(()),
        Some(Ok(layout)) if layout > LAYOUT => Err(OpenError::Newer {
            found: layout,
            known: LAYOUT,
        }),
        // An older layout is read as it is. This program writes what the older one does not know. Or a kill
        // interrupted the writing of FORMAT: the file is empty, has only the first part of the text, or has
        // only zeros.
        found_layout if matches!(found_layout, Some(Ok(1..LAYOUT))) || ours.starts_with(&found) => {
            file.write_at(0, ours.as_bytes())?;
            Ok(file.sync_data()?)
        }
        _ => Err(OpenError::Foreign { found }),
    }
}
