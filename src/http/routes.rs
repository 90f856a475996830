//! The route table: path, method, required scope, and handler. Only routes in this list are reachable.

use super::{assets, openapi};
use crate::app::App;
use crate::ingest::Endpoint;
use crate::rights::Scope;
use crate::web::{Captures, Method, Request, Response, WebError};
use crate::{api, pages};

pub use super::route::{Audience, Handler, Route};
pub(crate) use super::route::{PlainHandler, UploadHandler};

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
        audience: Audience::People,
        has_key_in_query: false,
        doc: None,
        handler: Handler::Plain(handler),
    }
}

const fn api_get(path: &'static str, needs: Option<Scope>, handler: PlainHandler) -> Route {
    get(path, needs, handler).programs()
}

const fn api_post(path: &'static str, needs: Option<Scope>, handler: PlainHandler) -> Route {
    post(path, needs, handler).programs()
}

const fn post(path: &'static str, needs: Option<Scope>, handler: PlainHandler) -> Route {
    Route {
        method: Method::Post,
        path,
        needs,
        is_paced: true,
        changes: true,
        is_shared: false,
        audience: Audience::People,
        has_key_in_query: false,
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
        audience: Audience::Programs,
        has_key_in_query: false,
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
        audience: Audience::Programs,
        has_key_in_query: false,
        doc: None,
        handler: Handler::Submit(endpoint),
    }
}

fn openapi_json(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    openapi::json(app, request, ROUTES)
}

fn openapi_page(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    openapi::page(app, request, ROUTES)
}

