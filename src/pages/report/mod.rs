//! The page of a single report: what crashed, where, and all data that came with it.
//!
//! `view` loads the data. The other files are the parts of the page, from top to bottom.

mod evidence;
mod facts;
mod files;
mod frames;
mod head;
mod modules;
mod threads;
mod values;
mod view;

use maud::{Markup, html};

use super::{Page, bugs, counted, report_path, shown};
use crate::app::App;
use crate::crash::id::CrashId;
use crate::crash::processed::{OtherDump, ProcessedCrash};
use crate::store::{Prioritized, State};
use crate::web::{Captures, Request, Response, WebError};
use facts::facts;
use files::files;
use head::head;
use modules::modules;
use threads::{crashing_thread, other_threads};
use values::{all_fields, annotations};
use view::{View, load, no_crash};

/// Seconds until the page of an unprocessed crash reloads.
const REFRESH_S: u32 = 2;

/// Shows a crash. This changes nothing, unless the configuration says that opening the page requests a
/// deferred crash.
///
/// # Errors
/// 400 if the URL has no crash id, 404 if the crash does not exist, 503 while the store cannot be read or a
/// deferred crash cannot be requested, 500 if the row of this crash is damaged. Other damage is shown on the
/// page.
pub(crate) fn report(
    app: &App,
    request: &Request,
    captures: &Captures,
) -> Result<Response, WebError> {
    let id = captured_id(captures)?;
    if captures.get("crash_id") != id.to_string() {
        return Ok(Response::see_other(&report_path(id)));
    }
    let mut view = load(app, request, id)?;
    let asks = app.config.get().deferred.process_on_view.value && !is_prefetch(request);
    if view.row.state == State::Deferred && asks && !app.read_only {
        app.store.prioritize(id)?;
        view = load(app, request, id)?;
    }
    let pending = !app.read_only && matches!(view.row.state, State::Queued | State::Processing);
    let title = match &view.row.processed {
        Some(processed) => processed.signature.clone(),
        None => format!("Crash {id}"),
    };
    let mut page = Page::new(&title, "");
    page.refresh_s = pending.then_some(REFRESH_S);
    let bugs = match &view.processed {
        Some(processed) => bugs::Panel::of_report(app, request, id, processed)?.markup(),
        None => html! {},
    };
    let content = html! {
        (head(app, &view))
        @match &view.processed {
            Some(processed) => (body(&view, processed, &bugs)),
            None => (unprocessed(&view)),
        }
    };
    Ok(Response::html(page.render(content)))
}

/// True if the browser prefetches the page, which no user has opened yet.
fn is_prefetch(request: &Request) -> bool {
    ["sec-purpose", "purpose"]
        .iter()
        .filter_map(|name| request.header(name))
        .any(|purpose| purpose.contains("prefetch"))
}

/// Moves the crash to the priority lane and shows it again.
///
/// # Errors
/// 400 if the URL has no crash id, 404 if the crash does not exist, 503 while the store cannot be written,
/// 500 if this crash is damaged.
pub(crate) fn reprocess(app: &App, _: &Request, captures: &Captures) -> Result<Response, WebError> {
    let id = captured_id(captures)?;
    match app.store.prioritize(id)? {
        Prioritized::Queued => Ok(Response::see_other(&report_path(id))),
        Prioritized::Unknown => Err(no_crash(id)),
    }
}

/// The crash id in the path of the URL.
pub(super) fn captured_id(captures: &Captures) -> Result<CrashId, WebError> {
    let text = captures.get("crash_id");
    text.parse()
        .map_err(|e| WebError::new(400, format!("{text:?} is {e}")))
}

/// A crash without a result: what it waits for, and what is already known.
fn unprocessed(view: &View) -> Markup {
    html! {
        section.panel {
            header { h2 { "Not processed yet" } }
            div.body {
                @match view.row.state {
                    State::Deferred => p {
                        "The throttle rule " code { (view.row.throttle_rule) } " deferred this report. It is kept"
                        @if let Some(until) = view.row.deferred_until_ms {
                            " until " (crate::clock::Timestamp::from_ms(until))
                        }
                        " and processed on request."
                        @if view.may_reprocess { " Use the button above." } @else { " A request needs the right to reprocess." }
                    },
                    State::Failed => p { "Processing failed. Reprocess the crash to try again. Its files are listed below." },
                    _ => p { "The report is stored and waits for a worker. This page reloads every " (REFRESH_S) " seconds." },
                }
            }
        }
        (files(view))
        (annotations(view))
        (notes(&view.raw.metadata.collector_notes))
    }
}

fn body(view: &View, processed: &ProcessedCrash, bugs: &Markup) -> Markup {
    let notes_text = processed.text("processor_notes").unwrap_or_default();
    let collected = view.raw.metadata.collector_notes.iter().cloned();
    let notes_list: Vec<String> = notes_text.lines().map(str::to_owned).collect();
    let notes_list: Vec<String> = collected.chain(notes_list).collect();
    html! {
        div.cols {
            div.stackup {
                @match &processed.walk {
                    Some(walk) => {
                        (crashing_thread(walk, "stack"))
                        (evidence::analysis(walk))
                        (other_threads(walk, "threads"))
                        (evidence::process(walk))
                    }
                    None => (no_walk(&notes_list)),
                }
            }
            div.stackup { (facts(view, processed)) (bugs) (notes(&notes_list)) (files(view)) }
        }
        @if let Some(walk) = &processed.walk { (modules(walk, "modules")) }
        @for (index, (name, dump)) in processed.other_dumps.iter().enumerate() { (other_dump(index + 1, name, dump)) }
        (annotations(view))
        (all_fields(view, processed))
    }
}

fn no_walk(notes: &[String]) -> Markup {
    html! {
        section.panel {
            header { h2 { "No stack" } }
            div.body {
                @match notes.iter().find(|note| note.contains("minidump")) {
                    Some(why) => p { "There is no stack: " (shown(why)) "." },
                    None => p { "There is no stack, and no note says why." },
                }
                p.muted { "Annotations and files are stored as received. You can download the dump and open it in another tool." }
            }
        }
    }
}

/// A dump other than the main one. It is collapsed, because it is about another process.
fn other_dump(number: usize, name: &str, dump: &OtherDump) -> Markup {
    let name = html! { span.mono { (shown(name)) } };
    html! {
        @match &dump.walk {
            Some(walk) => section.panel id={ "dump-" (number) } {
                header {
                    h2 { "Dump " (name) }
                    span.muted.small {
                        (counted(walk.thread_count, "thread", "threads"))
                        @if let Some((_, thread)) = walk.crashing_thread() && let Some(frame) = thread.frames.first() {
                            ", at " span.mono { (shown(&frame.place())) }
                        }
                    }
                }
                details {
                    summary { "Stack, threads and modules" }
                    div.body.stackup {
                        (crashing_thread(walk, &format!("dump-{number}-stack")))
                        (evidence::analysis(walk))
                        (other_threads(walk, &format!("dump-{number}-threads")))
                        (modules(walk, &format!("dump-{number}-modules")))
                    }
                }
            },
            None => section.panel {
                header { h2 { "Dump " (name) } }
                div.body { p { "There is no stack of this dump (" (shown(dump.status.as_deref().unwrap_or("unknown"))) "); the notes say why." } }
            },
        }
    }
}

fn notes(notes: &[String]) -> Markup {
    html! {
        @if !notes.is_empty() {
            section.panel {
                header { h2 { "Notes" } }
                div.body.small { ul.notes { @for note in notes { li { (shown(note)) } } } }
            }
        }
    }
}
