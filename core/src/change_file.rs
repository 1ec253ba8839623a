//! Change files: versions of a zone as what each took out and put in, one atomic change set each.
//!
//! `; serial N` opens a version; `- record` and `+ record` follow, a record as in a zone file. Within
//! (owner, type, covered type) they are paired to edits: equal RDATA first, then in file order; the
//! rest are creates and deletes (rule 4).

use std::collections::{HashMap, VecDeque};

use crate::{Rtype, name::Name, rdata, stage::RecordData, zone_file};

/// A version of the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its serial.
    pub serial: u32,
    /// Line of its header, counted from 1.
    pub line: usize,
    /// What it does.
    pub operations: Vec<FileOperation>,
}

/// An operation and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOperation {
    /// Its line, counted from 1: that of the `-` where there is one.
    pub line: usize,
    /// What it is.
    pub op: FileOp,
}

/// What a line, or a pair of lines, asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileOp {
    /// A lone `+`.
    Create(RecordData),
    /// A lone `-`.
    Delete(RecordData),
    /// A `-` and a `+`.
    Replace {
        /// What is there.
        old: RecordData,
        /// What is to be.
        new: RecordData,
    },
}

/// Why a change file is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {reason}")]
pub struct ChangeFileError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads a change file for the zone `origin`.
///
/// # Errors
/// With the first line that is not of the format.
pub fn parse(text: &str, origin: &Name) -> Result<Vec<Block>, ChangeFileError> {
    let mut blocks = Vec::new();
    let mut open: Option<OpenBlock> = None;
    for (line, content) in (1..).zip(text.lines()) {
        let error = |reason: &str| ChangeFileError { line, reason: reason.to_owned() };
        if let Some(serial) = content.strip_prefix("; serial ") {
            let serial = serial.trim().parse();
            let serial = serial.map_err(|_| error("`; serial` wants a number of 32 bits"))?;
            blocks.extend(open.replace(OpenBlock::new(serial, line)).map(OpenBlock::close));
        } else if !content.trim().is_empty() && !content.starts_with(';') {
            let block = open.as_mut();
            let block = block.ok_or_else(|| error("a record before the first `; serial N`"))?;
            let (sign, record) = content.split_at_checked(2).unwrap_or((content, ""));
            let list = match sign {
                "- " => &mut block.gone,
                "+ " => &mut block.come,
                _ => return Err(error("a line begins with `- `, `+ ` or `; serial `")),
            };
            list.push((line, record_of(record, origin).map_err(|e| error(&e))?));
        }
    }
    blocks.extend(open.map(OpenBlock::close));
    Ok(blocks)
}

fn record_of(text: &str, origin: &Name) -> Result<RecordData, String> {
    let mut records = zone_file::parse(text.as_bytes(), origin).map_err(|error| match error {
        // The scanner's position is within this one line.
        zone_file::ZoneFileError::Text(text) => text.trim_start_matches("1:").to_owned(),
        other => other.to_string(),
    })?;
    records.pop().filter(|_| records.is_empty()).ok_or_else(|| "one record a line".to_owned())
}

type Line = (usize, RecordData);
type Group = (Name, Rtype, Rtype);

fn group((_, data): &Line) -> Group {
    (data.owner.clone(), data.rtype, rdata::covered(data.rtype, &data.rdata))
}

/// A block whose lines are still coming.
struct OpenBlock {
    serial: u32,
    line: usize,
    gone: Vec<Line>,
    come: Vec<Line>,
}

impl OpenBlock {
    const fn new(serial: u32, line: usize) -> Self {
        Self { serial, line, gone: Vec::new(), come: Vec::new() }
    }

    /// Pairs what goes with what comes.
    fn close(self) -> Block {
        let mut come: HashMap<Group, VecDeque<Line>> = HashMap::new();
        for line in self.come {
            come.entry(group(&line)).or_default().push_back(line);
        }
        let mut operations = Vec::new();
        let mut pair = |(line, old): Line, new: Line| {
            operations.push(FileOperation { line, op: FileOp::Replace { old, new: new.1 } });
        };
        let mut unpaired = Vec::new();
        for gone in self.gone {
            let canonical = |data: &RecordData| rdata::canonical(data.rtype, &data.rdata);
            let candidates = come.get_mut(&group(&gone));
            let equal = candidates.and_then(|lines| {
                let place = lines.iter().position(|(_, new)| canonical(new) == canonical(&gone.1));
                place.and_then(|place| lines.remove(place))
            });
            match equal {
                Some(new) => pair(gone, new),
                None => unpaired.push(gone),
            }
        }
        let mut deletes = Vec::new();
        for gone in unpaired {
            match come.get_mut(&group(&gone)).and_then(VecDeque::pop_front) {
                Some(new) => pair(gone, new),
                None => deletes.push(gone),
            }
        }
        let delete = |(line, data)| FileOperation { line, op: FileOp::Delete(data) };
        operations.extend(deletes.into_iter().map(delete));
        let create = |(line, data)| FileOperation { line, op: FileOp::Create(data) };
        operations.extend(come.into_values().flatten().map(create));
        operations.sort_by_key(|operation| operation.line);
        Block { serial: self.serial, line: self.line, operations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &str) -> Result<Vec<Block>, ChangeFileError> {
        parse(text, &Name::parse_origin("example.com").unwrap())
    }

    #[test]
    fn lines_pair_by_equal_rdata_first_then_in_order() {
        let text = "; serial 2\n- a 60 IN A 192.0.2.1\n- a 60 IN A 192.0.2.2\n- b 60 IN A 192.0.2.3\n\
                    + a 90 IN A 192.0.2.2\n+ a 90 IN A 192.0.2.7\n+ a 90 IN A 192.0.2.8\n";
        let blocks = blocks(text).unwrap();
        let shown: Vec<_> = blocks[0]
            .operations
            .iter()
            .map(|operation| match &operation.op {
                FileOp::Create(new) => (operation.line, None, Some(new.rdata[3])),
                FileOp::Delete(old) => (operation.line, Some(old.rdata[3]), None),
                FileOp::Replace { old, new } => {
                    (operation.line, Some(old.rdata[3]), Some(new.rdata[3]))
                }
            })
            .collect();
        let wanted =
            [(2, Some(1), Some(7)), (3, Some(2), Some(2)), (4, Some(3), None), (7, None, Some(8))];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn signatures_pair_only_with_those_of_the_same_type_covered() {
        let sig = |covered| {
            format!("@ 60 IN RRSIG {covered} 8 1 60 20300101000000 20200101000000 1 @ AAAA")
        };
        let text = format!("; serial 2\n- {}\n+ {}\n", sig("SOA"), sig("NS"));
        assert_eq!(blocks(&text).unwrap()[0].operations.len(), 2);
    }

    #[test]
    fn each_block_is_one_version_and_a_bad_line_is_named() {
        let text = "; serial 2\n+ a 60 IN A 192.0.2.1\n; serial 3\n- a 60 IN A 192.0.2.1\n";
        assert_eq!(
            blocks(text).unwrap().iter().map(|block| block.serial).collect::<Vec<_>>(),
            [2, 3]
        );
        for (text, line) in [
            ("+ a 60 IN A 192.0.2.1\n", 1),
            ("; serial x\n", 1),
            ("; serial 1\n\n* a 60 IN A 192.0.2.1\n", 3),
            ("; serial 1\n+ a 60 IN A 192.0.2\n", 2),
            ("; serial 1\n+ é\n", 2),
        ] {
            assert_eq!(blocks(text).unwrap_err().line, line, "{text}");
        }
    }
}
