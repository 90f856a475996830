//! The local key, which makes its holder an admin on a server that has no account yet.
//!
//! A connection from the same machine is not sufficient, because a reverse proxy also connects from there.
//! Everybody who can read the key's file could also open the data directory. The key ends with the first
//! account.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::accounts::{hash_of, new_secret};
use crate::store::accounts::KeyHash;
use parking_lot::Mutex;

/// Name of the file in the data directory.
pub(crate) const FILE: &str = "local-key";
/// Longer than any key of ours. A larger file contains no key.
const FILE_BYTES_MAX: u64 = 256;

/// Contains `None` if there is no key, or if the key has ended.
#[derive(Default)]
pub(crate) struct LocalKey(Mutex<Option<Key>>);

struct Key {
    secret: String,
    hash: KeyHash,
    /// `None` on a read-only server: the key is only in memory.
    file: Option<PathBuf>,
}

impl LocalKey {
    /// Reads the key of the data directory, or creates one.
    ///
    /// # Errors
    /// The file of the key cannot be read, or a new one cannot be written.
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        let path = data.join(FILE);
        let secret = match read(data)? {
            Some(known) => known,
            None => write_new(data, &path)?,
        };
        Ok(Self::of(secret, Some(path)))
    }

    /// A key that is not written to a file.
    pub(crate) fn in_memory() -> Self {
        Self::of(new_secret(), None)
    }

    /// No key. Removes the file in the data directory, because accounts exist.
    ///
    /// # Errors
    /// The file of an earlier key cannot be removed.
    pub(crate) fn none(data: &Path) -> io::Result<Self> {
        remove(&data.join(FILE))?;
        Ok(Self::default())
    }

    fn of(secret: String, file: Option<PathBuf>) -> Self {
        let hash = hash_of(&secret);
        Self(Mutex::new(Some(Key { secret, hash, file })))
    }

    fn key(&self) -> parking_lot::MutexGuard<'_, Option<Key>> {
        self.0.lock()
    }

    /// True if this is the hash of the key.
    pub(crate) fn is(&self, hash: &KeyHash) -> bool {
        self.key().as_ref().is_some_and(|key| key.hash == *hash)
    }

    /// The key itself, which the server prints when it starts.
    pub(crate) fn secret(&self) -> Option<String> {
        self.key().as_ref().map(|key| key.secret.clone())
    }

    /// Ends the key, because the first account exists.
    pub(crate) fn end(&self) {
        let Some(Key {
            file: Some(file), ..
        }) = self.key().take()
        else {
            return;
        };
        if let Err(error) = remove(&file) {
            // The key is invalid already. The next start tries again to remove the file.
            tracing::warn!(%error, file = %file.display(), "the file of the local key could not be removed");
        }
    }
}

/// The key in a data directory; `None` if there is none.
///
/// # Errors
/// The file of the key exists, but cannot be read, for example because it belongs to another user.
pub(crate) fn read(data: &Path) -> io::Result<Option<String>> {
    let path = data.join(FILE);
    let text = match fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
        Ok(known) if known.len() > FILE_BYTES_MAX => String::new(),
        Ok(_) => fs::read_to_string(&path)?,
    };
    let key = text.trim();
    let is_key = key.len() >= 32 && key.bytes().all(|b| b.is_ascii_hexdigit());
    Ok(is_key.then(|| key.to_owned()))
}

/// Writes a new key. After a kill there is either no key or a complete one.
fn write_new(data: &Path, path: &Path) -> io::Result<String> {
    let secret = new_secret();
    // Only its owner can read a temporary file, from the start.
    let mut file = tempfile::NamedTempFile::new_in(data)?;
    writeln!(file, "{secret}")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(secret)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_the_same_until_it_ends_and_only_its_owner_reads_it() {
        let data = tempfile::tempdir().expect("a folder");
        let path = data.path().join(FILE);
        let key = LocalKey::open(data.path()).expect("a key");
        let secret = key.secret().expect("a secret");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(read(data.path()).expect("readable"), Some(secret.clone()));
        let again = LocalKey::open(data.path()).expect("the key");
        assert!(again.is(&hash_of(&secret)) && !again.is(&hash_of("other")));
        again.end();
        assert!(!again.is(&hash_of(&secret)) && !path.exists());
        // A file that does not contain a key is replaced.
        fs::write(&path, "short").expect("written");
        let new = LocalKey::open(data.path()).expect("a key");
        assert!(!new.is(&hash_of("short")));
        LocalKey::none(data.path()).expect("removed");
        assert!(!path.exists());
    }
}
