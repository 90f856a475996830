//! The signature lists: show them, preview a change over all crashes, activate it, and restore an
//! earlier revision.

use maud::{Markup, html};

use super::parts::scope::Scope;
use super::{Page, ago, bar, counted, number, report_path, shown, signature};
use crate::api::signatures::{author, comment, refused, texts_of};
use crate::app::App;
use crate::clock::Timestamp;
use crate::crash::id::CrashId;
use crate::naming::{Group, Groups, Preview, ReviseError};
use crate::signature::{FILES, FIRST_FAMILY, ListTexts, SITE_RULES, STEPS};
use crate::store::signatures::{NewRevision, ResignRow, Revision};
use crate::web::{Captures, Params, Request, Response, WebError};

/// Revisions that the page lists.
const REVISIONS_MAX: usize = 50;
/// Groups per kind on the page. The API returns more.
const GROUPS_MAX: usize = 25;
/// Parts per group.
const PARTS_MAX: usize = 8;
/// Seconds until the page reloads while a re-sign is running.
const REFRESH_S: u32 = 3;

/// Shows the active lists, or those of `revision`, in the form.
///
/// # Errors
/// 400 if `revision` is not a number, 404 if the revision does not exist. 503 while the store cannot be read,
/// 500 if stored data is damaged.
pub(crate) fn lists(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let texts = match request.query.number("revision", 0..)? {
        Some(revision) => texts_of(app, revision)?,
        None => app.naming.active().generator.lists().texts().clone(),
    };
    let view = View::load(
        app,
        Draft::of(texts, app.naming.active().revision),
        Outcome::None,
    )?;
    Ok(view.response(200))
}

/// Shows what the lists in the form would change. Changes nothing.
///
/// # Errors
/// 400 if the form is incomplete. 503 while the store cannot be read, 500 if stored data is damaged. Invalid
/// lists are not an error, but a page with status 400 that contains the user's input.
pub(crate) fn preview(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    preview_of(app, Draft::read(&request.form())?)
}

/// Shows what lists would change, with the form that activates them. Changes nothing.
///
/// # Errors
/// As for [`preview`].
pub(super) fn show_preview(
    app: &App,
    texts: ListTexts,
    comment: String,
    based_on: u64,
) -> Result<Response, WebError> {
    let draft = Draft {
        texts,
        comment,
        based_on,
    };
    preview_of(app, draft)
}

fn preview_of(app: &App, draft: Draft) -> Result<Response, WebError> {
    let (outcome, status) = match app.naming.preview(draft.texts.clone()) {
        Ok(preview) => (Outcome::Previewed(examples(app, &preview)?, preview), 200),
        Err(ReviseError::List(error)) => (Outcome::Refused(error.to_string()), 400),
        Err(other) => return Err(refused(other)),
    };
    Ok(View::load(app, draft, outcome)?.response(status))
}

/// Activates the lists in the form.
///
/// # Errors
/// 400 if the form is incomplete, 503 while the store cannot be written, 500 if stored data is damaged.
/// Invalid lists are not an error, but a page with status 400 that contains the user's input. If another
/// revision became active in the meantime, this page has status 409.
pub(crate) fn apply(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let form = request.form();
    let draft = Draft::read(&form)?;
    let new = NewRevision {
        texts: draft.texts.clone(),
        author: author(request, form.get("author")),
        comment: comment(&draft.comment),
        restores: None,
        based_on: draft.based_on,
    };
    let error = match app.naming.revise(new) {
        Ok(_) => return Ok(Response::see_other("/signatures/")),
        Err(error) => error,
    };
    let refusal = refused(error);
    if refusal.status >= 500 {
        return Err(refusal);
    }
    // The user's input must not be lost.
    let view = View::load(app, draft, Outcome::Refused(refusal.message))?;
    Ok(view.response(refusal.status))
}

