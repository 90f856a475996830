//! Exports any search as a file: CSV, JSON, or one JSON line per crash. The file is sent while the search
//! runs.

use std::io::{self, Read};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::doc::{AnswerDoc, Doc, Param, ParamKind};
use super::everything::Everything;
use super::parsed;
use super::table::cell_of;
use crate::app::App;
use crate::index::Hit;
use crate::web::{Body, Captures, Request, Response, WebError};

pub(crate) const EXPORT: Doc = Doc::new(
    "All crashes that a search finds, newest first, as a streamed file. The header X-Not-Indexed names the annotations of the search that are not indexed for every crash",
    &[Param::new(
        "format",
        ParamKind::Choice(&["csv", "json", "ndjson"]),
        "File format; default: csv",
    )],
    AnswerDoc::Files(&["text/csv", "application/json", "application/x-ndjson"]),
)
.search();

/// Header with the annotations in the search that are not indexed for every crash.
const NOT_INDEXED: &str = "x-not-indexed";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Csv,
    Json,
    NdJson,
}

impl Format {
    const ALL: [(&'static str, Format, &'static str); 3] = [
        ("csv", Format::Csv, "text/csv; charset=utf-8"),
        ("json", Format::Json, "application/json"),
        ("ndjson", Format::NdJson, "application/x-ndjson"),
    ];
}

/// All crashes that the search finds, newest first, with the requested columns.
///
/// # Errors
/// 400 if the format is unknown or the search is invalid or exceeds its limits. 503 while the index cannot
/// answer or is still being built. An error after the first page cuts the answer.
pub(crate) fn export(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let asked = request.query.get("format").unwrap_or("csv");
    let found = Format::ALL.into_iter().find(|(name, ..)| *name == asked);
    let Some((name, format, content_type)) = found else {
        let known = Format::ALL.map(|(name, ..)| name).join(", ");
        return Err(WebError::bad(
            "format",
            format!("unknown format {asked:?}; accepted: {known}"),
        ));
    };
    let params: Vec<(String, String)> = request
        .query
        .0
        .iter()
        .filter(|(key, _)| key != "format")
        .cloned()
        .collect();
    let query = parsed(app, request, &params)?;
    let columns: Vec<String> = query.columns.iter().map(|column| column.name()).collect();
    let mut file = File {
        format,
        columns,
        all: Everything::new(app.index.clone(), query),
        bytes: Vec::new(),
        sent: 0,
        has_begun: false,
        has_rows: false,
        has_ended: false,
    };
    // If the search fails, the answer has an error status. The client does not get a truncated file.
    file.fill()?;
    let not_indexed = {
        let names = file.all.not_indexed.iter();
        let names = names.map(|name| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string());
        // Characters in the name of an annotation that need no encoding in a header.
        names
            .collect::<Vec<_>>()
            .join(", ")
            .replace("%2E", ".")
            .replace("%5F", "_")
    };
    let response = Response {
        body: Body::Stream {
            reader: Box::new(file),
            bytes: None,
        },
        ..Response::new(200, content_type, "")
    }
    .with(
        "content-disposition",
        format!("attachment; filename=\"crashes.{name}\""),
    );
    // A file of rows has no place for this list.
    Ok(if not_indexed.is_empty() {
        response
    } else {
        response.with(NOT_INDEXED, not_indexed)
    })
}

struct File {
    format: Format,
    columns: Vec<String>,
    all: Everything,
    bytes: Vec<u8>,
    sent: usize,
    has_begun: bool,
    has_rows: bool,
    has_ended: bool,
}

impl File {
    /// Replaces the buffer by the next part of the file.
    fn fill(&mut self) -> Result<(), WebError> {
        self.bytes.clear();
        self.sent = 0;
        if !self.has_begun {
            self.has_begun = true;
            match self.format {
                Format::Csv => self.row(self.columns.clone())?,
                Format::Json => self.bytes.extend_from_slice(b"{\"hits\":["),
                Format::NdJson => {}
            }
        }
        let hits = self.all.next_page()?;
        if hits.is_empty() {
            self.has_ended = true;
            if self.format == Format::Json {
                self.bytes.extend_from_slice(b"]}\n");
            }
        }
        for hit in hits {
            self.hit(hit)?;
        }
        Ok(())
    }

    fn hit(&mut self, hit: Hit) -> Result<(), WebError> {
        if self.format == Format::Csv {
            return self.row(hit.values.into_iter().map(cell_of).collect());
        }
        let object: Map<String, Value> = self.columns.iter().cloned().zip(hit.values).collect();
        if self.format == Format::Json && self.has_rows {
            self.bytes.push(b',');
        }
        self.has_rows = true;
        self.bytes
            .extend_from_slice(Value::Object(object).to_string().as_bytes());
        if self.format == Format::NdJson {
            self.bytes.push(b'\n');
        }
        Ok(())
    }

    fn row(&mut self, cells: Vec<String>) -> Result<(), WebError> {
        super::table::row(&mut self.bytes, cells)
    }
}

impl Read for File {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.sent == self.bytes.len() && !self.has_ended {
            self.fill()
                .map_err(|error| io::Error::other(error.message))?;
        }
        let left = &self.bytes[self.sent..];
        let taken = left.len().min(into.len());
        into[..taken].copy_from_slice(&left[..taken]);
        self.sent += taken;
        Ok(taken)
    }
}
