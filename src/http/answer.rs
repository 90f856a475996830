//! Answers one request: finds its route, identifies the caller, and runs the handler.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::HeaderMap;

use super::body::{self, Outgoing, ReadError};
use super::connections::{Connection, Stage};
use super::listener::From;
use super::reply::send;
use super::routes::{self, Audience, Handler, Route};
use super::shared::Shared;
use super::{compress, cors, head, submit, upload};
use crate::access;
use crate::addresses::PublicUrl;
use crate::app::App;
use crate::ingest::{Endpoint, SubmitHead};
use crate::limits;
use crate::pages;
use crate::web::{
    Arrival, Caller, ListenerKind, Method, Params, Request, Response, WebError, accepts_gzip,
};

/// The answer to a request. There is always one, also after an error.
pub(crate) async fn respond(
    shared: &Arc<Shared>,
    from: From,
    connection: &Connection,
    request: hyper::Request<Incoming>,
) -> hyper::Response<Outgoing> {
    if let Some(refused) = request.headers().get(head::REFUSED_HEADER) {
        let (status, why) = head::refusal(refused.to_str().unwrap_or_default());
        tracing::info!(status, why, "a request head was rejected");
        let config = shared.app.config.get();
        return send(
            &config.http,
            Response::text(status, format!("{why}\n")),
            false,
            None,
        );
    }
    let config = shared.app.config.get();
    let path = own_path(&config.http.public_url, request.uri().path());
    if request.method() == hyper::Method::OPTIONS
        && let Some(response) = cors::preflight(&config, path, request.headers())
    {
        return send(&config.http, response, false, None);
    }
    let head_only = request.method() == hyper::Method::HEAD;
    let accepted = request.headers().get(hyper::header::ACCEPT_ENCODING);
    let accepted = accepted.and_then(|value| value.to_str().ok());
    let gzip =
        compress::is_allowed(request.method()).then(|| accepts_gzip(accepted.unwrap_or_default()));
    let method = method_of(request.method());
    let route = method.and_then(|method| routes::find(method, path).ok());
    let origin = route.and_then(|(route, _)| cors::allowed(&config, route, request.headers()));
    let response = match answer(shared, from, connection, request).await {
        Ok(response) => response,
        Err(response) => response,
    };
    let response = match origin {
        Some(origin) => cors::share(response, origin),
        None => response,
    };
    send(&config.http, response, head_only, gzip)
}

/// The answer of a route, or the answer that explains the error.
async fn answer(
    shared: &Arc<Shared>,
    from: From,
    connection: &Connection,
    request: hyper::Request<Incoming>,
) -> Result<Response, Response> {
    let (head, mut incoming) = request.into_parts();
    let config = shared.app.config.get();
    let path = own_path(&config.http.public_url, head.uri.path());
    let exchange = Exchange {
        shared,
        connection,
        path,
        audience: routes::audience(method_of(&head.method), path),
    };
    let refuse = |error: WebError| exchange.refuse(&error);
    let request = request_of(&shared.app, from, path, &head).map_err(refuse)?;
    let submit_paths = &config.http.submit_paths.0;
    let found = routes::find_with(submit_paths, request.method, path);
    let (route, captures) = found.map_err(refuse)?;
    check_open(&shared.app, from, route).map_err(refuse)?;
    let is_shared = cors::allowed(&config, route, &head.headers).is_some();
    let admitted = exchange.admit(route, request, is_shared, &mut incoming);
    let mut request = admitted.await?;
    match route.handler {
        Handler::Submit(endpoint) => {
            let head = submit_head(endpoint, request);
            Ok(submit::submit(shared, connection, head, incoming).await)
        }
        Handler::Upload(handler) => {
            let spilled = upload::spill(shared, connection, &request, &mut incoming).await;
            let (body, _place) = spilled.map_err(refuse)?;
            let work = move |app: &App| handler(app, &request, &captures, body);
            exchange.run(None, work).await
        }
        Handler::Plain(handler) => {
            if request.method.changes() {
                let body = small_body(&mut incoming, connection).await;
                request.body = body.map_err(refuse)?;
            }
            let query = request.query.clone();
            let work = move |app: &App| handler(app, &request, &captures);
            exchange.run(Some(&query), work).await
        }
    }
}

