//! Station 1, the API: the one place where what went wrong becomes a gRPC status. A message is one
//! line that names the thing and the way out.

use std::error::Error;

use edgesync_core::stage::{Refusal, Refused};
use edgesync_host::exit::one_line;
use edgesync_proto::v1;
use tonic::{Code, Status};

use crate::{
    access::exhausted,
    fleet::{ForgetError, WaitError},
    log::{HistoryError, ReadError, WriteError},
};

/// Input that is wrong whatever the state is: names, RDATA, zone files, missing fields.
pub(super) fn bad_input(error: &(dyn Error + 'static)) -> Status {
    Status::invalid_argument(one_line(error))
}

/// The store cannot be read.
pub(super) fn store(error: &redb::Error) -> Status {
    // To try again does not help where the store itself is damaged.
    let code = match error {
        redb::Error::Corrupted(_) => Code::DataLoss,
        _ => Code::Unavailable,
    };
    Status::new(code, format!("the log's store cannot be read: {}", one_line(error)))
}

/// A part of the log cannot be read.
pub(super) fn read(error: &ReadError) -> Status {
    match error {
        ReadError::Store(error) => store(error),
        ReadError::Compacted { .. } => Status::out_of_range(one_line(error)),
    }
}

/// The past of a zone cannot be told.
pub(super) fn history(error: &HistoryError) -> Status {
    let code = match error {
        HistoryError::Store(error) => return store(error),
        HistoryError::Malformed(..) => Code::DataLoss,
        HistoryError::Compacted { .. } | HistoryError::BeyondHead { .. } => Code::OutOfRange,
        HistoryError::NoZone { .. } => Code::NotFound,
    };
    Status::new(code, one_line(error))
}

/// A write that did not happen.
pub(super) fn refused(error: &WriteError) -> Status {
    let (code, reason) = class(error);
    metrics::counter!("edgesync_control_refusals_total", "reason" => reason).increment(1);
    if let WriteError::TooFast { retry_after } = error {
        return exhausted(&one_line(error), *retry_after);
    }
    Status::new(code, one_line(error))
}

/// A write of a stream that did not happen.
pub(super) fn refusal(error: &WriteError) -> v1::Refusal {
    let operation = match error {
        WriteError::Refused(refused) => refused.operation,
        _ => None,
    };
    refusal_at(&refused(error), operation)
}

/// A status as the refusal of a stream's write; `operation` is the index of the reason.
pub(super) fn refusal_at(status: &Status, operation: Option<usize>) -> v1::Refusal {
    v1::Refusal {
        code: status.code().into(),
        message: status.message().to_owned(),
        operation: operation.and_then(|index| u32::try_from(index).ok()),
    }
}

/// The code of a refused write, and its name for the metrics.
const fn class(error: &WriteError) -> (Code, &'static str) {
    match error {
        WriteError::Refused(Refused { reason, .. }) => rule(reason),
        WriteError::NoZone(_) => (Code::NotFound, "no_zone"),
        WriteError::ZoneExists(_) => (Code::AlreadyExists, "zone_exists"),
        WriteError::ZoneVersion { .. } => (Code::Aborted, "zone_version"),
        WriteError::NoGeneration(_) => (Code::Aborted, "import_overtaken"),
        WriteError::KeyReused => (Code::FailedPrecondition, "key_reused"),
        WriteError::Guard { .. } => (Code::FailedPrecondition, "guard"),
        WriteError::NotAllowed(_) => (Code::PermissionDenied, "not_allowed"),
        WriteError::TooFast { .. } => (Code::ResourceExhausted, "too_fast"),
        WriteError::StreamRefused => (Code::Aborted, "stream_refused"),
        WriteError::Empty => (Code::InvalidArgument, "empty"),
        WriteError::DiskFull(_) => (Code::ResourceExhausted, "disk_full"),
        WriteError::Stopping => (Code::Unavailable, "stopping"),
        WriteError::Damaged(_) => (Code::DataLoss, "damaged"),
        WriteError::Store(_) => (Code::Unavailable, "store"),
    }
}

const fn rule(refusal: &Refusal) -> (Code, &'static str) {
    match refusal {
        Refusal::OutsideZone { .. } => (Code::InvalidArgument, "outside_zone"),
        Refusal::TtlTooLarge(_) => (Code::InvalidArgument, "ttl_too_large"),
        Refusal::TooManyChanges => (Code::InvalidArgument, "set_too_large"),
        Refusal::CnameNotAlone(_) => (Code::FailedPrecondition, "cname_not_alone"),
        Refusal::NotSingle { .. } => (Code::FailedPrecondition, "not_single"),
        Refusal::MixedTtl { .. } => (Code::FailedPrecondition, "mixed_ttl"),
        Refusal::RrsetTooLarge { .. } => (Code::FailedPrecondition, "rrset_too_large"),
        Refusal::SoaCount { .. } => (Code::FailedPrecondition, "soa_count"),
        Refusal::SoaNotAtOrigin(_) => (Code::FailedPrecondition, "soa_not_at_origin"),
        Refusal::SerialDoesNotRise { .. } => (Code::FailedPrecondition, "serial_does_not_rise"),
        Refusal::Duplicate { .. } => (Code::AlreadyExists, "duplicate"),
        Refusal::NoRecord(_) => (Code::NotFound, "no_record"),
        Refusal::NoSuchContent(_) => (Code::NotFound, "no_such_content"),
        Refusal::OtherVersion { .. } => (Code::Aborted, "other_version"),
    }
}

/// A wait that makes no sense.
pub(super) fn wait(error: &WaitError) -> Status {
    let code = match error {
        WaitError::NoEdges | WaitError::TooFew { .. } => Code::FailedPrecondition,
        WaitError::Unknown(_) => Code::NotFound,
        WaitError::BeyondHead { .. } => Code::OutOfRange,
    };
    Status::new(code, one_line(error))
}

/// An edge that is not forgotten.
pub(super) fn forget(error: &ForgetError) -> Status {
    let code = match error {
        ForgetError::Unknown(_) => Code::NotFound,
        ForgetError::Connected(_) => Code::FailedPrecondition,
    };
    Status::new(code, one_line(error))
}

/// The control plane stops.
pub(super) fn stopping() -> Status {
    refused(&WriteError::Stopping)
}

#[cfg(test)]
mod tests {
    use edgesync_core::{name::Name, position::Offset, rdata, record::RecordId};

    use super::*;

    #[test]
    fn a_caller_can_tell_what_to_do_by_the_code() {
        let zone = Name::parse_origin("example.com").unwrap();
        let (has, wanted) = (Offset(9), Offset(8));
        let rule = |reason: Refusal| WriteError::Refused(reason.into());
        let wanted_codes = [
            (WriteError::NoZone(zone.clone()), Code::NotFound),
            (WriteError::ZoneExists(zone.clone()), Code::AlreadyExists),
            (WriteError::ZoneVersion { zone: zone.clone(), has, wanted }, Code::Aborted),
            (WriteError::NoGeneration(zone.clone()), Code::Aborted),
            (WriteError::KeyReused, Code::FailedPrecondition),
            (WriteError::StreamRefused, Code::Aborted),
            (WriteError::Empty, Code::InvalidArgument),
            (WriteError::Stopping, Code::Unavailable),
            (WriteError::Damaged("a row".to_owned()), Code::DataLoss),
            (WriteError::Store("disk\nfull".to_owned()), Code::Unavailable),
            (rule(Refusal::CnameNotAlone(zone)), Code::FailedPrecondition),
            (rule(Refusal::TtlTooLarge(1 << 31)), Code::InvalidArgument),
            (rule(Refusal::NoRecord(RecordId(1))), Code::NotFound),
            (rule(Refusal::OtherVersion { id: RecordId(1), has, wanted }), Code::Aborted),
        ];
        for (error, code) in wanted_codes {
            let status = refused(&error);
            assert_eq!(status.code(), code, "{error}");
            assert!(!status.message().contains('\n') && !status.message().is_empty());
        }
    }

    #[test]
    fn a_refusal_of_a_stream_names_the_operation() {
        let refused = Refused { operation: Some(3), reason: Refusal::TooManyChanges };
        let told = refusal(&refused.into());
        assert_eq!((told.code, told.operation), (Code::InvalidArgument.into(), Some(3)));
        assert_eq!(refusal(&WriteError::StreamRefused).operation, None);
    }

    #[test]
    fn what_a_caller_wrote_on_two_lines_is_told_on_one() {
        let zone = Name::root();
        let error = rdata::parse(edgesync_core::Rtype::A, "1\n2", &zone).unwrap_err();
        assert_eq!(bad_input(&error).message().lines().count(), 1);
    }
}
