//! The signature lists. They select the frames that never appear in a signature, that do not end it, or that
//! start it.
//!
//! The lists are data. They change far more often than code, and a site can have its own: a folder with the
//! files of [`FILES`], or a revision in the store, replaces the built-in lists (siggen's, MPL-2.0, beside
//! this file). A file is UTF-8 with one entry per line. White space around an entry is ignored, and so are
//! empty lines and lines that start with `#`. A list without entries matches nothing.
//!
//! The entries are regular expressions (`pattern`), matched against the normalised frame. Sentinels are plain
//! text and must be equal. The fifth file has a site's own rules (`site`). siggen has none, so this file may
//! be missing. The others are the families of the ruleset `crashkeep` (`families`). A family that is missing is
//! the built-in one, so that a site that has only siggen's files keeps them.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::families::{self, Families, Known, MessageAt, Owner, Role};
use super::list_file::{Entry, IRRELEVANT, LINE_NUMBERS, ListError, PREFIX, SENTINELS, entries};
use super::memo::Memo;
use super::name::{Place, Verdict};
use super::pattern::{self, Check, Patterns, Quad, Syntax};
use super::ruleset::Ruleset;
use super::site::{SITE_RULES, SiteFrames, SiteRules};
use super::step::Step;
use super::text;
use crate::crash::walk::Location;

/// The files of a set of lists, in the order of [`ListTexts`]: siggen's, the site's rules, the families.
pub const FILES: [&str; FIRST_FAMILY + families::BUILTIN.len()] = {
    let mut files = [""; FIRST_FAMILY + families::BUILTIN.len()];
    [files[0], files[1], files[2], files[3], files[4]] =
        [IRRELEVANT, PREFIX, SENTINELS, LINE_NUMBERS, SITE_RULES];
    let mut at = 0;
    while at < families::BUILTIN.len() {
        files[FIRST_FAMILY + at] = families::BUILTIN[at].0;
        at += 1;
    }
    files
};
/// Index of the first family in [`FILES`].
pub(crate) const FIRST_FAMILY: usize = 5;

/// The largest list file that is read, in bytes.
pub(crate) const FILE_BYTES_MAX: usize = 128 << 10;
/// Limit of bytes of all lists together. A revision is one row of the store.
const TEXTS_BYTES_MAX: usize = 768 << 10;
/// Limit of bytes of a frame that are matched against the lists, except in the ruleset `socorro`. A signature
/// shows only 255 characters of it. So a hostile name has limited cost under any list.
const FRAME_BYTES_MAX: usize = 4_096;

/// The lists as text, which is edited, stored, exported and imported. One text for each of [`FILES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListTexts(pub [String; FILES.len()]);

impl ListTexts {
    /// The lists of siggen 2.2.20241029, no site rules, and our families.
    pub fn builtin() -> ListTexts {
        ListTexts(std::array::from_fn(|at| builtin_text(at).to_string()))
    }

    /// The built-in families, and all other lists empty.
    pub(crate) fn families() -> ListTexts {
        ListTexts(std::array::from_fn(|at| match at {
            ..FIRST_FAMILY => String::new(),
            _ => builtin_text(at).to_string(),
        }))
    }

    /// The lists of these files, and the built-in ones for families that are missing. Files that are no longer
    /// known are ignored.
    pub(crate) fn with(files: Vec<(String, String)>) -> ListTexts {
        let mut texts = ListTexts::families();
        for (file, text) in files {
            if let Some(at) = FILES.iter().position(|known| *known == file) {
                texts.0[at] = text;
            }
        }
        texts
    }

    /// The families: their files and texts.
    fn of_families(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let texts = FILES.into_iter().zip(self.0.iter().map(String::as_str));
        texts.skip(FIRST_FAMILY)
    }

