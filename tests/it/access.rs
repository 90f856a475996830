//! Who gets what: accounts, tokens, scopes, and what is hidden from whom.

use std::path::Path;
use std::process::Command;

use crashkeep::http::routes::{Handler, ROUTES, Route};
use crashkeep::rights::{Rights, Scope};
use crashkeep::web::Method;

use crate::server::{Answer, PROGRAM, Server, fixture, wait_for};

/// Runs the program on a data directory; its standard output.
fn crashkeep(data: &Path, arguments: &[&str]) -> String {
    let output = run(data, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .to_owned()
}

fn run(data: &Path, arguments: &[&str]) -> std::process::Output {
    Command::new(PROGRAM)
        .args(arguments)
        .arg("--data")
        .arg(data)
        .current_dir(data.parent().expect("a folder above"))
        .output()
        .expect("the program runs")
}

/// A server with an account of each role, and a token of each with all that it may do.
struct World {
    server: Server,
    viewer: String,
    protected: String,
    admin: String,
    _folder: tempfile::TempDir,
}

impl World {
    fn start(configuration: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let tokens = ["viewer", "protected", "admin"].map(|role| {
            let name = format!("a-{role}");
            crashkeep(&data, &["user", "add", &name, "--role", role]);
            crashkeep(&data, &["token", "create", "--user", &name])
        });
        let config = folder.path().join("other.toml");
        std::fs::write(&config, configuration).expect("a file");
        let config = config.to_str().expect("a plain path");
        let server = Server::start_in(&data, &["--config", config]);
        let [viewer, protected, admin] = tokens;
        Self {
            server,
            viewer,
            protected,
            admin,
            _folder: folder,
        }
    }

    fn ask(&self, method: &str, path: &str, token: &str) -> Answer {
        let headers: &[(&str, &str)] = &[("Auth-Token", token)];
        let headers = if token.is_empty() { &[] } else { headers };
        self.server.request(method, path, headers, b"")
    }

    fn get(&self, path: &str, token: &str) -> Answer {
        self.ask("GET", path, token)
    }
}

const SECRET: &str = "xyzzy-protected";

fn submit(server: &Server) -> String {
    let annotations = [
        ("ProductName", "App"),
        ("Version", "1.0"),
        ("Comments", SECRET),
        ("URL", "https://xyzzy-protected.example/xyzzy-protected?q=1"),
        ("RemoteType", SECRET),
        ("OwnThing", SECRET),
        ("AbortMessage", "public-words"),
    ];
    let dump = fixture("dumps/linux-x86_64-crash.dmp");
    let answer = server.submit(&annotations, &[("upload_file_minidump", "x.dmp", &dump)]);
    answer.crash_id()
}

#[test]
fn each_route_asks_for_its_scope() {
    let world =
        World::start("[access]\nrequests_per_minute = 100000\nanonymous_per_minute = 100000\n");
    let scoped = Scope::ALL.map(|scope| {
        let made = crashkeep_token(&world, scope);
        (Rights::of([scope]), made)
    });
    let mut callers = vec![(Rights::NONE, String::new())];
    callers.extend(scoped);
    let name = |method| match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
    };
    for route in ROUTES {
        let Some(scope) = route.needs else { continue };
        let is_login = |r: &Route| r.path.starts_with("/users/") || r.path.starts_with("/account/");
        for (rights, token) in &callers {
            // What would take away the accounts that the rest is asked with.
            if rights.has(scope) && is_login(route) && route.changes {
                continue;
            }
            let path = route.path.replace("{}", "x");
            let path = path.replace("{id}", "5ab38077c000");
            let answer = world.ask(name(route.method), &path, token);
            let is_refused = match token.is_empty() {
                true => matches!(answer.status, 401 | 403),
                false => answer.status == 403 && answer.text().contains("requires the"),
            };
            let what = format!(
                "{} {path} as {rights:?}: {} {}",
                name(route.method),
                answer.status,
                answer.text()
            );
            assert_eq!(is_refused, !rights.has(scope), "{what}");
        }
    }
    assert!(
        ROUTES
            .iter()
            .any(|r| matches!(r.handler, Handler::Submit(_)) && r.needs.is_none())
    );
}

