//! Single crashes: state, processed crash, raw crash, bytes of dumps, reprocessing.

use std::collections::BTreeSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::doc::{
    AnswerDoc, Doc, Param, ParamKind, any_object, count, flag, hits, object, text, text_or_null,
};
use super::everything::Everything;
use super::jobs;
use super::{crash_id, parsed};
use crate::app::App;
use crate::crash::id::CrashId;
use crate::crash::raw::{MAIN_DUMP, PartKind};
use crate::crash::text::is_hidden;
use crate::fields::{name, redact};
use crate::limits;
use crate::query::{FieldRef, Filter, Op, Query};
use crate::rights::Scope;
use crate::store::{Prioritized, StoredCrash, StoredPart};
use crate::web::{Body, Captures, Params, Request, Response, WebError};

/// Characters of the client's file name in the name of a download.
const FILE_NAME_CHARS_MAX: usize = 120;

type Answer = Result<Response, WebError>;

fn find(app: &App, id: CrashId) -> Result<StoredCrash, WebError> {
    let found = app.store.crash(id)?;
    found
        .map(|(_, row)| row)
        .ok_or_else(|| WebError::not_found(format!("crash {id} does not exist")))
}

const CRASH_ID: Param = Param::new("crash_id", ParamKind::CrashId, "Crash id").required();

pub(crate) const STATE: Doc = Doc::new(
    "State of a crash: queued, deferred, processing, processed or failed",
    &[CRASH_ID],
    AnswerDoc::Json(|| {
        object(&[
            ("crash_id", text()),
            ("state", text()),
            ("attempts", count()),
            ("reason", text_or_null()),
        ])
    }),
);

/// The state of a crash. Changes nothing.
///
/// # Errors
/// 400 if the crash id is missing or invalid, 404 if the crash does not exist, 503 while the store cannot be
/// read, 500 if this crash is damaged.
pub(crate) fn state(app: &App, request: &Request, _: &Captures) -> Answer {
    let row = find(app, crash_id(&request.query)?)?;
    Ok(Response::json(&json!({
        "crash_id": row.id.to_string(),
        "state": row.state.name(),
        "attempts": row.attempts,
        "reason": row.reason,
    })))
}

pub(crate) const PROCESSED: Doc = Doc::new(
    "A processed crash, with the walk in json_dump. Protected fields are omitted if the caller does not have the scope read:protected",
    &[CRASH_ID],
    AnswerDoc::Json(any_object),
);

/// The processed crash, with the walk under `json_dump`.
///
/// # Errors
/// 400 if the crash id is missing or invalid, 404 if the crash does not exist or is not processed yet, 503
/// while the store cannot be read, 500 if this crash is damaged.
pub(crate) fn processed(app: &App, request: &Request, _: &Captures) -> Answer {
    let row = find(app, crash_id(&request.query)?)?;
    match app.store.processed(&row)? {
        Some(json) if request.sees_protected() => Ok(Response::new(200, crate::web::JSON, json)),
        Some(json) => {
            let public = redact::processed(&app.catalogue, &json).map_err(|error| {
                WebError::new(500, format!("the processed crash cannot be read: {error}"))
            })?;
            Ok(Response::new(200, crate::web::JSON, public))
        }
        None => Err(WebError::not_found(format!(
            "crash {} is {} and has not been processed yet",
            row.id,
            row.state.name()
        ))),
    }
}

pub(crate) const RAW: Doc = Doc::new(
    "A crash as the client sent it: the annotations, or the bytes of a dump or attachment",
    &[
        CRASH_ID,
        Param::new(
            "format",
            ParamKind::Choice(&["meta", "raw"]),
            "meta for annotations, raw for bytes",
        ),
        Param::new(
            "name",
            ParamKind::Text,
            "Name of the dump or attachment; default: upload_file_minidump",
        ),
    ],
    AnswerDoc::Files(&["application/json", "application/octet-stream"]),
);

