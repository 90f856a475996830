//! The listener: the only place with hyper, tokio and async functions.
//!
//! A request takes these steps: [`head`] (one form for every request head), hyper's parser with bounds and
//! time-outs, the route table of [`routes`], who calls, and then either [`submit`], which
//! streams, or a handler on a blocking thread, which sees only plain requests. Every answer gets
//! the same security headers.

mod assets;
mod body;
mod connections;
mod cors;
pub mod head;
mod listener;
mod openapi;
pub mod routes;
mod shim;
mod submit;
mod upload;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::access;
use crate::addresses::{Listen, PublicUrl, TrustedProxies};
use crate::config::{self, Config, ConfigError};
use crate::ingest::SubmitHead;
use crate::limits;
use crate::pages;
use crate::vital::Vital;
use crate::web::{App, Arrival, Body, Caller, Door, Method, Params, Request, Response, WebError};
use body::{Outgoing, ReadError};
use connections::{Connection, Connections, Measured, Place, Stage};
use listener::{Listener, Tls, TlsFiles};
use routes::{Handler, Route};

/// Threads that move bytes; handlers and commits have others.
const IO_THREADS: usize = 2;
/// Handlers and commits at once.
const BLOCKING_THREADS_MAX: usize = 256;
/// Answers that change with the program alone.
const CACHE_FOREVER: &str = "public, max-age=31536000, immutable";

/// No script, no inline style, nothing from elsewhere, no frame around us.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// A listening server. Dropping it without [`Server::stop`] cuts its connections.
pub struct Server {
    runtime: Runtime,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
    /// What the main listener is bound to, and its URL.
    pub bound: Listen,
    pub url: String,
    /// What the collector's own listener is bound to, where there is one.
    pub collector: Option<Listen>,
    /// Where commands on this machine are taken; `None` where that could not be opened.
    pub control: Option<SocketAddr>,
}

struct Shared {
    app: Arc<App>,
    connections: Arc<Connections>,
    /// The certificate, where one is configured.
    tls: Option<Arc<Tls>>,
    /// Memory that reports on their way in hold together.
    intake: submit::Budget,
    uploads: upload::Places,
}

impl Server {
    pub fn start(app: Arc<App>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(IO_THREADS)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("http")
            .enable_io()
            .enable_time()
            .build()?;
        let config = app.config.get();
        let tls = tls_files(&config.http)
            .map(|files| Tls::load(&files))
            .transpose()?
            .map(Arc::new);
        let listeners = runtime.block_on(listeners(&config.http, tls.clone()))?;
        let of = |door| listeners.iter().find(|listener| listener.door == door);
        let (bound, url) = match of(Door::Main) {
            Some(main) => (main.bound.clone(), main.url()),
            None => return Err(io::Error::other("there is no main listener")),
        };
        let collector = of(Door::Collector).map(|listener| listener.bound.clone());
        let control = of(Door::Control).and_then(|listener| match listener.bound {
            Listen::Tcp(address) => Some(address),
            Listen::Unix(_) => None,
        });
        let shared = Arc::new(Shared {
            connections: Arc::new(Connections::new(connections_max(), app.metrics.clone())),
            app,
            tls,
            intake: submit::Budget::default(),
            uploads: upload::Places::default(),
        });
        let (stop, stopping) = watch::channel(false);
        let accepting = listeners
            .into_iter()
            .map(|listener| runtime.spawn(accept(listener, shared.clone(), stopping.clone())));
        let accepting = accepting.collect();
        Ok(Self {
            runtime,
            shared,
            stop,
            accepting,
            bound,
            url,
            collector,
            control,
        })
    }

    /// Uses the certificate that the configuration in force names, as it is now.
    pub fn reload_certificate(&self) {
        let config = self.shared.app.config.get();
        let (Some(tls), Some(files)) = (&self.shared.tls, tls_files(&config.http)) else {
            if self.shared.tls.is_some() != tls_files(&config.http).is_some() {
                tracing::warn!("turning TLS on or off needs a restart of the server");
            }
            return;
        };
        match tls.reload(&files) {
            Ok(()) => tracing::info!("the certificate was read again"),
            Err(error) => {
                tracing::error!(%error, "the certificate cannot be used; the last one stays in use");
            }
        }
    }

