//! Records and receipts, as the command prints them.

use edgesync_proto::v1;
use serde::Serialize;
use tonic::Code;

use crate::{connect::Server, failure::Failure, format, output::Row};

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordRow {
    id: u64,
    version: u64,
    zone: String,
    owner: String,
    ttl: u32,
    #[serde(rename = "type")]
    rtype: String,
    rdata: String,
}

impl From<v1::Record> for RecordRow {
    fn from(record: v1::Record) -> Self {
        Self {
            id: record.id,
            version: record.version,
            zone: record.zone,
            owner: record.owner,
            ttl: record.ttl,
            rtype: record.r#type,
            rdata: record.rdata,
        }
    }
}

impl Row for RecordRow {
    const HEADER: &'static [&'static str] = &["ID", "VERSION", "OWNER", "TTL", "TYPE", "RDATA"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.version.to_string(),
            self.owner.clone(),
            self.ttl.to_string(),
            self.rtype.clone(),
            self.rdata.clone(),
        ]
    }
}

/// Where a write stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Offset of its last change: what `edgesync wait --offset` takes.
    pub offset: u64,
    /// Offset of its first change.
    pub first_offset: u64,
    /// Identity of the log, in hexadecimal.
    pub log_id: String,
    /// True if an earlier call with the same idempotency key had done it.
    pub replayed: bool,
}

impl From<v1::Receipt> for Receipt {
    fn from(receipt: v1::Receipt) -> Self {
        let position = receipt.position.unwrap_or_default();
        Self {
            offset: position.offset,
            first_offset: receipt.first,
            log_id: format::hex(&position.log_id),
            replayed: receipt.replayed,
        }
    }
}

/// The failure of a server that left out what it has to send.
#[must_use]
pub fn missing(server: &Server, what: &str) -> Failure {
    let message = format!("{} answered without a {what}: is it of this version?", server.name());
    Failure::Refused { code: Code::Internal, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_json_have_stable_names() {
        let receipt = v1::Receipt {
            position: Some(v1::Position {
                offset: 9,
                log_id: vec![1, 255].into(),
                ..Default::default()
            }),
            first: 8,
            replayed: true,
        };
        assert_eq!(
            serde_json::to_string(&Receipt::from(receipt)).unwrap(),
            r#"{"offset":9,"first_offset":8,"log_id":"01ff","replayed":true}"#
        );
        let record =
            v1::Record { id: 1, version: 2, ttl: 60, r#type: "A".into(), ..Default::default() };
        assert_eq!(
            serde_json::to_string(&RecordRow::from(record)).unwrap(),
            r#"{"id":1,"version":2,"zone":"","owner":"","ttl":60,"type":"A","rdata":""}"#
        );
    }
}
