//! Bugs on the pages of signatures and reports: which bugs exist, their status, links that file a new one,
//! and the forms that attach or detach a bug by hand.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use maud::{Markup, html};

use super::parts::scope::Scope;
use super::{counted, report_path, shown, text_of};
use crate::app::App;
use crate::bugs::filing::Filing;
use crate::bugs::template::Template;
use crate::bugs::{BugKey, reference};
use crate::crash::id::CrashId;
use crate::crash::processed::ProcessedCrash;
use crate::fields::name;
use crate::limits;
use crate::store::bugs::{Association, BugChange};
use crate::web::{Captures, Params, Request, Response, WebError};

/// Bugs of one signature that a page lists. The API returns all of them.
const BUGS_MAX: usize = 50;
/// Bugs per signature in a table.
const IDS_MAX: usize = 4;

/// Attaches a bug to a signature.
///
/// # Errors
/// 400 if the signature or the bug is missing or invalid, 503 while the store cannot be written, 500 if
/// stored data is damaged.
pub(crate) fn attach(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let form = request.form();
    let signature = signature_in(&form)?;
    let text = form.get("bug").ok_or_else(|| {
        WebError::bad("bug", "bug is missing; give the URL or the number of a bug")
    })?;
    let config = app.config.get();
    let tracker = Some(config.bugzilla.url.0.as_str()).filter(|url| !url.is_empty());
    let bug = reference::read(text, tracker).map_err(|why| WebError::bad("bug", why))?;
    let is_polled = tracker == Some(&bug.key.tracker);
    app.store.change_bugs(vec![BugChange::Attach {
        bug,
        signature: signature.clone(),
    }])?;
    if let Some(bugzilla) = app.bugzilla.as_ref().filter(|_| is_polled) {
        bugzilla.wake();
    }
    Ok(Response::see_other(&page_of(&signature)))
}

/// Detaches a bug, which undoes [`attach`].
///
/// # Errors
/// 400 if a value is missing or the signature is too long, 404 if the bug is not attached to the signature,
/// 409 if the bug itself names the signature, 503 while the store cannot be written, 500 if stored data is
/// damaged.
pub(crate) fn detach(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let form = request.form();
    let signature = signature_in(&form)?;
    let text = |name: &str| {
        let text = form.get(name).map(str::to_owned);
        text.ok_or_else(|| WebError::bad(name, format!("{name} is missing")))
    };
    let key = BugKey {
        id: text("id")?,
        tracker: text("tracker")?,
    };
    let found = of_signature(app, &signature)?;
    match found.iter().find(|association| association.bug.key == key) {
        None => Err(WebError::not_found(format!(
            "bug {:?} of {:?} is not attached to this signature",
            key.id, key.tracker
        ))),
        Some(association) if !association.by_hand => Err(WebError::new(
            409,
            format!(
                "bug {} names this signature in its crash-signature field; remove it there",
                key.id
            ),
        )),
        Some(_) => {
            app.store.change_bugs(vec![BugChange::Detach {
                key,
                signature: signature.clone(),
            }])?;
            Ok(Response::see_other(&page_of(&signature)))
        }
    }
}

fn signature_in(form: &Params) -> Result<String, WebError> {
    let signature = form
        .get(name::SIGNATURE)
        .ok_or_else(|| WebError::bad(name::SIGNATURE, "signature is missing"))?;
    if signature.len() > limits::BUG_SIGNATURE_BYTES_MAX {
        let why = format!(
            "the signature has {} bytes; the limit is {}",
            signature.len(),
            limits::BUG_SIGNATURE_BYTES_MAX
        );
        return Err(WebError::bad(name::SIGNATURE, why));
    }
    Ok(signature.to_owned())
}

fn page_of(signature: &str) -> String {
    Scope::default().signature_page(signature) + "#bugs"
}

/// The bugs of one signature, newest first.
pub(super) fn of_signature(app: &App, signature: &str) -> Result<Vec<Association>, WebError> {
    let signatures = [signature.to_owned()];
    Ok(app
        .store
        .bugs_of(&signatures)?
        .remove(signature)
        .unwrap_or_default())
}

/// The bugs of each of these signatures and of the signatures that its group had before. Signatures without
/// bugs are left out.
pub(super) fn of_groups(
    app: &App,
    signatures: &[String],
) -> Result<HashMap<String, Vec<Association>>, WebError> {
    let former = app.store.former_signatures(signatures)?;
    let mut found = app.store.bugs_of(signatures)?;
    for (signature, names) in former {
        let of_former = app.store.bugs_of(&names)?;
        let bugs = found.entry(signature).or_default();
        add_new(bugs, of_former.into_values().flatten());
    }
    found.retain(|_, bugs| !bugs.is_empty());
    Ok(found)
}

