//! Station 6, the quarantine: a store that cannot be trusted is renamed aside, never deleted while
//! it is among the newest, and never served (invariant 17).

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    Distrust, OpenError,
    open::{Paths, io_error},
    witness::Witness,
};
use crate::limits::QUARANTINES_KEPT;

/// What the name of a store put aside begins with.
const PREFIX: &str = "store.quarantine-";

/// What was put aside in a data directory and what it takes, for who has to make room: empty if nothing was.
#[must_use]
pub fn put_aside_text(data_dir: &Path) -> String {
    let found = all_aside(data_dir).unwrap_or_default();
    let octets = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
        entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum::<u64>()
    };
    let named = |path: &PathBuf| {
        let tenths = octets(path).saturating_mul(10) >> 20;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        format!("{name} ({}.{} MiB)", tenths / 10, tenths % 10)
    };
    let named: Vec<_> = found.iter().map(|(_, path)| named(path)).collect();
    if named.is_empty() {
        return String::new();
    }
    format!("; stores that were put aside take room, and can be removed: {}", named.join(", "))
}

/// Renames the store aside; what was said of it is not said of the next.
pub(super) fn put_aside(paths: &Paths, why: &Distrust) -> Result<(), OpenError> {
    let aside = paths.dir.join(format!("{PREFIX}{}", next_number(paths)?));
    match fs::rename(&paths.store, &aside) {
        Ok(()) => {
            tracing::error!(reason = %why, aside = %aside.display(), "store put aside; starting empty");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::error!(reason = %why, "the store is gone; starting empty");
        }
        Err(error) => return Err(io_error("rename", &paths.store)(error)),
    }
    let epoch = Witness::read(&paths.witness).map_or(0, |witness| witness.epoch);
    let witness = Witness { epoch, mark: None };
    witness.write(&paths.witness).map_err(io_error("write", &paths.witness))?;
    match fs::remove_file(&paths.distrust) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", &paths.distrust)(error));
        }
        _ => {}
    }
    if let Err(error) = remove_oldest(paths) {
        tracing::warn!(%error, "cannot remove older stores that were put aside");
    }
    Ok(())
}

/// Says that the store is not to be trusted at the next start.
pub(super) fn mark(paths: &Paths, why: &str) -> io::Result<()> {
    let mut file = File::create(&paths.distrust)?;
    file.write_all(why.as_bytes())?;
    file.sync_all()?;
    File::open(&paths.dir)?.sync_all()
}

/// What [`mark`] has said.
pub(super) fn marked(paths: &Paths) -> io::Result<Option<String>> {
    match fs::read(&paths.distrust) {
        Ok(why) => Ok(Some(String::from_utf8_lossy(&why).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number of the next store that is put aside: the time, but beyond all that are there. A clock that was set back
/// would make the newest the oldest, which is removed, and one that stands still give a name that is taken.
fn next_number(paths: &Paths) -> Result<u64, OpenError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let aside = all_aside(&paths.dir).map_err(io_error("read", &paths.dir))?;
    let beyond = aside.last().map_or(0, |(number, _)| number.saturating_add(1));
    Ok(u64::try_from(now).unwrap_or(u64::MAX).max(beyond))
}

/// All stores that were put aside, by number.
fn all_aside(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut aside: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_string_lossy().strip_prefix(PREFIX).map(str::parse::<u64>);
        if let Some(Ok(number)) = number {
            aside.push((number, entry.path()));
        }
    }
    aside.sort_unstable();
    Ok(aside)
}

fn remove_oldest(paths: &Paths) -> io::Result<()> {
    let aside = all_aside(&paths.dir)?;
    let surplus = aside.len().saturating_sub(QUARANTINES_KEPT);
    aside.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_dir_all(path))
}
