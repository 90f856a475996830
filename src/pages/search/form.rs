//! The controls of the search page.

use std::sync::Arc;

use maud::{Markup, html};

use super::{Problem, View};
use crate::fields::{Field, name};
use crate::pages::parts::scope::condition;
use crate::pages::{shown, text_of};
use crate::query::language;

/// Fields with their own input in the form.
const INPUTS: [(&str, &str, &str); 4] = [
    (name::PRODUCT, "Product", "any"),
    (name::VERSION, "Version", "any"),
    (name::SIGNATURE, "Signature", "words, ~part, =exact, ^start"),
    (name::PLATFORM, "Platform", "any"),
];
/// Operators of an additional condition.
const OPS: [(&str, &str); 13] = [
    ("", "has"),
    ("!", "does not have"),
    ("=", "is exactly"),
    ("!=", "is not"),
    ("~", "contains"),
    ("!~", "does not contain"),
    ("^", "starts with"),
    ("$", "ends with"),
    ("@", "matches (regex)"),
    (">=", "at least"),
    ("<", "below"),
    ("__null__", "is missing"),
    ("!__null__", "exists"),
];
/// Values per field that the search box suggests.
const VALUES_MAX: usize = 8;

impl View<'_> {
    pub(super) fn form(&self) -> Markup {
        html! {
            form.search action="/search/" {
                div.box {
                    label { "Search"
                        input type="search" name="q" list="suggestions" autocomplete="off" spellcheck="false"
                            value=(self.params.get("q").unwrap_or_default()) aria-invalid[self.has_problem("q")]
                            placeholder="product:App version:>=1.2 signature~alloc -os:Linux \"words in a stack\"";
                    }
                    button.primary type="submit" { "Search" }
                }
                (self.told("q"))
                datalist id="suggestions" { @for text in self.suggestions() { option value=(text) {} } }
                div.filters {
                    @for (name, title, hint) in INPUTS {
                        label { (title)
                            input type="text" name=(name) value=(self.params.get(name).unwrap_or_default()) placeholder=(hint) aria-invalid[self.has_problem(name)];
                            (self.told(name))
                        }
                    }
                    @for (name, title) in [("from", "From"), ("to", "To")] {
                        label { (title)
                            input type="date" name=(name) value=[self.params.get(name).filter(|_| !self.has_problem(name))] aria-invalid[self.has_problem(name)];
                            (self.told(name))
                        }
                    }
                    div.act { a.small href="/search/" { "Clear" } }
                }
                @for (name, value) in self.others() { input type="hidden" name=(name) value=(value); }
                details {
                    summary { "Add a condition; columns, facets and sort order" }
                    div.body.stackup {
                        div.filters {
                            label { "Field" select name="add_field" {
                                @for field in self.offered(|field| field.flags.form) { option value=(field.name) { (field.title) } }
                            } }
                            label { "Condition" select name="add_op" { @for (op, title) in OPS { option value=(op) { (title) } } } }
                            label { "Value" input type="text" name="add_value"; }
                        }
                        div.filters {
                            (self.choice("_columns", "Columns", |field| field.flags.column))
                            (self.choice("_facets", "Facets", |field| field.flags.facet))
                            label { "Sort by" select name="_sort" {
                                option value="" { "newest first" }
                                @for field in self.offered(|field| field.flags.sort) {
                                    @for (sign, word) in [("", "ascending"), ("-", "descending")] {
                                        @let value = format!("{sign}{}", field.name);
                                        option value=(value) selected[self.params.all("_sort").any(|given| given == value)] { (field.title) ", " (word) }
                                    }
                                }
                            } (self.told("_sort")) }
                        }
                        p.plain.small.muted {
                            "Search syntax: " code { "field:value" } ", " code { "field~part" } ", " code { "field=exact" } ", " code { "field^start" } ", " code { "field$end" } ", "
                            code { "field@regex" } ", " code { "field:>=5" } ", " code { "field:__null__" } "; " code { "-" } " before a condition negates it. "
                            a href="/api/SuperSearchFields/" { "All fields" } "."
                        }
                    }
                }
            }
            (self.chips())
        }
    }

    fn offered(&self, is_offered: fn(&Field) -> bool) -> impl Iterator<Item = &Arc<Field>> {
        let sees_protected = self.sees_protected;
        self.catalogue
            .all()
            .iter()
            .filter(move |field| is_offered(field) && (sees_protected || !field.is_protected()))
    }

    fn choice(&self, param: &str, title: &str, is_offered: fn(&Field) -> bool) -> Markup {
        html! {
            label { (title)
                select name=(param) multiple size="6" {
                    @for field in self.offered(is_offered) {
                        option value=(field.name) selected[self.params.all(param).any(|given| given == field.name)] { (field.title) }
                    }
                }
                (self.told(param))
            }
        }
    }

    fn has_problem(&self, param: &str) -> bool {
        self.asked.problems_of(param).next().is_some()
    }

    fn told(&self, param: &str) -> Markup {
        html! { @for problem in self.asked.problems_of(param) { span.problem role="alert" { (shown(&problem.text)) } } }
    }

    /// Parameters that no control of the form shows.
    fn others(&self) -> Vec<(&str, &str)> {
        let mut seen: Vec<&str> = Vec::new();
        let mut others = Vec::new();
        for (name, value) in &self.params.0 {
            let name = name.as_str();
            // A field can have several conditions. Its input shows the first. The others must be kept too.
            let is_first = !seen.contains(&name);
            seen.push(name);
            let has_input = INPUTS.iter().any(|(input, ..)| *input == name)
                || matches!(name, "q" | "from" | "to");
            let is_choice = matches!(name, "_columns" | "_facets" | "_sort");
            let is_shown = (has_input && is_first) || is_choice || super::is_own(name);
            if !value.is_empty() && !is_shown {
                others.push((name, value.as_str()));
            }
        }
        others
    }

    /// Conditions without a control, each with a link to remove it, and its error if it has one.
    fn chips(&self) -> Markup {
        let others = self.others();
        html! {
            @if !others.is_empty() {
                div.chips {
                    @for (name, value) in others {
                        @let problem = self.problem_of(name, value);
                        span.chip.bad[problem.is_some()] {
                            (shown(name)) " " b { (shown(value)) }
                            @if let Some(problem) = problem { ": " (shown(&problem.text)) " " }
                            a href=(self.without(name, value)) title="Remove this condition" { "✕" }
                        }
                    }
                }
            }
        }
    }

    fn problem_of(&self, name: &str, value: &str) -> Option<&Problem> {
        let is_it = |problem: &&Problem| {
            problem.param == name
                && problem
                    .value
                    .as_deref()
                    .is_none_or(|blamed| blamed == value)
        };
        self.asked.problems.iter().find(is_it)
    }

    fn without(&self, name: &str, value: &str) -> String {
        self.address(|params| params.retain(|(n, v)| n != name || v != value))
    }

    /// Suggestions that extend the text in the search box: fields, and values that occur in the results.
    fn suggestions(&self) -> Vec<String> {
        let typed = self.params.get("q").unwrap_or_default().trim();
        let line = |condition: String| {
            if typed.is_empty() {
                condition
            } else {
                format!("{typed} {condition}")
            }
        };
        let mut lines = Vec::new();
        for (label, facet) in &self.result.facets {
            for bucket in facet.buckets().iter().take(VALUES_MAX) {
                let value = text_of(&bucket.term);
                if self.catalogue.by_name(label).is_some() && value.len() < 100 {
                    let value = condition(self.catalogue, label, &value);
                    lines.push(line(language::write(label, &value)));
                }
            }
        }
        let aliases = language::ALIASES.iter().map(|(short, _)| *short);
        let names = self
            .offered(|field| field.flags.form)
            .map(|field| &*field.name);
        lines.extend(names.chain(aliases).map(|name| line(format!("{name}:"))));
        lines
    }
}
