//! The tokens of master-file text (RFC 1035 section 5.1), looked at before the scanner of `domain`
//! 0.12.3 is: it panics where a group is not closed and where something stands directly behind the
//! path of an `$INCLUDE` (invariant 15). Found by fuzzing; the cases are in this file's test.

use crate::excerpt::excerpt;

/// What is wrong with the text as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A `(` or `"` without its end, and its line.
    Open {
        /// Which.
        what: &'static str,
        /// Where, counted from 1.
        line: usize,
    },
    /// A line that begins with `$`, is neither `$ORIGIN` nor `$TTL`, and has this text.
    Control {
        /// Its text.
        text: String,
        /// Where, counted from 1.
        line: usize,
    },
}

/// Goes through the text once; says what the scanner must not see.
pub(crate) fn check(text: &[u8]) -> Result<(), Flaw> {
    let mut octets = text.iter().copied().enumerate();
    let (mut line, mut quote, mut groups) = (1, None, Vec::new());
    // True while the entry has nothing yet: what then begins with `$` is a control.
    let (mut is_comment, mut is_bare) = (false, true);
    while let Some((place, octet)) = octets.next() {
        if is_bare && !is_comment && matches!(octet, b'$' | b'"') {
            control(text.get(place..).unwrap_or_default(), line)?;
        }
        is_bare &= is_comment || matches!(octet, b'(' | b')' | b';' | b'\n');
        match octet {
            b'\n' => {
                line += 1;
                is_comment = false;
                is_bare |= groups.is_empty() && quote.is_none();
            }
            _ if is_comment => {}
            b'\\' => line += usize::from(matches!(octets.next(), Some((_, b'\n')))),
            b'"' => quote = if quote.is_some() { None } else { Some(line) },
            _ if quote.is_some() => {}
            b';' => is_comment = true,
            b'(' => groups.push(line),
            b')' => drop(groups.pop()),
            _ => {}
        }
    }
    match (quote, groups.last()) {
        (Some(line), _) => Err(Flaw::Open { what: "a `\"`", line }),
        (None, Some(line)) => Err(Flaw::Open { what: "a `(`", line: *line }),
        (None, None) => Ok(()),
    }
}

/// Refuses a control that is not one of the two that are followed here, letter by letter.
fn control(entry: &[u8], line: usize) -> Result<(), Flaw> {
    let unquoted = entry.strip_prefix(b"\"").unwrap_or(entry);
    if unquoted.first() != Some(&b'$') {
        return Ok(());
    }
    let end = entry.iter().position(u8::is_ascii_whitespace).unwrap_or(entry.len());
    let word = entry.get(..end).unwrap_or_default();
    if word.eq_ignore_ascii_case(b"$ORIGIN") || word.eq_ignore_ascii_case(b"$TTL") {
        return Ok(());
    }
    let text = entry.split(|octet| *octet == b'\n').next().unwrap_or_default();
    Err(Flaw::Control { text: excerpt(String::from_utf8_lossy(text).trim(), 200), line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_scanner_panics_at_is_refused_before() {
        let open = |what, line| Err(Flaw::Open { what, line });
        let control = |text: &str, line| Err(Flaw::Control { text: text.to_owned(), line });
        for (text, wanted) in [
            ("a 1 TXT ( b\n", open("a `(`", 1)),
            ("\n; (\na 1 TXT \"(\" \\( (\n(\n)", open("a `(`", 3)),
            ("a 1 TXT \"b\\\"\n", open("a `\"`", 1)),
            ("$INCLUDE\"other.zone\n\"other.zone\n", control("$INCLUDE\"other.zone", 1)),
            ("a 1 A 192.0.2.1\n$include x\\y\x18\n", control("$include x\\y\\u{18}", 2)),
            ("$I\\NCLUDE \"x\"y\n", control("$I\\NCLUDE \"x\"y", 1)),
            ("(;\n$INCLUDE \"x\"y)\n", control("$INCLUDE \"x\"y)", 2)),
            ("\"$INCLUDE\" x", control("\"$INCLUDE\" x", 1)),
            ("$origin a\n$TTL 5\n $ 1 A 192.0.2.1\n\"a\" 1 TXT $x\n", Ok(())),
            ("a 1 TXT ( ; )\n \"b;(\" )\n", Ok(())),
            ("", Ok(())),
        ] {
            assert_eq!(check(text.as_bytes()), wanted, "{text}");
        }
    }
}
