//! The route table: path, method, required scope, and handler. Only routes in this list are reachable.

use super::{assets, openapi};
use crate::app::App;
use crate::ingest::Endpoint;
use crate::rights::Scope;
use crate::web::{Method, Request, Response, WebError};
use crate::{api, pages};

pub use super::route::{Handler, PlainHandler, Route, UploadHandler};

const OPEN: Option<Scope> = None;
const READ: Option<Scope> = Some(Scope::Read);
const PROTECTED: Option<Scope> = Some(Scope::ReadProtected);
const SYMBOLS: Option<Scope> = Some(Scope::SymbolsWrite);
const REPROCESS: Option<Scope> = Some(Scope::Reprocess);
const ADMIN: Option<Scope> = Some(Scope::Admin);

const fn get(path: &'static str, needs: Option<Scope>, handler: PlainHandler) -> Route {
    Route {
        method: Method::Get,
        path,
        needs,
        is_paced: true,
        changes: false,
        is_shared: false,
        doc: None,
        handler: Handler::Plain(handler),
    }
}

const fn post(path: &'static str, needs: Option<Scope>, handler: PlainHandler) -> Route {
    Route {
        method: Method::Post,
        path,
        needs,
        is_paced: true,
        changes: true,
        is_shared: false,
        doc: None,
        handler: Handler::Plain(handler),
    }
}

const fn upload(
    method: Method,
    path: &'static str,
    needs: Option<Scope>,
    handler: UploadHandler,
) -> Route {
    Route {
        method,
        path,
        needs,
        is_paced: false,
        changes: true,
        is_shared: false,
        doc: None,
        handler: Handler::Upload(handler),
    }
}

const fn submit(path: &'static str, endpoint: Endpoint) -> Route {
    Route {
        method: Method::Post,
        path,
        needs: OPEN,
        is_paced: false,
        changes: true,
        is_shared: false,
        doc: None,
        handler: Handler::Submit(endpoint),
    }
}

fn openapi_json(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    openapi::json(app, request, ROUTES)
}

fn openapi_page(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    openapi::page(app, request, ROUTES)
}

