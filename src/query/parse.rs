//! Parses parameters into a [`Query`].

use super::compile::Budget;
use super::{Facet, FacetNode, FieldRef, Filter, Interval, Op, Operand, Query, QueryError, Sort};
use super::{language, parse_moment};
use crate::clock::{DAY_MS, Timestamp};
use crate::fields::{self, Catalogue, Kind, name};
use crate::limits;
use crate::number::{Fault, number};

const RANGE_DAYS_DEFAULT: i64 = 7;
const COLUMNS_DEFAULT: [&str; 5] = [
    name::UUID,
    name::DATE,
    name::SIGNATURE,
    name::PRODUCT,
    name::VERSION,
];
const FACET_DEFAULT: &str = name::SIGNATURE;

/// A parameter that is a number from 0 to `max`.
struct NumberParam {
    name: &'static str,
    default: usize,
    max: usize,
    /// Socorro's text for a larger number.
    too_large: &'static str,
}

const RESULTS_NUMBER: NumberParam = NumberParam {
    name: "_results_number",
    default: 100,
    max: limits::RESULTS_NUMBER_MAX,
    too_large: "_results_number cannot be greater than 1,000",
};
const RESULTS_OFFSET: NumberParam = NumberParam {
    name: "_results_offset",
    default: 0,
    max: limits::RESULTS_END_MAX,
    too_large: "_results_offset + _results_number cannot be greater than 10,000",
};
const FACETS_SIZE: NumberParam = NumberParam {
    name: "_facets_size",
    default: 50,
    max: limits::FACETS_SIZE_MAX,
    too_large: "_facets_size greater than 10,000",
};

fn error<T>(field: &str, message: impl Into<String>) -> Result<T, QueryError> {
    Err(QueryError::new(field, message))
}

fn bad_value<T>(field: &str, kind: &str, accepted: &str) -> Result<T, QueryError> {
    Err(QueryError {
        accepted: Some(accepted.to_owned()),
        ..QueryError::new(
            field,
            format!("Bad value for parameter {field}: not a valid {kind}"),
        )
    })
}

const INTERVALS: &str = "minute, hour, day, week, month, quarter or year";
const WIDTHS: &str = "a number greater than 0";

impl Query {
    /// Reads SuperSearch parameters and finds their fields in the catalogue. `now` is the end of the default range of dates.
    ///
    /// # Errors
    /// See [`QueryError`], which names the parameter and what is accepted.
    pub fn parse(
        catalogue: &Catalogue,
        params: &[(String, String)],
        now: Timestamp,
        may_see_protected: bool,
    ) -> Result<Self, QueryError> {
        let mut budget = Budget::default();
        Self::parse_within(catalogue, params, now, may_see_protected, &mut budget)
    }

    /// The same for a caller that tries again without the wrong parameters. The patterns of all tries share
    /// one budget.
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub(crate) fn parse_within(
        catalogue: &Catalogue,
        params: &[(String, String)],
        now: Timestamp,
        may_see_protected: bool,
        budget: &mut Budget,
    ) -> Result<Self, QueryError> {
        parse(catalogue, params, now, may_see_protected, budget)
    }
}

fn parse(
    catalogue: &Catalogue,
    params: &[(String, String)],
    now: Timestamp,
    may_see_protected: bool,
    budget: &mut Budget,
) -> Result<Query, QueryError> {
    parse_all(catalogue, params, now, may_see_protected, budget).map_err(|error| {
        // An error about a parameter that occurs once also gets its value.
        let given = params.iter().rfind(|(name, _)| *name == error.field);
        match given {
            Some((_, value)) => error.with_value(value),
            None => error,
        }
    })
}

