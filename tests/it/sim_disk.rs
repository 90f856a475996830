//! A simulated disk in memory that loses power, fills up, and fails at the Nth call.
//!
//! After a power cut it keeps only what POSIX guarantees: the bytes and the length of a file up to its last
//! completed sync, and the names in a folder up to its last `sync_dir`. All later changes are kept or lost
//! per 512-byte sector, at random. After a failed sync the bytes stay readable, but no later sync writes
//! them unless they are written again.
//!
//! Each change is recorded, so that a test can cut the power after every one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crashkeep::store::disk::{Disk, DiskFile};

/// Bytes that a drive writes completely or not at all.
const SECTOR_BYTES: usize = 512;
/// Unit in which a file system allocates space.
const BLOCK_BYTES: u64 = 4096;

/// A random generator that is small, fast and the same on every machine: SplitMix64.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// A change of a disk.
#[derive(Clone, Debug)]
pub enum Change<N> {
    Create {
        path: String,
        node: u64,
    },
    Remove {
        path: String,
    },
    CreateDir {
        path: String,
    },
    SyncDir {
        dir: String,
    },
    Write {
        node: u64,
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLen {
        node: u64,
        len: u64,
    },
    Sync {
        node: u64,
    },
    /// A failed sync. Its data never become durable, unless they are written again.
    FailedSync {
        node: u64,
    },
    /// A note of the test at this point. Changes nothing.
    Note(N),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    File(u64),
    Dir,
}

#[derive(Clone, Debug, Default)]
struct Node {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that the next sync makes durable.
    dirty: BTreeSet<usize>,
    /// Sectors that a failed sync has forgotten.
    forgotten: BTreeSet<usize>,
    blocks: BTreeSet<u64>,
}

fn sectors(from: usize, to: usize) -> std::ops::Range<usize> {
    from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES)
}

impl Node {
    fn touch(&mut self, from: usize, to: usize) {
        for sector in sectors(from, to) {
            self.dirty.insert(sector);
            self.forgotten.remove(&sector);
        }
    }

    fn set_len(&mut self, len: usize) {
        let old = self.live.len();
        self.live.resize(len, 0);
        // The zeros in place of bytes that were cut off must reach the disk, too.
        self.touch(old.min(len), old.max(len).min(self.durable.len().max(old)));
        if len < old {
            self.blocks.retain(|block| block * BLOCK_BYTES < len as u64);
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        self.live[offset..end].copy_from_slice(bytes);
        self.touch(offset, end);
        self.blocks.extend(blocks(offset as u64, bytes.len()));
    }

    fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            copy_sector(&self.live, &mut self.durable, sector);
        }
    }

    /// The file after a power cut.
    fn cut(&self, keep: &mut impl FnMut() -> bool) -> Node {
        let len = if keep() {
            self.live.len()
        } else {
            self.durable.len()
        };
        let mut left = self.durable.clone();
        left.resize(len, 0);
        for &sector in self.dirty.iter().chain(&self.forgotten) {
            if keep() {
                copy_sector(&self.live, &mut left, sector);
            }
        }
        let written = blocks(0, len).collect();
        Node {
            live: left.clone(),
            durable: left,
            blocks: written,
            ..Node::default()
        }
    }
}

fn blocks(offset: u64, len: usize) -> std::ops::Range<u64> {
    offset / BLOCK_BYTES..(offset + len as u64).div_ceil(BLOCK_BYTES)
}

