//! Health and metrics, at the same URLs as Mozilla's collectors.

use serde_json::json;

use crate::app::App;
use crate::metrics::Readings;
use crate::store::State;
use crate::web::{Captures, Request, Response, WebError};

type Answer = Result<Response, WebError>;

/// Ready: the store can be written.
///
/// # Errors
/// Never fails. A store that cannot be written is an answer with status 503 and the reason.
pub(crate) fn heartbeat(app: &App, _: &Request, _: &Captures) -> Answer {
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
pub(crate) fn lbheartbeat(_: &App, _: &Request, _: &Captures) -> Answer {
    Ok(Response::json(&json!({})))
}

/// The version of this program.
///
/// # Errors
/// Never fails. All handlers have this type.
pub(crate) fn version(_: &App, _: &Request, _: &Captures) -> Answer {
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
pub(crate) fn metrics(app: &App, _: &Request, _: &Captures) -> Answer {
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
    let mut readings = Readings {
        queued: count(State::Queued),
        deferred: count(State::Deferred),
        processing: count(State::Processing),
        processed: count(State::Processed),
        failed: count(State::Failed),
        oldest_queued_seconds: oldest as u64,
        segment_bytes: status.segment_bytes,
        database_bytes: status.database_bytes,
        changes_waiting: status.changes_waiting,
        is_retention_waiting: app.retention.status().held.is_some(),
        segments_missing: status.missing_segments.len() as u64,
        is_store_writable: status.latched.is_none(),
        bugzilla_last_success_seconds: None,
        is_bugzilla_failing: None,
    };
    if let Some(bugzilla) = &app.bugzilla {
        let last = app.store.last_pass(&app.config.get().bugzilla.url.0)?;
        readings.bugzilla_last_success_seconds = Some(last.map_or(0, |at| at.ms() as u64 / 1000));
        readings.is_bugzilla_failing = Some(bugzilla.status().error.is_some());
    }
    Ok(Response::text(200, app.metrics.text(&readings)))
}
