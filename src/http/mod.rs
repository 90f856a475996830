//! The listener: the only place with hyper, tokio and async functions.
//!
//! A request takes these steps: [`head`] (one form for every request head), hyper's parser with bounds and
//! time-outs, the route table of [`routes`], who calls, and then either [`submit`], which
//! streams, or a handler on a blocking thread, which sees only plain requests. Every answer gets
//! the same security headers.

mod assets;
mod body;
mod cors;
pub mod head;
mod openapi;
pub mod routes;
mod shim;
mod submit;
mod upload;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::access;
use crate::ingest::SubmitHead;
use crate::limits;
use crate::pages;
use crate::web::{App, Body, Caller, Method, Params, Request, Response, WebError};
use body::{Outgoing, ReadError};
use routes::{Handler, Route};

/// Threads that move bytes; handlers and commits have others.
const IO_THREADS: usize = 2;
/// Handlers and commits at once.
const BLOCKING_THREADS_MAX: usize = 256;
/// Answers that change with the program alone.
const CACHE_FOREVER: &str = "public, max-age=31536000, immutable";

/// The question for a password, which is a token.
const BASIC: &str = "Basic realm=\"crashkeep: a token is the password\"";

/// No script, no inline style, nothing from elsewhere, no frame around us.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// A listening server. Dropping it without [`Server::stop`] cuts its connections.
pub struct Server {
    runtime: Runtime,
    stop: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
    /// With the port that the system chose, where 0 was asked for.
    pub address: SocketAddr,
}

struct Shared {
    app: Arc<App>,
    address: SocketAddr,
    /// Memory that reports on their way in hold together.
    intake: submit::Budget,
    /// Places for uploads of symbols.
    uploads: Semaphore,
}

