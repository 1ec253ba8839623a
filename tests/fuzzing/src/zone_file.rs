//! Zone files: what parses is formatted and parses to the same, what it makes is bounded by the
//! text, and what does not parse is told in one line that names the place.

use std::collections::HashSet;

use bytes::Bytes;
use edgesync_core::{
    limits::RDATA_OCTETS,
    name::Name,
    position::Offset,
    record::{Record, RecordId},
    stage::RecordData,
    zone_file::{ZoneFileError, difference, parse},
};

use crate::{
    assert_one_line,
    input::{Input, sized},
};

/// Octets of records that an octet of text may become at the most: ` NS @` and its line's end are
/// six octets, and two names of 255.
const GROWTH: usize = 100;

/// Origin in wire form, then text.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let origin = Name::from_wire(Bytes::copy_from_slice(input.octets()));
    let origin = origin.unwrap_or_else(|_| Name::root());
    let text = input.rest();
    match parse(text, &origin) {
        Ok(records) => check(text, records),
        Err(error) => {
            assert_one_line(&error);
            check_place(text, &error);
        }
    }
}

fn check(text: &[u8], records: Vec<RecordData>) {
    assert!(!records.is_empty() && records.len() <= text.len());
    let octets = |record: &RecordData| record.owner.wire().len() + record.rdata.len();
    let octets: usize = records.iter().map(octets).sum();
    assert!(octets <= GROWTH * text.len() + 2_048, "{octets} octets from {}", text.len());
    let stored = stored(&records);
    let mut lines = String::new();
    for record in &stored {
        assert!(record.rdata.len() <= RDATA_OCTETS);
        crate::record::check(record.rtype, &record.rdata, &record.owner);
        lines += &record.zone_file_line();
        lines.push('\n');
    }
    let again = parse(lines.as_bytes(), &Name::root());
    assert_eq!(again.as_ref(), Ok(&records), "{lines}");
    let content = |record: &RecordData| (record.owner.clone(), record.rtype, canonical(record));
    let unique: HashSet<_> = records.iter().map(content).collect();
    if unique.len() == records.len() {
        let operations = difference(stored, records);
        assert_eq!(operations, [], "a zone does not differ from itself");
    }
}

fn canonical(record: &RecordData) -> Bytes {
    edgesync_core::rdata::canonical(record.rtype, &record.rdata)
}

fn stored(records: &[RecordData]) -> Vec<Record> {
    let record = |(data, id): (&RecordData, u64)| Record {
        id: RecordId(id),
        version: Offset(id),
        owner: data.owner.clone(),
        rtype: data.rtype,
        ttl: data.ttl,
        rdata: data.rdata.clone(),
    };
    records.iter().zip(1..).map(record).collect()
}

/// The line that an error names is one of the text's.
fn check_place(text: &[u8], error: &ZoneFileError) {
    let ZoneFileError::Text(message) = error else { return };
    let Some((line, _)) = message.split_once(':') else { return };
    if let Ok(line) = line.parse::<usize>() {
        let lines = text.split(|octet| *octet == b'\n').count();
        assert!((1..=lines + 1).contains(&line), "line {line} of {lines}: {message}");
    }
}

/// A zone file with what zone files may have.
pub const ZONE: &str = "$ORIGIN example.com.\n$TTL 3600\n@ IN SOA ns1 root ( 7 ; serial\n 7200 900 86400 300 )\n\
    \tNS ns1\nns1 3600 A 192.0.2.1\n\tAAAA 2001:db8::1\n* IN 60 TXT \"a;b\" c\\032d\n\
    a\\.b CLASS1 60 TYPE1 \\# 4 c0000202\n$TTL 5\nx\tHTTPS 1 . alpn=h2\n";

pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let origin = Name::parse_origin("example.com.").expect("a seed's name");
    let seed = |text: &str| [sized(origin.wire()), text.as_bytes().to_vec()].concat();
    let samples = crate::record::SAMPLES;
    let all: String =
        samples.iter().map(|(rtype, text)| format!("{rtype}.x 60 IN {rtype} {text}\n")).collect();
    vec![
        ("zone", seed(ZONE)),
        ("all-types", seed(&all)),
        ("units", seed("$TTL 1h\n@ 2D IN A 192.0.2.1\n")),
        ("short", seed("a 1 A 192.0.2.1")),
        ("same-owner", seed("a 1 NS @\n NS a\n NS b\n")),
        ("include", seed("$INCLUDE other.zone\n")),
        ("comment", seed("; nothing\n\n")),
        ("two-classes", seed("a 1 IN A 192.0.2.1\na 1 CH A 192.0.2.1\n")),
        ("bad-line", seed("a 1 IN A 192.0.2.1\nb 1 IN A 192.0.2\n")),
    ]
}
