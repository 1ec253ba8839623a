//! F-02: a daemon is killed after each single system call on its files, on a small workload.

mod control;
mod edge;

use std::fmt;

use rand::{RngExt, rngs::StdRng};

use crate::{plan, trace::Run};

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

/// How often a point is tried again where the kill came later than right after its call.
const AGAIN: u64 = 2;

/// Counts what a sweep has done.
#[derive(Default)]
struct Sweep {
    kills: u64,
    /// Of them, those that came before any other call on the daemon's files had come back.
    right_after: u64,
    ended: u64,
}

impl Sweep {
    /// Runs each point, and again, a few times, where the machine was too slow to kill right after the call.
    fn over(points: Vec<u64>, mut run: impl FnMut(u64) -> Run) -> Self {
        let mut sweep = Self::default();
        for point in points {
            for _ in 0..=AGAIN {
                let run = run(point);
                *(if run.killed { &mut sweep.kills } else { &mut sweep.ended }) += 1;
                sweep.right_after += u64::from(run.is_right_after());
                // A few runs may be shorter than the one that was counted.
                if sweep.ended >= 5 {
                    return sweep;
                }
                if !run.killed || run.is_right_after() {
                    break;
                }
            }
        }
        sweep
    }

    /// It has shown something.
    fn check(&self) {
        assert!(self.kills > 0, "nothing was killed");
        assert!(self.right_after > 0, "no kill came right after its call: {self}");
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, right_after, ended } = self;
        write!(f, "{kills} kills ({right_after} right after the call), {ended} ended before")
    }
}
