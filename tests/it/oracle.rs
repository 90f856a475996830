//! An oracle for searches: it scans the store's JSON. The answers of the index are compared with it.
//!
//! It uses the parsed parameters of a query and the stored processed crashes. It uses no code of the index.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crashkeep::clock::Timestamp;
use crashkeep::fields::version::VersionKey;
use crashkeep::fields::{Catalogue, Kind, name};
use crashkeep::query::{Facet, FacetNode, FieldRef, Filter, Op, Operand, Query};
use crashkeep::store::Store;
use serde_json::{Map, Value, json};

/// One value of a crash, or a value that crashes are counted by.
#[derive(Clone, Debug, PartialEq)]
enum Scalar {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Date(i64),
}

impl Scalar {
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Integer(a), Self::Integer(b)) | (Self::Date(a), Self::Date(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b).expect("no NaN is stored"),
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            _ => panic!("{self:?} and {other:?} are of one field"),
        }
    }
}

struct Crash {
    seq: u64,
    id: String,
    received_at: Timestamp,
    processed: Map<String, Value>,
    annotations: BTreeMap<String, String>,
}

/// The content of the store at one time.
pub struct Oracle(Vec<Crash>);

/// An answer in the format of the API, with the sequence numbers of the crashes.
#[derive(Debug, PartialEq)]
pub struct Expected {
    pub seqs: Vec<u64>,
    pub values: Vec<Vec<Value>>,
    pub total: u64,
    pub facets: Vec<(String, Value)>,
}

impl Oracle {
    pub fn of(store: &Store) -> Self {
        Self::of_some(store, |_| true)
    }

