//! Notices symbols that have come for modules whose crashes lacked them, and has those crashes
//! processed again.
//!
//! A thread of its own looks at the start, every few seconds, and when it is told that symbols
//! came. So it does not matter which way a file took into the folder, or whether the server ran.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::store::{Store, StoreError};
use crate::symbols::SymbolDirs;

/// Between two looks that nobody asked for.
const LOOK_EVERY: Duration = Duration::from_secs(10);

pub struct Mender {
    wake: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Mender {
    pub fn start(store: Arc<Store>, symbols: SymbolDirs) -> io::Result<Self> {
        // One place: a second call while the first waits says nothing new.
        let (wake, woken) = bounded::<()>(1);
        let thread = std::thread::Builder::new()
            .name("mender".into())
            .spawn(move || {
                let mut tried = Tried::default();
                loop {
                    if let Err(error) = look(&store, &symbols, &mut tried) {
                        tracing::error!(%error, "looking for late symbols failed; the next look goes on");
                    }
                    if let Err(RecvTimeoutError::Disconnected) = woken.recv_timeout(LOOK_EVERY) {
                        return;
                    }
                }
            })?;
        Ok(Self {
            wake: Mutex::new(Some(wake)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Symbols came: look now.
    pub fn wake(&self) {
        if let Some(wake) = &*self.wake.lock().unwrap_or_else(|e| e.into_inner()) {
            let _ = wake.try_send(());
        }
    }

    pub fn stop(&self) {
        self.wake.lock().unwrap_or_else(|e| e.into_inner()).take();
        let thread = self.thread.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the mender panicked");
        }
    }
}

/// Symbol files for which a mend was asked, by module. A file that helps nobody, though it is
/// there, must not have its crashes walked again for ever.
type Tried = HashMap<String, (u64, Option<SystemTime>)>;

fn look(store: &Store, symbols: &SymbolDirs, tried: &mut Tried) -> Result<(), StoreError> {
    let mut found = Vec::new();
    for module in store.lacked_modules()? {
        let Some((file, id)) = module.rsplit_once('/') else {
            continue;
        };
        let metadata = symbols.find(file, id).and_then(|path| path.metadata().ok());
        let Some(metadata) = metadata else {
            continue;
        };
        let stamp = (metadata.len(), metadata.modified().ok());
        if tried.insert(module.clone(), stamp) != Some(stamp) {
            found.push(module);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let crashes = store.mend(found.clone())?;
    tracing::info!(modules = ?found, crashes, "symbols came for crashes that lacked them");
    Ok(())
}
