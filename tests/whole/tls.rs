//! Certificates that are not to be taken, those that end or are revoked while a stream is open, and
//! strangers who are slow: with the real programs.

use std::{
    io::Read,
    net::TcpStream,
    time::{Duration, Instant},
};

use edgesync_host::pki::{Pair, Purpose, Subject, self_signed};
use edgesync_tests::{Certs, Stack, around_now, eventually, greet};

/// How long something that is not taken any more may go on.
const REVOKED: Duration = Duration::from_secs(5);
/// How long a stranger may stay without a call, and a little.
const STRANGER: Duration = Duration::from_secs(11);

fn start(edges: usize) -> Stack {
    let mut stack = Stack::secured(edges);
    stack.edge_environment.push(("EDGESYNC_EDGE_RECONNECT__MAX", "300ms"));
    stack.start_control();
    for edge in 0..edges {
        stack.start_edge(edge);
    }
    eventually("the edges register", || stack.fleet().len() >= edges);
    stack
}

/// The edge's word for its link, and why.
fn link(stack: &Stack, edge: usize) -> (String, String) {
    let status = stack.edge_status(edge).unwrap_or_default();
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    (text("link"), text("reason"))
}

fn is_connected(stack: &Stack, edge: &str) -> bool {
    let fleet = stack.fleet();
    let found = fleet.iter().find(|row| row["id"] == edge);
    found.is_some_and(|row| {
        !["DISCONNECTED", "disconnected"].iter().any(|word| row["state"] == *word)
    })
}

fn reloads(stack: &Stack, result: &str) -> f64 {
    let name = format!("edgesync_control_tls_reloads_total{{result=\"{result}\"}}");
    stack.control_metric(&name).unwrap_or_default()
}

fn edge_subject() -> Subject {
    Subject::edge("edge-0").unwrap()
}

fn server_subject() -> Subject {
    Subject::server(&["127.0.0.1"]).unwrap()
}

/// Certificates of an edge that nobody may take, each with what rustls calls it.
fn wrong(
    certs: &Certs,
    other: &Certs,
    subject: &Subject,
    [right, bad]: [Purpose; 2],
) -> Vec<(&'static str, Pair, &'static str)> {
    let now = around_now(300, 86_400);
    let day = Duration::from_secs(86_400);
    let later = now.end..now.end + day;
    vec![
        ("not yet valid", certs.issue(subject, right, &later), "not valid yet"),
        ("another CA", other.issue(subject, right, &now), "UnknownIssuer"),
        ("for another use", certs.issue(subject, bad, &now), "extended key usage"),
        ("self-signed", self_signed(subject, right, &now).unwrap(), "UnknownIssuer"),
    ]
}

#[test]
fn a_caller_with_a_wrong_certificate_is_refused_and_the_log_says_why() {
    let mut stack = start(0);
    let other = Certs::new(&stack.dir().join("other"), "another CA");
    let certs = stack.certs();
    let purposes = [Purpose::Client, Purpose::Server];
    let mut cases = wrong(certs, &other, &edge_subject(), purposes);
    let ended = certs.issue(&edge_subject(), Purpose::Client, &around_now(600, 0));
    cases.push(("ended", ended, "expired"));
    let server = certs.server();
    cases.push(("the server's own", server, "extended key usage"));
    let revoked = certs.edge("edge-0");
    certs.revoke(&[&revoked]);
    eventually("the list is read", || reloads(&stack, "ok") >= 1.0);
    cases.push(("revoked", revoked, "Revoked"));
    let address = stack.control_address();
    greet(certs.connect(address, Some(&certs.edge("edge-0")))).expect("a good one is taken");
    greet(certs.connect(address, None)).expect("callers need none");
    let refused = "edgesync_control_connections_refused_total{reason=\"handshake\"}";
    let before = stack.control_metric(refused).unwrap_or_default();
    let count = cases.len();
    let log = || stack.control.as_ref().unwrap().log_text();
    for (what, pair, word) in cases {
        let lines = log().lines().count();
        let told = greet(stack.certs().connect(address, Some(&pair))).expect_err(what).to_string();
        assert!(told.contains("alert"), "{what}: {told}");
        eventually(what, || {
            let is_word = |line: &str| line.contains("is refused") && line.contains(word);
            log().lines().skip(lines).any(is_word)
        });
    }
    let after = stack.control_metric(refused).unwrap_or_default();
    assert!(after - before >= f64::from(u32::try_from(count).unwrap()), "{before} {after}");
    assert!(stack.control().stop().success());
}

