//! Zone files (RFC 1035 section 5): text to records, and the difference between a file and a zone.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Display,
};

use bytes::{BufMut, Bytes};
use domain::{
    base::{ToName, iana::Class, name::Name as DomainName, rdata::ComposeRecordData},
    zonefile::inplace::{Entry, Zonefile},
};

use crate::{
    Rtype,
    excerpt::excerpt,
    master::{self, Flaw},
    name::Name,
    rdata,
    record::Record,
    stage::{Operation, RecordData, Target},
};

/// Why a zone file is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZoneFileError {
    /// The text cannot be read.
    #[error("{0}")]
    Text(String),
    /// A record in it is not right.
    #[error("record {number} ({owner} {rtype}): {reason}")]
    Record {
        /// Which one, counted from 1.
        number: usize,
        /// Its owner.
        owner: String,
        /// Its type.
        rtype: Rtype,
        /// What is wrong.
        reason: String,
    },
    /// `$INCLUDE` is not followed.
    #[error("$INCLUDE {0} is not followed here: put the file's text in its place")]
    Include(String),
    /// There is no record in it.
    #[error("there is no record in it")]
    Empty,
}

/// Reads a zone file. Relative names take `origin` until the text has its own `$ORIGIN`.
///
/// # Errors
/// If the text cannot be read (`LINE:COLUMN: reason`), a record is not right, or there is none.
pub fn parse(text: &[u8], origin: &Name) -> Result<Vec<RecordData>, ZoneFileError> {
    master::check(text).map_err(|flaw| match flaw {
        Flaw::Control { mut text, .. } if text.to_ascii_uppercase().starts_with("$INCLUDE") => {
            ZoneFileError::Include(text.split_off("$INCLUDE".len()).trim().to_owned())
        }
        Flaw::Control { text, line } => {
            ZoneFileError::Text(format!("{line}:1: unknown control: {text}"))
        }
        Flaw::Open { what, line } => ZoneFileError::Text(format!("{line}:1: {what} is not closed")),
    })?;
    let mut file = Zonefile::with_capacity(text.len() + 1);
    file.put_slice(text);
    if !text.ends_with(b"\n") {
        file.put_u8(b'\n');
    }
    let origin = DomainName::from_octets(origin.wire().clone());
    let origin = origin.map_err(|e| ZoneFileError::Text(e.to_string()))?;
    file.set_origin(origin);
    file.set_default_class(Class::IN);
    let mut records = Vec::new();
    loop {
        let start = file.current_offset();
        let Some(entry) = file.next_entry().map_err(|e| unreadable(text, start, &e.to_string()))?
        else {
            break;
        };
        let record = match entry {
            Entry::Record(record) => record,
            Entry::Include { path, .. } => {
                return Err(ZoneFileError::Include(excerpt(path.as_ref(), 200)));
            }
        };
        let rtype = domain::base::rdata::RecordData::rtype(record.data());
        let wrong = |reason: &dyn Display| ZoneFileError::Record {
            number: records.len() + 1,
            owner: format!("{}", record.owner()),
            rtype,
            reason: reason.to_string(),
        };
        let mut wire = Vec::new();
        record.data().compose_rdata(&mut wire).map_err(|e| wrong(&e))?;
        let owner: DomainName<Vec<u8>> = record.owner().to_name();
        let owner = Name::from_wire(owner.into_octets().into()).map_err(|e| wrong(&e))?;
        let rdata = rdata::check(rtype, &wire.into()).map_err(|e| wrong(&e))?;
        records.push(RecordData { owner, rtype, ttl: record.ttl().as_secs(), rdata });
    }
    if records.is_empty() { Err(ZoneFileError::Empty) } else { Ok(records) }
}

