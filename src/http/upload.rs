//! Request bodies of any size, for handlers that read them from a file.

use std::fs::File;
use std::io::{self, Seek, Write};

use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::body::{self, ReadError};
use super::connections::{Connection, Stage};
use super::shared::Shared;
use crate::limits;
use crate::web::{Request, WebError};

/// Permits of one upload. Dropping them frees its places.
pub(crate) struct Held {
    _coming_in: OwnedSemaphorePermit,
    _unpacked: OwnedSemaphorePermit,
}

/// Writes a body into an unnamed file as it arrives.
pub(crate) async fn spill(
    shared: &Shared,
    connection: &Connection,
    request: &Request,
    incoming: &mut Incoming,
) -> Result<(File, Held), WebError> {
    let result = read(shared, connection, request, incoming).await;
    if result.is_err() {
        body::drain(incoming).await;
    }
    result
}

async fn read(
    shared: &Shared,
    connection: &Connection,
    request: &Request,
    incoming: &mut Incoming,
) -> Result<(File, Held), WebError> {
    let Some(coming_in) = shared.uploads.come_in(&shared.connections).await else {
        let why = format!(
            "{} uploads are already running; try again later",
            limits::UPLOADS_MAX
        );
        return Err(WebError::new(503, why).with("retry-after", "10".into()));
    };
    connection.enter_upload();
    let bytes_max = shared.app.config.get().symbols.upload_bytes_max.0;
    let check = |bytes: u64| {
        if bytes > bytes_max {
            Err(WebError::new(
                413,
                format!(
                    "upload of {bytes} bytes or more is larger than symbols.upload_bytes_max ({bytes_max} bytes); split it into smaller uploads"
                ),
            ))
        } else {
            Ok(())
        }
    };
    if let Some(length) = request
        .header("content-length")
        .and_then(|l| l.parse().ok())
    {
        check(length)?;
    }
    let file = tokio::task::block_in_place(|| shared.app.symbols.incoming_file());
    let mut file = file.map_err(not_kept)?;
    let mut received = 0;
    let read = body::pump(incoming, connection, |piece| {
        received += piece.len() as u64;
        check(received)?;
        tokio::task::block_in_place(|| file.write_all(piece)).map_err(not_kept)
    });
    match read.await {
        Ok(()) => {}
        Err(ReadError::Refused(error)) => return Err(error),
        Err(ReadError::TimedOut) => {
            return Err(WebError::new(408, "the body arrived too slowly"));
        }
        Err(ReadError::Incomplete(why)) => return Err(WebError::new(400, why)),
    }
    file.rewind().map_err(not_kept)?;
    connection.enter(Stage::Working);
    let unpacked = shared.uploads.unpacked.clone().acquire_owned().await;
    let unpacked = unpacked.map_err(|_| WebError::new(503, "the server is shutting down"))?;
    let held = Held {
        _coming_in: coming_in,
        _unpacked: unpacked,
    };
    Ok((file, held))
}

fn not_kept(error: io::Error) -> WebError {
    tracing::error!(%error, "an upload could not be stored");
    WebError::new(
        503,
        format!("the upload cannot be stored: {error}; try again later"),
    )
}
