//! Accounts, tokens, scopes, and which data each caller can see.

use std::path::Path;
use std::process::Command;

use crashkeep::http::routes::{Handler, ROUTES, Route};
use crashkeep::rights::{Rights, Scope};
use crashkeep::web::Method;

use crate::server::{Answer, PROGRAM, Server, fixture, wait_for};

/// Runs the program on a data directory. Returns its standard output.
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

/// A server with one account per role, and one token per account with all its rights.
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

/// Sends a report with the secret in every field that a client controls and that is not public.
fn submit(server: &Server) -> String {
    let java = "java.lang.IllegalStateException: xyzzy1\nxyzzy2.example\nat xyzzy3 home\n\tat a.b.C.d(E.java:1)\nCaused by: java.io.IOException: xyzzy4: more\n\tat a.b.F.g(E.java:2)\n";
    let environment = r#"{"xyzzy5": 1}"#;
    let annotations = [
        ("ProductName", "App"),
        ("Version", "1.0"),
        ("Comments", SECRET),
        ("URL", "https://xyzzy-protected.example/xyzzy-protected?q=1"),
        ("RemoteType", SECRET),
        ("OwnThing", SECRET),
        ("Email", "xyzzy6@xyzzy.example"),
        ("JavaStackTrace", java),
        ("DumperError", "xyzzy7"),
        ("GleanClientId", "xyzzy8"),
        ("Breadcrumbs", environment),
        ("GMPLibraryPath", "/home/xyzzy9"),
        ("MozCrashReason", "byte index xyzzy10"),
        ("SubmittedFromInfobar", "xyzzy11"),
        ("PHCUsableSize", "xyzzy12"),
        ("guid", "xyzzy13"),
        // The collector adds a note if a key came twice.
        ("Twice", "xyzzy14"),
        ("Twice", "xyzzy15"),
        ("AbortMessage", "public-words"),
    ];
    let dump = fixture("dumps/linux-x86_64-crash.dmp");
    let report = br#"{"version":1,"hasMozMallocUsableSize":true,"reports":"xyzzy16"}"#;
    let files: [(&str, &str, &[u8]); 4] = [
        ("upload_file_minidump", "xyzzy17.dmp", &dump),
        ("memory_report", "xyzzy18.json.gz", &gzip(report)),
        ("xyzzy19", "xyzzy20.txt", b"xyzzy21"),
        ("log", "xyzzy22.log", b"xyzzy23"),
    ];
    server.submit(&annotations, &files).crash_id()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).expect("memory takes all");
    packer.finish().expect("memory takes all")
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
            // These would remove the accounts that the test still needs.
            if rights.has(scope) && is_login(route) && route.changes {
                continue;
            }
            let path = route.path.replace("{id:symbol}", "5ab38077c000");
            let segments = path.split('/').map(|segment| {
                if segment.starts_with('{') {
                    "x"
                } else {
                    segment
                }
            });
            let path = segments.collect::<Vec<&str>>().join("/");
            let answer = world.ask(name(route.method), &path, token);
            let is_refused = if token.is_empty() {
                matches!(answer.status, 401 | 403)
            } else {
                answer.status == 403 && answer.text().contains("requires the")
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

/// A token of the admin account with one scope, created through the page.
fn crashkeep_token(world: &World, scope: Scope) -> String {
    let form = format!("user=a-admin&scopes={}", scope.name());
    let headers = [
        ("Auth-Token", world.admin.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let answer = world
        .server
        .request("POST", "/users/token", &headers, form.as_bytes());
    made_token(&answer)
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
    ] {
        let answer = world.server.request("GET", path, &[(header, &value)], b"");
        assert_eq!(answer.status, 200, "{header}");
    }
    let answer = world.get(path, "0123456789abcdef0123456789abcdef");
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["error"], "API Token not matched");
    let answer = world.get(path, "");
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").is_some());
    assert!(answer.text().contains("/login/"), "{}", answer.text());
    // People get the form. Feed readers get a challenge for a password.
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
    // A form of another site can neither log in nor change anything.
    let foreign = [("Cookie", cookie), ("Origin", "https://evil.example")];
    for path in ["/login/", "/account/token", "/logout/"] {
        let answer = world.server.request("POST", path, &foreign, b"");
        assert_eq!(answer.status, 403, "{path}");
    }
}

/// Posts a form with a token or a cookie.
fn post(server: &Server, path: &str, body: &str, shown: (&str, &str)) -> Answer {
    let headers = [("Content-Type", "application/x-www-form-urlencoded"), shown];
    server.request("POST", path, &headers, body.as_bytes())
}

/// The name and value of the cookie that an answer sets.
fn cookie_of(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie").expect("a cookie");
    cookie.split(';').next().expect("its pair").to_owned()
}

/// The secret of a new token, which a page shows once.
fn made_token(answer: &Answer) -> String {
    let text = answer.text();
    let secret = text.split("<p class=\"mono\"><b>").nth(1);
    let secret = secret.unwrap_or_else(|| panic!("no token in {} {text}", answer.status));
    secret.split('<').next().expect("its end").to_owned()
}

const NOTHING: (&str, &str) = ("Accept", "text/html");

#[test]
fn only_the_local_key_makes_an_admin_and_it_ends_with_the_first_account() {
    let server = Server::start();
    let key = server.key.clone().expect("a fresh server has a key");
    let file = server.data.join("local-key");
    assert_eq!(
        std::fs::read_to_string(&file).expect("its file").trim(),
        key
    );
    // Loopback, a Host header and forwarding headers prove nothing.
    for headers in [
        vec![],
        vec![("Host", "localhost")],
        vec![("Host", "127.0.0.1"), ("X-Forwarded-For", "127.0.0.1")],
        vec![("Auth-Token", "00000000000000000000000000000000")],
        vec![("Cookie", "crashkeep=00000000000000000000000000000000")],
    ] {
        let headers = [vec![("Accept", "text/html"), ("Cookie", "a=b")], headers].concat();
        let answer = server.request("GET", "/users/", &headers, b"");
        assert!(
            matches!(answer.status, 401 | 403),
            "{headers:?}: {}",
            answer.status
        );
    }
    let made = post(
        &server,
        "/users/put",
        "name=mallory&role=admin",
        ("Cookie", "a=b"),
    );
    assert!(matches!(made.status, 401 | 403), "{}", made.status);
    // The key opens a session, and is removed from the URL.
    let answer = server.request(
        "GET",
        &format!("/users/?key={key}"),
        &[("Cookie", "a=b")],
        b"",
    );
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/users/"))
    );
    let cookie = cookie_of(&answer);
    assert!(!cookie.contains(&key));
    let shown = ("Cookie", cookie.as_str());
    assert_eq!(server.request("GET", "/users/", &[shown], b"").status, 200);
    for (name, value) in [
        ("Auth-Token", key.clone()),
        ("Authorization", format!("Bearer {key}")),
    ] {
        let answer = server.request("GET", "/users/", &[(name, &value)], b"");
        assert_eq!(answer.status, 200, "{name}");
    }
    let answer = post(&server, "/users/put", "name=ann&role=viewer", shown);
    assert_eq!(answer.status, 400, "the first is an admin");
    let answer = post(&server, "/users/put", "name=ann&role=admin", shown);
    let admin = cookie_of(&answer);
    let admin = ("Cookie", admin.as_str());
    // The key, its file and its session no longer exist. The caller continues as the new admin.
    assert!(!file.exists());
    assert_eq!(server.request("GET", "/users/", &[shown], b"").status, 401);
    let answer = server.request("GET", "/users/", &[("Auth-Token", &key)], b"");
    assert_eq!(answer.status, 403);
    let answer = server.request(
        "GET",
        &format!("/?key={key}"),
        &[NOTHING, ("Cookie", "a=b")],
        b"",
    );
    assert_eq!(answer.status, 401);
    assert_eq!(
        post(&server, "/users/put", "name=bob&role=viewer", admin).status,
        303
    );
    for path in ["/users/remove", "/users/put"] {
        let answer = post(&server, path, "name=ann&role=viewer", admin);
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().contains("last admin"), "{}", answer.text());
    }
    // Also if it is the only account.
    assert_eq!(
        post(&server, "/users/remove", "name=bob", admin).status,
        303
    );
    let answer = post(&server, "/users/remove", "name=ann", admin);
    assert_eq!(answer.status, 400);
    assert_eq!(server.request("GET", "/users/", &[admin], b"").status, 200);
    // The collector needs no token.
    assert!(!submit(&server).is_empty());
}

