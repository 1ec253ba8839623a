//! Which keys a configuration knows, and which known key an unknown one is nearest to.

use std::path::Path;

use figment::value::{Dict, Value};

use super::ConfigError;

/// A key that the configuration does not know, and the nearest one that it does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    /// The key, with its tables: `sync.window`.
    pub key: String,
    /// The nearest known one.
    pub nearest: String,
}

impl Unknown {
    /// As an error about a file.
    pub fn in_file(self, path: &Path) -> ConfigError {
        let Self { key, nearest } = self;
        ConfigError::UnknownKey { place: path.display().to_string(), key, nearest }
    }

    /// As an error about a variable.
    pub fn in_environment(self, prefix: &str) -> ConfigError {
        let name = |key: &str| format!("{prefix}{}", key.replace('.', "__").to_uppercase());
        let (key, nearest) = (name(&self.key), name(&self.nearest));
        ConfigError::UnknownKey { place: "the environment".to_owned(), key, nearest }
    }

    /// As an error about the command line: a flag without a key is a defect of the program.
    pub fn in_flags(self) -> ConfigError {
        let Self { key, nearest } = self;
        ConfigError::UnknownKey { place: super::FLAGS.to_owned(), key, nearest }
    }
}

/// Refuses the first key of `given` that is not in `known`.
pub(super) fn check(known: &Dict, given: &Dict) -> Result<(), Unknown> {
    match first_unknown(known, given, "") {
        None => Ok(()),
        Some(key) => Err(Unknown { nearest: nearest(known, &key), key }),
    }
}

fn first_unknown(known: &Dict, given: &Dict, table: &str) -> Option<String> {
    given.iter().find_map(|(key, value)| match (known.get(key), value) {
        (None, _) => Some(format!("{table}{key}")),
        (Some(Value::Dict(_, known)), Value::Dict(_, given)) if !known.is_empty() => {
            first_unknown(known, given, &format!("{table}{key}."))
        }
        _ => None,
    })
}

/// The known key that looks most like `key`: as a whole, or by its last part if it stands in the
/// wrong table.
fn nearest(known: &Dict, key: &str) -> String {
    let mut all = Vec::new();
    collect(known, "", &mut all);
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |candidate: &String| {
        let whole = strsim::damerau_levenshtein(candidate, key);
        whole.min(strsim::damerau_levenshtein(&last(candidate), &last(key)) + 1)
    };
    all.into_iter().min_by_key(distance).unwrap_or_default()
}

fn collect(known: &Dict, table: &str, all: &mut Vec<String>) {
    for (key, value) in known {
        all.push(format!("{table}{key}"));
        if let Value::Dict(_, inner) = value {
            collect(inner, &format!("{table}{key}."), all);
        }
    }
}
