//! What needs no control plane: reading a password, and making the lines of a policy file.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

use edgesync_host::{
    credential::{self, KeptPassword, KeptToken, TokenKind},
    secret::{Secret, SecretError},
};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::Serialize;

use super::kept;
use crate::{
    failure::Failure,
    output::{Printer, Show},
};

/// Reads a password from a file, or from stdin; at a terminal without showing it.
pub(super) fn password(file: &Path) -> Result<Secret, Failure> {
    let stdin = io::stdin();
    if file != Path::new("-") || !stdin.is_terminal() {
        return Ok(Secret::read(file)?);
    }
    let failed = |source| Failure::File { file: file.to_owned(), source };
    let shown = tcgetattr(&stdin).map_err(|error| failed(error.into()))?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    write!(io::stderr(), "Password: ").map_err(failed)?;
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(|error| failed(error.into()))?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    // Also where nothing was read: a terminal that shows nothing any more is no use.
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &shown);
    let _ = writeln!(io::stderr());
    read.map_err(failed)?;
    restored.map_err(|error| failed(error.into()))?;
    let text = line.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(SecretError::Form { from: "the terminal".to_owned() }.into());
    }
    Ok(Secret::new(text.to_owned()))
}

/// A line of a policy file.
#[derive(Serialize)]
struct Line {
    key: &'static str,
    value: String,
}

impl Show for Line {
    fn show(&self) -> String {
        format!("{} = \"{}\"", self.key, self.value)
    }
}

/// Prints the line for a password.
pub(super) fn hash_password(file: &Path, printer: &mut Printer) -> Result<(), Failure> {
    let kept = KeptPassword::of(&password(file)?);
    let kept = kept.map_err(|error| Failure::Usage(error.to_string()))?;
    printer.value(&Line { key: "password", value: kept.as_str().to_owned() })
}

/// Makes a token, and prints the line for it.
pub(super) fn new_token(file: &Path, printer: &mut Printer) -> Result<(), Failure> {
    let token = credential::new_token(TokenKind::Machine);
    kept::fill(kept::create(file)?, file, &token)?;
    let value = KeptToken::of(&token).map(|(_, kept)| kept.to_hex()).unwrap_or_default();
    printer.value(&Line { key: "sha256", value })
}
