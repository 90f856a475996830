//! Who watches over a walk, on a thread of its own for the life of a child: it ends the child at the
//! deadline of a walk, where it is told to stop, and, where the walk has a budget, as soon as it turns
//! out to be slow.
//!
//! A walk is slow when it has used the processor time that it was allowed, or does nothing: a walker
//! has one thread, and nothing to wait for but its parent. Time in which others had the processor is
//! not held against it, neither as slow nor at the deadline.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::Child;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::child::Answers;

/// Between two looks at what a walk does.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What a walk may take on the wall, but for waiting for a processor, before it counts as slow whatever
/// it does; or twice its budget, if that is more.
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

/// How a walk ended.
pub(super) struct Watching {
    pub(super) cut: Option<Cut>,
    /// Processor time that it used, where the system says so.
    pub(super) used: Option<Duration>,
}

pub(super) struct Watched {
    pub(super) process: Child,
    answers: Answers,
    usage: Usage,
    walk: Option<Walk>,
    /// When the watcher looks by itself; `None` while it sleeps until it is woken. Mostly that is
    /// soon enough, so that a walk costs no waking of a thread.
    wakes_at: Option<Instant>,
    cut: Option<Cut>,
    /// The child is being buried.
    is_over: bool,
}

/// The walk at hand.
struct Walk {
    begun: Instant,
    deadline: Duration,
    /// Processor time after which it is slow.
    budget: Option<Duration>,
    /// The child's times when it began.
    times: Times,
    /// Processor time of the child at the last look.
    cpu_seen: Duration,
    seen_at: Instant,
    looks_at: Instant,
    /// The child has all that it needs, and has said nothing yet: where it sleeps, it does nothing.
    is_its_turn: bool,
}

