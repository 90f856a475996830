//! Missing symbols: what crashes lack, why, and what would help. Also the results for crashes whose symbols
//! arrived late, and the releases of the stored symbols.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::parts::controls::option;
use super::{Page, ago, bytes_text, counted, number, shown, span_text};
use crate::app::App;
use crate::clock::Timestamp;
use crate::crash::lack::Lack;
use crate::fields::name;
use crate::missing_symbols::{self, Cause, Finding};
use crate::store::reprocess::{self, Reprocessing};
use crate::store::symbols::{Release, StoredSymbols, SymbolChange};
use crate::web::{Captures, Params, Request, Response, WebError};

const REPROCESSINGS: usize = 50;
const MODULES: usize = 200;
const RELEASES: usize = 200;
const CONFLICTS: usize = 50;
/// Releases that are named per module.
const RELEASES_NAMED: usize = 2;
/// Modules that are named per reprocessing job.
const NAMED: usize = 3;
/// Seconds until the page reloads while a reprocessing job is running.
const REFRESH_S: u32 = 2;

/// Shows the missing symbols, the latest reprocessings and the releases.
///
/// # Errors
/// 503 while the store cannot be read, 500 if stored data is damaged.
pub(crate) fn symbols(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let params = &request.query;
    let (product, version) = (params.get(name::PRODUCT), params.get(name::VERSION));
    let kept = app.store.all_symbols()?;
    let view = View {
        reprocessings: {
            let mut found = app.store.reprocessings(REPROCESSINGS)?;
            found.retain(|found| matches!(found.cause, reprocess::Cause::Symbols { .. }));
            found
        },
        findings: missing_symbols::examine(
            &app.store,
            &app.symbol_dirs,
            product,
            version,
            MODULES,
        )?,
        products: app.store.counted_products()?.0,
        product,
        version,
        pinned: app.store.pinned_releases()?,
        kept,
        address: app.address(request),
        may_change: request.is_admin() && !app.read_only,
        now: app.clock.now(),
    };
    let mut page = Page::new("Symbols", "/symbols/");
    let goes_on = view.reprocessings.iter().any(Reprocessing::is_running);
    page.refresh_s = (goes_on && !app.read_only).then_some(REFRESH_S);
    Ok(Response::html(page.render(view.markup())))
}

/// `POST /symbols/pin`: the symbols of a release are never deleted.
///
/// # Errors
/// 400 if the product is missing, 503 while the store cannot be written.
pub(crate) fn pin(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    change_pin(app, request, SymbolChange::Pin)
}

/// `POST /symbols/unpin`: the symbols of a release can be deleted again.
///
/// # Errors
/// 400 if the product is missing, 503 while the store cannot be written.
pub(crate) fn unpin(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    change_pin(app, request, SymbolChange::Unpin)
}

fn change_pin(
    app: &App,
    request: &Request,
    change: fn(Release) -> SymbolChange,
) -> Result<Response, WebError> {
    let form = request.form();
    let product = form.get(name::PRODUCT).ok_or_else(|| {
        WebError::bad(
            name::PRODUCT,
            "product is missing; a release is a product and a version",
        )
    })?;
    let release = Release {
        product: product.to_owned(),
        version: form.get(name::VERSION).unwrap_or_default().to_owned(),
    };
    app.store.change_symbols(vec![change(release)])?;
    Ok(Response::see_other("/symbols/#releases"))
}

struct View<'a> {
    reprocessings: Vec<Reprocessing>,
    findings: Vec<Finding>,
    products: Vec<String>,
    product: Option<&'a str>,
    version: Option<&'a str>,
    pinned: Vec<Release>,
    kept: Vec<StoredSymbols>,
    address: String,
    may_change: bool,
    now: Timestamp,
}

