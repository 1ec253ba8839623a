//! Principals as text: the policy file (TOML), and the rows in the log's store (JSON of the same form).
//! What is wrong refuses the whole file; unknown keys are wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use edgesync_host::credential::{CredentialError, KeptPassword, KeptToken};
use serde::{Deserialize, Serialize};

use super::{
    policy::{Grant, Principal, Token},
    role::NoRole,
    zones::{Zones, ZonesError},
};

/// Principals at the most, of the file and of the store each.
pub const PRINCIPALS_MAX: usize = 10_000;
/// Tokens, and grants, of one principal at the most.
pub const PER_PRINCIPAL_MAX: usize = 64;
/// Characters of a principal's name.
const NAME_CHARS: usize = 80;
/// Characters of a token's label.
const LABEL_CHARS: usize = 100;
/// Names that the control plane uses itself.
const RESERVED: [&str; 2] = ["anonymous", "edgesync-control"];

/// Why a policy is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It has not the form.
    #[error("{0}")]
    Form(String),
    /// A name is none.
    #[error(
        "`{0}` is no name of a principal: 1 to {NAME_CHARS} of a-z, A-Z, 0-9, '.', '_', '-', '@' and \
         '/', or edge/*; and not anonymous or edgesync-control"
    )]
    Name(String),
    /// Something is said of a principal that cannot be.
    #[error("principal {0}: {1}")]
    Principal(String, Wrong),
    /// Two principals have one name.
    #[error("principal {0} is there twice")]
    Twice(String),
    /// Two principals have one token.
    #[error("principal {0} has a token that another one has too")]
    SharedToken(String),
    /// There are too many.
    #[error("there are more than {PRINCIPALS_MAX} principals")]
    Many,
}