    /// The lists with their files, except families that are the built-in ones.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let texts = FILES.into_iter().zip(self.0.iter().map(String::as_str));
        let changed = texts
            .enumerate()
            .filter(|(at, (_, text))| *at < FIRST_FAMILY || *text != builtin_text(*at));
        changed.map(|(_, named)| named)
    }

    /// Reads the files of a folder. The site rules and the families may be missing.
    ///
    /// # Errors
    /// A file is missing, too large, or not UTF-8. The [`ListError`] names it.
    pub(crate) fn load(folder: &Path) -> Result<ListTexts, ListError> {
        let mut texts = ListTexts::families();
        for (at, (name, text)) in FILES.into_iter().zip(&mut texts.0).enumerate() {
            let path = folder.join(name);
            let may_be_missing = name == SITE_RULES || at >= FIRST_FAMILY;
            if may_be_missing && !path.exists() {
                continue;
            }
            *text = read_file(&path)
                .map_err(|reason| ListError::of_file(&path.display().to_string(), reason))?;
        }
        Ok(texts)
    }

    /// All files in one text, each below a line `==> NAME <==`.
    pub fn export(&self) -> String {
        let mut out = String::new();
        for (name, text) in FILES.iter().zip(&self.0) {
            let newline = if text.is_empty() || text.ends_with('\n') {
                ""
            } else {
                "\n"
            };
            out.push_str(&format!("==> {name} <==\n{text}{newline}"));
        }
        out
    }

    /// Parses the text of [`ListTexts::export`]. A family that is missing is the built-in one, any other file that
    /// is missing is empty.
    ///
    /// # Errors
    /// The name of a file is unknown or occurs twice, or there is text before the first name. The
    /// [`ListError`] has the line.
    pub fn import(text: &str) -> Result<ListTexts, ListError> {
        let mut texts = ListTexts::families();
        let mut current: Option<usize> = None;
        let mut seen = HashSet::new();
        let refuse = |line: usize, reason: String| {
            Err(ListError {
                line: Some(line),
                column: Some(1),
                ..ListError::of_file("import", reason)
            })
        };
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            match (heading(text::strip(line)), current) {
                (Some(name), _) => match FILES.iter().position(|file| *file == name) {
                    Some(at) if seen.insert(at) => {
                        texts.0[at].clear();
                        current = Some(at);
                    }
                    Some(_) => return refuse(number, format!("{name} occurs twice")),
                    None => {
                        return refuse(
                            number,
                            format!("unknown list {name:?}; accepted: {}", FILES.join(", ")),
                        );
                    }
                },
                (None, Some(at)) => texts.0[at].push_str(line),
                (None, None) if text::strip(line).is_empty() => {}
                (None, None) => {
                    return refuse(
                        number,
                        format!("text before the first `==> {IRRELEVANT} <==`"),
                    );
                }
            }
        }
        Ok(texts)
    }
}

/// The built-in text of a file, by its index in [`FILES`].
fn builtin_text(at: usize) -> &'static str {
    match at {
        0 => include_str!("lists/irrelevant_signature_re.txt"),
        1 => include_str!("lists/prefix_signature_re.txt"),
        2 => include_str!("lists/signature_sentinels.txt"),
        3 => include_str!("lists/signatures_with_line_numbers_re.txt"),
        4 => "",
        _ => families::BUILTIN[at - FIRST_FAMILY].1,
    }
}

/// The compiled lists.
#[derive(Debug)]
pub struct Lists {
    texts: ListTexts,
    base: Quad,
    /// `None` if they are the built-in ones, which all lists share.
    families: Option<Families>,
    /// The families of products for which the site switched some off.
    fewer_families: BTreeMap<String, Families>,
    site: SiteRules,
    is_builtin: bool,
}

impl Lists {
    /// The lists of siggen 2.2.20241029.
    pub fn builtin() -> Lists {
        match Lists::compile(ListTexts::builtin(), Check::Joined) {
            Ok(lists) => Lists {
                is_builtin: true,
                ..lists
            },
            Err(error) => unreachable!("the built-in lists are tested to compile: {error}"),
        }
    }

