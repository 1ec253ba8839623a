//! F-51, F-52: floods and slow clients against a live control plane, with a good client beside. Its memory
//! stays in its bounds, and the good client gets its answers.

mod attack;
mod frames;

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use edgesync_host::tls::ServerName;
use edgesync_proto::v1::{self, record_service_client::RecordServiceClient};
use edgesync_tests::Stack;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use self::attack::{Attack, Done, Server};

/// The zone that the good client reads.
const ZONE: &str = "example.com.";
/// Attackers at once.
const ATTACKERS: usize = 4;
/// What the control plane may grow by.
const GROWTH_KIB: u64 = 64 * 1024;
/// A good client's answer comes within this in any case.
const ANSWERED: Duration = Duration::from_secs(5);
/// How long an attack may take to begin.
const LATE: Duration = Duration::from_secs(20);
/// Between two calls of the good client.
const PACE: Duration = Duration::from_millis(2);
/// Calm before an attack, and after it.
const CALM: Duration = Duration::from_millis(500);

/// Times of a good client's calls.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn p99(&mut self) -> Duration {
        self.0.sort_unstable();
        self.0.get(self.0.len() * 99 / 100).copied().unwrap_or_default()
    }
}

/// Reads and writes for a time, one after the other; each has to succeed.
async fn call(
    client: &mut RecordServiceClient<Channel>,
    token: Option<&str>,
    during: Duration,
    to: &mut Times,
) {
    let end = Instant::now() + during;
    let mut number = 0;
    while Instant::now() < end {
        number += 1;
        let begin = Instant::now();
        let request = v1::ListRecordsRequest {
            zone: ZONE.to_owned(),
            owner: ZONE.to_owned(),
            r#type: "SOA".to_owned(),
        };
        let mut request = tonic::Request::new(request);
        if let Some(token) = token {
            let bearer = format!("Bearer {token}").parse().expect("ASCII text");
            let _ = request.metadata_mut().insert("authorization", bearer);
        }
        let answered = client.list_records(request).await;
        let mut pages = answered.unwrap_or_else(|e| panic!("call {number}: {e}")).into_inner();
        assert!(pages.message().await.expect("an answer").is_some(), "the zone is there");
        to.0.push(begin.elapsed());
        tokio::time::sleep(PACE).await;
    }
}

/// A number from the environment, or the bounded default.
fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
}

/// Resident memory of a process.
fn resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
}

/// The attackers' own work is not the server's: this thread runs when nothing else here wants to. (A low
/// priority does not do: the kernel lets it finish its slice of 3 ms before another thread may go on.)
fn yields_to_all_else() {
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    let set = Command::new("chrt").args(["--idle", "--pid", "0", &own]).status();
    assert!(set.is_ok_and(|status| status.success()), "chrt (util-linux) has not set {own}");
}

/// What one attack has come to.
struct Outcome {
    calm: Duration,
    attacked: Duration,
    grown_kib: u64,
    done: Arc<Done>,
}

/// Connects as a good client does.
async fn connect(server: Server) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).expect("a URL");
    let Some(tls) = server.tls else { return endpoint.connect().await.expect("it connects") };
    let connector = tower::service_fn(move |_: Uri| {
        let tls = TlsConnector::from(Arc::clone(&tls));
        async move {
            let stream = TcpStream::connect(server.address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from("localhost").expect("a name");
            tls.connect(name, stream).await.map(TokioIo::new)
        }
    });
    endpoint.connect_with_connector(connector).await.expect("it connects")
}

fn attack(attack: Attack, stack: &mut Stack, server: &Server, during: Duration) -> Outcome {
    let process = stack.control().id();
    let token = stack.token_file.as_ref().map(|file| fs::read_to_string(file).expect("a token"));
    let token = token.as_deref().map(str::trim);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(Done::default()));
    let before = resident_kib(process);
    let watching = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut most = before;
            while !stop.load(Ordering::Relaxed) {
                most = most.max(resident_kib(process));
                std::thread::sleep(Duration::from_millis(50));
            }
            most
        })
    };
    let (mut calm, mut attacked) = (Times::default(), Times::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut client = RecordServiceClient::new(connect(server.clone()).await);
        // A long attack is compared with a long calm.
        let calmly = CALM.max(during / 6);
        call(&mut client, token, CALM, &mut Times::default()).await;
        call(&mut client, token, calmly, &mut calm).await;
        let threads: Vec<_> = (0..ATTACKERS)
            .map(|_| {
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                let server = server.clone();
                std::thread::spawn(move || {
                    yields_to_all_else();
                    attack.run(&server, &stop, &done);
                })
            })
            .collect();
        call(&mut client, token, during, &mut attacked).await;
        // The attackers come after all else: on a busy machine they may have had no turn yet.
        let late = Instant::now() + LATE;
        while !done.has_attacked() && Instant::now() < late {
            call(&mut client, token, CALM, &mut attacked).await;
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().expect("an attacker has panicked"));
        call(&mut client, token, calmly, &mut calm).await;
    });
    let most = watching.join().expect("the watcher has panicked");
    let grown_kib = most.saturating_sub(before);
    Outcome { calm: calm.p99(), attacked: attacked.p99(), grown_kib, done }
}

