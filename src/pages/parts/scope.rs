//! A set of crashes, chosen by conditions: what a page counts, and the URLs that count the same.

use time::Date;
use time::macros::format_description;

use crate::app::App;
use crate::clock::Timestamp;
use crate::fields::{self, Kind};
use crate::index::{FacetBucket, FacetResult, SearchResult};
use crate::query::{FieldRef, Query};
use crate::web::{Params, Request, WebError};

/// Conditions in the form of search parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(Vec<(String, String)>);

impl Scope {
    /// The conditions of a query, including both bounds of the date.
    pub fn of(query: &Query) -> Self {
        let mut conditions: Vec<(String, String)> = query
            .filters
            .iter()
            .map(|filter| (filter.field.name(), filter.value_text()))
            .collect();
        if let Some(text) = &query.text {
            conditions.push(("q".into(), text.clone()));
        }
        Self(conditions)
    }

    /// Adds a condition in the syntax of a search.
    pub fn when(&self, field: &str, condition: impl Into<String>) -> Self {
        let mut scope = self.clone();
        scope.0.push((field.to_owned(), condition.into()));
        scope
    }

    /// Adds the condition that a field has this value. A second value of the same field is an alternative.
    pub fn with(&self, field: &str, value: &str) -> Self {
        self.when(field, exactly(field, value))
    }

    /// Removes all conditions on a field.
    pub fn without(&self, field: &str) -> Self {
        let mut scope = self.clone();
        scope.0.retain(|(name, _)| name != field);
        scope
    }

    /// Crashes at or after `from` and before `to`.
    pub fn between(&self, from: Timestamp, to: Timestamp) -> Self {
        let date = fields::name::DATE;
        self.when(date, format!(">={}", from.rfc3339()))
            .when(date, format!("<{}", to.rfc3339()))
    }

    /// The URL of the search page with these conditions.
    pub fn search(&self) -> String {
        format!("/search/?{}", Params(self.0.clone()).to_query())
    }

    /// The URL of the page of one signature with these conditions.
    pub fn signature_page(&self, signature: &str) -> String {
        let mut params = vec![(fields::name::SIGNATURE.to_owned(), signature.to_owned())];
        params.extend(self.without(fields::name::SIGNATURE).0);
        format!("/signature/?{}", Params(params).to_query())
    }

    /// Runs a search with additional parameters. Returns only the facets and results that these request.
    pub fn ask(
        &self,
        app: &App,
        request: &Request,
        further: &[(&str, &str)],
    ) -> Result<SearchResult, WebError> {
        let mut params = self.0.clone();
        let mut put = |name: &str, value: &str| params.push((name.into(), value.into()));
        put("_facets", "");
        put("_results_number", "0");
        for (name, value) in further {
            put(name, value);
        }
        let query = Query::parse(&params, app.clock.now(), request.sees_protected())?;
        Ok(app.index.search(&query)?)
    }
}

/// The condition that a field has exactly this value.
pub fn exactly(field: &str, value: &str) -> String {
    let is_read_otherwise = value.starts_with(['!', '=', '~', '^', '$', '@', '<', '>'])
        || value.starts_with("__")
        || value.ends_with('b');
    match FieldRef::find(field).map(|f| f.kind()) {
        Some(Kind::String) => format!("={value}"),
        Some(kind) if kind.is_text() && is_read_otherwise => format!("={value}"),
        _ => value.to_owned(),
    }
}

/// The values that a facet counted.
pub fn buckets<'a>(facets: &'a [(String, FacetResult)], label: &str) -> &'a [FacetBucket] {
    facets
        .iter()
        .find(|(found, _)| found == label)
        .map_or(&[], |(_, facet)| facet.buckets())
}

/// The number of crashes with one value of a facet.
pub fn count_of(facets: &[(String, FacetResult)], label: &str, value: &str) -> u64 {
    buckets(facets, label)
        .iter()
        .find(|bucket| bucket.term.as_str() == Some(value))
        .map_or(0, |bucket| bucket.count)
}

/// The number of distinct values of a field.
pub fn distinct(facets: &[(String, FacetResult)], field: &str) -> u64 {
    let label = format!("cardinality_{field}");
    match facets.iter().find(|(found, _)| *found == label) {
        Some((_, FacetResult::Cardinality(count))) => *count,
        Some((_, FacetResult::Estimate { value, .. })) => *value,
        _ => 0,
    }
}

/// The start of an interval in a histogram of dates.
pub fn moment(bucket: &FacetBucket) -> Option<Timestamp> {
    bucket.term.as_str().and_then(Timestamp::parse_rfc3339)
}

/// Converts the parameters of a page to those of SuperSearch: days become bounds of the date.
pub fn to_filters(params: &Params) -> Result<Vec<(String, String)>, WebError> {
    let mut filters = Vec::new();
    for (name, value) in params.0.iter().filter(|(_, value)| !value.is_empty()) {
        match name.as_str() {
            _ if is_day(name) => {
                let bound = day_bound(name, value).map_err(|why| WebError::bad(name, why))?;
                filters.push((fields::name::DATE.to_owned(), bound));
            }
            "page" => {}
            _ if name.starts_with('_') => {}
            _ => filters.push((name.clone(), value.clone())),
        }
    }
    Ok(filters)
}

/// True if a parameter of a page is a day that limits the date.
pub fn is_day(name: &str) -> bool {
    matches!(name, "from" | "to")
}

/// The condition on the date for a day. The whole last day is included.
pub fn day_bound(name: &str, text: &str) -> Result<String, String> {
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
        let query = Query::parse(&params, now, true).expect("a query");
        assert_eq!(
            Scope::of(&query).0,
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
