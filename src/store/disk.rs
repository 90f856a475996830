//! The small disk trait below the store.
//!
//! redb and the segment files stand on it alike, so that one simulated disk can lose syncs, fill
//! up, fail at the Nth call or lose power under both. Paths are relative to the data directory,
//! with `/` between their parts, and never come from a client.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of files. Nothing that it does is durable before the matching sync has returned.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes a new, empty file; `AlreadyExists` if there is one. Its name is durable after
    /// [`Disk::sync_dir`].
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Names in a folder, in no order.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes a folder (and what is above it) if there is none.
    fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes the names in a folder durable. `""` is the data directory itself.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
}

/// An open file, read and written at offsets by any thread.
pub trait DiskFile: fmt::Debug + Send + Sync {
    fn len(&self) -> io::Result<u64>;
    /// Fills `out`, or fails with `UnexpectedEof`.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes`, growing the file where it has to.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts, or grows with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes all bytes and the length written so far durable.
    fn sync_data(&self) -> io::Result<()>;

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
    /// Takes `root`, made with mode 0700 where it is missing.
    pub fn new(root: &Path) -> io::Result<Self> {
        make_private_dir(root)?;
        Ok(Self {
            root: root.to_path_buf(),
        })
    }
}

/// Makes a folder that only its owner may enter, and what is above it, so that a power cut leaves
/// its name; an existing one keeps its mode.
pub fn make_private_dir(dir: &Path) -> io::Result<()> {
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
            // One may make names in a folder that one may not read.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn sync_names(dir: &Path) -> io::Result<()> {
    // Windows has no handle on a folder to flush; its rename and create are journalled.
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
        let file = private_file().create_new(true).open(self.root.join(path))?;
        Ok(Arc::new(OsFile(file)))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OsFile(private_file().open(self.root.join(path))?)))
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

/// An existing file that nothing will be written to, wherever it lies.
pub(super) fn open_read_only(path: &Path) -> io::Result<Arc<dyn DiskFile>> {
    Ok(Arc::new(OsFile(File::open(path)?)))
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

#[derive(Debug)]
struct OsFile(File);

impl DiskFile for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        read_exact_at(&self.0, offset, out)
    }

    #[cfg(unix)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = std::os::windows::fs::FileExt::seek_write(&self.0, bytes, offset)?;
            offset += n as u64;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
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
}