/// A token of the admin with one scope, made through the page as an admin would.
fn crashkeep_token(world: &World, scope: Scope) -> String {
    let form = format!("user=a-admin&scopes={}", scope.name());
    let headers = [
        ("Auth-Token", world.admin.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let answer = world
        .server
        .request("POST", "/users/token", &headers, form.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    let secret = text
        .split("<p class=\"mono\"><b>")
        .nth(1)
        .expect("the secret");
    secret.split('<').next().expect("its end").to_owned()
}

#[test]
fn tokens_are_taken_in_every_usual_place_and_bad_ones_say_why() {
    use base64::Engine;
    let world = World::start("");
    let path = "/api/SuperSearchFields/";
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("me:{}", world.viewer));
    for (header, value) in [
        ("Auth-Token", world.viewer.clone()),
        ("Authorization", format!("Bearer {}", world.viewer)),
        ("Authorization", format!("Basic {basic}")),
        ("Cookie", format!("other=1; crashkeep={}", world.viewer)),
    ] {
        let answer = world.server.request("GET", path, &[(header, &value)], b"");
        assert_eq!(answer.status, 200, "{header}");
    }
    let answer = world.get(path, "0123456789abcdef0123456789abcdef");
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["error"], "API Token not matched");
    let answer = world.get(path, "");
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("/login/"), "{}", answer.text());
    // People get the form, feed readers the question for a password.
    let html = [("Accept", "text/html")];
    let page = world
        .server
        .request("GET", "/search/?product=A", &html, b"");
    assert_eq!(page.status, 401);
    assert!(
        page.text().contains("value=\"/search/?product=A\""),
        "{}",
        page.text()
    );
    assert!(page.header("www-authenticate").is_none());
    let feed = world.get("/search/", "");
    assert!(
        feed.header("www-authenticate")
            .is_some_and(|h| h.starts_with("Basic"))
    );
}

#[test]
fn a_browser_logs_in_with_a_token_and_out_again() {
    let world = World::start("");
    let form = |body: String| {
        let kind = [("Content-Type", "application/x-www-form-urlencoded")];
        world
            .server
            .request("POST", "/login/", &kind, body.as_bytes())
    };
    let answer = form(format!("token={}&next=/account/", world.viewer));
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/account/"))
    );
    let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().expect("its pair");
    let page = world
        .server
        .request("GET", "/account/", &[("Cookie", cookie)], b"");
    assert!(page.text().contains("a-viewer"), "{}", page.text());
    assert!(!page.text().contains("a-admin"));
    let answer = form("token=nonsense&next=/account/".into());
    assert_eq!(answer.status, 403);
    // Another site's form cannot log anybody in or change anything.
    let foreign = [("Cookie", cookie), ("Origin", "https://evil.example")];
    for path in ["/login/", "/account/token", "/logout/"] {
        let answer = world.server.request("POST", path, &foreign, b"");
        assert_eq!(answer.status, 403, "{path}");
    }
}

#[test]
fn the_first_account_ends_what_local_callers_may_and_its_maker_goes_on() {
    let server = Server::start();
    assert_eq!(server.get("/users/").status, 200);
    let post = |path: &str, body: &str, cookie: &str| {
        let headers = [
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Cookie", cookie),
        ];
        server.request("POST", path, &headers, body.as_bytes())
    };
    let answer = post("/users/put", "name=ann&role=viewer", "");
    assert_eq!(answer.status, 400, "the first is an admin");
    let answer = post("/users/put", "name=ann&role=admin", "");
    let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
    assert_eq!(server.get("/users/").status, 401);
    assert_eq!(server.get("/api/SuperSearch/").status, 403);
    let cookie = cookie.split(';').next().expect("its pair");
    assert_eq!(
        post("/users/put", "name=bob&role=viewer", cookie).status,
        303
    );
    let answer = post("/users/remove", "name=ann", cookie);
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("last admin"), "{}", answer.text());
    // The collector asks nobody.
    assert!(!submit(&server).is_empty());
}

#[test]
fn what_is_not_public_is_nowhere_for_a_viewer() {
    let world = World::start("");
    let id = submit(&world.server);
    let processed = format!("/api/ProcessedCrash/?crash_id={id}");
    let state = format!("/api/CrashState/?crash_id={id}");
    wait_for("the crash to be processed", || {
        let state = world.get(&state, &world.viewer).json();
        (state["state"] == "processed").then_some(())
    });
    wait_for("the crash to be found", || {
        let found = world.get("/api/SuperSearch/?product=App", &world.viewer);
        (found.json()["total"] == 1).then_some(())
    });
    let raw = format!("/api/RawCrash/?crash_id={id}");
    let everything = "_columns=user_comments&_columns=url&_columns=remote_type&_columns=annotation.OwnThing&_columns=url_domain\
        &_facets=user_comments&_facets=_cardinality.url&_facets=annotation.OwnThing&_aggs.product=remote_type&_aggs.remote_type=product\
        &_sort=user_comments&_sort=-annotation.OwnThing";
    let paths = [
        processed.clone(),
        raw.clone(),
        format!("/report/index/{id}"),
        format!("/api/SuperSearch/?{everything}"),
        format!("/search/?user_comments=~xyzzy&{everything}"),
        "/signature/?signature=~&product=App".into(),
        "/trends/?product=App".into(),
        "/topcrashers/?product=App".into(),
        "/api/SuperSearchFields/".into(),
    ];
    for path in &paths {
        let public = world.get(path, &world.viewer);
        assert!(public.status < 500, "{path}: {}", public.text());
        // What was asked for stands in a page's form.
        let text = public.text().replace("~xyzzy", "").replace("%7Exyzzy", "");
        assert!(!text.contains("xyzzy"), "{path}: {text}");
    }
    assert!(
        world
            .get(&processed, &world.viewer)
            .text()
            .contains("public-words")
    );
    for path in [&processed, &raw] {
        assert!(
            world.get(path, &world.protected).text().contains(SECRET),
            "{path}"
        );
    }
    // A condition that may not be asked changes nothing, true or false.
    for value in ["~xyzzy", "~absent", "__null__", "!~xyzzy"] {
        let found = world.get(
            &format!("/api/SuperSearch/?user_comments={value}"),
            &world.viewer,
        );
        assert_eq!(found.json()["total"], 1, "{value}");
    }
    let asked = |token: &str| {
        let found = world.get("/api/SuperSearch/?q=xyzzy", token);
        found.json()["total"].as_u64()
    };
    assert_eq!(
        (asked(&world.viewer), asked(&world.protected)),
        (Some(0), Some(1))
    );
    let dump = format!("{raw}&format=raw");
    let refused = world.get(&dump, &world.viewer);
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.json()["error"],
        "Binary response requires permissions: read:protected"
    );
    let dump = world.get(&dump, &world.protected);
    assert_eq!(dump.body, fixture("dumps/linux-x86_64-crash.dmp"));
}

