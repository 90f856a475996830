//! The signature of a native stack: the C, C++ and Rust frames of one thread.
//!
//! First come the frames in calling order, with inlined calls before the frame that contains them. Each
//! becomes one text ([`super::normalize`], otherwise file and line, module, unloaded module, address). The
//! stack is cut at the first sentinel. From there, frames are added and irrelevant ones left out, up to the
//! first frame that is not a prefix.

use std::borrow::{Borrow, Cow};

use super::crash_data::{Frame, Thread, UnloadedModule};
use super::lists::Scoped;
use super::name::{Name, NameText};
use super::value::{Fault, Value};
use super::{normalize, text};

/// Number of frames that are looked at, inlined calls included.
pub const FRAMES_MAX: usize = 40;
/// The text between the frames of a signature.
const SEPARATOR: &str = " | ";

/// The signature of a thread.
pub(super) struct Stack {
    /// Empty if the thread's first frame has no text and no other frame can be used.
    pub signature: String,
    /// All frames that were looked at; `None` if the thread has none.
    pub proto: Option<String>,
    /// Whether no frame was suitable, so that the first one had to be used.
    pub is_without_frame: bool,
}

/// What happened to a frame when the stack was processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing is known that could name it.
    Nameless,
    /// It is above a sentinel.
    AboveSentinel,
    /// It is in the irrelevant list.
    Irrelevant,
    /// It is only a module name, the same as that of the frame added before it.
    Repeated,
    /// It is part of the signature. The prefix list says that another frame follows.
    Prefix,
    /// It is part of the signature and ends it.
    Last,
    /// The signature was complete before it.
    NotReached,
    /// No other frame could name the crash, so this one was used.
    Fallback,
}

/// The signature of a thread. A thread that does not exist has no frames.
pub(super) fn stack(
    thread: Option<&Thread>,
    is_windows: bool,
    lists: &Scoped,
    mut fates: Option<&mut Vec<Fate>>,
) -> Result<Stack, Fault> {
    if let Some((signature, is_without_frame)) = thread.and_then(|t| t.composed.clone()) {
        return Ok(Stack {
            signature,
            proto: None,
            is_without_frame,
        });
    }
    let names = names(thread, is_windows, lists)?;
    let proto = (!names.is_empty()).then(|| join(names.iter().map(|name| &*name.text)));
    if let Some(fates) = &mut fates {
        **fates = vec![Fate::NotReached; names.len()];
    }
    let (signature, is_without_frame) = compose(&names, lists, fates);
    Ok(Stack {
        signature,
        proto,
        is_without_frame,
    })
}

/// Selects the frames of a stack. Returns the signature, and whether no frame was suitable.
pub(super) fn compose<'d, N: Borrow<Name<'d>>>(
    names: &[N],
    lists: &Scoped,
    mut fates: Option<&mut Vec<Fate>>,
) -> (String, bool) {
    let mut tell = |at: usize, fate: Fate| {
        if let Some(fates) = &mut fates {
            fates[at] = fate;
        }
    };
    let start = names
        .iter()
        .position(|name| name.borrow().is_sentinel(lists))
        .unwrap_or(0);
    (0..start).for_each(|at| tell(at, Fate::AboveSentinel));
    let mut added: Vec<&Name> = Vec::new();
    for (at, name) in names.iter().enumerate().skip(start) {
        let name: &Name = name.borrow();
        if name.text.is_empty() {
            tell(at, Fate::Nameless);
            continue;
        }
        if name.is_irrelevant(lists) {
            tell(at, Fate::Irrelevant);
            continue;
        }
        let is_repeated = added.last().is_some_and(|last| *last.text == *name.text);
        if is_repeated && name.is_module_like() {
            tell(at, Fate::Repeated);
            continue;
        }
        added.push(name);
        if !name.is_prefix(lists) {
            tell(at, Fate::Last);
            break;
        }
        tell(at, Fate::Prefix);
    }
    let signature = match (added.is_empty(), names.get(start)) {
        (false, _) => join(added.iter().map(|name| &*name.text)),
        (true, Some(first)) => {
            let first: &Name = first.borrow();
            if !first.text.is_empty() {
                tell(start, Fate::Fallback);
            }
            first.text.to_string()
        }
        (true, None) => "EMPTY: no frame data available".to_string(),
    };
    (signature, added.is_empty())
}

fn join<'n>(mut names: impl Iterator<Item = &'n str>) -> String {
    let mut joined = names.next().unwrap_or_default().to_string();
    for name in names {
        joined.push_str(SEPARATOR);
        joined.push_str(name);
    }
    joined
}