#[test]
fn an_edge_with_a_wrong_certificate_is_refused_and_its_status_says_why() {
    let mut stack = start(1);
    let other = Certs::new(&stack.dir().join("other"), "another CA");
    let certs = stack.certs();
    let mut cases = wrong(certs, &other, &edge_subject(), [Purpose::Client, Purpose::Server]);
    cases.push(("of another edge", certs.edge("edge-1"), "edge-1"));
    for (what, pair, word) in cases {
        // The open stream is of the certificate that it began with: only a new one shows the other.
        stack.edge(0).kill();
        stack.certs().put("edge-0", &pair);
        stack.begin_edge(0, &[]);
        eventually(what, || {
            let (_, reason) = link(&stack, 0);
            reason.contains(word) || reason.contains("alert")
        });
        assert!(!is_connected(&stack, "edge-0"), "{what}");
        stack.certs().put("edge-0", &stack.certs().edge("edge-0"));
        eventually("with a good one it comes back", || is_connected(&stack, "edge-0"));
    }
}

#[test]
fn a_control_plane_with_a_wrong_certificate_is_refused_by_edge_and_operator() {
    let mut stack = start(1);
    let other = Certs::new(&stack.dir().join("other"), "another CA");
    let certs = stack.certs();
    let mut cases = wrong(certs, &other, &server_subject(), [Purpose::Server, Purpose::Client]);
    let named = Subject::server(&["control.example"]).unwrap();
    let named = certs.issue(&named, Purpose::Server, &around_now(300, 86_400));
    cases.push(("of another name", named, "not valid for name"));
    let short = certs.issue(&server_subject(), Purpose::Server, &around_now(300, 4));
    cases.push(("ended", short, "expired"));
    for (what, pair, word) in cases {
        stack.edge(0).kill();
        let before = reloads(&stack, "ok");
        stack.certs().put("control", &pair);
        eventually("it is in use", || {
            // The page needs no TLS.
            reloads(&stack, "ok") > before
        });
        if what == "ended" {
            std::thread::sleep(Duration::from_secs(4));
        }
        stack.begin_edge(0, &[]);
        eventually(what, || link(&stack, 0).1.contains(word));
        let told = stack.run(&["fleet"]).refused(5);
        assert!(told.contains(word), "{what}: {told}");
    }
    stack.certs().put("control", &stack.certs().server());
    eventually("with a good one the edge comes back", || {
        stack.run(&["fleet"]).code == 0 && is_connected(&stack, "edge-0")
    });
}

/// F-37.
#[test]
fn a_session_ends_with_its_certificate_and_comes_back_with_a_new_one() {
    let stack = {
        let mut stack = Stack::secured(1);
        stack.edge_environment.push(("EDGESYNC_EDGE_RECONNECT__MAX", "300ms"));
        stack.start_control();
        stack
    };
    let mut stack = stack;
    let lives = around_now(300, 8);
    let short = stack.certs().issue(&edge_subject(), Purpose::Client, &lives);
    stack.certs().put("edge-0", &short);
    stack.start_edge(0);
    eventually("the edge connects", || is_connected(&stack, "edge-0"));
    let log = |stack: &Stack| stack.control.as_ref().unwrap().log_text();
    eventually("its connection is ended", || log(&stack).contains("its certificate has ended"));
    let late = lives.end.elapsed().expect("not before its end");
    assert!(late < REVOKED, "{late:?} after its end");
    eventually("it is refused", || {
        log(&stack).contains("expired") && link(&stack, 0).1.contains("alert")
    });
    stack.certs().put("edge-0", &stack.certs().edge("edge-0"));
    eventually("it comes back by itself", || is_connected(&stack, "edge-0"));
}

