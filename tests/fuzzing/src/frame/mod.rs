//! Messages of a session, from any octets: what converts converts back to the same, and both state
//! machines, fed with them at any times and between the messages of a right conversation, hold what
//! `world` asserts.

mod world;

use std::time::Duration;

use bytes::Bytes;
use edgesync_core::{
    digest::Digest,
    edge_id::EdgeId,
    limits::{HEARTBEAT_MAX, RETRY_AFTER_MAX},
    name::Name,
    position::{HistoryHash, LogId, Offset, Position},
    sample::{Sample, Sweep, ZoneDigest},
    session::{
        Ack, CommittedSet, Filter, GoodbyeReason, Halt, Hello, InstanceId, SetPart, Start,
        ToControl, ToEdge, Welcome,
    },
    snapshot::{Chunk, Manifest, Scope, SnapshotId, Staged},
};
use edgesync_proto::v1::{self, SyncRequest, SyncResponse, sync_response::Message as Response};
use prost::Message;

use self::world::World;
use crate::{
    assert_one_line,
    input::{Input, sized},
};

/// Steps of one input at the most.
const STEPS: usize = 400;

/// The steps' numbers in an input.
mod step {
    pub const TO_EDGE: u8 = 0;
    pub const TO_CONTROL: u8 = 1;
    pub const TIME: u8 = 2;
    pub const STORE: u8 = 3;
    pub const CONNECT: u8 = 4;
    pub const CUT: u8 = 5;
    pub const CARRY: u8 = 6;
    pub const APPEND: u8 = 7;
    pub const POISON: u8 = 8;
    pub const FENCE: u8 = 9;
    pub const DRAIN: u8 = 10;
    pub const REPEAT: u8 = 11;
    pub const LOSE: u8 = 12;
    pub const KINDS: u8 = 13;
}

/// One octet for the filter, then steps.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let mut world = World::new(input.u8() & 1 == 1);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % step::KINDS {
            step::TO_EDGE => {
                if let Some(message) = to_edge(input.octets()) {
                    world.edge_hears(message);
                }
            }
            step::TO_CONTROL => {
                if let Some(message) = to_control(input.octets()) {
                    world.control_hears(message);
                }
            }
            step::TIME => world.pass(Duration::from_millis(u64::from(input.u16()))),
            step::STORE => world.store_writes(usize::from(input.u8())),
            step::CONNECT => world.connect(),
            step::CUT => world.cut(),
            step::CARRY => (0..input.u8() % 8).for_each(|_| world.carry(false)),
            step::APPEND => world.append(u64::from(input.u8() % 4) + 1, octets_of(input.u8())),
            step::POISON => world.poison(),
            step::FENCE => world.end(None),
            step::DRAIN => world.end(Some(Duration::from_secs(u64::from(input.u8())))),
            step::REPEAT => world.carry(true),
            _ => world.lose(),
        }
    }
    world.pass(Duration::from_secs(3_600));
}

/// Octets of a set: few, or more than a frame has.
fn octets_of(number: u8) -> usize {
    match number {
        255 => 2 * edgesync_core::limits::FRAME_OCTETS + 77,
        250.. => edgesync_core::limits::FRAME_OCTETS,
        few => usize::from(few),
    }
}

/// The core's message of octets; none if they are refused.
fn to_edge(octets: &[u8]) -> Option<ToEdge> {
    let wire = SyncResponse::decode(octets).ok()?;
    match ToEdge::try_from(wire) {
        Ok(message) => {
            assert_eq!(through_wire_to_edge(message.clone()), message);
            match &message {
                ToEdge::Goodbye { retry_after, message, .. } => {
                    assert!(*retry_after <= RETRY_AFTER_MAX, "an edge comes back");
                    assert_plain(message);
                }
                ToEdge::Welcome(Welcome { heartbeat, start, .. }) => {
                    assert!(!heartbeat.is_zero() && *heartbeat <= HEARTBEAT_MAX);
                    if let Start::Snapshot { reason, .. } = start {
                        assert_plain(reason);
                    }
                }
                _ => {}
            }
            Some(message)
        }
        Err(error) => {
            assert_one_line(&error);
            None
        }
    }
}

/// What the other side says for people, which may be nothing.
fn assert_plain(text: &str) {
    assert_one_line(&format!(":{text}"));
}

