//! Signatures: computes them for crash data that is not stored, reads and writes the lists as text, previews
//! other lists, and explains the signature of a crash.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::crash_id;
use super::doc::{
    AnswerDoc, Doc, Param, ParamKind, any_object, count, hits, list, object, text, text_or_null,
};
use crate::app::App;
use crate::clock::Timestamp;
use crate::limits;
use crate::naming::{Groups, Preview, ReviseError};
use crate::signature::{CrashData, Explanation, Fate, FoundEntry, ListTexts, OWNERS, Signature};
use crate::store::sightings::Sighting;
use crate::store::signatures::NewRevision;
use crate::web::{Captures, Request, Response, TEXT, WebError};

type Answer = Result<Response, WebError>;

/// Maximum number of revisions in one answer.
const REVISIONS_MAX: usize = 200;

pub(crate) const CRASH_SIGNATURE: Doc = Doc::new(
    "Generates signatures for crash data with the active rules; stores nothing",
    &[],
    AnswerDoc::Json(|| {
        let result = object(&[
            ("signature", text()),
            ("notes", list(text())),
            ("extra", any_object()),
        ]);
        object(&[("results", list(result))])
    }),
)
.json(|| object(&[("jobs", list(any_object()))]));

pub(crate) const FIRST_DATE: Doc = Doc::new(
    "When signatures were first and last seen, and how often; includes deleted crashes",
    &[Param::new("signatures", ParamKind::Texts, "Signatures").required()],
    AnswerDoc::Json(|| {
        hits(object(&[
            ("signature", text()),
            ("first_date", text()),
            ("last_date", text()),
            ("first_build", text_or_null()),
            ("crashes", count()),
        ]))
    }),
);

/// The same with a form, for more signatures than fit into a URL.
pub(crate) const FIRST_DATE_POSTED: Doc = FIRST_DATE.form();

pub(crate) const EXPLANATION: Doc = Doc::new(
    "How the signature of a crash was generated: the effect of each rule and list entry on each frame",
    &[Param::new("crash_id", ParamKind::CrashId, "Crash id").required()],
    AnswerDoc::Json(any_object),
);

pub(crate) const LISTS: Doc = Doc::new(
    "The signature lists as a single text",
    &[Param::new(
        "revision",
        ParamKind::Number(1 << 40),
        "Revision; default: the active revision",
    )],
    AnswerDoc::Files(&["text/plain"]),
);

pub(crate) const IMPORT: Doc = Doc::new(
    "Activates new signature lists and updates the signatures of all affected crashes",
    &[
        Param::new(
            "based_on",
            ParamKind::Number(1 << 40),
            "Revision on which the change is based",
        ),
        Param::new(
            "author",
            ParamKind::Text,
            "Author of the change, while no accounts exist",
        ),
        Param::new("comment", ParamKind::Text, "Why"),
    ],
    AnswerDoc::Json(any_object),
)
.text();

pub(crate) const REVISIONS: Doc = Doc::new(
    "The newest revisions of the signature lists, and the progress of updating stored crashes to each",
    &[],
    AnswerDoc::Json(|| object(&[("in_force", count()), ("revisions", list(any_object()))])),
);

pub(crate) const PREVIEW: Doc = Doc::new(
    "Preview of what new signature lists would change in stored crashes; changes nothing",
    &[],
    AnswerDoc::Json(any_object),
)
.text();

