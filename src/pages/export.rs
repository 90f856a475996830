//! Tables as files.

use crate::web::{Response, WebError};

const CSV: &str = "text/csv; charset=utf-8";

/// A table as CSV (RFC 4180), saved by browsers under `name`, which is ours and not a client's.
pub fn csv<Row: IntoIterator<Item = String>>(
    name: &str,
    header: &[&str],
    rows: impl IntoIterator<Item = Row>,
) -> Result<Response, WebError> {
    let failed =
        |error: csv::Error| WebError::new(500, format!("the table cannot be written: {error}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header).map_err(failed)?;
    for row in rows {
        writer
            .write_record(row.into_iter().map(inert))
            .map_err(failed)?;
    }
    let bytes = writer
        .into_inner()
        .map_err(|error| failed(error.into_error().into()))?;
    Ok(Response::new(200, CSV, bytes).with(
        "content-disposition",
        format!("attachment; filename=\"{name}.csv\""),
    ))
}

/// Spreadsheets take a cell that begins so for a formula, and the text is a client's.
fn inert(cell: String) -> String {
    match cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{cell}"),
        false => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::Body;

    #[test]
    fn cells_are_quoted_and_no_cell_is_a_formula() {
        let rows = [["a \"b\", c", "=1+1"], ["\n", "plain"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        let response = csv("t", &["x", "y"], rows).expect("a table");
        let Body::Bytes(bytes) = response.body else {
            panic!("a table in memory");
        };
        let text = String::from_utf8(bytes).expect("text");
        assert_eq!(text, "x,y\n\"a \"\"b\"\", c\",'=1+1\n\"\n\",plain\n");
    }
}
