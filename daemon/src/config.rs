//! The daemon's configuration: what `config/edgesyncd.toml` explains, and what the program makes of
//! it. Which parts take effect by a reload is said at [`Settings`].

use std::{fs, net::SocketAddr, path::PathBuf};

use edgesync_core::{
    edge_id::{EdgeId, EdgeIdError},
    limits::{FILTER_ZONES, FRAME_OCTETS, WINDOW_OCTETS, WINDOW_OCTETS_MAX},
    name::{Name, NameError},
    session::Filter,
};
use edgesync_host::{
    tls::{ServerName, TlsFiles},
    units::{ByteSize, Period},
};
use serde::{Deserialize, Serialize};

use crate::{
    apply::PauseConfig,
    link::{Endpoint, EndpointError},
    reconnect::ReconnectConfig,
    store::StoreConfig,
};

/// What the names of environment variables begin with.
pub const ENVIRONMENT: &str = "EDGESYNC_EDGE_";
/// The host's name.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";
/// Name of the file in the data directory that freezes the edge while it is there.
pub const FREEZE_FILE: &str = "freeze";
/// The word for all zones.
const ALL: &str = "all";

/// The configuration, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Id of the edge; empty: the host's name.
    pub edge_id: String,
    /// Where the store is.
    pub data_dir: PathBuf,
    /// URLs of the control planes, the preferred first.
    pub control: Vec<String>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub metrics_listen: SocketAddr,
    /// The unix socket of the local API.
    pub socket: PathBuf,
    /// Which zones the edge wants.
    pub zones: Zones,
    /// The store.
    pub store: StoreTable,
    /// The session.
    pub session: SessionTable,
    /// Coming back after a failure.
    pub reconnect: ReconnectTable,
    /// The files of TLS.
    pub tls: TlsTable,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            edge_id: String::new(),
            data_dir: "/var/lib/edgesyncd".into(),
            control: vec!["http://127.0.0.1:7353".to_owned()],
            metrics_listen: SocketAddr::from(([127, 0, 0, 1], 9354)),
            socket: "/run/edgesyncd/edgesyncd.sock".into(),
            zones: Zones::default(),
            store: StoreTable::default(),
            session: SessionTable::default(),
            reconnect: ReconnectTable::default(),
            tls: TlsTable::default(),
        }
    }
}

/// `"all"`, or a list of origins. Never an empty list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Zones {
    /// `all`, or origins with commas between.
    Word(String),
    /// Origins.
    List(Vec<String>),
}

impl Default for Zones {
    fn default() -> Self {
        Self::Word(ALL.to_owned())
    }
}

/// The table `[store]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreTable {
    /// Memory for the store's cache.
    pub cache_capacity: ByteSize,
    /// What has to stay free on the store's disk.
    pub min_free: ByteSize,
}

impl Default for StoreTable {
    fn default() -> Self {
        Self { cache_capacity: ByteSize::from_mib(64), min_free: ByteSize::from_mib(64) }
    }
}

/// The table `[session]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionTable {
    /// How much is taken ahead of what is durable.
    pub window: ByteSize,
}

impl Default for SessionTable {
    fn default() -> Self {
        Self { window: ByteSize::new(WINDOW_OCTETS.into()) }
    }
}

/// The table `[reconnect]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReconnectTable {
    /// The longest wait after the first failure.
    pub initial: Period,
    /// The longest wait after many.
    pub max: Period,
}

impl Default for ReconnectTable {
    fn default() -> Self {
        Self { initial: Period::from_millis(100), max: Period::from_secs(60) }
    }
}

/// The table `[tls]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsTable {
    /// The certificate that says which edge this is.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The CAs that a control plane's certificate has to be of.
    pub ca: PathBuf,
    /// Lists of what they have revoked.
    pub crl: PathBuf,
    /// The name that it has to be for; empty: the one in the URL.
    pub server_name: String,
}

impl TlsTable {
    fn files(&self) -> TlsFiles {
        let Self { cert, key, ca, crl, server_name: _ } = self.clone();
        TlsFiles { cert, key, ca, crl }
    }

    fn server_name(&self) -> Result<Option<ServerName<'static>>, SettingsError> {
        let name = self.server_name.clone();
        let parsed = (!name.is_empty()).then(|| ServerName::try_from(name.clone())).transpose();
        parsed.map_err(|_| SettingsError::ServerName(name))
    }
}