    /// Closes the listeners, lets requests under way end for at most `grace`, then cuts the rest.
    pub fn stop(self, grace: Duration) {
        let _ = self.stop.send(true);
        let all = async {
            for accepting in self.accepting {
                let _ = accepting.await;
            }
        };
        let ended = self
            .runtime
            .block_on(async { tokio::time::timeout(grace, all).await });
        if ended.is_err() {
            tracing::warn!("connections were cut that had not ended in time");
        }
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

/// Whether the settings of the listener fit together.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    let http = &config.http;
    routes::check_submit_paths(&http.submit_paths.0)
        .map_err(|why| ConfigError(format!("{}: {why}", http.submit_paths.source)))?;
    let base = http.public_url.base_path();
    if let Some(route) = routes::beginning_like(base) {
        return Err(ConfigError(format!(
            "[http] public_url has the path {base}, but the server itself has the address {route}; choose a path that begins otherwise"
        )));
    }
    if http.tls_certificate.is_empty() != http.tls_key.is_empty() {
        let why = "[http] tls_certificate and tls_key go together: set both or none";
        return Err(ConfigError(why.into()));
    }
    Ok(())
}

fn tls_files(http: &config::Http) -> Option<TlsFiles> {
    let (certificate, key) = (http.tls_certificate.as_str(), http.tls_key.as_str());
    (!certificate.is_empty()).then(|| TlsFiles {
        certificate: certificate.into(),
        key: key.into(),
    })
}

/// Every socket of the server, bound.
async fn listeners(http: &config::Http, tls: Option<Arc<Tls>>) -> io::Result<Vec<Listener>> {
    let with_tls = |wanted: bool| tls.clone().filter(|_| wanted);
    let uses = &http.tls_for;
    let main = Listener::bind(
        &http.listen,
        Door::Main,
        with_tls(uses.listen),
        "[http] listen",
    );
    let mut listeners = vec![main.await?];
    if let Some(listen) = &http.collector_listen.0 {
        let tls = with_tls(uses.collector_listen);
        let setting = "[http] collector_listen";
        let collector = Listener::bind(listen, Door::Collector, tls, setting).await?;
        tracing::info!(url = collector.url(), "the collector's own port listens");
        listeners.push(collector);
    }
    let loopback = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    match Listener::bind(&loopback, Door::Control, None, "another network").await {
        Ok(control) => listeners.push(control),
        Err(error) => tracing::warn!(%error, "commands on this machine cannot reach the server"),
    }
    Ok(listeners)
}

/// As many connections as there are descriptors for.
fn connections_max() -> usize {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit};
        if let Some(descriptors) = getrlimit(Resource::Nofile).current {
            let left = descriptors.saturating_sub(limits::DESCRIPTORS_BESIDE);
            let least = descriptors / 4;
            let most = usize::try_from(left.max(least)).unwrap_or(usize::MAX);
            return most.min(limits::CONNECTIONS_MAX);
        }
    }
    limits::CONNECTIONS_MAX
}

/// Raises the number of descriptors that the process may have open to what the system allows.
/// Systemd and shells start programs with 1,024, fewer than the connections that we take.
pub fn raise_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
}

async fn accept(listener: Listener, shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let vital = Vital::new("http-accept");
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
        let counted_for = counted_for(&shared.app.config.get().http.trusted_proxies, peer);
        let Some(place) = shared.connections.admit(counted_for) else {
            continue;
        };
        let from = From {
            door: listener.door,
            peer,
            is_tls: listener.tls.is_some(),
        };
        let connection = place.connection.clone();
        let (shared, stopping) = (shared.clone(), stopping.clone());
        let tls = listener.tls.clone();
        let task = connections.spawn(async move {
            serve(stream, tls, from, &place, shared, stopping).await;
        });
        connection.started(task);
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    vital.finish();
}

/// The address whose share of the connections a peer takes. This machine and our proxies have
/// none, because many clients can be behind them.
fn counted_for(proxies: &TrustedProxies, peer: Option<IpAddr>) -> Option<IpAddr> {
    peer.filter(|address| !address.is_loopback() && !proxies.trusts(peer))
}