    /// Only the crashes for whose sequence number `is_in` returns true.
    pub fn of_some(store: &Store, is_in: impl Fn(u64) -> bool) -> Self {
        let rows = store.scan(0, usize::MAX).expect("the store is readable");
        let crash = |(seq, row): (u64, crashkeep::store::StoredCrash)| {
            let processed = store.processed(&row).expect("readable")?;
            Some(Crash {
                seq,
                id: row.id.to_string(),
                received_at: Timestamp::from_ms(row.received_at_ms),
                processed: serde_json::from_slice(&processed).expect("an object"),
                annotations: store.raw(&row).expect("readable").annotations,
            })
        };
        let rows = rows.into_iter().filter(|(seq, _)| is_in(*seq));
        Self(rows.filter_map(crash).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The values of this field in all crashes, as text.
    pub fn texts(&self, field: &FieldRef) -> Vec<String> {
        let values = self.0.iter().flat_map(|crash| crash.values(field));
        let text = |value| match value {
            Scalar::Text(text) => text,
            Scalar::Integer(number) => number.to_string(),
            Scalar::Float(number) => number.to_string(),
            Scalar::Bool(value) => value.to_string(),
            Scalar::Date(ms) => Timestamp::from_ms(ms).rfc3339(),
        };
        values.map(text).collect()
    }

    pub fn answer(&self, query: &Query) -> Expected {
        let mut found: Vec<&Crash> = self.0.iter().filter(|c| c.matches(query)).collect();
        let facets = match query.facets_size {
            0 => Vec::new(),
            size => facets(&query.facets, &found, size),
        };
        let total = found.len() as u64;
        found.sort_by(|a, b| a.order(b, query));
        let end = query.results_offset + query.results_number;
        let page = found.iter().take(end).skip(query.results_offset);
        let row = |c: &&Crash| query.columns.iter().map(|f| c.column(f)).collect();
        Expected {
            seqs: page.clone().map(|crash| crash.seq).collect(),
            values: page.map(row).collect(),
            total,
            facets,
        }
    }
}

impl Crash {
    fn values(&self, field: &FieldRef) -> Vec<Scalar> {
        let field = match field {
            FieldRef::Annotation(key) => {
                let value = self.annotations.get(key).map(|text| text.trim());
                let value = value.filter(|text| !text.is_empty());
                return value.map(|v| Scalar::Text(v.into())).into_iter().collect();
            }
            FieldRef::Known(field) => field,
        };
        match &*field.name {
            name::UUID => return vec![Scalar::Text(self.id.clone())],
            name::DATE => return vec![Scalar::Date(self.received_at.ms())],
            _ => {}
        }
        let items = match self.processed.get(&*field.key) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items.clone(),
            Some(Value::String(text)) if field.flags.split => {
                text.split(';').map(|part| part.trim().into()).collect()
            }
            Some(value) => vec![value.clone()],
        };
        let mut values: Vec<Scalar> = Vec::new();
        for item in items {
            let value = match (field.kind, &item) {
                (
                    Kind::String | Kind::Enum | Kind::Version | Kind::Address,
                    Value::String(text),
                ) => (!text.is_empty()).then(|| Scalar::Text(text.clone())),
                (
                    Kind::String | Kind::Enum | Kind::Version | Kind::Address,
                    Value::Number(_) | Value::Bool(_),
                ) => Some(Scalar::Text(item.to_string())),
                (Kind::Integer, Value::Number(number)) => number.as_i64().map(Scalar::Integer),
                (Kind::Integer, Value::String(text)) => text.parse().ok().map(Scalar::Integer),
                (Kind::Float, Value::Number(number)) => number.as_f64().map(Scalar::Float),
                (Kind::Bool, Value::Bool(value)) => Some(Scalar::Bool(*value)),
                (Kind::Date, Value::String(text)) => {
                    Timestamp::parse_rfc3339(text).map(|at| Scalar::Date(at.ms()))
                }
                _ => None,
            };
            if let Some(value) = value
                && !values.contains(&value)
            {
                values.push(value);
            }
        }
        if !field.kind.is_text() {
            values.truncate(1);
        }
        values
    }

    fn column(&self, field: &FieldRef) -> Value {
        let mut values = self.values(field);
        let is_split = matches!(field, FieldRef::Known(field) if field.flags.split);
        match values.len() {
            0 => Value::Null,
            1 => match values.remove(0) {
                Scalar::Text(text) => text.into(),
                Scalar::Integer(number) => number.into(),
                // Both zeros are one value.
                Scalar::Float(number) => (number + 0.0).into(),
                Scalar::Bool(value) => value.into(),
                Scalar::Date(ms) => Timestamp::from_ms(ms).rfc3339().into(),
            },
            _ => {
                let text = |value| match value {
                    Scalar::Text(text) => text,
                    other => panic!("{other:?} is one of several"),
                };
                let texts: Vec<String> = values.into_iter().map(text).collect();
                if is_split {
                    texts.join(";").into()
                } else {
                    texts.into()
                }
            }
        }
    }

    fn matches(&self, query: &Query) -> bool {
        let is_strict = |f: &Filter| f.is_negated || f.op.is_range();
        let strict = query.filters.iter().filter(|f| is_strict(f));
        let loose = || query.filters.iter().filter(|f| !is_strict(f));
        strict.into_iter().all(|f| self.holds(f) != f.is_negated)
            && loose().all(|one| loose().any(|f| f.field == one.field && self.holds(f)))
            && query
                .text
                .as_ref()
                .is_none_or(|text| self.has_text(text, query.may_see_protected))
    }

    fn holds(&self, filter: &Filter) -> bool {
        let values = self.values(&filter.field);
        let kind = filter.field.kind();
        let is_searched = matches!(&filter.field, FieldRef::Known(field) if field.flags.text);
        match (filter.op, &filter.operand) {
            (Op::Null, _) => values.is_empty(),
            (Op::True, _) => values.contains(&Scalar::Bool(true)),
            (Op::Has, Operand::Text(text)) if kind == Kind::String => {
                let wanted = words(text);
                let has_all = |known: &[String]| wanted.iter().all(|w| known.contains(w));
                if wanted.is_empty() {
                    return values.contains(&Scalar::Text(text.clone()));
                }
                let known = values.iter().map(|value| match value {
                    Scalar::Text(text) => words(text),
                    _ => Vec::new(),
                });
                if is_searched {
                    has_all(&known.flatten().collect::<Vec<_>>())
                } else {
                    known.into_iter().any(|known| has_all(&known))
                }
            }
            (op, Operand::Text(text)) => values.iter().any(|value| match value {
                Scalar::Text(value) => text_holds(op, kind, value, text),
                _ => false,
            }),
            (op, operand) => {
                let bound = match operand {
                    Operand::Integer(number) => Scalar::Integer(*number),
                    Operand::Float(number) => Scalar::Float(*number),
                    Operand::Bool(value) => Scalar::Bool(*value),
                    Operand::Date(moment) => Scalar::Date(moment.ms()),
                    Operand::Text(_) | Operand::None => return false,
                };
                values.iter().any(|value| compares(op, value.order(&bound)))
            }
        }
    }

    fn has_text(&self, text: &str, may_see_protected: bool) -> bool {
        let mut parts: Vec<(bool, Vec<String>)> = Vec::new();
        let (mut part, mut quoted) = (String::new(), false);
        for c in text.chars().chain([' ']) {
            if c == '"' {
                quoted = !quoted;
                part.push(' ');
            } else if c == ' ' && !quoted {
                parts.push((part.starts_with('-'), words(&part)));
                part.clear();
            } else {
                part.push(c);
            }
        }
        parts.push((part.starts_with('-'), words(&part)));
        let mut known: Vec<Vec<String>> = Vec::new();
        let catalogue = Catalogue::builtin();
        for field in catalogue.all().iter().filter(|field| field.flags.text) {
            if may_see_protected || !field.is_protected() {
                let values = self.values(&FieldRef::Known(field.clone()));
                known.extend(values.iter().map(|value| match value {
                    Scalar::Text(text) => words(text),
                    _ => Vec::new(),
                }));
            }
        }
        if may_see_protected {
            let others = self.annotations.iter();
            let others = others.filter(|(key, _)| catalogue.by_annotation(key).is_none());
            known.extend(others.map(|(_, value)| words(value.trim())));
        }
        let has = |part: &Vec<String>| {
            known
                .iter()
                .any(|k| k.windows(part.len()).any(|w| w == part))
        };
        let mut parts = parts.iter().filter(|(_, part)| !part.is_empty());
        parts.all(|(is_negated, part)| has(part) != *is_negated)
    }

    fn order(&self, other: &Self, query: &Query) -> Ordering {
        let by = |field: &FieldRef, is_descending: bool| {
            let first = |crash: &Self| crash.values(field).into_iter().next();
            match (first(self), first(other)) {
                (Some(Scalar::Text(a)), Some(Scalar::Text(b))) if field.kind() == Kind::Version => {
                    let order = VersionKey::new(&a)
                        .cmp(&VersionKey::new(&b))
                        .then(a.cmp(&b));
                    if is_descending {
                        order.reverse()
                    } else {
                        order
                    }
                }
                (Some(a), Some(b)) if is_descending => b.order(&a),
                (Some(a), Some(b)) => a.order(&b),
                (a, b) => b.is_some().cmp(&a.is_some()),
            }
        };
        let order = if query.sort.is_empty() {
            other.received_at.cmp(&self.received_at)
        } else {
            query.sort.iter().fold(Ordering::Equal, |order, sort| {
                order.then_with(|| by(&sort.field, sort.is_descending))
            })
        };
        order.then(other.seq.cmp(&self.seq))
    }
}

fn compares(op: Op, order: Ordering) -> bool {
    match op {
        Op::Above => order == Ordering::Greater,
        Op::AtLeast => order != Ordering::Less,
        Op::Below => order == Ordering::Less,
        Op::AtMost => order != Ordering::Greater,
        _ => order == Ordering::Equal,
    }
}

fn text_holds(op: Op, kind: Kind, value: &str, text: &str) -> bool {
    match op {
        Op::Has if kind == Kind::Version && text.ends_with('b') => value.starts_with(text),
        op if kind == Kind::Address && (op == Op::Has || op.is_range()) => {
            let number = |text: &str| u64::from_str_radix(text.get(2..)?, 16).ok();
            number(value).is_some_and(|n| compares(op, n.cmp(&number(text).expect("an address"))))
        }
        Op::Contains => glob(&format!("*{text}*"), value),
        Op::Starts => glob(&format!("{text}*"), value),
        Op::Ends => glob(&format!("*{text}"), value),
        Op::Regex => regex::Regex::new(&format!("(?s)\\A(?:{text})\\z"))
            .expect("a pattern of the test")
            .is_match(value),
        op if op.is_range() => compares(op, VersionKey::new(value).cmp(&VersionKey::new(text))),
        _ => value == text,
    }
}

/// `*` matches any text, `?` any character.
fn glob(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else {
        return text.is_empty();
    };
    let rest = &pattern[first.len_utf8()..];
    let mut tail = text.chars();
    match first {
        '*' => {
            let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.any(|at| glob(rest, &text[at..]))
        }
        '?' => tail.next().is_some() && glob(rest, tail.as_str()),
        _ => tail.next() == Some(first) && glob(rest, tail.as_str()),
    }
}

fn words(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric());
    let parts = parts.filter(|part| !part.is_empty());
    parts.map(str::to_lowercase).collect()
}

