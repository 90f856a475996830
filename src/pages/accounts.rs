//! Accounts and tokens: the caller's own, and all of them for admins.

use maud::{Markup, html};

use super::{Page, ago, shown};
use crate::access::accounts::{self, NewToken, Parent};
use crate::access::{self, commands, sessions};
use crate::app::App;
use crate::clock::Timestamp;
use crate::rights::{Role, Scope};
use crate::store::accounts::{AccountChange, KeyRow, UserRow};
use crate::web::{Caller, Captures, Params, Request, Response, WebError};

/// The caller's account and tokens.
///
/// # Errors
/// 503 while the store cannot be read, 500 if stored data is damaged.
pub(crate) fn account(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    respond(app, request, "/account/", None)
}

/// Creates a token for the caller's account.
///
/// # Errors
/// 400 if a value in the form is invalid or the account has too many tokens, 403 if the caller has no account
/// or the caller's token has fewer rights than the account, 503 while the store cannot be written, 500 if
/// stored data is damaged.
pub(crate) fn create_own(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let user = own_managed(app, request)?;
    let form = request.form();
    let made = create(app, request, &user.name, &form)?;
    respond(app, request, "/account/", Some(made))
}

/// Revokes one of the caller's tokens. Every token may revoke itself.
///
/// # Errors
/// 400 if the caller has no such token, 403 if the caller has no account or the caller's token has fewer
/// rights than the account, 503 while the store cannot be written, 500 if stored data is damaged.
pub(crate) fn revoke_own(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let id = request.form().number("id", 0..);
    let user = match id {
        Ok(Some(id)) if request.caller.token == Some(id) => own(app, request)?,
        _ => own_managed(app, request)?,
    };
    revoke(app, id?, Some(&user.name))?;
    Ok(Response::see_other("/account/"))
}

/// All accounts and tokens.
///
/// # Errors
/// 503 while the store cannot be read, 500 if stored data is damaged.
pub(crate) fn users(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    respond(app, request, "/users/", None)
}

/// Adds an account or changes its role. The first account must be an admin. The caller who creates it
/// continues as that admin.
///
/// # Errors
/// 400 if the name or the role is invalid or no admin would remain, 503 while the store cannot be written, 500
/// if stored data is damaged.
pub(crate) fn put(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let form = request.form();
    let name = form.get("name").unwrap_or_default().trim();
    let role = form.get("role").unwrap_or_default();
    let role = commands::role_named(role)?;
    let is_first = !app.store.has_users()?;
    if is_first && role != Role::Admin {
        let why = "the first account must have the role admin, because the local key stops working when it is created";
        return Err(WebError::bad("role", why));
    }
    let now = app.clock.now();
    accounts::put_user(&app.store, name, role, now)?;
    if !is_first {
        return Ok(Response::see_other("/users/"));
    }
    app.local_key.end();
    let secret = accounts::create_token(
        &app.store,
        &NewToken {
            user: name,
            scopes: Vec::new(),
            label: "first token",
            days: None,
            parent: Parent::UNBOUNDED,
        },
        now,
    )?;
    // Wrong tokens from the same address must not hide the only secret of the new account.
    app.pace.prove(accounts::hash_of(&secret));
    let maker = access::holder_of(app, request, &secret)?;
    let maker = maker.map_err(|why| WebError::new(500, why.text()))?;
    let cookie = sessions::open(app, request, &maker)?;
    Ok(respond(app, request, "/users/", Some(secret))?.with("set-cookie", cookie))
}

/// Removes an account with its tokens and saved searches.
///
/// # Errors
/// 400 if the account does not exist or is the last admin, 503 while the store cannot be written, 500 if
/// stored data is damaged.
pub(crate) fn remove(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let form = request.form();
    let name = form.get("name").unwrap_or_default();
    accounts::remove_user(&app.store, name)?;
    Ok(Response::see_other("/users/"))
}

/// Creates a token for any account.
///
/// # Errors
/// 400 if a value in the form is invalid or the account has too many tokens, 503 while the store cannot be
/// written, 500 if stored data is damaged.
pub(crate) fn create_any(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let form = request.form();
    let user = form.get("user").unwrap_or_default();
    let made = create(app, request, user, &form)?;
    respond(app, request, "/users/", Some(made))
}

/// Revokes a token of any account.
///
/// # Errors
/// 400 if there is no such token, 503 while the store cannot be written, 500 if stored data is damaged.
pub(crate) fn revoke_any(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    revoke(app, request.form().number("id", 0..)?, None)?;
    Ok(Response::see_other("/users/"))
}

/// The caller's account.
fn own(app: &App, request: &Request) -> Result<UserRow, WebError> {
    let user = match request.caller.user.as_deref() {
        Some(name) => app.store.user(name)?,
        None => None,
    };
    user.ok_or_else(|| {
        WebError::forbidden(
            "only an account can have tokens; create an account under /users/ first",
        )
    })
}

/// The caller's account, if the caller may manage its tokens.
fn own_managed(app: &App, request: &Request) -> Result<UserRow, WebError> {
    let user = own(app, request)?;
    if accounts::manages_own_tokens(&request.caller, &user) {
        Ok(user)
    } else {
        Err(WebError::forbidden(format!(
            "the rights of this token are {}; to manage the tokens of {}, use a token with all rights of the account ({})",
            request.caller.rights,
            user.name,
            user.role().rights()
        )))
    }
}

