//! The page of a single report: what crashed, where, and all data that came with it.

use maud::{Markup, html};

use super::scope::Scope;
use super::{
    Page, ago, bugs, bytes_text, counted, evidence, product_path, report_path, shown, shown_whole,
    signature, span_text, stack,
};
use crate::app::App;
use crate::crash::id::CrashId;
use crate::crash::processed::{OtherDump, ProcessedCrash};
use crate::crash::raw::{PartKind, RawCrash};
use crate::crash::walk::{Frame, Module, Thread, Walk};
use crate::fields::{self, redact};
use crate::rights;
use crate::store::{Requested, State, StoredCrash};
use crate::web::{Params, Request, Response, WebError};

/// Modules that a page lists. The API returns all of them.
const MODULES_MAX: usize = 1_000;
/// Threads that a page shows in addition to the crashing one.
const THREADS_MAX: usize = 300;
/// Frames of all those threads together.
const OTHER_FRAMES_MAX: usize = 6_000;
/// Seconds until the page of an unprocessed crash reloads.
const REFRESH_S: u32 = 2;

struct View {
    row: StoredCrash,
    raw: RawCrash,
    processed: Option<ProcessedCrash>,
    /// Damage that was found while reading the crash.
    damage: Vec<String>,
    /// True if the caller may see protected data. Otherwise the view does not contain it.
    sees_protected: bool,
    may_reprocess: bool,
}