fn facets(nodes: &[FacetNode], crashes: &[&Crash], size: usize) -> Vec<(String, Value)> {
    let facet = |node: &FacetNode| (node.facet.label(), facet(node, crashes, size));
    nodes.iter().map(facet).collect()
}

fn facet(node: &FacetNode, crashes: &[&Crash], size: usize) -> Value {
    let field = node.facet.field();
    let key = |value: Scalar| match (&node.facet, value) {
        (Facet::DateHistogram(_, interval), Scalar::Date(ms)) => {
            Scalar::Date(interval.floor(Timestamp::from_ms(ms)).ms())
        }
        (Facet::Histogram(_, width), Scalar::Integer(number)) => {
            Scalar::Float((number as f64 / width).floor() * width)
        }
        (Facet::Histogram(_, width), Scalar::Float(number)) => {
            Scalar::Float((number / width).floor() * width)
        }
        (_, value) => value,
    };
    let mut groups: Vec<(Scalar, Vec<&Crash>)> = Vec::new();
    for crash in crashes {
        for value in crash.values(field).into_iter().map(key) {
            match groups.iter_mut().find(|(known, _)| *known == value) {
                Some((_, group)) => group.push(crash),
                None => groups.push((value, vec![crash])),
            }
        }
    }
    if let Facet::Cardinality(_) = node.facet {
        return json!({ "value": groups.len() });
    }
    let is_histogram = matches!(node.facet, Facet::DateHistogram(..) | Facet::Histogram(..));
    groups.sort_by(|(a, of_a), (b, of_b)| {
        if is_histogram {
            a.order(b)
        } else {
            of_b.len().cmp(&of_a.len()).then_with(|| match (a, b) {
                (Scalar::Text(a), Scalar::Text(b)) if field.kind() == Kind::Version => {
                    let order = VersionKey::new(a).cmp(&VersionKey::new(b));
                    order.then(a.cmp(b))
                }
                (a, b) => a.order(b),
            })
        }
    });
    if !is_histogram {
        groups.truncate(size);
    }
    let bucket = |(value, group): (Scalar, Vec<&Crash>)| {
        let mut bucket = json!({ "term": term(&node.facet, value), "count": group.len() });
        if !node.children.is_empty() {
            let inside: Map<String, Value> =
                facets(&node.children, &group, size).into_iter().collect();
            bucket["facets"] = inside.into();
        }
        bucket
    };
    groups.into_iter().map(bucket).collect()
}

