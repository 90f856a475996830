//! The pages in a real browser, headless Chromium: they load, fit the screen, are readable, can be tapped,
//! and work without scripts.
//!
//! To test a new page, add its URL to [`addresses`]. Otherwise the first test fails.

use std::collections::BTreeSet;

use crashkeep::http::routes::{self, Audience, ROUTES, Route};
use crashkeep::web::Method;

use crate::chromium::{Browser, is_installed};
use crate::server::{Server, fixture, wait_for};

/// Paths of people's routes that are not pages.
const NO_PAGES: [&str; 4] = [
    "/robots.txt",
    "/search/feed.atom",
    "/assets/{version}/style.css",
    "/assets/{version}/icon.svg",
];

/// Whether people read or press what this route answers.
pub fn is_for_people(route: &Route) -> bool {
    route.audience == Audience::People && !NO_PAGES.contains(&route.path)
}

const WIDTHS: [u32; 2] = [1280, 390];
const SCHEMES: [&str; 2] = ["light", "dark"];

/// A text that contains a script, is wider than every screen, and changes the direction of text.
fn hostile() -> String {
    let wide = "W".repeat(2_000);
    format!("<script>alert(1)</script>\u{202e}\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{645}\u{631}{wide}")
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Servers with crashes in every state.
pub struct World {
    pub demo: Server,
    empty: Server,
    /// A server whose walkers never have enough time for a dump.
    hasty: Server,
    pub processed: String,
    deferred: String,
    broken: String,
    hostile: String,
    hostile_signature: String,
    failed: String,
    _folder: tempfile::TempDir,
}

impl World {
    pub fn start() -> Self {
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

/// A page to test.
pub struct Address {
    pub host: String,
    /// The local key of that server.
    key: String,
    pub path: String,
    pub status: u16,
}

/// All pages in all their states, each with the expected status.
pub fn addresses(world: &World) -> Vec<Address> {
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
        // It leads to the page of a signature.
        (200, "/group/1".into()),
        (400, "/group/none".into()),
        (404, "/group/999999".into()),
        (200, format!("/signature/alike/?signature={signature}")),
        (200, format!("/signature/alike/?signature={stored}")),
        (400, "/signature/alike/".into()),
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
            key: server.key.clone().expect("a server without accounts"),
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

/// Routes of pages that none of these addresses covers.
fn forgotten(addresses: &[Address]) -> Vec<&'static str> {
    let shown: BTreeSet<&str> = addresses
        .iter()
        .filter(|address| address.status == 200)
        .filter_map(|address| {
            let path = address.path.split('?').next()?;
            Some(routes::find(Method::Get, path).ok()?.0.path)
        })
        .collect();
    ROUTES
        .iter()
        .filter(|route| route.method == Method::Get && is_for_people(route))
        .map(|route| route.path)
        .filter(|path| !shown.contains(path))
        .collect()
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
        let mut host = "";
        for address in &addresses {
            if host != address.host {
                browser.enter(&address.host, &address.key);
                host = &address.host;
            }
            let begin: String = address.path.chars().take(60).collect();
            browser.dress(WIDTHS[0], SCHEMES[0]);
            let loading = browser.load(&address.host, &address.path, address.status);
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
    browser.enter(&server.address, server.key.as_deref().expect("a key"));
    for width in WIDTHS {
        browser.dress(width, SCHEMES[0]);
        browser.open(&format!("http://{}/", server.address));
        browser.follow("nav a[href='/topcrashers/']", "/topcrashers/");
        assert!(browser.text("h1").starts_with("Top crashers of"));

        // Use the form: another product, another period.
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

        // The search box on every page accepts a crash id.
        let id = report.replace("/report/index/", "");
        browser.fill("header input[name=q]", &format!("{id}\n"));
        wait_for("the report", || (browser.path() == report).then_some(()));
        assert_eq!(browser.text("h1"), name);
        // Actions work, too: the button posts a form and returns to the report.
        browser.follow("form.inline button", &report);
        assert_eq!(browser.path(), report);
    }
}
