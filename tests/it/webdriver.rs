//! The part of WebDriver that the tests of the pages need: one session, over plain HTTP.

use serde_json::{Value, json};
use ureq::Agent;

use crate::server::PATIENCE;

/// The key of an element in an answer.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Why a command failed, as the driver reports it.
#[derive(Debug)]
#[expect(dead_code, reason = "it is shown where a command must not fail")]
pub struct DriverError(String);

pub struct Session {
    agent: Agent,
    /// URL of the session.
    url: String,
}

/// An element of the page that was open when it was found.
#[derive(Clone, Debug)]
pub struct Element(String);

impl Session {
    /// Opens a session with the driver that listens on `port`.
    pub fn start(port: &str, capabilities: Value) -> Result<Self, DriverError> {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        let base = format!("http://127.0.0.1:{port}/session");
        let mut session = Self { agent, url: base };
        let mut capabilities = capabilities;
        let patience_ms = PATIENCE.as_millis() as u64;
        // The driver's own time limits assume an idle machine.
        capabilities["timeouts"] = json!({ "script": patience_ms, "pageLoad": patience_ms });
        let body = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let made = session.post("", body)?;
        let id = made["sessionId"].as_str().expect("a session has an id");
        session.url = format!("{}/{id}", session.url);
        Ok(session)
    }

    /// Sends any command that has a body.
    pub fn post(&self, path: &str, body: Value) -> Result<Value, DriverError> {
        let request = self.agent.post(self.address(path));
        let request = request.header("content-type", "application/json");
        answer(request.send(body.to_string()))
    }

    fn get(&self, path: &str) -> Result<Value, DriverError> {
        answer(self.agent.get(self.address(path)).call())
    }

    fn address(&self, path: &str) -> String {
        match path {
            "" => self.url.clone(),
            path => format!("{}/{path}", self.url),
        }
    }

    pub fn open(&self, url: &str) -> Result<(), DriverError> {
        self.post("url", json!({ "url": url })).map(drop)
    }

    pub fn current_url(&self) -> Result<String, DriverError> {
        self.get("url").map(text)
    }

    pub fn title(&self) -> Result<String, DriverError> {
        self.get("title").map(text)
    }

    pub fn execute(&self, script: &str) -> Result<Value, DriverError> {
        self.post("execute/sync", json!({ "script": script, "args": [] }))
    }

    pub fn find(&self, selector: &str) -> Result<Element, DriverError> {
        let body = json!({ "using": "css selector", "value": selector });
        let found = self.post("element", body)?;
        Ok(Element(text(found[ELEMENT].clone())))
    }

    pub fn text(&self, element: &Element) -> Result<String, DriverError> {
        self.get(&format!("element/{}/text", element.0)).map(text)
    }

    pub fn tag_name(&self, element: &Element) -> Result<String, DriverError> {
        self.get(&format!("element/{}/name", element.0)).map(text)
    }

    pub fn click(&self, element: &Element) -> Result<(), DriverError> {
        let path = format!("element/{}/click", element.0);
        self.post(&path, json!({})).map(drop)
    }

    pub fn clear(&self, element: &Element) -> Result<(), DriverError> {
        let path = format!("element/{}/clear", element.0);
        self.post(&path, json!({})).map(drop)
    }

    pub fn send_keys(&self, element: &Element, keys: &str) -> Result<(), DriverError> {
        let path = format!("element/{}/value", element.0);
        self.post(&path, json!({ "text": keys })).map(drop)
    }

    /// Ends the browser in an orderly way.
    pub fn close(&self) {
        // Ignore errors: the browser may have ended already.
        let _ = self.agent.delete(&self.url).call();
    }
}

fn text(value: Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn answer(
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Value, DriverError> {
    let failed = |error: ureq::Error| DriverError(error.to_string());
    let mut response = response.map_err(failed)?;
    let body = response.body_mut().with_config().limit(64 << 20);
    let body = body.read_to_string().map_err(failed)?;
    let json: Value = serde_json::from_str(&body).map_err(|e| DriverError(e.to_string()))?;
    let value = json["value"].clone();
    match value["error"].as_str() {
        Some(error) => Err(DriverError(format!("{error}: {}", value["message"]))),
        None => Ok(value),
    }
}
