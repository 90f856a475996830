//! A demo server with data: real dumps of several programs, sent through the collector with times of the
//! last two weeks, and with their symbols.
//!
//! The server has no special code for this. Only its clock is set back for each report. The reports are the
//! same at every start.

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};

use crate::appliance::{self, Appliance, Place};
use crate::client::{Form, Sent};
use crate::clock::{Clock, DAY_MS, SystemClock, Timestamp};
use crate::config::Config;
use crate::crash::raw::MAIN_DUMP;
use crate::fields::name;
use crate::symbols::{Conflict, Incoming, SymbolStore};
use crate::web::Params;

const DAYS: i64 = 14;
/// How long to wait for the last reports to be processed before the server counts as ready.
const PATIENCE: Duration = Duration::from_secs(300);

macro_rules! dump {
    ($name:literal) => {
        include_bytes!(concat!("../tests/fixtures/dumps/", $name, ".dmp"))
    };
}

macro_rules! symbols {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../tests/fixtures/symbols/", $path, ".gz")))),*]
    };
}

/// The path of a symbol file in the symbol store, and its gzip-compressed text.
const SYMBOLS: &[(&str, &[u8])] = symbols![
    "acmed/135F08D1B8BB3CACF63971E176A8388F0/acmed.sym",
    "acmed/9A3DB037F2C1EFD28025FE267EDCB01E0/acmed.sym",
    "libc.so.6/EC61AC938E5A39B16F9FBD350E3169A50/libc.so.6.sym",
    "libc.so.6/F58F266FC5467F6D14E9501A55698CC20/libc.so.6.sym",
    "crash-client/509C0610949836F7B70BD88BCF03E5400/crash-client.sym",
    "crash.pdb/3249D99D0C4049318610F4E4FB0B69361/crash.sym",
    "test_app.pdb/5A9832E5287241C1838ED98914E9B7FF1/test_app.sym",
];

/// Number of threads of the dump that is walked only in part: more than a walk keeps.
const HOSTILE_THREADS: u32 = 20_000;

const RULES: &str = r#"
[[throttle]]
name = "no_local_builds"
field = "ReleaseChannel"
op = "is"
value = "local"
outcome = "reject"

[[throttle]]
name = "nightly_on_demand"
field = "ReleaseChannel"
op = "is"
value = "nightly"
outcome = "defer"

[[bug_template]]
name = "Bugzilla"
url = "https://bugs.example.org/enter_bug.cgi?cf_crash_signature=%5B%40%20{signature}%5D&short_desc={title}&comment={description}"
"#;
/// A signature of these dumps, and a bug about it.
const KNOWN: (&str, &str) = (
    "core::ptr::read_volatile",
    "https://bugs.example.org/show_bug.cgi?id=4711",
);

struct Product {
    name: &'static str,
    channel: &'static str,
    /// Versions, and how many days ago each was released.
    versions: &'static [(&'static str, i64)],
    /// Reports on an average day.
    daily: u64,
    /// Dumps, and the relative frequency of each.
    dumps: &'static [(&'static [u8], u64)],
}

const PRODUCTS: &[Product] = &[
    Product {
        name: "Acme Server",
        channel: "release",
        versions: &[("2.3.7", 60), ("2.4.0", 20), ("2.4.1", 6)],
        daily: 8,
        dumps: &[
            (dump!("linux-x86_64-acmed_null_read"), 5),
            (dump!("linux-arm64-acmed_null_read"), 3),
            (dump!("linux-x86_64-acmed_wild_write"), 3),
            (dump!("linux-x86_64-acmed_panic_abort"), 3),
            (dump!("linux-x86_64-acmed_div_zero"), 2),
            (dump!("linux-x86_64-acmed_deadlock_abort"), 1),
            (dump!("linux-x86_64-acmed_bad_call"), 1),
        ],
    },
    Product {
        name: "Pipeline",
        channel: "beta",
        versions: &[("0.9-beta3", 30), ("0.9-beta4", 9)],
        daily: 3,
        dumps: &[(dump!("macos-x86_64-pipeline_inlines"), 1)],
    },
    Product {
        name: "Ledger Desktop",
        channel: "release",
        versions: &[("11.2", 40), ("11.3", 11)],
        daily: 4,
        dumps: &[
            (dump!("windows-x86-crash"), 3),
            (dump!("windows-x86-test_app"), 2),
            (dump!("windows-x86_64-electron"), 1),
        ],
    },
];

/// The system's clock, set back by this many milliseconds.
struct SetBack(AtomicI64);

impl Clock for SetBack {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(SystemClock.now().ms() - self.0.load(Ordering::SeqCst))
    }
}