/// The request without its body. The caller is not known yet.
fn request_of(
    app: &App,
    from: From,
    path: &str,
    head: &hyper::http::request::Parts,
) -> Result<Request, WebError> {
    let method = method_of(&head.method)
        .ok_or_else(|| WebError::new(405, format!("unknown method {}", head.method)))?;
    let headers = readable(&head.headers);
    if headers.iter().filter(|(name, _)| name == "host").count() > 1 {
        return Err(WebError::new(400, "the request has two Host headers"));
    }
    Ok(Request {
        method,
        path: path.to_owned(),
        query: Params::parse(head.uri.query().unwrap_or_default()),
        arrival: arrival(app, from, &headers),
        headers,
        caller: Caller::anonymous(),
        body: Vec::new(),
    })
}

/// Checks that the server answers this route on this port, and now.
fn check_open(app: &App, from: From, route: &Route) -> Result<(), WebError> {
    if from.listener == ListenerKind::Collector && !route.is_for_collector() {
        let why = "this port only accepts crash reports (POST /submit); the pages are on the main port, [http] listen";
        return Err(WebError::not_found(why));
    }
    if app.read_only && route.changes {
        let why = "this server is read-only: it accepts no reports and no changes";
        return Err(WebError::new(503, why));
    }
    Ok(())
}

fn submit_head(endpoint: Endpoint, request: Request) -> SubmitHead {
    let length = request.header("content-length");
    SubmitHead {
        endpoint,
        content_type: request.header("content-type").map(str::to_owned),
        content_encoding: request.header("content-encoding").map(str::to_owned),
        content_length: length.and_then(|length| length.parse().ok()),
        user_agent: request.header("user-agent").map(str::to_owned),
        query: request.query,
        peer: request.arrival.client,
    }
}

/// The body of a request whose handler wants it in memory.
async fn small_body(incoming: &mut Incoming, connection: &Connection) -> Result<Vec<u8>, WebError> {
    match body::read_small(incoming, connection).await {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => {
            let max = limits::SMALL_BODY_BYTES_MAX;
            let why = format!("the body is larger than {max} bytes");
            Err(WebError::new(413, why))
        }
        Err(ReadError::TimedOut) => Err(WebError::new(408, "the body arrived too slowly")),
        Err(ReadError::Incomplete(why)) => Err(WebError::new(400, why)),
    }
}

/// A request whose answer is being made.
struct Exchange<'a> {
    shared: &'a Arc<Shared>,
    connection: &'a Connection,
    path: &'a str,
    audience: Audience,
}

impl Exchange<'_> {
    fn refuse(&self, error: &WebError) -> Response {
        error_response(self.audience, error)
    }

    /// The request with its caller, if the caller may send it. Otherwise the answer.
    async fn admit(
        &self,
        route: &'static Route,
        mut request: Request,
        is_shared: bool,
        incoming: &mut Incoming,
    ) -> Result<Request, Response> {
        // Routes that accept reports or report health need no caller, and must not wait for the store.
        let may_change = request.method.changes() && matches!(route.handler, Handler::Plain(_));
        if route.needs.is_none() && !route.is_paced && !may_change {
            return Ok(request);
        }
        let app = self.shared.app.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let checked = check_access(&app, route, &mut request, is_shared);
            (request, checked)
        });
        let (request, checked) = checked.await.map_err(|_| self.panicked())?;
        match checked {
            Ok(None) => Ok(request),
            Ok(Some(response)) => Err(response),
            Err(error) => {
                // A client that is still sending when the connection closes never sees the answer. A client
                // that sent `Expect: 100-continue` has not sent its body.
                if request.header("expect").is_none() {
                    body::drain(incoming).await;
                }
                Err(refusal_response(self.audience, &request, &error))
            }
        }
    }

    /// Runs a handler. An error without a value gets the value of its parameter in `query`.
    async fn run(
        &self,
        query: Option<&Params>,
        work: impl FnOnce(&App) -> Result<Response, WebError> + Send + 'static,
    ) -> Result<Response, Response> {
        self.connection.enter(Stage::Working);
        let app = self.shared.app.clone();
        let ran = tokio::task::spawn_blocking(move || work(&app)).await;
        let result = ran.map_err(|_| self.panicked())?;
        result.map_err(|mut error| {
            if let (Some(field), None, Some(query)) = (&error.field, &error.value, query) {
                error.value = query.get(field).map(Into::into);
            }
            self.refuse(&error)
        })
    }

    fn panicked(&self) -> Response {
        self.shared.app.metrics.panics.add(1);
        tracing::error!(path = self.path, "a handler panicked");
        let why = "internal error; see the server log";
        self.refuse(&WebError::new(500, why))
    }
}

