//! Reads the crash file that Unreal's CrashReportClient sends, as it arrives.
//!
//! The complete file is compressed with zlib. This module sees the decompressed content:
//!
//! ```text
//! "CR1"                                    in newer versions
//! text directory, text file name, i32 bytes, i32 files     header
//! i32 index, text name, i32 bytes, content                 each file, indexes ascend from 0
//! header again                             in older versions, whose first one says nothing
//!
//! text    u32 bytes, bytes with zeros behind; numbers are little-endian
//! ```
//!
//! Content is passed on in pieces, so that the size of a crash file does not determine our memory use. This
//! is why we do not use symbolic-unreal, which holds the complete file. [`properties`] reads the file that
//! describes the crash. Source: the Unreal Engine's CrashUpload.cpp and symbolic-unreal.

use std::borrow::Cow;
use std::fmt;

use crate::crash::raw::{MAIN_DUMP, key};
use crate::multipart::{PartHead, PartSink};

/// The file that describes the crash, as XML.
pub(crate) const CONTEXT: &str = "CrashContext.runtime-xml";

/// Maximum bytes of a text. Unreal writes 260.
const TEXT_BYTES_MAX: u32 = 4096;
/// Size of a minidump's header. If Unreal cannot write a dump, it sends four bytes instead.
const DUMP_BYTES_MIN: u32 = 32;
/// Maximum number of properties that become annotations.
const PROPERTIES_MAX: usize = 300;
/// Maximum depth of nested elements.
const DEPTH_MAX: usize = 16;

#[derive(Debug, PartialEq, Eq)]
pub enum UnrealError<E> {
    /// A text or a number of bytes is invalid.
    Bad(&'static str),
    Unfinished,
    Sink(E),
}

impl<E: fmt::Display> fmt::Display for UnrealError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(what) => write!(f, "not an Unreal crash file: {what}"),
            Self::Unfinished => f.write_str("the crash file ends in the middle of a file"),
            Self::Sink(error) => error.fmt(f),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    /// Before the file with this index, or before the header at the end.
    FileHead(u32),
    /// Remaining bytes of the file, and the index of the next file.
    Content(u32, u32),
    /// After the last file.
    End,
}

pub struct CrashFile {
    state: State,
    /// Bytes of a header or of the head of a file, until it is complete.
    held: Vec<u8>,
    /// Number of files, if the header contains it.
    count: Option<u32>,
}

impl Default for CrashFile {
    fn default() -> Self {
        Self {
            state: State::Header,
            held: Vec::new(),
            count: None,
        }
    }
}

impl CrashFile {
    /// Takes the next piece of the decompressed crash file.
    ///
    /// # Errors
    /// [`UnrealError::Bad`] if the file is not valid, [`UnrealError::Sink`] with the error of `sink`. The
    /// caller must stop in both cases.
    pub fn feed<S: PartSink>(
        &mut self,
        piece: &[u8],
        sink: &mut S,
    ) -> Result<(), UnrealError<S::Error>> {
        let bytes = if self.held.is_empty() {
            Cow::Borrowed(piece)
        } else {
            Cow::Owned([&std::mem::take(&mut self.held), piece].concat())
        };
        let mut rest = &*bytes;
        loop {
            match self.state {
                State::Content(left, next) => {
                    let count = rest.len().min(left as usize);
                    let (content, behind) = rest.split_at(count);
                    if count > 0 {
                        sink.data(content).map_err(UnrealError::Sink)?;
                    }
                    rest = behind;
                    if left as usize > count {
                        self.state = State::Content(left - count as u32, next);
                        return Ok(());
                    }
                    sink.end().map_err(UnrealError::Sink)?;
                    self.state = self.after(next);
                }
                State::End => return Ok(()),
                State::Header | State::FileHead(_) => {
                    let mut reader = Reader(rest);
                    let read = match self.state {
                        State::FileHead(index) => reader.file(index),
                        _ => reader.header(),
                    };
                    let Some(read) = read.map_err(UnrealError::Bad)? else {
                        self.held = rest.to_vec();
                        return Ok(());
                    };
                    rest = reader.0;
                    self.state = match read {
                        Read::Header { is_new, files } => {
                            self.count = is_new.then_some(files);
                            self.after(0)
                        }
                        Read::File { name, bytes, index } => {
                            sink.begin(part_of(name, bytes))
                                .map_err(UnrealError::Sink)?;
                            State::Content(bytes, index + 1)
                        }
                        Read::Last => State::End,
                    };
                }
            }
        }
    }