/// Activates the lists of an earlier revision again, as a new revision.
///
/// # Errors
/// 400 if the form is incomplete or the lists are invalid, 404 if the revision does not exist, 409 if another
/// revision became active in the meantime, 503 while the store cannot be written, 500 if stored data is
/// damaged.
pub(crate) fn restore(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let form = request.form();
    let restores = form.number("revision", 0..)?;
    let restores = restores.ok_or_else(|| WebError::missing("revision"))?;
    let new = NewRevision {
        texts: texts_of(app, restores)?,
        author: author(request, form.get("author")),
        comment: format!("back to {}", revision_name(restores)),
        restores: Some(restores),
        based_on: based_on(&form)?,
    };
    app.naming.revise(new).map_err(refused)?;
    Ok(Response::see_other("/signatures/"))
}

fn revision_name(revision: u64) -> String {
    match revision {
        0 => "the built-in lists".into(),
        n => format!("revision {n}"),
    }
}

fn based_on(form: &Params) -> Result<u64, WebError> {
    form.number("based_on", 0..)?
        .ok_or_else(|| WebError::missing("based_on"))
}

/// The content of the form.
struct Draft {
    texts: ListTexts,
    comment: String,
    based_on: u64,
}

impl Draft {
    fn of(texts: ListTexts, based_on: u64) -> Self {
        Self {
            texts,
            comment: String::new(),
            based_on,
        }
    }

    fn read(form: &Params) -> Result<Self, WebError> {
        let mut texts = ListTexts::builtin();
        for (file, text) in FILES.into_iter().zip(&mut texts.0) {
            let typed = form.all(file).next();
            let typed = typed.ok_or_else(|| WebError::bad(file, format!("{file} is missing")))?;
            // Browsers send line ends in text areas as CR LF.
            *text = typed.replace("\r\n", "\n");
        }
        Ok(Self {
            texts,
            comment: form.get("comment").unwrap_or_default().to_owned(),
            based_on: based_on(form)?,
        })
    }
}

enum Outcome {
    None,
    Refused(String),
    /// The preview, and the ids of the example crashes of its groups.
    Previewed(Vec<(u64, CrashId)>, Preview),
}

fn examples(app: &App, preview: &Preview) -> Result<Vec<(u64, CrashId)>, WebError> {
    let kinds = [&preview.merges, &preview.splits, &preview.renames];
    let mut ids = Vec::new();
    for group in kinds
        .iter()
        .flat_map(|groups| groups.shown.iter().take(GROUPS_MAX))
    {
        for seq in group
            .parts
            .iter()
            .take(PARTS_MAX)
            .flat_map(|part| &part.examples)
        {
            ids.extend(app.store.crash_at(*seq)?.map(|row| (*seq, row.id)));
        }
    }
    ids.sort_unstable_by_key(|(seq, _)| *seq);
    Ok(ids)
}

struct View {
    draft: Draft,
    outcome: Outcome,
    active: u64,
    revisions: Vec<(u64, Revision)>,
    resigns: Vec<(u64, ResignRow)>,
    may_change: bool,
    now: Timestamp,
}

impl View {
    fn load(app: &App, draft: Draft, outcome: Outcome) -> Result<Self, WebError> {
        Ok(Self {
            draft,
            outcome,
            active: app.naming.active().revision,
            revisions: app.store.list_revisions(REVISIONS_MAX)?,
            resigns: app.store.resigns(REVISIONS_MAX)?,
            may_change: !app.read_only,
            now: app.clock.now(),
        })
    }

    fn running(&self) -> Option<&ResignRow> {
        let newest = self.resigns.first().map(|(_, row)| row);
        newest.filter(|row| row.ended_at_ms.is_none())
    }

    fn response(&self, status: u16) -> Response {
        let mut page = Page::new("Signature lists", "/signatures/");
        // A reload must not discard what the user types or reads.
        let is_watched = matches!(self.outcome, Outcome::None) && self.running().is_some();
        page.refresh_s = (is_watched && self.may_change).then_some(REFRESH_S);
        Response {
            status,
            ..Response::html(page.render(self.markup()))
        }
    }

