//! Real client programs, where they are installed.

use std::process::Command;

use crate::server::{Server, fixtures};

/// The path that a variable names, or `None` with a word about it. In CI nothing is skipped.
pub fn installed(variable: &str) -> Option<String> {
    let path = std::env::var(variable).ok();
    if path.is_none() {
        assert!(std::env::var("CI").is_err(), "{variable} must be set in CI");
        eprintln!("skipped: {variable} is not set");
    }
    path
}

#[test]
fn a_real_crashpad_handler_counts_its_upload_as_a_success() {
    let Some(handler) = installed("CRASHKEEP_CRASHPAD_HANDLER") else {
        return;
    };
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let script = fixtures().join("../../.ci/crashpad.py");
    let dump = fixtures().join("dumps/linux-x86_64-chromium_renderer.dmp");
    let output = Command::new("python3")
        .arg(script)
        .args([&handler, &format!("http://{}/submit", server.address)])
        .arg(dump)
        .arg(folder.path().join("database"))
        .output()
        .expect("python3 runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let id = text
        .trim()
        .strip_prefix("CrashID=bp-")
        .expect("the id that the handler keeps");
    assert_eq!(server.wait_processed(id), "processed");
    let crash = server.processed(id);
    assert_eq!(crash["product"], "Chrome_Linux");
    assert_eq!(crash["process_type"], "renderer");
    assert_eq!(crash["reason"], "SIGSEGV");
}
