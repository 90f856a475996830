//! A search as a value: the meaning of SuperSearch parameters, checked against the field catalogue.
//!
//! [`Query::parse`] reads parameters and [`Query::to_params`] prints them. Fields that the caller may not see
//! are dropped when the parameters are read, so later code does not have to check this again. This module
//! never touches the index. Source: Socorro's SuperSearch. One difference: Socorro combines negated
//! conditions on one field with OR, which matches nearly everything; we combine them with AND.

mod compile;
mod dates;
pub mod language;
mod parse;

use crate::clock::Timestamp;
use crate::fields::{self, Field, Kind, Visibility};

pub use compile::{Budget, Compiled};
pub use dates::{Interval, parse_moment};

/// Why parameters are not a query. `message` is the API's answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// The parameter.
    pub field: String,
    /// Its value, if the value is wrong.
    pub value: Option<String>,
    pub message: String,
    /// What is accepted instead.
    pub accepted: Option<String>,
    /// The field that was most likely meant.
    pub nearest: Option<&'static str>,
}

impl QueryError {
    fn new(field: &str, message: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            value: None,
            message: message.into(),
            accepted: None,
            nearest: None,
        }
    }

    fn with_value(mut self, value: &str) -> Self {
        self.value.get_or_insert_with(|| value.to_owned());
        self
    }

    /// The error for an unknown field. `sees_protected` determines which names a hint may contain.
    fn unknown_field(param: &str, name: &str, sees_protected: bool) -> Self {
        Self {
            nearest: fields::nearest(name, sees_protected),
            accepted: Some(
                "a name that /api/SuperSearchFields/ lists, or annotation.<Key>".to_owned(),
            ),
            // In a condition the parameter itself is the unknown name, and its value is added later.
            value: (param != name).then(|| name.to_owned()),
            ..Self::new(param, format!("Unknown field '{name}'"))
        }
    }
}

/// A field of the catalogue, or an annotation without a field.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldRef {
    Known(&'static Field),
    /// The annotation's key. Its values are text, and protected.
    Annotation(String),
}

impl FieldRef {
    /// Finds a field by its name, by its key in the processed crash, or as `annotation.<Key>`.
    pub fn find(name: &str) -> Option<Self> {
        if let Some(field) = fields::by_name(name) {
            return Some(Self::Known(field));
        }
        let key = name.strip_prefix(fields::ANNOTATION_PREFIX)?;
        if key.is_empty() {
            return None;
        }
        Some(match fields::by_annotation(key) {
            Some(field) => Self::Known(field),
            None => Self::Annotation(key.to_owned()),
        })
    }

    pub fn name(&self) -> String {
        match self {
            Self::Known(field) => field.name.to_owned(),
            Self::Annotation(key) => format!("{}{key}", fields::ANNOTATION_PREFIX),
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Known(field) => field.kind,
            Self::Annotation(_) => Kind::String,
        }
    }

