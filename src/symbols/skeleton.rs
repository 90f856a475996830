//! What a program lacks because its debug information is in other files, and notes about it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Limit of characters in the name of another file.
const NAME_CHARS_MAX: usize = 60;
/// Limit of names in a note.
const NAMED_MAX: usize = 5;

/// A unit, or more, whose functions are in another file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skeleton {
    /// By this id the other file is found.
    pub(crate) id: u64,
    /// Name of the other file, without folders.
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) kind: SkeletonKind,
}

/// What the other file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SkeletonKind {
    /// The other half of a unit: a `.dwo`, or in a `.dwp`. The id is that of the unit.
    #[default]
    Half,
    /// Entries that several debug files have in common, made by dwz. The id is the start of its build id.
    Common,
    /// The debug file of a program without a build id. The id is the checksum of its bytes.
    Linked,
}

/// A note about what the symbol file of a program with skeletons lacks, and what would help.
pub(super) fn note_of(skeletons: &[Skeleton]) -> Option<String> {
    // One file is worth more than a name in it.
    let kind = [
        SkeletonKind::Linked,
        SkeletonKind::Half,
        SkeletonKind::Common,
    ];
    let kind = kind
        .into_iter()
        .find(|kind| skeletons.iter().any(|s| s.kind == *kind))?;
    let meant = || skeletons.iter().filter(|skeleton| skeleton.kind == kind);
    let first = &meant().next()?.name;
    Some(match kind {
        SkeletonKind::Linked => format!("its debug information is in {first}; also send that file"),
        SkeletonKind::Common => format!(
            "the names of inlined functions are in {first}, which dwz made for several debug files; also send that file"
        ),
        SkeletonKind::Half => {
            let names = meant().map(|skeleton| skeleton.name.as_str());
            let names: BTreeSet<&str> = names.filter(|name| !name.is_empty()).collect();
            let mut named: Vec<&str> = names.iter().take(NAMED_MAX).copied().collect();
            let more = format!("{} more", names.len() - named.len());
            if names.len() > named.len() {
                named.push(&more);
            }
            format!(
                "the functions of {} are in separate files ({}); also send the .dwp, or these .dwo files in one archive",
                units(meant().count()),
                named.join(", ")
            )
        }
    })
}

/// Why a file with `count` ids is refused if no program refers to it.
pub(super) fn alone(kind: SkeletonKind, count: usize) -> String {
    const WAY_OUT: &str = "first, or in the same archive";
    match kind {
        SkeletonKind::Half => format!(
            "it is split debug information of {}, and the matching program is missing; send the program or its debug file {WAY_OUT}",
            units(count)
        ),
        SkeletonKind::Common => format!(
            "it has what dwz moved out of several debug files, and none of those is here; send them {WAY_OUT}"
        ),
        SkeletonKind::Linked => format!(
            "it is a debug file without a build id, and the program that refers to it is missing; send the program {WAY_OUT}. Its link (.gnu_debuglink) must have the checksum of this file"
        ),
    }
}

fn units(count: usize) -> String {
    match count {
        1 => "1 unit".to_owned(),
        count => format!("{count} units"),
    }
}

/// The last component of a path, for display.
pub(super) fn leaf_of(path: &str) -> String {
    let leaf = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let leaf = leaf.chars().filter(|char| !char.is_control());
    leaf.take(NAME_CHARS_MAX).collect()
}
