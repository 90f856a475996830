//! Stored symbols, and symbols that crashes lack, for programs.

use serde_json::{Value, json};

use super::doc::{AnswerDoc, Doc, Param, ParamKind, any_object, list, object};
use crate::app::App;
use crate::clock::Timestamp;
use crate::fields::name;
use crate::missing_symbols;
use crate::store::symbols::StoredSymbols;
use crate::web::{Captures, Request, Response, WebError};

const FINDINGS_DEFAULT: usize = 100;
const FINDINGS_MAX: usize = 1_000;

const HITS: AnswerDoc = AnswerDoc::Json(|| object(&[("hits", list(any_object()))]));

pub(crate) const MISSING: Doc = Doc::new(
    "Modules without symbols, with the cause and the fix; sorted by affected crashes",
    &[
        Param::new("product", ParamKind::Text, "Product"),
        Param::new("version", ParamKind::Text, "Version"),
        Param::new(
            "_results_number",
            ParamKind::Number(FINDINGS_MAX as u64),
            "Maximum number of modules; default: 100",
        ),
    ],
    HITS,
);

pub(crate) const SYMBOLS: Doc = Doc::new(
    "Modules with stored symbols, by debug id, code id or debug file",
    &[
        Param::new("debug_id", ParamKind::Text, "Debug id"),
        Param::new("code_id", ParamKind::Text, "Code id"),
        Param::new("debug_file", ParamKind::Text, "Debug file"),
    ],
    HITS,
);

/// `GET /api/MissingSymbols/`: the missing symbols and their causes. `product` and `version` restrict the
/// crashes.
///
/// # Errors
/// 400 if `_results_number` is not a number in its range. 503 while the store cannot be read, 500 if stored
/// data is damaged.
pub(crate) fn missing(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let params = &request.query;
    let limit = params.number("_results_number", 0..=FINDINGS_MAX)?;
    let limit = limit.unwrap_or(FINDINGS_DEFAULT);
    let (product, version) = (params.get(name::PRODUCT), params.get(name::VERSION));
    let findings = missing_symbols::examine(&app.store, &app.symbol_dirs, product, version, limit)?;
    let address = app.address(request);
    let hits: Vec<Value> = findings.iter().map(|f| f.to_json(&address)).collect();
    Ok(Response::json(&json!({ "hits": hits })))
}

/// `GET /api/Symbols/`: modules by `debug_id`, `code_id` or `debug_file`.
///
/// # Errors
/// 400 if none of these parameters is present. 503 while the store cannot be read, 500 if stored data is
/// damaged.
pub(crate) fn symbols(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let params = &request.query;
    let rows = if let Some(id) = params.get("debug_id") {
        let row = app.store.symbols_of(&id.to_ascii_uppercase())?;
        row.into_iter().collect()
    } else if let Some(id) = params.get("code_id") {
        app.store.symbols_by_code(&id.to_ascii_lowercase())?
    } else if let Some(file) = params.get("debug_file") {
        app.store.symbols_named(file)?
    } else {
        return Err(WebError::bad(
            "debug_id",
            "no module given; send debug_id, code_id or debug_file",
        ));
    };
    let hits: Vec<Value> = rows.iter().map(module).collect();
    Ok(Response::json(&json!({ "hits": hits })))
}

fn module(row: &StoredSymbols) -> Value {
    let module = &row.module;
    let content = module.content();
    let uploads: Vec<Value> = (module.uploads.iter().enumerate())
        .map(|(at, upload)| {
            json!({
                "kind": upload.kind.name(),
                "name": upload.name,
                "sha256": upload.sha256,
                "bytes": upload.bytes,
                "stored_bytes": upload.stored_bytes,
                "uploaded_at": Timestamp::from_ms(upload.added_at_ms).rfc3339(),
                "in_use": module.is_in_use(at),
                "conflict": upload.conflict,
            })
        })
        .collect();
    let releases: Vec<Value> = (row.releases.iter())
        .map(|release| json!({ "product": release.product, "version": release.version }))
        .collect();
    json!({
        "debug_file": module.debug_file,
        "debug_id": module.debug_id,
        "code_file": module.code_file,
        "code_id": module.code_id,
        "os": module.os,
        "arch": module.arch,
        "functions": content.functions,
        "publics": content.publics,
        "unwind_rules": content.cfi + content.win,
        "usable": content.has_functions() && content.has_unwind(),
        "coverage": module.coverage_sentence(),
        "last_used_at": row.used_at_ms.map(|ms| Timestamp::from_ms(ms).rfc3339()),
        "uploads": uploads,
        "releases": releases,
    })
}
