//! Faults that a walker commits on request, so that tests can check the handling of faults.
//!
//! Only a walker that was started with `--plant-faults` commits them, and no server starts one with it. Then
//! a dump that consists of [`MAGIC`] and one of the words below requests a fault.

use std::hint::black_box;
use std::io::Write;

/// The first bytes of such a dump.
pub(super) const MAGIC: &[u8] = b"CKFAULT ";

/// CPU time in seconds: more than a slow walk may use beside quick ones, and less than any deadline.
#[cfg(unix)]
const BUSY_FOR: i64 = 2;

/// Commits the fault if the dump requests one. If it returns, the walk continues as usual.
pub(super) fn commit(dump: &[u8], output: &mut impl Write) {
    match dump.strip_prefix(MAGIC) {
        Some(b"abort") => std::process::abort(),
        Some(b"overflow") => {
            black_box(descend(0));
        }
        Some(b"loop") => loop {
            black_box(());
        },
        Some(b"memory") => {
            // One page at a time, like a walk that keeps too much.
            let mut kept = Vec::new();
            for _ in 0..(10_u64 << 30) / 4096 {
                kept.push(black_box(vec![1_u8; 4096]));
            }
        }
        Some(b"garbage") => {
            // If the parent is gone already, nobody reads it.
            let _ = output
                .write_all(&[0xa5; 4096])
                .and_then(|()| output.flush());
        }
        Some(b"stop") => stop(),
        Some(b"busy") => busy(),
        _ => {}
    }
}

/// Recurses deeper than any stack.
#[allow(unconditional_recursion)]
fn descend(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    descend(depth + 1) + black_box(room)[0]
}

#[cfg(unix)]
fn stop() {
    let own = rustix::process::getpid();
    // If the process cannot stop itself, the walk continues and refuses the bytes, because they are not a dump.
    let _ = rustix::process::kill_process(own, rustix::process::Signal::STOP);
}

#[cfg(not(unix))]
fn stop() {}

#[cfg(unix)]
fn busy() {
    use rustix::time::{ClockId, clock_gettime};
    let now = || clock_gettime(ClockId::ProcessCPUTime).tv_sec;
    let until = now() + BUSY_FOR;
    while now() < until {
        black_box(());
    }
}

#[cfg(not(unix))]
fn busy() {}
