//! Counts distinct values: exactly if they are few, otherwise as an estimate.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64;

use crate::limits;

/// Bits of a hash that select the register.
const PLACE_BITS: u32 = 16;
const REGISTERS: usize = 1 << PLACE_BITS;
/// Three standard errors for this number of registers, relative to the value: 997 of 1,000 estimates are
/// closer.
const ERROR: f64 = 3.0 * 1.04 / 256.0;

/// Keys are numbers that are already distributed well enough, so multiplying is a sufficient hash.
#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= xxh3_64(bytes);
    }

    fn write_u64(&mut self, key: u64) {
        let spread = (self.0 ^ key ^ key >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ spread >> 29;
    }

    fn write_u32(&mut self, key: u32) {
        self.write_u64(key.into());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(crate) type KeyHash = BuildHasherDefault<KeyHasher>;

/// The distinct values of one set, by hash. Texts have 64 bits of xxh3: among a hundred thousand texts, two
/// collide once in four thousand million counts. Hashes of numbers never collide.
pub(crate) enum Unique {
    Exact(HashSet<u64, KeyHash>),
    /// For each register, the longest run of zeros of its hashes, plus 1. Source: HyperLogLog with Ertl's
    /// estimate ("New cardinality estimation algorithms for HyperLogLog sketches", 2017), which has no bias
    /// at any size.
    Sketch(Box<[u8]>),
}

impl Default for Unique {
    fn default() -> Self {
        Self::Exact(HashSet::default())
    }
}

pub(crate) fn hash_text(text: &[u8]) -> u64 {
    xxh3_64(text)
}

/// Distributes a number over 64 bits without collisions. Source: the last steps of splitmix64.
pub(crate) fn hash_number(number: u64) -> u64 {
    let mut hash = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

impl Unique {
    /// Returns the number of bytes by which it grew; negative if it became a sketch.
    pub(crate) fn insert(&mut self, hash: u64) -> isize {
        match self {
            Self::Exact(set) => {
                if !set.insert(hash) {
                    return 0;
                }
                if set.len() <= limits::UNIQUE_EXACT_MAX {
                    return ENTRY_BYTES;
                }
                let mut registers = vec![0; REGISTERS].into_boxed_slice();
                set.iter().for_each(|hash| note(&mut registers, *hash));
                let freed = (set.len() as isize - 1) * ENTRY_BYTES;
                *self = Self::Sketch(registers);
                REGISTERS as isize - freed
            }
            Self::Sketch(registers) => {
                note(registers, hash);
                0
            }
        }
    }

    /// The number of values, and the possible error.
    pub(crate) fn count(&self) -> (u64, u64) {
        match self {
            Self::Exact(set) => (set.len() as u64, 0),
            Self::Sketch(registers) => {
                let value = estimate(registers);
                (value.round() as u64, (value * ERROR).ceil() as u64)
            }
        }
    }
}

/// Bytes of an entry of a set, including free space of the set.
const ENTRY_BYTES: isize = 18;

fn note(registers: &mut [u8], hash: u64) {
    let place = (hash >> (64 - PLACE_BITS)) as usize;
    // A bit below the others ends the longest run.
    let run = (hash << PLACE_BITS | 1 << (PLACE_BITS - 1)).leading_zeros() as u8 + 1;
    registers[place] = registers[place].max(run);
}

fn estimate(registers: &[u8]) -> f64 {
    const RUNS: usize = (64 - PLACE_BITS) as usize;
    let mut counts = [0.0; RUNS + 2];
    registers
        .iter()
        .for_each(|run| counts[*run as usize] += 1.0);
    let m = registers.len() as f64;
    let mut z = m * tau(1.0 - counts[RUNS + 1] / m);
    for count in counts[1..=RUNS].iter().rev() {
        z = 0.5 * (z + count);
    }
    z += m * sigma(counts[0] / m);
    m * m / (2.0 * std::f64::consts::LN_2 * z)
}

/// x + Σ x^(2^k) 2^(k-1)
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z, mut before) = (1.0, x, f64::NAN);
    while z != before {
        x *= x;
        before = z;
        z += x * y;
        y += y;
    }
    z
}

/// (1 - x - Σ (1 - x^(2^-k))² 2^-k) / 3
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z, mut before) = (1.0, 1.0 - x, f64::NAN);
    while z != before {
        x = x.sqrt();
        before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
    }
    z / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_up_to_the_bound_and_then_within_their_error() {
        let mut unique = Unique::default();
        let mut bytes = 0;
        for number in 0..2_000_000_u64 {
            // Each value twice.
            bytes += unique.insert(hash_number(number));
            bytes += unique.insert(hash_number(number / 2));
            let (value, error) = unique.count_rarely(number + 1);
            let off = value.abs_diff(number + 1);
            assert!(off <= error, "{number}: {value} ± {error}");
        }
        assert!(matches!(unique, Unique::Sketch(_)));
        assert_eq!(bytes, REGISTERS as isize);
    }

    impl Unique {
        /// Evaluates a sketch only now and then, because that is slow.
        fn count_rarely(&self, expected: u64) -> (u64, u64) {
            match self {
                Self::Sketch(_) if !expected.is_multiple_of(100_003) => (expected, 0),
                _ => self.count(),
            }
        }
    }

    #[test]
    fn the_bound_itself_is_exact() {
        let mut unique = Unique::default();
        let max = limits::UNIQUE_EXACT_MAX as u64;
        for number in 0..max {
            unique.insert(hash_text(format!("client {number}").as_bytes()));
        }
        assert_eq!(unique.count(), (max, 0));
        unique.insert(hash_text(b"one more"));
        let (value, error) = unique.count();
        assert!(
            error > 0 && value.abs_diff(max + 1) <= error,
            "{value} ± {error}"
        );
    }
}