/// Computes the signatures of crash data in siggen's format, `{"jobs": [...]}`, under the active lists.
/// Stores nothing.
///
/// # Errors
/// 400 if the body is not such an object or has too many jobs.
pub(crate) fn crash_signature(app: &App, request: &Request, _: &Captures) -> Answer {
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|e| WebError::new(400, format!("the body is not valid JSON: {e}")))?;
    let jobs = body.get("jobs").and_then(Value::as_array);
    let jobs = jobs.ok_or_else(|| {
        WebError::bad(
            "jobs",
            "jobs is missing; send {\"jobs\": [crash data, ...]}",
        )
    })?;
    if jobs.len() > limits::SIGNATURE_JOBS_MAX {
        let why = format!(
            "{} jobs; the limit is {}; send several requests",
            jobs.len(),
            limits::SIGNATURE_JOBS_MAX
        );
        return Err(WebError::bad("jobs", why));
    }
    let generator = app.naming.active().generator;
    let mut results = Vec::with_capacity(jobs.len());
    for (at, job) in jobs.iter().enumerate() {
        if !job.is_object() {
            return Err(WebError::bad("jobs", format!("job {at} is not an object")));
        }
        results.push(result(&generator.generate(&CrashData::from_json(job))));
    }
    Ok(Response::json(&json!({ "results": results })))
}

fn result(signature: &Signature) -> Value {
    let mut extra = json!({});
    if let Some(proto) = &signature.proto {
        extra["proto_signature"] = proto.as_str().into();
    }
    json!({ "signature": signature.text, "notes": signature.notes, "extra": extra })
}

/// When signatures were first and last seen, and how often. Includes crashes that were deleted.
///
/// # Errors
/// 400 if `signatures` is missing or has too many values. 503 while the store cannot be read, 500 if stored
/// data is damaged.
pub(crate) fn first_date(app: &App, request: &Request, _: &Captures) -> Answer {
    let signatures = super::bugs::asked(&request.form(), "signatures")?;
    let mut hits = Vec::new();
    for signature in signatures {
        let sightings = app.store.sightings(&signature)?;
        let first = sightings.iter().map(|seen| seen.first_at).min();
        let last = sightings.iter().map(|seen| seen.last_at).max();
        let (Some(first), Some(last)) = (first, last) else {
            continue;
        };
        let set = |of: fn(&Sighting) -> &str| -> BTreeSet<&str> {
            let texts = sightings.iter().map(of);
            texts.filter(|text| !text.is_empty()).collect()
        };
        let builds = set(|seen| &seen.build);
        hits.push(json!({
            "signature": signature,
            "first_date": first.rfc3339(),
            "last_date": last.rfc3339(),
            "first_build": builds.first(),
            "builds": builds.len(),
            "versions": set(|seen| &seen.version),
            "crashes": sightings.iter().map(|seen| seen.crashes).sum::<u64>(),
        }));
    }
    Ok(Response::json(
        &json!({ "total": hits.len(), "hits": hits }),
    ))
}

/// Explains how a crash gets its signature under the active lists.
///
/// # Errors
/// 400 if the crash id is missing or invalid, 404 if the crash does not exist or is not processed yet, 503
/// while the store cannot be read, 500 if this crash is damaged.
pub(crate) fn explanation(app: &App, request: &Request, _: &Captures) -> Answer {
    let id = crash_id(&request.query)?;
    let found = app.store.crash(id)?;
    let (seq, row) =
        found.ok_or_else(|| WebError::not_found(format!("crash {id} does not exist")))?;
    let told = app.naming.explain(seq, &row)?.ok_or_else(|| {
        let state = row.state.name();
        WebError::not_found(format!(
            "crash {id} is {state} and has not been processed yet"
        ))
    })?;
    let mut out = explained(&told);
    out["crash_id"] = id.to_string().into();
    out["stored_signature"] = row.processed.map(|p| p.signature).into();
    out["revision"] = app.naming.active().revision.into();
    Ok(Response::json(&out))
}

