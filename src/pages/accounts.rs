//! Accounts and tokens: one's own, and for admins everybody's.

use maud::{Markup, html};

use super::{Page, ago, login, shown};
use crate::access::accounts::{self, AccountError, NewToken};
use crate::clock::Timestamp;
use crate::rights::{Role, Scope};
use crate::store::accounts::{AccountChange, KeyRow, UserRow};
use crate::web::{App, Params, Request, Response, WebError};

impl From<AccountError> for WebError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Bad(field, why) => WebError::bad(field, why),
            AccountError::Store(error) => error.into(),
        }
    }
}

/// Who the reader is, and their tokens.
pub fn account(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    respond(app, request, "/account/", None)
}

/// Makes a token for the reader.
pub fn create_own(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    let user = own_name(request)?;
    let form = request.form();
    // A token must not make one that may do more than itself.
    let scopes = asked_scopes(&form)?;
    let scopes = if scopes.is_empty() {
        request.caller.rights.scopes()
    } else {
        scopes
    };
    if let Some(beyond) = scopes.iter().find(|scope| !request.may(**scope)) {
        let why = format!("the token that you use has no scope {:?}", beyond.name());
        return Err(WebError::bad("scopes", why));
    }
    let made = create(app, user, scopes, &form)?;
    respond(app, request, "/account/", Some(made))
}

/// Ends one of the reader's tokens.
pub fn revoke_own(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    let user = own_name(request)?;
    revoke(app, &request.form(), Some(user))?;
    Ok(Response::see_other("/account/"))
}

/// Everybody's accounts and tokens.
pub fn users(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    respond(app, request, "/users/", None)
}

/// Adds an account or changes a role. The first account is an admin's, and whoever makes it goes on
/// as that admin.
pub fn put(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    let form = request.form();
    let name = form.get("name").unwrap_or_default().trim();
    let role = form.get("role").unwrap_or_default();
    let role = Role::by_name(role).ok_or_else(|| {
        let known = Role::ALL.map(Role::name).join(", ");
        WebError::bad("role", format!("{role:?} is no role; known: {known}"))
    })?;
    let is_first = !app.store.has_users()?;
    if is_first && role != Role::Admin {
        let why =
            "the first account must be an admin's: with it this machine alone is no admin any more";
        return Err(WebError::bad("role", why));
    }
    let now = app.clock.now();
    accounts::put_user(&app.store, name, role, now)?;
    if !is_first {
        return Ok(Response::see_other("/users/"));
    }
    let secret = accounts::create_token(
        &app.store,
        &NewToken {
            user: name,
            scopes: Vec::new(),
            label: "first token",
            days: None,
        },
        now,
    )?;
    let cookie = login::cookie(app, &secret);
    Ok(respond(app, request, "/users/", Some(secret))?.with("set-cookie", cookie))
}

pub fn remove(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    let form = request.form();
    let name = form.get("name").unwrap_or_default();
    accounts::remove_user(&app.store, name)?;
    Ok(Response::see_other("/users/"))
}

/// Makes a token for anybody.
pub fn create_any(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    let form = request.form();
    let user = form.get("user").unwrap_or_default();
    let made = create(app, user, asked_scopes(&form)?, &form)?;
    respond(app, request, "/users/", Some(made))
}

pub fn revoke_any(app: &App, request: &Request, _: &[String]) -> Result<Response, WebError> {
    revoke(app, &request.form(), None)?;
    Ok(Response::see_other("/users/"))
}

fn own_name(request: &Request) -> Result<&str, WebError> {
    request.caller.user.as_deref().ok_or_else(|| {
        WebError::forbidden("only an account has tokens; make one under /users/ first")
    })
}

fn asked_scopes(form: &Params) -> Result<Vec<Scope>, WebError> {
    let names: Vec<&str> = form.all("scopes").collect();
    Ok(accounts::scopes(&names.join(","))?)
}

fn create(app: &App, user: &str, scopes: Vec<Scope>, form: &Params) -> Result<String, WebError> {
    let days = form.get("days").map(str::parse).transpose();
    let days = days.map_err(|_| {
        let most = accounts::TOKEN_DAYS_MAX;
        WebError::bad(
            "days",
            format!("days must be a number from 1 to {most}, or nothing"),
        )
    })?;
    let label = form.get("label").unwrap_or_default().trim();
    let new = NewToken {
        user,
        scopes,
        label,
        days,
    };
    Ok(accounts::create_token(&app.store, &new, app.clock.now())?)
}

fn revoke(app: &App, form: &Params, of: Option<&str>) -> Result<(), WebError> {
    let id = form.get("id").and_then(|text| text.parse::<u64>().ok());
    let known = app.store.tokens(of)?;
    let Some(id) = id.filter(|id| known.iter().any(|(known, _)| known == id)) else {
        return Err(WebError::bad("id", "there is no such token"));
    };
    app.store
        .change_accounts(vec![AccountChange::RemoveKey(id)])?;
    Ok(())
}

struct View<'a> {
    request: &'a Request,
    is_of_all: bool,
    users: Vec<UserRow>,
    tokens: Vec<(u64, KeyRow)>,
    /// The secret of a token just made: nobody sees it again.
    made: Option<String>,
    now: Timestamp,
    may_change: bool,
}

