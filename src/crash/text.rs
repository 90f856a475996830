//! Texts of clients, as people may see them.

/// Whether a character is invisible, or turns the line around: it must not stand in a page, a title
/// or a file's name as it is. Line ends and tabs are not among them.
pub fn is_hidden(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}'
        )
}
