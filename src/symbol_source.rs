//! Other places to get symbols from: folders and servers. There are none unless the configuration names
//! them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A source, as in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolSource {
    pub(crate) name: String,
    pub(crate) kind: SourceKind,
    /// A folder, or the URL of a server without a trailing slash.
    pub(crate) at: String,
    /// Further URLs to which the server may redirect us.
    pub(crate) allow: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// A folder in Breakpad's layout, or the symbols of another data directory. Files are read in place.
    Folder,
    /// A server in Breakpad's layout.
    Breakpad,
    /// A server in the layout of Microsoft's symsrv.
    Symsrv,
    Debuginfod,
}

impl SourceKind {
    pub(crate) const ALL: [SourceKind; 4] =
        [Self::Folder, Self::Breakpad, Self::Symsrv, Self::Debuginfod];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Breakpad => "breakpad",
            Self::Symsrv => "symsrv",
            Self::Debuginfod => "debuginfod",
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SourceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("unknown; accepted: {known}")
        })
    }
}

/// A module whose symbols are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) debug_file: String,
    /// In upper case.
    pub(crate) debug_id: String,
    /// Empty if unknown.
    pub(crate) code_file: String,
    pub(crate) code_id: String,
    /// True if the program is wanted and not its debug file.
    pub(crate) program: bool,
}

impl SymbolSource {
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        (self.kind == SourceKind::Folder).then(|| PathBuf::from(&self.at))
    }

    /// The URLs at which this source may have a module's symbols, most likely first. Empty if the source
    /// cannot be asked for the module. `symbol_file` is the name of the module's symbol file.
    pub(crate) fn addresses(&self, wanted: &Wanted, symbol_file: &str) -> Vec<String> {
        let mut addresses = Vec::new();
        if self.kind == SourceKind::Symsrv && wanted.program {
            // Microsoft writes the time in upper case and the size in lower case. Some servers accept only
            // this form, and so do web servers that serve a folder of files.
            let (time, size) = wanted
                .code_id
                .split_at_checked(8)
                .unwrap_or((&wanted.code_id, ""));
            let code_id = time.to_ascii_uppercase() + &size.to_ascii_lowercase();
            let as_microsoft = Wanted {
                code_id,
                ..wanted.clone()
            };
            addresses.extend(self.address(&as_microsoft, symbol_file));
        }
        let plain = self.address(wanted, symbol_file);
        addresses.extend(plain.filter(|plain| !addresses.contains(plain)));
        if self.kind == SourceKind::Symsrv {
            // symstore with /compress stores a cabinet, and its name has an underscore at the end.
            let packed = addresses.first().map(|first| packed_name(first));
            addresses.extend(packed);
        }
        addresses
    }

    fn address(&self, wanted: &Wanted, symbol_file: &str) -> Option<String> {
        let part = |text: &str| -> String {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
                .replace("%2E", ".")
                .replace("%2D", "-")
                .replace("%5F", "_")
        };
        let Self { at, .. } = self;
        let path = match (self.kind, wanted.program) {
            (SourceKind::Folder, _) | (SourceKind::Breakpad, true) => return None,
            (SourceKind::Breakpad, false) => [
                part(&wanted.debug_file),
                part(&wanted.debug_id),
                part(symbol_file),
            ]
            .join("/"),
            (SourceKind::Symsrv, false) => {
                let file = part(&wanted.debug_file);
                format!("{file}/{}/{file}", part(&wanted.debug_id))
            }
            (SourceKind::Symsrv, true) => {
                let file = part(&wanted.code_file);
                let is_known = !wanted.code_file.is_empty() && !wanted.code_id.is_empty();
                let path = format!("{file}/{}/{file}", part(&wanted.code_id));
                is_known.then_some(path)?
            }
            (SourceKind::Debuginfod, program) => {
                let is_build_id = wanted.code_id.len() >= 32;
                let what = if program { "executable" } else { "debuginfo" };
                let path = format!("buildid/{}/{what}", part(&wanted.code_id));
                is_build_id.then_some(path)?
            }
        };
        Some(format!("{at}/{path}"))
    }
}

/// `app.pdb` -> `app.pd_`
fn packed_name(address: &str) -> String {
    let mut name = address.to_owned();
    name.pop();
    name + "_"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_server_has_its_layout() {
        let wanted = Wanted {
            debug_file: "my app.pdb".into(),
            debug_id: "AB1".into(),
            code_file: "app.exe".into(),
            code_id: "5ab38077c000".into(),
            program: false,
        };
        let address = |kind, wanted: &Wanted| {
            let source = SymbolSource {
                name: "s".into(),
                kind,
                at: "http://h/x".into(),
                allow: Vec::new(),
            };
            source.address(wanted, "my app.sym")
        };
        let program = Wanted {
            program: true,
            ..wanted.clone()
        };
        let built = Wanted {
            code_id: "c0".repeat(20),
            ..wanted.clone()
        };
        let found = |kind, wanted| address(kind, wanted).unwrap_or_default();
        assert_eq!(
            found(SourceKind::Breakpad, &wanted),
            "http://h/x/my%20app.pdb/AB1/my%20app.sym"
        );
        assert_eq!(
            found(SourceKind::Symsrv, &wanted),
            "http://h/x/my%20app.pdb/AB1/my%20app.pdb"
        );
        assert_eq!(
            found(SourceKind::Symsrv, &program),
            "http://h/x/app.exe/5ab38077c000/app.exe"
        );
        assert_eq!(
            found(SourceKind::Debuginfod, &built),
            format!("http://h/x/buildid/{}/debuginfo", "c0".repeat(20))
        );
        let source = SymbolSource {
            name: "s".into(),
            kind: SourceKind::Symsrv,
            at: "http://h".into(),
            allow: Vec::new(),
        };
        assert_eq!(
            source.addresses(&program, ""),
            [
                "http://h/app.exe/5AB38077c000/app.exe",
                "http://h/app.exe/5ab38077c000/app.exe",
                "http://h/app.exe/5AB38077c000/app.ex_"
            ]
        );
        assert_eq!(
            source.addresses(&wanted, "my app.sym")[1..],
            ["http://h/my%20app.pdb/AB1/my%20app.pd_"]
        );
        for (kind, wanted) in [
            (SourceKind::Folder, &wanted),
            (SourceKind::Breakpad, &program),
            (SourceKind::Debuginfod, &wanted),
        ] {
            assert_eq!(address(kind, wanted), None, "{kind}");
        }
    }
}
