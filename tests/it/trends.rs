//! Trends of a product, and its open URLs: numbers from the store's counters.

use crate::server::{Server, wait_for};
use crate::topcrashers::{
    LINUX, MAC, Upload, WINDOWS, check_links, page, plain, rows, section, upload,
};

/// A server with five crashes of one product, from two builds of two versions.
fn stocked() -> Server {
    let server = Server::start();
    let crash = |version, dump, uptime, further| Upload {
        product: "Alpha & Co",
        version,
        dump,
        install_time: 100,
        uptime,
        further,
    };
    let uploads = [
        crash(
            "1.0",
            LINUX,
            100,
            &[
                ("BuildID", "20261101093000"),
                ("URL", "https://a.example/x?secret=1"),
            ],
        ),
        crash(
            "1.0",
            LINUX,
            300,
            &[
                ("BuildID", "20261101093000"),
                ("URL", "https://a.example/x#y"),
            ],
        ),
        crash(
            "2.0",
            WINDOWS,
            7_200,
            &[
                ("BuildID", "20261103093000"),
                ("URL", "https://A.example/z"),
            ],
        ),
        crash("2.0", MAC, 3_600, &[("URL", "https://b.example/")]),
        crash("2.0", MAC, 3_600, &[("URL", "about:blank")]),
    ];
    let ids: Vec<String> = uploads.iter().map(|u| upload(&server, u)).collect();
    for id in &ids {
        assert_eq!(server.wait_processed(id), "processed");
    }
    wait_for("all crashes in the index", || {
        let found = server.get("/api/SuperSearch/?_results_number=0").json();
        (found["total"] == ids.len()).then_some(())
    });
    server
}

#[test]
fn trends_count_days_builds_and_the_time_between_failures() {
    let server = stocked();
    let html = page(&server, "/trends/");
    assert!(plain(&html).contains("Trends of Alpha & Co"));
    let versions = rows(&section(&html, "Versions"));
    let without_day: Vec<Vec<&str>> = versions
        .iter()
        .map(|row| {
            row.iter()
                .enumerate()
                .filter(|(at, _)| *at != 1)
                .map(|(_, c)| &**c)
                .collect()
        })
        .collect();
    assert_eq!(
        without_day,
        [
            vec!["2.0", "3", "60.0 %", "80 min", "1", "2", "0", "0"],
            vec!["1.0", "2", "40.0 %", "3 min", "0", "0", "2", "0"],
        ]
    );
    let builds = rows(&section(&html, "Crashes per build"));
    assert_eq!(
        builds,
        [
            ["20261103093000", "0", "0", "1", "1"],
            ["20261101093000", "2", "0", "0", "2"],
            ["no build id", "0", "2", "0", "2"],
        ]
    );
    let between = section(&html, "Mean time between failures");
    assert_eq!(rows(&between), [["0", "3.3", "80.0"]]);
    assert!(between.contains("2.0, day 0: 80.0 minutes"), "{between}");
    assert!(check_links(&server, &html) >= 8);

    let on_windows = page(&server, "/trends/?product=Alpha+%26+Co&platform=Windows");
    let versions = rows(&section(&on_windows, "Versions"));
    assert_eq!(versions.len(), 1);
    assert_eq!((&*versions[0][2], &*versions[0][4]), ("1", "2 h"));
    check_links(&server, &on_windows);
    let one = page(
        &server,
        "/trends/?product=Alpha+%26+Co&version=1.0&days=365",
    );
    assert_eq!(rows(&section(&one, "Versions")).len(), 1);
    assert!(one.contains("Crashes per week by version"));
    check_links(&server, &one);

    let csv = server.get("/trends/?product=Alpha+%26+Co&format=csv");
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    let mut lines: Vec<String> = csv.text().lines().map(str::to_owned).collect();
    assert_eq!(
        lines.remove(0),
        "day,version,build_id,system,crashes,with_uptime,uptime_s"
    );
    let figures: Vec<&str> = lines
        .iter()
        .map(|line| line.split_once(',').expect("a day").1)
        .collect();
    assert_eq!(
        figures,
        [
            "1.0,20261101093000,Linux,2,2,400",
            "2.0,,macOS,2,2,7200",
            "2.0,20261103093000,Windows,1,1,7200",
        ]
    );

    let quiet = page(&server, "/trends/?product=Nobody");
    assert!(plain(&quiet).contains("No crashes of Nobody were counted"));
    for (query, word) in [
        ("days=2", "7, 14, 28"),
        ("platform=x", "macOS"),
        ("format=xml", "csv"),
    ] {
        let answer = server.get(&format!("/trends/?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(plain(&answer.text()).contains(word), "{query}");
    }
    assert_eq!(server.metric("crashkeep_panics_total"), 0);
}

#[test]
fn open_pages_are_counted_without_what_follows_their_path() {
    let server = stocked();
    let html = page(&server, "/trends/urls/");
    let counted = |html: &str| -> Vec<Vec<String>> {
        rows(html)
            .into_iter()
            .map(|row| row[1..5].to_vec())
            .collect()
    };
    assert_eq!(
        counted(&html),
        [["https://a.example/x", "2", "40.0 %", "1 signature"]]
    );
    assert!(!html.contains("secret"));
    let html = page(&server, "/trends/urls/?by=domain&product=Alpha+%26+Co");
    assert_eq!(
        counted(&html),
        [["a.example", "3", "60.0 %", "2 signatures"]]
    );
    assert_eq!(check_links(&server, &html), 1);
    let csv = server.get("/trends/urls/?by=domain&format=csv").text();
    assert!(
        csv.starts_with("domain,crashes,signatures,most_frequent_signature\na.example,3,2,"),
        "{csv}"
    );
    assert_eq!(server.get("/trends/urls/?by=path").status, 400);

    let field = server.get("/api/SuperSearchFields/").json()["url_page"].clone();
    assert_ne!(
        field["permissions_needed"],
        serde_json::json!([]),
        "{field}"
    );
}