/// The core's message of octets; none if they are refused.
fn to_control(octets: &[u8]) -> Option<ToControl> {
    let wire = SyncRequest::decode(octets).ok()?;
    match ToControl::try_from(wire) {
        Ok(message) => {
            assert_eq!(through_wire_to_control(message.clone()), message);
            match &message {
                ToControl::Nack(halt) => assert_plain(&halt.reason),
                ToControl::Paused { pause, .. } => assert_plain(&pause.why),
                ToControl::Hello(hello) => assert_plain(&hello.version),
                ToControl::Ack(_) | ToControl::SnapshotAck(_) | ToControl::Repair { .. } => {}
            }
            Some(message)
        }
        Err(error) => {
            assert_one_line(&error);
            None
        }
    }
}

/// A message as it arrives at an edge.
pub fn through_wire_to_edge(message: ToEdge) -> ToEdge {
    let octets = SyncResponse::from(message).encode_to_vec();
    assert!(octets.len() <= edgesync_core::limits::MESSAGE_OCTETS, "it fits in a gRPC message");
    let wire = SyncResponse::decode(&octets[..]).expect("it was encoded");
    ToEdge::try_from(wire).expect("a message of ours is right")
}

/// A message as it arrives at the control plane.
pub fn through_wire_to_control(message: ToControl) -> ToControl {
    let octets = SyncRequest::from(message).encode_to_vec();
    let wire = SyncRequest::decode(&octets[..]).expect("it was encoded");
    ToControl::try_from(wire).expect("a message of ours is right")
}

fn samples_to_edge() -> Vec<ToEdge> {
    let log = LogId([7; 16]);
    let genesis = Position::genesis(log);
    let body = Bytes::from_static(b"body");
    let after = genesis.after(Offset(2), &body);
    let set =
        CommittedSet { prev: Offset(0), first: Offset(1), last: Offset(2), hash: after.hash, body };
    let welcome = |start| {
        let heartbeat = Duration::from_secs(1);
        let (head, protocol, filter) = (after, 1, Filter::All);
        ToEdge::Welcome(Welcome { start, head, heartbeat, protocol, filter })
    };
    let part = CommittedSet { body: Bytes::from_static(b"bo"), ..set.clone() };
    let last = Position { offset: Offset(u64::MAX), hash: HistoryHash([1; 32]), log };
    vec![
        welcome(Start::Resume),
        ToEdge::Frame(vec![SetPart { set, size: 4, from: 0 }]),
        ToEdge::Frame(vec![SetPart { set: part, size: 4, from: 0 }]),
        ToEdge::Heartbeat { prev: Offset(2), progress: last, head: last.offset, sample: None },
        ToEdge::Heartbeat { prev: Offset(2), progress: after, head: last.offset, sample: sample() },
        welcome(Start::Snapshot { reason: "another log".to_owned(), diverged: true, of: None }),
        ToEdge::SnapshotBegin { manifest: manifest(after), next: 0 },
        ToEdge::SnapshotChunk(chunk(0)),
        ToEdge::SnapshotChunk(chunk(1)),
        ToEdge::Goodbye {
            reason: GoodbyeReason::Fenced,
            retry_after: Duration::from_millis(1_500),
            message: "bye".to_owned(),
        },
    ]
}

fn sample() -> Option<Sample> {
    let gone = ZoneDigest { origin: Name::root(), content: None };
    let there = ZoneDigest { content: Some((3, Digest::empty())), ..gone.clone() };
    let sweep = Sweep { after: Some(Name::root()), zones: vec![there], to_end: true };
    Some(Sample { changed: vec![gone], sweep })
}

fn manifest(position: Position) -> Manifest {
    let (id, scope, filter) = (SnapshotId([3; 16]), Scope::Store, Filter::All.hash());
    Manifest { id, position, scope, filter, zones: 1, records: 2, octets: 3, chunks: 2 }
}

fn chunk(index: u32) -> Chunk {
    let body = Bytes::from_static(b"rows");
    Chunk { snapshot: SnapshotId([3; 16]), index, hash: [0; 32], body }
}

/// What no control plane of ours says: times without an end, text with commands for a terminal, and
/// a set that ends at the last offset there is, twice.
fn hostile_to_edge() -> Vec<SyncResponse> {
    let endless = Some(prost_types::Duration { seconds: i64::MAX, nanos: 999_999_999 });
    let head = Some(Position::genesis(LogId([7; 16])).into());
    let reason = "a\nb\x1b[2J".to_owned();
    let welcome = |heartbeat, start: v1::SessionStart| {
        let (start, reason) = (start.into(), reason.clone());
        let head: Option<v1::Position> = Clone::clone(&head);
        let (protocol, diverged) = (1, true);
        let filter = Some(v1::Filter { all_zones: true, ..v1::Filter::default() });
        Response::Welcome(v1::Welcome {
            start,
            head,
            heartbeat,
            protocol,
            reason,
            diverged,
            filter,
            hello_position: None,
        })
    };
    let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let set = |prev, first| v1::CommittedSet {
        prev,
        first,
        last: u64::MAX,
        history_hash: vec![0; 32].into(),
        size: 1,
        body_from: 0,
        body: Bytes::from_static(b"x"),
    };
    let last = |prev, first| Response::Frame(v1::Frame { sets: vec![set(prev, first)] });
    let goodbye = v1::Goodbye { reason: 1, retry_after: endless, message: reason.clone() };
    let messages = [
        welcome(second, v1::SessionStart::Snapshot),
        last(0, 1),
        last(0, 0),
        Response::Goodbye(goodbye),
        welcome(endless, v1::SessionStart::Resume),
    ];
    messages.into_iter().map(|message| SyncResponse { message: Some(message) }).collect()
}

