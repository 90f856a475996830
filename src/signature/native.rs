//! The signature of a native stack: the C, C++ and Rust frames of one thread.
//!
//! First come the frames in calling order, with inlined calls before the frame that contains them. Each
//! becomes one text ([`super::normalize`], otherwise file and line, module, unloaded module, address). The
//! stack is cut at the first sentinel. From there, frames are added and irrelevant ones left out, up to the
//! first frame that is not a prefix.

use std::borrow::{Borrow, Cow};

use super::crash_data::{Frame, Thread, UnloadedModule};
use super::families::Owner;
use super::fate::Fate;
use super::lists::Scoped;
use super::name::{FRAMES_MAX, Name, NameText, Place};
use super::value::{Fault, Value};
use super::{normalize, select, text};
use crate::crash::walk::UNKNOWN_IN;

/// The text between the frames of a signature.
pub(super) const SEPARATOR: &str = " | ";

/// The signature of a thread.
pub(super) struct Stack {
    /// Empty if the thread's first frame has no text and no other frame can be used.
    pub(crate) signature: String,
    /// All frames that were looked at; `None` if the thread has none.
    pub(crate) proto: Option<String>,
    /// Whether no frame was suitable, so that the first one had to be used.
    pub(crate) is_without_frame: bool,
}

/// What a stack's signature depends on besides its frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct System {
    pub(crate) is_windows: bool,
    /// Whether the crash was an invalid access to memory.
    pub(crate) is_fault: bool,
}

impl System {
    /// `os` and `reason` as in the crash data.
    pub(crate) fn new(os: &Value, reason: &Value) -> Self {
        System {
            is_windows: os.is_text("Windows NT"),
            is_fault: matches!(reason, Value::Text(reason) if is_fault(reason)),
        }
    }
}

/// Whether a crash reason, in the words of rust-minidump, is an invalid access to memory.
pub(super) fn is_fault(reason: &str) -> bool {
    const WORDS: [&str; 5] = [
        "SIGSEGV",
        "SIGBUS",
        "ACCESS_VIOLATION",
        "EXC_BAD_ACCESS",
        "STACK_OVERFLOW",
    ];
    WORDS.iter().any(|word| reason.contains(word))
}

/// The signature of a thread. A thread that does not exist has no frames.
pub(super) fn stack(
    thread: Option<&Thread>,
    system: System,
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
    let names = names(thread, system.is_windows, lists)?;
    let proto = (!names.is_empty()).then(|| join(names.iter().map(|name| &*name.text)));
    if let Some(fates) = &mut fates {
        **fates = vec![Fate::NotReached; names.len()];
    }
    let (signature, is_without_frame) = compose(&names, system.is_fault, lists, fates);
    Ok(Stack {
        signature,
        proto,
        is_without_frame,
    })
}

/// Selects the frames of a stack. Returns the signature, and whether no frame was suitable.
pub(super) fn compose<'d, N: Borrow<Name<'d>>>(
    names: &[N],
    is_fault: bool,
    lists: &Scoped,
    mut fates: Option<&mut Vec<Fate>>,
) -> (String, bool) {
    let mut tell = |at: usize, fate: Fate| {
        if let Some(fates) = &mut fates {
            fates[at] = fate;
        }
    };
    if names.is_empty() {
        return ("EMPTY: no frame data available".to_string(), true);
    }
    if lists.is_parity() {
        return siggen(names, lists, &mut tell);
    }
    let selected = select::select(names, is_fault, lists, &mut tell);
    let signature = join(selected.parts.iter().map(String::as_str));
    (signature, selected.is_without_frame)
}

