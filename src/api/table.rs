//! Tables as CSV files.

use serde_json::Value;

use crate::web::{Response, WebError};

const CSV: &str = "text/csv; charset=utf-8";

/// A table as CSV (RFC 4180). Browsers save it under `name`, which must not come from a client.
///
/// # Errors
/// 500 if a row cannot be written as CSV.
pub(crate) fn csv<Row: IntoIterator<Item = String>>(
    name: &str,
    header: &[&str],
    rows: impl IntoIterator<Item = Row>,
) -> Result<Response, WebError> {
    let mut bytes = Vec::new();
    row(&mut bytes, header.iter().map(|text| (*text).to_owned()))?;
    for cells in rows {
        row(&mut bytes, cells)?;
    }
    Ok(Response::new(200, CSV, bytes).with(
        "content-disposition",
        format!("attachment; filename=\"{name}.csv\""),
    ))
}

/// Appends one line of CSV.
///
/// # Errors
/// 500 if the cells cannot be written as CSV.
pub(crate) fn row(
    bytes: &mut Vec<u8>,
    cells: impl IntoIterator<Item = String>,
) -> Result<(), WebError> {
    let mut writer = csv::Writer::from_writer(bytes);
    let written = writer.write_record(cells.into_iter().map(inert));
    let written = written.and_then(|()| writer.flush().map_err(csv::Error::from));
    written.map_err(|error| WebError::new(500, format!("the table cannot be written: {error}")))
}

/// The value of a column as one cell. The values of a list are separated by semicolons.
pub(crate) fn cell_of(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        Value::Array(values) => {
            let texts: Vec<String> = values.into_iter().map(cell_of).collect();
            texts.join(";")
        }
        other => other.to_string(),
    }
}

/// Makes a cell safe. A spreadsheet treats a cell that begins with such a character as a formula, and the
/// text comes from a client.
fn inert(cell: String) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula && cell.parse::<f64>().is_err() {
        format!("'{cell}")
    } else {
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::Body;

    #[test]
    fn cells_are_quoted_and_no_cell_is_a_formula() {
        let rows = [["a \"b\", c", "=1+1"], ["\n", "-17.5"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        let response = csv("t", &["x", "y"], rows).expect("a table");
        let Body::Bytes(bytes) = response.body else {
            panic!("a table in memory");
        };
        let text = String::from_utf8(bytes).expect("text");
        assert_eq!(text, "x,y\n\"a \"\"b\"\", c\",'=1+1\n\"\n\",-17.5\n");
    }
}