    /// Loads the files of a folder.
    ///
    /// # Errors
    /// As for [`ListTexts::load`] and [`Lists::new`].
    pub(crate) fn load(folder: &Path) -> Result<Lists, ListError> {
        Lists::new(ListTexts::load(folder)?)
    }

    /// Checks and compiles lists.
    ///
    /// # Errors
    /// A file is too large, or an entry cannot be used. The [`ListError`] is about the first such entry.
    pub fn new(texts: ListTexts) -> Result<Lists, ListError> {
        Lists::compile(texts, Check::Each)
    }

    fn compile(texts: ListTexts, check: Check) -> Result<Lists, ListError> {
        for (file, text) in FILES.iter().zip(&texts.0) {
            if text.len() > FILE_BYTES_MAX {
                let reason = format!("list is {} bytes, larger than {FILE_BYTES_MAX}", text.len());
                return Err(ListError::of_file(file, reason));
            }
        }
        let bytes: usize = texts.0.iter().map(String::len).sum();
        if bytes > TEXTS_BYTES_MAX {
            let reason =
                format!("the lists together are {bytes} bytes, larger than {TEXTS_BYTES_MAX}");
            return Err(ListError::of_file("lists", reason));
        }
        // In an export, such a line would start another file.
        for (file, text) in FILES.iter().zip(&texts.0) {
            if let Some(entry) = entries(text).find(|entry| heading(entry.text).is_some()) {
                return Err(ListError {
                    line: Some(entry.line),
                    column: Some(entry.column),
                    ..ListError::of_file(
                        file,
                        "a line `==> ... <==` is reserved for the start of a file in an export",
                    )
                });
            }
        }
        let [irrelevant, prefix, sentinels, line_numbers, site, ..] = &texts.0;
        let list = |name: &str, text: &str| Patterns::compile(name, check, entries(text));
        let base = Quad {
            irrelevant: list(IRRELEVANT, irrelevant)?,
            prefix: list(PREFIX, prefix)?,
            line_numbers: list(LINE_NUMBERS, line_numbers)?,
            sentinels: entries(sentinels).map(|e| e.text.to_string()).collect(),
        };
        let site = SiteRules::compile(site)?;
        let families = if texts.of_families().eq(families::BUILTIN) {
            None
        } else {
            Some(Families::compile(texts.of_families(), false)?)
        };
        let mut fewer_families = BTreeMap::new();
        for (product, frames) in site.products() {
            if texts.of_families().any(|(file, _)| frames.is_off(file)) {
                let kept = texts.of_families().filter(|(file, _)| !frames.is_off(file));
                fewer_families.insert(product.to_string(), Families::compile(kept, true)?);
            }
        }
        Ok(Lists {
            base,
            families,
            fewer_families,
            site,
            texts,
            is_builtin: false,
        })
    }

    pub(crate) fn texts(&self) -> &ListTexts {
        &self.texts
    }

    pub(super) fn is_builtin(&self) -> bool {
        self.is_builtin
    }

    pub(super) fn site(&self) -> &SiteRules {
        &self.site
    }

    fn families(&self) -> &Families {
        match &self.families {
            Some(families) => families,
            None => Families::builtin(),
        }
    }

    /// The lists that apply to crashes of one product.
    pub(super) fn scoped(&self, ruleset: Ruleset, product: &str) -> Scoped<'_> {
        let site = self.site.frames(product);
        let fewer = self.fewer_families.get(self.site.scope(product));
        let families = match ruleset {
            Ruleset::Socorro => None,
            Ruleset::Crashkeep => Some(fewer.unwrap_or_else(|| self.families())),
        };
        Scoped {
            lists: self,
            families,
            site,
            ruleset,
            memo: None,
        }
    }
}