pub const ROUTES: &[Route] = &[
    submit("/submit", Endpoint::Submit),
    // The paths of Sentry's clients. The segment is the number of a project.
    submit("/api/{}/minidump/", Endpoint::SentryMinidump),
    submit("/api/{}/envelope/", Endpoint::SentryEnvelope),
    submit("/api/{}/unreal/{}/", Endpoint::SentryUnreal),
    // Symbols: upload and download.
    upload(Method::Post, "/upload/", SYMBOLS, api::symbols::upload),
    upload(Method::Put, "/upload/", SYMBOLS, api::symbols::upload),
    upload(Method::Put, "/upload/{}", SYMBOLS, api::symbols::upload),
    upload(Method::Post, "/symbols", SYMBOLS, api::symbols::upload),
    get("/symbols/{}/{}/{}", READ, api::symbol_server::download)
        .free()
        .shared(),
    get("/buildid/{}/{}", READ, api::symbol_server::debuginfod)
        .free()
        .shared(),
    get("/api/0/", OPEN, api::sentry::info),
    get(
        "/api/0/organizations/{}/chunk-upload/",
        SYMBOLS,
        api::sentry::options,
    )
    .free(),
    upload(
        Method::Post,
        "/api/0/organizations/{}/chunk-upload/",
        SYMBOLS,
        api::sentry::chunks,
    ),
    post(
        "/api/0/projects/{}/{}/files/difs/assemble/",
        SYMBOLS,
        api::sentry::assemble,
    )
    .free(),
    get("/v1/symbols/{}/{}", READ, api::sym_upload::status).free(),
    post("/v1/uploads:create", SYMBOLS, api::sym_upload::create).free(),
    upload(Method::Put, "/v1/uploads/{}", SYMBOLS, api::sym_upload::put),
    post("/v1/uploads/{}", SYMBOLS, api::sym_upload::complete).free(),
    get("/api/v1/symbols/{}/{}", READ, api::sym_upload::status).free(),
    post("/api/v1/uploads:create", SYMBOLS, api::sym_upload::create).free(),
    upload(
        Method::Put,
        "/api/v1/uploads/{}",
        SYMBOLS,
        api::sym_upload::put,
    ),
    post("/api/v1/uploads/{}", SYMBOLS, api::sym_upload::complete).free(),
    post("/symbolicate/v5", READ, api::symbolicate::v5)
        .reads()
        .shared(),
    // Health.
    get("/__heartbeat__", OPEN, api::health::heartbeat).free(),
    get("/__lbheartbeat__", OPEN, api::health::lbheartbeat).free(),
    get("/__version__", OPEN, api::health::version).free(),
    get("/metrics", OPEN, api::health::metrics).free(),
    // Pages.
    get("/", READ, pages::home::home),
    get("/home/product/{}", READ, pages::product::product),
    get("/topcrashers/", READ, pages::topcrashers::topcrashers),
    get("/trends/", READ, pages::trends::trends),
    get("/trends/urls/", PROTECTED, pages::urls::urls),
    get("/signature/", READ, pages::signature::report),
    post("/signature/bugs/attach", ADMIN, pages::bugs::attach),
    post("/signature/bugs/detach", ADMIN, pages::bugs::detach),
    get("/search/", READ, pages::search::search),
    get("/search/feed.atom", READ, pages::search::feed::feed),
    post("/search/save", READ, pages::search::saved::save),
    post("/search/forget", READ, pages::search::saved::remove),
    get("/report/index/{}", READ, pages::report::report),
    post(
        "/report/index/{}/reprocess",
        REPROCESS,
        pages::report::reprocess,
    ),
    get(
        "/report/index/{}/signature",
        READ,
        pages::signature_explanation::explain,
    ),
    get("/signatures/", ADMIN, pages::signature_lists::lists),
    post(
        "/signatures/preview",
        ADMIN,
        pages::signature_lists::preview,
    ),
    post("/signatures/apply", ADMIN, pages::signature_lists::apply),
    post(
        "/signatures/restore",
        ADMIN,
        pages::signature_lists::restore,
    ),
    get("/symbols/", READ, pages::symbols::symbols),
    post("/symbols/pin", ADMIN, pages::symbols::pin),
    post("/symbols/unpin", ADMIN, pages::symbols::unpin),
    // Other users' requests must not prevent anybody from logging in. Wrong tokens have their own limit.
    get("/login/", OPEN, pages::login::form).free(),
    post("/login/", OPEN, pages::login::login).reads().free(),
    post("/logout/", OPEN, pages::login::logout).reads().free(),
    get("/account/", READ, pages::accounts::account),
    post("/account/token", READ, pages::accounts::create_own),
    post("/account/revoke", READ, pages::accounts::revoke_own),
    get("/users/", ADMIN, pages::accounts::users),
    post("/users/put", ADMIN, pages::accounts::put),
    post("/users/remove", ADMIN, pages::accounts::remove),
    post("/users/token", ADMIN, pages::accounts::create_any),
    post("/users/revoke", ADMIN, pages::accounts::revoke_any),
    get("/status/", READ, pages::status::status),
    post("/status/reindex", ADMIN, pages::status::reindex),
    post("/status/retention", ADMIN, pages::status::confirm_retention),
    get("/about/throttling/", READ, pages::throttling::throttling),
    get("/robots.txt", OPEN, assets::robots).free(),
    get("/assets/{}/style.css", OPEN, assets::style).free(),
    get("/assets/{}/icon.svg", OPEN, assets::icon).free(),
    // API.
    post("/api/Accounts/", ADMIN, api::accounts::command),
    get("/api/SuperSearch/", READ, api::supersearch::supersearch).doc(&api::supersearch::SEARCH),
    get("/api/SuperSearchFields/", READ, api::supersearch::fields).doc(&api::supersearch::FIELDS),
    get(
        "/api/SuperSearchUnredacted/",
        PROTECTED,
        api::supersearch::supersearch,
    )
    .doc(&api::supersearch::UNREDACTED),
    get("/api/SearchExport/", READ, api::export::export).doc(&api::export::EXPORT),
    get("/api/FieldDescriptions/", READ, api::supersearch::fields).doc(&api::supersearch::FIELDS),
    get("/api/CrashVerify/", READ, api::crash::verify).doc(&api::crash::VERIFY),
    get("/api/MissingProcessedCrash/", READ, api::crash::awaited).doc(&api::crash::AWAITED),
    get("/api/ProductVersions/", READ, api::releases::versions).doc(&api::releases::VERSIONS),
    get("/api/VersionString/", READ, api::releases::version_string)
        .doc(&api::releases::VERSION_STRING),
    get("/api/ThrottleCounts/", READ, api::throttle::counts).doc(&api::throttle::COUNTS),
    get("/api/Jobs/", READ, api::jobs::jobs).doc(&api::jobs::JOBS),
    get("/api/Retention/", ADMIN, api::retention::state).doc(&api::retention::RETENTION),
    post("/api/Retention/", ADMIN, api::retention::confirm).doc(&api::retention::CONFIRM),
    get("/api/NoOp/", OPEN, api::noop::noop).doc(&api::noop::NOOP),
    get("/api/openapi.json", READ, openapi_json),
    get("/api/", READ, openapi_page),
    get("/api/Bugs/", READ, api::bugs::of_signatures).doc(&api::bugs::BUGS),
    post("/api/Bugs/", READ, api::bugs::of_signatures)
        .reads()
        .doc(&api::bugs::BUGS_POSTED),
    get("/api/SignaturesByBugs/", READ, api::bugs::signatures).doc(&api::bugs::SIGNATURES),
    get("/api/MissingSymbols/", READ, api::symbol_info::missing).doc(&api::symbol_info::MISSING),
    get("/api/Symbols/", READ, api::symbol_info::symbols).doc(&api::symbol_info::SYMBOLS),
    get("/api/CrashState/", READ, api::crash::state).doc(&api::crash::STATE),
    get("/api/ProcessedCrash/", READ, api::crash::processed).doc(&api::crash::PROCESSED),
    get("/api/RawCrash/", READ, api::crash::raw).doc(&api::crash::RAW),
    post("/api/Reprocessing/", REPROCESS, api::crash::reprocessing).doc(&api::crash::REPROCESSING),
    post(
        "/api/CrashSignature/",
        READ,
        api::signatures::crash_signature,
    )
    .reads()
    .doc(&api::signatures::CRASH_SIGNATURE),
    get(
        "/api/SignatureFirstDate/",
        READ,
        api::signatures::first_date,
    )
    .doc(&api::signatures::FIRST_DATE),
    post(
        "/api/SignatureFirstDate/",
        READ,
        api::signatures::first_date,
    )
    .reads()
    .doc(&api::signatures::FIRST_DATE_POSTED),
    get(
        "/api/SignatureExplanation/",
        READ,
        api::signatures::explanation,
    )
    .doc(&api::signatures::EXPLANATION),
    get("/api/SignatureLists/", ADMIN, api::signatures::export).doc(&api::signatures::LISTS),
    post("/api/SignatureLists/", ADMIN, api::signatures::import).doc(&api::signatures::IMPORT),
    get(
        "/api/SignatureRevisions/",
        ADMIN,
        api::signatures::revisions,
    )
    .doc(&api::signatures::REVISIONS),
    post("/api/SignaturePreview/", ADMIN, api::signatures::preview)
        .reads()
        .doc(&api::signatures::PREVIEW),
    // Symbols at Tecken's paths. Last in the list, so that pages keep their paths.
    get("/{}/{id}/{}", READ, api::symbol_server::download)
        .free()
        .shared(),
];

