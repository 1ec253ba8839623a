//! A caller of the API that does not give up on a write before it knows what came of it.

use std::time::{Duration, Instant};

use edgesync_proto::v1::{
    self, record_service_client::RecordServiceClient, zone_service_client::ZoneServiceClient,
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::oracle::{Answered, Change, History, Line, Set};

/// How long a caller asks again before it is a violation that nobody answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a caller waits after a refusal for want of room.
const REFUSED: Duration = Duration::from_millis(20);

/// What reading says of a write whose answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// It is there; the offset of its first change, if that can be read.
    There(Option<u64>),
    /// It is not there.
    Missing,
    /// Nobody could tell.
    Unknown,
}

/// A caller with a connection.
pub struct Caller {
    endpoint: Endpoint,
    records: RecordServiceClient<Channel>,
    zones: ZoneServiceClient<Channel>,
}

fn data(line: &Line) -> v1::RecordData {
    v1::RecordData {
        owner: line.owner.clone(),
        r#type: line.rtype.to_owned(),
        ttl: line.ttl,
        rdata: line.rdata.clone(),
        ..Default::default()
    }
}

fn operation(change: &Change) -> v1::Operation {
    use v1::operation::Operation;
    let operation = match change {
        Change::Create(line) => Operation::Create(data(line)),
        Change::Delete(line) => Operation::Delete(data(line)),
        Change::Replace(old, new) => {
            Operation::Replace(v1::Replace { old: Some(data(old)), new: Some(data(new)) })
        }
        Change::ZoneCreate | Change::ZoneDelete => panic!("zones have calls of their own"),
    };
    v1::Operation { operation: Some(operation) }
}

impl Caller {
    /// A caller of a control plane, which may be away.
    pub fn new(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
        let endpoint =
            endpoint.connect_timeout(Duration::from_secs(2)).timeout(Duration::from_secs(20));
        let channel = endpoint.connect_lazy();
        let records = RecordServiceClient::new(channel.clone());
        let zones = ZoneServiceClient::new(channel);
        Self { endpoint, records, zones }
    }

    /// Writes a change set until it is known to be durable, and notes its answer.
    pub async fn commit(&mut self, key: &str, set: Set, history: &History) {
        let begin = Instant::now();
        // What got OK before this call comes before it (invariant 2).
        let before = history.highest();
        let mut read = Read::Unknown;
        let mut lost = false;
        loop {
            match self.call(key, &set).await {
                Ok(receipt) => {
                    let first = receipt.first;
                    if lost {
                        history.resolved(receipt.replayed, read != Read::Unknown);
                    }
                    let agrees = match read {
                        Read::There(at) => receipt.replayed && at.is_none_or(|at| at == first),
                        Read::Missing => !receipt.replayed,
                        Read::Unknown => lost || !receipt.replayed,
                    };
                    if !agrees {
                        history.violation(format!("{key}: read {read:?}, answered {receipt:?}"));
                    }
                    if first <= before {
                        history.violation(format!(
                            "{key}: asked for after {before} had got OK, and is at {first}"
                        ));
                    }
                    let last = receipt.position.expect("a position").offset;
                    history.answered(key, Answered { first, last, set });
                    return;
                }
                // Nothing was done, and nothing is to be read: it is asked for again.
                Err(status)
                    if status.code() == Code::ResourceExhausted && begin.elapsed() < PATIENCE =>
                {
                    history.refused();
                    tokio::time::sleep(REFUSED).await;
                }
                Err(status) if is_unknown(&status) && begin.elapsed() < PATIENCE => {
                    if matches!(status.code(), Code::Internal | Code::Unknown) {
                        history.broken(format!("{key}: {status}"));
                    }
                    lost = true;
                    self.reconnect();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    read = self.read(&set).await;
                }
                Err(status) => {
                    history.violation(format!("{key} was refused: {status}"));
                    return;
                }
            }
        }
    }

    fn reconnect(&mut self) {
        let channel = self.endpoint.connect_lazy();
        self.records = RecordServiceClient::new(channel.clone());
        self.zones = ZoneServiceClient::new(channel);
    }

