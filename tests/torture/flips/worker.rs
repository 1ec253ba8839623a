//! The trials, in a process of their own. Only the store is opened in it, and only its texts are
//! compared: the oracle is the one that all torture has.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use edgesync_core::{name::Name, session::Filter};
use edgesync_daemon::store::{OpenError, Reader, Store, StoreConfig};
use rand::{SeedableRng, rngs::StdRng};

use super::{OLDER, PANICKED, READ_PANICKED, base::Base};
use crate::oracle::Model;

/// What came of reading all of a store.
enum Read {
    /// It is the state of an offset.
    Right,
    /// It is not; the first difference.
    Wrong(String),
    /// The store said that it cannot be read.
    Error(String),
    /// It panicked.
    Panic,
}

#[test]
#[ignore = "is run by the test of flips, as a process of its own"]
fn trials() {
    let number = |name: &str| env::var(name).expect(name).parse::<u64>().expect(name);
    let base = Base::at(Path::new(&env::var("EDGESYNC_FLIPS_BASE").expect("a base")));
    let (seed, models) = (number("EDGESYNC_FLIPS_SEED"), Base::models());
    // What panics is told as the trial's result.
    std::panic::set_hook(Box::new(|_| {}));
    for trial in number("EDGESYNC_FLIPS_FROM")..number("EDGESYNC_FLIPS_TO") {
        let dir = tempfile::tempdir().expect("a directory");
        let mut random = StdRng::seed_from_u64(seed ^ trial.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let what = base.flipped(dir.path(), &mut random);
        let class = catch_unwind(AssertUnwindSafe(|| try_store(dir.path(), &models)));
        let (class, detail) = class.unwrap_or_else(|_| (PANICKED.to_owned(), String::new()));
        println!("\ntrial\t{trial}\t{class}\t{what}; {}", detail.replace(['\n', '\t'], " "));
    }
}

fn open(dir: &Path) -> Result<Store, OpenError> {
    let config =
        StoreConfig { data_dir: dir.to_owned(), cache_octets: 1 << 20, filter: Filter::All };
    Store::open(config)
}

/// Opens a store, reads all of it and verifies it: the class of what came of it, and a detail.
fn try_store(dir: &Path, models: &[Model]) -> (String, String) {
    let store = match open(dir) {
        Ok(store) => store,
        Err(error) => return ("refused".to_owned(), error.to_string()),
    };
    if let Some(why) = store.distrusted() {
        return (format!("put aside ({})", why.label()), why.to_string());
    }
    let offset = store.durable().map_or(0, |position| position.offset.0);
    let last = models.last().expect("a state");
    let reader = store.reader();
    let read = match models.iter().find(|model| model.offset == offset) {
        Some(model) => read(&reader, model),
        None => Read::Wrong(format!("no set ends at {offset}")),
    };
    let verified = catch_unwind(AssertUnwindSafe(|| reader.verify()));
    let told = match &verified {
        Err(_) => "verify panicked".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(verified)) => {
            let zones = verified.mismatches.iter().map(|mismatch| mismatch.origin.to_string());
            zones.collect::<Vec<_>>().join(" ")
        }
    };
    match (read, told.is_empty()) {
        (Read::Right, true) if offset == last.offset => ("harmless".to_owned(), told),
        (Read::Right, true) => (OLDER.to_owned(), offset.to_string()),
        (Read::Right, false) => ("found by verify, read right".to_owned(), told),
        (Read::Wrong(what), false) => {
            ("found by verify, read wrong".to_owned(), what + "; " + &told)
        }
        (Read::Panic, _) => (READ_PANICKED.to_owned(), told),
        (Read::Error(what), false) => ("found by reading and verify".to_owned(), what),
        (Read::Error(what), true) => ("found by reading, not by verify".to_owned(), what),
        (Read::Wrong(what), true) => ("served wrong, unnoticed".to_owned(), what),
    }
}

/// Reads all zones by export, and all owners by lookup.
fn read(reader: &Reader, model: &Model) -> Read {
    let mut zones: Vec<String> =
        reader.zones(None, usize::MAX).iter().map(|zone| zone.origin.to_string()).collect();
    zones.sort_unstable();
    if zones != model.origins() {
        return Read::Wrong(format!("zones {zones:?}"));
    }
    for zone in zones {
        match catch_unwind(AssertUnwindSafe(|| text(reader, &zone))) {
            Err(_) => return Read::Panic,
            Ok(Err(error)) => return Read::Error(error),
            Ok(Ok(text)) => {
                if let Some(difference) = model.difference(&zone, &text) {
                    return Read::Wrong(difference);
                }
            }
        }
    }
    Read::Right
}

fn text(reader: &Reader, zone: &str) -> Result<String, String> {
    let origin = Name::parse_origin(zone).map_err(|error| error.to_string())?;
    let export = reader.export(&origin).map_err(|error| error.to_string())?;
    let export = export.ok_or("no such zone")?;
    let text = export.collect::<Result<String, _>>().map_err(|error| error.to_string())?;
    let mut looked_up = 0;
    for owner in text
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect::<std::collections::BTreeSet<_>>()
    {
        let owner = Name::parse_origin(owner).map_err(|error| error.to_string())?;
        let found = reader.lookup(&owner, None).map_err(|error| error.to_string())?;
        looked_up += found.records.len();
    }
    let lines = text.lines().count();
    (looked_up == lines).then_some(()).ok_or(format!("{looked_up} looked up, {lines} exported"))?;
    Ok(text)
}
