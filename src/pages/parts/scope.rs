//! A set of crashes, chosen by conditions: what a page counts, and the URLs that count the same.

use time::Date;
use time::macros::format_description;

use crate::app::App;
use crate::clock::Timestamp;
use crate::fields::{Catalogue, name};
use crate::index::FacetBucket;
use crate::query::{FieldRef, Filter, Op, Operand, Query};
use crate::web::{Params, Request, WebError};

/// Conditions of a search.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scope {
    filters: Vec<Filter>,
    text: Option<String>,
}

impl Scope {
    /// The conditions of a query, including both bounds of the date.
    pub(crate) fn of(query: &Query) -> Self {
        Self {
            filters: query.filters.clone(),
            text: query.text.clone(),
        }
    }

    /// Adds a condition.
    pub(crate) fn when(&self, filter: Filter) -> Self {
        let mut scope = self.clone();
        scope.filters.push(filter);
        scope
    }

    /// Adds the condition that a field has this value. A second value of the same field is an alternative. An
    /// empty value is no condition.
    pub(crate) fn with(&self, field: &'static str, value: &str) -> Self {
        self.with_field(FieldRef::of(field), value)
    }

    /// The same for any field of the catalogue.
    pub(crate) fn with_field(&self, field: FieldRef, value: &str) -> Self {
        equal(field, value).map_or_else(|| self.clone(), |filter| self.when(filter))
    }

    /// Adds the condition that a field does not have this value.
    pub(crate) fn except(&self, field: &'static str, value: &str) -> Self {
        equal(FieldRef::of(field), value)
            .map_or_else(|| self.clone(), |filter| self.when(filter.negated()))
    }

    /// Adds the condition that a field has no value.
    pub(crate) fn lacking(&self, field: FieldRef) -> Self {
        self.when(Filter::new(field, Op::Null, Operand::None))
    }

    /// Adds the condition that a field is true.
    pub(crate) fn is_true(&self, field: &'static str) -> Self {
        self.when(Filter::new(FieldRef::of(field), Op::True, Operand::None))
    }

    pub(crate) fn at_least(&self, field: &'static str, bound: impl Into<Operand>) -> Self {
        self.when(Filter::new(FieldRef::of(field), Op::AtLeast, bound.into()))
    }

    pub(crate) fn below(&self, field: &'static str, bound: impl Into<Operand>) -> Self {
        self.when(Filter::new(FieldRef::of(field), Op::Below, bound.into()))
    }

    /// Removes all conditions on a field.
    pub(crate) fn without(&self, field: &str) -> Self {
        let mut scope = self.clone();
        scope.filters.retain(|filter| !filter.is_on(field));
        scope
    }

    /// Crashes at or after `from` and before `to`.
    pub(crate) fn between(&self, from: Timestamp, to: Timestamp) -> Self {
        self.at_least(name::DATE, from).below(name::DATE, to)
    }

    fn params(&self) -> Vec<(String, String)> {
        let filters = self.filters.iter();
        let mut params: Vec<(String, String)> = filters
            .map(|filter| (filter.field.name(), filter.value_text()))
            .collect();
        params.extend(self.text.iter().map(|text| ("q".to_owned(), text.clone())));
        params
    }

    /// The URL of the search page with these conditions.
    pub(crate) fn search(&self) -> String {
        format!("/search/?{}", Params(self.params()).to_query())
    }

    /// The URL of the page of one signature with these conditions.
    pub(crate) fn signature_page(&self, signature: &str) -> String {
        let mut params = vec![(name::SIGNATURE.to_owned(), signature.to_owned())];
        params.extend(self.without(name::SIGNATURE).params());
        format!("/signature/?{}", Params(params).to_query())
    }

    /// A search with these conditions that counts and lists nothing yet.
    ///
    /// # Errors
    /// 400 if the range of dates is too long.
    pub(crate) fn query(&self, app: &App, request: &Request) -> Result<Query, WebError> {
        let (filters, text) = (self.filters.iter().cloned(), self.text.clone());
        let sees_protected = request.sees_protected();
        Ok(Query::of(filters, text, app.clock.now(), sees_protected)?)
    }
}

/// The condition that a field has this value; `None` if the field cannot have it.
fn equal(field: FieldRef, value: &str) -> Option<Filter> {
    Filter::equal(field, value).filter(|_| !value.is_empty())
}

