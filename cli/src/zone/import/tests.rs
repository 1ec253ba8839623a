//! Imports against a server that only takes down what it is sent.

use super::*;
use crate::testing::Fake;

fn source(reader: impl Read + Send + 'static) -> Source {
    Source { path: "a.zone".into(), reader: Box::new(reader), octets: None }
}

fn first() -> v1::ImportZoneRequest {
    v1::ImportZoneRequest { zone: "example.com.".to_owned(), ..Default::default() }
}

async fn sent(fake: &Fake, reader: impl Read + Send + 'static) -> Result<u64, Failure> {
    let server = Server::control(&Target::open(&fake.url)).await.unwrap();
    let bar = ProgressBar::hidden();
    send(source(reader), first(), &server, bar).await.map(|answer| answer.created)
}

/// Some text, and then what a failing disk gives.
struct Broken(usize);

impl Read for Broken {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("disk on fire"));
        }
        let count = octets.len().min(self.0);
        octets.iter_mut().take(count).for_each(|octet| *octet = b'x');
        self.0 -= count;
        Ok(count)
    }
}

#[tokio::test]
async fn a_file_is_sent_whole_in_chunks_and_the_zone_is_named_once() {
    let fake = Fake::start().await;
    let octets = 2 * CHUNK_OCTETS + 5;
    // The fake answers with the number of octets that it got.
    assert_eq!(sent(&fake, io::repeat(b'x').take(octets as u64)).await.unwrap(), octets as u64);
    let seen = fake.seen();
    assert_eq!(seen.import_zones, ["example.com.", "", "", ""]);
    assert_eq!(seen.import_largest, CHUNK_OCTETS);
    assert!(seen.import_ended);
}

#[tokio::test]
async fn an_empty_file_still_names_the_zone() {
    let fake = Fake::start().await;
    assert_eq!(sent(&fake, io::empty()).await.unwrap(), 0);
    assert_eq!(fake.seen().import_zones, ["example.com."]);
}

#[tokio::test]
async fn a_file_that_breaks_off_is_never_taken_for_whole() {
    let fake = Fake::start().await;
    let failure = sent(&fake, Broken(3 * CHUNK_OCTETS + 7)).await.unwrap_err();
    assert_eq!(failure.to_string(), "a.zone: disk on fire");
    assert!(!fake.seen().import_ended);
}

#[tokio::test]
async fn a_fault_in_the_text_is_told_with_its_place() {
    let fake = Fake::refusing_import("3:7: no name").await;
    let failure = sent(&fake, &b"x"[..]).await.unwrap_err();
    assert_eq!(failure.to_string(), "a.zone:3:7: no name");
}

#[test]
fn a_place_is_two_numbers() {
    assert_eq!(place("3:7: no name"), Some(("3:7", "no name")));
    assert_eq!(place("12:1:no name"), Some(("12:1", "no name")));
    for other in ["no name", "zone: a: b", "3: no name", ":: x", "3:x: y"] {
        assert_eq!(place(other), None, "{other}");
    }
    let refused = Failure::Refused { code: Code::InvalidArgument, message: "empty".to_owned() };
    assert_eq!(in_file(refused, "a.zone").to_string(), "a.zone: empty");
}
