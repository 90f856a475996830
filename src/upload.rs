//! Turns the body of a request into symbol files. The body is a form, an archive, or only one file.
//!
//! The body is already in a file. Each file in a form goes to its own file, so that only a piece of it is in
//! memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};

use crate::app::App;
use crate::config::Config;
use crate::limits;
use crate::multipart::{self, BadContentType, Multipart, MultipartError, PartHead, PartSink};
use crate::outbound::{self, Outbound};
use crate::store::symbols::{Release, SymbolChange};
use crate::symbols;
use crate::symbols::arrival::{Arrival, Receiver};
use crate::symbols::check::Refused;
use crate::symbols::{Bounds, Conflict, SymbolStore};
use crate::web::{Method, Params, Request, WebError};

/// The name of a file that arrives without one.
pub(crate) const NAMELESS: &str = "body";

/// The result of an upload.
pub(crate) struct Upload {
    pub(crate) arrivals: Vec<Arrival>,
    /// Text fields of the form.
    pub(crate) fields: BTreeMap<String, String>,
    /// The client's name for the first file.
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// Stores the symbols in a request, and has the crashes that lacked them reprocessed. `name` is the file
/// name in the URL, if any. A file that is refused is not an error: its verdict is in the result.
///
/// # Errors
/// The body is not valid, or storage failed. The error is the answer to the client. With status 503 the
/// client should send the upload again later.
pub(crate) fn take(
    app: &App,
    request: &Request,
    name: Option<&str>,
    body: File,
) -> Result<Upload, WebError> {
    let upload = take_in(app, request, name, body)?;
    let arrivals = &upload.arrivals;
    record(app, arrivals, release(request, &upload.fields))?;
    Ok(upload)
}

/// Records the stored symbols in the store, and has the crashes that lacked them reprocessed.
///
/// # Errors
/// 503 while the store cannot be written. The symbols are stored nevertheless, and the next pass of
/// retention records them without their release. 500 if the row of a module is damaged.
pub(crate) fn record(
    app: &App,
    arrivals: &[Arrival],
    release: Option<Release>,
) -> Result<(), WebError> {
    let verdicts = arrivals.iter().flat_map(|arrival| &arrival.verdicts);
    let mut changes = Vec::new();
    for verdict in verdicts {
        app.metrics.symbols_uploaded.add(verdict.outcome());
        if let Ok(taken) = &verdict.result
            && !taken.is_sources()
        {
            changes.push(SymbolChange::Put {
                module: taken.module.clone(),
                release: release.clone(),
            });
        }
    }
    if !changes.is_empty() {
        app.store.change_symbols(changes)?;
    }
    if let Some(late_symbols) = &app.late_symbols {
        late_symbols.wake();
    }
    Ok(())
}

/// The release that the symbols belong to, if the URL or the form names one.
fn release(request: &Request, fields: &BTreeMap<String, String>) -> Option<Release> {
    let named = |key: &str| {
        let text = request
            .query
            .get(key)
            .or(fields.get(key).map(String::as_str));
        text.map(|text| {
            text.chars()
                .take(limits::NAME_CHARS_MAX)
                .collect::<String>()
        })
    };
    Some(Release {
        product: named("product").filter(|product| !product.is_empty())?,
        version: named("version").unwrap_or_default(),
    })
}

/// The receiver that stores the files of a request.
pub(crate) fn receiver<'a>(app: &'a App, config: &Config, conflict: Conflict) -> Receiver<'a> {
    Receiver {
        symbol_store: &app.symbols,
        converter: &app.converter,
        bounds: bounds(config),
        conflict,
        now_ms: app.clock.now().ms(),
    }
}

