//! Recognises installations that crash again and again, so that one broken machine does not lead the
//! rankings.

use std::collections::{BTreeMap, HashMap, VecDeque};

use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::fields::Catalogue;

/// An installation is in a loop if this many crashes of it arrive within [`LOOP_MAX_MS`].
pub(crate) const CRASHES: usize = 10;
const LOOP_MAX_MS: i64 = 3_600_000;
/// Limit of installations that are remembered: 10 MB.
const INSTALLATIONS_MAX: usize = 1 << 16;

/// The last crashes of each installation. A restart forgets them, so the first crashes after it are in no
/// loop.
#[derive(Debug, Default)]
pub(crate) struct CrashLoops(Mutex<HashMap<String, VecDeque<Timestamp>>>);

impl CrashLoops {
    /// Notes a crash. Returns the time since the crash [`CRASHES`] before it if its installation is in a loop,
    /// in seconds.
    pub(crate) fn note(
        &self,
        catalogue: &Catalogue,
        annotations: &BTreeMap<String, String>,
        at: Timestamp,
    ) -> Option<u64> {
        let installation = catalogue.installation(annotations)?;
        let mut known = self.0.lock();
        if known.len() >= INSTALLATIONS_MAX && !known.contains_key(&installation) {
            known.retain(|_, times| {
                times
                    .back()
                    .is_some_and(|last| at.ms_since(*last) < LOOP_MAX_MS)
            });
            if known.len() >= INSTALLATIONS_MAX {
                known.clear();
            }
        }
        let times = known.entry(installation).or_default();
        times.push_back(at);
        if times.len() <= CRASHES {
            return None;
        }
        let first = times.pop_front()?;
        let took_ms = at.ms_since(first).max(0);
        (took_ms <= LOOP_MAX_MS).then_some(took_ms.unsigned_abs() / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_is_in_a_loop_after_ten_crashes_within_an_hour() {
        let loops = CrashLoops::default();
        let catalogue = Catalogue::builtin();
        let key = catalogue.installation_keys()[0].clone();
        let note = |machine: &str, minute: i64| {
            let annotations = BTreeMap::from([(key.clone(), machine.to_owned())]);
            loops.note(
                &catalogue,
                &annotations,
                Timestamp::from_ms(minute * 60_000),
            )
        };
        for minute in 0..10 {
            assert_eq!(note("a", minute), None, "minute {minute}");
            assert_eq!(note("b", minute * 10), None, "every ten minutes");
        }
        assert_eq!(note("a", 10), Some(600));
        assert_eq!(note("a", 60), Some(3_540));
        assert_eq!(note("b", 100), None);
        assert_eq!(note("c", 100), None);
        assert_eq!(
            loops.note(&catalogue, &BTreeMap::new(), Timestamp::from_ms(0)),
            None,
            "nothing tells which installation it was"
        );
    }
}
