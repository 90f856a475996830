//! One crash as the index stores it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::schema::cut;
use crate::clock::Timestamp;
use crate::crash::id::CrashId;
use crate::fields::{self, Catalogue, Field, Kind, name};
use crate::limits;

#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
}

/// The data of a crash that the index stores, by the fields of a catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub seq: u64,
    /// The distinct values of each field that has any.
    pub fields: Vec<(Arc<Field>, Vec<Scalar>)>,
    /// Annotations that are not fields, by key.
    pub annotations: Vec<(String, String)>,
}

impl Document {
    /// Reads a processed crash, up to the walk inside it. Values that do not fit their field are left out. Id
    /// and date are taken from the arguments, whatever the JSON says.
    ///
    /// # Errors
    /// The JSON is not an object.
    pub fn new(
        catalogue: &Catalogue,
        seq: u64,
        id: CrashId,
        received_at: Timestamp,
        processed: &[u8],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(processed);
        let mut known = Known {
            catalogue,
            found: Vec::new(),
            is_at_walk: false,
        };
        let outcome = known.deserialize(&mut reader);
        if !known.is_at_walk {
            outcome?;
            reader.end()?;
        }
        let mut found = known.found;
        for (name, value) in [
            (name::UUID, Scalar::Text(id.to_string())),
            (name::DATE, Scalar::Integer(received_at.ms())),
        ] {
            let field = catalogue.by_name(name).expect("every catalogue has it");
            put(&mut found, field, value);
        }
        // Crashes that were processed before a site added the field have only its annotation.
        for field in catalogue.of_site() {
            let text = field.annotation().and_then(|key| annotations.get(key));
            if let Some(Ok(value)) = text.map(|text| field.value_of(text))
                && !found.iter().any(|(known, _)| known == field)
            {
                let values = scalars(field, value);
                if !values.is_empty() {
                    found.push((field.clone(), values));
                }
            }
        }
        if let Some(field) = catalogue.by_name(name::INSTALLATION)
            && let Some(hash) = catalogue.installation(annotations)
        {
            put(&mut found, field, Scalar::Text(hash));
        }
        let annotations = annotations
            .iter()
            .filter(|(key, value)| {
                catalogue.by_annotation(key).is_none()
                    && !value.trim().is_empty()
                    && !key.contains(|c: char| c.is_control())
            })
            .map(|(key, value)| {
                let value = cut(value.trim(), limits::INDEX_ANNOTATION_BYTES_MAX);
                (key.clone(), value.to_owned())
            })
            .collect();
        Ok(Self {
            seq,
            fields: found,
            annotations,
        })
    }
}

/// Reads an object's catalogue fields up to the walk, which comes last and is far larger than everything
/// else.
struct Known<'c> {
    catalogue: &'c Catalogue,
    found: Vec<(Arc<Field>, Vec<Scalar>)>,
    /// Reading stopped at the walk, inside the object. The JSON reader reports this as an error.
    is_at_walk: bool,
}

impl<'de> DeserializeSeed<'de> for &mut Known<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Known<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a processed crash")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == fields::JSON_DUMP {
                self.is_at_walk = true;
                break;
            }
            let Some(field) = self.catalogue.by_key(&key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let values = scalars(field, map.next_value::<Value>()?);
            if !values.is_empty() && !self.found.iter().any(|(known, _)| known == field) {
                self.found.push((field.clone(), values));
            }
        }
        Ok(())
    }
}

/// Sets the only value of a field.
fn put(found: &mut Vec<(Arc<Field>, Vec<Scalar>)>, field: &Arc<Field>, value: Scalar) {
    found.retain(|(known, _)| known != field);
    found.push((field.clone(), vec![value]));
}

fn scalars(field: &Field, value: Value) -> Vec<Scalar> {
    let mut values = Vec::new();
    let items = match value {
        Value::Array(items) => items,
        Value::String(text) if field.flags.split => text
            .split(';')
            .map(|part| Value::from(part.trim()))
            .collect(),
        other => vec![other],
    };
    for item in items {
        if let Some(scalar) = scalar(field.kind, item)
            && !values.contains(&scalar)
        {
            values.push(scalar);
        }
        if values.len() == limits::INDEX_VALUES_MAX {
            break;
        }
    }
    // A column of numbers has one number per crash. Counting and sorting rely on this.
    if !field.kind.is_text() {
        values.truncate(1);
    }
    values
}

fn scalar(kind: Kind, value: Value) -> Option<Scalar> {
    match kind {
        Kind::String | Kind::Enum | Kind::Version | Kind::Address => match value {
            Value::String(text) if !text.is_empty() => Some(Scalar::Text(text)),
            Value::Number(number) => Some(Scalar::Text(number.to_string())),
            Value::Bool(value) => Some(Scalar::Text(value.to_string())),
            _ => None,
        },
        Kind::Integer => match value {
            Value::Number(number) => number.as_i64().map(Scalar::Integer),
            Value::String(text) => text.trim().parse().ok().map(Scalar::Integer),
            _ => None,
        },
        Kind::Float => match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
        .filter(|number: &f64| number.is_finite())
        .map(Scalar::Float),
        Kind::Bool => match value {
            Value::Bool(value) => Some(Scalar::Bool(value)),
            _ => None,
        },
        Kind::Date => {
            let moment = Timestamp::parse_rfc3339(value.as_str()?)?;
            Some(Scalar::Integer(moment.ms()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_holds_what_the_catalogue_names_and_skips_the_walk() {
        let processed =
            br#"{"signature": "foo", "uptime": 7, "startup_crash": true, "uptime_ts": 1.5,
            "modules_in_stack": "a/1;b/2;a/1", "crash_report_keys": ["x", "y"], "address": null,
            "install_age": "no number", "unknown": {"deep": []}, "date_processed": "nonsense",
            "json_dump": {"signature": "not this", "threads": [[[]]]}}"#;
        let annotations = [
            ("ProductName", "P"),
            ("guid", " g "),
            ("blank", " "),
            ("a\u{1}b", "x"),
        ];
        let annotations = annotations
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let id = CrashId::from_bits(7);
        let catalogue = Catalogue::builtin();
        let received_at = Timestamp::from_ms(5);
        let document =
            Document::new(&catalogue, 3, id, received_at, processed, &annotations).unwrap();
        let text = |t: &str| Scalar::Text(t.into());
        let installation = catalogue.installation(&annotations).unwrap();
        let expected: Vec<(&str, Vec<Scalar>)> = vec![
            ("signature", vec![text("foo")]),
            ("uptime", vec![Scalar::Integer(7)]),
            ("startup_crash", vec![Scalar::Bool(true)]),
            ("uptime_ts", vec![Scalar::Float(1.5)]),
            ("modules_in_stack", vec![text("a/1"), text("b/2")]),
            ("crash_report_keys", vec![text("x"), text("y")]),
            ("uuid", vec![Scalar::Text(id.to_string())]),
            ("date", vec![Scalar::Integer(5)]),
            ("installation", vec![text(&installation)]),
        ];
        let found: Vec<_> = document
            .fields
            .iter()
            .map(|(f, v)| (&*f.name, v.clone()))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(document.annotations, [("guid".to_owned(), "g".to_owned())]);
    }

    #[test]
    fn what_is_no_object_is_no_document() {
        let catalogue = Catalogue::builtin();
        for bad in ["", "[]", "{\"signature\": ", "{} {}"] {
            let id = CrashId::from_bits(7);
            let none = BTreeMap::new();
            let document = Document::new(&catalogue, 3, id, Timestamp(0), bad.as_bytes(), &none);
            assert!(document.is_err(), "{bad}");
        }
    }
}
