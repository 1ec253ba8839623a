//! The policy file: read at the start, and whenever it is another one. A bad one is refused, and the one
//! before stays; before the first good one nobody may do anything.

use std::{fs, io::Read, path::Path, sync::Arc, time::Duration};

use tokio::{task::spawn_blocking, time::interval};

use super::{Kept, text};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Octets of a policy file.
const FILE_OCTETS: u64 = 16 * 1024 * 1024;

/// Looks at the file, as long as anybody keeps it.
pub(super) async fn watch(kept: &Arc<Kept>) {
    let mut ticks = interval(LOOK);
    let mut last = None;
    loop {
        ticks.tick().await;
        let path = kept.options.policy.clone();
        let read = spawn_blocking(move || read(&path)).await;
        let read = read.unwrap_or_else(|error| Err(error.to_string()));
        if last.as_ref() == Some(&read) {
            continue;
        }
        take(kept, &read);
        last = Some(read);
    }
}

fn take(kept: &Kept, read: &Result<String, String>) {
    let file = kept.options.policy.display();
    let taken = read.clone().and_then(|text| text::read_file(&text).map_err(|e| e.to_string()));
    let result = match taken {
        Ok(principals) => {
            tracing::info!(%file, principals = principals.len(), "the access policy is loaded");
            kept.update(|sources| sources.file = Some(principals));
            "ok"
        }
        Err(error) if kept.policy().is_some() => {
            tracing::error!(%file, error, "the access policy is not taken, the old one stays");
            "error"
        }
        Err(error) => {
            tracing::error!(%file, error, "there is no access policy: nobody may do anything");
            "error"
        }
    };
    metrics::counter!("edgesync_control_policy_loads_total", "result" => result).increment(1);
}

/// Reads a policy file to see whether it is one; the number of its principals.
///
/// # Errors
/// With what is wrong with it, in one line.
pub fn check_policy(path: &Path) -> Result<usize, String> {
    let checked = read(path).and_then(|text| text::read_file(&text).map_err(|e| e.to_string()));
    let named = |error: String| format!("the access policy {}: {error}", path.display());
    checked.map(|principals| principals.len()).map_err(named)
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(FILE_OCTETS + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_OCTETS {
        return Err(format!("it has more than {} MiB", FILE_OCTETS >> 20));
    }
    Ok(text)
}
