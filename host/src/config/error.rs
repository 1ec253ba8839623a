//! Why a configuration is not taken: where it stands, which key, and what would be right.

use std::{io, path::PathBuf};

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}:{column}: {reason}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The column in characters, counted from 1.
        column: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such key.
    #[error("{place}: unknown key `{key}`; the nearest known one is `{nearest}`")]
    UnknownKey {
        /// The file, or what else the key stands in.
        place: String,
        /// The key, with its tables.
        key: String,
        /// The known key that looks most like it.
        nearest: String,
    },
    /// A value is not what its key wants.
    #[error("{place}: key `{key}`: {reason}")]
    Value {
        /// The file, the variable, or what else the value comes from.
        place: String,
        /// The key, with its tables.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The program's own defaults or flags cannot be written as keys and values: a defect.
    #[error("the program's own configuration has no written form: {0}")]
    Unwritable(String),
}

impl ConfigError {
    /// From the first of the errors that were found in the merged layers.
    pub(super) fn of_value(error: &figment::Error, otherwise: &str) -> Self {
        let place = error.metadata.as_ref().map_or(otherwise, |metadata| metadata.name.as_ref());
        Self::Value {
            place: place.to_owned(),
            key: error.path.join("."),
            reason: error.kind.to_string(),
        }
    }
}
