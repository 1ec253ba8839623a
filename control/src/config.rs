//! What `edgesync-control` is set to: defaults, `config/edgesync-control.toml`, the environment
//! (`EDGESYNC_CONTROL_…`) and flags. All of it is checked before anything starts.

mod access;

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

pub use access::{AccessConfig, LimitsConfig};
use edgesync_host::{
    config::{ConfigError, load},
    tls::TlsFiles,
    units::{ByteSize, Period},
};
use serde::{Deserialize, Serialize};

/// What the names of environment variables begin with.
pub const ENVIRONMENT: &str = "EDGESYNC_CONTROL_";

/// Bounds of the time between heartbeats.
const HEARTBEAT: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];

/// Bounds of the sessions that may begin in a second.
const ADMIT_PER_SECOND: RangeInclusive<u32> = 1..=100_000;

/// The configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Directory of the log.
    pub data_dir: PathBuf,
    /// Address of the API and the sessions.
    pub listen: SocketAddr,
    /// Address of /metrics, /healthz and /readyz.
    pub metrics_listen: SocketAddr,
    /// True: nothing is encrypted, and `listen` is for this host alone.
    pub insecure: bool,
    /// The files of TLS.
    pub tls: TlsFiles,
    /// What happens to a SOA's serial when another record is changed.
    pub soa_serial: SoaSerial,
    /// Who may do what; none: nothing is asked of anybody.
    #[serde(default)]
    pub access: Option<AccessConfig>,
    /// What a principal may do in a second.
    pub limits: LimitsConfig,
    /// The log.
    pub log: LogConfig,
    /// The sessions.
    pub sessions: SessionsConfig,
    /// The snapshots.
    pub snapshots: SnapshotsConfig,
    /// How the control plane ends.
    pub drain: DrainConfig,
}

/// What happens to a SOA's serial when another record is changed (rule 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SoaSerial {
    /// It is raised in the same change set, unless the zone is signed.
    Raise,
    /// It stays.
    Keep,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Size of the store's page cache.
    pub cache: ByteSize,
    /// Size of the change sets kept in memory for sessions that are nearly up to date.
    pub recent: ByteSize,
    /// Size of the writes that wait to be committed.
    pub queue: ByteSize,
    /// Change sets that are older are compacted away.
    pub retention_age: Period,
    /// The oldest change sets are compacted away while all together are larger.
    pub retention_size: ByteSize,
    /// What has to stay free on the disk of `data_dir`; below that writes are refused.
    pub min_free: ByteSize,
}

/// The snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotsConfig {
    /// Edges that take one at a time; the others are told when to come back.
    pub at_once: usize,
}

/// The sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionsConfig {
    /// Time between heartbeats.
    pub heartbeat: Period,
    /// Sessions at the most.
    pub max_sessions: usize,
    /// Sessions that may begin in a second.
    pub admit_per_second: u32,
    /// Sessions that may begin at once.
    pub admit_burst: u32,
    /// Streams that have not yet said which edge they are of, at the most.
    pub max_greeting: usize,
}

/// How the control plane ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainConfig {
    /// Time that calls and sessions have to end.
    pub grace: Period,
}

impl Default for Config {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            data_dir: "/var/lib/edgesync-control".into(),
            listen: local(7353),
            metrics_listen: local(9353),
            insecure: false,
            tls: TlsFiles::default(),
            soa_serial: SoaSerial::Raise,
            access: None,
            limits: LimitsConfig {
                writes_per_second: 20_000,
                bytes_per_second: ByteSize::from_mib(64),
            },
            log: LogConfig {
                cache: ByteSize::from_mib(256),
                recent: ByteSize::from_mib(64),
                queue: ByteSize::from_mib(64),
                retention_age: Period::from_secs(7 * 24 * 3_600),
                retention_size: ByteSize::from_mib(4_096),
                min_free: ByteSize::from_mib(64),
            },
            sessions: SessionsConfig {
                heartbeat: Period::from_secs(1),
                max_sessions: 10_000,
                admit_per_second: 500,
                admit_burst: 500,
                max_greeting: 1_000,
            },
            snapshots: SnapshotsConfig { at_once: 4 },
            drain: DrainConfig { grace: Period::from_secs(15) },
        }
    }
}