fn explained(told: &Explanation) -> Value {
    let entry =
        |entry: &FoundEntry| json!({ "file": entry.file, "line": entry.line, "entry": entry.text });
    let frames = told.frames.iter().map(|frame| {
        let entries: Vec<Value> = frame.entries.iter().map(entry).collect();
        json!({ "name": frame.name, "fate": fate_word(frame.fate), "entries": entries })
    });
    let modules = told.modules.iter().map(|step| {
        let owner = OWNERS.iter().find(|(_, owner)| *owner == step.owner);
        json!({
            "module": step.module,
            "owner": owner.map(|(word, _)| word),
            "entry": step.entry.as_ref().map(entry),
        })
    });
    let rules = told
        .rules
        .iter()
        .map(|step| json!({ "rule": step.rule, "before": step.before, "after": step.after }));
    json!({
        "signature": told.signature.text,
        "notes": told.signature.notes,
        "thread": if told.is_of_first_thread { "first" } else { "crashing" },
        "frames": frames.collect::<Vec<_>>(),
        "modules": modules.collect::<Vec<_>>(),
        "rules": rules.collect::<Vec<_>>(),
    })
}

/// The name of a fate in the API.
fn fate_word(fate: Fate) -> &'static str {
    match fate {
        Fate::Nameless => "nameless",
        Fate::AboveSentinel => "above_sentinel",
        Fate::Irrelevant => "irrelevant",
        Fate::Repeated => "repeated",
        Fate::Prefix => "prefix",
        Fate::Last => "last",
        Fate::NotReached => "not_reached",
        Fate::Fallback => "fallback",
        Fate::AboveDispatch => "above_dispatch",
        Fate::AboveMachinery => "above_machinery",
        Fate::Machinery => "machinery",
        Fate::Generic => "generic",
        Fate::NamelessLibrary => "nameless_library",
        Fate::Library => "library",
        Fate::LibraryKept => "library_kept",
        Fate::Driver => "driver",
        Fate::DriverKept => "driver_kept",
        Fate::Cycle => "cycle",
        Fate::Repetition => "repetition",
    }
}

/// The active lists, or those of `revision`, as one text.
///
/// # Errors
/// 400 if `revision` is not a number, 404 if the revision does not exist. 503 while the store cannot be read,
/// 500 if stored data is damaged.
pub(crate) fn export(app: &App, request: &Request, _: &Captures) -> Answer {
    let texts = match request.query.number("revision", 0..)? {
        None => app.naming.active().generator.lists().texts().clone(),
        Some(revision) => texts_of(app, revision)?,
    };
    Ok(Response::new(200, TEXT, texts.export()))
}

/// Activates the lists in the body. The body has the format that [`export`] writes.
///
/// # Errors
/// 400 if the lists or `based_on` are invalid, 409 if another revision became active in the meantime, 503
/// while the store cannot be written, 500 if stored data is damaged.
pub(crate) fn import(app: &App, request: &Request, _: &Captures) -> Answer {
    let texts = texts_in(&request.body)?;
    let based_on = request.query.number("based_on", 0..)?;
    let based_on = based_on.unwrap_or_else(|| app.naming.active().revision);
    let new = NewRevision {
        texts,
        author: author(request, request.query.get("author")),
        comment: comment(request.query.get("comment").unwrap_or_default()),
        restores: None,
        based_on,
    };
    let revision = app.naming.revise(new).map_err(refused)?;
    Ok(Response::json(&json!({ "revision": revision })))
}

/// The newest revisions of the lists, and the progress of the re-sign for each.
///
/// # Errors
/// 503 while the store cannot be read, 500 if stored data is damaged.
pub(crate) fn revisions(app: &App, _: &Request, _: &Captures) -> Answer {
    let resigns = app.store.resigns(REVISIONS_MAX)?;
    let moment = |ms: i64| Timestamp::from_ms(ms).rfc3339();
    let mut out = Vec::new();
    for (revision, row) in app.store.list_revisions(REVISIONS_MAX)? {
        let resign = resigns.iter().find(|(of, _)| *of == revision);
        let resign = resign.map(|(_, row)| {
            json!({
                "begun": moment(row.begun_at_ms),
                "ended": row.ended_at_ms.map(moment),
                "superseded": row.superseded,
                "total": row.total,
                "looked_at": row.looked_at,
                "changed": row.changed,
                "unreadable": row.unreadable,
            })
        });
        out.push(json!({
            "revision": revision,
            "author": row.author,
            "date": moment(row.at_ms),
            "comment": row.comment,
            "restores": row.restores,
            "resign": resign,
        }));
    }
    let active = app.naming.active().revision;
    Ok(Response::json(
        &json!({ "in_force": active, "revisions": out }),
    ))
}