/// Why a configuration that can be read is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The id of the edge is wrong.
    #[error("edge_id: {0}; set it with --edge-id")]
    EdgeId(#[from] EdgeIdError),
    /// There is no control plane.
    #[error("control: no control plane is given; set at least one with --control")]
    NoControl,
    /// A control plane's URL is wrong.
    #[error("control: {0}")]
    Control(#[from] EndpointError),
    /// No zone is wanted: an empty filter is never "all" (rule 13).
    #[error("zones: the list is empty; write \"all\" for all zones")]
    NoZones,
    /// Too many zones are listed.
    #[error("zones: {0} are listed, at most {FILTER_ZONES} are taken; write \"all\" for all zones")]
    ManyZones(usize),
    /// An origin is wrong.
    #[error("zones: {0}")]
    Zone(#[from] NameError),
    /// A control plane is reached by TLS, and nothing says whom to believe.
    #[error(
        "tls.ca is not set, and a control plane's URL begins with https: name the file of its CA"
    )]
    NoCa,
    /// A name cannot stand in a certificate.
    #[error("tls.server_name: `{0}` is no name that a certificate can be for")]
    ServerName(String),
    /// A number is out of its range.
    #[error("{key}: {value} is out of range: {least} to {most}")]
    Range {
        /// Which.
        key: &'static str,
        /// What it is.
        value: String,
        /// The least that it may be.
        least: String,
        /// The most that it may be.
        most: String,
    },
}

/// The configuration, checked. A reload takes `reconnect` alone; the rest needs a restart.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Id of the edge.
    pub edge: EdgeId,
    /// The store, with the filter.
    pub store: StoreConfig,
    /// Where metrics are served.
    pub metrics_listen: SocketAddr,
    /// The unix socket of the local API.
    pub socket: PathBuf,
    /// What keeps changes from being applied for a while.
    pub pauses: PauseConfig,
    /// Octets of change sets taken ahead of the acks.
    pub window: u32,
    /// Which control planes, and how to come back to them.
    pub reconnect: ReconnectConfig,
    /// The files of TLS.
    pub tls: TlsFiles,
    /// The name that a control plane's certificate has to be for; none: the one in the URL.
    pub server_name: Option<ServerName<'static>>,
}

impl Config {
    /// The keys that differ in another configuration and need a restart.
    #[must_use]
    pub fn needs_restart(&self, other: &Self) -> Vec<&'static str> {
        let differs = [
            ("edge_id", self.edge_id != other.edge_id),
            ("data_dir", self.data_dir != other.data_dir),
            ("metrics_listen", self.metrics_listen != other.metrics_listen),
            ("socket", self.socket != other.socket),
            ("zones", self.zones != other.zones),
            ("store", self.store != other.store),
            ("session", self.session != other.session),
            ("tls", self.tls != other.tls),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// Checks what is written.
    ///
    /// # Errors
    /// If a value makes no sense; the key is named.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        let edge = if self.edge_id.is_empty() { hostname() } else { self.edge_id.clone() };
        let edge = edge.parse()?;
        let endpoints = self.control.iter().map(|url| url.parse::<Endpoint>());
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(SettingsError::NoControl);
        }
        let uses_tls = endpoints.iter().any(|endpoint| matches!(endpoint, Endpoint::Tls(_)));
        if uses_tls && self.tls.ca.as_os_str().is_empty() {
            return Err(SettingsError::NoCa);
        }
        let cache = self.store.cache_capacity;
        let size =
            |key, value, least, most| range(key, value, ByteSize::new(least), ByteSize::new(most));
        size("store.cache_capacity", cache, 1 << 20, 1 << 40)?;
        let window = self.session.window;
        size("session.window", window, FRAME_OCTETS as u64, WINDOW_OCTETS_MAX.into())?;
        let ReconnectTable { initial, max } = self.reconnect;
        range("reconnect.initial", initial, Period::from_millis(1), Period::from_secs(60))?;
        range("reconnect.max", max, initial, Period::from_secs(3_600))?;
        Ok(Settings {
            edge,
            store: StoreConfig {
                data_dir: self.data_dir.clone(),
                cache_octets: cache.get(),
                filter: self.zones.filter()?,
            },
            pauses: PauseConfig {
                freeze_file: self.data_dir.join(FREEZE_FILE),
                data_dir: self.data_dir.clone(),
                min_free: self.store.min_free.get(),
            },
            metrics_listen: self.metrics_listen,
            socket: self.socket.clone(),
            window: u32::try_from(window.get()).unwrap_or(WINDOW_OCTETS_MAX),
            reconnect: ReconnectConfig { endpoints, initial: initial.get(), max: max.get() },
            tls: self.tls.files(),
            server_name: self.tls.server_name()?,
        })
    }
}

impl Zones {
    /// The filter that is meant.
    fn filter(&self) -> Result<Filter, SettingsError> {
        let origins: Vec<&str> = match self {
            Self::Word(word) if word == ALL => return Ok(Filter::All),
            Self::Word(word) => word.split(',').map(str::trim).filter(|w| !w.is_empty()).collect(),
            Self::List(origins) => origins.iter().map(String::as_str).collect(),
        };
        if matches!(origins[..], [ALL]) {
            return Ok(Filter::All);
        }
        match origins.len() {
            0 => return Err(SettingsError::NoZones),
            1..=FILTER_ZONES => {}
            many => return Err(SettingsError::ManyZones(many)),
        }
        let zones = origins.into_iter().map(Name::parse_origin);
        let mut zones = zones.collect::<Result<Vec<_>, _>>()?;
        zones.sort_unstable();
        zones.dedup();
        Ok(Filter::Zones(zones))
    }
}