/// The error of the entry that begins at or after the octet `start`. The scanner, which has read an
/// entry's end before it looks at it, may name the line after; this names the entry's.
fn unreadable(text: &[u8], start: usize, error: &str) -> ZoneFileError {
    let mut parts = error.splitn(3, ':');
    let mut number = || parts.next().and_then(|part| part.parse::<usize>().ok());
    let (Some(line), Some(column), Some(reason)) = (number(), number(), parts.next()) else {
        return ZoneFileError::Text(excerpt(error, 300));
    };
    let mut lines = text.split(|octet| *octet == b'\n').zip(1..).scan(0, |offset, (text, line)| {
        *offset += text.len() + 1;
        Some((*offset, text, line))
    });
    let has_entry = |text: &[u8]| {
        let first = text.iter().find(|octet| !octet.is_ascii_whitespace());
        first.is_some_and(|octet| *octet != b';')
    };
    let entry =
        lines.find(|(end, text, _)| *end > start && has_entry(text)).map(|(_, _, line)| line);
    let (line, column) = match text.split(|octet| *octet == b'\n').nth(line.saturating_sub(2)) {
        Some(before) if column <= 1 && entry.is_some_and(|entry| entry < line) => {
            (line - 1, before.len() + 1)
        }
        _ => (line, column.max(1)),
    };
    ZoneFileError::Text(format!("{line}:{column}:{}", excerpt(reason, 300)))
}

type Content = (Name, Rtype, Bytes);

fn content(owner: &Name, rtype: Rtype, wire: &Bytes) -> Content {
    (owner.clone(), rtype, rdata::canonical(rtype, wire))
}

/// The operations that make a zone of the records `now` one of the records `wanted`: what is equal
/// stays, what differs in the TTL or the case of RDATA is edited, and within (owner, type, covered
/// type) what goes and what comes are paired to edits in order (rule 4). A record that stands twice
/// in `wanted` counts once; with two TTLs it is created twice, which the rules then refuse.
#[must_use]
pub fn difference(now: Vec<Record>, wanted: Vec<RecordData>) -> Vec<Operation> {
    let keyed = now.into_iter().map(|r| (content(&r.owner, r.rtype, &r.rdata), r));
    let mut there: HashMap<Content, Record> = keyed.collect();
    let mut seen = HashMap::new();
    let (mut operations, mut come) = (Vec::new(), Vec::new());
    let mut twice = Vec::new();
    for data in wanted {
        let key = content(&data.owner, data.rtype, &data.rdata);
        if let Some(ttl) = seen.insert(key.clone(), data.ttl) {
            if ttl != data.ttl {
                twice.push(Operation::Create(data));
            }
            continue;
        }
        match there.remove(&key) {
            Some(record) if record.ttl == data.ttl && record.rdata == data.rdata => {}
            Some(record) => operations.push(edit(&record, data)),
            None => come.push(data),
        }
    }
    let mut gone: Vec<Record> = there.into_values().collect();
    gone.sort_by_key(|record| (record.rrset(), record.id));
    let mut free: HashMap<(Name, (Rtype, Rtype)), VecDeque<Record>> = HashMap::new();
    for record in gone {
        free.entry((record.owner.clone(), record.rrset())).or_default().push_back(record);
    }
    let mut creates = Vec::new();
    for data in come {
        let rrset = (data.rtype, rdata::covered(data.rtype, &data.rdata));
        let pair = free.get_mut(&(data.owner.clone(), rrset)).and_then(|free| free.pop_front());
        match pair {
            Some(record) => operations.push(edit(&record, data)),
            None => creates.push(Operation::Create(data)),
        }
    }
    let mut deletes: Vec<Record> = free.into_values().flatten().collect();
    deletes.sort_unstable_by_key(|record| record.id);
    operations.extend(deletes.iter().map(|record| Operation::Delete(by_id(record))));
    operations.append(&mut creates);
    operations.append(&mut twice);
    operations
}

fn by_id(record: &Record) -> Target {
    let if_version = Some(record.version);
    Target::Id { id: record.id, owner: record.owner.clone(), if_version }
}

