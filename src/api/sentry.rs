//! The part of Sentry's API that `sentry-cli debug-files upload` uses.
//!
//! A file arrives in chunks, each named by its SHA-1. The client asks which chunks are missing, sends them,
//! and asks again. When all chunks of a file exist, the server assembles and stores it at once. So the
//! second answer contains the result.
//!
//! Chunks are in the folder of incoming files, so they are deleted when the server restarts. The client then
//! sends the missing chunks again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha1::{Digest, Sha1};

use crate::app::App;
use crate::limits;
use crate::rights::Scope;
use crate::symbols::arrival::Verdict;
use crate::symbols::{Conflict, Taken};
use crate::upload;
use crate::web::{Captures, Request, Response, WebError};

/// Bytes of a chunk.
const CHUNK_BYTES: u64 = 8 << 20;
const CHUNKS_PER_REQUEST: usize = 64;
/// Maximum bytes of a request with chunks, which are compressed.
const REQUEST_BYTES_MAX: u64 = 32 << 20;

/// `GET /api/0/`: the identity of the token, for `sentry-cli info`.
///
/// # Errors
/// 401 if the caller has no token.
pub(crate) fn info(_: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let caller = &request.caller;
    if caller.user.is_none() && !caller.is_local {
        return Err(WebError::new(401, "this URL needs a token"));
    }
    let scopes: Vec<&str> = Scope::ALL
        .into_iter()
        .filter(|scope| request.may(*scope))
        .map(Scope::name)
        .collect();
    Ok(Response::json(&json!({
        "version": "0",
        "user": { "id": caller.name(), "email": caller.name(), "username": caller.name() },
        "auth": { "scopes": scopes },
    })))
}

/// `GET /api/0/organizations/<any>/chunk-upload/`
///
/// # Errors
/// Never fails. All handlers have this type.
pub(crate) fn options(
    app: &App,
    request: &Request,
    captures: &Captures,
) -> Result<Response, WebError> {
    let base = app.address(request);
    let organization: String =
        form_urlencoded::byte_serialize(captures.get("organization").as_bytes()).collect();
    let file_bytes_max = app.config.get().symbols.inflated_bytes_max.0;
    Ok(Response::json(&json!({
        "url": format!("{base}/api/0/organizations/{organization}/chunk-upload/"),
        "chunkSize": CHUNK_BYTES,
        "chunksPerRequest": CHUNKS_PER_REQUEST,
        "maxFileSize": file_bytes_max,
        "maxRequestSize": REQUEST_BYTES_MAX,
        "concurrency": 4,
        "hashAlgorithm": "sha1",
        "compression": ["gzip"],
        "accept": ["debug_files", "pdbs", "sources"],
    })))
}

/// `POST /api/0/organizations/<any>/chunk-upload/`
///
/// # Errors
/// 400 if the body is not a valid form, or if a part is not the chunk that its name says. 413 if there are
/// too many parts, or too many bytes of chunks that were never assembled. 503 if a chunk cannot be stored;
/// the client can send it again later.
pub(crate) fn chunks(
    app: &App,
    request: &Request,
    _: &Captures,
    body: File,
) -> Result<Response, WebError> {
    for part in upload::form_files(app, request, body)? {
        let hash = Hash::parse(&part.file_name).ok_or_else(|| {
            WebError::bad(&part.name, "the name of a chunk must be its SHA-1 in hex")
        })?;
        let mut file = part.file;
        file.rewind().map_err(upload::storage)?;
        let mut input: Box<dyn Read> = match part.name.as_str() {
            "file" => Box::new(file),
            "file_gzip" => Box::new(GzDecoder::new(file)),
            name => {
                return Err(WebError::bad(
                    name,
                    "unknown part; send chunks as file or file_gzip",
                ));
            }
        };
        keep_chunk(app, &hash, &mut input)?;
    }
    Ok(Response::json(&json!({})))
}

