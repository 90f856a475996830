//! The data of the page, without what the caller may not see.

use crate::app::App;
use crate::crash::id::CrashId;
use crate::crash::processed::ProcessedCrash;
use crate::crash::raw::RawCrash;
use crate::fields::{Catalogue, redact};
use crate::rights;
use crate::store::StoredCrash;
use crate::web::{Request, WebError};

pub(super) struct View<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) row: StoredCrash,
    pub(super) raw: RawCrash,
    pub(super) processed: Option<ProcessedCrash>,
    /// Damage that was found while reading the crash.
    pub(super) damage: Vec<String>,
    /// True if the caller may see protected data. Otherwise the view does not contain it.
    pub(super) sees_protected: bool,
    pub(super) may_reprocess: bool,
}

pub(super) fn load<'a>(app: &'a App, request: &Request, id: CrashId) -> Result<View<'a>, WebError> {
    let (_, row) = app.store.crash(id)?.ok_or_else(|| no_crash(id))?;
    let mut damage = Vec::new();
    let sees_protected = request.sees_protected();
    let mut raw = app.store.raw(&row).unwrap_or_else(|error| {
        damage.push(error.to_string());
        RawCrash::default()
    });
    if !sees_protected {
        redact::annotations(&app.catalogue, &mut raw.annotations);
        raw.metadata.collector_notes.clear();
    }
    let read = |json: Vec<u8>| {
        if sees_protected {
            ProcessedCrash::parse(&json)
        } else {
            ProcessedCrash::parse(&redact::processed(&app.catalogue, &json)?)
        }
    };
    let processed = match app.store.processed(&row) {
        Ok(json) => json.and_then(|json| match read(json) {
            Ok(processed) => Some(processed),
            Err(error) => {
                damage.push(format!("the processed crash cannot be read: {error}"));
                None
            }
        }),
        Err(error) => {
            damage.push(error.to_string());
            None
        }
    };
    Ok(View {
        catalogue: &app.catalogue,
        row,
        raw,
        processed,
        damage,
        sees_protected,
        may_reprocess: request.may(rights::Scope::Reprocess) && !app.read_only,
    })
}

pub(super) fn no_crash(id: CrashId) -> WebError {
    WebError::not_found(format!(
        "there is no crash {id}: it was never received here, or it was deleted"
    ))
}
