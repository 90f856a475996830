//! Child processes that do one piece of work: input and output are files, and time is limited.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Pause between two checks whether a child has ended. Polling is portable. This pause is short compared
/// with the milliseconds that it takes to start a process.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A child that is killed when this value is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both calls fail if the child has already ended. That is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes the buffer of a pipe larger, so that reader and writer block each other less often.
#[cfg(target_os = "linux")]
pub(crate) fn widen(pipe: &impl std::os::fd::AsFd) {
    /// The limit for unprivileged processes.
    const PIPE_BYTES: usize = 1 << 20;
    // If the system refuses, or this is not a pipe, the buffer keeps its size.
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn widen<T>(_: &T) {}

/// Checks whether a child has begun to answer, without reading the answer.
#[cfg(unix)]
pub(crate) struct Answers(std::os::fd::OwnedFd);

#[cfg(unix)]
impl Answers {
    /// Checks this pipe, which stays open for as long as this value.
    ///
    /// # Errors
    /// The handle of the pipe cannot be duplicated, because too many files are open.
    pub(crate) fn of(pipe: &impl std::os::fd::AsFd) -> io::Result<Self> {
        pipe.as_fd().try_clone_to_owned().map(Self)
    }

    pub(crate) fn are_there(&self) -> bool {
        Self::look(&self.0, Some(&rustix::event::Timespec::default()))
    }

    /// Waits until the child answers or closes the pipe.
    pub(crate) fn wait(pipe: &impl std::os::fd::AsFd) {
        while !Self::look(pipe, None) {}
    }

    fn look(pipe: &impl std::os::fd::AsFd, wait: Option<&rustix::event::Timespec>) -> bool {
        use rustix::event::{PollFd, PollFlags, poll};
        use rustix::io::Errno;
        let result = poll(&mut [PollFd::new(pipe, PollFlags::IN)], wait);
        // The reader will see any error. A signal (EINTR) is not an error.
        !matches!(result, Ok(0) | Err(Errno::INTR))
    }
}

/// On other systems we do not check what a child does.
#[cfg(not(unix))]
pub(crate) struct Answers;

#[cfg(not(unix))]
impl Answers {
    /// Ignores the pipe.
    ///
    /// # Errors
    /// Never fails.
    pub(crate) fn of<T>(_: &T) -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn are_there(&self) -> bool {
        true
    }

    pub(crate) fn wait<T>(_: &T) {}
}

/// Runs a command to its end. Kills it and returns `None` if it takes longer than `deadline`. The command
/// must write its output to files, because nothing here reads pipes.
///
/// # Errors
/// The command cannot be started, or its end cannot be observed. It does not run any more.
pub(crate) fn run(command: &mut Command, deadline: Duration) -> io::Result<Option<ExitStatus>> {
    let until = Instant::now() + deadline;
    let mut child = Killed(command.spawn()?);
    loop {
        if let Some(status) = child.0.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
