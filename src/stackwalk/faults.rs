//! Faults that a walker commits when it is told to, so that what comes of them can be tried.
//!
//! Only a walker that was started with `--plant-faults` has them, which no server asks for; then a dump
//! that begins with [`MAGIC`] and one of the words below is no dump but an order.

use std::hint::black_box;
use std::io::Write;

/// What an order begins with.
pub(super) const MAGIC: &[u8] = b"CKFAULT ";

/// Processor time, in seconds: more than slow walks may take where others are quick, and less than
/// any deadline.
#[cfg(unix)]
const BUSY_FOR: i64 = 2;

/// Obeys, if the dump is an order. Returns only where the order is to go on as if nothing were.
pub(super) fn obey(dump: &[u8], output: &mut impl Write) {
    match dump.strip_prefix(MAGIC) {
        Some(b"abort") => std::process::abort(),
        Some(b"overflow") => {
            black_box(descend(0));
        }
        Some(b"loop") => loop {
            black_box(());
        },
        Some(b"memory") => {
            // A page at a time, as a walk would that keeps too much.
            let mut kept = Vec::new();
            for _ in 0..(10_u64 << 30) / 4096 {
                kept.push(black_box(vec![1_u8; 4096]));
            }
        }
        Some(b"garbage") => {
            // The parent may be gone already; then nobody reads it.
            let _ = output
                .write_all(&[0xa5; 4096])
                .and_then(|()| output.flush());
        }
        Some(b"stop") => stop(),
        Some(b"busy") => busy(),
        _ => {}
    }
}

/// Deeper than any stack.
#[allow(unconditional_recursion)]
fn descend(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    descend(depth + 1) + black_box(room)[0]
}

#[cfg(unix)]
fn stop() {
    let own = rustix::process::getpid();
    // A process that cannot stop itself walks on, and the order fails as no dump.
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
