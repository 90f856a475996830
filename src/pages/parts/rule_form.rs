//! The form that merges, renames or splits a signature.

use maud::{Markup, html};

use crate::fields::name;

/// The kinds of rules: the value in the form, what its input holds, and the words between the two sides.
pub const KINDS: [(&str, &str, &str); 3] = [
    ("merge", "signature to merge into", " => "),
    ("rename", "new name", " => "),
    ("split", "annotation to split by", " by "),
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
                        @for (word, holds, _) in KINDS { option value=(word) { (word) ": " (holds) } }
                    } }
                    label { "To" input name="to" required maxlength="255" placeholder="signature, name or annotation"; }
                    @if let Some(product) = product {
                        label { "Products" select name=(name::PRODUCT) {
                            option value="" { "all products" }
                            option value=(product) { "only " (product) }
                        } }
                    }
                    label { "Comment" input name="comment" maxlength="500" placeholder="reason for the change"; }
                    div.act { button type="submit" { "Preview" } }
                }
            }
        }
    }
}
