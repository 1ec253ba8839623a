//! Benchmarks: each figure beside its own limit, measured in the same run on the same machine, and
//! given as a ratio. `edgesync-bench all` prints them; `docs/benchmarks.md` keeps the last.

mod bare;
mod catch_up;
mod echo;
mod edge;
mod live;
mod load;
mod source;
mod stats;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

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
    /// Where stores are made; its disk is what is measured.
    #[arg(long, global = true, default_value = "target/bench")]
    dir: PathBuf,
    /// Runs of each; medians are given.
    #[arg(long, global = true, default_value_t = 5)]
    runs: usize,
}

#[derive(Subcommand)]
enum What {
    /// Everything below.
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
    /// An edge that makes nothing durable and acks at once: the empty stream.
    #[command(hide = true)]
    Echo {
        /// The source.
        url: String,
    },
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let Arguments { what, edgesyncd, dir, runs } = Arguments::parse();
    std::fs::create_dir_all(&dir)?;
    let bench = edge::Bench { edgesyncd, dir, runs };
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
        What::Echo { url } => echo::run(url).await?,
    }
    Ok(())
}
