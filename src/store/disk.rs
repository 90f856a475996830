//! The small disk trait below the store.
//!
//! Both redb and the segment files use it. So tests can put one simulated disk behind both that loses syncs,
//! fills up, fails at the Nth call or loses power. Paths are relative to the data directory, use `/` as
//! separator, and never come from a client.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of files. No change is durable before the matching sync has returned.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Creates a new, empty file. Its name is durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// `AlreadyExists` if there is such a file. Any other error means that the disk failed.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` if there is no such file. Any other error means that the disk failed.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// The names in a folder, in no particular order.
    ///
    /// # Errors
    /// The folder does not exist or cannot be read.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Removes a file. Until [`Disk::sync_dir`], it can come back after a power cut.
    ///
    /// # Errors
    /// `NotFound` if there is no such file. Any other error means that the disk failed.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Creates a folder and its parents if they do not exist.
    ///
    /// # Errors
    /// The folder cannot be created, for example because a file has its name.
    fn create_dir(&self, dir: &str) -> io::Result<()>;

    /// Makes the names in a folder durable. `""` is the data directory itself.
    ///
    /// # Errors
    /// The names may not be durable. The caller must not rely on any change since the last sync.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
}

/// An open file that any thread can read and write at offsets.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// The length in bytes.
    ///
    /// # Errors
    /// The disk failed.
    fn len(&self) -> io::Result<u64>;

    /// Fills `out` from an offset.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before `out` is full. Any other error means that the disk failed.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes`. Grows the file if necessary.
    ///
    /// # Errors
    /// The disk failed or is full. Some of the bytes may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Truncates the file, or extends it with zeros.
    ///
    /// # Errors
    /// The disk failed or is full.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes all bytes and the length written so far durable.
    ///
    /// # Errors
    /// The bytes may not be durable, even if a later call succeeds.
    fn sync_data(&self) -> io::Result<()>;

    /// Whether the path with which it was opened still leads to this file. False if the file was removed,
    /// moved or replaced.
    ///
    /// # Errors
    /// It is not known whether the path leads to this file, because the path or the file cannot be examined.
    fn is_in_place(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Takes the operating system's lock on the file, for as long as it is open. False if another process has
    /// the lock.
    ///
    /// # Errors
    /// The file system has no locks, or has run out of them.
    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Releases the lock before the file is closed.
    ///
    /// # Errors
    /// The file is still locked until it is closed.
    fn unlock(&self) -> io::Result<()> {
        Ok(())
    }

    /// True if the file has no bytes.
    ///
    /// # Errors
    /// The disk failed.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// The operating system's files below one root.
#[derive(Debug)]
pub struct OsDisk {
    root: PathBuf,
}

impl OsDisk {
    /// Uses `root`. Creates it with mode 0700 if it does not exist.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn new(root: &Path) -> io::Result<Self> {
        make_private_dir(root)?;
        Ok(Self {
            root: root.to_path_buf(),
        })
    }
}

/// Creates a folder that only its owner can enter, with its parents. Syncs the parents, so that a power cut
/// does not lose the name. An existing folder keeps its mode.
///
/// # Errors
/// A folder cannot be created, or its name cannot be made durable.
pub(crate) fn make_private_dir(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir
        .ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
        .collect();
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)?;
    for folder in missing {
        let above = match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        match sync_names(above) {
            // A process may create names in a folder that it must not read.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes the access rights of group and others from one of our folders. Earlier versions created folders
/// with these rights. Links and folders of other users do not change.
#[cfg(unix)]
pub(crate) fn make_private(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = fs::symlink_metadata(dir) else {
        return;
    };
    let mode = metadata.permissions().mode();
    if !metadata.is_dir() || mode & 0o077 == 0 {
        return;
    }
    let private = fs::Permissions::from_mode(mode & 0o7700);
    if let Err(error) = fs::set_permissions(dir, private) {
        tracing::warn!(%error, folder = %dir.display(), "other users can read a folder of the data directory");
    }
}

/// Other systems have no such rights.
#[cfg(not(unix))]
pub(crate) fn make_private(_: &Path) {}

fn sync_names(dir: &Path) -> io::Result<()> {
    // Windows cannot flush a folder handle. Its rename and create are journalled.
    if cfg!(unix) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

impl Disk for OsDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.root.join(path);
        let file = private_file().create_new(true).open(&path)?;
        Ok(Arc::new(OsFile { file, path }))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.root.join(path);
        let file = private_file().open(&path)?;
        Ok(Arc::new(OsFile { file, path }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(dir))? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        make_private_dir(&self.root.join(dir))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        sync_names(&self.root.join(dir))
    }
}

/// Opens an existing file at any path for reading only.
pub(super) fn open_read_only(path: &Path) -> io::Result<Arc<dyn DiskFile>> {
    Ok(Arc::new(OsFile {
        file: File::open(path)?,
        path: path.to_path_buf(),
    }))
}

/// Fills `out` from an offset, or fails with `UnexpectedEof`.
#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

/// Fills `out` from an offset, or fails with `UnexpectedEof`.
#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                offset += n as u64;
                out = &mut out[n..];
            }
        }
    }
    Ok(())
}

