//! What makes a store and a server process different from others.

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

/// What makes this store and this process of it different from others.
pub(crate) struct Identity {
    /// Random id of the store.
    pub(crate) store: u128,
    /// Number of this server process.
    pub(crate) life: u64,
    pub(crate) secret: Secret,
}

/// The random secret of a store, from which the keyed hashes are made.
#[derive(Clone)]
pub(crate) struct Secret([u8; Secret::BYTES]);

impl Secret {
    const BYTES: usize = 192;

    /// Expands the number that the store keeps.
    pub(crate) fn new(number: u128) -> Self {
        let mut bytes = [0; Self::BYTES];
        for (part, out) in (0u8..).zip(bytes.chunks_mut(32)) {
            let mut hash = Sha256::new();
            hash.update(number.to_le_bytes());
            hash.update([part]);
            out.copy_from_slice(&hash.finalize());
        }
        Self(bytes)
    }

    /// The hash of a report that begins.
    pub(crate) fn hash(&self) -> Xxh3 {
        Xxh3::with_secret(self.0)
    }
}