/// What is wrong with a principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Its password or a token.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// A role.
    #[error(transparent)]
    Role(#[from] NoRole),
    /// Zones.
    #[error(transparent)]
    Zones(#[from] ZonesError),
    /// Tokens or grants.
    #[error("it has more than {PER_PRINCIPAL_MAX} tokens or grants")]
    Many,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    #[serde(default)]
    principal: Vec<PrincipalText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrincipalText {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(default)]
    token: Vec<TokenText>,
    #[serde(default)]
    grant: Vec<GrantText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenText {
    sha256: String,
    #[serde(default)]
    label: String,
    /// Seconds since 1970.
    #[serde(default)]
    created: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantText {
    role: String,
    zones: Vec<String>,
}

/// Principals by name.
pub type Principals = BTreeMap<String, Arc<Principal>>;

/// Reads a policy file.
///
/// # Errors
/// With the first thing that is wrong.
pub fn read_file(text: &str) -> Result<Principals, PolicyError> {
    let file: FileText = toml::from_str(text).map_err(|error| {
        let line = error.span().and_then(|span| text.get(..span.start));
        let line = line.map_or(0, |before| before.matches('\n').count() + 1);
        let reason = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        PolicyError::Form(format!("line {line}: {reason}"))
    })?;
    if file.principal.len() > PRINCIPALS_MAX {
        return Err(PolicyError::Many);
    }
    let (mut principals, mut tokens) = (Principals::new(), BTreeSet::new());
    for text in file.principal {
        let name = name(&text.name)?;
        let principal = read(text)?;
        if !principal.tokens.iter().all(|token| tokens.insert(token.kept)) {
            return Err(PolicyError::SharedToken(name));
        }
        if principals.insert(name.clone(), Arc::new(principal)).is_some() {
            return Err(PolicyError::Twice(name));
        }
    }
    Ok(principals)
}

/// Checks a principal's name.
///
/// # Errors
/// If it is none.
pub fn name(text: &str) -> Result<String, PolicyError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-@/".contains(c);
    let good = (1..=NAME_CHARS).contains(&text.len()) && text.chars().all(allowed);
    if (good && !RESERVED.contains(&text)) || text == "edge/*" {
        return Ok(text.to_owned());
    }
    let shown = text.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect();
    Err(PolicyError::Name(shown))
}

/// A label as it is kept: one line, cut where it is too long.
#[must_use]
pub fn label(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LABEL_CHARS).collect()
}

/// Reads a row of the store.
///
/// # Errors
/// If it is none.
pub fn read_row(row: &[u8]) -> Result<Principal, PolicyError> {
    let text = serde_json::from_slice(row).map_err(|error| PolicyError::Form(error.to_string()))?;
    read(text)
}

fn read(text: PrincipalText) -> Result<Principal, PolicyError> {
    let name = text.name.clone();
    principal(text).map_err(|wrong| PolicyError::Principal(name, wrong))
}

fn principal(text: PrincipalText) -> Result<Principal, Wrong> {
    if text.token.len() > PER_PRINCIPAL_MAX || text.grant.len() > PER_PRINCIPAL_MAX {
        return Err(Wrong::Many);
    }
    let password = text.password.as_deref().map(KeptPassword::parse).transpose()?;
    let time = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let token = |text: TokenText| {
        let kept = KeptToken::parse(&text.sha256)?;
        let (created, expires) = (time(text.created), text.expires.map(time));
        Ok::<_, Wrong>(Token { kept, label: label(&text.label), created, expires })
    };
    let grant = |text: GrantText| {
        Ok::<_, Wrong>(Grant { role: text.role.parse()?, zones: Zones::parse(&text.zones)? })
    };
    let tokens = text.token.into_iter().map(token).collect::<Result<_, _>>()?;
    let grants = text.grant.into_iter().map(grant).collect::<Result<_, _>>()?;
    Ok(Principal { password, tokens, grants })
}

/// A row of the store.
#[must_use]
pub fn row(name: &str, principal: &Principal) -> Vec<u8> {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let token = |token: &Token| TokenText {
        sha256: token.kept.to_hex(),
        label: token.label.clone(),
        created: seconds(token.created),
        expires: token.expires.map(seconds),
    };
    let grant = |grant: &Grant| GrantText {
        role: grant.role.name().to_owned(),
        zones: grant.zones.texts(),
    };
    let text = PrincipalText {
        name: name.to_owned(),
        password: principal.password.as_ref().map(|kept| kept.as_str().to_owned()),
        token: principal.tokens.iter().map(token).collect(),
        grant: principal.grants.iter().map(grant).collect(),
    };
    // Text and numbers: nothing of it can be refused.
    serde_json::to_vec(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use edgesync_host::secret::Secret;

    use super::*;

    const EXAMPLE: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/policy.toml"));

    #[test]
    fn the_example_is_a_policy_also_with_what_is_commented_out() {
        let shown = |text: &str| read_file(text).unwrap().len();
        let plain = shown(EXAMPLE);
        let whole: String = EXAMPLE
            .lines()
            .map(|line| line.strip_prefix("#:").unwrap_or(line).to_owned() + "\n")
            .collect();
        assert!(shown(&whole) > plain, "{whole}");
    }

    #[test]
    fn what_is_wrong_refuses_the_file_with_its_place() {
        let token = "sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"";
        let two = format!(
            "[[principal]]\nname = \"a\"\n[[principal.token]]\n{token}\n[[principal]]\nname = \
             \"b\"\n[[principal.token]]\n{token}\n"
        );
        for (text, said) in [
            ("[[principal]]\nname = \"a\"\npasword = \"x\"", "pasword"),
            ("[[principal]]\nname = \"a\"\npassword = \"hunter2\"", "argon2id"),
            (
                "[[principal]]\nname = \"a\"\n[[principal.grant]]\nrole = \"root\"\nzones = [\".\"]",
                "root",
            ),
            (
                "[[principal]]\nname = \"a\"\n[[principal.grant]]\nrole = \"reader\"\nzones = []",
                "\".\" for all",
            ),
            ("[[principal]]\nname = \"a\"\n[[principal.grant]]\nrole = \"reader\"", "zones"),
            ("[[principal]]\nname = \"a b\"", "a b"),
            ("[[principal]]\nname = \"anonymous\"", "anonymous"),
            ("[[principal]]\nname = \"a\"\n[[principal]]\nname = \"a\"", "twice"),
            ("[[principal]\n", "line 1"),
            (&two, "another one"),
        ] {
            let refused = read_file(text).unwrap_err().to_string();
            assert!(refused.contains(said) && !refused.contains("hunter2"), "{refused}");
            assert_eq!(refused.lines().count(), 1, "{refused}");
        }
    }

    #[test]
    fn a_row_reads_back() {
        let password = KeptPassword::of(&Secret::new("correct horse".to_owned())).unwrap();
        let kept = KeptToken::parse(&"ab".repeat(32)).unwrap();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let label = "ci".to_owned();
        let token = Token { kept, label, created: at(5), expires: Some(at(9)) };
        let zones = Zones::parse(&["example.com", "net"]).unwrap();
        let principal = Principal {
            password: Some(password),
            tokens: vec![token],
            grants: vec![Grant { role: super::super::role::Role::Editor, zones }],
        };
        assert_eq!(read_row(&row("anna", &principal)).unwrap(), principal);
        assert!(read_row(b"{}").is_err());
    }
}
