//! The lasting address of a group: it leads to the page of the group's current signature.

use super::parts::scope::Scope;
use crate::app::App;
use crate::store::signatures::Group;
use crate::web::{Captures, Request, Response, WebError};

/// The address of a group.
pub(super) fn path(group: &Group) -> String {
    format!("/group/{}", group.id)
}

/// Redirects to the page of the signature.
///
/// # Errors
/// 400 if the number is invalid, 404 if there is no such group, 503 while the store cannot be read, 500 if
/// stored data is damaged.
pub(crate) fn redirect(app: &App, _: &Request, captures: &Captures) -> Result<Response, WebError> {
    let text = captures.get("group");
    let id = text.parse().map_err(|_| {
        WebError::bad(
            "group",
            format!("group is {text:?}; it must be a number, such as 17"),
        )
    })?;
    let group = app.store.group(id)?;
    let group = group.ok_or_else(|| WebError::not_found(format!("there is no group {id}")))?;
    let page = Scope::default().signature_page(&group.signature);
    Ok(Response::see_other(&page))
}
