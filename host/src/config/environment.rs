//! The layer of the environment: `PREFIX_TABLE__KEY`. A variable has no type; it gets the one that
//! the default of its key has.

use figment::{
    util::nest,
    value::{Dict, Tag, Value},
};

use super::{ConfigError, keys};

/// A variable that sets a key.
pub(super) struct Variable {
    /// Its name, for errors.
    pub name: String,
    /// The key that it sets, in its tables.
    pub value: Dict,
}

/// The variables with the prefix, by name.
pub(super) fn variables(
    prefix: &str,
    all: impl Iterator<Item = (String, String)>,
    known: &Dict,
) -> Result<Vec<Variable>, ConfigError> {
    let mut found = Vec::new();
    for (name, text) in all {
        let Some(key) = name.strip_prefix(prefix).filter(|key| !key.is_empty()) else {
            continue;
        };
        let path: Vec<_> = key.split("__").map(str::to_lowercase).collect();
        let value = typed(&text, lookup(known, &path));
        let Value::Dict(_, value) = nest(&path.join("."), value) else {
            continue;
        };
        match keys::check(known, &value) {
            Ok(()) => found.push(Variable { name, value }),
            Err(_) if is_service_link(key) => {}
            Err(unknown) => return Err(unknown.in_environment(prefix)),
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// The default of a key.
fn lookup<'a>(known: &'a Dict, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    match (known.get(first)?, rest) {
        (value, []) => Some(value),
        (Value::Dict(_, inner), rest) => lookup(inner, rest),
        _ => None,
    }
}

/// A list is written with commas between; all else is text, from which numbers and truth values
/// are read where the key wants one.
fn typed(text: &str, default: Option<&Value>) -> Value {
    match default {
        Some(Value::Array(..)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(Tag::Default, items.map(Value::from).collect())
        }
        _ => Value::from(text),
    }
}

/// True for what Kubernetes sets in each container for a Service called as the program is
/// (`EDGESYNC_CONTROL_SERVICE_HOST`, `EDGESYNC_CONTROL_PORT_7353_TCP_ADDR`): not meant for us.
fn is_service_link(key: &str) -> bool {
    let port = |rest: &str| rest.is_empty() || rest.starts_with("_TCP") || rest.starts_with("_UDP");
    key == "SERVICE_HOST"
        || key == "SERVICE_PORT"
        || key.starts_with("SERVICE_PORT_")
        || key == "PORT"
        || key.strip_prefix("PORT_").is_some_and(|rest| {
            let number = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            number.len() < rest.len() && port(number)
        })
}
