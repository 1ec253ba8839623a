//! Both daemons' configuration files: any text is a configuration within its bounds, or one line
//! that says what is wrong.

use std::{cell::RefCell, fs, time::Duration};

use edgesync_control::config::Flags;
use edgesync_core::limits::{FRAME_OCTETS, WINDOW_OCTETS_MAX};
use edgesync_daemon::config::Config;
use edgesync_host::{config::load, exit::one_line};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::assert_one_line;

/// No flags.
#[derive(Serialize)]
struct Nothing {}

thread_local! {
    static FILE: RefCell<NamedTempFile> = RefCell::new(NamedTempFile::new().expect("a file"));
}

/// The octets of a configuration file.
pub fn run(input: &[u8]) {
    FILE.with_borrow(|file| {
        fs::write(file.path(), input).expect("the file is written");
        let flags = Flags { config: Some(file.path().to_owned()), ..Flags::default() };
        match flags.load() {
            Ok(config) => {
                assert!(config.insecure != config.tls.is_used());
                let heartbeat = config.sessions.heartbeat.get();
                assert!(heartbeat >= Duration::from_millis(100));
                assert!(heartbeat <= Duration::from_secs(60) && config.sessions.max_sessions > 0);
                assert_eq!(config.needs_restart(&config.clone()), Vec::<&str>::new());
            }
            Err(error) => assert_one_line(&one_line(&error)),
        }
        match load::<Config, _>(Some(file.path()), "EDGESYNC_FUZZ_", &Nothing {}) {
            Ok(config) => check_edge(&config),
            Err(error) => assert_one_line(&one_line(&error)),
        }
    });
}

fn check_edge(config: &Config) {
    assert_eq!(config.needs_restart(&config.clone()), Vec::<&str>::new());
    match config.settings() {
        Ok(settings) => {
            let window = FRAME_OCTETS..=WINDOW_OCTETS_MAX as usize;
            assert!(window.contains(&(settings.window as usize)));
            let reconnect = settings.reconnect;
            assert!(reconnect.initial <= reconnect.max && reconnect.max.as_secs() <= 3_600);
            assert!(!reconnect.endpoints.is_empty());
            for endpoint in reconnect.endpoints {
                assert_one_line(&endpoint);
                assert_eq!(endpoint.to_string().parse().as_ref(), Ok(&endpoint));
            }
        }
        Err(error) => assert_one_line(&one_line(&error)),
    }
}

pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let own = |text: &str| text.as_bytes().to_vec();
    vec![
        ("control", own(include_str!("../../../config/edgesync-control.toml"))),
        ("edge", own(include_str!("../../../config/edgesyncd.toml"))),
        (
            "control-short",
            own(
                "listen = \"[::]:7353\"\nsoa_serial = \"keep\"\n[log]\ncache = \"1GiB\"\n[sessions]\nheartbeat = \"250ms\"\nmax_sessions = 7\n[tls]\ncert = \"c\"\nkey = \"k\"\nca = \"a\"\n",
            ),
        ),
        (
            "edge-short",
            own(
                "edge_id = \"fra-1\"\ncontrol = [\"http://[::1]:7353\", \"http://cp.example:80/\"]\nzones = [\"example.com\", \"b\"]\nsession.window = \"1MiB\"\n[reconnect]\ninitial = \"1ms\"\nmax = \"1h\"\n",
            ),
        ),
        ("unknown", own("[sync]\nwindow = 1\n")),
        ("two-lines", own("edge_id = \"a\\nb\"\nlisten = \"\\u001b[2J\"\n\"a\\nb\" = 1\n")),
        ("not-toml", own("listen = [\n")),
        ("empty", Vec::new()),
    ]
}
