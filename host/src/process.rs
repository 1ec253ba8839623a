//! What /proc says of this process, read when it is asked for, under the names that Prometheus
//! client libraries use everywhere.

use std::{fmt::Write, fs};

use rustix::param::{clock_ticks_per_second, page_size};

/// What /proc says of this process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Process {
    /// Memory that is in RAM, in octets.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// When it started, in seconds of Unix time.
    pub start_seconds: f64,
    /// Processor time that it has used, in seconds.
    pub cpu_seconds: f64,
}

impl Process {
    /// Reads /proc; nothing where there is none.
    pub fn read() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/stat").ok()?;
        let host = fs::read_to_string("/proc/stat").ok()?;
        // The descriptor that the count itself needs does not count.
        let open_fds = u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
        Self::parse(&own, &host, open_fds.saturating_sub(1))
    }

    /// From the text of /proc/self/stat and /proc/stat (proc_pid_stat(5), proc_stat(5)).
    fn parse(own: &str, host: &str, open_fds: u64) -> Option<Self> {
        // The second field is the command in parentheses, and may have blanks and parentheses in it.
        let (_, fields) = own.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let boot = host.lines().find_map(|line| line.strip_prefix("btime "))?;
        let boot: u64 = boot.trim().parse().ok()?;
        Some(Self {
            resident_bytes: field(24)?.saturating_mul(u64::try_from(page_size()).ok()?),
            open_fds,
            start_seconds: seconds(field(22)?) + boot as f64,
            cpu_seconds: seconds(field(14)?) + seconds(field(15)?),
        })
    }

    /// In Prometheus' text form.
    pub fn exposition(&self) -> String {
        let mut text = String::new();
        let metrics: [(&str, &str, &str, &dyn std::fmt::Display); 4] = [
            (
                "process_resident_memory_bytes",
                "gauge",
                "Memory that is in RAM, in octets.",
                &self.resident_bytes,
            ),
            ("process_open_fds", "gauge", "Open file descriptors.", &self.open_fds),
            (
                "process_start_time_seconds",
                "gauge",
                "When the process started, in seconds of Unix time.",
                &self.start_seconds,
            ),
            (
                "process_cpu_seconds_total",
                "counter",
                "Processor time used, in user and system mode, in seconds.",
                &self.cpu_seconds,
            ),
        ];
        for (name, kind, help, value) in metrics {
            // To write to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
        text
    }
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_behind_the_command() {
        let own = "7 (a) b (c)) S 1 7 7 0 -1 0 5 0 0 0 300 200 0 0 20 0 9 0 12300 4096 50 9 0";
        let process = Process::parse(own, "cpu 1 2\nbtime 1000\nprocesses 3\n", 9).unwrap();
        let ticks = clock_ticks_per_second() as f64;
        assert_eq!(process.cpu_seconds, 500.0 / ticks);
        assert_eq!(process.start_seconds, 1000.0 + 12300.0 / ticks);
        assert_eq!(process.resident_bytes, 50 * page_size() as u64);
    }

    #[test]
    fn an_open_file_counts() {
        let before = Process::read().unwrap();
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let after = Process::read().unwrap();
        // Other tests run beside this one.
        assert!(after.open_fds >= before.open_fds + 25, "{before:?} {after:?}");
        assert!(after.resident_bytes > 1_000_000);
        drop(files);
    }
}
