//! Station 1, the API: pipelined change sets. They go to the sequencer in the order in which they
//! come and are answered in it; after one refusal the rest is refused (rule 4).

use std::sync::{Arc, atomic::AtomicBool};

use edgesync_core::{
    name::Name,
    rdata,
    record::{Record, RecordId},
    stage::{Operation, RecordData, Serial, Target},
};
use edgesync_proto::{
    convert,
    v1::{self, apply_change_sets_response::Result as Outcome, operation::Operation as Wish},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Status, Streaming};

use super::{
    Api, blocking,
    caller::{self, Call},
    change, methods, origin, receipt,
    record::{gone, target},
    status,
};
use crate::{
    access::{Admitted, Denied},
    log::{Caller, Committed, Log, Pending, View, WriteError},
};

/// Change sets of one stream that may be on their way.
const IN_FLIGHT: usize = 256;

/// What a change set of a stream is answered with, when its turn comes.
enum Answer {
    /// Whatever the sequencer says.
    Waiting(Pending),
    /// It was committed by an earlier call with its idempotency key.
    Replayed(Committed),
    /// It never got to the sequencer.
    Refused(v1::Refusal),
    /// The stream ends.
    End(Status),
}

/// Commits the change sets of a stream.
pub(super) fn apply(
    api: &Api,
    request: Request<Streaming<v1::ApplyChangeSetsRequest>>,
) -> Result<impl Stream<Item = Result<v1::ApplyChangeSetsResponse, Status>> + Send + use<>, Status>
{
    let admitted = Admitted::of(&request)?;
    let intake = Intake {
        api: api.clone(),
        caller: admitted.caller(methods::APPLY_CHANGE_SETS.name),
        admitted,
        stream: Arc::default(),
        refused: false,
    };
    let (answers, receiver) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(intake.run(request.into_inner(), answers));
    Ok(ReceiverStream::new(receiver).then(respond))
}

async fn respond(answer: Answer) -> Result<v1::ApplyChangeSetsResponse, Status> {
    let result = match answer {
        Answer::Waiting(pending) => match pending.await {
            Ok(committed) => Outcome::Receipt(receipt(&committed)),
            Err(error) => Outcome::Refusal(status::refusal(&error)),
        },
        Answer::Replayed(committed) => Outcome::Receipt(receipt(&committed)),
        Answer::Refused(refusal) => Outcome::Refusal(refusal),
        Answer::End(status) => return Err(status),
    };
    Ok(v1::ApplyChangeSetsResponse { result: Some(result) })
}

/// The taking in of one stream.
struct Intake {
    api: Api,
    admitted: Admitted,
    caller: Caller,
    /// Set by the sequencer at the first refusal, for what is already in its queue.
    stream: Arc<AtomicBool>,
    /// True when a set was refused before it got there. Those in the queue came before it, and are
    /// committed.
    refused: bool,
}

impl Intake {
    async fn run(
        mut self,
        mut requests: Streaming<v1::ApplyChangeSetsRequest>,
        answers: mpsc::Sender<Answer>,
    ) {
        let mut drain = self.api.drain.clone();
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                _ = drain.wait_for(|drain| *drain) => Err(status::stopping()),
                () = answers.closed() => return,
            };
            let (answer, over) = match request {
                Ok(Some(request)) => (self.answer(request).await, false),
                Ok(None) => return,
                Err(status) => (Answer::End(status), true),
            };
            if answers.send(answer).await.is_err() || over {
                return;
            }
        }
    }

    async fn answer(&mut self, request: v1::ApplyChangeSetsRequest) -> Answer {
        if self.refused {
            return Answer::Refused(status::refusal(&WriteError::StreamRefused));
        }
        self.take(request).await.unwrap_or_else(|refusal| {
            self.refused = true;
            Answer::Refused(refusal)
        })
    }

    /// Hands the write that a request asks for to the sequencer.
    async fn take(&self, mut request: v1::ApplyChangeSetsRequest) -> Result<Answer, v1::Refusal> {
        let whole = |status: Status| status::refusal_at(&status, None);
        let idempotency = caller::take_key(&mut request).map_err(whole)?;
        let (admitted, caller) = (self.admitted.clone(), self.caller.clone());
        let call = Call { admitted, caller, idempotency };
        let zone = origin(&request.zone).map_err(whole)?;
        // Each set anew: what was allowed when the stream began may not be any more.
        let denied = |denied: Denied| whole(denied.status());
        self.admitted.may(&zone).map_err(denied)?;
        let override_guard = request.override_guard;
        let serial = if request.raise_serial { self.api.serial() } else { Serial::AsWritten };
        let reader = Reader { log: self.api.log.clone(), zone: zone.clone(), view: None };
        let read = blocking(move || reader.read_all(request.operations)).await.map_err(whole)?;
        let operations = match read {
            Ok(operations) => operations,
            // The record of an operation by id may be gone because this set was committed before.
            Err(refusal) => {
                let replayed = self.api.replayed(&call).await.map_err(whole)?;
                return replayed.map(Answer::Replayed).ok_or(refusal);
            }
        };
        let mut write = call.write(zone, change(operations, serial)).map_err(denied)?;
        write.stream = Some(Arc::clone(&self.stream));
        write.override_guard = override_guard;
        let submitted = self.api.log.submit_in_turn(write).await;
        submitted.map(Answer::Waiting).map_err(|error| status::refusal(&error))
    }
}

