//! The status of the server: intake, queue, workers, store and index.

use maud::{Markup, html};

use super::{Page, ago, bytes_text, counted, number, report_path, shown, span_text};
use crate::app::App;
use crate::clock::Timestamp;
use crate::indexer::Building;
use crate::store::reprocess::Cause;
use crate::store::{State, StoreStatus};
use crate::web::{Captures, Request, Response, WebError};

/// Shows the state of the server.
///
/// # Errors
/// 503 while the store cannot be read, 500 if stored data is damaged.
pub(crate) fn status(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let store = app.store.status()?;
    let content = html! {
        div.head {
            h1 { "Server status" }
            div.chips {
                @if app.read_only { span.chip.warn { "read-only: no intake, no workers" } }
                @match &store.latched {
                    None if app.read_only => {},
                    None => span.chip.good { "intake up" },
                    Some(why) => span.chip.bad { "intake down: " (why) },
                }
                @for (name, why) in store.faults().filter(|(name, _)| *name != "store") {
                    span.chip.bad { (name) ": " (why) }
                }
                (queue_chip(app, &store))
                @let indexing = app.indexer.status();
                @if let Some(building) = indexing.building {
                    span.chip.warn { (being_built(app, request, building)) (number(building.rows)) " of " (number(building.rows_total)) }
                }
                @if app.retention.status().held.is_some() {
                    span.chip.warn { "retention is waiting for confirmation" }
                }
                @if let Some(why) = &indexing.error { span.chip.bad { "index: " (why) } }
                @if !cfg!(target_os = "linux") {
                    span.chip.warn { "walkers run without memory and time limits on this operating system" }
                }
            }
        }
        div.stats {
            @for (state, count) in &store.states {
                div.panel.stat {
                    span.v { (number(*count)) }
                    span.l {
                        @if *state == State::Deferred {
                            a href="/search/?state=%3Ddeferred" { (state.name()) " " (if *count == 1 { "crash" } else { "crashes" }) }
                        } @else { (state.name()) " " (if *count == 1 { "crash" } else { "crashes" }) }
                    }
                }
            }
        }
        (workers(app))
        (jobs(app, request)?)
        div.grid3 { (intake(app)) (disk(&store)) (index(app, request)) (retention(app, request)) (bugzilla(app)?) (configuration(app)) }
    };
    Ok(Response::html(
        Page::new("Server status", "/status/").render(content),
    ))
}

fn being_built(app: &App, request: &Request, building: Building) -> String {
    let unbuilt = app.index.unbuilt();
    let names: Vec<&str> = unbuilt
        .iter()
        .filter(|field| request.sees_protected() || !field.is_protected())
        .map(|field| &*field.name)
        .collect();
    match (building.is_beside, names.is_empty()) {
        (true, true) => "rebuilding the index, searches still work: ".to_owned(),
        (true, false) => format!(
            "rebuilding the index with {}, other searches still work: ",
            names.join(", ")
        ),
        (false, _) => "building the index: ".to_owned(),
    }
}

fn queue_chip(app: &App, store: &StoreStatus) -> Markup {
    let queued = store
        .states
        .iter()
        .find(|(s, _)| *s == State::Queued)
        .map_or(0, |(_, n)| *n);
    html! {
        @match store.oldest_queued_at {
            Some(at) if queued > 0 => {
                @let age = app.clock.now().ms_since(at);
                span.chip.warn[age > 60_000] {
                    (counted(queued, "crash", "crashes")) " queued, the oldest for " (span_text(age))
                }
            }
            _ => span.chip.good { "queue is empty" },
        }
    }
}

