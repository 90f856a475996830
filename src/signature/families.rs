//! The lists of the ruleset `crashkeep`: what the code of common languages, systems and libraries is to a
//! crash. One file per family, beside this file.
//!
//! ```text
//! dispatch PATTERN           delivers a signal or an exception: what is above it ran after the crash
//! handler  PATTERN           a program's crash handler, or what it calls
//! oom, purecall, heap, panic, assert, throw or abort
//!          PATTERN           the machinery of a failure of this kind
//! message  "TEXT" PATTERN    what the failure says, if this frame is in its machinery
//! says     "TEXT" PATTERN    a sentence for people about the crash, if this frame is on its stack
//! generic  PATTERN           code that every program calls: containers, locks, event loops
//! library  PATTERN           the file name of a module that is not the program's
//! driver   PATTERN           the file name of a module of a driver
//! foreign  PATTERN           the file name of a module that another program loads into processes
//! ```
//!
//! A pattern matches the whole normalised frame, or the whole file name of a module without regard to case.
//! Of several roles, the first one in the order above applies. Sites edit these files like the other lists
//! and switch them off with a site rule.

use std::sync::OnceLock;

use regex::bytes::RegexSet;

use super::list_file::{Entry, ListError, entries};
use super::pattern::{self, Syntax};
use super::text;

/// The families: the name of the file and its built-in text.
pub(super) const BUILTIN: [(&str, &str); 15] = [
    ("families/android.txt", include_str!("families/android.txt")),
    ("families/apple.txt", include_str!("families/apple.txt")),
    (
        "families/chromium.txt",
        include_str!("families/chromium.txt"),
    ),
    ("families/cpp.txt", include_str!("families/cpp.txt")),
    ("families/drivers.txt", include_str!("families/drivers.txt")),
    ("families/engines.txt", include_str!("families/engines.txt")),
    ("families/foreign.txt", include_str!("families/foreign.txt")),
    ("families/go.txt", include_str!("families/go.txt")),
    (
        "families/handlers.txt",
        include_str!("families/handlers.txt"),
    ),
    ("families/libc.txt", include_str!("families/libc.txt")),
    ("families/rust.txt", include_str!("families/rust.txt")),
    (
        "families/sanitizers.txt",
        include_str!("families/sanitizers.txt"),
    ),
    (
        "families/toolkits.txt",
        include_str!("families/toolkits.txt"),
    ),
    ("families/windows.txt", include_str!("families/windows.txt")),
    (
        "families/wrappers.txt",
        include_str!("families/wrappers.txt"),
    ),
];

/// The folder of the families, for errors about all of them.
const FOLDER: &str = "families";
/// Limit of characters of a message.
const MESSAGE_CHARS_MAX: usize = 60;
/// Limit of characters of a sentence.
const SENTENCE_CHARS_MAX: usize = 120;

/// What the code of a frame is to a crash. The order is that of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Delivers a signal or an exception.
    Dispatch,
    /// A crash handler of the program.
    Handler,
    /// Part of the machinery of a failure.
    Machinery(Kind),
    /// Code that every program calls.
    Generic,
}

/// The kind of a failure that a program finds itself. The order is that of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    OutOfMemory,
    PureCall,
    Heap,
    Panic,
    Assert,
    Throw,
    Abort,
}

impl Kind {
    /// The word in a signature.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::OutOfMemory => "OOM",
            Kind::PureCall => "purecall",
            Kind::Heap => "heap corruption",
            Kind::Panic => "panic",
            Kind::Assert => "assert",
            Kind::Throw => "exception",
            Kind::Abort => "abort",
        }
    }
}

/// Whose code a module is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    #[default]
    Program,
    Library,
    Driver,
    /// Of another program, which loads it into this one.
    Foreign,
}

