//! A control plane for tests of this command: it takes down what it is asked, and answers as told.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use edgesync_proto::v1::{
    self,
    apply_change_sets_response::Result as Applied,
    record_service_server::{RecordService, RecordServiceServer},
};
use tokio::{net::TcpListener, sync::mpsc, time::sleep};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// What a fake server saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The zone that each message of an import named.
    pub import_zones: Vec<String>,
    /// Octets of the largest of them.
    pub import_largest: usize,
    /// Whether an import had its last message.
    pub import_ended: bool,
    /// The change sets, in order.
    pub sets: Vec<v1::ApplyChangeSetsRequest>,
    /// The most change sets that were unanswered at a time.
    pub unanswered: usize,
}

/// How the fake answers.
#[derive(Debug, Clone, Copy, Default)]
struct Script {
    import_refusal: Option<&'static str>,
    refuse_set: Option<(usize, u32)>,
    break_at_set: Option<usize>,
}

/// A server on a port of its own.
pub struct Fake {
    /// Where it listens.
    pub url: String,
    seen: Arc<Mutex<Seen>>,
}

impl Fake {
    /// One that takes everything.
    pub async fn start() -> Self {
        Self::run(Script::default()).await
    }

    /// One that refuses imports.
    pub async fn refusing_import(message: &'static str) -> Self {
        Self::run(Script { import_refusal: Some(message), ..Script::default() }).await
    }

    /// One that refuses the set with this index for one of its operations, and all after it.
    pub async fn refusing_set(set: usize, operation: u32) -> Self {
        Self::run(Script { refuse_set: Some((set, operation)), ..Script::default() }).await
    }

    /// One whose stream breaks before it answers the set with this index.
    pub async fn breaking_at_set(set: usize) -> Self {
        Self::run(Script { break_at_set: Some(set), ..Script::default() }).await
    }

    async fn run(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::default();
        let service = RecordServiceServer::new(Service { script, seen: Arc::clone(&seen) });
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { url, seen }
    }

    /// What it saw so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

struct Service {
    script: Script,
    seen: Arc<Mutex<Seen>>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl RecordService for Service {
    type ListRecordsStream = Answers<v1::ListRecordsResponse>;
    type ApplyChangeSetsStream = Answers<v1::ApplyChangeSetsResponse>;

    async fn create_record(
        &self,
        _: Request<v1::CreateRecordRequest>,
    ) -> Result<Response<v1::CreateRecordResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn edit_record(
        &self,
        _: Request<v1::EditRecordRequest>,
    ) -> Result<Response<v1::EditRecordResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_record(
        &self,
        _: Request<v1::DeleteRecordRequest>,
    ) -> Result<Response<v1::DeleteRecordResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_record(
        &self,
        _: Request<v1::GetRecordRequest>,
    ) -> Result<Response<v1::GetRecordResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_records(
        &self,
        _: Request<v1::ListRecordsRequest>,
    ) -> Result<Response<Self::ListRecordsStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn import_zone(
        &self,
        request: Request<Streaming<v1::ImportZoneRequest>>,
    ) -> Result<Response<v1::ImportZoneResponse>, Status> {
        let mut messages = request.into_inner();
        let mut octets = 0;
        while let Some(message) = messages.message().await? {
            octets += message.text.len() as u64;
            let mut seen = self.seen.lock().unwrap();
            seen.import_largest = seen.import_largest.max(message.text.len());
            seen.import_ended |= message.last;
            seen.import_zones.push(message.zone);
        }
        match self.script.import_refusal {
            Some(message) => Err(Status::invalid_argument(message)),
            None => {
                Ok(Response::new(v1::ImportZoneResponse { created: octets, ..Default::default() }))
            }
        }
    }

    async fn apply_change_sets(
        &self,
        request: Request<Streaming<v1::ApplyChangeSetsRequest>>,
    ) -> Result<Response<Self::ApplyChangeSetsStream>, Status> {
        let (answers, receiver) = mpsc::channel(1_000);
        tokio::spawn(answer_sets(
            request.into_inner(),
            answers,
            self.script,
            Arc::clone(&self.seen),
        ));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Answers each set only when no other has come for a while, so that what is pipelined piles up.
async fn answer_sets(
    mut sets: Streaming<v1::ApplyChangeSetsRequest>,
    answers: mpsc::Sender<Result<v1::ApplyChangeSetsResponse, Status>>,
    script: Script,
    seen: Arc<Mutex<Seen>>,
) {
    let mut answered = 0;
    let mut ended = false;
    loop {
        let quiet = sleep(std::time::Duration::from_millis(30));
        tokio::select! {
            biased;
            set = sets.message(), if !ended => match set {
                Ok(Some(set)) => {
                    let mut seen = seen.lock().unwrap();
                    seen.sets.push(set);
                    seen.unanswered = seen.unanswered.max(seen.sets.len() - answered);
                }
                Ok(None) => ended = true,
                Err(_) => return,
            },
            () = quiet => {
                let waiting = seen.lock().unwrap().sets.len() - answered;
                if waiting == 0 && ended {
                    return;
                }
                for _ in 0..waiting {
                    if script.break_at_set == Some(answered) {
                        let _ = answers.send(Err(Status::unavailable("draining"))).await;
                        return;
                    }
                    let _ = answers.send(Ok(answer(script, answered))).await;
                    answered += 1;
                }
            }
        }
    }
}

fn answer(script: Script, set: usize) -> v1::ApplyChangeSetsResponse {
    let result = match script.refuse_set {
        Some((refused, operation)) if set >= refused => Applied::Refusal(v1::Refusal {
            code: 9,
            message: "no such record".to_owned(),
            operation: (set == refused).then_some(operation),
        }),
        // Ten changes each.
        _ => Applied::Receipt(v1::Receipt {
            position: Some(v1::Position { offset: set as u64 * 10 + 10, ..Default::default() }),
            first: set as u64 * 10 + 1,
            replayed: set == 0,
        }),
    };
    v1::ApplyChangeSetsResponse { result: Some(result) }
}
