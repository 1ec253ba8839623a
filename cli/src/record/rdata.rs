//! RDATA from the words of a command line. The shell has taken its quotes off by then, and text
//! with blanks in it would fall apart into several strings, without the blanks.

/// One RDATA from its words. Words of a TXT or SPF record that have blanks, semicolons or
/// parentheses, and no quotes of their own, are quoted.
#[must_use]
pub fn join(rtype: &str, words: &[String]) -> String {
    let is_text = ["TXT", "SPF"].iter().any(|text| rtype.eq_ignore_ascii_case(text));
    let words = words
        .iter()
        .map(|word| if is_text && is_open(word) { format!("\"{word}\"") } else { word.clone() });
    words.collect::<Vec<_>>().join(" ")
}

/// True for a word that would not stay one in a zone file. RDATA of unknown form (`\# 2 abcd`, RFC
/// 3597) has its own rules.
#[must_use]
pub fn is_open(word: &str) -> bool {
    word.contains([' ', '\t', ';', '(', ')']) && !word.contains('"') && !word.starts_with("\\#")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(rtype: &str, words: &[&str]) -> String {
        join(rtype, &words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn text_with_blanks_stays_one_string() {
        assert_eq!(joined("TXT", &["v=spf1 mx -all"]), "\"v=spf1 mx -all\"");
        assert_eq!(joined("txt", &["v=DKIM1;p=x", "b"]), "\"v=DKIM1;p=x\" b");
    }

    #[test]
    fn what_is_quoted_or_no_text_is_left_as_it_is() {
        assert_eq!(joined("TXT", &["\"a b\" \"c\""]), "\"a b\" \"c\"");
        assert_eq!(joined("TXT", &["\\# 2 0161"]), "\\# 2 0161");
        assert_eq!(joined("TXT", &["a", "b"]), "a b");
        assert_eq!(joined("MX", &["10 mail"]), "10 mail");
        assert_eq!(joined("MX", &["10", "mail"]), "10 mail");
    }
}
