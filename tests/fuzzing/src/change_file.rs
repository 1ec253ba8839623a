//! Change files: every line becomes one part of one operation, in its version; what parses is
//! formatted and parses to the same; an error names a line of the text.

use bytes::Bytes;
use edgesync_core::{
    change_file::{Block, FileOp, parse},
    name::Name,
    position::Offset,
    rdata,
    record::{Record, RecordId},
    stage::RecordData,
};

use crate::{
    assert_one_line,
    input::{Input, sized},
};

/// Origin in wire form, then text.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let origin = Name::from_wire(Bytes::copy_from_slice(input.octets()));
    let origin = origin.unwrap_or_else(|_| Name::root());
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    match parse(text, &origin) {
        Ok(blocks) => check(text, &blocks),
        Err(error) => {
            assert_one_line(&error);
            assert!((1..=text.lines().count()).contains(&error.line), "{error}");
        }
    }
}

fn check(text: &str, blocks: &[Block]) {
    let count = |sign| text.lines().filter(|line| line.starts_with(sign)).count();
    let operations = || blocks.iter().flat_map(|block| &block.operations);
    let old = |op: &FileOp| !matches!(op, FileOp::Create(_));
    let new = |op: &FileOp| !matches!(op, FileOp::Delete(_));
    assert_eq!(operations().filter(|o| old(&o.op)).count(), count("- "), "each `-` counts once");
    assert_eq!(operations().filter(|o| new(&o.op)).count(), count("+ "), "each `+` counts once");
    for operation in operations() {
        if let FileOp::Replace { old, new } = &operation.op {
            assert_eq!((&old.owner, old.rtype), (&new.owner, new.rtype), "rule 4");
        }
    }
    let written = format(blocks);
    let again = parse(&written, &Name::root()).unwrap_or_else(|e| panic!("{written}: {e}"));
    let plain = |blocks: &[Block]| -> Vec<(u32, Vec<FileOp>)> {
        let ops = |block: &Block| block.operations.iter().map(|o| o.op.clone()).collect();
        blocks.iter().map(|block| (block.serial, sorted(ops(block)))).collect()
    };
    assert_eq!(plain(&again), plain(blocks), "{written}");
}

/// Creates stand behind what has a `-`; the order within both is kept.
fn sorted(mut ops: Vec<FileOp>) -> Vec<FileOp> {
    ops.sort_by_key(|op| matches!(op, FileOp::Create(_)));
    ops
}

/// What pairs by equal RDATA comes before what pairs by its place.
fn is_paired_by_place(op: &FileOp) -> bool {
    let canonical = |data: &RecordData| rdata::canonical(data.rtype, &data.rdata);
    !matches!(op, FileOp::Replace { old, new } if canonical(old) == canonical(new))
}

/// The text of blocks: in each first what goes, then what comes, so that they pair as they did.
fn format(blocks: &[Block]) -> String {
    let mut text = String::new();
    for block in blocks {
        text += &format!("; serial {}\n", block.serial);
        let mut ops = sorted(block.operations.iter().map(|o| o.op.clone()).collect());
        for op in &ops {
            if let FileOp::Delete(old) | FileOp::Replace { old, .. } = op {
                text += &format!("- {}\n", line(old));
            }
        }
        ops.sort_by_key(is_paired_by_place);
        for op in &ops {
            if let FileOp::Create(new) | FileOp::Replace { new, .. } = op {
                text += &format!("+ {}\n", line(new));
            }
        }
    }
    text
}

fn line(data: &RecordData) -> String {
    let RecordData { owner, rtype, ttl, rdata } = data.clone();
    Record { id: RecordId(0), version: Offset::ZERO, owner, rtype, ttl, rdata }.zone_file_line()
}

pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let origin = Name::parse_origin("example.com.").expect("a seed's name");
    let seed = |text: &str| [sized(origin.wire()), text.as_bytes().to_vec()].concat();
    vec![
        (
            "pairs",
            seed(
                "; serial 2\n- a 60 IN A 192.0.2.1\n- a 60 IN A 192.0.2.2\n+ a 90 IN A 192.0.2.2\n+ a 90 IN A 192.0.2.7\n+ b 1 TXT x\n",
            ),
        ),
        (
            "versions",
            seed(
                "; serial 2\n+ a 60 IN A 192.0.2.1\n; a comment\n\n; serial 3\n- a 60 IN A 192.0.2.1\n",
            ),
        ),
        (
            "signatures",
            seed(
                "; serial 4294967295\n- @ 60 IN RRSIG SOA 8 1 60 20300101000000 20200101000000 1 @ AAAA\n+ @ 60 IN RRSIG NS 8 1 60 20300101000000 20200101000000 1 @ AAAA\n",
            ),
        ),
        ("no-version", seed("+ a 60 IN A 192.0.2.1\n")),
        ("bad-line", seed("; serial 1\n+ a 60 IN A 192.0.2\n")),
        (
            "new-first",
            seed(
                "; serial 1\n+ a 60 IN A 192.0.2.1\n+ a 60 IN A 192.0.2.2\n- a 60 IN A 192.0.2.3\n",
            ),
        ),
    ]
}