/// A sequence of pseudo-random numbers that is the same at every start.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Starts a server on `data`, which must be empty, and fills it. Returns the server and the number of
/// reports sent.
///
/// # Errors
/// The server cannot be started, or it does not store a report or its symbols.
pub(crate) fn start(
    mut config: Config,
    data: &Path,
    program: &Path,
) -> anyhow::Result<(Appliance, usize)> {
    let own = Config::parse("demo", RULES)?;
    (config.throttle, config.bug_template) = (own.throttle, own.bug_template);
    install_symbols(&appliance::symbol_store(data)?)?;
    let clock = Arc::new(SetBack(AtomicI64::new(0)));
    let place = Place {
        data: data.into(),
        program: program.into(),
        read_only: false,
    };
    let appliance = Appliance::start_at(config, &place, clock.clone())?;
    let sent = fill(&appliance, &clock)?;
    clock.0.store(0, Ordering::SeqCst);
    appliance.wait_idle(PATIENCE);
    attach(&appliance)?;
    Ok((appliance, sent))
}

/// Attaches a bug to a signature, as a user would do by hand.
fn attach(appliance: &Appliance) -> anyhow::Result<()> {
    let (signature, bug) = KNOWN;
    let form = Params(vec![
        (name::SIGNATURE.into(), signature.into()),
        ("bug".into(), bug.into()),
    ]);
    let url = format!("http://{}/signature/bugs/attach", appliance.address());
    let sent = Sent::Post {
        content_type: "application/x-www-form-urlencoded".to_owned(),
        body: form.to_query().into_bytes(),
    };
    let key = appliance.local_key();
    match crate::client::ask(&url, sent, key.as_deref())? {
        (303, _) => Ok(()),
        (status, answer) => bail!("the demo server answered {status}: {answer}"),
    }
}

fn install_symbols(symbol_store: &SymbolStore) -> anyhow::Result<()> {
    for (path, packed) in SYMBOLS {
        let mut text = BufReader::new(flate2::read::GzDecoder::new(*packed));
        let incoming = Incoming {
            name: path,
            native: None,
            notes: Vec::new(),
            now_ms: SystemClock.now().ms(),
        };
        let taken = symbol_store.take(&mut text, incoming, Conflict::KeepFirst);
        let taken = taken.map_err(|why| anyhow!("{path}: {why}"))?;
        ensure!(taken.place == *path, "{path} belongs to {}", taken.place);
    }
    Ok(())
}

fn fill(appliance: &Appliance, clock: &SetBack) -> anyhow::Result<usize> {
    let url = format!("http://{}/submit", appliance.address());
    let mut random = Random(20_261_122);
    let mut sent = 0;
    clock.0.store(60_000, Ordering::SeqCst);
    let hostile = with_threads(PRODUCTS[0].dumps[0].0, HOSTILE_THREADS);
    let form = annotations(&PRODUCTS[0], 0, clock.now(), &mut random);
    send(&url, form, &hostile)?;
    for days_ago in (0..DAYS).rev() {
        // In order of the time of day, as a real clock would produce it. For today, only times in the past.
        let mut day: Vec<(i64, &Product)> = Vec::new();
        for product in PRODUCTS {
            let reports = product.daily / 2 + random.below(product.daily + 1);
            day.extend((0..reports).map(|_| (random.below(DAY_MS as u64) as i64, product)));
        }
        day.sort_by_key(|(back, _)| -back);
        for (back, product) in day {
            clock.0.store(days_ago * DAY_MS + back, Ordering::SeqCst);
            report(&url, product, days_ago, clock.now(), &mut random)?;
            sent += 1;
        }
    }
    clock.0.store(60_000, Ordering::SeqCst);
    let nightly = Product {
        channel: "nightly",
        ..copy(&PRODUCTS[0])
    };
    report(&url, &nightly, 0, clock.now(), &mut random)?;
    let local = Product {
        channel: "local",
        ..copy(&PRODUCTS[1])
    };
    report(&url, &local, 0, clock.now(), &mut random)?;
    let broken = Product {
        dumps: &[(b"<html>Bad Gateway</html>", 1)],
        ..copy(&PRODUCTS[2])
    };
    report(&url, &broken, 0, clock.now(), &mut random)?;
    Ok(sent + 4)
}

fn copy(product: &Product) -> Product {
    Product { ..*product }
}

fn report(
    url: &str,
    product: &Product,
    days_ago: i64,
    now: Timestamp,
    random: &mut Random,
) -> anyhow::Result<()> {
    let form = annotations(product, days_ago, now, random);
    let shares: u64 = product.dumps.iter().map(|(_, share)| share).sum();
    let mut drawn = random.below(shares);
    let dump = product.dumps.iter().find(|(_, share)| {
        let hit = drawn < *share;
        drawn = drawn.saturating_sub(*share);
        hit
    });
    let (dump, _) = dump.context("the shares add up")?;
    send(url, form, dump)
}