#[test]
fn the_local_key_stays_the_same_over_a_restart_and_a_server_for_others_has_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let first = Server::start_in(&data, &[]).key.clone();
    let server = Server::start_in(&data, &[]);
    assert!(first.is_some() && server.key == first);
    drop(server);
    let server = Server::start_in(&data, &["--listen", "0.0.0.0:0"]);
    assert_eq!(server.key, None);
    assert!(!data.join("local-key").exists());
    let answer = server.request("GET", "/", &[("Auth-Token", &first.expect("a key"))], b"");
    assert_eq!(answer.status, 403);
}

#[test]
fn a_server_that_others_reach_is_set_up_from_its_own_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start_in(&data, &["--listen", "0.0.0.0:0"]);
    assert_eq!(server.get("/").status, 403);
    assert_eq!(
        crashkeep(&data, &["user", "add", "ann", "--role", "admin"]),
        "added ann, admin"
    );
    let token = crashkeep(&data, &["token", "create", "--user", "ann"]);
    let listed = crashkeep(&data, &["token", "list"]);
    assert!(listed.contains("ann"), "{listed}");
    let admin = ("Auth-Token", token.as_str());
    assert_eq!(server.request("GET", "/users/", &[admin], b"").status, 200);
    let bad = run(&data, &["user", "add", "a b", "--role", "viewer"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("\"a b\""));
    let bad = run(&data, &["user", "remove", "ann"]);
    assert!(String::from_utf8_lossy(&bad.stderr).contains("last admin"));
    // The key for commands is not valid on the public port.
    let running = std::fs::read(data.join("server")).expect("a file");
    let running: serde_json::Value = serde_json::from_slice(&running).expect("JSON");
    let key = running["key"].as_str().expect("a key");
    let answer = server.request("GET", "/users/", &[("Auth-Token", key)], b"");
    assert_eq!(answer.status, 403);
}

