//! A caller of the API: makes zones, writes at a steady rate, waits for receipts.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use edgesync_core::position::Offset;
use edgesync_proto::v1::{
    self, fleet_service_client::FleetServiceClient, record_service_client::RecordServiceClient,
    wait_for_offset_request::Edges, zone_service_client::ZoneServiceClient,
};
use tokio::{task::JoinSet, time::sleep_until};
use tonic::transport::{Channel, Endpoint};

use crate::{Failure, stats::Latencies};

/// Octets of zone-file text in one message.
const TEXT_OCTETS: usize = 256 * 1024;

/// A caller with a connection.
#[derive(Clone)]
pub struct Caller {
    records: RecordServiceClient<Channel>,
    zones: ZoneServiceClient<Channel>,
    fleet: FleetServiceClient<Channel>,
    /// Ids of the records that are edited.
    edited: Arc<Vec<u64>>,
}

/// What came of a load.
pub struct Written {
    /// From when a write was due to its answer.
    pub latencies: Latencies,
    /// Last offset of each write, and when its answer came.
    pub answered: Vec<(Offset, Instant)>,
    /// Writes that were refused, or whose answer was lost.
    pub failed: usize,
}

fn data(owner: &str, rtype: &str, rdata: String) -> v1::RecordData {
    let (owner, rtype) = (owner.to_owned(), rtype.to_owned());
    v1::RecordData { owner, r#type: rtype, ttl: 300, rdata, ..Default::default() }
}

impl Caller {
    /// A caller of a control plane.
    pub async fn new(url: &str) -> Result<Self, Failure> {
        let endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true);
        let channel = endpoint.connect_timeout(Duration::from_secs(10)).connect().await?;
        Ok(Self {
            records: RecordServiceClient::new(channel.clone()),
            zones: ZoneServiceClient::new(channel.clone()),
            fleet: FleetServiceClient::new(channel).max_decoding_message_size(64 << 20),
            edited: Arc::default(),
        })
    }

    /// The same caller with a new connection.
    pub async fn connect_again(&self, url: &str) -> Result<Self, Failure> {
        Ok(Self { edited: Arc::clone(&self.edited), ..Self::new(url).await? })
    }

    /// Makes so many small zones, and a record in each that is edited by the load.
    pub async fn zones(&mut self, zones: u32) -> Result<(), Failure> {
        let mut edited = Vec::new();
        for number in 0..zones {
            let origin = format!("zone-{number}.example");
            let soa = data("@", "SOA", "ns1 hostmaster 1 1800 900 604800 86400".to_owned());
            let records = vec![soa, data("@", "NS", "ns1".to_owned())];
            let request =
                v1::CreateZoneRequest { origin: origin.clone(), records, ..Default::default() };
            self.zones.create_zone(request).await?;
            let record = Some(data("edited", "A", "192.0.2.1".to_owned()));
            let request = v1::CreateRecordRequest { zone: origin, record, ..Default::default() };
            let answer = self.records.create_record(request).await?.into_inner();
            edited.push(answer.record.ok_or("an answer without a record")?.id);
        }
        self.edited = Arc::new(edited);
        Ok(())
    }

    /// Imports a zone of so many records with so many octets of text each beside the owner.
    pub async fn import(&mut self, origin: &str, records: u32, text: usize) -> Result<(), Failure> {
        let mut lines = String::from("@ 300 SOA ns1 root 1 1800 900 604800 86400\n@ 300 NS ns1\n");
        for number in 0..records {
            let (high, low) = (number / 250 % 250, number % 250);
            let rdata = if text == 0 {
                format!("A 198.18.{high}.{low}")
            } else {
                // A character string has 255 octets at the most (RFC 1035 section 3.3).
                format!("TXT {}", format!("\"{number:x<240}\" ").repeat(text / 240))
            };
            lines.push_str(&format!("host-{number} 300 {rdata}\n"));
        }
        let mut messages: Vec<_> = lines
            .as_bytes()
            .chunks(TEXT_OCTETS)
            .map(|text| v1::ImportZoneRequest {
                zone: origin.to_owned(),
                text: text.to_vec().into(),
                ..Default::default()
            })
            .collect();
        if let Some(last) = messages.last_mut() {
            last.last = true;
        }
        self.records.import_zone(tokio_stream::iter(messages)).await?;
        Ok(())
    }

    /// Edits one record; the position of the change.
    pub async fn edit(&mut self, number: usize) -> Result<v1::Position, Failure> {
        let place = number.checked_rem(self.edited.len()).ok_or("no zones")?;
        let id = self.edited.get(place).copied().ok_or("no zones")?;
        let rdata = format!("192.0.{}.{}", number / 250 % 250, number % 250);
        let request = v1::EditRecordRequest { id, rdata: Some(rdata), ..Default::default() };
        let receipt = self.records.edit_record(request).await?.into_inner().receipt;
        Ok(receipt.and_then(|receipt| receipt.position).ok_or("an answer without a position")?)
    }

    /// Waits until a position, or the head, is durable on all edges.
    pub async fn wait_for_all(
        &mut self,
        position: Option<v1::Position>,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let (timeout, edges) = (Some(timeout.try_into()?), Some(Edges::All(true)));
        let request = v1::WaitForOffsetRequest { position, edges, timeout };
        let answer = self.fleet.wait_for_offset(request).await?.into_inner();
        let missing = answer.missing.len();
        if answer.reached { Ok(()) } else { Err(format!("{missing} edges have it not").into()) }
    }

    /// Offset of the head.
    pub async fn head(&mut self) -> Result<u64, Failure> {
        let release = self.fleet.get_release(v1::GetReleaseRequest {}).await?.into_inner().release;
        Ok(release.and_then(|release| release.head).ok_or("no head")?.offset)
    }

    /// Compacts the whole log away: who has nothing needs a snapshot.
    pub async fn compact(&mut self) -> Result<(), Failure> {
        let upto = self.head().await?;
        self.fleet.compact_log(v1::CompactLogRequest { upto }).await?;
        Ok(())
    }

    /// Writes at a steady rate until something is done, each write when it is due, whether those before
    /// it are answered or not.
    pub async fn load(
        &self,
        rate: u32,
        done: impl Future<Output = ()>,
    ) -> Result<Written, Failure> {
        let (begin, every) = (Instant::now(), Duration::from_secs(1) / rate);
        let mut calls = JoinSet::new();
        tokio::pin!(done);
        for number in 0u32.. {
            let due = begin + every * number;
            tokio::select! {
                () = sleep_until(due.into()) => {}
                () = &mut done => break,
            }
            let mut caller = self.clone();
            calls.spawn(async move {
                let answer = caller.edit(usize::try_from(number).unwrap_or(0)).await;
                let now = Instant::now();
                answer.ok().map(|position| (due, Offset(position.offset), now))
            });
        }
        let mut written = Written { latencies: Latencies::new(), answered: Vec::new(), failed: 0 };
        while let Some(call) = calls.join_next().await {
            match call? {
                Some((due, offset, now)) => {
                    written.latencies.record(now.saturating_duration_since(due));
                    written.answered.push((offset, now));
                }
                None => written.failed += 1,
            }
        }
        Ok(written)
    }

    /// Waits until an edge has an offset, once it is known.
    pub async fn wait_for_edge(
        &mut self,
        id: &str,
        offset: u64,
        limit: Duration,
    ) -> Result<(), Failure> {
        let begin = Instant::now();
        while begin.elapsed() < limit {
            let ids = v1::EdgeIds { ids: vec![id.to_owned()] };
            let request = v1::WaitForOffsetRequest {
                position: Some(v1::Position { offset, ..Default::default() }),
                edges: Some(Edges::Ids(ids)),
                timeout: Some(Duration::from_secs(10).try_into()?),
            };
            // Unknown at first.
            let answer = self.fleet.wait_for_offset(request).await;
            if answer.is_ok_and(|answer| answer.get_ref().reached) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("edge {id} has not offset {offset} after {limit:?}").into())
    }

    /// Takes an edge out of the fleet; one that is still connected stays in it.
    pub async fn forget(&mut self, id: &str) {
        let _ = self.fleet.forget_edge(v1::ForgetEdgeRequest { id: id.to_owned() }).await;
    }
}