/// The raw crash as JSON, or the bytes of a dump or attachment with `format=raw`.
///
/// # Errors
/// 400 if the crash id is missing or invalid or the format is unknown, 403 for the bytes of a file if the
/// caller may not see protected data, 404 if the crash or the file does not exist, 503 while the store cannot
/// be read, 500 if this crash is damaged.
pub(crate) fn raw(app: &App, request: &Request, _: &Captures) -> Answer {
    let row = find(app, crash_id(&request.query)?)?;
    match request.query.get("format").unwrap_or("meta") {
        "meta" => raw_meta(app, &row, request.sees_protected()),
        "raw" if !request.sees_protected() => Err(WebError::forbidden(format!(
            "Binary response requires permissions: {}",
            Scope::ReadProtected.name()
        ))),
        "raw" => raw_bytes(app, &row, request.query.get("name").unwrap_or(MAIN_DUMP)),
        other => Err(WebError::bad(
            "format",
            format!("unknown format {other:?}; accepted: meta, raw"),
        )),
    }
}

fn raw_meta(app: &App, row: &StoredCrash, sees_protected: bool) -> Answer {
    let mut raw = app.store.raw(row)?;
    if !sees_protected {
        redact::annotations(&app.catalogue, &mut raw.annotations);
    }
    let of_kind = |kind: PartKind| row.parts.iter().filter(move |p| p.part.kind == kind);
    let checksums: serde_json::Map<String, Value> = of_kind(PartKind::Dump)
        .map(|p| (p.part.name.clone(), p.part.sha256_hex().into()))
        .collect();
    let attachments: Vec<Value> = of_kind(PartKind::Attachment)
        .map(|p| json!({ "name": p.part.name, "file_name": p.part.file_name, "bytes": p.part.bytes }))
        .collect();
    let mut out: serde_json::Map<String, Value> = raw
        .annotations
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().into()))
        .collect();
    // The collector's own names come last, so that no annotation can replace them.
    out.insert("uuid".into(), row.id.to_string().into());
    out.insert(
        "submitted_timestamp".into(),
        row.received_at().rfc3339().into(),
    );
    out.insert("version".into(), 2.into());
    if !sees_protected {
        return Ok(Response::json(&Value::Object(out)));
    }
    out.insert(
        "metadata".into(),
        json!({
            "payload": raw.metadata.payload,
            "payload_compressed": if raw.metadata.payload_compressed { "1" } else { "0" },
            "payload_size": raw.metadata.payload_bytes,
            "collector_notes": raw.metadata.collector_notes,
            "dump_checksums": checksums,
            "attachments": attachments,
            "user_agent": raw.metadata.user_agent,
            "throttle_rule": raw.metadata.throttle_rule,
        }),
    );
    Ok(Response::json(&Value::Object(out)))
}

fn raw_bytes(app: &App, row: &StoredCrash, name: &str) -> Answer {
    let named = |name: &str| row.parts.iter().find(|p| p.part.name == name);
    // Socorro uses this name, and its tools request the main dump by it.
    let found = named(name).or_else(|| named(MAIN_DUMP).filter(|_| name == "dump"));
    let Some(part) = found else {
        let known: Vec<&str> = row.parts.iter().map(|p| p.part.name.as_str()).collect();
        return Err(WebError::not_found(format!(
            "crash {} has no file {name:?}; it has: {}",
            row.id,
            known.join(", ")
        )));
    };
    Ok(Response {
        status: 200,
        content_type: "application/octet-stream",
        headers: vec![("content-disposition", disposition(row, part))],
        body: Body::Payload(Box::new(app.store.part(part)?)),
    })
}

/// The header with the name of a download (RFC 6266): an ASCII name for old clients, and the exact name for
/// all others.
fn disposition(row: &StoredCrash, part: &StoredPart) -> String {
    let name = file_name(row, part);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let plain: String = name
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    if plain == name {
        return format!("attachment; filename=\"{plain}\"");
    }
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');
    let whole = utf8_percent_encode(&name, KEPT);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{whole}")
}

