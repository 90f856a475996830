//! The open connections: how many each address may have, and which one is closed when they are scarce.
//!
//! A client that sends nothing, or a byte from time to time, occupies a connection as long as it likes. So
//! if no more connections are allowed, a new one replaces the one that has waited longest for its request
//! head. If there is none, it replaces the one with the slowest transfer. A request that the server itself
//! is working on is never cut.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep};

use crate::access::pace::network;
use crate::limits;
use crate::metrics::Metrics;
use parking_lot::{Mutex, MutexGuard};

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The request head.
    Head,
    /// The request body.
    Body,
    /// For the server.
    Working,
    /// The client, which must read its answer or send the next request.
    Answer,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    stage: Stage,
    since: Instant,
    /// Bytes that were transferred before the stage began.
    bytes_before: u64,
    /// True if the body is an upload of symbols. Uploads have their own limit.
    is_upload: bool,
}

/// One open connection.
pub(crate) struct Connection {
    /// The address whose share this connection counts towards; `None` if no share applies.
    counted_for: Option<IpAddr>,
    progress: Mutex<Progress>,
    /// Bytes transferred in both directions.
    bytes: AtomicU64,
    task: OnceLock<AbortHandle>,
    is_short: Arc<AtomicBool>,
}

impl Connection {
    fn new(counted_for: Option<IpAddr>, is_short: Arc<AtomicBool>) -> Self {
        Self {
            counted_for,
            progress: Mutex::new(Progress {
                stage: Stage::Head,
                since: Instant::now(),
                bytes_before: 0,
                is_upload: false,
            }),
            bytes: AtomicU64::new(0),
            task: OnceLock::new(),
            is_short,
        }
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.set(stage, false);
    }

    /// Call this before the body of an upload of symbols.
    pub(crate) fn enter_upload(&self) {
        self.set(Stage::Body, true);
    }

    fn set(&self, stage: Stage, is_upload: bool) {
        *self.progress() = Progress {
            stage,
            since: Instant::now(),
            bytes_before: self.bytes.load(Ordering::Relaxed),
            is_upload,
        };
    }

    /// True if connections are scarce, so that time limits are tight.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// Call this once the connection's task runs.
    pub(crate) fn started(&self, task: AbortHandle) {
        let _ = self.task.set(task);
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock()
    }

    /// How suitable the connection is for closing; `None` if it must stay.
    fn weakness(&self, now: Instant) -> Option<Weakness> {
        let progress = *self.progress();
        let waited = now.saturating_duration_since(progress.since);
        let moved = self.bytes.load(Ordering::Relaxed) - progress.bytes_before;
        match progress.stage {
            Stage::Working => None,
            Stage::Head => Some(Weakness::Head(waited)),
            Stage::Body | Stage::Answer => {
                let rate = bytes_a_second(moved, waited);
                let is_slow = waited >= MEASURED_FROM && rate < limits::BODY_RATE_SHORT;
                is_slow.then_some(Weakness::Slow(u64::MAX - rate))
            }
        }
    }
}

/// A rate over less time is not meaningful.
const MEASURED_FROM: Duration = Duration::from_secs(1);

fn bytes_a_second(bytes: u64, time: Duration) -> u64 {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1000) / ms
}

/// True if a body of which `received` bytes arrived in `elapsed` is too slow. The limit applies to the rate
/// and not to the total time, so a large report over a slow line is accepted.
pub(crate) fn is_too_slow(received: u64, elapsed: Duration, is_short: bool) -> bool {
    let (grace, rate) = if is_short {
        (limits::BODY_GRACE_SECONDS_SHORT, limits::BODY_RATE_SHORT)
    } else {
        (limits::BODY_GRACE_SECONDS, limits::BODY_RATE)
    };
    elapsed > Duration::from_secs(grace) && bytes_a_second(received, elapsed) < rate
}

/// The larger value is closed first: heads before bodies, and the slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weakness {
    Slow(u64),
    Head(Duration),
}

