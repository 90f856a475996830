//! A symbol server with Breakpad's and Microsoft's layouts, and debuginfod.
//!
//! | address | what |
//! |---|---|
//! | `/symbols/<debug file>/<DEBUGID>/<name>.sym` | the symbol file that walks use |
//! | `/symbols/<program>/<code id>/<name>.sym` | 302 to the same, found by the program |
//! | `/symbols/<pdb>/<DEBUGID>/<pdb>` | the debug file as uploaded |
//! | `/symbols/<program>/<code id>/<program>` | the program as uploaded (PE, ELF, Mach-O) |
//! | `/symbols/<name>/elf-buildid[-sym]-<id>/<name>`, `mach-uuid[-sym]-<id>` | the same by SSQP keys |
//! | `/buildid/<id>/debuginfo`, `/buildid/<id>/executable` | ELF files by build id |
//!
//! All paths below `/symbols` also exist at the root, as on Tecken: `/<debug file>/<DEBUGID>/<name>.sym`.
//!
//! A debug id identifies a build. So names are compared only if two files of one build differ in them.

use std::io::Read;

use flate2::Compression;
use flate2::read::GzEncoder;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::app::App;
use crate::crash::symbols::{DEBUG_ID_DIGITS, Kind, Module, Upload};
use crate::symbols::{OpenText, place_of};
use crate::web::{Body, Captures, Request, Response, TEXT, WebError, accepts_gzip};

const BINARY: &str = "application/octet-stream";

/// The kind of file that is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    SymbolFile,
    /// The file with the debug information.
    Debug,
    /// The file with the code.
    Program,
}

/// `GET /symbols/<name>/<id>/<file>`.
///
/// # Errors
/// 503 while the store cannot be read, 500 if the file or stored data cannot be read. A file that is not
/// stored is not an error, but an answer with status 404.
pub(crate) fn download(
    app: &App,
    request: &Request,
    captures: &Captures,
) -> Result<Response, WebError> {
    // The key may have a prefix in front of the id, which says what kind of id it is.
    let [name, key, file] = ["file", "id", "name"].map(|segment| captures.get(segment));
    if is_other_form(file) {
        return Ok(not_found(app));
    }
    let (id, wanted) = what_is_asked(key, file);
    let found = if id.len() >= *DEBUG_ID_DIGITS.start() && !is_program_id(key) {
        match app.symbols.module(id) {
            Some(module) => Some(module),
            None => return plain(app, request, [name, id, file]),
        }
    } else {
        by_code(app, name, id)?
    };
    if let (Some(module), Wanted::SymbolFile) = (&found, wanted)
        && id.len() < *DEBUG_ID_DIGITS.start()
    {
        return Ok(moved_to(app, request, module));
    }
    answer(app, request, found, wanted)
}

/// `GET /buildid/<id>/debuginfo` and `/executable`.
///
/// # Errors
/// 503 while the store cannot be read, 500 if the file or stored data cannot be read. A file that is not
/// stored is not an error, but an answer with status 404.
pub(crate) fn debuginfod(
    app: &App,
    request: &Request,
    captures: &Captures,
) -> Result<Response, WebError> {
    let [id, what] = ["build_id", "what"].map(|segment| captures.get(segment));
    let wanted = match what {
        "debuginfo" => Wanted::Debug,
        "executable" => Wanted::Program,
        _ => return Ok(not_found(app)),
    };
    answer(app, request, by_code(app, "", id)?, wanted)
}

/// The id without its SSQP prefix, and the kind of file that is requested.
fn what_is_asked<'a>(id: &'a str, file: &str) -> (&'a str, Wanted) {
    for (key, wanted) in [
        ("elf-buildid-sym-", Wanted::Debug),
        ("mach-uuid-sym-", Wanted::Debug),
        ("elf-buildid-", Wanted::Program),
        ("mach-uuid-", Wanted::Program),
    ] {
        if let Some(id) = id.strip_prefix(key) {
            return (id, wanted);
        }
    }
    let is_symbol_file = file.to_ascii_lowercase().ends_with(".sym");
    match is_symbol_file {
        true => (id, Wanted::SymbolFile),
        false if id.len() >= *DEBUG_ID_DIGITS.start() => (id, Wanted::Debug),
        false => (id, Wanted::Program),
    }
}

/// Debuggers ask a symsrv server for a file compressed as a cabinet (`crash.pd_`), and for a file that
/// contains a path to another (`file.ptr`). We have neither, and the file itself would be a wrong answer.
fn is_other_form(file: &str) -> bool {
    let file = file.to_ascii_lowercase();
    file == "file.ptr"
        || file
            .rsplit_once('.')
            .is_some_and(|(_, ending)| ending.ends_with('_'))
}

/// Redirects a client that knows only the program to the path with the debug file, as Tecken does.
fn moved_to(app: &App, request: &Request, module: &Module) -> Response {
    app.metrics.symbols_asked.add("hit");
    let root = if request.path.starts_with("/symbols/") {
        "/symbols"
    } else {
        ""
    };
    let place: Vec<String> = place_of(module)
        .split('/')
        .map(|segment| utf8_percent_encode(segment, NON_ALPHANUMERIC).to_string())
        .map(|segment| {
            segment
                .replace("%2E", ".")
                .replace("%2D", "-")
                .replace("%5F", "_")
        })
        .collect();
    let query = if request.query.0.is_empty() {
        String::new()
    } else {
        format!("?{}", request.query.to_query())
    };
    Response::text(302, "").with("location", format!("{root}/{}{query}", place.join("/")))
}

