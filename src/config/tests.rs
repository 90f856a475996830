use std::time::Duration;

use super::value::Value;
use super::*;

fn error(text: &str) -> String {
    Config::parse("appliance.toml", text)
        .expect_err("a bad configuration")
        .to_string()
}

#[test]
fn the_shipped_file_is_the_defaults_written_out() {
    let shipped =
        Config::parse("appliance.toml", include_str!("../../appliance.toml")).expect("it parses");
    let default = Config::default();
    let values = |c: &Config| {
        c.entries()
            .into_iter()
            .map(|(s, k, v, _)| (s, k, v))
            .collect::<Vec<_>>()
    };
    assert_eq!(values(&shipped), values(&default));
    assert!(
        shipped
            .entries()
            .iter()
            .all(|(.., source)| **source != Source::Default),
        "every key is in it"
    );
    assert_eq!(shipped.list_entries(), default.list_entries());
}

#[test]
fn values_carry_units_and_their_line() {
    let text = "[http]\nlisten = \"[::1]:0\"\nreport_bytes_max = \"2 MiB\"\n\n[workers]\nwalk_deadline = \"1500 ms\"\n";
    let config = Config::parse("a.toml", text).expect("a good configuration");
    assert_eq!(config.http.report_bytes_max.value, Size(2 << 20));
    assert_eq!(
        config.http.report_bytes_max.source,
        Source::File {
            name: "a.toml".into(),
            line: 3
        }
    );
    assert_eq!(
        config.workers.walk_deadline.value.0,
        Duration::from_millis(1500)
    );
    assert_eq!(config.workers.walk_deadline.value.print(), "\"1500 ms\"");
    assert_eq!(config.store.cache_bytes.source, Source::Default);
}

#[test]
fn what_does_not_fit_is_refused_with_its_line_and_the_accepted_form() {
    assert_eq!(
        error("[http]\nreport_bytes_max = \"many\"\n"),
        "appliance.toml:2: [http] report_bytes_max must be a size such as \"100 MiB\", \"512 KiB\" or a number of bytes, at least 1"
    );
    assert!(
        error("[http]\nreport_bytes = 1\n").contains("known: listen, public_url, trusted_proxies")
    );
    assert!(error("[htpp]\n").contains("appliance.toml:1: unknown section [htpp]"));
    assert!(error("[workers]\ncount = -1\n").contains("whole number"));
    assert!(error("[retention]\nfailed_days = 0\n").contains("1 to 36500"));
    assert!(error("[workers]\nwalk_deadline = \"0 s\"\n").contains("at least 1 ms"));
    assert!(error("[signature]\nruleset = \"x\"\n").contains("\"crashkeep\" or \"socorro\""));
    assert!(error("x = [").contains("appliance.toml"));
}

#[test]
fn throttle_rules_are_read_in_order_and_checked() {
    let text = "[[throttle]]\nname = \"a\"\nfield = \"ReleaseChannel\"\nop = \"is\"\nvalue = \"release\"\npercent = 12.5\noutcome = \"defer\"\n\
                [[throttle]]\nname = \"rest\"\nop = \"always\"\noutcome = \"reject\"\n";
    let config = Config::parse("a.toml", text).expect("good rules");
    assert_eq!(
        config
            .throttle
            .value
            .iter()
            .map(|r| r.name.as_str())
            .collect::<Vec<_>>(),
        ["a", "rest"]
    );
    assert_eq!(config.throttle.value[0].percent, 12.5);
    assert!(
        error("[[throttle]]\nname = \"a\"\nfield = \"x\"\nop = \"like\"\noutcome = \"accept\"\n")
            .contains(
                "appliance.toml:4: [[throttle]] op cannot be used: unknown word \"like\"; accepted: is, is-not"
            )
    );
    assert!(
        error("[[throttle]]\nname = \"A b\"\nop = \"always\"\noutcome = \"accept\"\n")
            .contains("a-z")
    );
    assert!(
        error("[[throttle]]\nname = \"a\"\nop = \"always\"\n")
            .contains("needs field, op and outcome")
    );
}

