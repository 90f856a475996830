//! The indexer thread: feeds the index until it is stopped, and starts again after an error.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, after, never, select};

use super::feed::Feed;
use super::shared::{Broken, Shared};
use crate::index::IndexError;

/// Pause after an error. Each further error doubles it.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How one run of [`Shared::work`] ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Stopped,
    /// New writers must be opened.
    Again,
}

impl Shared {
    pub(super) fn run(&self, stopped: &Receiver<()>, woken: &Receiver<()>) {
        let mut pause = RETRY_PAUSE;
        loop {
            let began = Instant::now();
            let broken = match self.work(stopped, woken) {
                Ok(End::Stopped) => return,
                Ok(End::Again) => continue,
                Err(broken) => broken,
            };
            tracing::error!(error = %broken, "indexing failed; it is tried again after a pause");
            *self.error.lock() = Some(broken.to_string());
            let removed = match broken {
                Broken::Index(IndexError::Damaged(_)) => self.index.reset(),
                Broken::Next(IndexError::Damaged(_)) => self.index.drop_next(),
                _ => Ok(()),
            };
            if let Err(error) = removed {
                tracing::error!(%error, "the damaged index cannot be removed");
            }
            if began.elapsed() > RETRY_PAUSE_MAX {
                pause = RETRY_PAUSE;
            }
            match stopped.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => pause = (pause * 2).min(RETRY_PAUSE_MAX),
                _ => return,
            }
        }
    }

    /// Runs one set of writers until the thread must stop, new writers are needed, or an error occurs.
    fn work(&self, stopped: &Receiver<()>, woken: &Receiver<()>) -> Result<End, Broken> {
        let mut signal = self.store.change_signal();
        let mut feed = Feed::open(self)?;
        loop {
            let is_behind = feed.advance()?;
            if feed.commit_due() {
                feed.commit()?;
                *self.error.lock() = None;
            }
            if feed.lines.len() > 1 && !feed.is_building() && !is_behind {
                feed.commit()?;
                feed.finish()?;
                return Ok(End::Again);
            }
            let timeout = match feed.commit_in() {
                Some(wait) => after(wait),
                None => never(),
            };
            if is_behind {
                match stopped.try_recv() {
                    Err(TryRecvError::Empty) => continue,
                    _ => return feed.close().map(|()| End::Stopped),
                }
            }
            select! {
                recv(stopped) -> _ => return feed.close().map(|()| End::Stopped),
                recv(woken) -> told => {
                    if told.is_ok() && !feed.is_building() {
                        feed.close()?;
                        return Ok(End::Again);
                    }
                    // The build in progress includes all changes, so the request needs no other one.
                    self.is_asked.store(false, Ordering::SeqCst);
                }
                recv(signal) -> told => if told.is_err() {
                    signal = never();
                },
                recv(timeout) -> _ => {}
            }
        }
    }
}