/// Adds the bugs that are not in the list yet.
fn add_new(bugs: &mut Vec<Association>, others: impl Iterator<Item = Association>) {
    for association in others {
        if !bugs
            .iter()
            .any(|known| known.bug.key == association.bug.key)
        {
            bugs.push(association);
        }
    }
}

/// The bugs of a signature, plus those of signatures that crashes of this signature had before.
fn of_signature_and_former(app: &App, signature: &str) -> Result<Vec<Association>, WebError> {
    let former = app.store.moved_from(signature)?;
    let mut signatures = vec![signature.to_owned()];
    signatures.extend(former.into_iter().map(|(signature, _)| signature));
    let mut found = app.store.bugs_of(&signatures)?;
    let mut bugs: Vec<Association> = Vec::new();
    let in_order = signatures.iter().filter_map(|s| found.remove(s));
    add_new(&mut bugs, in_order.flatten());
    Ok(bugs)
}

/// The panel about bugs on a page.
pub(super) struct Panel {
    pub(crate) signature: String,
    pub(crate) bugs: Vec<Association>,
    /// Texts and URLs of the links that file a bug.
    pub(crate) filing: Vec<(String, String)>,
    /// True if the panel contains the forms.
    pub(crate) may_change: bool,
}

impl Panel {
    /// The panel for the page of a report.
    pub(crate) fn of_report(
        app: &App,
        request: &Request,
        id: CrashId,
        processed: &ProcessedCrash,
    ) -> Result<Self, WebError> {
        let signature = processed.text("signature").unwrap_or_default();
        let product = processed.text("product").unwrap_or_default();
        let config = app.config.get();
        let templates = config.bug_template.iter();
        let filing = templates
            .filter(|template| template.fits(&product))
            .map(|template| filing_link(app, request, template, id, processed));
        Ok(Self {
            bugs: of_signature_and_former(app, &signature)?,
            signature,
            filing: filing.collect(),
            may_change: false,
        })
    }

    /// The panel for the page of a signature. The newest crashes in `scope` supply the values for the links.
    pub(crate) fn of_signature(
        app: &App,
        request: &Request,
        signature: &str,
        scope: &Scope,
    ) -> Result<Self, WebError> {
        Ok(Self {
            signature: signature.to_owned(),
            bugs: of_signature_and_former(app, signature)?,
            filing: links_of_newest(app, request, scope)?,
            may_change: request.is_admin() && !app.read_only,
        })
    }

    pub(crate) fn markup(&self) -> Markup {
        if self.bugs.is_empty() && self.filing.is_empty() && !self.may_change {
            return html! {};
        }
        html! {
            section.panel id="bugs" {
                header {
                    h2 { "Bugs" }
                    @if !self.filing.is_empty() {
                        span.act {
                            "File one in "
                            @for (at, (name, url)) in self.filing.iter().enumerate() {
                                @if at > 0 { " · " }
                                a href=(url) rel="noopener" { (shown(name)) }
                            }
                        }
                    }
                }
                @if self.bugs.is_empty() { div.body.muted { "No bugs." } } @else { (self.table()) }
                @if self.may_change { div.body { (self.form()) } }
            }
        }
    }

    fn table(&self) -> Markup {
        let more = self.bugs.len().saturating_sub(BUGS_MAX);
        html! {
            div.scroll {
                table.bugs {
                    thead { tr { th { "Bug" } th { "Status" } th { "Summary" } @if self.may_change { th {} } } }
                    tbody {
                        @for association in self.bugs.iter().take(BUGS_MAX) {
                            @let standing = &association.bug.standing;
                            tr {
                                td { (link(association, &association.bug.key.id)) }
                                td {
                                    @if standing.status.is_empty() { span.faint title="The status was not requested from the tracker yet" { "unknown" } }
                                    @else { (shown(&standing.status)) " " (shown(&standing.resolution)) }
                                }
                                td {
                                    @if association.bug.is_resolved() { s { (shown(&standing.summary)) } }
                                    @else { (shown(&standing.summary)) }
                                    @if association.signature != self.signature {
                                        div.small.faint { "from the former signature " span.mono { (shown(&association.signature)) } }
                                    }
                                }
                                @if self.may_change { td { (self.detach(association)) } }
                            }
                        }
                    }
                }
            }
            @if more > 0 { div.body.small.muted { (counted(more as u64, "more bug", "more bugs")) " in the API" } }
        }
    }