/// Stores the files in the body. `name` is the name of a body that is a single file.
fn take_in(
    app: &App,
    request: &Request,
    name: Option<&str>,
    body: File,
) -> Result<Upload, WebError> {
    let config = app.config.get();
    let receiver = receiver(app, &config, conflict_asked(request)?);
    let bytes = body.metadata().map_err(storage)?.len();
    let mut body = decoded(request, body, &receiver)?;
    body.rewind().map_err(storage)?;
    match multipart::boundary(request.header("content-type").unwrap_or_default()) {
        Ok(boundary) => take_form(&receiver, &boundary, body, bytes),
        Err(BadContentType::NoBoundary) => {
            let why = "the Content-Type header has no boundary";
            Err(WebError::new(400, why))
        }
        Err(BadContentType::Wrong) if is_reference(request, bytes) => {
            let (file, name) = fetched(app, &config, &mut body)?;
            take_single(&receiver, name, file, bytes)
        }
        // Only one file. curl calls it a form nevertheless.
        Err(BadContentType::Wrong) => {
            let name = name.unwrap_or(NAMELESS).to_owned();
            take_single(&receiver, name, body, bytes)
        }
    }
}

/// What the client wants done with a different file for a known debug id.
fn conflict_asked(request: &Request) -> Result<Conflict, WebError> {
    match request.query.get("replace") {
        Some("1") if request.is_admin() => Ok(Conflict::Replace),
        Some("1") => {
            let why = "replace=1 replaces the symbols in use; this needs the scope admin";
            Err(WebError::forbidden(why))
        }
        _ => Ok(Conflict::KeepFirst),
    }
}

/// The body without its content encoding.
fn decoded(request: &Request, body: File, receiver: &Receiver<'_>) -> Result<File, WebError> {
    let encoding = request.header("content-encoding").unwrap_or_default();
    match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" => {
            let mut inflated = receiver.symbol_store.incoming_file().map_err(storage)?;
            let done = symbols::inflate(body, &mut inflated, receiver.bounds);
            done.map_err(|refused| match refused {
                Refused::Bad(why) => WebError::new(400, why),
                Refused::Storage(error) => storage(error),
            })?;
            Ok(inflated)
        }
        _ => {
            let why = "unknown Content-Encoding; use gzip, or none";
            Err(WebError::new(415, why))
        }
    }
}

fn take_single(
    receiver: &Receiver<'_>,
    name: String,
    file: File,
    bytes: u64,
) -> Result<Upload, WebError> {
    let arrival = receiver.take(file, &name).map_err(storage)?;
    Ok(Upload {
        arrivals: vec![arrival],
        fields: BTreeMap::new(),
        name,
        bytes,
    })
}

fn take_form(
    receiver: &Receiver<'_>,
    boundary: &str,
    body: File,
    bytes: u64,
) -> Result<Upload, WebError> {
    let mut form = Form::new(receiver.symbol_store);
    form.read(boundary, body)?;
    let Some(first) = form.files.first() else {
        let why = "the form has no file; send a zip, or a .sym file as symbol_file";
        return Err(WebError::new(400, why));
    };
    let name = first.file_name.clone();
    let mut arrivals = Vec::new();
    let mut together = receiver.together();
    for part in form.files {
        arrivals.push(together.take(part.file, &part.file_name).map_err(storage)?);
    }
    if let Some(last) = arrivals.last_mut() {
        last.verdicts.extend(together.finish());
    }
    Ok(Upload {
        arrivals,
        fields: form.fields,
        name,
        bytes,
    })
}

/// True if the body may be a form that contains the URL of an archive, as Tecken accepts it.
fn is_reference(request: &Request, bytes: u64) -> bool {
    let kind = request.header("content-type").unwrap_or_default();
    kind.starts_with("application/x-www-form-urlencoded")
        && bytes <= limits::UPLOAD_FIELD_BYTES_MAX as u64
        && request.method == Method::Post
}

