//! Who watches over a walk, on a thread of its own for the life of a child: it ends the child at the
//! deadline of a walk, where it is told to stop, and, where others wait for their turn, as soon as the
//! walk turns out to be slow.
//!
//! A walk is slow when it has used the processor time that it was allowed, or does nothing: a walker
//! has one thread, and nothing to wait for but its parent. Time for which others had the processor is
//! not held against it.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::Child;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two looks at what a walk does.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What a walk may take on the wall, whatever it does, before it counts as slow.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// A child, and what it may do with its time.
pub(super) struct Watch {
    state: Mutex<Watched>,
    changed: Condvar,
}

/// Why a child was killed in the middle of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Deadline,
    Slow,
    Stop,
}

pub(super) struct Watched {
    pub(super) process: Child,
    usage: Usage,
    /// End of the walk at hand.
    until: Option<Instant>,
    quick: Option<Quick>,
    /// When the watcher looks by itself; `None` while it sleeps until it is woken. Mostly that is
    /// soon enough, so that a walk costs no waking of a thread.
    wakes_at: Option<Instant>,
    cut: Option<Cut>,
    /// The child is being buried.
    is_over: bool,
}

/// A walk that ends when it is slow.
struct Quick {
    begun: Instant,
    /// Processor time of the child at which the walk is slow.
    cpu_max: Duration,
    /// Processor time of the child at the last look.
    cpu_seen: Duration,
    looks_at: Instant,
}

impl Watch {
    pub(super) fn over(process: Child) -> Self {
        let usage = Usage::of(&process);
        Self {
            state: Mutex::new(Watched {
                process,
                usage,
                until: None,
                quick: None,
                wakes_at: None,
                cut: None,
                is_over: false,
            }),
            changed: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Watched> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches over a walk. `quick` is the processor time after which it is slow, if it may be.
    pub(super) fn begin(&self, until: Instant, quick: Option<Duration>) {
        let mut state = self.lock();
        state.until = Some(until);
        let now = Instant::now();
        let used = quick.and_then(|_| state.usage.cpu()).unwrap_or_default();
        state.quick = quick.map(|quick| Quick {
            begun: now,
            cpu_max: used + quick,
            cpu_seen: used,
            looks_at: now + LOOK_EVERY,
        });
        let first = state.next_look();
        if state
            .wakes_at
            .is_none_or(|at| first.is_some_and(|first| first < at))
        {
            self.changed.notify_one();
        }
    }

    /// Ends the watch; returns why the child was killed, if it was.
    pub(super) fn end(&self) -> Option<Cut> {
        let mut state = self.lock();
        state.until = None;
        state.quick = None;
        state.cut
    }

    /// Ends the child, and with it the walk at hand.
    pub(super) fn stop(&self) {
        self.lock().kill(Cut::Stop);
    }

    /// Lets [`run`](Self::run) return.
    pub(super) fn finish(&self) {
        self.lock().is_over = true;
        self.changed.notify_one();
    }

    /// Watches until the child is buried.
    pub(super) fn run(&self) {
        let mut state = self.lock();
        while !state.is_over {
            let now = Instant::now();
            if state.until.is_some_and(|until| until <= now) {
                state.kill(Cut::Deadline);
            }
            if state.is_slow(now) {
                state.kill(Cut::Slow);
            }
            state.wakes_at = state.next_look();
            state = match state.wakes_at {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(now);
                    let woken = self.changed.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.wakes_at = None;
        }
    }
}

impl Watched {
    fn next_look(&self) -> Option<Instant> {
        let quick = self.quick.as_ref().map(|quick| quick.looks_at);
        quick.into_iter().chain(self.until).min()
    }

    fn kill(&mut self, cut: Cut) {
        self.until = None;
        self.quick = None;
        self.cut.get_or_insert(cut);
        let _ = self.process.kill();
    }

    /// Looks, if it is time to, and sets the time of the next look.
    fn is_slow(&mut self, now: Instant) -> bool {
        let Some(quick) = self.quick.as_mut().filter(|quick| quick.looks_at <= now) else {
            return false;
        };
        quick.looks_at = now + LOOK_EVERY;
        if now - quick.begun >= SLOW_AFTER {
            return true;
        }
        let Some(used) = self.usage.cpu() else {
            return false;
        };
        let is_idle = used == std::mem::replace(&mut quick.cpu_seen, used);
        used >= quick.cpu_max || (is_idle && self.usage.is_asleep())
    }
}

/// What the system says of a child. Elsewhere than on Linux it says nothing.
struct Usage {
    schedstat: Option<File>,
    stat: Option<File>,
}

impl Usage {
    fn of(process: &Child) -> Self {
        let open = |name| File::open(format!("/proc/{}/{name}", process.id())).ok();
        Self {
            schedstat: open("schedstat"),
            stat: open("stat"),
        }
    }

    /// Processor time so far: the first number, in nanoseconds.
    fn cpu(&mut self) -> Option<Duration> {
        let mut bytes = [0; 64];
        let text = read(self.schedstat.as_mut()?, &mut bytes)?;
        text.split(' ')
            .next()?
            .parse()
            .ok()
            .map(Duration::from_nanos)
    }

    /// Whether it waits for something else than a processor or a disk, or has been stopped.
    fn is_asleep(&mut self) -> bool {
        let mut bytes = [0; 512];
        let state = self.stat.as_mut().and_then(|stat| {
            // The name before it is ours, and has no such bracket.
            read(stat, &mut bytes)?.rsplit_once(") ")?.1.chars().next()
        });
        matches!(state, Some('S' | 'T' | 't'))
    }
}

fn read<'b>(file: &mut File, bytes: &'b mut [u8]) -> Option<&'b str> {
    file.rewind().ok()?;
    let length = file.read(bytes).ok()?;
    std::str::from_utf8(&bytes[..length]).ok()
}
