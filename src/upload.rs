//! From the body of a request to symbol files: a form, an archive, or one file alone.
//!
//! The body lies in a file already. Parts of a form go to files of their own, so nothing here
//! holds more than a piece of any of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};

use crate::config::Config;
use crate::limits;
use crate::multipart::{self, BadContentType, Multipart, MultipartError, PartHead, PartSink};
use crate::symbols::arrival::{self, Arrival, Bounds};
use crate::symbols::check::Refused;
use crate::symbols::{Conflict, Shelf};
use crate::web::{App, Request, WebError};

/// What an upload came to.
pub struct Upload {
    pub arrivals: Vec<Arrival>,
    /// Texts of the form.
    pub fields: BTreeMap<String, String>,
    /// What the client calls the first file.
    pub name: String,
    pub bytes: u64,
}

/// Takes what a request brought, and has the crashes that lacked it done again. `name` is what its
/// address calls the file, if it does.
pub fn take(
    app: &App,
    request: &Request,
    name: Option<&str>,
    body: File,
) -> Result<Upload, WebError> {
    let upload = take_in(app, request, name, body)?;
    if let Some(mender) = &app.mender {
        mender.wake();
    }
    Ok(upload)
}

fn take_in(
    app: &App,
    request: &Request,
    name: Option<&str>,
    mut body: File,
) -> Result<Upload, WebError> {
    let config = app.config.get();
    let bounds = bounds(&config);
    // Whoever comes here is admin; the route says so.
    let conflict = match request.query.get("replace") {
        Some("1") => Conflict::Replace,
        _ => Conflict::KeepFirst,
    };
    let bytes = body.metadata().map_err(storage)?.len();
    let shelf = &app.symbols;
    let encoding = request.header("content-encoding").unwrap_or_default();
    match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => {}
        "gzip" | "x-gzip" => {
            let mut inflated = shelf.incoming_file().map_err(storage)?;
            arrival::inflate(body, &mut inflated, bounds).map_err(|refused| match refused {
                Refused::Bad(why) => WebError::new(400, why),
                Refused::Storage(error) => storage(error),
            })?;
            body = inflated;
        }
        _ => {
            return Err(WebError::new(
                415,
                "the Content-Encoding is not known; send gzip, or none",
            ));
        }
    }
    body.rewind().map_err(storage)?;
    let boundary = match multipart::boundary(request.header("content-type").unwrap_or_default()) {
        Ok(boundary) => boundary,
        Err(BadContentType::NoBoundary) => {
            return Err(WebError::new(
                400,
                "the Content-Type header names no boundary",
            ));
        }
        // One file alone; curl calls it a form all the same.
        Err(BadContentType::Wrong) => {
            let name = name.unwrap_or("body").to_owned();
            let arrival = arrival::take(shelf, body, &name, bounds, conflict).map_err(storage)?;
            return Ok(Upload {
                arrivals: vec![arrival],
                fields: BTreeMap::new(),
                name,
                bytes,
            });
        }
    };
    let mut form = Form::new(shelf);
    form.read(&boundary, body)?;
    if form.files.is_empty() {
        return Err(WebError::new(
            400,
            "the form has no file; send a zip, or a .sym file as symbol_file",
        ));
    }
    let name = form.files[0].0.clone();
    let mut arrivals = Vec::new();
    for (name, file) in form.files {
        arrivals.push(arrival::take(shelf, file, &name, bounds, conflict).map_err(storage)?);
    }
    Ok(Upload {
        arrivals,
        fields: form.fields,
        name,
        bytes,
    })
}

/// What one upload may grow to.
pub fn bounds(config: &Config) -> Bounds {
    Bounds {
        inflated_bytes_max: config.symbols.inflated_bytes_max.0,
        ratio_max: u64::from(config.http.ratio_max.value),
        free_bytes: limits::INFLATE_FREE_BYTES,
        entries_max: limits::UPLOAD_ENTRIES_MAX,
    }
}

/// An upload that could be good, but could not be kept.
pub fn storage(error: io::Error) -> WebError {
    tracing::error!(%error, "symbols could not be kept");
    WebError::new(
        503,
        format!("symbols cannot be kept: {error}; send them again later"),
    )
}

/// Sorts the parts of a form into texts and files.
struct Form<'a> {
    shelf: &'a Shelf,
    fields: BTreeMap<String, String>,
    files: Vec<(String, File)>,
    current: Current,
}

enum Current {
    Nothing,
    Text(String, Vec<u8>),
    File,
}

impl<'a> Form<'a> {
    fn new(shelf: &'a Shelf) -> Self {
        Self {
            shelf,
            fields: BTreeMap::new(),
            files: Vec::new(),
            current: Current::Nothing,
        }
    }

    fn read(&mut self, boundary: &str, mut body: File) -> Result<(), WebError> {
        let mut multipart = Multipart::new(boundary);
        let mut piece = vec![0; 64 * 1024];
        let told = |error: MultipartError<WebError>| match error {
            MultipartError::Sink(error) => error,
            other => WebError::new(400, other.to_string()),
        };
        loop {
            let count = body.read(&mut piece).map_err(storage)?;
            if count == 0 {
                return multipart.finish().map_err(told);
            }
            multipart.feed(&piece[..count], self).map_err(told)?;
        }
    }
}

impl PartSink for Form<'_> {
    type Error = WebError;

    fn begin(&mut self, head: PartHead) -> Result<(), WebError> {
        let name = head.name.unwrap_or_default();
        if head.file_name.is_none() && name != "symbol_file" {
            if self.fields.len() >= limits::UPLOAD_FIELDS_MAX {
                let why = format!("the form has more than {} texts", limits::UPLOAD_FIELDS_MAX);
                return Err(WebError::new(413, why));
            }
            self.current = Current::Text(name, Vec::new());
            return Ok(());
        }
        if self.files.len() >= limits::FILES_MAX {
            let why = format!("the form has more than {} files", limits::FILES_MAX);
            return Err(WebError::new(413, why));
        }
        let file = self.shelf.incoming_file().map_err(storage)?;
        self.files.push((head.file_name.unwrap_or(name), file));
        self.current = Current::File;
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), WebError> {
        match (&mut self.current, self.files.last_mut()) {
            (Current::File, Some((_, file))) => file.write_all(bytes).map_err(storage),
            (Current::Text(name, text), _) => {
                if text.len() + bytes.len() > limits::UPLOAD_FIELD_BYTES_MAX {
                    let max = limits::UPLOAD_FIELD_BYTES_MAX;
                    let why = format!("the text is longer than {max} bytes");
                    return Err(WebError::bad(name, why));
                }
                text.extend_from_slice(bytes);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), WebError> {
        if let Current::Text(name, text) = std::mem::replace(&mut self.current, Current::Nothing) {
            let text = String::from_utf8_lossy(&text).into_owned();
            self.fields.insert(name, text);
        }
        Ok(())
    }
}
