//! Searches that the program itself makes. Only the parameters of a URL are parsed from text.

use super::parse::{self, date_range};
use super::{Facet, FacetNode, FieldRef, Filter, Interval, Op, Operand, Query, QueryError, Sort};
use crate::clock::Timestamp;
use crate::fields::{self, Kind, Visibility, name};
use crate::limits;

impl FieldRef {
    /// A built-in field by its constant in [`name`].
    pub(crate) fn of(name: &'static str) -> Self {
        Self::Known(fields::builtin(name))
    }

    pub(super) fn is_visible(&self, may_see_protected: bool) -> bool {
        may_see_protected || self.visibility() != Visibility::Protected
    }
}

impl Filter {
    /// A condition with a checked operand and no pattern.
    pub(crate) fn new(field: FieldRef, op: Op, operand: Operand) -> Self {
        Self {
            field,
            op,
            is_negated: false,
            operand,
            pattern: None,
        }
    }

    /// The condition that a field has exactly this value, which a facet counted or a crash has. `None` if a
    /// field of this kind cannot have it.
    pub(crate) fn equal(field: FieldRef, value: &str) -> Option<Self> {
        let kind = field.kind();
        let op = match kind {
            // `Has` compares words.
            Kind::String => Op::Is,
            Kind::Address if fields::address(value).is_none() => Op::Is,
            // As a parameter, such a value would be read as an operator.
            _ if kind.is_text() && parse::reads_otherwise(value) => Op::Is,
            _ => Op::Has,
        };
        let operand = parse::operand(&field, op, value)?;
        Some(Self::new(field, op, operand))
    }

    pub(crate) fn negated(self) -> Self {
        Self {
            is_negated: !self.is_negated,
            ..self
        }
    }
}

impl From<i64> for Operand {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<String> for Operand {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Timestamp> for Operand {
    fn from(moment: Timestamp) -> Self {
        Self::Date(moment)
    }
}

impl Facet {
    /// Crashes with each value of a field.
    pub(crate) fn terms(field: &'static str) -> Self {
        Self::Terms(FieldRef::of(field))
    }

    /// The number of distinct values of a field.
    pub(crate) fn distinct(field: &'static str) -> Self {
        Self::Cardinality(FieldRef::of(field))
    }

    /// Crashes in each interval of a number.
    pub(crate) fn histogram(field: &'static str, width: f64) -> Self {
        Self::Histogram(FieldRef::of(field), width)
    }

    /// Crashes in each calendar interval of the date of receipt.
    pub(crate) fn over_time(interval: Interval) -> Self {
        Self::DateHistogram(FieldRef::of(name::DATE), interval)
    }
}

impl Query {
    /// A search with these conditions that counts and lists nothing. Missing bounds of the date get the
    /// defaults. Conditions on fields that the caller may not see are left out.
    ///
    /// # Errors
    /// [`QueryError`] if the range of dates is too long.
    pub(crate) fn of(
        filters: impl IntoIterator<Item = Filter>,
        text: Option<String>,
        now: Timestamp,
        may_see_protected: bool,
    ) -> Result<Self, QueryError> {
        let visible = filters
            .into_iter()
            .filter(|filter| filter.field.is_visible(may_see_protected));
        let (dates, others): (Vec<Filter>, Vec<Filter>) = visible.partition(Filter::is_of_date);
        let mut filters = date_range(dates, now)?;
        filters.extend(others);
        Ok(Self {
            with_deferred: filters.iter().any(Filter::includes_deferred),
            filters,
            text,
            facets: Vec::new(),
            facets_size: limits::FACETS_SIZE_MAX,
            columns: Vec::new(),
            sort: Vec::new(),
            results_number: 0,
            results_offset: 0,
            may_see_protected,
        })
    }

    /// Counts this, too.
    pub(crate) fn count(self, facet: Facet) -> Self {
        self.count_path(&[facet])
    }

    /// Counts `inner` inside each value of `outer`.
    pub(crate) fn count_within(self, outer: Facet, inner: Facet) -> Self {
        self.count_path(&[outer, inner])
    }

    fn count_path(mut self, path: &[Facet]) -> Self {
        let is_visible = |facet: &Facet| facet.field().is_visible(self.may_see_protected);
        if path.iter().all(is_visible) {
            FacetNode::insert(&mut self.facets, path);
        }
        self
    }

    /// Lists at most so many values of each facet.
    pub(crate) fn values(mut self, facets_size: usize) -> Self {
        self.facets_size = facets_size;
        self
    }

    /// Lists the values of these columns for up to `number` crashes.
    pub(crate) fn list(mut self, columns: &[&'static str], number: usize) -> Self {
        let columns = columns.iter().map(|name| FieldRef::of(name));
        self.columns = columns
            .filter(|field| field.is_visible(self.may_see_protected))
            .collect();
        self.results_number = number;
        self
    }

    /// Skips the crashes of so many pages.
    ///
    /// # Errors
    /// [`QueryError`] if the page is beyond what a search lists.
    pub(crate) fn skip_pages(mut self, pages: usize) -> Result<Self, QueryError> {
        self.results_offset = pages.saturating_mul(self.results_number);
        parse::check_end(self.results_offset, self.results_number)?;
        Ok(self)
    }

    /// Sorts by a field. Without a sort, the newest crashes come first.
    pub(crate) fn sorted_by(mut self, field: &'static str) -> Self {
        self.sort.push(Sort {
            field: FieldRef::of(field),
            is_descending: false,
        });
        self
    }
}