impl View<'_> {
    fn markup(&self) -> Markup {
        let bytes = self.kept.iter().map(|row| row.module.stored_bytes()).sum();
        html! {
            div.head {
                h1 { "Symbols" }
                div.chips {
                    span.chip { b { (number(self.kept.len() as u64)) } "modules stored" }
                    span.chip { b { (bytes_text(bytes)) } "on disk" }
                    span.chip { a href="#releases" { "by release" } }
                    span.chip { a href="/api/MissingSymbols/" { "JSON" } }
                }
                p.plain.muted { "When missing symbols are uploaded, the affected crashes are reprocessed automatically, the newest first. New crashes are processed before them." }
            }
            section.panel {
                header { h2 { "Missing symbols" } span.muted.small { "sorted by the number of affected crashes" } }
                div.body { (self.form()) }
                @if self.findings.is_empty() { (self.nothing_lacks()) } @else { (self.missing()) }
            }
            section.panel {
                header { h2 { "Crashes improved by new symbols" } }
                @if self.reprocessings.is_empty() { div.body.muted { "No crashes have been reprocessed after a symbol upload." } } @else { (reprocessed(&self.reprocessings, self.now)) }
            }
            (self.conflicts())
            (self.releases())
        }
    }

    fn form(&self) -> Markup {
        html! {
            form.filters action="/symbols/" {
                label { "Product" select name=(name::PRODUCT) {
                    (option("", "any", self.product.is_none()))
                    @for product in &self.products { (option(product, &shown(product), Some(product.as_str()) == self.product)) }
                } }
                label { "Version" input name=(name::VERSION) value=[self.version]; }
                div.act { button type="submit" { "Show" } }
            }
        }
    }

    fn nothing_lacks(&self) -> Markup {
        html! {
            div.empty {
                p { "No symbols are missing." }
                @if self.kept.is_empty() {
                    p { "Upload symbols with this command. FOLDER can contain programs and libraries, their debug files (PDB, dSYM, .debug, .dwp), or the output of dump_syms." }
                    pre { "crashkeep symbols add --server " (self.address) " FOLDER" }
                }
            }
        }
    }

    fn missing(&self) -> Markup {
        html! {
            div.scroll { table.top {
                thead { tr { th.num.hide-s { "#" } th.num { "Crashes" } th { "Module" } th { "Cause and fix" } } }
                tbody {
                    @for (at, finding) in self.findings.iter().enumerate() {
                        tr {
                            td.num.hide-s { (at + 1) }
                            td.num { (number(finding.crashes)) }
                            td { (module(finding)) }
                            td { (self.advice(finding)) }
                        }
                    }
                }
            } }
        }
    }

    fn advice(&self, finding: &Finding) -> Markup {
        html! {
            (finding.cause.sentence())
            @if let Cause::OtherBuilds(others) = &finding.cause {
                " The crashes need " span.sig { (shown(&finding.lack.debug_id)) } "; the server has"
                @for other in others {
                    div.small { span.sig { (shown(&other.debug_id)) } " " (ago(other.added_at, self.now)) (versions(&other.releases)) }
                }
            }
            @if let Some(coverage) = &finding.coverage {
                div.small { "Now: " (shown(coverage)) "." }
            }
            @if let Some(command) = finding.command(&self.address) {
                div.small.muted { code { (shown(&command)) } }
            }
        }
    }

    /// Uploads that differ from another one of the same kind that is in use.
    fn conflicts(&self) -> Markup {
        let rows = self
            .kept
            .iter()
            .filter(|row| row.module.uploads.iter().any(|u| u.conflict));
        let rows: Vec<&StoredSymbols> = rows.collect();
        html! {
            @if !rows.is_empty() {
                section.panel {
                    header { h2 { "Conflicting uploads" } span.muted.small { "different files for one debug id: the first is used; to use another, upload it again with replace" } }
                    div.scroll { table {
                        thead { tr { th { "Module" } th { "Upload" } th.num { "Functions" } th.num { "Unwinding" } th { "Uploaded" } th { "State" } } }
                        tbody {
                            @for row in rows.iter().take(CONFLICTS) {
                                @for (at, upload) in row.module.uploads.iter().enumerate() {
                                    tr {
                                        td { @if at == 0 { span.sig { (shown(&row.module.debug_file)) } div.small.faint { (shown(&row.module.debug_id)) } } }
                                        td { (upload.kind.title()) " " span.sig.faint { (upload.sha256.get(..12).unwrap_or_default()) } }
                                        td.num { (number(upload.content.functions)) }
                                        td.num { (number(upload.content.cfi + upload.content.win)) }
                                        td.nowrap { (ago(Timestamp::from_ms(upload.added_at_ms), self.now)) }
                                        td { @if row.module.is_in_use(at) { span.chip.good { "in use" } } @else if upload.conflict { span.chip.warn { "conflict" } } @else { span.chip { "stored" } } }
                                    }
                                }
                            }
                        }
                    } }
                }
            }
        }
    }

    fn releases(&self) -> Markup {
        let mut totals: BTreeMap<Option<&Release>, Total> = BTreeMap::new();
        for row in &self.kept {
            let mut add = |release| totals.entry(release).or_default().add(row);
            if row.releases.is_empty() {
                add(None)
            } else {
                row.releases.iter().for_each(|release| add(Some(release)))
            }
        }
        for pinned in &self.pinned {
            totals.entry(Some(pinned)).or_default();
        }
        html! {
            section.panel id="releases" {
                header { h2 { "Symbols by release" } span.muted.small { "a module can belong to several releases; symbols of pinned releases are never deleted" } }
                @if totals.is_empty() { div.body.muted { "No symbols have been uploaded yet." } } @else {
                    div.scroll { table {
                        thead { tr { th { "Product" } th { "Version" } th.num { "Modules" } th.num { "On disk" } th { "Last used" } @if self.may_change { th {} } } }
                        tbody {
                            @for (release, total) in totals.iter().take(RELEASES) {
                                tr {
                                    @if let Some(release) = release { td { (shown(&release.product)) } td { (shown(&release.version)) } }
                                    @else { td.muted { "no known release" } td {} }
                                    td.num { (number(total.modules)) }
                                    td.num { (bytes_text(total.bytes)) }
                                    td.nowrap { @if let Some(at) = total.used_at_ms { (ago(Timestamp::from_ms(at), self.now)) } @else { span.faint { "never" } } }
                                    @if self.may_change { td { @if let Some(release) = release { (self.pin_button(release)) } } }
                                }
                            }
                        }
                    } }
                }
            }
        }
    }

    fn pin_button(&self, release: &Release) -> Markup {
        let is_pinned = self.pinned.contains(release);
        let action = if is_pinned {
            "/symbols/unpin"
        } else {
            "/symbols/pin"
        };
        html! {
            form.inline method="post" action=(action) {
                input type="hidden" name=(name::PRODUCT) value=(release.product);
                input type="hidden" name=(name::VERSION) value=(release.version);
                button type="submit" { @if is_pinned { "Unpin" } @else { "Pin" } }
            }
        }
    }
}