/// The command line.
#[derive(Clone, Debug, Default, clap::Parser, Serialize)]
#[command(
    name = "edgesync-control",
    version,
    about = "The control plane of Edgesync: takes DNS record changes and carries them to the edges"
)]
pub struct Flags {
    /// Directory of the log [default: /var/lib/edgesync-control]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the API and of the edges' sessions [default: 127.0.0.1:7353]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Address of /metrics, /healthz and /readyz [default: 127.0.0.1:9353]
    #[arg(long, value_name = "ADDR")]
    pub metrics_listen: Option<SocketAddr>,
    /// Encrypt nothing and take each caller's word: for this host alone, such as in a trial
    #[arg(long, num_args = 0, default_missing_value = "true")]
    pub insecure: Option<bool>,
    /// Configuration file (TOML); config/edgesync-control.toml explains every key
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Check the configuration and end
    #[arg(long)]
    #[serde(skip)]
    pub check_config: bool,
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// A layer is wrong.
    #[error(transparent)]
    Load(#[from] ConfigError),
    /// Neither TLS nor its absence was asked for.
    #[error(
        "tls.cert is not set: name the files of TLS (`edgesync pki` makes some), or, on 127.0.0.1 alone, \
         do without with insecure = true"
    )]
    NoTls,
    /// What is not encrypted would be open to the network.
    #[error(
        "listen = {0} can be reached from other hosts, and insecure = true: listen on 127.0.0.1, or \
         name the files of TLS"
    )]
    InsecureListen(SocketAddr),
    /// Both are asked for.
    #[error("insecure = true and tls.cert are both set: leave one out")]
    Both,
    /// A part of TLS is not named.
    #[error("tls.{0} is not set: cert, key and ca are needed together")]
    TlsPart(&'static str),
    /// Nobody would be asked for anything, over the network.
    #[error(
        "tls.cert is set and access.policy is not, so whoever connects could do everything: name a policy \
         (config/policy.toml is one to begin with)"
    )]
    NoAccess,
    /// A value is out of its bounds.
    #[error("{key} = {value} is out of its bounds: {bounds}")]
    Bounds {
        /// The key.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        bounds: &'static str,
    },
}

impl Flags {
    /// Loads the configuration that the flags, the environment and the file make.
    ///
    /// # Errors
    /// If a layer cannot be read, has an unknown key, or the values do not go together.
    pub fn load(&self) -> Result<Config, InvalidConfig> {
        let config: Config = load(self.config.as_deref(), ENVIRONMENT, self)?;
        config.check()?;
        Ok(config)
    }
}