/// What would change under the lists in the body. The body has the format that [`export`] writes.
///
/// # Errors
/// 400 if the lists are invalid. 503 while the store cannot be read, 500 if stored data is damaged.
pub(crate) fn preview(app: &App, request: &Request, _: &Captures) -> Answer {
    let texts = texts_in(&request.body)?;
    let preview = app.naming.preview(texts).map_err(refused)?;
    Ok(Response::json(&previewed(app, &preview)?))
}

fn previewed(app: &App, preview: &Preview) -> Result<Value, WebError> {
    let groups = |groups: &Groups| -> Result<Value, WebError> {
        let mut shown = Vec::new();
        for group in &groups.shown {
            let mut parts = Vec::new();
            for part in &group.parts {
                let mut examples = Vec::new();
                for seq in &part.examples {
                    examples.extend(app.store.crash_at(*seq)?.map(|row| row.id.to_string()));
                }
                parts.push(json!({
                    "signature": part.signature, "crashes": part.crashes, "examples": examples,
                }));
            }
            shown.push(json!({
                "signature": group.signature, "crashes": group.crashes, "parts": parts,
            }));
        }
        Ok(json!({ "count": groups.count, "groups": shown }))
    };
    Ok(json!({
        "crashes": preview.crashes,
        "changed": preview.changed,
        "unreadable": preview.unreadable,
        "signatures_before": preview.signatures_before,
        "signatures_after": preview.signatures_after,
        "merges": groups(&preview.merges)?,
        "splits": groups(&preview.splits)?,
        "renames": groups(&preview.renames)?,
    }))
}

fn texts_in(body: &[u8]) -> Result<ListTexts, WebError> {
    let text = std::str::from_utf8(body)
        .map_err(|e| WebError::new(400, format!("the lists are not valid UTF-8: {e}")))?;
    ListTexts::import(text).map_err(|error| WebError::bad("lists", error.to_string()))
}

/// The lists of a revision. Revision 0 is the built-in lists.
///
/// # Errors
/// 404 if the revision does not exist. 503 while the store cannot be read, 500 if stored data is damaged.
pub(crate) fn texts_of(app: &App, revision: u64) -> Result<ListTexts, WebError> {
    if revision == 0 {
        return Ok(ListTexts::builtin());
    }
    let row = app.store.list_revision(revision)?;
    row.map(|row| row.texts).ok_or_else(|| {
        WebError::not_found(format!("revision {revision} of the lists does not exist"))
    })
}

/// The author of a change of lists: the account, or the given name if the caller has no account.
pub(crate) fn author(request: &Request, name: Option<&str>) -> String {
    match name.map(str::trim).filter(|name| !name.is_empty()) {
        Some(name) if request.caller.user.is_none() => {
            name.chars().take(limits::NAME_CHARS_MAX).collect()
        }
        _ => request.caller.name().to_owned(),
    }
}

pub(crate) fn comment(text: &str) -> String {
    text.trim()
        .chars()
        .take(limits::COMMENT_CHARS_MAX)
        .collect()
}

/// The answer for lists that were refused.
pub(crate) fn refused(error: ReviseError) -> WebError {
    match error {
        ReviseError::List(error) => WebError::bad("lists", error.to_string()),
        ReviseError::Outdated { active } => WebError::new(
            409,
            format!("revision {active} became active in the meantime; review it and try again"),
        ),
        ReviseError::Store(error) => error.into(),
    }
}
