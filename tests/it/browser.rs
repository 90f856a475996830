//! The pages in a real browser, headless Chromium: that they load, fit, can be read and tapped, and
//! work without script.
//!
//! To look at a new page, add an address of it to [`addresses`]; without one the first test fails.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crashkeep::http::routes::{self, ROUTES};
use crashkeep::web::Method;
use serde_json::{Value, json};

use crate::server::{Server, fixture, wait_for};
use crate::webdriver::{Element, Session};

/// Where the addresses begin that programs read, not people.
const MACHINES: [&str; 8] = [
    "/search/feed.atom",
    "/__",
    "/metrics",
    "/assets/",
    "/api/",
    "/symbols/{}",
    "/buildid/",
    "/v1/",
];
const WIDTHS: [u32; 2] = [1280, 390];
const SCHEMES: [&str; 2] = ["light", "dark"];

/// A text that would run, reaches over every edge and turns the line around.
fn hostile() -> String {
    let wide = "W".repeat(2_000);
    format!("<script>alert(1)</script>\u{202e}\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{645}\u{631}{wide}")
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Servers with something in every state.
struct World {
    demo: Server,
    empty: Server,
    /// Whose walkers never have the time for a dump.
    hasty: Server,
    processed: String,
    deferred: String,
    broken: String,
    hostile: String,
    hostile_signature: String,
    failed: String,
    _folder: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let demo = Server::start_demo();
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("appliance.toml");
        std::fs::write(&config, "[workers]\nwalk_deadline = \"1 ms\"\n").expect("a file");
        let config = config.to_str().expect("a plain path");
        let hasty = Server::start_in(&folder.path().join("data"), &["--config", config]);
        let dump = fixture("dumps/linux-x86_64-firefox_esr.dmp");
        let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", "x.dmp", &dump)];
        let failed = hasty.submit(&[("ProductName", "Hasty")], &files).crash_id();
        assert_eq!(hasty.wait_processed(&failed), "failed");

        let text = hostile();
        let nightly = [
            ("ProductName", "Acme Server"),
            ("ReleaseChannel", "nightly"),
        ];
        let deferred = demo.submit(&nightly, &files).crash_id();
        let java = serde_json::json!({ "exception": { "values": [
            { "stacktrace": { "type": text, "module": "m", "frames": [] } }
        ] } });
        let java = java.to_string();
        let annotations = [
            ("ProductName", text.as_str()),
            ("Version", &text),
            ("ReleaseChannel", &text),
            ("JavaException", &java),
            ("Comments", &text),
            (&text[..200], &text),
        ];
        let id = demo
            .submit(&annotations, &[(&text[..60], &text, b"x")])
            .crash_id();
        let html: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", &text, b"<html>")];
        let broken = demo.submit(&[("ProductName", "Broken")], &html).crash_id();
        assert_eq!(demo.wait_processed(&broken), "processed");
        assert_eq!(demo.wait_processed(&id), "processed");
        let signature = demo.processed(&id)["signature"].clone();
        let found = demo.get("/api/SuperSearch/?product=Acme+Server&_columns=uuid");
        Self {
            processed: found.json()["hits"][0]["uuid"]
                .as_str()
                .expect("an id")
                .to_owned(),
            deferred,
            broken,
            hostile_signature: signature.as_str().expect("a signature").to_owned(),
            hostile: id,
            failed,
            demo,
            empty: Server::start(),
            hasty,
            _folder: folder,
        }
    }
}

/// A page to look at.
struct Address {
    host: String,
    path: String,
    status: u16,
}

