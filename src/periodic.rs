//! A thread that repeats one task: at the start, at intervals, and on wake-up, until it is stopped.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::vital::Vital;
use parking_lot::Mutex;

/// The result of a round: when to start the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    /// Start the next round at once, unless the thread must stop.
    More,
    /// Start the next round after this time.
    After(Duration),
    /// The round noticed that the thread must stop.
    Ended,
}

pub(crate) struct PeriodicTask {
    wake: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl PeriodicTask {
    /// Starts a thread called `name`. `every` is the time from the end of one round to the next, if nothing
    /// wakes the thread. A long round should check its channel: if it is disconnected, the thread must stop.
    ///
    /// # Errors
    /// The operating system cannot start the thread.
    pub(crate) fn start(
        name: &'static str,
        every: Duration,
        mut round: impl FnMut(&Receiver<()>) -> Left + Send + 'static,
    ) -> io::Result<Self> {
        // One slot is enough: a second wake-up while the first waits means nothing new.
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

    /// Starts a round now, or directly after the current one.
    pub(crate) fn wake(&self) {
        let wake = self.wake.lock();
        if let Some(wake) = &*wake {
            let _ = wake.try_send(());
        }
    }

    /// Ends the thread after the current round.
    pub(crate) fn stop(&self) {
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