/// The archive whose URL the body contains, and its name. The body itself if it contains no URL.
fn fetched(app: &App, config: &Config, body: &mut File) -> Result<(File, String), WebError> {
    let mut text = String::new();
    let read = body.read_to_string(&mut text);
    let address = match read {
        Ok(_) => Params::parse(&text).get("url").map(str::to_owned),
        Err(_not_text) => None,
    };
    let Some(address) = address else {
        let body = body.try_clone().map_err(storage)?;
        return Ok((body, NAMELESS.to_owned()));
    };
    let origins: Vec<&str> = config
        .symbols
        .fetch_from
        .0
        .iter()
        .map(String::as_str)
        .collect();
    if origins.is_empty() {
        return Err(WebError::bad(
            "url",
            "downloads from other servers are disabled; send the file itself, or add the server to symbols.fetch_from",
        ));
    }
    let mut file = app.symbols.incoming_file().map_err(storage)?;
    let outbound = Outbound::to(&origins, fetch_bounds(config));
    let name = address.rsplit('/').next().unwrap_or(NAMELESS).to_owned();
    match outbound.get_into(&address, &mut file) {
        Ok(200) => Ok((file, name)),
        Ok(status) => Err(WebError::bad(
            "url",
            format!("the server of this URL answered with status {status}"),
        )),
        Err(error) => Err(WebError::bad("url", error.to_string())),
    }
}

/// A file in a form.
pub(crate) struct FilePart {
    pub(crate) name: String,
    /// The name of the part if the file has no name.
    pub(crate) file_name: String,
    pub(crate) file: File,
}

/// The files in a form, unchanged.
///
/// # Errors
/// 400 if the body is not a valid form or a text field in it is too long, 413 if it has too many parts, 503
/// if a file cannot be stored.
pub(crate) fn form_files(
    app: &App,
    request: &Request,
    body: File,
) -> Result<Vec<FilePart>, WebError> {
    let boundary = multipart::boundary(request.header("content-type").unwrap_or_default())
        .map_err(|_| WebError::new(400, "the body is not a multipart form"))?;
    let mut form = Form::new(&app.symbols);
    form.read(&boundary, body)?;
    Ok(form.files)
}

/// Limits for fetching a file of symbols.
pub(crate) fn fetch_bounds(config: &Config) -> outbound::Bounds {
    outbound::Bounds {
        whole: config.symbols.fetch_deadline.0,
        body_bytes: config.symbols.fetch_bytes_max.0,
        ..outbound::Bounds::default()
    }
}

/// Limits for one upload after unpacking.
pub(crate) fn bounds(config: &Config) -> Bounds {
    Bounds {
        inflated_bytes_max: config.symbols.inflated_bytes_max.0,
        ratio_max: u64::from(config.http.ratio_max.value),
        free_bytes: limits::INFLATE_FREE_BYTES,
        entries_max: limits::UPLOAD_ENTRIES_MAX,
    }
}

/// The error for an upload that may be good but could not be stored.
pub(crate) fn storage(error: io::Error) -> WebError {
    tracing::error!(%error, "symbols could not be stored");
    WebError::new(
        503,
        format!("symbols cannot be stored: {error}; try again later"),
    )
}

/// Sorts the parts of a form into texts and files.
struct Form<'a> {
    symbol_store: &'a SymbolStore,
    fields: BTreeMap<String, String>,
    files: Vec<FilePart>,
    current: Current,
}

enum Current {
    Nothing,
    Text(String, Vec<u8>),
    File,
}

impl<'a> Form<'a> {
    fn new(symbol_store: &'a SymbolStore) -> Self {
        Self {
            symbol_store,
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
                let why = format!(
                    "the form has more than {} text fields",
                    limits::UPLOAD_FIELDS_MAX
                );
                return Err(WebError::new(413, why));
            }
            self.current = Current::Text(name, Vec::new());
            return Ok(());
        }
        if self.files.len() >= limits::FILES_MAX {
            let why = format!("the form has more than {} files", limits::FILES_MAX);
            return Err(WebError::new(413, why));
        }
        let file = self.symbol_store.incoming_file().map_err(storage)?;
        self.files.push(FilePart {
            file_name: head.file_name.unwrap_or_else(|| name.clone()),
            name,
            file,
        });
        self.current = Current::File;
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), WebError> {
        match (&mut self.current, self.files.last_mut()) {
            (Current::File, Some(part)) => part.file.write_all(bytes).map_err(storage),
            (Current::Text(name, text), _) => {
                if text.len() + bytes.len() > limits::UPLOAD_FIELD_BYTES_MAX {
                    let max = limits::UPLOAD_FIELD_BYTES_MAX;
                    let why = format!("the text field is longer than {max} bytes");
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