fn term(facet: &Facet, value: Scalar) -> Value {
    match (facet, value) {
        (Facet::DateHistogram(..), Scalar::Date(ms)) => Timestamp::from_ms(ms)
            .rfc3339()
            .replace('Z', "+00:00")
            .into(),
        (Facet::Histogram(field, width), Scalar::Float(start))
            if field.kind() == Kind::Integer && width.fract() == 0.0 =>
        {
            (start as i64).into()
        }
        (_, Scalar::Text(text)) => text.into(),
        (_, Scalar::Integer(number)) => number.into(),
        (_, Scalar::Float(number)) => (number + 0.0).into(),
        (_, Scalar::Bool(value)) => if value { "T" } else { "F" }.into(),
        (_, Scalar::Date(ms)) => Timestamp::from_ms(ms).rfc3339().into(),
    }
}

/// Fields in random queries: some of each kind.
pub fn asked() -> Vec<FieldRef> {
    let names: BTreeSet<&str> = [
        "signature",
        "proto_signature",
        "product",
        "version",
        "build_id",
        "platform",
        "address",
        "reason",
        "addons",
        "modules_in_stack",
        "user_comments",
        "uptime",
        "install_time",
        "uptime_ts",
        "startup_crash",
        "safe_mode",
        "submitted_timestamp",
        "uuid",
        "date",
        "annotation.guid",
        "annotation.a.b",
        "annotation.none",
    ]
    .into();
    let catalogue = Catalogue::builtin();
    names
        .into_iter()
        .map(|name| FieldRef::find(&catalogue, name).expect("a field"))
        .collect()
}