/// True for keys that identify a program, whatever their length.
fn is_program_id(id: &str) -> bool {
    id.starts_with("elf-buildid-") || id.starts_with("mach-uuid-")
}

/// Several builds may have the same short program id. Then the name decides.
fn by_code(app: &App, name: &str, id: &str) -> Result<Option<Module>, WebError> {
    let rows = app.store.symbols_by_code(&id.to_ascii_lowercase())?;
    let named = rows.iter().position(|row| {
        let module = &row.module;
        [&module.code_file, &module.debug_file]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    });
    let at = named.unwrap_or(0);
    let debug_id = rows.get(at).map(|row| row.module.debug_id.as_str());
    Ok(debug_id.and_then(|debug_id| app.symbols.module(debug_id)))
}

fn answer(
    app: &App,
    request: &Request,
    module: Option<Module>,
    wanted: Wanted,
) -> Result<Response, WebError> {
    let Some(module) = module else {
        return Ok(not_found(app));
    };
    if wanted == Wanted::SymbolFile {
        return Ok(match app.symbols.open(&module.debug_id) {
            Some(text) => symbol_file(app, request, text),
            None => not_found(app),
        });
    }
    let Some(upload) = original(&module, wanted) else {
        return Ok(not_found(app));
    };
    let reader = app.symbols.open_original(&module, upload);
    let reader = reader.map_err(|error| {
        tracing::error!(%error, debug_id = module.debug_id, "an upload cannot be read");
        WebError::new(500, "the file cannot be read")
    })?;
    app.metrics.symbols_asked.add("hit");
    let response = Response {
        status: 200,
        content_type: BINARY,
        headers: vec![("x-debuginfod-size", upload.bytes.to_string())],
        body: Body::Stream {
            reader,
            bytes: Some(upload.bytes),
        },
    };
    Ok(response)
}

/// The newest matching upload that is in use, otherwise the newest matching one without a conflict.
fn original(module: &Module, wanted: Wanted) -> Option<&Upload> {
    let fits = |upload: &Upload| match (wanted, upload.kind) {
        (_, Kind::Sym | Kind::Split | Kind::Sources) => false,
        (Wanted::Program, _) => upload.holds_code,
        (_, Kind::Pdb) => true,
        (_, Kind::Pe) => false,
        // A program with names from its symbol table only is not debug information.
        _ => upload.content.lines > 0 || !upload.holds_code,
    };
    let all = || module.uploads.iter().enumerate().rev();
    let in_use = all().find(|(at, upload)| fits(upload) && module.is_in_use(*at));
    let unflagged = || all().find(|(_, upload)| fits(upload) && !upload.conflict);
    in_use.or_else(unflagged).map(|(_, upload)| upload)
}

/// A symbol file in a folder with Breakpad's layout.
fn plain(app: &App, request: &Request, names: [&str; 3]) -> Result<Response, WebError> {
    let [name, id, file] = names;
    let found = if file.to_ascii_lowercase().ends_with(".sym") {
        app.symbol_dirs.find(name, id)
    } else {
        None
    };
    Ok(match found.and_then(|found| found.open().ok()) {
        Some(text) => symbol_file(app, request, text),
        None => not_found(app),
    })
}

fn not_found(app: &App) -> Response {
    app.metrics.symbols_asked.add("miss");
    Response::text(404, "Symbol Not Found\n")
}

fn symbol_file(app: &App, request: &Request, text: OpenText) -> Response {
    app.metrics.symbols_asked.add("hit");
    let packed = accepts_gzip(request.header("accept-encoding").unwrap_or_default());
    let reader: Box<dyn Read + Send> = if packed {
        Box::new(GzEncoder::new(text.reader, Compression::fast()))
    } else {
        text.reader
    };
    let response = Response {
        status: 200,
        content_type: TEXT,
        headers: vec![("vary", "accept-encoding".into())],
        body: Body::Stream {
            reader,
            bytes: text.bytes.filter(|_| !packed),
        },
    };
    if packed {
        response.with("content-encoding", "gzip".into())
    } else {
        response
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_which_file_is_wanted() {
        const ID: &str = "3249D99D0C4049318610F4E4FB0B69361";
        for (id, file, expected) in [
            (ID, "crash.sym", (ID, Wanted::SymbolFile)),
            (ID, "crash.pdb", (ID, Wanted::Debug)),
            (
                "5ab38077c000",
                "crash.exe",
                ("5ab38077c000", Wanted::Program),
            ),
            (
                "5ab38077c000",
                "crash.sym",
                ("5ab38077c000", Wanted::SymbolFile),
            ),
            ("elf-buildid-c0", "a", ("c0", Wanted::Program)),
            ("elf-buildid-sym-c0", "_.debug", ("c0", Wanted::Debug)),
            ("mach-uuid-sym-67", "_.dwarf", ("67", Wanted::Debug)),
        ] {
            assert_eq!(what_is_asked(id, file), expected);
        }
    }
}