/// Opening the page changes nothing, unless the configuration says that it requests a deferred crash.
pub fn report(app: &App, request: &Request, captures: &[String]) -> Result<Response, WebError> {
    let id = parse_id(captures)?;
    if captures[0] != id.to_string() {
        return Ok(Response::see_other(&report_path(id)));
    }
    let mut view = load(app, request, id)?;
    let asks = app.config.get().deferred.process_on_view.value && !is_prefetch(request);
    if view.row.state == State::Deferred && asks && !app.read_only {
        app.store.request(id)?;
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
pub fn reprocess(app: &App, _: &Request, captures: &[String]) -> Result<Response, WebError> {
    let id = parse_id(captures)?;
    match app.store.request(id)? {
        Requested::Queued => Ok(Response::see_other(&report_path(id))),
        Requested::Unknown => Err(no_crash(id)),
    }
}

fn parse_id(captures: &[String]) -> Result<CrashId, WebError> {
    let text = captures.first().map_or("", String::as_str);
    text.parse()
        .map_err(|e| WebError::new(400, format!("{text:?} is {e}")))
}

fn no_crash(id: CrashId) -> WebError {
    WebError::not_found(format!(
        "there is no crash {id}: it was never received here, or it was deleted"
    ))
}

fn load(app: &App, request: &Request, id: CrashId) -> Result<View, WebError> {
    let (_, row) = app.store.crash(id)?.ok_or_else(|| no_crash(id))?;
    let mut damage = Vec::new();
    let sees_protected = request.sees_protected();
    let mut raw = app.store.raw(&row).unwrap_or_else(|error| {
        damage.push(error.to_string());
        RawCrash::default()
    });
    if !sees_protected {
        redact::annotations(&mut raw.annotations);
        raw.metadata.collector_notes.clear();
    }
    let read = |json: Vec<u8>| {
        if sees_protected {
            ProcessedCrash::parse(&json)
        } else {
            ProcessedCrash::parse(&redact::processed(&json)?)
        }
    };
    let processed = match app.store.processed(&row) {
        Ok(json) => json.and_then(|json| match read(json) {
            Ok(processed) => Some(processed),
            Err(error) => {
                damage.push(format!("the processed crash cannot be read: {error}"));
                None
            }
        }),
        Err(error) => {
            damage.push(error.to_string());
            None
        }
    };
    Ok(View {
        row,
        raw,
        processed,
        damage,
        sees_protected,
        may_reprocess: request.may(rights::Scope::Reprocess) && !app.read_only,
    })
}

fn head(app: &App, view: &View) -> Markup {
    let row = &view.row;
    let text = |key: &str| view.processed.as_ref().and_then(|p| p.text(key));
    let product = if row.product.is_empty() {
        "unnamed product"
    } else {
        &row.product
    };
    html! {
        div.head {
            div.crumbs {
                a href="/" { "Home" } " / "
                @if row.product.is_empty() { (product) } @else { a href=(product_path(&row.product)) { (shown(product)) } } " / "
                @if let Some(processed) = &row.processed {
                    a href=(Scope::default().signature_page(&processed.signature)) { "crashes like it" } " / "
                    a href={ (report_path(row.id)) "/signature" } { "why this signature" } " / "
                }
                "report"
            }
            @match &row.processed {
                Some(processed) => h1.signature { (signature(&processed.signature)) },
                None => h1 { "Crash " span.mono { (row.id) } },
            }
            div.chips {
                (state_chip(row))
                @if let Some(reason) = text("reason") {
                    span.chip.bad {
                        (shown(&reason))
                        @if let Some(address) = text("address") { " at " b.mono { (address) } }
                    }
                }
                span.chip { b { (shown(product)) } " " (shown(&row.version)) }
                @if let Some(os) = text("os_pretty_version") {
                    span.chip { (shown(&os)) " " (text("cpu_arch").unwrap_or_default()) }
                }
                @if let Some((index, thread)) = view.processed.as_ref().and_then(|p| p.walk.as_ref()).and_then(Walk::crashing_thread) {
                    span.chip { "thread " (index) @if let Some(name) = &thread.thread_name { " " b { (shown(name)) } } }
                }
                @if view.processed.as_ref().and_then(|p| p.walk.as_ref()).is_some_and(|walk| !walk.partial.is_empty()) {
                    span.chip.warn title="a bound was reached; the notes say which" { "processed in part" }
                }
                @for damage in &view.damage { span.chip.bad { (damage) } }
            }
            div.small.muted {
                span.mono { (row.id) } " · received " (ago(row.received_at(), app.clock.now()))
                " · " a href={ "/api/ProcessedCrash/?crash_id=" (row.id) } { "processed JSON" }
                " · " a href={ "/api/RawCrash/?crash_id=" (row.id) } { "raw JSON" }
            }
            @if view.may_reprocess {
            form.inline method="post" action={ (report_path(row.id)) "/reprocess" } {
                button type="submit" {
                    @match row.state {
                        State::Deferred => "Process now",
                        State::Queued => "Move to the front",
                        _ => "Reprocess",
                    }
                }
            }
            }
        }
    }
}

fn state_chip(row: &StoredCrash) -> Markup {
    html! {
        @match row.state {
            State::Processed => {},
            State::Failed => span.chip.bad { "failed" @if let Some(why) = &row.reason { ": " (shown(why)) } },
            State::Queued => span.chip.warn { "queued" @if let Some(why) = &row.reason { ", after: " (shown(why)) } },
            State::Processing => span.chip.warn { "being walked, attempt " (row.attempts) },
            State::Deferred => span.chip.warn { "deferred by " b { (row.throttle_rule) } },
        }
    }
}

/// A crash without a result: what it waits for, and what is already known.
fn unprocessed(view: &View) -> Markup {
    html! {
        section.panel {
            header { h2 { "Not processed yet" } }
            div.body {
                @match view.row.state {
                    State::Deferred => p {
                        "The throttle rule " code { (view.row.throttle_rule) } " set this report aside. It is kept"
                        @if let Some(until) = view.row.deferred_until_ms {
                            " until " (crate::clock::Timestamp::from_ms(until))
                        }
                        " and walked when somebody asks for it"
                        @if view.may_reprocess { " with the button above." } @else { ", which takes the right to reprocess." }
                    },
                    State::Failed => p { "It was given up. Reprocess it to try again; its files are below." },
                    _ => p { "It is durable and waits for a worker. This page looks again every " (REFRESH_S) " seconds." },
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
        (all_fields(processed))
    }
}

fn no_walk(notes: &[String]) -> Markup {
    html! {
        section.panel {
            header { h2 { "No stack" } }
            div.body {
                @match notes.iter().find(|note| note.contains("minidump")) {
                    Some(why) => p { "There is no stack: " (shown(why)) "." },
                    None => p { "There is no stack, and no reason was noted." },
                }
                p.muted { "Annotations and files are kept as they came; the bytes can be downloaded and tried elsewhere." }
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

fn crashing_thread(walk: &Walk, anchor: &str) -> Markup {
    let Some((index, thread)) = walk.crashing_thread() else {
        return html! {
            section.panel {
                header { h2 { "No crashing thread" } }
                div.body { p { "The dump does not say which thread crashed. All threads are below." } }
            }
        };
    };
    let registers = thread
        .frames
        .first()
        .map(|frame| &frame.registers)
        .filter(|r| !r.is_empty());
    html! {
        section.panel id=(anchor) {
            header {
                h2 { "Crashing thread" }
                span.muted.small { (index) (thread_title(thread)) " · " (frames_text(thread)) }
            }
            @for note in &walk.partial { div.body.small { span.chip.warn { "in part" } " " (shown(note)) } }
            @if thread.frames.is_empty() {
                div.body { p { "The dump holds no stack for this thread." } }
            }
            (stack::frames(thread, true))
            @if let Some(registers) = registers {
                details {
                    summary { "Registers" }
                    dl.facts.registers {
                        @for (name, value) in registers { dt.mono { (name) } dd.mono { (shown(value.as_str().unwrap_or_default())) } }
                    }
                }
            }
        }
    }
}

fn thread_title(thread: &Thread) -> Markup {
    html! {
        @if let Some(name) = thread.thread_name.as_deref().filter(|n| !n.is_empty()) { " · " (shown(name)) }
        @if let Some(error) = thread.last_error_value.as_deref().filter(|error| *error != NO_ERROR) { " · last error " (shown(error)) }
    }
}

/// The last error of a thread whose last call succeeded.
const NO_ERROR: &str = "ERROR_SUCCESS";

fn frames_text(thread: &Thread) -> String {
    let inlines: usize = thread.frames.iter().map(|frame| frame.inlines.len()).sum();
    let frames = counted(thread.frame_count, "frame", "frames");
    if inlines > 0 {
        format!("{frames}, {inlines} inlined")
    } else {
        frames
    }
}

fn other_threads(walk: &Walk, anchor: &str) -> Markup {
    let crashing = walk.crashing_thread().map(|(index, _)| index);
    let others: Vec<(usize, &Thread)> = walk
        .threads
        .iter()
        .enumerate()
        .filter(|(index, _)| Some(*index) != crashing)
        .collect();
    let mut budget = OTHER_FRAMES_MAX;
    let within: Vec<bool> = others
        .iter()
        .map(|(_, thread)| {
            let fits = thread.frames.len() <= budget;
            budget = budget.saturating_sub(thread.frames.len());
            fits
        })
        .collect();
    html! {
        @if !others.is_empty() {
            section.panel id=(anchor) {
                header { h2 { "Other threads" } span.muted.small { (others.len()) } }
                @for ((index, thread), whole) in others.iter().zip(within).take(THREADS_MAX) {
                    details {
                        summary {
                            (index) (thread_title(thread)) ": "
                            span.mono { (shown(&thread.frames.first().map_or("no frames".into(), Frame::place))) }
                        }
                        @if whole {
                            (stack::frames(thread, false))
                        } @else {
                            p.muted.small { (frames_text(thread)) "; the API has them" }
                        }
                    }
                }
                @if others.len() > THREADS_MAX {
                    div.body.small.muted { (others.len() - THREADS_MAX) " more threads; the API has them" }
                }
            }
        }
    }
}

/// The facts that readers look for first, in the order of the catalogue.
const FACTS: [&str; 18] = [
    "date_processed",
    "uptime",
    "process_type",
    "os_pretty_version",
    "os_version",
    "cpu_arch",
    "cpu_info",
    "cpu_count",
    "release_channel",
    "build",
    "install_age",
    "last_crash",
    "last_error_value",
    "moz_crash_reason",
    "abort_message",
    "crashing_thread_name",
    "thread_count",
    "throttle_rule",
];

fn facts(view: &View, processed: &ProcessedCrash) -> Markup {
    let rows = fields::all()
        .iter()
        .filter(|f| FACTS.contains(&f.key))
        .filter_map(|field| {
            let value = processed.text(field.key)?;
            let value = match (
                field.key,
                processed.fields.get(field.key).and_then(|v| v.as_i64()),
            ) {
                ("uptime" | "install_age" | "last_crash", Some(seconds)) => {
                    span_text(seconds.saturating_mul(1000))
                }
                ("date_processed", _) => view.row.received_at().to_string(),
                _ => value,
            };
            Some((field, value))
        });
    let others = processed.walk.as_ref().map_or(0, |w| {
        w.modules
            .iter()
            .filter(|m| m.missing_symbols == Some(true))
            .count()
    });
    html! {
        section.panel {
            header { h2 { "Facts" } }
            div.body {
                dl.facts {
                    @for (field, value) in rows { dt title=(field.description) { (field.title) } dd { (shown(&value)) } }
                    @if let Some(pid) = processed.walk.as_ref().and_then(|w| w.pid) { dt { "Process id" } dd { (pid) } }
                    @if others > 0 {
                        dt { "Symbols" }
                        dd { span.chip.warn { (counted(others as u64, "module", "modules")) " in the stacks without" } }
                    }
                }
            }
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

fn files(view: &View) -> Markup {
    let row = &view.row;
    html! {
        section.panel id="files" {
            header { h2 { "Dumps and attachments" } }
            @if row.parts.is_empty() { div.body.muted { "The report has no files." } } @else {
                ul.files {
                    @for part in &row.parts {
                        @let query = Params(vec![
                            ("crash_id".into(), row.id.to_string()),
                            ("format".into(), "raw".into()),
                            ("name".into(), part.part.name.clone()),
                        ]);
                        li {
                            @if view.sees_protected {
                                a.mono href={ "/api/RawCrash/?" (query.to_query()) } { (shown(&part.part.name)) }
                            } @else if part.part.kind == PartKind::Dump {
                                span.mono { (shown(&part.part.name)) }
                            } @else { "an attachment" }
                            div.small.muted {
                                @if part.part.kind == PartKind::Dump { "minidump, " } @else { "attachment, " }
                                (bytes_text(part.part.bytes))
                                @if let Some(name) = part.part.file_name.as_ref().filter(|_| view.sees_protected) { ", sent as " span.mono { (shown(name)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Characters of long texts on one page, for annotations and for fields each.
const LONG_TEXTS_CHARS_MAX: usize = 400_000;

fn annotations(view: &View) -> Markup {
    let raw = &view.raw;
    let mut budget = LONG_TEXTS_CHARS_MAX;
    html! {
        section.panel id="annotations" {
            header {
                h2 { "Annotations" }
                span.muted.small { (raw.annotations.len()) @if view.sees_protected { " as the client sent them" } @else { " that are public" } }
            }
            @if raw.annotations.is_empty() { div.body.muted { "There are none." } } @else {
                div.scroll {
                    table.pairs {
                        tbody {
                            @for (key, value) in &raw.annotations {
                                tr { th scope="row" { (shown(key)) } td { (long_text(value, &mut budget)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A text of any length. A long text is collapsed behind its first characters. A very long one is truncated,
/// also if `budget`, the remaining characters for texts on this page, is used up.
fn long_text(text: &str, budget: &mut usize) -> Markup {
    const FOLDED: usize = 300;
    const WHOLE: usize = 20_000;
    let Some((fold, _)) = text.char_indices().nth(FOLDED) else {
        return html! { span.value { (shown_whole(text)) } };
    };
    let whole = text
        .char_indices()
        .nth(WHOLE.min(*budget))
        .map_or(text.len(), |(cut, _)| cut);
    *budget = budget.saturating_sub(whole);
    html! {
        details.long {
            summary { span.value { (shown_whole(&text[..fold])) "…" } }
            span.value { (shown_whole(&text[..whole])) }
            @if whole < text.len() { p.muted { "… and more: the raw and processed JSON have all of it" } }
        }
    }
}

fn modules(walk: &Walk, anchor: &str) -> Markup {
    let in_stacks = walk
        .modules
        .iter()
        .filter(|m| symbols_word(m).is_some())
        .count();
    html! {
        section.panel id=(anchor) {
            header {
                h2 { "Modules" }
                span.muted.small { (walk.modules.len()) " loaded, " (in_stacks) " of them in stacks" }
            }
            details open[walk.modules.len() <= 60] {
                summary { "List" }
                div.scroll {
                    table {
                        thead { tr { th { "Module" } th { "Symbols" } th { "Version" } th.hide-s { "Debug id" } th.hide-s { "Code id" } th { "Address" } } }
                        tbody {
                            @for module in walk.modules.iter().take(MODULES_MAX) {
                                tr {
                                    td.mono { (shown(module.filename.as_deref().unwrap_or("unnamed"))) }
                                    td { (symbols(module)) }
                                    td { (shown(module.version.as_deref().unwrap_or_default())) }
                                    td.mono.hide-s { (module.debug_id.as_deref().unwrap_or_default()) }
                                    td.mono.hide-s { (shown(module.code_id.as_deref().unwrap_or_default())) }
                                    td.mono { (module.base_addr.as_deref().unwrap_or_default()) }
                                }
                            }
                        }
                    }
                }
            }
            @if walk.modules.len() > MODULES_MAX {
                div.body.small.muted { (walk.modules.len() - MODULES_MAX) " more modules; the API has them" }
            }
            @if !walk.unloaded_modules.is_empty() {
                details {
                    summary { "Unloaded modules: " (walk.unloaded_modules.len()) }
                    div.scroll {
                        table {
                            thead { tr { th { "Module" } th.hide-s { "Code id" } th { "From" } th { "To" } } }
                            tbody {
                                @for module in walk.unloaded_modules.iter().take(MODULES_MAX) {
                                    tr {
                                        td.mono { (shown(module.filename.as_deref().unwrap_or("unnamed"))) }
                                        td.mono.hide-s { (shown(module.code_id.as_deref().unwrap_or_default())) }
                                        td.mono { (module.base_addr.as_deref().unwrap_or_default()) }
                                        td.mono { (module.end_addr.as_deref().unwrap_or_default()) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What happened to the symbols of a module; `None` if no stack needed them.
fn symbols_word(module: &Module) -> Option<&'static str> {
    match (
        module.corrupt_symbols,
        module.loaded_symbols,
        module.missing_symbols,
    ) {
        (Some(true), ..) => Some("corrupt"),
        (_, Some(true), _) => Some("loaded"),
        (_, _, Some(true)) => Some("missing"),
        _ => None,
    }
}

fn symbols(module: &Module) -> Markup {
    html! {
        @match symbols_word(module) {
            Some("loaded") => span.chip.good { "loaded" },
            Some(word) => span.chip.warn { (word) },
            None => span.faint { "not needed" },
        }
    }
}

fn all_fields(processed: &ProcessedCrash) -> Markup {
    let mut budget = LONG_TEXTS_CHARS_MAX;
    html! {
        section.panel id="fields" {
            details {
                summary { "All fields of the processed crash" }
                div.scroll {
                    table.pairs {
                        tbody {
                            @for field in fields::all() {
                                @if let Some(value) = processed.text(field.key) {
                                    tr { th scope="row" title=(field.description) { (field.title) div.faint.mono { (field.name) } } td { (long_text(&value, &mut budget)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
