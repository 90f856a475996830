//! Asks a Bugzilla which bugs are about which signatures, and what status its bugs have.
//!
//! A separate thread makes a pass at the start and then at the configured interval. A pass has these steps:
//!
//! 1. Fetch the bugs that were created, or whose crash-signature field changed, since the day of the last
//!    successful pass. The signatures in the field replace those that the field named before. Signatures
//!    that people attached by hand stay.
//! 2. Fetch the status of all other known bugs of the tracker, in batches.
//! 3. Store the time of the pass, so that the next one continues from there, also after a restart.
//!
//! A pass that fails is reported and repeated. All its steps can be repeated safely. If the configuration
//! names no tracker, the thread does not exist. Source: Bugzilla 5's REST API, and Socorro's use of it.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};
use serde::Deserialize;

use crate::bugs::{Bug, Standing, field, reference};
use crate::clock::{Clock, DAY_MS, Timestamp};
use crate::limits;
use crate::metrics::Metrics;
use crate::outbound::{Outbound, OutboundError};
use crate::periodic::{Left, PeriodicTask};
use crate::store::bugs::BugChange;
use crate::store::{Store, StoreError};
use parking_lot::Mutex;

/// Pause after a failed pass, unless the configured interval is shorter.
const RETRY_AFTER: Duration = Duration::from_secs(5 * 60);
/// How far before the last pass we ask for changes. Bugzilla accepts only a day, in its own time zone.
/// Without the overlap, a Bugzilla behind UTC would omit some hours of each day.
const OVERLAP_MS: i64 = DAY_MS;
/// Bugs per answer.
const PAGE_BUGS: usize = 200;
/// Answers per question. More bugs than that do not change between two passes.
const PAGES_MAX: usize = 500;
/// Bugs that one request asks for by id.
const IDS_BATCH: usize = 100;
/// The fields of a bug that we request.
const STANDING_FIELDS: &str = "id,status,resolution,summary,is_open";

/// The result of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Bugs that were created or changed since the previous pass.
    pub changed: usize,
    /// Other bugs whose status was requested.
    pub refreshed: usize,
}

/// The state of the poller, for the status page.
#[derive(Clone, Debug, Default)]
pub(crate) struct PollStatus {
    pub(crate) last_pass: Option<(Timestamp, Pass)>,
    /// Why the last pass failed; `None` if it succeeded.
    pub(crate) error: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum PollError {
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The answer was not a list of bugs.
    #[error("{0}")]
    Answer(String),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// The polling thread.
pub(crate) struct Poller {
    task: PeriodicTask,
    status: Arc<Mutex<PollStatus>>,
}

impl Poller {
    /// Starts the thread. It polls every `every`, and sooner after an error.
    ///
    /// # Errors
    /// The operating system cannot start the thread.
    pub(crate) fn start(
        tracker: Tracker,
        every: Duration,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let status = Arc::new(Mutex::new(PollStatus::default()));
        let told = status.clone();
        let task = PeriodicTask::start("bugzilla", every, move |woken| {
            let now = clock.now();
            let result = tracker.pass(now, woken);
            let (outcome, left) = match &result {
                Err(PollError::Stopping) => return Left::Ended,
                Ok(_) => ("ok", Left::Nothing),
                Err(_) => ("failed", Left::After(every.min(RETRY_AFTER))),
            };
            metrics.polled.add(outcome);
            tell(&told, &tracker.url, now, result);
            left
        })?;
        Ok(Self { task, status })
    }

    /// Starts a pass soon, because a user wants to see the status of a bug.
    pub(crate) fn wake(&self) {
        self.task.wake();
    }

    pub(crate) fn status(&self) -> PollStatus {
        self.status.lock().clone()
    }

    /// Ends the thread. Waits for a request in progress, within its time limit.
    pub(crate) fn stop(&self) {
        self.task.stop();
    }
}

fn tell(told: &Mutex<PollStatus>, url: &str, now: Timestamp, result: Result<Pass, PollError>) {
    let mut status = told.lock();
    match result {
        Ok(pass) => {
            tracing::debug!(url, ?pass, "polled the bug tracker");
            status.last_pass = Some((now, pass));
            status.error = None;
        }
        Err(error) => {
            tracing::warn!(url, %error, "polling the bug tracker failed; will try again");
            status.error = Some(error.to_string());
        }
    }
}

/// A Bugzilla, and the store that receives its answers.
pub struct Tracker {
    pub store: Arc<Store>,
    pub outbound: Outbound,
    /// URL of the tracker, without a trailing slash.
    pub url: String,
}

/// An answer of `/rest/bug`. Bugzilla reports errors in the same document, sometimes with status 200.
#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    error: bool,
    message: Option<String>,
    bugs: Option<Vec<FoundBug>>,
}

#[derive(Deserialize)]
struct FoundBug {
    id: u64,
    cf_crash_signature: Option<String>,
    status: Option<String>,
    resolution: Option<String>,
    summary: Option<String>,
    is_open: Option<bool>,
}

impl FoundBug {
    fn bug(&self, tracker: &str) -> Bug {
        let cut = |text: &Option<String>| -> String {
            let text = text.iter().flat_map(|text| text.chars());
            text.take(limits::BUG_TEXT_CHARS_MAX).collect()
        };
        let standing = Standing {
            summary: cut(&self.summary),
            status: cut(&self.status),
            resolution: cut(&self.resolution),
            // A closed bug has a resolution until it is reopened.
            is_open: self
                .is_open
                .or(self.resolution.as_ref().map(String::is_empty)),
        };
        Bug {
            standing,
            ..reference::in_bugzilla(tracker, self.id)
        }
    }
}

impl Tracker {
    /// Asks for everything that may have changed at `now`. Ends early if the sender of `woken` is dropped.
    /// No change is then half done.
    ///
    /// # Errors
    /// After [`PollError::Stopping`] the thread must end. After any other error the caller tries again
    /// later.
    pub fn pass(&self, now: Timestamp, woken: &Receiver<()>) -> Result<Pass, PollError> {
        let before = self.store.last_pass(&self.url)?;
        let from = Timestamp::from_ms(before.unwrap_or(now).ms() - OVERLAP_MS);
        let day = from.utc().date().to_string();
        let changed = self.changed_since(&day, now, woken)?;
        let mut others = Vec::new();
        for id in self.store.bugs_in(&self.url)? {
            // Only a number is the id of a bug in Bugzilla.
            others.extend(id.parse::<u64>().ok().filter(|id| !changed.contains(id)));
        }
        for ids in others.chunks(IDS_BATCH) {
            let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
            let found = self.ask(
                &[("id", &ids.join(",")), ("include_fields", STANDING_FIELDS)],
                woken,
            )?;
            let stand = found.iter().map(|found| BugChange::Stands {
                bug: found.bug(&self.url),
                at: now,
            });
            self.store.change_bugs(stand.collect())?;
        }
        self.store.change_bugs(vec![BugChange::PassEnded {
            tracker: self.url.clone(),
            began: now,
        }])?;
        Ok(Pass {
            changed: changed.len(),
            refreshed: others.len(),
        })
    }

