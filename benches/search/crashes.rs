//! Crashes like those of a large site: few signatures with many crashes and many signatures with few, users
//! who crash again, versions that come and go.

use std::borrow::Cow;
use std::fmt::Write as _;

use crashkeep::clock::{DAY_MS, Timestamp};
use crashkeep::crash::id::{CrashId, Kept};
use crashkeep::fields::{Catalogue, Kind};

/// The period of the crashes, in days.
pub const DAYS: i64 = 90;
/// The end of that period.
pub const END: Timestamp = Timestamp::from_ms(1_795_338_000_000);
const SIGNATURES: usize = 20_000;
/// The skew of signatures: a few hundred cause most crashes.
const ZIPF: f64 = 1.05;
/// A version is released each week and is used for some weeks.
const VERSIONS: i64 = 16;
/// Products, each with its percentage of the crashes.
pub const PRODUCTS: [(&str, u64); 8] = [
    ("Lynx", 46),
    ("Lynx Mobile", 24),
    ("Ocelot", 12),
    ("Puma", 8),
    ("Serval", 5),
    ("Caracal", 3),
    ("Manul", 1),
    ("Margay", 1),
];
const PLATFORMS: [(&str, u64); 4] = [
    ("Windows NT", 62),
    ("Linux", 17),
    ("Mac OS X", 15),
    ("Android", 6),
];
const CHANNELS: [(&str, u64); 4] = [("release", 70), ("beta", 20), ("nightly", 7), ("esr", 3)];
const PROCESSES: [(&str, u64); 5] = [
    ("parent", 40),
    ("content", 45),
    ("gpu", 9),
    ("utility", 4),
    ("rdd", 2),
];
const REASONS: [(&str, u64); 8] = [
    ("EXCEPTION_ACCESS_VIOLATION_READ", 45),
    ("EXCEPTION_ACCESS_VIOLATION_WRITE", 14),
    ("EXCEPTION_BREAKPOINT", 15),
    ("SIGSEGV / SEGV_MAPERR", 12),
    ("SIGABRT", 6),
    ("EXCEPTION_STACK_OVERFLOW", 4),
    ("EXC_BAD_ACCESS / KERN_INVALID_ADDRESS", 3),
    ("SIGBUS / BUS_ADRERR", 1),
];
const SPACES: [&str; 12] = [
    "mozilla",
    "js",
    "webrender",
    "std",
    "blink",
    "base",
    "gfx",
    "net",
    "layers",
    "audio",
    "skia",
    "v8",
];
const CLASSES: [&str; 24] = [
    "Promise", "Document", "Window", "Compiler", "Thread", "Channel", "Surface", "Texture",
    "Element", "Frame", "Session", "Decoder", "Cache", "Worker", "Timer", "Socket", "Layer",
    "Heap", "Buffer", "Parser", "Task", "Observer", "Listener", "Region",
];
const METHODS: [&str; 28] = [
    "Settle", "Run", "Release", "Append", "Notify", "Paint", "Compile", "Collect", "Resolve",
    "Close", "Open", "Destroy", "Lock", "Wait", "Read", "Write", "Flush", "Resize", "Update",
    "Dispatch", "Init", "Shutdown", "Advance", "Clone", "Mark", "Sweep", "Trace", "Handle",
];