/// The lists for one crash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scoped<'l> {
    lists: &'l Lists,
    /// `None` in the ruleset `socorro`.
    families: Option<&'l Families>,
    site: Option<&'l SiteFrames>,
    ruleset: Ruleset,
    memo: Option<&'l Memo>,
}

impl<'l> Scoped<'l> {
    /// Adds names that were computed with these lists before. Not for products with list entries of their
    /// own.
    pub(crate) fn remembering(self, memo: Option<&'l Memo>) -> Self {
        Scoped {
            memo: memo.filter(|_| self.site.is_none()),
            ..self
        }
    }

    pub(crate) fn memo(&self) -> Option<&'l Memo> {
        self.memo
    }

    /// Whether everything must be as in siggen.
    pub(crate) fn is_parity(&self) -> bool {
        self.ruleset == Ruleset::Socorro
    }

    /// Whether a step of the ruleset `crashkeep` applies.
    pub(crate) fn has(&self, step: Step) -> bool {
        !self.is_parity() && !self.site.is_some_and(|site| site.is_off(step.name()))
    }

    fn any(&self, frame: &str, holds: impl Fn(&Quad, &str) -> bool) -> bool {
        let seen = if self.is_parity() {
            frame
        } else {
            text::first_bytes(frame, FRAME_BYTES_MAX)
        };
        holds(&self.lists.base, seen) || self.site.is_some_and(|site| holds(&site.quad, seen))
    }

    fn known(&self, frame: &str) -> Known {
        let known = |families: &Families| families.known(text::first_bytes(frame, FRAME_BYTES_MAX));
        self.families.map(known).unwrap_or_default()
    }

    /// What the functions of a stack say to people, also in the ruleset `socorro`.
    pub(crate) fn sentence<'n>(&self, frames: impl Iterator<Item = &'n str>) -> Option<&'l str> {
        let families = self.families.unwrap_or_else(|| self.lists.families());
        families.sentence(frames.map(|frame| text::first_bytes(frame, FRAME_BYTES_MAX)))
    }

    pub(crate) fn message(&self, at: MessageAt) -> &'l str {
        self.families.map_or("", |families| families.message(at))
    }

    /// What is known about the code of a module; of no module if it is empty. The lists decide who owns it,
    /// and its location if they do not know it.
    pub(crate) fn place(&self, module: &str, location: Option<Location>, is_code: bool) -> Place {
        if self.is_parity() || module.is_empty() {
            return Place {
                is_code,
                has_module: !module.is_empty(),
                ..Place::default()
            };
        }
        let place = match self.memo {
            Some(memo) => memo.place(module, |module| self.place_of(module)),
            None => self.place_of(module),
        };
        let owner = match location {
            _ if place.is_listed => place.owner,
            Some(Location::System) => Owner::Library,
            Some(Location::Driver) => Owner::Driver,
            Some(Location::Program | Location::Other) | None => place.owner,
        };
        Place {
            is_code,
            owner,
            ..place
        }
    }

    fn place_of(&self, module: &str) -> Place {
        // A path, or a name in brackets as in siggen.
        let module = module.rsplit(['/', '\\']).next().unwrap_or(module);
        let module = module.trim_matches(['[', ']']);
        let listed = self.listed_owner(module);
        Place {
            is_code: false,
            has_module: true,
            owner: listed.unwrap_or_default(),
            is_listed: listed.is_some(),
            file: Some(module.into()),
        }
    }

    /// Whose module this is, by the site's rules and then by the families.
    fn listed_owner(&self, module: &str) -> Option<Owner> {
        let module = text::first_bytes(module, FRAME_BYTES_MAX);
        let by_site = self.site.and_then(|site| site.owner(module));
        let by_families = || self.families.and_then(|families| families.owner(module));
        by_site.or_else(by_families)
    }

    pub(crate) fn is_irrelevant(&self, frame: &str) -> bool {
        self.any(frame, |quad, frame| quad.irrelevant.matches(frame))
    }

    pub(crate) fn is_prefix(&self, frame: &str) -> bool {
        self.any(frame, |quad, frame| quad.prefix.matches(frame))
    }

    /// Whether the frame keeps its line number.
    pub(crate) fn has_line_number(&self, frame: &str) -> bool {
        self.any(frame, |quad, frame| quad.line_numbers.matches(frame))
    }

    pub(crate) fn is_sentinel(&self, frame: &str) -> bool {
        self.any(frame, |quad, frame| quad.sentinels.contains(frame))
    }

    pub(crate) fn verdict(&self, frame: &str) -> Verdict {
        Verdict {
            is_sentinel: self.is_sentinel(frame),
            is_irrelevant: self.is_irrelevant(frame),
            is_prefix: self.is_prefix(frame),
            known: self.known(frame),
        }
    }

    /// The first entry of a file that matches a frame. It compiles one entry after the other, so it is only
    /// for explanations.
    pub(crate) fn entry_for(&self, file: &'static str, frame: &str) -> Option<FoundEntry> {
        let at = FILES.iter().position(|name| *name == file)?;
        let found = |file: &'static str, entry: Entry| FoundEntry {
            file,
            line: entry.line,
            text: entry.text.to_string(),
        };
        let matches = |entry: &Entry| match file {
            SENTINELS => entry.text == frame,
            _ => pattern::alone(file, *entry, Syntax::FrameStart)
                .is_ok_and(|regex| regex.is_match(frame.as_bytes())),
        };
        let in_file = entries(&self.lists.texts.0[at]).find(matches);
        in_file
            .map(|entry| found(file, entry))
            .or_else(|| self.site_entry_for(file, frame))
    }

    fn site_entry_for(&self, file: &str, frame: &str) -> Option<FoundEntry> {
        let line = self.lists.site.entry_for(file, self.site?, frame)?;
        let text = self.lists.texts.0[FIRST_FAMILY - 1].lines().nth(line - 1)?;
        Some(FoundEntry {
            file: SITE_RULES,
            line,
            text: text.to_string(),
        })
    }

    /// The first entry of a family that gives a frame its role. As slow as [`Scoped::entry_for`].
    pub(crate) fn role_entry_for(&self, role: Role, frame: &str) -> Option<FoundEntry> {
        self.family_entry_for(families::role_word(role), frame)
    }

    /// The first entry of the site or of a family that gives a module its owner. As slow as
    /// [`Scoped::entry_for`].
    pub(crate) fn owner_entry_for(&self, owner: Owner, module: &str) -> Option<FoundEntry> {
        let word = families::owner_word(owner);
        let by_site = self.site_entry_for(word.unwrap_or("program"), module);
        by_site.or_else(|| self.family_entry_for(word?, module))
    }

    fn family_entry_for(&self, word: &str, text: &str) -> Option<FoundEntry> {
        let texts = self.lists.texts.of_families();
        let is_on = |file: &str| !self.site.is_some_and(|site| site.is_off(file));
        texts
            .filter(|(file, _)| is_on(file))
            .find_map(|(file, list)| {
                let entry = families::entry_for(word, list, text)?;
                Some(FoundEntry {
                    file,
                    line: entry.line,
                    text: entry.text.to_string(),
                })
            })
    }
}