/// The roles of frames: the word in a file, and the role, in the order of precedence.
const ROLES: [(&str, Role); 10] = [
    ("dispatch", Role::Dispatch),
    ("handler", Role::Handler),
    ("oom", Role::Machinery(Kind::OutOfMemory)),
    ("purecall", Role::Machinery(Kind::PureCall)),
    ("heap", Role::Machinery(Kind::Heap)),
    ("panic", Role::Machinery(Kind::Panic)),
    ("assert", Role::Machinery(Kind::Assert)),
    ("throw", Role::Machinery(Kind::Throw)),
    ("abort", Role::Machinery(Kind::Abort)),
    ("generic", Role::Generic),
];
/// The owners of modules: the word in a file, and the owner, in the order of precedence.
const OWNERS: [(&str, Owner); 3] = [
    ("driver", Owner::Driver),
    ("foreign", Owner::Foreign),
    ("library", Owner::Library),
];
const MESSAGE: &str = "message";
const SAYS: &str = "says";

/// The number of a message in the families that it came from.
pub(super) type MessageAt = u16;

/// The compiled families.
#[derive(Debug)]
pub(super) struct Families {
    /// One pattern for each of [`ROLES`], then one for each message.
    frames: RegexSet,
    messages: Vec<String>,
    /// One pattern for each of [`OWNERS`].
    modules: RegexSet,
    /// Compiled on first use: a signature does not need them.
    says: OnceLock<RegexSet>,
    sentences: Vec<Sentence>,
}

/// What a function says to people.
#[derive(Debug)]
struct Sentence {
    /// Number of its family.
    family: usize,
    text: String,
    pattern: String,
}

/// What the families know about a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(crate) role: Option<Role>,
    pub(crate) message: Option<MessageAt>,
}

impl Families {
    /// The built-in families. They are compiled on first use: that takes a tenth of a second, and neither the
    /// ruleset `socorro` nor a server without crashes needs them.
    pub(crate) fn builtin() -> &'static Families {
        static FAMILIES: OnceLock<Families> = OnceLock::new();
        FAMILIES.get_or_init(|| {
            Families::compile(BUILTIN.into_iter(), true).unwrap_or_else(|error| {
                unreachable!("the built-in families are tested to compile: {error}")
            })
        })
    }

    /// Compiles families: the names of their files and their texts. `is_checked` if each entry is known to
    /// compile alone; those of built-in files are.
    pub(crate) fn compile<'t>(
        texts: impl Iterator<Item = (&'static str, &'t str)>,
        is_checked: bool,
    ) -> Result<Families, ListError> {
        let mut roles: [Vec<&str>; ROLES.len()] = Default::default();
        let mut owners: [Vec<&str>; OWNERS.len()] = Default::default();
        let mut messages: Vec<(String, &str)> = Vec::new();
        let mut sentences = Vec::new();
        for (family, (file, text)) in texts.enumerate() {
            let is_checked = is_checked || BUILTIN.contains(&(file, text));
            for entry in entries(text) {
                let line = Line::parse(file, entry)?;
                if !is_checked {
                    pattern::alone(file, line.pattern, line.syntax())?;
                }
                match line.word {
                    Word::Role(at) => roles[at].push(line.pattern.text),
                    Word::Owner(at) => owners[at].push(line.pattern.text),
                    Word::Message(message) => messages.push((message.into(), line.pattern.text)),
                    Word::Says(text) => sentences.push(Sentence {
                        family,
                        text: text.into(),
                        pattern: line.pattern.text.into(),
                    }),
                }
            }
        }
        let too_many = messages.len() >= usize::from(MessageAt::MAX);
        if too_many {
            let reason = format!("there are more than {} messages", MessageAt::MAX);
            return Err(ListError::of_file(FOLDER, reason));
        }
        let of_roles = roles.iter().map(|patterns| pattern::whole(patterns));
        let of_messages = messages
            .iter()
            .map(|(_, pattern)| pattern::whole(&[pattern]));
        let frames = of_roles.chain(of_messages).collect::<Vec<_>>();
        let modules: Vec<String> = owners
            .iter()
            .map(|patterns| pattern::whole(patterns))
            .collect();
        Ok(Families {
            frames: pattern::set(FOLDER, &frames, Syntax::Frame)?,
            modules: pattern::set(FOLDER, &modules, Syntax::Module)?,
            messages: messages.into_iter().map(|(message, _)| message).collect(),
            says: OnceLock::new(),
            sentences,
        })
    }

    /// What the functions of a stack say, callee first. The first one that says anything chooses the family.
    /// Of what its functions say on this stack, the entry that comes first counts: details come before the
    /// general case.
    pub(crate) fn sentence<'n>(&self, frames: impl Iterator<Item = &'n str>) -> Option<&str> {
        let says = self.says.get_or_init(|| {
            let patterns = self
                .sentences
                .iter()
                .map(|sentence| pattern::whole(&[&sentence.pattern]));
            let patterns: Vec<String> = patterns.collect();
            pattern::set(FOLDER, &patterns, Syntax::Frame).unwrap_or_else(|error| {
                tracing::error!(%error, "the sentences of the families cannot be used together");
                RegexSet::empty()
            })
        });
        let mut best: Option<usize> = None;
        for frame in frames {
            for at in &says.matches(frame.as_bytes()) {
                let is_better = best.is_none_or(|best| {
                    at < best && self.sentences[at].family == self.sentences[best].family
                });
                if is_better {
                    best = Some(at);
                }
            }
        }
        Some(&self.sentences.get(best?)?.text)
    }

    pub(crate) fn known(&self, frame: &str) -> Known {
        let matches = self.frames.matches(frame.as_bytes());
        let mut known = Known::default();
        for at in &matches {
            match (ROLES.get(at), known.role) {
                (Some((_, role)), None) => known.role = Some(*role),
                (Some(_), Some(_)) => {}
                (None, Some(Role::Machinery(_))) if known.message.is_none() => {
                    known.message = MessageAt::try_from(at - ROLES.len()).ok();
                }
                (None, _) => {}
            }
        }
        known
    }

    pub(crate) fn message(&self, at: MessageAt) -> &str {
        self.messages
            .get(usize::from(at))
            .map_or("", String::as_str)
    }

    /// The owner that an entry gives a module.
    pub(crate) fn owner(&self, module: &str) -> Option<Owner> {
        let first = self.modules.matches(module.as_bytes()).iter().next();
        first.map(|at| OWNERS[at].1)
    }
}

