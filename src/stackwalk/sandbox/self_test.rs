//! Tries what a process in the sandbox must not be able to do.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::syscalls::Restrictions;

/// Tries what a walker must not be able to do, and writes the result of each. Returns true if the active
/// restrictions refused everything that they must refuse, and symbols can be read.
pub(in crate::stackwalk) fn self_test(
    restrictions: Restrictions,
    readable: &[PathBuf],
    output: &mut impl Write,
) -> io::Result<bool> {
    let word = |is_active| {
        if is_active {
            "active"
        } else {
            "not supported by this system"
        }
    };
    writeln!(output, "landlock: {}", word(restrictions.has_landlock))?;
    writeln!(output, "seccomp: {}", word(restrictions.has_seccomp))?;
    let either = restrictions.has_landlock || restrictions.has_seccomp;
    let mut is_closed = true;
    for (what, must_be_refused, tried) in [
        (
            "read a file elsewhere",
            restrictions.has_landlock,
            read_elsewhere(),
        ),
        ("write a file", either, write_file(readable)),
        ("open a connection", either, connect()),
        ("wait for connections", either, listen()),
        ("send a datagram", restrictions.has_seccomp, send_datagram()),
        ("start a program", either, start_program()),
        ("start a thread", restrictions.has_seccomp, start_thread()),
        ("signal the parent", either, signal_parent()),
        (
            "have files send signals",
            restrictions.has_seccomp,
            signals_of_files(),
        ),
    ] {
        let is_refused = tried
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        is_closed &= is_refused || !must_be_refused;
        match tried {
            Ok(()) => writeln!(output, "{what}: possible")?,
            Err(error) if is_refused => writeln!(output, "{what}: refused ({error})")?,
            Err(error) => writeln!(output, "{what}: failed ({error})")?,
        }
    }
    for folder in readable {
        let listed = std::fs::read_dir(folder).map(|entries| entries.count());
        is_closed &= listed.is_ok();
        match listed {
            Ok(count) => writeln!(output, "read {}: {count} entries", folder.display())?,
            Err(error) => writeln!(output, "read {}: failed ({error})", folder.display())?,
        }
    }
    Ok(is_closed)
}

fn read_elsewhere() -> io::Result<()> {
    std::fs::File::open("/proc/self/exe").map(drop)
}

fn write_file(readable: &[PathBuf]) -> io::Result<()> {
    let folder = readable.first().map_or(Path::new("."), PathBuf::as_path);
    let path = folder.join("walker-self-test");
    std::fs::File::create(&path)?;
    std::fs::remove_file(path)
}

fn connect() -> io::Result<()> {
    std::net::TcpStream::connect(("127.0.0.1", 1)).map(drop)
}

fn listen() -> io::Result<()> {
    std::net::TcpListener::bind(("127.0.0.1", 0)).map(drop)
}

fn send_datagram() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
    socket.send_to(b"self-test", ("127.0.0.1", 1)).map(drop)
}

/// Starts a new process with a program.
fn start_program() -> io::Result<()> {
    let mut child = std::process::Command::new("/proc/self/exe")
        .arg("--version")
        .stdout(std::process::Stdio::null())
        .spawn()?;
    child.wait().map(drop)
}

fn start_thread() -> io::Result<()> {
    let thread = std::thread::Builder::new().spawn(|| {});
    // musl reports every reason as "try again".
    #[cfg(target_env = "musl")]
    let thread = thread.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::PermissionDenied.into(),
        _ => error,
    });
    let thread = thread?;
    thread
        .join()
        .map_err(|_| io::Error::other("the thread panicked"))
}

#[cfg(target_os = "linux")]
fn signal_parent() -> io::Result<()> {
    // A command that a container's engine starts there has no parent in it. The server is its first process.
    let parent = rustix::process::getppid().unwrap_or(rustix::process::Pid::INIT);
    Ok(rustix::process::test_kill_process(parent)?)
}

/// The commands that choose the process and the signal are checked by the same filter rule.
#[cfg(target_os = "linux")]
fn signals_of_files() -> io::Result<()> {
    let (reader, _writer) = rustix::pipe::pipe()?;
    let flags = rustix::fs::fcntl_getfl(&reader)?;
    Ok(rustix::fs::fcntl_setfl(&reader, flags)?)
}

#[cfg(not(target_os = "linux"))]
fn signals_of_files() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn signal_parent() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