/// Reads the operations of one change set. Those by id need the record's owner and type, which
/// never change (rule 5); ids are known to callers from receipts only, so they are durable.
struct Reader {
    log: Log,
    zone: Name,
    view: Option<View>,
}

impl Reader {
    fn read_all(mut self, operations: Vec<v1::Operation>) -> Result<Vec<Operation>, v1::Refusal> {
        let read = operations.into_iter().enumerate().map(|(index, operation)| {
            self.read(operation).map_err(|status| status::refusal_at(&status, Some(index)))
        });
        read.collect()
    }

    fn read(&mut self, operation: v1::Operation) -> Result<Operation, Status> {
        match operation.operation.ok_or_else(|| Status::invalid_argument("operation is missing"))? {
            Wish::Create(data) => Ok(Operation::Create(self.data(Some(data))?)),
            Wish::Delete(data) => Ok(Operation::Delete(Target::Exact(self.data(Some(data))?))),
            Wish::Replace(v1::Replace { old, new }) => {
                let (old, new) = (self.data(old)?, self.data(new)?);
                if (&old.owner, old.rtype) != (&new.owner, new.rtype) {
                    return Err(Status::invalid_argument(
                        "a replacement has the owner and type of what it replaces: to rename, \
                         delete the one and create the other",
                    ));
                }
                let (ttl, rdata) = (Some(new.ttl), Some(new.rdata));
                Ok(Operation::Edit { target: Target::Exact(old), ttl, rdata, whole_rrset: false })
            }
            Wish::EditById(v1::EditById { id, ttl, rdata, if_version }) => {
                let record = self.find(RecordId(id))?;
                let rdata = rdata.map(|text| rdata::parse(record.rtype, &text, &self.zone));
                let rdata = rdata.transpose().map_err(|error| status::bad_input(&error))?;
                let target = target(record, if_version);
                Ok(Operation::Edit { target, ttl, rdata, whole_rrset: false })
            }
            Wish::DeleteById(v1::DeleteById { id, if_version }) => {
                let record = self.find(RecordId(id))?;
                Ok(Operation::Delete(target(record, if_version)))
            }
        }
    }

    fn data(&self, data: Option<v1::RecordData>) -> Result<RecordData, Status> {
        let data = data.ok_or_else(|| Status::invalid_argument("a record is missing"))?;
        convert::record_data(&self.zone, data).map_err(|error| status::bad_input(&error))
    }

    fn find(&mut self, id: RecordId) -> Result<Record, Status> {
        let error = |error| status::store(&error);
        let view = match self.view.take() {
            Some(view) => view,
            None => self.log.view().map_err(error)?,
        };
        let found = self.view.insert(view).record(id).map_err(error)?;
        let in_zone = found.filter(|(zone, _)| *zone == self.zone);
        in_zone.map(|(_, record)| record).ok_or_else(|| gone(id))
    }
}
