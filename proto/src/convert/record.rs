//! Records, as the API shows and takes them.

use bytes::Bytes;
use edgesync_core::{name::Name, rdata, record::Record, stage::RecordData};

use super::ConvertError;
use crate::v1;

/// A record of a zone, as the API shows it.
#[must_use]
pub fn record(zone: &Name, record: &Record) -> v1::Record {
    v1::Record {
        id: record.id.0,
        version: record.version.0,
        zone: zone.to_string(),
        owner: record.owner.to_string(),
        r#type: record.rtype.to_string(),
        ttl: record.ttl,
        rdata: rdata::display(record.rtype, &record.rdata),
        rdata_wire: record.rdata.clone(),
    }
}

/// A record that a caller gives, checked.
///
/// # Errors
/// If name, type or RDATA are wrong.
pub fn record_data(zone: &Name, data: v1::RecordData) -> Result<RecordData, ConvertError> {
    let owner = Name::parse(&data.owner, zone)?;
    let rtype = rdata::parse_type(&data.r#type)?;
    let given: Bytes = data.rdata_wire;
    let rdata = match data.rdata.as_str() {
        "" if !given.is_empty() => rdata::check(rtype, &given)?,
        text => rdata::parse(rtype, text, zone)?,
    };
    Ok(RecordData { owner, rtype, ttl: data.ttl, rdata })
}
