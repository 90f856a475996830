//! Reports which modules lack symbols, functions or unwind rules, why, and what would help.

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::crash::lack::{Lack, What};
use crate::store::lacks::Lacking;
use crate::store::symbols::{Release, StoredSymbols};
use crate::store::{Store, StoreError};
use crate::symbols::SymbolDirs;

/// Builds of the same name that are shown.
const OTHERS_MAX: usize = 3;

/// Names of debug files that belong to a system: the beginning of the name or the full name.
const SYSTEM: &[(System, &[&str])] = &[
    (
        System::Linux,
        &[
            "ld-2.",
            "ld-linux",
            "libc-2.",
            "libc.so",
            "libc.musl",
            "libdl.so",
            "libdl-2.",
            "libdrm",
            "libdbus-",
            "libfontconfig.",
            "libfreetype.",
            "libgcc_s.",
            "libgdk",
            "libgio-",
            "libglib-",
            "libgobject-",
            "libgtk-",
            "libm.so",
            "libm-2.",
            "libnss_",
            "libpthread",
            "libresolv",
            "librt.so",
            "librt-2.",
            "libstdc++.",
            "libX11",
            "libxcb",
            "libwayland-",
            "libz.so",
        ],
    ),
    (
        System::Windows,
        &[
            "advapi32.",
            "combase.",
            "d3d11.",
            "dxgi.",
            "gdi32",
            "kernel32.",
            "kernelbase.",
            "msvcp",
            "msvcrt",
            "ntdll.",
            "ole32.",
            "rpcrt4.",
            "sechost.",
            "shell32.",
            "ucrtbase",
            "user32.",
            "vcruntime",
            "win32u.",
            "wkernel32.",
            "wkernelbase.",
            "wntdll.",
            "ws2_32.",
            "wuser32.",
        ],
    ),
    (
        System::Mac,
        &[
            "AppKit",
            "CFNetwork",
            "CoreFoundation",
            "CoreGraphics",
            "Foundation",
            "HIToolbox",
            "QuartzCore",
            "dyld",
            "libSystem",
            "libc++",
            "libdispatch",
            "libdyld",
            "libobjc",
            "libsystem_",
            "libxpc",
        ],
    ),
];

/// Modules that are pages of the kernel itself. No symbols exist for them.
const KERNEL: &[&str] = &["linux-gate.so", "linux-vdso", "[vdso]"];

/// The operating system to which a library belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Linux,
    Windows,
    Mac,
}

impl System {
    fn of(debug_file: &str) -> Option<Self> {
        let is_of = |names: &&[&str]| {
            let begins = |name: &&&str| {
                debug_file.len() >= name.len()
                    && debug_file.is_char_boundary(name.len())
                    && debug_file[..name.len()].eq_ignore_ascii_case(name)
            };
            names.iter().any(|name| begins(&name))
        };
        let found = SYSTEM.iter().find(|(_, names)| is_of(names));
        found.map(|(system, _)| *system)
    }
}

/// Why a module lacks something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// No symbols of this name were ever uploaded.
    NeverUploaded,
    /// There are symbols of this name, but only of other builds.
    OtherBuilds(Vec<OtherBuild>),
    /// There are symbols of this name, but the dump knows only the code id, and nobody uploaded a program with
    /// one. So they may be of this build or not.
    Unidentified(Vec<OtherBuild>),
    /// The module belongs to the operating system.
    System(System),
    /// The stored symbols have no functions.
    Stripped,
    /// The stored symbols have no unwind rules.
    NoUnwind,
    /// The symbols have arrived. The crashes that lacked them are being reprocessed, or do not benefit.
    There,
}

/// Symbols of the same name for another build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherBuild {
    pub(crate) debug_id: String,
    pub(crate) added_at: Timestamp,
    pub(crate) releases: Vec<Release>,
}

/// A module that lacks something.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) lack: Lack,
    pub(crate) crashes: u64,
    /// The releases whose crashes lack it, most crashes first.
    pub(crate) releases: Vec<(Release, u64)>,
    pub(crate) cause: Cause,
    /// What the stored symbols cover, as a sentence.
    pub(crate) coverage: Option<String>,
}

/// The modules that most crashes lack, most crashes first.
///
/// # Errors
/// The store cannot be read, or the row of a module is damaged.
pub(crate) fn examine(
    store: &Store,
    dirs: &SymbolDirs,
    product: Option<&str>,
    version: Option<&str>,
    limit: usize,
) -> Result<Vec<Finding>, StoreError> {
    let mut findings = Vec::new();
    for lacking in store.lacking(product, version, limit)? {
        let file = &lacking.lack.debug_file;
        if KERNEL.iter().any(|name| file.starts_with(name)) {
            continue;
        }
        let Lacking {
            lack,
            crashes,
            releases,
        } = lacking;
        let row = row_of(store, &lack)?;
        let cause = cause(store, dirs, &lack, row.as_ref())?;
        findings.push(Finding {
            lack,
            crashes,
            releases,
            cause,
            coverage: row.and_then(|row| row.module.coverage_sentence()),
        });
    }
    Ok(findings)
}

