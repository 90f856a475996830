//! Top crashers, and the pages of signatures and products: their numbers, and the searches that count the
//! same.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::server::{Server, fixture, wait_for};

/// The text of a page without its markup. Each run of spaces becomes one space.
pub fn plain(html: &str) -> String {
    let mut text = String::new();
    let mut is_tag = false;
    for c in html.chars() {
        match c {
            '<' => is_tag = true,
            '>' => is_tag = false,
            _ if !is_tag => text.push(c),
            _ => {}
        }
    }
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    let text = text.replace("&quot;", "\"").replace("&amp;", "&");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The part of a page from this heading to the next one.
pub fn section(html: &str, heading: &str) -> String {
    let start = html
        .find(&format!("<h2>{heading}</h2>"))
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let rest = &html[start + 4..];
    rest[..rest.find("<h2>").unwrap_or(rest.len())].to_owned()
}

/// The texts of the cells in all rows of table bodies.
pub fn rows(html: &str) -> Vec<Vec<String>> {
    html.split("<tbody>")
        .skip(1)
        .flat_map(|body| body.split("</tbody>").next().unwrap_or("").split("<tr>"))
        .map(|row| {
            let cells = row.split("<td").skip(1);
            cells.map(|cell| plain(&format!("<td{cell}"))).collect()
        })
        .filter(|row: &Vec<String>| !row.is_empty())
        .collect()
}

/// Follows every link from a number to a search and compares the counts. Returns the number of links.
pub fn check_links(server: &Server, html: &str) -> usize {
    let mut checked = 0;
    for link in html.split("<a ").skip(1) {
        let Some((address, rest)) = link
            .split_once("href=\"/search/?")
            .and_then(|(_, rest)| rest.split_once('"'))
        else {
            continue;
        };
        let text = rest.split_once('>').expect("the tag ends").1;
        let text = plain(text.split("</a>").next().expect("the link ends"));
        let (figure, unit) = text.split_once(' ').unwrap_or((&text, ""));
        let Ok(figure) = figure.replace(',', "").parse::<u64>() else {
            continue;
        };
        if !["", "crash", "crashes", "at startup"].contains(&unit) {
            continue;
        }
        let query = address.replace("&amp;", "&");
        let answer = server.get(&format!("/api/SuperSearch/?{query}&_results_number=0"));
        assert_eq!(answer.json()["total"], figure, "{text}: {query}");
        checked += 1;
    }
    checked
}

/// The sums of a table's columns, except the first. The crashes of one test can be on two days.
pub fn sums(rows: &[Vec<String>]) -> Vec<u64> {
    let width = rows.first().map_or(0, Vec::len);
    (1..width)
        .map(|at| {
            let cells = rows.iter().map(|row| row[at].parse::<u64>());
            cells.map(|cell| cell.expect("a number")).sum()
        })
        .collect()
}

pub struct Upload {
    pub product: &'static str,
    pub version: &'static str,
    pub dump: &'static str,
    pub install_time: u64,
    pub uptime: u64,
    pub further: &'static [(&'static str, &'static str)],
}

pub const LINUX: &str = "linux-x86_64-null_read_av";
pub const WINDOWS: &str = "windows-x86-test_app";
pub const MAC: &str = "macos-x86_64-crash";

pub fn upload(server: &Server, upload: &Upload) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let (installed, started) = (upload.install_time.to_string(), now - upload.uptime);
    let (started, crashed) = (started.to_string(), now.to_string());
    let mut annotations = vec![
        ("ProductName", upload.product),
        ("Version", upload.version),
        ("InstallTime", &installed),
        ("StartupTime", &started),
        ("CrashTime", &crashed),
    ];
    annotations.extend(upload.further);
    let dump = fixture(&format!("dumps/{}.dmp", upload.dump));
    let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", "x", &dump)];
    server.submit(&annotations, &files).crash_id()
}