/// A list entry that decided about a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundEntry {
    pub(crate) file: &'static str,
    /// Counts from 1.
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// The file that starts at this line of an export.
fn heading(line: &str) -> Option<&str> {
    line.strip_prefix("==> ")?.strip_suffix(" <==")
}

fn read_file(path: &Path) -> Result<String, String> {
    let bytes = std::fs::metadata(path)
        .map_err(|error| error.to_string())?
        .len();
    if bytes > FILE_BYTES_MAX as u64 {
        return Err(format!(
            "list is {bytes} bytes, larger than {FILE_BYTES_MAX}"
        ));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_of_the_builtin_lists_compiles() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/signature/lists");
        let lists = Lists::load(&folder).unwrap();
        assert_eq!(lists.texts, ListTexts::builtin());
        let scoped = lists.scoped(Ruleset::Socorro, "");
        assert!(scoped.is_prefix("memcpy") && scoped.is_irrelevant("RaiseException"));
        assert_eq!(lists.base.sentinels.len(), 20);
    }

    #[test]
    fn a_folder_must_hold_all_four_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in [IRRELEVANT, PREFIX, LINE_NUMBERS] {
            std::fs::write(folder.path().join(name), "ab\n").unwrap();
        }
        let error = Lists::load(folder.path()).unwrap_err();
        assert!(error.file.ends_with(SENTINELS) && error.line.is_none());
        std::fs::write(folder.path().join(SENTINELS), "s.e").unwrap();
        let lists = Lists::load(folder.path()).unwrap();
        let scoped = lists.scoped(Ruleset::Socorro, "");
        assert!(scoped.is_prefix("abc") && scoped.is_sentinel("s.e") && !scoped.is_sentinel("sxe"));
        std::fs::write(folder.path().join(SITE_RULES), "prefix xyz").unwrap();
        let lists = Lists::load(folder.path()).unwrap();
        assert!(lists.scoped(Ruleset::Socorro, "").is_prefix("xyz"));
    }

    #[test]
    fn what_was_exported_is_imported_to_the_letter() {
        let mut texts = ListTexts::builtin();
        texts.0[4] = "# ours\nmerge a => b\n".into();
        assert_eq!(ListTexts::import(&texts.export()), Ok(texts));
        let check = |text: &str, expected: &str| {
            let error = ListTexts::import(text).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(
            "memcpy\n",
            "import:1:1: text before the first `==> irrelevant_signature_re.txt <==`",
        );
        let heading = format!("==> {PREFIX} <==\n");
        check(
            &format!("{heading}a\n{heading}"),
            &format!("import:3:1: {PREFIX} occurs twice"),
        );
        assert!(
            ListTexts::import("==> x <==")
                .unwrap_err()
                .reason
                .contains(SENTINELS)
        );
    }

    #[test]
    fn an_entry_that_reads_as_a_heading_of_an_export_is_refused() {
        let mut texts = ListTexts::builtin();
        texts.0[2] = "x\n ==> y <==".into();
        let error = Lists::new(texts).unwrap_err();
        assert_eq!((error.line, error.column), (Some(2), Some(2)), "{error}");
    }

    #[test]
    fn a_list_that_is_too_large_is_refused_with_its_bound() {
        let mut texts = ListTexts::builtin();
        texts.0[1] = "#".repeat(FILE_BYTES_MAX + 1);
        let error = Lists::new(texts).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{PREFIX}: list is {} bytes, larger than {FILE_BYTES_MAX}",
                FILE_BYTES_MAX + 1
            )
        );
    }

    #[test]
    fn the_entry_that_decides_is_found_with_its_line() {
        let mut texts = ListTexts::builtin();
        texts.0[0] = "# c\nfoo\n\nfo.\n".into();
        texts.0[4] = "# site\nirrelevant @Lynx site_only\n".into();
        let lists = Lists::new(texts).unwrap();
        let of = |product: &str, frame: &str| {
            let scoped = lists.scoped(Ruleset::Crashkeep, product);
            scoped
                .entry_for(IRRELEVANT, frame)
                .map(|e| (e.file, e.line, e.text))
        };
        assert_eq!(of("", "foo"), Some((IRRELEVANT, 2, "foo".to_string())));
        assert_eq!(of("", "fox"), Some((IRRELEVANT, 4, "fo.".to_string())));
        assert_eq!(of("", "site_only"), None);
        let own = "irrelevant @Lynx site_only".to_string();
        assert_eq!(of("Lynx", "site_only"), Some((SITE_RULES, 2, own)));
    }
}