/// The route for paths in `http.submit_paths`.
const FURTHER_SUBMIT: Route = submit("/submit", Endpoint::Submit);

/// The same as [`find`], including the configured paths of the collector.
///
/// # Errors
/// As for [`find`].
pub fn find_with(
    submit_paths: &[String],
    method: Method,
    path: &str,
) -> Result<(&'static Route, Vec<String>), WebError> {
    let bare = path.trim_end_matches('/');
    if method == Method::Post && submit_paths.iter().any(|further| further == bare) {
        Ok((&FURTHER_SUBMIT, Vec::new()))
    } else {
        find(method, path)
    }
}

/// Checks the configured paths of the collector.
///
/// # Errors
/// Another route has one of the paths. The message names both.
pub fn check_submit_paths(submit_paths: &[String]) -> Result<(), String> {
    for path in submit_paths {
        if let Some(route) = ROUTES
            .iter()
            .find(|route| captures(route.path, path).is_some())
        {
            return Err(format!(
                "[http] submit_paths contains {path:?}, which is already used by {}; choose another path",
                route.path
            ));
        }
    }
    Ok(())
}

/// The route for a request, and its captured segments, percent-decoded. A path without its final slash
/// matches the route that has one.
///
/// # Errors
/// 404 if no route has this path, 405 if the route has another method, which the message names.
pub fn find(method: Method, path: &str) -> Result<(&'static Route, Vec<String>), WebError> {
    let mut known = None;
    for route in ROUTES {
        let Some(captures) = captures(route.path, path) else {
            continue;
        };
        if route.method == method {
            return Ok((route, captures));
        }
        known = known.or(Some(route.method));
    }
    Err(match known {
        None => WebError::not_found("page not found"),
        Some(Method::Get) => WebError::new(405, "method not allowed; use GET"),
        Some(Method::Post) => WebError::new(405, "method not allowed; use POST"),
        Some(Method::Put) => WebError::new(405, "method not allowed; use PUT"),
    })
}

/// A route with the same first segment as `path`. Below such a path a request would be ambiguous. `None`
/// also for an empty path.
pub fn beginning_like(path: &str) -> Option<&'static str> {
    let first = path.split('/').nth(1)?;
    ROUTES
        .iter()
        .map(|route| route.path)
        .find(|route| route.split('/').nth(1) == Some(first))
}