#[test]
fn a_token_with_fewer_rights_than_its_owner_manages_no_tokens() {
    let world = World::start("");
    let server = &world.server;
    let admin = ("Auth-Token", world.admin.as_str());
    let answer = post(
        server,
        "/users/token",
        "user=a-admin&scopes=read&days=1&label=least",
        admin,
    );
    let least = made_token(&answer);
    let shown = ("Auth-Token", least.as_str());
    let page = server.request("GET", "/account/", &[shown], b"").text();
    let ids: Vec<&str> = page
        .split("name=\"id\" value=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(ids.len(), 1, "it sees a button for itself alone");
    for id in 1..=4 {
        if ids[0] != id.to_string() {
            let answer = post(server, "/account/revoke", &format!("id={id}"), shown);
            assert_eq!(answer.status, 403, "{id}: {}", answer.text());
        }
    }
    let answer = post(server, "/account/token", "label=more", shown);
    assert_eq!(answer.status, 403, "{}", answer.text());
    // Neither can the session of this token.
    let login = post(server, "/login/", &format!("token={least}"), NOTHING);
    let cookie = cookie_of(&login);
    let answer = post(server, "/account/token", "label=more", ("Cookie", &cookie));
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(server.request("GET", "/users/", &[admin], b"").status, 200);
    // It may revoke itself. Its session ends with it.
    let answer = post(server, "/account/revoke", &format!("id={}", ids[0]), shown);
    assert_eq!(answer.status, 303);
    for shown in [shown, ("Cookie", &cookie)] {
        assert!(server.request("GET", "/account/", &[shown], b"").status >= 401);
    }
}

#[test]
fn a_token_lasts_no_longer_than_the_one_that_made_it_and_their_number_is_bounded() {
    let world = World::start("[access]\nrequests_per_minute = 100000\n");
    let server = &world.server;
    let admin = ("Auth-Token", world.admin.as_str());
    let answer = post(server, "/users/token", "user=a-viewer&days=2", admin);
    let short = made_token(&answer);
    for (body, shown) in [
        ("label=first", ("Auth-Token", short.clone())),
        ("label=second&days=300", ("Auth-Token", short.clone())),
        ("label=third", {
            let login = post(server, "/login/", &format!("token={short}"), NOTHING);
            ("Cookie", cookie_of(&login))
        }),
    ] {
        let answer = post(server, "/account/token", body, (shown.0, &shown.1));
        made_token(&answer);
    }
    let page = server.request("GET", "/account/", &[admin], b"").text();
    assert!(!page.contains("second"), "it is the viewer's");
    let page = server
        .request("GET", "/account/", &[("Auth-Token", &short)], b"")
        .text();
    let never = page.matches("<span class=\"muted\">never</span>").count();
    assert_eq!(never, 1, "only the viewer's first token lasts: {page}");
    let mut last = None;
    for _ in 0..=crashkeep::limits::TOKENS_PER_USER_MAX {
        let answer = post(server, "/users/token", "user=a-viewer", admin);
        last = Some((answer.status, answer.text()));
        if answer.status != 200 {
            break;
        }
    }
    let (status, text) = last.expect("an answer");
    assert_eq!(status, 400);
    assert!(text.contains("the limit is 100"), "{text}");
}

#[test]
fn a_session_is_no_token_and_ends_at_logout() {
    let world = World::start("");
    let server = &world.server;
    let login = post(
        server,
        "/login/",
        &format!("token={}", world.viewer),
        NOTHING,
    );
    let cookie = cookie_of(&login);
    assert!(!cookie.contains(&world.viewer), "{cookie}");
    let secret = cookie.strip_prefix("crashkeep=").expect("its name");
    let store = std::fs::read(server.data.join("store.redb")).expect("the store");
    assert!(!store.windows(secret.len()).any(|w| w == secret.as_bytes()));
    let answer = server.request("GET", "/account/", &[("Auth-Token", secret)], b"");
    assert_eq!(answer.status, 403, "it opens nothing as a token");
    let shown = ("Cookie", cookie.as_str());
    assert_eq!(
        server.request("GET", "/account/", &[shown], b"").status,
        200
    );
    let answer = post(server, "/logout/", "", shown);
    assert!(
        answer
            .header("set-cookie")
            .is_some_and(|c| c.contains("Max-Age=0"))
    );
    assert_eq!(
        server
            .request("GET", "/account/", &[NOTHING, shown], b"")
            .status,
        401
    );
}

#[test]
fn cookies_have_the_prefix_that_https_allows() {
    for (url, name, path) in [
        (
            "https://crashes.example.org",
            "__Host-crashkeep=",
            "Path=/;",
        ),
        (
            "https://example.org/crashes",
            "__Secure-crashkeep=",
            "Path=/crashes;",
        ),
        ("http://crashes.lan", "crashkeep=", "Path=/;"),
    ] {
        let world = World::start(&format!("[http]\npublic_url = \"{url}\"\n"));
        let body = format!("token={}", world.viewer);
        let login = post(&world.server, "/login/", &body, NOTHING);
        let cookie = login.header("set-cookie").expect("a cookie").to_owned();
        assert!(
            cookie.starts_with(name) && cookie.contains(path),
            "{cookie}"
        );
        assert_eq!(
            cookie.contains("; Secure"),
            url.starts_with("https"),
            "{cookie}"
        );
        assert!(cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
        let shown = [("Cookie", cookie.split(';').next().expect("its pair"))];
        let page = world.server.request("GET", "/account/", &shown, b"");
        assert_eq!(page.status, 200);
    }
}

#[test]
fn below_a_path_every_link_form_and_redirect_is_below_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("a.toml");
    std::fs::write(
        &config,
        "[http]\npublic_url = \"https://example.org/crashes\"\n",
    )
    .expect("a file");
    let config = config.to_str().expect("a plain path");
    let server = Server::start_in(&folder.path().join("data"), &["--config", config]);
    let id = submit(&server);
    server.wait_processed(&id);
    let report = format!("/report/index/{id}");
    for path in [
        "/",
        "/search/",
        "/topcrashers/",
        "/status/",
        "/account/",
        "/users/",
        "/signatures/",
        &report,
    ] {
        // A proxy may remove the path or keep it.
        for path in [path.to_owned(), format!("/crashes{path}")] {
            let page = server.get(&path);
            assert_eq!(page.status, 200, "{path}");
            let text = page.text();
            for attribute in ["href=\"", "action=\"", "src=\""] {
                for link in text.split(attribute).skip(1) {
                    let link = link.split('"').next().expect("its end");
                    let is_below = link.starts_with("/crashes/") || !link.starts_with('/');
                    assert!(is_below, "{path} has {attribute}{link}");
                }
            }
        }
    }
    let key = server.key.clone().expect("a key");
    let answer = server.request(
        "GET",
        &format!("/?key={key}"),
        &[NOTHING, ("Cookie", "a=b")],
        b"",
    );
    assert_eq!(answer.header("location"), Some("/crashes/"));
    let style = server.get("/").text();
    let style = style.split("href=\"").nth(1).expect("a link");
    let style = style.split('"').next().expect("its end");
    assert_eq!(server.get(style).status, 200, "{style}");
    assert!(server.get("/crashes").status == 200);
    assert_eq!(server.get("/crashesque/").status, 404);
}

#[test]
fn wrong_tokens_are_bounded_and_keep_nobody_else_out() {
    let world = World::start("[access]\nfailed_logins_per_minute = 5\nanonymous_per_minute = 5\n");
    let path = "/api/SuperSearchFields/";
    assert_eq!(world.get(path, &world.viewer).status, 200);
    let limited = wait_for("wrong tokens to be refused unseen", || {
        let answer = world.get(path, "0123456789abcdef0123456789abcdef");
        assert!(matches!(answer.status, 403 | 429), "{}", answer.status);
        (answer.status == 429).then_some(answer)
    });
    assert!(limited.header("retry-after").is_some());
    // Known callers are still served. Requests without a token do not prevent a login.
    assert_eq!(world.get(path, &world.viewer).status, 200);
    let other = World::start("[access]\nfailed_logins_per_minute = 5\nanonymous_per_minute = 5\n");
    for _ in 0..20 {
        other.server.request("GET", "/search/", &[NOTHING], b"");
        assert_eq!(
            other
                .server
                .request("GET", "/login/", &[NOTHING], b"")
                .status,
            200
        );
    }
    let body = format!("token={}", other.admin);
    assert_eq!(post(&other.server, "/login/", &body, NOTHING).status, 303);
}

#[test]
fn behind_a_trusted_proxy_each_client_has_its_own_pace() {
    let world = World::start(
        "[http]\ntrusted_proxies = [\"127.0.0.1\"]\n[access]\nanonymous_per_minute = 3\n",
    );
    let ask = |client: &str| {
        let headers = [NOTHING, ("X-Forwarded-For", client)];
        world
            .server
            .request("GET", "/search/", &headers, b"")
            .status
    };
    wait_for("one client to be slowed down", || {
        (ask("203.0.113.9") == 429).then_some(())
    });
    assert_eq!(ask("198.51.100.7"), 401);
    // An invented address before the proxy's entry does not count as another client.
    wait_for("it to be slowed down again", || {
        (ask("203.0.113.9") == 429 && ask("1.2.3.4, 203.0.113.9") == 429).then_some(())
    });
}

#[test]
fn search_engines_are_asked_to_keep_away_unless_the_site_wants_them() {
    let server = Server::start();
    let robots = server.request("GET", "/robots.txt", &[NOTHING], b"");
    assert_eq!(
        (robots.status, robots.text().contains("Disallow: /\n")),
        (200, true)
    );
    assert_eq!(
        server.get("/").header("x-robots-tag"),
        Some("noindex, nofollow")
    );
    let world = World::start("[http]\nnoindex = false\n");
    let robots = world.get("/robots.txt", "");
    assert!(!robots.text().contains("Disallow: /\n"));
    assert!(robots.header("x-robots-tag").is_none());
}

#[test]
fn programs_are_asked_for_a_token_where_they_can_give_one() {
    let world = World::start("");
    for path in [
        "/symbols/a/0123/a",
        "/api/SuperSearch/",
        "/buildid/00/debuginfo",
    ] {
        let answer = world.get(path, "");
        assert_eq!(answer.status, 401, "{path}");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.is_some_and(|c| c.starts_with("Basic ")), "{path}");
        let wrong = [("Authorization", "Bearer nonsense")];
        let answer = world.server.request("GET", path, &wrong, b"");
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(world.get(path, "nonsense").status, 403, "{path}");
    }
    let answer = world.ask("POST", "/upload/", "");
    assert_eq!(answer.status, 403, "as Tecken's clients know it");
    assert!(answer.json()["error"].is_string());
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
        format!("/report/index/{id}/signature"),
        format!("/api/SignatureExplanation/?crash_id={id}"),
        state.clone(),
        format!("/api/CrashVerify/?crash_id={id}"),
        "/api/SearchExport/?_columns=processor_notes&_columns=collector_notes&_columns=java_stack_trace&_columns=memory_report_error&_columns=installation".into(),
        "/search/".into(),
        "/search/feed.atom?product=App".into(),
        "/".into(),
        "/home/product/App".into(),
        "/status/".into(),
        "/symbols/".into(),
        "/api/Jobs/".into(),
        "/api/MissingSymbols/".into(),
        "/api/ThrottleCounts/".into(),
        "/api/ProductVersions/".into(),
        "/about/throttling/".into(),
        "/metrics".into(),
    ];
    // Another user saves searches and has crashes reprocessed.
    for (path, body) in [
        ("/search/save", "name=mine&query=q%3Dxyzzy24"),
        ("/search/save", "name=public&query=signature%3D~xyzzy25"),
        ("/api/Reprocessing/", "query=url%3D~xyzzy26"),
    ] {
        let headers = [
            ("Auth-Token", world.admin.as_str()),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        let done = world
            .server
            .request("POST", path, &headers, body.as_bytes());
        assert!(done.status < 400, "{path}: {}", done.text());
    }
    wait_for("the crash to be done again", || {
        let state = world.get(&state, &world.viewer).json();
        (state["state"] == "processed").then_some(())
    });
    for path in &paths {
        let public = world.get(path, &world.viewer);
        assert!(public.status < 500, "{path}: {}", public.text());
        // The page repeats the query in its form.
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
    // A condition that this caller may not use has no effect, true or false.
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
    assert_eq!(world.ask("POST", "/api/Reprocessing/", "").status, 401);
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
        limited[3].text().contains("limit is 3 "),
        "{}",
        limited[3].text()
    );
    // Another token has its own limit. Reports are always accepted.
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
    assert!(String::from_utf8_lossy(&bad.stderr).contains("not have the scope \"reprocess\""));
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
    // No file below the data directory contains it.
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
    let busy = crashkeep(&data, &["user", "list"]);
    assert!(busy.contains("ann"), "the server is asked: {busy}");
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
