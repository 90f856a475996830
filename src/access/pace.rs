//! How many requests a caller may make in a minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use crate::clock::Timestamp;

const WINDOW_MS: i64 = 60_000;
/// Callers that are told apart in one minute; those beyond share one count.
const CALLERS_MAX: usize = 100_000;

/// Who is counted as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// By the id of a token.
    Token(u64),
    Address(IpAddr),
    /// Everybody for whom there was no room.
    Others,
}

impl Who {
    /// Whoever has one address of IPv6 has the other 2^64 of its network, too.
    pub fn at(address: IpAddr) -> Self {
        Self::Address(match address {
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
            v4 => v4,
        })
    }
}

/// Counts of the minute that goes on.
#[derive(Default)]
pub struct Pace(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    minute: i64,
    by: HashMap<Who, u32>,
}

impl Pace {
    /// Counts a request. `Err`: there have been `limit` already; seconds until the next minute.
    pub fn count(&self, who: Who, limit: u32, now: Timestamp) -> Result<(), i64> {
        let mut counts = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let minute = now.ms().div_euclid(WINDOW_MS);
        if counts.minute != minute {
            *counts = Counts {
                minute,
                ..Counts::default()
            };
        }
        let has_room = counts.by.len() < CALLERS_MAX || counts.by.contains_key(&who);
        let who = if has_room { who } else { Who::Others };
        let count = counts.by.entry(who).or_default();
        if *count >= limit {
            return Err((WINDOW_MS - now.ms().rem_euclid(WINDOW_MS) + 999) / 1000);
        }
        *count += 1;
        Ok(())
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
        assert_eq!(pace.count(one, 2, at(1_500)), Ok(()));
        assert_eq!(pace.count(one, 2, at(58_500)), Err(2));
        assert_eq!(pace.count(Who::Token(2), 2, at(58_500)), Ok(()));
        assert_eq!(pace.count(one, 2, at(60_000)), Ok(()));
        let (a, b) = ("2001:db8::1", "2001:db8::ffff:1");
        assert_eq!(
            Who::at(a.parse().unwrap()),
            Who::at(b.parse().unwrap()),
            "one network"
        );
    }

    #[test]
    fn a_flood_of_addresses_holds_bounded_memory() {
        let pace = Pace::default();
        for n in 0..CALLERS_MAX as u32 + 10 {
            let _ = pace.count(
                Who::at(IpAddr::from(n.to_be_bytes())),
                5,
                Timestamp::from_ms(0),
            );
        }
        let counts = pace.0.lock().unwrap();
        assert!(counts.by.len() <= CALLERS_MAX + 1);
        assert_eq!(counts.by[&Who::Others], 5, "the others share one count");
    }
}
