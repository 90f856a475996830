//! The JSON API, one file per resource. Names and formats are Socorro's, so that its tools work.

pub(crate) mod accounts;
pub(crate) mod bugs;
pub(crate) mod crash;
pub(crate) mod doc;
pub mod everything;
pub(crate) mod export;
pub(crate) mod groups;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod noop;
pub(crate) mod releases;
pub(crate) mod retention;
pub(crate) mod sentry;
pub(crate) mod signatures;
pub(crate) mod supersearch;
pub(crate) mod sym_upload;
pub(crate) mod symbol_info;
pub(crate) mod symbol_server;
pub(crate) mod symbolicate;
pub(crate) mod symbols;
pub(crate) mod table;
pub(crate) mod throttle;

use crate::app::App;
use crate::crash::id::CrashId;
use crate::query::{Query, QueryError};
use crate::web::{Params, Request, WebError};

/// The search that the caller of a request asks for.
fn parsed(app: &App, request: &Request, params: &[(String, String)]) -> Result<Query, QueryError> {
    let (now, sees_protected) = (app.clock.now(), request.sees_protected());
    Query::parse(&app.catalogue, params, now, sees_protected)
}

/// The crash id in the parameter `crash_id`.
fn crash_id(params: &Params) -> Result<CrashId, WebError> {
    let text = params
        .get("crash_id")
        .ok_or_else(|| WebError::missing("crash_id"))?;
    text.parse()
        .map_err(|e| WebError::bad("crash_id", format!("crash_id: {e}")))
}
