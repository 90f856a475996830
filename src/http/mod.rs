//! The HTTP side of the server. Only this module uses hyper and tokio, and only here are async functions.
//!
//! A request takes these steps:
//!
//! 1. [`listener`] accepts the connection: TCP, TLS or a Unix socket.
//! 2. [`connections`] admits it and closes the slowest connections when they are scarce.
//! 3. [`serve`] runs one task per connection. hyper reads through [`shim`], which has [`head`] bring each request
//!    head into one form.
//! 4. [`answer`] finds the route, identifies the caller and calls the handler. A handler sees only plain requests.
//!    It runs on a blocking thread.
//! 5. [`reply`] gives every answer the same security headers and hands it to hyper.
//!
//! | file | job |
//! | --- | --- |
//! | [`route`], [`routes`] | what a route is; the table of all routes |
//! | [`submit`] | reports: the body goes to the collector as it arrives |
//! | [`upload`], [`places`] | bodies of any size, read into a file; how many at the same time |
//! | [`body`], [`budget`] | bodies in both directions; the memory that incoming reports use together |
//! | [`cors`] | access for pages of other sites |
//! | [`assets`], [`openapi`] | the files that pages load; the description of the API |
//! | [`shared`] | what all requests share |

mod answer;
mod assets;
mod body;
mod budget;
mod compress;
mod connections;
mod cors;
pub mod head;
mod listener;
mod openapi;
mod places;
mod reply;
mod route;
pub mod routes;
mod serve;
mod shared;
mod shim;
mod submit;
mod upload;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::addresses::Listen;
use crate::app::App;
use crate::config::{self, Config, ConfigError};
use crate::limits;
use crate::web::ListenerKind;
use budget::Budget;
use connections::Connections;
use listener::{Listener, Tls, TlsFiles};
use places::Places;
use shared::Shared;

/// Threads that transfer bytes. Handlers and commits run on other threads.
const IO_THREADS: usize = 2;
/// Concurrent handlers and commits.
const BLOCKING_THREADS_MAX: usize = 256;
/// A listening server. Dropping it without [`Server::stop`] cuts its connections.
pub(crate) struct Server {
    runtime: Runtime,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
    /// The bound address of the main listener, and its URL.
    pub(crate) bound: Listen,
    pub(crate) url: String,
    /// The address for commands on this machine; `None` if it could not be opened.
    pub(crate) control: Option<SocketAddr>,
}

impl Server {
    /// Opens the listeners and accepts connections.
    ///
    /// # Errors
    /// A certificate cannot be loaded, or an address cannot be opened.
    pub(crate) fn start(app: Arc<App>) -> io::Result<Self> {
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
        let of = |kind| listeners.iter().find(|listener| listener.kind == kind);
        let (bound, url) = match of(ListenerKind::Main) {
            Some(main) => (main.bound.clone(), main.url()),
            None => return Err(io::Error::other("there is no main listener")),
        };
        let control = of(ListenerKind::Control).and_then(|listener| match listener.bound {
            Listen::Tcp(address) => Some(address),
            Listen::Unix(_) => None,
        });
        let shared = Arc::new(Shared {
            connections: Arc::new(Connections::new(connections_max(), app.metrics.clone())),
            app,
            tls,
            intake: Budget::default(),
            uploads: Places::default(),
        });
        let (stop, stopping) = watch::channel(false);
        let accepting = listeners.into_iter().map(|listener| {
            runtime.spawn(serve::accept(listener, shared.clone(), stopping.clone()))
        });
        let accepting = accepting.collect();
        Ok(Self {
            runtime,
            shared,
            stop,
            accepting,
            bound,
            url,
            control,
        })
    }

    /// Reloads the certificate that the active configuration names.
    pub(crate) fn reload_certificate(&self) {
        let config = self.shared.app.config.get();
        let (Some(tls), Some(files)) = (&self.shared.tls, tls_files(&config.http)) else {
            if self.shared.tls.is_some() != tls_files(&config.http).is_some() {
                tracing::warn!("turning TLS on or off needs a restart of the server");
            }
            return;
        };
        match tls.reload(&files) {
            Ok(()) => tracing::info!("TLS certificate reloaded"),
            Err(error) => {
                tracing::error!(%error, "the new TLS certificate cannot be used; the previous one stays active");
            }
        }
    }

    /// Closes the listeners, lets requests in progress finish for at most `grace`, then cuts the rest.
    pub(crate) fn stop(self, grace: Duration) {
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
            tracing::warn!("closed connections that did not end in time");
        }
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

/// Checks that the settings of the listeners are consistent.
///
/// # Errors
/// The message names the settings, and what to change.
pub(crate) fn check(config: &Config) -> Result<(), ConfigError> {
    let http = &config.http;
    routes::check_submit_paths(&http.submit_paths.0)
        .map_err(|why| ConfigError(format!("{}: {why}", http.submit_paths.source)))?;
    let base = http.public_url.base_path();
    if let Some(route) = routes::beginning_like(base) {
        return Err(ConfigError(format!(
            "[http] public_url has the path {base}, which conflicts with the server's own path {route}; choose a different path"
        )));
    }
    if http.tls_certificate.is_empty() != http.tls_key.is_empty() {
        let why = "[http] tls_certificate and tls_key must both be set, or both be empty";
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

/// Binds all sockets of the server.
async fn listeners(http: &config::Http, tls: Option<Arc<Tls>>) -> io::Result<Vec<Listener>> {
    let with_tls = |wanted: bool| tls.clone().filter(|_| wanted);
    let uses = &http.tls_for;
    let main = Listener::bind(
        &http.listen,
        ListenerKind::Main,
        with_tls(uses.listen),
        "[http] listen",
    );
    let mut listeners = vec![main.await?];
    if let Some(listen) = &http.collector_listen.0 {
        let tls = with_tls(uses.collector_listen);
        let setting = "[http] collector_listen";
        let collector = Listener::bind(listen, ListenerKind::Collector, tls, setting).await?;
        tracing::info!(
            url = collector.url(),
            "collector is listening on its own port"
        );
        listeners.push(collector);
    }
    let loopback = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    match Listener::bind(&loopback, ListenerKind::Control, None, "another network").await {
        Ok(control) => listeners.push(control),
        Err(error) => {
            tracing::warn!(%error, "no control port: commands on this machine cannot reach the server")
        }
    }
    Ok(listeners)
}

/// The number of connections for which there are enough file descriptors.
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

/// Raises the limit of open file descriptors to the hard limit. Systemd and shells start programs with a
/// limit of 1,024, which is less than the number of connections that we accept.
pub(crate) fn raise_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
}
