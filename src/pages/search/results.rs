//! The results of a search: crashes, and counts of them.

use maud::{Markup, html};
use serde_json::Value;

use super::{COLUMNS, PER_PAGE, View};
use crate::fields::name;
use crate::index::{FacetBucket, FacetResult};
use crate::limits;
use crate::pages::parts::scope::{Scope, condition};
use crate::pages::{bar, counted, minute, number, report_path, shown, signature, text_of};
use crate::query::{FieldRef, Sort};

/// Buckets inside a bucket on a page.
const INNER_MAX: usize = 6;
/// Default columns that a narrow page omits.
const WIDE_ONLY: [&str; 2] = [name::PLATFORM, name::REASON];

impl View<'_> {
    pub(super) fn hits(&self) -> Markup {
        let page_alone = [
            "_results_offset",
            "_results_number",
            "_facets",
            "_facets_size",
        ];
        let all = self.as_params(&page_alone);
        html! {
            section.panel {
                header {
                    h2 { (counted(self.result.total, "crash", "crashes")) }
                    span.muted.small { (self.range()) }
                    span.act {
                        a href={ "/api/SuperSearch/?" (self.as_params(&[])) } { "as JSON" }
                        a href={ "/api/SearchExport/?format=csv&" (all) } { "CSV of all" }
                        a href={ "/search/feed.atom?" (self.as_params(&["_results_offset", "_results_number", "_facets", "_facets_size", "_columns", name::DATE])) } { "Feed" }
                    }
                }
                (self.table())
                (self.pager())
            }
        }
    }

    fn range(&self) -> String {
        let (from, to) = self.asked.query.date_range();
        let text =
            |at: Option<crate::clock::Timestamp>| at.map_or("any time".into(), |at| at.to_string());
        format!("received from {} to {}", text(from), text(to))
    }

    fn table(&self) -> Markup {
        if self.result.hits.is_empty() {
            return html! {
                div.empty {
                    p { "No crashes found. Remove a condition, or choose an earlier start date. Without dates, a search covers the last seven days." }
                }
            };
        }
        let columns = &self.asked.query.columns;
        let names: Vec<String> = columns.iter().map(FieldRef::name).collect();
        let id_at = names.iter().position(|n| n == name::UUID).unwrap_or(0);
        // If the page added the id itself, it is only used for the link.
        let is_hidden =
            |at: usize| at == id_at && !self.params.all("_columns").any(|n| n == name::UUID);
        let is_default = COLUMNS
            .iter()
            .all(|column| names.iter().any(|n| n == column));
        let is_wide = |n: &str| is_default && WIDE_ONLY.contains(&n);
        let shown_at: Vec<usize> = (0..names.len()).filter(|at| !is_hidden(*at)).collect();
        let has_date = names.iter().any(|n| n == name::DATE);
        let scope = Scope::of(&self.asked.query);
        html! {
            div.scroll {
                table.hits {
                    thead { tr {
                        @if !has_date { th { "Report" } }
                        @for &at in &shown_at { th.hide-s[is_wide(&names[at])] { (self.heading(&columns[at])) } }
                    } }
                    tbody {
                        @for hit in &self.result.hits {
                            @let report = report_path(text_of(&hit.values[id_at]));
                            tr {
                                @if !has_date { td { a href=(report) { "open" } } }
                                @for &at in &shown_at {
                                    @let value = &hit.values[at];
                                    td.hide-s[is_wide(&names[at])].nowrap[names[at] == name::DATE] { (cell(&names[at], value, &report, &scope)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// The title of a column. A click sorts by it: first ascending, then descending, then newest first.
    fn heading(&self, field: &FieldRef) -> Markup {
        let name = field.name();
        let sorted = self
            .asked
            .query
            .sort
            .first()
            .filter(|sort| sort.field == *field);
        let (next, mark) = match sorted {
            None => (Some(name.clone()), ""),
            Some(Sort {
                is_descending: false,
                ..
            }) => (Some(format!("-{name}")), " ↑"),
            Some(Sort {
                is_descending: true,
                ..
            }) => (None, " ↓"),
        };
        let address = self.address(|params| {
            params.retain(|(n, _)| n != "_sort");
            params.extend(next.map(|next| ("_sort".to_owned(), next)));
        });
        html! { a href=(address) title="Sort" { (title(field)) (mark) } }
    }

    fn pager(&self) -> Markup {
        let page = self.asked.page;
        let own_window = self
            .params
            .get("_results_number")
            .or(self.params.get("_results_offset"));
        let reachable = (self.result.total as usize).min(limits::RESULTS_END_MAX);
        let last = reachable.div_ceil(PER_PAGE).max(1);
        let to =
            |page: usize| self.address(|params| params.push(("page".into(), page.to_string())));
        html! {
            @if last > 1 && own_window.is_none() {
                div.pager {
                    @if page > 1 { a href=(to(page - 1)) { "Newer" } }
                    span.muted { "page " (page) " of " (number(last as u64)) }
                    @if page < last { a href=(to(page + 1)) { "Older" } }
                }
            }
        }
    }

    /// The search with exactly this value of a field, instead of any other conditions on the field.
    fn narrowed(&self, name: &str, value: &str) -> String {
        let value = condition(self.catalogue, name, value);
        self.address(|params| {
            params.retain(|(n, _)| n != name);
            params.push((name.to_owned(), value));
        })
    }

    pub(super) fn facets(&self) -> Markup {
        html! {
            @for (label, facet) in &self.result.facets {
                @match facet {
                    FacetResult::Buckets(buckets) if buckets.is_empty() => {},
                    FacetResult::Buckets(buckets) => section.panel {
                        header { h2 { (self.facet_title(label)) } }
                        div.scroll { table.facet { tbody {
                            @for bucket in buckets { (self.bucket(label, bucket)) }
                        } } }
                    },
                    distinct => section.panel { div.stat {
                        span.v { (distinct_text(distinct)) }
                        span.l { "distinct: " (self.facet_title(label.trim_start_matches("cardinality_"))) }
                    } },
                }
            }
        }
    }

    fn facet_title(&self, label: &str) -> String {
        let (word, name) = match label.strip_prefix("histogram_") {
            Some(name) => (" histogram", name),
            None => ("", label),
        };
        let field = FieldRef::find(self.catalogue, name);
        let title = field.map_or(name.to_owned(), |field| title(&field));
        format!("{title}{word}")
    }

    fn bucket(&self, label: &str, bucket: &FacetBucket) -> Markup {
        let value = text_of(&bucket.term);
        let is_field = FieldRef::find(self.catalogue, label).is_some();
        html! {
            tr {
                td {
                    @if is_field { a.sig href=(self.narrowed(label, &value)) { (value_text(label, &value)) } }
                    @else { (value_text(label, &value)) }
                    @for (inner, facet) in &bucket.facets {
                        div.small.muted {
                            (self.facet_title(inner)) ": "
                            @match facet {
                                FacetResult::Buckets(buckets) => @for (at, bucket) in buckets.iter().take(INNER_MAX).enumerate() {
                                    @if at > 0 { ", " } (value_text(inner, &text_of(&bucket.term))) " " b.num { (number(bucket.count)) }
                                },
                                distinct => b.num { (distinct_text(distinct)) },
                            }
                        }
                    }
                }
                td.num { (number(bucket.count)) }
                td { (bar(bucket.count, self.result.total)) }
            }
        }
    }
}

fn cell(name: &str, value: &Value, report: &str, scope: &Scope) -> Markup {
    let text = text_of(value);
    html! {
        @match name {
            name::DATE => a href=(report) title="Open the report" { (minute(&text)) },
            name::UUID => a.mono href=(report) { (text) },
            name::SIGNATURE if !value.is_null() => a.sig href=(scope.signature_page(&text)) { (signature(&text)) },
            _ if value.is_null() => span.faint { "–" },
            _ => (shown(&text)),
        }
    }
}

fn distinct_text(facet: &FacetResult) -> String {
    match facet {
        FacetResult::Cardinality(value) => number(*value),
        FacetResult::Estimate { value, error } => {
            format!("{} ± {}", number(*value), number(*error))
        }
        FacetResult::Buckets(buckets) => number(buckets.len() as u64),
    }
}

fn value_text(label: &str, value: &str) -> Markup {
    html! {
        @if label == name::SIGNATURE { (signature(value)) }
        @else if label == "histogram_date" { (value.get(..10).unwrap_or(value)) }
        @else { (shown(value)) }
    }
}

fn title(field: &FieldRef) -> String {
    match field {
        FieldRef::Known(field) => field.title.to_string(),
        FieldRef::Annotation(key) => key.clone(),
    }
}
