//! The signals that a server obeys: SIGTERM and SIGINT stop it, SIGHUP reloads the configuration.

pub(super) use system::{SIGHUP, Signals, watch};

#[cfg(unix)]
mod system {
    use std::io;

    pub(crate) use signal_hook::consts::SIGHUP;
    use signal_hook::consts::{SIGINT, SIGTERM};
    pub(crate) use signal_hook::iterator::Signals;

    pub(crate) fn watch() -> io::Result<Signals> {
        Signals::new([SIGTERM, SIGINT, SIGHUP])
    }
}

/// On Windows, Ctrl+C is SIGINT, and nothing sends SIGHUP.
#[cfg(not(unix))]
mod system {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::flag;

    pub(crate) const SIGHUP: i32 = 1;
    const LOOK_EVERY: Duration = Duration::from_millis(50);

    /// The last signal that arrived, or 0.
    pub(crate) struct Signals(Arc<AtomicUsize>);

    pub(crate) fn watch() -> io::Result<Signals> {
        let arrived = Arc::new(AtomicUsize::new(0));
        for signal in [SIGTERM, SIGINT] {
            flag::register_usize(signal, arrived.clone(), signal as usize)?;
        }
        Ok(Signals(arrived))
    }

    impl Signals {
        pub(crate) fn forever(&mut self) -> impl Iterator<Item = i32> {
            std::iter::repeat_with(|| {
                loop {
                    match self.0.swap(0, Ordering::Relaxed) {
                        0 => std::thread::sleep(LOOK_EVERY),
                        signal => return signal as i32,
                    }
                }
            })
        }
    }
}