fn edit(record: &Record, data: RecordData) -> Operation {
    let (ttl, rdata) = (Some(data.ttl), Some(data.rdata));
    Operation::Edit { target: by_id(record), ttl, rdata, whole_rrset: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{position::Offset, record::RecordId};

    fn origin() -> Name {
        Name::parse_origin("example.com").unwrap()
    }

    fn zone(text: &str) -> Vec<RecordData> {
        parse(text.as_bytes(), &origin()).unwrap()
    }

    fn stored(text: &str) -> Vec<Record> {
        let numbered = zone(text).into_iter().zip(1..);
        let record = |(data, id): (RecordData, u64)| Record {
            id: RecordId(id),
            version: Offset(id),
            owner: data.owner,
            rtype: data.rtype,
            ttl: data.ttl,
            rdata: data.rdata,
        };
        numbered.map(record).collect()
    }

    #[test]
    fn what_the_scanner_would_panic_at_is_an_error() {
        for text in ["a 60 IN TXT ( b\n", "a 60 IN TXT b \\\n", "$INCLUDE\"x\"y\n"] {
            assert!(parse(text.as_bytes(), &origin()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_zone_file_reads_with_origin_ttl_and_parentheses() {
        let text = "$TTL 300\n@ IN SOA ns root ( 1 2 3\n 4 5 ) ; comment\n  NS ns\nns A 192.0.2.1";
        let records = zone(text);
        assert_eq!(records.len(), 3);
        assert_eq!(records[2].owner.to_string(), "ns.example.com.");
        assert!(records.iter().all(|record| record.ttl == 300));
    }

    #[test]
    fn an_unreadable_file_is_told_by_line_and_column() {
        for (text, place) in [
            ("a 60 IN A 192.0.2.1\nb 60 IN A 192.0.2.256\n", "2:22: "),
            ("a 60 IN A 192.0.2.1\nb 60 IN A 192.0.2.256 \nc 60 IN A 192.0.2.3\n", "2:"),
            ("\n; x\na 60 IN A\nb 60 IN A 192.0.2.3\n", "3:"),
            ("a 60 IN A 192.0.2.1\n\nb 60 IN NOTYPE x\n", "3:"),
        ] {
            let error = parse(text.as_bytes(), &origin()).unwrap_err().to_string();
            assert!(error.starts_with(place), "{error}");
        }
        assert_eq!(parse(b"; nothing\n", &origin()), Err(ZoneFileError::Empty));
        let include = parse(b"$INCLUDE x\x18y\n", &origin());
        let control = parse(b"$INC\0UDE x\n", &origin()).unwrap_err().to_string();
        assert!(!control.contains(char::is_control), "{control:?} is one line");
        assert_eq!(include, Err(ZoneFileError::Include("x\\u{18}y".to_owned())));
    }

    #[test]
    fn the_difference_keeps_what_is_equal_and_pairs_the_rest() {
        let now = stored("a 60 IN A 192.0.2.1\na 60 IN A 192.0.2.2\nb 60 IN A 192.0.2.3\n");
        assert_eq!(
            difference(now.clone(), zone("b 60 A 192.0.2.3\na 60 A 192.0.2.2\na 60 A 192.0.2.1")),
            []
        );
        let operations =
            difference(now, zone("a 60 A 192.0.2.1\na 60 A 192.0.2.9\nc 60 A 192.0.2.3"));
        let twice = difference(
            Vec::new(),
            zone("a 60 A 192.0.2.1\na 60 A 192.0.2.1\nb 60 A 192.0.2.1\nb 90 A 192.0.2.1"),
        );
        assert_eq!(twice.len(), 3, "{twice:?}");
        let kinds: Vec<_> = operations
            .iter()
            .map(|operation| match operation {
                Operation::Edit { target: Target::Id { id, .. }, .. } => ("edit", id.0),
                Operation::Delete(Target::Id { id, .. }) => ("delete", id.0),
                _ => ("create", 0),
            })
            .collect();
        assert_eq!(kinds, [("edit", 2), ("delete", 3), ("create", 0)]);
    }
}