/// How much a frame says about a bug, from 0 to 1.
pub(super) fn weight(name: &Name, lists: &Scoped) -> f64 {
    /// Of code in a library, or of a place in a module without a name.
    const LITTLE: f64 = 0.3;
    let verdict = name.verdict.unwrap_or_else(|| lists.verdict(name.listed()));
    if name.text.is_empty() || verdict.is_irrelevant || verdict.known.role.is_some() {
        return 0.0;
    }
    match (name.place.owner, name.place.is_code) {
        (Owner::Program, true) => 1.0,
        (Owner::Program, false) => LITTLE,
        (_, false) => 0.0,
        (_, true) => LITTLE,
    }
}

/// Selects the frames as siggen does.
fn siggen<'d, N: Borrow<Name<'d>>>(
    names: &[N],
    lists: &Scoped,
    tell: &mut dyn FnMut(usize, Fate),
) -> (String, bool) {
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
    if !added.is_empty() {
        return (join(added.iter().map(|name| &*name.text)), false);
    }
    let first: &Name = names[start].borrow();
    if !first.text.is_empty() {
        tell(start, Fate::Fallback);
    }
    (first.text.to_string(), true)
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
    pub(crate) fn shared(self, lists: &Scoped) -> Name<'static> {
        Name {
            verdict: Some(self.verdict.unwrap_or_else(|| lists.verdict(self.listed()))),
            listed_bytes: self.listed_bytes,
            place: self.place,
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
    let place = |is_code| {
        let known = module.as_ref().ok().copied().flatten();
        lists.place(known.unwrap_or_default(), frame.location, is_code)
    };
    let function = code.function.text("endswith")?;
    // The walker's word for a function that has no name is the name of a module.
    let is_unknown = |function: &str| !lists.is_parity() && function.starts_with(UNKNOWN_IN);
    if let Some(function) = function.filter(|function| !is_unknown(function)) {
        let (language, repaired) = normalize::language(function, file, lists);
        if let Some(repaired) = repaired {
            let normal = normalize::function(&repaired, language, code.line, lists)?;
            return Ok(Name::new(normal.text.into_owned()).at(place(true)));
        }
        if let Some(known) = lists.memo().and_then(|memo| memo.get(function, language)) {
            return Ok(known.at(place(true)));
        }
        let normal = normalize::function(function, language, code.line, lists)?;
        let name = Name::new(normal.text);
        return Ok(match lists.memo() {
            // With a line number, it is the name of this line only.
            Some(memo) if !normal.has_line => {
                memo.keep(function, language, name, |name| name.shared(lists))
            }
            _ => name,
        }
        .at(place(true)));
    }
    if code.line.is_truthy()
        && let Some(file) = file
    {
        let text = format!("{}#{}", base_name(file), code.line.str());
        return Ok(Name::new(text).at(place(true)));
    }
    let of_module = place(false);
    if let Some(module) = module? {
        let module = if is_windows {
            module.to_lowercase().into()
        } else {
            Cow::Borrowed(module)
        };
        return Ok(module_name(module, &frame.module_offset, lists).at(of_module));
    }
    if let Some(first) = unloaded.first() {
        readable(&first.unreadable)?;
        let place = Place {
            has_module: true,
            ..Place::default()
        };
        return Ok(Name::new(format!("(unloaded {})", first.module.str())).at(place));
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
        place: Place::default(),
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

    const WINDOWS: System = System {
        is_windows: true,
        is_fault: true,
    };

    fn signature(frames: &str, ruleset: Ruleset) -> String {
        let text = format!("{{\"threads\":[{{\"frames\":[{frames}]}}]}}");
        let data = CrashData::parse(&text).unwrap();
        let lists = Lists::builtin();
        stack(
            data.threads.first(),
            WINDOWS,
            &lists.scoped(ruleset, ""),
            None,
        )
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
            WINDOWS,
            &lists.scoped(Ruleset::Socorro, ""),
            None,
        )
        .unwrap();
        let proto = stack.proto.unwrap();
        assert_eq!(proto.split(" | ").count(), 40);
        assert!(proto.starts_with("i | j | f | i") && proto.ends_with("f | i"));
    }
}
