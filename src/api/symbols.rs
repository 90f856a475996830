//! Uploads of symbols from any tool.

use std::fs::File;

use serde_json::{Value, json};

use crate::app::App;
use crate::symbols::Placed;
use crate::symbols::arrival::Verdict;
use crate::symbols::check::Refused;
use crate::upload::{self, Upload};
use crate::web::{Captures, JSON, Request, Response, WebError};

/// `POST /upload/`, `POST /symbols`: returns what was stored, per file. The status for a zip is 201, as with
/// Tecken, and for everything else 200, because Breakpad's sym_upload accepts only that.
///
/// # Errors
/// 400 if the body is not valid or its URL cannot be fetched, 403 if `replace=1` needs more rights, 413 if
/// the form has too many parts, 415 for an unknown encoding, 503 if the symbols cannot be stored, 500 if
/// stored data is damaged. If no file is accepted, the answer has status 400 and the reason for each file. If
/// one cannot be stored, it has status 503.
pub(crate) fn upload(
    app: &App,
    request: &Request,
    captures: &Captures,
    body: File,
) -> Result<Response, WebError> {
    let name = Some(captures.get("name")).filter(|name| !name.is_empty());
    let upload = upload::take(app, request, name, body)?;
    let verdicts = || upload.arrivals.iter().flat_map(|arrival| &arrival.verdicts);
    let config = app.config.get();
    let base = config.http.public_url.base_path();
    let files: Vec<Value> = verdicts().map(|v| file(base, v, &upload)).collect();
    if let Some(why) = verdicts().find_map(storage_failure) {
        let answer = json!({ "error": format!("{why}; try again later"), "files": files });
        return Ok(Response {
            status: 503,
            ..Response::json(&answer)
        });
    }
    if verdicts().all(|verdict| verdict.result.is_err()) {
        let why = match verdicts().find_map(|verdict| verdict.result.as_ref().err()) {
            Some(refused) if files.len() == 1 => refused.to_string(),
            Some(refused) => format!("no file was accepted; the first error: {refused}"),
            None => "the archive has no files".to_owned(),
        };
        let answer = json!({ "error": why, "files": files });
        return Ok(Response {
            status: 400,
            ..Response::json(&answer)
        });
    }
    let is_archive = upload.arrivals.iter().any(|arrival| arrival.is_archive);
    let now = app.clock.now().rfc3339();
    let skipped: Vec<&str> = verdicts()
        .filter_map(|verdict| verdict.result.as_ref().ok())
        .filter(|taken| taken.placed == Placed::Same)
        .map(|taken| taken.place.as_str())
        .collect();
    let answer = json!({
        "upload": {
            "id": uuid::Uuid::from_u128((app.random)()).to_string(),
            "size": upload.bytes,
            "filename": upload.name,
            "bucket": "crashkeep",
            "region": null,
            "download_url": null,
            "try_symbols": false,
            "redirect_urls": [],
            "completed_at": now,
            "created_at": now,
            "user": "",
            "skipped_keys": skipped,
        },
        "files": files,
    });
    let status = if is_archive { 201 } else { 200 };
    Ok(Response {
        status,
        ..Response::json(&answer)
    })
}

fn storage_failure(verdict: &Verdict) -> Option<String> {
    match &verdict.result {
        Err(refused @ Refused::Storage(_)) => Some(refused.to_string()),
        _ => None,
    }
}

/// The result for one file. `base` is the base path of the public URL.
fn file(base: &str, verdict: &Verdict, upload: &Upload) -> Value {
    let taken = match &verdict.result {
        Ok(taken) => taken,
        Err(refused) => {
            return json!({
                "name": verdict.name,
                "outcome": verdict.outcome(),
                "error": refused.to_string(),
            });
        }
    };
    let mut notes = taken.notes.clone();
    // The file's own data counts. But if a form field differs from it, the client should know.
    for (field, said) in [
        ("debug_file", &taken.module.debug_file),
        ("debug_identifier", &taken.module.debug_id),
    ] {
        let differs = |form: &&String| {
            !form
                .replace('-', "")
                .eq_ignore_ascii_case(&said.replace('-', ""))
        };
        if upload.fields.get(field).filter(differs).is_some() {
            notes.push(format!(
                "{field} in the form differs from the file; the value in the file is used"
            ));
        }
    }
    let upload = taken.module.uploads.last();
    json!({
        "name": verdict.name,
        "outcome": verdict.outcome(),
        "kind": upload.map(|upload| upload.kind.name()),
        "debug_file": taken.module.debug_file,
        "debug_id": taken.module.debug_id,
        "url": format!("{base}/symbols/{}", taken.place),
        "bytes": taken.bytes,
        "notes": notes,
    })
}

/// JSON for clients that search the text for `"name": "value"`.
pub(crate) fn spaced(pairs: &[(&str, &str)]) -> Response {
    let members: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{}: {}", json!(name), json!(value)))
        .collect();
    Response::new(200, JSON, format!("{{{}}}\n", members.join(", ")))
}