fn copy_sector(from: &[u8], to: &mut [u8], sector: usize) {
    let start = sector * SECTOR_BYTES;
    let end = (start + SECTOR_BYTES).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The content of a disk, and the part of it that is durable.
#[derive(Clone, Debug, Default)]
pub struct Image {
    nodes: BTreeMap<u64, Node>,
    names: BTreeMap<String, Name>,
    durable_names: BTreeMap<String, Name>,
    next_node: u64,
}

impl Image {
    pub fn apply<N>(&mut self, change: &Change<N>) {
        match change {
            Change::Create { path, node } => {
                self.nodes.insert(*node, Node::default());
                self.names.insert(path.clone(), Name::File(*node));
                self.next_node = self.next_node.max(node + 1);
            }
            Change::Remove { path } => drop(self.names.remove(path)),
            Change::CreateDir { path } => drop(self.names.insert(path.clone(), Name::Dir)),
            Change::SyncDir { dir } => {
                self.durable_names.retain(|path, _| folder(path) != dir);
                for (path, name) in self.names.iter().filter(|(path, _)| folder(path) == dir) {
                    self.durable_names.insert(path.clone(), *name);
                }
            }
            Change::Write {
                node,
                offset,
                bytes,
            } => self.node(*node).write(*offset as usize, bytes),
            Change::SetLen { node, len } => self.node(*node).set_len(*len as usize),
            Change::Sync { node } => self.node(*node).sync(),
            Change::FailedSync { node } => {
                let node = self.node(*node);
                let dirty = std::mem::take(&mut node.dirty);
                node.forgotten.extend(dirty);
            }
            Change::Note(_) => {}
        }
    }

    fn node(&mut self, node: u64) -> &mut Node {
        self.nodes.get_mut(&node).expect("a node that was created")
    }

    /// The disk after a power cut. Depending on the seed, it keeps nothing, everything, or a random part of
    /// what was not synced.
    pub fn power_cut(&self, seed: u64) -> Image {
        let mut random = Random(seed);
        let mut keep = move || match seed % 3 {
            0 => random.next() & 1 == 0,
            1 => false,
            _ => true,
        };
        let mut left = Image {
            next_node: self.next_node,
            ..Image::default()
        };
        let paths: BTreeSet<&String> = self.names.keys().chain(self.durable_names.keys()).collect();
        for path in paths {
            let (live, durable) = (self.names.get(path), self.durable_names.get(path));
            let kept = if live == durable || keep() {
                live
            } else {
                durable
            };
            // A folder sorts before its content.
            let reachable = folder(path).is_empty() || left.names.contains_key(folder(path));
            let Some(&name) = kept.filter(|_| reachable) else {
                continue;
            };
            if let Name::File(node) = name {
                left.nodes.insert(node, self.nodes[&node].cut(&mut keep));
            }
            left.names.insert(path.clone(), name);
        }
        left.durable_names = left.names.clone();
        left
    }

    pub fn file(&self, path: &str) -> Option<&[u8]> {
        match self.names.get(path)? {
            Name::File(node) => Some(&self.nodes[node].live),
            Name::Dir => None,
        }
    }

    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.names
            .iter()
            .filter(|(_, name)| matches!(name, Name::File(_)))
            .map(|(path, _)| path.as_str())
    }

    /// Writes a file directly, without the process that uses the disk. The bytes are durable.
    pub fn put(&mut self, path: &str, bytes: &[u8]) {
        let node = match self.names.get(path) {
            Some(Name::File(node)) => *node,
            _ => {
                self.next_node += 1;
                self.next_node - 1
            }
        };
        let file = Node {
            live: bytes.to_vec(),
            durable: bytes.to_vec(),
            blocks: blocks(0, bytes.len()).collect(),
            ..Node::default()
        };
        self.nodes.insert(node, file);
        self.names.insert(path.to_owned(), Name::File(node));
        self.durable_names = self.names.clone();
    }

    fn blocks_used(&self) -> u64 {
        let named = self.names.values().filter_map(|name| match name {
            Name::File(node) => Some(self.nodes[node].blocks.len() as u64),
            Name::Dir => None,
        });
        named.sum()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Open,
    Create,
    List,
    Remove,
    CreateDir,
    SyncDir,
    Len,
    Read,
    Write,
    SetLen,
    Sync,
}

/// The faults of the disk.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The number of the operation that fails with an I/O error, counted from 1.
    pub fail_at: Option<u64>,
    /// If true, all later operations fail, too.
    pub for_ever: bool,
    /// The kinds of operations that fail. Empty means every kind.
    pub only: &'static [Kind],
    /// All operations fail: the process that uses the disk counts as dead.
    pub frozen: bool,
    /// Capacity of the disk in bytes, in blocks of 4 KiB.
    pub room_bytes: Option<u64>,
    /// A sync of files below this path succeeds without an effect.
    pub lying_sync: Option<&'static str>,
}

struct Inner<N> {
    image: Image,
    first: Image,
    changes: Vec<Change<N>>,
    operations: u64,
    by_kind: BTreeMap<Kind, u64>,
    faults: Faults,
}

/// A handle on the disk. Clones share it. `N` is the type of notes between changes.
pub struct SimDisk<N = ()>(Arc<Mutex<Inner<N>>>);

impl<N> Clone for SimDisk<N> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<N> std::fmt::Debug for SimDisk<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimDisk")
    }
}

fn eio() -> io::Error {
    io::Error::other("simulated I/O error")
}

impl<N> SimDisk<N> {
    pub fn empty() -> Self {
        Self::of(Image::default())
    }

    pub fn of(image: Image) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            first: image.clone(),
            image,
            changes: Vec::new(),
            operations: 0,
            by_kind: BTreeMap::new(),
            faults: Faults::default(),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner<N>> {
        self.0.lock().expect("no test panics inside the disk")
    }

    pub fn set_faults(&self, faults: Faults) {
        self.inner().faults = faults;
    }

    pub fn heal(&self) {
        self.set_faults(Faults::default());
    }

    /// Returns the disk for the next process, as a kill of the current process leaves it. The current
    /// process can no longer use its disk.
    pub fn kill(&self) -> Self {
        let mut inner = self.inner();
        inner.faults.frozen = true;
        Self::of(inner.image.clone())
    }

    pub fn image(&self) -> Image {
        self.inner().image.clone()
    }

    /// Records a note between two changes.
    pub fn note(&self, note: N) {
        self.inner().changes.push(Change::Note(note));
    }

    /// The initial content of the disk, and all changes since then.
    pub fn history(&self) -> (Image, Vec<Change<N>>)
    where
        N: Clone,
    {
        let inner = self.inner();
        (inner.first.clone(), inner.changes.clone())
    }