    fn after(&self, next: u32) -> State {
        match self.count {
            Some(count) if next >= count => State::End,
            _ => State::FileHead(next),
        }
    }

    /// Call this at the end of the body.
    ///
    /// # Errors
    /// [`UnrealError::Unfinished`] if the crash file is not complete.
    pub fn finish<E>(&self) -> Result<(), UnrealError<E>> {
        match self.state {
            State::End => Ok(()),
            _ => Err(UnrealError::Unfinished),
        }
    }
}

enum Read {
    Header {
        is_new: bool,
        files: u32,
    },
    File {
        name: String,
        bytes: u32,
        index: u32,
    },
    /// The header at the end follows.
    Last,
}

/// Each method returns `None` if it needs more bytes.
struct Reader<'a>(&'a [u8]);

type Step<T> = Result<Option<T>, &'static str>;

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn number(&mut self) -> Option<u32> {
        let bytes = self.bytes(4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    }

    fn text(&mut self) -> Step<String> {
        let Some(count) = self.number() else {
            return Ok(None);
        };
        if count > TEXT_BYTES_MAX {
            return Err("a text is too long");
        }
        let text = self.bytes(count as usize);
        Ok(text.map(|text| {
            let text = String::from_utf8_lossy(text);
            text.trim_end_matches('\0').to_owned()
        }))
    }

    fn header(&mut self) -> Step<Read> {
        let Some(start) = self.0.get(..3) else {
            return Ok(None);
        };
        let is_new = start == b"CR1";
        if is_new {
            self.bytes(3);
        }
        for _ in ["directory", "file name"] {
            if self.text()?.is_none() {
                return Ok(None);
            }
        }
        let sizes = self.number().and_then(|_| self.number());
        Ok(sizes.map(|files| Read::Header { is_new, files }))
    }

    fn file(&mut self, expected: u32) -> Step<Read> {
        let Some(index) = self.number() else {
            return Ok(None);
        };
        if index != expected {
            return Ok(Some(Read::Last));
        }
        let Some(name) = self.text()? else {
            return Ok(None);
        };
        let Some(bytes) = self.number() else {
            return Ok(None);
        };
        if i32::try_from(bytes).is_err() {
            return Err("a file has a negative size");
        }
        Ok(Some(Read::File { name, bytes, index }))
    }
}

fn part_of(name: String, bytes: u32) -> PartHead {
    let leaf = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let is_dump = leaf.to_ascii_lowercase().ends_with(".dmp") && bytes >= DUMP_BYTES_MIN;
    let part = match (is_dump, leaf) {
        (true, _) => MAIN_DUMP,
        (false, "") => "unnamed",
        (false, leaf) => leaf,
    };
    PartHead {
        name: Some(part.to_owned()),
        file_name: Some(leaf.to_owned()),
        content_type: None,
    }
}