impl Server {
    pub fn start(app: Arc<App>, address: SocketAddr) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(IO_THREADS)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("http")
            .enable_io()
            .enable_time()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("cannot listen on {address}: {e}; choose another with --listen"),
            )
        })?;
        let address = listener.local_addr()?;
        let (stop, stopping) = watch::channel(false);
        let shared = Arc::new(Shared {
            app,
            address,
            intake: submit::Budget::default(),
            uploads: Semaphore::new(limits::UPLOADS_MAX),
        });
        let accepting = runtime.spawn(accept(listener, shared, stopping));
        Ok(Self {
            runtime,
            stop,
            accepting,
            address,
        })
    }

    /// Closes the listener, lets requests under way end for at most `grace`, then cuts the rest.
    pub fn stop(self, grace: Duration) {
        let _ = self.stop.send(true);
        let ended = self
            .runtime
            .block_on(async { tokio::time::timeout(grace, self.accepting).await });
        if ended.is_err() {
            tracing::warn!("connections were cut that had not ended in time");
        }
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while let Some(ended) = connections.try_join_next() {
            if ended.is_err_and(|error| error.is_panic()) {
                shared.app.metrics.panics.add(1);
                tracing::error!("a connection's task panicked");
            }
        }
        let accepted = tokio::select! {
            _ = stopping.changed() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: existing connections must end first.
                tracing::error!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let (shared, stopping) = (shared.clone(), stopping.clone());
        connections.spawn(async move {
            serve(stream, peer, shared, stopping).await;
            drop(place);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    mut stopping: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let stream = shim::HeadShim::new(stream);
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(respond(&shared, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(limits::HEAD_SECONDS_MAX))
        .max_headers(limits::HEADERS_MAX)
        .max_buf_size(limits::HEAD_BYTES_MAX)
        // Crashpad matches `Content-Length` by case.
        .title_case_headers(true)
        // Some clients close their side when they have sent everything.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn respond(
    shared: &Arc<Shared>,
    peer: SocketAddr,
    request: hyper::Request<Incoming>,
) -> hyper::Response<Outgoing> {
    if let Some(refused) = request.headers().get(head::REFUSED_HEADER) {
        let (status, why) = head::refusal(refused.to_str().unwrap_or_default());
        tracing::info!(status, why, "a request head was refused");
        return send(Response::text(status, format!("{why}\n")), false);
    }
    let config = shared.app.config.get();
    let path = request.uri().path();
    if request.method() == hyper::Method::OPTIONS
        && let Some(response) = cors::preflight(&config, path, request.headers())
    {
        return send(response, false);
    }
    let head_only = request.method() == hyper::Method::HEAD;
    let method = method_of(request.method());
    let route = method.and_then(|method| routes::find(method, path).ok());
    let origin = route.and_then(|(route, _)| cors::allowed(&config, route, request.headers()));
    let response = match answer(shared, peer, request).await {
        Ok(response) => response,
        Err(response) => response,
    };
    let response = match origin {
        Some(origin) => cors::share(response, origin),
        None => response,
    };
    send(response, head_only)
}

/// The answer of a route, or the answer that says why there is none.
async fn answer(
    shared: &Arc<Shared>,
    peer: SocketAddr,
    request: hyper::Request<Incoming>,
) -> Result<Response, Response> {
    let (head, mut incoming) = request.into_parts();
    let path = head.uri.path().to_owned();
    let headers = readable(&head.headers);
    let refuse = |error: WebError| error_response(&path, &error);
    let Some(method) = method_of(&head.method) else {
        let why = format!("method {} is not known here", head.method);
        return Err(refuse(WebError::new(405, why)));
    };
    let query = Params::parse(head.uri.query().unwrap_or_default());
    let mut request = Request {
        method,
        path: path.clone(),
        query,
        headers,
        peer: Some(peer.ip()),
        caller: Caller::anonymous(),
        body: Vec::new(),
    };
    if request
        .headers
        .iter()
        .filter(|(name, _)| name == "host")
        .count()
        > 1
    {
        return Err(refuse(WebError::new(
            400,
            "the request has two Host headers",
        )));
    }
    let config = shared.app.config.get();
    let submit_paths = &config.http.submit_paths.0;
    let (route, captures) = routes::find_with(submit_paths, method, &path).map_err(refuse)?;
    let is_shared = cors::allowed(&config, route, &head.headers).is_some();
    if shared.app.read_only && route.changes {
        let why =
            "this server shows a data directory read-only: it takes no reports and changes nothing";
        return Err(refuse(WebError::new(503, why)));
    }
    // Whoever asks for reports to be taken or for health needs no name, nor a store that answers.
    if route.needs.is_some() || route.is_paced {
        // A proxy's way of asking: its target counts, not the Host header.
        let is_for_us = head.uri.host().is_none_or(access::names_loopback);
        let checked = check_access(shared, route, &mut request, is_for_us, is_shared);
        if let Err(error) = checked {
            // A client that is still sending when the connection closes never sees the answer.
            // One that waits for our word sends nothing.
            if request.header("expect").is_none() {
                body::drain(&mut incoming).await;
            }
            return Err(refusal_response(&request, &error));
        }
    }
    let handler = match route.handler {
        Handler::Submit(endpoint) => {
            let submit_head = SubmitHead {
                endpoint,
                content_type: request.header("content-type").map(str::to_owned),
                content_encoding: request.header("content-encoding").map(str::to_owned),
                content_length: request
                    .header("content-length")
                    .and_then(|v| v.parse().ok()),
                user_agent: request.header("user-agent").map(str::to_owned),
                query: request.query,
                peer: request.peer,
            };
            return Ok(submit::submit(&shared.app, &shared.intake, submit_head, incoming).await);
        }
        Handler::Upload(handler) => {
            let spilled = upload::spill(shared, &request, &mut incoming).await;
            let (body, place) = spilled.map_err(refuse)?;
            let app = shared.app.clone();
            let ran = tokio::task::spawn_blocking(move || handler(&app, &request, &captures, body));
            let ran = ran.await;
            drop(place);
            return ended(shared, &path, None, ran);
        }
        Handler::Plain(handler) => handler,
    };
    if method.changes() {
        request.body = match body::read_small(&mut incoming, limits::SMALL_BODY_BYTES_MAX).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                let why = format!(
                    "the body is larger than {} bytes",
                    limits::SMALL_BODY_BYTES_MAX
                );
                return Err(refuse(WebError::new(413, why)));
            }
            Err(ReadError::TimedOut) => {
                return Err(refuse(WebError::new(408, "the body came too slowly")));
            }
            Err(ReadError::Incomplete(why)) => return Err(refuse(WebError::new(400, why))),
        };
    }
    let app = shared.app.clone();
    let query = request.query.clone();
    let ran = tokio::task::spawn_blocking(move || handler(&app, &request, &captures)).await;
    ended(shared, &path, Some(&query), ran)
}

fn method_of(method: &hyper::Method) -> Option<Method> {
    match *method {
        hyper::Method::GET | hyper::Method::HEAD => Some(Method::Get),
        hyper::Method::POST => Some(Method::Post),
        hyper::Method::PUT => Some(Method::Put),
        _ => None,
    }
}

/// What a handler answered, or that it panicked. An error tells the value of its parameter.
fn ended(
    shared: &Shared,
    path: &str,
    query: Option<&Params>,
    ran: Result<Result<Response, WebError>, tokio::task::JoinError>,
) -> Result<Response, Response> {
    match ran {
        Ok(result) => result.map_err(|mut error| {
            if let (Some(field), None, Some(query)) = (&error.field, &error.value, query) {
                error.value = query.get(field).map(Into::into);
            }
            error_response(path, &error)
        }),
        Err(_) => {
            shared.app.metrics.panics.add(1);
            tracing::error!(path, "a handler panicked");
            let why = "the server met a fault of its own; it is in its log";
            Err(error_response(path, &WebError::new(500, why)))
        }
    }
}

fn check_access(
    shared: &Shared,
    route: &Route,
    request: &mut Request,
    is_for_us: bool,
    is_shared: bool,
) -> Result<(), WebError> {
    let app = &shared.app;
    request.caller = access::identify(app, request, shared.address, is_for_us)?;
    if route.is_paced {
        access::pace(app, request)?;
    }
    if let Some(scope) = route.needs
        && !request.may(scope)
    {
        let caller = &request.caller;
        return Err(access::refusal(app, caller, scope, shared.address)?);
    }
    if request.method.changes() && !is_shared && access::is_cross_site(request) {
        return Err(WebError::forbidden(
            "the request comes from a page of another site",
        ));
    }
    Ok(())
}

/// What somebody gets who may not do what they asked for: people a form to log in, where that
/// helps, feed readers and the like the question for a password, programs the reason.
fn refusal_response(request: &Request, error: &WebError) -> Response {
    if error.status != 401 {
        return error_response(&request.path, error);
    }
    if is_for_programs(&request.path) {
        // The status that Socorro's tools know.
        let forbidden = WebError::forbidden(error.message.as_str());
        return error_response(&request.path, &forbidden);
    }
    let accepts = request.header("accept").unwrap_or_default();
    match accepts.contains("text/html") {
        true => pages::login::ask(request, error),
        false => {
            let challenge = error.clone();
            let challenge = challenge.with("www-authenticate", BASIC.to_owned());
            challenge.to_json()
        }
    }
}

fn error_response(path: &str, error: &WebError) -> Response {
    match is_for_programs(path) {
        true => error.to_json(),
        false => pages::error::page(error),
    }
}

/// Whether programs use this address, to whom JSON says more than a page.
fn is_for_programs(path: &str) -> bool {
    let by_programs = [
        "/api/",
        "/__",
        "/upload",
        "/symbols",
        "/buildid/",
        "/v1/",
        "/symbolicate",
    ];
    let is_symbol =
        path.split('/').nth(2).is_some_and(routes::is_symbol_id) && path.split('/').count() == 4;
    (is_symbol || by_programs.iter().any(|start| path.starts_with(start)))
        && !matches!(path, "/api/" | "/symbols/")
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

fn send(response: Response, head_only: bool) -> hyper::Response<Outgoing> {
    let body = match response.body {
        Body::Bytes(bytes) => Outgoing::bytes(bytes),
        Body::Payload(reader) if head_only => Outgoing::length_alone(Some(reader.bytes())),
        Body::Payload(reader) => Outgoing::payload(reader),
        Body::Stream { bytes, .. } if head_only => Outgoing::length_alone(bytes),
        Body::Stream { reader, bytes } => Outgoing::stream(reader, bytes),
    };
    let mut built = hyper::Response::new(body);
    *built.status_mut() = hyper::StatusCode::from_u16(response.status)
        .unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = built.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(response.content_type),
    );
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in response.headers {
        match HeaderValue::from_str(&value) {
            Ok(value) => drop(headers.insert(HeaderName::from_static(name), value)),
            Err(_) => tracing::error!(name, "a header's value cannot be sent"),
        }
    }
    built
}
