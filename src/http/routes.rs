//! The route table: path, method, the role that it needs, and its handler. Nothing is reachable
//! that is not in this list.

use std::fs::File;

use super::assets;
use crate::web::{App, Method, Request, Response, Role, WebError};
use crate::{api, pages};

/// Sees a request with its body in memory, and the path segments that the route left open.
pub type PlainHandler = fn(&App, &Request, &[String]) -> Result<Response, WebError>;

/// Sees a request whose body lies in a file, from its start.
pub type UploadHandler = fn(&App, &Request, &[String], File) -> Result<Response, WebError>;

#[derive(Clone, Copy, Debug)]
pub enum Handler {
    /// Streams its body: the collector.
    Submit,
    /// Sees a body of any size in a file.
    Upload(UploadHandler),
    Plain(PlainHandler),
}

#[derive(Debug)]
pub struct Route {
    pub method: Method,
    /// Segments between slashes; `{}` stands for any one of them.
    pub path: &'static str,
    /// The least role that may use it.
    pub role: Role,
    pub handler: Handler,
}

const fn get(path: &'static str, role: Role, handler: PlainHandler) -> Route {
    Route {
        method: Method::Get,
        path,
        role,
        handler: Handler::Plain(handler),
    }
}

const fn post(path: &'static str, role: Role, handler: PlainHandler) -> Route {
    Route {
        method: Method::Post,
        path,
        role,
        handler: Handler::Plain(handler),
    }
}

const fn upload(method: Method, path: &'static str, role: Role, handler: UploadHandler) -> Route {
    Route {
        method,
        path,
        role,
        handler: Handler::Upload(handler),
    }
}