/// The crash id, and the name that the client gave the file. The name contains no path, and no character
/// that changes the direction of text.
fn file_name(row: &StoredCrash, part: &StoredPart) -> String {
    let (id, part) = (row.id, &part.part);
    if part.kind == PartKind::Dump && part.name == MAIN_DUMP {
        return format!("{id}.dmp");
    }
    let sent = part.file_name.as_deref().filter(|name| !name.is_empty());
    let name = match part.kind {
        PartKind::Dump => &part.name,
        PartKind::Attachment => sent.unwrap_or(&part.name),
    };
    let leaf = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let is_usable = |c: &char| !is_hidden(*c) && !matches!(c, '"' | '\n' | '\t');
    let leaf: String = leaf
        .chars()
        .filter(is_usable)
        .take(FILE_NAME_CHARS_MAX)
        .collect();
    let ending = match part.kind {
        PartKind::Dump => ".dmp",
        PartKind::Attachment => "",
    };
    format!("{id}-{leaf}{ending}")
}

pub(crate) const VERIFY: Doc = Doc::new(
    "Which parts of a crash exist",
    &[CRASH_ID],
    AnswerDoc::Json(|| {
        object(&[
            ("uuid", text()),
            ("raw_crash", flag()),
            ("processed_crash", flag()),
            ("elasticsearch_crash", flag()),
            ("telemetry_crash", flag()),
        ])
    }),
);

/// Whether a crash is stored, processed and in the search index. The names are Socorro's.
///
/// # Errors
/// 400 if the crash id is missing or invalid, 503 while the store or the index cannot answer, 500 if this
/// crash is damaged.
pub(crate) fn verify(app: &App, request: &Request, _: &Captures) -> Answer {
    let unknown = || WebError::bad("crash_id", "unknown crash id");
    let text = request.query.get("crash_id").ok_or_else(unknown)?;
    let id: CrashId = text.parse().map_err(|_| unknown())?;
    let row = app.store.crash(id)?.map(|(_, row)| row);
    let is_found = match &row {
        Some(row) => is_in_index(app, row)?,
        None => false,
    };
    Ok(Response::json(&json!({
        "uuid": id.to_string(),
        "raw_crash": row.is_some(),
        "processed_crash": row.is_some_and(|row| row.processed.is_some()),
        "elasticsearch_crash": is_found,
        "telemetry_crash": false,
    })))
}

fn is_in_index(app: &App, row: &StoredCrash) -> Result<bool, WebError> {
    let at = row.received_at();
    let on = |field, op, operand| Filter::new(FieldRef::of(field), op, operand);
    let conditions = [
        on(name::UUID, Op::Is, row.id.to_string().into()),
        on(name::DATE, Op::AtLeast, at.into()),
        on(name::DATE, Op::AtMost, at.into()),
    ];
    let query = Query::of(conditions, None, app.clock.now(), false)?;
    Ok(app.index.search(&query)?.total > 0)
}

/// Crashes per page.
const AWAITED_PAGE: usize = 1_000;

pub(crate) const AWAITED: Doc = Doc::new(
    "Accepted crashes that are not processed yet, 1,000 per page",
    &[Param::new(
        "page",
        ParamKind::Number(1_000_000),
        "Page; default: 1",
    )],
    AnswerDoc::Json(|| {
        hits(object(&[
            ("crash_id", text()),
            ("is_processed", flag()),
            ("created", text()),
        ]))
    }),
);

/// Crashes that are queued or being processed, in pages.
///
/// # Errors
/// 400 if `page` is not a number. 503 while the store cannot be read, 500 if stored data is damaged.
pub(crate) fn awaited(app: &App, request: &Request, _: &Captures) -> Answer {
    // Clients have always been able to ask for page 0; it is the first page too.
    let page = request.query.number("page", 0_usize..)?.unwrap_or(1);
    let skip = page.saturating_sub(1).saturating_mul(AWAITED_PAGE);
    let (rows, total) = app.store.awaited(skip, AWAITED_PAGE)?;
    let found: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "crash_id": row.id.to_string(),
                "is_processed": false,
                "created": row.received_at().rfc3339(),
            })
        })
        .collect();
    Ok(Response::json(&json!({ "hits": found, "total": total })))
}

