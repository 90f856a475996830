//! The descriptions of the API's endpoints, for `/api/openapi.json` and for the page `/api/`.

use serde_json::{Value, json};

use crate::fields::{Catalogue, Field, Kind};
use crate::limits;

/// The description of an endpoint.
#[derive(Debug)]
pub(crate) struct Doc {
    /// What the endpoint does, in one sentence.
    pub(crate) title: &'static str,
    pub(crate) params: &'static [Param],
    /// True if it also accepts all parameters of a search.
    pub(crate) is_search: bool,
    pub(crate) body: BodyDoc,
    pub(crate) answer: AnswerDoc,
}

impl Doc {
    /// An endpoint with parameters in the URL.
    pub(crate) const fn new(
        title: &'static str,
        params: &'static [Param],
        answer: AnswerDoc,
    ) -> Self {
        Self {
            title,
            params,
            is_search: false,
            body: BodyDoc::None,
            answer,
        }
    }

    /// The endpoint also accepts the parameters of a search.
    pub(crate) const fn search(mut self) -> Self {
        self.is_search = true;
        self
    }

    /// The parameters are sent as a form.
    pub(crate) const fn form(mut self) -> Self {
        self.body = BodyDoc::Form;
        self
    }

    /// The body is JSON with this schema.
    pub(crate) const fn json(mut self, schema: fn() -> Value) -> Self {
        self.body = BodyDoc::Json(schema);
        self
    }

    /// The body is signature lists as text.
    pub(crate) const fn text(mut self) -> Self {
        self.body = BodyDoc::Text;
        self
    }
}

/// The body of a request that changes something, or that is too long for a URL.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BodyDoc {
    None,
    /// The parameters, as a form.
    Form,
    /// JSON with this schema.
    Json(fn() -> Value),
    /// Plain text.
    Text,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum AnswerDoc {
    /// JSON with this schema.
    Json(fn() -> Value),
    /// Media types. If there are several, the first is JSON.
    Files(&'static [&'static str]),
}

#[derive(Debug)]
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) kind: ParamKind,
    pub(crate) is_required: bool,
    pub(crate) text: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ParamKind {
    Text,
    /// Repeated, once per value.
    Texts,
    /// From 0 to this number.
    Number(u64),
    CrashId,
    CrashIds,
    Choice(&'static [&'static str]),
}

impl Param {
    pub(crate) const fn new(name: &'static str, kind: ParamKind, text: &'static str) -> Self {
        Self {
            name,
            kind,
            is_required: false,
            text,
        }
    }

    pub(crate) const fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// The JSON Schema of the value.
    pub(crate) fn schema(&self) -> Value {
        let texts = json!({ "type": "array", "items": { "type": "string", "maxLength": 200 } });
        match self.kind {
            ParamKind::Text => json!({ "type": "string", "maxLength": 200 }),
            ParamKind::Texts => texts,
            ParamKind::Number(max) => json!({ "type": "integer", "minimum": 0, "maximum": max }),
            ParamKind::CrashId => crash_id(),
            ParamKind::CrashIds => json!({ "type": "array", "items": crash_id() }),
            ParamKind::Choice(known) => json!({ "type": "string", "enum": known }),
        }
    }
}

fn crash_id() -> Value {
    json!({ "type": "string", "pattern": "^(bp-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{5}[0-9][0-9]{6}$" })
}

/// Parameters of every search that are not fields: name, schema, and description.
pub(crate) fn search_params(catalogue: &Catalogue) -> Vec<(&'static str, Value, &'static str)> {
    let fields = catalogue.all().iter();
    let names: Vec<&str> = fields.map(|field| &*field.name).collect();
    let several = |item: Value| json!({ "type": "array", "items": item });
    let field = || json!({ "type": "string", "enum": names });
    let up_to = |max: usize| json!({ "type": "integer", "minimum": 0, "maximum": max });
    let sorts: Vec<String> = names
        .iter()
        .flat_map(|name| [(*name).to_owned(), format!("-{name}")])
        .collect();
    vec![
        (
            "q",
            json!({ "type": "string", "maxLength": 200 }),
            "Full-text search for words and \"phrases\", and conditions in the syntax of the search box",
        ),
        (
            "_columns",
            several(field()),
            "Fields to return for each hit",
        ),
        (
            "_facets",
            several(field()),
            "What to count: FIELD, _histogram.FIELD or _cardinality.FIELD",
        ),
        (
            "_facets_size",
            up_to(limits::FACETS_SIZE_MAX),
            "Maximum number of values per facet; default: 50",
        ),
        (
            "_results_number",
            up_to(limits::RESULTS_NUMBER_MAX),
            "Number of hits to return; default: 100",
        ),
        (
            "_results_offset",
            up_to(limits::RESULTS_END_MAX - limits::RESULTS_NUMBER_MAX),
            "Number of hits to skip",
        ),
        (
            "_sort",
            json!({ "type": "array", "maxItems": limits::SORTS_MAX, "items": { "type": "string", "enum": sorts } }),
            "Fields to sort by; a leading - means descending; default: newest first",
        ),
        (
            "_aggs.product",
            several(field()),
            "What to count for each value of a field, here product; can be nested, as in _aggs.product.version",
        ),
        (
            "_histogram.date",
            several(field()),
            "What to count for each interval of a date or number field, here date",
        ),
        (
            "_histogram_interval.date",
            json!({ "type": "string", "enum": ["minute", "hour", "day", "week", "month", "quarter", "year"] }),
            "The interval; for a number field its width",
        ),
        (
            "_return_query",
            json!({ "type": "string", "enum": ["0", "1"] }),
            "1: return the parsed query instead of the result",
        ),
    ]
}

/// The JSON Schema of a condition on a field.
pub(crate) fn condition(field: &Field) -> Value {
    let pattern = match field.kind {
        Kind::String | Kind::Enum | Kind::Version | Kind::Address => {
            return json!({ "type": "array", "items": { "type": "string", "maxLength": 200 } });
        }
        Kind::Integer => "^!?((>=|<=|>|<)?-?[0-9]{1,15}|__null__)$",
        Kind::Float => "^!?((>=|<=|>|<)?-?[0-9]{1,9}(\\.[0-9]{1,3})?|__null__)$",
        Kind::Bool => "^!?(__true__|__null__|true|false)$",
        Kind::Date => "^(>=|<=|>|<)20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])$",
    };
    json!({ "type": "array", "items": { "type": "string", "pattern": pattern } })
}

/// `{"hits": [...], "total": n}`.
pub(crate) fn hits(item: Value) -> Value {
    json!({
        "type": "object",
        "required": ["hits", "total"],
        "properties": {
            "hits": { "type": "array", "items": item },
            "total": { "type": "integer", "minimum": 0 },
        },
    })
}

/// An object that has all these members, and may have others.
pub(crate) fn object(members: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    let members: serde_json::Map<String, Value> = members
        .iter()
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
        .collect();
    json!({ "type": "object", "required": names, "properties": members })
}

pub(crate) fn any_object() -> Value {
    json!({ "type": "object" })
}

pub(crate) fn text() -> Value {
    json!({ "type": "string" })
}

pub(crate) fn text_or_null() -> Value {
    json!({ "type": ["string", "null"] })
}

pub(crate) fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

pub(crate) fn flag() -> Value {
    json!({ "type": "boolean" })
}

pub(crate) fn list(item: Value) -> Value {
    json!({ "type": "array", "items": item })
}