fn parse_all(
    catalogue: &Catalogue,
    params: &[(String, String)],
    now: Timestamp,
    may_see_protected: bool,
    budget: &mut Budget,
) -> Result<Query, QueryError> {
    if params.len() > limits::QUERY_PARAMS_MAX {
        return error(
            "",
            format!(
                "query has {} parameters; the limit is {}",
                params.len(),
                limits::QUERY_PARAMS_MAX
            ),
        );
    }
    let parser = Parser {
        catalogue,
        params,
        may_see_protected,
    };
    let results_number = parser.number(&RESULTS_NUMBER)?;
    let results_offset = parser.number(&RESULTS_OFFSET)?;
    let facets_size = parser.number(&FACETS_SIZE)?;
    check_end(results_offset, results_number)?;
    let line = parser.values("q").map(str::trim).find(|t| !t.is_empty());
    let line = language::read(catalogue, line.unwrap_or_default(), may_see_protected)?;
    let conditions = params.len() + line.conditions.len();
    if conditions > limits::QUERY_PARAMS_MAX {
        return error(
            "q",
            format!(
                "query has {conditions} parameters and conditions; the limit is {}",
                limits::QUERY_PARAMS_MAX
            ),
        );
    }
    let filters = parser.filters(&line.conditions, now, budget)?;
    Ok(Query {
        with_deferred: filters.iter().any(Filter::includes_deferred),
        filters,
        text: (!line.text.is_empty()).then_some(line.text),
        facets: parser.facets()?,
        facets_size,
        columns: parser.columns()?,
        sort: parser.sort()?,
        results_number,
        results_offset,
        may_see_protected,
    })
}

struct Parser<'p> {
    catalogue: &'p Catalogue,
    params: &'p [(String, String)],
    may_see_protected: bool,
}

