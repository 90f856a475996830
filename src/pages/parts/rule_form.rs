//! The form that merges, renames or splits a signature.

use maud::{Markup, html};

use crate::fields::name;

/// The kinds of rules: the value in the form, its text there, and the words between the two sides of the rule.
pub const KINDS: [(&str, &str, &str); 3] = [
    ("merge", "merge into", " => "),
    ("rename", "rename to", " => "),
    ("split", "split by annotation", " by "),
];

/// The form on the page of a signature.
pub fn panel(signature: &str, product: Option<&str>) -> Markup {
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