pub(crate) const REPROCESSING: Doc = Doc::new(
    "Reprocesses crashes. Crashes given by id are queued at once; crashes found by a search are processed after all new crashes",
    &[
        Param::new("crash_ids", ParamKind::CrashIds, "Crash ids"),
        Param::new(
            "query",
            ParamKind::Text,
            "Search parameters as a query string; all crashes that the search finds are reprocessed",
        ),
    ],
    AnswerDoc::Json(|| json!({ "anyOf": [{ "const": true }, any_object()] })),
).form();

/// Moves crashes to the priority lane: reprocesses finished ones and promotes deferred ones. With `query`,
/// starts a job that reprocesses all crashes that the search finds, and returns the job.
///
/// # Errors
/// 400 if there are no crash ids, too many, or invalid ones, or if the search is invalid or exceeds its
/// limits. 404 if some of the crashes do not exist; the others are queued. 503 while the store cannot be
/// written or the index cannot answer; some of the crashes may be queued. 500 if a crash is damaged.
pub(crate) fn reprocessing(app: &App, request: &Request, _: &Captures) -> Answer {
    let form = request.form();
    match form.get("query") {
        Some(query) => reprocess_found(app, request, query),
        None => reprocess_ids(app, request, &form),
    }
}

fn reprocess_found(app: &App, request: &Request, search: &str) -> Answer {
    let params = Params::parse(search.trim_start_matches('?'));
    let query = parsed(app, request, &params.0)?;
    let who = request.caller.name();
    let mut all = Everything::new(app.index.clone(), query);
    let mut id = None;
    loop {
        let hits = all.next_page()?;
        if hits.is_empty() {
            break;
        }
        let seqs = hits.iter().map(|hit| hit.seq).collect();
        id = app.store.reprocess(seqs, &format!("{who}: {search}"), id)?;
    }
    let reprocessing = match id {
        Some(id) => app.store.reprocessing(id)?,
        None => None,
    };
    Ok(Response::json(&match reprocessing {
        Some(reprocessing) => jobs::of_reprocessing(&reprocessing),
        None => json!({ "total": 0, "asked": search }),
    }))
}

fn reprocess_ids(app: &App, request: &Request, form: &Params) -> Answer {
    let texts: Vec<&str> = form
        .all("crash_ids")
        .chain(
            request
                .query
                .all("crash_ids")
                .filter(|_| *form != request.query),
        )
        .flat_map(|text| text.split([',', ' ', '\n']))
        .filter(|text| !text.trim().is_empty())
        .collect();
    if texts.is_empty() {
        return Err(WebError::bad(
            "crash_ids",
            "crash_ids is missing; give one or more crash ids, or a query",
        ));
    }
    if texts.len() > limits::REPROCESS_IDS_MAX {
        return Err(WebError::bad(
            "crash_ids",
            format!(
                "{} crash ids; the limit is {}; send several requests",
                texts.len(),
                limits::REPROCESS_IDS_MAX
            ),
        ));
    }
    let mut ids = BTreeSet::new();
    for text in texts {
        // Socorro's clients may append a colon and a ruleset.
        let id = text.split(':').next().unwrap_or_default();
        ids.insert(
            id.parse::<CrashId>()
                .map_err(|e| WebError::bad("crash_ids", format!("{id:?}: {e}")))?,
        );
    }
    let ids: Vec<CrashId> = ids.into_iter().collect();
    let requested = app.store.prioritize_all(&ids)?;
    let unknown: Vec<String> = ids
        .iter()
        .zip(requested)
        .filter(|(_, requested)| *requested == Prioritized::Unknown)
        .map(|(id, _)| id.to_string())
        .collect();
    if unknown.is_empty() {
        return Ok(Response::json(&Value::Bool(true)));
    }
    Err(WebError {
        field: Some("crash_ids".into()),
        ..WebError::not_found(format!(
            "{} of the crashes do not exist, for example {}; the others are queued",
            unknown.len(),
            unknown[0]
        ))
    })
}
