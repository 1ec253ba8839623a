//! F-02: a daemon is killed after each single system call on its files, on a small workload.

mod control;
mod edge;

use rand::{RngExt, rngs::StdRng};

use crate::plan;

/// The calls after which to kill: a sample by default, all with `EDGESYNC_TORTURE_SYSCALLS=0`.
/// `total` is how many an undisturbed run makes; runs differ a little, so all goes on until one ends
/// before its kill.
fn points(total: u64, random: &mut StdRng) -> Vec<u64> {
    match plan::number("EDGESYNC_TORTURE_SYSCALLS", 6) {
        0 => (1..total + 200).collect(),
        sample => {
            let step = (total / sample).max(1);
            (0..sample).map(|n| n * step + random.random_range(1..=step)).collect()
        }
    }
}

/// Counts and prints what a sweep has done.
#[derive(Default)]
struct Sweep {
    kills: u64,
    ended: u64,
}

impl Sweep {
    /// Takes the result of one run; true if the sweep is over.
    fn take(&mut self, killed: bool) -> bool {
        *(if killed { &mut self.kills } else { &mut self.ended }) += 1;
        // A few runs may be shorter than the one that was counted.
        self.ended >= 5
    }
}