fn method_of(method: &hyper::Method) -> Option<Method> {
    match *method {
        hyper::Method::GET | hyper::Method::HEAD => Some(Method::Get),
        hyper::Method::POST => Some(Method::Post),
        hyper::Method::PUT => Some(Method::Put),
        _ => None,
    }
}

/// The path in the form of the route table. A proxy may pass on the path of `public_url`, or remove it.
fn own_path<'a>(public_url: &PublicUrl, path: &'a str) -> &'a str {
    let base = public_url.base_path();
    match path.strip_prefix(base) {
        Some("") if !base.is_empty() => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

fn arrival(app: &App, from: From, headers: &[(String, String)]) -> Arrival {
    let From {
        listener,
        peer,
        is_tls,
    } = from;
    let config = app.config.get();
    let proxies = &config.http.trusted_proxies;
    let forwarded = headers.iter().filter(|(name, _)| name == "x-forwarded-for");
    Arrival {
        listener,
        is_tls,
        is_proxied: proxies.trusts(peer),
        client: proxies.client(peer, forwarded.map(|(_, value)| value.as_str())),
    }
}

/// Identifies the caller and checks its rights. Returns the answer if the URL contained the local key.
fn check_access(
    app: &App,
    route: &Route,
    request: &mut Request,
    is_shared: bool,
) -> Result<Option<Response>, WebError> {
    if request.method == Method::Get && route.audience == Audience::People {
        let let_in = pages::login::by_key(app, request)?;
        if let_in.is_some() {
            return Ok(let_in);
        }
    }
    if route.needs.is_some() || route.is_paced {
        request.caller = access::identify(app, request, route.has_key_in_query)?;
    }
    if route.is_paced {
        access::pace(app, request)?;
    }
    if let Some(scope) = route.needs
        && !request.may(scope)
    {
        return Err(access::refusal(app, &request.caller, scope)?);
    }
    let public_url = &app.config.get().http.public_url;
    if request.method.changes()
        && !is_shared
        && let Some(why) = access::origin::foreign(request, public_url)
    {
        let why = format!("the request comes from another site: {why}");
        return Err(WebError::forbidden(why));
    }
    Ok(None)
}

/// The answer for a caller without the required right. People get a login form if that helps. Programs get
/// the reason, and a challenge if they sent no token.
fn refusal_response(audience: Audience, request: &Request, error: &WebError) -> Response {
    let is_program = audience == Audience::Programs;
    if error.status != 401 {
        return error_response(audience, error);
    }
    let accepts = request.header("accept").unwrap_or_default();
    if !is_program && accepts.contains("text/html") {
        return pages::login::ask(request, error);
    }
    if is_program && is_upload(&request.path) {
        // Tecken's clients understand this status. They send their credentials without a challenge.
        return WebError::forbidden(error.message.as_str()).to_json();
    }
    access::challenge(&error.message).to_json()
}

/// True for paths to which clients upload symbols, as with Tecken.
fn is_upload(path: &str) -> bool {
    path.trim_end_matches('/') == "/upload" || path.starts_with("/upload/")
}

fn error_response(audience: Audience, error: &WebError) -> Response {
    match audience {
        Audience::Programs => error.to_json(),
        Audience::People => pages::error::page(error),
    }
}

fn readable(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect()
}
