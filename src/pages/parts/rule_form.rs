//! The forms that merge, rename or split a signature, and that say whose a module is.

use maud::{Markup, html};

use crate::fields::name;
use crate::signature::{OWNERS, Owner};

/// The kinds of rules: the value in the form, its text there, and the words between the two sides of the rule.
pub(crate) const KINDS: [(&str, &str, &str); 3] = [
    ("merge", "merge into", " => "),
    ("rename", "rename to", " => "),
    ("split", "split by annotation", " by "),
];

/// The form on the page of a signature.
pub(crate) fn panel(signature: &str, product: Option<&str>) -> Markup {
    html! {
        section.panel id="rule" {
            header { h2 { "Merge, rename or split" } span.muted.small { "you see what changes before it is saved" } }
            div.body {
                form.filters method="post" action="/signatures/rule" {
                    input type="hidden" name=(name::SIGNATURE) value=(signature);
                    label { "Change" select name="kind" {
                        @for (word, text, _) in KINDS { option value=(word) { (text) } }
                    } }
                    label { "Signature, name or annotation" input name="to" required maxlength="255"; }
                    @if let Some(product) = product {
                        label { "Products" select name=(name::PRODUCT) {
                            option value="" { "all products" }
                            option value=(product) { "only " (product) }
                        } }
                    }
                    label { "Comment" input name="comment" maxlength="500" placeholder="reason"; }
                    div.act { button type="submit" { "Preview" } }
                }
            }
        }
    }
}

/// The form for a module: whose code it is, in one product or in all.
pub(crate) fn of_module(module: &str, product: &str, owner: Owner) -> Markup {
    html! {
        form.inline method="post" action="/signatures/rule" {
            input type="hidden" name="module" value=(module);
            select name="kind" aria-label="Owner" {
                @for (word, kind) in OWNERS { option value=(word) selected[kind == owner] { (word) } }
            }
            select name=(name::PRODUCT) aria-label="Products" {
                option value="" { "all products" }
                @if !product.is_empty() { option value=(product) { "only " (product) } }
            }
            button type="submit" { "Preview" }
        }
    }
}