/// The properties in [`CONTEXT`] as annotations: `unreal.<name>` for each, and also our own key for those
/// that have one.
pub fn properties(context: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(context);
    let mut found = Vec::new();
    for (path, value) in elements(&text).into_iter().take(PROPERTIES_MAX) {
        let path = path.strip_prefix("FGenericCrashContext.").unwrap_or(&path);
        let name = path.strip_prefix("RuntimeProperties.").unwrap_or(path);
        let ours = match name {
            "GameName" => Some(key::PRODUCT),
            "BuildVersion" => Some(key::VERSION),
            "UserDescription" => Some("Comments"),
            // Sentry's client for Unreal.
            "GameData.__sentry" => Some("sentry"),
            _ => None,
        };
        if let Some(ours) = ours {
            let prefixes = ["UE4-", "UE5-", "UE-"];
            let name = prefixes
                .iter()
                .find_map(|prefix| value.strip_prefix(prefix));
            let value = if ours == key::PRODUCT {
                name.unwrap_or(&value)
            } else {
                &value
            };
            found.push((ours.to_owned(), value.to_owned()));
        }
        found.push((format!("unreal.{name}"), value));
    }
    // If a game does not set a version, we use the version of the engine.
    let engine = found.iter().find(|(key, _)| key == "unreal.EngineVersion");
    if let Some((_, engine)) = engine {
        found.push((key::VERSION.to_owned(), engine.clone()));
    }
    found
}

/// The elements that contain only text: their names from the outermost element, joined by dots, and the
/// text.
fn elements(xml: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    let mut text = String::new();
    let mut rest = xml;
    while let Some(at) = rest.find('<') {
        text.push_str(&unescaped(&rest[..at]));
        rest = &rest[at..];
        if let Some(data) = rest.strip_prefix("<![CDATA[") {
            let end = data.find("]]>").unwrap_or(data.len());
            text.push_str(&data[..end]);
            rest = data[end..].strip_prefix("]]>").unwrap_or_default();
            continue;
        }
        let close = if rest.starts_with("<!--") { "-->" } else { ">" };
        let Some(end) = rest.find(close) else {
            break;
        };
        let tag = &rest[1..end];
        rest = &rest[end + close.len()..];
        if tag.starts_with(['?', '!']) {
            continue;
        }
        if tag.starts_with('/') {
            if !text.trim().is_empty() {
                found.push((open.join("."), text.trim().to_owned()));
            }
            open.pop();
        } else if !tag.ends_with('/') {
            if open.len() >= DEPTH_MAX {
                break;
            }
            open.push(tag.split_whitespace().next().unwrap_or_default());
        }
        text.clear();
    }
    found
}

