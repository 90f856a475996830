//! Headless Chromium and its driver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::server::wait_for;
use crate::webdriver::{Element, Session};

/// True if Chromium and its driver are installed. Otherwise prints a message, but in CI it panics.
pub fn is_installed() -> bool {
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

/// One headless Chromium with its driver. Dropping it ends both.
pub struct Browser {
    driver: Child,
    pub session: Session,
    profile: tempfile::TempDir,
}

impl Browser {
    pub fn start() -> Self {
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

    /// A command that only Chromium's driver supports.
    fn vendor(&self, path: &str, body: Value) -> Value {
        let done = self.session.post(path, body);
        done.unwrap_or_else(|e| panic!("{path}: {e:?}"))
    }

    /// A command of the DevTools protocol.
    pub fn devtools(&self, command: &str, params: Value) {
        self.vendor(
            "goog/cdp/execute",
            json!({ "cmd": command, "params": params }),
        );
    }

    /// The log entries since the last call.
    pub fn log(&self, kind: &str) -> Vec<Value> {
        let log = self.vendor("se/log", json!({ "type": kind }));
        log.as_array().cloned().unwrap_or_default()
    }

    pub fn run_scripts(&self, on: bool) {
        self.devtools(
            "Emulation.setScriptExecutionDisabled",
            json!({ "value": !on }),
        );
        // Check that the setting works, because otherwise the tests would prove nothing.
        self.open("data:text/html,<title>off</title><script>document.title = 'on'</script>");
        let title = self.session.title().expect("a title");
        assert_eq!(title == "on", on);
    }

    pub fn dress(&self, width: u32, scheme: &str) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": feature }));
    }

    /// Logs in with the local key. Servers on other ports of this machine use the same cookie name, so the
    /// browser is logged in to only one of them at a time.
    pub fn enter(&self, host: &str, key: &str) {
        self.open(&format!("http://{host}/?key={key}"));
        assert_eq!(self.path(), "/", "the key leaves the address");
    }

    pub fn open(&self, url: &str) {
        let opened = self.session.open(url);
        opened.unwrap_or_else(|e| panic!("{e:?}: {url}"));
    }

    /// Opens a page. Returns the problems that occurred while it loaded.
    pub fn load(&self, host: &str, path: &str, expected: u16) -> Vec<String> {
        self.log("browser");
        self.log("performance");
        self.open(&format!("http://{host}{path}"));
        let mut problems = Vec::new();
        for entry in self.log("browser") {
            let text = entry["message"].as_str().unwrap_or_default();
            let own_status = format!("the server responded with a status of {expected}");
            if expected == 200 || !text.contains(&own_status) {
                problems.push(format!("console: {text}"));
            }
        }
        let events = self.events();
        for (_, params) in of_method(&events, "Network.requestWillBeSent") {
            let url = params["request"]["url"].as_str().unwrap_or_default();
            let own = format!("http://{host}/");
            // Chromium draws parts of its inputs from `data:` URLs.
            if !url.starts_with(&own) && !url.starts_with("data:") {
                problems.push(format!("asks elsewhere: {url}"));
            }
        }
        let status = document_status(&events);
        if status != Some(expected) {
            problems.push(format!("status {status:?}, expected {expected}"));
        }
        problems
    }

    /// Chromium's network events since the last call: methods and parameters.
    fn events(&self) -> Vec<(String, Value)> {
        let read = |entry: Value| {
            let text = entry["message"].as_str().expect("a message");
            let event: Value = serde_json::from_str(text).expect("JSON");
            let method = event["message"]["method"].as_str().unwrap_or_default();
            (method.to_owned(), event["message"]["params"].clone())
        };
        self.log("performance").into_iter().map(read).collect()
    }

    /// The status of the page that was loaded last.
    pub fn status(&self) -> Option<u16> {
        document_status(&self.events())
    }

    /// Problems of the page in its current state.
    pub fn audit(&self) -> Vec<String> {
        let script = include_str!("browser.js");
        let found = self.session.execute(script);
        let found = found.unwrap_or_else(|e| panic!("the audit ran: {e:?}"));
        let texts = found.as_array().expect("a list").iter();
        texts
            .map(|text| text.as_str().expect("a sentence").to_owned())
            .collect()
    }

    pub fn find(&self, selector: &str) -> Element {
        let found = self.session.find(selector);
        found.unwrap_or_else(|e| panic!("{selector}: {e:?}"))
    }

    /// The text of an element. A page that reloads itself may remove the element between two commands.
    pub fn text(&self, selector: &str) -> String {
        let text = || self.session.text(&self.session.find(selector).ok()?).ok();
        wait_for(selector, text)
    }

    pub fn click(&self, selector: &str) {
        let element = self.find(selector);
        let clicked = self.session.click(&element);
        clicked.unwrap_or_else(|e| panic!("{selector}: {e:?}"));
    }

    pub fn fill(&self, selector: &str, text: &str) {
        let element = self.find(selector);
        self.session.clear(&element).expect("it can be emptied");
        self.session
            .send_keys(&element, text)
            .expect("it takes keys");
    }

    /// Clicks an element that opens another page, and checks that the new URL contains `part`.
    pub fn follow(&self, selector: &str, part: &str) {
        let old = self.find("html");
        self.click(selector);
        wait_for("the next page", || self.session.tag_name(&old).err());
        let path = self.path();
        assert!(path.contains(part), "{path}: {part}");
    }

    pub fn path(&self) -> String {
        let url = self.session.current_url().expect("an address");
        let (_, rest) = url.split_once("://").expect("a scheme");
        rest[rest.find('/').expect("a path")..].to_owned()
    }
}

fn of_method<'a>(
    events: &'a [(String, Value)],
    method: &'static str,
) -> impl DoubleEndedIterator<Item = &'a (String, Value)> {
    events.iter().filter(move |(name, _)| name == method)
}

fn document_status(events: &[(String, Value)]) -> Option<u16> {
    let mut answers = of_method(events, "Network.responseReceived");
    let document = answers.rfind(|(_, params)| params["type"] == "Document")?;
    u16::try_from(document.1["response"]["status"].as_u64()?).ok()
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser. If it hangs, it is killed.
        self.session.close();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        // A browser can outlive its driver. Its command line contains our profile folder.
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
