//! A thread that does one thing again and again: at its start, at intervals, and when it is told
//! to, until it is stopped.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::vital::Vital;
use parking_lot::Mutex;

/// What a round leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Nothing,
    /// The next round is to begin at once, unless the thread is to stop.
    More,
    /// The next round is to begin after this time.
    After(Duration),
    /// It saw that the thread is to stop.
    Ended,
}

pub struct PeriodicTask {
    wake: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl PeriodicTask {
    /// The thread is called `name`; `every` is the time between the end of one round and the next
    /// that nobody asked for. A round that takes long looks at its channel: where that is disconnected, the
    /// thread is to stop.
    pub fn start(
        name: &'static str,
        every: Duration,
        mut round: impl FnMut(&Receiver<()>) -> Left + Send + 'static,
    ) -> io::Result<Self> {
        // One place: a second call while the first waits says nothing new.
        let (wake, woken) = bounded::<()>(1);
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                let vital = Vital::new(name);
                loop {
                    let wait = match round(&woken) {
                        Left::Nothing => every,
                        Left::More => Duration::ZERO,
                        Left::After(wait) => wait,
                        Left::Ended => break,
                    };
                    if let Err(RecvTimeoutError::Disconnected) = woken.recv_timeout(wait) {
                        break;
                    }
                }
                vital.finish();
            })?;
        Ok(Self {
            wake: Mutex::new(Some(wake)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// A round now, or right after the one under way.
    pub fn wake(&self) {
        let wake = self.wake.lock();
        if let Some(wake) = &*wake {
            let _ = wake.try_send(());
        }
    }

    /// Ends the thread after the round under way.
    pub fn stop(&self) {
        let mut wake = self.wake.lock();
        wake.take();
        drop(wake);
        let mut thread = self.thread.lock();
        if let Some(thread) = thread.take() {
            // A round that panics ends the process: see `Vital`.
            let _ = thread.join();
        }
    }
}
