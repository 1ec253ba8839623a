//! The log under power loss and under flipped bits (invariants 1, 2, 3, 17), on a disk in memory.
//! What has to be there is known by a model and by hashes of the tests' own.
//!
//! | variable | stands for | without it |
//! |---|---|---|
//! | `EDGESYNC_CRASH_IMAGES` | images of crashes | 2,000 |
//! | `EDGESYNC_BIT_FLIPS` | flipped bits | 300 |
//! | `EDGESYNC_CRASH_SEED` | where the random numbers begin | 1 |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod compacting;
mod creation;
mod disk;
mod failing;
mod flips;
mod images;
mod model;
mod oracle;
mod work;

use std::path::PathBuf;

use edgesync_control::log::{Log, OpenError, Options};

use crate::disk::Disk;

/// Random numbers (splitmix64) that are the same everywhere, so that a seed repeats a run.
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.any() % (bound.max(1) as u64)).unwrap()
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// A number from the environment.
pub fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// Where the random numbers begin.
pub fn seed() -> u64 {
    number("EDGESYNC_CRASH_SEED", 1) as u64
}

/// The real log on a disk.
pub fn open(disk: &Disk) -> Result<Log, OpenError> {
    let options = Options {
        dir: PathBuf::from("memory"),
        cache_bytes: 1 << 20,
        recent_bytes: 1 << 16,
        queue_bytes: 1 << 20,
        min_free_bytes: 0,
    };
    Log::open_on(disk.clone(), &options)
}

/// A runtime for one test.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}