/// All open connections.
pub(crate) struct Connections {
    open: Mutex<Open>,
    most: usize,
    is_short: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

struct Open {
    next_id: u64,
    by_id: HashMap<u64, Arc<Connection>>,
    by_network: HashMap<IpAddr, usize>,
    warned_at: Option<Instant>,
}

impl Open {
    fn remove(&mut self, id: u64) {
        let Some(connection) = self.by_id.remove(&id) else {
            return;
        };
        let Some(network) = connection.counted_for else {
            return;
        };
        if let Some(count) = self.by_network.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.by_network.remove(&network);
            }
        }
    }

    /// The connection to close first among those for which `is_candidate` is true.
    fn weakest(&self, is_candidate: impl Fn(&Connection) -> bool) -> Option<u64> {
        let now = Instant::now();
        let candidates = self.by_id.iter().filter(|(_, c)| is_candidate(c));
        let weak = candidates.filter_map(|(id, c)| Some((c.weakness(now)?, *id)));
        weak.max().map(|(_, id)| id)
    }
}

impl Connections {
    pub(crate) fn new(most: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            open: Mutex::new(Open {
                next_id: 0,
                by_id: HashMap::new(),
                by_network: HashMap::new(),
                warned_at: None,
            }),
            most,
            is_short: Arc::default(),
            metrics,
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }

    /// Admits a new connection, and closes another one for it if necessary. `counted_for` is the address
    /// whose share it uses. Returns `None` if the connection must be refused.
    pub(crate) fn admit(self: &Arc<Self>, counted_for: Option<IpAddr>) -> Option<Place> {
        let counted_for = counted_for.map(network);
        let share = (self.most / limits::CONNECTIONS_SHARE).max(1);
        let mut open = self.open();
        let held = counted_for.and_then(|network| open.by_network.get(&network));
        let is_over_share = held.is_some_and(|held| *held >= share);
        if is_over_share || open.by_id.len() >= self.most {
            let weakest = open.weakest(|c| !is_over_share || c.counted_for == counted_for);
            let Some(weakest) = weakest else {
                let why = if is_over_share { "share" } else { "full" };
                self.metrics.connections_refused.add(why);
                self.warn(&mut open, counted_for);
                return None;
            };
            self.close(&mut open, weakest);
            self.warn(&mut open, counted_for);
        }
        let id = open.next_id;
        open.next_id += 1;
        let connection = Arc::new(Connection::new(counted_for, self.is_short.clone()));
        open.by_id.insert(id, connection.clone());
        if let Some(network) = counted_for {
            *open.by_network.entry(network).or_default() += 1;
        }
        self.measure(&open);
        Some(Place {
            id,
            connection,
            all: self.clone(),
        })
    }

    /// Closes the slowest upload of symbols to make place for another one.
    pub(crate) fn close_slowest_upload(&self) -> bool {
        let mut open = self.open();
        let weakest = open.weakest(|connection| connection.progress().is_upload);
        if let Some(weakest) = weakest {
            self.close(&mut open, weakest);
        }
        weakest.is_some()
    }

    fn close(&self, open: &mut Open, id: u64) {
        let task = open.by_id.get(&id).and_then(|c| c.task.get());
        if let Some(task) = task {
            task.abort();
        }
        open.remove(id);
        self.metrics.connections_closed.add(1);
        self.measure(open);
    }

    fn measure(&self, open: &Open) {
        let is_short = open.by_id.len() * limits::CONNECTIONS_SHORT.1
            >= self.most * limits::CONNECTIONS_SHORT.0;
        self.is_short.store(is_short, Ordering::Relaxed);
        self.metrics.connections_open.set(open.by_id.len() as u64);
    }

    /// Logs at most once a minute that connections are scarce.
    fn warn(&self, open: &mut Open, address: Option<IpAddr>) {
        let now = Instant::now();
        let is_new = open
            .warned_at
            .is_none_or(|at| now.saturating_duration_since(at) >= Duration::from_secs(60));
        if is_new {
            open.warned_at = Some(now);
            let (count, most) = (open.by_id.len(), self.most);
            tracing::warn!(
                count,
                most,
                ?address,
                "too many connections: closing slow ones"
            );
        }
    }
}

/// The place of one connection. Dropping it frees the place.
pub(crate) struct Place {
    id: u64,
    pub(crate) connection: Arc<Connection>,
    all: Arc<Connections>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.all.open();
        open.remove(self.id);
        self.all.measure(&open);
    }
}