/// The stored symbols of the module that lacks something.
fn row_of(store: &Store, lack: &Lack) -> Result<Option<StoredSymbols>, StoreError> {
    if lack.is_of_program() {
        let mut rows = store.symbols_by_code(&lack.debug_id.to_ascii_lowercase())?;
        // Programs without a build time have the code id of every program of the same size.
        let named =
            |row: &StoredSymbols| row.module.code_file.eq_ignore_ascii_case(&lack.debug_file);
        rows.sort_by_key(|row| !named(row));
        return Ok(rows.into_iter().next());
    }
    store.symbols_of(&lack.debug_id.to_ascii_uppercase())
}

fn cause(
    store: &Store,
    dirs: &SymbolDirs,
    lack: &Lack,
    row: Option<&StoredSymbols>,
) -> Result<Cause, StoreError> {
    let content = row.map(|row| row.module.content());
    match (lack.what, content) {
        (What::Functions, Some(content)) if !content.has_functions() => {
            return Ok(Cause::Stripped);
        }
        (What::Unwind, Some(content)) if !content.has_unwind() => return Ok(Cause::NoUnwind),
        (_, Some(_)) => return Ok(Cause::There),
        (_, None) => {}
    }
    // In a folder in Breakpad's layout, which the store does not know, the file may exist.
    if dirs
        .find_by_either_id(&lack.debug_file, &lack.debug_id)
        .is_some()
    {
        return Ok(match lack.what {
            What::Symbols => Cause::There,
            What::Functions => Cause::Stripped,
            What::Unwind => Cause::NoUnwind,
        });
    }
    if let Some(system) = System::of(&lack.debug_file) {
        return Ok(Cause::System(system));
    }
    let mut others = store.symbols_named(&lack.debug_file)?;
    if others.is_empty() {
        return Ok(Cause::NeverUploaded);
    }
    let is_unidentified =
        lack.is_of_program() && others.iter().all(|row| row.module.code_id.is_empty());
    others.sort_by_key(|row| std::cmp::Reverse(added_at(row)));
    let others = others.into_iter().take(OTHERS_MAX).map(|row| OtherBuild {
        added_at: added_at(&row),
        debug_id: row.module.debug_id,
        releases: row.releases,
    });
    let others = others.collect();
    if is_unidentified {
        return Ok(Cause::Unidentified(others));
    }
    Ok(Cause::OtherBuilds(others))
}

fn added_at(row: &StoredSymbols) -> Timestamp {
    let added = row.module.uploads.iter().map(|upload| upload.added_at_ms);
    Timestamp::from_ms(added.max().unwrap_or(0))
}

impl Cause {
    /// The name of the cause in the API.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NeverUploaded => "never_uploaded",
            Self::OtherBuilds(_) => "other_builds",
            Self::Unidentified(_) => "unidentified",
            Self::System(_) => "system_library",
            Self::Stripped => "no_functions",
            Self::NoUnwind => "no_unwind",
            Self::There => "there",
        }
    }

    /// A sentence for people.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::NeverUploaded => "No symbols with this name have been uploaded.".into(),
            Self::OtherBuilds(_) => {
                "Symbols with this name were uploaded, but for other builds.".into()
            }
            Self::Unidentified(_) => {
                "Symbols with this name were uploaded, but without the program, so the server does not know whether they are of this build.".into()
            }
            Self::System(system) => match system {
                System::Linux => "A system library. The Linux distribution has its symbols, often through debuginfod.".into(),
                System::Windows => "A Windows library. Microsoft's symbol server has its symbols.".into(),
                System::Mac => "A macOS library. Its symbols are only available on a Mac with the same version.".into(),
            },
            Self::Stripped => "The uploaded file is stripped, or its .dwp is missing. Only exported functions have names.".into(),
            Self::NoUnwind => {
                "The uploaded symbols have no unwind information, so stacks through this module are unreliable.".into()
            }
            Self::There => "The symbols have been uploaded. The crashes are being reprocessed.".into(),
        }
    }
}

