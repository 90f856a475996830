//! How long it takes until a new crash is found, while crashes arrive steadily.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{get, percentile_95};
use crate::{Server, connections, dumps, median, post, request};

/// Crashes per second.
const RATE: u32 = 50;
const CRASHES: u32 = 1_000;

pub fn run(data: &Path) {
    let dumps = dumps();
    let smallest = dumps.iter().min_by_key(|dump| dump.len()).expect("dumps");
    std::fs::create_dir_all(data.parent().expect("a folder above")).expect("a folder");
    let server = Server::start(data);
    let sent: Mutex<Vec<Instant>> = Mutex::default();
    let is_done = AtomicBool::new(false);
    let mut found: HashMap<u32, Instant> = HashMap::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let lines = connections(&server, 1);
            let begun = Instant::now();
            for number in 0..CRASHES {
                let due = begun + Duration::from_secs(1) * number / RATE;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let mut dump = smallest.clone();
                dump.extend_from_slice(&number.to_le_bytes());
                let request = request(&dump);
                post(&mut lines[0].lock().expect("no panic"), &request);
                sent.lock().expect("no panic").push(Instant::now());
            }
            is_done.store(true, Ordering::SeqCst);
        });
        // The n-th crash that is found need not be the n-th that was sent. The sum over all of them is the
        // same.
        while found.len() < CRASHES as usize {
            let answer = get(&server, "/api/SuperSearch/?_results_number=0&_facets=");
            let total = answer.split("\"total\":").nth(1).expect("a total");
            let digits = total
                .trim_start()
                .split(|c: char| !c.is_ascii_digit())
                .next();
            let total: u32 = digits.and_then(|text| text.parse().ok()).expect("a number");
            let now = Instant::now();
            for number in found.len() as u32..total {
                found.insert(number, now);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    assert!(is_done.load(Ordering::SeqCst));
    let sent = sent.into_inner().expect("no panic");
    let lags = sent.iter().enumerate();
    let lags = lags.map(|(at, sent)| found[&(at as u32)].duration_since(*sent).as_secs_f64());
    let lags: Vec<f64> = lags.collect();
    let most = lags.iter().copied().fold(0.0, f64::max);
    println!(
        "search: {RATE} crashes a second, from the answer until found: median {:.2} s, p95 {:.2} s",
        median(lags.clone()),
        percentile_95(lags)
    );
    println!("figure search_lag_max {most:.2} s baseline target 3");
    server.stop();
}
