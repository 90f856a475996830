//! Presses every button of every page in a real browser.
//!
//! Browsers add headers that no other client sends (`Origin`, `Sec-Fetch-Site`, cookies). So a form that
//! works for a program can fail for every user of the page.

use std::collections::BTreeSet;

use crashkeep::http::routes::{self, ROUTES};
use crashkeep::web::Method;
use serde_json::Value;

use crate::browser::{World, addresses, is_for_people};
use crate::chromium::{self, Browser};
use crate::marionette::Firefox;
use crate::proxies::{self, Proxy};
use crate::retention::Waiting;
use crate::server::{Server, wait_for};

/// The buttons of the open page: target, label, and the required inputs that are empty.
const BUTTONS: &str = r#"
for (const fold of document.querySelectorAll("details")) fold.open = true;
return [...document.querySelectorAll("button, input[type=submit]")].map((button, number) => {
  button.setAttribute("data-number", number);
  const form = button.form;
  // Without the attribute `formAction` is the page itself.
  const target = button.hasAttribute("formaction") ? button.formAction : form ? form.action : location.href;
  const path = new URL(target).pathname;
  const words = (button.getAttribute("aria-label") || button.textContent || button.value).trim();
  const wanted = form ? [...form.querySelectorAll("input[required], textarea[required]")] : [];
  const empty = wanted.filter((input) => !input.value && input.type !== "hidden").map((input) => input.name);
  return { number, path, words, empty };
});
"#;

/// The text for an input that must not be empty.
fn filling<'a>(world: &'a World, path: &str, name: &str) -> &'a str {
    match (path, name) {
        (path, "crash_id") if path.starts_with("/api/") => &world.processed,
        (path, _) if path.starts_with("/api/") => "1",
        ("/users/put", "name") => "zoe",
        ("/search/save", "name") => "mine",
        ("/signatures/rule", "to") => "one",
        ("/signature/bugs/attach", "bug") => "https://bugs.example.org/show_bug.cgi?id=7",
        ("/symbols/pin", "product") => "Acme Server",
        ("/symbols/pin", "version") => "1.0",
        ("/login/", "token") => "wrong",
        (path, name) => panic!("nobody said what to type into {name:?} of {path}"),
    }
}

/// Buttons that remove what other buttons need. They are pressed last. If there are several, the newest is
/// pressed.
const TAKES_AWAY: [&str; 7] = [
    "/search/forget",
    "/signature/bugs/detach",
    "/symbols/unpin",
    "/account/revoke",
    "/users/revoke",
    "/users/remove",
    "/logout/",
];

struct Button {
    number: u64,
    path: String,
    words: String,
    empty: Vec<String>,
}

impl Button {
    /// A name that is the same on every page: the route and the label.
    fn name(&self) -> String {
        let route =
            routes::find(Method::Post, &self.path).or(routes::find(Method::Get, &self.path));
        let route = route.map_or(self.path.as_str(), |(route, _)| route.path);
        let words = self.words.split_whitespace().next().unwrap_or_default();
        format!("{route} {words}")
    }
}

fn buttons(browser: &Browser) -> Vec<Button> {
    let found = browser
        .session
        .execute(BUTTONS)
        .expect("the page is searched");
    let read = |button: &Value| Button {
        number: button["number"].as_u64().expect("a number"),
        path: button["path"].as_str().expect("a path").to_owned(),
        words: button["words"].as_str().expect("words").to_owned(),
        empty: button["empty"]
            .as_array()
            .expect("names")
            .iter()
            .map(|name| name.as_str().expect("a name").to_owned())
            .collect(),
    };
    found.as_array().expect("a list").iter().map(read).collect()
}