/// A stream that reports its transferred bytes to its connection, and that fails if the peer reads nothing
/// for some time.
pub(crate) struct Measured<T> {
    inner: T,
    connection: Arc<Connection>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Measured<T> {
    pub(crate) fn new(inner: T, connection: Arc<Connection>) -> Self {
        Self {
            inner,
            connection,
            stalled: None,
        }
    }

    fn written(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(result) => {
                self.stalled = None;
                if let Ok(count) = result {
                    self.connection
                        .bytes
                        .fetch_add(count as u64, Ordering::Relaxed);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                let idle = Duration::from_secs(limits::ANSWER_IDLE_SECONDS_MAX);
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(idle)));
                stalled.as_mut().poll(cx).map(|()| {
                    Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the client does not read the response",
                    ))
                })
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Measured<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, out);
        let count = out.filled().len() - before;
        self.connection
            .bytes
            .fetch_add(count as u64, Ordering::Relaxed);
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Measured<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.written(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(most: usize) -> Arc<Connections> {
        Arc::new(Connections::new(most, Arc::default()))
    }

    /// Number of connections, and number of addresses that have some.
    fn count(all: &Connections) -> (usize, usize) {
        let open = all.open();
        (open.by_id.len(), open.by_network.len())
    }

    fn address(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_takes_the_place_of_the_oldest_head_or_else_of_the_slowest_body() {
        let all = connections(3);
        let held: Vec<Place> = (0..3).map(|_| all.admit(None).expect("a place")).collect();
        held[0].connection.enter(Stage::Body);
        held[1].connection.enter(Stage::Working);
        tokio::time::advance(Duration::from_secs(2)).await;
        held[0].connection.bytes.fetch_add(2_000, Ordering::Relaxed);
        let fourth = all.admit(None).expect("the head's place");
        assert_eq!(
            (count(&all).0, all.metrics.connections_closed.get()),
            (3, 1)
        );
        fourth.connection.enter(Stage::Body);
        tokio::time::advance(Duration::from_secs(2)).await;
        fourth
            .connection
            .bytes
            .fetch_add(200_000, Ordering::Relaxed);
        let fifth = all.admit(None).expect("the slow body's place");
        fifth.connection.enter(Stage::Working);
        // The remaining ones are fast, or wait for the server.
        assert!(all.admit(None).is_none());
        assert_eq!(all.metrics.connections_refused.get()["full"], 1);
        drop(held);
        // The place of the closed connection is in use again. It must not be freed twice.
        assert_eq!(count(&all).0, 2);
        assert!(all.admit(None).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_share_and_gives_up_its_own_connections_for_more() {
        let all = connections(8 * limits::CONNECTIONS_SHARE);
        let one = address("2001:db8::1");
        let mut held: Vec<Place> = (0..8).map(|_| all.admit(one).expect("a place")).collect();
        for place in &held {
            place.connection.enter(Stage::Working);
        }
        assert!(
            all.admit(address("2001:db8::ffff")).is_none(),
            "the same network"
        );
        assert_eq!(all.metrics.connections_refused.get()["share"], 1);
        let other = all.admit(address("203.0.113.9")).expect("another address");
        held[0].connection.enter(Stage::Answer);
        tokio::time::advance(Duration::from_secs(2)).await;
        held.push(all.admit(one).expect("the place of its own idle one"));
        drop(other);
        drop(held);
        assert_eq!(count(&all), (0, 0));
    }

    #[test]
    fn a_body_is_bounded_by_its_rate_and_more_tightly_when_connections_are_short() {
        let slow = |kib: u64, seconds, is_short| {
            is_too_slow(kib * 1024, Duration::from_secs(seconds), is_short)
        };
        assert!(!slow(0, 30, false), "a client may take a while to begin");
        assert!(slow(0, 31, false));
        assert!(!slow(40 << 10, 341, false), "40 MiB at 120 KiB a second");
        assert!(slow(31 * 7, 31, false) && !slow(31 * 9, 31, false));
        assert!(slow(6 * 9, 6, true) && !slow(6 * 33, 6, true));
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_upload_is_closed_for_another_one() {
        let all = connections(10);
        let (upload, report) = (all.admit(None).unwrap(), all.admit(None).unwrap());
        upload.connection.enter_upload();
        report.connection.enter(Stage::Body);
        assert!(!all.close_slowest_upload(), "it has only just begun");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(all.close_slowest_upload());
        assert!(!all.close_slowest_upload(), "the report is no upload");
        assert_eq!(count(&all).0, 1);
    }
}
