//! Limits the requests per minute and caller, and the invalid tokens per minute and address.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::clock::Timestamp;
use crate::store::accounts::KeyHash;
use parking_lot::{Mutex, MutexGuard};

const WINDOW_MS: i64 = 60_000;
/// Callers with their own count in one minute. All others share one count.
const CALLERS_MAX: usize = 100_000;
/// Number of secrets that are known to be valid. Above this, all are forgotten.
const PROVEN_MAX: usize = 10_000;

/// The subject of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// Requests with a token, by the id of the token.
    Token(u64),
    /// Requests without a token, by address.
    Address(IpAddr),
    /// Invalid tokens, by address.
    FailedLogins(IpAddr),
    /// Callers above `CALLERS_MAX`, and callers without a known address.
    Others,
}

impl Who {
    pub(crate) fn at(address: Option<IpAddr>) -> Self {
        address.map_or(Self::Others, |address| Self::Address(network(address)))
    }

    pub(crate) fn failing_at(address: Option<IpAddr>) -> Self {
        address.map_or(Self::Others, |address| Self::FailedLogins(network(address)))
    }
}

/// The owner of one IPv6 address usually has all 2^64 addresses of its network. So they count as one.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

/// The counts of the current minute.
#[derive(Default)]
pub(crate) struct Pace {
    counts: Mutex<Counts>,
    proven: Mutex<HashSet<KeyHash>>,
}

#[derive(Default)]
struct Counts {
    minute: i64,
    by: HashMap<Who, u32>,
}

impl Counts {
    /// The count of a caller in the current minute.
    fn of(&mut self, who: Who, now: Timestamp) -> &mut u32 {
        let minute = now.ms().div_euclid(WINDOW_MS);
        if self.minute != minute {
            self.minute = minute;
            self.by.clear();
        }
        let has_room = self.by.len() < CALLERS_MAX || self.by.contains_key(&who);
        self.by
            .entry(if has_room { who } else { Who::Others })
            .or_default()
    }
}

/// Seconds until the next minute begins.
fn wait_s(now: Timestamp) -> i64 {
    (WINDOW_MS - now.ms().rem_euclid(WINDOW_MS) + 999) / 1000
}

impl Pace {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock()
    }

    fn proven(&self) -> MutexGuard<'_, HashSet<KeyHash>> {
        self.proven.lock()
    }

    /// Counts a request.
    ///
    /// # Errors
    /// The number of seconds until the next minute, if `limit` requests were counted already.
    pub(crate) fn count(&self, who: Who, limit: u32, now: Timestamp) -> Result<(), i64> {
        let mut counts = self.counts();
        let count = counts.of(who, now);
        if *count >= limit {
            return Err(wait_s(now));
        }
        *count += 1;
        Ok(())
    }

    /// Checks the limit in the same way, but does not count the request.
    ///
    /// # Errors
    /// As for [`Self::count`].
    pub(crate) fn check(&self, who: Who, limit: u32, now: Timestamp) -> Result<(), i64> {
        if *self.counts().of(who, now) >= limit {
            Err(wait_s(now))
        } else {
            Ok(())
        }
    }

    /// Remembers that a secret is valid. So invalid secrets from the same address do not lock out its
    /// holder.
    pub(crate) fn prove(&self, hash: KeyHash) {
        let mut proven = self.proven();
        if proven.len() >= PROVEN_MAX && !proven.contains(&hash) {
            proven.clear();
        }
        proven.insert(hash);
    }

    pub(crate) fn is_proven(&self, hash: &KeyHash) -> bool {
        self.proven().contains(hash)
    }

    pub(crate) fn disprove(&self, hash: &KeyHash) {
        self.proven().remove(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_a_count_of_its_own_and_a_new_one_each_minute() {
        let pace = Pace::default();
        let at = Timestamp::from_ms;
        let one = Who::Token(1);
        assert_eq!(pace.count(one, 2, at(1_000)), Ok(()));
        assert_eq!(pace.check(one, 2, at(1_000)), Ok(()));
        assert_eq!(pace.count(one, 2, at(1_500)), Ok(()));
        assert_eq!(pace.check(one, 2, at(1_500)), Err(59));
        assert_eq!(pace.count(one, 2, at(58_500)), Err(2));
        assert_eq!(pace.count(Who::Token(2), 2, at(58_500)), Ok(()));
        assert_eq!(pace.count(one, 2, at(60_000)), Ok(()));
        let (a, b) = ("2001:db8::1".parse().ok(), "2001:db8::ffff:1".parse().ok());
        assert_eq!(Who::at(a), Who::at(b), "one network");
        assert_ne!(Who::at(a), Who::failing_at(a));
    }

    #[test]
    fn a_flood_of_addresses_holds_bounded_memory() {
        let pace = Pace::default();
        for n in 0..CALLERS_MAX as u32 + 10 {
            let address = IpAddr::from(n.to_be_bytes());
            let _ = pace.count(Who::at(Some(address)), 5, Timestamp::from_ms(0));
        }
        let counts = pace.counts.lock();
        assert!(counts.by.len() <= CALLERS_MAX + 1);
        assert_eq!(counts.by[&Who::Others], 5, "the others share one count");
    }

    #[test]
    fn what_is_remembered_as_right_is_bounded_and_can_be_taken_back() {
        let pace = Pace::default();
        let hash = |n: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_be_bytes());
            hash
        };
        for n in 0..=PROVEN_MAX {
            pace.prove(hash(n));
        }
        assert!(pace.is_proven(&hash(PROVEN_MAX)) && !pace.is_proven(&hash(0)));
        assert_eq!(pace.proven().len(), 1);
        pace.disprove(&hash(PROVEN_MAX));
        assert!(!pace.is_proven(&hash(PROVEN_MAX)));
    }
}