/// Presses the buttons of one page that were not pressed yet. Reloads the page for each.
fn press_all(
    browser: &Browser,
    world: &World,
    url: &str,
    is_wanted: impl Fn(&Button) -> bool,
    pressed: &mut BTreeSet<String>,
    problems: &mut Vec<String>,
) {
    loop {
        browser.open(url);
        let all = buttons(browser);
        // The last of several is the newest.
        let next = all
            .iter()
            .rev()
            .find(|button| is_wanted(button) && !pressed.contains(&button.name()));
        let Some(button) = next else { return };
        for name in &button.empty {
            let selector = format!(
                "form:has([data-number='{}']) [name='{name}']",
                button.number
            );
            browser.fill(&selector, filling(world, &button.path, name));
        }
        pressed.insert(button.name());
        let invalid = format!(
            "const form = document.querySelector(\"[data-number='{}']\").form; \
             return form ? [...form.querySelectorAll(':invalid')].map((input) => input.name) : [];",
            button.number
        );
        let invalid = browser
            .session
            .execute(&invalid)
            .expect("the form is checked");
        if invalid != Value::Array(Vec::new()) {
            problems.push(format!(
                "{} on {url}: {invalid} is not filled in well",
                button.name()
            ));
            continue;
        }
        browser.status();
        browser.click(&format!("[data-number='{}']", button.number));
        // A downloaded file does not change the page. So the status of the answer counts.
        let what = format!("the answer to {} on {url}", button.name());
        let status = wait_for(&what, || browser.status());
        let works = match button.path.as_str() {
            // A wrong token is refused.
            "/login/" => status == 403,
            // The texts in these inputs are valid, but need not match anything.
            path if path.starts_with("/api/") => {
                matches!(status, 200 | 400 | 404 | 409)
            }
            _ => status == 200,
        };
        if !works {
            let title = browser.session.title().unwrap_or_default();
            problems.push(format!("{} on {url}: {status} {title}", button.name()));
        }
    }
}

#[test]
fn every_button_of_every_page_works_for_an_admin() {
    if !chromium::is_installed() {
        return;
    }
    let world = World::start();
    let browser = Browser::start();
    let demo = &world.demo;
    browser.run_scripts(false);
    browser.enter(&demo.address, demo.key());
    let mut pressed = BTreeSet::new();
    let mut problems = Vec::new();
    // Create the first account. The browser continues as its admin, and the key no longer exists.
    let host = format!("http://{}", demo.address);
    browser.open(&format!("{host}/users/"));
    browser.fill("form[action='/users/put'] [name=name]", "aaron");
    browser.follow("form[action='/users/put'] button", "/users/put");
    assert!(
        browser.text("main").contains("aaron"),
        "{}",
        browser.text("main")
    );

    let pages: Vec<String> = addresses(&world)
        .into_iter()
        .filter(|address| address.host == demo.address && address.status == 200)
        .map(|address| format!("{host}{}", address.path))
        .collect();
    let takes_away = |button: &Button| TAKES_AWAY.contains(&button.path.as_str());
    for page in &pages {
        let stays = |button: &Button| !takes_away(button);
        press_all(&browser, &world, page, stays, &mut pressed, &mut problems);
    }
    for path in TAKES_AWAY {
        for page in &pages {
            let is_it = |button: &Button| button.path == path;
            press_all(&browser, &world, page, is_it, &mut pressed, &mut problems);
        }
    }
    // One button exists only while retention waits for confirmation.
    let waiting = Waiting::start();
    browser.enter(&waiting.address, &waiting.key);
    let status = format!("http://{}/status/", waiting.address);
    let confirms = |button: &Button| button.path == "/status/retention";
    press_all(
        &browser,
        &world,
        &status,
        confirms,
        &mut pressed,
        &mut problems,
    );
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let forgotten: Vec<&str> = ROUTES
        .iter()
        .filter(|route| route.method == Method::Post && is_form(route))
        .map(|route| route.path)
        .filter(|path| {
            !pressed
                .iter()
                .any(|name| name.starts_with(&format!("{path} ")))
        })
        .collect();
    assert_eq!(
        forgotten, [""; 0],
        "forms without a button that was pressed: {pressed:?}"
    );
}

