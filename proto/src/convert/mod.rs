//! The one place where wire messages become core types and back. What comes from the wire is
//! checked here: behind it an offset is an offset, a name a name, and a hash has its length.

mod change_set;
#[cfg(test)]
mod golden;
mod record;
mod session;
mod snapshot;

use bytes::Bytes;
pub use change_set::{decode_set, encode_set, zone_of_set};
use edgesync_core::{
    edge_id::EdgeIdError,
    name::{Name, NameError},
    position::{HistoryHash, LogId, Offset, Position},
    rdata::RdataError,
};
pub use record::{record, record_data};

use crate::v1;

/// Why a message is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A field has to be given.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field has not the length that it must have.
    #[error("{field} has {octets} octets; it has {wanted}")]
    Length {
        /// Which field.
        field: &'static str,
        /// What was given.
        octets: usize,
        /// What is right.
        wanted: usize,
    },
    /// A field is out of its range.
    #[error("{0} is out of its range")]
    Range(&'static str),
    /// A message that this version does not know.
    #[error("the message is of a kind that this version does not know: the other side is newer")]
    UnknownMessage,
    /// A change that this version does not know: never skipped (rule 23).
    #[error("the change at index {0} is of a kind that this version does not know")]
    UnknownChange(usize),
    /// A change of a record that is not in the set's zone.
    #[error("{owner} is not in the zone {zone}")]
    OutOfZone {
        /// The owner.
        owner: Name,
        /// The zone.
        zone: Name,
    },
    /// The octets are no such message.
    #[error("not an encoded ChangeSet: {0}")]
    Encoding(String),
    /// A name is wrong.
    #[error(transparent)]
    Name(#[from] NameError),
    /// RDATA or a type is wrong.
    #[error(transparent)]
    Rdata(#[from] RdataError),
    /// An edge id is wrong.
    #[error(transparent)]
    EdgeId(#[from] EdgeIdError),
}

/// Octets of a fixed length.
fn octets<const N: usize>(field: &'static str, given: &[u8]) -> Result<[u8; N], ConvertError> {
    let error = |_| ConvertError::Length { field, octets: given.len(), wanted: N };
    given.try_into().map_err(error)
}

impl From<Position> for v1::Position {
    fn from(position: Position) -> Self {
        Self {
            log_id: Bytes::copy_from_slice(&position.log.0),
            offset: position.offset.0,
            history_hash: Bytes::copy_from_slice(&position.hash.0),
        }
    }
}

impl TryFrom<v1::Position> for Position {
    type Error = ConvertError;

    fn try_from(position: v1::Position) -> Result<Self, ConvertError> {
        Ok(Self {
            log: LogId(octets("log_id", &position.log_id)?),
            offset: Offset(position.offset),
            hash: HistoryHash(octets("history_hash", &position.history_hash)?),
        })
    }
}
