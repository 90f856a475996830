//! Merges, renames or splits a signature, or says whose a module is: adds one site rule to the active lists and
//! shows what it would change. The page of the lists applies it, and restores an earlier revision to undo it.

use super::parts::rule_form::KINDS;
use super::signature_lists;
use crate::api::signatures::comment;
use crate::app::App;
use crate::fields::name;
use crate::signature::{FILES, ListTexts, OWNERS, SITE_RULES};
use crate::web::{Captures, Params, Request, Response, WebError};

/// Shows what a new site rule would change. Changes nothing.
///
/// # Errors
/// 400 if the form is incomplete or the rule cannot be written, 503 while the store cannot be read, 500 if
/// stored data is damaged. A rule that the lists refuse is not an error, but a page with status 400.
pub(crate) fn preview(app: &App, request: &Request, _: &Captures) -> Result<Response, WebError> {
    let form = request.form();
    let rule = rule(&form)?;
    let why = comment(form.get("comment").unwrap_or_default());
    let active = app.naming.active();
    let texts = with_rule(active.generator.lists().texts(), &rule, &why);
    let comment = if why.is_empty() { rule } else { why };
    signature_lists::show_preview(app, texts, comment, active.revision)
}

/// The rule that the form describes, as a line of the site rules.
fn rule(form: &Params) -> Result<String, WebError> {
    let needed = |name: &str| {
        let value = form.get(name).map(str::trim).filter(|v| !v.is_empty());
        value.ok_or_else(|| WebError::missing(name))
    };
    if form.get("module").is_some() {
        return of_module(needed("module")?, needed("kind")?, form);
    }
    let (signature, kind, to) = (needed(name::SIGNATURE)?, needed("kind")?, needed("to")?);
    let known = KINDS.iter().find(|(word, ..)| *word == kind);
    let (_, _, between) = known.ok_or_else(|| {
        let words = KINDS.map(|(word, ..)| word).join(", ");
        WebError::bad("kind", format!("kind is {kind:?}; accepted: {words}"))
    })?;
    let product = form.get(name::PRODUCT).unwrap_or_default().trim();
    let is_writable = !signature.ends_with('*')
        && !signature.starts_with('@')
        && [signature, to, product]
            .iter()
            .all(|text| !text.contains(['\n', '\r']))
        && !to.contains(between)
        && !product.contains('"');
    if !is_writable {
        let reason =
            "a rule of one line cannot describe this; write it into site_rules.txt at /signatures/";
        return Err(WebError::bad("signature", reason));
    }
    let scope = scope(product);
    Ok(format!("{kind} {scope}{signature}{between}{to}"))
}

/// The rule that says whose a module is.
fn of_module(module: &str, kind: &str, form: &Params) -> Result<String, WebError> {
    let words = OWNERS.map(|(word, _)| word);
    if !words.contains(&kind) {
        let message = format!("kind is {kind:?}; accepted: {}", words.join(", "));
        return Err(WebError::bad("kind", message));
    }
    let product = form.get(name::PRODUCT).unwrap_or_default().trim();
    let is_writable = [module, product]
        .iter()
        .all(|text| !text.contains(['\n', '\r', '"']));
    if !is_writable {
        let message = "a rule of one line cannot name this module; write it into site_rules.txt at /signatures/";
        return Err(WebError::bad("module", message));
    }
    Ok(format!(
        "{kind} {}{}",
        scope(product),
        regex::escape(module)
    ))
}

/// The part of a rule that limits it to a product.
fn scope(product: &str) -> String {
    if product.is_empty() {
        String::new()
    } else {
        format!("@\"{product}\" ")
    }
}

fn with_rule(texts: &ListTexts, rule: &str, why: &str) -> ListTexts {
    let mut texts = texts.clone();
    let Some(at) = FILES.iter().position(|file| *file == SITE_RULES) else {
        return texts;
    };
    let rules = &mut texts.0[at];
    if !rules.is_empty() && !rules.ends_with('\n') {
        rules.push('\n');
    }
    for line in why.lines() {
        rules.push_str(&format!("# {line}\n"));
    }
    rules.push_str(&format!("{rule}\n"));
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_becomes_one_line_of_the_site_rules() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
            rule(&Params(pairs.collect())).map_err(|error| error.message)
        };
        assert_eq!(
            of(&[("signature", "a => b"), ("kind", "merge"), ("to", "c | d")]).as_deref(),
            Ok("merge a => b => c | d")
        );
        assert_eq!(
            of(&[
                ("signature", "a"),
                ("kind", "split"),
                ("to", "Mode"),
                ("product", "Lynx Reader")
            ])
            .as_deref(),
            Ok("split @\"Lynx Reader\" a by Mode")
        );
        assert_eq!(
            of(&[
                ("module", "libfoo.so.1"),
                ("kind", "library"),
                ("product", "A B")
            ])
            .as_deref(),
            Ok(r#"library @"A B" libfoo\.so\.1"#)
        );
        let refused = |pairs: &[(&str, &str)], expected: &str| {
            let error = of(pairs).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        };
        refused(&[("signature", "a"), ("kind", "merge")], "to");
        refused(
            &[("signature", "a"), ("kind", "drop"), ("to", "b")],
            "merge, rename, split",
        );
        refused(
            &[("module", "a"), ("kind", "merge")],
            "program, library, driver, foreign",
        );
        refused(
            &[("signature", "operator*"), ("kind", "merge"), ("to", "b")],
            "site_rules.txt",
        );
        refused(
            &[("signature", "a"), ("kind", "merge"), ("to", "b => c")],
            "site_rules.txt",
        );
    }

    #[test]
    fn a_rule_follows_the_others_with_its_reason() {
        let mut texts = ListTexts::families();
        let at = FILES
            .iter()
            .position(|file| *file == SITE_RULES)
            .expect("site rules");
        texts.0[at] = "prefix x".into();
        let texts = with_rule(&texts, "merge a => b", "the same\nbug");
        assert_eq!(texts.0[at], "prefix x\n# the same\n# bug\nmerge a => b\n");
    }
}