/// True if a segment can be a debug id, or the id of a program: a build id, a UUID, or the time and size of
/// a Windows program.
pub fn is_symbol_id(segment: &str) -> bool {
    let digits = [
        "elf-buildid-sym-",
        "elf-buildid-",
        "mach-uuid-sym-",
        "mach-uuid-",
    ]
    .iter()
    .find_map(|key| segment.strip_prefix(key))
    .unwrap_or(segment);
    (9..=64).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

fn captures(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut captures = Vec::new();
    let mut segments = path.trim_end_matches('/').split('/');
    for expected in pattern.trim_end_matches('/').split('/') {
        let segment = segments.next()?;
        let is_open = match expected {
            "{}" => !segment.is_empty(),
            "{id}" => is_symbol_id(segment),
            _ => false,
        };
        if is_open {
            captures.push(
                percent_encoding::percent_decode_str(segment)
                    .decode_utf8_lossy()
                    .into_owned(),
            );
        } else if expected != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(captures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_finds_its_route_with_or_without_the_last_slash() {
        for path in ["/search/", "/search", "/report/index/bp-1", "/", ""] {
            assert!(find(Method::Get, path).is_ok(), "{path}");
        }
        let (_, captured) = find(Method::Get, "/report/index/a%20b").expect("a route");
        assert_eq!(captured, ["a b"]);
    }

    #[test]
    fn a_path_in_front_of_all_routes_is_like_none_of_them() {
        assert_eq!(beginning_like("/api"), Some("/api/{}/minidump/"));
        assert_eq!(beginning_like("/search/x"), Some("/search/"));
        assert_eq!(beginning_like("/crashes"), None);
        assert_eq!(beginning_like(""), None);
    }

    #[test]
    fn symbols_lie_at_the_root_where_the_middle_is_an_id() {
        for id in [
            "3249D99D0C4049318610F4E4FB0B69361",
            "5ab38077c000",
            "elf-buildid-c0c0c0c0c0",
        ] {
            let path = format!("/crash.pdb/{id}/crash.sym");
            let (route, captured) = find(Method::Get, &path).expect("a route");
            assert_eq!((route.path, captured[1].as_str()), ("/{}/{id}/{}", id));
        }
        for path in [
            "/crash.pdb/index/crash.sym",
            "/a/12345678/b",
            "/a/xyzxyzxyzxyz/b",
        ] {
            assert_eq!(
                find(Method::Get, path).err().map(|e| e.status),
                Some(404),
                "{path}"
            );
        }
        assert_eq!(
            find(
                Method::Get,
                "/report/index/3249D99D0C4049318610F4E4FB0B69361"
            )
            .map(|(r, _)| r.path)
            .ok(),
            Some("/report/index/{}")
        );
    }

    #[test]
    fn further_paths_of_the_collector_take_none_of_others() {
        let further = ["/post".to_owned(), "/cr/report".to_owned()];
        for path in ["/post", "/post/", "/cr/report"] {
            let (route, _) = find_with(&further, Method::Post, path).expect("a route");
            assert!(matches!(route.handler, Handler::Submit(Endpoint::Submit)));
        }
        assert!(find_with(&further, Method::Get, "/post").is_err());
        assert!(find_with(&further, Method::Post, "/posts").is_err());
        assert_eq!(check_submit_paths(&further), Ok(()));
        for path in [
            "/submit",
            "/search",
            "/home/product/x",
            "/upload/x",
            "/a/123456789/b",
        ] {
            let error = check_submit_paths(&[path.to_owned()]).expect_err(path);
            assert!(error.contains("already used by"), "{error}");
        }
    }

    #[test]
    fn other_paths_and_methods_find_none() {
        let status = |method, path| find(method, path).err().map(|e| e.status);
        assert_eq!(status(Method::Get, "/submit"), Some(405));
        assert_eq!(status(Method::Post, "/search/"), Some(405));
        assert_eq!(status(Method::Get, "/report/index/"), Some(404));
        assert_eq!(status(Method::Get, "/report/index/a/b"), Some(404));
        assert_eq!(status(Method::Get, "/etc/passwd"), Some(404));
    }

    #[test]
    fn what_anybody_may_use_is_the_collector_the_health_urls_and_the_assets() {
        let open: Vec<_> = ROUTES
            .iter()
            .filter(|r| r.needs == OPEN)
            .map(|r| r.path)
            .collect();
        assert_eq!(
            open,
            [
                "/submit",
                "/api/{}/minidump/",
                "/api/{}/envelope/",
                "/api/{}/unreal/{}/",
                "/api/0/",
                "/__heartbeat__",
                "/__lbheartbeat__",
                "/__version__",
                "/metrics",
                "/login/",
                "/login/",
                "/logout/",
                "/robots.txt",
                "/assets/{}/style.css",
                "/assets/{}/icon.svg",
                "/api/NoOp/"
            ]
        );
    }
}
