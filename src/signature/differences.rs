//! The differences between the ruleset `crashkeep` and siggen. Each has a name.
//!
//! There are two kinds. Some distinguish places within a module, so that crashes without symbols do not all
//! get the same signature. The others fix plain bugs that remove an essential part of a name.

/// One difference, with a crash that shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference {
    pub(crate) name: &'static str,
    /// What the ruleset does, in a sentence.
    pub(crate) what: &'static str,
    /// Crash data, JSON.
    pub(crate) example: &'static str,
    pub(crate) socorro: &'static str,
    pub(crate) crashkeep: &'static str,
}

/// All differences. The test below checks each of them with both rulesets.
pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "module-offset",
        what: "a frame with a module but no function is named module@offset; the lists are matched against the module only",
        example: r#"{"threads":[{"frames":[{"module":"app.exe","module_offset":"0x0001a2b"}]}]}"#,
        socorro: "app.exe",
        crashkeep: "app.exe@0x1a2b",
    },
    Difference {
        name: "qualifier-words",
        what: "all of const, volatile, noexcept, & and && are removed after an argument list, as whole words",
        example: r#"{"threads":[{"frames":[{"function":"Foo::get(int) const &&"}]}]}"#,
        socorro: "const",
        crashkeep: "Foo::get",
    },
    Difference {
        name: "qualifier-words",
        what: "a name that ends with such a word is kept",
        example: r#"{"threads":[{"frames":[{"function":"Foo::isconst"}]}]}"#,
        socorro: "Foo::is",
        crashkeep: "Foo::isconst",
    },
    Difference {
        name: "lone-qualifier",
        what: "a function named const keeps its name; the rule does not fail",
        example: r#"{"threads":[{"frames":[{"function":"const"}]}]}"#,
        socorro: "",
        crashkeep: "const",
    },
    Difference {
        name: "operator-names",
        what: "the angle brackets in an operator's name neither open nor close a template",
        example: r#"{"threads":[{"frames":[{"function":"ns::operator<(Foo<int> const&)"}]}]}"#,
        socorro: "ns::operator<T>",
        crashkeep: "ns::operator<",
    },
    Difference {
        name: "cold-spaces",
        what: "removing [clone .cold] also removes the space before it",
        example: r#"{"threads":[{"frames":[{"function":"x"},{"function":"_purecall() [clone .cold.4]"},{"function":"f"}]}]}"#,
        socorro: "x",
        crashkeep: "purecall | f",
    },
    Difference {
        name: "trailing-spaces",
        what: "spaces at the end of a function do not make the name empty",
        example: r#"{"threads":[{"frames":[{"function":"f(int)  "}]}]}"#,
        socorro: "",
        crashkeep: "f",
    },
    Difference {
        name: "relative-rust",
        what: "a relative path that ends with .rs is also a Rust file",
        example: r#"{"threads":[{"frames":[{"function":"app::run::h0123456789abcdef","file":"src/main.rs","line":1}]}]}"#,
        socorro: "app::run::h0123456789abcdef",
        crashkeep: "app::run",
    },
    Difference {
        name: "rust-hash",
        what: "only a hash of 16 digits is removed, so a function such as head keeps its name",
        example: r#"{"threads":[{"frames":[{"function":"list::head","file":"/src/list.rs","line":1}]}]}"#,
        socorro: "list",
        crashkeep: "list::head",
    },
    Difference {
        name: "status-ok",
        what: "the status OK is not added to the signature of an empty stack",
        example: r#"{"mdsw_status_string":"OK"}"#,
        socorro: "EMPTY: no frame data available; OK",
        crashkeep: "EMPTY: no frame data available",
    },
    Difference {
        name: "empty-hang",
        what: "an empty Hang annotation does not mark the crash as a hang",
        example: r#"{"hang":"","threads":[{"frames":[{"function":"f"}]}]}"#,
        socorro: "hang: | f",
        crashkeep: "f",
    },
    Difference {
        name: "font-brackets",
        what: "in a message about fonts, brackets in the wrong order do not duplicate text",
        example: r#"{"abort_message":")unable to find a usable font(","threads":[{"frames":[{"function":"f"}]}]}"#,
        socorro: "Abort | )unable to find a usable fontunable to find a usable font( | f",
        crashkeep: "Abort | )unable to find a usable font( | f",
    },
    Difference {
        name: "kotlin-lines",
        what: "line numbers of Kotlin files are removed, as for Java files",
        example: r#"{"java_stack_trace":"a.B: c\n at a.b.c(D.kt:12)"}"#,
        socorro: "a.B: c at a.b.c(D.kt:12)",
        crashkeep: "a.B: c at a.b.c(D.kt)",
    },
    Difference {
        name: "watchdog-lists",
        what: "signatures of watchdog crashes use the active lists, not the built-in lists",
        example: r#"{"crashing_thread":1,"threads":[{"frames":[{"function":"f"}]},{"frames":[{"function":"RunWatchdog"}]}]}"#,
        socorro: "shutdownhang | f",
        crashkeep: "shutdownhang | f",
    },
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{CrashData, Generator, ListTexts, Lists, Ruleset};
    use super::*;

    #[test]
    fn each_difference_is_what_its_example_shows() {
        let lists = Arc::new(Lists::builtin());
        for difference in DIFFERENCES {
            let named = |ruleset| {
                let data = CrashData::parse(difference.example).unwrap();
                Generator::new(ruleset, lists.clone()).generate(&data).text
            };
            assert_eq!(
                named(Ruleset::Socorro),
                difference.socorro,
                "{}: {}",
                difference.name,
                difference.what
            );
            assert_eq!(
                named(Ruleset::Crashkeep),
                difference.crashkeep,
                "{}: {}",
                difference.name,
                difference.what
            );
        }
    }

    #[test]
    fn the_watchdog_goes_by_the_active_lists() {
        let mut texts = ListTexts::builtin();
        texts.0[0] = "^f$".into();
        let lists = Arc::new(Lists::new(texts).unwrap());
        let crash = r#"{"crashing_thread":1,"threads":[{"frames":[{"function":"f"},{"function":"g"}]},
            {"frames":[{"function":"RunWatchdog"}]}]}"#;
        let named = |ruleset| {
            let generator = Generator::new(ruleset, lists.clone());
            generator.generate(&CrashData::parse(crash).unwrap()).text
        };
        assert_eq!(named(Ruleset::Socorro), "shutdownhang | f");
        assert_eq!(named(Ruleset::Crashkeep), "shutdownhang | g");
    }

    #[test]
    fn readers_find_every_difference_in_the_documentation() {
        let page = include_str!("../../docs/signatures.md");
        for difference in DIFFERENCES {
            assert!(
                page.contains(&format!("`{}`", difference.name)),
                "{}",
                difference.name
            );
        }
    }
}
