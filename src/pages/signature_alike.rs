//! Signatures whose stacks are like those of one signature: probably the same bug under another name.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::parts::scope::Scope;
use super::{Page, bar, counted, number, shown, signature, text_of};
use crate::app::App;
use crate::clock::{DAY_MS, Timestamp};
use crate::fields::name;
use crate::limits::DATE_RANGE_DAYS_MAX;
use crate::naming::Alike;
use crate::query::Facet;
use crate::web::{Captures, Request, Response, WebError};

/// Signatures on the page.
const ROWS_MAX: usize = 25;
/// Signatures whose versions are compared with those of this one.
const COMPARED_MAX: usize = 5;
/// From this likeness on, one signature may be the other one's successor.
const SUCCESSOR_MIN: f64 = 0.6;
/// From this likeness on, there is a button to join the two.
const JOIN_MIN: f64 = 0.5;
/// Versions of a signature that are compared.
const VERSIONS_MAX: usize = 100;

/// Shows signatures like the one in the parameter `signature`.
///
/// # Errors
/// 400 if the signature is missing, 503 while the store or the index cannot answer, 500 if stored data is
/// damaged.
pub(crate) fn alike(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let text = request.query.get(name::SIGNATURE);
    let text = text.ok_or_else(|| WebError::missing(name::SIGNATURE))?;
    let found = app.naming.alike(text, ROWS_MAX)?;
    let own = Seen::load(app, request, text)?;
    let mut rows = Vec::new();
    for (at, alike) in found.into_iter().enumerate() {
        let change = if at < COMPARED_MAX && alike.likeness >= SUCCESSOR_MIN {
            own.change(
                text,
                &Seen::load(app, request, &alike.signature)?,
                &alike.signature,
            )
        } else {
            None
        };
        rows.push(Row { alike, change });
    }
    let view = View {
        signature: text,
        rows,
        may_change: request.is_admin() && !app.read_only,
    };
    let page = Page::new("Similar signatures", "/topcrashers/");
    Ok(Response::html(page.render(view.markup())))
}

/// The versions in which a signature was seen, of the crashes of the last year.
struct Seen {
    versions: BTreeSet<String>,
    /// The version of the first crash.
    first: Option<(Timestamp, String)>,
}

impl Seen {
    fn load(app: &App, request: &Request, signature: &str) -> Result<Self, WebError> {
        let now = app.clock.now();
        let from = Timestamp::from_ms(now.ms() - (DATE_RANGE_DAYS_MAX - 1) * DAY_MS);
        let scope = Scope::default()
            .with(name::SIGNATURE, signature)
            .between(from, now);
        let query = scope
            .query(app, request)?
            .count(Facet::terms(name::VERSION))
            .values(VERSIONS_MAX)
            .list(&[name::VERSION], 1)
            .sorted_by(name::DATE);
        let result = app.index.search(&query)?;
        let versions = result.facets.terms(name::VERSION).iter();
        let first = result.hits.first();
        let first = first.map(|hit| text_of(result.value(hit, name::VERSION)));
        let first_seen = app.store.first_seen(&[signature.to_owned()])?;
        Ok(Self {
            versions: versions.map(|bucket| text_of(&bucket.term)).collect(),
            first: first_seen.into_values().next().zip(first),
        })
    }

    /// That one signature was no longer seen in the versions in which the other one is.
    fn change(&self, own: &str, other: &Seen, other_signature: &str) -> Option<Change> {
        let ((at, version), (other_at, other_version)) =
            (self.first.as_ref()?, other.first.as_ref()?);
        if !self.versions.is_disjoint(&other.versions) {
            return None;
        }
        Some(if at < other_at {
            Change {
                from: own.to_owned(),
                to: other_signature.to_owned(),
                version: other_version.clone(),
            }
        } else {
            Change {
                from: other_signature.to_owned(),
                to: own.to_owned(),
                version: version.clone(),
            }
        })
    }
}

/// A signature that became another one in a version.
struct Change {
    from: String,
    to: String,
    version: String,
}

struct Row {
    alike: Alike,
    change: Option<Change>,
}

struct View<'a> {
    signature: &'a str,
    rows: Vec<Row>,
    may_change: bool,
}

impl View<'_> {
    fn markup(&self) -> Markup {
        html! {
            div.head {
                div.crumbs {
                    a href="/" { "Home" } " / "
                    a href=(Scope::default().signature_page(self.signature)) { "signature" } " / similar signatures"
                }
                h1.signature { (signature(self.signature)) }
                p.plain.muted.small {
                    "One stack of each signature among the newest crashes is compared. Functions of the program count most, and those near the top."
                }
            }
            section.panel {
                header { h2 { "Similar signatures" } span.muted.small { (counted(self.rows.len() as u64, "signature", "signatures")) } }
                @if self.rows.is_empty() {
                    div.empty { p { "No other signature among the newest crashes has a similar stack." } }
                } @else {
                    div.scroll { table {
                        thead { tr { th { "Signature" } th.num { "Alike" } th {} th.num { "Crashes" } @if self.may_change { th {} } } }
                        tbody { @for row in &self.rows { (self.row(row)) } }
                    } }
                }
            }
        }
    }

    fn row(&self, row: &Row) -> Markup {
        let percent = (row.alike.likeness * 100.0).round() as u64;
        html! {
            tr {
                td {
                    a.sig href=(Scope::default().signature_page(&row.alike.signature)) { (signature(&row.alike.signature)) }
                    @if let Some(change) = &row.change {
                        div.small.muted {
                            span.mono { (shown(&change.from)) } " became " span.mono { (shown(&change.to)) }
                            " in version " b { (shown(&change.version)) }
                        }
                    }
                }
                td.num { (percent) " %" }
                td { (bar(percent, 100)) }
                td.num { (number(row.alike.crashes)) }
                @if self.may_change { td { @if row.alike.likeness >= JOIN_MIN { (self.merge(row)) } } }
            }
        }
    }

    /// Merges the older of the two into the newer one, if their order is known; otherwise the other one into
    /// this one.
    fn merge(&self, row: &Row) -> Markup {
        let (from, to) = match &row.change {
            Some(change) => (change.from.as_str(), change.to.as_str()),
            None => (row.alike.signature.as_str(), self.signature),
        };
        html! {
            form.inline method="post" action="/signatures/rule" {
                input type="hidden" name=(name::SIGNATURE) value=(from);
                input type="hidden" name="kind" value="merge";
                input type="hidden" name="to" value=(to);
                button type="submit" aria-label={ "Preview the merge with " (row.alike.signature) } { "Join" }
            }
        }
    }
}
