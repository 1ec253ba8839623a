//! Credentials, rights and their end, through the gRPC interface.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use edgesync_control::config::AccessConfig;
use edgesync_core::{name::Name, session::Filter};
use edgesync_host::{
    credential::{KeptPassword, KeptToken, TokenKind, new_token},
    secret::Secret,
};
use edgesync_proto::v1::{
    self, access_service_client::AccessServiceClient, fleet_service_client::FleetServiceClient,
    record_service_client::RecordServiceClient, sync_service_client::SyncServiceClient,
    zone_service_client::ZoneServiceClient,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt;

use crate::harness::{Control, all, data, refused, soa, within};

pub const PASSWORD: &str = "correct horse";

/// Sends a token with each call.
#[derive(Clone)]
pub struct Token(Secret);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = format!("Bearer {}", self.0.expose()).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

pub type Authorized = InterceptedService<Channel, Token>;

/// A control plane that keeps access, with an operator.
pub struct Kept {
    pub control: Control,
    pub operator: Secret,
    pub file: PathBuf,
    _dir: tempfile::TempDir,
}

pub fn principal(
    name: &str,
    password: bool,
    token: Option<&Secret>,
    grants: &[(&str, &str)],
) -> String {
    let mut text = format!("[[principal]]\nname = \"{name}\"\n");
    if password {
        let kept = KeptPassword::of(&Secret::new(PASSWORD.to_owned())).unwrap();
        text += &format!("password = \"{}\"\n", kept.as_str());
    }
    if let Some(token) = token {
        let kept = KeptToken::of(token).unwrap().1.to_hex();
        text += &format!("[[principal.token]]\nsha256 = \"{kept}\"\n");
    }
    for (role, zone) in grants {
        text += &format!("[[principal.grant]]\nrole = \"{role}\"\nzones = [\"{zone}\"]\n");
    }
    text
}

pub fn token() -> Secret {
    new_token(TokenKind::Machine)
}

impl Kept {
    pub async fn start(policy: &str) -> Self {
        Self::start_with(policy, 10).await
    }

    pub async fn start_with(policy: &str, logins_per_minute: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (file, operator) = (dir.path().join("policy.toml"), token());
        let root = &[("operator", "."), ("zone_admin", ".")];
        let kept = Self::policy(&operator, root, policy);
        fs::write(&file, kept).unwrap();
        let login_lifetime = "15m".parse().unwrap();
        let access = AccessConfig { policy: file.clone(), login_lifetime, logins_per_minute };
        let place = tempfile::tempdir().unwrap();
        let control = Control::start_with(place, |config| config.access = Some(access)).await;
        let kept = Self { control, operator, file, _dir: dir };
        let deadline = Instant::now() + Duration::from_secs(10);
        while kept.access(&kept.operator).who_am_i(v1::WhoAmIRequest {}).await.is_err() {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for zone in ["example.com", "evilexample.com", "sub.example.com"] {
            let records = vec![soa(1), data("@", "NS", "ns1")];
            let request =
                v1::CreateZoneRequest { origin: zone.to_owned(), records, ..Default::default() };
            kept.zones(&kept.operator).create_zone(request).await.unwrap();
        }
        kept
    }

    pub fn policy(operator: &Secret, grants: &[(&str, &str)], rest: &str) -> String {
        principal("root", false, Some(operator), grants) + rest
    }

    pub fn authorized(&self, token: &Secret) -> Authorized {
        InterceptedService::new(self.control.channel.clone(), Token(token.clone()))
    }

    pub fn access(&self, token: &Secret) -> AccessServiceClient<Authorized> {
        AccessServiceClient::new(self.authorized(token))
    }

    pub fn zones(&self, token: &Secret) -> ZoneServiceClient<Authorized> {
        ZoneServiceClient::new(self.authorized(token))
    }

    pub fn records(&self, token: &Secret) -> RecordServiceClient<Authorized> {
        RecordServiceClient::new(self.authorized(token))
    }

    pub fn fleet(&self, token: &Secret) -> FleetServiceClient<Authorized> {
        FleetServiceClient::new(self.authorized(token))
    }

    pub async fn create(&self, token: &Secret, zone: &str, owner: &str) -> Result<u64, Status> {
        let request = v1::CreateRecordRequest {
            zone: zone.to_owned(),
            record: Some(data(owner, "A", "192.0.2.1")),
            ..Default::default()
        };
        let answer = self.records(token).create_record(request).await?;
        Ok(answer.into_inner().record.unwrap().id)
    }

    /// Logs in, by the one kind of metadata or the other.
    pub async fn login(&self, user: &str, password: &str, basic: bool) -> Result<Secret, Status> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let mut request = Request::new(v1::LoginRequest {});
        let metadata = request.metadata_mut();
        if basic {
            let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            metadata.insert("authorization", value.parse().unwrap());
        } else {
            metadata.insert("username", user.parse().unwrap());
            metadata.insert("password", password.parse().unwrap());
        }
        let mut client = AccessServiceClient::new(self.control.channel.clone());
        Ok(Secret::new(client.login(request).await?.into_inner().token))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_gives_a_token_that_works_until_logout_and_a_wrong_one_gives_none() {
    let kept = Kept::start(&principal("anna", true, None, &[("editor", "example.com")])).await;
    for basic in [true, false] {
        let token = kept.login("anna", PASSWORD, basic).await.unwrap();
        kept.create(&token, "example.com", &format!("basic-{basic}")).await.unwrap();
        let mut access = kept.access(&token);
        let who = access.who_am_i(v1::WhoAmIRequest {}).await.unwrap().into_inner();
        assert_eq!((who.principal.as_str(), who.grants[0].role.as_str()), ("anna", "editor"));
        access.logout(v1::LogoutRequest {}).await.unwrap();
        refused(Code::Unauthenticated, access.who_am_i(v1::WhoAmIRequest {}).await);
    }
    let wrong = refused(Code::Unauthenticated, kept.login("anna", "wrong horse", true).await);
    let unknown = refused(Code::Unauthenticated, kept.login("mallory", PASSWORD, true).await);
    assert_eq!(wrong, unknown, "which of both is wrong is not told");
    // A password is for Login alone.
    let mut request = Request::new(v1::GetRecordRequest { id: 1 });
    request.metadata_mut().insert("username", "anna".parse().unwrap());
    request.metadata_mut().insert("password", PASSWORD.parse().unwrap());
    let plain = kept.control.records().get_record(request).await;
    assert!(refused(Code::Unauthenticated, plain).contains("AccessService/Login"));
    kept.control.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_logins_are_refused_with_the_time_to_wait_and_calls_go_on() {
    let kept = Kept::start_with(&principal("anna", true, None, &[("reader", ".")]), 5).await;
    let tries = (0..40).map(|n| {
        let (kept, user) = (&kept, if n % 2 == 0 { "anna" } else { "bert" });
        kept.login(user, "wrong horse", n % 3 == 0)
    });
    let mut codes = Vec::new();
    for tried in tries {
        let status = tried.await.unwrap_err();
        if status.code() == Code::ResourceExhausted {
            let retry = status.get_details_retry_info().unwrap().retry_delay.unwrap();
            assert!(retry > Duration::ZERO && retry < Duration::from_secs(60), "{retry:?}");
        }
        codes.push(status.code());
    }
    let tried = codes.iter().filter(|code| **code == Code::Unauthenticated).count();
    assert!((5..=8).contains(&tried), "{codes:?}");
    kept.create(&kept.operator, "example.com", "www").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_right_names_the_function_and_lists_show_what_may_be_seen() {
    let (editor, auditor) = (token(), token());
    let policy = principal("anna", false, Some(&editor), &[("editor", "example.com")])
        + &principal("otto", false, Some(&auditor), &[("auditor", "sub.example.com")]);
    let kept = Kept::start(&policy).await;
    let none = kept.control.records().get_record(v1::GetRecordRequest { id: 1 }).await;
    refused(Code::Unauthenticated, none);
    let id = kept.create(&editor, "example.com", "www").await.unwrap();
    kept.create(&editor, "sub.example.com", "www").await.unwrap();
    let elsewhere =
        refused(Code::PermissionDenied, kept.create(&editor, "evilexample.com", "www").await);
    assert!(elsewhere.contains("edgesync.v1.RecordService/CreateRecord in evilexample.com."));
    let delete = v1::DeleteRecordRequest { id, ..Default::default() };
    let refusal = kept.records(&editor).delete_record(delete).await;
    assert!(refused(Code::PermissionDenied, refusal).contains("RecordService/DeleteRecord"));
    let freeze = kept.fleet(&editor).freeze(v1::FreezeRequest::default()).await;
    assert!(refused(Code::PermissionDenied, freeze).contains("FleetService/Freeze"));
    let hidden = kept.create(&kept.operator, "evilexample.com", "hidden").await.unwrap();
    let by_id = kept.records(&editor).get_record(v1::GetRecordRequest { id: hidden }).await;
    assert!(!refused(Code::PermissionDenied, by_id).contains("evil"), "the zone is not told");

    let zones = kept.zones(&editor).list_zones(v1::ListZonesRequest {}).await.unwrap();
    let zones = all(zones.into_inner()).await.unwrap();
    let mut seen: Vec<_> = zones.into_iter().flat_map(|m| m.zones).map(|z| z.origin).collect();
    seen.sort();
    assert_eq!(seen, ["example.com.", "sub.example.com."]);
    let log = kept.fleet(&auditor).list_log(v1::ListLogRequest::default()).await.unwrap();
    let log = all(log.into_inner()).await.unwrap();
    assert!(!log.is_empty() && log.iter().all(|set| set.zone == "sub.example.com."));
    assert!(log.iter().any(|set| set.principal == "anna"));
    let asked = v1::ListLogRequest { zone: "example.com".to_owned(), ..Default::default() };
    refused(Code::PermissionDenied, kept.fleet(&auditor).list_log(asked).await);
    kept.control.stop().await;
}

pub fn set(zone: &str, owner: &str) -> v1::ApplyChangeSetsRequest {
    let operation = v1::operation::Operation::Create(data(owner, "A", "192.0.2.1"));
    let operations = vec![v1::Operation { operation: Some(operation) }];
    v1::ApplyChangeSetsRequest { zone: zone.to_owned(), operations, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_of_a_stream_is_asked_for() {
    use v1::apply_change_sets_response::Result as Outcome;
    let editor = token();
    let policy = principal("anna", false, Some(&editor), &[("editor", "example.com")]);
    let kept = Kept::start(&policy).await;
    let sets = [set("example.com", "a"), set("evilexample.com", "b"), set("example.com", "c")];
    let answers = kept.records(&editor).apply_change_sets(tokio_stream::iter(sets)).await.unwrap();
    let answers = all(answers.into_inner()).await.unwrap();
    let code = |answer: &v1::ApplyChangeSetsResponse| match answer.result.as_ref().unwrap() {
        Outcome::Receipt(_) => Code::Ok,
        Outcome::Refusal(refusal) => Code::from_i32(refusal.code),
    };
    let codes: Vec<_> = answers.iter().map(code).collect();
    assert_eq!(codes, [Code::Ok, Code::PermissionDenied, Code::Aborted]);
    let import = |zone: &str| {
        let text = b"@ 60 SOA ns1 host 9 1 2 3 4\n@ 60 NS ns1\n".to_vec().into();
        let zone = zone.to_owned();
        tokio_stream::once(v1::ImportZoneRequest { zone, text, last: true, ..Default::default() })
    };
    let mut records = kept.records(&editor);
    refused(Code::PermissionDenied, records.import_zone(import("evilexample.com")).await);
    let deleting = records.import_zone(import("example.com")).await;
    assert!(refused(Code::PermissionDenied, deleting).contains("deleter"));
    let making = records.import_zone(import("new.example.com")).await;
    assert!(refused(Code::PermissionDenied, making).contains("zone_admin"));
}

/// An edge's session, on its word alone.
struct Session {
    requests: mpsc::Sender<v1::SyncRequest>,
    replies: Streaming<v1::SyncResponse>,
}

impl Session {
    async fn open(control: &Control, id: &str) -> Self {
        Self::open_with(control, id, &[]).await
    }

    /// An empty edge that is of a filter already.
    async fn open_with(control: &Control, id: &str, filter: &[u8]) -> Self {
        let (requests, receiver) = mpsc::channel(4);
        let hello = v1::Hello {
            edge_id: id.to_owned(),
            instance_id: vec![7; 16].into(),
            boot_epoch: 1,
            filter: Some(v1::Filter { all_zones: true, ..v1::Filter::default() }),
            stored_filter_hash: filter.to_vec().into(),
            protocol: 1,
            version: "test".to_owned(),
            ..Default::default()
        };
        let message = Some(v1::sync_request::Message::Hello(hello));
        requests.send(v1::SyncRequest { message }).await.unwrap();
        let mut client = SyncServiceClient::new(control.channel.clone());
        let replies = client.sync(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { requests, replies }
    }

    async fn first(&mut self) -> v1::sync_response::Message {
        let reply = timeout(Duration::from_secs(10), self.replies.message()).await.unwrap();
        reply.unwrap().unwrap().message.unwrap()
    }

    /// The Goodbye that comes at some time.
    async fn goodbye(&mut self) -> v1::Goodbye {
        within(async {
            loop {
                if let v1::sync_response::Message::Goodbye(goodbye) = self.first().await {
                    return goodbye;
                }
            }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_gets_the_zones_that_it_may_and_comes_back_when_they_change() {
    use v1::sync_response::Message;
    let kept = Kept::start("").await;
    let grant = async |zones: &[&str]| {
        let zones = zones.iter().map(|&zone| zone.to_owned()).collect();
        let grant = Some(v1::Grant { role: "edge".to_owned(), zones });
        let request = v1::GrantRoleRequest { principal: "edge/fra-1".to_owned(), grant };
        kept.access(&kept.operator).grant_role(request).await.unwrap();
    };
    let mut stranger = Session::open(&kept.control, "fra-1").await;
    let goodbye = stranger.goodbye().await;
    assert_eq!(goodbye.reason(), v1::GoodbyeReason::Refused);
    assert!(goodbye.message.contains("SyncService/Sync"), "{}", goodbye.message);

    grant(&["example.com"]).await;
    let mut session = Session::open(&kept.control, "fra-1").await;
    let Message::Welcome(welcome) = session.first().await else { panic!("no welcome") };
    assert_eq!(welcome.filter.unwrap().below, ["example.com."]);
    grant(&["evilexample.com"]).await;
    let goodbye = session.goodbye().await;
    assert_eq!(goodbye.reason(), v1::GoodbyeReason::Draining, "{}", goodbye.message);
    drop(session.requests);

    let mut session = Session::open(&kept.control, "fra-1").await;
    let Message::Welcome(welcome) = session.first().await else { panic!("no welcome") };
    assert_eq!(welcome.filter.unwrap().below.len(), 2);
    let gone = v1::RemovePrincipalRequest { principal: "edge/fra-1".to_owned() };
    kept.access(&kept.operator).remove_principal(gone).await.unwrap();
    assert_eq!(session.goodbye().await.reason(), v1::GoodbyeReason::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_is_told_nothing_of_the_zones_that_it_may_not_have() {
    use v1::sync_response::Message;
    let own = "example.com";
    let policy = principal("edge/fra-1", false, None, &[("edge", own)]);
    let kept = Kept::start(&policy).await;
    let name = Name::parse_origin(own).unwrap();
    let (mut told, filter) = (Vec::new(), Filter::Below(vec![name.clone()]).hash());
    // A session begins with what was sampled before.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for _ in 0..8 {
        let mut session = Session::open_with(&kept.control, "fra-1", &filter).await;
        let Message::Welcome(_) = session.first().await else { panic!("no welcome") };
        let sample = within(async {
            loop {
                if let Message::Heartbeat(v1::Heartbeat { sample: Some(sample), .. }) =
                    session.first().await
                {
                    break sample;
                }
            }
        })
        .await;
        told.extend(sample.changed.into_iter().chain(sample.swept));
        drop(session.requests);
    }
    let there = told.into_iter().filter(|zone| !zone.digest.is_empty());
    let mut there: Vec<_> = there.map(|zone| Name::from_wire(zone.zone).unwrap()).collect();
    there.sort();
    there.dedup();
    assert_eq!(there, [name, Name::parse_origin("sub.example.com").unwrap()]);
}

fn audit(dir: &Path) -> Vec<serde_json::Value> {
    let mut lines = Vec::new();
    let file = dir.join("audit.log");
    edgesync_host::audit::verify(&file, |line| lines.push(serde_json::from_str(line).unwrap()))
        .unwrap();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn who_did_what_and_who_was_not_let_is_in_the_audit_and_no_secret_is() {
    let reader = token();
    let policy = principal("anna", true, Some(&reader), &[("reader", "example.com")]);
    let kept = Kept::start(&policy).await;
    refused(Code::PermissionDenied, kept.create(&reader, "example.com", "x").await);
    let hostile = "mallory\u{1b}[2J\n{\"seq\"}\",";
    refused(Code::Unauthenticated, kept.login(hostile, "wrong horse", true).await);
    kept.login("anna", PASSWORD, true).await.unwrap();
    kept.create(&kept.operator, "example.com", "www").await.unwrap();
    let freeze = v1::FreezeRequest { reason: "an incident".to_owned() };
    kept.fleet(&kept.operator).freeze(freeze).await.unwrap();
    let request = v1::CreateTokenRequest { principal: "ci".to_owned(), ..Default::default() };
    let made = kept.access(&kept.operator).create_token(request).await.unwrap().into_inner();
    let secrets = [PASSWORD.to_owned(), made.token, reader.expose().to_owned()];
    let (dir, page) = (kept.control.dir().to_owned(), kept.control.page("/metrics").await);
    let data = kept.control.stop().await;
    let lines = audit(&dir);
    let has = |who: &str, what: &str, result: &str| {
        let is = |line: &&serde_json::Value| {
            line["who"] == who
                && line["what"].as_str().unwrap().ends_with(what)
                && line["result"] == result
        };
        assert!(lines.iter().any(|line| is(&line)), "{who} {what} {result}: {lines:#?}");
    };
    has("anna", "RecordService/CreateRecord", "PermissionDenied");
    has(hostile, "AccessService/Login", "Unauthenticated");
    has("anna", "AccessService/Login", "ok");
    has("root", "RecordService/CreateRecord", "ok");
    has("root", "FleetService/Freeze", "asked");
    has("root", "FleetService/Freeze", "ok");
    has("root", "AccessService/CreateToken", "ok");
    let text = fs::read_to_string(dir.join("audit.log")).unwrap();
    assert!(text.bytes().all(|octet| octet == b'\n' || (b' '..=b'~').contains(&octet)));
    for secret in secrets {
        assert!(!text.contains(&secret) && !page.contains(&secret));
    }
    drop(data);
}