pub const ROUTES: &[Route] = &[
    Route {
        method: Method::Post,
        path: "/submit",
        role: Role::Anonymous,
        handler: Handler::Submit,
    },
    // Symbols, in and out.
    upload(Method::Post, "/upload/", Role::Admin, api::symbols::upload),
    upload(Method::Put, "/upload/", Role::Admin, api::symbols::upload),
    upload(Method::Put, "/upload/{}", Role::Admin, api::symbols::upload),
    upload(Method::Post, "/symbols", Role::Admin, api::symbols::upload),
    get(
        "/symbols/{}/{}/{}",
        Role::Viewer,
        api::symbol_server::download,
    ),
    get(
        "/buildid/{}/{}",
        Role::Viewer,
        api::symbol_server::debuginfod,
    ),
    get(
        "/api/0/organizations/{}/chunk-upload/",
        Role::Admin,
        api::sentry::options,
    ),
    upload(
        Method::Post,
        "/api/0/organizations/{}/chunk-upload/",
        Role::Admin,
        api::sentry::chunks,
    ),
    post(
        "/api/0/projects/{}/{}/files/difs/assemble/",
        Role::Admin,
        api::sentry::assemble,
    ),
    get("/v1/symbols/{}/{}", Role::Viewer, api::sym_upload::status),
    post("/v1/uploads:create", Role::Admin, api::sym_upload::create),
    upload(
        Method::Put,
        "/v1/uploads/{}",
        Role::Admin,
        api::sym_upload::put,
    ),
    post("/v1/uploads/{}", Role::Admin, api::sym_upload::complete),
    get(
        "/api/v1/symbols/{}/{}",
        Role::Viewer,
        api::sym_upload::status,
    ),
    post(
        "/api/v1/uploads:create",
        Role::Admin,
        api::sym_upload::create,
    ),
    upload(
        Method::Put,
        "/api/v1/uploads/{}",
        Role::Admin,
        api::sym_upload::put,
    ),
    post("/api/v1/uploads/{}", Role::Admin, api::sym_upload::complete),
    post("/symbolicate/v5", Role::Viewer, api::symbolicate::v5),
    // Health.
    get("/__heartbeat__", Role::Anonymous, api::health::heartbeat),
    get(
        "/__lbheartbeat__",
        Role::Anonymous,
        api::health::lbheartbeat,
    ),
    get("/__version__", Role::Anonymous, api::health::version),
    get("/metrics", Role::Anonymous, api::health::metrics),
    // Pages.
    get("/", Role::Viewer, pages::home::home),
    get("/home/product/{}", Role::Viewer, pages::product::product),
    get(
        "/topcrashers/",
        Role::Viewer,
        pages::topcrashers::topcrashers,
    ),
    get("/trends/", Role::Viewer, pages::trends::trends),
    get("/trends/urls/", Role::Protected, pages::urls::urls),
    get("/signature/", Role::Viewer, pages::signature::report),
    post("/signature/bugs/attach", Role::Admin, pages::bugs::attach),
    post("/signature/bugs/detach", Role::Admin, pages::bugs::detach),
    get("/search/", Role::Viewer, pages::search::search),
    get("/report/index/{}", Role::Protected, pages::report::report),
    post(
        "/report/index/{}/reprocess",
        Role::Admin,
        pages::report::reprocess,
    ),
    get(
        "/report/index/{}/signature",
        Role::Protected,
        pages::explain::explain,
    ),
    get("/signatures/", Role::Admin, pages::lists::lists),
    post("/signatures/preview", Role::Admin, pages::lists::preview),
    post("/signatures/apply", Role::Admin, pages::lists::apply),
    post("/signatures/restore", Role::Admin, pages::lists::restore),
    get("/symbols/", Role::Viewer, pages::symbols::symbols),
    post("/symbols/pin", Role::Admin, pages::symbols::pin),
    post("/symbols/unpin", Role::Admin, pages::symbols::unpin),
    get("/status/", Role::Viewer, pages::status::status),
    get(
        "/about/throttling/",
        Role::Viewer,
        pages::throttling::throttling,
    ),
    get("/assets/{}/style.css", Role::Anonymous, assets::style),
    get("/assets/{}/icon.svg", Role::Anonymous, assets::icon),
    // API.
    get(
        "/api/SuperSearch/",
        Role::Viewer,
        api::supersearch::supersearch,
    ),
    get(
        "/api/SuperSearchFields/",
        Role::Viewer,
        api::supersearch::fields,
    ),
    get("/api/Bugs/", Role::Viewer, api::bugs::of_signatures),
    post("/api/Bugs/", Role::Viewer, api::bugs::of_signatures),
    get(
        "/api/SignaturesByBugs/",
        Role::Viewer,
        api::bugs::signatures,
    ),
    get(
        "/api/MissingSymbols/",
        Role::Viewer,
        api::symbol_info::missing,
    ),
    get("/api/Symbols/", Role::Viewer, api::symbol_info::symbols),
    get("/api/CrashState/", Role::Viewer, api::crash::state),
    get(
        "/api/ProcessedCrash/",
        Role::Protected,
        api::crash::processed,
    ),
    get("/api/RawCrash/", Role::Protected, api::crash::raw),
    post("/api/Reprocessing/", Role::Admin, api::crash::reprocessing),
    post(
        "/api/CrashSignature/",
        Role::Viewer,
        api::signatures::crash_signature,
    ),
    get(
        "/api/SignatureFirstDate/",
        Role::Viewer,
        api::signatures::first_date,
    ),
    post(
        "/api/SignatureFirstDate/",
        Role::Viewer,
        api::signatures::first_date,
    ),
    get(
        "/api/SignatureExplanation/",
        Role::Protected,
        api::signatures::explanation,
    ),
    get("/api/SignatureLists/", Role::Admin, api::signatures::export),
    post("/api/SignatureLists/", Role::Admin, api::signatures::import),
    get(
        "/api/SignatureRevisions/",
        Role::Admin,
        api::signatures::revisions,
    ),
    post(
        "/api/SignaturePreview/",
        Role::Admin,
        api::signatures::preview,
    ),
];

/// The route for a request, and its captures, percent-decoded. A path without its final slash
/// finds the route that has one.
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
        None => WebError::not_found("there is nothing under this address"),
        Some(Method::Get) => WebError::new(405, "this address takes GET"),
        Some(Method::Post) => WebError::new(405, "this address takes POST"),
        Some(Method::Put) => WebError::new(405, "this address takes PUT"),
    })
}

fn captures(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut captures = Vec::new();
    let mut segments = path.trim_end_matches('/').split('/');
    for expected in pattern.trim_end_matches('/').split('/') {
        let segment = segments.next()?;
        if expected == "{}" && !segment.is_empty() {
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
            .filter(|r| r.role == Role::Anonymous)
            .map(|r| r.path)
            .collect();
        assert_eq!(
            open,
            [
                "/submit",
                "/__heartbeat__",
                "/__lbheartbeat__",
                "/__version__",
                "/metrics",
                "/assets/{}/style.css",
                "/assets/{}/icon.svg"
            ]
        );
    }
}
