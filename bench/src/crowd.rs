//! Edges without a store, in processes of their own: a descriptor for each is needed at both ends.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use edgesync_tests::{Counts, Crowd, CrowdConfig};

use crate::{Failure, edge::Process};

/// Between two words of a crowd about itself.
const TELL: Duration = Duration::from_millis(100);

/// The crowd's own process: says what it has done until nobody listens.
pub async fn run(config: &CrowdConfig) -> Result<(), Failure> {
    let crowd = Crowd::start(config);
    loop {
        let Counts { live, tries, welcomes, snapshots, ends } = crowd.counts();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{live} {tries} {welcomes} {snapshots} {ends}")?;
        out.flush()?;
        drop(out);
        tokio::time::sleep(TELL).await;
    }
}

/// A crowd in another process.
pub struct Others {
    process: Process,
    last: Arc<Mutex<Counts>>,
}

impl Others {
    /// Starts it.
    pub fn start(config: &CrowdConfig) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["crowd", &config.url]);
        command.args(["--first", &config.first.to_string()]);
        command.args(["--edges", &config.edges.to_string()]);
        command.args(["--per-second", &config.per_second.to_string()]);
        command.args(["--longest-wait", &config.longest_wait.as_secs().to_string()]);
        let mut process = Process::spawn(command.stdout(Stdio::piped()))?;
        let lines = BufReader::new(process.stdout()?).lines();
        let last = Arc::new(Mutex::new(Counts::default()));
        let told = Arc::clone(&last);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let numbers: Vec<u64> =
                    line.split(' ').filter_map(|number| number.parse().ok()).collect();
                if let [live, tries, welcomes, snapshots, ends] = numbers[..] {
                    let live = usize::try_from(live).unwrap_or(0);
                    let counts = Counts { live, tries, welcomes, snapshots, ends };
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = counts;
                }
            }
        });
        Ok(Self { process, last })
    }

    /// What it has done, as it said last.
    pub fn counts(&self) -> Counts {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process.
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// Waits until so many sessions are there; how long that took.
    pub async fn until_live(&self, edges: usize, limit: Duration) -> Result<Duration, Failure> {
        let begin = Instant::now();
        while self.counts().live < edges {
            if begin.elapsed() > limit {
                return Err(
                    format!("of {edges} edges only {} are there", self.counts().live).into()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(begin.elapsed())
    }
}