impl<'d> Name<'d> {
    /// The same name, shareable between crashes and with the verdict of the lists.
    pub fn shared(self, lists: &Scoped) -> Name<'static> {
        Name {
            verdict: Some(self.verdict.unwrap_or_else(|| lists.verdict(self.listed()))),
            listed_bytes: self.listed_bytes,
            text: NameText::Shared(match self.text {
                NameText::Own(text) => text.into(),
                NameText::Shared(text) => text,
            }),
        }
    }

    fn is_sentinel(&self, lists: &Scoped) -> bool {
        let known = self.verdict.map(|verdict| verdict.is_sentinel);
        known.unwrap_or_else(|| lists.is_sentinel(self.listed()))
    }

    fn is_irrelevant(&self, lists: &Scoped) -> bool {
        let known = self.verdict.map(|verdict| verdict.is_irrelevant);
        known.unwrap_or_else(|| lists.is_irrelevant(self.listed()))
    }

    fn is_prefix(&self, lists: &Scoped) -> bool {
        let known = self.verdict.map(|verdict| verdict.is_prefix);
        known.unwrap_or_else(|| lists.is_prefix(self.listed()))
    }
}

/// The names of the frames that are looked at, callee first.
pub(super) fn names<'d>(
    thread: Option<&'d Thread<'_>>,
    is_windows: bool,
    lists: &Scoped,
) -> Result<Vec<Name<'d>>, Fault> {
    let Some(thread) = thread else {
        return Ok(Vec::new());
    };
    readable(&thread.unreadable)?;
    let mut names = Vec::with_capacity(thread.frames.len().min(FRAMES_MAX));
    for frame in &thread.frames {
        if names.len() == FRAMES_MAX {
            break;
        }
        frame_names(frame, is_windows, lists, &mut names)?;
    }
    Ok(names)
}

/// Adds the names of a frame, as long as there is room: first those of the calls inlined into it, then its
/// own.
pub(super) fn frame_names<'d>(
    frame: &'d Frame<'_>,
    is_windows: bool,
    lists: &Scoped,
    names: &mut Vec<Name<'d>>,
) -> Result<(), Fault> {
    readable(&frame.unreadable)?;
    let room = FRAMES_MAX - names.len();
    for inline in frame.inlines.iter().take(room) {
        readable(&inline.unreadable)?;
        let code = Code {
            function: &inline.function,
            file: &inline.file,
            line: &inline.line,
        };
        names.push(name(code, frame, &[], is_windows, lists)?);
    }
    if names.len() < FRAMES_MAX {
        let code = Code {
            function: &frame.function,
            file: &frame.file,
            line: &frame.line,
        };
        let unloaded = &frame.unloaded_modules;
        names.push(name(code, frame, unloaded, is_windows, lists)?);
    }
    Ok(())
}

fn readable(unreadable: &Option<Fault>) -> Result<(), Fault> {
    unreadable.clone().map_or(Ok(()), Err)
}

/// The source position of a frame, or of a call inlined into it.
struct Code<'d, 'a> {
    function: &'d Value<'a>,
    file: &'d Value<'a>,
    line: &'d Value<'a>,
}

fn name<'d>(
    code: Code<'d, '_>,
    frame: &'d Frame<'_>,
    unloaded: &'d [UnloadedModule<'_>],
    is_windows: bool,
    lists: &Scoped,
) -> Result<Name<'d>, Fault> {
    if let Value::List(_) | Value::Object(_) = code.function {
        // Python looks up every function in the table for Rust 1.34, even an empty list.
        let name = code.function.type_name();
        return Err(Fault::new(format!("unhashable type: '{name}'")));
    }
    let file = code.file.text("split")?;
    let module = frame
        .module
        .text(if is_windows { "lower" } else { "strip" });
    if is_windows && let Err(fault) = module {
        return Err(fault);
    }
    if let Some(function) = code.function.text("endswith")? {
        let (language, repaired) = normalize::language(function, file, lists);
        if let Some(repaired) = repaired {
            let normal = normalize::function(&repaired, language, code.line, lists)?;
            return Ok(Name::new(normal.text.into_owned()));
        }
        if let Some(known) = lists.memo().and_then(|memo| memo.get(function, language)) {
            return Ok(known);
        }
        let normal = normalize::function(function, language, code.line, lists)?;
        let name = Name::new(normal.text);
        return Ok(match lists.memo() {
            // With a line number, it is the name of this line only.
            Some(memo) if !normal.has_line => {
                memo.keep(function, language, name, |name| name.shared(lists))
            }
            _ => name,
        });
    }
    if code.line.is_truthy()
        && let Some(file) = file
    {
        return Ok(Name::new(format!(
            "{}#{}",
            base_name(file),
            code.line.str()
        )));
    }
    if let Some(module) = module? {
        let module = if is_windows {
            module.to_lowercase().into()
        } else {
            Cow::Borrowed(module)
        };
        return Ok(module_name(module, &frame.module_offset, lists));
    }
    if let Some(first) = unloaded.first() {
        readable(&first.unreadable)?;
        return Ok(Name::new(format!("(unloaded {})", first.module.str())));
    }
    if frame.offset.is_truthy() {
        let offset = frame.offset.str();
        let is_text = matches!(frame.offset, Value::Text(_));
        let address = is_text.then(|| text::plain_hex(&offset)).flatten();
        return Ok(Name::new(format!(
            "@{}",
            address.as_deref().unwrap_or(&offset)
        )));
    }
    Ok(Name::new(""))
}

