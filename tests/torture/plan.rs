//! How long a run is and what it does: bounded by default, longer by environment variables, and
//! repeated by its seed.

use std::{env, time::SystemTime};

use rand::{SeedableRng, rngs::StdRng};

/// A number from the environment, or the bounded default.
pub fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
}

/// The random numbers of a run. Its seed is printed, and `EDGESYNC_TORTURE_SEED` gives it again.
pub fn random(what: &str) -> StdRng {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("EDGESYNC_TORTURE_SEED", u64::from(now.subsec_nanos()));
    println!("{what}: EDGESYNC_TORTURE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}