    fn markup(&self) -> Markup {
        html! {
            div.head {
                div.crumbs { a href="/" { "Home" } " / signature lists" }
                h1 { "Signature lists" }
                p.muted.plain {
                    "They define which frames are irrelevant, which are prefixes, and which start a signature. "
                    "A preview shows the effect of a change on all stored crashes before you apply it. Every change can be undone."
                }
                div.chips {
                    span.chip { "active: " b { (revision_name(self.active)) } }
                    @if let Some(row) = self.running() {
                        span.chip.warn { "updating signatures: " (number(row.looked_at.min(row.total))) " of " (counted(row.total, "crash", "crashes")) ", " (number(row.changed)) " changed" }
                    }
                }
                @if let Some(row) = self.running() { div.by { (bar(row.looked_at, row.total)) } }
            }
            @match &self.outcome {
                Outcome::None => {}
                Outcome::Refused(why) => {
                    section.panel { div.body { span.chip.bad { "not saved" } " " code { (shown(why)) } } }
                }
                Outcome::Previewed(ids, preview) => { (previewed(ids, preview)) }
            }
            (self.form())
            (self.history())
        }
    }

    fn form(&self) -> Markup {
        html! {
            form.lists method="post" action="/signatures/preview" {
                input type="hidden" name="based_on" value=(self.draft.based_on);
                section.panel {
                    header {
                        h2 { "The lists" }
                        span.act { a href="/api/SignatureLists/" { "export" } }
                    }
                    @for (at, (file, text)) in FILES.into_iter().zip(&self.draft.texts.0).enumerate() {
                        @if at == FIRST_FAMILY { (families_help()) }
                        (self.list(file, text))
                    }
                    @if self.may_change {
                        div.body.filters {
                            label { "Comment" input name="comment" value=(self.draft.comment) maxlength="500" placeholder="reason for the change"; }
                            label { "Your name" input name="author" maxlength="100"; }
                            button.primary type="submit" { "Preview" }
                            button type="submit" formaction="/signatures/apply" { "Apply" }
                        }
                    }
                }
            }
        }
    }

    fn list(&self, file: &str, text: &str) -> Markup {
        html! {
            details open[file == SITE_RULES] {
                summary { span.mono { (file) } " " span.faint { (entries_text(text)) } }
                div.body {
                    @if file == SITE_RULES { (site_help()) }
                    // A browser ignores a newline directly after the tag.
                    textarea name=(file) rows="14" spellcheck="false" aria-label=(file) readonly[!self.may_change] { "\n" (text) }
                }
            }
        }
    }