impl Watch {
    /// Over a child and the pipe by which it answers.
    pub(super) fn over(process: Child, answers: Answers) -> Self {
        let usage = Usage::of(&process);
        Self {
            state: Mutex::new(Watched {
                process,
                answers,
                usage,
                walk: None,
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

    /// Watches over a walk that began at `begun`. `budget` is the processor time after which it is
    /// slow, if it may be.
    pub(super) fn begin(&self, begun: Instant, deadline: Duration, budget: Option<Duration>) {
        let mut state = self.lock();
        let now = Instant::now();
        let times = state.usage.times().unwrap_or_default();
        let mut walk = Walk {
            begun,
            deadline,
            budget,
            times,
            cpu_seen: times.cpu,
            seen_at: now,
            looks_at: now,
            is_its_turn: false,
        };
        walk.looks_at = walk.next_look(now, Duration::ZERO);
        let looks_at = walk.looks_at;
        state.walk = Some(walk);
        if state.wakes_at.is_none_or(|at| looks_at < at) {
            self.changed.notify_one();
        }
    }

    /// The child has been told all.
    pub(super) fn is_its_turn(&self) {
        self.set_turn(true);
    }

    /// The child has begun to answer, and may have to wait for who reads it.
    pub(super) fn answers(&self) {
        self.set_turn(false);
    }

    fn set_turn(&self, is_its_turn: bool) {
        if let Some(walk) = &mut self.lock().walk {
            walk.is_its_turn = is_its_turn;
        }
    }

    /// Ends the watch over a walk.
    pub(super) fn end(&self) -> Watching {
        let mut state = self.lock();
        let walk = state.walk.take();
        let used =
            walk.and_then(|walk| Some(state.usage.times()?.cpu.saturating_sub(walk.times.cpu)));
        Watching {
            cut: state.cut,
            used,
        }
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
            if let Some(cut) = state.look(now) {
                state.kill(cut);
            }
            state.wakes_at = match state.cut {
                None => state.walk.as_ref().map(|walk| walk.looks_at),
                Some(_) => None,
            };
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

impl Walk {
    /// At the deadline, and shortly before it, for what a child does shows between two looks.
    fn next_look(&self, now: Instant, waited: Duration) -> Instant {
        let end = self.begun + self.deadline + waited;
        let usual = match self.budget {
            Some(_) => now + LOOK_EVERY,
            None => end - LOOK_EVERY,
        };
        let ahead = [usual, end].into_iter().filter(|&at| at > now);
        ahead.min().unwrap_or(now + LOOK_EVERY)
    }

    /// Why to end the walk, if so, and sets the time of the next look.
    fn judge(&mut self, now: Instant, seen: &Seen) -> Option<Cut> {
        let times = seen.times.unwrap_or(self.times);
        // The system keeps the account of a processor that is in use by the clock's tick.
        let has_rested =
            seen.times.is_some() && times.cpu == self.cpu_seen && now - self.seen_at >= LOOK_EVERY;
        (self.cpu_seen, self.seen_at) = (times.cpu, now);
        let waited = times.waited.saturating_sub(self.times.waited);
        self.looks_at = self.next_look(now, waited);
        // It waits for a processor, and how long is said only when it has got one.
        if has_rested && seen.state == State::Runnable {
            return None;
        }
        let taken = (now - self.begun).saturating_sub(waited);
        if taken >= self.deadline {
            return Some(Cut::Deadline);
        }
        let used = times.cpu.saturating_sub(self.times.cpu);
        let is_asleep = has_rested && seen.state == State::Asleep;
        let is_idle = is_asleep && self.is_its_turn && !seen.has_answered;
        let is_slow = |budget| used >= budget || taken >= SLOW_AFTER.max(budget * 2) || is_idle;
        self.budget.is_some_and(is_slow).then_some(Cut::Slow)
    }
}

impl Watched {
    fn kill(&mut self, cut: Cut) {
        self.cut.get_or_insert(cut);
        let _ = self.process.kill();
    }

    /// Looks, if it is time to. Why to end the walk, if so.
    fn look(&mut self, now: Instant) -> Option<Cut> {
        if self.cut.is_some() {
            return None;
        }
        let walk = self.walk.as_mut().filter(|walk| walk.looks_at <= now)?;
        let seen = Seen {
            times: self.usage.times(),
            state: self.usage.state(),
            has_answered: self.answers.are_there(),
        };
        walk.judge(now, &seen)
    }
}

/// A child at a look.
struct Seen {
    times: Option<Times>,
    state: State,
    has_answered: bool,
}

/// What the system says of a child. Elsewhere than on Linux it says nothing.
struct Usage {
    schedstat: Option<File>,
    stat: Option<File>,
}

/// Of a child, since it was started.
#[derive(Clone, Copy, Default)]
struct Times {
    /// It had a processor.
    cpu: Duration,
    /// It waited for one; without a wait that still goes on.
    waited: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has a processor or waits for one.
    Runnable,
    /// It waits for something else than a processor or a disk, or has been stopped.
    Asleep,
    Other,
}

impl Usage {
    fn of(process: &Child) -> Self {
        let open = |name| File::open(format!("/proc/{}/{name}", process.id())).ok();
        Self {
            schedstat: open("schedstat"),
            stat: open("stat"),
        }
    }

    /// The first two numbers, in nanoseconds. A system that keeps no account says 0.
    fn times(&mut self) -> Option<Times> {
        let mut bytes = [0; 64];
        let text = read(self.schedstat.as_mut()?, &mut bytes)?;
        let mut numbers = text.split(' ').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten().map(Duration::from_nanos);
        Some(Times {
            cpu: next().filter(|cpu| !cpu.is_zero())?,
            waited: next()?,
        })
    }

    fn state(&mut self) -> State {
        let mut bytes = [0; 512];
        let letter = self.stat.as_mut().and_then(|stat| {
            // The name before it is ours, and has no such bracket.
            read(stat, &mut bytes)?.rsplit_once(") ")?.1.chars().next()
        });
        match letter {
            Some('R') => State::Runnable,
            Some('S' | 'T' | 't') => State::Asleep,
            _ => State::Other,
        }
    }
}

fn read<'b>(file: &mut File, bytes: &'b mut [u8]) -> Option<&'b str> {
    file.rewind().ok()?;
    let length = file.read(bytes).ok()?;
    std::str::from_utf8(&bytes[..length]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn walk(budget: Option<Duration>) -> Walk {
        let now = Instant::now();
        Walk {
            begun: now,
            deadline: 1_000 * MS,
            budget,
            times: Times::default(),
            cpu_seen: Duration::ZERO,
            seen_at: now,
            looks_at: now,
            is_its_turn: true,
        }
    }

    /// Looks at these milliseconds of the walk: the last answer.
    fn judged(mut walk: Walk, looks: &[(u32, u32, u32, State)], has_answered: bool) -> Option<Cut> {
        let begun = walk.begun;
        let answers = looks.iter().map(|&(at, cpu, waited, state)| {
            let times = Times {
                cpu: cpu * MS,
                waited: waited * MS,
            };
            let seen = Seen {
                times: Some(times),
                state,
                has_answered,
            };
            walk.judge(begun + at * MS, &seen)
        });
        answers.last().flatten()
    }

    #[test]
    fn a_walk_is_slow_by_its_own_time_and_not_by_that_of_others() {
        use State::{Asleep, Other, Runnable};
        let budget = Some(20 * MS);
        let slow = Some(Cut::Slow);
        for (looks, expected) in [
            (&[(5, 5, 0, Runnable), (20, 19, 0, Runnable)][..], None),
            (&[(5, 5, 0, Runnable), (21, 20, 0, Runnable)], slow),
            // Others had the processor.
            (&[(5, 1, 3, Runnable), (500, 1, 3, Runnable)], None),
            (&[(500, 10, 490, Asleep)], None),
            // It does nothing, and the system says so twice.
            (&[(5, 1, 0, Asleep)], None),
            (&[(5, 1, 0, Asleep), (10, 1, 0, Asleep)], slow),
            (&[(5, 1, 0, Asleep), (7, 1, 0, Asleep)], None),
            // It waits for a disk.
            (&[(5, 1, 0, Other), (10, 1, 0, Other)], None),
        ] {
            assert_eq!(judged(walk(budget), looks, false), expected);
        }
    }

    #[test]
    fn one_that_has_answered_or_is_not_asked_yet_may_sleep() {
        let looks = [(5, 1, 0, State::Asleep), (10, 1, 0, State::Asleep)];
        assert_eq!(judged(walk(Some(20 * MS)), &looks, true), None);
        let mut unasked = walk(Some(20 * MS));
        unasked.is_its_turn = false;
        assert_eq!(judged(unasked, &looks, false), None);
    }

    #[test]
    fn the_deadline_is_later_by_what_others_had() {
        use State::{Asleep, Runnable};
        let deadline = Some(Cut::Deadline);
        for (looks, expected) in [
            (
                &[(995, 900, 50, Runnable), (1_000, 904, 50, Runnable)][..],
                None,
            ),
            (
                &[(1_045, 940, 50, Runnable), (1_050, 944, 50, Runnable)],
                deadline,
            ),
            // How long it has been waiting now is not said yet.
            (&[(1_045, 1, 9, Runnable), (1_050, 1, 9, Runnable)], None),
            (&[(9_000, 1, 9, Runnable), (9_005, 1, 8_995, Asleep)], None),
            (&[(995, 1, 0, Asleep), (1_000, 1, 0, Asleep)], deadline),
        ] {
            assert_eq!(judged(walk(None), looks, false), expected);
        }
    }

    #[test]
    fn where_nobody_counts_the_wall_clock_does() {
        let seen = Seen {
            times: None,
            state: State::Runnable,
            has_answered: false,
        };
        let mut patient = walk(None);
        assert_eq!(patient.judge(patient.begun + 995 * MS, &seen), None);
        let end = Some(Cut::Deadline);
        assert_eq!(patient.judge(patient.begun + 1_000 * MS, &seen), end);
        let mut quick = walk(Some(20 * MS));
        quick.deadline = 60_000 * MS;
        assert_eq!(quick.judge(quick.begun + 1_000 * MS, &seen), None);
        let end = Some(Cut::Slow);
        assert_eq!(quick.judge(quick.begun + SLOW_AFTER, &seen), end);
    }

    #[test]
    fn the_watcher_looks_shortly_before_the_deadline_and_at_it() {
        let walk = walk(None);
        let begun = walk.begun;
        let next = |at| walk.next_look(begun + at * MS, 50 * MS) - begun;
        assert_eq!(next(0), 1_045 * MS);
        assert_eq!(next(1_045), 1_050 * MS);
        assert_eq!(next(1_050), 1_055 * MS);
    }
}
