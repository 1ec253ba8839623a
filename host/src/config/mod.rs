//! A program's configuration: defaults, then a TOML file, then the environment, then flags; each
//! layer overrides the one before. Which keys there are is read from the defaults, so that an
//! unknown one is refused, with the nearest that is known, before anything starts.

mod environment;
mod error;
mod keys;

use std::{fs, path::Path};

pub use error::ConfigError;
use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format, Serialized, Toml},
    value::{Dict, Map, Value},
};
use serde::{Serialize, de::DeserializeOwned};

/// Reads a configuration. `env_prefix` is such as `EDGESYNC_CONTROL_`; `__` stands between a table
/// and its key. In `flags`, what is `None` or an empty list was not given; a switch is an
/// `Option<bool>`.
///
/// A table that is empty by default takes any keys; one that is `None` by default checks its own.
///
/// # Errors
/// If the file cannot be read, or a layer has an unknown key or a value of the wrong type.
pub fn load<T, F>(file: Option<&Path>, env_prefix: &str, flags: &F) -> Result<T, ConfigError>
where
    T: Default + Serialize + DeserializeOwned,
    F: Serialize,
{
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    load_from(file, env_prefix, variables, flags)
}

/// As [`load`], with the environment given.
fn load_from<T, F>(
    file: Option<&Path>,
    env_prefix: &str,
    variables: impl Iterator<Item = (String, String)>,
    flags: &F,
) -> Result<T, ConfigError>
where
    T: Default + Serialize + DeserializeOwned,
    F: Serialize,
{
    let known = dict_of(&T::default())?;
    let mut figment = Figment::new().merge(layer("the defaults", known.clone()));
    if let Some(path) = file {
        let given = read_file(path)?;
        keys::check(&known, &given).map_err(|unknown| unknown.in_file(path))?;
        figment = figment.merge(layer(&path.display().to_string(), given));
    }
    for variable in environment::variables(env_prefix, variables, &known)? {
        figment = figment.merge(layer(&variable.name, variable.value));
    }
    let mut given = dict_of(flags)?;
    keep_given(&mut given);
    keys::check(&known, &given).map_err(keys::Unknown::in_flags)?;
    figment = figment.merge(layer(FLAGS, given));
    figment.extract_lossy().map_err(|error| ConfigError::of_value(&error, FLAGS))
}

/// Name of the layer of flags.
const FLAGS: &str = "the command line";

/// A layer: values, and the name that an error gives them.
struct Layer {
    name: String,
    values: Dict,
}

fn layer(name: &str, values: Dict) -> Layer {
    Layer { name: name.to_owned(), values }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn read_file(path: &Path) -> Result<Dict, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { file: path.to_owned(), source })?;
    Toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        ConfigError::Syntax {
            file: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).map_or(0, |line| line.chars().count()) + 1,
            reason: error.message().split_whitespace().collect::<Vec<_>>().join(" "),
        }
    })
}

/// The values of a struct.
fn dict_of<S: Serialize>(values: &S) -> Result<Dict, ConfigError> {
    let mut layers = Serialized::defaults(values)
        .data()
        .map_err(|error| ConfigError::Unwritable(error.to_string()))?;
    Ok(layers.remove(&Profile::Default).unwrap_or_default())
}

/// Takes out what was not given: a layer overrides with whatever it has.
fn keep_given(values: &mut Dict) {
    values.retain(|_, value| match value {
        Value::Empty(..) => false,
        Value::Array(_, items) => !items.is_empty(),
        Value::Dict(_, table) => {
            keep_given(table);
            !table.is_empty()
        }
        _ => true,
    });
}

#[cfg(test)]
mod tests;
