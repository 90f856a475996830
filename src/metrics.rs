//! Metrics of the server, and their text form for Prometheus.
//!
//! The lists `Metrics` and `Readings` at the end of this file name and describe every metric once. To add one, add
//! an entry: the text of `/metrics` is written from the lists.
//!
//! Labels come from fixed sets and from the rule names in the configuration, never from clients. For the
//! counters of the collector this always holds: received = stored + discarded + failed.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets of a duration, in seconds.
const SECONDS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0];

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that its owner sets.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

/// One counter per label.
#[derive(Debug, Default)]
pub(crate) struct Family(Mutex<BTreeMap<String, u64>>);

impl Family {
    pub(crate) fn add(&self, label: &str) {
        *self.0.lock().entry(label.to_owned()).or_default() += 1;
    }

    pub(crate) fn get(&self) -> BTreeMap<String, u64> {
        self.0.lock().clone()
    }
}

/// A histogram of durations.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    buckets: [AtomicU64; SECONDS.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Durations {
    pub(crate) fn record(&self, duration: std::time::Duration) {
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

/// What the text of `/metrics` says about a metric besides its value.
struct Entry {
    name: &'static str,
    help: &'static str,
    /// Name of the label of a [`Family`]; empty for other metrics.
    label: &'static str,
}

impl Entry {
    fn write_head(&self, out: &mut String, kind: &str) {
        let Self { name, help, .. } = self;
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn write_number(&self, out: &mut String, kind: &str, value: u64) {
        self.write_head(out, kind);
        let _ = writeln!(out, "{} {value}", self.name);
    }
}

trait Metric {
    /// Appends the metric in the text format of Prometheus.
    fn write(&self, out: &mut String, entry: &Entry);
}

impl Metric for Counter {
    fn write(&self, out: &mut String, entry: &Entry) {
        entry.write_number(out, "counter", self.get());
    }
}

impl Metric for Gauge {
    fn write(&self, out: &mut String, entry: &Entry) {
        self.0.load(Ordering::Relaxed).write(out, entry);
    }
}

/// A gauge that is read for each answer.
impl Metric for u64 {
    fn write(&self, out: &mut String, entry: &Entry) {
        entry.write_number(out, "gauge", *self);
    }
}

/// A gauge that is 1 if the claim is true.
impl Metric for bool {
    fn write(&self, out: &mut String, entry: &Entry) {
        u64::from(*self).write(out, entry);
    }
}

/// A gauge that only some servers have.
impl<M: Metric> Metric for Option<M> {
    fn write(&self, out: &mut String, entry: &Entry) {
        if let Some(metric) = self {
            metric.write(out, entry);
        }
    }
}

impl Metric for Family {
    fn write(&self, out: &mut String, entry: &Entry) {
        entry.write_head(out, "counter");
        let Entry { name, label, .. } = entry;
        for (value, n) in self.get() {
            let _ = writeln!(out, "{name}{{{label}=\"{value}\"}} {n}");
        }
    }
}

impl Metric for Durations {
    fn write(&self, out: &mut String, entry: &Entry) {
        entry.write_head(out, "histogram");
        let name = entry.name;
        for (bucket, bound) in self.buckets.iter().zip(SECONDS) {
            let within = bucket.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {within}");
        }
        let count = self.count.load(Ordering::Relaxed);
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = write!(
            out,
            "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n"
        );
    }
}

/// Declares a struct of metrics. Each entry is the field, its type, the name and the help in `/metrics`, and for
/// a [`Family`] the name of its label.
macro_rules! metrics {
    (
        $(#[$doc:meta])*
        $set:ident {
            $(
                $(#[$about:meta])*
                $field:ident: $kind:ty = $name:literal, $help:literal $(, $label:literal)?;
            )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $set {
            $( $(#[$about])* pub(crate) $field: $kind, )*
        }

        impl $set {
            fn write(&self, out: &mut String) {
                $(
                    let label = concat!($($label)?);
                    self.$field.write(out, &Entry { name: $name, help: $help, label });
                )*
            }
        }
    };
}

metrics! {
    /// What happened since the server started.
    Metrics {
        received: Counter = "crashkeep_received_total",
            "requests to the collector";
        stored: Counter = "crashkeep_stored_total",
            "reports stored";
        /// Labels: `rule_<name>`, `malformed_<code>`.
        discarded: Family = "crashkeep_discarded_total",
            "reports rejected by a throttle rule or because they are malformed", "reason";
        /// Includes the reports that a rule discarded.
        throttled: Family = "crashkeep_throttled_total",
            "reports by throttle rule", "rule";
        /// Reports that were lost because of an error of ours or of the connection.
        failed: Family = "crashkeep_failed_total",
            "reports not stored because of other errors", "reason";
        submit_seconds: Durations = "crashkeep_submit_seconds",
            "time from the request head to the response";
        sentry_items: Family = "crashkeep_sentry_items_total",
            "items of Sentry envelopes that are not crashes", "type";
        processed: Family = "crashkeep_processed_total",
            "processed crashes by outcome", "outcome";
        process_seconds: Durations = "crashkeep_process_seconds",
            "time from the start of a job to its result";
        walker_faults: Counter = "crashkeep_walker_faults_total",
            "walkers that crashed or exceeded a limit";
        indexed: Counter = "crashkeep_indexed_total",
            "crashes written to the index";
        polled: Family = "crashkeep_bugzilla_passes_total",
            "polls of the bug tracker", "outcome";
        symbols_uploaded: Family = "crashkeep_symbols_uploaded_total",
            "uploaded symbol files", "outcome";
        /// Labels: `hit`, `miss`.
        symbols_asked: Family = "crashkeep_symbols_asked_total",
            "requests for symbol files", "outcome";
        symbols_fetched: Family = "crashkeep_symbols_fetched_total",
            "modules requested from other symbol servers", "outcome";
        connections_open: Gauge = "crashkeep_connections_open",
            "open connections";
        /// Labels: `share`, `full`.
        connections_refused: Family = "crashkeep_connections_refused_total",
            "connections refused because a limit was reached", "reason";
        connections_closed: Counter = "crashkeep_connections_closed_total",
            "slow connections closed to make room for new ones";
        /// Each panic is a bug of ours.
        panics: Counter = "crashkeep_panics_total",
            "request handlers that panicked";
    }
}

metrics! {
    /// What other modules know when `/metrics` is requested.
    Readings {
        queued: u64 = "crashkeep_queued",
            "queued crashes";
        deferred: u64 = "crashkeep_deferred",
            "deferred crashes";
        processing: u64 = "crashkeep_processing",
            "crashes that are being processed";
        processed: u64 = "crashkeep_processed",
            "processed crashes in the store";
        failed: u64 = "crashkeep_failed",
            "failed crashes in the store";
        oldest_queued_seconds: u64 = "crashkeep_oldest_queued_seconds",
            "age of the oldest queued crash";
        segment_bytes: u64 = "crashkeep_segment_bytes",
            "size of the segment files";
        database_bytes: u64 = "crashkeep_database_bytes",
            "size of the database file";
        changes_waiting: u64 = "crashkeep_changes_waiting",
            "changes not yet committed to the index";
        is_retention_waiting: bool = "crashkeep_retention_waits",
            "1 while retention is on hold and needs confirmation";
        segments_missing: u64 = "crashkeep_segments_missing",
            "missing segment files";
        is_store_writable: bool = "crashkeep_store_writable",
            "1 while the store is writable";
        /// Only with a bug tracker, like the next one.
        bugzilla_last_success_seconds: Option<u64> = "crashkeep_bugzilla_last_success_seconds",
            "start time of the last successful poll of the bug tracker, in Unix time; 0 for never";
        is_bugzilla_failing: Option<bool> = "crashkeep_bugzilla_failing",
            "1 if the last poll of the bug tracker failed";
    }
}

impl Metrics {
    /// All metrics in the Prometheus text format.
    pub(crate) fn text(&self, readings: &Readings) -> String {
        let mut out = String::new();
        self.write(&mut out);
        readings.write(&mut out);
        out
    }
}
