//! Acceptance of a report: from here on no kill and no power cut loses it.

use crossbeam_channel::bounded;

use super::asking::answer_unless_ended;
use super::crashes::StoredCrash;
use super::discards::Discard;
use super::error::StoreError;
use super::handle::Store;
use super::log::{LogMessage, Waiting};
use super::new_crash::NewCrash;
use super::rows::State;
use crate::crash::id::CrashId;
use crate::throttle::Outcome;

impl Store {
    /// Makes a crash durable. After `Ok`, no kill and no power cut loses it. Returns its id, or the id of the
    /// stored crash if the client has sent the same report before.
    ///
    /// # Errors
    /// Nothing may be acknowledged. [`StoreError::Unavailable`] is temporary: the client should send the
    /// report again later.
    pub fn accept(&self, crash: NewCrash) -> Result<CrashId, StoreError> {
        let (reply, answer) = bounded(1);
        let crash = Box::new(crash);
        let report = LogMessage::Report(Waiting { crash, reply });
        self.log.send(report).map_err(|_| StoreError::Stopping)?;
        answer_unless_ended(&answer, &self.log_ended)
    }
}

/// What the throttle decided about a report, for the counts of its rules.
pub(super) fn decided(row: &StoredCrash) -> Discard {
    Discard {
        day: row.received_at().day(),
        rule: row.throttle_rule.clone(),
        outcome: match row.state {
            State::Deferred => Outcome::Defer,
            _ => Outcome::Accept,
        },
        product: row.product.clone(),
        version: row.version.clone(),
    }
}
