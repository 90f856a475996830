//! Bodies of any size, for handlers that read them from a file.

use std::fs::File;
use std::io::{self, Seek, Write};

use hyper::body::Incoming;
use tokio::sync::SemaphorePermit;

use super::Shared;
use super::body::{self, ReadError};
use crate::limits;
use crate::web::{Request, WebError};

/// Writes a body, as it comes, into a file without a name. Holds a place among the uploads until
/// the permit is dropped.
pub async fn spill<'a>(
    shared: &'a Shared,
    request: &Request,
    incoming: &mut Incoming,
) -> Result<(File, SemaphorePermit<'a>), WebError> {
    let result = read(shared, request, incoming).await;
    if result.is_err() {
        body::drain(incoming).await;
    }
    result
}

async fn read<'a>(
    shared: &'a Shared,
    request: &Request,
    incoming: &mut Incoming,
) -> Result<(File, SemaphorePermit<'a>), WebError> {
    let Ok(place) = shared.uploads.try_acquire() else {
        let why = format!(
            "{} uploads are under way; send this one later",
            limits::UPLOADS_MAX
        );
        return Err(WebError::new(503, why));
    };
    let bytes_max = shared.app.config.get().symbols.upload_bytes_max.0;
    let check = |bytes: u64| match bytes > bytes_max {
        false => Ok(()),
        true => Err(WebError::new(
            413,
            format!(
                "upload of {bytes} bytes or more is larger than symbols.upload_bytes_max ({bytes_max} bytes); send it in parts"
            ),
        )),
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
    let read = body::pump(incoming, limits::UPLOAD_SECONDS_MAX, |piece| {
        received += piece.len() as u64;
        check(received)?;
        tokio::task::block_in_place(|| file.write_all(piece)).map_err(not_kept)
    });
    match read.await {
        Ok(()) => {}
        Err(ReadError::Refused(error)) => return Err(error),
        Err(ReadError::TimedOut) => {
            return Err(WebError::new(408, "the body came too slowly"));
        }
        Err(ReadError::Incomplete(why)) => return Err(WebError::new(400, why)),
    }
    file.rewind().map_err(not_kept)?;
    Ok((file, place))
}

fn not_kept(error: io::Error) -> WebError {
    tracing::error!(%error, "an upload could not be kept");
    WebError::new(
        503,
        format!("the upload cannot be kept: {error}; send it again later"),
    )
}
