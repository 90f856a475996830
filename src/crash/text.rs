//! Texts from clients, and what may be shown of them.

/// Whether a character is invisible or changes the direction of a line. Such a character must not appear
/// unescaped in a page, a title or a file name. Line ends and tabs do not count.
pub(crate) fn is_hidden(c: char) -> bool {
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