impl Config {
    /// Checks what one value's type cannot say.
    ///
    /// # Errors
    /// With the first key that is wrong.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        self.check_tls()?;
        let [least, most] = HEARTBEAT;
        let heartbeat = self.sessions.heartbeat;
        if !(least..=most).contains(&heartbeat.get()) {
            let (key, bounds) = ("sessions.heartbeat", "100ms to 60s");
            return Err(InvalidConfig::Bounds { key, value: heartbeat.to_string(), bounds });
        }
        let per_second = self.sessions.admit_per_second;
        if !ADMIT_PER_SECOND.contains(&per_second) {
            let (key, bounds) = ("sessions.admit_per_second", "1 to 100000");
            return Err(InvalidConfig::Bounds { key, value: per_second.to_string(), bounds });
        }
        if let Some((key, value, bounds)) = self.access.as_ref().and_then(AccessConfig::wrong) {
            return Err(InvalidConfig::Bounds { key, value, bounds });
        }
        let zero = [
            ("limits.writes_per_second", self.limits.writes_per_second == 0),
            ("limits.bytes_per_second", self.limits.bytes_per_second.as_u64() == 0),
            ("sessions.max_sessions", self.sessions.max_sessions == 0),
            ("sessions.admit_burst", self.sessions.admit_burst == 0),
            ("sessions.max_greeting", self.sessions.max_greeting == 0),
            ("snapshots.at_once", self.snapshots.at_once == 0),
        ];
        match zero.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((key, _)) => {
                let (value, bounds) = ("0".to_owned(), "1 or more");
                Err(InvalidConfig::Bounds { key, value, bounds })
            }
            None => Ok(()),
        }
    }

    fn check_tls(&self) -> Result<(), InvalidConfig> {
        match (self.insecure, self.tls.is_used()) {
            (true, true) => Err(InvalidConfig::Both),
            (false, false) => Err(InvalidConfig::NoTls),
            (true, false) if self.listen.ip().is_loopback() => Ok(()),
            (true, false) => Err(InvalidConfig::InsecureListen(self.listen)),
            (false, true) => {
                let parts =
                    [("cert", &self.tls.cert), ("key", &self.tls.key), ("ca", &self.tls.ca)];
                let missing = parts.into_iter().find(|(_, path)| path.as_os_str().is_empty());
                match missing {
                    Some((part, _)) => Err(InvalidConfig::TlsPart(part)),
                    None if self.access.is_none() => Err(InvalidConfig::NoAccess),
                    None => Ok(()),
                }
            }
        }
    }

    /// The keys of `other` that differ and take effect only after a restart.
    #[must_use]
    pub fn needs_restart(&self, other: &Self) -> Vec<&'static str> {
        let differs = [
            ("data_dir", self.data_dir != other.data_dir),
            ("listen", self.listen != other.listen),
            ("metrics_listen", self.metrics_listen != other.metrics_listen),
            ("insecure", self.insecure != other.insecure),
            ("tls", self.tls != other.tls),
            ("access", self.access != other.access),
            ("limits", self.limits != other.limits),
            ("log", self.log.needs_restart(&other.log)),
            ("sessions", self.sessions != other.sessions),
            ("snapshots", self.snapshots != other.snapshots),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

impl LogConfig {
    /// True unless only the retention differs.
    fn needs_restart(&self, other: &Self) -> bool {
        let Self { retention_age, retention_size, .. } = *self;
        *self != Self { retention_age, retention_size, ..other.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use clap::Parser;

    use super::*;

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/edgesync-control.toml");

    #[test]
    fn the_commented_access_table_of_the_example_is_right() {
        let text = fs::read_to_string(Path::new(EXAMPLE)).unwrap();
        let whole: String = text
            .lines()
            .map(|line| line.strip_prefix("#:").unwrap_or(line).to_owned() + "\n")
            .collect();
        let whole = whole.replace("\ninsecure = false\n", "\ninsecure = true\n");
        let access = load_text(&whole).unwrap().access.unwrap();
        assert_eq!(access.login_lifetime, AccessConfig::login_lifetime());
        assert_eq!(access.logins_per_minute, AccessConfig::logins_per_minute());
    }

    fn flags(arguments: &[&str]) -> Flags {
        Flags::try_parse_from([&["edgesync-control"], arguments].concat()).unwrap()
    }

    fn load_text(text: &str) -> Result<Config, InvalidConfig> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("control.toml");
        fs::write(&file, text).unwrap();
        Flags { config: Some(file), ..Flags::default() }.load()
    }

    #[test]
    fn the_example_is_the_default_and_names_every_key() {
        let flags = Flags { config: Some(EXAMPLE.into()), ..Flags::default() };
        let example: Config = load(flags.config.as_deref(), ENVIRONMENT, &flags).unwrap();
        assert_eq!(example, Config::default());
        let told = flags.load().unwrap_err().to_string();
        assert!(told.contains("tls.cert") && told.contains("insecure = true"), "{told}");
        let text = fs::read_to_string(Path::new(EXAMPLE)).unwrap();
        for key in [
            "data_dir",
            "listen",
            "metrics_listen",
            "insecure",
            "cert",
            "key",
            "ca",
            "crl",
            "soa_serial",
            "writes_per_second",
            "bytes_per_second",
            "cache",
            "recent",
            "queue",
            "heartbeat",
            "max_sessions",
            "admit_per_second",
            "admit_burst",
            "max_greeting",
            "retention_age",
            "retention_size",
            "min_free",
            "at_once",
            "grace",
        ] {
            let is_set = |line: &str| line.starts_with(&format!("{key} = "));
            assert!(text.lines().any(is_set), "{key} is not in {EXAMPLE}");
        }
    }

    #[test]
    fn an_unknown_key_in_any_table_is_refused_with_the_nearest() {
        for (text, nearest) in [
            ("lisen = \"127.0.0.1:1\"", "listen"),
            ("[log]\ncash = \"1MiB\"", "log.cache"),
            ("[snapshots]\nat_one = 1", "snapshots.at_once"),
            ("[sessions]\nheart_beat = \"1s\"", "sessions.heartbeat"),
            ("[limits]\nwrite_per_second = 1", "limits.writes_per_second"),
            ("[drain]\ngrce = \"1s\"", "drain.grace"),
        ] {
            let refused = load_text(text).unwrap_err().to_string();
            assert!(refused.contains(nearest), "{refused}");
            assert_eq!(refused.lines().count(), 1);
        }
    }

    #[test]
    fn flags_override_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("control.toml");
        fs::write(&file, "insecure = true\nlisten = \"127.0.0.1:1\"\nsoa_serial = \"keep\"")
            .unwrap();
        let file = file.display().to_string();
        let config = flags(&["--config", &file, "--listen", "[::1]:2"]).load().unwrap();
        assert_eq!(config.listen.to_string(), "[::1]:2");
        assert_eq!(config.soa_serial, SoaSerial::Keep);
        assert_eq!(config.metrics_listen, Config::default().metrics_listen);
    }

    #[test]
    fn without_tls_this_host_alone_is_served_and_only_if_that_was_asked_for() {
        let refused = |arguments: &[&str]| {
            let told = flags(arguments).load().unwrap_err().to_string();
            assert_eq!(told.lines().count(), 1);
            told
        };
        assert!(refused(&[]).contains("insecure = true"), "{}", refused(&[]));
        let open = refused(&["--insecure", "--listen", "0.0.0.0:7353"]);
        assert!(open.contains("0.0.0.0:7353") && open.contains("TLS"), "{open}");
        assert!(flags(&["--insecure"]).load().is_ok());
        assert!(load_text("insecure = true\nlisten = \"[::]:7353\"").is_err());
        let tls = "[tls]\ncert = \"c\"\nkey = \"k\"\nca = \"a\"";
        let access = "[access]\npolicy = \"p\"";
        assert!(load_text(&format!("listen = \"[::]:7353\"\n{tls}\n{access}")).is_ok());
        let open = load_text(tls).unwrap_err().to_string();
        assert!(open.contains("access.policy") && open.lines().count() == 1, "{open}");
        let both = load_text(&format!("insecure = true\n{tls}")).unwrap_err().to_string();
        assert!(both.contains("leave one out"), "{both}");
        let part = load_text("[tls]\ncert = \"c\"\nkey = \"k\"").unwrap_err().to_string();
        assert!(part.contains("tls.ca"), "{part}");
    }

    #[test]
    fn values_out_of_their_bounds_are_refused_by_key() {
        for text in [
            "[sessions]\nheartbeat = \"1ms\"",
            "[sessions]\nheartbeat = \"2m\"",
            "[sessions]\nmax_sessions = 0",
            "[snapshots]\nat_once = 0",
            "[sessions]\nmax_sessions = -1",
            "[sessions]\nadmit_per_second = 0",
            "[sessions]\nadmit_per_second = 100001",
            "[sessions]\nadmit_burst = 0",
            "[sessions]\nmax_greeting = 0",
            "[limits]\nwrites_per_second = 0",
            "[limits]\nbytes_per_second = \"0B\"",
            "[access]\npolicy = \"p\"\nlogin_lifetime = \"2d\"",
            "[access]\npolicy = \"p\"\nlogins_per_minute = 0",
            "soa_serial = \"lift\"",
            "listen = \"here\"",
            "[log]\ncache = \"big\"",
        ] {
            let refused = load_text(&format!("insecure = true\n{text}")).unwrap_err().to_string();
            let key = text.lines().last().unwrap().split(' ').next().unwrap();
            assert!(refused.contains(key), "{refused}");
            assert_eq!(refused.lines().count(), 1, "{refused}");
        }
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let now = Config::default();
        let mut new = Config { soa_serial: SoaSerial::Keep, ..now.clone() };
        assert_eq!(now.needs_restart(&new), Vec::<&str>::new());
        new.log.retention_size = ByteSize::from_mib(1);
        assert_eq!(now.needs_restart(&new), Vec::<&str>::new());
        new.log.cache = ByteSize::from_mib(1);
        assert_eq!(now.needs_restart(&new), ["log"]);
    }
}
