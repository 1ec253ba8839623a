//! What an error shows of a text that was refused: enough to know it again, in one line, and nothing
//! that a terminal or a log would take for its own.

/// The first `most` characters; control characters as escapes.
pub(crate) fn excerpt(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for c in text.chars().take(most) {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_short_and_one_line() {
        assert_eq!(excerpt("a\nb\u{1b}[2Jc", 5), "a\\nb\\u{1b}[");
        assert_eq!(excerpt("é b", 2), "é ");
    }
}