impl Finding {
    /// The command that would help. `server` is the URL of this server.
    pub(crate) fn command(&self, server: &str) -> Option<String> {
        let file = &self.lack.debug_file;
        let add = |files: String| Some(format!("crashkeep symbols add --server {server} {files}"));
        let debuginfod = |what| {
            add(format!(
                "$(debuginfod-find {what} /PATH/{file}) # on a machine with that library"
            ))
        };
        let is_linux = System::of(file) == Some(System::Linux);
        let pdb_stem = strip_pdb(file);
        match (&self.cause, pdb_stem) {
            (Cause::There, _) => None,
            (Cause::System(_) | Cause::Stripped, None) if is_linux => debuginfod("debuginfo"),
            (Cause::NoUnwind, None) if is_linux => debuginfod("executable"),
            (Cause::System(System::Windows), _) => Some(format!(
                "[[symbol_source]] kind = \"symsrv\", at = \"https://msdl.microsoft.com/download/symbols\" # has {file}/{}",
                self.lack.debug_id
            )),
            (Cause::System(System::Mac), _) => add(format!(
                "/usr/lib/system/{file} # on a Mac with that version"
            )),
            (Cause::System(System::Linux), _) => None,
            (Cause::NoUnwind, Some(stem)) => add(program(stem)),
            (Cause::NoUnwind, None) => add(format!(
                "{file} # the program itself, not stripped of .eh_frame"
            )),
            (Cause::Stripped, Some(_)) => add(format!("{file} # the full PDB, not the public PDB")),
            // The dump has no record of a debug file: the debug information is in the program, if there is any.
            (_, None) if self.is_windows_program() => add(format!(
                "{file} # the program as it was linked, not stripped; of the build with the code id {}",
                self.lack.debug_id
            )),
            (Cause::Stripped, None) => add(format!("{file}.debug # or its dSYM, or its .dwp")),
            (_, Some(stem)) => {
                let program = program(stem);
                let separator = if program.contains('#') { ";" } else { " #" };
                add(format!(
                    "{file} {program}{separator} of the build {}",
                    self.lack.debug_id
                ))
            }
            (_, None) => add(format!(
                "{file} # with debug information, or with {file}.debug, or its dSYM; of the build {}",
                self.lack.debug_id
            )),
        }
    }

    /// Whether only the code id of a Windows program is known. Build ids of other systems are longer.
    fn is_windows_program(&self) -> bool {
        self.lack.is_of_program() && self.lack.debug_id.len() <= 16
    }

    pub(crate) fn to_json(&self, server: &str) -> Value {
        let release =
            |release: &Release| json!({ "product": release.product, "version": release.version });
        let others: Vec<Value> = match &self.cause {
            Cause::OtherBuilds(others) | Cause::Unidentified(others) => others
                .iter()
                .map(|other| {
                    json!({
                        "debug_id": other.debug_id,
                        "uploaded_at": other.added_at.rfc3339(),
                        "releases": other.releases.iter().map(release).collect::<Vec<_>>(),
                    })
                })
                .collect(),
            _ => Vec::new(),
        };
        let releases: Vec<Value> = (self.releases.iter())
            .map(|(of, crashes)| {
                let mut value = release(of);
                value["crashes"] = (*crashes).into();
                value
            })
            .collect();
        json!({
            "debug_file": self.lack.debug_file,
            "debug_id": self.lack.debug_id,
            "crashes": self.crashes,
            "releases": releases,
            "cause": self.cause.name(),
            "explanation": self.cause.sentence(),
            "coverage": self.coverage,
            "other_builds": others,
            "command": self.command(server),
        })
    }
}

/// The program that belongs to a PDB. `app` may belong to `app.exe` or `app.dll`. `app.exe` is a program
/// name already.
fn program(stem: &str) -> String {
    let is_whole = [".exe", ".dll", ".sys", ".ocx"].iter().any(|ending| {
        let start = stem.len().saturating_sub(ending.len());
        stem.get(start..)
            .is_some_and(|end| end.eq_ignore_ascii_case(ending))
    });
    if is_whole {
        stem.to_owned()
    } else {
        format!("{stem}.exe # or .dll")
    }
}

/// `app.pdb` -> `app`
fn strip_pdb(file: &str) -> Option<&str> {
    let (stem, ending) = file.rsplit_once('.')?;
    ending.eq_ignore_ascii_case("pdb").then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_once() {
        for (file, expected) in [
            (
                "electron.exe.pdb",
                "crashkeep symbols add --server S electron.exe.pdb electron.exe # of the build AB1",
            ),
            (
                "node.DLL.pdb",
                "crashkeep symbols add --server S node.DLL.pdb node.DLL # of the build AB1",
            ),
            (
                "app.pdb",
                "crashkeep symbols add --server S app.pdb app.exe # or .dll; of the build AB1",
            ),
        ] {
            let finding = Finding {
                lack: Lack {
                    debug_file: file.into(),
                    debug_id: "AB1".into(),
                    what: What::Symbols,
                },
                crashes: 1,
                releases: Vec::new(),
                cause: Cause::NeverUploaded,
                coverage: None,
            };
            assert_eq!(finding.command("S").as_deref(), Some(expected));
        }
    }

    #[test]
    fn libraries_of_the_system_are_known_by_name() {
        for (name, system) in [
            ("libc.so.6", Some(System::Linux)),
            ("wntdll.pdb", Some(System::Windows)),
            ("KERNEL32.pdb", Some(System::Windows)),
            ("libsystem_kernel.dylib", Some(System::Mac)),
            ("app.pdb", None),
            ("libcrypto-mine.so", None),
            ("\u{e4}", None),
        ] {
            assert_eq!(System::of(name), system, "{name}");
        }
    }
}
