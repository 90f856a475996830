//! Watches a child on a thread that lives as long as the child. It kills the child at the deadline of a walk,
//! when the walker is stopped, and, if the walk has a budget, as soon as the walk is slow (ADR 17).
//!
//! A walk is slow if it has used its budget of CPU time, or if it is idle. A walker has one thread and waits
//! only for its parent, so an idle walker hangs. Time spent waiting for a CPU counts neither toward the
//! budget nor toward the deadline: on a busy machine, a walk of a second at low priority takes over a minute.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::child::Answers;
use parking_lot::{Condvar, Mutex, MutexGuard};

/// Time between two checks of a walk.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Wall-clock time, without time spent waiting for a CPU, after which a walk is slow whatever it does. If
/// twice its budget is more, that counts instead. It ends walks that wait for a disk, and it is the only
/// criterion on systems that do not report CPU time (ADR 17).
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// A child, and the limits of its current walk.
pub(super) struct Watch {
    state: Mutex<Watched>,
    changed: Condvar,
}

/// Why a child was killed during a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Deadline,
    Slow,
    Stop,
}

/// The result of watching a walk.
pub(super) struct Watching {
    pub(super) cut: Option<Cut>,
    /// CPU time that it used, if the system reports it.
    pub(super) used: Option<Duration>,
}

pub(super) struct Watched {
    pub(super) process: Child,
    answers: Answers,
    usage: Usage,
    walk: Option<Walk>,
    /// When the watcher wakes by itself; `None` while it waits for a notification. The next wake-up is
    /// usually early enough for a new walk, so that most walks do not have to wake a thread.
    wakes_at: Option<Instant>,
    cut: Option<Cut>,
    /// The child is being cleaned up.
    is_over: bool,
}

/// The current walk.
struct Walk {
    begun: Instant,
    deadline: Duration,
    /// CPU time after which it is slow; `None` if it may take until the deadline.
    budget: Option<Duration>,
    /// The child's times when the walk started.
    times: Times,
    /// CPU time of the child at the last check.
    cpu_seen: Duration,
    seen_at: Instant,
    looks_at: Instant,
    /// The child has received everything and has not answered yet. If it sleeps now, it is idle.
    is_its_turn: bool,
}

impl Watch {
    /// A watch over a child and the pipe on which it answers.
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
        self.state.lock()
    }

    /// Starts to watch a walk that began at `begun`. `budget` is the CPU time after which the walk is slow,
    /// if there is such a limit.
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

    /// The child has received the whole request.
    pub(super) fn is_its_turn(&self) {
        self.set_turn(true);
    }

    /// The child has started to answer. It may have to wait until the parent reads.
    pub(super) fn answers(&self) {
        self.set_turn(false);
    }

    fn set_turn(&self, is_its_turn: bool) {
        if let Some(walk) = &mut self.lock().walk {
            walk.is_its_turn = is_its_turn;
        }
    }

    /// Stops watching the walk.
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

    /// Kills the child, and so ends the current walk.
    pub(super) fn stop(&self) {
        self.lock().kill(Cut::Stop);
    }

    /// Makes [`run`](Self::run) return.
    pub(super) fn finish(&self) {
        self.lock().is_over = true;
        self.changed.notify_one();
    }

    /// Watches until [`finish`](Self::finish) is called.
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
            match state.wakes_at {
                None => self.changed.wait(&mut state),
                Some(at) => drop(self.changed.wait_until(&mut state, at)),
            }
            state.wakes_at = None;
        }
    }
}

impl Walk {
    /// The time of the next check. There is one at the deadline and one shortly before it, because two checks
    /// are needed to see what a child does.
    fn next_look(&self, now: Instant, waited: Duration) -> Instant {
        let end = self.begun + self.deadline + waited;
        let usual = match self.budget {
            Some(_) => now + LOOK_EVERY,
            None => end - LOOK_EVERY,
        };
        let ahead = [usual, end].into_iter().filter(|&at| at > now);
        ahead.min().unwrap_or(now + LOOK_EVERY)
    }

    /// Decides whether to end the walk, and why. Also sets the time of the next check.
    fn judge(&mut self, now: Instant, seen: &Seen) -> Option<Cut> {
        let times = seen.times.unwrap_or(self.times);
        // The kernel updates the CPU time of a running process only at clock ticks.
        let has_rested =
            seen.times.is_some() && times.cpu == self.cpu_seen && now - self.seen_at >= LOOK_EVERY;
        (self.cpu_seen, self.seen_at) = (times.cpu, now);
        let waited = times.waited.saturating_sub(self.times.waited);
        self.looks_at = self.next_look(now, waited);
        // The child waits for a CPU. The kernel reports how long only when the child has got one, so this
        // check decides nothing.
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

    /// Checks the walk if it is time to do so. Returns why to end the walk, if it must end.
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

/// The state of a child at a check.
struct Seen {
    times: Option<Times>,
    state: State,
    has_answered: bool,
}

/// What the system reports about a child. Other systems than Linux report nothing.
struct Usage {
    schedstat: Option<File>,
    stat: Option<File>,
}

/// Times of a child since it was started.
#[derive(Clone, Copy, Default)]
struct Times {
    /// Time on a CPU.
    cpu: Duration,
    /// Time waiting for a CPU, without a wait that has not ended yet.
    waited: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It runs on a CPU or waits for one.
    Runnable,
    /// It waits for something other than a CPU or a disk, or is stopped.
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

    /// The first two numbers of schedstat, in nanoseconds. A system that does not account for them reports 0.
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
            // The command name before it is ours, and does not contain `) `.
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

    /// Checks a walk at these times, in ms (time, CPU time, time waited, state). Returns the last result.
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
            // Other processes had the CPU.
            (&[(5, 1, 3, Runnable), (500, 1, 3, Runnable)], None),
            (&[(500, 10, 490, Asleep)], None),
            // It is idle, and two checks show it.
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
            // The kernel does not report the current wait yet.
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
