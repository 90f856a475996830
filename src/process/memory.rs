//! The step that reads a memory report: how the crashing process used its memory.
//!
//! Clients of the Firefox family send it as the gzipped JSON attachment `memory_report`. It is a list of
//! amounts per process and path, with up to hundreds of thousands of entries. The step adds them up while it
//! reads them, so that only the sums are in memory.

use std::fmt;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::draft::Draft;
use crate::limits;

/// Name of the attachment.
pub(crate) const PART: &str = "memory_report";

/// Values of the key `kind` of an amount.
const KIND_NONHEAP: i64 = 0;
const KIND_HEAP: i64 = 1;

/// Measures that are the amount of one path, or the sum of all paths below it (with `/` at the end).
const PATHS: [(&str, &str); 14] = [
    ("gfx_textures", "gfx-textures"),
    ("ghost_windows", "ghost-windows"),
    ("heap_allocated", "heap-allocated"),
    ("heap_overhead", "explicit/heap-overhead/"),
    ("host_object_urls", "host-object-urls"),
    ("images", "explicit/images/"),
    ("js_main_runtime", "js-main-runtime/"),
    ("private", "private"),
    ("resident", "resident"),
    ("resident_unique", "resident-unique"),
    ("system_heap_allocated", "system-heap-allocated"),
    (
        "top_none_detached",
        "explicit/window-objects/top(none)/detached/",
    ),
    ("vsize", "vsize"),
    ("vsize_max_contiguous", "vsize-max-contiguous"),
];

/// One amount in a report.
#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    process: String,
    path: String,
    kind: i64,
    amount: i64,
}

/// The sums of one process.
struct Sums {
    /// Part of the name of the process.
    pid: String,
    found: bool,
    by_path: [i64; PATHS.len()],
    explicit_heap: i64,
    explicit_nonheap: i64,
}

pub(super) fn measures(draft: &mut Draft) -> Result<(), String> {
    let Some(packed) = draft.input.memory_report else {
        return Ok(());
    };
    let pid = draft.walk.as_ref().and_then(|walk| walk.pid);
    match pid
        .ok_or_else(|| "the dump has no process id".to_owned())
        .and_then(|pid| read(packed, pid))
    {
        Ok(measures) => {
            for (name, value) in &measures {
                draft.set(format!("memory_{name}").as_str(), value.clone());
            }
            draft.set("memory_measures", Value::Object(measures));
            Ok(())
        }
        Err(why) => {
            // The reason may quote the report, and notes are public.
            draft.set("memory_report_error", why.as_str());
            Err("the memory report is invalid; see memory_report_error".into())
        }
    }
}

/// The measures of a process by name, in bytes, except for numbers of windows and URLs.
fn read(packed: &[u8], pid: u64) -> Result<Map<String, Value>, String> {
    let bytes = MultiGzDecoder::new(packed).take(limits::MEMORY_REPORT_INFLATED_BYTES_MAX);
    let mut sums = Sums {
        pid: format!("(pid {pid})"),
        found: false,
        by_path: [0; PATHS.len()],
        explicit_heap: 0,
        explicit_nonheap: 0,
    };
    let mut reader = serde_json::Deserializer::from_reader(std::io::BufReader::new(bytes));
    Report(&mut sums)
        .deserialize(&mut reader)
        .map_err(|e| e.to_string())?;
    if !sums.found {
        return Err(format!("it contains no data of process {pid}"));
    }
    Ok(sums.measures())
}

impl Sums {
    fn add(&mut self, item: &Item) {
        if !item.process.contains(&self.pid) {
            return;
        }
        self.found = true;
        if item.path.starts_with("explicit/") {
            match item.kind {
                KIND_HEAP => self.explicit_heap = self.explicit_heap.saturating_add(item.amount),
                KIND_NONHEAP => {
                    self.explicit_nonheap = self.explicit_nonheap.saturating_add(item.amount);
                }
                _ => {}
            }
        }
        for ((_, path), sum) in PATHS.iter().zip(&mut self.by_path) {
            let is_it = if path.ends_with('/') {
                item.path.starts_with(path)
            } else {
                item.path == *path
            };
            if is_it {
                *sum = sum.saturating_add(item.amount);
            }
        }
    }

    fn measures(&self) -> Map<String, Value> {
        let named = PATHS.iter().zip(self.by_path);
        let mut measures: Map<String, Value> = named
            .map(|((name, _), sum)| ((*name).to_owned(), sum.into()))
            .collect();
        let allocated = measures["heap_allocated"].as_i64().unwrap_or(0);
        let explicit = allocated.saturating_add(self.explicit_nonheap);
        let unclassified = allocated.saturating_sub(self.explicit_heap);
        measures.insert("explicit".into(), explicit.into());
        measures.insert("heap_unclassified".into(), unclassified.into());
        measures
    }
}

/// Reads the object that contains the list.
struct Report<'s>(&'s mut Sums);

impl<'de> DeserializeSeed<'de> for Report<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Report<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with reports")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "reports" => map.next_value_seed(Items(&mut *self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Adds up the list.
struct Items<'s>(&'s mut Sums);

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of amounts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element::<Item>()? {
            self.0.add(&item);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use serde_json::json;

    use super::*;

    fn packed(report: &Value) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder
            .write_all(report.to_string().as_bytes())
            .expect("memory");
        encoder.finish().expect("memory")
    }

    fn item(process: &str, path: &str, kind: i64, amount: i64) -> Value {
        json!({ "process": process, "path": path, "kind": kind, "units": 0, "amount": amount, "description": "x" })
    }

    #[test]
    fn amounts_of_the_crashing_process_are_added_up() {
        let report = json!({ "version": 1, "hasMozMallocUsableSize": true, "reports": [
            item("Main Process (pid 7)", "heap-allocated", 2, 1_000),
            item("Main Process (pid 7)", "explicit/images/a", KIND_HEAP, 300),
            item("Main Process (pid 7)", "explicit/images/b", KIND_NONHEAP, 20),
            item("Main Process (pid 7)", "explicit/heap-overhead/x", KIND_NONHEAP, 5),
            item("Main Process (pid 7)", "resident", 2, 9_000),
            item("web (pid 77)", "resident", 2, 123_456),
        ]});
        let measures = read(&packed(&report), 7).expect("a report");
        let of = |name: &str| measures[name].as_i64().expect("a number");
        assert_eq!(
            (of("images"), of("heap_overhead"), of("resident")),
            (320, 5, 9_000)
        );
        assert_eq!((of("explicit"), of("heap_unclassified")), (1_025, 700));
        assert_eq!(measures.len(), 16);
    }

    #[test]
    fn a_report_that_says_nothing_of_the_process_is_told() {
        let report = json!({ "reports": [item("web (pid 77)", "resident", 2, 1)] });
        assert!(read(&packed(&report), 7).is_err_and(|why| why.contains("process 7")));
        assert!(read(b"no gzip", 7).is_err());
        assert!(read(&packed(&json!([])), 7).is_err());
        assert!(read(&packed(&json!({ "reports": [{}] })), 7).is_err());
    }
}
