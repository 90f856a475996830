//! Health and metrics, at the same URLs as Mozilla's collectors.

use serde_json::json;

use crate::app::App;
use crate::store::State;
use crate::web::{Captures, Request, Response, WebError};

type Answer = Result<Response, WebError>;

/// Ready: the store can be written.
///
/// # Errors
/// Never fails. A store that cannot be written is an answer with status 503 and the reason.
pub fn heartbeat(app: &App, _: &Request, _: &Captures) -> Answer {
    let mut errors = Vec::new();
    match app.store.status() {
        Ok(status) => {
            let faults = status.faults();
            errors.extend(faults.map(|(name, msg)| json!({ "name": name, "msg": msg })));
        }
        Err(error) => errors.push(json!({ "name": "store", "msg": error.to_string() })),
    }
    let status = if errors.is_empty() { 200 } else { 503 };
    let mut answer = json!({ "errors": errors });
    // The server still accepts reports, so this is not a 503.
    if let Some(held) = app.retention.status().held {
        answer["warnings"] = json!([{ "name": "retention", "msg": held.to_string() }]);
    }
    Ok(Response {
        status,
        ..Response::json(&answer)
    })
}

/// Alive: always 200.
///
/// # Errors
/// Never fails. All handlers have this type.
pub fn lbheartbeat(_: &App, _: &Request, _: &Captures) -> Answer {
    Ok(Response::json(&json!({})))
}

/// The version of this program.
///
/// # Errors
/// Never fails. All handlers have this type.
pub fn version(_: &App, _: &Request, _: &Captures) -> Answer {
    Ok(Response::json(&json!({
        "source": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("CRASHKEEP_COMMIT").unwrap_or_default(),
        "build": "",
    })))
}

/// The metrics in the Prometheus text format.
///
/// # Errors
/// 503 while the store cannot be read, 500 if stored data is damaged.
pub fn metrics(app: &App, _: &Request, _: &Captures) -> Answer {
    let status = app.store.status()?;
    let count = |state: State| {
        status
            .states
            .iter()
            .find(|(s, _)| *s == state)
            .map_or(0, |(_, n)| *n)
    };
    let oldest = status
        .oldest_queued_at
        .map_or(0, |at| app.clock.now().ms_since(at) / 1000);
    let mut gauges = vec![
        ("crashkeep_queued", "queued crashes", count(State::Queued)),
        (
            "crashkeep_deferred",
            "deferred crashes",
            count(State::Deferred),
        ),
        (
            "crashkeep_processing",
            "crashes that are being processed",
            count(State::Processing),
        ),
        (
            "crashkeep_processed",
            "processed crashes in the store",
            count(State::Processed),
        ),
        (
            "crashkeep_failed",
            "failed crashes in the store",
            count(State::Failed),
        ),
        (
            "crashkeep_oldest_queued_seconds",
            "age of the oldest queued crash",
            oldest as u64,
        ),
        (
            "crashkeep_segment_bytes",
            "size of the segment files",
            status.segment_bytes,
        ),
        (
            "crashkeep_database_bytes",
            "size of the database file",
            status.database_bytes,
        ),
        (
            "crashkeep_changes_waiting",
            "changes not yet committed to the index",
            status.changes_waiting,
        ),
        (
            "crashkeep_connections_open",
            "open connections",
            app.metrics.connections_open.get(),
        ),
        (
            "crashkeep_retention_waits",
            "1 while retention is on hold and needs confirmation",
            u64::from(app.retention.status().held.is_some()),
        ),
        (
            "crashkeep_segments_missing",
            "missing segment files",
            status.missing_segments.len() as u64,
        ),
        (
            "crashkeep_store_writable",
            "1 while the store is writable",
            u64::from(status.latched.is_none()),
        ),
    ];
    if let Some(bugzilla) = &app.bugzilla {
        let last = app.store.last_pass(&app.config.get().bugzilla.url.0)?;
        gauges.push((
            "crashkeep_bugzilla_last_success_seconds",
            "start time of the last successful poll of the bug tracker, in Unix time; 0 for never",
            last.map_or(0, |at| at.ms() as u64 / 1000),
        ));
        gauges.push((
            "crashkeep_bugzilla_failing",
            "1 if the last poll of the bug tracker failed",
            u64::from(bugzilla.status().error.is_some()),
        ));
    }
    Ok(Response::text(200, app.metrics.text(&gauges)))
}
