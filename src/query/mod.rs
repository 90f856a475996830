//! A search as a value: the meaning of SuperSearch parameters, checked against the field catalogue.
//!
//! [`Query::parse`] reads parameters and [`Query::to_params`] prints them. Fields that the caller may not see
//! are dropped when the parameters are read, so later code does not have to check this again. This module
//! never touches the index. Source: Socorro's SuperSearch. One difference: Socorro combines negated
//! conditions on one field with OR, which matches nearly everything; we combine them with AND.

mod build;
mod compile;
mod dates;
pub(crate) mod language;
mod op;
mod parse;
mod print;

use crate::clock::Timestamp;
use std::sync::Arc;

use crate::fields::{self, Catalogue, Field, Kind, Visibility, name};

pub(crate) use compile::{Budget, Compiled};
pub(crate) use dates::{Interval, parse_moment};
pub use op::Op;

/// Why parameters are not a query. `message` is the API's answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// The parameter.
    pub(crate) field: String,
    /// Its value, if the value is wrong.
    pub(crate) value: Option<String>,
    pub(crate) message: String,
    /// What is accepted instead.
    pub(crate) accepted: Option<String>,
    /// The field that was most likely meant.
    pub(crate) nearest: Option<String>,
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
    fn unknown_field(catalogue: &Catalogue, param: &str, name: &str, sees_protected: bool) -> Self {
        let nearest = catalogue.nearest(name, sees_protected);
        Self {
            nearest: nearest.map(str::to_owned),
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
    Known(Arc<Field>),
    /// The annotation's key. Its values are text, and protected.
    Annotation(String),
}

impl FieldRef {
    /// Finds a field by its name, by its key in the processed crash, or as `annotation.<Key>`.
    pub fn find(catalogue: &Catalogue, name: &str) -> Option<Self> {
        if let Some(field) = catalogue.by_name(name) {
            return Some(Self::Known(field.clone()));
        }
        let key = name.strip_prefix(fields::ANNOTATION_PREFIX)?;
        if key.is_empty() {
            return None;
        }
        Some(match catalogue.by_annotation(key) {
            Some(field) => Self::Known(field.clone()),
            None => Self::Annotation(key.to_owned()),
        })
    }

    pub fn name(&self) -> String {
        match self {
            Self::Known(field) => field.name.to_string(),
            Self::Annotation(key) => format!("{}{key}", fields::ANNOTATION_PREFIX),
        }
    }

    /// Whether this is the name of the field.
    pub(crate) fn is(&self, name: &str) -> bool {
        match self {
            Self::Known(field) => field.name == name,
            Self::Annotation(_) => self.name() == name,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Known(field) => field.kind,
            Self::Annotation(_) => Kind::String,
        }
    }

    pub(crate) fn visibility(&self) -> Visibility {
        match self {
            Self::Known(field) => field.visibility,
            Self::Annotation(_) => Visibility::Protected,
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
    pub(crate) pattern: Option<Compiled>,
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
}

impl Filter {
    /// Whether it bounds the date of receipt.
    fn is_of_date(&self) -> bool {
        matches!(self.operand, Operand::Date(_)) && self.is_on(name::DATE)
    }

    /// Whether it asks for crashes that may be deferred.
    fn includes_deferred(&self) -> bool {
        self.is_on(name::STATE) || self.is_on(name::UUID)
    }

    /// Whether the condition is on the field with this name.
    pub(crate) fn is_on(&self, field: &str) -> bool {
        self.field.is(field)
    }
}

/// A facet, and what is counted inside each of its values.
#[derive(Clone, Debug, PartialEq)]
pub struct FacetNode {
    pub facet: Facet,
    pub children: Vec<FacetNode>,
}

impl FacetNode {
    /// Adds a path to the tree. Returns the number of new nodes.
    fn insert(nodes: &mut Vec<Self>, path: &[Facet]) -> usize {
        let Some((first, rest)) = path.split_first() else {
            return 0;
        };
        let known = nodes.iter().position(|node| node.facet == *first);
        let at = known.unwrap_or_else(|| {
            nodes.push(Self {
                facet: first.clone(),
                children: Vec::new(),
            });
            nodes.len() - 1
        });
        usize::from(known.is_none()) + Self::insert(&mut nodes[at].children, rest)
    }
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
    pub(crate) fn date_range(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let (mut lower, mut upper) = (None, None);
        for filter in &self.filters {
            if let Operand::Date(moment) = &filter.operand
                && filter.is_on(name::DATE)
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
}
