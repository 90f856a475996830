//! Children that are started for one piece of work: files go in and out, and time is bounded.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Between two looks at whether a child has ended: portable, and nothing to the milliseconds that
/// a start takes.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A child that does not outlive us.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail where it has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes room in a pipe, so that those at its ends wait for each other less often.
#[cfg(target_os = "linux")]
pub fn widen(pipe: &impl std::os::fd::AsFd) {
    /// What the system allows to everybody.
    const PIPE_BYTES: usize = 1 << 20;
    // Where that is refused, or this is no pipe, all goes on as it was.
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
}

#[cfg(not(target_os = "linux"))]
pub fn widen<T>(_: &T) {}

/// Whether a child has begun to answer, told without reading any of it.
#[cfg(unix)]
pub struct Answers(std::os::fd::OwnedFd);

#[cfg(unix)]
impl Answers {
    pub fn of(pipe: &impl std::os::fd::AsFd) -> io::Result<Self> {
        pipe.as_fd().try_clone_to_owned().map(Self)
    }

    pub fn are_there(&self) -> bool {
        Self::look(&self.0, Some(&rustix::event::Timespec::default()))
    }

    /// Waits until they are there, or the child has closed the pipe.
    pub fn wait(pipe: &impl std::os::fd::AsFd) {
        while !Self::look(pipe, None) {}
    }

    fn look(pipe: &impl std::os::fd::AsFd, wait: Option<&rustix::event::Timespec>) -> bool {
        use rustix::event::{PollFd, PollFlags, poll};
        use rustix::io::Errno;
        let result = poll(&mut [PollFd::new(pipe, PollFlags::IN)], wait);
        // An error is for who reads to meet, but a signal is none.
        !matches!(result, Ok(0) | Err(Errno::INTR))
    }
}

/// Elsewhere nobody asks what a child does.
#[cfg(not(unix))]
pub struct Answers;

#[cfg(not(unix))]
impl Answers {
    pub fn of<T>(_: &T) -> io::Result<Self> {
        Ok(Self)
    }

    pub fn are_there(&self) -> bool {
        true
    }

    pub fn wait<T>(_: &T) {}
}

/// Runs a command to its end. `None` where it took longer than `deadline`, and was killed. Its
/// output must go to files: nobody reads pipes here.
pub fn run(command: &mut Command, deadline: Duration) -> io::Result<Option<ExitStatus>> {
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