/// A server with crashes of two products. Returns the signatures on Linux, Windows and macOS.
pub fn stocked() -> (Server, [String; 3]) {
    let server = Server::start();
    let alpha = |version, dump, install_time, uptime, further| Upload {
        product: "Alpha & Co",
        version,
        dump,
        install_time,
        uptime,
        further,
    };
    let uploads = [
        alpha("1.0", LINUX, 100, 10, &[("StartupCrash", "1")]),
        alpha("1.0", LINUX, 100, 20, &[("StartupCrash", "1")]),
        alpha("10.0", LINUX, 200, 400, &[("StartupCrash", "true")]),
        alpha("10.0", WINDOWS, 300, 70, &[("StartupCrash", "1")]),
        alpha("9.0", WINDOWS, 400, 4_000, &[("StartupCrash", "0")]),
        alpha(
            "9.0",
            MAC,
            500,
            59,
            &[("IsGarbageCollecting", "1"), ("ProcessType", "content")],
        ),
        Upload {
            product: "Beta",
            ..alpha("1.0", LINUX, 100, 5, &[])
        },
    ];
    let ids: Vec<String> = uploads.iter().map(|u| upload(&server, u)).collect();
    for id in &ids {
        assert_eq!(server.wait_processed(id), "processed");
    }
    wait_for("all crashes in the index", || {
        let found = server.get("/api/SuperSearch/?_results_number=0").json();
        (found["total"] == ids.len()).then_some(())
    });
    let signature = |at: usize| server.processed(&ids[at])["signature"].clone();
    let signatures = [0, 3, 5].map(|at| signature(at).as_str().expect("a text").to_owned());
    (server, signatures)
}

pub fn page(server: &Server, path: &str) -> String {
    let answer = server.get(path);
    let text = answer.text();
    assert_eq!(answer.status, 200, "{path}: {}", plain(&text));
    assert!(!text.contains("style="), "{path} has inline style");
    text
}

