//! A Bugzilla on loopback. It supports the part of Bugzilla 5's REST API that the server uses, and can be
//! made to misbehave.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Map, Value, json};

use crate::server::PATIENCE;

/// A bug in the tracker.
#[derive(Clone, Debug)]
pub struct FakeBug {
    pub id: u64,
    pub field: String,
    pub status: &'static str,
    pub resolution: &'static str,
    pub summary: String,
    /// Day on which it was created or its field was changed.
    pub changed: String,
}

/// How the server answers.
#[derive(Clone, Debug, Default)]
pub enum Mood {
    #[default]
    Well,
    /// Bugzilla's error document, with this status.
    Refuses(u16),
    /// A page from a proxy, with this status.
    Status(u16),
    Redirects(String),
    /// An answer with this many bytes.
    Huge(usize),
    /// No answer, as long as the client waits.
    Silent,
}

#[derive(Default)]
pub struct State {
    pub bugs: Vec<FakeBug>,
    pub mood: Mood,
    /// The parameters of all requests, in order.
    pub asked: Vec<Vec<(String, String)>>,
    is_over: bool,
}

pub struct FakeBugzilla {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeBugzilla {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut state = shared.lock().expect("the state");
                if state.is_over {
                    return;
                }
                match answer(&mut stream, &mut state) {
                    Some(bytes) => drop(stream.write_all(&bytes)),
                    None => silent.push(stream),
                }
            }
        });
        Self {
            address,
            state,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().expect("the state"))
    }

    pub fn mood(&self, mood: Mood) {
        self.with(|state| state.mood = mood);
    }

    /// Creates a bug, or changes its field, on this day.
    pub fn put(&self, id: u64, field: &str, day: &str) {
        self.with(|state| {
            state.bugs.retain(|bug| bug.id != id);
            state.bugs.push(FakeBug {
                id,
                field: field.to_owned(),
                status: "NEW",
                resolution: "",
                summary: format!("Crash <{id}>"),
                changed: day.to_owned(),
            });
        });
    }

    pub fn resolve(&self, id: u64) {
        self.with(|state| {
            let bug = state.bugs.iter_mut().find(|bug| bug.id == id);
            let bug = bug.expect("the bug");
            (bug.status, bug.resolution) = ("RESOLVED", "FIXED");
        });
    }

    /// Returns the requests so far and forgets them.
    pub fn asked(&self) -> Vec<Vec<(String, String)>> {
        self.with(|state| std::mem::take(&mut state.asked))
    }
}

impl Drop for FakeBugzilla {
    fn drop(&mut self) {
        self.with(|state| state.is_over = true);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns `None` for no answer.
fn answer(stream: &mut TcpStream, state: &mut State) -> Option<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    let mut head = Vec::new();
    let mut chunk = [0; 4096];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(n) if n > 0 => head.extend_from_slice(&chunk[..n]),
            // The bytes are not HTTP, such as those of a TLS client that gave up.
            _ => return Some(Vec::new()),
        }
        if !head.starts_with(b"GET ") {
            return Some(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).expect("a target");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let params: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    state.asked.push(params.clone());
    let refusal = json!({
        "error": true,
        "code": 108,
        "message": "Can't use cf_crash_signature as a field name.",
        "documentation": "https://bmo.readthedocs.io/en/latest/api/",
    });
    let (status, body) = match &state.mood {
        Mood::Silent => return None,
        Mood::Refuses(status) => (*status, refusal.to_string()),
        Mood::Status(status) => (*status, "<h1>Proxy Error</h1>".to_owned()),
        Mood::Redirects(to) => {
            let head = format!(
                "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            return Some(head.into_bytes());
        }
        Mood::Huge(bytes) => (
            200,
            format!("{{\"bugs\": [], \"x\": \"{}\"}}", "x".repeat(*bytes)),
        ),
        Mood::Well if path == "/rest/bug" => (200, bugs(&params, &state.bugs).to_string()),
        Mood::Well => (404, refusal.to_string()),
    };
    let head = format!(
        "HTTP/1.1 {status} Some Words\r\nContent-Type: application/json; charset=UTF-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    Some([head.into_bytes(), body.into_bytes()].concat())
}

/// The answer to a search with these parameters, as Bugzilla computes it.
fn bugs(params: &[(String, String)], all: &[FakeBug]) -> Value {
    let values = |name: &str| -> Vec<&str> {
        let named = params.iter().filter(|(n, _)| n == name);
        named.map(|(_, value)| value.as_str()).collect()
    };
    let one = |name: &str| values(name).first().copied();
    let mut found: Vec<&FakeBug> = all
        .iter()
        .filter(|bug| one("id").is_none_or(|ids| ids.split(',').any(|id| id == bug.id.to_string())))
        .filter(|bug| {
            one("chfieldfrom").is_none_or(|from| {
                assert_eq!(values("chfield"), ["[Bug creation]", "cf_crash_signature"]);
                assert_eq!(one("chfieldto"), Some("Now"));
                bug.changed.as_str() >= from
            })
        })
        .collect();
    found.sort_by_key(|bug| bug.id);
    let number = |name: &str| one(name).map(|n| n.parse::<usize>().expect("a number"));
    let fields: Vec<&str> = one("include_fields").expect("fields").split(',').collect();
    let page = found
        .into_iter()
        .skip(number("offset").unwrap_or(0))
        .take(number("limit").unwrap_or(10_000))
        .map(|bug| {
            let all = [
                ("id", json!(bug.id)),
                ("cf_crash_signature", json!(bug.field)),
                ("status", json!(bug.status)),
                ("resolution", json!(bug.resolution)),
                ("summary", json!(bug.summary)),
                ("is_open", json!(bug.resolution.is_empty())),
            ];
            let asked = all.into_iter().filter(|(name, _)| fields.contains(name));
            Value::Object(asked.map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>())
        });
    json!({ "bugs": page.collect::<Vec<_>>() })
}
