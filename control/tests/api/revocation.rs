//! A right that is taken away ends what is open, in whichever way it is taken.

use std::{
    fs,
    time::{Duration, Instant},
};

use edgesync_host::secret::Secret;
use edgesync_proto::v1;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    access::{Kept, PASSWORD, principal, set},
    harness::all,
};

/// Ways to end what somebody may do.
#[derive(Clone, Copy, Debug)]
enum Way {
    Token,
    Principal,
    Role,
    Password,
    File,
}

async fn revoke(kept: &Kept, way: Way, name: &str, token_id: &str) {
    let (mut access, principal) = (kept.access(&kept.operator), name.to_owned());
    match way {
        Way::Token => {
            let request = v1::RevokeTokenRequest { id: token_id.to_owned() };
            access.revoke_token(request).await.map(drop)
        }
        Way::Principal => {
            access.remove_principal(v1::RemovePrincipalRequest { principal }).await.map(drop)
        }
        Way::Role => {
            let (role, zones) = ("editor".to_owned(), Vec::new());
            let request = v1::RevokeRoleRequest { principal, role, zones };
            access.revoke_role(request).await.map(drop)
        }
        Way::Password => {
            let password = "another horse".to_owned();
            access.set_password(v1::SetPasswordRequest { principal, password }).await.map(drop)
        }
        Way::File => {
            let grants = &[("operator", "."), ("zone_admin", ".")];
            let rest = principal_without_rights(name);
            fs::write(&kept.file, Kept::policy(&kept.operator, grants, &rest)).unwrap();
            Ok(())
        }
    }
    .unwrap();
}

fn principal_without_rights(name: &str) -> String {
    principal(name, false, None, &[])
}

/// One principal with a token and a role, with open streams; how long they live after the end of the
/// right, at the most.
async fn run(kept: &Kept, number: usize, way: Way) -> Duration {
    let name = format!("worker-{number}");
    let mut access = kept.access(&kept.operator);
    let (zones, role) = (vec!["example.com".to_owned()], "editor".to_owned());
    let grant = Some(v1::Grant { role, zones });
    access.grant_role(v1::GrantRoleRequest { principal: name.clone(), grant }).await.unwrap();
    let (token, id) = match way {
        Way::Password => {
            let (principal, password) = (name.clone(), PASSWORD.to_owned());
            access.set_password(v1::SetPasswordRequest { principal, password }).await.unwrap();
            (kept.login(&name, PASSWORD, true).await.unwrap(), String::new())
        }
        _ => {
            let request = v1::CreateTokenRequest { principal: name.clone(), ..Default::default() };
            let made = access.create_token(request).await.unwrap().into_inner();
            (Secret::new(made.token), made.id)
        }
    };
    let watch = kept.fleet(&token).watch_edges(v1::WatchEdgesRequest {}).await.unwrap();
    let mut watch = watch.into_inner();
    watch.message().await.unwrap().unwrap();
    let (sets, receiver) = mpsc::channel(1);
    sets.send(set("example.com", &format!("{name}-1"))).await.unwrap();
    let answers = kept.records(&token).apply_change_sets(ReceiverStream::new(receiver)).await;
    let mut answers = answers.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();

    let began = Instant::now();
    revoke(kept, way, &name, &id).await;
    let ended = |code: Code| matches!(code, Code::Unauthenticated | Code::PermissionDenied);
    let last = async {
        loop {
            if let Err(status) = watch.message().await {
                assert!(ended(status.code()), "{way:?} {status}");
                return;
            }
        }
    };
    timeout(Duration::from_secs(5), last).await.unwrap();
    let status = timeout(Duration::from_secs(5), answers.message()).await.unwrap().unwrap_err();
    assert!(ended(status.code()), "{way:?} {status}");
    let worst = began.elapsed();
    // What is sent from then on changes nothing.
    let _ = sets.send(set("example.com", &format!("{name}-2"))).await;
    let late = kept.create(&token, "example.com", &format!("{name}-3")).await;
    assert!(ended(late.unwrap_err().code()), "{way:?}");
    worst
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_ends_open_streams_within_five_seconds() {
    let runs = std::env::var("EDGESYNC_REVOCATIONS").ok().map_or(15, |runs| runs.parse().unwrap());
    let kept = Kept::start_with("", 1_000).await;
    let ways = [Way::Token, Way::Principal, Way::Role, Way::Password, Way::File];
    let mut worst = Duration::ZERO;
    for (number, way) in (0..runs).zip(ways.into_iter().cycle()) {
        let took = run(&kept, number, way).await;
        worst = worst.max(took);
        assert!(took < Duration::from_secs(5), "{way:?} {took:?}");
    }
    println!("{runs} revocations, the slowest after {worst:?}");
    let request = v1::ListRecordsRequest { zone: "example.com".to_owned(), ..Default::default() };
    let pages = kept.records(&kept.operator).list_records(request).await.unwrap().into_inner();
    let records = all(pages).await.unwrap().into_iter().flat_map(|page| page.records);
    let late = records.filter(|r| r.owner.contains("-2.") || r.owner.contains("-3.")).count();
    assert_eq!(late, 0, "nothing was written after the right had ended");
}