/// The first entry of a family with this word that matches. It compiles one entry after the other, so it is
/// only for explanations.
pub(super) fn entry_for<'t>(word: &str, text: &'t str, frame: &str) -> Option<Entry<'t>> {
    entries(text).find(|entry| {
        Line::parse("", *entry).is_ok_and(|line| {
            line.name() == word
                && pattern::alone("", line.pattern, line.syntax())
                    .is_ok_and(|regex| regex.is_match(frame.as_bytes()))
        })
    })
}

/// The word for a role in the files.
pub(super) fn role_word(role: Role) -> &'static str {
    let found = ROLES.iter().find(|(_, known)| *known == role);
    found.map_or("", |(word, _)| word)
}

/// The word for an owner in the files.
pub(super) fn owner_word(owner: Owner) -> Option<&'static str> {
    let found = OWNERS.iter().find(|(_, known)| *known == owner);
    found.map(|(word, _)| *word)
}

/// What an entry is about: an index into [`ROLES`] or [`OWNERS`], or the text of a message.
enum Word<'l> {
    Role(usize),
    Owner(usize),
    Message(&'l str),
    Says(&'l str),
}

/// An entry of a family.
struct Line<'l> {
    word: Word<'l>,
    pattern: Entry<'l>,
}

impl<'l> Line<'l> {
    fn parse(file: &str, entry: Entry<'l>) -> Result<Line<'l>, ListError> {
        let wrong = |at: usize, reason: String| ListError {
            line: Some(entry.line),
            column: Some(entry.column + entry.text[..at].chars().count()),
            ..ListError::of_file(file, reason)
        };
        let (name, rest) = entry
            .text
            .split_once(text::is_space)
            .unwrap_or((entry.text, ""));
        let mut rest = text::strip(rest);
        let role = ROLES.iter().position(|(word, _)| *word == name);
        let owner = OWNERS.iter().position(|(word, _)| *word == name);
        let word = match (role, owner) {
            (Some(at), _) => Word::Role(at),
            (None, Some(at)) => Word::Owner(at),
            (None, None) if name == MESSAGE || name == SAYS => {
                let quoted = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
                let (text, after) = quoted.ok_or_else(|| {
                    let reason =
                        format!("{name} needs a text in quotation marks before its pattern");
                    wrong(name.len(), reason)
                })?;
                let (word, chars_max) = match name {
                    MESSAGE => (Word::Message(text), MESSAGE_CHARS_MAX),
                    _ => (Word::Says(text), SENTENCE_CHARS_MAX),
                };
                if text.is_empty() || text::is_longer_than(text, chars_max) {
                    let reason = format!("the text of {name} has 1 to {chars_max} characters");
                    return Err(wrong(name.len(), reason));
                }
                rest = text::strip(after);
                word
            }
            (None, None) => {
                let words = ROLES.iter().map(|(word, _)| *word);
                let words = words
                    .chain([MESSAGE, SAYS])
                    .chain(OWNERS.iter().map(|(word, _)| *word));
                let words: Vec<&str> = words.collect();
                let reason = format!("unknown role {name:?}; accepted: {}", words.join(", "));
                return Err(wrong(0, reason));
            }
        };
        if rest.is_empty() {
            return Err(wrong(
                entry.text.len(),
                "the entry has no pattern".to_string(),
            ));
        }
        let at = rest.as_ptr() as usize - entry.text.as_ptr() as usize;
        let pattern = Entry {
            line: entry.line,
            column: entry.column + entry.text[..at].chars().count(),
            text: rest,
        };
        Ok(Line { word, pattern })
    }

    fn name(&self) -> &'static str {
        match self.word {
            Word::Role(at) => ROLES[at].0,
            Word::Owner(at) => OWNERS[at].0,
            Word::Message(_) => MESSAGE,
            Word::Says(_) => SAYS,
        }
    }