fn keep_chunk(app: &App, hash: &Hash, input: &mut dyn Read) -> Result<(), WebError> {
    let wrong = |why: String| WebError::bad("file", format!("chunk {}: {why}", hash.0));
    let mut bytes = Vec::new();
    let read = input.take(CHUNK_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| wrong(error.to_string()))?;
    if bytes.len() as u64 > CHUNK_BYTES {
        return Err(wrong(format!("larger than {CHUNK_BYTES} bytes")));
    }
    if Hash::of(&bytes) != *hash {
        return Err(wrong("the content has a different SHA-1".into()));
    }
    let place = app.symbols.incoming_path(&hash.file_name());
    let kept = app
        .symbols
        .incoming_bytes(CHUNK_PREFIX)
        .map_err(upload::storage)?;
    let max = app.config.get().symbols.inflated_bytes_max.0;
    if kept + bytes.len() as u64 > max {
        return Err(WebError::new(
            413,
            format!(
                "chunks of files that were never assembled use {kept} bytes, and symbols.inflated_bytes_max is {max}; a restart of the server deletes them"
            ),
        ));
    }
    let write = || -> io::Result<()> {
        let mut file = app.symbols.incoming_named()?;
        file.write_all(&bytes)?;
        file.persist(&place)?;
        Ok(())
    };
    write().map_err(upload::storage)
}

/// A file that a client wants to have assembled.
#[derive(Deserialize)]
struct Wanted {
    name: String,
    chunks: Vec<String>,
}

/// `POST /api/0/projects/<any>/<any>/files/difs/assemble/`
///
/// # Errors
/// 400 if the body is not a list of files or a SHA-1 in it is invalid, 413 if it has too many files, 503 if a
/// file cannot be stored, 500 if stored data is damaged. A file that is refused is not an error: its state is
/// in the answer.
pub(crate) fn assemble(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let wanted: BTreeMap<String, Wanted> = serde_json::from_slice(&request.body)
        .map_err(|e| WebError::new(400, format!("the body is not a valid list of files: {e}")))?;
    if wanted.len() > limits::FILES_MAX * 8 {
        return Err(WebError::new(413, "too many files in one request"));
    }
    let mut answers = Map::new();
    for (hash, file) in wanted {
        let answer = assemble_one(app, &hash, &file)?;
        answers.insert(hash, answer);
    }
    Ok(Response::json(&answers.into()))
}

fn assemble_one(app: &App, hash: &str, wanted: &Wanted) -> Result<Value, WebError> {
    let failed = |why: String| json!({ "state": "error", "missingChunks": [], "detail": why });
    let whole = Hash::parse(hash)
        .ok_or_else(|| WebError::bad(hash, "the key of a file must be its SHA-1"))?;
    if let Some(known) = app.assembled.get(&whole.0) {
        return Ok(known);
    }
    let mut chunks = Vec::new();
    for chunk in &wanted.chunks {
        let chunk = Hash::parse(chunk)
            .ok_or_else(|| WebError::bad("chunks", "the name of a chunk must be its SHA-1"))?;
        chunks.push(chunk);
    }
    let path = |chunk: &Hash| app.symbols.incoming_path(&chunk.file_name());
    let missing = chunks.iter().filter(|chunk| !path(chunk).is_file());
    let missing: Vec<&str> = missing.map(|chunk| chunk.0.as_str()).collect();
    if !missing.is_empty() || chunks.is_empty() {
        return Ok(json!({ "state": "not_found", "missingChunks": missing }));
    }
    let mut file = app.symbols.incoming_file().map_err(upload::storage)?;
    let mut sum = Sha1::new();
    for chunk in &chunks {
        let bytes = fs::read(path(chunk)).map_err(upload::storage)?;
        sum.update(&bytes);
        file.write_all(&bytes).map_err(upload::storage)?;
    }
    if Hash::hex(&sum.finalize()) != whole.0 {
        return Ok(failed("the assembled file has a different SHA-1".into()));
    }
    let config = app.config.get();
    let receiver = upload::receiver(app, &config, Conflict::KeepFirst);
    let arrival = receiver.take(file, &wanted.name).map_err(upload::storage)?;
    for chunk in &chunks {
        // Ignore errors: another file with the same chunk may have removed it.
        let _ = fs::remove_file(path(chunk));
    }
    let arrivals = [arrival];
    upload::record(app, &arrivals, None)?;
    let verdicts = &arrivals[0].verdicts;
    let answer = match verdicts
        .iter()
        .find_map(|verdict| verdict.result.as_ref().ok())
    {
        Some(taken) => json!({
            "state": "ok",
            "missingChunks": [],
            "detail": detail(verdicts),
            "dif": dif(&whole, taken),
        }),
        None => failed(detail(verdicts)),
    };
    if answer["state"] == "ok" {
        app.assembled.put(whole.0, answer.clone());
    }
    Ok(answer)
}