#[test]
fn a_revoked_certificate_ends_its_session_and_no_other() {
    let stack = start(2);
    let pair = Pair {
        certificate: std::fs::read_to_string(stack.certs().file("edge-0.pem")).unwrap(),
        ..stack.certs().server()
    };
    let began = Instant::now();
    stack.certs().revoke(&[&pair]);
    eventually("the session ends", || !is_connected(&stack, "edge-0"));
    assert!(began.elapsed() < REVOKED, "{:?}", began.elapsed());
    let log = stack.control.as_ref().unwrap().log_text();
    assert!(log.contains("not taken any more") && log.contains("Revoked"), "{log}");
    assert!(is_connected(&stack, "edge-1"));
    let ends = stack.control_page("/metrics").unwrap();
    let ends = ends.lines().filter(|line| line.starts_with("edgesync_control_session_ends_total"));
    assert_eq!(ends.filter(|line| !line.ends_with(" 0")).count(), 1, "one session, one reason");
    stack.certs().put("edge-0", &stack.certs().edge("edge-0"));
    eventually("it comes back with a new one", || is_connected(&stack, "edge-0"));
}

/// F-39.
#[test]
fn a_ca_is_replaced_by_way_of_both_without_a_dropped_stream() {
    let stack = start(2);
    let (old, new) = (stack.certs(), Certs::new(&stack.dir().join("new"), "the next CA"));
    let take = |ca: &str, count: f64| {
        old.replace("ca.pem", ca);
        eventually("the CAs are in use", || reloads(&stack, "ok") >= count);
    };
    take(&[old.authority(), new.authority()].concat(), 1.0);
    std::thread::sleep(Duration::from_millis(1_200));
    old.put("edge-0", &new.edge("edge-0"));
    std::thread::sleep(Duration::from_millis(1_200));
    assert!(is_connected(&stack, "edge-0") && is_connected(&stack, "edge-1"));
    let ended = |stack: &Stack| {
        let page = stack.control_page("/metrics").unwrap();
        let ends = page.lines().filter(|line| line.starts_with("edgesync_control_session_ends_"));
        ends.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>()
    };
    assert_eq!(ended(&stack), 0.0, "no stream was dropped");
    old.put("control", &new.server());
    eventually("the new certificate is in use", || reloads(&stack, "ok") >= 2.0);
    assert_eq!(stack.run(&["fleet"]).code, 0, "both are believed");
    assert_eq!(ended(&stack), 0.0, "no stream was dropped");
    take(new.authority(), 3.0);
    eventually("who is of the old CA is gone", || !is_connected(&stack, "edge-1"));
    eventually("who has a new one comes back", || is_connected(&stack, "edge-0"));
}

#[test]
fn slow_strangers_are_gone_in_ten_seconds_before_and_after_the_handshake() {
    let stack = start(0);
    let address = stack.control_address();
    let gone = |mut stream: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let began = Instant::now();
            let mut octets = [0; 1_024];
            while matches!(stream.read(&mut octets), Ok(count) if count > 0) {}
            began.elapsed()
        })
    };
    let plain = TcpStream::connect(address).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let silent = gone(Box::new(plain));
    let mut partial = TcpStream::connect(address).unwrap();
    partial.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    std::io::Write::write_all(&mut partial, &[22, 3, 1]).unwrap();
    let partial = gone(Box::new(partial));
    let encrypted = gone(Box::new(stack.certs().connect(address, None)));
    for (what, stranger) in [("silent", silent), ("partial", partial), ("encrypted", encrypted)] {
        let took = stranger.join().unwrap();
        assert!(took < STRANGER && took > Duration::from_secs(1), "{what}: {took:?}");
    }
    assert_eq!(stack.run(&["fleet"]).code, 0, "others are served");
}