fn respond(
    app: &App,
    request: &Request,
    path: &str,
    made: Option<String>,
) -> Result<Response, WebError> {
    let is_of_all = path == "/users/";
    let user = request.caller.user.as_deref();
    let view = View {
        request,
        is_of_all,
        users: if is_of_all {
            app.store.users()?
        } else {
            Vec::new()
        },
        tokens: match (is_of_all, user) {
            (false, None) => Vec::new(),
            (false, user) => app.store.tokens(user)?,
            (true, _) => app.store.tokens(None)?,
        },
        made,
        now: app.clock.now(),
        may_change: !app.read_only,
    };
    let title = if is_of_all { "Users" } else { "Account" };
    Ok(Response::html(
        Page::new(title, "/account/").render(view.markup(title)),
    ))
}

impl View<'_> {
    fn markup(&self, title: &str) -> Markup {
        let caller = &self.request.caller;
        html! {
            div.head {
                h1 { (title) }
                div.chips {
                    @match &caller.user {
                        Some(user) => span.chip { "logged in as " b { (user) } },
                        None if caller.is_local => span.chip.warn { "no account yet: whoever sits at this machine is admin" },
                        None => span.chip { "not logged in" },
                    }
                    span.chip { "may " b { (caller.rights) } }
                    @if !self.is_of_all && self.request.is_admin() { a.chip href="/users/" { "all users" } }
                }
                @if caller.token.is_some() {
                    form.inline method="post" action="/logout/" { button type="submit" { "Log out" } }
                } @else if caller.user.is_none() && !caller.is_local {
                    p { a href="/login/" { "Log in" } }
                }
            }
            @if let Some(secret) = &self.made {
                section.panel {
                    header { h2 { "The new token" } }
                    div.body {
                        p.mono { b { (secret) } }
                        p.muted.small { "It is shown this once. Send it as " code { "Auth-Token" } " or " code { "Authorization: Bearer" } ", or log in with it." }
                    }
                }
            }
            @if self.is_of_all { (self.users_panel()) }
            @if self.is_of_all || caller.user.is_some() { (self.tokens_panel()) }
        }
    }

    fn users_panel(&self) -> Markup {
        html! {
            section.panel {
                header { h2 { "Accounts" } }
                @if self.users.is_empty() {
                    div.empty { p { "There is none. While that is so, everybody at this machine is admin, and nobody elsewhere sees anything. The first account is an admin's; you go on as that admin." } }
                } @else {
                    div.scroll { table {
                        thead { tr { th { "Name" } th { "Role" } th { "Made" } th {} } }
                        tbody { @for user in &self.users { tr {
                            td { b { (shown(&user.name)) } }
                            td {
                                (user.role().name())
                            }
                            td.nowrap { (ago(Timestamp::from_ms(user.created_at_ms), self.now)) }
                            td { @if self.may_change {
                                form.inline method="post" action="/users/remove" {
                                    input type="hidden" name="name" value=(user.name);
                                    button type="submit" aria-label={ "Remove " (user.name) } { "Remove" }
                                }
                            } }
                        } } }
                    } }
                }
                @if self.may_change {
                    div.body { form.filters method="post" action="/users/put" {
                        label { "Name" input type="text" name="name" required maxlength="64" pattern="[A-Za-z0-9._@+\\-]+" autocomplete="off"; }
                        label { "Role" select name="role" {
                            @for role in Role::ALL.into_iter().rev() {
                                option value=(role.name()) { (role.name()) }
                            }
                        } }
                        div.act { button type="submit" { "Add, or change role" } }
                    } }
                }
            }
        }
    }

    fn tokens_panel(&self) -> Markup {
        let (create, revoke) = match self.is_of_all {
            true => ("/users/token", "/users/revoke"),
            false => ("/account/token", "/account/revoke"),
        };
        html! {
            section.panel {
                header { h2 { "Tokens" } }
                @if self.tokens.is_empty() {
                    div.empty { p { "There is none." } }
                } @else {
                    div.scroll { table {
                        thead { tr { @if self.is_of_all { th { "Of" } } th { "Label" } th { "May" } th { "Made" } th { "Ends" } th {} } }
                        tbody { @for (id, token) in &self.tokens { tr {
                            @if self.is_of_all { td { b { (shown(&token.user)) } } }
                            td { (shown(&token.label)) @if self.request.caller.token == Some(*id) { " " span.chip { "this one" } } }
                            td.mono { (token.rights()) }
                            td.nowrap { (ago(Timestamp::from_ms(token.created_at_ms), self.now)) }
                            td.nowrap { (self.end(token)) }
                            td { @if self.may_change {
                                form.inline method="post" action=(revoke) {
                                    input type="hidden" name="id" value=(id);
                                    button type="submit" { "Revoke" }
                                }
                            } }
                        } } }
                    } }
                }
                @if self.may_change && (!self.is_of_all || !self.users.is_empty()) {
                    div.body { form.filters method="post" action=(create) {
                        @if self.is_of_all {
                            label { "Of" select name="user" { @for user in &self.users { option value=(user.name) { (user.name) } } } }
                        }
                        label { "Label" input type="text" name="label" maxlength="100" placeholder="what it is for" autocomplete="off"; }
                        label { "Ends after days" input type="number" name="days" min="1" max=(accounts::TOKEN_DAYS_MAX) placeholder="never"; }
                        fieldset.checks {
                            legend { "May (nothing ticked: all that the account may)" }
                            @for scope in Scope::ALL {
                                label { input type="checkbox" name="scopes" value=(scope.name()); (scope.title()) }
                            }
                        }
                        div.act { button type="submit" { "Make a token" } }
                    } }
                }
            }
        }
    }

    fn end(&self, token: &KeyRow) -> Markup {
        html! {
            @match token.expires_at_ms {
                None => span.muted { "never" },
                Some(at) if at <= self.now.ms() => span.chip.warn { "has ended" },
                Some(at) => (Timestamp::from_ms(at)),
            }
        }
    }
}
