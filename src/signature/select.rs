//! Selects the frames of a signature in the ruleset `crashkeep`.
//!
//! siggen's lists were made for one program, whose own frames they skip or keep by name. Here, the families
//! ([`super::families`]) say what a frame is to a crash, and the steps of this file find the code to name it
//! by:
//!
//! 1. Frames above the last dispatch of a signal or an exception ran after the crash.
//! 2. Unless memory was accessed wrongly, the program found the failure itself. Frames above the outermost
//!    frame of the failure's machinery only report it.
//! 3. From there, the first function of the program names the crash. Machinery, crash handlers and generic
//!    code are left out, also as a prefix, because the same failure has other frames of that kind in another
//!    build. A driver or a foreign module is named by its file. A library's function is kept in front of the program's.
//! 4. The kind of the failure, and what it says, are put in front.
//!
//! siggen's lists apply to what remains. Each step has a name, and a site can switch it off.

use std::borrow::Borrow;

use super::families::{Kind, Owner, Role};
use super::fate::Fate;
use super::lists::Scoped;
use super::name::{FRAMES_MAX, Name, Verdict};
use super::step::Step;

/// Frames among which a dispatch is looked for.
const DISPATCH_FRAMES_MAX: usize = 30;
/// Frames among which the machinery of a failure is looked for.
const MACHINERY_FRAMES_MAX: usize = 24;
/// Other frames that may be between two frames of the machinery, or between a handler and the code that called
/// it: functions of the program that report the failure.
const REPORTING_FRAMES_MAX: usize = 2;
/// Limit of functions that a recursion repeats.
const CYCLE_MAX: usize = 8;
/// Frames above a recursion: where the stack happened to end.
const CYCLE_START_MAX: usize = 8;
/// Functions of a recursion that are named.
const CYCLE_PARTS_MAX: usize = 3;
/// The word of siggen for a stack that grew too large.
pub(super) const STACK_OVERFLOW: &str = "stackoverflow";

/// The parts of a signature, and whether no frame was suitable.
pub(super) struct Selected {
    pub(crate) parts: Vec<String>,
    pub(crate) is_without_frame: bool,
}

/// Selects the frames of a stack. `is_fault` if the crash was an invalid access to memory.
pub(super) fn select<'d, N: Borrow<Name<'d>>>(
    names: &[N],
    is_fault: bool,
    lists: &Scoped,
    tell: &mut dyn FnMut(usize, Fate),
) -> Selected {
    let frames: Vec<Item> = names
        .iter()
        .map(|name| Item::new(name.borrow(), lists))
        .collect();
    let mut selection = Selection {
        frames: &frames,
        lists,
        tell,
        kind: None,
        message: None,
        driver: None,
        library: None,
        skipped: Vec::new(),
        parts: Vec::new(),
    };
    let start = selection.start();
    if is_fault
        && lists.has(Step::Recursion)
        && let Some(parts) = selection.recursion(start)
    {
        return Selected {
            parts,
            is_without_frame: false,
        };
    }
    let begin = if is_fault {
        start
    } else {
        selection.machinery_end(start)
    };
    selection.walk(begin);
    selection.finish()
}

/// A frame and what is known about it.
struct Item<'n, 'd> {
    name: &'n Name<'d>,
    verdict: Verdict,
}

impl<'n, 'd> Item<'n, 'd> {
    fn new(name: &'n Name<'d>, lists: &Scoped) -> Self {
        let verdict = name.verdict.unwrap_or_else(|| lists.verdict(name.listed()));
        Item { name, verdict }
    }

    /// The role, if its step is on.
    fn role(&self, lists: &Scoped) -> Option<Role> {
        // A module without a name of code has no role.
        let role = self
            .verdict
            .known
            .role
            .filter(|_| self.name.place.is_code)?;
        let step = match role {
            Role::Dispatch => Step::Dispatch,
            Role::Handler | Role::Machinery(_) => Step::Machinery,
            Role::Generic => Step::Generic,
        };
        lists.has(step).then_some(role)
    }

    fn owner(&self, lists: &Scoped) -> Owner {
        match self.name.place.owner {
            Owner::Library if !lists.has(Step::Library) => Owner::Program,
            Owner::Driver | Owner::Foreign if !lists.has(Step::Driver) => Owner::Program,
            owner => owner,
        }
    }

    fn is_nameless_library(&self, lists: &Scoped) -> bool {
        !self.name.place.is_code && self.owner(lists) == Owner::Library
    }

    fn text(&self) -> &'n str {
        &self.name.text
    }
}