    /// One call with a change set.
    pub async fn call(&mut self, key: &str, set: &Set) -> Result<v1::Receipt, Status> {
        let idempotency_key = key.to_owned();
        let receipt = match set.changes.first() {
            Some(Change::ZoneCreate) => {
                let records = set.changes.iter().filter_map(|change| match change {
                    Change::Create(line) => Some(data(line)),
                    _ => None,
                });
                let records = records.collect();
                let origin = set.zone.clone();
                let request = v1::CreateZoneRequest { origin, records, idempotency_key };
                self.zones.create_zone(request).await?.into_inner().receipt
            }
            Some(Change::ZoneDelete) => {
                let origin = set.zone.clone();
                let (if_version, override_guard) = (0, true);
                let request =
                    v1::DeleteZoneRequest { origin, if_version, idempotency_key, override_guard };
                self.zones.delete_zone(request).await?.into_inner().receipt
            }
            _ => {
                let zone = set.zone.clone();
                let operations = set.changes.iter().map(operation).collect();
                let request = v1::ApplyChangeSetsRequest {
                    zone,
                    operations,
                    idempotency_key,
                    raise_serial: false,
                    override_guard: true,
                };
                let stream = tokio_stream::once(request);
                let mut answers = self.records.apply_change_sets(stream).await?.into_inner();
                let answer = answers.message().await?;
                match answer.and_then(|answer| answer.result) {
                    Some(v1::apply_change_sets_response::Result::Receipt(receipt)) => Some(receipt),
                    Some(v1::apply_change_sets_response::Result::Refusal(refusal)) => {
                        return Err(Status::new(Code::from_i32(refusal.code), refusal.message));
                    }
                    None => return Err(Status::unavailable("the stream ended without an answer")),
                }
            }
        };
        receipt.ok_or_else(|| Status::internal("an answer without a receipt"))
    }

    /// Reads whether a write is there.
    async fn read(&mut self, set: &Set) -> Read {
        let read = match set.changes.first() {
            Some(Change::ZoneCreate | Change::ZoneDelete) => self.read_zone(set).await,
            Some(Change::Create(line) | Change::Replace(_, line)) => {
                let found = self.read_line(set, line).await;
                found.map(|found| found.map_or(Read::Missing, |at| Read::There(Some(at))))
            }
            Some(Change::Delete(line)) => {
                let found = self.read_line(set, line).await;
                found.map(|found| found.map_or(Read::There(None), |_| Read::Missing))
            }
            None => Ok(Read::Unknown),
        };
        read.unwrap_or(Read::Unknown)
    }

    async fn read_zone(&mut self, set: &Set) -> Result<Read, Status> {
        let creates = matches!(set.changes.first(), Some(Change::ZoneCreate));
        match self.zones.get_zone(v1::GetZoneRequest { origin: set.zone.clone() }).await {
            Ok(answer) if creates => {
                let zone = answer.into_inner().zone;
                Ok(Read::There(zone.map(|zone| zone.generation)))
            }
            Ok(_) => Ok(Read::Missing),
            Err(status) if status.code() == Code::NotFound && creates => Ok(Read::Missing),
            Err(status) if status.code() == Code::NotFound => Ok(Read::There(None)),
            Err(status) => Err(status),
        }
    }

    /// The offset of the last change of a record with a line's content.
    async fn read_line(&mut self, set: &Set, line: &Line) -> Result<Option<u64>, Status> {
        let request = v1::ListRecordsRequest {
            zone: set.zone.clone(),
            owner: line.owner.clone(),
            r#type: line.rtype.to_owned(),
        };
        let mut pages = self.records.list_records(request).await?.into_inner();
        let mut found = None;
        while let Some(page) = pages.message().await? {
            let mut records = page.records.into_iter();
            let record = records.find(|r| r.rdata == line.rdata && r.ttl == line.ttl);
            found = found.or(record.map(|record| record.version));
        }
        Ok(found)
    }
}

/// True if a call may have had its effect although it failed.
fn is_unknown(status: &Status) -> bool {
    use Code::{Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
    matches!(status.code(), Cancelled | DeadlineExceeded | Internal | Unavailable | Unknown)
}
