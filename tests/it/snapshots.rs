//! What programs and people rely on word for word: the help of every command, and the description of the API.
//! After a wanted change: `INSTA_UPDATE=always cargo test --test it snapshots`, and read the difference.

use std::process::Command;

use serde_json::Value;

use crate::server::{PROGRAM, Server};

/// The help of a command and of all its subcommands, each under its own line `$ crashkeep ...`.
fn help_of(command: &[&str], printed: &mut String) {
    let output = Command::new(PROGRAM)
        .args(command)
        .arg("--help")
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{command:?}");
    let help = String::from_utf8(output.stdout).expect("help is text");
    let line = ["$ crashkeep", &command.join(" "), "--help"].join(" ");
    *printed += &format!("{}\n{help}\n", line.replace("  ", " "));
    let subcommands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in subcommands.take_while(|line| !line.is_empty()) {
        // A name is indented by two spaces, a continued explanation by more.
        let name = line
            .strip_prefix("  ")
            .filter(|rest| !rest.starts_with(' '));
        let name = name.and_then(|rest| rest.split(' ').next());
        if let Some(name) = name.filter(|name| *name != "help") {
            help_of(&[command, &[name]].concat(), printed);
        }
    }
}

#[test]
fn the_help_of_every_command_is_as_reviewed() {
    let mut printed = String::new();
    help_of(&[], &mut printed);
    insta::assert_snapshot!("help", printed);
}

#[test]
fn the_description_of_the_api_is_as_reviewed() {
    let server = Server::start();
    let mut description: Value = server.get("/api/openapi.json").json();
    // It changes with each release.
    description["info"]["version"] = "VERSION".into();
    let text = serde_json::to_string_pretty(&description).expect("it was parsed from JSON");
    insta::assert_snapshot!("openapi", text);
}