    fn syntax(&self) -> Syntax {
        match self.word {
            Word::Owner(_) => Syntax::Module,
            Word::Role(_) | Word::Message(_) | Word::Says(_) => Syntax::Frame,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families(text: &str) -> Result<Families, ListError> {
        Families::compile([("families/x.txt", text)].into_iter(), false)
    }

    #[test]
    fn every_built_in_entry_compiles_and_names_its_source_in_a_comment() {
        for (file, text) in BUILTIN {
            families(text).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(text.starts_with("# "), "{file}");
        }
    }

    #[test]
    fn of_several_roles_the_first_applies() {
        let families = families(
            "generic std::.*\nabort std::terminate\nhandler on_\\w+\nlibrary libc\\.so.*\ndriver libc\\.so\\.drv\n\
             message \"out of range\" std::__throw_out_of_range\\w*\nthrow std::__throw_\\w+\n",
        )
        .unwrap();
        let role = |frame: &str| families.known(frame).role;
        assert_eq!(role("std::terminate"), Some(Role::Machinery(Kind::Abort)));
        assert_eq!(role("std::vector<T>::push_back"), Some(Role::Generic));
        assert_eq!(role("xstd::f"), None);
        assert_eq!(role("on_crash"), Some(Role::Handler));
        let known = families.known("std::__throw_out_of_range_fmt");
        assert_eq!(known.role, Some(Role::Machinery(Kind::Throw)));
        assert_eq!(
            known.message.map(|at| families.message(at)),
            Some("out of range")
        );
        assert_eq!(families.owner("LIBC.so.6"), Some(Owner::Library));
        assert_eq!(families.owner("libc.so.drv"), Some(Owner::Driver));
        assert_eq!(families.owner("app"), None);
    }

    #[test]
    fn an_entry_that_cannot_be_used_is_refused_with_its_place() {
        let check = |text: &str, expected: &str| {
            let error = families(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check(
            "skip a",
            "families/x.txt:1:1: unknown role \"skip\"; accepted: dispatch, handler",
        );
        check("# c\n  generic a(b", ":2:12: unclosed group");
        check("generic", ":1:8: the entry has no pattern");
        check("message a b", "needs a text in quotation marks");
        check("message \"\" b", "1 to 60 characters");
    }

    #[test]
    fn families_without_entries_know_nothing() {
        let families = families("# nothing\n").unwrap();
        assert_eq!(families.known(""), Known::default());
        assert_eq!(families.owner(""), None);
    }
}