/// The URL of the page with signatures like this one.
pub(crate) fn alike_page(signature: &str) -> String {
    let params = Params(vec![(name::SIGNATURE.into(), signature.into())]);
    format!("/signature/alike/?{}", params.to_query())
}

/// The text of the condition that a field has this value, as a parameter of a search.
pub(crate) fn condition(catalogue: &Catalogue, field: &str, value: &str) -> String {
    let filter = FieldRef::find(catalogue, field).and_then(|field| equal(field, value));
    filter.map_or_else(|| value.to_owned(), |filter| filter.value_text())
}

/// The start of an interval in a histogram of dates.
pub(crate) fn moment(bucket: &FacetBucket) -> Option<Timestamp> {
    bucket.term.as_str().and_then(Timestamp::parse_rfc3339)
}

/// Converts the parameters of a page to those of SuperSearch: days become bounds of the date.
pub(crate) fn to_filters(params: &Params) -> Result<Vec<(String, String)>, WebError> {
    let mut filters = Vec::new();
    for (name, value) in params.0.iter().filter(|(_, value)| !value.is_empty()) {
        match name.as_str() {
            _ if is_day(name) => {
                let bound = day_bound(name, value).map_err(|why| WebError::bad(name, why))?;
                filters.push((name::DATE.to_owned(), bound));
            }
            "page" => {}
            _ if name.starts_with('_') => {}
            _ => filters.push((name.clone(), value.clone())),
        }
    }
    Ok(filters)
}

/// True if a parameter of a page is a day that limits the date.
pub(crate) fn is_day(name: &str) -> bool {
    matches!(name, "from" | "to")
}

/// The condition on the date for a day. The whole last day is included.
pub(crate) fn day_bound(name: &str, text: &str) -> Result<String, String> {
    let day = Date::parse(text, format_description!("[year]-[month]-[day]"))
        .map_err(|_| format!("{text:?} is not a date; use the form 2026-11-22"))?;
    match name {
        "to" => match day.next_day() {
            Some(next) => Ok(format!("<{next}")),
            None => Err("the date is out of range".to_owned()),
        },
        _ => Ok(format!(">={day}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_carry_the_conditions() {
        let scope = Scope::default()
            .with("product", "A B")
            .with("reason", "SIGSEGV / SI_KERNEL");
        assert_eq!(
            scope.search(),
            "/search/?product=A+B&reason=%3DSIGSEGV+%2F+SI_KERNEL"
        );
        assert_eq!(
            scope.with("signature", "old").signature_page("a | b&c"),
            "/signature/?signature=a+%7C+b%26c&product=A+B&reason=%3DSIGSEGV+%2F+SI_KERNEL"
        );
        let from = Timestamp::from_ms(0);
        assert_eq!(
            Scope::default().between(from, from).search(),
            "/search/?date=%3E%3D1970-01-01T00%3A00%3A00Z&date=%3C1970-01-01T00%3A00%3A00Z"
        );
    }

    #[test]
    fn a_query_s_conditions_hold_both_bounds_of_its_date() {
        let now = Timestamp::from_ms(1_795_338_764_000);
        let params = [("product".to_owned(), "A".to_owned())];
        let query = Query::parse(&Catalogue::builtin(), &params, now, true).expect("a query");
        assert_eq!(
            Scope::of(&query).params(),
            [
                ("date", ">=2026-11-15T09:12:44Z"),
                ("date", "<=2026-11-22T09:12:44Z"),
                ("product", "A")
            ]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
        );
    }

    #[test]
    fn days_become_bounds_of_the_date_and_the_last_one_counts_whole() {
        let params =
            Params::parse("from=2026-11-01&to=2026-11-30&product=A&version=&page=3&_sort=x");
        let filters = to_filters(&params).expect("good days");
        let text: Vec<String> = filters.iter().map(|(n, v)| format!("{n}{v}")).collect();
        assert_eq!(text, ["date>=2026-11-01", "date<2026-12-01", "productA"]);
        let error = to_filters(&Params::parse("from=yesterday")).expect_err("not a date");
        assert_eq!((error.status, error.field.as_deref()), (400, Some("from")));
    }
}
