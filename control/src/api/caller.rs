//! Station 1, the API: who calls, and under which idempotency key. What is found here goes with the
//! write into the log's audit (rule 1), never into what is streamed.

use edgesync_core::{limits::IDEMPOTENCY_KEY_OCTETS, name::Name};
use edgesync_proto::v1;
use prost::Message;
use tonic::{Request, Status};

use super::methods::Method;
use crate::{
    access::{Admitted, Denied},
    log::{Action, Caller, IdempotencyKey, Write},
};

/// A request that may have an idempotency key.
pub(super) trait Keyed: Message {
    /// Takes the key out.
    fn take_key(&mut self) -> String;

    /// Takes the word out that overrides the guard: with it a request that the guard has refused is
    /// still the same request.
    fn take_override(&mut self) -> bool;

    /// Puts that word back.
    fn put_override(&mut self, word: bool);
}

macro_rules! keyed {
    ($($message:ident { $($ignored:ident)? })*) => {
        $(impl Keyed for v1::$message {
            fn take_key(&mut self) -> String {
                std::mem::take(&mut self.idempotency_key)
            }

            fn take_override(&mut self) -> bool {
                false $(|| std::mem::take(&mut self.$ignored))?
            }

            fn put_override(&mut self, _word: bool) {
                $(self.$ignored = _word;)?
            }
        })*
    };
}

keyed! {
    CreateRecordRequest {}
    EditRecordRequest { override_guard }
    DeleteRecordRequest { override_guard }
    ApplyChangeSetsRequest { override_guard }
    CreateZoneRequest {}
    DeleteZoneRequest { override_guard }
    RestoreZoneRequest { override_guard }
}

/// A call that wants to write.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) admitted: Admitted,
    pub(super) caller: Caller,
    pub(super) idempotency: Option<IdempotencyKey>,
}

impl Call {
    /// Takes a request apart into who calls and what they ask.
    pub(super) fn take<M: Keyed>(request: Request<M>, method: Method) -> Result<(Self, M), Status> {
        let admitted = Admitted::of(&request)?;
        let caller = admitted.caller(method.name);
        let mut message = request.into_inner();
        let idempotency = take_key(&mut message)?;
        Ok((Self { admitted, caller, idempotency }, message))
    }

    /// The write that the call asks for, in a zone that it names.
    pub(super) fn write(self, zone: Name, action: Action) -> Result<Write, Denied> {
        let Self { admitted, caller, idempotency } = self;
        let authorized = admitted.write(zone, caller)?;
        Ok(Write::new(authorized, action).keyed(idempotency))
    }

    /// The write that the call asks for, in the zone of a record that it names by id.
    pub(super) fn write_unnamed(self, zone: Name, action: Action) -> Result<Write, Denied> {
        let Self { admitted, caller, idempotency } = self;
        let authorized = admitted.write_unnamed(zone, caller)?;
        Ok(Write::new(authorized, action).keyed(idempotency))
    }

    /// A write that changes nothing: what an earlier call with the same key was told.
    pub(super) fn question(self, action: Action) -> Write {
        let Self { admitted, caller, idempotency } = self;
        Write::new(admitted.question(caller), action).keyed(idempotency)
    }
}

/// Takes the idempotency key out of a message; the hash is over the rest of it.
pub(super) fn take_key<M: Keyed>(message: &mut M) -> Result<Option<IdempotencyKey>, Status> {
    let key = message.take_key();
    let word = message.take_override();
    let taken = idempotency(key, || *blake3::hash(&message.encode_to_vec()).as_bytes());
    message.put_override(word);
    taken
}

/// An idempotency key for a request of which `hash` gives the hash.
pub(super) fn idempotency(
    key: String,
    hash: impl FnOnce() -> [u8; 32],
) -> Result<Option<IdempotencyKey>, Status> {
    match key.len() {
        0 => Ok(None),
        1..=IDEMPOTENCY_KEY_OCTETS => Ok(Some(IdempotencyKey { key, request: hash() })),
        octets => Err(Status::invalid_argument(format!(
            "the idempotency key has {octets} octets: at most {IDEMPOTENCY_KEY_OCTETS} are allowed"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: u64, key: &str) -> v1::DeleteRecordRequest {
        let idempotency_key = key.to_owned();
        v1::DeleteRecordRequest { id, if_version: 0, idempotency_key, override_guard: false }
    }

    fn key_of(id: u64, key: &str) -> Option<IdempotencyKey> {
        take_key(&mut request(id, key)).unwrap()
    }

    #[test]
    fn the_hash_is_of_the_request_and_not_of_its_key() {
        assert_eq!(key_of(7, ""), None);
        let (one, other) = (key_of(7, "a").unwrap(), key_of(7, "b").unwrap());
        assert_eq!(one.request, other.request);
        assert_ne!(one.request, key_of(8, "a").unwrap().request);
    }

    #[test]
    fn a_key_over_its_limit_is_refused_with_the_limit() {
        assert!(key_of(1, &"k".repeat(128)).is_some());
        let refused = take_key(&mut request(1, &"k".repeat(129))).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().contains("129") && refused.message().contains("128"));
    }
}
