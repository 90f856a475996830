//! The processed crash as readers see it: flat fields, and the walk.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::walk::Walk;

/// Prefix of the keys of dumps other than the main one. No field has this prefix.
pub(crate) const OTHER_DUMP_PREFIX: &str = "upload_file_minidump_";

/// A parsed processed crash from the store.
#[derive(Debug, Default)]
pub(crate) struct ProcessedCrash {
    /// Every key except those of walks, in the order of processing.
    pub(crate) fields: Map<String, Value>,
    pub(crate) walk: Option<Walk>,
    /// The report's other dumps, by name.
    pub(crate) other_dumps: Vec<(String, OtherDump)>,
}

/// A dump other than the main one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OtherDump {
    /// The result of the walk, in Socorro's words.
    #[serde(rename = "mdsw_status_string")]
    pub(crate) status: Option<String>,
    #[serde(rename = "json_dump")]
    pub(crate) walk: Option<Walk>,
}

#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    json_dump: Option<&'a RawValue>,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl ProcessedCrash {
    /// Parses the JSON that processing wrote.
    ///
    /// # Errors
    /// `json` is not a processed crash.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let stored: Stored = serde_json::from_slice(json)?;
        let walk = stored
            .json_dump
            .map(|walk| serde_json::from_str(walk.get()))
            .transpose()?;
        let mut fields = stored.fields;
        let names: Vec<String> = fields
            .keys()
            .filter(|key| key.starts_with(OTHER_DUMP_PREFIX))
            .cloned()
            .collect();
        let mut other_dumps = Vec::new();
        for name in names {
            if let Some(dump) = fields.shift_remove(&name) {
                other_dumps.push((name, serde_json::from_value(dump)?));
            }
        }
        Ok(Self {
            fields,
            walk,
            other_dumps,
        })
    }

    /// Writes a processed crash in the form that is parsed: fields first, the walk (as JSON) last.
    pub(crate) fn write(fields: &Map<String, Value>, walk: Option<&str>) -> Vec<u8> {
        let json = serde_json::to_vec(fields).expect("a map of JSON values is JSON");
        Self::with_walk(json, walk)
    }

    /// Appends the walk to the fields. `json` is an object with the fields.
    pub(crate) fn with_walk(mut json: Vec<u8>, walk: Option<&str>) -> Vec<u8> {
        if let Some(walk) = walk {
            // The walk's text is copied: parsing it and writing it again would cost more than all the rest of
            // processing.
            json.pop();
            json.extend_from_slice(b",\"json_dump\":");
            json.extend_from_slice(walk.trim_ascii().as_bytes());
            json.push(b'}');
        }
        json
    }

    /// The JSON of a processed crash with some of its fields changed.
    ///
    /// # Errors
    /// `json` is not an object, so it is not a processed crash.
    pub(crate) fn edited(
        json: &[u8],
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<Vec<u8>, serde_json::Error> {
        let mut stored: Stored = serde_json::from_slice(json)?;
        change(&mut stored.fields);
        Ok(Self::write(
            &stored.fields,
            stored.json_dump.map(RawValue::get),
        ))
    }

    /// A field's value as text, unless it is missing or empty.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        match self.fields.get(key)? {
            Value::Null => None,
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(text.clone()),
            Value::Array(items) => {
                let texts: Vec<String> = items
                    .iter()
                    .map(|item| {
                        item.as_str()
                            .map_or_else(|| item.to_string(), str::to_owned)
                    })
                    .collect();
                (!texts.is_empty()).then(|| texts.join(", "))
            }
            other => Some(other.to_string()),
        }
    }
}
