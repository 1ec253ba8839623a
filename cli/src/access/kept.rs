//! Tokens in files that their owner alone can read: the one of a login, by control plane, and those that
//! are made for machines.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use edgesync_host::secret::Secret;

use crate::{connect::Target, failure::Failure};

fn failed(file: &Path) -> impl Fn(io::Error) -> Failure {
    move |source| Failure::File { file: file.to_owned(), source }
}

/// Where the login of a control plane is kept: `$XDG_STATE_HOME/edgesync`, else
/// `~/.local/state/edgesync`. None where there is no home.
fn place(target: &Target) -> Result<Option<PathBuf>, Failure> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let state = set("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| set("HOME").map(|home| Path::new(&home).join(".local/state")));
    let Some(state) = state else { return Ok(None) };
    let file = target.authority()?.replace(['[', ']', ':', '/'], "_");
    Ok(Some(state.join("edgesync").join(format!("login-{file}"))))
}

/// The token of a login, if there is one.
pub(super) fn read(target: &Target) -> Result<Option<Secret>, Failure> {
    match place(target)? {
        Some(file) if file.exists() => Ok(Some(Secret::read(&file)?)),
        _ => Ok(None),
    }
}

/// Keeps the token of a login.
pub(super) fn write(target: &Target, token: &Secret) -> Result<PathBuf, Failure> {
    let no_home =
        || Failure::Usage("set HOME or XDG_STATE_HOME: the token is kept there".to_owned());
    let file = place(target)?.ok_or_else(no_home)?;
    if let Some(dir) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
    }
    // A new file beside it: the old one may be open to others, or half of it be read.
    let fresh = file.with_extension(format!("{}.new", std::process::id()));
    let opened = create(&fresh)?;
    fill(opened, &fresh, token)?;
    fs::rename(&fresh, &file).map_err(failed(&file))?;
    Ok(file)
}

/// Forgets the token of a login.
pub(super) fn remove(target: &Target) -> Result<(), Failure> {
    let Some(file) = place(target)? else { return Ok(()) };
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&file)(error)),
        _ => Ok(()),
    }
}

/// Makes a file for a secret; what is there is not overwritten.
pub(super) fn create(file: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    opened.map_err(failed(file))
}

/// Writes a secret into its file.
pub(super) fn fill(mut opened: File, file: &Path, secret: &Secret) -> Result<(), Failure> {
    let written = opened.write_all(format!("{}\n", secret.expose()).as_bytes());
    written.and_then(|()| opened.sync_all()).map_err(failed(file))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_secret_goes_into_a_new_file_of_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let secret = Secret::new("hunter2".to_owned());
        fill(create(&file).unwrap(), &file, &secret).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Secret::read(&file).unwrap(), secret);
        assert!(create(&file).is_err(), "it is not overwritten");
    }
}