    pub fn visibility(&self) -> Visibility {
        match self {
            Self::Known(field) => field.visibility,
            Self::Annotation(_) => Visibility::Protected,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// No prefix: text contains all these words; values of other kinds are equal.
    Has,
    /// `=`: the whole text, case-sensitive.
    Is,
    /// `~`, with the wildcards `*` and `?`; case-sensitive, like all operators below.
    Contains,
    /// `^`
    Starts,
    /// `$`
    Ends,
    /// `@`: a regular expression that matches the whole text.
    Regex,
    Above,
    AtLeast,
    Below,
    AtMost,
    /// `__null__`: there is no value.
    Null,
    /// `__true__`
    True,
}

impl Op {
    /// Prefixes of two characters come before their first characters alone.
    const PREFIXES: [(&str, Op); 9] = [
        (">=", Op::AtLeast),
        ("<=", Op::AtMost),
        (">", Op::Above),
        ("<", Op::Below),
        ("=", Op::Is),
        ("~", Op::Contains),
        ("^", Op::Starts),
        ("$", Op::Ends),
        ("@", Op::Regex),
    ];

    /// Whether a text starts with an operator.
    fn starts(text: &str) -> bool {
        Self::PREFIXES
            .iter()
            .any(|(prefix, _)| text.starts_with(prefix))
    }

    pub fn prefix(self) -> &'static str {
        match self {
            Op::Null => "__null__",
            Op::True => "__true__",
            _ => Self::PREFIXES
                .iter()
                .find(|(_, op)| *op == self)
                .map_or("", |(prefix, _)| prefix),
        }
    }

    pub fn is_range(self) -> bool {
        matches!(self, Op::Above | Op::AtLeast | Op::Below | Op::AtMost)
    }

    /// Whether a field of this kind supports the operator.
    pub fn suits(self, kind: Kind) -> bool {
        match self {
            Op::Has | Op::Null => true,
            Op::True => kind == Kind::Bool,
            Op::Is | Op::Contains | Op::Starts | Op::Ends | Op::Regex => kind.is_text(),
            Op::Above | Op::AtLeast | Op::Below | Op::AtMost => {
                matches!(
                    kind,
                    Kind::Integer | Kind::Float | Kind::Date | Kind::Version | Kind::Address
                )
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// For [`Op::Null`] and [`Op::True`].
    None,
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Date(Timestamp),
}

/// One condition. Conditions on different fields must all be true. On one field, all ranges and all negated
/// conditions must be true, and at least one of the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pub field: FieldRef,
    pub op: Op,
    pub is_negated: bool,
    pub operand: Operand,
    /// The compiled pattern, if the operand contains one.
    pub pattern: Option<Compiled>,
}

/// What to count.
#[derive(Clone, Debug, PartialEq)]
pub enum Facet {
    /// Crashes with each value.
    Terms(FieldRef),
    /// Crashes in each calendar interval of a date.
    DateHistogram(FieldRef, Interval),
    /// Crashes in each interval of a number, with the interval's width.
    Histogram(FieldRef, f64),
    /// Number of distinct values.
    Cardinality(FieldRef),
}

impl Facet {
    pub fn field(&self) -> &FieldRef {
        match self {
            Self::Terms(f) | Self::Cardinality(f) => f,
            Self::DateHistogram(f, _) | Self::Histogram(f, _) => f,
        }
    }

    /// Its name in the answer.
    pub fn label(&self) -> String {
        let name = self.field().name();
        match self {
            Self::Terms(_) => name,
            Self::DateHistogram(..) | Self::Histogram(..) => format!("histogram_{name}"),
            Self::Cardinality(_) => format!("cardinality_{name}"),
        }
    }

    /// Its name in a facet parameter.
    fn param(&self) -> String {
        let name = self.field().name();
        match self {
            Self::Terms(_) => name,
            Self::DateHistogram(..) | Self::Histogram(..) => format!("_histogram.{name}"),
            Self::Cardinality(_) => format!("_cardinality.{name}"),
        }
    }
}

/// A facet, and what is counted inside each of its values.
#[derive(Clone, Debug, PartialEq)]
pub struct FacetNode {
    pub facet: Facet,
    pub children: Vec<FacetNode>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sort {
    pub field: FieldRef,
    pub is_descending: bool,
}

/// A checked search.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Always has one lower and one upper bound of the date.
    pub filters: Vec<Filter>,
    /// Words and "phrases" that must all occur in the full text.
    pub text: Option<String>,
    pub facets: Vec<FacetNode>,
    /// Number of values that are listed for each facet.
    pub facets_size: usize,
    pub columns: Vec<FieldRef>,
    /// Empty: newest first.
    pub sort: Vec<Sort>,
    pub results_number: usize,
    pub results_offset: usize,
    /// Whether the search may use protected fields, also in the full text.
    pub may_see_protected: bool,
    /// Whether the search includes deferred reports. Only if a condition is about the state or about one
    /// crash.
    pub with_deferred: bool,
}

impl Query {
    /// Reads SuperSearch parameters. `now` is the end of the default range of dates.
    ///
    /// # Errors
    /// See [`QueryError`], which names the parameter and what is accepted.
    pub fn parse(
        params: &[(String, String)],
        now: Timestamp,
        may_see_protected: bool,
    ) -> Result<Self, QueryError> {
        Self::parse_within(params, now, may_see_protected, &mut Budget::default())
    }

    /// The same for a caller that tries again without the wrong parameters. The patterns of all tries share
    /// one budget.
    pub fn parse_within(
        params: &[(String, String)],
        now: Timestamp,
        may_see_protected: bool,
        budget: &mut Budget,
    ) -> Result<Self, QueryError> {
        parse::parse(params, now, may_see_protected, budget)
    }

    /// Every field in the query; a field may occur more than once. The full text is not included.
    pub fn fields(&self) -> Vec<&FieldRef> {
        let filters = self.filters.iter().map(|filter| &filter.field);
        let sorts = self.sort.iter().map(|sort| &sort.field);
        let mut fields: Vec<&FieldRef> = filters.chain(sorts).chain(&self.columns).collect();
        let mut nodes: Vec<&FacetNode> = self.facets.iter().collect();
        while let Some(node) = nodes.pop() {
            fields.push(node.facet.field());
            nodes.extend(&node.children);
        }
        fields
    }

    /// The lower and upper bound of the date.
    pub fn date_range(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let (mut lower, mut upper) = (None, None);
        for filter in &self.filters {
            if let (FieldRef::Known(field), Operand::Date(moment)) =
                (&filter.field, &filter.operand)
                && field.name == fields::name::DATE
            {
                match filter.op {
                    Op::Above | Op::AtLeast => lower = Some(*moment),
                    Op::Below | Op::AtMost => upper = Some(*moment),
                    _ => {}
                }
            }
        }
        (lower, upper)
    }

    /// Prints the query as parameters. Parsing them gives the same query.
    pub fn to_params(&self) -> Vec<(String, String)> {
        let mut params: Vec<(String, String)> = Vec::new();
        let mut put = |name: &str, value: String| params.push((name.to_owned(), value));
        for filter in &self.filters {
            put(&filter.field.name(), filter.value_text());
        }
        if let Some(text) = &self.text {
            put("q", text.clone());
        }
        if self.facets.is_empty() {
            put("_facets", String::new());
        }
        // All facets are printed, so their order is kept and no default is added.
        for node in &self.facets {
            put("_facets", node.facet.param());
        }
        for node in self.facets.iter().filter(|node| !node.children.is_empty()) {
            print_children(node, &mut Vec::new(), &mut put);
        }
        let mut intervals = Vec::new();
        collect_intervals(&self.facets, &mut intervals);
        for (name, interval) in intervals {
            put(&format!("_histogram_interval.{name}"), interval);
        }
        put("_facets_size", self.facets_size.to_string());
        for column in &self.columns {
            put("_columns", column.name());
        }
        if self.columns.is_empty() {
            put("_columns", String::new());
        }
        for sort in &self.sort {
            let sign = if sort.is_descending { "-" } else { "" };
            put("_sort", format!("{sign}{}", sort.field.name()));
        }
        put("_results_number", self.results_number.to_string());
        put("_results_offset", self.results_offset.to_string());
        params
    }
}

impl Filter {
    /// The parameter's value: negation, operator, operand.
    pub fn value_text(&self) -> String {
        let not = if self.is_negated { "!" } else { "" };
        let operand = match &self.operand {
            Operand::None => String::new(),
            Operand::Text(text) => text.clone(),
            Operand::Integer(number) => number.to_string(),
            Operand::Float(number) => number.to_string(),
            Operand::Bool(value) => value.to_string(),
            Operand::Date(moment) => moment.rfc3339(),
        };
        format!("{not}{}{operand}", self.op.prefix())
    }
}

fn print_children(node: &FacetNode, path: &mut Vec<String>, put: &mut impl FnMut(&str, String)) {
    let kind = match node.facet {
        Facet::DateHistogram(..) | Facet::Histogram(..) => "_histogram",
        _ => "_aggs",
    };
    path.push(node.facet.field().name());
    for child in &node.children {
        if child.children.is_empty() {
            put(&format!("{kind}.{}", path.join(".")), child.facet.param());
        } else {
            print_children(child, path, put);
        }
    }
    path.pop();
}

fn collect_intervals(nodes: &[FacetNode], found: &mut Vec<(String, String)>) {
    for node in nodes {
        let interval = match &node.facet {
            Facet::DateHistogram(field, interval) => Some((field.name(), interval.name().into())),
            Facet::Histogram(field, width) => Some((field.name(), width.to_string())),
            Facet::Terms(_) | Facet::Cardinality(_) => None,
        };
        if let Some(interval) = interval
            && !found.contains(&interval)
        {
            found.push(interval);
        }
        collect_intervals(&node.children, found);
    }
}