fn samples_to_control() -> Vec<ToControl> {
    let position = Position::genesis(LogId([7; 16]));
    let hello = |position, filter| {
        ToControl::Hello(Hello {
            edge: "edge-1".parse::<EdgeId>().expect("a seed's id"),
            instance: InstanceId([1; 16]),
            boot_epoch: 1,
            position,
            stored_filter: Filter::All.hash(),
            filter,
            staged: Some(Staged { id: SnapshotId([3; 16]), next: 1 }),
            protocol: 1,
            version: "1.2.3".to_owned(),
            window: 65_536,
        })
    };
    let zones = vec![Name::root(), Name::parse_origin("example.com.").expect("a seed's name")];
    vec![
        hello(None, Filter::All),
        hello(Some(position), Filter::Zones(zones)),
        ToControl::Ack(Ack { first: Offset(1), last: Offset(2), apply: Duration::from_micros(7) }),
        ToControl::Nack(Halt {
            first: Offset(1),
            last: Offset(2),
            held: true,
            reason: "no".to_owned(),
        }),
        ToControl::SnapshotAck(Staged { id: SnapshotId([3; 16]), next: 2 }),
        ToControl::Repair { zone: Name::root() },
    ]
}

pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let edge = samples_to_edge().into_iter().map(|message| {
        [vec![step::TO_EDGE], sized(&SyncResponse::from(message).encode_to_vec())].concat()
    });
    let edge: Vec<_> = edge.collect();
    let control = samples_to_control().into_iter().map(|message| {
        [vec![step::TO_CONTROL], sized(&SyncRequest::from(message).encode_to_vec())].concat()
    });
    let control: Vec<_> = control.collect();
    let (connect, carry) = ([step::CONNECT], [step::CARRY, 7]);
    let begun = [&connect[..], &carry].concat();
    let life = [
        &begun[..],
        &[step::APPEND, 1, 9, step::CARRY, 2, step::STORE, 2, step::CARRY, 3],
        &[step::APPEND, 3, 255, step::CARRY, 7, step::STORE, 9, step::CARRY, 3],
        &[step::TIME, 4, 0, step::CARRY, 3, step::CUT, step::APPEND, 0, 200, step::CONNECT],
        &[step::CARRY, 3, step::REPEAT, step::CARRY, 1, step::STORE, 1, step::CARRY, 3],
        &[step::POISON, step::LOSE, step::FENCE, step::CARRY, 2, step::DRAIN, 9],
    ]
    .concat();
    let seed = |filtered: u8, steps: &[&[u8]]| [&[filtered][..], &steps.concat()].concat();
    let hostile = hostile_to_edge().into_iter();
    let hostile = hostile.map(|m| [vec![step::TO_EDGE], sized(&m.encode_to_vec())].concat());
    let hostile: Vec<_> = hostile.collect();
    let mut seeds = vec![
        ("hostile", seed(1, &[&connect, &hostile.concat()])),
        ("endless-heartbeat", seed(1, &[&connect, &hostile[4]])),
        ("life", seed(0, &[&life])),
        ("life-filtered", seed(1, &[&life])),
        (
            "poison",
            seed(0, &[&begun, &[step::APPEND, 1, 9, step::CARRY, 7, step::POISON, step::CARRY, 7]]),
        ),
        ("edge-alone", seed(0, &[&connect, &edge.concat()])),
        ("edge-filtered", seed(1, &[&connect, &edge.concat()])),
        ("control-alone", seed(0, &[&connect, &control.concat()])),
        ("both", seed(1, &[&begun, &edge.concat(), &begun, &control.concat()])),
    ];
    seeds.extend(edge.iter().map(|step| ("to-edge", seed(1, &[&connect, step]))));
    seeds.extend(control.iter().map(|step| ("to-control", seed(0, &[&connect, step]))));
    seeds
}
