//! Station 1, the API: takes in the text of an import, bounded in octets and in the time that a
//! caller may be silent.

use std::time::Duration;

use edgesync_core::{limits::IMPORT_OCTETS, name::Name};
use edgesync_proto::v1::ImportZoneRequest;
use tokio::time::{Instant, timeout};
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use crate::{
    access::Admitted,
    api::{caller, origin},
    log::IdempotencyKey,
};

/// How long a caller may be silent: it keeps others from importing.
const SILENCE: Duration = Duration::from_secs(30);
/// How long all messages of an import may take, and one second more for each so many octets: who sends a
/// little each half a minute keeps others from importing as well.
const WHOLE: Duration = Duration::from_secs(600);
const SLOWEST_OCTETS: u64 = 256 * 1024;

/// What a caller wants imported.
pub(super) struct Gathered {
    pub(super) zone: Name,
    pub(super) text: Vec<u8>,
    pub(super) idempotency: Option<IdempotencyKey>,
    pub(super) override_guard: bool,
}

/// Takes in all messages of an import.
pub(super) async fn gather(
    admitted: &Admitted,
    mut messages: impl Stream<Item = Result<ImportZoneRequest, Status>> + Unpin,
) -> Result<Gathered, Status> {
    let begun = Instant::now();
    let first = next(&mut messages).await?;
    let first = first.ok_or_else(|| Status::invalid_argument("the import has no message"))?;
    let zone = origin(&first.zone)?;
    admitted.may(&zone)?;
    let mut text = Vec::new();
    add(&mut text, &first.text, IMPORT_OCTETS)?;
    let mut is_whole = first.last;
    while let Some(message) = next(&mut messages).await? {
        in_time(begun.elapsed(), text.len() as u64)?;
        if is_whole {
            return Err(Status::invalid_argument("there is a message after the import's last"));
        }
        if !message.zone.is_empty() && origin(&message.zone)? != zone {
            return Err(Status::invalid_argument("one import is of one zone"));
        }
        admitted.may(&zone)?;
        add(&mut text, &message.text, IMPORT_OCTETS)?;
        is_whole = message.last;
    }
    if !is_whole {
        // Half a zone file is a zone file too, and would delete the other half.
        return Err(Status::invalid_argument(
            "the import ended without a message that says it is the last: nothing was imported, \
             send it again",
        ));
    }
    let hash = || {
        let mut hasher = blake3::Hasher::new();
        hasher.update(zone.wire());
        hasher.update(&text);
        *hasher.finalize().as_bytes()
    };
    let idempotency = caller::idempotency(first.idempotency_key, hash)?;
    let override_guard = first.override_guard;
    Ok(Gathered { zone, text, idempotency, override_guard })
}

/// Refuses an import that comes too slowly to keep its place.
fn in_time(took: Duration, octets: u64) -> Result<(), Status> {
    if took <= WHOLE + Duration::from_secs(octets / SLOWEST_OCTETS) {
        return Ok(());
    }
    Err(Status::deadline_exceeded(format!(
        "{octets} octets of the import have come in {} s, and others wait: send it faster, from nearer by",
        took.as_secs()
    )))
}

async fn next(
    messages: &mut (impl Stream<Item = Result<ImportZoneRequest, Status>> + Unpin),
) -> Result<Option<ImportZoneRequest>, Status> {
    let message = timeout(SILENCE, messages.next()).await;
    message.map(Option::transpose).unwrap_or_else(|_| {
        Err(Status::deadline_exceeded(format!(
            "no message of the import came for {} s: send it again",
            SILENCE.as_secs()
        )))
    })
}

fn add(text: &mut Vec<u8>, more: &[u8], most: usize) -> Result<(), Status> {
    if text.len().saturating_add(more.len()) > most {
        return Err(Status::resource_exhausted(format!(
            "the zone file is too large: at most {} MiB are allowed; divide the zone",
            most >> 20
        )));
    }
    text.extend_from_slice(more);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message each so often, without end.
    fn slow(each: Duration) -> impl Stream<Item = Result<ImportZoneRequest, Status>> + Unpin {
        let message = || ImportZoneRequest {
            zone: "example.com".to_owned(),
            text: b"\n".to_vec().into(),
            ..ImportZoneRequest::default()
        };
        Box::pin(tokio_stream::iter(std::iter::repeat(())).then(move |()| async move {
            tokio::time::sleep(each).await;
            Ok(message())
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_slowly_does_not_keep_others_from_importing_for_ever() {
        for (each, most, why) in
            [(29, WHOLE + SILENCE, "send it faster"), (31, SILENCE * 2, "30 s")]
        {
            let begun = tokio::time::Instant::now();
            let messages = slow(Duration::from_secs(each));
            let cut = gather(&Admitted::unrestricted(), messages).await.err().unwrap();
            assert_eq!(cut.code(), tonic::Code::DeadlineExceeded);
            assert!(cut.message().contains(why), "{cut}");
            assert!(begun.elapsed() <= most + Duration::from_secs(1), "{:?}", begun.elapsed());
        }
    }

    #[test]
    fn a_large_zone_may_come_over_a_slow_line() {
        let gibibyte = 1 << 30;
        let slow = Duration::from_secs(gibibyte / (10_000_000 / 8));
        assert!(slow > WHOLE, "{slow:?} at 10 Mbit/s");
        assert!(in_time(slow, gibibyte).is_ok());
        assert!(in_time(slow, 1 << 20).is_err());
    }

    #[test]
    fn text_over_the_limit_is_refused_with_the_limit() {
        let mut text = vec![0; (1 << 20) - 1];
        add(&mut text, b"x", 1 << 20).unwrap();
        let refused = add(&mut text, b"x", 1 << 20).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("1 MiB"));
    }
}