/// True if a route accepts the form of a page.
fn is_form(route: &routes::Route) -> bool {
    matches!(route.handler, routes::Handler::Plain(_)) && is_for_people(route)
}

/// The operations of a browser that the main forms need.
trait Reader {
    fn go(&mut self, url: &str);
    fn type_into(&mut self, selector: &str, text: &str);
    fn press(&mut self, selector: &str);
    fn url(&mut self) -> String;
    fn words(&mut self, selector: &str) -> String;
}

impl Reader for Firefox {
    fn go(&mut self, url: &str) {
        self.open(url);
    }
    fn type_into(&mut self, selector: &str, text: &str) {
        self.fill(selector, text);
    }
    fn press(&mut self, selector: &str) {
        Firefox::press(self, selector);
    }
    fn url(&mut self) -> String {
        Firefox::url(self)
    }
    fn words(&mut self, selector: &str) -> String {
        self.text(selector)
    }
}

impl Reader for Browser {
    fn go(&mut self, url: &str) {
        self.open(url);
    }
    fn type_into(&mut self, selector: &str, text: &str) {
        self.fill(selector, text);
    }
    fn press(&mut self, selector: &str) {
        self.follow(selector, "/");
    }
    fn url(&mut self) -> String {
        self.session.current_url().expect("an address")
    }
    fn words(&mut self, selector: &str) -> String {
        self.text(selector)
    }
}

/// Uses the main forms: first account, login, reprocess, save a search, apply lists. `server` is new and is
/// reached under the URL `site`.
fn press_main_forms(reader: &mut impl Reader, site: &str, server: &Server) {
    let dump = crate::server::fixture("dumps/linux-x86_64-firefox_esr.dmp");
    let id = server
        .submit(
            &[("ProductName", "App"), ("Version", "1")],
            &[("upload_file_minidump", "x.dmp", &dump)],
        )
        .crash_id();
    server.wait_processed(&id);

    reader.go(&format!("{site}/?key={}", server.key()));
    assert_eq!(reader.url(), format!("{site}/"));
    reader.go(&format!("{site}/users/"));
    reader.type_into("form[action$='/users/put'] [name=name]", "ann");
    reader.press("form[action$='/users/put'] button");
    let token = reader.words("p.mono b");
    assert_eq!(token.len(), 32, "{token}");

    reader.go(&format!("{site}/account/"));
    reader.press("form[action$='/logout/'] button");
    reader.go(&format!("{site}/search/"));
    reader.type_into("input[name=token]", &token);
    reader.press("form[action$='/login/'] button");
    assert_eq!(reader.url(), format!("{site}/search/"));

    let report = format!("{site}/report/index/{id}");
    reader.go(&report);
    reader.press("form[action$='/reprocess'] button");
    assert_eq!(reader.url(), report);

    reader.go(&format!("{site}/search/?product=App"));
    reader.type_into("form[action$='/search/save'] [name=name]", "of App");
    reader.press("form[action$='/search/save'] button");
    assert!(reader.words("main").contains("of App"));

    reader.go(&format!("{site}/signatures/"));
    reader.type_into("[name=comment]", "as they are");
    reader.press("button[formaction$='/signatures/apply']");
    let said = reader.words("main");
    assert!(said.contains("as they are"), "{said}");
}

#[test]
fn the_main_forms_work_in_firefox_and_through_nginx() {
    let nginx = Proxy::Nginx;
    if !chromium::is_installed() || !proxies::is_installed("firefox-esr") || !nginx.is_installed() {
        return;
    }
    let server = Server::start();
    let site = format!("http://{}", server.address);
    press_main_forms(&mut Firefox::start(), &site, &server);

    let behind = proxies::Behind::start(nginx, "");
    press_main_forms(&mut Firefox::start(), &behind.site, &behind.server);
    let behind = proxies::Behind::start(nginx, "");
    press_main_forms(&mut Browser::start(), &behind.site, &behind.server);
}
