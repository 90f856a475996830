//! The signature inputs of stored crashes, and the signatures computed from them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::crash::processed::ProcessedCrash;
use crate::crash::raw::RawCrash;
use crate::process;
use crate::signature::{Input, KnownFrames, StoredFrame};
use crate::store::signatures::SignedView;
use crate::store::{Store, StoreError, StoredCrash};

/// The signature input of a crash, as stored. If it is not stored, from its report and its walk.
pub(super) fn input_of(
    store: &Store,
    seq: u64,
    row: &StoredCrash,
) -> Result<Option<Input<StoredFrame>>, StoreError> {
    match store.signature_input(seq) {
        Ok(Some(input)) => Ok(Some(input)),
        Ok(None) | Err(StoreError::Damaged(_) | StoreError::Newer(_)) => rebuilt(store, row),
        Err(error) => Err(error),
    }
}

/// The signature input of a crash, from its report and its processed crash; `None` if they cannot be read.
pub(super) fn rebuilt(
    store: &Store,
    row: &StoredCrash,
) -> Result<Option<Input<StoredFrame>>, StoreError> {
    let read = || -> Result<Option<Input<StoredFrame>>, StoreError> {
        let Some(json) = store.processed(row)? else {
            return Ok(None);
        };
        let damaged = |e| StoreError::Damaged(format!("processed crash of {}: {e}", row.id));
        let processed = ProcessedCrash::parse(&json).map_err(damaged)?;
        let raw: RawCrash = store.raw(row)?;
        let walk = processed.walk.as_ref();
        Ok(Some(process::input(
            &raw,
            walk,
            &processed.fields,
            &row.product,
            &|debug_id| store.has_uploaded(debug_id),
        )))
    };
    match read() {
        Err(StoreError::Damaged(why) | StoreError::Newer(why)) => {
            tracing::error!(crash_id = %row.id, why, "the signature input of a crash cannot be read");
            Ok(None)
        }
        other => other,
    }
}

/// The signatures of inputs. Each is computed once.
#[derive(Default)]
pub(super) struct Bases(HashMap<u64, Base>);

/// The signature of an input before it is split.
pub(super) struct Base {
    pub(super) signature: String,
    /// Whether an annotation splits the crashes further.
    pub(super) is_split: bool,
}

impl Bases {
    /// `None` if the input was not kept or cannot be read.
    pub(super) fn of(
        &mut self,
        view: &SignedView,
        known: &mut KnownFrames,
        input: u64,
    ) -> Result<Option<&Base>, StoreError> {
        if input == 0 {
            return Ok(None);
        }
        let base = match self.0.entry(input) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let named = view.input(input).and_then(|kept| {
                    let signature = known.name(&kept, &mut |id| view.frame(id))?;
                    Ok((kept, signature))
                });
                let (kept, signature) = match named {
                    Err(StoreError::Damaged(why) | StoreError::Newer(why)) => {
                        tracing::error!(
                            input,
                            why,
                            "a signature input cannot be read; reading the report instead"
                        );
                        return Ok(None);
                    }
                    other => other?,
                };
                let is_split = known.generator().splits(&signature, &kept.product);
                unknown.insert(Base {
                    signature,
                    is_split,
                })
            }
        };
        Ok(Some(base))
    }
}
