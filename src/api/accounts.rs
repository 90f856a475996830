//! Accounts and tokens: the commands `crashkeep user` and `crashkeep token` for a running server.

use crate::access::commands;
use crate::app::App;
use crate::web::{Captures, Request, Response, WebError};

/// `POST /api/Accounts/`: executes one command, sent as JSON. Returns the text that the command prints.
///
/// # Errors
/// 400 if the body is not a command or one of its values is invalid, 503 while the store cannot be written,
/// 500 if stored data is damaged.
pub(crate) fn command(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let command = serde_json::from_slice(&request.body)
        .map_err(|e| WebError::new(400, format!("the body is not a valid account command: {e}")))?;
    let printed = commands::run(&app.store, &command, app.clock.now())?;
    if app.store.has_users()? {
        app.local_key.end();
    }
    Ok(Response::text(200, printed))
}
