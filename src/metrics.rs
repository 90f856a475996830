//! Counters since the start of the server, and their text form.
//!
//! Labels come from fixed sets and from the rule names in the configuration, never from clients. For the
//! counters of the collector this always holds: received = stored + discarded + failed.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets of a duration, in seconds.
const SECONDS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0];

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One counter per label.
#[derive(Debug, Default)]
pub struct Family(Mutex<BTreeMap<String, u64>>);

impl Family {
    pub fn add(&self, label: &str) {
        *self.0.lock().entry(label.to_owned()).or_default() += 1;
    }

    pub fn get(&self) -> BTreeMap<String, u64> {
        self.0.lock().clone()
    }

    pub fn total(&self) -> u64 {
        self.get().values().sum()
    }
}

#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; SECONDS.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Durations {
    pub fn record(&self, duration: std::time::Duration) {
        let seconds = duration.as_secs_f64();
        for (bucket, bound) in self.buckets.iter().zip(SECONDS) {
            if seconds <= bound {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us
            .fetch_add(duration.as_micros() as u64, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests to the collector that began.
    pub received: Counter,
    /// Reports made durable.
    pub stored: Counter,
    /// Reports that were discarded, by reason: `rule_<name>`, `malformed_<code>`.
    pub discarded: Family,
    /// Reports that each throttle rule decided, kept or not.
    pub throttled: Family,
    /// Reports that were lost because of an error of ours or of the connection.
    pub failed: Family,
    pub submit_seconds: Durations,
    /// Items of envelopes that are not about crashes, by type.
    pub sentry_items: Family,
    /// Crashes whose processing ended, by outcome.
    pub processed: Family,
    pub process_seconds: Durations,
    /// Walkers that died or exceeded a limit.
    pub walker_faults: Counter,
    pub indexed: Counter,
    /// Passes over the bug tracker, by outcome.
    pub polled: Family,
    /// Symbol files that were uploaded, by outcome.
    pub symbols_uploaded: Family,
    /// Requests for symbol files, by outcome: hit or miss.
    pub symbols_asked: Family,
    /// Modules that we requested from other symbol servers, by outcome.
    pub symbols_fetched: Family,
    /// Open connections.
    pub connections_open: Counter,
    /// Refused connections, by reason: share, full.
    pub connections_refused: Family,
    /// Slow connections that were closed to free capacity for new ones.
    pub connections_closed: Counter,
    /// Handlers that panicked. Each panic is a bug of ours.
    pub panics: Counter,
}

impl Metrics {
    /// The counters in the Prometheus text format, with additional gauges from the caller.
    pub fn text(&self, gauges: &[(&str, &str, u64)]) -> String {
        let mut out = String::new();
        let mut counter = |name: &str, help: &str, value: u64| {
            let _ = write!(
                out,
                "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n"
            );
        };
        counter(
            "crashkeep_received_total",
            "requests to the collector",
            self.received.get(),
        );
        counter(
            "crashkeep_stored_total",
            "reports stored",
            self.stored.get(),
        );
        counter(
            "crashkeep_walker_faults_total",
            "walkers that crashed or exceeded a limit",
            self.walker_faults.get(),
        );
        counter(
            "crashkeep_indexed_total",
            "crashes written to the index",
            self.indexed.get(),
        );
        counter(
            "crashkeep_connections_closed_total",
            "slow connections closed to make room for new ones",
            self.connections_closed.get(),
        );
        counter(
            "crashkeep_panics_total",
            "request handlers that panicked",
            self.panics.get(),
        );
        for (name, help, label, family) in [
            (
                "crashkeep_discarded_total",
                "reports rejected by a throttle rule or because they are malformed",
                "reason",
                &self.discarded,
            ),
            (
                "crashkeep_connections_refused_total",
                "connections refused because a limit was reached",
                "reason",
                &self.connections_refused,
            ),
            (
                "crashkeep_failed_total",
                "reports not stored because of other errors",
                "reason",
                &self.failed,
            ),
            (
                "crashkeep_throttled_total",
                "reports by throttle rule",
                "rule",
                &self.throttled,
            ),
            (
                "crashkeep_processed_total",
                "processed crashes by outcome",
                "outcome",
                &self.processed,
            ),
            (
                "crashkeep_bugzilla_passes_total",
                "polls of the bug tracker",
                "outcome",
                &self.polled,
            ),
            (
                "crashkeep_sentry_items_total",
                "items of Sentry envelopes that are not crashes",
                "type",
                &self.sentry_items,
            ),
            (
                "crashkeep_symbols_uploaded_total",
                "uploaded symbol files",
                "outcome",
                &self.symbols_uploaded,
            ),
            (
                "crashkeep_symbols_asked_total",
                "requests for symbol files",
                "outcome",
                &self.symbols_asked,
            ),
            (
                "crashkeep_symbols_fetched_total",
                "modules requested from other symbol servers",
                "outcome",
                &self.symbols_fetched,
            ),
        ] {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} counter\n");
            for (value, n) in family.get() {
                let _ = writeln!(out, "{name}{{{label}=\"{value}\"}} {n}");
            }
        }
        for (name, help, durations) in [
            (
                "crashkeep_submit_seconds",
                "time from the request head to the response",
                &self.submit_seconds,
            ),
            (
                "crashkeep_process_seconds",
                "time from the start of a job to its result",
                &self.process_seconds,
            ),
        ] {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} histogram\n");
            for (bucket, bound) in durations.buckets.iter().zip(SECONDS) {
                let _ = writeln!(
                    out,
                    "{name}_bucket{{le=\"{bound}\"}} {}",
                    bucket.load(Ordering::Relaxed)
                );
            }
            let count = durations.count.load(Ordering::Relaxed);
            let sum = durations.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
            let _ = write!(
                out,
                "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n"
            );
        }
        for (name, help, value) in gauges {
            let _ = write!(
                out,
                "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"
            );
        }
        out
    }
}