    /// Number of operations so far.
    pub fn operations(&self) -> u64 {
        self.inner().operations
    }

    pub fn operations_of(&self, kind: Kind) -> u64 {
        self.inner().by_kind.get(&kind).copied().unwrap_or(0)
    }

    pub fn used_bytes(&self) -> u64 {
        self.inner().image.blocks_used() * BLOCK_BYTES
    }
}

impl<N> Inner<N> {
    /// Counts an operation. Returns `Err` if it must fail.
    fn begin(&mut self, kind: Kind) -> io::Result<()> {
        self.operations += 1;
        *self.by_kind.entry(kind).or_default() += 1;
        let due = self.faults.fail_at.is_some_and(|at| {
            if self.faults.for_ever {
                self.operations >= at
            } else {
                self.operations == at
            }
        });
        let chosen = self.faults.only.is_empty() || self.faults.only.contains(&kind);
        if due && chosen || self.faults.frozen {
            Err(eio())
        } else {
            Ok(())
        }
    }

    fn change(&mut self, change: Change<N>) {
        self.image.apply(&change);
        self.changes.push(change);
    }

    fn name(&self, path: &str) -> io::Result<Name> {
        let name = self.image.names.get(path).copied();
        name.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl<N: Send + 'static> Disk for SimDisk<N> {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner();
        inner.begin(Kind::Create)?;
        if inner.image.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !folder(path).is_empty() && inner.name(folder(path))? != Name::Dir {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let node = inner.image.next_node;
        inner.change(Change::Create {
            path: path.to_owned(),
            node,
        });
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            node,
            path: path.to_owned(),
        }))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner();
        inner.begin(Kind::Open)?;
        match inner.name(path)? {
            Name::File(node) => Ok(Arc::new(SimFile {
                disk: self.clone(),
                node,
                path: path.to_owned(),
            })),
            Name::Dir => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut inner = self.inner();
        inner.begin(Kind::List)?;
        inner.name(dir)?;
        let below = inner.image.names.keys().filter(|path| folder(path) == dir);
        Ok(below.map(|path| path[dir.len() + 1..].to_owned()).collect())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut inner = self.inner();
        inner.begin(Kind::Remove)?;
        match inner.name(path)? {
            Name::File(_) => inner.change(Change::Remove {
                path: path.to_owned(),
            }),
            Name::Dir => return Err(io::ErrorKind::IsADirectory.into()),
        }
        Ok(())
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut inner = self.inner();
        inner.begin(Kind::CreateDir)?;
        if inner.name(dir).is_err() {
            inner.change(Change::CreateDir {
                path: dir.to_owned(),
            });
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut inner = self.inner();
        inner.begin(Kind::SyncDir)?;
        if !dir.is_empty() {
            inner.name(dir)?;
        }
        inner.change(Change::SyncDir {
            dir: dir.to_owned(),
        });
        Ok(())
    }
}

struct SimFile<N> {
    disk: SimDisk<N>,
    node: u64,
    path: String,
}

impl<N> std::fmt::Debug for SimFile<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path)
    }
}

impl<N: Send + 'static> DiskFile for SimFile<N> {
    fn len(&self) -> io::Result<u64> {
        let mut inner = self.disk.inner();
        inner.begin(Kind::Len)?;
        Ok(inner.image.node(self.node).live.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.begin(Kind::Read)?;
        let live = &inner.image.node(self.node).live;
        let start = offset as usize;
        let bytes = live.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.disk.inner();
        let (mut fits, mut result) = (bytes.len(), Ok(()));
        if let Err(error) = inner.begin(Kind::Write) {
            // A write that fails may have written some bytes, except if the process is dead.
            fits = if inner.faults.frozen {
                0
            } else {
                bytes.len() / 2
            };
            result = Err(error);
        }
        if let Some(room_bytes) = inner.faults.room_bytes {
            let mut room = (room_bytes / BLOCK_BYTES).saturating_sub(inner.image.blocks_used());
            let node = inner.image.node(self.node);
            for block in blocks(offset, fits) {
                if node.blocks.contains(&block) {
                    continue;
                }
                if room == 0 {
                    fits = (block * BLOCK_BYTES).saturating_sub(offset) as usize;
                    result = Err(io::ErrorKind::StorageFull.into());
                    break;
                }
                room -= 1;
            }
        }
        if fits > 0 {
            inner.change(Change::Write {
                node: self.node,
                offset,
                bytes: bytes[..fits].to_vec(),
            });
        }
        result
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.begin(Kind::SetLen)?;
        inner.change(Change::SetLen {
            node: self.node,
            len,
        });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.inner();
        let (node, lies) = (self.node, inner.faults.lying_sync);
        if let Err(error) = inner.begin(Kind::Sync) {
            if !inner.faults.frozen {
                inner.change(Change::FailedSync { node });
            }
            return Err(error);
        }
        if !lies.is_some_and(|path| self.path.starts_with(path)) {
            inner.change(Change::Sync { node });
        }
        Ok(())
    }
}
