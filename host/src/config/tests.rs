//! Precedence, unknown keys and wrong types, each in every layer.

use std::path::PathBuf;

use serde::Deserialize;
use tempfile::TempDir;

use super::*;
use crate::units::{ByteSize, Period};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    edge_id: String,
    listen: String,
    control: Vec<String>,
    max_sessions: u32,
    socket: Option<String>,
    sync: Sync,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sync {
    window: ByteSize,
    heartbeat: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            edge_id: String::new(),
            listen: "127.0.0.1:1".to_owned(),
            control: Vec::new(),
            max_sessions: 10,
            socket: None,
            sync: Sync::default(),
        }
    }
}

impl Default for Sync {
    fn default() -> Self {
        Self { window: ByteSize::from_mib(4), heartbeat: Period::from_secs(1) }
    }
}

#[derive(Default, Serialize)]
struct Flags {
    listen: Option<String>,
    control: Vec<String>,
    socket: Option<String>,
}

fn file(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn load_all(text: &str, variables: &[(&str, &str)], flags: &Flags) -> Result<Config, ConfigError> {
    let (_dir, path) = file(text);
    let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    load_from(Some(&path), "TEST_", variables, flags)
}

#[test]
fn each_layer_overrides_the_one_before() {
    let flags = Flags { listen: Some("d".to_owned()), ..Flags::default() };
    let text = "listen = 'b'\nedge_id = 'b'\nmax_sessions = 2\ncontrol = ['x']\n\
                [sync]\nwindow = '1MiB'\n";
    let variables = [("TEST_LISTEN", "c"), ("TEST_EDGE_ID", "c"), ("OTHER_LISTEN", "z")];
    let config = load_all(text, &variables, &flags).unwrap();
    assert_eq!(config.listen, "d");
    assert_eq!(config.edge_id, "c");
    assert_eq!(config.max_sessions, 2);
    assert_eq!(config.control, ["x"]);
    assert_eq!(config.sync, Sync { window: ByteSize::from_mib(1), ..Sync::default() });
    assert_eq!(config.socket, None);
}

#[test]
fn without_any_layer_there_are_the_defaults() {
    let config: Config = load_from(None, "TEST_", std::iter::empty(), &Flags::default()).unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn a_variable_has_the_type_of_its_key() {
    let variables = [
        ("TEST_EDGE_ID", "12"),
        ("TEST_MAX_SESSIONS", "12"),
        ("TEST_SOCKET", "7"),
        ("TEST_CONTROL", "http://a:1, http://b:2"),
        ("TEST_SYNC__HEARTBEAT", "100ms"),
    ];
    let config = load_all("", &variables, &Flags::default()).unwrap();
    assert_eq!((config.edge_id.as_str(), config.max_sessions), ("12", 12));
    assert_eq!(config.socket.as_deref(), Some("7"));
    assert_eq!(config.control, ["http://a:1", "http://b:2"]);
    assert_eq!(config.sync.heartbeat, Period::from_millis(100));
}

#[test]
fn an_unknown_key_in_any_table_is_refused_with_the_nearest() {
    for (text, key, nearest) in [
        ("lisen = 'x'\n", "`lisen`", "`listen`"),
        ("[sync]\nwindows = '1MiB'\n", "`sync.windows`", "`sync.window`"),
        ("heartbeat = '1s'\n", "`heartbeat`", "`sync.heartbeat`"),
        ("[sink]\nwindow = '1MiB'\n", "`sink`", "`sync`"),
    ] {
        let refused = load_all(text, &[], &Flags::default()).unwrap_err().to_string();
        for part in ["control.toml", key, nearest] {
            assert!(refused.contains(part), "{refused}");
        }
        assert_eq!(refused.lines().count(), 1);
    }
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest() {
    let refused = load_all("", &[("TEST_SYNC__WINDOWS", "1MiB")], &Flags::default());
    assert_eq!(
        refused.unwrap_err().to_string(),
        "the environment: unknown key `TEST_SYNC__WINDOWS`; the nearest known one is \
         `TEST_SYNC__WINDOW`"
    );
}

#[test]
fn what_kubernetes_sets_for_a_service_of_our_name_is_let_pass() {
    let links = [
        ("TEST_SERVICE_HOST", "10.0.0.1"),
        ("TEST_SERVICE_PORT_GRPC", "1"),
        ("TEST_PORT", "tcp://10.0.0.1:1"),
        ("TEST_PORT_7353_TCP_ADDR", "10.0.0.1"),
    ];
    assert!(load_all("", &links, &Flags::default()).is_ok());
    assert!(load_all("", &[("TEST_PORT_X", "1")], &Flags::default()).is_err());
}

#[test]
fn a_wrong_type_names_where_it_stands_and_its_key() {
    for (text, variable, place, key) in [
        ("max_sessions = 'many'\n", None, "control.toml", "`max_sessions`"),
        ("max_sessions = -1\n", None, "control.toml", "`max_sessions`"),
        ("edge_id = 12\n", None, "control.toml", "`edge_id`"),
        ("[sync]\nwindow = 64\n", None, "control.toml", "`sync.window`"),
        ("sync = 1\n", None, "control.toml", "`sync`"),
        ("", Some(("TEST_SYNC__HEARTBEAT", "5")), "TEST_SYNC__HEARTBEAT", "`sync.heartbeat`"),
    ] {
        let variables: Vec<_> = variable.into_iter().collect();
        let refused = load_all(text, &variables, &Flags::default()).unwrap_err().to_string();
        assert!(refused.contains(place) && refused.contains(key), "{refused}");
        assert_eq!(refused.lines().count(), 1);
    }
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_named_with_line_and_column() {
    let refused = load_all("listen = 'a'\nedge_id = = 1\n", &[], &Flags::default()).unwrap_err();
    assert!(matches!(refused, ConfigError::Syntax { line: 2, column: 11, .. }), "{refused}");
    assert_eq!(refused.to_string().lines().count(), 1);
    let missing = load_from::<Config, _>(
        Some(Path::new("/nowhere/control.toml")),
        "TEST_",
        std::iter::empty(),
        &Flags::default(),
    );
    assert!(missing.unwrap_err().to_string().contains("/nowhere/control.toml"));
}
