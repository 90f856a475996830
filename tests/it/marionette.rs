//! Firefox, controlled through its own protocol (Marionette), which needs no driver. A message is its
//! length, a colon, and JSON: `[0, id, command, parameters]` for a command, `[1, id, error, result]` for an
//! answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::server::wait_for;

const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub struct Firefox {
    browser: Child,
    stream: BufReader<TcpStream>,
    next_id: u64,
    _profile: tempfile::TempDir,
}

impl Firefox {
    pub fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder");
        // With port 0, Firefox chooses a port and writes it into its profile.
        let settings =
            "user_pref(\"marionette.port\", 0);\nuser_pref(\"app.update.enabled\", false);\n";
        std::fs::write(profile.path().join("user.js"), settings).expect("a file");
        let browser = Command::new("firefox-esr")
            .args(["--headless", "--marionette", "--no-remote", "--profile"])
            .arg(profile.path())
            .env("HOME", profile.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("firefox-esr starts");
        let port = wait_for("Firefox to listen", || port_in(profile.path()));
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        let mut firefox = Self {
            browser,
            stream: BufReader::new(stream),
            next_id: 1,
            _profile: profile,
        };
        let greeting = firefox.receive();
        assert_eq!(greeting["marionetteProtocol"], 3, "{greeting}");
        firefox.command("WebDriver:NewSession", json!({}));
        firefox
    }

    fn receive(&mut self) -> Value {
        let mut length = Vec::new();
        self.stream.read_until(b':', &mut length).expect("a length");
        let length = String::from_utf8_lossy(&length[..length.len() - 1]).into_owned();
        let mut body = vec![0; length.parse().expect("a number")];
        self.stream.read_exact(&mut body).expect("a message");
        serde_json::from_slice(&body).expect("JSON")
    }

    fn try_command(&mut self, name: &str, parameters: Value) -> Result<Value, Value> {
        let message = json!([0, self.next_id, name, parameters]).to_string();
        self.next_id += 1;
        let framed = format!("{}:{message}", message.len());
        let stream = self.stream.get_mut();
        stream.write_all(framed.as_bytes()).expect("sent");
        let answer = self.receive();
        if answer[2].is_null() {
            Ok(answer[3].clone())
        } else {
            Err(answer[2].clone())
        }
    }

    fn command(&mut self, name: &str, parameters: Value) -> Value {
        let done = self.try_command(name, parameters);
        done.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn open(&mut self, url: &str) {
        self.command("WebDriver:Navigate", json!({ "url": url }));
    }

    pub fn url(&mut self) -> String {
        let url = self.command("WebDriver:GetCurrentURL", json!({}));
        url["value"].as_str().expect("an address").to_owned()
    }

    fn find(&mut self, selector: &str) -> Value {
        let wanted = json!({ "using": "css selector", "value": selector });
        let found = self.command("WebDriver:FindElement", wanted);
        found["value"][ELEMENT].clone()
    }

    pub fn text(&mut self, selector: &str) -> String {
        let id = self.find(selector);
        let text = self.command("WebDriver:GetElementText", json!({ "id": id }));
        text["value"].as_str().expect("a text").to_owned()
    }

    pub fn fill(&mut self, selector: &str, text: &str) {
        let id = self.find(selector);
        self.command("WebDriver:ElementClear", json!({ "id": id }));
        self.command(
            "WebDriver:ElementSendKeys",
            json!({ "id": id, "text": text }),
        );
    }

    /// Presses an element that opens another page, and waits for that page.
    pub fn press(&mut self, selector: &str) {
        let old = self.find("html");
        let id = self.find(selector);
        self.command("WebDriver:ElementClick", json!({ "id": id }));
        wait_for("the next page", || {
            self.try_command("WebDriver:GetElementTagName", json!({ "id": old }))
                .err()
        });
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}

/// The port that Firefox wrote into its profile.
fn port_in(profile: &Path) -> Option<u16> {
    std::fs::read_to_string(profile.join("MarionetteActivePort"))
        .ok()?
        .trim()
        .parse()
        .ok()
}
