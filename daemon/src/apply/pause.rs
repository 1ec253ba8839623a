//! Why nothing is applied for a while although nothing has failed: a person has frozen this edge, the
//! disk is nearly full, the store's file nearly as large as files may be, or there is no room for the
//! snapshot that is to come (F-11). What comes waits in the window, the session goes on, and all that
//! is there is served (rule 19, invariant 14).

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    time::Instant,
};

use edgesync_core::session::Pause;
use edgesync_host::room::{Room, Shortage};

use crate::{
    limits::{
        LOOK_PERIOD, PROBE_OCTETS, SEGMENT_OCTETS, STAGED_BASE_OCTETS, STAGED_FREE_TENTHS,
        STAGED_OCTETS,
    },
    store,
};

/// What is looked at before anything is applied.
#[derive(Debug, Clone)]
pub struct PauseConfig {
    /// While this file is there, nothing is applied.
    pub freeze_file: PathBuf,
    /// Directory of the store.
    pub data_dir: PathBuf,
    /// Octets that have to stay free on its disk, and that its file has to be below the limit.
    pub min_free: u64,
}

/// Looks now and then.
#[derive(Debug)]
pub(super) struct Pauses {
    config: PauseConfig,
    /// Octets that the store is going to grow by for the snapshot that is to be begun.
    coming: u64,
    looked: Option<Instant>,
    why: Option<Pause>,
}

impl Pauses {
    pub(super) const fn new(config: PauseConfig) -> Self {
        Self { config, coming: 0, looked: None, why: None }
    }

    /// A snapshot is to be begun of which so many octets of rows are still to come; 0 if none is.
    pub(super) const fn expect_rows(&mut self, octets: u64) {
        let grows = octets.saturating_mul(STAGED_OCTETS).saturating_add(STAGED_BASE_OCTETS);
        self.coming = if octets == 0 { 0 } else { grows };
        self.looked = None;
    }

    /// Why nothing may be applied now: one line.
    pub(super) fn why(&mut self) -> Option<&Pause> {
        let now = Instant::now();
        if self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK_PERIOD) {
            self.looked = Some(now);
            self.why = self.look();
        }
        self.why.as_ref()
    }

    fn look(&self) -> Option<Pause> {
        let freeze_file = &self.config.freeze_file;
        if freeze_file.exists() {
            let why = format!("frozen by the file {}: remove it to go on", freeze_file.display());
            return Some(Pause { why, is_frozen: true });
        }
        let short = self.room().err()?;
        let aside = store::put_aside_text(&self.config.data_dir);
        Some(Pause::of_itself(if self.coming > 0 {
            format!("there is no room for the snapshot that is to come: {short}{aside}")
        } else {
            format!("{short}{aside}")
        }))
    }

    /// Whether the store may grow. A disk that does not tell, and a quota, are found out by writing.
    fn room(&self) -> Result<(), Shortage> {
        let PauseConfig { data_dir, min_free, .. } = &self.config;
        let file = store::database_file(data_dir);
        let room = Room::look(data_dir, &file);
        let free = (self.coming / 10).saturating_mul(STAGED_FREE_TENTHS).saturating_add(*min_free);
        let length = room.octets().saturating_add(self.coming).saturating_add(*min_free);
        room.check(free, length)
    }

    /// Whether the disk takes what is written, and keeps it; as far into a file as the store's opening writes, which
    /// fills the segment that sled has begun.
    pub(super) fn probe(&self) -> io::Result<()> {
        let PauseConfig { data_dir, .. } = &self.config;
        let path = data_dir.join("probe");
        let file = File::create(&path)?;
        let there = Room::look(data_dir, &store::database_file(data_dir)).octets();
        let far = there.saturating_add(2 * SEGMENT_OCTETS as u64);
        let probed = file.write_all_at(&[0; PROBE_OCTETS], far).and_then(|()| file.sync_all());
        fs::remove_file(&path)?;
        probed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_a_full_disk_are_reasons() {
        let dir = tempfile::tempdir().unwrap();
        let config = PauseConfig {
            freeze_file: dir.path().join("freeze"),
            data_dir: dir.path().to_owned(),
            min_free: 0,
        };
        assert_eq!(Pauses::new(config.clone()).why(), None);
        fs::write(dir.path().join("freeze"), "").unwrap();
        let frozen = Pauses::new(config.clone()).why().unwrap().clone();
        assert!(frozen.is_frozen && frozen.why.contains("freeze"), "{frozen:?}");
        fs::remove_file(dir.path().join("freeze")).unwrap();
        let full = PauseConfig { min_free: u64::MAX, ..config.clone() };
        let short = Pauses::new(full.clone()).why().unwrap().clone();
        assert!(!short.is_frozen && short.why.contains("free"), "{short:?}");
        assert!(!short.why.contains("quarantine"), "{short:?}");
        // What was put aside is room that a person can make.
        let aside = dir.path().join("store.quarantine-7");
        fs::create_dir(&aside).unwrap();
        fs::write(aside.join("db"), vec![0; 3 << 20]).unwrap();
        let short = Pauses::new(full).why().unwrap().why.clone();
        assert!(short.contains("store.quarantine-7 (3.0 MiB)"), "{short}");
        fs::remove_dir_all(aside).unwrap();
        Pauses::new(config).probe().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
    #[test]
    fn a_snapshot_waits_until_there_is_room_for_all_that_is_still_to_come_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (freeze_file, data_dir) = (dir.path().join("freeze"), dir.path().to_owned());
        let free = edgesync_host::room::free(dir.path());
        let mut pauses = Pauses::new(PauseConfig { freeze_file, data_dir, min_free: 0 });
        assert_eq!(pauses.why(), None);
        // Twice what is there for 2.2 times what sled makes of it, and then half of it.
        let fits = free / STAGED_OCTETS / STAGED_FREE_TENTHS * 10;
        pauses.expect_rows(fits * 2);
        let why = pauses.why().expect("it is looked at once").why.clone();
        assert!(why.contains("snapshot") && why.contains("make room"), "{why}");
        pauses.expect_rows(fits / 2);
        assert_eq!(pauses.why(), None);
        pauses.expect_rows(fits * 2);
        assert!(pauses.why().is_some());
        pauses.expect_rows(0);
        assert_eq!(pauses.why(), None, "what else is applied needs no such room");
    }
}
