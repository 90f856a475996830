//! From a listener to single requests: one task per connection, which hyper drives.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connections::{Measured, Place, Stage};
use super::listener::{self, From, Listener, Tls};
use super::shared::Shared;
use super::{answer, shim};
use crate::addresses::TrustedProxies;
use crate::limits;
use crate::vital::Vital;

pub(crate) async fn accept(
    listener: Listener,
    shared: Arc<Shared>,
    mut stopping: watch::Receiver<bool>,
) {
    let vital = Vital::task("http-accept");
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
                // Usually the process has no more file descriptors. Open connections must end first.
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
            listener: listener.kind,
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

/// The address whose share of the connections a peer uses. This machine and our proxies have no share,
/// because many clients can be behind them.
fn counted_for(proxies: &TrustedProxies, peer: Option<IpAddr>) -> Option<IpAddr> {
    peer.filter(|address| !address.is_loopback() && !proxies.trusts(peer))
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
    let head_seconds = if connection.is_short() {
        limits::HEAD_SECONDS_MAX_SHORT
    } else {
        limits::HEAD_SECONDS_MAX
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
            let response = answer::respond(&shared, from, &connection, request).await;
            connection.enter(Stage::Answer);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .max_headers(limits::HEADERS_MAX)
        .max_buf_size(limits::HEAD_BYTES_MAX)
        // Crashpad compares the header name `Content-Length` case-sensitively.
        .title_case_headers(true)
        // Some clients close their sending side after the request.
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