#[test]
fn bug_templates_are_read_in_order_and_checked() {
    let text = "[[bug_template]]\nname = \"Tracker\"\nproduct = \"A \\\"B\\\"\"\nurl = \"https://h/{{new}}?t={title}\"\n\
                [[bug_template]]\nname = \"Other\"\nurl = \"https://h/new\"\n";
    let config = Config::parse("a.toml", text).expect("good templates");
    let names: Vec<&str> = config
        .bug_template
        .iter()
        .map(|t| t.name.as_str())
        .collect();
    assert_eq!(names, ["Tracker", "Other"]);
    let printed: String = config
        .list_entries()
        .iter()
        .map(|(list, text, _)| format!("[[{list}]]\n{text}\n"))
        .collect();
    let again = Config::parse("b.toml", &printed).expect("what is printed is read");
    assert_eq!(again.bug_template.value, config.bug_template.value);

    let bad = |line: &str| error(&format!("[[bug_template]]\nname = \"T\"\n{line}\n"));
    let unknown = bad("url = \"https://h/{titel}\"");
    assert!(
        unknown.starts_with("appliance.toml:3: [[bug_template]] url cannot be used: unknown placeholder {titel}; accepted: {signature}, {title}"),
        "{unknown}"
    );
    assert!(bad("url = \"https://h/{title\"").contains("unmatched {"));
    assert!(bad("url = \"javascript:alert(1)\"").contains("https://"));
    assert!(bad("url = 3").contains("appliance.toml:3: [[bug_template]] url must be a text"));
    assert!(bad("").contains("appliance.toml:1: [[bug_template]] \"T\" needs a url"));
    assert!(bad("link = \"x\"").contains("no key \"link\"; known: name, product, url"));
    assert!(error("[[bug_template]]\nurl = \"https://h/\"\n").contains("needs a name"));
    assert!(error("bug_template = 3\n").contains("must be written as [[bug_template]]"));
}

#[test]
fn the_shipped_file_shows_templates_that_can_be_used() {
    let shipped = include_str!("../../appliance.toml");
    let lists = shipped.find("# [[").expect("examples");
    for name in crate::bugs::template::PLACEHOLDERS {
        assert!(shipped.contains(&format!("{{{name}}}")), "{name}");
    }
    let examples: String = shipped[lists..]
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.starts_with("[[") || line.contains(" = "))
        .map(|line| format!("{line}\n"))
        .collect();
    let config = Config::parse("examples", &examples).expect("they can be used");
    assert_eq!((config.throttle.len(), config.bug_template.len()), (1, 4));
}

#[test]
fn paths_and_origins_are_lists_or_words() {
    let http = |line: &str| Config::parse("a", &format!("[http]\n{line}\n"));
    for line in [
        "submit_paths = [\"/post/\", \"/cr/report\"]",
        "submit_paths = \"/post /cr/report\"",
    ] {
        let config = http(line).expect(line);
        assert_eq!(config.http.submit_paths.0, ["/post", "/cr/report"]);
        assert_eq!(
            config.http.submit_paths.print(),
            "[\"/post\", \"/cr/report\"]"
        );
    }
    for path in ["post", "/", "/a?b", "/a//b", "/a/../b", "/{}", "/a b/"] {
        let error = http(&format!("submit_paths = [\"{path}\"]")).expect_err(path);
        assert!(error.to_string().contains("a list of paths"), "{error}");
    }
    let config = http("cors_origins = [\"https://profiler.firefox.com/\"]").expect("good");
    assert!(
        config
            .http
            .cors_origins
            .allow("https://profiler.firefox.com")
    );
    assert!(
        !config
            .http
            .cors_origins
            .allow("https://profiler.firefox.com.evil.example")
    );
    assert!(!config.http.cors_origins.allow("null"));
    assert!(
        http("cors_origins = \"*\"")
            .expect("good")
            .http
            .cors_origins
            .allow("null")
    );
    assert!(http("cors_origins = [\"https://a.example/b\"]").is_err());
}

#[test]
fn a_tracker_is_an_address_or_none() {
    let url = |text: &str| Config::parse("a", &format!("[bugzilla]\nurl = \"{text}\"\n"));
    for (text, read) in [("", ""), ("https://b.example/bz/", "https://b.example/bz")] {
        assert_eq!(url(text).expect(text).bugzilla.url.0, read);
    }
    for text in [
        "b.example",
        "ftp://b",
        "https://b/?x",
        "https://u@b/",
        "https://",
    ] {
        let error = url(text).expect_err(text).to_string();
        assert!(
            error.contains("a:2: [bugzilla] url must be an address"),
            "{error}"
        );
    }
}
