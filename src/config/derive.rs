//! What is derived from the list of settings: types, defaults, reading, printing.

/// One setting per line. `at_start` marks settings and lists that are read only when the server starts.
macro_rules! settings {
    (@fixed) => { false };
    (@fixed at_start) => { true };
    ($( $(#[$section_doc:meta])* $section:ident: $Struct:ident {
        $( $(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr $(, $fixed:ident)?; )*
    } )*
    @lists $( $(#[$list_doc:meta])* $list:ident: $Entry:ty $(, $list_fixed:ident)?; )*) => {
        $(
            $(#[$section_doc])*
            #[derive(Clone, Debug)]
            pub struct $Struct {
                $( $(#[doc = $doc])+ pub $key: Setting<$type>, )*
            }
        )*

        /// The effective configuration.
        #[derive(Clone, Debug)]
        pub struct Config {
            $( pub $section: $Struct, )*
            $( $(#[$list_doc])* pub $list: Setting<Vec<$Entry>>, )*
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    $( $section: $Struct {
                        $( $key: Setting { value: $default, source: Source::Default }, )*
                    }, )*
                    $( $list: Setting { value: Vec::new(), source: Source::Default }, )*
                }
            }
        }

        impl Config {
            fn set(
                &mut self,
                file: &File,
                section: &str,
                key: &str,
                value: &Spanned<DeValue>,
            ) -> Result<(), ConfigError> {
                match (section, key) {
                    $($( (stringify!($section), stringify!($key)) => {
                        let read = <$type as Value>::read(value.get_ref());
                        let read = read.ok_or_else(|| {
                            let name = concat!("[", stringify!($section), "] ", stringify!($key));
                            file.error(value, format!("{name} must be {}", <$type as Value>::FORM))
                        })?;
                        self.$section.$key = Setting { value: read, source: file.source(value) };
                    } )*)*
                    _ => return Err(file.error(value, format!(
                        "[{section}] has no key {key:?}; known: {}", Self::known(section).join(", ")
                    ))),
                }
                Ok(())
            }

            fn set_list(
                &mut self,
                file: &File,
                name: &str,
                content: &Spanned<DeValue>,
            ) -> Result<(), ConfigError> {
                match name {
                    $( stringify!($list) => {
                        self.$list = Setting {
                            value: read_list(file, stringify!($list), content)?,
                            source: file.source(content),
                        };
                    } )*
                    _ => return Err(file.error(content, format!("unknown list [[{name}]]"))),
                }
                Ok(())
            }

            fn known(section: &str) -> Vec<&'static str> {
                match section {
                    $( stringify!($section) => vec![$( stringify!($key) ),*], )*
                    _ => Vec::new(),
                }
            }

            const SECTIONS: &'static [&'static str] = &[$( stringify!($section) ),*];
            const LISTS: &'static [&'static str] = &[$( stringify!($list) ),*];

            /// All settings: section, key, value as TOML, and the source of the value.
            pub(crate) fn entries(&self) -> Vec<(&'static str, &'static str, String, &Source)> {
                vec![$($( (
                    stringify!($section),
                    stringify!($key),
                    self.$section.$key.value.print(),
                    &self.$section.$key.source,
                ), )*)*]
            }

            /// Keeps the values of `running` for settings that cannot change while the server runs. Returns
            /// the names of those settings whose new value differs.
            pub(crate) fn keep_started(&mut self, running: &Config) -> Vec<String> {
                let mut waiting = Vec::new();
                $($( if settings!(@fixed $($fixed)?) {
                    let (now, then) = (&mut self.$section.$key, &running.$section.$key);
                    if now.value.print() != then.value.print() {
                        waiting.push(concat!("[", stringify!($section), "] ", stringify!($key)).to_owned());
                        *now = then.clone();
                    }
                } )*)*
                $( if settings!(@fixed $($list_fixed)?) {
                    let (now, then) = (&mut self.$list, &running.$list);
                    if !now.value.iter().map(Entry::print).eq(then.value.iter().map(Entry::print)) {
                        waiting.push(concat!("[[", stringify!($list), "]]").to_owned());
                        *now = then.clone();
                    }
                } )*
                waiting
            }

            /// All entries of all lists: name of the list, the entry as TOML, and its source.
            pub(crate) fn list_entries(&self) -> Vec<(&'static str, String, &Source)> {
                let mut entries = Vec::new();
                $(
                    let printed = self.$list.value.iter().map(Entry::print);
                    entries.extend(printed.map(|text| (stringify!($list), text, &self.$list.source)));
                )*
                entries
            }
        }
    };
}

pub(super) use settings;