struct Selection<'s, 'n, 'd> {
    frames: &'s [Item<'n, 'd>],
    lists: &'s Scoped<'s>,
    tell: &'s mut dyn FnMut(usize, Fate),
    kind: Option<Kind>,
    message: Option<&'s str>,
    driver: Option<(usize, &'s str)>,
    library: Option<(usize, &'n str)>,
    /// Generic code and other functions of libraries: what names a crash if nothing else does.
    skipped: Vec<(usize, &'n str)>,
    parts: Vec<&'n str>,
}

impl<'n> Selection<'_, 'n, '_> {
    /// The first frame of the code that crashed.
    fn start(&mut self) -> usize {
        let sentinel = self.frames.iter().position(|item| item.verdict.is_sentinel);
        let start = self.after_dispatch();
        let (above, start) = match sentinel {
            Some(sentinel) if sentinel > start => (Fate::AboveSentinel, sentinel),
            _ => (Fate::AboveDispatch, start),
        };
        (0..start).for_each(|at| (self.tell)(at, above));
        start
    }

    /// The frame that a signal or an exception interrupted. 0 if none did, or if nothing is below.
    fn after_dispatch(&self) -> usize {
        if !self.lists.has(Step::Dispatch) {
            return 0;
        }
        let mut start = 0;
        // Frames since the last one of a handler.
        let mut since_handler = usize::MAX;
        for (at, item) in self.frames.iter().enumerate().take(DISPATCH_FRAMES_MAX) {
            match item.role(self.lists) {
                Some(Role::Handler) => {
                    since_handler = 0;
                    continue;
                }
                Some(Role::Dispatch) => start = at + 1,
                // A handler is called by the code that delivers signals, also if that has no name.
                _ if since_handler <= REPORTING_FRAMES_MAX
                    && item.is_nameless_library(self.lists) =>
                {
                    start = at + 1;
                    since_handler = usize::MAX;
                }
                _ => {}
            }
            since_handler = since_handler.saturating_add(1);
        }
        if start < self.frames.len() { start } else { 0 }
    }

    /// The outermost frame of the failure's machinery; `start` if there is none.
    fn machinery_end(&mut self, start: usize) -> usize {
        let mut end = start;
        let mut others = 0;
        let frames = self.frames;
        for (at, item) in frames
            .iter()
            .enumerate()
            .skip(start)
            .take(MACHINERY_FRAMES_MAX)
        {
            match item.role(self.lists) {
                Some(Role::Machinery(_)) => {
                    end = at;
                    others = 0;
                }
                None if item.name.place.is_code && item.owner(self.lists) == Owner::Program => {
                    others += 1;
                    if others > REPORTING_FRAMES_MAX {
                        break;
                    }
                }
                _ => {}
            }
        }
        for (at, item) in frames.iter().enumerate().take(end).skip(start) {
            match item.role(self.lists) {
                Some(Role::Machinery(_)) => self.pass_machinery(at),
                _ => (self.tell)(at, Fate::AboveMachinery),
            }
        }
        end
    }

    fn pass_machinery(&mut self, at: usize) {
        let known = self.frames[at].verdict.known;
        let Some(Role::Machinery(kind)) = known.role else {
            return (self.tell)(at, Fate::Machinery);
        };
        self.kind = Some(self.kind.map_or(kind, |before| before.min(kind)));
        if let Some(message) = known.message.filter(|_| self.lists.has(Step::Message)) {
            self.message = Some(self.lists.message(message));
        }
        (self.tell)(at, Fate::Machinery);
    }

    /// Goes from callee to caller until a function of the program is found.
    fn walk(&mut self, begin: usize) {
        let frames = self.frames;
        for (at, item) in frames.iter().enumerate().skip(begin) {
            let text = item.text();
            match item.role(self.lists) {
                Some(Role::Machinery(_) | Role::Handler | Role::Dispatch) => {
                    self.pass_machinery(at);
                    continue;
                }
                Some(Role::Generic) => {
                    self.skipped.push((at, text));
                    (self.tell)(at, Fate::Generic);
                    continue;
                }
                None => {}
            }
            if text.is_empty() || self.is_nameless(at) {
                (self.tell)(at, Fate::Nameless);
                continue;
            }
            match item.owner(self.lists) {
                Owner::Driver | Owner::Foreign => {
                    let module = item.name.place.file.as_deref();
                    if self.driver.is_none() {
                        self.driver = Some((at, module.unwrap_or(item.name.listed())));
                    }
                    (self.tell)(at, Fate::Driver);
                    continue;
                }
                Owner::Library if !item.name.place.is_code => {
                    self.skipped.push((at, item.name.listed()));
                    (self.tell)(at, Fate::NamelessLibrary);
                    continue;
                }
                Owner::Library | Owner::Program => {}
            }
            if item.verdict.is_irrelevant {
                (self.tell)(at, Fate::Irrelevant);
                continue;
            }
            if item.owner(self.lists) == Owner::Library {
                match self.library {
                    None => self.library = Some((at, text)),
                    Some((_, first)) if first != text => self.skipped.push((at, text)),
                    Some(_) => {}
                }
                (self.tell)(at, Fate::Library);
                continue;
            }
            if item.name.is_module_like() && self.parts.last() == Some(&text) {
                (self.tell)(at, Fate::Repeated);
                continue;
            }
            self.parts.push(text);
            if !item.verdict.is_prefix {
                (self.tell)(at, Fate::Last);
                break;
            }
            (self.tell)(at, Fate::Prefix);
        }
    }

    /// Whether a frame has no name that helps.
    fn is_nameless(&self, at: usize) -> bool {
        let place = &self.frames[at].name.place;
        if place.is_code {
            return false;
        }
        // An address alone differs between runs. A part of a module between two frames that are left out
        // belongs to what they do.
        let is_left_out = |at: usize| {
            let item = self.frames.get(at);
            item.is_some_and(|item| item.role(self.lists).is_some())
        };
        !place.has_module || (at > 0 && is_left_out(at - 1) && is_left_out(at + 1))
    }

    /// The parts of the signature, each once.
    fn finish(self) -> Selected {
        let mut code: Vec<String> = Vec::new();
        let mut add = |text: &str| {
            if !code.iter().any(|known| known == text) {
                code.push(text.to_string());
            }
        };
        if let Some((at, module)) = self.driver {
            add(module);
            (self.tell)(at, Fate::DriverKept);
        } else if let Some((at, function)) = self.library {
            add(function);
            (self.tell)(at, Fate::LibraryKept);
        }
        if self.parts.is_empty() && self.message.is_none() {
            // No function of the program, and the failure says nothing: the library's function and its caller.
            let (is_driver, is_library) = (self.driver.is_some(), self.library.is_some());
            let count = match (is_driver, is_library) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => 2,
            };
            for (at, text) in self.skipped.iter().take(count) {
                add(text);
                (self.tell)(*at, Fate::Fallback);
            }
        }
        self.parts.iter().for_each(|part| add(part));
        if code.is_empty() && self.message.is_none() {
            // Machinery only: its outermost frame says most.
            let last = self.frames.iter().rposition(|item| !item.text().is_empty());
            if let Some(at) = last {
                (self.tell)(at, Fate::Fallback);
                code.push(self.frames[at].text().to_string());
            }
            return Selected {
                parts: code,
                is_without_frame: true,
            };
        }
        let mut parts = Vec::with_capacity(code.len() + 2);
        parts.extend(self.kind.map(|kind| kind.word().to_string()));
        parts.extend(self.message.map(str::to_string));
        parts.extend(code);
        Selected {
            parts,
            is_without_frame: false,
        }
    }

    /// The functions that the stack repeats up to its end, if it does. They are rotated, so that it does not
    /// matter where the stack ended.
    fn recursion(&mut self, start: usize) -> Option<Vec<String>> {
        if self.frames.len() < FRAMES_MAX {
            return None;
        }
        let all = self.frames;
        let frames = &all[start..];
        let (from, period) = cycle(frames)?;
        let lists = self.lists;
        let names = |item: &&Item<'n, '_>| {
            item.name.place.is_code
                && item.role(lists).is_none()
                && item.owner(lists) == Owner::Program
        };
        let mut parts: Vec<&'n str> = frames[from..from + period]
            .iter()
            .filter(names)
            .map(Item::text)
            .collect();
        let first = parts.iter().enumerate().min_by_key(|(_, text)| **text)?.0;
        parts.rotate_left(first);
        parts.truncate(CYCLE_PARTS_MAX);
        for (at, item) in all.iter().enumerate().skip(start) {
            let is_named =
                (start + from..start + from + period).contains(&at) && parts.contains(&item.text());
            let fate = if is_named {
                Fate::Cycle
            } else {
                Fate::Repetition
            };
            (self.tell)(at, fate);
        }
        let parts = [STACK_OVERFLOW].into_iter().chain(parts);
        Some(parts.map(str::to_string).collect())
    }
}

/// Where the frames begin to repeat up to the last one, and after how many frames.
fn cycle(frames: &[Item]) -> Option<(usize, usize)> {
    for period in 1..=CYCLE_MAX {
        // The last frames repeat; how far up?
        let repeats = |at: &usize| frames[*at].text() == frames[at + period].text();
        let last = frames.len().checked_sub(period)?;
        let from = (0..last).rev().take_while(repeats).last()?;
        if from <= CYCLE_START_MAX && frames.len() - from >= 3 * period {
            return Some((from, period));
        }
    }
    None
}
