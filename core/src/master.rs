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
    /// `$INCLUDE`, and what it names.
    Include(String),
}

/// Goes through the text once; says what the scanner must not see.
pub(crate) fn check(text: &[u8]) -> Result<(), Flaw> {
    let mut octets = text.iter().copied().enumerate();
    let (mut line, mut quote, mut groups) = (1, None, Vec::new());
    let (mut is_comment, mut is_start) = (false, true);
    while let Some((place, octet)) = octets.next() {
        let begins_entry = std::mem::replace(&mut is_start, octet == b'\n' && groups.is_empty());
        if begins_entry && quote.is_none() && matches!(octet, b'$' | b'"') {
            include(text.get(place..).unwrap_or_default())?;
        }
        match octet {
            b'\n' => {
                line += 1;
                is_comment = false;
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

/// Refuses an entry that is an `$INCLUDE`.
fn include(entry: &[u8]) -> Result<(), Flaw> {
    const WORD: &[u8] = b"$INCLUDE";
    let entry = entry.strip_prefix(b"\"").unwrap_or(entry);
    let Some((word, rest)) = entry.split_at_checked(WORD.len()) else { return Ok(()) };
    let ends = rest.first().is_none_or(|octet| !octet.is_ascii_alphanumeric());
    if word.eq_ignore_ascii_case(WORD) && ends {
        let path = rest.split(|octet| *octet == b'\n').next().unwrap_or_default();
        return Err(Flaw::Include(excerpt(String::from_utf8_lossy(path).trim(), 200)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_scanner_panics_at_is_refused_before() {
        let open = |what, line| Err(Flaw::Open { what, line });
        let include = |path: &str| Err(Flaw::Include(path.to_owned()));
        for (text, wanted) in [
            ("a 1 TXT ( b\n", open("a `(`", 1)),
            ("\n; (\na 1 TXT \"(\" \\( (\n(\n)", open("a `(`", 3)),
            ("a 1 TXT \"b\\\"\n", open("a `\"`", 1)),
            ("$INCLUDE\"other.zone\n\"other.zone\n", include("\"other.zone")),
            ("a 1 A 192.0.2.1\n$include x\\y\x18\n", include("x\\y\\u{18}")),
            ("\"$INCLUDE\" x", include("\" x")),
            ("$INCLUDED x\n$TTL 5\n", Ok(())),
            ("a 1 TXT ( ; )\n \"b;(\" )\n", Ok(())),
            ("", Ok(())),
        ] {
            assert_eq!(check(text.as_bytes()), wanted, "{text}");
        }
    }
}
