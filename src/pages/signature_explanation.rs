//! Explains the signature of a crash: what happened to each frame, and the result of each rule.

use maud::{Markup, html};

use super::parts::rule_form;
use super::parts::scope::Scope;
use super::report::captured_id;
use super::{Page, report_path, shown, signature};
use crate::app::App;
use crate::crash::id::CrashId;
use crate::signature::{Explanation, Fate, FrameStep, ModuleStep, Owner, RuleStep};
use crate::store::StoredCrash;
use crate::web::{Captures, Request, Response, WebError};

/// Shows how a crash gets its signature under the active lists.
///
/// # Errors
/// 400 if the URL has no crash id, 404 if the crash does not exist or is not processed yet, 503 while the store
/// cannot be read, 500 if this crash is damaged.
pub(crate) fn explain(
    app: &App,
    request: &Request,
    captures: &Captures,
) -> Result<Response, WebError> {
    let id = captured_id(captures)?;
    let (seq, row) = app.store.crash(id)?.ok_or_else(|| {
        WebError::not_found(format!(
            "crash {id} does not exist: this server never received it, or it was deleted"
        ))
    })?;
    let told = app.naming.explain(seq, &row)?.ok_or_else(|| {
        let state = row.state.name();
        WebError::not_found(format!(
            "crash {id} is {state}; it gets a signature when it is processed"
        ))
    })?;
    let active = app.naming.active();
    let view = View {
        id,
        row: &row,
        told: &told,
        ruleset: active.generator.ruleset().to_string(),
        revision: active.revision,
        may_change: request.is_admin() && !app.read_only,
    };
    let page = Page::new("Why this signature", "");
    Ok(Response::html(page.render(view.markup())))
}

struct View<'a> {
    id: CrashId,
    row: &'a StoredCrash,
    told: &'a Explanation,
    ruleset: String,
    revision: u64,
    may_change: bool,
}

impl View<'_> {
    fn markup(&self) -> Markup {
        let name = &self.told.signature.text;
        let stored = self.row.processed.as_ref().map(|p| &p.signature);
        html! {
            div.head {
                div.crumbs {
                    a href="/" { "Home" } " / " a href=(report_path(self.id)) { "report" } " / why this signature"
                }
                h1.signature { a href=(Scope::default().signature_page(name)) { (signature(name)) } }
                div.chips {
                    span.chip { "rules " b { (self.ruleset) } }
                    span.chip { "lists " b { @if self.revision == 0 { "built in" } @else { "revision " (self.revision) } } }
                    @if self.told.is_of_first_thread { span.chip.warn { "uses thread 0 instead of the watchdog thread that crashed" } }
                    @if let Some(stored) = stored.filter(|stored| *stored != name) {
                        span.chip.warn { "stored as " b { (shown(stored)) } }
                    }
                }
            }
            (self.frames())
            (self.modules())
            (self.rules())
            @if !self.told.signature.notes.is_empty() {
                section.panel {
                    header { h2 { "Notes of the rules" } }
                    div.body.small { ul.notes { @for note in &self.told.signature.notes { li { (shown(note)) } } } }
                }
            }
        }
    }

    fn frames(&self) -> Markup {
        let frames = &self.told.frames;
        html! {
            section.panel {
                header {
                    h2 { "Frames" }
                    span.muted.small { "callee first; bold frames are part of the signature" }
                }
                @if frames.is_empty() {
                    div.body.muted { "The signature of this crash was not made from a stack." }
                } @else {
                    ol.stack.fates {
                        @for (at, frame) in frames.iter().enumerate() { (frame_row(at, frame)) }
                    }
                }
            }
        }
    }

    fn modules(&self) -> Markup {
        html! {
            @if !self.told.modules.is_empty() {
                section.panel {
                    header { h2 { "Modules" } span.muted.small { "whose code they are" } }
                    div.scroll { table.facet {
                        thead { tr { th { "Module" } th { "Owner" } th { "Because of" } @if self.may_change { th { "Change" } } } }
                        tbody { @for step in &self.told.modules { (self.module_row(step)) } }
                    } }
                }
            }
        }
    }

    fn module_row(&self, step: &ModuleStep) -> Markup {
        html! { tr {
            td { code { (shown(&step.module)) } }
            td { (owner_text(step.owner)) }
            td.small {
                @match (&step.entry, step.owner) {
                    (Some(entry), _) => { (entry.file) ":" (entry.line) " " code { (shown(&entry.text)) } }
                    (None, Owner::Program) => span.muted { "no list names it" },
                    (None, _) => span.muted { "its folder" },
                }
            }
            @if self.may_change { td.nowrap { (rule_form::of_module(&step.module, &self.row.product, step.owner)) } }
        } }
    }

    fn rules(&self) -> Markup {
        html! {
            section.panel {
                header { h2 { "Rules that changed the signature" } span.muted.small { "in order" } }
                @if self.told.rules.is_empty() {
                    div.body.muted { "No rule set a signature." }
                } @else {
                    div.scroll { table.steps {
                        thead { tr { th { "Rule" } th { "Signature after the rule" } } }
                        tbody { @for step in &self.told.rules { (rule_row(step)) } }
                    } }
                }
            }
        }
    }
}

fn owner_text(owner: Owner) -> &'static str {
    match owner {
        Owner::Program => "the program",
        Owner::Library => "a library",
        Owner::Driver => "a driver",
        Owner::Foreign => "another program",
    }
}

fn rule_row(step: &RuleStep) -> Markup {
    html! { tr { td { code { (step.rule) } } td { span.sig { (signature(&step.after)) } } } }
}

fn frame_row(at: usize, frame: &FrameStep) -> Markup {
    let (is_kept, text) = fate_text(frame.fate);
    html! {
        li.sys[!is_kept] {
            span.n { (at) }
            span.fn { @if frame.name.is_empty() { span.faint { "no name" } } @else { (shown(&frame.name)) } }
            span.mod.fate { (text) @if let Some(step) = frame.fate.step() { " " code { (step) } } }
            @for entry in &frame.entries {
                span.src { (entry.file) ":" (entry.line) " " (shown(&entry.text)) }
            }
        }
    }
}

/// Whether a frame is part of the signature, and its fate in words.
fn fate_text(fate: Fate) -> (bool, &'static str) {
    match fate {
        Fate::Nameless => (false, "skipped: no name"),
        Fate::AboveSentinel => (false, "skipped: above a sentinel"),
        Fate::Irrelevant => (false, "skipped: irrelevant"),
        Fate::Repeated => (false, "skipped: same module as the frame before"),
        Fate::Prefix => (true, "kept, prefix: continue"),
        Fate::Last => (true, "kept, last frame"),
        Fate::NotReached => (false, "not reached"),
        Fate::Fallback => (true, "kept: no better frame"),
        Fate::AboveDispatch => (false, "skipped: ran after the crash"),
        Fate::AboveMachinery => (false, "skipped: reports the failure"),
        Fate::Machinery => (false, "skipped: machinery of a failure"),
        Fate::Generic => (false, "skipped: every program calls it"),
        Fate::NamelessLibrary => (false, "skipped: no name, in a system library"),
        Fate::Library => (false, "skipped: in a system library"),
        Fate::LibraryKept => (true, "kept: first function of a library"),
        Fate::Driver => (false, "skipped: in a driver"),
        Fate::DriverKept => (true, "kept: the driver's module"),
        Fate::Cycle => (true, "kept: repeats up to the end of the stack"),
        Fate::Repetition => (false, "skipped: repetition"),
    }
}
