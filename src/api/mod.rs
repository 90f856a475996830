//! The JSON API, one file per resource. Names and formats are Socorro's, so that its tools work.

pub mod accounts;
pub mod bugs;
pub mod crash;
pub mod doc;
pub mod everything;
pub mod export;
pub mod health;
pub mod jobs;
pub mod noop;
pub mod releases;
pub mod retention;
pub mod sentry;
pub mod signatures;
pub mod supersearch;
pub mod sym_upload;
pub mod symbol_info;
pub mod symbol_server;
pub mod symbolicate;
pub mod symbols;
pub mod table;
pub mod throttle;

use crate::crash::id::CrashId;
use crate::web::{Params, WebError};

/// The crash id in the parameter `crash_id`.
fn crash_id(params: &Params) -> Result<CrashId, WebError> {
    let text = params
        .get("crash_id")
        .ok_or_else(|| WebError::missing("crash_id"))?;
    text.parse()
        .map_err(|e| WebError::bad("crash_id", format!("crash_id: {e}")))
}