/// The name of a frame for which only the module is known. The rulesets differ here.
///
/// `socorro` gives all such frames of a module the same name, so all crashes in a module without symbols are
/// in one group. `crashkeep` adds the offset within the module, `foo.dll@0x1a2b`. So crashes at the same
/// place in the same build are in one group, and symbols that arrive later rename it. In both, only the
/// module is matched against the lists, so entries such as `libc\.so` or `JS::Call$` mean the same.
fn module_name<'d>(module: Cow<'d, str>, offset: &Value, lists: &Scoped) -> Name<'d> {
    let brackets = ['[', ']'];
    let module = match module {
        Cow::Borrowed(module) => Cow::Borrowed(module.trim_matches(brackets)),
        Cow::Owned(module) => Cow::Owned(module.trim_matches(brackets).to_string()),
    };
    let offset = match offset {
        Value::Text(offset) if !module.is_empty() && !lists.is_parity() => text::plain_hex(offset),
        _ => None,
    };
    let listed_bytes = module.len();
    let text = match offset {
        Some(offset) => Cow::Owned(format!("{module}@{offset}")),
        None => module,
    };
    Name {
        text: NameText::Own(text),
        listed_bytes,
        verdict: None,
    }
}

/// The last component of a path, in Unix or Windows style.
fn base_name(file: &str) -> &str {
    let path = file.trim_end_matches(['/', '\\']);
    let separator = if path.contains('\\') { '\\' } else { '/' };
    path.rsplit(separator).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::super::crash_data::CrashData;
    use super::super::{Lists, Ruleset};
    use super::*;

    fn signature(frames: &str, ruleset: Ruleset) -> String {
        let text = format!("{{\"threads\":[{{\"frames\":[{frames}]}}]}}");
        let data = CrashData::parse(&text).unwrap();
        let lists = Lists::builtin();
        stack(data.threads.first(), true, &lists.scoped(ruleset, ""), None)
            .unwrap()
            .signature
    }

    #[test]
    fn a_frame_reads_as_the_first_thing_known_of_it() {
        let check = |frame: &str, expected: &str| {
            assert_eq!(signature(frame, Ruleset::Socorro), expected, "{frame}");
        };
        check(r#"{"function":"f(int)","module":"m"}"#, "f");
        check(
            r#"{"function":"","file":"c:\\src\\foo.cpp","line":12}"#,
            "foo.cpp#12",
        );
        check(r#"{"file":"hg:h:a/b.cpp:rev","line":5}"#, "b.cpp:rev#5");
        check(r#"{"file":"a/b.cpp","line":0,"module":"[M.DLL]"}"#, "m.dll");
        check(
            r#"{"unloaded_modules":[{"module":"x.dll"}],"offset":"0x1"}"#,
            "(unloaded x.dll)",
        );
        check(r#"{"unloaded_modules":[{}]}"#, "(unloaded None)");
        check(r#"{"offset":"0x00007FF6"}"#, "@0x7ff6");
        check(r#"{"offset":"zz"}"#, "@zz");
        check(r#"{"offset":5}"#, "@5");
        check("{}", "");
        check("", "EMPTY: no frame data available");
    }

    #[test]
    fn the_crashkeep_ruleset_tells_places_in_a_module_apart() {
        let check = |frames: &str, expected: &str| {
            assert_eq!(signature(frames, Ruleset::Crashkeep), expected, "{frames}");
        };
        check(
            r#"{"module":"Foo.exe","module_offset":"0x0001A2B"}"#,
            "foo.exe@0x1a2b",
        );
        check(r#"{"module":"foo.exe"}"#, "foo.exe");
        check(r#"{"module":"foo.exe","module_offset":"none"}"#, "foo.exe");
        check(r#"{"module":"[]","module_offset":"0x1"}"#, "");
        check(
            r#"{"function":"f","module":"foo.exe","module_offset":"0x1"}"#,
            "f",
        );
        check(
            r#"{"file":"a.c","line":1,"module":"x","module_offset":"0x1"}"#,
            "a.c#1",
        );
        // Prefix entries and the irrelevant list match the module only.
        let frames = r#"{"module":"a.dll","module_offset":"0x1"},{"module":"a.dll","module_offset":"0x1"},
            {"module":"libz.so","module_offset":"0x2"},{"module":"a.dll","module_offset":"0x3"},{"function":"g"}"#;
        check(frames, "a.dll@0x1 | a.dll@0x3 | g");
    }

    #[test]
    fn only_the_first_forty_frames_count_inlined_calls_included() {
        let data = CrashData::parse(
            r#"{"threads":[{"frames":[{"function":"f","inlines":[{"function":"i"},{"function":"j"}]}]}]}"#,
        )
        .unwrap();
        let mut thread = data.threads[0].clone();
        thread.frames = vec![thread.frames[0].clone(); 30];
        thread.frames[13].unreadable = None;
        thread.frames[14].unreadable = Some(Fault::new("not reached"));
        let lists = Lists::builtin();
        let stack = stack(
            Some(&thread),
            false,
            &lists.scoped(Ruleset::Socorro, ""),
            None,
        )
        .unwrap();
        let proto = stack.proto.unwrap();
        assert_eq!(proto.split(" | ").count(), 40);
        assert!(proto.starts_with("i | j | f | i") && proto.ends_with("f | i"));
    }
}