/// Whether two metadata describe the same file.
#[cfg(unix)]
fn is_same_file(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Windows does not allow removing or replacing an open file.
#[cfg(windows)]
fn is_same_file(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

/// Takes a lock; false if another process has it. An error means that there are no locks here.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    locked(file.try_lock())
}

fn locked(taken: Result<(), TryLockError>) -> io::Result<bool> {
    match taken {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[derive(Debug)]
struct OsFile {
    file: File,
    path: PathBuf,
}

impl DiskFile for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        read_exact_at(&self.file, offset, out)
    }

    #[cfg(unix)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = std::os::windows::fs::FileExt::seek_write(&self.file, bytes, offset)?;
            offset += n as u64;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn is_in_place(&self) -> io::Result<bool> {
        match fs::metadata(&self.path) {
            Ok(named) => Ok(is_same_file(&named, &self.file.metadata()?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn try_lock(&self) -> io::Result<bool> {
        try_lock(&self.file)
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_whole_paths_at_a_time_and_kept_when_they_are_there() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c");
        make_private_dir(&deep).unwrap();
        make_private_dir(&deep).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&deep).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(make_private_dir(&file.join("below")).is_err());
    }

    #[test]
    fn a_system_without_locks_is_not_taken_for_another_process() {
        assert!(matches!(locked(Ok(())), Ok(true)));
        assert!(matches!(locked(Err(TryLockError::WouldBlock)), Ok(false)));
        let enolck = io::Error::from_raw_os_error(37);
        assert!(locked(Err(TryLockError::Error(enolck))).is_err());
    }

    #[test]
    fn files_grow_are_cut_and_refuse_reads_behind_their_end() {
        let root = tempfile::tempdir().unwrap();
        let disk = OsDisk::new(root.path()).unwrap();
        disk.create_dir("folder").unwrap();
        let file = disk.create("folder/file").unwrap();
        let again = disk.create("folder/file").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        file.write_at(3, b"abc").unwrap();
        let mut bytes = [9; 6];
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0\0\0abc");
        let short = file.read_at(1, &mut bytes).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        file.set_len(2).unwrap();
        assert_eq!(disk.open("folder/file").unwrap().len().unwrap(), 2);
        disk.sync_dir("folder").unwrap();
        assert_eq!(disk.list("folder").unwrap(), ["file"]);
        disk.remove("folder/file").unwrap();
        let gone = disk.open("folder/file").unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    #[cfg(unix)]
    fn an_open_file_knows_whether_its_path_still_leads_to_it() {
        let root = tempfile::tempdir().unwrap();
        let disk = OsDisk::new(root.path()).unwrap();
        let file = disk.create("file").unwrap();
        assert!(file.is_in_place().unwrap());
        let path = root.path().join("file");
        fs::rename(&path, root.path().join("other")).unwrap();
        assert!(!file.is_in_place().unwrap(), "moved");
        fs::write(&path, "").unwrap();
        assert!(!file.is_in_place().unwrap(), "replaced");
        fs::rename(root.path().join("other"), &path).unwrap();
        assert!(file.is_in_place().unwrap(), "put back");
    }
}
