//! A daemon under test, and a client of its local API.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use edgesync_daemon::{
    config::Config,
    run::{RunError, Surroundings, run},
};
use edgesync_host::units::Period;
use edgesync_proto::v1::{self, edge_service_client::EdgeServiceClient};
use tokio::{net::UnixStream, sync::oneshot, task::JoinHandle};
use tonic::transport::{Channel, Endpoint, Uri};

/// A daemon in this process.
pub struct Daemon {
    pub socket: PathBuf,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<(), RunError>>,
}

/// A configuration for a daemon in a directory.
pub fn config(dir: &Path, control: &[String]) -> Config {
    let mut config = Config {
        edge_id: "edge-1".to_owned(),
        data_dir: dir.join("data"),
        control: control.to_vec(),
        socket: dir.join("edge.sock"),
        ..Config::default()
    };
    config.reconnect.initial = Period::from_millis(20);
    config.reconnect.max = Period::from_millis(200);
    config
}

impl Daemon {
    /// Starts a daemon, and waits until its socket is there.
    pub async fn start(config: &Config) -> Self {
        let settings = config.settings().unwrap();
        let (stop, stopped) = oneshot::channel();
        let run = tokio::spawn(run(settings, Surroundings::default(), async {
            let _ = stopped.await;
        }));
        let daemon = Self { socket: config.socket.clone(), stop, run };
        for _ in 0..500 {
            if daemon.try_client().await.is_ok() {
                return daemon;
            }
            assert!(!daemon.run.is_finished(), "{:?}", daemon.run.await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no daemon after 5 s");
    }

    /// Ends it as SIGTERM does.
    pub async fn stop(self) {
        drop(self.stop);
        self.run.await.unwrap().unwrap();
    }

    async fn try_client(&self) -> Result<EdgeServiceClient<Channel>, tonic::transport::Error> {
        let socket = self.socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move {
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(
                    UnixStream::connect(socket).await?,
                ))
            }
        });
        let endpoint = Endpoint::from_static("http://edge.local");
        Ok(EdgeServiceClient::new(endpoint.connect_with_connector(connector).await?))
    }

    pub async fn client(&self) -> EdgeServiceClient<Channel> {
        self.try_client().await.unwrap()
    }

    pub async fn status(&self) -> v1::EdgeStatus {
        let response = self.client().await.get_status(v1::GetStatusRequest {}).await.unwrap();
        response.into_inner().status.unwrap()
    }

    /// Waits until the status is as wanted.
    pub async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&v1::EdgeStatus) -> bool,
    ) -> v1::EdgeStatus {
        for _ in 0..1_500 {
            let status = self.status().await;
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("waited 15 s in vain until {what}: {:?}", self.status().await);
    }

    pub async fn export(&self, origin: &str) -> Result<String, tonic::Status> {
        let request = v1::ExportZoneRequest { origin: origin.to_owned() };
        let mut parts = self.client().await.export_zone(request).await?.into_inner();
        let mut text = String::new();
        while let Some(part) = parts.message().await? {
            text.push_str(&part.text);
        }
        Ok(text)
    }

    pub async fn verify(&self) -> v1::VerifyStoreResponse {
        self.client().await.verify_store(v1::VerifyStoreRequest {}).await.unwrap().into_inner()
    }

    pub async fn lookup(&self, owner: &str, rtype: &str) -> Result<Vec<v1::Record>, tonic::Status> {
        let request =
            v1::LookupRecordsRequest { owner: owner.to_owned(), r#type: rtype.to_owned() };
        let found = self.client().await.lookup_records(request).await?;
        Ok(found.into_inner().records)
    }
}

/// The offset of what is durable.
pub fn offset(status: &v1::EdgeStatus) -> u64 {
    status.durable.as_ref().map_or(0, |position| position.offset)
}