fn create(app: &App, request: &Request, user: &str, form: &Params) -> Result<String, WebError> {
    let scopes: Vec<&str> = form.all("scopes").collect();
    let scopes = accounts::scopes(&scopes.join(","))?;
    let days = form.number("days", 1..=accounts::TOKEN_DAYS_MAX)?;
    let label = form.get("label").unwrap_or_default().trim();
    let new = NewToken {
        user,
        scopes,
        label,
        days,
        parent: (&request.caller).into(),
    };
    Ok(accounts::create_token(&app.store, &new, app.clock.now())?)
}

fn revoke(app: &App, id: Option<u64>, of: Option<&str>) -> Result<(), WebError> {
    let known = app.store.tokens(of)?;
    let Some(id) = id.filter(|id| known.iter().any(|(known, _)| known == id)) else {
        return Err(WebError::bad("id", "no token has this id"));
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
    /// The secret of a token that was just created. It is shown only this once.
    made: Option<String>,
    now: Timestamp,
    may_change: bool,
    /// True if the caller may create and revoke the tokens on the page.
    manages_tokens: bool,
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
        manages_tokens: !app.read_only && (is_of_all || own_managed(app, request).is_ok()),
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
                        None if caller.is_local => span.chip.warn { "no account yet: the local key makes you admin" },
                        None => span.chip { "not logged in" },
                    }
                    span.chip { "rights: " b { (caller.rights) } }
                    @if !self.is_of_all && self.request.is_admin() { a.chip href="/users/" { "all users" } }
                }
                @if caller.has_session {
                    form.inline method="post" action="/logout/" { button type="submit" { "Log out" } }
                } @else if caller == &Caller::anonymous() {
                    p { a href="/login/" { "Log in" } }
                }
            }
            @if let Some(secret) = &self.made {
                section.panel {
                    header { h2 { "New token" } }
                    div.body {
                        p.mono { b { (secret) } }
                        p.muted.small { "Copy it now: it is not shown again. Send it as " code { "Auth-Token" } " or " code { "Authorization: Bearer" } ", or log in with it." }
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
                    div.empty { p { "No accounts yet. Until the first account exists, whoever has the local key is admin. The first account must be an admin. When you create it, the local key stops working and you are logged in as that admin." } }
                } @else {
                    div.scroll { table {
                        thead { tr { th { "Name" } th { "Role" } th { "Created" } th {} } }
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
                        div.act { button type="submit" { "Save" } }
                    } }
                }
            }
        }
    }

    fn tokens_panel(&self) -> Markup {
        let (create, revoke) = if self.is_of_all {
            ("/users/token", "/users/revoke")
        } else {
            ("/account/token", "/account/revoke")
        };
        html! {
            section.panel {
                header { h2 { "Tokens" } }
                @if self.tokens.is_empty() {
                    div.empty { p { "No tokens." } }
                } @else {
                    div.scroll { table {
                        thead { tr { @if self.is_of_all { th { "Account" } } th { "Label" } th { "Rights" } th { "Created" } th { "Expires" } th {} } }
                        tbody { @for (id, token) in &self.tokens { tr {
                            @if self.is_of_all { td { b { (shown(&token.user)) } } }
                            td { (shown(&token.label)) @if self.request.caller.token == Some(*id) { " " span.chip { "current" } } }
                            td.mono { (token.rights()) }
                            td.nowrap { (ago(Timestamp::from_ms(token.created_at_ms), self.now)) }
                            td.nowrap { (self.end(token)) }
                            td { @if self.manages_tokens || self.request.caller.token == Some(*id) {
                                form.inline method="post" action=(revoke) {
                                    input type="hidden" name="id" value=(id);
                                    button type="submit" aria-label={ "Revoke token " (id) } { "Revoke" }
                                }
                            } }
                        } } }
                    } }
                }
                @if self.manages_tokens && (!self.is_of_all || !self.users.is_empty()) {
                    div.body { form.filters method="post" action=(create) {
                        @if self.is_of_all {
                            label { "Account" select name="user" { @for user in &self.users { option value=(user.name) { (user.name) } } } }
                        }
                        label { "Label" input type="text" name="label" maxlength="100" placeholder="what it is for" autocomplete="off"; }
                        label { "Expires after (days)" input type="number" name="days" min="1" max=(accounts::TOKEN_DAYS_MAX) placeholder="never"; }
                        fieldset.checks {
                            legend { "Rights (none checked: all rights of the account)" }
                            @for scope in Scope::ALL {
                                label { input type="checkbox" name="scopes" value=(scope.name()); (scope.title()) }
                            }
                        }
                        div.act { button type="submit" { "Create token" } }
                    } }
                }
            }
        }
    }

    fn end(&self, token: &KeyRow) -> Markup {
        html! {
            @match token.expires_at_ms {
                None => span.muted { "never" },
                Some(at) if at <= self.now.ms() => span.chip.warn { "expired" },
                Some(at) => (Timestamp::from_ms(at)),
            }
        }
    }
}