/// Pages with the status that each answers: all of them, in all their states.
fn addresses(world: &World) -> Vec<Address> {
    let signature = encoded(&world.demo.processed(&world.processed)["signature"].to_string());
    let signature = signature.trim_matches('"').replace("%22", "");
    let text = encoded(&hostile());
    let segment = text.replace('+', "%20");
    let stored = encoded(&world.hostile_signature);
    let unknown = "0b1f2f3e-0000-4000-8000-000000261122";
    let demo = [
        (200, "/".to_owned()),
        (200, "/home/product/Acme%20Server".into()),
        (200, "/home/product/Nobody".into()),
        (200, format!("/home/product/{segment}")),
        (200, "/topcrashers/".into()),
        (200, "/topcrashers/?product=Ledger+Desktop&days=14".into()),
        (200, format!("/topcrashers/?product={text}&version={text}")),
        (400, "/topcrashers/?days=5".into()),
        (200, "/trends/?product=Acme+Server".into()),
        (200, "/trends/?product=Nobody".into()),
        (200, format!("/trends/?product={text}&version={text}")),
        (400, "/trends/?days=5".into()),
        (200, "/trends/urls/".into()),
        (200, format!("/trends/urls/?by=domain&product={text}")),
        (200, format!("/signature/?signature={signature}&by=version")),
        (200, format!("/signature/?signature={stored}")),
        (200, format!("/signature/?signature={text}&product={text}")),
        (400, "/signature/".into()),
        (200, "/search/".into()),
        (200, "/search/?product=Acme+Server&os_name=Linux".into()),
        (200, "/search/?product=Nobody".into()),
        (
            200,
            format!("/search/?q={text}&product={text}&reason={text}"),
        ),
        (400, "/search/?from=yesterday".into()),
        (400, format!("/search/?{text}={text}")),
        (200, format!("/report/index/{}", world.processed)),
        (200, format!("/report/index/{}", world.deferred)),
        (200, format!("/report/index/{}", world.broken)),
        (200, format!("/report/index/{}", world.hostile)),
        (200, format!("/report/index/{}/signature", world.processed)),
        (200, format!("/report/index/{}/signature", world.hostile)),
        (404, format!("/report/index/{unknown}/signature")),
        (200, "/signatures/".into()),
        (200, "/signatures/?revision=0".into()),
        (400, format!("/signatures/?revision={text}")),
        (404, format!("/report/index/{unknown}")),
        (400, format!("/report/index/{segment}")),
        (200, "/symbols/".into()),
        (200, "/status/".into()),
        (200, "/account/".into()),
        (200, "/api/".into()),
        (200, "/users/".into()),
        (200, format!("/login/?next={text}")),
        (200, "/about/throttling/".into()),
        (404, "/nowhere".into()),
    ];
    let empty = [
        "/",
        "/topcrashers/",
        "/trends/",
        "/search/",
        "/symbols/",
        "/status/",
    ];
    let empty = empty.map(|path| (200, path.to_owned()));
    let hasty = [format!("/report/index/{}", world.failed), "/".into()];
    let hasty = hasty.map(|path| (200, path));
    let of = |server: &Server, list: &[(u16, String)]| -> Vec<Address> {
        let address = |(status, path): &(u16, String)| Address {
            host: server.address.clone(),
            path: path.clone(),
            status: *status,
        };
        list.iter().map(address).collect()
    };
    let mut all = of(&world.demo, &demo);
    all.extend(of(&world.empty, &empty));
    all.extend(of(&world.hasty, &hasty));
    all
}

/// Routes of pages that none of these addresses shows.
fn forgotten(addresses: &[Address]) -> Vec<&'static str> {
    let shown: BTreeSet<&str> = addresses
        .iter()
        .filter(|address| address.status == 200)
        .filter_map(|address| {
            let path = address.path.split('?').next()?;
            Some(routes::find(Method::Get, path).ok()?.0.path)
        })
        .collect();
    let is_page = |path: &str| !MACHINES.iter().any(|start| path.starts_with(start));
    ROUTES
        .iter()
        .filter(|route| route.method == Method::Get && is_page(route.path))
        .map(|route| route.path)
        .filter(|path| !shown.contains(path))
        .collect()
}

/// Whether Chromium and its driver are here; a word where they are not. In CI nothing is skipped.
fn is_installed() -> bool {
    let found = ["chromium", "chromedriver"].map(|program| {
        let version = Command::new(program).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    });
    if found == [true, true] {
        return true;
    }
    let text = "chromium and chromedriver are needed: apt-get install chromium chromium-driver";
    assert!(std::env::var("CI").is_err(), "{text}");
    eprintln!("skipped: {text}");
    false
}

/// One headless Chromium with its driver. Ends both when it is dropped.
struct Browser {
    driver: Child,
    session: Session,
    profile: tempfile::TempDir,
}