pub fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[test]
fn signatures_are_ranked_with_figures_that_their_searches_count() {
    let (server, [linux, windows, mac]) = stocked();

    let html = page(&server, "/topcrashers/");
    let text = plain(&html);
    assert!(
        text.contains(
            "Top crashers of Alpha & CoTop 3 crashing signatures, 6 crashes, 100.0 % of all 6."
        ),
        "without a product it is that of most crashes: {text}"
    );
    assert!(text.contains("which had 0 crashes"));
    assert!(html.contains("href=\"/topcrashers/?product=Beta\""));
    let found = rows(&html);
    let without_day: Vec<&[String]> = found.iter().map(|row| &row[..11]).collect();
    assert_eq!(
        without_day,
        [
            [
                "1",
                "new",
                &format!("{linux} all at startup early crash"),
                "3",
                "50.0 %",
                "–",
                "0",
                "0",
                "3",
                "0",
                "2"
            ],
            [
                "2",
                "new",
                &format!("{windows} 1 at startup"),
                "2",
                "33.3 %",
                "–",
                "2",
                "0",
                "0",
                "0",
                "2"
            ],
            [
                "3",
                "new",
                &format!("{mac} early crash 100.0 % in garbage collection"),
                "1",
                "16.7 %",
                "–",
                "0",
                "1",
                "0",
                "0",
                "1"
            ],
        ]
    );
    assert!(check_links(&server, &html) >= 9);
    assert!(html.contains(&format!("/signature/?signature={}", encoded(&linux))));

    let narrowed = |query: &str| {
        let path = format!("/topcrashers/?product=Alpha+%26+Co&{query}");
        let html = page(&server, &path);
        check_links(&server, &html);
        let counts = rows(&html).iter().map(|row| row[3].clone()).collect();
        let counts: Vec<String> = counts;
        counts.join(" ")
    };
    assert_eq!(narrowed("version=1.0"), "2");
    assert_eq!(narrowed("version=9.0&version=10.0&days=1"), "2 1 1");
    assert_eq!(narrowed("platform=Linux"), "3");
    assert_eq!(narrowed("platform=other"), "");
    assert_eq!(narrowed("process_type=content"), "1");
    assert_eq!(narrowed("process_type=other"), "");
    let html = page(
        &server,
        "/topcrashers/?product=Alpha+%26+Co&platform=Windows",
    );
    assert!(html.contains("On Windows") && !html.contains("macOS</th>"));
    assert_eq!(rows(&page(&server, "/topcrashers/?product=Beta")).len(), 1);

    for (query, word) in [
        ("days=2", "1, 3, 7, 14, 28"),
        ("_facets_size=7", "50, 100, 200, 300"),
        ("platform=Amiga", "macOS"),
        ("process_type=x", "content"),
    ] {
        let answer = server.get(&format!("/topcrashers/?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(plain(&answer.text()).contains(word), "{query}");
    }
    assert_eq!(server.metric("crashkeep_panics_total"), 0);
}

#[test]
fn top_crashers_take_builds_of_a_period_hangs_and_whole_days() {
    let server = Server::start();
    let today = time::OffsetDateTime::now_utc();
    let built = |days_ago: i64| {
        let day = today - time::Duration::days(days_ago);
        format!(
            "{}{:02}{:02}000000",
            day.year(),
            u8::from(day.month()),
            day.day()
        )
    };
    let dump = fixture(&format!("dumps/{LINUX}.dmp"));
    let submit = |build: &str, further: &[(&str, &str)]| {
        let annotations = [&[("ProductName", "P"), ("BuildID", build)], further].concat();
        let files: [(&str, &str, &[u8]); 1] = [("upload_file_minidump", "x", &dump)];
        server.submit(&annotations, &files).crash_id()
    };
    let ids = [
        submit(&built(2), &[]),
        submit(&built(2), &[("Hang", "1")]),
        submit(&built(5), &[]),
        submit(&built(40), &[]),
        submit("main-4711", &[]),
    ];
    for id in &ids {
        assert_eq!(server.wait_processed(id), "processed");
    }
    wait_for("all crashes in the index", || {
        let found = server.get("/api/SuperSearch/?_results_number=0").json();
        (found["total"] == ids.len()).then_some(())
    });
    let counts = |query: &str| {
        let html = page(&server, &format!("/topcrashers/?product=P&{query}"));
        check_links(&server, &html);
        let before = plain(&html)
            .split("which had ")
            .nth(1)
            .map(|rest| rest[..1].to_owned());
        let crashes = rows(&html).into_iter().map(|row| row[3].parse::<u64>());
        let crashes: u64 = crashes.map(|count| count.expect("a count")).sum();
        (crashes.to_string(), before.expect("a period before"))
    };
    let counted = |now: &str, before: &str| (now.to_owned(), before.to_owned());
    assert_eq!(counts(""), counted("4", "0"));
    assert_eq!(counts("_report_type=hang"), counted("1", "0"));
    assert_eq!(counts("_report_type=any"), counted("5", "0"));
    assert_eq!(
        counts("_tcbs_mode=byday"),
        counted("0", "0"),
        "today is not over"
    );
    assert_eq!(counts("_range_type=build&days=3"), counted("1", "1"));
    assert_eq!(counts("_range_type=build&days=28"), counted("2", "1"));

    let csv = server.get("/topcrashers/?product=P&format=csv").text();
    let mut lines = csv.lines();
    assert!(
        lines
            .next()
            .is_some_and(|line| line.starts_with("rank,moved,signature,crashes,"))
    );
    let first = lines.next().expect("a row");
    assert!(
        first.starts_with("1,new,") && first.contains(",4,100.00,,0,0,4,0,"),
        "{first}"
    );
}

#[test]
fn a_signature_s_page_counts_what_its_crashes_have_in_common() {
    let (server, [linux, ..]) = stocked();
    let address = format!("/signature/?signature={}", encoded(&linux));

    let html = page(&server, &format!("{address}&product=Alpha+%26+Co"));
    let text = plain(&html);
    assert!(
        text.contains("3 crashes") && text.contains("2 installs"),
        "{text}"
    );
    assert!(text.contains("first seen"));
    let cells = |heading: &str| rows(&section(&html, heading));
    assert_eq!(
        cells("Version"),
        [["1.0", "2", "66.7 %", "1"], ["10.0", "1", "33.3 %", "1"]]
    );
    let columns = |heading: &str| -> Vec<String> {
        let rows = cells(heading);
        rows.iter().map(|row| row[..3].join(" ")).collect()
    };
    assert_eq!(
        columns("Uptime"),
        [
            "below 1 min 2 66.7 %",
            "1 to 5 min 0 0.0 %",
            "5 to 15 min 1 33.3 %",
            "15 to 60 min 0 0.0 %",
            "1 h and longer 0 0.0 %"
        ]
    );
    assert_eq!(columns("Process type"), ["parent 3 100.0 %"]);
    assert_eq!(columns("CPU architecture"), ["amd64 3 100.0 %"]);
    assert_eq!(cells("Reports").len(), 3);
    assert!(
        html.contains("10.0: 1 crashes</title>"),
        "each mark has a title"
    );
    let days = cells("Crashes over time");
    assert_eq!(sums(&days), [2, 1, 3], "1.0, 10.0 and all");
    assert!(check_links(&server, &html) > 10);

    let html = page(&server, &format!("{address}&by=install_time"));
    assert_eq!(
        rows(&section(&html, "Install time"))
            .iter()
            .map(|row| row[..2].join(" "))
            .collect::<Vec<_>>(),
        ["100 3", "200 1"],
        "Beta's crash counts too, and is on the same installation time"
    );
    let html = page(
        &server,
        &format!("{address}&version=1.0&version=10.0&product=Beta"),
    );
    assert!(plain(&html).contains("1 crash "), "{}", plain(&html));
    check_links(&server, &html);

    let html = page(&server, &format!("{address}&date=%3C2020-01-01"));
    assert!(
        plain(&html).contains("Choose an earlier start date"),
        "{}",
        plain(&html)
    );
    for (query, word) in [
        ("/signature/".to_owned(), "signature is missing"),
        (format!("{address}&by=nonsense"), "nonsense"),
        (format!("{address}&page=0"), "a number from 1 on"),
        (format!("{address}&nonsense=1"), "nonsense"),
    ] {
        let answer = server.get(&query);
        assert_eq!(answer.status, 400, "{query}");
        assert!(plain(&answer.text()).contains(word), "{query}");
    }

    let search = page(&server, "/search/?product=Beta");
    assert!(search.contains(&format!("/signature/?signature={}", encoded(&linux))));
}

#[test]
fn a_product_s_page_shows_its_days_and_what_is_new() {
    let (server, [linux, windows, mac]) = stocked();
    let html = page(&server, "/home/product/Alpha%20%26%20Co");
    let days = rows(&section(&html, "Crashes per day"));
    assert_eq!(days.len(), 14);
    assert_eq!(sums(&days), [2, 2, 2, 6], "1.0, 9.0, 10.0 and all");
    let mut fresh: Vec<String> = rows(&section(&html, "New signatures"))
        .iter()
        .map(|row| row[1..].join(" "))
        .collect();
    let mut expected = [
        format!("{linux} 3"),
        format!("{windows} 2"),
        format!("{mac} 1"),
    ];
    // They are sorted by day, newest first.
    fresh.sort();
    expected.sort();
    assert_eq!(fresh, expected);
    assert!(plain(&section(&html, "Movers")).contains("No signature that occurred in both weeks"));
    assert!(check_links(&server, &html) > 6);

    let home = page(&server, "/");
    assert!(home.contains("href=\"/home/product/Alpha%20%26%20Co\""));
    let days = rows(&section(&home, "Crashes per day"));
    assert_eq!(sums(&days), [1, 6, 7], "Beta, Alpha & Co and all");
    assert!(check_links(&server, &home) > 3);
}

#[test]
fn without_crashes_the_pages_say_what_to_do() {
    let server = Server::start();
    let text = plain(&page(&server, "/topcrashers/"));
    assert!(
        text.contains("No crashes yet") && text.contains("curl -F"),
        "{text}"
    );
    let text = plain(&page(&server, "/topcrashers/?product=Nothing"));
    assert!(text.contains("Choose a longer period"), "{text}");
    let text = plain(&page(&server, "/home/product/Nothing"));
    assert!(text.contains("last 28 days"), "{text}");
    let text = plain(&page(&server, "/signature/?signature=nothing"));
    assert!(text.contains("Choose an earlier start date"), "{text}");
}