#[test]
fn anybody_reads_public_fields_where_the_site_says_so() {
    let world = World::start("[access]\npublic_read = true\n");
    let id = submit(&world.server);
    wait_for("the crash to be processed", || {
        let answer = world.get(&format!("/report/index/{id}"), "");
        (answer.text().contains("public-words")).then_some(())
    });
    assert!(
        !world
            .get(&format!("/report/index/{id}"), "")
            .text()
            .contains("xyzzy")
    );
    assert_eq!(world.ask("POST", "/api/Reprocessing/", "").status, 403);
    assert_eq!(world.get("/users/", "").status, 401);
}

#[test]
fn too_many_requests_are_told_when_to_come_back() {
    let world = World::start("[access]\nrequests_per_minute = 3\nanonymous_per_minute = 2\n");
    let path = "/api/SuperSearchFields/";
    let limited = wait_for("a minute in which all fits", || {
        let answers: Vec<Answer> = (0..4).map(|_| world.get(path, &world.viewer)).collect();
        (answers[2].status == 200 && answers[3].status == 429).then_some(answers)
    });
    let wait = limited[3]
        .header("retry-after")
        .expect("when")
        .parse::<u32>();
    assert!(wait.is_ok_and(|s| (1..=60).contains(&s)));
    assert!(
        limited[3].text().contains("3 a minute"),
        "{}",
        limited[3].text()
    );
    // Another token has a pace of its own, and reports are always taken.
    assert_eq!(world.get(path, &world.admin).status, 200);
    for _ in 0..5 {
        assert!(!submit(&world.server).is_empty());
        assert_eq!(world.get("/__heartbeat__", "").status, 200);
    }
}

#[test]
fn accounts_are_made_and_ended_at_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let bad = run(&data, &["user", "add", "a b", "--role", "viewer"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("\"a b\""));
    let bad = run(&data, &["user", "add", "ann", "--role", "king"]);
    assert!(String::from_utf8_lossy(&bad.stderr).contains("viewer, protected, admin"));
    assert_eq!(
        crashkeep(&data, &["user", "add", "ann", "--role", "viewer"]),
        "added ann, viewer"
    );
    let bad = run(
        &data,
        &[
            "token",
            "create",
            "--user",
            "ann",
            "--scopes",
            "read,reprocess",
        ],
    );
    assert!(String::from_utf8_lossy(&bad.stderr).contains("no scope \"reprocess\""));
    let secret = crashkeep(
        &data,
        &[
            "token", "create", "--user", "ann", "--scopes", "read", "--days", "1", "--label", "ci",
        ],
    );
    assert!(
        secret.len() == 32 && secret.bytes().all(|b| b.is_ascii_hexdigit()),
        "{secret}"
    );
    let listed = crashkeep(&data, &["token", "list"]);
    assert!(listed.contains("ann") && listed.contains("ci") && !listed.contains(&secret));
    // Nothing below the data directory holds it.
    let store = std::fs::read(data.join("store.redb")).expect("the store");
    assert!(!store.windows(secret.len()).any(|w| w == secret.as_bytes()));
    let server = Server::start_in(&data, &[]);
    let ask = || {
        server.request(
            "GET",
            "/api/SuperSearchFields/",
            &[("Auth-Token", &secret)],
            b"",
        )
    };
    assert_eq!(ask().status, 200);
    let busy = run(&data, &["user", "list"]);
    assert!(
        String::from_utf8_lossy(&busy.stderr).contains("/users/"),
        "the way out is named"
    );
    drop(server);
    let id = listed.split_whitespace().next().expect("a number");
    crashkeep(&data, &["token", "revoke", id]);
    let server = Server::start_in(&data, &[]);
    let gone = server.request(
        "GET",
        "/api/SuperSearchFields/",
        &[("Auth-Token", &secret)],
        b"",
    );
    assert_eq!(gone.json()["error"], "API Token not matched");
    drop(server);
    crashkeep(&data, &["user", "remove", "ann"]);
    assert_eq!(crashkeep(&data, &["user", "list"]), "");
}