/// The notes and errors about a file.
fn detail(verdicts: &[Verdict]) -> String {
    let texts: Vec<String> = verdicts
        .iter()
        .flat_map(|verdict| match &verdict.result {
            Ok(taken) => taken.notes.clone(),
            Err(refused) => vec![refused.to_string()],
        })
        .collect();
    texts.join("; ")
}

fn dif(hash: &Hash, taken: &Taken) -> Value {
    let module = &taken.module;
    let id = &module.debug_id;
    let content = module.content();
    let mut features = Vec::new();
    for (has, name) in [
        (content.has_functions(), "debug"),
        (content.publics > 0, "symtab"),
        (content.has_unwind(), "unwind"),
    ] {
        if has {
            features.push(name);
        }
    }
    if taken.is_sources() {
        features.push("sources");
    }
    json!({
        "id": id,
        "uuid": dashed(id),
        "debugId": dashed(id),
        "objectName": module.debug_file,
        "symbolType": module.uploads.last().map(|upload| upload.kind.name()),
        "cpuName": module.arch,
        "codeId": module.code_id,
        "sha1": hash.0,
        "size": taken.bytes,
        "data": { "features": features },
    })
}

/// A debug id in Sentry's format: a UUID in lower case, and the age if it is not 0.
fn dashed(id: &str) -> String {
    let id = id.to_ascii_lowercase();
    let (guid, age) = id.split_at(32);
    let parts = [
        &guid[..8],
        &guid[8..12],
        &guid[12..16],
        &guid[16..20],
        &guid[20..],
    ];
    match age {
        "0" => parts.join("-"),
        age => format!("{}-{age}", parts.join("-")),
    }
}

/// Prefix of the names of files with chunks.
const CHUNK_PREFIX: &str = "chunk-";

/// A SHA-1 as 40 hex digits in lower case.
#[derive(Debug, PartialEq, Eq)]
struct Hash(String);

impl Hash {
    fn parse(text: &str) -> Option<Self> {
        let is_hash = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| Self(text.to_ascii_lowercase()))
    }

    fn of(bytes: &[u8]) -> Self {
        Self(Self::hex(&Sha1::digest(bytes)))
    }

    fn hex(digest: &[u8]) -> String {
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn file_name(&self) -> String {
        format!("{CHUNK_PREFIX}{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_uuids() {
        assert_eq!(
            dashed("B0E1FC01EF48E39CAF5C881D2DF0C3840"),
            "b0e1fc01-ef48-e39c-af5c-881d2df0c384"
        );
        assert_eq!(
            dashed("3249D99D0C4049318610F4E4FB0B69361"),
            "3249d99d-0c40-4931-8610-f4e4fb0b6936-1"
        );
    }

    #[test]
    fn only_a_hash_names_a_chunk() {
        assert!(Hash::parse(&"aB".repeat(20)).is_some());
        for name in [
            "",
            "../../../../etc/passwd",
            &"g".repeat(40),
            &"a".repeat(41),
        ] {
            assert_eq!(Hash::parse(name), None);
        }
        let empty = Hash::of(b"");
        assert_eq!(empty.0, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    }
}
