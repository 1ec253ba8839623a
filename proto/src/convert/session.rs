//! The messages of a session.

use std::time::Duration;

use bytes::Bytes;
use edgesync_core::{
    limits::{FILTER_ZONES, HEARTBEAT_MAX, RETRY_AFTER_MAX},
    name::Name,
    position::{HistoryHash, Offset},
    session::{
        Ack, CommittedSet, Filter, GoodbyeReason, Halt, Hello, InstanceId, Pause, SetPart, Start,
        ToControl, ToEdge, Welcome,
    },
};

use super::{ConvertError, octets, snapshot};
use crate::v1::{self, sync_request::Message as Request, sync_response::Message as Response};

fn to_duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

fn from_duration(
    field: &'static str,
    duration: Option<prost_types::Duration>,
) -> Result<Duration, ConvertError> {
    let given = duration.unwrap_or_default();
    Duration::try_from(given).map_err(|_| ConvertError::Range(field))
}

/// Characters of what the other side says for people.
const LINE_CHARS: usize = 500;

/// What the other side says for people: one line, not endless, and nothing for a terminal to do.
fn line(text: &str) -> String {
    text.chars().take(LINE_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn to_ack(ack: Ack, pause: Option<Pause>) -> v1::Ack {
    let Pause { why: paused, is_frozen: frozen } = pause.unwrap_or(Pause::of_itself(String::new()));
    let apply_us = u64::try_from(ack.apply.as_micros()).unwrap_or(u64::MAX);
    v1::Ack { first: ack.first.0, last: ack.last.0, apply_us, paused, frozen }
}

impl From<ToControl> for v1::SyncRequest {
    fn from(message: ToControl) -> Self {
        let message = match message {
            ToControl::Hello(hello) => Request::Hello(hello.into()),
            ToControl::Ack(ack) => Request::Ack(to_ack(ack, None)),
            ToControl::Paused { ack, pause } => Request::Ack(to_ack(ack, Some(pause))),
            ToControl::Nack(Halt { first, last, held, reason }) => {
                Request::Nack(v1::Nack { first: first.0, last: last.0, reason, held })
            }
            ToControl::SnapshotAck(staged) => Request::SnapshotAck(staged.into()),
            ToControl::Repair { zone } => {
                Request::RepairZone(v1::RepairZone { zone: zone.wire().clone() })
            }
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::SyncRequest> for ToControl {
    type Error = ConvertError;

    fn try_from(request: v1::SyncRequest) -> Result<Self, ConvertError> {
        Ok(match request.message.ok_or(ConvertError::UnknownMessage)? {
            Request::Hello(hello) => Self::Hello(hello.try_into()?),
            Request::Ack(v1::Ack { first, last, apply_us, paused, frozen }) => {
                let (first, last) = (Offset(first), Offset(last));
                let ack = Ack { first, last, apply: Duration::from_micros(apply_us) };
                match line(&paused) {
                    why if why.is_empty() => Self::Ack(ack),
                    why => Self::Paused { ack, pause: Pause { why, is_frozen: frozen } },
                }
            }
            Request::SnapshotAck(staged) => Self::SnapshotAck(staged.try_into()?),
            Request::RepairZone(repair) => Self::Repair { zone: Name::from_wire(repair.zone)? },
            Request::Nack(v1::Nack { first, last, reason, held }) => {
                let reason = line(&reason);
                // Who halts says why; a person has to act on it.
                if reason.is_empty() {
                    return Err(ConvertError::Missing("reason"));
                }
                Self::Nack(Halt { first: Offset(first), last: Offset(last), held, reason })
            }
        })
    }
}

impl From<Filter> for v1::Filter {
    fn from(filter: Filter) -> Self {
        let texts = |names: &[Name]| names.iter().map(Name::to_string).collect();
        match &filter {
            Filter::All => Self { all_zones: true, ..Self::default() },
            Filter::Zones(zones) => Self { zones: texts(zones), ..Self::default() },
            Filter::Below(names) => Self { below: texts(names), ..Self::default() },
        }
    }
}

impl TryFrom<v1::Filter> for Filter {
    type Error = ConvertError;

    fn try_from(filter: v1::Filter) -> Result<Self, ConvertError> {
        let read = |texts: &[String]| {
            let names = texts.iter().map(|text| Name::parse_origin(text));
            let mut names = names.collect::<Result<Vec<_>, _>>()?;
            names.sort_unstable();
            names.dedup();
            Ok::<_, ConvertError>(names)
        };
        match (filter.all_zones, &*filter.zones, &*filter.below) {
            (true, [], []) => Ok(Self::All),
            (false, zones @ [_, ..], []) if zones.len() <= FILTER_ZONES => {
                read(zones).map(Self::Zones)
            }
            (false, [], names @ [_, ..]) if names.len() <= FILTER_ZONES => {
                read(names).map(Self::Below)
            }
            _ => Err(ConvertError::Range("filter (all_zones, or 1 to 10,000 zones)")),
        }
    }
}

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            edge_id: hello.edge.to_string(),
            instance_id: Bytes::copy_from_slice(&hello.instance.0),
            boot_epoch: hello.boot_epoch,
            position: hello.position.map(Into::into),
            filter: Some(hello.filter.into()),
            protocol: hello.protocol,
            version: hello.version,
            window_bytes: hello.window,
            stored_filter_hash: Bytes::copy_from_slice(&hello.stored_filter),
            staged: hello.staged.map(Into::into),
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = ConvertError;

    fn try_from(hello: v1::Hello) -> Result<Self, ConvertError> {
        let filter = Filter::try_from(hello.filter.ok_or(ConvertError::Missing("filter"))?)?;
        if matches!(filter, Filter::Below(_)) {
            return Err(ConvertError::Range("filter (below is not asked for)"));
        }
        // An edge that says nothing else has its records by the filter that it asks for.
        let stored_filter = match hello.stored_filter_hash.as_ref() {
            [] => filter.hash(),
            hash => octets("stored_filter_hash", hash)?,
        };
        Ok(Self {
            edge: hello.edge_id.parse()?,
            instance: InstanceId(octets("instance_id", &hello.instance_id)?),
            boot_epoch: hello.boot_epoch,
            position: hello.position.map(TryInto::try_into).transpose()?,
            filter,
            protocol: hello.protocol,
            version: hello.version.chars().take(64).filter(|c| !c.is_control()).collect(),
            window: hello.window_bytes,
            stored_filter,
            staged: hello.staged.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<ToEdge> for v1::SyncResponse {
    fn from(message: ToEdge) -> Self {
        let message = match message {
            ToEdge::Welcome(welcome) => Response::Welcome(welcome.into()),
            ToEdge::Frame(parts) => {
                Response::Frame(v1::Frame { sets: parts.into_iter().map(Into::into).collect() })
            }
            ToEdge::Heartbeat { prev, progress, head, sample } => {
                Response::Heartbeat(v1::Heartbeat {
                    prev: prev.0,
                    progress: Some(progress.into()),
                    head: head.0,
                    sample: sample.map(Into::into),
                })
            }
            ToEdge::SnapshotBegin { manifest, next } => {
                Response::SnapshotBegin(snapshot::to_begin(manifest, next))
            }
            ToEdge::SnapshotChunk(chunk) => Response::SnapshotChunk(chunk.into()),
            ToEdge::Goodbye { reason, retry_after, message } => Response::Goodbye(v1::Goodbye {
                reason: v1::GoodbyeReason::from(reason).into(),
                retry_after: to_duration(retry_after),
                message,
            }),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::SyncResponse> for ToEdge {
    type Error = ConvertError;

    fn try_from(response: v1::SyncResponse) -> Result<Self, ConvertError> {
        Ok(match response.message.ok_or(ConvertError::UnknownMessage)? {
            Response::Welcome(welcome) => Self::Welcome(welcome.try_into()?),
            Response::Frame(frame) => Self::Frame(
                frame.sets.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            ),
            Response::Heartbeat(heartbeat) => Self::Heartbeat {
                prev: Offset(heartbeat.prev),
                progress: heartbeat
                    .progress
                    .ok_or(ConvertError::Missing("progress"))?
                    .try_into()?,
                head: Offset(heartbeat.head),
                sample: heartbeat.sample.map(TryInto::try_into).transpose()?,
            },
            Response::SnapshotBegin(begin) => {
                let (manifest, next) = snapshot::from_begin(begin)?;
                Self::SnapshotBegin { manifest, next }
            }
            Response::SnapshotChunk(chunk) => Self::SnapshotChunk(chunk.try_into()?),
            Response::Goodbye(goodbye) => Self::Goodbye {
                reason: goodbye.reason().into(),
                retry_after: from_duration("retry_after", goodbye.retry_after)?
                    .min(RETRY_AFTER_MAX),
                message: line(&goodbye.message),
            },
        })
    }
}

impl From<Welcome> for v1::Welcome {
    fn from(welcome: Welcome) -> Self {
        let (start, reason, diverged, of) = match welcome.start {
            Start::Resume => (v1::SessionStart::Resume, String::new(), false, None),
            Start::Snapshot { reason, diverged, of } => {
                (v1::SessionStart::Snapshot, reason, diverged, of)
            }
        };
        Self {
            start: start.into(),
            head: Some(welcome.head.into()),
            heartbeat: to_duration(welcome.heartbeat),
            protocol: welcome.protocol,
            reason,
            diverged,
            filter: Some(welcome.filter.into()),
            hello_position: of.map(Into::into),
        }
    }
}

impl TryFrom<v1::Welcome> for Welcome {
    type Error = ConvertError;

    fn try_from(welcome: v1::Welcome) -> Result<Self, ConvertError> {
        let start = match welcome.start() {
            v1::SessionStart::Resume => Start::Resume,
            v1::SessionStart::Snapshot => {
                let of = welcome.hello_position.clone().map(TryInto::try_into).transpose()?;
                let (reason, diverged) = (line(&welcome.reason), welcome.diverged);
                Start::Snapshot { reason, diverged, of }
            }
            v1::SessionStart::Unspecified => return Err(ConvertError::Range("start")),
        };
        let heartbeat = from_duration("heartbeat", welcome.heartbeat)?;
        if heartbeat.is_zero() || heartbeat > HEARTBEAT_MAX {
            return Err(ConvertError::Range("heartbeat"));
        }
        let head = welcome.head.ok_or(ConvertError::Missing("head"))?.try_into()?;
        let filter = welcome.filter.ok_or(ConvertError::Missing("filter"))?.try_into()?;
        Ok(Self { start, head, heartbeat, protocol: welcome.protocol, filter })
    }
}

impl From<SetPart> for v1::CommittedSet {
    fn from(part: SetPart) -> Self {
        let SetPart { set, size, from } = part;
        Self {
            prev: set.prev.0,
            first: set.first.0,
            last: set.last.0,
            history_hash: Bytes::copy_from_slice(&set.hash.0),
            size: u32::try_from(size).unwrap_or(u32::MAX),
            body_from: u32::try_from(from).unwrap_or(u32::MAX),
            body: set.body,
        }
    }
}

impl TryFrom<v1::CommittedSet> for SetPart {
    type Error = ConvertError;

    fn try_from(wire: v1::CommittedSet) -> Result<Self, ConvertError> {
        let usize_of =
            |field, number| usize::try_from(number).map_err(|_| ConvertError::Range(field));
        Ok(Self {
            size: usize_of("size", wire.size)?,
            from: usize_of("body_from", wire.body_from)?,
            set: CommittedSet {
                prev: Offset(wire.prev),
                first: Offset(wire.first),
                last: Offset(wire.last),
                hash: HistoryHash(octets("history_hash", &wire.history_hash)?),
                body: wire.body,
            },
        })
    }
}

impl From<GoodbyeReason> for v1::GoodbyeReason {
    fn from(reason: GoodbyeReason) -> Self {
        match reason {
            GoodbyeReason::Draining => Self::Draining,
            GoodbyeReason::Fenced => Self::Fenced,
            GoodbyeReason::Refused => Self::Refused,
            GoodbyeReason::Timeout => Self::Timeout,
            GoodbyeReason::Busy => Self::Busy,
        }
    }
}

impl From<v1::GoodbyeReason> for GoodbyeReason {
    fn from(reason: v1::GoodbyeReason) -> Self {
        match reason {
            v1::GoodbyeReason::Draining => Self::Draining,
            v1::GoodbyeReason::Fenced => Self::Fenced,
            v1::GoodbyeReason::Timeout => Self::Timeout,
            v1::GoodbyeReason::Busy => Self::Busy,
            v1::GoodbyeReason::Refused | v1::GoodbyeReason::Unspecified => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use edgesync_core::position::{LogId, Position};

    use super::*;

    const ENDLESS: Option<prost_types::Duration> =
        Some(prost_types::Duration { seconds: i64::MAX, nanos: 0 });
    const LINES: &str = "a\nb\x1b[2J";

    fn to_edge(message: Response) -> Result<ToEdge, ConvertError> {
        v1::SyncResponse { message: Some(message) }.try_into()
    }

    #[test]
    fn a_goodbye_keeps_an_edge_away_for_a_bounded_time_and_says_one_line() {
        let message = LINES.to_owned();
        let goodbye = v1::Goodbye { reason: 1, retry_after: ENDLESS, message };
        let ToEdge::Goodbye { retry_after, message, .. } =
            to_edge(Response::Goodbye(goodbye)).unwrap()
        else {
            panic!("it is a Goodbye");
        };
        assert_eq!((retry_after, message.as_str()), (RETRY_AFTER_MAX, "a b [2J"));
    }

    #[test]
    fn a_pause_is_said_in_one_line_that_ends() {
        let ack = Ack { first: Offset(8), last: Offset(7), apply: Duration::ZERO };
        let pause =
            Pause { why: format!("{LINES}{}", "x".repeat(2 * LINE_CHARS)), is_frozen: true };
        let wire = v1::SyncRequest::from(ToControl::Paused { ack, pause });
        let Ok(ToControl::Paused { ack: told, pause }) = wire.try_into() else { panic!() };
        assert_eq!((told, pause.why.chars().count()), (ack, LINE_CHARS));
        assert!(pause.is_frozen && pause.why.starts_with("a b [2J"), "{pause:?}");
    }

    #[test]
    fn a_welcome_has_heartbeats_within_bounds_and_says_one_line() {
        let welcome = |heartbeat| {
            to_edge(Response::Welcome(v1::Welcome {
                start: v1::SessionStart::Snapshot.into(),
                diverged: true,
                head: Some(Position::genesis(LogId([1; 16])).into()),
                heartbeat,
                protocol: 1,
                reason: LINES.to_owned(),
                filter: Some(Filter::All.into()),
                hello_position: None,
            }))
        };
        // Three times this is more than a Duration holds.
        assert_eq!(welcome(ENDLESS), Err(ConvertError::Range("heartbeat")));
        assert_eq!(welcome(None), Err(ConvertError::Range("heartbeat")));
        let Ok(ToEdge::Welcome(Welcome { start: Start::Snapshot { reason, .. }, .. })) =
            welcome(to_duration(HEARTBEAT_MAX))
        else {
            panic!("it is a Welcome");
        };
        assert_eq!(reason, "a b [2J");
    }
}
