//! A block of a change file as a call: records by their exact content, RDATA in wire form.

use edgesync_core::{
    change_file::{Block, FileOp},
    name::Name,
    stage::RecordData,
};
use edgesync_proto::v1::{self, operation::Operation};

/// The change set of a block. Its key is that of origin and block (rule 9), and its serial is as the
/// file has it (rule 3).
#[must_use]
pub fn of_block(block: &Block, origin: &Name, override_guard: bool) -> v1::ApplyChangeSetsRequest {
    v1::ApplyChangeSetsRequest {
        zone: origin.to_string(),
        operations: block.operations.iter().map(|operation| of_op(&operation.op)).collect(),
        idempotency_key: format!("apply:{origin}:{}", block.serial),
        raise_serial: false,
        override_guard,
    }
}

fn of_op(op: &FileOp) -> v1::Operation {
    let operation = match op {
        FileOp::Create(record) => Operation::Create(data(record)),
        FileOp::Delete(record) => Operation::Delete(data(record)),
        FileOp::Replace { old, new } => {
            Operation::Replace(v1::Replace { old: Some(data(old)), new: Some(data(new)) })
        }
    };
    v1::Operation { operation: Some(operation) }
}

fn data(record: &RecordData) -> v1::RecordData {
    // On the wire, no octets mean that they are not given.
    let empty = if record.rdata.is_empty() { "\\# 0" } else { "" };
    v1::RecordData {
        owner: record.owner.to_string(),
        r#type: record.rtype.to_string(),
        ttl: record.ttl,
        rdata: empty.to_owned(),
        rdata_wire: record.rdata.clone(),
    }
}

#[cfg(test)]
mod tests {
    use edgesync_core::change_file;

    use super::*;

    #[test]
    fn a_block_is_one_set_with_its_own_key_and_serial() {
        let origin = Name::parse_origin("example.com").unwrap();
        let text = "; serial 7\n- a 60 IN A 192.0.2.1\n+ a 90 IN A 192.0.2.2\n\
                    - b 60 IN A 192.0.2.3\n+ c 60 IN TYPE65280 \\# 0\n";
        let blocks = change_file::parse(text, &origin).unwrap();
        let request = of_block(&blocks[0], &origin, false);
        assert_eq!(request.idempotency_key, "apply:example.com.:7");
        assert!(!request.raise_serial);
        let operations: Vec<_> = request.operations.into_iter().flat_map(|o| o.operation).collect();
        let [Operation::Replace(replace), Operation::Delete(gone), Operation::Create(come)] =
            &operations[..]
        else {
            panic!("{operations:?}");
        };
        let (old, new) = (replace.old.as_ref().unwrap(), replace.new.as_ref().unwrap());
        assert_eq!((old.owner.as_str(), old.r#type.as_str(), old.ttl), ("a.example.com.", "A", 60));
        assert_eq!(
            (&old.rdata_wire[..], &new.rdata_wire[..]),
            (&[192, 0, 2, 1][..], &[192, 0, 2, 2][..])
        );
        assert_eq!((new.ttl, gone.owner.as_str()), (90, "b.example.com."));
        assert_eq!((come.r#type.as_str(), come.rdata.as_str()), ("TYPE65280", "\\# 0"));
    }
}