/// True if an attack was asked for, by its name; by default all are. A name that is none ends the test.
fn is_wanted(kind: &Attack) -> bool {
    let Ok(wanted) = std::env::var("EDGESYNC_ATTACKS") else { return true };
    let is = |name: &str, kind: &Attack| name.eq_ignore_ascii_case(&format!("{kind:?}"));
    let known = || Attack::ALL.iter().chain(&Attack::OVER_TLS).chain(&[Attack::Logins]);
    let check = |name: &&str| assert!(known().any(|kind| is(name, kind)), "no attack {name:?}");
    wanted == "all" || wanted.split(',').inspect(check).any(|name| is(name, kind))
}

/// Attacks, and says what went beyond its bounds.
fn judge(kind: Attack, stack: &mut Stack, tls: Option<Arc<ClientConfig>>) -> Option<String> {
    let seconds = number("EDGESYNC_ATTACK_SECONDS", 1);
    // By default other tests run beside: the times are told, and compared by hand.
    let ratio = number("EDGESYNC_ATTACK_RATIO", u64::from(u32::MAX));
    let server = Server { address: stack.control_address(), tls };
    let outcome = attack(kind, stack, &server, Duration::from_secs(seconds));
    let Outcome { calm, attacked, grown_kib, done } = outcome;
    let times = attacked.as_secs_f64() / calm.as_secs_f64().max(1e-6);
    println!(
        "{kind:?}: p99 calm {calm:?}, attacked {attacked:?} ({times:.1} times), memory +{} KiB; \
         {} connections, {} MiB sent, {} held",
        grown_kib,
        done.connections.load(Ordering::Relaxed),
        done.octets.load(Ordering::Relaxed) >> 20,
        done.held.load(Ordering::Relaxed),
    );
    assert!(done.connections.load(Ordering::Relaxed) > 0, "{kind:?} did not take place");
    assert!(done.has_attacked(), "{kind:?}: connections alone are no attack");
    assert!(stack.control_page("/readyz").is_some(), "it is ready");
    assert!(attacked < ANSWERED, "{kind:?}: the good client waited {attacked:?}");
    if grown_kib > GROWTH_KIB {
        return Some(format!("{kind:?}: memory grew by {grown_kib} KiB"));
    }
    #[allow(clippy::cast_precision_loss)]
    let late = times > ratio as f64;
    late.then(|| format!("{kind:?}: the good client's p99 was {times:.1} times the calm one"))
}

#[test]
fn floods_and_slow_clients_take_neither_memory_nor_answers_from_others() {
    let mut stack = Stack::start(0);
    let _ = stack.run(&["zone", "create", ZONE, "--ns", "ns1.example.com."]).good();
    let attacks = Attack::ALL.into_iter().filter(is_wanted);
    let wrong: Vec<_> = attacks.filter_map(|kind| judge(kind, &mut stack, None)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_flood_of_logins_takes_neither_memory_nor_answers_from_who_has_a_token() {
    let mut stack = Stack::prepare(0);
    stack.keep_access("");
    stack.start_control();
    let _ = stack.run(&["zone", "create", ZONE, "--ns", "ns1.example.com."]).good();
    if is_wanted(&Attack::Logins) {
        assert_eq!(judge(Attack::Logins, &mut stack, None), None);
    }
}

#[test]
fn floods_and_slow_clients_over_tls_take_neither_memory_nor_answers_from_others() {
    let mut stack = Stack::secured(0);
    stack.start_control();
    let _ = stack.run(&["zone", "create", ZONE, "--ns", "ns1.example.com."]).good();
    let tls = stack.certs().client(None);
    let judge = |kind| judge(kind, &mut stack, Some(Arc::clone(&tls)));
    let attacks = Attack::OVER_TLS.into_iter().filter(is_wanted);
    let wrong: Vec<_> = attacks.filter_map(judge).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