pub const ROUTES: &[Route] = &[
    submit("/submit", Endpoint::Submit),
    // The paths of Sentry's clients. The segment is the number of a project.
    submit("/api/{project}/minidump/", Endpoint::SentryMinidump),
    submit("/api/{project}/envelope/", Endpoint::SentryEnvelope),
    submit("/api/{project}/unreal/{key}/", Endpoint::SentryUnreal),
    // Symbols: upload and download.
    upload(Method::Post, "/upload/", SYMBOLS, api::symbols::upload),
    upload(Method::Put, "/upload/", SYMBOLS, api::symbols::upload),
    upload(Method::Put, "/upload/{name}", SYMBOLS, api::symbols::upload),
    upload(Method::Post, "/symbols", SYMBOLS, api::symbols::upload),
    api_get(
        "/symbols/{file}/{id}/{name}",
        READ,
        api::symbol_server::download,
    )
    .free()
    .shared(),
    api_get(
        "/buildid/{build_id}/{what}",
        READ,
        api::symbol_server::debuginfod,
    )
    .free()
    .shared(),
    api_get("/api/0/", OPEN, api::sentry::info),
    api_get(
        "/api/0/organizations/{organization}/chunk-upload/",
        SYMBOLS,
        api::sentry::options,
    )
    .free(),
    upload(
        Method::Post,
        "/api/0/organizations/{organization}/chunk-upload/",
        SYMBOLS,
        api::sentry::chunks,
    ),
    api_post(
        "/api/0/projects/{organization}/{project}/files/difs/assemble/",
        SYMBOLS,
        api::sentry::assemble,
    )
    .free(),
    api_get(
        "/v1/symbols/{file}/{id_and_verb}",
        READ,
        api::sym_upload::status,
    )
    .free()
    .key_in_query(),
    api_post("/v1/uploads:create", SYMBOLS, api::sym_upload::create)
        .free()
        .key_in_query(),
    upload(
        Method::Put,
        "/v1/uploads/{key_and_verb}",
        SYMBOLS,
        api::sym_upload::put,
    )
    .key_in_query(),
    api_post(
        "/v1/uploads/{key_and_verb}",
        SYMBOLS,
        api::sym_upload::complete,
    )
    .free()
    .key_in_query(),
    api_get(
        "/api/v1/symbols/{file}/{id_and_verb}",
        READ,
        api::sym_upload::status,
    )
    .free()
    .key_in_query(),
    api_post("/api/v1/uploads:create", SYMBOLS, api::sym_upload::create)
        .free()
        .key_in_query(),
    upload(
        Method::Put,
        "/api/v1/uploads/{key_and_verb}",
        SYMBOLS,
        api::sym_upload::put,
    )
    .key_in_query(),
    api_post(
        "/api/v1/uploads/{key_and_verb}",
        SYMBOLS,
        api::sym_upload::complete,
    )
    .free()
    .key_in_query(),
    api_post("/symbolicate/v5", READ, api::symbolicate::v5)
        .reads()
        .shared(),
    // Health.
    api_get("/__heartbeat__", OPEN, api::health::heartbeat).free(),
    api_get("/__lbheartbeat__", OPEN, api::health::lbheartbeat).free(),
    api_get("/__version__", OPEN, api::health::version).free(),
    api_get("/metrics", OPEN, api::health::metrics).free(),
    // Pages.
    get("/", READ, pages::home::home),
    get("/home/product/{product}", READ, pages::product::product),
    get("/topcrashers/", READ, pages::topcrashers::topcrashers),
    get("/trends/", READ, pages::trends::trends),
    get("/trends/urls/", PROTECTED, pages::urls::urls),
    get("/group/{group}", READ, pages::group::redirect),
    get("/signature/", READ, pages::signature::report),
    post("/signature/bugs/attach", ADMIN, pages::bugs::attach),
    post("/signature/bugs/detach", ADMIN, pages::bugs::detach),
    get("/search/", READ, pages::search::search),
    get("/search/feed.atom", READ, pages::search::feed::feed),
    post("/search/save", READ, pages::search::saved::save),
    post("/search/forget", READ, pages::search::saved::remove),
    get("/report/index/{crash_id}", READ, pages::report::report),
    post(
        "/report/index/{crash_id}/reprocess",
        REPROCESS,
        pages::report::reprocess,
    ),
    get(
        "/report/index/{crash_id}/signature",
        READ,
        pages::signature_explanation::explain,
    ),
    get("/signature/alike/", READ, pages::signature_alike::alike),
    get("/signatures/", ADMIN, pages::signature_lists::lists),
    post(
        "/signatures/preview",
        ADMIN,
        pages::signature_lists::preview,
    ),
    post("/signatures/rule", ADMIN, pages::signature_rule::preview),
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
    get("/assets/{version}/style.css", OPEN, assets::style).free(),
    get("/assets/{version}/icon.svg", OPEN, assets::icon).free(),
    // API.
    api_post("/api/Accounts/", ADMIN, api::accounts::command),
    api_get("/api/SuperSearch/", READ, api::supersearch::supersearch)
        .doc(&api::supersearch::SEARCH),
    api_get("/api/SuperSearchFields/", READ, api::supersearch::fields)
        .doc(&api::supersearch::FIELDS),
    api_get(
        "/api/SuperSearchUnredacted/",
        PROTECTED,
        api::supersearch::supersearch,
    )
    .doc(&api::supersearch::UNREDACTED),
    api_get("/api/SearchExport/", READ, api::export::export).doc(&api::export::EXPORT),
    api_get("/api/FieldDescriptions/", READ, api::supersearch::fields)
        .doc(&api::supersearch::FIELDS),
    api_get("/api/CrashVerify/", READ, api::crash::verify).doc(&api::crash::VERIFY),
    api_get("/api/MissingProcessedCrash/", READ, api::crash::awaited).doc(&api::crash::AWAITED),
    api_get("/api/ProductVersions/", READ, api::releases::versions).doc(&api::releases::VERSIONS),
    api_get("/api/VersionString/", READ, api::releases::version_string)
        .doc(&api::releases::VERSION_STRING),
    api_get("/api/ThrottleCounts/", READ, api::throttle::counts).doc(&api::throttle::COUNTS),
    api_get("/api/Jobs/", READ, api::jobs::jobs).doc(&api::jobs::JOBS),
    api_get("/api/Retention/", ADMIN, api::retention::state).doc(&api::retention::RETENTION),
    api_post("/api/Retention/", ADMIN, api::retention::confirm).doc(&api::retention::CONFIRM),
    api_get("/api/NoOp/", OPEN, api::noop::noop).doc(&api::noop::NOOP),
    api_get("/api/openapi.json", READ, openapi_json),
    get("/api/", READ, openapi_page),
    api_get("/api/Group/", READ, api::groups::group).doc(&api::groups::GROUP),
    api_get("/api/Bugs/", READ, api::bugs::of_signatures).doc(&api::bugs::BUGS),
    api_post("/api/Bugs/", READ, api::bugs::of_signatures)
        .reads()
        .doc(&api::bugs::BUGS_POSTED),
    api_get("/api/SignaturesByBugs/", READ, api::bugs::signatures).doc(&api::bugs::SIGNATURES),
    api_get("/api/MissingSymbols/", READ, api::symbol_info::missing)
        .doc(&api::symbol_info::MISSING),
    api_get("/api/Symbols/", READ, api::symbol_info::symbols).doc(&api::symbol_info::SYMBOLS),
    api_get("/api/CrashState/", READ, api::crash::state).doc(&api::crash::STATE),
    api_get("/api/ProcessedCrash/", READ, api::crash::processed).doc(&api::crash::PROCESSED),
    api_get("/api/RawCrash/", READ, api::crash::raw).doc(&api::crash::RAW),
    api_post("/api/Reprocessing/", REPROCESS, api::crash::reprocessing)
        .doc(&api::crash::REPROCESSING),
    api_post(
        "/api/CrashSignature/",
        READ,
        api::signatures::crash_signature,
    )
    .reads()
    .doc(&api::signatures::CRASH_SIGNATURE),
    api_get(
        "/api/SignatureFirstDate/",
        READ,
        api::signatures::first_date,
    )
    .doc(&api::signatures::FIRST_DATE),
    api_post(
        "/api/SignatureFirstDate/",
        READ,
        api::signatures::first_date,
    )
    .reads()
    .doc(&api::signatures::FIRST_DATE_POSTED),
    api_get(
        "/api/SignatureExplanation/",
        READ,
        api::signatures::explanation,
    )
    .doc(&api::signatures::EXPLANATION),
    api_get("/api/SignatureLists/", ADMIN, api::signatures::export).doc(&api::signatures::LISTS),
    api_post("/api/SignatureLists/", ADMIN, api::signatures::import).doc(&api::signatures::IMPORT),
    api_get(
        "/api/SignatureRevisions/",
        ADMIN,
        api::signatures::revisions,
    )
    .doc(&api::signatures::REVISIONS),
    api_post("/api/SignaturePreview/", ADMIN, api::signatures::preview)
        .reads()
        .doc(&api::signatures::PREVIEW),
    // Symbols at Tecken's paths. Last in the list, so that pages keep their paths.
    api_get(
        "/{file}/{id:symbol}/{name}",
        READ,
        api::symbol_server::download,
    )
    .free()
    .shared(),
];

