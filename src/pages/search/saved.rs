//! Searches that users saved under a name.

use maud::{Markup, html};

use super::View;
use crate::app::App;
use crate::pages::shown;
use crate::store::accounts::{AccountChange, SearchRow};
use crate::web::{Captures, Params, Request, Response, WebError};

const NAME_CHARS_MAX: usize = 100;
const QUERY_BYTES_MAX: usize = 16 * 1024;
/// Maximum number per owner.
const SAVED_MAX: usize = 200;

/// Saves a search under a name. Replaces the search of the same owner and name.
///
/// # Errors
/// 400 if the name or the search is invalid or the caller has too many saved searches, 403 if the caller has
/// no account, 503 while the store cannot be written, 500 if stored data is damaged.
pub(crate) fn save(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let owner = owner(request)?;
    let form = request.form();
    let name = form.get("name").unwrap_or_default().trim();
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        let why = format!(
            "name is empty or too long; a saved search needs a name of 1 to {NAME_CHARS_MAX} characters"
        );
        return Err(WebError::bad("name", why));
    }
    let query = form
        .get("query")
        .unwrap_or_default()
        .trim_start_matches('?');
    if query.len() > QUERY_BYTES_MAX {
        let why = format!(
            "the search has {} bytes, more than {QUERY_BYTES_MAX}",
            query.len()
        );
        return Err(WebError::bad("query", why));
    }
    let known = app.store.searches()?;
    let owned = known.iter().filter(|(_, row)| row.owner == owner);
    if owned.clone().all(|(_, row)| row.name != name) && owned.count() >= SAVED_MAX {
        let why = format!("{owner} has {SAVED_MAX} saved searches already; remove one first");
        return Err(WebError::bad("name", why));
    }
    let row = SearchRow {
        owner: owner.to_owned(),
        name: name.to_owned(),
        query: query.to_owned(),
        saved_at_ms: app.clock.now().ms(),
    };
    app.store
        .change_accounts(vec![AccountChange::PutSearch(row)])?;
    Ok(Response::see_other(&format!(
        "/search/?{}",
        Params::parse(query).to_query()
    )))
}

/// Removes one of the caller's searches. Admins can remove any search.
///
/// # Errors
/// 400 if there is no such search, 403 if it belongs to another user or the caller has no account, 503 while
/// the store cannot be written, 500 if stored data is damaged.
pub(crate) fn remove(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let owner = owner(request)?;
    let form = request.form();
    let id = form.number("id", 0_u64..)?;
    let known = app.store.searches()?;
    let found = known.iter().find(|(known, _)| Some(*known) == id);
    let Some((id, row)) = found else {
        return Err(WebError::bad("id", "no saved search has this id"));
    };
    if row.owner != owner && !request.is_admin() {
        return Err(WebError::forbidden(format!(
            "saved search {:?} belongs to {}",
            row.name, row.owner
        )));
    }
    app.store
        .change_accounts(vec![AccountChange::RemoveSearch(*id)])?;
    Ok(Response::see_other("/search/"))
}

fn owner(request: &Request) -> Result<&str, WebError> {
    let caller = &request.caller;
    if caller.user.is_some() || caller.is_local {
        Ok(caller.name())
    } else {
        Err(WebError::forbidden(
            "only users with an account can save searches",
        ))
    }
}

impl View<'_> {
    pub(super) fn saved(&self) -> Markup {
        let query = self.address(|_| {});
        let query = query.split_once('?').map_or("", |(_, query)| query);
        html! {
            @if self.may_save || !self.saved.is_empty() {
                section.panel {
                    header { h2 { "Saved searches" } }
                    @if !self.saved.is_empty() {
                        ul.files {
                            @for (id, row) in &self.saved {
                                li {
                                    a href={ "/search/?" (row.query) } { (shown(&row.name)) }
                                    div.small.muted {
                                        (shown(&row.owner)) " · "
                                        a href={ "/search/feed.atom?" (row.query) } { "feed" } " · "
                                        a href={ "/api/SearchExport/?" (row.query) } { "CSV" }
                                    }
                                    @if self.may_save && (row.owner == self.owner || self.is_admin) {
                                        form.inline method="post" action="/search/forget" {
                                            input type="hidden" name="id" value=(id);
                                            button type="submit" aria-label={ "Delete " (shown(&row.name)) } { "Delete" }
                                        }
                                    }
                                }
                            }
                        }
                    }
                    @if self.may_save {
                        div.body { form.filters method="post" action="/search/save" {
                            input type="hidden" name="query" value=(query);
                            label { "Save this search as" input type="text" name="name" required maxlength=(NAME_CHARS_MAX) autocomplete="off"; }
                            div.act { button type="submit" { "Save" } }
                        } }
                    }
                }
            }
        }
    }
}
