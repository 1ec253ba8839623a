//! The id of an edge: what the fleet, receipts and metrics call it.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{excerpt::excerpt, limits::EDGE_ID_CHARS};

/// Id of an edge: 1 to 63 of `a-z`, `0-9`, `-`, `_` and `.`, the first one a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId(Arc<str>);

/// Why something is no edge id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no edge id: 1 to 63 of a-z, 0-9, `-`, `_` and `.`, the first a letter or digit")]
pub struct EdgeIdError(String);

impl EdgeId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EdgeId {
    type Err = EdgeIdError;

    fn from_str(text: &str) -> Result<Self, EdgeIdError> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(&c);
        let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins_well && (1..=EDGE_ID_CHARS).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(EdgeIdError(excerpt(text, 80)))
        }
    }
}

impl fmt::Display for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_id_is_plain_and_short() {
        assert!("fra-01.edge_7".parse::<EdgeId>().is_ok());
        for bad in ["", ".", "..", "-fra", "Fra", "a b", "a/b", "é", "a\nb\x1b[2J", &"x".repeat(64)]
        {
            let error = bad.parse::<EdgeId>().unwrap_err().to_string();
            assert!(!error.contains(char::is_control), "{error:?} is one line");
        }
    }
}