fn send(url: &str, mut form: Form, dump: &[u8]) -> anyhow::Result<()> {
    form.part(MAIN_DUMP, Some("crash.dmp"), dump);
    match crate::client::ask(url, Sent::Form(form), None)? {
        (200, _) => Ok(()),
        (status, answer) => bail!("the demo's collector answered {status}: {answer}"),
    }
}

/// The annotations that a client of the product sends with a crash.
fn annotations(product: &Product, days_ago: i64, now: Timestamp, random: &mut Random) -> Form {
    let (version, released) = version(product, days_ago, random);
    let mut form = Form::new();
    let seconds = now.ms() / 1000;
    // Some users crash more often than others. Each user installed a version soon after its release.
    let user = random.below(10) * random.below(10);
    let release = SystemClock.now().day().back(released as u32).start();
    let installed = release.ms() / 1000 + user as i64 * 571;
    let uptime =
        [12, 45, 180, 900, 4_000, 60_000][random.below(6) as usize] + random.below(30) as i64;
    for (key, value) in [
        ("ProductName", product.name.to_owned()),
        ("Version", version.to_owned()),
        ("ReleaseChannel", product.channel.to_owned()),
        ("CrashTime", seconds.to_string()),
        ("StartupTime", (seconds - uptime).to_string()),
        ("InstallTime", installed.min(seconds).to_string()),
        ("StartupCrash", u8::from(uptime < 20).to_string()),
        ("BuildID", build_id(release, released - days_ago)),
        ("URL", page(random)),
        (
            "tile_cache",
            if random.below(3) == 0 { "on" } else { "off" }.to_owned(),
        ),
    ] {
        form.part(key, None, value.as_bytes());
    }
    if random.below(12) == 0 {
        form.part("Comments", None, b"It was in the middle of an export.");
    }
    form
}

/// Each version was built on the morning of its release, and again three days later.
fn build_id(release: Timestamp, days_out: i64) -> String {
    let rebuilt = if days_out >= 3 { 3 } else { 0 };
    let day = Timestamp::from_ms(release.ms() + rebuilt * DAY_MS);
    let date = day.utc().date();
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year}{month:02}{day:02}0930{:02}", 10 + rebuilt)
}

/// The URL that was open. Some pages are more frequent than others.
fn page(random: &mut Random) -> String {
    const PAGES: [&str; 6] = [
        "https://app.example.org/orders",
        "https://app.example.org/orders/export?format=xlsx",
        "https://app.example.org/",
        "https://docs.example.org/start#install",
        "https://maps.example.net/tiles",
        "file:///srv/report.html",
    ];
    PAGES[(random.below(6) * random.below(6) / 5) as usize].to_owned()
}

/// A version that was released by that day. The newest one gains users day by day.
fn version(product: &Product, days_ago: i64, random: &mut Random) -> (&'static str, i64) {
    let out = product
        .versions
        .iter()
        .rev()
        .filter(|(_, released)| *released >= days_ago);
    let mut chosen = product.versions[0];
    for (version, released) in out {
        chosen = (version, *released);
        let age = (released - days_ago) as u64;
        if random.below(10) < (2 + age).min(9) {
            break;
        }
    }
    chosen
}

/// A copy of `dump` whose thread list names the first thread, with its stack and registers, `threads` times.
/// Each thread costs 48 bytes in the file and one complete stack in the walk. `dump` must be a valid dump.
fn with_threads(dump: &[u8], threads: u32) -> Vec<u8> {
    const THREAD_LIST: u32 = 3;
    const THREAD_BYTES: usize = 48;
    let word = |at: usize| u32::from_le_bytes([dump[at], dump[at + 1], dump[at + 2], dump[at + 3]]);
    let (streams, directory) = (word(8) as usize, word(12) as usize);
    let entry = (0..streams)
        .map(|index| directory + index * 12)
        .find(|entry| word(*entry) == THREAD_LIST)
        .expect("a whole dump has a thread list");
    let list = word(entry + 8) as usize;
    let thread = &dump[list + 4..list + 4 + THREAD_BYTES];
    let mut many = dump.to_vec();
    many.resize(dump.len().next_multiple_of(8), 0);
    let new_list = many.len() as u32;
    many.extend(threads.to_le_bytes());
    for _ in 0..threads {
        many.extend(thread);
    }
    let size = 4 + threads * THREAD_BYTES as u32;
    many[entry + 4..entry + 8].copy_from_slice(&size.to_le_bytes());
    many[entry + 8..entry + 12].copy_from_slice(&new_list.to_le_bytes());
    many
}
