//! What certificates and lists say is read back here; that others read them alike is tested with
//! openssl beside the command.

use std::time::{Duration, SystemTime};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn days(from: i32, to: i32) -> std::ops::Range<SystemTime> {
    let now = SystemTime::now();
    let at = |days: i32| match days {
        0.. => now + DAY * days.unsigned_abs(),
        _ => now - DAY * days.unsigned_abs(),
    };
    at(from)..at(to)
}

fn authority() -> Authority {
    Authority::create("Test CA", 100).unwrap()
}

#[test]
fn what_is_issued_reads_back_and_is_signed_by_its_authority_alone() {
    let (ours, other) = (authority(), authority());
    for (subject, purpose) in [
        (Subject::edge("fra-1").unwrap(), Purpose::Client),
        (Subject::server(&["a.example", "192.0.2.1", "2001:db8::1"]).unwrap(), Purpose::Server),
    ] {
        let pair = ours.issue(&subject, purpose, &days(0, 90)).unwrap();
        let issued = Issued::read(&pair.certificate, &ours).unwrap();
        assert_eq!((&issued.subject, issued.purpose), (&subject, purpose));
        assert!(issued.has_key(&pair.key) && !issued.has_key(&ours.key()));
        let told = Issued::read(&pair.certificate, &other).unwrap_err();
        assert!(matches!(told, PkiError::NotOurs { .. }), "{told}");
    }
    let told = Issued::read(ours.certificate(), &ours).unwrap_err();
    assert!(matches!(told, PkiError::Foreign(_)), "{told}");
    let alone = self_signed(&Subject::edge("a").unwrap(), Purpose::Client, &days(0, 1)).unwrap();
    Issued::read(&alone.certificate, &ours).unwrap_err();
}

#[test]
fn a_certificate_ends_no_later_than_its_authority() {
    let ours = authority();
    let issue = |valid| ours.issue(&Subject::edge("a").unwrap(), Purpose::Client, &valid);
    let read = |valid| Issued::read(&issue(valid).unwrap().certificate, &ours).unwrap().valid;
    assert_eq!(read(days(0, 5_000)).end, ours.valid().end);
    assert!(read(days(0, 5)).end < ours.valid().end);
    // Times that are over, or not yet come, are written as they are.
    assert!(read(days(-2, -1)).end < SystemTime::now());
    assert!(read(days(1, 2)).start > SystemTime::now());
    for none in [days(2, 1), days(200, 300)] {
        assert!(matches!(issue(none).unwrap_err(), PkiError::NoTime));
    }
}

#[test]
fn an_authority_is_loaded_with_its_own_key_only() {
    let (ours, other) = (authority(), authority());
    let again = Authority::load(ours.certificate(), &ours.key()).unwrap();
    assert_eq!(again.valid(), ours.valid());
    let load = |certificate: &str, key: &Secret| Authority::load(certificate, key).unwrap_err();
    assert!(matches!(load(ours.certificate(), &other.key()), PkiError::OtherKey));
    let leaf = ours.issue(&Subject::edge("a").unwrap(), Purpose::Client, &days(0, 1)).unwrap();
    assert!(matches!(load(&leaf.certificate, &leaf.key), PkiError::NoAuthority));
    for text in ["", "x", ours.key().expose(), &ours.certificate()[..100]] {
        let told = load(text, &ours.key());
        assert!(matches!(told, PkiError::Unreadable { .. }), "{told}");
    }
    let told = load(ours.certificate(), &Secret::new(ours.certificate().to_owned())).to_string();
    assert!(told.contains("private key"), "{told}");
    for bad in ["", " a", "a\nb", &"x".repeat(65)] {
        assert!(matches!(Authority::create(bad, 1).unwrap_err(), CreateError::Name(_)));
    }
    assert!(matches!(
        Authority::create("a", u32::MAX).unwrap_err(),
        CreateError::Pki(PkiError::NoTime)
    ));
}

#[test]
fn a_list_reads_back_and_another_authority_does_not_take_it() {
    let (ours, other) = (authority(), authority());
    let mut list = Revocations::default();
    let (first, second) = (Serial::random(), Serial::random());
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    assert!(list.add(first.clone(), now).unwrap());
    assert!(!list.add(first.clone(), now).unwrap(), "once is enough");
    for number in [0, 127, 128, u64::MAX] {
        list.number = number;
        let text = ours.revocations(&list, &days(0, 30)).unwrap();
        assert_eq!(Revocations::read(&text, &ours).unwrap(), list);
        let told = Revocations::read(&text, &other).unwrap_err();
        assert!(matches!(told, PkiError::NotOurs { .. }), "{told}");
    }
    assert!(list.has(&first) && !list.has(&second));
    let none = ours.revocations(&Revocations::default(), &days(0, 30)).unwrap();
    assert_eq!(Revocations::read(&none, &ours).unwrap(), Revocations::default());
    Revocations::read(ours.certificate(), &ours).unwrap_err();
}

#[test]
fn a_certificate_is_due_when_less_than_a_third_of_its_life_is_left() {
    let ours = authority();
    let pair = ours.issue(&Subject::edge("a").unwrap(), Purpose::Client, &days(0, 90)).unwrap();
    let issued = Issued::read(&pair.certificate, &ours).unwrap();
    let now = SystemTime::now();
    assert!(!issued.is_due(now + DAY * 59) && issued.is_due(now + DAY * 61));
    assert!(issued.is_due(now + DAY * 91), "what is over is due");
}

#[test]
fn no_format_string_shows_a_key() {
    let ours = authority();
    let pair = ours.issue(&Subject::edge("a").unwrap(), Purpose::Client, &days(0, 1)).unwrap();
    let shown = format!("{pair:?} {ours:?} {:?}", ours.key());
    for key in [pair.key, ours.key()] {
        for line in key.expose().lines() {
            assert!(!shown.contains(line), "{line}");
        }
    }
    assert!(!shown.contains("PRIVATE"), "{shown}");
}