impl Browser {
    fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            // Chromium leaves small folders behind when it is killed.
            .env("TMPDIR", profile.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let stdout = BufReader::new(driver.stdout.take().expect("stdout is a pipe"));
        let port = stdout.lines().map_while(Result::ok).find_map(|line| {
            let port = line.split("started successfully on port ").nth(1)?;
            Some(port.trim_end_matches('.').to_owned())
        });
        let port = port.expect("chromedriver says its port");
        let folder = format!("--user-data-dir={}", profile.path().display());
        let capabilities = json!({
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "goog:chromeOptions": { "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", folder,
            ] },
        });
        Self {
            driver,
            session: Session::start(&port, capabilities).expect("a session"),
            profile,
        }
    }

    /// A command that only Chromium's driver knows.
    fn vendor(&self, path: &str, body: Value) -> Value {
        let done = self.session.post(path, body);
        done.unwrap_or_else(|e| panic!("{path}: {e:?}"))
    }

    /// A command of the DevTools protocol.
    fn devtools(&self, command: &str, params: Value) {
        self.vendor(
            "goog/cdp/execute",
            json!({ "cmd": command, "params": params }),
        );
    }

    /// What was logged since the last look.
    fn log(&self, kind: &str) -> Vec<Value> {
        let log = self.vendor("se/log", json!({ "type": kind }));
        log.as_array().cloned().unwrap_or_default()
    }

    fn run_scripts(&self, on: bool) {
        self.devtools(
            "Emulation.setScriptExecutionDisabled",
            json!({ "value": !on }),
        );
        // Seen to work, since otherwise all that follows proves nothing.
        self.open("data:text/html,<title>off</title><script>document.title = 'on'</script>");
        let title = self.session.title().expect("a title");
        assert_eq!(title == "on", on);
    }

    fn dress(&self, width: u32, scheme: &str) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": feature }));
    }

    fn open(&self, url: &str) {
        let opened = self.session.open(url);
        opened.unwrap_or_else(|e| panic!("{e:?}: {url}"));
    }

    /// Opens a page; what is wrong with its loading.
    fn load(&self, address: &Address) -> Vec<String> {
        self.log("browser");
        self.log("performance");
        self.open(&format!("http://{}{}", address.host, address.path));
        let mut problems = Vec::new();
        for entry in self.log("browser") {
            let text = entry["message"].as_str().unwrap_or_default();
            let own_status = format!("the server responded with a status of {}", address.status);
            if address.status == 200 || !text.contains(&own_status) {
                problems.push(format!("console: {text}"));
            }
        }
        let mut status = None;
        for entry in self.log("performance") {
            let text = entry["message"].as_str().expect("a message");
            let event: Value = serde_json::from_str(text).expect("JSON");
            let (method, params) = (&event["message"]["method"], &event["message"]["params"]);
            if method == "Network.requestWillBeSent" {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                let own = format!("http://{}/", address.host);
                // Chromium draws parts of its inputs from data of its own.
                if !url.starts_with(&own) && !url.starts_with("data:") {
                    problems.push(format!("asks elsewhere: {url}"));
                }
            }
            if method == "Network.responseReceived" && params["type"] == "Document" {
                status = params["response"]["status"].as_u64();
            }
        }
        if status != Some(u64::from(address.status)) {
            problems.push(format!("status {status:?}, expected {}", address.status));
        }
        problems
    }

    /// What is wrong with the page as it stands.
    fn audit(&self) -> Vec<String> {
        let script = include_str!("browser.js");
        let found = self.session.execute(script);
        let found = found.unwrap_or_else(|e| panic!("the audit ran: {e:?}"));
        let texts = found.as_array().expect("a list").iter();
        texts
            .map(|text| text.as_str().expect("a sentence").to_owned())
            .collect()
    }

    fn find(&self, selector: &str) -> Element {
        let found = self.session.find(selector);
        found.unwrap_or_else(|e| panic!("{selector}: {e:?}"))
    }

    /// An element's text. A page that reloads itself may take the element away between two commands.
    fn text(&self, selector: &str) -> String {
        let text = || self.session.text(&self.session.find(selector).ok()?).ok();
        wait_for(selector, text)
    }

    fn click(&self, selector: &str) {
        let element = self.find(selector);
        let clicked = self.session.click(&element);
        clicked.unwrap_or_else(|e| panic!("{selector}: {e:?}"));
    }

    fn fill(&self, selector: &str, text: &str) {
        let element = self.find(selector);
        self.session.clear(&element).expect("it can be emptied");
        self.session
            .send_keys(&element, text)
            .expect("it takes keys");
    }

    /// Clicks what leads to another page, whose address has this in it.
    fn follow(&self, selector: &str, part: &str) {
        let old = self.find("html");
        self.click(selector);
        wait_for("the next page", || self.session.tag_name(&old).err());
        let path = self.path();
        assert!(path.contains(part), "{path}: {part}");
    }

    fn path(&self) -> String {
        let url = self.session.current_url().expect("an address");
        let (_, rest) = url.split_once("://").expect("a scheme");
        rest[rest.find('/').expect("a path")..].to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser in order; one that hangs is killed.
        self.session.close();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        // A browser can outlive its driver. It is the one whose command line names our profile.
        let profile = self.profile.path().to_string_lossy().into_owned();
        let entries = std::fs::read_dir("/proc").into_iter().flatten();
        for pid in entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()) {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let pid = rustix::process::Pid::from_raw(pid);
            if let (true, Some(pid)) = (String::from_utf8_lossy(&line).contains(&profile), pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

#[test]
fn every_page_fits_and_reads_at_each_width_in_each_scheme_with_and_without_script() {
    if !is_installed() {
        return;
    }
    let world = World::start();
    assert!(world.hostile_signature.contains("<script>"));
    let addresses = addresses(&world);
    assert_eq!(forgotten(&addresses), [""; 0], "pages without an address");
    let browser = Browser::start();
    let mut problems = Vec::new();
    for scripts in [true, false] {
        browser.run_scripts(scripts);
        for address in &addresses {
            let begin: String = address.path.chars().take(60).collect();
            browser.dress(WIDTHS[0], SCHEMES[0]);
            let loading = browser.load(address);
            problems.extend(loading.iter().map(|text| format!("{begin}: {text}")));
            for width in WIDTHS {
                for scheme in SCHEMES {
                    browser.dress(width, scheme);
                    let found = browser.audit();
                    let place = format!("{begin} at {width}, {scheme}, scripts {scripts}");
                    problems.extend(found.iter().map(|text| format!("{place}: {text}")));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_reader_without_script_gets_from_home_to_a_report_by_clicks() {
    if !is_installed() {
        return;
    }
    let server = Server::start_demo();
    let browser = Browser::start();
    browser.run_scripts(false);
    for width in WIDTHS {
        browser.dress(width, SCHEMES[0]);
        browser.open(&format!("http://{}/", server.address));
        browser.follow("nav a[href='/topcrashers/']", "/topcrashers/");
        assert!(browser.text("h1").starts_with("Top crashers of"));

        // The form: another product, another period.
        browser.click("select[name=product] option[value='Ledger Desktop']");
        browser.click("select[name=days] option[value='14']");
        browser.follow("main form button[type=submit]", "days=14");
        assert_eq!(browser.text("h1"), "Top crashers of Ledger Desktop");

        let first = "table.top tbody tr:first-child a.sig";
        let name = browser.text(first);
        browser.follow(first, "/signature/?signature=");
        assert_eq!(browser.text("h1"), name);

        browser.follow("#reports tbody tr:first-child a", "/report/index/");
        assert_eq!(browser.text("h1"), name);
        assert!(!browser.text("#stack .stack li:first-child .fn").is_empty());
        let report = browser.path();

        browser.follow("header nav a[href='/search/']", "/search/");
        browser.fill("main input[name=product]", "Pipeline");
        browser.follow("main form button[type=submit]", "product=Pipeline");
        let row = browser.text("table.hits tbody tr:first-child");
        assert!(row.contains("Pipeline"), "{row}");

        // The box on every page takes a crash id.
        let id = report.replace("/report/index/", "");
        browser.fill("header input[name=q]", &format!("{id}\n"));
        wait_for("the report", || (browser.path() == report).then_some(()));
        assert_eq!(browser.text("h1"), name);
        // Acting works too: the button posts a form.
        browser.follow("form.inline button", &report);
    }
}