    /// Stores the crash-signature fields of new and changed bugs. Returns the ids of those bugs.
    fn changed_since(
        &self,
        day: &str,
        now: Timestamp,
        woken: &Receiver<()>,
    ) -> Result<BTreeSet<u64>, PollError> {
        let fields = format!("{STANDING_FIELDS},cf_crash_signature");
        let limit = PAGE_BUGS.to_string();
        let mut changed = BTreeSet::new();
        for _ in 0..PAGES_MAX {
            let offset = changed.len().to_string();
            let found = self.ask(
                &[
                    ("chfield", "[Bug creation]"),
                    ("chfield", "cf_crash_signature"),
                    ("chfieldfrom", day),
                    ("chfieldto", "Now"),
                    ("include_fields", &fields),
                    ("order", "bug_id"),
                    ("limit", &limit),
                    ("offset", &offset),
                ],
                woken,
            )?;
            let mut changes = Vec::new();
            let known = changed.len();
            for found in &found {
                changed.insert(found.id);
                let bug = found.bug(&self.url);
                let text = found.cf_crash_signature.as_deref().unwrap_or_default();
                changes.push(BugChange::Polled {
                    bug: bug.clone(),
                    signatures: field::signatures(text),
                });
                changes.push(BugChange::Stands { bug, at: now });
            }
            self.store.change_bugs(changes)?;
            // A server that ignores the offset repeats its first answer.
            if found.len() < PAGE_BUGS || changed.len() == known {
                return Ok(changed);
            }
        }
        Err(PollError::Answer(format!(
            "more than {} bugs have changed since {day}",
            PAGES_MAX * PAGE_BUGS
        )))
    }

    fn ask(
        &self,
        params: &[(&str, &str)],
        woken: &Receiver<()>,
    ) -> Result<Vec<FoundBug>, PollError> {
        // A wake-up needs no action here: the pass is already running.
        if let Err(TryRecvError::Disconnected) = woken.try_recv() {
            return Err(PollError::Stopping);
        }
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(params)
            .finish();
        let answer = self
            .outbound
            .get(&format!("{}/rest/bug?{query}", self.url))?;
        let found: Result<Found, _> = serde_json::from_slice(&answer.body);
        let refused = |why: String| Err(PollError::Answer(why));
        match found {
            Ok(Found {
                error,
                message: Some(message),
                ..
            }) if error || answer.status != 200 => {
                let message: String = message.chars().take(limits::BUG_TEXT_CHARS_MAX).collect();
                refused(format!(
                    "it answered with status {}: {message}",
                    answer.status
                ))
            }
            _ if answer.status != 200 => {
                refused(format!("it answered with status {}", answer.status))
            }
            Ok(Found {
                error: false,
                bugs: Some(bugs),
                ..
            }) => Ok(bugs),
            Ok(_) => refused(
                "its answer contains no bugs; check that [bugzilla] url is a Bugzilla server"
                    .into(),
            ),
            Err(error) => refused(format!("its answer is invalid: {error}")),
        }
    }
}