#[derive(Default)]
struct Total {
    modules: u64,
    bytes: u64,
    used_at_ms: Option<i64>,
}

impl Total {
    fn add(&mut self, row: &StoredSymbols) {
        self.modules += 1;
        self.bytes += row.module.stored_bytes();
        self.used_at_ms = self.used_at_ms.max(row.used_at_ms);
    }
}

fn module(finding: &Finding) -> Markup {
    let named = finding.releases.iter().take(RELEASES_NAMED);
    let more = finding.releases.len().saturating_sub(RELEASES_NAMED);
    html! {
        span.sig { (shown(&finding.lack.debug_file)) }
        div.small { a.sig href=(search(&finding.lack.debug_id)) title="Affected crashes" { (shown(&finding.lack.debug_id)) } }
        div.small.muted {
            @for (at, (release, _)) in named.enumerate() {
                @if at > 0 { ", " }
                (shown(&release.product)) " " (shown(&release.version))
            }
            @if more > 0 { " and " (more) " more" }
        }
    }
}

fn versions(releases: &[Release]) -> Markup {
    html! {
        @for (at, release) in releases.iter().take(RELEASES_NAMED).enumerate() {
            @if at == 0 { ", of " } @else { ", " }
            (shown(&release.product)) " " (shown(&release.version))
        }
    }
}

fn reprocessed(reprocessings: &[Reprocessing], now: Timestamp) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "Uploaded" } th { "Modules" } th.num { "Done" } th { "Result" } th.num.hide-s { "Duration" } } }
            tbody {
                @for row in reprocessings {
                    @let modules = row.cause.modules();
                    @let begun = Timestamp::from_ms(row.begun_at_ms);
                    @let ended = row.ended_at_ms.map(Timestamp::from_ms);
                    tr {
                        td.nowrap { (ago(begun, now)) }
                        td {
                            @for lack in modules.iter().filter_map(|text| Lack::parse(text)).take(NAMED) { div.sig { (shown(&lack.debug_file)) } }
                            @if modules.len() > NAMED { span.muted { "and " (modules.len() - NAMED) " more" } }
                        }
                        td.num { (number(row.done)) " of " (number(row.crashes)) }
                        td {
                            (counted(row.improved, "crash", "crashes")) " improved, "
                            (counted(row.signatures_before, "signature", "signatures")) " became " (number(row.signatures_after))
                        }
                        td.num.hide-s { (span_text(ended.unwrap_or(now).ms_since(begun))) }
                    }
                }
            }
        } }
    }
}

fn search(debug_id: &str) -> String {
    let params = vec![(name::MISSING_SYMBOLS.to_owned(), format!("~{debug_id}"))];
    format!("/search/?{}", Params(params).to_query())
}