/// Where a connection comes from.
#[derive(Clone, Copy)]
struct From {
    door: Door,
    /// `None` on a Unix socket.
    peer: Option<IpAddr>,
    is_tls: bool,
}

async fn serve(
    stream: Box<dyn listener::Stream>,
    tls: Option<Arc<Tls>>,
    from: From,
    place: &Place,
    shared: Arc<Shared>,
    mut stopping: watch::Receiver<bool>,
) {
    let connection = place.connection.clone();
    let head_seconds = match connection.is_short() {
        false => limits::HEAD_SECONDS_MAX,
        true => limits::HEAD_SECONDS_MAX_SHORT,
    };
    let head_time = Duration::from_secs(head_seconds);
    let stream = match tls {
        None => stream,
        Some(tls) => match tokio::time::timeout(head_time, tls.handshake(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                return;
            }
            Err(_) => return,
        },
    };
    let stream = shim::HeadShim::new(Measured::new(stream, connection.clone()));
    let service = service_fn(move |request| {
        let (shared, connection) = (shared.clone(), connection.clone());
        async move {
            connection.enter(Stage::Working);
            let response = respond(&shared, from, &connection, request).await;
            connection.enter(Stage::Answer);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
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
    from: From,
    connection: &Connection,
    request: hyper::Request<Incoming>,
) -> hyper::Response<Outgoing> {
    if let Some(refused) = request.headers().get(head::REFUSED_HEADER) {
        let (status, why) = head::refusal(refused.to_str().unwrap_or_default());
        tracing::info!(status, why, "a request head was refused");
        let config = shared.app.config.get();
        return send(
            &config.http,
            Response::text(status, format!("{why}\n")),
            false,
        );
    }
    let config = shared.app.config.get();
    let path = own_path(&config.http.public_url, request.uri().path());
    if request.method() == hyper::Method::OPTIONS
        && let Some(response) = cors::preflight(&config, path, request.headers())
    {
        return send(&config.http, response, false);
    }
    let head_only = request.method() == hyper::Method::HEAD;
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
    send(&config.http, response, head_only)
}

/// The answer of a route, or the answer that says why there is none.
async fn answer(
    shared: &Arc<Shared>,
    from: From,
    connection: &Connection,
    request: hyper::Request<Incoming>,
) -> Result<Response, Response> {
    let (head, mut incoming) = request.into_parts();
    let path = own_path(&shared.app.config.get().http.public_url, head.uri.path()).to_owned();
    let headers = readable(&head.headers);
    let arrival = arrival(&shared.app, from, &headers);
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
        arrival,
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
    if from.door == Door::Collector && !route.is_for_collector() {
        let why = "this port takes crash reports alone (POST /submit); the pages are elsewhere";
        return Err(refuse(WebError::not_found(why)));
    }
    let is_shared = cors::allowed(&config, route, &head.headers).is_some();
    if shared.app.read_only && route.changes {
        let why =
            "this server shows a data directory read-only: it takes no reports and changes nothing";
        return Err(refuse(WebError::new(503, why)));
    }
    // Whoever asks for reports to be taken or for health needs no name, nor a store that answers.
    let may_change = method.changes() && matches!(route.handler, Handler::Plain(_));
    if route.needs.is_some() || route.is_paced || may_change {
        let app = shared.app.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let checked = check_access(&app, route, &mut request, is_shared);
            (request, checked)
        });
        let checked = checked.await;
        let Ok((known, checked)) = checked else {
            return Err(panicked(shared, &path));
        };
        request = known;
        match checked {
            Err(error) => {
                // A client that is still sending when the connection closes never sees the answer.
                // One that waits for our word sends nothing.
                if request.header("expect").is_none() {
                    body::drain(&mut incoming).await;
                }
                return Err(refusal_response(&request, &error));
            }
            Ok(Some(response)) => return Ok(response),
            Ok(None) => {}
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
                peer: request.arrival.client,
            };
            return Ok(submit::submit(shared, connection, submit_head, incoming).await);
        }
        Handler::Upload(handler) => {
            let spilled = upload::spill(shared, connection, &request, &mut incoming).await;
            let (body, place) = spilled.map_err(refuse)?;
            connection.enter(Stage::Working);
            let app = shared.app.clone();
            let ran = tokio::task::spawn_blocking(move || handler(&app, &request, &captures, body));
            let ran = ran.await;
            drop(place);
            return ended(shared, &path, None, ran);
        }
        Handler::Plain(handler) => handler,
    };
    if method.changes() {
        request.body = match body::read_small(&mut incoming, connection).await {
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
    connection.enter(Stage::Working);
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
        Err(_) => Err(panicked(shared, path)),
    }
}

fn panicked(shared: &Shared, path: &str) -> Response {
    shared.app.metrics.panics.add(1);
    tracing::error!(path, "a handler panicked");
    let why = "internal error; see the server log";
    error_response(path, &WebError::new(500, why))
}

/// The path as the route table knows it: a proxy may pass the path of `public_url` on, or take it
/// off.
fn own_path<'a>(public_url: &PublicUrl, path: &'a str) -> &'a str {
    let base = public_url.base_path();
    match path.strip_prefix(base) {
        Some("") if !base.is_empty() => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

fn arrival(app: &App, from: From, headers: &[(String, String)]) -> Arrival {
    let From { door, peer, is_tls } = from;
    let config = app.config.get();
    let proxies = &config.http.trusted_proxies;
    let forwarded = headers.iter().filter(|(name, _)| name == "x-forwarded-for");
    Arrival {
        door,
        is_tls,
        is_proxied: proxies.trusts(peer),
        client: proxies.client(peer, forwarded.map(|(_, value)| value.as_str())),
    }
}

/// Finds out who asks, and whether they may. `Some` is the answer where they came with the local
/// key in the address.
fn check_access(
    app: &App,
    route: &Route,
    request: &mut Request,
    is_shared: bool,
) -> Result<Option<Response>, WebError> {
    if request.method == Method::Get && !is_for_programs(&request.path) {
        let let_in = pages::login::by_key(app, request)?;
        if let_in.is_some() {
            return Ok(let_in);
        }
    }
    if route.needs.is_some() || route.is_paced {
        request.caller = access::identify(app, request)?;
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
        let why = format!("the request comes from a page of another site: {why}");
        return Err(WebError::forbidden(why));
    }
    Ok(None)
}

/// What somebody gets who may not do what they asked for: people a form to log in, where that
/// helps, programs the reason, and the question for a token where they showed none.
fn refusal_response(request: &Request, error: &WebError) -> Response {
    let is_program = is_for_programs(&request.path);
    if error.status != 401 {
        return error_response(&request.path, error);
    }
    let accepts = request.header("accept").unwrap_or_default();
    if !is_program && accepts.contains("text/html") {
        return pages::login::ask(request, error);
    }
    if is_program && is_upload(&request.path) {
        // The status that Tecken's clients know; they send what they have unasked.
        return WebError::forbidden(error.message.as_str()).to_json();
    }
    access::challenge(&error.message).to_json()
}

/// Where symbols are sent to, as on Tecken.
fn is_upload(path: &str) -> bool {
    path.trim_end_matches('/') == "/upload" || path.starts_with("/upload/")
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

fn send(http: &config::Http, mut response: Response, head_only: bool) -> hyper::Response<Outgoing> {
    under_base_path(http.public_url.base_path(), &mut response);
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
        (header::REFERRER_POLICY, "same-origin"),
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
    if *http.noindex {
        let name = HeaderName::from_static("x-robots-tag");
        headers.insert(name, HeaderValue::from_static("noindex, nofollow"));
    }
    for (name, value) in response.headers {
        match HeaderValue::from_str(&value) {
            Ok(value) => drop(headers.insert(HeaderName::from_static(name), value)),
            Err(_) => tracing::error!(name, "a header's value cannot be sent"),
        }
    }
    built
}

/// Pages and redirects name our own paths from the root. Where users reach the server below a path,
/// that stands in front of them.
fn under_base_path(base: &str, response: &mut Response) {
    if base.is_empty() {
        return;
    }
    for (name, value) in &mut response.headers {
        if *name == "location" && value.starts_with('/') {
            value.insert_str(0, base);
        }
    }
    if response.content_type == crate::web::HTML
        && let Body::Bytes(page) = &mut response.body
    {
        *page = pages::below(base, page);
    }
}