/// Refuses a value out of its range.
fn range<T: Ord + ToString + Copy>(
    key: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), SettingsError> {
    if value < least || value > most {
        let (value, least, most) = (value.to_string(), least.to_string(), most.to_string());
        return Err(SettingsError::Range { key, value, least, most });
    }
    Ok(())
}

/// The host's name; empty if there is none.
fn hostname() -> String {
    fs::read_to_string(HOSTNAME).unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// No flags.
    #[derive(Serialize)]
    struct Nothing {}

    fn load(text: &str) -> Result<Config, edgesync_host::config::ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edgesyncd.toml");
        fs::write(&file, text).unwrap();
        edgesync_host::config::load(Some(&file), "EDGESYNC_EDGE_TEST_", &Nothing {})
    }

    #[test]
    fn the_example_has_every_key_and_equals_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/edgesyncd.toml");
        let example: Config =
            edgesync_host::config::load(Some(&path), "EDGESYNC_EDGE_TEST_", &Nothing {}).unwrap();
        assert_eq!(example, Config::default());
        let text = fs::read_to_string(path).unwrap();
        let mut table = String::new();
        let mut written = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[') {
                table = name.trim_end_matches(']').to_owned() + ".";
            } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#'))
            {
                written.push(table.clone() + key);
            }
        }
        let known = [
            "edge_id",
            "data_dir",
            "control",
            "metrics_listen",
            "socket",
            "zones",
            "tls.cert",
            "tls.key",
            "tls.ca",
            "tls.crl",
            "tls.server_name",
            "store.cache_capacity",
            "store.min_free",
            "session.window",
            "reconnect.initial",
            "reconnect.max",
        ];
        assert_eq!(written, known);
        assert!(Config { edge_id: "a".into(), ..example }.settings().is_ok());
    }

    #[test]
    fn an_unknown_key_is_refused_in_every_table() {
        for text in [
            "edgeid = 'a'",
            "[store]\ncache = '1MiB'",
            "[session]\nwin = 1",
            "[reconnect]\nmin = '1s'",
        ] {
            let refused = load(text).unwrap_err().to_string();
            assert!(refused.contains("unknown key"), "{refused}");
        }
    }

    #[test]
    fn zones_are_all_by_the_word_alone_and_never_by_an_empty_list() {
        let zones = |text: &str| load(text).unwrap().zones.filter();
        assert_eq!(zones("zones = 'all'"), Ok(Filter::All));
        assert_eq!(zones("zones = ['all']"), Ok(Filter::All));
        assert_eq!(zones("zones = []"), Err(SettingsError::NoZones));
        assert_eq!(zones("zones = ''"), Err(SettingsError::NoZones));
        let names = ["a.example.", "b.example."].map(|text| Name::parse_origin(text).unwrap());
        let listed = Ok(Filter::Zones(names.to_vec()));
        assert_eq!(zones("zones = ['b.example', 'A.example.', 'b.example.']"), listed);
        assert_eq!(zones("zones = 'b.example, a.example'"), listed);
        assert!(matches!(zones("zones = ['a..b']"), Err(SettingsError::Zone(_))));
    }

    #[test]
    fn a_reload_names_what_needs_a_restart() {
        let running = Config::default();
        let mut other = Config { control: Vec::new(), ..running.clone() };
        other.reconnect.max = Period::from_secs(1);
        assert!(running.needs_restart(&other).is_empty());
        other.zones = Zones::List(vec!["a.example".to_owned()]);
        other.socket = "/tmp/x".into();
        assert_eq!(running.needs_restart(&other), ["socket", "zones"]);
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        let refused = |text: &str| {
            let text = format!("edge_id = 'fra-1'\n{text}");
            load(&text).unwrap().settings().unwrap_err().to_string()
        };
        for (text, part) in [
            ("control = ['https://a:1']", "tls.ca is not set"),
            ("control = ['http://a:1']", "not encrypted"),
            ("[session]\nwindow = '1KiB'", "session.window: 1KiB is out of range: 256KiB to 64MiB"),
            ("[store]\ncache_capacity = '0B'", "store.cache_capacity"),
            ("[reconnect]\nmax = '1ms'", "reconnect.max: 1ms is out of range: 100ms to 1h"),
            ("zones = []", "zones"),
        ] {
            assert!(refused(text).contains(part), "{}", refused(text));
        }
        let bad = Config { edge_id: "No Id".to_owned(), ..Config::default() };
        assert!(bad.settings().unwrap_err().to_string().contains("--edge-id"));
    }
}
