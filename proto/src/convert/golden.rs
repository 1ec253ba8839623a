//! What travels and what the log keeps, octet by octet: an edge of an earlier version has to read it, and
//! a log of an earlier version has to be read. A line of the file that is not right any more is a change of
//! the protocol, which needs a new version of it.

use std::time::Duration;

use bytes::Bytes;
use edgesync_core::{
    Rtype,
    change::{Change, ChangeSet, Generation},
    digest::Digest,
    name::Name,
    position::{HistoryHash, LogId, Offset, Position},
    record::RecordId,
    sample::{Sample, Sweep, ZoneDigest},
    session::{
        Ack, CommittedSet, Filter, GoodbyeReason, Halt, Hello, InstanceId, Pause, SetPart, Start,
        ToControl, ToEdge, Welcome,
    },
    snapshot::{Chunk, Manifest, Scope, SnapshotId, Staged},
};
use prost::Message;

use super::*;

const GOLDEN: &str = include_str!("golden.txt");

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The octets that the file has under a name.
fn golden(name: &str) -> Bytes {
    let line = GOLDEN.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    unhex(line.unwrap_or_else(|| panic!("golden.txt has no {name}"))).into()
}

fn zone() -> Name {
    Name::parse_origin("example.com").unwrap()
}

fn position() -> Position {
    Position { log: LogId([1; 16]), offset: Offset(300), hash: HistoryHash([2; 32]) }
}

fn hello() -> Hello {
    Hello {
        edge: "edge-1".parse().unwrap(),
        instance: InstanceId([3; 16]),
        boot_epoch: 4,
        position: Some(position()),
        filter: Filter::Zones(vec![zone()]),
        stored_filter: [5; 32],
        staged: Some(Staged { id: SnapshotId([6; 16]), next: 7 }),
        protocol: 1,
        version: "0.1.0".to_owned(),
        window: 1 << 20,
    }
}

fn to_control() -> Vec<(&'static str, ToControl)> {
    let fresh = Hello { position: None, staged: None, filter: Filter::All, ..hello() };
    let halt = |held| Halt { first: Offset(301), last: Offset(302), held, reason: "why".into() };
    let ack = Ack { first: Offset(301), last: Offset(302), apply: Duration::from_micros(9) };
    vec![
        ("hello", ToControl::Hello(hello())),
        ("hello-of-an-empty-edge", ToControl::Hello(fresh)),
        ("ack", ToControl::Ack(ack)),
        (
            "ack-of-a-paused-edge",
            ToControl::Paused { ack, pause: Pause::of_itself("full".to_owned()) },
        ),
        (
            "ack-of-a-frozen-edge",
            ToControl::Paused { ack, pause: Pause { why: "file".to_owned(), is_frozen: true } },
        ),
        ("nack", ToControl::Nack(halt(false))),
        ("nack-held", ToControl::Nack(halt(true))),
        ("snapshot-ack", ToControl::SnapshotAck(Staged { id: SnapshotId([6; 16]), next: 8 })),
        ("repair-zone", ToControl::Repair { zone: zone() }),
    ]
}