/// Random numbers that are the same in each run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn unit(&mut self) -> f64 {
        (self.next() & 0xffff_ffff) as f64 / 4_294_967_296.0
    }

    fn of(&mut self, shares: &[(&'static str, u64)]) -> &'static str {
        let mut at = self.below(shares.iter().map(|(_, share)| share).sum());
        for (value, share) in shares {
            match at.checked_sub(*share) {
                None => return value,
                Some(rest) => at = rest,
            }
        }
        unreachable!("the shares are all")
    }
}

#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    Integer(i64),
    Bool(bool),
}

/// One crash, as input for the index and for the baseline.
pub struct Crash {
    pub seq: u64,
    pub id: CrashId,
    pub received_at: Timestamp,
    /// Values by the name of the field, without id and date.
    pub values: Vec<(Cow<'static, str>, Value)>,
}

impl Crash {
    pub fn value(&self, name: &str) -> Option<&Value> {
        let found = self.values.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value)
    }

    /// The processed crash.
    pub fn json(&self, catalogue: &Catalogue) -> String {
        let mut json = String::with_capacity(2_000);
        for (name, value) in &self.values {
            json.push(if json.is_empty() { '{' } else { ',' });
            let key = &catalogue.by_name(name).expect("a field").key;
            // None of the texts needs escaping.
            let _ = match value {
                Value::Text(text) => write!(json, "\"{key}\":\"{text}\""),
                Value::Integer(number) => write!(json, "\"{key}\":{number}"),
                Value::Bool(value) => write!(json, "\"{key}\":{value}"),
            };
        }
        json + ",\"json_dump\":{\"threads\":[]}}"
    }
}

struct Signature {
    text: String,
    /// Stacks with this signature, most frequent first.
    stacks: Vec<String>,
    modules: String,
}

/// A site with its signatures.
pub struct Site {
    pub catalogue: Catalogue,
    signatures: Vec<Signature>,
    /// The cumulative share of all crashes, up to and including each signature.
    shares: Vec<f64>,
    crashes: u64,
    /// Values per crash.
    fields: usize,
}

fn function(random: &mut Random) -> String {
    let space = SPACES[random.below(12) as usize];
    let class = CLASSES[random.below(24) as usize];
    let method = METHODS[random.below(28) as usize];
    match random.below(4) {
        0 => format!("{space}::{class}::{method}"),
        1 => format!("{space}::dom::{class}::{method}{}", random.below(40)),
        2 => format!("{space}::{class}{}::{method}", random.below(60)),
        _ => format!("{class}_{method}_{}", random.below(300)),
    }
}

impl Site {
    pub fn new(crashes: u64, fields: usize) -> Self {
        let mut random = Random::new(7);
        let mut total = 0.0;
        let mut shares: Vec<f64> = (1..=SIGNATURES)
            .map(|rank| {
                total += (rank as f64).powf(-ZIPF);
                total
            })
            .collect();
        shares.iter_mut().for_each(|share| *share /= total);
        let signatures = (0..SIGNATURES)
            .map(|n| {
                let own = format!("{}<{n}>", function(&mut random));
                let text = match random.below(3) {
                    0 => format!("abort | {own}"),
                    1 => format!("{} | {own}", function(&mut random)),
                    _ => own,
                };
                let stacks = (0..1 + random.below(4))
                    .map(|_| {
                        let mut stack = text.clone();
                        for _ in 0..6 + random.below(12) {
                            stack.push_str(" | ");
                            stack.push_str(&function(&mut random));
                        }
                        stack
                    })
                    .collect();
                let modules: Vec<String> = (0..1 + random.below(5))
                    .map(|_| {
                        let module = random.below(60);
                        format!("lib{module}.so/{:032X}0", u128::from(module) << 64 | 0xabcd)
                    })
                    .collect();
                Signature {
                    text,
                    stacks,
                    modules: modules.join(";"),
                }
            })
            .collect();
        Self {
            catalogue: Catalogue::builtin(),
            signatures,
            shares,
            crashes,
            fields,
        }
    }

    /// The signature with this rank, from 0.
    pub fn signature(&self, rank: usize) -> &str {
        &self.signatures[rank].text
    }

    /// The version that was released in this week of the period.
    pub fn version(product: &str, week: i64) -> String {
        let at = PRODUCTS.iter().position(|(name, _)| *name == product);
        format!("{}.{week}.{}", 100 + at.unwrap_or(0), week % 3)
    }

    /// The crash with this number, from 0, in the order of receipt.
    pub fn crash(&self, number: u64) -> Crash {
        let random = &mut Random::new(number.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let age = (self.crashes - number) as i64 * (DAYS * DAY_MS / self.crashes as i64);
        let received_at =
            Timestamp::from_ms(END.ms() - age + random.below(600_000) as i64 - 600_000);
        let unit = random.unit();
        let rank = self.shares.partition_point(|share| *share < unit);
        let signature = &self.signatures[rank.min(SIGNATURES - 1)];
        let stack = random
            .below(signature.stacks.len() as u64)
            .min(random.below(4));
        let product = random.of(&PRODUCTS);
        let week = (DAYS * DAY_MS - age) / (7 * DAY_MS) + 3;
        let week = (week - random.below(4).min(random.below(4)) as i64).min(VERSIONS);
        let platform = random.of(&PLATFORMS);
        // Some hundred thousand installations. Few of them crash daily.
        let client = match random.below(3) {
            0 => random.below(self.crashes / 200 + 1),
            _ => random.below(self.crashes / 2 + 1),
        };
        let mut own = Random::new(client);
        let installed = END.ms() / 1_000 - (own.below(400 * 86_400)) as i64;
        let text = |text: &str| Value::Text(text.to_owned());
        let number_of = |number: u64| Value::Integer(number as i64);
        let memory = [4, 8, 8, 16, 16, 32][own.below(6) as usize] << 30;
        let mut values = vec![
            ("signature", text(&signature.text)),
            ("proto_signature", text(&signature.stacks[stack as usize])),
            ("product", text(product)),
            ("version", Value::Text(Self::version(product, week))),
            ("major_version", Value::Integer(week)),
            ("release_channel", text(random.of(&CHANNELS))),
            (
                "build_id",
                Value::Text(format!("202608{week:02}0{}0000", random.below(3))),
            ),
            ("process_type", text(random.of(&PROCESSES))),
            ("state", text("processed")),
            ("report_type", text("crash")),
            ("throttle_rule", text("default")),
            ("reason", text(random.of(&REASONS))),
            (
                "address",
                Value::Text(match random.below(5) {
                    0 | 1 => format!("{:#018x}", random.below(64) * 8),
                    2 => "0xffffffffffffffff".into(),
                    _ => format!("{:#018x}", 0x7f00_0000_0000 + random.below(1 << 36)),
                }),
            ),
            ("startup_crash", Value::Bool(random.below(20) == 0)),
            (
                "crashing_thread",
                number_of(random.below(4) * random.below(20)),
            ),
            ("thread_count", number_of(20 + random.below(90))),
            ("modules_in_stack", text(&signature.modules)),
            ("platform", text(platform)),
            (
                "platform_version",
                Value::Text(format!("10.0.{}", 19_041 + own.below(40) * 17)),
            ),
            (
                "platform_pretty_version",
                Value::Text(format!("{platform} {}", 9 + own.below(4))),
            ),
            (
                "cpu_arch",
                text(if own.below(6) == 0 { "arm64" } else { "amd64" }),
            ),
            (
                "cpu_info",
                Value::Text(format!(
                    "family 6 model {} stepping {}",
                    own.below(170),
                    own.below(12)
                )),
            ),
            ("cpu_count", Value::Integer(2 << own.below(5))),
            (
                "cpu_microcode_version",
                Value::Text(format!("{:#x}", own.below(250))),
            ),
            (
                "adapter_vendor_id",
                text(["0x8086", "0x10de", "0x1002"][own.below(3) as usize]),
            ),
            (
                "adapter_device_id",
                Value::Text(format!("{:#06x}", own.below(900))),
            ),
            (
                "adapter_driver_version",
                Value::Text(format!("31.0.{}.{}", own.below(20), own.below(60))),
            ),
            ("total_physical_memory", Value::Integer(memory)),
            (
                "available_physical_memory",
                number_of(random.below(memory as u64)),
            ),
            ("available_virtual_memory", number_of(random.below(1 << 47))),
            (
                "system_memory_use_percentage",
                number_of(20 + random.below(80)),
            ),
            ("uptime", number_of(random.below(300) * random.below(300))),
            ("install_time", Value::Integer(installed)),
            (
                "install_age",
                Value::Integer(received_at.ms() / 1_000 - installed),
            ),
            (
                "useragent_locale",
                text(["en-US", "de", "fr", "ru", "zh-CN"][own.below(5) as usize]),
            ),
            ("safe_mode", Value::Bool(own.below(100) == 0)),
            ("dom_fission_enabled", Value::Bool(own.below(9) > 0)),
        ];
        match random.below(6) {
            0 => values.push((
                "moz_crash_reason",
                Value::Text(format!("ASSERT(index < length{})", rank % 300)),
            )),
            1 => values.push((
                "user_comments",
                Value::Text(format!(
                    "it went away when I opened page {}",
                    random.below(9_999)
                )),
            )),
            _ => {}
        }
        let values = values.into_iter().map(|(name, value)| (name.into(), value));
        let mut values: Vec<(Cow<str>, Value)> = values.collect();
        if self.fields > values.len() {
            self.fill(&mut values, random, &mut own);
        }
        let random = u128::from(random.next()) << 80 | u128::from(random.next()) << 32;
        Crash {
            seq: number + 1,
            id: CrashId::new(
                random << 16 | u128::from(number),
                Kept::Accepted,
                received_at,
            ),
            received_at,
            values,
        }
    }

    /// Adds fields of the catalogue until there are as many values as requested. Most of them are about the
    /// machine and its settings.
    fn fill(
        &self,
        values: &mut Vec<(Cow<'static, str>, Value)>,
        random: &mut Random,
        own: &mut Random,
    ) {
        for field in self.catalogue.all() {
            // Id and date are added separately.
            if values.len() + 2 >= self.fields {
                return;
            }
            let is_known = values.iter().any(|(name, _)| *name == field.name);
            if is_known || ["uuid", "date", "minidump_sha256_hash"].contains(&&*field.name) {
                continue;
            }
            values.push((
                field.name.clone(),
                match field.kind {
                    kind if kind.is_text() => Value::Text(format!("some value {}", own.below(20))),
                    Kind::Bool => Value::Bool(own.below(4) == 0),
                    Kind::Date => Value::Text("2026-11-22T09:12:44Z".into()),
                    _ => Value::Integer(random.below(10_000) as i64),
                },
            ));
        }
    }
}
