//! The active configuration, and its replacement while the server runs.
//!
//! A reader takes the configuration once per operation, so one request never sees two versions. An invalid
//! file changes nothing. Settings with which threads, files or sockets were opened keep their values until
//! the next start. The reload lists them.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::config::{Config, ConfigError};
use parking_lot::RwLock;

pub(crate) struct ActiveConfig {
    config: RwLock<Arc<Config>>,
    last: RwLock<Option<Reload>>,
}

/// The result of the last request to reload the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reload {
    pub(crate) at: Timestamp,
    /// Changed settings that wait for the next start, or the reason why the file is invalid.
    pub(crate) outcome: Result<Vec<String>, String>,
}

impl ActiveConfig {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config: RwLock::new(Arc::new(config)),
            last: RwLock::new(None),
        }
    }

    pub(crate) fn get(&self) -> Arc<Config> {
        self.config.read().clone()
    }

    /// The last reload since the server started.
    pub(crate) fn last_reload(&self) -> Option<Reload> {
        self.last.read().clone()
    }

    /// Activates the new configuration, or keeps the last valid one.
    pub(crate) fn replace(&self, read: Result<Config, ConfigError>, at: Timestamp) {
        let outcome = match read {
            Ok(mut config) => {
                let waiting = config.keep_started(&self.get());
                *self.config.write() = Arc::new(config);
                tracing::info!(?waiting, "configuration reloaded");
                Ok(waiting)
            }
            Err(error) => {
                tracing::error!(%error, "the new configuration is invalid; the previous one stays active");
                Err(error.to_string())
            }
        };
        *self.last.write() = Some(Reload { at, outcome });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_is_active_at_once_but_for_what_the_start_has_fixed() {
        let started =
            "[http]\nlisten = \"127.0.0.1:1\"\npublic_url = \"http://a\"\n[workers]\ncount = 3";
        let active = ActiveConfig::new(Config::parse("a.toml", started).expect("good"));
        let held = active.get();
        let changed = "[http]\nlisten = \"127.0.0.1:2\"\npublic_url = \"http://b\"\n[retention]\nfailed_days = 9";
        active.replace(Config::parse("a.toml", changed), Timestamp::from_ms(7));
        let config = active.get();
        assert_eq!(config.http.public_url.as_str(), "http://b");
        assert_eq!(config.retention.failed_days.0, 9);
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:1");
        assert_eq!(config.workers.count.value, 3);
        assert_eq!(
            held.http.public_url.as_str(),
            "http://a",
            "a reader keeps what it took"
        );
        let waiting = vec!["[http] listen".to_owned(), "[workers] count".to_owned()];
        let expected = Reload {
            at: Timestamp::from_ms(7),
            outcome: Ok(waiting),
        };
        assert_eq!(active.last_reload(), Some(expected));
    }

    #[test]
    fn other_fields_wait_for_the_next_start() {
        let fields = |name: &str| {
            let text = format!("[[fields]]\nannotation = \"Thing\"\nname = \"{name}\"");
            Config::parse("a.toml", &text)
        };
        let active = ActiveConfig::new(fields("thing").expect("good"));
        let waiting = || active.last_reload().expect("a try").outcome;
        active.replace(fields("thing"), Timestamp::from_ms(7));
        assert_eq!(waiting(), Ok(Vec::new()));
        active.replace(fields("another"), Timestamp::from_ms(8));
        assert_eq!(waiting(), Ok(vec!["[[fields]]".to_owned()]));
        assert_eq!(active.get().fields[0].name, "thing");
    }

    #[test]
    fn a_bad_file_changes_nothing() {
        let active =
            ActiveConfig::new(Config::parse("a.toml", "[deferred]\nkeep_days = 3").expect("good"));
        assert_eq!(active.last_reload(), None);
        active.replace(
            Config::parse("a.toml", "[deferred]\nkeep_days = 0"),
            Timestamp::from_ms(7),
        );
        assert_eq!(active.get().deferred.keep_days.0, 3);
        let error = active
            .last_reload()
            .expect("a try")
            .outcome
            .expect_err("bad");
        assert_eq!(
            error,
            "a.toml:2: [deferred] keep_days must be a whole number of days, 1 to 36500"
        );
    }
}
