//! Benchmarks: each figure beside its own limit, measured in the same run on the same machine, and
//! given as a ratio. `edgesync-bench all` prints them; `docs/benchmarks.md` keeps the last.

mod bare;
mod bootstrap;
mod caller;
mod catch_up;
mod crowd;
mod echo;
mod edge;
mod fleet;
mod live;
mod load;
mod plane;
mod slow;
mod source;
mod stats;
mod storm;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};
use edgesync_tests::CrowdConfig;

/// What went wrong, for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "Benchmarks of Edgesync, each beside its own limit")]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// The edge daemon to measure.
    #[arg(long, global = true, default_value = "target/release/edgesyncd")]
    edgesyncd: PathBuf,
    /// The control plane to measure.
    #[arg(long, global = true, default_value = "target/release/edgesync-control")]
    control: PathBuf,
    /// Where stores are made; its disk is what is measured.
    #[arg(long, global = true, default_value = "target/bench")]
    dir: PathBuf,
    /// Runs of each; medians are given.
    #[arg(long, global = true, default_value_t = 5)]
    runs: usize,
}

#[derive(Subcommand)]
enum What {
    /// Catch-up and live; the others are asked for by name.
    All,
    /// An edge that has nothing takes a whole log, against bare sled.
    CatchUp {
        /// Zones; each is one change set of a hundred records.
        #[arg(long, default_value_t = 10_000)]
        zones: u32,
    },
    /// Send to durable ack under a steady load, against bare sled plus an empty stream.
    Live {
        /// Change sets a second.
        #[arg(long, default_values_t = [500, 5_000])]
        rate: Vec<u32>,
        /// Seconds of each run.
        #[arg(long, default_value_t = 8)]
        seconds: u64,
    },
    /// Idle edges on one control plane: memory and CPU a session, and a change's way to all of them.
    Fleet {
        /// Edges; each takes a descriptor in two processes.
        #[arg(long, default_value_t = 5_000)]
        edges: usize,
        /// Changes that are waited for on all.
        #[arg(long, default_value_t = 200)]
        writes: usize,
    },
    /// The control plane killed and started again with a whole fleet outside.
    Storm {
        /// Edges; each takes a descriptor in two processes.
        #[arg(long, default_value_t = 10_000)]
        edges: usize,
    },
    /// A change's way to good edges, beside edges that hardly read or do not read.
    SlowReader,
    /// An empty edge takes a snapshot while writes go on, against a bare sled load beside the writes.
    Bootstrap {
        /// Records in the store.
        #[arg(long, default_value_t = 1_000_000)]
        records: u32,
        /// Writes a second.
        #[arg(long, default_value_t = 200)]
        rate: u32,
    },
    /// A load of a bare sled, in a process of its own.
    #[command(hide = true)]
    BareLoad {
        /// Where.
        dir: PathBuf,
        /// How many records.
        records: u32,
    },
    /// Edges without a store.
    #[command(hide = true)]
    Crowd {
        /// The control plane.
        url: String,
        #[arg(long)]
        first: usize,
        #[arg(long)]
        edges: usize,
        #[arg(long)]
        per_second: u32,
        /// Seconds.
        #[arg(long)]
        longest_wait: u64,
    },
    /// An edge that makes nothing durable and acks at once: the empty stream.
    #[command(hide = true)]
    Echo {
        /// The source.
        url: String,
    },
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let Arguments { what, edgesyncd, control, dir, runs } = Arguments::parse();
    std::fs::create_dir_all(&dir)?;
    let bench = edge::Bench { edgesyncd, control, dir, runs };
    // What others have written before is not measured.
    rustix::fs::sync();
    match what {
        What::All => {
            stats::print_machine();
            catch_up::run(&bench, 10_000).await?;
            for rate in [500, 5_000] {
                live::run(&bench, rate, Duration::from_secs(8)).await?;
            }
        }
        What::CatchUp { zones } => catch_up::run(&bench, zones).await?,
        What::Live { rate, seconds } => {
            for rate in rate {
                live::run(&bench, rate, Duration::from_secs(seconds)).await?;
            }
        }
        What::Fleet { edges, writes } => fleet::run(&bench, edges, writes).await?,
        What::Storm { edges } => storm::run(&bench, edges).await?,
        What::SlowReader => slow::run(&bench).await?,
        What::Bootstrap { records, rate } => bootstrap::run(&bench, records, rate).await?,
        What::BareLoad { dir, records } => {
            tokio::task::block_in_place(|| bootstrap::bare_load(&dir, records))?;
        }
        What::Crowd { url, first, edges, per_second, longest_wait } => {
            let longest_wait = Duration::from_secs(longest_wait);
            let config = CrowdConfig { url, first, edges, per_second, longest_wait, timed: false };
            crowd::run(&config).await?;
        }
        What::Echo { url } => echo::run(url).await?,
    }
    Ok(())
}
