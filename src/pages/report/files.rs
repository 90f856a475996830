//! The dumps and attachments of the report.

use maud::{Markup, html};

use super::view::View;
use crate::crash::raw::PartKind;
use crate::pages::{bytes_text, shown};
use crate::web::Params;

pub(super) fn files(view: &View) -> Markup {
    let row = &view.row;
    html! {
        section.panel id="files" {
            header { h2 { "Dumps and attachments" } }
            @if row.parts.is_empty() { div.body.muted { "The report has no files." } } @else {
                ul.files {
                    @for part in &row.parts {
                        @let query = Params(vec![
                            ("crash_id".into(), row.id.to_string()),
                            ("format".into(), "raw".into()),
                            ("name".into(), part.part.name.clone()),
                        ]);
                        li {
                            @if view.sees_protected {
                                a.mono href={ "/api/RawCrash/?" (query.to_query()) } { (shown(&part.part.name)) }
                            } @else if part.part.kind == PartKind::Dump {
                                span.mono { (shown(&part.part.name)) }
                            } @else { "an attachment" }
                            div.small.muted {
                                @if part.part.kind == PartKind::Dump { "minidump, " } @else { "attachment, " }
                                (bytes_text(part.part.bytes))
                                @if let Some(name) = part.part.file_name.as_ref().filter(|_| view.sees_protected) { ", sent as " span.mono { (shown(name)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