impl<'p> Parser<'p> {
    fn values(&self, param: &'p str) -> impl Iterator<Item = &'p str> {
        self.params
            .iter()
            .filter(move |(name, _)| name == param)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a number parameter. If there are several, the last one counts.
    fn number(&self, param: &NumberParam) -> Result<usize, QueryError> {
        let name = param.name;
        let given = self.values(name).map(str::trim).filter(|v| !v.is_empty());
        let Some(text) = given.last() else {
            return Ok(param.default);
        };
        number(name, text, 0..=param.max).or_else(|wrong| match wrong.fault {
            Fault::NotANumber => bad_value(name, "integer", "an integer of 0 or more"),
            Fault::TooSmall => error(name, format!("{name} cannot be negative")),
            Fault::TooLarge => error(name, param.too_large),
        })
    }

    /// The field that a parameter names; `None` if the caller may not see it.
    fn field(&self, param: &str, name: &str) -> Result<Option<FieldRef>, QueryError> {
        let Some(field) = FieldRef::find(self.catalogue, name) else {
            return Err(QueryError::unknown_field(
                self.catalogue,
                param,
                name,
                self.may_see_protected,
            ));
        };
        Ok(Some(field).filter(|field| field.is_visible(self.may_see_protected)))
    }

    fn columns(&self) -> Result<Vec<FieldRef>, QueryError> {
        let mut names: Vec<&str> = self.values("_columns").collect();
        if names.is_empty() {
            names = COLUMNS_DEFAULT.to_vec();
        }
        let mut columns = Vec::new();
        for name in names.into_iter().filter(|n| !n.is_empty()) {
            if let Some(field) = self.field("_columns", name)?
                && !columns.contains(&field)
            {
                columns.push(field);
            }
        }
        Ok(columns)
    }

    fn sort(&self) -> Result<Vec<Sort>, QueryError> {
        let mut sorts = Vec::new();
        for value in self
            .values("_sort")
            .map(str::trim)
            .filter(|v| !v.is_empty())
        {
            let (is_descending, name) = match value.strip_prefix('-') {
                Some(name) => (true, name),
                None => (false, value),
            };
            if let Some(field) = self.field("_sort", name)? {
                sorts.push(Sort {
                    field,
                    is_descending,
                });
            }
        }
        if sorts.len() > limits::SORTS_MAX {
            return error(
                "_sort",
                format!(
                    "_sort has {} fields; the limit is {}",
                    sorts.len(),
                    limits::SORTS_MAX
                ),
            );
        }
        Ok(sorts)
    }

    fn facets(&self) -> Result<Vec<FacetNode>, QueryError> {
        let mut top = Vec::new();
        let mut nodes = 0;
        let given: Vec<&str> = self.values("_facets").collect();
        let names = if given.is_empty() {
            vec![FACET_DEFAULT]
        } else {
            given
        };
        for name in names.into_iter().filter(|n| !n.is_empty()) {
            if let Some(facet) = self.facet("_facets", name)? {
                nodes += FacetNode::insert(&mut top, &[facet]);
            }
        }
        for (param, value) in self.params {
            let parents = if let Some(path) = param.strip_prefix("_aggs.") {
                self.path(param, path, |field| Ok(Facet::Terms(field)))?
            } else if let Some(path) = param.strip_prefix("_histogram.") {
                self.path(param, path, |field| self.histogram(field))?
            } else {
                continue;
            };
            if let (Some(mut path), Some(facet)) = (parents, self.facet(param, value)?) {
                if path.len() >= limits::FACET_DEPTH_MAX {
                    return error(
                        param,
                        format!("facets are nested deeper than {}", limits::FACET_DEPTH_MAX),
                    );
                }
                path.push(facet);
                nodes += FacetNode::insert(&mut top, &path);
            }
        }
        if nodes > limits::FACETS_MAX {
            return error(
                "_facets",
                format!(
                    "query has {nodes} facets; the limit is {}",
                    limits::FACETS_MAX
                ),
            );
        }
        Ok(top)
    }

    /// The fields of `product.version`; `None` if the caller may not see one of them. The key of an
    /// annotation without a field may contain dots, so it takes the rest of the path.
    fn path(
        &self,
        param: &str,
        path: &str,
        facet: impl Fn(FieldRef) -> Result<Facet, QueryError>,
    ) -> Result<Option<Vec<Facet>>, QueryError> {
        let mut facets = Vec::new();
        let mut rest = path;
        while !rest.is_empty() {
            let (name, tail) = match rest.split_once('.') {
                Some(("annotation", _)) | None => (rest, ""),
                Some(pair) => pair,
            };
            rest = tail;
            let Some(field) = self.field(param, name)? else {
                return Ok(None);
            };
            facets.push(facet(field)?);
        }
        Ok((!facets.is_empty()).then_some(facets))
    }

    fn facet(&self, param: &str, value: &str) -> Result<Option<Facet>, QueryError> {
        if let Some(name) = value.strip_prefix("_cardinality.") {
            return Ok(self.field(param, name)?.map(Facet::Cardinality));
        }
        match value.strip_prefix("_histogram.") {
            Some(name) => {
                let field = self.field(param, name)?;
                field.map(|f| self.histogram(f)).transpose()
            }
            None => Ok(self.field(param, value)?.map(Facet::Terms)),
        }
    }

    fn histogram(&self, field: FieldRef) -> Result<Facet, QueryError> {
        let name = field.name();
        let param = format!("_histogram_interval.{name}");
        let given = self
            .params
            .iter()
            .rfind(|(n, _)| *n == param)
            .map(|(_, v)| v.trim());
        match field.kind() {
            Kind::Date => match Interval::by_name(given.unwrap_or("day")) {
                Some(interval) => Ok(Facet::DateHistogram(field, interval)),
                None => bad_value(&param, "interval", INTERVALS),
            },
            Kind::Integer | Kind::Float => match given.unwrap_or("1").parse::<f64>() {
                Ok(width) if width.is_finite() && width > 0.0 => Ok(Facet::Histogram(field, width)),
                _ => bad_value(&param, "interval", WIDTHS),
            },
            kind => {
                let accepted = format!("a date or a number; {name} is {}", kind.name());
                bad_value(
                    &format!("_histogram.{name}"),
                    "date, integer or float",
                    &accepted,
                )
            }
        }
    }

    /// The conditions of the parameters and of the search box.
    fn filters(
        &self,
        typed: &[(String, String)],
        now: Timestamp,
        budget: &mut Budget,
    ) -> Result<Vec<Filter>, QueryError> {
        let mut filters = Vec::new();
        let mut dates = Vec::new();
        let typed_from = self.params.len();
        for (at, (param, value)) in self.params.iter().chain(typed).enumerate() {
            if param.starts_with('_') || param == "q" || value.is_empty() {
                continue;
            }
            let Some(field) = self.field(param, param)? else {
                continue;
            };
            let filter = filter(param, field, value, budget).map_err(|error| {
                let error = error.with_value(value);
                // An error in a condition from the search box is reported for the box.
                let field = if at < typed_from {
                    error.field
                } else {
                    "q".to_owned()
                };
                QueryError { field, ..error }
            })?;
            if filter.is_of_date() {
                dates.push(filter);
            } else {
                filters.push(filter);
            }
        }
        filters.splice(0..0, date_range(dates, now)?);
        Ok(filters)
    }
}

fn filter(
    param: &str,
    field: FieldRef,
    value: &str,
    budget: &mut Budget,
) -> Result<Filter, QueryError> {
    let kind = field.kind();
    let (is_negated, value) = match value.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (op, text) = match value {
        "__null__" => (Op::Null, ""),
        "__true__" if Op::True.suits(kind) => (Op::True, ""),
        _ => Op::PREFIXES
            .into_iter()
            // An operator that the kind does not support is part of the value.
            .filter(|(_, op)| op.suits(kind))
            .find_map(|(prefix, op)| Some((op, value.strip_prefix(prefix)?)))
            .unwrap_or((Op::Has, value)),
    };
    // The user wants a range, but enums have no order. Enum values may start with `<` or `>`, but hardly with
    // a digit after it.
    let is_range = text
        .strip_prefix(['<', '>'])
        .map(|rest| rest.strip_prefix('=').unwrap_or(rest))
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if op == Op::Has && kind == Kind::Enum && is_range {
        let accepted =
            "a value, or a value after = ~ ^ $ @; range operators are not supported for this field";
        return bad_value(param, "enum", accepted);
    }
    if op == Op::Has && kind == Kind::Date {
        return Err(QueryError {
            accepted: Some(accepted(&field)),
            ..QueryError::new(param, format!("{param} must have a prefix operator"))
        });
    }
    let is_number = op == Op::Has || op.is_range();
    if kind == Kind::Address && is_number && fields::address(text).is_none() {
        return bad_value(param, "address", &accepted(&field));
    }
    let Some(operand) = operand(&field, op, text) else {
        return bad_value(param, kind.name(), &accepted(&field));
    };
    let pattern = match &operand {
        Operand::Text(text) => budget.compile(op, text),
        _ => Ok(None),
    };
    let pattern = match pattern {
        Ok(pattern) => pattern,
        Err(why) => {
            return bad_value(
                param,
                "regex",
                &format!("a regular expression that matches the whole value; {why}"),
            );
        }
    };
    Ok(Filter {
        field,
        op,
        is_negated,
        operand,
        pattern,
    })
}

/// The operand of a condition; `None` if a field of this kind cannot have such a value.
pub(super) fn operand(field: &FieldRef, op: Op, text: &str) -> Option<Operand> {
    Some(match (op, field.kind()) {
        (Op::Null | Op::True, _) => Operand::None,
        (_, Kind::String | Kind::Enum | Kind::Version | Kind::Address) => {
            Operand::Text(text.to_owned())
        }
        (_, Kind::Integer) => Operand::Integer(integer(field, text.trim())?),
        (_, Kind::Float) => {
            let number = text.trim().parse().ok();
            Operand::Float(number.filter(|number: &f64| number.is_finite())?)
        }
        (_, Kind::Bool) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "y" | "yes" => Operand::Bool(true),
            "false" | "f" | "0" | "n" | "no" => Operand::Bool(false),
            _ => return None,
        },
        (_, Kind::Date) => Operand::Date(parse_moment(text)?),
    })
}

/// Whether a value without an operator would be read as more than the value.
pub(super) fn reads_otherwise(value: &str) -> bool {
    value.starts_with(['!', '=', '~', '^', '$', '@', '<', '>'])
        || value.starts_with("__")
        // A version such as `145.0b` means all its betas.
        || value.ends_with('b')
}

/// Checks that the listed results are among those that a search can reach.
pub(super) fn check_end(offset: usize, number: usize) -> Result<(), QueryError> {
    if offset.saturating_add(number) > limits::RESULTS_END_MAX {
        return error(RESULTS_OFFSET.name, RESULTS_OFFSET.too_large);
    }
    Ok(())
}

/// The accepted forms of a condition on the field.
fn accepted(field: &FieldRef) -> String {
    let unit = match field {
        FieldRef::Known(field) => field.unit.as_deref(),
        FieldRef::Annotation(_) => None,
    };
    match (field.kind(), unit) {
        (Kind::Integer, Some("s")) => {
            "an integer number of seconds or a duration such as 5min, 2h, 1d, optionally after > >= < <=; or __null__"
        }
        (Kind::Integer, _) => "an integer, optionally after > >= < <=; or __null__",
        (Kind::Float, _) => "a number, optionally after > >= < <=; or __null__",
        (Kind::Bool, _) => "__true__, true, false or __null__",
        (Kind::Date, _) => "a date such as 2026-11-22 or a time such as 2026-11-22T09:12:44Z, after > >= < <=",
        (Kind::String, _) => "a text, optionally after = ~ ^ $ @; or __null__",
        (Kind::Version, _) => "a version, optionally after > >= < <= = ~ ^ $ @; or __null__",
        (Kind::Address, _) => {
            "an address such as 0x7fff0010, optionally after > >= < <=, or a part of an address after = ~ ^ $ @; or __null__"
        }
        (Kind::Enum, _) => "a value, optionally after = ~ ^ $ @; or __null__",
    }
    .to_owned()
}

/// A whole number. For a duration, a unit may follow.
fn integer(field: &FieldRef, text: &str) -> Option<i64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let is_duration = matches!(field, FieldRef::Known(field) if field.unit.as_deref() == Some("s"));
    if !is_duration {
        return None;
    }
    const UNITS: [(&str, i64); 6] = [
        ("min", 60),
        ("s", 1),
        ("m", 60),
        ("h", 3_600),
        ("d", 86_400),
        ("w", 604_800),
    ];
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    number.trim().parse::<i64>().ok()?.checked_mul(*factor)
}

