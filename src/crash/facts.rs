//! What is counted of a crash.

/// Operating systems that the counters distinguish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum System {
    Windows = 0,
    Mac = 1,
    Linux = 2,
    #[default]
    Other = 3,
}

impl System {
    pub const ALL: [System; 4] = [Self::Windows, Self::Mac, Self::Linux, Self::Other];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Windows => "Windows",
            Self::Mac => "macOS",
            Self::Linux => "Linux",
            Self::Other => "other",
        }
    }

    /// The system of a platform name such as `Windows NT`. Only its first three letters count.
    pub(crate) fn of(platform: &str) -> Self {
        let begins = |with: &str| {
            let head = platform.as_bytes().get(..with.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(with.as_bytes()))
        };
        match () {
            () if begins("win") => Self::Windows,
            () if begins("mac") => Self::Mac,
            () if begins("lin") => Self::Linux,
            () => Self::Other,
        }
    }
}

/// The data of a processed crash that counting needs in addition to its row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Empty if the client sent no build.
    pub build: String,
    pub system: System,
    /// Seconds from the start of the process to the crash; `None` if unknown.
    pub uptime_s: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_told_by_its_first_letters() {
        for (platform, expected) in [
            ("Windows NT", System::Windows),
            ("Mac OS X", System::Mac),
            ("macOS", System::Mac),
            ("Linux", System::Linux),
            ("Android", System::Other),
            ("é", System::Other),
            ("", System::Other),
        ] {
            assert_eq!(System::of(platform), expected, "{platform}");
        }
    }
}