    fn detach(&self, association: &Association) -> Markup {
        let key = &association.bug.key;
        html! {
            @if association.signature != self.signature {
            } @else if association.by_hand {
                form.inline method="post" action="/signature/bugs/detach" {
                    input type="hidden" name=(name::SIGNATURE) value=(self.signature);
                    input type="hidden" name="id" value=(key.id);
                    input type="hidden" name="tracker" value=(key.tracker);
                    button type="submit" { "Detach" }
                }
            } @else {
                span.faint.small title="The bug's crash-signature field names this signature" { "from the bug" }
            }
        }
    }

    fn form(&self) -> Markup {
        html! {
            form.inline method="post" action="/signature/bugs/attach" {
                input type="hidden" name=(name::SIGNATURE) value=(self.signature);
                label { "Attach a bug " input name="bug" required placeholder="URL, or number in Bugzilla"; }
                " " button type="submit" { "Attach" }
            }
        }
    }
}

/// A link with a bug's id or a short form of it. The link is struck through if the bug is resolved.
fn link(association: &Association, id: &str) -> Markup {
    let bug = &association.bug;
    let about = format!(
        "{} {} {}",
        bug.standing.status, bug.standing.resolution, bug.standing.summary
    );
    let about = Some(about.trim()).filter(|about| !about.is_empty());
    let link = html! { a href=(bug.url) rel="noopener" title=[about.map(shown)] { (shown(id)) } };
    html! { @if bug.is_resolved() { s { (link) } } @else { (link) } }
}

/// Only the ids, for a cell of a table. `page` shows the rest.
pub(super) fn ids(bugs: &[Association], page: &str) -> Markup {
    html! {
        @for (at, association) in bugs.iter().take(IDS_MAX).enumerate() {
            @if at > 0 { " " }
            // `owner/repo#12` without its owner, because the cell is narrow.
            @let id = &association.bug.key.id;
            (link(association, id.rsplit('/').next().unwrap_or(id)))
        }
        @if bugs.len() > IDS_MAX { " " a.faint href={ (page) "#bugs" } { "+" (bugs.len() - IDS_MAX) } }
    }
}

/// The text and URL of the template's link for a crash.
fn filing_link(
    app: &App,
    request: &Request,
    template: &Template,
    id: CrashId,
    processed: &ProcessedCrash,
) -> (String, String) {
    let own = app.address(request);
    let signature = processed.text("signature").unwrap_or_default();
    let filing = Filing {
        processed,
        crash_url: &format!("{own}{}", report_path(id)),
        signature_url: &format!("{own}{}", Scope::default().signature_page(&signature)),
    };
    (template.name.clone(), filing.address(&template.url))
}

/// The link of each template, with the values of the newest matching crash in `scope`.
fn links_of_newest(
    app: &App,
    request: &Request,
    scope: &Scope,
) -> Result<Vec<(String, String)>, WebError> {
    let config = app.config.get();
    let mut links = Vec::new();
    // Most templates are for one product, or for all.
    let mut newest_of: HashMap<&str, Option<(CrashId, ProcessedCrash)>> = HashMap::new();
    for template in config.bug_template.iter() {
        let product = template.product.as_str();
        let newest = match newest_of.entry(product) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(newest(app, request, scope, product)?),
        };
        if let Some((id, processed)) = newest {
            links.push(filing_link(app, request, template, *id, processed));
        }
    }
    Ok(links)
}

/// The newest crash of a product in `scope`, or of all products if `product` is empty.
fn newest(
    app: &App,
    request: &Request,
    scope: &Scope,
    product: &str,
) -> Result<Option<(CrashId, ProcessedCrash)>, WebError> {
    // A second condition on the product would be an alternative to the one in the request.
    let scope = match (product, request.query.get(name::PRODUCT)) {
        (product, Some(asked)) if !product.is_empty() && product != asked => return Ok(None),
        (product, None) if !product.is_empty() => scope.with(name::PRODUCT, product),
        _ => scope.clone(),
    };
    let query = scope.query(app, request)?.list(&[name::UUID], 1);
    let found = app.index.search(&query)?;
    let newest = found.hits.first();
    let id = newest.map(|hit| text_of(found.value(hit, name::UUID)));
    let Some(id) = id.and_then(|id| id.parse::<CrashId>().ok()) else {
        return Ok(None);
    };
    // The index may still contain a crash that was just deleted.
    let Some((_, row)) = app.store.crash(id)? else {
        return Ok(None);
    };
    let json = app.store.processed(&row)?;
    let processed = json.and_then(|json| ProcessedCrash::parse(&json).ok());
    Ok(processed.map(|processed| (id, processed)))
}