fn workers(app: &App) -> Markup {
    let now = app.clock.now();
    html! {
        section.panel {
            header {
                h2 { "Workers" }
                span.muted.small { (counted(app.pool.waiting() as u64, "crash", "crashes")) " assigned to workers but not started" }
            }
            div.scroll {
                table {
                    thead { tr { th { "Worker" } th { "State" } th.num { "Finished" } th.num { "Walker faults" } th.num.hide-s { "Walker pid" } } }
                    tbody {
                        @for (at, worker) in app.pool.status().iter().enumerate() {
                            tr {
                                td { (at + 1) }
                                td {
                                    @match (worker.busy_with, worker.busy_since) {
                                        (Some(id), Some(since)) => {
                                            "processing " a.mono href=(report_path(id)) { (id) } " for " (span_text(now.ms_since(since)))
                                        }
                                        _ => span.muted { "idle" },
                                    }
                                }
                                td.num { (number(worker.finished)) }
                                td.num { (number(worker.faults)) }
                                td.num.hide-s { @match worker.walker_pid { Some(pid) => (pid), None => span.faint { "not started" } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Jobs of each kind on the page.
const JOBS: usize = 8;

fn jobs(app: &App, request: &Request) -> Result<Markup, WebError> {
    let now = app.clock.now();
    let reprocessings = app.store.reprocessings(JOBS)?;
    let resigns = app.store.resigns(JOBS)?;
    let row = |what: Markup, begun: i64, ended: Option<i64>, [done, total, changed]: [u64; 3]| {
        let begun = Timestamp::from_ms(begun);
        html! {
            tr {
                td.nowrap { (ago(begun, now)) }
                td { (what) }
                td.num { (number(done)) " of " (number(total)) }
                td.num { (number(changed)) }
                td { @match ended.map(Timestamp::from_ms) {
                    Some(ended) => { (span_text(ended.ms_since(begun))) },
                    None => span.chip.warn { "running" },
                } }
            }
        }
    };
    Ok(html! {
        @if !reprocessings.is_empty() || !resigns.is_empty() {
            section.panel {
                header { h2 { "Jobs" } span.muted.small { "new crashes are processed first" } span.act { a href="/api/Jobs/" { "as JSON" } } }
                div.scroll { table {
                    thead { tr { th { "Started" } th { "Job" } th.num { "Done" } th.num { "Changed" } th { "Duration" } } }
                    tbody {
                        @for job in &reprocessings {
                            @let what = html! { @match &job.cause {
                                // A search can contain values that this caller may not see.
                                Cause::Request { request: asked } if request.sees_protected() => { "reprocessing, requested for the search " span.mono { (shown(asked)) } },
                                Cause::Request { .. } => "reprocessing, requested by a user",
                                Cause::Symbols { .. } => { a href="/symbols/" { "reprocessing with new symbols" } },
                            } };
                            (row(what, job.begun_at_ms, job.ended_at_ms, [job.done, job.crashes, job.improved]))
                        }
                        @for (id, job) in &resigns {
                            @let what = html! { a href="/signatures/" { "new signatures from list revision " (id) } };
                            (row(what, job.begun_at_ms, job.ended_at_ms, [job.looked_at, job.total, job.changed]))
                        }
                    }
                } }
            }
        }
    })
}

fn facts(title: &str, rows: &[(&str, Markup)]) -> Markup {
    html! {
        section.panel {
            header { h2 { (title) } }
            div.body { dl.facts { @for (name, value) in rows { dt { (name) } dd { (value) } } } }
        }
    }
}

fn intake(app: &App) -> Markup {
    let m = &app.metrics;
    let mut rows = vec![
        (
            "Received",
            html! { (number(m.received.get())) " since the server started" },
        ),
        ("Stored", html! { (number(m.stored.get())) }),
    ];
    for (label, family) in [("Discarded", m.discarded.get()), ("Failed", m.failed.get())] {
        rows.push((
            label,
            html! {
                @if family.is_empty() { "none" }
                @for (reason, n) in &family { div { (number(*n)) " " code { (reason) } } }
            },
        ));
    }
    if m.panics.get() > 0 {
        rows.push((
            "Internal errors",
            html! { span.chip.bad { (number(m.panics.get())) } },
        ));
    }
    facts("Intake", &rows)
}

fn disk(store: &StoreStatus) -> Markup {
    let dead = store.segment_bytes.saturating_sub(store.live_bytes);
    facts(
        "Store",
        &[
            ("Database", html! { (bytes_text(store.database_bytes)) }),
            (
                "Segments",
                html! { (counted(store.segments, "file", "files")) ", " (bytes_text(store.segment_bytes)) },
            ),
            (
                "Segment data",
                html! { (bytes_text(store.live_bytes)) " in use, " (bytes_text(dead)) " replaced or deleted" },
            ),
        ],
    )
}

fn retention(app: &App, request: &Request) -> Markup {
    let config = app.config.get();
    let status = app.retention.status();
    let now = app.clock.now();
    let mut rows = vec![(
        "Keep for",
        html! {
            "processed " (config.retention.processed_days.0) " days, failed "
            (config.retention.failed_days.0) " days, deferred " (config.deferred.keep_days.0) " days"
        },
    )];
    if let Some((at, pass)) = &status.last_pass {
        let deleted = pass.deferred_deleted + pass.processed_deleted + pass.failed_deleted;
        rows.push(("Last pass", html! { (ago(*at, now)) ": " (counted(deleted, "crash", "crashes")) " deleted, " (counted(pass.segments_removed, "segment file", "segment files")) " removed" }));
    }
    if let Some((at, audit)) = &status.last_audit {
        rows.push(("Last audit", html! {
            (ago(*at, now)) ": " (counted(audit.crashes, "crash", "crashes")) ", "
            @if audit.is_clean() { "no errors" } @else { span.chip.warn { (audit.misplaced.len()) " in the wrong state, repaired" } }
            @if !audit.damaged.is_empty() { " " span.chip.bad { (audit.damaged.len()) " damaged" } }
        }));
    }
    if let Some(held) = &status.held {
        rows.push(("On hold", html! {
            p { span.chip.warn { "needs confirmation" } " " (ago(held.at, now)) }
            p { (held) }
            @if request.is_admin() && !app.read_only {
                form.inline method="post" action="/status/retention" {
                    button type="submit" { "Delete " (counted(held.plan.due(), "item", "items")) }
                }
            }
        }));
    }
    if let Some(why) = status.error {
        rows.push(("Problem", html! { span.chip.bad { (why) } }));
    }
    facts("Retention", &rows)
}

/// Confirms the waiting pass of retention.
///
/// # Errors
/// Never fails. All handlers have this type.
pub(crate) fn confirm_retention(
    app: &App,
    _: &Request,
    _: &Captures,
) -> Result<Response, WebError> {
    app.retention.confirm();
    Ok(Response::see_other("/status/"))
}

/// Empty if the configuration was not reloaded since the start.
fn configuration(app: &App) -> Markup {
    let Some(reload) = app.config.last_reload() else {
        return html! {};
    };
    let read = ago(reload.at, app.clock.now());
    let outcome = match &reload.outcome {
        Ok(waiting) if waiting.is_empty() => html! { "all settings are active" },
        Ok(waiting) => html! { span.chip.warn { "needs a restart: " (waiting.join(", ")) } },
        Err(why) => html! { span.chip.bad { (why) } " The previous configuration stays active." },
    };
    facts("Configuration", &[("Reloaded", read), ("Result", outcome)])
}

/// Empty if no tracker is configured.
fn bugzilla(app: &App) -> Result<Markup, WebError> {
    let Some(poller) = &app.bugzilla else {
        return Ok(html! {});
    };
    let config = app.config.get();
    let url = &config.bugzilla.url.0;
    let now = app.clock.now();
    let status = poller.status();
    let every = span_text(config.bugzilla.every.0.as_millis() as i64);
    let mut rows = vec![("Server", html! { (url) ", polled every " (every) })];
    rows.push((
        "Last successful poll",
        match app.store.last_pass(url)? {
            Some(at) => html! { (ago(at, now)) },
            None => html! { "none yet" },
        },
    ));
    if let Some((_, pass)) = &status.last_pass {
        rows.push((
            "Found",
            html! {
                (counted(pass.changed as u64, "bug", "bugs")) " added or changed, "
                (number(pass.refreshed as u64)) " others refreshed"
            },
        ));
    }
    if let Some(why) = status.error {
        rows.push(("Problem", html! { span.chip.bad { (shown(&why)) } }));
    }
    Ok(facts("Bug tracker", &rows))
}

/// Rebuilds the index beside the current one, for an admin who does not trust it.
///
/// # Errors
/// Never fails. All handlers have this type.
pub(crate) fn reindex(app: &App, _: &Request, _: &Captures) -> Result<Response, WebError> {
    app.indexer.rebuild();
    Ok(Response::see_other("/status/"))
}

fn index(app: &App, request: &Request) -> Markup {
    let index = app.indexer.status();
    let may_rebuild = request.is_admin() && !app.read_only && index.building.is_none();
    facts(
        "Search index",
        &[
            ("Indexed crashes", html! { (number(index.documents)) }),
            (
                "Not indexed yet",
                html! { (counted(index.changes_waiting, "change", "changes")) },
            ),
            (
                "Rebuild",
                html! {
                    @if may_rebuild {
                        form.inline method="post" action="/status/reindex" { button type="submit" { "Rebuild index" } }
                    } @else { span.faint { "–" } }
                },
            ),
        ],
    )
}