/// The tightest lower and upper bound. Missing bounds get Socorro's defaults.
pub(super) fn date_range(given: Vec<Filter>, now: Timestamp) -> Result<Vec<Filter>, QueryError> {
    let mut lower: Option<(Timestamp, Op)> = None;
    let mut upper: Option<(Timestamp, Op)> = None;
    let mut others = Vec::new();
    for filter in given {
        let Operand::Date(moment) = filter.operand else {
            continue;
        };
        // "Not after" means "at most", and so on.
        let op = match (filter.is_negated, filter.op) {
            (true, Op::Above) => Op::AtMost,
            (true, Op::AtLeast) => Op::Below,
            (true, Op::Below) => Op::AtLeast,
            (true, Op::AtMost) => Op::Above,
            (_, op) => op,
        };
        match op {
            // At the same moment, the strict bound is the tighter one.
            Op::Above | Op::AtLeast => {
                let tighter = |(m, o)| (moment, op == Op::Above) > (m, o == Op::Above);
                if lower.is_none_or(tighter) {
                    lower = Some((moment, op));
                }
            }
            Op::Below | Op::AtMost => {
                let tighter = |(m, o)| (moment, op != Op::Below) < (m, o != Op::Below);
                if upper.is_none_or(tighter) {
                    upper = Some((moment, op));
                }
            }
            _ => others.push(filter),
        }
    }
    let upper = upper.unwrap_or((now, Op::AtMost));
    let lower = lower.unwrap_or_else(|| {
        let start = upper.0.ms().saturating_sub(RANGE_DAYS_DEFAULT * DAY_MS);
        (Timestamp::from_ms(start), Op::AtLeast)
    });
    if upper.0.ms().saturating_sub(lower.0.ms()) > limits::DATE_RANGE_DAYS_MAX * DAY_MS {
        let text = format!(
            "Date range is bigger than {} days",
            limits::DATE_RANGE_DAYS_MAX
        );
        return Err(QueryError {
            accepted: Some("a shorter date range: date=>=... and date=<...".to_owned()),
            ..QueryError::new(name::DATE, text)
        }
        .with_value(&format!("{} to {}", lower.0.rfc3339(), upper.0.rfc3339())));
    }
    let bounds = [lower, upper]
        .map(|(moment, op)| Filter::new(FieldRef::of(name::DATE), op, Operand::Date(moment)));
    Ok(bounds.into_iter().chain(others).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_338_764_123);

    fn params(text: &str) -> Vec<(String, String)> {
        form_urlencoded::parse(text.as_bytes())
            .into_owned()
            .collect()
    }

    fn query(text: &str) -> Query {
        Query::parse(&Catalogue::builtin(), &params(text), NOW, true)
            .unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    /// The conditions without those of the date.
    fn conditions(text: &str) -> Vec<String> {
        let filters = query(text).filters.split_off(2);
        filters
            .iter()
            .map(|f| format!("{} {:?} {}", f.field.name(), f.op, f.value_text()))
            .collect()
    }

    #[test]
    fn conditions_in_the_search_box_count_like_parameters() {
        let ask = |params: usize, typed: usize| {
            let mut all = vec![("product".to_owned(), "a".to_owned()); params];
            all.push(("q".to_owned(), "sig:x ".repeat(typed)));
            Query::parse(&Catalogue::builtin(), &all, NOW, true).map(|query| query.filters.len())
        };
        let max = limits::QUERY_PARAMS_MAX;
        assert!(ask(max / 2, max / 2 - 1).is_ok());
        let error = ask(max / 2, max / 2).expect_err("one too many");
        assert!(
            error
                .message
                .contains("parameters and conditions; the limit is"),
            "{error}"
        );
        assert!(ask(0, max * 4).is_err());
    }

    #[test]
    fn a_prefix_is_the_operator_where_the_kind_knows_it() {
        fn check(text: &str, expected: &str) {
            assert_eq!(conditions(text), [expected], "{text}");
        }
        check("signature=foo", "signature Has foo");
        check("signature=%3Dfoo", "signature Is =foo");
        check("signature=!~foo", "signature Contains !~foo");
        check("signature=^foo", "signature Starts ^foo");
        check("signature=$foo", "signature Ends $foo");
        check("signature=@fo%2B", "signature Regex @fo+");
        check("signature=!__null__", "signature Null !__null__");
        check("product=%3DFirefox", "product Is =Firefox");
        check("product=~Fire", "product Contains ~Fire");
        check("uptime=>=5min", "uptime AtLeast >=300");
        check("q=product:!Firefox", "product Has !Firefox");
        check("uptime=>=5", "uptime AtLeast >=5");
        check("uptime=<5", "uptime Below <5");
        check("version=>=99.0b2", "version AtLeast >=99.0b2");
        check("startup_crash=__true__", "startup_crash True __true__");
        check("startup_crash=Y", "startup_crash Has true");
        check("signature=__true__", "signature Has __true__");
        check("os_name=Linux", "platform Has Linux");
        check("annotation.guid=x", "annotation.guid Has x");
        check("annotation.ProductName=x", "product Has x");
        assert_eq!(conditions("signature="), [] as [&str; 0]);
    }

    #[test]
    fn dates_get_one_lower_and_one_upper_bound() {
        fn check(text: &str, lower: &str, upper: &str) {
            let filters = query(text).filters;
            let found: Vec<_> = filters.iter().take(2).map(Filter::value_text).collect();
            assert_eq!(found, [lower, upper], "{text}");
        }
        check(
            "",
            ">=2026-11-15T09:12:44.123Z",
            "<=2026-11-22T09:12:44.123Z",
        );
        check(
            "date=<2026-11-02",
            ">=2026-10-26T00:00:00Z",
            "<2026-11-02T00:00:00Z",
        );
        check(
            "date=>2026-11-02",
            ">2026-11-02T00:00:00Z",
            "<=2026-11-22T09:12:44.123Z",
        );
        check(
            "date=>=2026-11-02&date=>2026-11-02&date=<2026-11-09&date=<=2026-11-10",
            ">2026-11-02T00:00:00Z",
            "<2026-11-09T00:00:00Z",
        );
    }

    #[test]
    fn bad_parameters_are_told_in_socorros_words() {
        fn check(text: &str, message: &str) {
            let error =
                Query::parse(&Catalogue::builtin(), &params(text), NOW, true).expect_err(text);
            assert_eq!(error.message, message, "{text}");
        }
        check("date=2026-11-02", "date must have a prefix operator");
        check("date=>2025-01-01", "Date range is bigger than 365 days");
        check(
            "date=>soon",
            "Bad value for parameter date: not a valid date",
        );
        check(
            "_results_number=1001",
            "_results_number cannot be greater than 1,000",
        );
        check("_results_number=-1", "_results_number cannot be negative");
        check("_facets_size=10001", "_facets_size greater than 10,000");
        check(
            "_results_offset=9901",
            "_results_offset + _results_number cannot be greater than 10,000",
        );
        check("_columns=nope", "Unknown field 'nope'");
        check("_facets=nope", "Unknown field 'nope'");
        check("_sort=-nope", "Unknown field 'nope'");
        check("nope=1", "Unknown field 'nope'");
        check(
            "uptime=soon",
            "Bad value for parameter uptime: not a valid integer",
        );
        check(
            "startup_crash=perhaps",
            "Bad value for parameter startup_crash: not a valid bool",
        );
        check(
            "signature=@(",
            "Bad value for parameter signature: not a valid regex",
        );
        check(
            "_histogram.product=version",
            "Bad value for parameter _histogram.product: not a valid date, integer or float",
        );
    }

    #[test]
    fn protected_fields_are_dropped_for_those_who_may_not_see_them() {
        let text = "url=~x&_columns=url&_columns=uuid&_facets=url&_aggs.url=product\
                    &_aggs.product=url&_sort=url&annotation.guid=1";
        let query = Query::parse(&Catalogue::builtin(), &params(text), NOW, false).unwrap();
        assert_eq!(query.filters.len(), 2);
        assert_eq!(query.columns.len(), 1);
        assert_eq!((query.facets.len(), query.sort.len()), (0, 0));
    }

    #[test]
    fn facets_make_a_tree() {
        let query = query(
            "_facets=product&_aggs.product.version=platform&_aggs.product=_cardinality.install_time",
        );
        let [product] = &query.facets[..] else {
            panic!("one facet at the top")
        };
        assert_eq!(product.facet.label(), "product");
        let children: Vec<_> = product.children.iter().map(|n| n.facet.label()).collect();
        assert_eq!(children, ["version", "cardinality_install_time"]);
        assert_eq!(product.children[0].children[0].facet.label(), "platform");
    }

    #[test]
    fn a_query_prints_as_parameters_that_parse_back_to_it() {
        for text in [
            "",
            "q=foo+%22bar+baz%22+product:~x+-os:%22a+b%22&_facets=&_columns=&_results_number=0",
            "signature=!~a&signature=!^b&signature=%3Dc&product=Firefox&product=Fenix&uptime=>5",
            "date=>=2026-11-02T01:02:03.004&date=<2026-11-09&startup_crash=!__true__&version=!__null__",
            "_facets=product&_facets=_histogram.date&_histogram_interval.date=week&_facets_size=3",
            "_aggs.product.version=platform&_aggs.product.version=_cardinality.install_time",
            "_histogram.date=product&_histogram.uptime=_cardinality.signature&_histogram_interval.uptime=2.5",
            "_sort=-date&_sort=product&_columns=annotation.a.b&annotation.a.b=~x&_aggs.annotation.a.b=url",
            "uptime_ts=>=0.25&crashing_thread=0&_results_number=7&_results_offset=9",
        ] {
            let query = query(text);
            let printed = query.to_params();
            assert_eq!(
                Query::parse(&Catalogue::builtin(), &printed, NOW, true).as_ref(),
                Ok(&query),
                "{text}: {printed:?}"
            );
        }
    }
}