/// A captured segment whose name ends so must be the id of a program or debug file.
const SYMBOL: &str = ":symbol";

/// The route for paths in `http.submit_paths`.
const FURTHER_SUBMIT: Route = submit("/submit", Endpoint::Submit);

/// The same as [`find`], including the configured paths of the collector.
///
/// # Errors
/// As for [`find`].
pub(crate) fn find_with(
    submit_paths: &[String],
    method: Method,
    path: &str,
) -> Result<(&'static Route, Captures), WebError> {
    let bare = path.trim_end_matches('/');
    if method == Method::Post && submit_paths.iter().any(|further| further == bare) {
        Ok((&FURTHER_SUBMIT, Captures::default()))
    } else {
        find(method, path)
    }
}

/// Checks the configured paths of the collector.
///
/// # Errors
/// Another route has one of the paths. The message names both.
pub(crate) fn check_submit_paths(submit_paths: &[String]) -> Result<(), String> {
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
pub fn find(method: Method, path: &str) -> Result<(&'static Route, Captures), WebError> {
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
pub(crate) fn beginning_like(path: &str) -> Option<&'static str> {
    let first = path.split('/').nth(1)?;
    ROUTES
        .iter()
        .map(|route| route.path)
        .find(|route| route.split('/').nth(1) == Some(first))
}

/// True if a segment can be a debug id, or the id of a program: a build id, a UUID, or the time and size of
/// a Windows program.
pub(crate) fn is_symbol_id(segment: &str) -> bool {
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

/// Who uses a path. A path without a route counts as used by those who use its neighbours.
pub(crate) fn audience(method: Option<Method>, path: &str) -> Audience {
    let by_path = |route: &&Route| captures(route.path, path).is_some();
    let exact = ROUTES
        .iter()
        .find(|route| Some(route.method) == method && by_path(route));
    let neighbour = || {
        let first = path.split('/').nth(1)?;
        let has_first = |route: &&Route| route.path.split('/').nth(1) == Some(first);
        ROUTES.iter().find(has_first)
    };
    exact
        .or_else(|| ROUTES.iter().find(by_path))
        .or_else(neighbour)
        .map_or(Audience::People, |route| route.audience)
}

fn captures(pattern: &'static str, path: &str) -> Option<Captures> {
    let mut captures = Captures::default();
    let mut segments = path.trim_end_matches('/').split('/');
    for expected in pattern.trim_end_matches('/').split('/') {
        let segment = segments.next()?;
        let name = expected
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'));
        let Some(name) = name else {
            if expected == segment {
                continue;
            }
            return None;
        };
        let (name, must_be_id) = match name.strip_suffix(SYMBOL) {
            Some(name) => (name, true),
            None => (name, false),
        };
        if segment.is_empty() || (must_be_id && !is_symbol_id(segment)) {
            return None;
        }
        let text = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
        captures.push(name, text.into_owned());
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
        assert_eq!(captured.get("crash_id"), "a b");
    }

    #[test]
    fn a_path_in_front_of_all_routes_is_like_none_of_them() {
        assert_eq!(beginning_like("/api"), Some("/api/{project}/minidump/"));
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
            assert_eq!(route.path, "/{file}/{id:symbol}/{name}");
            assert_eq!(captured.get("id"), id);
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
            Some("/report/index/{crash_id}")
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
                "/api/{project}/minidump/",
                "/api/{project}/envelope/",
                "/api/{project}/unreal/{key}/",
                "/api/0/",
                "/__heartbeat__",
                "/__lbheartbeat__",
                "/__version__",
                "/metrics",
                "/login/",
                "/login/",
                "/logout/",
                "/robots.txt",
                "/assets/{version}/style.css",
                "/assets/{version}/icon.svg",
                "/api/NoOp/"
            ]
        );
    }
}