fn to_edge() -> Vec<(&'static str, ToEdge)> {
    let welcome_for = |start, filter| {
        let (head, heartbeat) = (position(), Duration::from_millis(1_500));
        ToEdge::Welcome(Welcome { start, head, heartbeat, protocol: 1, filter })
    };
    let welcome = |start| welcome_for(start, Filter::All);
    let snapshot = |of| Start::Snapshot { reason: "why".to_owned(), diverged: true, of };
    let body = Bytes::from_static(b"part");
    let set = CommittedSet {
        prev: Offset(300),
        first: Offset(301),
        last: Offset(302),
        hash: HistoryHash([8; 32]),
        body,
    };
    let part = |from, size| SetPart { set: set.clone(), size, from };
    let digest = ZoneDigest { origin: zone(), content: Some((3, Digest::from_bytes([9; 32]))) };
    let gone = ZoneDigest { content: None, ..digest.clone() };
    let sweep = Sweep { after: Some(zone()), zones: vec![digest.clone()], to_end: true };
    let sample = Some(Sample { changed: vec![digest, gone], sweep });
    let heartbeat = |sample| ToEdge::Heartbeat {
        prev: Offset(302),
        progress: Position { offset: Offset(302), ..position() },
        head: Offset(400),
        sample,
    };
    let manifest = |scope| Manifest {
        id: SnapshotId([6; 16]),
        position: position(),
        scope,
        filter: [5; 32],
        zones: 1,
        records: 2,
        octets: 3,
        chunks: 4,
    };
    let begin = |scope| ToEdge::SnapshotBegin { manifest: manifest(scope), next: 1 };
    // That of a zone is for no filter.
    let of_a_zone = Manifest { filter: [0; 32], ..manifest(Scope::Zone(zone())) };
    let begin_zone = ToEdge::SnapshotBegin { manifest: of_a_zone, next: 1 };
    let (snapshot_id, body) = (SnapshotId([6; 16]), Bytes::from_static(b"rows"));
    let chunk = Chunk { snapshot: snapshot_id, index: 1, hash: [7; 32], body };
    let mut messages = vec![
        ("welcome", welcome(Start::Resume)),
        ("welcome-for-a-subtree", welcome_for(Start::Resume, Filter::Below(vec![zone()]))),
        ("welcome-to-a-snapshot", welcome(snapshot(None))),
        ("welcome-to-a-snapshot-of", welcome(snapshot(Some(position())))),
        ("frame", ToEdge::Frame(vec![part(0, 4), part(4, 12)])),
        ("heartbeat", heartbeat(None)),
        ("heartbeat-with-a-sample", heartbeat(sample)),
        ("snapshot-begin", begin(Scope::Store)),
        ("snapshot-begin-of-a-zone", begin_zone),
        ("snapshot-chunk", ToEdge::SnapshotChunk(chunk)),
    ];
    use GoodbyeReason::{Busy, Draining, Fenced, Refused, Timeout};
    for (name, reason) in [
        ("goodbye-draining", Draining),
        ("goodbye-fenced", Fenced),
        ("goodbye-refused", Refused),
        ("goodbye-timeout", Timeout),
        ("goodbye-busy", Busy),
    ] {
        let (retry_after, message) = (Duration::from_millis(2_500), "why".to_owned());
        messages.push((name, ToEdge::Goodbye { reason, retry_after, message }));
    }
    messages
}

/// One of each change; also one of a type that this version has no name for.
fn change_set() -> ChangeSet {
    let owner = Name::parse_origin("www.example.com").unwrap();
    let (rtype, rdata) = (Rtype::A, Bytes::from_static(&[192, 0, 2, 1]));
    let unknown = Rtype::from_int(65_280);
    ChangeSet {
        zone: zone(),
        generation: Generation(301),
        first: Offset(301),
        override_guard: true,
        changes: vec![
            Change::ZoneCreate,
            Change::RecordCreate { owner: owner.clone(), rtype, ttl: 60, rdata: rdata.clone() },
            Change::RecordCreate {
                owner: owner.clone(),
                rtype: unknown,
                ttl: 60,
                rdata: rdata.clone(),
            },
            Change::RecordEdit { id: RecordId(302), owner: owner.clone(), rtype, ttl: 0, rdata },
            Change::RecordDelete { id: RecordId(302), owner, rtype },
            Change::GenerationOpen,
            Change::ZonePublish,
            Change::GenerationDrop,
            Change::ZoneDelete,
        ],
    }
}

/// Everything as it is written now, a line each.
fn written() -> String {
    let requests = to_control()
        .into_iter()
        .map(|(name, message)| (name, v1::SyncRequest::from(message).encode_to_vec()));
    let responses = to_edge()
        .into_iter()
        .map(|(name, message)| (name, v1::SyncResponse::from(message).encode_to_vec()));
    let set = ("change-set", encode_set(&change_set()).to_vec());
    let all = requests.chain(responses).chain([set]);
    all.map(|(name, octets)| format!("{name} {}\n", hex(&octets))).collect()
}

#[test]
fn what_travels_is_written_as_it_was() {
    let written = written();
    if std::env::var_os("EDGESYNC_GOLDEN").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/convert/golden.txt");
        std::fs::write(file, &written).unwrap();
        return;
    }
    for (now, before) in written.lines().zip(GOLDEN.lines()) {
        assert_eq!(now, before, "the protocol has changed: it needs a new version");
    }
    assert_eq!(written.lines().count(), GOLDEN.lines().count());
}

#[test]
fn what_was_written_reads_as_what_it_was() {
    for (name, message) in to_control() {
        let request = v1::SyncRequest::decode(golden(name)).unwrap();
        assert_eq!(ToControl::try_from(request), Ok(message), "{name}");
    }
    for (name, message) in to_edge() {
        let response = v1::SyncResponse::decode(golden(name)).unwrap();
        assert_eq!(ToEdge::try_from(response), Ok(message), "{name}");
    }
    assert_eq!(decode_set(golden("change-set")), Ok(change_set()));
}
