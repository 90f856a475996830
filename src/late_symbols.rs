//! Finds symbols that arrived late for modules whose crashes lacked them, and has those crashes reprocessed.
//!
//! It checks at the start, every few seconds, and when an upload wakes it. So it finds symbols no matter how
//! they got into the folder, and also symbols that arrived while the server was stopped.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::crash::lack::{Lack, What};
use crate::periodic::{Left, PeriodicTask};
use crate::store::{Store, StoreError};
use crate::symbols::{SymbolDirs, SymbolStore};

/// Interval between two checks without a wake-up.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The folders where symbols may appear.
pub(crate) struct Places {
    pub(crate) symbol_store: SymbolStore,
    /// The symbol store and all other folders.
    pub(crate) dirs: SymbolDirs,
}

/// Starts the thread that finds them.
///
/// # Errors
/// The operating system cannot start the thread.
pub(crate) fn start(store: Arc<Store>, places: Places) -> io::Result<PeriodicTask> {
    let mut tried = Tried::default();
    PeriodicTask::start("late-symbols", LOOK_EVERY, move |_| {
        if let Err(error) = look(&store, &places, &mut tried) {
            tracing::error!(%error, "the check for new symbols failed; will try again");
        }
        Left::Nothing
    })
}

/// Symbol files for which reprocessing was already requested. A file may exist and still help no crash. Its
/// crashes must not be walked again and again.
type Tried = HashMap<Lack, (u64, Option<SystemTime>)>;

fn look(store: &Store, places: &Places, tried: &mut Tried) -> Result<(), StoreError> {
    let mut found = Vec::new();
    for lack in store.lacks()? {
        let file = places
            .dirs
            .find_by_either_id(&lack.debug_file, &lack.debug_id);
        let Some(metadata) = file.and_then(|file| file.metadata().ok()) else {
            continue;
        };
        let stamp = (metadata.len(), metadata.modified().ok());
        if tried.get(&lack) == Some(&stamp) {
            continue;
        }
        let content = || Some(places.symbol_store.module(&lack.debug_id)?.content());
        let helps = match lack.what {
            What::Symbols => true,
            What::Functions => content().is_some_and(|content| content.has_functions()),
            What::Unwind => content().is_some_and(|content| content.has_unwind()),
        };
        tried.insert(lack.clone(), stamp);
        if helps {
            found.push(lack);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let crashes = store.reprocess_lacking(found.clone())?;
    let found: Vec<String> = found.iter().map(Lack::to_string).collect();
    tracing::info!(symbols = ?found, crashes, "missing symbols were uploaded; reprocessing crashes");
    Ok(())
}