    fn history(&self) -> Markup {
        html! {
            section.panel id="history" {
                header { h2 { "Revisions" } span.muted.small { "you can restore any of them" } }
                div.scroll {
                    table.revisions {
                        thead { tr {
                            th.num { "#" } th { "Date" } th { "Author" } th { "Comment" }
                            th.num { "Crashes changed" } th {}
                        } }
                        tbody {
                            @for (revision, row) in &self.revisions {
                                tr {
                                    td.num { a href={ "/signatures/?revision=" (revision) } { (revision) } }
                                    td.nowrap { (ago(Timestamp::from_ms(row.at_ms), self.now)) }
                                    td { (shown(&row.author)) }
                                    td { (shown(&row.comment)) }
                                    td.num { (self.changed(*revision)) }
                                    td { (self.restore(*revision)) }
                                }
                            }
                            tr {
                                td.num { a href="/signatures/?revision=0" { "0" } }
                                td { span.faint { "–" } } td { "siggen 2.2.20241029" } td { "built in" }
                                td.num { span.faint { "–" } }
                                td { (self.restore(0)) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn changed(&self, revision: u64) -> Markup {
        let row = self.resigns.iter().find(|(of, _)| *of == revision);
        html! {
            @match row {
                Some((_, row)) => {
                    (number(row.changed))
                    @if row.superseded { " " span.faint { "superseded" } }
                    @if row.unreadable > 0 { " " span.chip.bad { (number(row.unreadable)) " unreadable" } }
                }
                None => { span.faint { "–" } }
            }
        }
    }

    fn restore(&self, revision: u64) -> Markup {
        html! {
            @if revision == self.active { span.chip.good { "active" } }
            @else if self.may_change {
                form.inline method="post" action="/signatures/restore" {
                    input type="hidden" name="revision" value=(revision);
                    input type="hidden" name="based_on" value=(self.active);
                    button type="submit" { "Restore" }
                }
            }
        }
    }
}

fn entries_text(text: &str) -> String {
    let is_entry = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let entries = text.lines().filter(is_entry).count();
    counted(entries as u64, "entry", "entries")
}

fn site_help() -> Markup {
    html! {
        p.muted.small {
            "Your own rules, one per line: " code { "irrelevant" } ", " code { "prefix" } ", " code { "line-number" } " or " code { "sentinel" }
            " followed by an entry of that list; " code { "program" } ", " code { "library" } ", " code { "driver" } " or " code { "foreign" } " followed by the file name of a module; "
            code { "off" } " followed by a step or a family; " code { "rename A => B" } "; " code { "merge A* => B" } "; " code { "split A by Annotation" } ". "
            code { "@Product" } " after the first word limits the rule to one product."
        }
    }
}

fn families_help() -> Markup {
    html! {
        div.body {
            h3 { "Families" }
            p.muted.small {
                "What the code of common languages, systems and libraries is to a crash, for the rules " code { "crashkeep" } ". "
                "Each step can be switched off with a site rule, for example " code { "off generic" } " or " code { "off @Product generic" } "."
            }
            div.scroll { table.steps { tbody {
                @for step in STEPS { tr { td { code { (step.name) } } td { (step.what) } } }
            } } }
        }
    }
}

fn previewed(ids: &[(u64, CrashId)], preview: &Preview) -> Markup {
    let figure = |value: u64, label: &str| {
        html! { div.panel.stat { span.v { (number(value)) } span.l { (label) } } }
    };
    html! {
        section.panel {
            header {
                h2 { "Preview: " (counted(preview.changed, "crash changes", "crashes change")) " of " (number(preview.crashes)) }
                span.muted.small { "nothing has been saved yet" }
            }
            div.body {
                div.stats {
                    (figure(preview.merges.count, "merged signatures"))
                    (figure(preview.splits.count, "split signatures"))
                    (figure(preview.renames.count, "renamed signatures"))
                    (figure(preview.signatures_before, "signatures now"))
                    (figure(preview.signatures_after, "signatures after the change"))
                }
                @if preview.unreadable > 0 {
                    p { span.chip.warn { (counted(preview.unreadable, "crash", "crashes")) " not included: the reports are unreadable" } }
                }
            }
        }
        (groups("Merged", "from", &preview.merges, ids))
        (groups("Split", "into", &preview.splits, ids))
        (groups("Renamed", "to", &preview.renames, ids))
    }
}

fn groups(title: &str, direction: &str, groups: &Groups, ids: &[(u64, CrashId)]) -> Markup {
    let more = groups.count.saturating_sub(GROUPS_MAX as u64);
    html! {
        @if groups.count > 0 {
            section.panel {
                header { h2 { (title) } span.muted.small { (number(groups.count)) } }
                div.scroll { table.groups {
                    thead { tr { th { "Signature" } th.num { "Crashes" } th { (direction) } } }
                    tbody {
                        @for group in groups.shown.iter().take(GROUPS_MAX) { (group_row(group, ids)) }
                    }
                } }
                @if more > 0 { div.body.small.muted { (counted(more, "more group", "more groups")) "; see the API" } }
            }
        }
    }
}

fn group_row(group: &Group, ids: &[(u64, CrashId)]) -> Markup {
    let id_of = |seq: &u64| {
        let at = ids.binary_search_by_key(seq, |(seq, _)| *seq).ok()?;
        Some(ids[at].1)
    };
    html! {
        tr {
            td { span.sig { (signature(&group.signature)) } }
            td.num { (number(group.crashes)) }
            td {
                ul.notes {
                    @for part in group.parts.iter().take(PARTS_MAX) {
                        li {
                            b.num { (number(part.crashes)) } " "
                            @if part.signature == group.signature { span.muted { "unchanged" } }
                            @else { a.sig href=(Scope::default().signature_page(&part.signature)) { (signature(&part.signature)) } }
                            span.small.faint {
                                @for (at, id) in part.examples.iter().filter_map(id_of).enumerate() {
                                    @if at == 0 { " for example " } @else { ", " }
                                    a.mono href=(report_path(id)) { (id.to_string().chars().take(8).collect::<String>()) }
                                }
                            }
                        }
                    }
                    @if group.parts.len() > PARTS_MAX { li.faint { "and " (group.parts.len() - PARTS_MAX) " more" } }
                }
            }
        }
    }
}