fn unescaped(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let name = rest[1..].split(';').next().unwrap_or_default();
        let number =
            name.strip_prefix('#')
                .and_then(|number| match number.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok(),
                    None => number.parse().ok(),
                });
        let c = match name {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => number.and_then(char::from_u32),
        };
        let is_closed = rest[1 + name.len()..].starts_with(';');
        match c.filter(|_| is_closed) {
            Some(c) => {
                plain.push(c);
                rest = &rest[name.len() + 2..];
            }
            None => {
                plain.push('&');
                rest = &rest[1..];
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq, Clone)]
    struct Parts(Vec<(String, Vec<u8>, bool)>);

    impl PartSink for Parts {
        type Error = std::convert::Infallible;
        fn begin(&mut self, head: PartHead) -> Result<(), Self::Error> {
            self.0
                .push((head.name.unwrap_or_default(), Vec::new(), false));
            Ok(())
        }
        fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
            self.0.last_mut().expect("begun").1.extend_from_slice(bytes);
            Ok(())
        }
        fn end(&mut self) -> Result<(), Self::Error> {
            self.0.last_mut().expect("begun").2 = true;
            Ok(())
        }
    }

    fn number(n: u32) -> [u8; 4] {
        n.to_le_bytes()
    }

    fn text(text: &str) -> Vec<u8> {
        let mut bytes = number(260).to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(264, 0);
        bytes
    }

    fn crash_file(is_new: bool, files: &[(&str, &[u8])]) -> Vec<u8> {
        let header = |count: usize| {
            [
                text("dir"),
                text("name"),
                number(7).to_vec(),
                number(count as u32).to_vec(),
            ]
            .concat()
        };
        let mut bytes = if is_new {
            [b"CR1".to_vec(), header(files.len())].concat()
        } else {
            header(0)
        };
        for (index, (name, content)) in files.iter().enumerate() {
            bytes.extend(number(index as u32));
            bytes.extend(text(name));
            bytes.extend(number(content.len() as u32));
            bytes.extend_from_slice(content);
        }
        if !is_new {
            bytes.extend(header(files.len()));
        }
        bytes
    }

    type Outcome = Result<Parts, UnrealError<std::convert::Infallible>>;

    fn check(bytes: &[u8]) -> Outcome {
        let parse = |step: usize| {
            let (mut file, mut parts) = (CrashFile::default(), Parts::default());
            for piece in bytes.chunks(step) {
                file.feed(piece, &mut parts)?;
            }
            file.finish()?;
            Ok(parts)
        };
        let whole: Outcome = parse(bytes.len().max(1));
        for step in [1, 2, 3, 5, 100, 263] {
            assert_eq!(parse(step), whole, "in pieces of {step}");
        }
        whole
    }

    #[test]
    fn files_come_out_of_both_versions() {
        let dump = [b"MDMP".as_slice(), &[0; 40]].concat();
        let files: [(&str, &[u8]); 4] = [
            ("UE4Minidump.dmp", &dump),
            ("Game.log", b"a log"),
            ("empty.txt", b""),
            ("UEMinidump.dmp", b"\0\0\0\0"),
        ];
        for is_new in [true, false] {
            let parts = check(&crash_file(is_new, &files)).expect("a crash file");
            let names: Vec<&str> = parts.0.iter().map(|(name, _, _)| name.as_str()).collect();
            assert_eq!(
                names,
                [MAIN_DUMP, "Game.log", "empty.txt", "UEMinidump.dmp"],
                "{is_new}"
            );
            assert!(parts.0.iter().all(|(_, _, is_whole)| *is_whole));
            assert_eq!(parts.0[1].1, b"a log");
        }
    }

    #[test]
    fn what_is_cut_or_no_crash_file_is_refused() {
        let whole = crash_file(true, &[("a.log", b"text")]);
        for end in [0, 2, 300, whole.len() - 1] {
            assert_eq!(check(&whole[..end]), Err(UnrealError::Unfinished), "{end}");
        }
        assert!(matches!(check(&[0xff; 100]), Err(UnrealError::Bad(_))));
        let mut negative = whole.clone();
        let at = negative.len() - 8;
        negative[at..at + 4].copy_from_slice(&[0xff; 4]);
        assert!(matches!(check(&negative), Err(UnrealError::Bad(_))));
    }

    #[test]
    fn properties_become_annotations() {
        let xml = "\u{feff}<?xml version=\"1.0\"?><!-- <x> --><FGenericCrashContext><RuntimeProperties>\
            <GameName>UE4-My &amp; Game</GameName><EngineVersion>4.27</EngineVersion><Empty /><None></None>\
            <UserDescription><![CDATA[it <b>broke</b>]]></UserDescription><A>&#65;&#x42;&bad;&lt</A></RuntimeProperties>\
            <GameData><__sentry>{\"release\":\"g@1\"}</__sentry></GameData></FGenericCrashContext>";
        let found = properties(xml.as_bytes());
        let value = |key: &str| {
            let found = found.iter().find(|(found, _)| found == key);
            found.map(|(_, value)| value.as_str())
        };
        for (key, expected) in [
            ("ProductName", "My & Game"),
            ("unreal.GameName", "UE4-My & Game"),
            ("Version", "4.27"),
            ("Comments", "it <b>broke</b>"),
            ("unreal.A", "AB&bad;&lt"),
            ("sentry", "{\"release\":\"g@1\"}"),
        ] {
            assert_eq!(value(key), Some(expected), "{key}");
        }
        assert_eq!(value("unreal.None"), None);
        for cut in 0..xml.len() {
            properties(&xml.as_bytes()[..cut]);
        }
        let deep = "<a>".repeat(1_000_000);
        assert!(properties(deep.as_bytes()).is_empty());
    }
}
